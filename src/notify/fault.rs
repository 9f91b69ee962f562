//! What became of an attempt to send, and what went wrong, in words that may be logged.

use std::fmt;

use crate::domain::Address;

use super::plain;

/// Where in the exchange with a server, or on the way to a folder, something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reaching the server.
    Connect,
    /// The handshake that encrypts, implicit or after STARTTLS.
    Tls,
    /// The server's greeting.
    Greeting,
    /// EHLO, or HELO.
    Hello,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, up to the final dot.
    Data,
    /// The reply to the final dot.
    Final,
    /// Writing to a folder.
    Folder,
}

impl Stage {
    /// A word for it.
    #[must_use]
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

/// What went wrong. Its text is one line, holds no mail address and may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub stage: Stage,
    /// The server's reply code, if it replied.
    pub code: Option<u16>,
    /// Its enhanced status code (RFC 3463).
    pub enhanced: Option<(u8, u16, u16)>,
    /// What the server said, or what happened to the connection.
    pub text: String,
}

impl Fault {
    /// A fault that is not a server's reply.
    pub(super) fn new(stage: Stage, text: impl fmt::Display) -> Self {
        Self {
            stage,
            code: None,
            enhanced: None,
            text: plain::line(&without_addresses(&text.to_string()), plain::TEXT),
        }
    }

    /// A fault that is a server's reply; `text` is what follows the code.
    pub(super) fn reply(stage: Stage, code: u16, text: &str) -> Self {
        let (enhanced, text) = split_enhanced(text);
        Self {
            code: Some(code),
            enhanced,
            ..Self::new(stage, text)
        }
    }

    /// Whether the server said that it passes by itself: 4xx.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.code, Some(400..=499))
    }

    /// Whether the server closes the connection (RFC 5321 §3.8).
    pub(super) fn is_closing(&self) -> bool {
        self.code == Some(421)
    }

    /// Whether it says that nobody has this address: 5.1.x, save the two that speak of the
    /// sender's (RFC 3463 §3.2).
    pub(super) fn is_dead_address(&self) -> bool {
        matches!(self.enhanced, Some((5, 1, detail)) if !matches!(detail, 7 | 8))
    }
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

/// What became of one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server took it, or the file is on the disk.
    Sent {
        /// What the server said; often its queue's id.
        reply: String,
    },
    /// Not taken, and worth another attempt: 4xx, or the connection broke before the final dot.
    Deferred(Fault),
    /// Not taken for good: 5xx at RCPT or later.
    Refused {
        /// What the server said.
        fault: Fault,
        /// Whether it said that nobody has this address.
        dead_address: bool,
    },
    /// It may have been taken: the connection ended after the final dot without a reply.
    Unknown(Fault),
    /// Not taken, through no fault of the mail or its recipient: 5xx at connect, EHLO, AUTH or MAIL, a
    /// 421 anywhere, a full disk.
    ServerFault(Fault),
}

impl Outcome {
    /// The fault, unless it was sent.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Sent { .. } => None,
            Self::Deferred(fault)
            | Self::Refused { fault, .. }
            | Self::Unknown(fault)
            | Self::ServerFault(fault) => Some(fault),
        }
    }
}

fn split_enhanced(text: &str) -> (Option<(u8, u16, u16)>, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut numbers = word.split('.');
    let mut next = || numbers.next()?.parse::<u16>().ok();
    let code = (|| Some((next()?, next()?, next()?)))();
    match code {
        Some((class @ (2 | 4 | 5), subject, detail)) if numbers.next().is_none() => (
            Some((u8::try_from(class).unwrap_or(5), subject, detail)),
            rest,
        ),
        _ => (None, text),
    }
}

/// The text with each mail address masked, as addresses are in logs.
pub(super) fn without_addresses(text: &str) -> String {
    let part = |c: char| c.is_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (head, tail) = (&rest[..at], &rest[at + 1..]);
        let local = head.trim_end_matches(part).len();
        let domain = tail.find(|c| !part(c)).unwrap_or(tail.len());
        out.push_str(&head[..local]);
        out.push_str(&masked(&head[local..], &tail[..domain]));
        rest = &tail[domain..];
    }
    out.push_str(rest);
    out
}

fn masked(local: &str, domain: &str) -> String {
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
    fn no_address_of_a_servers_text_is_kept(#[case] text: &str, #[case] kept: &str) {
        let masked = without_addresses(text);
        assert!(
            !masked.contains("ada@") && !masked.contains("bob.b"),
            "{masked}"
        );
        if !text.contains("@example.org@") {
            assert_eq!(masked, kept);
        }
    }

    #[rstest]
    #[case("5.1.1 no such user", Some((5, 1, 1)), true)]
    #[case("5.1.10 null MX", Some((5, 1, 10)), true)]
    #[case("5.1.7 bad sender", Some((5, 1, 7)), false)]
    #[case("5.7.1 not for you", Some((5, 7, 1)), false)]
    #[case("5.1.1.9 is no code", None, false)]
    #[case("user 5.1.1 unknown", None, false)]
    #[case("", None, false)]
    fn only_a_status_that_speaks_of_the_mailbox_kills_an_address(
        #[case] text: &str,
        #[case] enhanced: Option<(u8, u16, u16)>,
        #[case] dead: bool,
    ) {
        let fault = Fault::reply(Stage::Rcpt, 550, text);
        assert_eq!(fault.enhanced, enhanced);
        assert_eq!(fault.is_dead_address(), dead);
    }

    #[test]
    fn a_fault_is_one_line() {
        let fault = Fault::reply(Stage::Final, 554, "5.7.1 no\r\n\u{1b}[31m thanks");
        assert_eq!(fault.to_string(), "end of data: 554 5.7.1 no [31m thanks");
    }
}
