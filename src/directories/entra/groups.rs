//! Who is in the allowed groups, be it by way of other groups.

use std::collections::{BTreeMap, HashSet};

use reqwest::StatusCode;
use uuid::Uuid;

use super::answers::Item;
use super::graph::{Graph, Start, answered, refused};
use crate::directories::Group;
use crate::directories::id::{guid, key, segment};
use crate::sources::Error;

/// What it takes to read groups and who is in them.
pub(super) const PERMISSION: &str = "GroupMember.Read.All";

/// The allowed groups, read whole.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub groups: Vec<Group>,
    people: HashSet<Uuid>,
}

impl Members {
    /// # Errors
    /// When a group is unknown, its name is not its own alone, or it cannot be read whole.
    pub async fn read(graph: &Graph, allowed: &[String]) -> Result<Self, Error> {
        let mut members = Self::default();
        for name in allowed {
            let id = find(graph, name).await?;
            let people = people(graph, &id).await?;
            members.groups.push(Group {
                name: name.clone(),
                members: people.len() as u64,
            });
            members.people.extend(people);
        }
        Ok(members)
    }

    /// Whether somebody is in one of them; `None` where there are none.
    pub fn is_member(&self, key: Uuid) -> Option<bool> {
        (!self.groups.is_empty()).then(|| self.people.contains(&key))
    }
}

/// The group of this id or name; an entry that looks like an id is first taken for one, others at last.
async fn find(graph: &Graph, name: &str) -> Result<String, Error> {
    let is_guid = guid(name).is_some();
    if is_guid && let Some(id) = by_id(graph, name).await? {
        return Ok(id);
    }
    if let Some(id) = by_name(graph, name).await? {
        return Ok(id);
    }
    let by_id = if is_guid {
        None
    } else {
        by_id(graph, name).await?
    };
    by_id.ok_or_else(|| unfit(name, "there is no group"))
}

/// The group of this id, as Graph writes it.
async fn by_id(graph: &Graph, id: &str) -> Result<Option<String>, Error> {
    let Some(part) = segment(id) else {
        return Ok(None);
    };
    let path = format!("groups/{part}");
    let start = Start::Path(&path, &[("$select", "id,displayName")]);
    match graph.get::<Item>(start).await {
        Ok(group) if group.key() == key(id) => Ok(Some(group.id)),
        Ok(_) => Err(unfit(id, "Graph answers with another group than")),
        // What is no GUID is a bad request to Graph.
        Err(error) if answered(&error, &[StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST]) => {
            Ok(None)
        }
        Err(error) => Err(refused(error, "read groups", PERMISSION)),
    }
}

/// The group that is called so, by Graph in any case.
async fn by_name(graph: &Graph, name: &str) -> Result<Option<String>, Error> {
    let filter = format!("displayName eq '{}'", name.replace('\'', "''"));
    let query = [("$filter", filter.as_str()), ("$select", "id,displayName")];
    let mut found = BTreeMap::new();
    let take = |group: Item| {
        // A filter that is ignored lists every group.
        let is_meant = group.name.as_deref();
        if is_meant.is_some_and(|it| it.to_lowercase() == name.to_lowercase()) {
            found.insert(group.key(), group.id);
        }
    };
    let listed = graph.list(Start::Path("groups", &query), take).await;
    listed.map_err(|error| refused(error, "read groups", PERMISSION))?;
    if found.len() > 1 {
        return Err(unfit(name, "several groups are called"));
    }
    Ok(found.into_values().next())
}

fn unfit(name: &str, what: &str) -> Error {
    Error::Rights {
        what: format!("{what} {name:?} of allowed_groups"),
        mend: "write the object id of the group (az ad group show --group NAME --query id)"
            .to_owned(),
    }
}

/// Who is in it. Members of all kinds are asked for and sorted here: asked for users alone, Graph answers
/// from an index that lags, so that is for servers that know no other way.
async fn people(graph: &Graph, group: &str) -> Result<HashSet<Uuid>, Error> {
    let path = format!(
        "groups/{}/transitiveMembers",
        segment(group).unwrap_or_default()
    );
    let listed = match members(graph, &path).await {
        Err(error) if answered(&error, &[StatusCode::NOT_FOUND]) => {
            members(graph, &format!("{path}/microsoft.graph.user")).await
        }
        listed => listed,
    };
    listed.map_err(|error| refused(error, "read who is in a group", PERMISSION))
}

async fn members(graph: &Graph, path: &str) -> Result<HashSet<Uuid>, Error> {
    let query = [("$select", "id"), ("$top", "999")];
    let mut people = HashSet::new();
    let take = |member: Item| {
        if member.is_user() {
            people.insert(member.key());
        }
    };
    graph.list(Start::Path(path, &query), take).await?;
    Ok(people)
}
