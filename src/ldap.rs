//! LDAP (RFC 4511) to the directories that lapsed asks: a bind, and searches that are whole or an error,
//! each in bounded time.
//!
//! What an answer says is never shown, neither in errors nor in logs: only where it came from and its
//! result code. Referrals are never followed: credentials go only where they were configured to go.

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

use crate::tls;

pub use entry::Entry;
pub use ldap3::ldap_escape as escape;
pub use session::{Search, Session};

/// A server may answer with so many pages in a row that hold nothing; more lead nowhere.
const EMPTY_PAGES: u32 = 100;

/// Why an answer could not be had. Nothing here shows any of its content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to trust.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// No answer in time.
    #[error("{place} did not answer within {} s", .limit.as_secs())]
    TimedOut {
        /// Scheme, host and port.
        place: String,
        /// `timeout` of the directory.
        limit: Duration,
    },
    /// No connection, or one that could not be made safe.
    #[error("cannot reach {place}: {reason}")]
    Unreachable {
        /// Scheme, host and port.
        place: String,
        /// Why.
        reason: String,
    },
    /// The connection broke in the middle.
    #[error("{place} broke off before its answer was whole")]
    BrokenOff {
        /// Scheme, host and port.
        place: String,
    },
    /// Not what RFC 4511 has.
    #[error("{place} answered with something that is no LDAP")]
    Malformed {
        /// Scheme, host and port.
        place: String,
    },
    /// Page after page without an end.
    #[error("{place} answered with {EMPTY_PAGES} empty pages in a row and no end of the list")]
    Endless {
        /// Scheme, host and port.
        place: String,
    },
    /// The account was not let in.
    #[error("{place} does not let the account of bind_dn in: {reason} (LDAP code {code}); {mend}")]
    Refused {
        /// Scheme, host and port.
        place: String,
        /// RFC 4511 §4.1.9.
        code: u32,
        /// In words.
        reason: &'static str,
        /// What to change, and where.
        mend: &'static str,
    },
    /// A search was answered with a code other than success, so that it was not answered whole.
    #[error("{place} did not answer a search whole: {reason} (LDAP code {code}); {mend}")]
    Failed {
        /// Scheme, host and port.
        place: String,
        /// RFC 4511 §4.1.9.
        code: u32,
        /// In words.
        reason: &'static str,
        /// What to change, and where.
        mend: &'static str,
    },
}

impl Error {
    /// The result code, where there was an answer.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } | Self::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the connection failed, and a new one may do better.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        matches!(self, Self::BrokenOff { .. } | Self::Unreachable { .. })
    }
}

/// Where a server is, and as whom it is asked.
#[derive(Debug, Clone)]
pub struct Access {
    /// `ldaps://host:port` or `ldap://host:port`.
    pub url: Url,
    /// Whether encryption starts within a connection that begins without (RFC 4511 §4.14).
    pub starttls: bool,
    /// The account; Active Directory also takes `name@domain`.
    pub bind_dn: String,
    /// Its password.
    pub password: SecretString,
    /// The authorities to believe; `None` are the system's.
    pub ca_file: Option<PathBuf>,
}

impl Access {
    /// Whether whoever sits between can read the password.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_local = host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        self.url.scheme() != "ldaps" && !self.starttls && !is_local
    }
}

/// A server that can be asked.
pub struct Server {
    access: Access,
    settings: LdapConnSettings,
    place: String,
    timeout: Duration,
}

impl Server {
    /// A server; `timeout` is for each request with its whole answer.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn new(access: &Access, timeout: Duration) -> Result<Self, Error> {
        let mut settings = LdapConnSettings::new().set_starttls(access.starttls);
        if access.starttls || access.url.scheme() == "ldaps" {
            let config = tls::verified(access.ca_file.as_deref())?;
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

    /// A connection on which the account is signed in.
    ///
    /// # Errors
    /// When the server cannot be reached safely, or refuses the account.
    pub async fn open(&self) -> Result<Session, Error> {
        let (connection, ldap) = {
            let opening =
                LdapConnAsync::from_url_with_settings(self.settings.clone(), &self.access.url);
            let opened = within(self.timeout, &self.place, opening).await;
            opened.map_err(|error| match error {
                Fault::Of(error) => error,
                Fault::Library(error) => self.unreachable(&error),
            })?
        };
        let mut session = Session::new(connection, ldap, &self.place, self.timeout);
        session.sign_in(&self.access).await?;
        Ok(session)
    }

    fn unreachable(&self, error: &LdapError) -> Error {
        let reason = match error {
            LdapError::LdapResult { result } => {
                format!(
                    "it does not do StartTLS (LDAP code {}); use ldaps://, or let the server have a certificate",
                    result.rc
                )
            }
            LdapError::Io { source } => source.to_string(),
            LdapError::Rustls { source } => source.to_string(),
            LdapError::DNSName { .. } => {
                "its name is none that a certificate can be for".to_owned()
            }
            _ => "it broke off while the connection was made".to_owned(),
        };
        Error::Unreachable {
            place: self.place.clone(),
            reason,
        }
    }
}

/// What went wrong, where the library's own word is still to be told.
enum Fault {
    Of(Error),
    Library(LdapError),
}

/// The answer in time. The library panics where a server sends what is no LDAP.
async fn within<T>(
    limit: Duration,
    place: &str,
    work: impl Future<Output = Answer<T>>,
) -> Result<T, Fault> {
    let place = || place.to_owned();
    match timeout(limit, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(answer)) => answer.map_err(Fault::Library),
        Ok(Err(_panic)) => Err(Fault::Of(Error::Malformed { place: place() })),
        Err(_elapsed) => Err(Fault::Of(Error::TimedOut {
            place: place(),
            limit,
        })),
    }
}

fn fault(error: &LdapError, place: &str) -> Error {
    let place = place.to_owned();
    match error {
        LdapError::Io { source } => Error::Unreachable {
            place,
            reason: source.to_string(),
        },
        LdapError::FilterParsing => {
            let (reason, mend) = code::BAD_FILTER;
            Error::Failed {
                place,
                code: code::FILTER_ERROR,
                reason,
                mend,
            }
        }
        _ => Error::BrokenOff { place },
    }
}

/// Whether this is a filter (RFC 4515).
#[must_use]
pub fn is_filter(text: &str) -> bool {
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
    fn a_password_is_readable_where_nothing_encrypts_and_others_are_between() {
        for (url, starttls, is_readable) in [
            ("ldaps://ldap.example.org", false, false),
            ("ldap://ldap.example.org", true, false),
            ("ldap://ldap.example.org", false, true),
            ("ldap://192.0.2.1:389", false, true),
            ("ldap://localhost.example.org", false, true),
            ("ldap://localhost", false, false),
            ("ldap://127.0.0.1:1389", false, false),
            ("ldap://[::1]:1389", false, false),
        ] {
            assert_eq!(access(url, starttls).is_readable(), is_readable, "{url}");
        }
    }

    #[test]
    fn a_filter_is_known() {
        assert!(is_filter("(&(objectClass=person)(mail=*))"));
        assert!(is_filter("(memberOf:1.2.840.113556.1.4.1941:=cn=a,dc=b)"));
        assert!(!is_filter("(&(objectClass=person)"));
        assert!(!is_filter(""));
    }
}
