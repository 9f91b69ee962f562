//! The allowed groups and their members.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde::Deserialize;

use super::find::eq_filter;
use super::session::{Session, explain_refusal, is_query_unsupported};
use crate::directories::collector::AllowedGroups;
use crate::directories::id::id_key;
use crate::sources::Error;

const GROUPS: &str = "api/v1/groups";

/// The length of Okta's ids.
const ID_LENGTH: usize = 20;

/// # Errors
/// When a group does not exist, or its members cannot be read completely.
pub(super) async fn fetch(session: &Session, names: &[String]) -> Result<AllowedGroups, Error> {
    let mut allowed_groups = AllowedGroups::default();
    for name in names {
        let id = find_group(session, name).await?;
        let mut pager = session.pager(&format!("{GROUPS}/{id}/users"), vec![]);
        let mut members = HashSet::new();
        while let Some(page) = pager.next_page::<Member>().await? {
            members.extend(page.into_iter().map(|member| id_key(&member.id)));
        }
        allowed_groups.add(name, members);
    }
    Ok(allowed_groups)
}

#[derive(Deserialize)]
struct GroupResponse {
    id: String,
    profile: Profile,
}

#[derive(Deserialize)]
struct Profile {
    name: String,
}

#[derive(Deserialize)]
struct Member {
    id: String,
}

/// The id of the group with this id or this exact name.
///
/// # Errors
/// When there is no such group, or more than one.
pub(super) async fn find_group(session: &Session, name: &str) -> Result<String, Error> {
    if name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        match session
            .fetch::<GroupResponse>(&format!("{GROUPS}/{name}"))
            .await
        {
            Ok(group) if group.id == name => return Ok(group.id),
            Ok(_) => {}
            Err(error)
                if error.status() == Some(StatusCode::NOT_FOUND)
                    || is_query_unsupported(&error) => {}
            Err(error) => return Err(explain_refusal(error)),
        }
    }
    let mut found = match search_groups(
        session,
        Some(("search", eq_filter("profile.name", name))),
        name,
    )
    .await?
    {
        Some(found) => found,
        // `q` finds groups by the beginning of the name.
        None => match search_groups(session, Some(("q", name.to_owned())), name).await {
            Ok(found) => found.unwrap_or_default(),
            // `q` has no further pages, and may not report that there are more.
            Err(Error::Content { .. }) => Vec::new(),
            Err(error) => return Err(error),
        },
    };
    if found.is_empty() {
        found = search_groups(session, None, name)
            .await?
            .unwrap_or_default();
    }
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok(id),
        (None, _) => Err(Error::Rights {
            what: format!("Okta knows no group {name:?}"),
            fix: "correct allowed_groups: a group's whole name, or its id".to_owned(),
        }),
        (Some(_), _) => Err(Error::Rights {
            what: format!("Okta knows several groups {name:?}"),
            fix: "write the group's id in allowed_groups: it is in the address of its page"
                .to_owned(),
        }),
    }
}

/// The ids of groups with this exact name or id among those that a query returns; `None` if the query is
/// refused.
async fn search_groups(
    session: &Session,
    query: Option<(&'static str, String)>,
    name: &str,
) -> Result<Option<Vec<String>>, Error> {
    let mut pager = session.pager(GROUPS, query.into_iter().collect());
    let mut found = Vec::new();
    loop {
        match pager.next_page::<GroupResponse>().await {
            Ok(Some(page)) => {
                // Queries ignore case.
                let is_match =
                    |group: &GroupResponse| group.profile.name == name || group.id == name;
                found.extend(page.into_iter().filter(is_match).map(|group| group.id));
            }
            Ok(None) => break,
            Err(error) if pager.is_query_refused(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(Some(found))
}
