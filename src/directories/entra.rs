//! Microsoft Entra ID: the users of one tenant, by Microsoft Graph v1.0.
//!
//! The first listing has all users. If there are no allowed groups, later ones ask for changes and look up
//! the changed users by id. Graph silently leaves out what the application has no permission for, so a
//! missing field or user is never evidence of lost access.

mod changes;
mod groups;
mod responses;
mod session;
mod sign_in;

use std::path::PathBuf;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::collector::{AllowedGroups, PersonCollector};
use super::id::{id_key, path_segment};
use super::{Common, Directory, Extent, Lookup, PeopleListing, PeopleQuery, PersonSink};
#[cfg(feature = "test-support")]
use crate::clock::Clock;
use crate::sources::{CheckReport, Error, Fetched, Right};
use crate::upstream::http::Client;
use changes::{Cursor, DeltaLink};
use responses::{Item, Page, SELECT, User};
use session::{Session, Start, explain_refusal, has_status, permission_advice};
use sign_in::SignIn;

/// Needed to read users with `accountEnabled`, and deleted users.
const PERMISSION: &str = "User.Read.All";

/// Responses if the recycle bin cannot be read: no permission, or a gateway without one.
const RECYCLE_BIN_UNAVAILABLE: [StatusCode; 4] = [
    StatusCode::FORBIDDEN,
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

/// `[[directory]] kind = "entra"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The id of the tenant, or one of its domains.
    pub tenant: String,
    /// The id of the app registration.
    pub client_id: String,
    pub credential: Credential,
    pub cloud: Cloud,
    /// A gateway in place of both hosts of the cloud.
    pub url: Option<Url>,
}

#[derive(Debug, Clone)]
pub enum Credential {
    Secret(SecretString),
    /// A PEM file with a private RSA key and the registered certificate.
    Certificate(PathBuf),
}

/// Microsoft's clouds, each with its own hosts
/// (<https://learn.microsoft.com/graph/deployments>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    #[default]
    Global,
    /// US Government L4.
    Us,
    /// US Government L5 (`DoD`).
    UsDod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// As written in the configuration.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("global", Self::Global),
        ("us", Self::Us),
        ("us-dod", Self::UsDod),
        ("china", Self::China),
    ];

    fn login_url(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::Us | Self::UsDod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    fn graph_url(self) -> &'static str {
        match self {
            Self::Global => "https://graph.microsoft.com",
            Self::Us => "https://graph.microsoft.us",
            Self::UsDod => "https://dod-graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

impl Config {
    /// # Errors
    /// When the certificate cannot be read or used.
    pub fn build(&self, common: &Common) -> Result<Entra, Error> {
        let base_url = |place: &str| {
            let url = match &self.url {
                Some(url) => Ok(url.clone()),
                None => place.parse::<Url>(),
            };
            url.map_err(|error| Error::Content {
                place: place.to_owned(),
                reason: error.to_string(),
            })
        };
        let login = Client::new(&base_url(self.cloud.login_url())?, None, common.timeout)?;
        let mut graph = base_url(self.cloud.graph_url())?;
        graph.set_path(&format!("{}/v1.0", graph.path().trim_end_matches('/')));
        Ok(Entra {
            session: Session {
                web: Client::new(&graph, None, common.timeout)?,
                sign_in: SignIn::new(self, login)?,
            },
            tenant: self.tenant.clone(),
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

#[derive(Debug)]
pub struct Entra {
    session: Session,
    tenant: String,
    allowed_groups: Vec<String>,
}

impl Entra {
    #[cfg(feature = "test-support")]
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.session.sign_in.clock = clock;
        self
    }

    async fn collect_all(&self, sink: &mut PersonSink<'_>) -> Result<AllowedGroups, Error> {
        let allowed_groups = groups::fetch(&self.session, &self.allowed_groups).await?;
        let mut collector = PersonCollector::new(&allowed_groups, sink);
        let mut has_status = false;
        let take = |user: User| {
            has_status |= user.account_enabled.is_some();
            collector.add(user.into_person());
        };
        let query = [("$select", SELECT), ("$top", "999")];
        let list = self
            .session
            .for_each_item(Start::Path("users", &query), take)
            .await;
        list.map_err(|error| explain_refusal(error, "list users", PERMISSION))?;
        if !has_status {
            return Err(Error::Rights {
                what: if collector.count() == 0 {
                    "Graph lists no users, but every tenant has some".to_owned()
                } else {
                    "Graph lists users, but none of them has accountEnabled".to_owned()
                },
                fix: permission_advice(PERMISSION),
            });
        }
        Ok(allowed_groups)
    }

    /// Lists all users, and returns a cursor for later changes.
    async fn list_all(
        &self,
        delta_link: Option<DeltaLink>,
        query_digest: String,
        sink: &mut PersonSink<'_>,
    ) -> Result<PeopleListing, Error> {
        let now = self.now();
        // Changes of users do not show changes of group memberships.
        let delta_link = if !self.allowed_groups.is_empty() {
            None
        } else if delta_link.is_some() {
            delta_link
        } else {
            let started = changes::start_delta(&self.session, now).await;
            started.map_err(|error| explain_refusal(error, "ask for changes", PERMISSION))?
        };
        let allowed_groups = self.collect_all(sink).await?;
        let cursor =
            delta_link.and_then(|delta_link| Cursor::new(delta_link, now, query_digest).to_text());
        Ok(PeopleListing {
            extent: Extent::Everybody,
            groups: allowed_groups.groups,
            cursor,
            ..PeopleListing::default()
        })
    }

    /// Lists changed users; `None` if all users must be listed instead.
    async fn list_changes(
        &self,
        cursor: Cursor,
        sink: &mut PersonSink<'_>,
    ) -> Result<Option<PeopleListing>, Error> {
        let changes = changes::fetch_changes(&self.session, cursor.link()).await;
        let changes =
            changes.map_err(|error| explain_refusal(error, "ask for changes", PERMISSION))?;
        let Some(changes) = changes else {
            return Ok(None);
        };
        let (mut people, mut removed) = (Vec::new(), changes.removed);
        for (id, enabled) in changes.changed {
            let user = self.fetch_user(&id).await;
            match user.map_err(|error| explain_refusal(error, "read a user", PERMISSION))? {
                Some(user) if enabled.is_some() && user.account_enabled != enabled => {
                    return Ok(None);
                }
                Some(user) => people.push(user.into_person()),
                None => removed.push(id),
            }
        }
        people.retain(|person| person.main.is_some());
        people.into_iter().for_each(sink);
        let mut cursor = cursor.advance_to(changes.link);
        if !removed.is_empty() {
            // The look-ups may reach a server that does not know of the removal yet.
            cursor = cursor.restart_overlap(self.now());
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
        let start = Start::Path(&path, &[("$select", SELECT)]);
        match self.session.fetch::<User>(start).await {
            Ok(user) if user.id_key() == id_key(id) => Ok(Some(user)),
            Ok(_) => Err(Error::Content {
                place: "Microsoft Graph".to_owned(),
                reason: "a request for a user by id returned another user".to_owned(),
            }),
            Err(error) if has_status(&error, &[StatusCode::NOT_FOUND]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks for a missing user in the recycle bin.
    async fn look_up_deleted(&self, id: &str) -> Result<Lookup, Error> {
        let path = format!(
            "directory/deletedItems/{}",
            path_segment(id).unwrap_or_default()
        );
        let start = Start::Path(&path, &[("$select", "id")]);
        let gone = |evidence: &str, is_certain| Lookup::Gone {
            evidence: evidence.to_owned(),
            is_certain,
        };
        match self.session.fetch::<Item>(start).await {
            Ok(item) if item.id_key() == id_key(id) => Ok(gone("it is in the deleted items", true)),
            Ok(_) => Ok(gone("404 for its id", false)),
            Err(error) if has_status(&error, &[StatusCode::NOT_FOUND]) => {
                Ok(gone("404 for its id, and not in the deleted items", false))
            }
            Err(error) if has_status(&error, &RECYCLE_BIN_UNAVAILABLE) => Ok(gone(
                "404 for its id; the deleted items cannot be read",
                false,
            )),
            Err(error) => Err(error),
        }
    }

    /// Fails unless users can be read with `accountEnabled`.
    async fn ensure_can_view_users(&self) -> Result<(), Error> {
        let query = [("$select", "id,accountEnabled"), ("$top", "1")];
        let page = self.session.fetch(Start::Path("users", &query)).await;
        let page: Page<User> =
            page.map_err(|error| explain_refusal(error, "list users", PERMISSION))?;
        if page.value.iter().any(|user| user.account_enabled.is_some()) {
            return Ok(());
        }
        Err(Error::Rights {
            what: "Graph does not show the application accountEnabled of users".to_owned(),
            fix: permission_advice(PERMISSION),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        self.session.sign_in.clock.now()
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
        let cursor = query.cursor.filter(|_| self.allowed_groups.is_empty());
        let cursor = cursor.and_then(|text| Cursor::parse(text, &self.session));
        let delta_link = match cursor {
            Some(cursor) if cursor.is_usable(self.now(), &digest) => {
                if let Some(listing) = self.list_changes(cursor, sink).await? {
                    return Ok(Fetched::New(listing));
                }
                // List all users, and start the changes from now.
                None
            }
            Some(cursor) => cursor.into_delta_link(self.now()),
            None => None,
        };
        let listing = self.list_all(delta_link, digest, sink).await?;
        Ok(Fetched::New(listing))
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        if path_segment(id).is_none() {
            return Ok(Lookup::Unclear(
                "it is not an object id of Entra ID".to_owned(),
            ));
        }
        let user = match self.fetch_user(id).await {
            Err(error) if has_status(&error, &[StatusCode::FORBIDDEN]) => {
                let reason = "403 for its id; the application may not read it";
                return Ok(Lookup::Unclear(reason.to_owned()));
            }
            user => user?,
        };
        match user {
            Some(user) => Ok(Lookup::Found(Box::new(user.into_person()))),
            None => self.look_up_deleted(id).await,
        }
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        self.ensure_can_view_users().await?;
        let mut rights = vec![Right {
            what: "read users and whether they are enabled".to_owned(),
            missing: None,
        }];
        if !self.allowed_groups.is_empty() {
            let allowed_groups = groups::fetch(&self.session, &self.allowed_groups).await?;
            let counts = allowed_groups.groups.iter();
            let counts = counts.map(|group| format!("{} ({})", group.name, group.members));
            let counts = counts.collect::<Vec<_>>().join(", ");
            rights.push(Right {
                what: format!("read who is in the allowed groups: {counts}"),
                missing: None,
            });
        }
        let path = "directory/deletedItems/microsoft.graph.user";
        let query = [("$select", "id"), ("$top", "1")];
        let deleted = self
            .session
            .fetch::<Page<Item>>(Start::Path(path, &query))
            .await;
        let mut summary = format!("Microsoft Entra ID, tenant {}", self.tenant);
        let missing = match deleted {
            Ok(_) => Some(None),
            Err(error) if has_status(&error, &[StatusCode::FORBIDDEN]) => {
                Some(Some(permission_advice(PERMISSION)))
            }
            Err(error)
                if has_status(&error, &RECYCLE_BIN_UNAVAILABLE)
                    || has_status(&error, &[StatusCode::NOT_FOUND]) =>
            {
                summary.push_str(", without a list of deleted users");
                None
            }
            Err(error) => return Err(error),
        };
        rights.extend(missing.map(|missing| Right {
            what: "read the deleted users".to_owned(),
            missing,
        }));
        if changes::start_delta(&self.session, self.now())
            .await?
            .is_none()
        {
            summary.push_str(", which offers no changes: all users are listed each time");
        }
        Ok(CheckReport { summary, rights })
    }
}
