//! The allowed groups and their members.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde::Deserialize;

use super::api::{Api, is_query_unsupported};
use crate::directories::account::{AllowedGroups, GroupMembers, id_key};
use crate::directories::eq_filter;
use crate::directories::json::{self, Records};
use crate::upstream::Error;
use crate::upstream::pager::Identified;

const GROUPS: &str = "api/v1/groups";

/// The length of Okta's ids.
const ID_LENGTH: usize = 20;

#[derive(Deserialize)]
struct Group {
    #[serde(deserialize_with = "json::required_text")]
    id: String,
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    #[serde(deserialize_with = "json::required_text")]
    name: String,
}

#[derive(Deserialize)]
struct Member {
    #[serde(deserialize_with = "json::required_text")]
    id: String,
}

impl Identified for Group {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for Member {
    fn id(&self) -> &str {
        &self.id
    }
}

/// # Errors
/// When a group does not exist, or its members cannot be read completely.
pub(super) async fn fetch(api: &Api, names: &[String]) -> Result<AllowedGroups, Error> {
    let mut allowed_groups = AllowedGroups::default();
    for name in names {
        let id = find_group(api, name).await?;
        let mut members = GroupMembers::default();
        let add_members = |page: Records<Member>| {
            members.without_id += page.without_id;
            let ids = page.items.iter().map(|member| id_key(&member.id));
            members.ids.extend(ids);
            true
        };
        api.for_each_page(&format!("{GROUPS}/{id}/users"), &[], add_members)
            .await?;
        allowed_groups.add(name, members);
    }
    Ok(allowed_groups)
}

/// The id of the group with this id or this exact name.
///
/// # Errors
/// When there is no such group, or more than one.
pub(super) async fn find_group(api: &Api, name: &str) -> Result<String, Error> {
    if name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        match api.fetch::<Group>(&format!("{GROUPS}/{name}")).await {
            Ok(group) if group.id == name => return Ok(group.id),
            Ok(_) => {}
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND)
                    || is_query_unsupported(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let filter = eq_filter("profile.name", name);
    let mut found = match search_groups(api, &[("search", &filter)], name).await? {
        Some(found) => found,
        // `q` finds groups by the beginning of the name.
        None => match search_groups(api, &[("q", name)], name).await {
            Ok(found) => found.unwrap_or_default(),
            // `q` has no further pages, and may not report that there are more.
            Err(Error::Content { .. }) => BTreeSet::new(),
            Err(error) => return Err(error),
        },
    };
    if found.is_empty() {
        found = search_groups(api, &[], name).await?.unwrap_or_default();
    }
    match (found.pop_first(), found.len()) {
        (Some(id), 0) => Ok(id),
        (None, _) => Err(Error::rights(
            format!("Okta knows no group {name:?}"),
            "correct allowed_groups: a group's whole name, or its id",
        )),
        (Some(_), _) => Err(Error::rights(
            format!("Okta knows several groups {name:?}"),
            "write the group's id in allowed_groups: it is in the address of its page",
        )),
    }
}

/// The ids of groups with this exact name or id among those that a query returns; `None` if the query is
/// refused.
async fn search_groups(
    api: &Api,
    query: &[(&str, &str)],
    name: &str,
) -> Result<Option<BTreeSet<String>>, Error> {
    let mut found = BTreeSet::new();
    let add_matches = |page: Records<Group>| {
        // Queries ignore case.
        let is_match = |group: &Group| group.profile.name == name || group.id == name;
        let matching = page.items.into_iter().filter(is_match);
        found.extend(matching.map(|group| group.id));
        true
    };
    let is_complete = api.for_each_page(GROUPS, query, add_matches).await?;
    Ok(is_complete.then_some(found))
}
