//! The directory `scim`: an identity provider with SCIM 2.0 (RFC 7643, RFC 7644; RFC 9865 for cursors).
//! lapsed only reads.

mod check;
mod groups;
mod pager;
mod person;
mod responses;
mod session;

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::{Common, Directory, Extent, Lookup, PeopleListing, PeopleQuery, PersonSink};
use crate::domain::{Address, Person};
use crate::upstream::http::Client;
use crate::upstream::{CheckReport, Error, Fetched};
use groups::AllowedGroups;
use pager::{ListQuery, Pager};
use responses::{Flag, User};
use session::{Provider, Session, eq_filter, explain_refusal, resource_path};

const USERS: &str = "Users";

const FIELDS: &str = "id,userName,active,emails,displayName,name";

const FIELDS_AND_GROUPS: &str = "id,userName,active,emails,displayName,name,groups";

/// For up to this many people there is one query each; for more, all users are listed.
const MAX_ADDRESS_QUERIES: usize = 50;

/// `[[directory]] kind = "scim"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The base of `/Users`, up to the version: `https://idp.example.org/scim/v2`.
    pub url: Url,
    /// A bearer token with read access.
    pub token: SecretString,
    /// Authorities to trust instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// # Errors
    /// When the CA file cannot be read, or the token does not fit into a header.
    pub fn build(&self, common: &Common) -> Result<Scim, Error> {
        let web = Client::new(&self.url, self.ca_file.as_deref(), common.timeout)?;
        Ok(Scim {
            session: Session::new(web, &self.url, &self.token)?,
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

#[derive(Debug)]
pub struct Scim {
    session: Session,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for Scim {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let provider = self.session.fetch_provider().await?;
        let mut allowed =
            AllowedGroups::fetch(&self.session, provider, &self.allowed_groups).await?;
        let users = self
            .collect_by_address(provider, &mut allowed, query.people)
            .await?;
        let extent = if let Some(users) = users {
            add_people(&users, &mut allowed, sink);
            Extent::Requested
        } else {
            self.collect_all(provider, &mut allowed, sink).await?;
            Extent::Everybody
        };
        Ok(Fetched::New(PeopleListing {
            extent,
            groups: allowed.finish()?,
            ..PeopleListing::default()
        }))
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        let unclear = |why: &str| Ok(Lookup::Unclear(why.to_owned()));
        match self.session.fetch::<User>(USERS, id).await {
            Ok(user) if user.id != id => {
                let path = resource_path(USERS, id);
                Err(self
                    .session
                    .invalid_response(&path, "it returned another user than the requested one"))
            }
            Ok(user) => Ok(Lookup::Found(Box::new(user.to_person()))),
            Err(error) => match error.status() {
                Some(StatusCode::NOT_FOUND) => Ok(Lookup::Gone {
                    evidence: "404 for its id".to_owned(),
                    is_certain: false,
                }),
                // Microsoft's own SCIM API answers 400 both to unknown ids and to bad requests.
                Some(StatusCode::BAD_REQUEST) => unclear("400 for its id"),
                Some(StatusCode::FORBIDDEN) => unclear("403 for its id"),
                _ => Err(explain_refusal(error, USERS)),
            },
        }
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        check::check(&self.session, &self.allowed_groups).await
    }
}

impl Scim {
    /// Looks up each person by a filter; `None` if all users must be listed instead, because there are too
    /// many people or the server's filters do not work.
    async fn collect_by_address(
        &self,
        provider: Provider,
        allowed: &mut AllowedGroups,
        people: &[Address],
    ) -> Result<Option<Vec<User>>, Error> {
        let is_few = (1..=MAX_ADDRESS_QUERIES).contains(&people.len());
        if !is_few || !provider.supports_filters || matches!(allowed, AllowedGroups::FromUsers(_)) {
            return Ok(None);
        }
        let mut users: Vec<User> = Vec::new();
        for address in people {
            let Some(found) = self.find_by_address(provider, address).await? else {
                return Ok(None);
            };
            for user in found {
                if users.iter().all(|known| known.id != user.id) {
                    users.push(user);
                }
            }
        }
        if users.is_empty() {
            // A filter that never matches proves less than a full list.
            return Ok(None);
        }
        let lacks_active = users.iter().any(|user| user.active == Flag::Missing);
        for user in &users {
            allowed.count_member(user);
        }
        Ok((!lacks_active && !allowed.is_inconclusive()).then_some(users))
    }

    /// Users with this mailbox or sign-in name; `None` if filters do not work. Both are asked for, because one
    /// person's sign-in name may be the mailbox of a second account.
    async fn find_by_address(
        &self,
        provider: Provider,
        address: &Address,
    ) -> Result<Option<Vec<User>>, Error> {
        let mut users = Vec::new();
        for attribute in ["userName", "emails.value"] {
            let filter = eq_filter(attribute, address.as_str());
            let is_match = |user: &User| user.has_address(address);
            let Some(found) = self.find_by_filter(provider, filter, is_match).await? else {
                return Ok(None);
            };
            users.extend(found);
        }
        Ok(Some(users))
    }

    /// Users that match a filter; `None` if the server does not support the filter or, as some do, ignores it
    /// and returns other users.
    async fn find_by_filter(
        &self,
        provider: Provider,
        filter: String,
        is_match: impl Fn(&User) -> bool,
    ) -> Result<Option<Vec<User>>, Error> {
        let query = ListQuery {
            path: USERS,
            attributes: Some(FIELDS),
            filter: Some(filter),
        };
        let mut pager = Pager::new(&self.session, provider, query);
        let mut users = Vec::new();
        loop {
            match pager.next_page::<User>().await {
                Ok(None) => return Ok(Some(users)),
                Ok(Some(page)) if page.iter().all(&is_match) => users.extend(page),
                Ok(Some(_)) => return Ok(None),
                Err(fault) if fault.means_query_unsupported() => return Ok(None),
                Err(fault) => return Err(fault.into_error(USERS)),
            }
        }
    }

    async fn collect_all(
        &self,
        provider: Provider,
        allowed: &mut AllowedGroups,
        sink: &mut PersonSink<'_>,
    ) -> Result<(), Error> {
        let failed = |fault: pager::Fault| fault.into_error(USERS);
        let mut pager = users_pager(
            &self.session,
            provider,
            matches!(allowed, AllowedGroups::FromUsers(_)),
        );
        let mut page = pager.next_page::<User>().await.map_err(failed)?;
        let lack_active = |users: &Vec<User>| users.iter().all(|user| user.active == Flag::Missing);
        if pager.selects_fields() && page.as_ref().is_some_and(lack_active) {
            // The server may not support the selection of fields.
            pager = Pager::new(&self.session, provider, all_users_query());
            page = pager.next_page().await.map_err(failed)?;
        }
        while let Some(users) = page {
            add_people(&users, allowed, sink);
            page = pager.next_page().await.map_err(failed)?;
        }
        Ok(())
    }
}

fn users_pager(session: &Session, provider: Provider, with_groups: bool) -> Pager<'_> {
    let fields = if with_groups {
        FIELDS_AND_GROUPS
    } else {
        FIELDS
    };
    let query = ListQuery {
        attributes: Some(fields),
        ..all_users_query()
    };
    Pager::new(session, provider, query)
}

fn all_users_query() -> ListQuery {
    ListQuery {
        path: USERS,
        attributes: None,
        filter: None,
    }
}

fn add_people(users: &[User], allowed: &mut AllowedGroups, sink: &mut PersonSink<'_>) {
    for user in users {
        let is_member = allowed.count_member(user);
        let person = user.to_person();
        if person.main.is_some() {
            sink(Person {
                is_member,
                ..person
            });
        }
    }
}
