//! An LDAP client (RFC 4511): a bind, and searches that are complete or fail, in bounded time.
//!
//! Neither errors nor logs show the content of responses, only the server and the result code. Referrals are
//! not followed: credentials go only to the configured server.

mod code;
mod entry;
mod session;

use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::result::Result as Answer;
use ldap3::{LdapConnAsync, LdapConnSettings, LdapError};
use secrecy::SecretString;
use tokio::time::timeout;
use url::Url;

use super::pager::Endless;
use crate::tls;

pub use entry::Entry;
pub use ldap3::ldap_escape as escape;
pub use session::{Search, Session};

/// Why there is no usable response. No variant shows the content of a response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("{place} did not answer within {} s", .limit.as_secs())]
    TimedOut { place: String, limit: Duration },
    /// No connection, or not a secure one.
    #[error("cannot reach {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} closed the connection before its response was complete")]
    BrokenOff { place: String },
    #[error("{place} sent a response that is not LDAP")]
    Malformed { place: String },
    #[error("{place} sends a result without an end: {why}")]
    Endless { place: String, why: Endless },
    /// The bind failed.
    #[error("{place} refuses the account of bind_dn: {reason} (LDAP code {code}); {fix}")]
    Refused {
        place: String,
        /// RFC 4511 §4.1.9.
        code: u32,
        reason: &'static str,
        fix: &'static str,
    },
    /// A search ended with a code other than success, so its result is incomplete.
    #[error("{place} did not complete a search: {reason} (LDAP code {code}); {fix}")]
    Failed {
        place: String,
        /// RFC 4511 §4.1.9.
        code: u32,
        reason: &'static str,
        fix: &'static str,
    },
}

impl Error {
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } | Self::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the connection failed, and a new one may work.
    #[must_use]
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
}

impl Access {
    /// Whether the password crosses a network unencrypted.
    #[must_use]
    pub fn exposes_password(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_local = host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        self.url.scheme() != "ldaps" && !self.starttls && !is_local
    }
}

pub struct Server {
    access: Access,
    settings: LdapConnSettings,
    place: String,
    timeout: Duration,
}

impl Server {
    /// `timeout` covers a request and its whole response.
    pub fn new(access: &Access, timeout: Duration) -> Result<Self, Error> {
        let mut settings = LdapConnSettings::new().set_starttls(access.starttls);
        if access.starttls || access.url.scheme() == "ldaps" {
            let config = tls::client_config(access.ca_file.as_deref())?;
            settings = settings.set_config(Arc::new(config));
        }
        let host = access.url.host_str().unwrap_or_default();
        let port = access.url.port();
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            place: format!("{}://{host}{port}", access.url.scheme()),
            access: access.clone(),
            settings,
            timeout,
        })
    }

    /// Connects and binds.
    ///
    /// # Errors
    /// When there is no secure connection, or the server refuses the account.
    pub async fn connect(&self) -> Result<Session, Error> {
        let (connection, ldap) = {
            let opening =
                LdapConnAsync::from_url_with_settings(self.settings.clone(), &self.access.url);
            let opened = with_timeout(self.timeout, &self.place, opening).await;
            opened.map_err(|error| match error {
                Fault::Known(error) => error,
                Fault::Library(error) => self.unreachable(&error),
            })?
        };
        let mut session = Session::new(connection, ldap, &self.place, self.timeout);
        session.bind(&self.access).await?;
        Ok(session)
    }

    fn unreachable(&self, error: &LdapError) -> Error {
        let reason = match error {
            LdapError::LdapResult { result } => {
                format!(
                    "it does not support StartTLS (LDAP code {}); use ldaps://, or give the server a certificate",
                    result.rc
                )
            }
            LdapError::Io { source } => source.to_string(),
            LdapError::Rustls { source } => source.to_string(),
            LdapError::DNSName { .. } => {
                "no certificate can be issued for its host name".to_owned()
            }
            _ => "it closed the connection while it was established".to_owned(),
        };
        Error::Unreachable {
            place: self.place.clone(),
            reason,
        }
    }
}

enum Fault {
    Known(Error),
    Library(LdapError),
}

/// Adds a time-out. Also catches panics: the library panics if a server sends something that is not LDAP.
async fn with_timeout<T>(
    limit: Duration,
    place: &str,
    work: impl Future<Output = Answer<T>>,
) -> Result<T, Fault> {
    let place = || place.to_owned();
    match timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(answer)) => answer.map_err(Fault::Library),
        Ok(Err(_panic)) => Err(Fault::Known(Error::Malformed { place: place() })),
        Err(_elapsed) => Err(Fault::Known(Error::TimedOut {
            place: place(),
            limit,
        })),
    }
}

fn library_error(error: &LdapError, place: &str) -> Error {
    let place = place.to_owned();
    match error {
        LdapError::Io { source } => Error::Unreachable {
            place,
            reason: source.to_string(),
        },
        LdapError::FilterParsing => {
            let (reason, fix) = code::BAD_FILTER;
            Error::Failed {
                place,
                code: code::FILTER_ERROR,
                reason,
                fix,
            }
        }
        _ => Error::BrokenOff { place },
    }
}

/// RFC 4515.
#[must_use]
pub fn is_valid_filter(text: &str) -> bool {
    ldap3::parse_filter(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str, starttls: bool) -> Access {
        Access {
            url: url.parse().unwrap(),
            starttls,
            bind_dn: "cn=reader".to_owned(),
            password: "s3cret".into(),
            ca_file: None,
        }
    }

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
            assert_eq!(
                access(url, starttls).exposes_password(),
                exposes_password,
                "{url}"
            );
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
