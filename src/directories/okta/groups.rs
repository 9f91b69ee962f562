//! Allowed groups: which they are, and who is in them.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde::Deserialize;

use super::api::{Api, is_unable, refused};
use super::find::equals;
use crate::directories::Group;
use crate::sources::Error;

/// The list of groups.
const GROUPS: &str = "api/v1/groups";

/// So long is an id of Okta's.
const ID: usize = 20;

/// Who is in the allowed groups.
#[derive(Debug)]
pub(super) struct Members {
    /// The groups, as they are configured.
    pub groups: Vec<Group>,
    /// The ids of users who are in one.
    users: HashSet<String>,
}

impl Members {
    /// Whether a user is in one of the groups; `None` where everybody is allowed.
    pub fn has(&self, id: &str) -> Option<bool> {
        (!self.groups.is_empty()).then(|| self.users.contains(id))
    }
}

#[derive(Deserialize)]
struct Named {
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

/// Who is in any of these groups.
///
/// # Errors
/// When a group does not exist, or its members cannot be read to their end.
pub(super) async fn members(api: &Api, allowed: &[String]) -> Result<Members, Error> {
    let mut members = Members {
        groups: Vec::new(),
        users: HashSet::new(),
    };
    for name in allowed {
        let id = id_of(api, name).await?;
        let mut pages = api.list(&format!("{GROUPS}/{id}/users"), vec![]);
        let mut own = HashSet::new();
        while let Some(page) = pages.next::<Member>().await? {
            own.extend(page.into_iter().map(|member| member.id));
        }
        members.groups.push(Group {
            name: name.clone(),
            members: own.len() as u64,
        });
        members.users.extend(own);
    }
    Ok(members)
}

/// The id of a group that is named by its id or its whole name.
///
/// # Errors
/// When there is none, or several have the name.
pub(super) async fn id_of(api: &Api, name: &str) -> Result<String, Error> {
    if name.len() == ID && name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        match api.one::<Named>(&format!("{GROUPS}/{name}")).await {
            Ok(group) if group.id == name => return Ok(group.id),
            Ok(_) => {}
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) || is_unable(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    let mut found = match named(api, Some(("search", equals("profile.name", name))), name).await? {
        Some(found) => found,
        // It finds by the first letters of a name.
        None => match named(api, Some(("q", name.to_owned())), name).await {
            Ok(found) => found.unwrap_or_default(),
            // It has no further pages, and may not say that there are more.
            Err(Error::Content { .. }) => Vec::new(),
            Err(error) => return Err(error),
        },
    };
    if found.is_empty() {
        found = named(api, None, name).await?.unwrap_or_default();
    }
    match (found.pop(), found.len()) {
        (Some(id), 0) => Ok(id),
        (None, _) => Err(Error::Rights {
            what: format!("Okta knows no group {name:?}"),
            mend: "correct allowed_groups: a group's whole name, or its id".to_owned(),
        }),
        (Some(_), _) => Err(Error::Rights {
            what: format!("Okta knows several groups {name:?}"),
            mend: "write the group's id in allowed_groups: it is in the address of its page"
                .to_owned(),
        }),
    }
}

/// The ids of the groups that have this very name or id, as far as a question brings them, or all; `None`
/// where the question is refused.
async fn named(
    api: &Api,
    question: Option<(&'static str, String)>,
    name: &str,
) -> Result<Option<Vec<String>>, Error> {
    let mut pages = api.list(GROUPS, question.into_iter().collect());
    let mut found = Vec::new();
    loop {
        match pages.next::<Named>().await {
            Ok(Some(page)) => {
                // Questions take upper and lower case for the same.
                let is_it = |group: &Named| group.profile.name == name || group.id == name;
                found.extend(page.into_iter().filter(is_it).map(|group| group.id));
            }
            Ok(None) => break,
            Err(error) if pages.is_refused(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(Some(found))
}
