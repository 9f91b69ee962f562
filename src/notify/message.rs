//! Writes a letter as a message (RFC 5322). Headers that never change are built once.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, HeaderName, HeaderValue, MessageId,
};
use lettre::message::{Body, Mailbox, MessageBuilder, MultiPart, SinglePart};

use crate::domain::Address;

use super::letter::Letter;
use super::template::{self, Rendering, Templates};
use super::view::Installation;

/// How mails of this installation identify themselves.
#[derive(Debug, Clone)]
pub struct MailIdentity {
    pub from: Mailbox,
    /// `None` means that answers go to `from`.
    pub reply_to: Option<Mailbox>,
    pub installation: Installation,
}

/// Writes letters as messages. It does not hold the templates, so that they can be reloaded.
#[derive(Debug, Clone)]
pub struct Writer {
    builder: MessageBuilder,
    from: lettre::Address,
    installation: Installation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub reference: String,
    /// The Message-ID in angle brackets; the same for every attempt.
    pub message_id: String,
    pub envelope_to: Address,
    pub written_at: DateTime<Utc>,
    /// Contains names of tokens, so it must not be logged.
    pub subject: String,
    /// ASCII, but for an address that needs SMTPUTF8, with CRLF line ends, no line longer than 998 octets.
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Template(#[from] template::Error),
    #[error("cannot build the message")]
    Build(#[source] lettre::error::Error),
    #[error("cannot write to an erased person")]
    Address,
}

impl Writer {
    pub fn new(mail_identity: MailIdentity) -> Self {
        let from = mail_identity.from.email.clone();
        let list = format!("API token notices <lapsed.{}>", from.domain());
        let mut builder = Message::builder()
            .from(mail_identity.from)
            // RFC 3834 §5, the header that Exchange respects instead, and RFC 2919.
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "OOF, AutoReply"))
            .raw_header(header("List-Id", &list));
        if let Some(reply_to) = mail_identity.reply_to {
            builder = builder.reply_to(reply_to);
        }
        Self {
            builder,
            from,
            installation: mail_identity.installation,
        }
    }

    /// The same letter gives the same octets.
    pub fn write(&self, letter: &Letter, templates: &Templates) -> Result<Rendered, Error> {
        let rendering = templates.render(letter, &self.installation)?;
        let reference = identifier(&letter.reference);
        let message_id = format!("<lapsed.{reference}@{}>", self.from.domain());
        let to = letter.to.to_lettre().ok_or(Error::Address)?;
        let envelope = Envelope::new(Some(self.from.clone()), vec![to.clone()]);
        let message = self
            .builder
            .clone()
            .envelope(envelope.map_err(Error::Build)?)
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

/// Puts the text first and HTML last (RFC 2046 §5.1.4).
fn alternative(rendering: &Rendering, reference: &str) -> MultiPart {
    // `=_` cannot occur in quoted-printable, but it can in 7-bit text.
    let mut boundary = format!("=_lapsed.{reference}");
    while rendering.text.contains(&boundary) || rendering.html.contains(&boundary) {
        boundary.push('_');
    }
    MultiPart::alternative()
        .boundary(boundary)
        .singlepart(encode_part(ContentType::TEXT_PLAIN, &rendering.text))
        .singlepart(encode_part(ContentType::TEXT_HTML, &rendering.html))
}

fn encode_part(content_type: ContentType, text: &str) -> SinglePart {
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

/// The reference without characters that are not allowed in a Message-ID.
fn identifier(reference: &str) -> String {
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    reference.chars().filter(is_allowed).take(64).collect()
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// A subject that contains `=?` is encoded as a whole, or a mail program would decode text that a name
/// only quotes (RFC 2047 §2).
fn subject(text: &str) -> HeaderValue {
    let name = HeaderName::new_from_ascii_str("Subject");
    if text.contains("=?") {
        let encoded = q_encode(text);
        return HeaderValue::dangerous_new_pre_encoded(name, text.to_owned(), encoded);
    }
    HeaderValue::new(name, text.to_owned())
}

/// Encoded-words of at most 75 octets, one per line (RFC 2047 §4.2).
fn q_encode(text: &str) -> String {
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
        // The first line also contains `Subject: `.
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
