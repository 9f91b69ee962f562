//! The SMTP client. Each worker keeps one connection over many mails.
//!
//! lettre provides the commands and SASL mechanisms, but its connection is not used: it does not report
//! PIPELINING (RFC 2920), does not drop unencrypted data after STARTTLS, and does not distinguish a
//! connection that broke while the text was sent from one that broke after it, which decides whether
//! sending again could deliver a second copy.

mod relay;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use lettre::Address;
use secrecy::SecretString;

pub use relay::Relay;
pub use session::Session;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// From the first octet (RFC 8314), usually port 465.
    Implicit,
    /// STARTTLS (RFC 3207); a server that does not offer it is not used.
    Required,
    /// STARTTLS if the server offers it. The certificate is only verified if there is a password: an attacker
    /// who can forge it can also remove the offer.
    Opportunistic,
    None,
}

#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// Without a user, there is no authentication.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// Certificates to trust, as PEM; `None` means the system's.
    pub ca_file: Option<PathBuf>,
    /// For EHLO; `None` means the name of this machine.
    pub hello_name: Option<String>,
    /// Limit for each command and its reply.
    pub timeout: Duration,
    /// Limit for the reply to the final dot. If it is too short, mails are sent twice; RFC 5321 §4.5.3.2.6
    /// asks for 10 minutes.
    pub final_timeout: Duration,
    /// Whether to send MAIL, RCPT and DATA in one write if the server supports it.
    pub pipelining: bool,
    /// Gets the bounces: the address of MAIL FROM.
    pub envelope_from: Address,
}
