//! The directory `scim`: an identity provider with SCIM 2.0 (RFC 7643, RFC 7644; RFC 9865 for cursors).
//! lapsed only reads.

mod api;
mod groups;
mod resources;

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::{
    Common, Directory, Extent, Lookup, MAX_ADDRESS_QUERIES, PeopleListing, PeopleQuery, PersonSink,
    eq_filter,
};
use crate::domain::{Address, Person};
use crate::upstream::http::Client;
use crate::upstream::{CheckReport, Error, Fetched, Right};
use api::{
    Api, ListQuery, Provider, READ_ADVICE, explain_refusal, none_if_query_unsupported,
    resource_path,
};
use groups::{AllowedGroups, GroupReader};
use resources::{Flag, User};

const USERS: &str = "Users";
const EMAILS: &str = "emails.value";

const FIELDS: &str = "id,userName,active,emails,displayName,name";

const FIELDS_AND_GROUPS: &str = "id,userName,active,emails,displayName,name,groups";

/// How many members of a group a check looks up.
const CHECKED_MEMBERS: usize = 5;

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
        let web = Client::new(
            &self.url,
            self.ca_file.as_deref(),
            common.timeout,
            &common.proxies,
        )?;
        Ok(Scim {
            api: Api::new(web, &self.url, &self.token)?,
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

#[derive(Debug)]
pub struct Scim {
    api: Api,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for Scim {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let provider = self.api.fetch_provider().await?;
        let mut allowed = AllowedGroups::fetch(&self.api, provider, &self.allowed_groups).await?;
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
        match self.api.fetch::<User>(USERS, id).await {
            Ok(user) if user.id != id => {
                let reason = "it returned another user than the requested one";
                Err(self.api.invalid_response(&resource_path(USERS, id), reason))
            }
            Ok(user) => Ok(Lookup::found(user.to_person())),
            Err(error) => match error.status() {
                Some(StatusCode::NOT_FOUND) => Ok(Lookup::gone("404 for its id")),
                // Microsoft's own SCIM API answers 400 both to unknown ids and to bad requests.
                Some(StatusCode::BAD_REQUEST) => Ok(Lookup::unclear("400 for its id")),
                Some(StatusCode::FORBIDDEN) => Ok(Lookup::unclear("403 for its id")),
                _ => Err(explain_refusal(error, USERS)),
            },
        }
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let provider = self.api.fetch_provider().await?;
        let (mut rights, people) = self.people_rights(provider).await?;
        let mut reader = GroupReader::new(&self.api, provider);
        for name in &self.allowed_groups {
            rights.extend(self.group_rights(&mut reader, name).await?);
        }
        let pages = if provider.uses_cursors {
            "cursor"
        } else {
            "index"
        };
        let filters = if provider.supports_filters {
            "with"
        } else {
            "without"
        };
        let summary = format!("SCIM 2.0, {people}, pages by {pages}, {filters} filters");
        Ok(CheckReport {
            summary,
            rights,
            ..CheckReport::default()
        })
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
        if lacks_active || allowed.is_inconclusive() {
            return Ok(None);
        }
        Ok(Some(users))
    }

    /// Users with this mailbox or sign-in name; `None` if filters do not work. Both are asked for, because one
    /// person's sign-in name may be the mailbox of a second account.
    async fn find_by_address(
        &self,
        provider: Provider,
        address: &Address,
    ) -> Result<Option<Vec<User>>, Error> {
        let mut users = Vec::new();
        for attribute in ["userName", EMAILS] {
            let query = ListQuery {
                filter: Some(eq_filter(attribute, address.as_str())),
                ..users_query(Some(FIELDS))
            };
            let is_match = |user: &User| user.has_address(address);
            let found = match self.api.find(provider, query, is_match).await {
                // Some servers answer so to a filter that they do not support.
                Err(error)
                    if attribute == EMAILS
                        && error.status() == Some(StatusCode::INTERNAL_SERVER_ERROR) =>
                {
                    None
                }
                found => found?,
            };
            let Some(found) = found else {
                // Some servers filter by sign-in names only.
                return Ok((!users.is_empty()).then_some(users));
            };
            users.extend(found);
        }
        Ok(Some(users))
    }

    async fn collect_all(
        &self,
        provider: Provider,
        allowed: &mut AllowedGroups,
        sink: &mut PersonSink<'_>,
    ) -> Result<(), Error> {
        let fields = match allowed {
            AllowedGroups::FromUsers(_) => FIELDS_AND_GROUPS,
            _ => FIELDS,
        };
        let failed = |error| explain_refusal(error, USERS);
        let mut pages = self.api.list(provider, users_query(Some(fields)));
        let mut page = pages.next::<User>().await.map_err(failed)?;
        if pages.selects_fields()
            && let Some(users) = &page
            && users.iter().all(|user| user.active == Flag::Missing)
        {
            // The server may not support the selection of fields.
            pages = self.api.list(provider, users_query(None));
            page = pages.next().await.map_err(failed)?;
        }
        while let Some(users) = page {
            add_people(&users, allowed, sink);
            page = pages.next().await.map_err(failed)?;
        }
        Ok(())
    }

    /// What the first page of users shows, and a text such as `14 people`.
    async fn people_rights(&self, provider: Provider) -> Result<(Vec<Right>, String), Error> {
        let what = "list the people";
        let mut pages = self.api.list(provider, users_query(Some(FIELDS)));
        let page: Vec<User> = match pages.next().await {
            Ok(page) => page.unwrap_or_default(),
            Err(error) if error.status() == Some(StatusCode::FORBIDDEN) => {
                let people = "the list of people cannot be read".to_owned();
                return Ok((vec![Right::missing(what, READ_ADVICE)], people));
            }
            Err(error) => return Err(explain_refusal(error, USERS)),
        };
        let count = page.len();
        let people = match pages.total {
            Some(total) => format!("{total} people"),
            None if pages.is_done() => format!("{count} people"),
            None => format!("{count} or more people"),
        };
        if page.is_empty() {
            let fix = format!("the list is empty; {READ_ADVICE}");
            return Ok((vec![Right::missing(what, fix)], people));
        }
        let without = page
            .iter()
            .filter(|user| user.active.value().is_none())
            .count();
        let is_invalid = page.iter().any(|user| user.active == Flag::Invalid);
        let invalid = if is_invalid {
            " or with another value"
        } else {
            ""
        };
        let fix = format!(
            "{without} of {count} users come without `active`{invalid}; have the identity provider send it as true or false"
        );
        let active = Right::new("see who is active", without == 0, fix);
        Ok((vec![Right::granted(what), active], people))
    }

    /// Whether an allowed group exists, and its members are users.
    async fn group_rights(
        &self,
        reader: &mut GroupReader<'_>,
        name: &str,
    ) -> Result<Vec<Right>, Error> {
        let see_group = format!("see the group {name:?}");
        let result = match reader.find_group(name).await {
            Ok(Some(id)) => reader.fetch_members(name, &id).await,
            Ok(None) => {
                let fix = "the server has no list of groups, so only the `groups` of users show membership";
                return Ok(vec![Right::missing(&see_group, fix)]);
            }
            Err(error) => Err(error),
        };
        let members = match result {
            Ok(members) => members,
            Err(Error::Rights { what, fix }) => {
                return Ok(vec![Right::missing(&see_group, format!("{what}; {fix}"))]);
            }
            Err(error) => return Err(error),
        };
        let mut any_is_user = false;
        for member in members.keys().take(CHECKED_MEMBERS) {
            any_is_user |= self.is_user(member).await?;
        }
        let problem = if members.is_empty() {
            "it is empty"
        } else {
            "none of the checked members is a user"
        };
        let fix = format!("{problem}; add the people to the group, or {READ_ADVICE}");
        let identify_members = format!("identify the {} members of {name:?}", members.len());
        Ok(vec![
            Right::granted(&see_group),
            Right::new(&identify_members, any_is_user, fix),
        ])
    }

    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        let user = self.api.fetch::<User>(USERS, name).await;
        Ok(none_if_query_unsupported(user, USERS)?.is_some_and(|user| {
            let user_name = user.user_name.as_deref().unwrap_or_default();
            user.id == name || user_name.eq_ignore_ascii_case(name)
        }))
    }
}

fn users_query(attributes: Option<&'static str>) -> ListQuery {
    ListQuery {
        path: USERS,
        attributes,
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
