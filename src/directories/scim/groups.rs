//! The allowed groups of a SCIM server, and who is in them.
//!
//! `groups` of a user is optional, and many servers never fill it, so the groups are asked for their
//! members; users' own word counts only where there are no groups to ask.

use std::collections::{BTreeMap, HashSet};

use super::api::{
    Api, Provider, READ_RIGHT, equals, is_not_there, is_not_understood, refused, resource,
};
use super::pages::{Fault, Pages, Query};
use super::shapes::{Group as Answer, Member, MemberKind, User};
use crate::directories::Group;
use crate::sources::Error;
use crate::web;

const GROUPS: &str = "Groups";

/// No group has more groups in it.
const MOST_NESTED: usize = 1000;

/// Who may be in.
#[derive(Debug)]
pub enum Allowed {
    /// Everybody: there is no such condition.
    Everybody,
    /// The members of groups.
    Members {
        /// The groups.
        groups: Vec<Group>,
        /// Who is in them.
        members: Members,
    },
    /// Those who say of themselves that they are in a group, where there are no groups to ask.
    Told(Vec<Group>),
}

/// Members of groups, by all that they are known by.
#[derive(Debug, Default)]
pub struct Members {
    names: HashSet<String>,
    /// The same in lower case: a userName is compared so (RFC 7643 §4.1.1).
    folded: HashSet<String>,
    /// Whether a user was found who is one of them.
    has_met: bool,
}

impl Allowed {
    /// The groups of these names or ids, with all who are in them.
    ///
    /// # Errors
    /// When one of them does not exist, or cannot be read.
    pub async fn read(api: &Api, provider: Provider, names: &[String]) -> Result<Self, Error> {
        if names.is_empty() {
            return Ok(Self::Everybody);
        }
        let mut reader = Reader::new(api, provider);
        let mut groups = Vec::new();
        let mut members = Members::default();
        for name in names {
            let Some(id) = reader.find(name).await? else {
                return Ok(Self::Told(
                    names.iter().cloned().map(Group::empty).collect(),
                ));
            };
            let people = reader.people(name, &id).await?;
            groups.push(Group {
                name: name.clone(),
                members: people.len() as u64,
            });
            members.add(people.into_values().flatten());
        }
        Ok(Self::Members { groups, members })
    }

    /// Whether this user is in one of them; counts him where nobody else does.
    pub fn enrol(&mut self, user: &User) -> Option<bool> {
        match self {
            Self::Everybody => None,
            Self::Members { members, .. } => Some(members.meet(user)),
            Self::Told(groups) => {
                let mut is_member = false;
                for group in groups {
                    let is_in = user.groups.iter().any(|told| {
                        let is_named = |name: &String| name.eq_ignore_ascii_case(&group.name);
                        told.value.as_ref() == Some(&group.name)
                            || told.display.as_ref().is_some_and(is_named)
                    });
                    group.members += u64::from(is_in);
                    is_member |= is_in;
                }
                Some(is_member)
            }
        }
    }

    /// Whether groups have members of whom nobody was met: then either none of those asked for is in them,
    /// or the server names members by something that users do not tell.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Everybody => false,
            Self::Members { members, .. } => !members.has_met && !members.names.is_empty(),
            Self::Told(groups) => groups.iter().any(|group| group.members == 0),
        }
    }

    /// The groups, when everybody has been met.
    ///
    /// # Errors
    /// When it is not certain who is in them.
    pub fn finish(self) -> Result<Vec<Group>, Error> {
        let is_in_doubt = self.is_in_doubt();
        match self {
            Self::Everybody => Ok(Vec::new()),
            Self::Members { .. } if is_in_doubt => Err(Error::Rights {
                what: "the allowed groups have members, and none of them is among the users"
                    .to_owned(),
                mend: format!("take those who are no more out of the groups, or {READ_RIGHT}"),
            }),
            Self::Told(groups) => match groups.iter().find(|group| group.members == 0) {
                Some(group) => Err(missing(
                    &group.name,
                    "no user has it among their groups, and the server offers no list of groups",
                )),
                None => Ok(groups),
            },
            Self::Members { groups, .. } => Ok(groups),
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

    fn meet(&mut self, user: &User) -> bool {
        let is_named = |name: &String| self.folded.contains(&name.to_lowercase());
        let is_in = self.names.contains(&user.id) || user.sign_in.as_ref().is_some_and(is_named);
        self.has_met |= is_in;
        is_in
    }
}

/// Reads groups.
#[derive(Debug)]
pub struct Reader<'a> {
    api: &'a Api,
    provider: Provider,
    /// Their ids and names; read when they are needed.
    listed: Option<Vec<Answer>>,
}

impl<'a> Reader<'a> {
    /// One that has read nothing yet.
    pub fn new(api: &'a Api, provider: Provider) -> Self {
        Self {
            api,
            provider,
            listed: None,
        }
    }

    /// The id of the group with this name or id; `None` where the server offers no groups.
    ///
    /// # Errors
    /// When there is no such group, or there are several.
    pub async fn find(&mut self, name: &str) -> Result<Option<String>, Error> {
        if self.provider.has_filter {
            let found = match self.by_name(name).await? {
                None => self.by_id(name).await?,
                found => found,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some(listed) = self.listed().await? else {
            return Ok(None);
        };
        match pick(listed, name)? {
            None => Err(missing(
                name,
                "correct allowed_groups, where names and ids do, or let the token see it",
            )),
            found => Ok(found),
        }
    }

    /// By a filter, unless the server does not know or ignores it.
    async fn by_name(&self, name: &str) -> Result<Option<String>, Error> {
        let query = Query {
            path: GROUPS,
            attributes: Some("id,displayName"),
            filter: Some(equals("displayName", name)),
        };
        let mut pages = Pages::new(self.api, self.provider, query);
        let mut found: Vec<Answer> = Vec::new();
        loop {
            match pages.next::<Answer>().await {
                Ok(None) => return pick(&found, name),
                Ok(Some(page)) if page.iter().all(|group| is_named(group, name)) => {
                    found.extend(page);
                }
                Ok(Some(_)) => return Ok(None),
                Err(fault) if fault.is_of_the_question() => return Ok(None),
                Err(fault) => return Err(fault.into_error(GROUPS)),
            }
        }
    }

    async fn by_id(&self, id: &str) -> Result<Option<String>, Error> {
        match self.api.one::<Answer>(GROUPS, id).await {
            Ok(group) => Ok((group.id == id).then_some(group.id)),
            Err(error) => {
                let fault = Fault::Web(error);
                if fault.is_of_the_question() {
                    return Ok(None);
                }
                Err(fault.into_error(GROUPS))
            }
        }
    }

    /// All groups, without their members; `None` where the server offers none.
    async fn listed(&mut self) -> Result<Option<&Vec<Answer>>, Error> {
        if self.listed.is_none() {
            let query = Query {
                path: GROUPS,
                attributes: Some("id,displayName"),
                filter: None,
            };
            let mut pages = Pages::new(self.api, self.provider, query);
            match pages.rest().await {
                Ok(listed) => self.listed = Some(listed),
                Err(Fault::Web(error)) if is_not_there(&error) => return Ok(None),
                Err(fault) => return Err(fault.into_error(GROUPS)),
            }
        }
        Ok(self.listed.as_ref())
    }

    /// Everybody in a group or in a group within it: what each is known by, and all else that may be meant.
    ///
    /// # Errors
    /// When one of these groups cannot be read.
    pub async fn people(
        &mut self,
        root: &str,
        id: &str,
    ) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut people = BTreeMap::new();
        let mut waiting = vec![vec![id.to_owned()]];
        // A group may be in itself, by way of others.
        let mut met = HashSet::from([id.to_owned()]);
        while let Some(names) = waiting.pop() {
            let group = self.group(root, &names).await?;
            met.insert(group.id);
            for member in group.members {
                let names = member.names();
                let Some(name) = names.first() else { continue };
                if !self.is_group(&member, name).await? {
                    people.insert(name.clone(), names);
                } else if met.insert(name.clone()) {
                    waiting.push(names);
                }
            }
            if met.len() > MOST_NESTED {
                let reason = format!("{root:?} has more than {MOST_NESTED} groups in it");
                return Err(self.api.unsound(GROUPS, &reason));
            }
        }
        Ok(people)
    }

    async fn is_group(&mut self, member: &Member, name: &str) -> Result<bool, Error> {
        Ok(match member.kind() {
            MemberKind::Group => true,
            MemberKind::Person => false,
            MemberKind::Untold => {
                let listed = self.listed().await?;
                listed.is_some_and(|groups| groups.iter().any(|group| group.id == name))
            }
        })
    }

    /// A group with its members, by the first of these names that is one.
    async fn group(&self, root: &str, names: &[String]) -> Result<Answer, Error> {
        for name in names {
            match self.whole(name).await {
                Ok(group) if group.id == *name || is_named(&group, name) => return Ok(group),
                Ok(_) => {
                    return Err(self
                        .api
                        .unsound(GROUPS, "it told of another group than was asked for"));
                }
                Err(error) if is_not_there(&error) || is_not_understood(&error) => {}
                Err(error) => return Err(refused(error, GROUPS)),
            }
        }
        Err(Error::Rights {
            what: format!("the group {root:?} has a group in it that the server does not show"),
            mend: "take it out of the group, or let the token see it".to_owned(),
        })
    }

    /// Some servers tell members only when they are asked for, others do not know how to be asked.
    async fn whole(&self, id: &str) -> Result<Answer, web::Error> {
        let request = self.api.get(&resource(GROUPS, id));
        match request
            .query("attributes", "id,displayName,members")
            .json::<Answer>()
            .await
        {
            Ok(group) if !group.members.is_empty() => Ok(group),
            Err(error) if !is_not_understood(&error) => Err(error),
            _ => self.api.one(GROUPS, id).await,
        }
    }
}

/// The id of the only group of this name or id.
fn pick(groups: &[Answer], name: &str) -> Result<Option<String>, Error> {
    let tests: [fn(&Answer, &str) -> bool; 3] = [
        |group, name| group.id == name,
        |group, name| group.display_name.as_deref() == Some(name),
        is_named,
    ];
    for test in tests {
        let mut fitting = groups
            .iter()
            .filter(|group| test(group, name))
            .map(|group| &group.id);
        let Some(first) = fitting.next() else {
            continue;
        };
        if fitting.any(|id| id != first) {
            return Err(Error::Rights {
                what: format!("several groups are called {name:?}"),
                mend: "write the id of the right one in allowed_groups".to_owned(),
            });
        }
        return Ok(Some(first.clone()));
    }
    Ok(None)
}

/// Names of groups are compared without regard to case (RFC 7643 §8.7.1).
fn is_named(group: &Answer, name: &str) -> bool {
    let shown = group.display_name.as_deref().unwrap_or_default();
    shown.to_lowercase() == name.to_lowercase()
}

fn missing(name: &str, mend: &str) -> Error {
    Error::Rights {
        what: format!("there is no group {name:?}"),
        mend: mend.to_owned(),
    }
}
