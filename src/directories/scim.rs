//! The directory `scim`: an identity provider with SCIM 2.0 (RFC 7643, RFC 7644; RFC 9865 for cursors).
//! lapsed only reads.

mod api;
mod collect;
mod groups;
mod memory;
mod pages;
mod resources;

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::json::Flag;
use super::{Common, Directory, Lookup, PeopleListing, PeopleQuery, PersonSink};
use crate::clock::Clock;
use crate::upstream::http::Client;
use crate::upstream::{CheckReport, Error, Fetched, Right};
use api::{
    Api, FIELDS, Provider, READ_ADVICE, USERS, explain_refusal, none_if_query_unsupported,
    resource_path, users_query,
};
use collect::Collector;
use groups::{AllowedGroups, GroupReader};
use pages::Pages;
use resources::User;
#[cfg(test)]
pub(super) use resources::read_people;

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
            clock: common.clock.clone(),
        })
    }
}

#[derive(Debug)]
pub struct Scim {
    api: Api,
    allowed_groups: Vec<String>,
    clock: Clock,
}

#[async_trait]
impl Directory for Scim {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let provider = self.api.fetch_provider().await?;
        let allowed = AllowedGroups::fetch(&self.api, provider, &self.allowed_groups).await?;
        let now = self.clock.now();
        let collector = Collector::new(&self.api, provider, allowed, query, now, sink);
        Ok(Fetched::New(collector.collect().await?))
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
    /// What the first page of users shows, and a text such as `14 people`.
    async fn people_rights(&self, provider: Provider) -> Result<(Vec<Right>, String), Error> {
        let what = "list the people";
        let mut pages = Pages::new(&self.api, provider, users_query(Some(FIELDS)));
        let page: Vec<User> = match pages.next().await {
            Ok(page) => page.unwrap_or_default(),
            Err(error) if error.status() == Some(StatusCode::FORBIDDEN) => {
                let people = "the list of people cannot be read".to_owned();
                return Ok((vec![Right::missing(what, READ_ADVICE)], people));
            }
            Err(error) => return Err(explain_refusal(error, USERS)),
        };
        let count = page.len();
        let mut people = match pages.total() {
            Some(total) => format!("{total} people"),
            None if pages.is_done() => format!("{count} people"),
            None => format!("{count} or more people"),
        };
        if pages.without_id() > 0 {
            people += &format!(" ({} without an id, who are left out)", pages.without_id());
        }
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
