//! A letter as the octets of a message (RFC 5322): the headers around the rendering. What never
//! changes is made once.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::{
    Message,
    address::Envelope,
    message::{
        Body, Mailbox, MessageBuilder, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue, MessageId},
    },
};

use crate::domain::Address;

use super::{
    letter::Letter,
    template::{self, Rendering, Templates},
    view::Place,
};

/// How mails of this installation are signed.
#[derive(Debug, Clone)]
pub struct Stationery {
    /// `From`.
    pub from: Mailbox,
    /// `Reply-To`, where answers should go elsewhere.
    pub reply_to: Option<Mailbox>,
    /// What mails say of the installation.
    pub place: Place,
}

/// Writes letters as messages. Cheap to share; holds no templates, so that they can be reloaded.
#[derive(Debug)]
pub struct Writer {
    builder: MessageBuilder,
    from: lettre::Address,
    place: Place,
}

/// A message that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The reference of its letter.
    pub reference: String,
    /// With its angle brackets; the same at each attempt.
    pub message_id: String,
    /// Who gets it.
    pub envelope_to: Address,
    /// When it was written.
    pub written_at: DateTime<Utc>,
    /// Its subject, for logs of those who may see names of tokens.
    pub subject: String,
    /// The message: ASCII, CRLF, no line longer than 998 octets.
    pub bytes: Vec<u8>,
}

/// Why a letter cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A template fails on it.
    #[error(transparent)]
    Template(#[from] template::Error),
    /// The message cannot be put together.
    #[error("cannot put the message together")]
    Build(#[source] lettre::error::Error),
    /// An address does not stand up to RFC 5321.
    #[error("cannot write to the address")]
    Address(#[source] lettre::address::AddressError),
}

impl Writer {
    /// Prepares the headers that all messages share.
    #[must_use]
    pub fn new(stationery: Stationery) -> Self {
        let from = stationery.from.email.clone();
        let list = format!("API token notices <lapsed.{}>", from.domain());
        let mut builder = Message::builder()
            .from(stationery.from)
            // RFC 3834 §5, and what Exchange heeds instead; RFC 2919.
            .raw_header(fixed("Auto-Submitted", "auto-generated"))
            .raw_header(fixed("X-Auto-Response-Suppress", "OOF, AutoReply"))
            .raw_header(fixed("List-Id", &list));
        if let Some(reply_to) = stationery.reply_to {
            builder = builder.reply_to(reply_to);
        }
        Self {
            builder,
            from,
            place: stationery.place,
        }
    }

    /// Writes a letter. The same letter gives the same octets.
    pub fn write(&self, letter: &Letter, templates: &Templates) -> Result<Rendered, Error> {
        let rendering = templates.render(letter, &self.place)?;
        let reference = token_of(&letter.reference);
        let message_id = format!("<lapsed.{reference}@{}>", self.from.domain());
        let to: lettre::Address = letter.to.as_str().parse().map_err(Error::Address)?;
        let envelope =
            Envelope::new(Some(self.from.clone()), vec![to.clone()]).map_err(Error::Build)?;
        let message = self
            .builder
            .clone()
            .envelope(envelope)
            .to(Mailbox::new(None, to))
            .raw_header(subject(&rendering.subject))
            .date(SystemTime::from(letter.now))
            .header(MessageId::from(message_id.clone()))
            .multipart(alternative(&rendering, &reference))
            .map_err(Error::Build)?;
        Ok(Rendered {
            message_id,
            envelope_to: letter.to.clone(),
            written_at: letter.now,
            bytes: message.formatted(),
            subject: rendering.subject,
            reference,
        })
    }
}

/// Text first, HTML last (RFC 2046 §5.1.4).
fn alternative(rendering: &Rendering, reference: &str) -> MultiPart {
    // `=_` cannot stand in quoted-printable; 7-bit text might hold it, so look.
    let mut boundary = format!("=_lapsed.{reference}");
    while rendering.text.contains(&boundary) || rendering.html.contains(&boundary) {
        boundary.push('_');
    }
    MultiPart::alternative()
        .boundary(boundary)
        .singlepart(part(ContentType::TEXT_PLAIN, &rendering.text))
        .singlepart(part(ContentType::TEXT_HTML, &rendering.html))
}

fn part(content_type: ContentType, text: &str) -> SinglePart {
    let body = with_crlf(text);
    let is_plain = body.is_ascii() && body.lines().all(|line| line.len() <= 900);
    let body = if is_plain {
        Body::dangerous_pre_encoded(body.into_bytes(), ContentTransferEncoding::SevenBit)
    } else {
        Body::new_with_encoding(body, ContentTransferEncoding::QuotedPrintable)
            .unwrap_or_else(Body::new)
    };
    SinglePart::builder().content_type(content_type).body(body)
}

fn with_crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 24);
    for line in text.lines() {
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}

/// The letters and digits of a reference, so that it can stand in an identifier.
fn token_of(reference: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    reference.chars().filter(allowed).take(64).collect()
}

fn fixed(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// The subject. One that holds `=?` is encoded whole, or a reader would decode what a name only
/// quotes (RFC 2047 §2).
fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    if text.contains("=?") {
        let encoded = q_encoded(text);
        return HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded);
    }
    HeaderValue::new(name, text.to_owned())
}

/// Encoded-words of at most 75 octets, one a line (RFC 2047 §4.2).
fn q_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut word = String::new();
    let close = |out: &mut String, word: &str| {
        let fold = if out.is_empty() { "" } else { "\r\n " };
        let _ = write!(out, "{fold}=?utf-8?q?{word}?=");
    };
    for c in text.chars() {
        let mut octets = String::new();
        for byte in c.to_string().bytes() {
            match byte {
                b' ' => octets.push('_'),
                b if b.is_ascii_alphanumeric() => octets.push(char::from(b)),
                b => {
                    let _ = write!(octets, "={b:02X}");
                }
            }
        }
        // The first line also holds `Subject: `.
        if word.len() + octets.len() > 52 {
            close(&mut out, &word);
            word.clear();
        }
        word.push_str(&octets);
    }
    close(&mut out, &word);
    out
}

#[cfg(test)]
mod tests;
