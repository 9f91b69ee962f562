//! The allowed groups and their members, nested groups included.
//!
//! `groups` of a user is optional, and many servers never fill it. So members are read from the groups, and
//! `groups` of users is only for servers that have no list of groups.

use std::collections::{BTreeMap, HashSet};

use super::api::{
    Api, ListQuery, Provider, QUERY_UNSUPPORTED, READ_ADVICE, explain_refusal,
    none_if_query_unsupported, resource_path,
};
use super::pages::{self, Pages};
use super::resources::{Group as GroupResponse, Member, MemberKind, User};
use crate::directories::{Group, UNSUPPORTED, count_member, eq_filter};
use crate::upstream::{Error, none_if_status};

const GROUPS: &str = "Groups";

const MAX_NESTED_GROUPS: usize = 1000;

#[derive(Debug)]
pub(super) enum AllowedGroups {
    Unrestricted,
    Members {
        groups: Vec<Group>,
        members: Members,
    },
    /// Membership is read from users, because the server has no list of groups.
    FromUsers(Vec<Group>),
}

/// Members of groups, by id or user name.
#[derive(Debug, Default)]
pub(super) struct Members {
    names: HashSet<String>,
    /// The same in lower case: user names are compared regardless of case (RFC 7643 §4.1.1).
    folded: HashSet<String>,
    /// Whether at least one of them was found among the users.
    has_matched: bool,
    has_unidentified: bool,
}

impl AllowedGroups {
    /// # Errors
    /// When a group does not exist, or cannot be read.
    pub async fn fetch(api: &Api, provider: Provider, names: &[String]) -> Result<Self, Error> {
        if names.is_empty() {
            return Ok(Self::Unrestricted);
        }
        let mut reader = GroupReader::new(api, provider);
        let mut groups = Vec::new();
        let mut members = Members::default();
        for name in names {
            let Some(id) = reader.find_group(name).await? else {
                return Ok(Self::FromUsers(
                    names.iter().cloned().map(Group::empty).collect(),
                ));
            };
            let people = reader.fetch_members(name, &id).await?;
            groups.push(Group {
                name: name.clone(),
                members: people.len() as u64,
            });
            members.add(people.into_values().flatten());
        }
        members.has_unidentified = reader.has_unidentified_members;
        Ok(Self::Members { groups, members })
    }

    /// Whether a user is in one of the groups; `None` if no group is configured. Counts the members of groups
    /// that are read from users.
    pub fn count_member(&mut self, user: &User) -> Option<bool> {
        match self {
            Self::Unrestricted => None,
            Self::Members { members, .. } => Some(members.match_user(user)),
            Self::FromUsers(groups) => count_member(groups.iter_mut().map(|group| {
                let mut own = user.groups.iter();
                let is_in = own.any(|own| {
                    let is_named = |name: &String| name.eq_ignore_ascii_case(&group.name);
                    own.value.as_ref() == Some(&group.name)
                        || own.display.as_ref().is_some_and(is_named)
                });
                (is_in, group)
            })),
        }
    }

    pub fn has_unidentified_members(&self) -> bool {
        matches!(self, Self::Members { members, .. } if members.has_unidentified)
    }

    /// Whether groups have members, but no user is one of them. Then either none of the listed users is a
    /// member, or the server identifies members by something that users do not show.
    pub fn is_inconclusive(&self) -> bool {
        match self {
            Self::Unrestricted => false,
            Self::Members { members, .. } => !members.has_matched && !members.names.is_empty(),
            Self::FromUsers(groups) => groups.iter().any(|group| group.members == 0),
        }
    }

    /// # Errors
    /// When it is unclear who is in the groups.
    pub fn finish(self) -> Result<Vec<Group>, Error> {
        let is_inconclusive = self.is_inconclusive();
        match self {
            Self::Unrestricted => Ok(Vec::new()),
            Self::Members { .. } if is_inconclusive => Err(Error::rights(
                "the allowed groups have members, and none of them is among the users",
                format!("remove people who no longer exist from the groups, or {READ_ADVICE}"),
            )),
            Self::Members { groups, .. } => Ok(groups),
            Self::FromUsers(groups) => match groups.iter().find(|group| group.members == 0) {
                Some(group) => Err(unknown_group(
                    &group.name,
                    "no user has it in `groups`, and the server has no list of groups",
                )),
                None => Ok(groups),
            },
        }
    }
}

impl Members {
    fn add(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.folded.insert(name.to_lowercase());
            self.names.insert(name);
        }
    }

    fn match_user(&mut self, user: &User) -> bool {
        let is_named = |name: &String| self.folded.contains(&name.to_lowercase());
        let is_in = self.names.contains(&user.id) || user.user_name.as_ref().is_some_and(is_named);
        self.has_matched |= is_in;
        is_in
    }
}

#[derive(Debug)]
pub(super) struct GroupReader<'a> {
    api: &'a Api,
    provider: Provider,
    /// Ids and names of all groups, read when needed.
    groups: Option<Vec<GroupResponse>>,
    /// Whether a group has a member without an id.
    has_unidentified_members: bool,
}

impl<'a> GroupReader<'a> {
    pub fn new(api: &'a Api, provider: Provider) -> Self {
        Self {
            api,
            provider,
            groups: None,
            has_unidentified_members: false,
        }
    }

    /// The id of the group with this name or id; `None` if the server has no groups.
    ///
    /// # Errors
    /// When there is no such group, or more than one.
    pub async fn find_group(&mut self, name: &str) -> Result<Option<String>, Error> {
        if self.provider.supports_filters {
            let found = match self.search_group(name).await? {
                None => self.fetch_group_id(name).await?,
                found => found,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some(groups) = self.list_groups().await? else {
            return Ok(None);
        };
        match pick_group(groups, name)? {
            None => Err(unknown_group(
                name,
                "correct allowed_groups (names or ids), or let the token see the group",
            )),
            found => Ok(found),
        }
    }

    /// Finds a group by a filter; `None` also if the server does not support or ignores it.
    async fn search_group(&self, name: &str) -> Result<Option<String>, Error> {
        let query = ListQuery {
            filter: Some(eq_filter("displayName", name)),
            ..all_groups()
        };
        let is_match = |group: &GroupResponse| is_named(group, name);
        let found = pages::find(self.api, self.provider, query, is_match).await?;
        pick_group(&found.unwrap_or_default(), name)
    }

    async fn fetch_group_id(&self, id: &str) -> Result<Option<String>, Error> {
        let group = self.api.fetch::<GroupResponse>(GROUPS, id).await;
        let group = none_if_query_unsupported(group, GROUPS)?;
        Ok(group.map(|group| group.id).filter(|found| found == id))
    }

    /// All groups without their members; `None` if the server has no groups.
    ///
    /// # Errors
    /// When the list lacks a group: it may be the wanted one, or have its name, too.
    async fn list_groups(&mut self) -> Result<Option<&Vec<GroupResponse>>, Error> {
        if self.groups.is_none() {
            let mut pages = Pages::new(self.api, self.provider, all_groups());
            let mut groups = Vec::new();
            loop {
                match none_if_status(pages.next().await, &UNSUPPORTED) {
                    Ok(Some(Some(page))) => groups.extend(page),
                    Ok(Some(None)) => break,
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(explain_refusal(error, GROUPS)),
                }
            }
            if let Some(lack) = pages.lack() {
                return Err(self.api.invalid_response(GROUPS, &lack));
            }
            self.groups = Some(groups);
        }
        Ok(self.groups.as_ref())
    }

    /// Members of a group and its nested groups: for each, the most likely id, and all possible ids.
    ///
    /// # Errors
    /// When one of the groups cannot be read.
    pub async fn fetch_members(
        &mut self,
        root: &str,
        id: &str,
    ) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut people = BTreeMap::new();
        let mut pending = vec![vec![id.to_owned()]];
        // Groups may contain each other.
        let mut seen = HashSet::from([id.to_owned()]);
        while let Some(names) = pending.pop() {
            let group = self.fetch_group(root, &names).await?;
            seen.insert(group.id);
            for member in group.members {
                let names = member.names();
                let Some(name) = names.first() else {
                    self.has_unidentified_members = true;
                    continue;
                };
                if !self.is_group(&member, name).await? {
                    people.insert(name.clone(), names);
                } else if seen.insert(name.clone()) {
                    pending.push(names);
                }
            }
            if seen.len() > MAX_NESTED_GROUPS {
                let reason = format!("{root:?} has more than {MAX_NESTED_GROUPS} nested groups");
                return Err(self.api.invalid_response(GROUPS, &reason));
            }
        }
        Ok(people)
    }

    async fn is_group(&mut self, member: &Member, name: &str) -> Result<bool, Error> {
        Ok(match member.kind() {
            MemberKind::Group => true,
            MemberKind::Person => false,
            MemberKind::Unknown => {
                let groups = self.list_groups().await?;
                groups.is_some_and(|groups| groups.iter().any(|group| group.id == name))
            }
        })
    }

    /// The first group that one of these ids leads to, with its members.
    async fn fetch_group(&self, root: &str, names: &[String]) -> Result<GroupResponse, Error> {
        for name in names {
            match self.fetch_with_members(name).await {
                Ok(group) if group.id == *name || is_named(&group, name) => return Ok(group),
                Ok(_) => {
                    let reason = "it returned another group than the requested one";
                    return Err(self.api.invalid_response(GROUPS, reason));
                }
                Err(error)
                    if error.has_status(&UNSUPPORTED) || error.has_status(&QUERY_UNSUPPORTED) => {}
                Err(error) => return Err(explain_refusal(error, GROUPS)),
            }
        }
        Err(Error::rights(
            format!("the group {root:?} has a nested group that the server does not show"),
            "remove the nested group, or let the token see it",
        ))
    }

    /// Some servers return members only on request, others do not support the request.
    async fn fetch_with_members(&self, id: &str) -> Result<GroupResponse, Error> {
        let request = self.api.get(&resource_path(GROUPS, id));
        let request = request.query("attributes", "id,displayName,members");
        let group = request.json::<GroupResponse>().await.map_err(Error::from);
        match none_if_status(group, &QUERY_UNSUPPORTED)? {
            Some(group) if !group.members.is_empty() => Ok(group),
            _ => self.api.fetch(GROUPS, id).await,
        }
    }
}

fn all_groups() -> ListQuery {
    ListQuery {
        path: GROUPS,
        attributes: Some("id,displayName"),
        filter: None,
    }
}

/// The id of the only group of this name or id.
fn pick_group(groups: &[GroupResponse], name: &str) -> Result<Option<String>, Error> {
    let matchers: [fn(&GroupResponse, &str) -> bool; 3] = [
        |group, name| group.id == name,
        |group, name| group.display_name.as_deref() == Some(name),
        is_named,
    ];
    for is_match in matchers {
        let matching = groups.iter().filter(|group| is_match(group, name));
        let mut ids = matching.map(|group| &group.id);
        let Some(first) = ids.next() else {
            continue;
        };
        if ids.any(|id| id != first) {
            return Err(Error::rights(
                format!("several groups are called {name:?}"),
                "write the id of the right one in allowed_groups",
            ));
        }
        return Ok(Some(first.clone()));
    }
    Ok(None)
}

/// Group names are compared regardless of case (RFC 7643 §8.7.1).
fn is_named(group: &GroupResponse, name: &str) -> bool {
    let shown = group.display_name.as_deref().unwrap_or_default();
    shown.to_lowercase() == name.to_lowercase()
}

fn unknown_group(name: &str, fix: &str) -> Error {
    Error::rights(format!("there is no group {name:?}"), fix)
}
