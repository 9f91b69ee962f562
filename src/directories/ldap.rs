//! The directory `ldap`: OpenLDAP, 389 Directory Server with FreeIPA, and Active Directory.
//!
//! A search without results is no evidence: where the account that asks may not see an attribute, the
//! server answers that all is well and there is nobody. So a pull that finds nobody is an error, and
//! somebody is gone only where others can still be seen by their ids.

mod check;
mod dn;
mod flavor;
mod groups;
mod person;
mod status;
mod time;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Asked, Common, Directory, Extent, LookedUp, Pulled, Tell};
use crate::clock::Clock;
use crate::ldap::{self, Entry, Search, Server, Session};
use crate::sources::{Checked, Error, Fetched, Refusals};
use groups::{Membership, Scope};
use person::{account, person};
use status::Rules;

pub use crate::ldap::{Access, is_filter};
pub use flavor::{FLAVORS, Flavor};

/// A connection that has been idle for longer is not used again.
const LONGEST_IDLE: Duration = Duration::from_secs(20);

/// So many connections are kept for further look-ups.
const MOST_IDLE: usize = 4;

/// `[[directory]] kind = "ldap"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it is, and as whom it is asked.
    pub access: Access,
    /// People are below this entry.
    pub base: String,
    /// Which entries are people; `None` is what suits the product.
    pub filter: Option<String>,
    /// The product; `None` is what it says of itself.
    pub flavor: Option<Flavor>,
    /// Whether the day in shadowExpire is one from which people have no access.
    pub shadow_expire: bool,
}

impl Config {
    /// The directory.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn build(&self, common: &Common, clock: Clock) -> Result<LdapDirectory, Error> {
        Ok(LdapDirectory {
            config: self.clone(),
            server: Server::new(&self.access, common.timeout)?,
            allowed_groups: common.allowed_groups.clone(),
            clock,
            idle: Mutex::default(),
        })
    }
}

/// A directory that is asked by LDAP.
pub struct LdapDirectory {
    config: Config,
    server: Server,
    allowed_groups: Vec<String>,
    clock: Clock,
    /// What the last questions have left open.
    idle: Mutex<Vec<(Instant, Open)>>,
}

/// A connection to a server that is known.
struct Open {
    session: Session,
    root: flavor::Root,
}

#[async_trait]
impl Directory for LdapDirectory {
    async fn pull(&self, _: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error> {
        let mut open = self.open().await?;
        let pulled = self.pull_from(&mut open, tell).await?;
        self.keep(open);
        Ok(Fetched::New(pulled))
    }

    async fn look_up(&self, id: &str) -> Result<LookedUp, Error> {
        if let Some(mut open) = self.take_idle() {
            match self.look_up_at(&mut open, id).await {
                // It may have been ended since: not the answer of a new one.
                Err(Error::Ldap(error)) if error.is_of_connection() => {}
                looked_up => {
                    if looked_up.is_ok() {
                        self.keep(open);
                    }
                    return looked_up;
                }
            }
        }
        let mut open = self.open().await?;
        let looked_up = self.look_up_at(&mut open, id).await?;
        self.keep(open);
        Ok(looked_up)
    }

    async fn check(&self) -> Result<Checked, Error> {
        let mut open = self.open().await?;
        self.check_at(&mut open).await
    }
}

impl LdapDirectory {
    async fn open(&self) -> Result<Open, Error> {
        let mut session = self.server.open().await?;
        let root = flavor::Root::read(&mut session, self.config.flavor).await?;
        Ok(Open { session, root })
    }

    fn keep(&self, open: Open) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push((Instant::now(), open));
        }
    }

    fn take_idle(&self) -> Option<Open> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|(since, open)| since.elapsed() <= LONGEST_IDLE && !open.session.is_over());
        idle.pop().map(|(_, open)| open)
    }

    fn rules(&self, flavor: Flavor) -> Rules {
        Rules {
            flavor,
            counts_shadow_expire: self.config.shadow_expire,
            now: self.clock.now(),
        }
    }

    /// Which entries are people.
    fn people(&self, flavor: Flavor) -> &str {
        let configured = self.config.filter.as_deref();
        configured.unwrap_or_else(|| flavor.people())
    }

    async fn pull_from(&self, open: &mut Open, tell: &mut Tell<'_>) -> Result<Pulled, Error> {
        let Open { session, root } = open;
        let scope = Scope {
            root,
            base: &self.config.base,
        };
        let mut membership = Membership::read(session, scope, &self.allowed_groups).await?;
        let rules = self.rules(root.flavor);
        let search = Search {
            base: &self.config.base,
            filter: self.people(root.flavor),
            attributes: root.flavor.attributes(),
        };
        let mut seen = Seen::default();
        session
            .search(&search, &mut |entry| {
                let Some(id) = seen.take(root.flavor, &entry) else {
                    return;
                };
                if let Some(mut person) = person(&entry, id.clone(), &rules) {
                    person.is_member = membership.enrol(&entry, &id);
                    seen.people += 1;
                    tell(person);
                }
            })
            .await?;
        seen.believable(root.flavor)?;
        Ok(Pulled {
            extent: Extent::Everybody,
            groups: membership.counted(),
            removed: Vec::new(),
            refusals: Refusals::default(),
            cursor: None,
        })
    }

    async fn look_up_at(&self, open: &mut Open, id: &str) -> Result<LookedUp, Error> {
        let flavor = open.root.flavor;
        if flavor == Flavor::ActiveDirectory {
            return self.look_up_guid(open, id).await;
        }
        let filter = flavor.of_id(id);
        let search = Search {
            base: &self.config.base,
            filter: &filter,
            attributes: flavor.attributes(),
        };
        let found = open.session.find(&search).await?;
        let mut found = found.into_iter().filter_map(|entry| {
            let is = flavor.id(&entry)?;
            is.eq_ignore_ascii_case(id).then_some(entry)
        });
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(self.found(&entry, id, flavor)),
            (None, _) => {
                let names = flavor.ids().join(" or ");
                self.gone(open, format!("no entry has its {names}")).await
            }
            (Some(_), Some(_)) => Ok(LookedUp::Unclear("several entries have its id".to_owned())),
        }
    }

    /// Looks wherever the account may have been moved to, and among the deleted.
    async fn look_up_guid(&self, open: &mut Open, id: &str) -> Result<LookedUp, Error> {
        let flavor = open.root.flavor;
        let Ok(guid) = Uuid::try_parse(id) else {
            let why = "what is known as its id is none of Active Directory";
            return Ok(LookedUp::Unclear(why.to_owned()));
        };
        let name = format!("<GUID={guid}>");
        let is_it = |entry: &Entry| flavor.id(entry).is_some_and(|is| is == guid.to_string());
        let found = open.session.read(&name, flavor.attributes()).await?;
        if let Some(entry) = found.filter(is_it) {
            return Ok(self.found(&entry, id, flavor));
        }
        let deleted = open.session.read_deleted(&name, flavor.attributes()).await;
        let deleted = match deleted {
            // That the account may not see deleted ones says nothing.
            Err(ldap::Error::Failed { .. }) => None,
            deleted => deleted?.filter(is_it),
        };
        let is_deleted = |entry: &Entry| {
            let is = entry.text("isDeleted");
            is.is_some_and(|is| is.eq_ignore_ascii_case("true"))
        };
        if deleted.as_ref().is_some_and(is_deleted) {
            return Ok(LookedUp::Gone {
                evidence: "isDeleted=TRUE".to_owned(),
                is_certain: true,
            });
        }
        self.gone(open, "no entry has its objectGUID".to_owned())
            .await
    }

    fn found(&self, entry: &Entry, id: &str, flavor: Flavor) -> LookedUp {
        let rules = self.rules(flavor);
        LookedUp::Found(Box::new(account(entry, id.to_owned(), &rules)))
    }

    /// That there is no such account, where others can be seen in the way in which it was looked for.
    async fn gone(&self, open: &mut Open, evidence: String) -> Result<LookedUp, Error> {
        let flavor = open.root.flavor;
        let filter = flavor.with_id(self.people(flavor));
        let search = Search {
            base: &self.config.base,
            filter: &filter,
            attributes: flavor.ids(),
        };
        let (others, _) = open.session.peek(&search, 1).await?;
        if others.iter().any(|other| flavor.id(other).is_some()) {
            return Ok(LookedUp::Gone {
                evidence,
                is_certain: false,
            });
        }
        let names = flavor.ids().join(" or ");
        Ok(LookedUp::Unclear(format!(
            "the account of bind_dn sees nobody by {names}"
        )))
    }
}

/// Whom a search has found so far.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<String>,
    without_id: u64,
    people: u64,
}

impl Seen {
    /// The id of an entry that has not come before. Lists are no snapshots: an entry may come twice.
    fn take(&mut self, flavor: Flavor, entry: &Entry) -> Option<String> {
        let Some(id) = flavor.id(entry) else {
            self.without_id += 1;
            return None;
        };
        self.ids.insert(id.clone()).then_some(id)
    }

    fn believable(&self, flavor: Flavor) -> Result<(), Error> {
        let names = flavor.ids().join(" and ");
        let what = if self.without_id > 0 {
            format!("{} entries show no id ({names})", self.without_id)
        } else if self.people == 0 {
            "it shows nobody, or nobody with a mail address".to_owned()
        } else {
            return Ok(());
        };
        let mend = format!(
            "let the account of bind_dn read mail and {names} below base, or correct base and filter"
        );
        Err(Error::Rights { what, mend })
    }
}
