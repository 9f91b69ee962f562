//! Microsoft Entra ID: the users of one tenant, by Microsoft Graph v1.0.
//!
//! The first listing has all users. If there are no allowed groups, later ones ask for changes and look up
//! the changed users by id. Graph silently leaves out what the application has no permission for, so a
//! missing field or user is never evidence of lost access.

mod changes;
mod graph;
mod groups;
mod sign_in;

use async_trait::async_trait;
use reqwest::StatusCode;
use url::Url;

use super::account::{AllowedGroups, PersonCollector, id_key};
use super::json::without_id_note;
use super::{Common, Directory, Extent, Lookup, PeopleListing, PeopleQuery, PersonSink};
use crate::clock::Clock;
use crate::domain::{Address, Person};
use crate::upstream::http::{Client, path_segment};
use crate::upstream::session::Session;
use crate::upstream::{CheckReport, Error, Fetched, Right, none_if_status};
use changes::{Cursor, DeltaLink};
#[cfg(test)]
pub(super) use graph::read_people;
use graph::{
    Graph, Item, PAGE_SIZE, Page, SELECT, User, explain_refusal, invalid_response,
    permission_advice,
};
use sign_in::Application;

pub use sign_in::{Cloud, Credential};

/// Needed to read users with `accountEnabled`, and deleted users.
const PERMISSION: &str = "User.Read.All";

/// Responses if the recycle bin cannot be read: no permission, or a gateway without one.
const RECYCLE_BIN_UNAVAILABLE: [StatusCode; 4] = [
    StatusCode::FORBIDDEN,
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

#[derive(Debug, Clone)]
pub struct Config {
    /// The id of the tenant, or one of its domains.
    pub tenant: String,
    pub client_id: String,
    pub credential: Credential,
    pub cloud: Cloud,
    /// A gateway in place of both hosts of the cloud.
    pub url: Option<Url>,
}

impl Config {
    /// Reads the certificate, but does not connect yet.
    ///
    /// # Errors
    /// When the certificate cannot be read or used.
    pub fn build(&self, common: &Common) -> Result<Entra, Error> {
        let login_url = self.base_url(self.cloud.login_url())?;
        let mut graph_url = self.base_url(self.cloud.graph_url())?;
        graph_url.set_path(&format!("{}/v1.0", graph_url.path().trim_end_matches('/')));
        let application = Application::new(
            Client::new(&login_url, None, common.timeout, &common.proxies)?,
            self.cloud,
            &self.tenant,
            &self.client_id,
            &self.credential,
            &common.clock,
        )?;
        let client = Client::new(&graph_url, None, common.timeout, &common.proxies)?;
        Ok(Entra {
            graph: Graph(Session::new(client, application)),
            tenant: self.tenant.clone(),
            allowed_groups: common.allowed_groups.clone(),
            clock: common.clock.clone(),
        })
    }

    fn base_url(&self, default: &str) -> Result<Url, Error> {
        match &self.url {
            Some(url) => Ok(url.clone()),
            None => default
                .parse()
                .map_err(|error: url::ParseError| Error::content(default, error.to_string())),
        }
    }
}

#[derive(Debug)]
pub struct Entra {
    graph: Graph,
    tenant: String,
    allowed_groups: Vec<String>,
    clock: Clock,
}

impl Entra {
    async fn send_all_users(
        &self,
        sink: &mut PersonSink<'_>,
    ) -> Result<(AllowedGroups, Option<String>), Error> {
        let allowed_groups = groups::fetch(&self.graph, &self.allowed_groups).await?;
        let mut collector = PersonCollector::new(&allowed_groups, sink);
        let mut shows_enabled = false;
        let query = [("$select", SELECT), ("$top", PAGE_SIZE)];
        let end = self
            .graph
            .for_each_item(self.graph.get("users", &query), |user: User| {
                shows_enabled |= user.account_enabled.value().is_some();
                collector.add(user.into_person());
            })
            .await
            .map_err(|error| explain(error, "list users"))?;
        if !shows_enabled {
            let what = if collector.count() == 0 {
                "Graph lists no users, but every tenant has some"
            } else {
                "Graph lists users, but none of them has accountEnabled"
            };
            return Err(Error::rights(what, permission_advice(PERMISSION)));
        }
        Ok((allowed_groups, without_id_note(end.without_id)))
    }

    /// Lists all users. Later changes start from `delta_link`, or from now without one.
    async fn list_all(
        &self,
        delta_link: Option<DeltaLink>,
        query_digest: String,
        sink: &mut PersonSink<'_>,
    ) -> Result<PeopleListing, Error> {
        let now = self.clock.now();
        // Changes of users do not show changes of group memberships.
        let delta_link = if !self.allowed_groups.is_empty() {
            None
        } else if delta_link.is_some() {
            delta_link
        } else {
            changes::start_delta(&self.graph, now)
                .await
                .map_err(|error| explain(error, "ask for changes"))?
        };
        let (allowed_groups, gaps) = self.send_all_users(sink).await?;
        let cursor =
            delta_link.and_then(|delta_link| Cursor::new(delta_link, now, query_digest).to_text());
        Ok(PeopleListing {
            extent: Extent::Everybody,
            groups: allowed_groups.groups,
            cursor,
            gaps,
            ..PeopleListing::default()
        })
    }

    /// Lists changed users; `None` if all users must be listed instead.
    async fn list_changes(
        &self,
        cursor: Cursor,
        issuers: &[Address],
        sink: &mut PersonSink<'_>,
    ) -> Result<Option<PeopleListing>, Error> {
        let Some(changes) = changes::fetch_changes(&self.graph, cursor.link())
            .await
            .map_err(|error| explain(error, "ask for changes"))?
        else {
            return Ok(None);
        };
        let mut people = Vec::new();
        let mut removed = changes.removed;
        for (id, enabled) in changes.changed {
            let user = self
                .fetch_user(&id)
                .await
                .map_err(|error| explain(error, "read a user"))?;
            match user {
                // The two responses contradict each other: one server lags behind.
                Some(user) if enabled.is_some() && user.account_enabled.value() != enabled => {
                    return Ok(None);
                }
                Some(user) => people.push(user.into_person()),
                None => removed.push(id),
            }
        }
        // Another account of the person, which has not changed, may still work.
        let is_lost = |person: &Person| {
            let mut addresses = person.addresses().chain(&person.fallbacks);
            !person.has_access() && addresses.any(|address| issuers.contains(address))
        };
        if people.iter().any(is_lost) {
            return Ok(None);
        }
        // Sent only now, because `None` above must send nothing.
        people.retain(Person::shows_an_address);
        people.into_iter().for_each(sink);
        let mut cursor = cursor.advance_to(changes.link);
        if !removed.is_empty() {
            // The look-ups may reach a server that does not know of the removal yet.
            cursor = cursor.restart_overlap(self.clock.now());
        }
        Ok(Some(PeopleListing {
            extent: Extent::Changes,
            removed,
            cursor: cursor.to_text(),
            ..PeopleListing::default()
        }))
    }

    async fn fetch_user(&self, id: &str) -> Result<Option<User>, Error> {
        let path = format!("users/{}", path_segment(id).unwrap_or_default());
        let request = self.graph.get(&path, &[("$select", SELECT)]);
        let result = self.graph.fetch::<User>(request).await;
        let user = none_if_status(result, &[StatusCode::NOT_FOUND])?;
        if let Some(user) = &user
            && user.id_key() != id_key(id)
        {
            return Err(invalid_response(
                "a request for a user by id returned another user",
            ));
        }
        Ok(user)
    }

    /// Looks for a missing user in the recycle bin.
    async fn look_up_deleted(&self, id: &str) -> Result<Lookup, Error> {
        let part = path_segment(id).unwrap_or_default();
        let path = format!("directory/deletedItems/{part}");
        let request = self.graph.get(&path, &[("$select", "id")]);
        match self.graph.fetch::<Item>(request).await {
            Ok(item) if item.id_key() == id_key(id) => {
                Ok(Lookup::certainly_gone("it is in the deleted items"))
            }
            Ok(_) => Ok(Lookup::gone("404 for its id")),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                Ok(Lookup::gone("404 for its id, and not in the deleted items"))
            }
            Err(error) if error.has_status(&RECYCLE_BIN_UNAVAILABLE) => Ok(Lookup::gone(
                "404 for its id; the deleted items cannot be read",
            )),
            Err(error) => Err(error),
        }
    }

    /// Fails unless users can be read with `accountEnabled`.
    async fn ensure_can_view_users(&self) -> Result<(), Error> {
        let query = [("$select", "id,accountEnabled"), ("$top", "1")];
        let page: Page<User> = self
            .graph
            .fetch(self.graph.get("users", &query))
            .await
            .map_err(|error| explain(error, "list users"))?;
        let mut users = page.value.items.iter();
        if users.any(|user| user.account_enabled.value().is_some()) {
            return Ok(());
        }
        let what = "Graph does not show the application accountEnabled of users";
        Err(Error::rights(what, permission_advice(PERMISSION)))
    }

    /// Whether the recycle bin can be read; `None` if the server has no recycle bin.
    async fn check_recycle_bin(&self) -> Result<Option<Right>, Error> {
        let what = "read the deleted users";
        let path = "directory/deletedItems/microsoft.graph.user";
        let request = self.graph.get(path, &[("$select", "id"), ("$top", "1")]);
        match self.graph.fetch::<Page<Item>>(request).await {
            Ok(_) => Ok(Some(Right::granted(what))),
            Err(error) if error.status() == Some(StatusCode::FORBIDDEN) => {
                Ok(Some(Right::missing(what, permission_advice(PERMISSION))))
            }
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND)
                    || error.has_status(&RECYCLE_BIN_UNAVAILABLE) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Directory for Entra {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let digest = changes::query_digest(&self.tenant, query.people);
        let cursor = match query.cursor {
            Some(text) if self.allowed_groups.is_empty() => Cursor::parse(text, &self.graph),
            _ => None,
        };
        let delta_link = match cursor {
            Some(cursor) if cursor.is_usable(self.clock.now(), &digest) => {
                if let Some(listing) = self.list_changes(cursor, query.people, sink).await? {
                    return Ok(Fetched::New(listing));
                }
                // List all users, and start the changes from now.
                None
            }
            Some(cursor) => cursor.into_delta_link(self.clock.now()),
            None => None,
        };
        let listing = self.list_all(delta_link, digest, sink).await?;
        Ok(Fetched::New(listing))
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        if path_segment(id).is_none() {
            return Ok(Lookup::unclear("it is not an object id of Entra ID"));
        }
        match self.fetch_user(id).await {
            Err(error) if error.status() == Some(StatusCode::FORBIDDEN) => {
                let reason = "403 for its id; the application may not read it";
                Ok(Lookup::unclear(reason))
            }
            Err(error) => Err(error),
            Ok(Some(user)) => Ok(Lookup::found(user.into_person())),
            Ok(None) => self.look_up_deleted(id).await,
        }
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        self.ensure_can_view_users().await?;
        let mut report = CheckReport::from(format!("Microsoft Entra ID, tenant {}", self.tenant));
        let what = "read users and whether they are enabled";
        report.rights.push(Right::granted(what));
        if !self.allowed_groups.is_empty() {
            let allowed_groups = groups::fetch(&self.graph, &self.allowed_groups).await?;
            let mut groups = Vec::new();
            for group in allowed_groups.groups {
                groups.push(format!("{} ({})", group.name, group.members));
            }
            let what = format!("read who is in the allowed groups: {}", groups.join(", "));
            report.rights.push(Right::granted(&what));
        }
        match self.check_recycle_bin().await? {
            Some(right) => report.rights.push(right),
            None => report.summary += ", without a list of deleted users",
        }
        let started = changes::start_delta(&self.graph, self.clock.now()).await?;
        if started.is_none() {
            report.summary += ", which offers no changes: all users are listed each time";
        }
        Ok(report)
    }
}

fn explain(error: Error, what: &str) -> Error {
    explain_refusal(error, what, PERMISSION)
}
