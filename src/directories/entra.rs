//! Microsoft Entra ID: the users of one tenant, by Microsoft Graph v1.0.
//!
//! Everybody is listed; where there are no allowed groups, later pulls ask for what changed since, and
//! look those up one by one. An access token shows the program as much as it has permissions for, and
//! leaves out the rest without a word, so what is missing is never taken for a "no".

mod answers;
mod changes;
mod graph;
mod groups;
mod sign_in;

use std::collections::HashSet;
use std::path::PathBuf;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::id::{key, segment};
use super::{Asked, Common, Directory, Extent, LookedUp, Pulled, Tell};
use crate::clock::Clock;
use crate::sources::{Checked, Error, Fetched, Right};
use crate::web::Web;
use answers::{Item, Page, SELECT, User};
use changes::{Cursor, Trail};
use graph::{Graph, Start, answered, permit, refused};
use groups::Members;
use sign_in::SignIn;

/// What it takes to read users with `accountEnabled`, and the deleted ones.
const PERMISSION: &str = "User.Read.All";

/// What is answered where there is no recycle bin to look into: no permission for it, or a gateway that
/// does not know it.
const NO_BIN: [StatusCode; 4] = [
    StatusCode::FORBIDDEN,
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

/// `[[directory]] kind = "entra"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Id of the tenant, or one of its domains.
    pub tenant: String,
    /// The program as it is registered there.
    pub client_id: String,
    /// By what it shows who it is.
    pub credential: Credential,
    /// Where the tenant is.
    pub cloud: Cloud,
    /// A gateway that stands for both hosts of the cloud.
    pub url: Option<Url>,
}

/// By what a program shows who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client secret.
    Secret(SecretString),
    /// A PEM file with a private RSA key and the certificate that is registered.
    Certificate(PathBuf),
}

/// The clouds of Microsoft, each with hosts of its own
/// (<https://learn.microsoft.com/graph/deployments>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// Everybody's.
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
    /// The words for them in the configuration.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("global", Self::Global),
        ("us", Self::Us),
        ("us-dod", Self::UsDod),
        ("china", Self::China),
    ];

    fn login(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::Us | Self::UsDod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    fn graph(self) -> &'static str {
        match self {
            Self::Global => "https://graph.microsoft.com",
            Self::Us => "https://graph.microsoft.us",
            Self::UsDod => "https://dod-graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

impl Config {
    /// The directory.
    ///
    /// # Errors
    /// When the certificate cannot be read, or does not do.
    pub fn build(&self, common: &Common) -> Result<Entra, Error> {
        let at = |place: &str| {
            let url = match &self.url {
                Some(url) => Ok(url.clone()),
                None => place.parse::<Url>(),
            };
            url.map_err(|error| Error::Content {
                place: place.to_owned(),
                reason: error.to_string(),
            })
        };
        let login = Web::new(&at(self.cloud.login())?, None, common.timeout)?;
        let mut graph = at(self.cloud.graph())?;
        graph.set_path(&format!("{}/v1.0", graph.path().trim_end_matches('/')));
        Ok(Entra {
            graph: Graph {
                web: Web::new(&graph, None, common.timeout)?,
                sign_in: SignIn::new(self, login)?,
            },
            tenant: self.tenant.clone(),
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

/// The users of a tenant.
#[derive(Debug)]
pub struct Entra {
    graph: Graph,
    tenant: String,
    allowed_groups: Vec<String>,
}

impl Entra {
    /// The same at another time, for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.graph.sign_in.clock = clock;
        self
    }

    /// Everybody, and whether they are in an allowed group.
    async fn everybody(&self, tell: &mut Tell<'_>) -> Result<Members, Error> {
        let members = Members::read(&self.graph, &self.allowed_groups).await?;
        let (mut listed, mut lacking) = (HashSet::new(), 0);
        let take = |user: User| {
            // Pages are no snapshot: somebody may come twice.
            if !listed.insert(user.key()) {
                return;
            }
            lacking += usize::from(user.account_enabled.is_none());
            let is_member = members.is_member(user.key());
            if let Some(person) = user.person(is_member) {
                tell(person);
            }
        };
        let query = [("$select", SELECT), ("$top", "999")];
        let list = self.graph.list(Start::Path("users", &query), take).await;
        list.map_err(|error| refused(error, "list users", PERMISSION))?;
        if lacking == listed.len() {
            return Err(Error::Rights {
                what: if listed.is_empty() {
                    "Graph lists nobody, which no tenant can be".to_owned()
                } else {
                    "Graph lists users and says accountEnabled of none of them".to_owned()
                },
                mend: permit(PERMISSION),
            });
        }
        Ok(members)
    }

    /// Everybody, and where changes may be asked for later.
    async fn pull_everybody(
        &self,
        trail: Option<Trail>,
        asked: String,
        tell: &mut Tell<'_>,
    ) -> Result<Pulled, Error> {
        let now = self.now();
        // Who is in a group, no user's change tells.
        let trail = if !self.allowed_groups.is_empty() {
            None
        } else if trail.is_some() {
            trail
        } else {
            let begun = changes::begin(&self.graph, now).await;
            begun.map_err(|error| refused(error, "ask for changes", PERMISSION))?
        };
        let members = self.everybody(tell).await?;
        let cursor = trail.and_then(|trail| Cursor::new(trail, now, asked).write());
        Ok(Pulled {
            extent: Extent::Everybody,
            groups: members.groups,
            cursor,
            ..Pulled::default()
        })
    }

    /// Those about whom something changed; `None` if everybody must be listed to know.
    async fn pull_changes(
        &self,
        cursor: Cursor,
        tell: &mut Tell<'_>,
    ) -> Result<Option<Pulled>, Error> {
        let round = changes::round(&self.graph, cursor.link()).await;
        let round = round.map_err(|error| refused(error, "ask for changes", PERMISSION))?;
        let Some(round) = round else {
            return Ok(None);
        };
        let (mut people, mut removed) = (Vec::new(), round.removed);
        for (id, said) in round.changed {
            let user = self.user(&id).await;
            match user.map_err(|error| refused(error, "read a user", PERMISSION))? {
                Some(user) if said.is_some() && user.account_enabled != said => return Ok(None),
                Some(user) => people.extend(user.person(None)),
                None => removed.push(id),
            }
        }
        people.into_iter().for_each(tell);
        let mut cursor = cursor.moved_on(round.link);
        if !removed.is_empty() {
            // Whoever looks them up may ask a server that has not heard of it.
            cursor = cursor.doubted(self.now());
        }
        Ok(Some(Pulled {
            extent: Extent::Changes,
            removed,
            cursor: cursor.write(),
            ..Pulled::default()
        }))
    }

    /// The user of this id; `None` where there is none.
    async fn user(&self, id: &str) -> Result<Option<User>, Error> {
        let path = format!("users/{}", segment(id).unwrap_or_default());
        let start = Start::Path(&path, &[("$select", SELECT)]);
        match self.graph.get::<User>(start).await {
            Ok(user) if user.key() == key(id) => Ok(Some(user)),
            Ok(_) => Err(Error::Content {
                place: "Microsoft Graph".to_owned(),
                reason: "asked for a user by id, it answers with another".to_owned(),
            }),
            Err(error) if answered(&error, &[StatusCode::NOT_FOUND]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the recycle bin says of somebody whom Graph does not find.
    async fn deleted(&self, id: &str) -> Result<LookedUp, Error> {
        let path = format!("directory/deletedItems/{}", segment(id).unwrap_or_default());
        let start = Start::Path(&path, &[("$select", "id")]);
        let gone = |evidence: &str, is_certain| LookedUp::Gone {
            evidence: evidence.to_owned(),
            is_certain,
        };
        match self.graph.get::<Item>(start).await {
            Ok(item) if item.key() == key(id) => Ok(gone("it is among the deleted items", true)),
            Ok(_) => Ok(gone("404 for its id", false)),
            Err(error) if answered(&error, &[StatusCode::NOT_FOUND]) => Ok(gone(
                "404 for its id, and not among the deleted items",
                false,
            )),
            Err(error) if answered(&error, &NO_BIN) => Ok(gone(
                "404 for its id; the deleted items may not be read",
                false,
            )),
            Err(error) => Err(error),
        }
    }

    /// Whether users can be read with what tells of their access.
    async fn can_read_users(&self) -> Result<(), Error> {
        let query = [("$select", "id,accountEnabled"), ("$top", "1")];
        let page = self.graph.get(Start::Path("users", &query)).await;
        let page: Page<User> = page.map_err(|error| refused(error, "list users", PERMISSION))?;
        let tells = |user: &User| user.account_enabled.is_some();
        if page.value.iter().any(tells) {
            return Ok(());
        }
        Err(Error::Rights {
            what: "Graph does not tell the program accountEnabled of users".to_owned(),
            mend: permit(PERMISSION),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        self.graph.sign_in.clock.now()
    }
}

#[async_trait]
impl Directory for Entra {
    async fn pull(&self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error> {
        let digest = changes::digest(&self.tenant, asked.people);
        let cursor = asked.cursor.filter(|_| self.allowed_groups.is_empty());
        let cursor = cursor.and_then(|text| Cursor::read(text, &self.graph));
        let trail = match cursor {
            Some(cursor) if cursor.serves(self.now(), &digest) => {
                if let Some(pulled) = self.pull_changes(cursor, tell).await? {
                    return Ok(Fetched::New(pulled));
                }
                // In doubt, changes are told from now on.
                None
            }
            Some(cursor) => cursor.into_trail(self.now()),
            None => None,
        };
        let pulled = self.pull_everybody(trail, digest, tell).await?;
        Ok(Fetched::New(pulled))
    }

    async fn look_up(&self, id: &str) -> Result<LookedUp, Error> {
        if segment(id).is_none() {
            return Ok(LookedUp::Unclear(
                "it is no object id of Entra ID".to_owned(),
            ));
        }
        let user = match self.user(id).await {
            Err(error) if answered(&error, &[StatusCode::FORBIDDEN]) => {
                let why = "403 for its id; the program may not read it";
                return Ok(LookedUp::Unclear(why.to_owned()));
            }
            user => user?,
        };
        match user {
            Some(user) => Ok(LookedUp::Found(Box::new(user.account(None)))),
            None => self.deleted(id).await,
        }
    }

    async fn check(&self) -> Result<Checked, Error> {
        self.can_read_users().await?;
        let mut rights = vec![Right {
            what: "read users and whether they are enabled".to_owned(),
            missing: None,
        }];
        if !self.allowed_groups.is_empty() {
            let members = Members::read(&self.graph, &self.allowed_groups).await?;
            let counts = members.groups.iter();
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
            .graph
            .get::<Page<Item>>(Start::Path(path, &query))
            .await;
        let mut summary = format!("Microsoft Entra ID, tenant {}", self.tenant);
        let missing = match deleted {
            Ok(_) => Some(None),
            Err(error) if answered(&error, &[StatusCode::FORBIDDEN]) => {
                Some(Some(permit(PERMISSION)))
            }
            Err(error)
                if answered(&error, &NO_BIN) || answered(&error, &[StatusCode::NOT_FOUND]) =>
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
        if changes::begin(&self.graph, self.now()).await?.is_none() {
            summary.push_str(", which tells no changes: everybody is listed each time");
        }
        Ok(Checked { summary, rights })
    }
}
