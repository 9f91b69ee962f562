//! Keycloak: the people of one realm, by its Admin REST API.
//!
//! A client that may search but not view gets 200 with an empty list, and a count of only those it may view.
//! While a user storage such as LDAP is out of reach, its people are shown as disabled. So a loss of access
//! is reported only if a second request confirms it.

mod api;
mod groups;
mod users;

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;
use url::Url;

use super::account::PersonCollector;
use super::json::without_id_note;
use super::{
    Common, Directory, Extent, Lookup, MAX_ADDRESS_QUERIES, PeopleListing, PeopleQuery, PersonSink,
};
use crate::domain::Address;
use crate::upstream::http::{Client, path_segment};
use crate::upstream::{CheckReport, Error, Fetched, Right};
use api::{Api, LastPage, QUERY_GROUPS, VIEW_USERS, explain_refusal, no_visible_users_error};
#[cfg(test)]
pub(super) use users::read_people;
use users::{Collector, User};

/// A sign-in name that does not exist.
const UNUSED_NAME: &str = "nobody-has-this-name-lapsed";

#[derive(Debug, Clone)]
pub struct Config {
    /// The base URL, including `/auth` if the server uses it (before Keycloak 17, or if configured).
    pub url: Url,
    pub realm: String,
    /// A confidential client of that realm with a service account.
    pub client_id: String,
    pub client_secret: SecretString,
    /// Authorities to trust instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    pub fn build(&self, common: &Common) -> Result<Keycloak, Error> {
        let web = Client::new(
            &self.url,
            self.ca_file.as_deref(),
            common.timeout,
            &common.proxies,
        )?;
        Ok(Keycloak {
            api: Api::new(web, &self.realm, &self.client_id, &self.client_secret),
            realm: self.realm.clone(),
            allowed_groups: common.allowed_groups.clone(),
            reachable_storages: Mutex::default(),
        })
    }
}

#[derive(Debug)]
pub struct Keycloak {
    api: Api,
    realm: String,
    allowed_groups: Vec<String>,
    /// User storages that had an enabled account in the last listing.
    reachable_storages: Mutex<BTreeSet<String>>,
}

impl Keycloak {
    async fn list_users(
        &self,
        people: &[Address],
        sink: &mut PersonSink<'_>,
    ) -> Result<PeopleListing, Error> {
        let groups = groups::fetch(&self.api, &self.allowed_groups).await?;
        let mut collector = Collector::new(PersonCollector::new(&groups, sink));
        let mut extent = Extent::Everybody;
        if people.len() <= MAX_ADDRESS_QUERIES {
            self.api.ensure_can_view_users().await?;
            for address in people {
                self.collect_by_address(address, &mut collector).await?;
            }
            extent = Extent::Requested;
        }
        // Whether a user storage is switched off can only be seen from its other accounts.
        if extent == Extent::Everybody || collector.has_unconfirmed_storage() {
            self.collect_all(&mut collector).await?;
            extent = Extent::Everybody;
        }
        let mut reachable = BTreeSet::new();
        for storage in collector.doubtful_storages() {
            if self.is_storage_reachable(&storage).await? {
                reachable.insert(storage);
            }
        }
        let gaps = without_id_note(collector.without_id());
        *self.reachable_storages.lock().await = collector.finish(&self.list_name(), &reachable)?;
        Ok(PeopleListing {
            extent,
            gaps,
            groups: groups.groups,
            ..PeopleListing::default()
        })
    }

    fn list_name(&self) -> String {
        format!("the users of the realm {}", self.realm)
    }

    async fn collect_by_address(
        &self,
        address: &Address,
        collector: &mut Collector<'_, '_>,
    ) -> Result<(), Error> {
        for key in ["email", "username"] {
            let query = [(key, address.as_str()), ("exact", "true")];
            let add_match = |user: User| {
                if !user.is_service() && user.has_address(address) {
                    collector.add(user);
                }
            };
            self.api
                .for_each("users", &query, LastPage::NotFull, add_match)
                .await?;
        }
        Ok(())
    }

    /// Lists the whole realm. The list has no end mark, so its length must match the count. It is read a
    /// second time if it does not, since people may have been added or deleted meanwhile.
    async fn collect_all(&self, collector: &mut Collector<'_, '_>) -> Result<(), Error> {
        let mut listed = self.collect_pages(collector).await?;
        if !listed.is_complete() {
            listed = self.collect_pages(collector).await?;
        }
        if listed.count == Some(0) || listed.all == 0 {
            return Err(no_visible_users_error(listed.count));
        }
        if !listed.is_complete() {
            let (all, count) = (listed.all, listed.count.unwrap_or_default());
            let reason = format!(
                "the list has {all} users, but Keycloak counts {count}; if the client sees only some users, \
                 give it the role view-users of realm-management; if the realm has a user storage, \
                 see the server's log"
            );
            return Err(Error::content(self.list_name(), reason));
        }
        Ok(())
    }

    async fn collect_pages(&self, collector: &mut Collector<'_, '_>) -> Result<ListCounts, Error> {
        let mut all = 0;
        let mut local = 0;
        let add_user = |user: User| {
            all += 1;
            local += u64::from(!user.is_external());
            collector.add(user);
        };
        let without_id = self
            .api
            .for_each("users", &[], LastPage::NotFull, add_user)
            .await?;
        collector.add_without_id(without_id);
        let count = self.api.fetch_count().await?;
        Ok(ListCounts {
            all: all + without_id,
            local: local + without_id,
            count,
        })
    }

    /// A 404 is evidence only if the client can see other accounts.
    async fn confirm_gone(&self) -> Result<Lookup, Error> {
        self.api.ensure_can_view_users().await?;
        Ok(Lookup::gone("404 for its id"))
    }

    async fn look_up_user(&self, id: &str) -> Result<Lookup, Error> {
        let unclear = |reason: &str| Ok(Lookup::unclear(reason));
        let Some(name) = path_segment(id) else {
            return unclear("this is not an id of Keycloak");
        };
        let user = match self.api.fetch::<User>(&format!("users/{name}"), &[]).await {
            Ok(user) if user.id != id => return unclear("Keycloak returned another entry"),
            Ok(user) => self.search_by_name(user).await?,
            Err(error) => match error.status() {
                Some(StatusCode::NOT_FOUND) => return self.confirm_gone().await,
                Some(StatusCode::FORBIDDEN) => {
                    return unclear(
                        "the client may not view the entry; the role view-users is missing",
                    );
                }
                _ => return Err(error),
            },
        };
        let Some(user) = user else {
            return unclear("it is found by its id, but no longer by its name");
        };
        if let Some(storage) = user.doubtful_storage() {
            let is_known = self.reachable_storages.lock().await.contains(storage);
            if !is_known || !self.is_storage_reachable(storage).await? {
                return unclear("enabled=false, while its user storage may be out of reach");
            }
        }
        Ok(Lookup::found(user.into_person()))
    }

    /// Reads an imported account again by a search. Unlike a request by id, a search asks the user storage
    /// and not a cache that may be days old (in newer versions both use the cache).
    async fn search_by_name(&self, user: User) -> Result<Option<User>, Error> {
        let (Some(_), Some(name)) = (&user.storage, user.username.as_deref()) else {
            return Ok(Some(user));
        };
        let query = [("username", name), ("exact", "true")];
        let mut found = None;
        let take = |other: User| {
            if other.id == user.id {
                found = Some(other);
            }
        };
        self.api
            .for_each("users", &query, LastPage::NotFull, take)
            .await?;
        Ok(found)
    }

    /// Whether a user storage is in reach. Lists do not show that, but an id that names the storage is passed
    /// on to it: the response is 404 if the storage answers, and an error if it does not.
    async fn is_storage_reachable(&self, storage: &str) -> Result<bool, Error> {
        let Some(id) = path_segment(&format!("f:{storage}:{UNUSED_NAME}")) else {
            return Ok(false);
        };
        match self
            .api
            .fetch::<IgnoredAny>(&format!("users/{id}"), &[])
            .await
        {
            Err(error) if error.wait().is_some() => Err(error),
            Err(Error::Http(error)) => Ok(error.status() == Some(StatusCode::NOT_FOUND)),
            Err(error) => Err(error),
            Ok(_) => Ok(false),
        }
    }
}

struct ListCounts {
    /// Distinct accounts in the list.
    all: u64,
    /// Those of them that Keycloak itself stores.
    local: u64,
    /// Keycloak's count, which leaves out storages that do not count their accounts, such as LDAP without
    /// import. `None` if the server has no count; then a page that is not full is the last.
    count: Option<u64>,
}

impl ListCounts {
    fn is_complete(&self) -> bool {
        self.count
            .is_none_or(|count| count > 0 && (count == self.all || count == self.local))
    }
}

#[async_trait]
impl Directory for Keycloak {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let listing = self.list_users(query.people, sink).await;
        listing.map(Fetched::New).map_err(explain_refusal)
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        self.look_up_user(id).await.map_err(explain_refusal)
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        // Without an access token its rights cannot be checked.
        self.api.fetch_count().await.map_err(explain_refusal)?;
        let mut report = CheckReport::from(format!("Keycloak, realm {}", self.realm));
        let mut missing = Vec::new();
        let what = "view the people";
        match self.api.ensure_can_view_users().await {
            Ok(count) => {
                if let Some(count) = count {
                    report.summary += &format!(": {count} people");
                }
                report.rights.push(Right::granted(what));
            }
            Err(error) => missing.push(missing_right(error, what, VIEW_USERS)?),
        }
        if !self.allowed_groups.is_empty() {
            let what = "view the allowed groups and who is in them";
            match groups::probe(&self.api, &self.allowed_groups).await {
                Ok(()) => report.rights.push(Right::granted(what)),
                Err(error) => missing.push(missing_right(error, what, QUERY_GROUPS)?),
            }
        }
        let mut missing = missing.into_iter();
        let Some((what, mut fix)) = missing.next() else {
            return Ok(report);
        };
        for (what, other_fix) in missing {
            fix = format!("{fix}; and {what}; {other_fix}");
        }
        Err(Error::Rights { what, fix })
    }
}

/// What the client may not do, and how to change that. Another error is returned.
fn missing_right(error: Error, what: &str, fix: &str) -> Result<(String, String), Error> {
    match error {
        Error::Rights { what, fix } => Ok((what, fix)),
        error if error.status() == Some(StatusCode::FORBIDDEN) => {
            let what = format!("Keycloak does not let the client {what}");
            Ok((what, fix.to_owned()))
        }
        error => Err(explain_refusal(error)),
    }
}

#[cfg(test)]
mod tests;
