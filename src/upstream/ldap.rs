//! An LDAP client (RFC 4511): a bind, and searches that are complete or fail, in bounded time.
//!
//! Neither errors nor logs show the content of responses, only the server and the result code. Referrals are
//! not followed: credentials go only to the configured server.

mod code;
mod entry;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::http::DEFAULT_WAIT;
use super::pager::Endless;
use crate::network::is_this_host;
use crate::tls;

pub use crate::tls::ClientCertificate;
pub use entry::Entry;
pub use ldap3::ldap_escape as escape;
pub use session::{Search, Server, Session};

/// Why there is no usable response. No variant shows the content of a response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("{place} did not answer within {} s", .timeout.as_secs())]
    TimedOut { place: String, timeout: Duration },
    /// No connection, or not a secure one.
    #[error("cannot reach {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} closed the connection before its response was complete")]
    BrokenOff { place: String },
    #[error("{place} sent a response that is not LDAP")]
    Malformed { place: String },
    #[error("{place} sends a result without an end: {why}")]
    Endless { place: String, why: Endless },
    #[error("{place} refuses the account of bind_dn: {reason} (LDAP code {code}); {fix}")]
    Refused {
        place: String,
        code: u32,
        reason: &'static str,
        fix: &'static str,
    },
    /// A search ended with a code other than success, so its result is incomplete.
    #[error("{place} did not complete a search: {reason} (LDAP code {code}); {fix}")]
    Failed {
        place: String,
        code: u32,
        reason: &'static str,
        fix: &'static str,
    },
}

impl Error {
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } | Self::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// *Busy* (51) and *unavailable* (52) pass, but come without a time.
    pub fn wait(&self) -> Option<Duration> {
        matches!(self.code()?, 51 | 52).then_some(DEFAULT_WAIT)
    }

    /// Whether the connection failed, and a new one may work.
    pub fn is_connection_failure(&self) -> bool {
        matches!(self, Self::BrokenOff { .. } | Self::Unreachable { .. })
    }
}

#[derive(Debug, Clone)]
pub struct Access {
    /// `ldaps://host:port` or `ldap://host:port`.
    pub url: Url,
    /// Upgrades a plain connection to TLS (RFC 4511 §4.14).
    pub starttls: bool,
    /// The DN to bind as; Active Directory also accepts `name@domain`.
    pub bind_dn: String,
    pub password: SecretString,
    /// Authorities to trust; `None` means the system's.
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificate>,
}

/// Whether the password crosses a network unencrypted.
pub fn exposes_password(url: &Url, starttls: bool) -> bool {
    let is_local = is_this_host(url.host_str().unwrap_or_default());
    url.scheme() != "ldaps" && !starttls && !is_local
}

/// Whether a text is a filter (RFC 4515).
pub fn is_valid_filter(text: &str) -> bool {
    ldap3::parse_filter(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_exposed_without_encryption_over_a_network() {
        for (url, starttls, exposes_password) in [
            ("ldaps://ldap.example.org", false, false),
            ("ldap://ldap.example.org", true, false),
            ("ldap://ldap.example.org", false, true),
            ("ldap://192.0.2.1:389", false, true),
            ("ldap://localhost.example.org", false, true),
            ("ldap://localhost", false, false),
            ("ldap://127.0.0.1:1389", false, false),
            ("ldap://[::1]:1389", false, false),
        ] {
            let found = super::exposes_password(&url.parse().unwrap(), starttls);
            assert_eq!(found, exposes_password, "{url}");
        }
    }

    #[test]
    fn a_filter_is_validated() {
        assert!(is_valid_filter("(&(objectClass=person)(mail=*))"));
        assert!(is_valid_filter(
            "(memberOf:1.2.840.113556.1.4.1941:=cn=a,dc=b)"
        ));
        assert!(!is_valid_filter("(&(objectClass=person)"));
        assert!(!is_valid_filter(""));
    }
}
