//! Who is in the allowed groups, be it by way of other groups.

use std::collections::HashSet;

use reqwest::StatusCode;
use uuid::Uuid;

use super::answers::Item;
use super::graph::{Graph, Start, answered, refused};
use crate::directories::Group;
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
            let people = people(graph, id).await?;
            members.groups.push(Group {
                name: name.clone(),
                members: people.len() as u64,
            });
            members.people.extend(people);
        }
        Ok(members)
    }

    /// Whether somebody is in one of them; `None` where there are none.
    pub fn is_member(&self, id: Uuid) -> Option<bool> {
        (!self.groups.is_empty()).then(|| self.people.contains(&id))
    }
}

/// The group of this id or name.
async fn find(graph: &Graph, name: &str) -> Result<Uuid, Error> {
    if let Ok(id) = Uuid::parse_str(name) {
        let path = format!("groups/{id}");
        let start = Start::Path(&path, &[("$select", "id,displayName")]);
        return match graph.get::<Item>(start).await {
            Ok(group) if group.id == id => Ok(id),
            Ok(_) => Err(unfit(name, "Graph answers with another group than")),
            Err(error) if answered(&error, &[StatusCode::NOT_FOUND]) => Err(unknown(name)),
            Err(error) => Err(refused(error, "read groups", PERMISSION)),
        };
    }
    let filter = format!("displayName eq '{}'", name.replace('\'', "''"));
    let query = [("$filter", filter.as_str()), ("$select", "id,displayName")];
    let mut found = HashSet::new();
    let take = |group: Item| {
        // A filter that is ignored lists every group.
        let is_meant = group.name.as_deref();
        if is_meant.is_some_and(|it| it.to_lowercase() == name.to_lowercase()) {
            found.insert(group.id);
        }
    };
    let listed = graph.list(Start::Path("groups", &query), take).await;
    listed.map_err(|error| refused(error, "read groups", PERMISSION))?;
    match found.len() {
        0 => Err(unknown(name)),
        1 => found.into_iter().next().ok_or_else(|| unknown(name)),
        _ => Err(unfit(name, "several groups are called")),
    }
}

fn unknown(name: &str) -> Error {
    unfit(name, "there is no group")
}

fn unfit(name: &str, what: &str) -> Error {
    Error::Rights {
        what: format!("{what} {name:?} of allowed_groups"),
        mend: "write the object id of the group (az ad group show --group NAME --query id)"
            .to_owned(),
    }
}

/// Who is in it. Members of all kinds are asked for and sorted here: asked for users alone, Graph answers
/// from an index that lags.
async fn people(graph: &Graph, group: Uuid) -> Result<HashSet<Uuid>, Error> {
    let path = format!("groups/{group}/transitiveMembers");
    let query = [("$select", "id"), ("$top", "999")];
    let mut people = HashSet::new();
    let take = |member: Item| {
        if member.is_user() {
            people.insert(member.id);
        }
    };
    let listed = graph.list(Start::Path(&path, &query), take).await;
    listed.map_err(|error| refused(error, "read who is in a group", PERMISSION))?;
    Ok(people)
}
