//! Responses of a SCIM server (RFC 7643 §4, RFC 7644 §3.4.2, RFC 9865 §2). Other fields are dropped during
//! parsing: some servers send password hashes.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A page of a list. Microsoft's own SCIM API sends `resources`, and no total.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    pub total_results: Option<u64>,
    pub next_cursor: Option<String>,
    /// May be left out if the page is empty.
    #[serde(rename = "Resources", alias = "resources")]
    pub resources: Option<Vec<T>>,
}

pub trait Resource {
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "RFC 7643 names it userName")]
pub struct User {
    pub id: String,
    pub user_name: Option<String>,
    #[serde(default)]
    pub active: Flag,
    #[serde(default, deserialize_with = "null_is_default")]
    pub emails: Vec<Email>,
    pub display_name: Option<String>,
    pub name: Option<Name>,
    /// Optional even on servers with groups.
    #[serde(default, deserialize_with = "null_is_default")]
    pub groups: Vec<GroupRef>,
}

#[derive(Debug, Deserialize)]
pub struct Email {
    pub value: Option<String>,
    #[serde(default)]
    pub primary: Flag,
}

#[derive(Debug, Deserialize)]
pub struct Name {
    pub formatted: Option<String>,
    #[serde(rename = "givenName")]
    pub given: Option<String>,
    #[serde(rename = "familyName")]
    pub family: Option<String>,
}

/// A group in the `groups` of a user.
#[derive(Debug, Deserialize)]
pub struct GroupRef {
    pub value: Option<String>,
    pub display: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    pub id: String,
    /// Not unique.
    pub display_name: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub members: Vec<Member>,
}

/// A person or another group in a group.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// The id; on some servers the user name.
    pub value: Option<String>,
    #[serde(rename = "$ref")]
    pub reference: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    Person,
    /// A nested group, whose members count, too.
    Group,
    Unknown,
}

impl Member {
    pub fn kind(&self) -> MemberKind {
        let mut parts = self.reference.as_deref().unwrap_or_default().rsplit('/');
        let folder = parts.nth(1).unwrap_or_default();
        match (self.kind.as_deref().unwrap_or_default(), folder) {
            (kind, _) if kind.eq_ignore_ascii_case("group") => MemberKind::Group,
            (kind, _) if kind.eq_ignore_ascii_case("user") => MemberKind::Person,
            (_, folder) if folder.eq_ignore_ascii_case("groups") => MemberKind::Group,
            (_, folder) if folder.eq_ignore_ascii_case("users") => MemberKind::Person,
            _ => MemberKind::Unknown,
        }
    }

    /// The ids that it may have, most likely first, without repetition.
    pub fn names(&self) -> Vec<String> {
        let tail = self
            .reference
            .as_deref()
            .and_then(|reference| reference.rsplit('/').next());
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

/// A boolean, which some servers send in quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Flag {
    #[default]
    Missing,
    Bool(bool),
    Quoted(bool, String),
    Invalid,
}

impl Flag {
    pub fn is_true(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) | Self::Quoted(flag, _) => Some(*flag),
            Self::Missing | Self::Invalid => None,
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Null => Self::Missing,
            Value::Bool(flag) => Self::Bool(flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Self::Quoted(true, text),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Self::Quoted(false, text),
            _ => Self::Invalid,
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
    #[case(json!({"value": "1", "$ref": "1"}), MemberKind::Unknown, &["1"])]
    #[case(json!({"value": "", "$ref": null}), MemberKind::Unknown, &[])]
    fn a_member_is_identified_by_its_value_and_reference(
        #[case] member: Value,
        #[case] kind: MemberKind,
        #[case] names: &[&str],
    ) {
        let member: Member = serde_json::from_value(member).unwrap();
        assert_eq!(member.kind(), kind);
        assert_eq!(member.names(), names);
    }
}
