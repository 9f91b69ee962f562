//! What a SCIM server answers, as far as lapsed reads it (RFC 7643 §4, RFC 7644 §3.4.2, RFC 9865 §2). There
//! is no field for anything else: password hashes, which some servers tell, are dropped while it is read.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A page of a list. Microsoft's own SCIM API writes `resources`, and tells no total.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    /// How many there are in all.
    pub total_results: Option<u64>,
    /// What the next page is asked for with, where pages are parted by cursors.
    pub next_cursor: Option<String>,
    /// May be left out where there are none.
    #[serde(rename = "Resources", alias = "resources")]
    pub resources: Option<Vec<T>>,
}

/// What stands in a list.
pub trait Resource {
    /// Given by the server, and never given again.
    fn id(&self) -> &str;
}

impl Resource for User {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Resource for Group {
    fn id(&self) -> &str {
        &self.id
    }
}

/// A user.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Given by the server, and never given again.
    pub id: String,
    /// What they sign in with; often a mail address.
    #[serde(rename = "userName")]
    pub sign_in: Option<String>,
    /// Whether they may. Left out it says nothing.
    #[serde(default)]
    pub active: Flag,
    /// Their mailboxes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub emails: Vec<Email>,
    /// Their name, for others to see.
    pub display_name: Option<String>,
    /// Its parts.
    pub name: Option<Name>,
    /// Optional even for servers that have groups.
    #[serde(default, deserialize_with = "null_is_default")]
    pub groups: Vec<InGroup>,
}

/// A mailbox of a user.
#[derive(Debug, Deserialize)]
pub struct Email {
    /// The address.
    pub value: Option<String>,
    /// Whether it is the main one.
    #[serde(default)]
    pub primary: Flag,
}

/// The parts of a name.
#[derive(Debug, Deserialize)]
pub struct Name {
    /// The whole of it.
    pub formatted: Option<String>,
    /// Some servers have nothing but this
    #[serde(rename = "givenName")]
    pub given: Option<String>,
    /// and this.
    #[serde(rename = "familyName")]
    pub family: Option<String>,
}

/// A group, as a user tells of it.
#[derive(Debug, Deserialize)]
pub struct InGroup {
    /// Its id.
    pub value: Option<String>,
    /// Its name.
    pub display: Option<String>,
}

/// A group.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Given by the server.
    pub id: String,
    /// Its name; several groups may have the same.
    pub display_name: Option<String>,
    /// Who is in it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub members: Vec<Member>,
}

/// Somebody, or another group, in a group.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// The id; at some servers the userName.
    pub value: Option<String>,
    /// Where it is.
    #[serde(rename = "$ref")]
    pub reference: Option<String>,
    /// `User` or `Group`; optional.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// What a member of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A person.
    Person,
    /// Another group, whose members count as its own.
    Group,
    /// It is not said.
    Untold,
}

impl Member {
    /// What it is, by its type or by where it is.
    pub fn kind(&self) -> MemberKind {
        let mut parts = self.reference.as_deref().unwrap_or_default().rsplit('/');
        let folder = parts.nth(1).unwrap_or_default();
        match (self.kind.as_deref().unwrap_or_default(), folder) {
            (kind, _) if kind.eq_ignore_ascii_case("group") => MemberKind::Group,
            (kind, _) if kind.eq_ignore_ascii_case("user") => MemberKind::Person,
            (_, folder) if folder.eq_ignore_ascii_case("groups") => MemberKind::Group,
            (_, folder) if folder.eq_ignore_ascii_case("users") => MemberKind::Person,
            _ => MemberKind::Untold,
        }
    }

    /// All by which it may be known, the likeliest first; never the same twice.
    pub fn names(&self) -> Vec<String> {
        let tail = self
            .reference
            .as_deref()
            .and_then(|it| it.rsplit('/').next());
        let tail = tail.map(|tail| {
            let decoded = percent_encoding::percent_decode_str(tail);
            decoded.decode_utf8_lossy().into_owned()
        });
        let mut names: Vec<String> = self.value.iter().cloned().chain(tail).collect();
        names.retain(|name| !name.is_empty());
        names.dedup();
        names
    }
}

/// True or false, as JSON has it or, as some servers do, in quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Flag {
    /// It is not there, or null.
    #[default]
    Untold,
    /// As JSON has it.
    Told(bool),
    /// In quotes, as it was written.
    Quoted(bool, String),
    /// Something else.
    Odd,
}

impl Flag {
    /// What it says, if it says something.
    pub fn is_true(&self) -> Option<bool> {
        match self {
            Self::Told(flag) | Self::Quoted(flag, _) => Some(*flag),
            Self::Untold | Self::Odd => None,
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Null => Self::Untold,
            Value::Bool(flag) => Self::Told(flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Self::Quoted(true, text),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Self::Quoted(false, text),
            _ => Self::Odd,
        })
    }
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"value": "1", "type": "Group"}), MemberKind::Group, &["1"])]
    #[case(json!({"value": "1", "type": "user", "$ref": ""}), MemberKind::Person, &["1"])]
    #[case(json!({"value": "1", "$ref": "https://idp.example.org/v2/groups/1"}), MemberKind::Group, &["1"])]
    #[case(json!({"value": "ada", "$ref": "../Users/a%2Fb"}), MemberKind::Person, &["ada", "a/b"])]
    #[case(json!({"$ref": "../Users/1", "type": null}), MemberKind::Person, &["1"])]
    #[case(json!({"value": "1", "$ref": "1"}), MemberKind::Untold, &["1"])]
    #[case(json!({"value": "", "$ref": null}), MemberKind::Untold, &[])]
    fn a_member_is_known_by_its_value_and_by_where_it_is(
        #[case] member: Value,
        #[case] kind: MemberKind,
        #[case] names: &[&str],
    ) {
        let member: Member = serde_json::from_value(member).unwrap();
        assert_eq!(member.kind(), kind);
        assert_eq!(member.names(), names);
    }
}
