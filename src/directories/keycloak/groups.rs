//! The allowed groups and their members, subgroups included.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::api::{Api, Item, LastPage};
use super::users::User;
use crate::directories::UNSUPPORTED;
use crate::directories::account::{AllowedGroups, GroupMembers, id_key, parse_guid};
use crate::directories::json::{self, Records};
use crate::upstream::http::path_segment;
use crate::upstream::{Error, none_if_status};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(default, deserialize_with = "json::text")]
    pub name: Option<String>,
    /// `/ops/admins`.
    #[serde(default, deserialize_with = "json::text")]
    pub path: Option<String>,
    /// Since Keycloak 23; earlier versions include all subgroups.
    #[serde(default, deserialize_with = "json::number")]
    pub sub_group_count: Option<u64>,
    /// In a search, only those that lead to what was found.
    #[serde(default, deserialize_with = "json::records")]
    pub sub_groups: Records<Group>,
}

impl Item for Group {
    /// A search returns trees, of which only a part may be new.
    fn mark_seen(&self, seen: &mut HashSet<Uuid>) -> bool {
        let is_new = seen.insert(id_key(&self.id));
        let groups = self.sub_groups.items.iter();
        groups.fold(is_new, |is_new, group| group.mark_seen(seen) || is_new)
    }
}

pub(super) async fn fetch(api: &Api, names: &[String]) -> Result<AllowedGroups, Error> {
    let mut allowed_groups = AllowedGroups::default();
    for name in names {
        let group = find_group(api, name).await?;
        allowed_groups.add(name, fetch_members(api, group).await?);
    }
    Ok(allowed_groups)
}

/// Tests whether the groups and their members can be read.
pub(super) async fn probe(api: &Api, names: &[String]) -> Result<(), Error> {
    // First, because a client that may not see groups would be reported as "no such group".
    api.has_any("groups").await?;
    for name in names {
        let group = find_group(api, name).await?;
        api.has_any(&group_path(&group.id, "members")?).await?;
    }
    Ok(())
}

/// Finds a group by name, path or id.
async fn find_group(api: &Api, name: &str) -> Result<Group, Error> {
    // A GUID is tried as an id first, anything else last.
    if parse_guid(name).is_some()
        && let Some(group) = fetch_group(api, name).await?
    {
        return Ok(group);
    }
    let found_id = search_group(api, name).await?;
    let id = found_id.unwrap_or_else(|| name.to_owned());
    fetch_group(api, &id).await?.ok_or_else(|| {
        Error::rights(
            format!("Keycloak shows no group {name:?}"),
            "correct allowed_groups: a name, a path such as /ops/admins or an id; the client needs \
             the roles view-users and query-groups to see groups",
        )
    })
}

async fn fetch_group(api: &Api, id: &str) -> Result<Option<Group>, Error> {
    let Some(path) = path_segment(id) else {
        return Ok(None);
    };
    let group = api.fetch::<Group>(&format!("groups/{path}"), &[]).await;
    let group = none_if_status(group, &[StatusCode::NOT_FOUND])?;
    Ok(group.filter(|group| group.id == id))
}

/// The id of the group of this name or path. The search returns trees that include parents and, before
/// Keycloak 20, groups whose names only contain the one searched for.
async fn search_group(api: &Api, name: &str) -> Result<Option<String>, Error> {
    let is_path = name.starts_with('/');
    let last = name.rsplit('/').next().filter(|_| is_path);
    let query = [("search", last.unwrap_or(name)), ("exact", "true")];
    let mut found = HashSet::new();
    let take = |tree: Group| {
        let mut pending = vec![tree];
        while let Some(group) = pending.pop() {
            let text = if is_path { &group.path } else { &group.name };
            if text.as_deref() == Some(name) {
                found.insert(group.id);
            }
            pending.extend(group.sub_groups.items);
        }
    };
    api.for_each("groups", &query, LastPage::NothingNew, take)
        .await?;
    if found.len() > 1 {
        return Err(Error::rights(
            format!("Keycloak has {} groups {name:?}", found.len()),
            "in allowed_groups, write the path of the right one, such as /ops/admins, or its id",
        ));
    }
    Ok(found.into_iter().next())
}

/// Members of a group and of its subgroups, as in Keycloak's role mappings.
async fn fetch_members(api: &Api, top: Group) -> Result<GroupMembers, Error> {
    let mut members = GroupMembers::default();
    let mut seen = HashSet::from([id_key(&top.id)]);
    let mut pending = vec![top];
    while let Some(group) = pending.pop() {
        let path = group_path(&group.id, "members")?;
        let take = |user: User| {
            members.ids.insert(id_key(&user.id));
        };
        members.without_id += api.for_each(&path, &[], LastPage::NothingNew, take).await?;
        for child in fetch_children(api, group).await? {
            if seen.insert(id_key(&child.id)) {
                pending.push(child);
            }
        }
    }
    Ok(members)
}

/// The direct subgroups. Before Keycloak 23 they were part of the group, and had no list of their own.
async fn fetch_children(api: &Api, group: Group) -> Result<Vec<Group>, Error> {
    let path = group_path(&group.id, "children")?;
    let mut children = group.sub_groups;
    if children.count() == 0 && group.sub_group_count != Some(0) {
        let add_child = |child| children.items.push(child);
        let listed = api.for_each(&path, &[], LastPage::NotFull, add_child).await;
        match listed {
            Err(error) if group.sub_group_count.is_none() && error.has_status(&UNSUPPORTED) => {}
            without_id => children.without_id = without_id?,
        }
    }
    identified(children, &path)
}

/// The members of a group without an id cannot be read, so no one would be known to be outside the groups.
pub(super) fn identified(groups: Records<Group>, path: &str) -> Result<Vec<Group>, Error> {
    match groups.without_id {
        0 => Ok(groups.items),
        _ => Err(Error::content(path, "a group has no id")),
    }
}

fn group_path(id: &str, what: &str) -> Result<String, Error> {
    let group = path_segment(id);
    let group = group.ok_or_else(|| Error::content("groups", "a group has an invalid id"))?;
    Ok(format!("groups/{group}/{what}"))
}
