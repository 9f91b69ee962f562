//! Searches that are complete or fail.

use std::sync::Arc;
use std::time::Duration;

use ldap3::controls::{Control, ControlType, PagedResults, RawControl};
use ldap3::result::Result as Answer;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchResult};
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Access, Entry, Error, code};
use crate::causes::contain_panics;
use crate::tls::{self, ClientIdentity};
use crate::upstream::pager::Pager;

/// Every entry has an object class.
const ANY_ENTRY: &str = "(objectClass=*)";

/// Active Directory allows at most 1000.
const PAGE_SIZE: i32 = 500;

/// An idle connection is closed this long after the time-out of its last request.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// How long a connection that failed takes to end.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Includes deleted objects (MS-ADTS §3.1.1.3.4.1.14).
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

pub struct Server {
    access: Access,
    settings: LdapConnSettings,
    identity: Arc<ClientIdentity>,
    place: String,
    timeout: Duration,
}

impl Server {
    /// `timeout` covers a request and its whole response.
    pub fn new(access: &Access, timeout: Duration) -> Result<Self, Error> {
        let identity = Arc::new(ClientIdentity::load(access.client_certificate.as_ref())?);
        let mut settings = LdapConnSettings::new().set_starttls(access.starttls);
        if access.starttls || access.url.scheme() == "ldaps" {
            let config = tls::client_config_with(access.ca_file.as_deref(), identity.clone())?;
            settings = settings.set_config(Arc::new(config));
        }
        let host = access.url.host_str().unwrap_or_default();
        let port = access.url.port();
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            place: format!("{}://{host}{port}", access.url.scheme()),
            access: access.clone(),
            settings,
            identity,
            timeout,
        })
    }

    /// Connects and binds.
    ///
    /// # Errors
    /// When there is no secure connection, or the server refuses the account.
    pub async fn connect(&self) -> Result<Session, Error> {
        self.identity.forget_request();
        match self.connect_and_bind().await {
            Err(error @ Error::BrokenOff { .. }) => Err(self.explain_certificate(error)),
            session => session,
        }
    }

    /// With TLS 1.3 a server refuses a certificate after the client has completed the handshake; with TLS 1.2 it ends
    /// the handshake.
    fn explain_certificate(&self, error: Error) -> Error {
        if !self.identity.was_requested() {
            return error;
        }
        let reason = if self.identity.has_certificate() {
            "it closed the connection after it was shown client_certificate; check that the server accepts it"
        } else {
            "it asked for a client certificate and closed the connection; set client_certificate and client_key"
        };
        Error::Unreachable {
            place: self.place.clone(),
            reason: reason.to_owned(),
        }
    }

    async fn connect_and_bind(&self) -> Result<Session, Error> {
        let (connection, ldap) = with_timeout(
            self.timeout,
            &self.place,
            LdapConnAsync::from_url_with_settings(self.settings.clone(), &self.access.url),
        )
        .await?
        .map_err(|error| match self.unreachable(&error) {
            unreachable if is_alert(&error) => self.explain_certificate(unreachable),
            unreachable => unreachable,
        })?;
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

/// Whether the server ended the handshake.
fn is_alert(error: &LdapError) -> bool {
    let error = match error {
        LdapError::Rustls { source } => Some(source),
        LdapError::Io { source } => source.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    };
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    pub base: &'a str,
    /// In the form of RFC 4515.
    pub filter: &'a str,
    /// The attributes to return. `*` does not include operational ones, so they must be named.
    pub attributes: &'a [&'a str],
}

pub struct Session {
    ldap: Ldap,
    place: String,
    timeout: Duration,
    /// Notified on every request; resets the idle timer.
    activity: watch::Sender<()>,
    /// Returns whether the server sent something on which the library panics. `None` after its end.
    driver: Option<AbortOnDropHandle<bool>>,
}

pub struct Page {
    pub entries: Vec<Entry>,
    /// Requests the next page; empty at the end.
    cookie: Vec<u8>,
}

impl Page {
    pub fn has_more(&self) -> bool {
        !self.cookie.is_empty()
    }
}

impl Session {
    fn new(connection: LdapConnAsync, ldap: Ldap, place: &str, timeout: Duration) -> Self {
        let (activity, on_activity) = watch::channel(());
        let driver = tokio::spawn(async move {
            // When this ends, pending requests fail.
            tokio::select! {
                ended = contain_panics(connection.drive()) => ended.is_none(),
                () = wait_until_idle(on_activity, timeout + MAX_IDLE) => false,
            }
        });
        Self {
            ldap,
            place: place.to_owned(),
            timeout,
            activity,
            driver: Some(AbortOnDropHandle::new(driver)),
        }
    }

    async fn bind(&mut self, access: &Access) -> Result<(), Error> {
        let password = access.password.expose_secret();
        let bind = self.ldap.simple_bind(&access.bind_dn, password);
        let result = await_response(self.timeout, &self.place, bind).await;
        let result = self.explain(result).await?;
        if result.rc == 0 {
            return Ok(());
        }
        let (reason, fix) = code::explain_bind(result.rc, &result.text);
        Err(Error::Refused {
            place: self.place.clone(),
            code: result.rc,
            reason,
            fix,
        })
    }

    /// Sends the base and everything below it, as far as it matches, to `sink`, page by page.
    ///
    /// # Errors
    /// When the result is not complete: it has no end, a page repeats, or the server reports an error.
    pub async fn search(
        &mut self,
        search: &Search<'_>,
        sink: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), Error> {
        let mut pager = Pager::default();
        let mut cookie = Vec::new();
        for number in 1_u32.. {
            let page = self.fetch_page(search, cookie, PAGE_SIZE).await?;
            // Some servers send the same cookie for every page, so a page is known by its number. The last page
            // may be a repeated one, too.
            let content = pager.content(&page.entries);
            let advanced = pager.advance(content, Some(number));
            advanced.map_err(|why| Error::Endless {
                place: self.place.clone(),
                why,
            })?;
            cookie = page.cookie;
            page.entries.into_iter().for_each(&mut *sink);
            if cookie.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Collects the entries of a small result.
    pub async fn search_all(&mut self, search: &Search<'_>) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        self.search(search, &mut |entry| entries.push(entry))
            .await?;
        Ok(entries)
    }

    /// The first `count` entries, at most [`PAGE_SIZE`].
    ///
    /// # Errors
    /// If the server does not respond, or reports an error.
    pub async fn search_first(&mut self, search: &Search<'_>, count: i32) -> Result<Page, Error> {
        self.fetch_page(search, Vec::new(), count.min(PAGE_SIZE))
            .await
    }

    async fn fetch_page(
        &mut self,
        search: &Search<'_>,
        cookie: Vec<u8>,
        size: i32,
    ) -> Result<Page, Error> {
        let control = PagedResults { size, cookie };
        let (entries, result) = self
            .run_search(search, Scope::Subtree, vec![control.into()])
            .await?;
        // The library panics if the control is malformed; `await_response` catches that.
        let parsing = async { Ok(paging_cookie(&result)) };
        let cookie = await_response(self.timeout, &self.place, parsing).await?;
        Ok(Page { entries, cookie })
    }

    /// Reads an entry; `None` if there is no such entry, or the account may not see it.
    ///
    /// # Errors
    /// If the server does not respond, or reports another error than *no such object*.
    pub async fn read_entry(
        &mut self,
        dn: &str,
        attributes: &[&str],
    ) -> Result<Option<Entry>, Error> {
        let found = self.read_matching(dn, ANY_ENTRY, attributes, Vec::new());
        Ok(first(found.await?))
    }

    /// Whether an entry matches a filter; `None` if there is no such entry, for example because it was moved.
    ///
    /// # Errors
    /// If the server does not respond, or reports another error than *no such object*.
    pub async fn matches(&mut self, dn: &str, filter: &str) -> Result<Option<bool>, Error> {
        let found = self.read_matching(dn, filter, &["1.1"], Vec::new());
        Ok(found.await?.map(|entries| !entries.is_empty()))
    }

    /// Reads an entry even if it is deleted. Active Directory shows deleted entries to few accounts.
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
        let found = self.read_matching(dn, ANY_ENTRY, attributes, vec![control]);
        Ok(first(found.await?))
    }

    /// The entry if it matches; `None` if there is no such entry.
    async fn read_matching(
        &mut self,
        dn: &str,
        filter: &str,
        attributes: &[&str],
        controls: Vec<RawControl>,
    ) -> Result<Option<Vec<Entry>>, Error> {
        let search = Search {
            base: dn,
            filter,
            attributes,
        };
        match self.run_search(&search, Scope::Base, controls).await {
            Ok((entries, _)) => Ok(Some(entries)),
            Err(error) if error.code() == Some(code::NO_SUCH_OBJECT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn run_search(
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
        self.activity.send_replace(());
        let request =
            self.ldap
                .with_controls(controls)
                .search(base, scope, filter, attributes.to_vec());
        let answer = await_response(self.timeout, &self.place, request).await;
        let SearchResult(entries, result) = self.explain(answer).await?;
        if result.rc != 0 {
            let (reason, fix) = code::explain_search(result.rc);
            return Err(Error::Failed {
                place: self.place.clone(),
                code: result.rc,
                reason,
                fix,
            });
        }
        let entries = entries
            .into_iter()
            .map(|entry| Entry::parse(entry.0))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::Malformed {
                place: self.place.clone(),
            })?;
        Ok((entries, result))
    }

    /// A connection that ends because of what the server sent is not broken off.
    async fn explain<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::BrokenOff { place }) = &answer
            && let Some(driver) = self.driver.take()
            && let Ok(Ok(true)) = timeout(DRIVER_TIMEOUT, driver).await
        {
            let place = place.clone();
            return Err(Error::Malformed { place });
        }
        answer
    }

    pub fn is_closed(&mut self) -> bool {
        self.ldap.is_closed()
    }
}

async fn wait_until_idle(mut on_activity: watch::Receiver<()>, max_idle: Duration) {
    while let Ok(Ok(())) = timeout(max_idle, on_activity.changed()).await {}
}

fn first(entries: Option<Vec<Entry>>) -> Option<Entry> {
    entries?.into_iter().next()
}

/// The cookie of the next page; empty at the end. A server without paging sends none (RFC 2696 §3).
fn paging_cookie(result: &LdapResult) -> Vec<u8> {
    for Control(kind, raw) in &result.ctrls {
        if matches!(kind, Some(ControlType::PagedResults)) {
            return raw.parse::<PagedResults>().cookie;
        }
    }
    Vec::new()
}

/// Waits for a response as [`with_timeout`] does, and converts the library's errors.
async fn await_response<T>(
    timeout: Duration,
    place: &str,
    work: impl Future<Output = Answer<T>>,
) -> Result<T, Error> {
    with_timeout(timeout, place, work)
        .await?
        .map_err(|error| library_error(&error, place))
}

/// Adds a time-out. Also catches panics: the library panics if a server sends something that is not LDAP.
async fn with_timeout<T>(
    timeout: Duration,
    place: &str,
    work: impl Future<Output = Answer<T>>,
) -> Result<Answer<T>, Error> {
    let place = place.to_owned();
    match tokio::time::timeout(timeout, contain_panics(work)).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Error::Malformed { place }),
        Err(_elapsed) => Err(Error::TimedOut { place, timeout }),
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

#[cfg(test)]
mod tests {
    use rustls::client::ResolvesClientCert;

    use super::*;

    #[tokio::test]
    async fn a_request_for_a_certificate_explains_only_what_follows_it() {
        let access = Access {
            // Nothing listens on this port.
            url: "ldap://127.0.0.1:1".parse().unwrap(),
            starttls: false,
            bind_dn: "cn=lapsed".to_owned(),
            password: "secret".into(),
            ca_file: None,
            client_certificate: None,
        };
        let server = Server::new(&access, Duration::from_secs(5)).unwrap();
        server.identity.resolve(&[], &[]);
        let broken_off = || Error::BrokenOff {
            place: "ldap://ldap.example.org".to_owned(),
        };
        let text = server.explain_certificate(broken_off()).to_string();
        assert!(text.contains("asked for a client certificate"), "{text}");
        assert!(server.connect().await.is_err());
        let later = server.explain_certificate(broken_off());
        assert!(matches!(later, Error::BrokenOff { .. }), "{later}");
    }

    #[test]
    fn an_alert_of_the_server_is_recognised() {
        let alert = || rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let from_io = |error| LdapError::from(std::io::Error::other(error));
        assert!(is_alert(&from_io(alert())));
        assert!(!is_alert(&from_io(rustls::Error::DecryptError)));
        assert!(!is_alert(&LdapError::from(std::io::Error::from(
            std::io::ErrorKind::ConnectionRefused
        ))));
    }
}
