//! LDAP (RFC 4511) to the directories that lapsed asks: a bind, and searches that are whole or an error,
//! each in bounded time.
//!
//! What an answer says is never shown, neither in errors nor in logs: only where it came from and its
//! result code. Referrals are never followed: credentials go only where they were configured to go.

mod code;
mod entry;

use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::controls::{Control, ControlType, PagedResults, RawControl};
use ldap3::result::Result as Answer;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::tls;

pub use entry::Entry;
pub use ldap3::ldap_escape as escape;

/// So many entries are asked for at once. Active Directory gives no more than 1000.
const PAGE: i32 = 500;

/// A server may answer with so many pages in a row that hold nothing; more lead nowhere.
const EMPTY_PAGES: u32 = 100;

/// Asks for deleted objects, too (MS-ADTS §3.1.1.3.4.1.14).
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

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
            self.within(opening).await.map_err(|error| match error {
                Fault::Of(error) => error,
                Fault::Library(error) => self.unreachable(&error),
            })?
        };
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told that there is none.
            let _ = connection.drive().await;
        });
        let mut session = Session {
            ldap,
            place: self.place.clone(),
            timeout: self.timeout,
            _driver: AbortOnDropHandle::new(driver),
        };
        let bind = session
            .ldap
            .simple_bind(&self.access.bind_dn, self.access.password.expose_secret());
        let bound = self.within(bind).await.map_err(|error| match error {
            Fault::Of(error) => error,
            Fault::Library(error) => fault(&error, &self.place),
        })?;
        if bound.rc == 0 {
            return Ok(session);
        }
        let (reason, mend) = code::of_bind(bound.rc, &bound.text);
        Err(Error::Refused {
            place: self.place.clone(),
            code: bound.rc,
            reason,
            mend,
        })
    }

    async fn within<T>(&self, work: impl Future<Output = Answer<T>>) -> Result<T, Fault> {
        within(self.timeout, &self.place, work).await
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

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Where it begins.
    pub base: &'a str,
    /// RFC 4515.
    pub filter: &'a str,
    /// What to tell of each; operational attributes must be named.
    pub attributes: &'a [&'a str],
}

/// A connection on which the account is signed in.
pub struct Session {
    ldap: Ldap,
    place: String,
    timeout: Duration,
    _driver: AbortOnDropHandle<()>,
}

/// A part of a list.
struct Page {
    entries: Vec<Entry>,
    /// What to ask for the next part with; empty at the end.
    cookie: Vec<u8>,
}

impl Session {
    /// Tells of everything below the base, page by page. Without an error it was everything.
    ///
    /// # Errors
    /// When there was no end, or any code but success.
    pub async fn search(
        &mut self,
        search: &Search<'_>,
        tell: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), Error> {
        let mut cookie = Vec::new();
        let mut empty = 0;
        loop {
            let page = self.page(search, cookie, PAGE).await?;
            empty = if page.entries.is_empty() {
                empty + 1
            } else {
                0
            };
            page.entries.into_iter().for_each(&mut *tell);
            if page.cookie.is_empty() {
                return Ok(());
            }
            if empty >= EMPTY_PAGES {
                let place = self.place.clone();
                return Err(Error::Endless { place });
            }
            cookie = page.cookie;
        }
    }

    /// All that a search finds, which is little.
    ///
    /// # Errors
    /// As [`Session::search`].
    pub async fn find(&mut self, search: &Search<'_>) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        self.search(search, &mut |entry| found.push(entry)).await?;
        Ok(found)
    }

    /// The first so many, and whether there are more.
    ///
    /// # Errors
    /// When there was no answer, or any code but success.
    pub async fn peek(
        &mut self,
        search: &Search<'_>,
        count: i32,
    ) -> Result<(Vec<Entry>, bool), Error> {
        let page = self.page(search, Vec::new(), count.min(PAGE)).await?;
        Ok((page.entries, !page.cookie.is_empty()))
    }

    async fn page(
        &mut self,
        search: &Search<'_>,
        cookie: Vec<u8>,
        size: i32,
    ) -> Result<Page, Error> {
        let control = PagedResults { size, cookie };
        let (entries, result) = self
            .ask(search, Scope::Subtree, vec![control.into()])
            .await?;
        let cookie = within(self.timeout, &self.place, async { Ok(cookie_of(&result)) });
        Ok(Page {
            entries,
            cookie: cookie.await.map_err(|error| self.told(error))?,
        })
    }

    /// One entry by its name; `None` where the server says that there is none, or shows none.
    ///
    /// # Errors
    /// When there was no answer, or any other code.
    pub async fn read(&mut self, dn: &str, attributes: &[&str]) -> Result<Option<Entry>, Error> {
        self.entry(dn, attributes, Vec::new()).await
    }

    /// One entry by its name, even where it has been deleted. Active Directory shows such to few.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub async fn read_deleted(
        &mut self,
        dn: &str,
        attributes: &[&str],
    ) -> Result<Option<Entry>, Error> {
        let control = RawControl {
            ctype: SHOW_DELETED.to_owned(),
            crit: true,
            val: None,
        };
        self.entry(dn, attributes, vec![control]).await
    }

    async fn entry(
        &mut self,
        dn: &str,
        attributes: &[&str],
        controls: Vec<RawControl>,
    ) -> Result<Option<Entry>, Error> {
        let search = Search {
            base: dn,
            filter: "(objectClass=*)",
            attributes,
        };
        match self.ask(&search, Scope::Base, controls).await {
            Ok((entries, _)) => Ok(entries.into_iter().next()),
            Err(error) if error.code() == Some(code::NO_SUCH_OBJECT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &mut self,
        search: &Search<'_>,
        scope: Scope,
        controls: Vec<RawControl>,
    ) -> Result<(Vec<Entry>, LdapResult), Error> {
        let Search {
            base,
            filter,
            attributes,
        } = *search;
        let asked =
            self.ldap
                .with_controls(controls)
                .search(base, scope, filter, attributes.to_vec());
        let answer = within(self.timeout, &self.place, asked).await;
        let answer = answer.map_err(|error| self.told(error))?;
        if answer.1.rc != 0 {
            let (reason, mend) = code::of_search(answer.1.rc);
            return Err(Error::Failed {
                place: self.place.clone(),
                code: answer.1.rc,
                reason,
                mend,
            });
        }
        let entries: Option<Vec<_>> = answer
            .0
            .into_iter()
            .map(|entry| Entry::parse(entry.0))
            .collect();
        let place = || self.place.clone();
        let entries = entries.ok_or_else(|| Error::Malformed { place: place() })?;
        Ok((entries, answer.1))
    }

    fn told(&self, error: Fault) -> Error {
        match error {
            Fault::Of(error) => error,
            Fault::Library(error) => fault(&error, &self.place),
        }
    }

    /// Whether the server, or the network, has ended it, as far as that is known.
    pub fn is_over(&mut self) -> bool {
        self.ldap.is_closed()
    }
}

/// A server that knows no pages answers with all at once and no cookie (RFC 2696 §3).
fn cookie_of(result: &LdapResult) -> Vec<u8> {
    let paged = result.ctrls.iter().find_map(|Control(kind, raw)| {
        matches!(kind, Some(ControlType::PagedResults)).then_some(raw)
    });
    paged.map_or_else(Vec::new, |raw| raw.parse::<PagedResults>().cookie)
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
