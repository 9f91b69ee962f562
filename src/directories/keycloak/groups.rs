//! The allowed groups and their members, subgroups included.

use std::collections::HashSet;

use reqwest::StatusCode;
use uuid::Uuid;

use super::responses::{Group, User};
use super::session::{PAGE_SIZE, Session, http_status, is_unsupported};
use crate::directories::collector::AllowedGroups;
use crate::directories::id::{id_key, parse_guid, path_segment};
use crate::sources::Error;

pub(super) async fn fetch(session: &Session, names: &[String]) -> Result<AllowedGroups, Error> {
    let mut allowed_groups = AllowedGroups::default();
    for name in names {
        let group = find_group(session, name).await?;
        allowed_groups.add(name, fetch_members(session, group).await?);
    }
    Ok(allowed_groups)
}

/// Finds a group by name, path or id.
pub(super) async fn find_group(session: &Session, name: &str) -> Result<Group, Error> {
    let missing = || Error::Rights {
        what: format!("Keycloak shows no group {name:?}"),
        fix:
            "correct allowed_groups: a name, a path such as /ops/admins or an id; the client needs \
               the roles view-users and query-groups to see groups"
                .to_owned(),
    };
    // A GUID is tried as an id first, anything else last.
    if parse_guid(name).is_some()
        && let Some(group) = fetch_group(session, name).await?
    {
        return Ok(group);
    }
    let id = search_group(session, name).await?;
    let id = id.unwrap_or_else(|| name.to_owned());
    fetch_group(session, &id).await?.ok_or_else(missing)
}

async fn fetch_group(session: &Session, id: &str) -> Result<Option<Group>, Error> {
    let Some(path) = path_segment(id) else {
        return Ok(None);
    };
    match session.fetch::<Group>(&format!("groups/{path}"), &[]).await {
        Ok(group) => Ok(Some(group).filter(|group| group.id == id)),
        Err(error) if http_status(&error) == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The id of the group of this name or path. The search returns trees that include parents and, before
/// Keycloak 20, groups whose names only contain the one searched for.
async fn search_group(session: &Session, name: &str) -> Result<Option<String>, Error> {
    let is_path = name.starts_with('/');
    let last = name.rsplit('/').next().filter(|_| is_path);
    let query = [("search", last.unwrap_or(name)), ("exact", "true")];
    let mut pager = session.pager("groups", &query);
    let mut found = HashSet::new();
    let mut seen = HashSet::new();
    while let Some(page) = pager.next_nonempty_page::<Group>().await? {
        let before = seen.len();
        let mut pending = page;
        while let Some(group) = pending.pop() {
            let text = if is_path { &group.path } else { &group.name };
            if text.as_deref() == Some(name) {
                found.insert(group.id.clone());
            }
            seen.insert(id_key(&group.id));
            pending.extend(group.sub_groups);
        }
        if seen.len() == before {
            break;
        }
    }
    if found.len() > 1 {
        return Err(Error::Rights {
            what: format!("Keycloak has {} groups {name:?}", found.len()),
            fix:
                "in allowed_groups, write the path of the right one, such as /ops/admins, or its id"
                    .to_owned(),
        });
    }
    Ok(found.into_iter().next())
}

/// Members of a group and of its subgroups, as in Keycloak's role mappings.
async fn fetch_members(session: &Session, top: Group) -> Result<HashSet<Uuid>, Error> {
    let mut members = HashSet::new();
    let mut seen = HashSet::from([id_key(&top.id)]);
    let mut pending = vec![top];
    while let Some(group) = pending.pop() {
        fetch_direct_members(session, &group.id, &mut members).await?;
        for child in fetch_children(session, group).await? {
            if seen.insert(id_key(&child.id)) {
                pending.push(child);
            }
        }
    }
    Ok(members)
}

async fn fetch_direct_members(
    session: &Session,
    id: &str,
    members: &mut HashSet<Uuid>,
) -> Result<(), Error> {
    let mut pager = session.pager(&group_path(id, "members")?, &[]);
    let mut seen = HashSet::new();
    while let Some(page) = pager.next_nonempty_page::<User>().await? {
        let before = seen.len();
        seen.extend(page.iter().map(User::id_key));
        if seen.len() == before {
            // A server without paging repeats its whole list.
            if page.len() != PAGE_SIZE {
                break;
            }
            return Err(pager.repeated_page_error());
        }
    }
    members.extend(seen);
    Ok(())
}

/// The direct subgroups. Before Keycloak 23 they were part of the group, and had no list of their own.
async fn fetch_children(session: &Session, group: Group) -> Result<Vec<Group>, Error> {
    if !group.sub_groups.is_empty() || group.sub_group_count == Some(0) {
        return Ok(group.sub_groups);
    }
    let mut pager = session.pager(&group_path(&group.id, "children")?, &[]);
    let mut children = Vec::new();
    loop {
        match pager.next_page::<Group>().await {
            Ok(Some(page)) => children.extend(page),
            Ok(None) => return Ok(children),
            Err(error) if group.sub_group_count.is_none() && is_unsupported(&error) => {
                return Ok(children);
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn group_path(id: &str, what: &str) -> Result<String, Error> {
    let group = path_segment(id).ok_or_else(|| Error::Content {
        place: "groups".to_owned(),
        reason: "a group has an invalid id".to_owned(),
    })?;
    Ok(format!("groups/{group}/{what}"))
}
