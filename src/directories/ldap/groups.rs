//! The allowed groups and their members, nested groups included.
//!
//! Active Directory is searched for the members of a group, because it resolves nested groups itself and
//! returns large groups only in ranges. On other servers, groups and their nested groups are read.

use std::collections::HashSet;

use super::flavor::{Flavor, RootDse};
use crate::directories::{Group, count_member};
use crate::upstream::Error;
use crate::upstream::ldap::{Entry, Search, Session, escape};

/// Selects groups outside Active Directory. Classes that a server does not know match nothing.
const GROUPS: &str = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=groupOfMembers)\
    (objectClass=groupOfEntries)(objectClass=posixGroup)(objectClass=groupOfURLs))";

/// The attributes of a group that determine its members.
const MEMBERS: [&str; 5] = [
    "member",
    "uniqueMember",
    "memberUid",
    "gidNumber",
    "memberURL",
];

/// Requests entries without attributes (RFC 4511 §4.5.1.8).
const NO_ATTRIBUTES: [&str; 1] = ["1.1"];

/// Includes nested groups (MS-ADTS §3.1.1.3.4.4.3).
const IN_CHAIN: &str = "memberOf:1.2.840.113556.1.4.1941:";

#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub root: &'a RootDse,
    /// The entry that people are below.
    pub base: &'a str,
}

#[derive(Debug, Default)]
pub struct AllowedGroups {
    groups: Vec<(Group, GroupMembers)>,
}

/// Members of a group, in each of the ways that groups identify them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct GroupMembers {
    /// DNs, in the form that [`normalize`] gives them.
    names: HashSet<String>,
    /// memberUid, in lower case.
    uids: HashSet<String>,
    /// gidNumber: people whose primary group it is.
    gids: HashSet<String>,
    /// Immutable ids (Active Directory).
    ids: HashSet<String>,
    /// primaryGroupID (Active Directory): memberOf does not include the primary group.
    primary: HashSet<String>,
}

impl AllowedGroups {
    /// # Errors
    /// When a group does not exist, or cannot be read completely.
    pub async fn fetch(
        session: &mut Session,
        scope: Scope<'_>,
        names: &[String],
    ) -> Result<Self, Error> {
        let mut groups = Vec::new();
        for name in names {
            let members = fetch_members(session, scope, name).await?;
            groups.push((Group::empty(name.clone()), members));
        }
        Ok(Self { groups })
    }

    /// Whether a person is in one of the groups; `None` if no group is configured. Counts the person in each of
    /// their groups.
    pub fn count_member(&mut self, entry: &Entry, id: &str) -> Option<bool> {
        let groups = self.groups.iter_mut();
        count_member(groups.map(|(group, members)| (members.contains(entry, id), group)))
    }

    pub fn into_groups(self) -> Vec<Group> {
        self.groups.into_iter().map(|(group, _)| group).collect()
    }
}

impl GroupMembers {
    fn contains(&self, entry: &Entry, id: &str) -> bool {
        let has_value_in = |name: &str, set: &HashSet<String>| {
            let mut texts = entry.texts(name);
            !set.is_empty() && texts.any(|text| set.contains(&text.to_lowercase()))
        };
        self.ids.contains(id)
            || (!self.names.is_empty() && self.names.contains(&normalize(&entry.dn)))
            || has_value_in("uid", &self.uids)
            || has_value_in("gidNumber", &self.gids)
            || has_value_in("primaryGroupID", &self.primary)
    }

    /// Adds the members that a group lists. Returns those that are DNs.
    fn add_members(&mut self, group: &Entry) -> Vec<String> {
        let lower = |name| group.texts(name).map(str::to_lowercase);
        self.uids.extend(lower("memberUid"));
        self.gids.extend(lower("gidNumber"));
        let members = group.texts("member");
        // A value may end with a bit string (RFC 4517 §3.3.21).
        let unique = group.texts("uniqueMember").map(|text| {
            text.rsplit_once('#').map_or(text, |(name, bits)| {
                let is_bits = bits.starts_with('\'') && bits.ends_with("'B");
                if is_bits { name } else { text }
            })
        });
        let keys: Vec<String> = members.chain(unique).map(normalize).collect();
        self.names.extend(keys.iter().cloned());
        keys
    }
}

async fn fetch_members(
    session: &mut Session,
    scope: Scope<'_>,
    name: &str,
) -> Result<GroupMembers, Error> {
    let group = find_group(session, scope, name).await?;
    if scope.root.flavor == Flavor::ActiveDirectory {
        fetch_ad_members(session, scope, &group).await
    } else {
        fetch_nested_members(session, scope, name, group).await
    }
}

async fn find_group(session: &mut Session, scope: Scope<'_>, name: &str) -> Result<Entry, Error> {
    let unknown_group = |what: String| {
        let fix =
            "correct allowed_groups (names or DNs), or let the account of bind_dn read the group";
        Error::rights(what, fix)
    };
    let is_ad = scope.root.flavor == Flavor::ActiveDirectory;
    let attributes = if is_ad {
        &["primaryGroupToken"][..]
    } else {
        &MEMBERS[..]
    };
    if is_dn(name) {
        let found = session.read_entry(name, attributes).await?;
        return found.ok_or_else(|| unknown_group(format!("the server shows no group {name:?}")));
    }
    let name_filter = escape(name);
    let filter = if is_ad {
        format!("(&(objectClass=group)(|(cn={name_filter})(sAMAccountName={name_filter})))")
    } else {
        format!("(&(cn={name_filter}){GROUPS})")
    };
    let mut bases = vec![scope.base];
    bases.extend(nearest_base(scope.base, &scope.root.contexts));
    for base in bases {
        let search = Search {
            base,
            filter: &filter,
            attributes,
        };
        let mut found = session.search_all(&search).await?;
        if found.len() > 1 {
            return Err(Error::rights(
                format!("the server shows {} groups called {name:?}", found.len()),
                "write the DN of the right one in allowed_groups",
            ));
        }
        if let Some(group) = found.pop() {
            return Ok(group);
        }
    }
    Err(unknown_group(format!(
        "the server shows no group called {name:?}"
    )))
}

async fn fetch_ad_members(
    session: &mut Session,
    scope: Scope<'_>,
    group: &Entry,
) -> Result<GroupMembers, Error> {
    let flavor = scope.root.flavor;
    let chain = format!("({IN_CHAIN}={})", escape(group.dn.as_str()));
    let mut members = GroupMembers::default();
    let users = format!("(&(objectCategory=person)(objectClass=user){chain})");
    let search = Search {
        base: scope.base,
        filter: &users,
        attributes: flavor.id_attributes(),
    };
    let ids = &mut members.ids;
    session
        .search(&search, &mut |user| ids.extend(flavor.id(&user)))
        .await?;
    // The primary group of a person may be nested in the allowed one.
    let nested = format!("(&(objectClass=group){chain})");
    let search = Search {
        base: nearest_base(&group.dn, &scope.root.contexts).unwrap_or(scope.base),
        filter: &nested,
        attributes: &["primaryGroupToken"],
    };
    let nested = session.search_all(&search).await?;
    let tokens = nested.iter().chain([group]);
    let tokens = tokens.filter_map(|group| group.text("primaryGroupToken"));
    members.primary = tokens.map(str::to_owned).collect();
    Ok(members)
}

/// Reads a group and its nested groups, each once, since groups may contain each other.
async fn fetch_nested_members(
    session: &mut Session,
    scope: Scope<'_>,
    name: &str,
    group: Entry,
) -> Result<GroupMembers, Error> {
    let mut members = GroupMembers::default();
    let mut seen = HashSet::from([normalize(&group.dn)]);
    let mut all_groups: Option<Vec<(String, String)>> = None;
    let mut pending = vec![group];
    while let Some(group) = pending.pop() {
        ensure_members_complete(&group, name)?;
        let dns: HashSet<String> = members.add_members(&group).into_iter().collect();
        if dns.is_empty() {
            continue;
        }
        if all_groups.is_none() {
            all_groups = Some(list_groups(session, scope, &group).await?);
        }
        for (key, dn) in all_groups.iter().flatten() {
            if dns.contains(key) && seen.insert(key.clone()) {
                pending.extend(session.read_entry(dn, &MEMBERS).await?);
            }
        }
    }
    Ok(members)
}

fn ensure_members_complete(group: &Entry, name: &str) -> Result<(), Error> {
    let attributes = ["member", "uniqueMember", "memberUid"];
    let what = if attributes.iter().any(|name| group.is_cut(name)) {
        "shows only some of its members"
    } else if group.has("memberURL") && !attributes.iter().any(|name| group.has(name)) {
        "defines its members by a search"
    } else {
        return Ok(());
    };
    Err(Error::rights(
        format!("the group {name:?}, or one nested in it, {what}"),
        "allow another group that lists its members; or set flavor if this is Active Directory",
    ))
}

/// The DNs of all groups: normalized, and as the server writes them.
async fn list_groups(
    session: &mut Session,
    scope: Scope<'_>,
    group: &Entry,
) -> Result<Vec<(String, String)>, Error> {
    let search = Search {
        base: nearest_base(&group.dn, &scope.root.contexts).unwrap_or(scope.base),
        filter: GROUPS,
        attributes: &NO_ATTRIBUTES,
    };
    let mut groups = Vec::new();
    session
        .search(&search, &mut |entry| {
            groups.push((normalize(&entry.dn), entry.dn));
        })
        .await?;
    Ok(groups)
}

// Distinguished names (RFC 4514): groups list members in any spelling.

/// Removes differences in case, spaces and escapes. All values are compared regardless of case, as those in
/// names of people and groups are.
fn normalize(dn: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for rdn in split(dn, &[',', ';']) {
        let mut pairs: Vec<String> = split(rdn, &['+']).into_iter().map(normalize_pair).collect();
        pairs.sort();
        parts.push(pairs.join("+"));
    }
    parts.join(",")
}

/// Whether a text looks like a DN and not like a plain name.
fn is_dn(text: &str) -> bool {
    let is_pair = |rdn: &str| {
        let name = rdn.split_once('=').map(|(name, _)| name.trim());
        name.is_some_and(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        })
    };
    split(text, &[',']).into_iter().all(is_pair)
}

/// The longest of `bases` that an entry is below.
fn nearest_base<'a>(dn: &str, bases: &'a [String]) -> Option<&'a str> {
    let dn = normalize(dn);
    let is_above = |base: &&String| {
        let base = normalize(base);
        dn == base || dn.ends_with(&format!(",{base}"))
    };
    let nearest = bases.iter().filter(is_above).max_by_key(|base| base.len());
    nearest.map(String::as_str)
}

/// Splits at characters that are not escaped.
fn split<'a>(text: &'a str, at: &[char]) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut is_escaped = false;
    for (index, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if at.contains(&c) {
            parts.push(&text[start..index]);
            start = index + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Turns ` UID = Ada ` into `uid=ada`. Escaped separators stay distinct from real ones.
fn normalize_pair(text: &str) -> String {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let mut bytes = Vec::new();
    let mut rest = value.trim().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some((code, after)) = parse_hex_byte(rest) {
            bytes.push(code);
            rest = after;
        }
    }
    let value = String::from_utf8_lossy(&bytes).to_lowercase();
    let parts: Vec<&str> = value.split_whitespace().collect();
    let value = parts.join(" ");
    let value = value.replace('\\', "\\5c").replace(',', "\\2c");
    let value = value.replace('+', "\\2b").replace('=', "\\3d");
    format!("{}={value}", name.trim().to_lowercase())
}

fn parse_hex_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.chars().all(|c| c.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    Some((byte, rest))
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
    fn groups_identify_members_in_many_ways() {
        let mut members = GroupMembers::default();
        let dns = members.add_members(&entry(
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
            dns,
            [
                "uid=ada,ou=people",
                "uid=bob,ou=people",
                "cn=no#1,ou=people"
            ]
        );
        let contains =
            |dn, attributes: &[(&str, &str)]| members.contains(&entry(dn, attributes), "id");
        assert!(contains("UID=Ada,OU=people", &[]));
        assert!(contains("uid=bob,ou=people", &[]));
        assert!(contains("cn=c", &[("uid", "carol")]));
        assert!(contains("cn=d", &[("uid", "dave"), ("gidNumber", "1000")]));
        assert!(!contains(
            "uid=eve,ou=people",
            &[("uid", "eve"), ("gidNumber", "100")]
        ));
        assert!(!GroupMembers::default().contains(&entry("", &[]), "id"));
    }

    #[test]
    fn a_member_of_any_group_is_counted_in_their_groups() {
        let group = |name: &str, id: &str| {
            let members = GroupMembers {
                ids: HashSet::from([id.to_owned()]),
                primary: HashSet::from(["513".to_owned()]),
                ..GroupMembers::default()
            };
            (Group::empty(name.to_owned()), members)
        };
        let mut allowed_groups = AllowedGroups {
            groups: vec![group("a", "ada"), group("b", "bob")],
        };
        let empty = entry("", &[]);
        assert_eq!(allowed_groups.count_member(&empty, "ada"), Some(true));
        assert_eq!(allowed_groups.count_member(&empty, "eve"), Some(false));
        let primary = entry("", &[("primaryGroupID", "513")]);
        assert_eq!(allowed_groups.count_member(&primary, "eve"), Some(true));
        let counts: Vec<u64> = allowed_groups
            .into_groups()
            .iter()
            .map(|group| group.members)
            .collect();
        assert_eq!(counts, [2, 1]);
        assert_eq!(AllowedGroups::default().count_member(&empty, "ada"), None);
    }

    #[test]
    fn a_group_that_does_not_list_all_its_members_is_an_error() {
        let check = |attributes: &[(&str, &str)]| {
            ensure_members_complete(&entry("cn=a", attributes), "a")
                .map_err(|error| error.to_string())
        };
        assert!(check(&[]).is_ok());
        assert!(check(&[("member", "x"), ("memberURL", "ldap:///")]).is_ok());
        let cut = check(&[("member;range=0-1499", "x")]).unwrap_err();
        assert!(cut.contains("only some"), "{cut}");
        let dynamic = check(&[("memberURL", "ldap:///")]).unwrap_err();
        assert!(dynamic.contains("by a search"), "{dynamic}");
    }

    #[test]
    fn spellings_of_one_name_are_equal() {
        for (one, other) in [
            (
                "uid=ada,ou=people,dc=example",
                "UID=Ada, OU=People ,dc = EXAMPLE",
            ),
            ("cn=Love\\, Ada,dc=x", "cn=love\\2C ada,dc=x"),
            ("cn=Love\\, Ada,dc=x", "cn=Love\\,  Ada,dc=x"),
            ("cn=a+uid=b,dc=x", "uid=b+cn=a,dc=x"),
            ("cn=J\\C3\\BCrgen,dc=x", "cn=jürgen,dc=x"),
            ("cn=\\#1 \\\"A\\\",dc=x", "cn=#1 \"A\",dc=x"),
        ] {
            assert_eq!(normalize(one), normalize(other));
        }
    }

    #[test]
    fn different_names_are_not_equal() {
        for (one, other) in [
            ("cn=a,cn=b", "cn=a\\,cn\\=b"),
            ("cn=a+cn=b", "cn=a\\+cn\\=b"),
            ("cn=a\\5c2c", "cn=a\\2c"),
            ("cn=a", "cn=b"),
            ("cn=a,dc=x", "cn=a,dc=x,dc=y"),
            ("cn=é", "cn=\\e9"),
        ] {
            assert_ne!(normalize(one), normalize(other));
        }
        assert_eq!(normalize(""), "=");
        assert_eq!(normalize("cn=a\\"), "cn=a");
    }

    #[test]
    fn a_dn_is_recognised_by_its_form() {
        assert!(is_dn("cn=admins,ou=groups,dc=example,dc=org"));
        assert!(is_dn("2.5.4.3=admins"));
        assert!(!is_dn("admins"));
        assert!(!is_dn("R&D, Berlin = best"));
        assert!(!is_dn("a b=c"));
    }

    #[test]
    fn the_nearest_base_is_found() {
        let names = ["dc=org", "dc=example, dc=ORG", "dc=le,dc=org"].map(str::to_owned);
        assert_eq!(
            nearest_base("cn=a,dc=example,dc=org", &names),
            Some("dc=example, dc=ORG")
        );
        assert_eq!(
            nearest_base("cn=a,dc=sample,dc=org", &names),
            Some("dc=org")
        );
        assert_eq!(nearest_base("dc=com", &names), None);
    }
}
