//! The outcome of sending a mail. Texts contain no mail address, so they can be logged.

use std::fmt;

use crate::domain::Address;
use crate::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connect,
    /// The TLS handshake, implicit or after STARTTLS.
    Tls,
    Greeting,
    /// EHLO, or HELO if the server knows no EHLO.
    Hello,
    Auth,
    Mail,
    Rcpt,
    /// DATA, up to the final dot.
    Data,
    /// The reply to the final dot.
    Final,
    Folder,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Final => "end of data",
            Self::Folder => "folder",
        }
    }
}

/// An error while sending. The text is one line without mail addresses and can be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub stage: Stage,
    pub code: Option<u16>,
    /// The enhanced status code (RFC 3463).
    pub enhanced: Option<(u8, u16, u16)>,
    /// The text of the reply, or what happened to the connection.
    pub text: String,
}

impl Fault {
    /// A fault other than a reply.
    pub(super) fn new(stage: Stage, text: impl fmt::Display) -> Self {
        Self {
            stage,
            code: None,
            enhanced: None,
            text: text::one_line(&mask_addresses(&text.to_string()), text::MAX_TEXT),
        }
    }

    /// The address needs SMTPUTF8, which the server does not offer.
    pub(super) fn without_smtputf8() -> Self {
        let text = "the mail server does not offer SMTPUTF8, which a local part beyond ASCII needs";
        Self {
            enhanced: Some((5, 6, 7)),
            ..Self::new(Stage::Rcpt, text)
        }
    }

    /// A negative reply; `text` is what follows the code.
    pub(super) fn from_reply(stage: Stage, code: u16, text: &str) -> Self {
        let (enhanced, text) = split_enhanced(text);
        Self {
            code: Some(code),
            enhanced,
            ..Self::new(stage, text)
        }
    }

    /// 4xx: the server expects the problem to pass.
    pub fn is_transient(&self) -> bool {
        matches!(self.code, Some(400..=499))
    }

    /// Whether the server closes the connection (RFC 5321 §3.8).
    pub(super) fn is_closing(&self) -> bool {
        self.code == Some(421)
    }

    /// What a refusal at RCPT says about the address; `None` if it is about something else, such as the sender,
    /// a policy or a quota (RFC 3463 §3).
    pub fn address_refusal(&self) -> Option<AddressRefusal> {
        match (self.stage, self.enhanced?) {
            (Stage::Rcpt, (5, 1, 1 | 3 | 6)) => Some(AddressRefusal::Unknown),
            (Stage::Rcpt, (5, 1, 2 | 10) | (5, 2, 1) | (5, 6, 7)) => Some(AddressRefusal::Doubtful),
            _ => None,
        }
    }

    /// The enhanced status code as text, such as `5.1.1`; empty if there is none.
    pub fn enhanced_code(&self) -> String {
        self.enhanced
            .map_or_else(String::new, |(class, subject, detail)| {
                format!("{class}.{subject}.{detail}")
            })
    }

    /// Whether the mail is too large for the server or the mailbox (RFC 3463 §3.3 and §3.4, RFC 1870 §6).
    pub fn is_about_size(&self) -> bool {
        match self.enhanced {
            Some(status) => matches!(status, (5, 3, 4) | (5, 2, 3)),
            None => self.code == Some(552) && self.text.to_ascii_lowercase().contains("size"),
        }
    }

    /// Whether the server limits the number of connections: it says so at MAIL, or, as Exchange Online does, with 432
    /// at DATA or after the text
    /// (<https://aka.ms/concurrent_sending>).
    pub fn is_about_connections(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match self.stage {
            Stage::Mail => self.is_transient() && has(&["connection", "concurren", "session"]),
            Stage::Data | Stage::Final => self.code == Some(432) && has(&["concurren", "thread"]),
            _ => false,
        }
    }
}

/// A refused address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRefusal {
    /// The mailbox does not exist.
    Unknown,
    /// The domain does not resolve, the mailbox is disabled, or a server on the way has no SMTPUTF8; all can pass.
    Doubtful,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.stage.as_str())?;
        if let Some(code) = self.code {
            write!(f, " {code}")?;
        }
        if let Some((class, subject, detail)) = self.enhanced {
            write!(f, " {class}.{subject}.{detail}")?;
        }
        write!(f, " {}", self.text)
    }
}

impl std::error::Error for Fault {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server accepted the mail, or the file is on the disk.
    Sent {
        /// Often contains the queue id.
        reply: String,
    },
    /// Not accepted, but worth another attempt: 4xx, or the connection broke before the final dot.
    Deferred(Fault),
    /// 5xx at RCPT or later.
    Refused(Fault),
    /// Possibly accepted: the connection ended after the final dot without a reply.
    Unknown(Fault),
    /// Not accepted because of the server, not the mail or recipient: 5xx at connect, EHLO, AUTH or MAIL,
    /// 421 anywhere, a full disk.
    ServerFault(Fault),
}

impl Outcome {
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Sent { .. } => None,
            Self::Deferred(fault)
            | Self::Refused(fault)
            | Self::Unknown(fault)
            | Self::ServerFault(fault) => Some(fault),
        }
    }
}

/// Splits the enhanced status code off the text of a reply.
fn split_enhanced(text: &str) -> (Option<(u8, u16, u16)>, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let numbers: Result<Vec<u16>, _> = word.split('.').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[class @ (2 | 4 | 5), subject, detail]) => (
            Some((u8::try_from(class).unwrap_or(5), subject, detail)),
            rest,
        ),
        _ => (None, text),
    }
}

/// Masks each mail address as in logs.
pub(super) fn mask_addresses(text: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let head = &rest[..at];
        let tail = &rest[at + 1..];
        let local_start = head.trim_end_matches(is_part).len();
        let domain_end = tail.find(|c| !is_part(c)).unwrap_or(tail.len());
        out.push_str(&head[..local_start]);
        out.push_str(&mask_address(&head[local_start..], &tail[..domain_end]));
        rest = &tail[domain_end..];
    }
    out.push_str(rest);
    out
}

fn mask_address(local: &str, domain: &str) -> String {
    match format!("{local}@{domain}").parse::<Address>() {
        Ok(address) => address.masked(),
        Err(_) => "***@***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("<ada@example.org>: no such user", "<a***@e***>: no such user")]
    #[case("ada@example.org, bob.b+x@mail.example.org", "a***@e***, b***@m***")]
    #[case("\"ada l\"@example.org", "\"ada l\"***@***")]
    #[case("@ @a a@", "***@*** ***@*** ***@***")]
    #[case("user=ada@example.org@relay", "u***@e***@relay")]
    #[case("4.2.0 busy", "4.2.0 busy")]
    fn addresses_in_replies_are_masked(#[case] text: &str, #[case] expected: &str) {
        let masked = mask_addresses(text);
        assert!(
            !masked.contains("ada@") && !masked.contains("bob.b"),
            "{masked}"
        );
        if !text.contains("@example.org@") {
            assert_eq!(masked, expected);
        }
    }

    #[rstest]
    #[case("5.1.1 no such user", Some((5, 1, 1)), Some(AddressRefusal::Unknown))]
    #[case("5.1.10 null MX", Some((5, 1, 10)), Some(AddressRefusal::Doubtful))]
    #[case("5.2.1 disabled", Some((5, 2, 1)), Some(AddressRefusal::Doubtful))]
    #[case("5.6.7 no SMTPUTF8", Some((5, 6, 7)), Some(AddressRefusal::Doubtful))]
    #[case("5.2.2 full", Some((5, 2, 2)), None)]
    #[case("5.1.7 bad sender", Some((5, 1, 7)), None)]
    #[case("5.7.1 not for you", Some((5, 7, 1)), None)]
    #[case("5.1.1.9 is no code", None, None)]
    #[case("user 5.1.1 unknown", None, None)]
    #[case("", None, None)]
    fn only_a_status_about_the_mailbox_speaks_of_the_address(
        #[case] text: &str,
        #[case] enhanced: Option<(u8, u16, u16)>,
        #[case] refusal: Option<AddressRefusal>,
    ) {
        let fault = Fault::from_reply(Stage::Rcpt, 550, text);
        assert_eq!(fault.enhanced, enhanced);
        assert_eq!(fault.address_refusal(), refusal);
        let fault = Fault::from_reply(Stage::Final, 550, text);
        assert_eq!(fault.address_refusal(), None);
    }

    #[test]
    fn a_fault_is_one_line() {
        let fault = Fault::from_reply(Stage::Final, 554, "5.7.1 no\r\n\u{1b}[31m thanks");
        assert_eq!(fault.to_string(), "end of data: 554 5.7.1 no [31m thanks");
    }
}
