//! The allowed groups and their members, nested groups included.

use std::collections::BTreeMap;

use reqwest::StatusCode;

use super::graph::{Graph, Item, PAGE_SIZE, explain_refusal};
use crate::directories::account::{AllowedGroups, GroupMembers, id_key, parse_guid};
use crate::upstream::http::path_segment;
use crate::upstream::{Error, none_if_status};

/// Needed to read groups and their members.
pub(super) const PERMISSION: &str = "GroupMember.Read.All";

/// # Errors
/// When a group does not exist, its name is ambiguous, or it cannot be read completely.
pub(super) async fn fetch(graph: &Graph, names: &[String]) -> Result<AllowedGroups, Error> {
    let mut allowed_groups = AllowedGroups::default();
    for name in names {
        let id = find_group(graph, name).await?;
        allowed_groups.add(name, fetch_members(graph, &id).await?);
    }
    Ok(allowed_groups)
}

/// Finds a group by id or name. A GUID is tried as an id first, anything else last.
async fn find_group(graph: &Graph, name: &str) -> Result<String, Error> {
    let is_guid = parse_guid(name).is_some();
    if is_guid && let Some(id) = fetch_group(graph, name).await? {
        return Ok(id);
    }
    if let Some(id) = search_group(graph, name).await? {
        return Ok(id);
    }
    let by_id = if is_guid {
        None
    } else {
        fetch_group(graph, name).await?
    };
    by_id.ok_or_else(|| group_error(name, "there is no group"))
}

async fn fetch_group(graph: &Graph, id: &str) -> Result<Option<String>, Error> {
    let Some(part) = path_segment(id) else {
        return Ok(None);
    };
    let request = graph.get(&format!("groups/{part}"), &[("$select", "id,displayName")]);
    // Graph answers 400 to anything that is not a GUID.
    let missing = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST];
    let group = none_if_status(graph.fetch::<Item>(request).await, &missing);
    match group.map_err(|error| explain_refusal(error, "read groups", PERMISSION))? {
        Some(group) if group.id_key() != id_key(id) => {
            Err(group_error(id, "Graph returns another group for"))
        }
        group => Ok(group.map(|group| group.id)),
    }
}

/// Finds a group by name, regardless of case.
async fn search_group(graph: &Graph, name: &str) -> Result<Option<String>, Error> {
    let filter = format!("displayName eq '{}'", name.replace('\'', "''"));
    let query = [("$filter", filter.as_str()), ("$select", "id,displayName")];
    let mut found = BTreeMap::new();
    let add_match = |group: Item| {
        // A server that ignores the filter lists every group.
        let found_name = group.name.as_deref().unwrap_or_default();
        if found_name.to_lowercase() == name.to_lowercase() {
            found.insert(group.id_key(), group.id);
        }
    };
    graph
        .for_each_item(graph.get("groups", &query), add_match)
        .await
        .map_err(|error| explain_refusal(error, "read groups", PERMISSION))?;
    if found.len() > 1 {
        return Err(group_error(name, "several groups are called"));
    }
    Ok(found.into_values().next())
}

fn group_error(name: &str, what: &str) -> Error {
    Error::rights(
        format!("{what} {name:?} of allowed_groups"),
        "write the object id of the group (az ad group show --group NAME --query id)",
    )
}

/// Requests members of all kinds and keeps the users. A request for users alone is answered from an index
/// that lags, so it is only for servers that offer nothing else.
async fn fetch_members(graph: &Graph, group: &str) -> Result<GroupMembers, Error> {
    let group = path_segment(group).unwrap_or_default();
    let path = format!("groups/{group}/transitiveMembers");
    let result = match list_members(graph, &path).await {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
            list_members(graph, &format!("{path}/microsoft.graph.user")).await
        }
        result => result,
    };
    result.map_err(|error| explain_refusal(error, "read the members of a group", PERMISSION))
}

async fn list_members(graph: &Graph, path: &str) -> Result<GroupMembers, Error> {
    let query = [("$select", "id"), ("$top", PAGE_SIZE)];
    let mut members = GroupMembers::default();
    let add_user = |member: Item| {
        if member.is_user() {
            members.ids.insert(member.id_key());
        }
    };
    let end = graph
        .for_each_item(graph.get(path, &query), add_user)
        .await?;
    members.without_id = end.without_id;
    Ok(members)
}
