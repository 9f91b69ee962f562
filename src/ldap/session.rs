//! Searches that are whole or an error.

use std::time::Duration;

use ldap3::controls::{Control, ControlType, PagedResults, RawControl};
use ldap3::{Ldap, LdapConnAsync, LdapResult, Scope};
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Access, EMPTY_PAGES, Entry, Error, Fault, code, fault, within};

/// So many entries are asked for at once. Active Directory gives no more than 1000.
const PAGE: i32 = 500;

/// A connection on which nothing is asked for so long is closed.
const LONGEST_IDLE: Duration = Duration::from_secs(20);

/// Asks for deleted objects, too (MS-ADTS §3.1.1.3.4.1.14).
const SHOW_DELETED: &str = "1.2.840.113556.1.4.417";

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
    /// Hears of every question.
    asked: watch::Sender<()>,
    _driver: AbortOnDropHandle<()>,
}

/// Ends when nothing was asked for so long.
async fn quiet(questions: &mut watch::Receiver<()>, longest: Duration) {
    while let Ok(Ok(())) = timeout(longest, questions.changed()).await {}
}

/// A part of a list.
struct Page {
    entries: Vec<Entry>,
    /// What to ask for the next part with; empty at the end.
    cookie: Vec<u8>,
}

impl Session {
    pub(super) fn new(
        connection: LdapConnAsync,
        ldap: Ldap,
        place: &str,
        timeout: Duration,
    ) -> Self {
        let (asked, mut questions) = watch::channel(());
        let longest = timeout + LONGEST_IDLE;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer when it ends is told that there is none.
            tokio::select! {
                _ = connection.drive() => {}
                () = quiet(&mut questions, longest) => {}
            }
        });
        Self {
            ldap,
            place: place.to_owned(),
            timeout,
            asked,
            _driver: AbortOnDropHandle::new(driver),
        }
    }

    pub(super) async fn sign_in(&mut self, access: &Access) -> Result<(), Error> {
        let password = access.password.expose_secret();
        let bind = self.ldap.simple_bind(&access.bind_dn, password);
        let bound = within(self.timeout, &self.place, bind).await;
        let bound = bound.map_err(|error| self.told(error))?;
        if bound.rc == 0 {
            return Ok(());
        }
        let (reason, mend) = code::of_bind(bound.rc, &bound.text);
        Err(Error::Refused {
            place: self.place.clone(),
            code: bound.rc,
            reason,
            mend,
        })
    }

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
        self.asked.send_replace(());
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
