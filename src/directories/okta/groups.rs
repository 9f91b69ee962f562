//! Allowed groups: which they are, and who is in them.

use std::collections::HashSet;

use serde::Deserialize;

use super::api::{Api, is_missing, refused};
use super::find::quoted;
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
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    let query = vec![("search", format!("profile.name eq {}", quoted(name)))];
    let mut pages = api.list(GROUPS, query);
    let mut found = Vec::new();
    while let Some(page) = pages.next::<Named>().await? {
        // The search takes upper and lower case for the same.
        let exact = page.into_iter().filter(|group| group.profile.name == name);
        found.extend(exact.map(|group| group.id));
    }
    found.sort_unstable();
    found.dedup();
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
