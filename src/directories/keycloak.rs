//! Keycloak: the people of one realm, by its Admin REST API.
//!
//! It answers 200 with nobody to a client that may search but not view, it counts no more than the
//! client may view, and while a user storage such as LDAP is out of reach it says of everybody from there
//! that they are disabled. So nothing here is believed that has not been seen from two sides.

mod answers;
mod api;
mod check;
mod groups;
mod roll;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;
use url::Url;

use super::id::segment;
use super::{Asked, Common, Directory, Extent, LookedUp, Pulled, Tell};
use crate::domain::Address;
use crate::sources::{Checked, Error, Fetched, Refusals};
use crate::web::Web;
use answers::User;
use api::{Api, explained, nobody, status};
use groups::Groups;
use roll::Roll;

/// Up to so many people are asked for one by one; of more, everybody is listed.
const FEW: usize = 50;

/// A sign-in name that nobody has.
const NOBODY: &str = "nobody-has-this-name-lapsed";

/// `[[directory]] kind = "keycloak"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's base, with `/auth` where it has that (before Keycloak 17, or so configured).
    pub url: Url,
    /// The realm whose people they are.
    pub realm: String,
    /// A confidential client of that realm with a service account.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Certificates of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// The directory.
    ///
    /// # Errors
    /// When the CA file cannot be read.
    pub fn build(&self, common: &Common) -> Result<Keycloak, Error> {
        let web = Web::new(&self.url, self.ca_file.as_deref(), common.timeout)?;
        Ok(Keycloak {
            api: Api::new(web, self),
            realm: self.realm.clone(),
            allowed_groups: common.allowed_groups.clone(),
            alive: Mutex::default(),
        })
    }
}

/// The people of one realm.
#[derive(Debug)]
pub struct Keycloak {
    api: Api,
    realm: String,
    allowed_groups: Vec<String>,
    /// User storages of which somebody was enabled at the last pull.
    alive: Mutex<BTreeSet<String>>,
}

impl Keycloak {
    async fn read(&self, asked: &[Address], tell: &mut Tell<'_>) -> Result<Pulled, Error> {
        let groups = Groups::read(&self.api, &self.allowed_groups).await?;
        let mut roll = Roll::new(tell, groups.members);
        let mut extent = Extent::Everybody;
        if asked.len() <= FEW {
            self.api.viewed().await?;
            for address in asked {
                self.call(address, &mut roll).await?;
            }
            extent = Extent::Asked;
        }
        // That a user storage is not switched off is told by others from there.
        if extent == Extent::Everybody || roll.lacks_witness() {
            self.call_everybody(&mut roll).await?;
            extent = Extent::Everybody;
        }
        let mut answering = BTreeSet::new();
        for storage in roll.storages_in_doubt() {
            if self.answers(&storage).await? {
                answering.insert(storage);
            }
        }
        *self.alive.lock().await = roll.finish(&self.place(), &answering)?;
        Ok(Pulled {
            extent,
            groups: groups.groups,
            removed: Vec::new(),
            refusals: Refusals::default(),
            cursor: None,
        })
    }

    /// What a list that cannot be right is of.
    fn place(&self) -> String {
        format!("the users of the realm {}", self.realm)
    }

    /// Puts the accounts of this address on the roll.
    async fn call(&self, address: &Address, roll: &mut Roll<'_, '_>) -> Result<(), Error> {
        for key in ["email", "username"] {
            let query = [(key, address.as_str()), ("exact", "true")];
            let mut pages = self.api.pages("users", &query);
            while let Some(page) = pages.next::<User>().await? {
                let theirs = |user: &User| !user.is_service() && user.has(address);
                page.into_iter()
                    .filter(theirs)
                    .for_each(|user| roll.add(user));
            }
        }
        Ok(())
    }

    /// Puts everybody on the roll. The list has no end mark, so it must agree with the count; where people
    /// were made or deleted meanwhile, it does at a second time.
    async fn call_everybody(&self, roll: &mut Roll<'_, '_>) -> Result<(), Error> {
        let mut listed = self.list(roll).await?;
        if !listed.agrees() {
            listed = self.list(roll).await?;
        }
        if listed.count == Some(0) || listed.all == 0 {
            return Err(nobody(listed.count));
        }
        if !listed.agrees() {
            let (all, count) = (listed.all, listed.count.unwrap_or_default());
            return Err(Error::Content {
                place: self.place(),
                reason: format!(
                    "the list holds {all}, and Keycloak counts {count}; give the client the role \
                     view-users of realm-management where it sees only some, and look into the \
                     server's log where it has a user storage"
                ),
            });
        }
        Ok(())
    }

    async fn list(&self, roll: &mut Roll<'_, '_>) -> Result<Listed, Error> {
        let (mut seen, mut local) = (HashSet::new(), 0);
        let mut pages = self.api.pages("users", &[]);
        while let Some(page) = pages.next::<User>().await? {
            let (before, is_empty) = (seen.len(), page.is_empty());
            for user in page {
                let is_new = seen.insert(user.key());
                local += u64::from(is_new && !user.is_stored_elsewhere());
                roll.add(user);
            }
            if seen.len() == before && !is_empty {
                return Err(pages.repeats());
            }
        }
        Ok(Listed {
            all: seen.len() as u64,
            local,
            count: self.api.count().await?,
        })
    }

    /// What it means that an account is not found: nothing, if the caller cannot see anybody.
    async fn gone(&self) -> Result<LookedUp, Error> {
        self.api.viewed().await?;
        Ok(LookedUp::Gone {
            evidence: "404 for its id".to_owned(),
            is_certain: false,
        })
    }

    /// An imported account as a search shows it: unlike a look by id, that asks the user storage in place of
    /// a cache that may be days old (in newer versions both go by the cache).
    async fn afresh(&self, user: User) -> Result<Option<User>, Error> {
        let (Some(_), Some(name)) = (user.storage(), user.username()) else {
            return Ok(Some(user));
        };
        let query = [("username", name), ("exact", "true")];
        let page = self.api.pages("users", &query).next::<User>().await?;
        let mut found = page.into_iter().flatten();
        Ok(found.find(|found| found.id == user.id))
    }

    /// Whether a user storage is in reach. Keycloak hides that in lists, but an id that names the storage
    /// is passed on to it: there is no such account if it answers, and an error if it does not.
    async fn answers(&self, storage: &str) -> Result<bool, Error> {
        let Some(id) = segment(&format!("f:{storage}:{NOBODY}")) else {
            return Ok(false);
        };
        let looked = self
            .api
            .get::<IgnoredAny>(&format!("users/{id}"), &[])
            .await;
        match looked {
            Err(error) if error.wait().is_some() => Err(error),
            Err(Error::Web(error)) => Ok(error.status() == Some(StatusCode::NOT_FOUND)),
            Err(error) => Err(error),
            Ok(_) => Ok(false),
        }
    }
}

/// How many were listed, and how many there are.
struct Listed {
    /// In the list, each once.
    all: u64,
    /// Of these, those who are kept in Keycloak.
    local: u64,
    /// By Keycloak's count. It leaves out people of storages that do not count theirs, as LDAP without
    /// import. `None` where nobody counts: then a page that is not full was the last.
    count: Option<u64>,
}

impl Listed {
    fn agrees(&self) -> bool {
        self.count
            .is_none_or(|count| count > 0 && (count == self.all || count == self.local))
    }
}

#[async_trait]
impl Directory for Keycloak {
    async fn pull(&self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error> {
        let pulled = self.read(asked.people, tell).await;
        pulled.map(Fetched::New).map_err(explained)
    }

    async fn look_up(&self, id: &str) -> Result<LookedUp, Error> {
        let unclear = |why: &str| Ok(LookedUp::Unclear(why.to_owned()));
        let Some(name) = segment(id) else {
            return unclear("that is no id of Keycloak");
        };
        let looked = self.api.get::<User>(&format!("users/{name}"), &[]).await;
        let user = match looked {
            Ok(user) => user,
            Err(error) => match status(&error) {
                Some(StatusCode::NOT_FOUND) => return self.gone().await.map_err(explained),
                Some(StatusCode::FORBIDDEN) => {
                    return unclear("it may not view the account; the role view-users is missing");
                }
                _ => return Err(explained(error)),
            },
        };
        if user.id != id {
            return unclear("it answered with another account");
        }
        let Some(user) = self.afresh(user).await.map_err(explained)? else {
            return unclear("it is found by its id, and by its name no longer");
        };
        if let Some(storage) = user.storage_in_doubt() {
            let is_alive = self.alive.lock().await.contains(storage);
            if !is_alive || !self.answers(storage).await.map_err(explained)? {
                return unclear("enabled=false, while its user storage may be out of reach");
            }
        }
        Ok(LookedUp::Found(Box::new(user.account(None))))
    }

    async fn check(&self) -> Result<Checked, Error> {
        check::check(&self.api, &self.realm, &self.allowed_groups).await
    }
}

#[cfg(test)]
mod tests;
