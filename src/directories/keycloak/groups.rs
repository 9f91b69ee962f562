//! The allowed groups: which they are, and who is in them or in a group below.

use std::collections::HashSet;

use reqwest::StatusCode;
use uuid::Uuid;

use super::answers::{Group, User};
use super::api::{Api, PAGE, is_unknown, status};
use crate::directories;
use crate::directories::id::{guid, key, segment};
use crate::sources::Error;

/// The allowed groups with their people.
pub(super) struct Groups {
    /// How many are in each.
    pub groups: Vec<directories::Group>,
    /// Who is in any; `None` where no group is asked for.
    pub members: Option<HashSet<Uuid>>,
}

impl Groups {
    pub async fn read(api: &Api, allowed: &[String]) -> Result<Self, Error> {
        let mut groups = Vec::new();
        let mut members = HashSet::new();
        for name in allowed {
            let group = find(api, name).await?;
            let within = members_of(api, group).await?;
            groups.push(directories::Group {
                name: name.clone(),
                members: within.len() as u64,
            });
            members.extend(within);
        }
        Ok(Self {
            groups,
            members: (!allowed.is_empty()).then_some(members),
        })
    }
}

/// The group of this name, path or id.
pub(super) async fn find(api: &Api, name: &str) -> Result<Group, Error> {
    let missing = || Error::Rights {
        what: format!("Keycloak shows no group {name:?}"),
        mend:
            "correct allowed_groups: a name, a path such as /ops/admins or an id; the client needs \
               the roles view-users and query-groups to see groups"
                .to_owned(),
    };
    // What looks like an id is first taken for one, and everything else at last.
    if guid(name).is_some()
        && let Some(group) = by_id(api, name).await?
    {
        return Ok(group);
    }
    let id = search(api, name).await?;
    let id = id.unwrap_or_else(|| name.to_owned());
    by_id(api, &id).await?.ok_or_else(missing)
}

/// The group of this id.
async fn by_id(api: &Api, id: &str) -> Result<Option<Group>, Error> {
    let Some(path) = segment(id) else {
        return Ok(None);
    };
    match api.get::<Group>(&format!("groups/{path}"), &[]).await {
        Ok(group) => Ok(Some(group).filter(|group| group.id == id)),
        Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The id of the group of this name or path. What the search brings is a forest in which parents come
/// along, and before Keycloak 20 groups whose names only hold the one asked for.
async fn search(api: &Api, name: &str) -> Result<Option<String>, Error> {
    let is_path = name.starts_with('/');
    let last = name.rsplit('/').next().filter(|_| is_path);
    let query = [("search", last.unwrap_or(name)), ("exact", "true")];
    let mut pages = api.pages("groups", &query);
    let mut found = HashSet::new();
    let mut seen = HashSet::new();
    while let Some(page) = pages.next_of_all::<Group>().await? {
        let before = seen.len();
        let mut rest = page;
        while let Some(group) = rest.pop() {
            let text = if is_path { &group.path } else { &group.name };
            if text.as_deref() == Some(name) {
                found.insert(group.id.clone());
            }
            seen.insert(key(&group.id));
            rest.extend(group.sub_groups);
        }
        if seen.len() == before {
            break;
        }
    }
    if found.len() > 1 {
        return Err(Error::Rights {
            what: format!("Keycloak has {} groups {name:?}", found.len()),
            mend: "write the path of the one that is meant in allowed_groups, such as /ops/admins, or its id"
                .to_owned(),
        });
    }
    Ok(found.into_iter().next())
}

/// Who is in a group or below it: members of a group below are members, as for Keycloak's role mappings.
async fn members_of(api: &Api, top: Group) -> Result<HashSet<Uuid>, Error> {
    let mut members = HashSet::new();
    let mut seen = HashSet::from([key(&top.id)]);
    let mut rest = vec![top];
    while let Some(group) = rest.pop() {
        direct_members(api, &group.id, &mut members).await?;
        for child in children(api, group).await? {
            if seen.insert(key(&child.id)) {
                rest.push(child);
            }
        }
    }
    Ok(members)
}

async fn direct_members(api: &Api, id: &str, members: &mut HashSet<Uuid>) -> Result<(), Error> {
    let mut pages = api.pages(&below(id, "members")?, &[]);
    let mut seen = HashSet::new();
    while let Some(page) = pages.next_of_all::<User>().await? {
        let before = seen.len();
        seen.extend(page.iter().map(User::key));
        if seen.len() == before {
            // A short list may come again from a server that knows no pages of it.
            if page.len() != PAGE {
                break;
            }
            return Err(pages.repeats());
        }
    }
    members.extend(seen);
    Ok(())
}

/// The groups right below. Before Keycloak 23 they came along with the group, and had no list of their own.
async fn children(api: &Api, group: Group) -> Result<Vec<Group>, Error> {
    if !group.sub_groups.is_empty() || group.sub_group_count == Some(0) {
        return Ok(group.sub_groups);
    }
    let mut pages = api.pages(&below(&group.id, "children")?, &[]);
    let mut children = Vec::new();
    loop {
        match pages.next::<Group>().await {
            Ok(Some(page)) => children.extend(page),
            Ok(None) => return Ok(children),
            Err(error) if group.sub_group_count.is_none() && is_unknown(&error) => {
                return Ok(children);
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn below(id: &str, what: &str) -> Result<String, Error> {
    let group = segment(id).ok_or_else(|| Error::Content {
        place: "groups".to_owned(),
        reason: "a group has an id that cannot be one".to_owned(),
    })?;
    Ok(format!("groups/{group}/{what}"))
}
