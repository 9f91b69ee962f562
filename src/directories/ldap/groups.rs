//! Who is in the allowed groups, through other groups, too.
//!
//! Active Directory is asked for the people of a group, because it follows nested groups itself and tells
//! large ones only in ranges. Elsewhere the groups are read, and those in them, each once.

use std::collections::HashSet;

use super::dn;
use super::flavor::{Flavor, Root};
use crate::directories::Group;
use crate::ldap::{Entry, Search, Session, escape};
use crate::sources::Error;

/// What groups are, outside of Active Directory. What a server does not know matches nothing.
const GROUPS: &str = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=groupOfMembers)\
    (objectClass=groupOfEntries)(objectClass=posixGroup)(objectClass=groupOfURLs))";

/// What a group says of its members.
const MEMBERS: [&str; 5] = [
    "member",
    "uniqueMember",
    "memberUid",
    "gidNumber",
    "memberURL",
];

/// What an answer without values is asked with (RFC 4511 §4.5.1.8).
const NO_ATTRIBUTES: [&str; 1] = ["1.1"];

/// Matches through nested groups (MS-ADTS §3.1.1.3.4.4.3).
const IN_CHAIN: &str = "memberOf:1.2.840.113556.1.4.1941:";

/// Where groups are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// What the server is.
    pub root: &'a Root,
    /// Where people are.
    pub base: &'a str,
}

/// The allowed groups with all who are in them.
#[derive(Debug, Default)]
pub struct Membership {
    groups: Vec<(Group, Reach)>,
}

/// Whom a group reaches, in each of the ways by which groups name their members.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Reach {
    /// Names of entries, as [`dn::key`] has them.
    names: HashSet<String>,
    /// memberUid.
    uids: HashSet<String>,
    /// gidNumber: of whom it is the own group.
    gids: HashSet<String>,
    /// Immutable ids, in Active Directory.
    ids: HashSet<String>,
    /// Groups by the number that primaryGroupID has, in Active Directory: memberOf does not tell of it.
    primary: HashSet<String>,
}

impl Membership {
    /// Reads them.
    ///
    /// # Errors
    /// When one does not exist, or could not be read whole.
    pub async fn read(
        session: &mut Session,
        scope: Scope<'_>,
        allowed: &[String],
    ) -> Result<Self, Error> {
        let mut groups = Vec::new();
        for name in allowed {
            let reach = reach(session, scope, name).await?;
            groups.push((Group::empty(name.clone()), reach));
        }
        Ok(Self { groups })
    }

    /// Whether somebody is in one of the groups, `None` where there are none; counts them into theirs.
    pub fn enrol(&mut self, entry: &Entry, id: &str) -> Option<bool> {
        let mut is_member = None;
        for (group, reach) in &mut self.groups {
            let is_in = reach.holds(entry, id);
            group.members += u64::from(is_in);
            *is_member.get_or_insert(false) |= is_in;
        }
        is_member
    }

    /// The groups with how many people are in each.
    pub fn counted(self) -> Vec<Group> {
        self.groups.into_iter().map(|(group, _)| group).collect()
    }
}

impl Reach {
    fn holds(&self, entry: &Entry, id: &str) -> bool {
        let named = |name: &str, set: &HashSet<String>| {
            let mut texts = entry.texts(name);
            !set.is_empty() && texts.any(|text| set.contains(&text.to_lowercase()))
        };
        self.ids.contains(id)
            || (!self.names.is_empty() && self.names.contains(&dn::key(&entry.dn)))
            || named("uid", &self.uids)
            || named("gidNumber", &self.gids)
            || named("primaryGroupID", &self.primary)
    }

    /// Takes in the members that a group names; tells of those that are entries.
    fn take(&mut self, group: &Entry) -> Vec<String> {
        let lower = |name| group.texts(name).map(str::to_lowercase);
        self.uids.extend(lower("memberUid"));
        self.gids.extend(lower("gidNumber"));
        let members = group.texts("member");
        // It may have a bit string behind it (RFC 4517 §3.3.21).
        let unique = group.texts("uniqueMember").map(|text| {
            text.rsplit_once('#').map_or(text, |(name, bits)| {
                let is_bits = bits.starts_with('\'') && bits.ends_with("'B");
                if is_bits { name } else { text }
            })
        });
        let keys: Vec<String> = members.chain(unique).map(dn::key).collect();
        self.names.extend(keys.iter().cloned());
        keys
    }
}

/// Whom the group of this name reaches.
async fn reach(session: &mut Session, scope: Scope<'_>, name: &str) -> Result<Reach, Error> {
    let group = group(session, scope, name).await?;
    if scope.root.flavor == Flavor::ActiveDirectory {
        in_active_directory(session, scope, &group).await
    } else {
        elsewhere(session, scope, name, group).await
    }
}

/// The group of this name.
async fn group(session: &mut Session, scope: Scope<'_>, name: &str) -> Result<Entry, Error> {
    let wrong = |what: String| {
        Error::Rights {
        what,
        mend: "correct allowed_groups, where the DN of a group does, too, or let the account of bind_dn read it"
            .to_owned(),
    }
    };
    let is_ad = scope.root.flavor == Flavor::ActiveDirectory;
    let attributes = if is_ad {
        &["primaryGroupToken"][..]
    } else {
        &MEMBERS[..]
    };
    if dn::is_one(name) {
        let found = session.read(name, attributes).await?;
        return found.ok_or_else(|| wrong(format!("it shows no group {name:?}")));
    }
    let name_filter = escape(name);
    let filter = if is_ad {
        format!("(&(objectClass=group)(|(cn={name_filter})(sAMAccountName={name_filter})))")
    } else {
        format!("(&(cn={name_filter}){GROUPS})")
    };
    let mut bases = vec![scope.base];
    bases.extend(dn::nearest(scope.base, &scope.root.contexts));
    for base in bases {
        let search = Search {
            base,
            filter: &filter,
            attributes,
        };
        let mut found = session.find(&search).await?;
        if found.len() > 1 {
            return Err(Error::Rights {
                what: format!("it shows {} groups called {name:?}", found.len()),
                mend: "write the DN of the right one in allowed_groups".to_owned(),
            });
        }
        if let Some(group) = found.pop() {
            return Ok(group);
        }
    }
    Err(wrong(format!("it shows no group called {name:?}")))
}

async fn in_active_directory(
    session: &mut Session,
    scope: Scope<'_>,
    group: &Entry,
) -> Result<Reach, Error> {
    let flavor = scope.root.flavor;
    let chain = format!("({IN_CHAIN}={})", escape(group.dn.as_str()));
    let mut reach = Reach::default();
    let users = format!("(&(objectCategory=person)(objectClass=user){chain})");
    let search = Search {
        base: scope.base,
        filter: &users,
        attributes: flavor.ids(),
    };
    let ids = &mut reach.ids;
    session
        .search(&search, &mut |user| ids.extend(flavor.id(&user)))
        .await?;
    // A group that somebody has as primary may itself be in the allowed one.
    let nested = format!("(&(objectClass=group){chain})");
    let search = Search {
        base: dn::nearest(&group.dn, &scope.root.contexts).unwrap_or(scope.base),
        filter: &nested,
        attributes: &["primaryGroupToken"],
    };
    let nested = session.find(&search).await?;
    let tokens = nested.iter().chain([group]);
    let tokens = tokens.filter_map(|group| group.text("primaryGroupToken"));
    reach.primary = tokens.map(str::to_owned).collect();
    Ok(reach)
}

/// Reads a group and those in it, each once, so that a circle of groups has an end.
async fn elsewhere(
    session: &mut Session,
    scope: Scope<'_>,
    name: &str,
    group: Entry,
) -> Result<Reach, Error> {
    let mut reach = Reach::default();
    let mut seen = HashSet::from([dn::key(&group.dn)]);
    let mut others: Option<Vec<(String, String)>> = None;
    let mut waiting = vec![group];
    while let Some(group) = waiting.pop() {
        whole(&group, name)?;
        let members: HashSet<String> = reach.take(&group).into_iter().collect();
        if members.is_empty() {
            continue;
        }
        if others.is_none() {
            others = Some(all_groups(session, scope, &group).await?);
        }
        for (key, dn) in others.iter().flatten() {
            if members.contains(key) && seen.insert(key.clone()) {
                waiting.extend(session.read(dn, &MEMBERS).await?);
            }
        }
    }
    Ok(reach)
}

/// Whether a group tells all its members.
fn whole(group: &Entry, name: &str) -> Result<(), Error> {
    let told = ["member", "uniqueMember", "memberUid"];
    let what = if told.iter().any(|name| group.is_cut(name)) {
        "tells only some of its members"
    } else if group.has("memberURL") && !told.iter().any(|name| group.has(name)) {
        "names its members by a search"
    } else {
        return Ok(());
    };
    Err(Error::Rights {
        what: format!("the group {name:?}, or one in it, {what}"),
        mend: "allow another group, with members of its own; or write flavor if this is Active Directory"
            .to_owned(),
    })
}

/// All groups there are: as they are compared, and as they are read.
async fn all_groups(
    session: &mut Session,
    scope: Scope<'_>,
    group: &Entry,
) -> Result<Vec<(String, String)>, Error> {
    let search = Search {
        base: dn::nearest(&group.dn, &scope.root.contexts).unwrap_or(scope.base),
        filter: GROUPS,
        attributes: &NO_ATTRIBUTES,
    };
    let mut groups = Vec::new();
    session
        .search(&search, &mut |entry| {
            groups.push((dn::key(&entry.dn), entry.dn));
        })
        .await?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dn: &str, attributes: &[(&str, &str)]) -> Entry {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        Entry::new(dn, &attributes)
    }

    #[test]
    fn groups_name_their_members_in_many_ways() {
        let mut reach = Reach::default();
        let members = reach.take(&entry(
            "cn=admins",
            &[
                ("member", "uid=ada, ou=People"),
                ("uniqueMember", "uid=bob,ou=people#'0101'B"),
                ("uniqueMember", "cn=no#1,ou=people"),
                ("memberUid", "Carol"),
                ("gidNumber", "1000"),
            ],
        ));
        assert_eq!(
            members,
            [
                "uid=ada,ou=people",
                "uid=bob,ou=people",
                "cn=no#1,ou=people"
            ]
        );
        let holds = |dn, attributes: &[(&str, &str)]| reach.holds(&entry(dn, attributes), "id");
        assert!(holds("UID=Ada,OU=people", &[]));
        assert!(holds("uid=bob,ou=people", &[]));
        assert!(holds("cn=c", &[("uid", "carol")]));
        assert!(holds("cn=d", &[("uid", "dave"), ("gidNumber", "1000")]));
        assert!(!holds(
            "uid=eve,ou=people",
            &[("uid", "eve"), ("gidNumber", "100")]
        ));
        assert!(!Reach::default().holds(&entry("", &[]), "id"));
    }

    #[test]
    fn who_is_in_one_group_is_a_member_and_counts_where_they_are() {
        let group = |name: &str, id: &str| {
            let reach = Reach {
                ids: HashSet::from([id.to_owned()]),
                primary: HashSet::from(["513".to_owned()]),
                ..Reach::default()
            };
            (Group::empty(name.to_owned()), reach)
        };
        let mut membership = Membership {
            groups: vec![group("a", "ada"), group("b", "bob")],
        };
        let nobody = entry("", &[]);
        assert_eq!(membership.enrol(&nobody, "ada"), Some(true));
        assert_eq!(membership.enrol(&nobody, "eve"), Some(false));
        let primary = entry("", &[("primaryGroupID", "513")]);
        assert_eq!(membership.enrol(&primary, "eve"), Some(true));
        let counts: Vec<u64> = membership.counted().iter().map(|it| it.members).collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!(Membership::default().enrol(&nobody, "ada"), None);
    }

    #[test]
    fn a_group_that_does_not_tell_all_its_members_is_no_answer() {
        let told = |attributes: &[(&str, &str)]| {
            whole(&entry("cn=a", attributes), "a").map_err(|error| error.to_string())
        };
        assert!(told(&[]).is_ok());
        assert!(told(&[("member", "x"), ("memberURL", "ldap:///")]).is_ok());
        let cut = told(&[("member;range=0-1499", "x")]).unwrap_err();
        assert!(cut.contains("only some"), "{cut}");
        let dynamic = told(&[("memberURL", "ldap:///")]).unwrap_err();
        assert!(dynamic.contains("by a search"), "{dynamic}");
    }
}
