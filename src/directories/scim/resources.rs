//! Responses of a SCIM server (RFC 7643 §4, RFC 7644 §3.4.2, RFC 9865 §2), and the people made from them. Other
//! fields are dropped during parsing: some servers send password hashes.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::directories::account::{AccountBuilder, AccountStatus};
use crate::directories::json::{self, Flag, Records};
use crate::domain::{Address, Person};

/// A page of a list. Microsoft's own SCIM API sends `resources`, and no total.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: DeserializeOwned")]
pub(super) struct Page<T> {
    #[serde(default, deserialize_with = "json::number")]
    pub total_results: Option<u64>,
    /// How many resources the page has; some servers repeat `count` instead.
    #[serde(rename = "itemsPerPage", default, deserialize_with = "json::number")]
    pub size: Option<u64>,
    #[serde(default, deserialize_with = "json::text")]
    pub next_cursor: Option<String>,
    /// May be left out if the page is empty.
    #[serde(rename = "Resources", alias = "resources")]
    pub resources: Option<Records<T>>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            total_results: None,
            size: None,
            next_cursor: None,
            resources: None,
        }
    }
}

pub(super) trait Resource: DeserializeOwned {
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
pub(super) struct User {
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(default, deserialize_with = "json::text")]
    pub user_name: Option<String>,
    #[serde(default)]
    pub active: Flag,
    #[serde(default, deserialize_with = "json::list")]
    pub emails: Vec<Email>,
    #[serde(default, deserialize_with = "json::text")]
    pub display_name: Option<String>,
    #[serde(default, deserialize_with = "json::optional")]
    pub name: Option<Name>,
    /// Optional even on servers with groups.
    #[serde(default, deserialize_with = "json::list")]
    pub groups: Vec<GroupRef>,
}

impl User {
    pub fn has_address(&self, address: &Address) -> bool {
        self.to_account().has_address(address)
    }

    fn to_account(&self) -> AccountBuilder {
        let mut emails: Vec<&Email> = self.emails.iter().collect();
        // The primary one first; the sort is stable.
        emails.sort_by_key(|email| email.primary.value() != Some(true));
        let account = AccountBuilder::default()
            .mailboxes(
                emails
                    .into_iter()
                    .filter_map(|email| email.value.as_deref()),
            )
            .sign_in_name(self.user_name.as_deref())
            .name(self.display_name.as_deref());
        match &self.name {
            None => account,
            Some(name) => account
                .name(name.formatted.as_deref())
                .full_name([name.given.as_deref(), name.family.as_deref()]),
        }
    }

    pub fn to_person(&self) -> Person {
        // `active` is the administrative status of the account (RFC 7643 §4.1.1).
        let status = AccountStatus::from_flag("active", &self.active);
        self.to_account().build(self.id.clone(), status)
    }
}

/// An object, or the address alone.
#[derive(Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Email {
    pub value: Option<String>,
    pub primary: Flag,
}

impl From<Value> for Email {
    fn from(mut json: Value) -> Self {
        Self {
            primary: Flag::deserialize(take(&mut json, "primary")).unwrap_or_default(),
            value: text_or_field(json, "value"),
        }
    }
}

/// An object, or the whole name alone.
#[derive(Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Name {
    pub formatted: Option<String>,
    pub given: Option<String>,
    pub family: Option<String>,
}

impl From<Value> for Name {
    fn from(mut json: Value) -> Self {
        Self {
            given: json::into_text(take(&mut json, "givenName")),
            family: json::into_text(take(&mut json, "familyName")),
            formatted: text_or_field(json, "formatted"),
        }
    }
}

/// A group in the `groups` of a user: an object, or its id or name alone.
#[derive(Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct GroupRef {
    pub value: Option<String>,
    pub display: Option<String>,
}

impl From<Value> for GroupRef {
    fn from(mut json: Value) -> Self {
        let display = match &json {
            Value::Object(_) => take(&mut json, "display"),
            alone => alone.clone(),
        };
        Self {
            display: json::into_text(display),
            value: text_or_field(json, "value"),
        }
    }
}

fn take(json: &mut Value, key: &str) -> Value {
    json.get_mut(key).map(Value::take).unwrap_or_default()
}

fn text_or_field(mut json: Value, key: &str) -> Option<String> {
    json::into_text(match &json {
        Value::Object(_) => take(&mut json, key),
        _ => json,
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(default, deserialize_with = "json::text")]
    pub display_name: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    pub members: Vec<Member>,
}

/// A person or another group in a group: an object, or the id alone.
#[derive(Debug, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Member {
    /// The id; on some servers the user name.
    pub value: Option<String>,
    pub reference: Option<String>,
    pub kind: Option<String>,
}

impl From<Value> for Member {
    fn from(mut json: Value) -> Self {
        Self {
            reference: json::into_text(take(&mut json, "$ref")),
            kind: json::into_text(take(&mut json, "type")),
            value: text_or_field(json, "value"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberKind {
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

/// The people of a page.
#[cfg(test)]
pub(in crate::directories) fn read_people(page: Value) -> Option<Vec<Person>> {
    let page: Page<User> = serde_json::from_value(page).ok()?;
    Some(page.resources?.items.iter().map(User::to_person).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{IdentityStatus, Reason};

    fn build_person(user: Value) -> Person {
        let user: User = serde_json::from_value(user).unwrap();
        user.to_person()
    }

    #[rstest]
    #[case(json!({"active": true}), IdentityStatus::Active, None, "active=true")]
    #[case(json!({"active": "True"}), IdentityStatus::Active, None, "active=\"True\"")]
    #[case(json!({"active": false}), IdentityStatus::Disabled, Some(Reason::Admin), "active=false")]
    #[case(json!({"active": "False"}), IdentityStatus::Disabled, Some(Reason::Admin), "active=\"False\"")]
    #[case(json!({}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field active")]
    #[case(json!({"active": null}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field active")]
    #[case(json!({"active": "no"}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "active is neither true nor false")]
    #[case(json!({"active": [true]}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "active is neither true nor false")]
    #[case(json!({"active": "1"}), IdentityStatus::Active, None, "active=\"1\"")]
    #[case(json!({"active": 0}), IdentityStatus::Disabled, Some(Reason::Admin), "active=0")]
    fn only_active_shows_whether_a_person_has_access(
        #[case] mut user: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        user["id"] = json!("1");
        user["userName"] = json!("ada@example.org");
        user["meta"] = json!({"lastModified": "2026-11-20T00:00:00Z"});
        let person = build_person(user);
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
        assert_eq!(person.since, None, "a changed name is not a departure");
    }

    #[test]
    fn addresses_are_the_mailboxes_primary_first_and_the_user_name() {
        let emails = json!([
            {"value": "old@example.org"}, {"value": null}, {"value": "no address"},
            {"value": "ADA@example.org", "primary": false},
            {"value": "main@example.org", "primary": "True", "type": "work"}
        ]);
        let user = |name: &str, emails: &Value| -> Vec<String> {
            let person = build_person(json!({"id": "1", "userName": name, "emails": emails}));
            person.addresses().map(Address::to_string).collect()
        };
        assert_eq!(
            user("ada", &json!(["old@example.org"])),
            ["old@example.org"]
        );
        assert_eq!(user("ada", &json!("old@example.org")), ["old@example.org"]);
        assert_eq!(user("ada", &emails[0]), ["old@example.org"]);
        let mailboxes = ["main@example.org", "old@example.org", "ADA@example.org"];
        assert_eq!(user("ada@example.org", &emails), mailboxes);
        assert_eq!(user("ada", &emails), mailboxes);
        let with_sign_in_name = [&mailboxes[..], &["ada@corp.example"]].concat();
        assert_eq!(user("ada@corp.example", &emails), with_sign_in_name);
        assert_eq!(user("ada@corp.example", &json!([])), ["ada@corp.example"]);
    }

    #[test]
    fn a_person_without_an_address_is_not_listed() {
        assert_eq!(
            build_person(json!({"id": "1", "userName": "root"})).main,
            None
        );
        assert_eq!(build_person(json!({"id": "1", "emails": null})).main, None);
    }

    #[test]
    fn an_account_without_an_address_has_a_status() {
        let user = json!({"id": "1", "userName": "ada", "emails": [], "active": false});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.to_person();
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert_eq!(account.main, None);
    }

    #[rstest]
    #[case(json!({"displayName": "Ada L.", "name": {"formatted": "Ada Lovelace"}}), Some("Ada L."))]
    #[case(json!({"displayName": " ", "name": {"formatted": "Ada\nLovelace"}}), Some("Ada Lovelace"))]
    #[case(json!({"name": {"givenName": "Ada", "familyName": "Lovelace"}}), Some("Ada Lovelace"))]
    #[case(json!({"name": "Ada Lovelace"}), Some("Ada Lovelace"))]
    #[case(json!({"name": {"formatted": ["x"], "givenName": "Ada"}}), Some("Ada"))]
    #[case(json!({"name": {}}), None)]
    #[case(json!({"name": null, "displayName": null}), None)]
    fn the_display_name_comes_before_other_names(
        #[case] mut user: Value,
        #[case] name: Option<&str>,
    ) {
        user["id"] = json!("1");
        user["userName"] = json!("ada@example.org");
        assert_eq!(build_person(user).name.as_deref(), name);
    }

    #[test]
    fn a_password_is_dropped_during_parsing() {
        let user = json!({"id": "1", "userName": "ada@example.org", "password": "s3cret",
            "x509Certificates": [{"value": "s3cret"}], "urn:example:own": {"key": "s3cret"}});
        let user: User = serde_json::from_value(user).unwrap();
        assert!(!format!("{user:?}{:?}", user.to_person()).contains("s3cret"));
    }

    #[rstest]
    #[case::empty(json!({"id": "g"}), 0)]
    #[case::null(json!({"id": "g", "members": null}), 0)]
    #[case::unidentified(json!({"id": "g", "members": [null, {"display": "someone"}]}), 2)]
    fn only_an_entry_of_the_list_is_a_member(#[case] group: Value, #[case] count: usize) {
        let group: Group = serde_json::from_value(group).unwrap();
        assert_eq!(group.members.len(), count);
    }

    #[rstest]
    #[case(json!({"value": "1", "type": "Group"}), MemberKind::Group, &["1"])]
    #[case(json!({"value": "1", "type": "user", "$ref": ""}), MemberKind::Person, &["1"])]
    #[case(json!({"value": "1", "$ref": "https://idp.example.org/v2/groups/1"}), MemberKind::Group, &["1"])]
    #[case(json!({"value": "ada", "$ref": "../Users/a%2Fb"}), MemberKind::Person, &["ada", "a/b"])]
    #[case(json!({"$ref": "../Users/1", "type": null}), MemberKind::Person, &["1"])]
    #[case(json!({"value": "1", "$ref": "1"}), MemberKind::Unknown, &["1"])]
    #[case(json!({"value": 1, "type": "direct"}), MemberKind::Unknown, &["1"])]
    #[case(json!("1"), MemberKind::Unknown, &["1"])]
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
