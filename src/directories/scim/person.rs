//! Builds people from SCIM users.

use super::responses::{Email, Flag, Name, User};
use crate::domain::{Address, IdentityStatus, Person, Reason};
use crate::sources::cells;

impl User {
    /// The user name if it is a mail address, then the mailboxes, primary ones first; each once.
    pub fn addresses(&self) -> Vec<Address> {
        let is_primary = |email: &&Email| email.primary.is_true() == Some(true);
        let primary = self.emails.iter().filter(is_primary);
        let others = self.emails.iter().filter(|email| !is_primary(email));
        let mailboxes = primary.chain(others).map(|email| email.value.as_deref());
        let mut addresses: Vec<Address> = Vec::new();
        for text in std::iter::once(self.user_name.as_deref()).chain(mailboxes) {
            let address = cells::address(text).into_option();
            let is_new = |address: &Address| !addresses.contains(address);
            addresses.extend(address.filter(is_new));
        }
        addresses
    }

    /// `None` for an account without an address.
    pub fn build_person(&self, is_member: Option<bool>) -> Option<Person> {
        let account = self.build_account(is_member);
        (!account.addresses.is_empty()).then_some(account)
    }

    pub fn build_account(&self, is_member: Option<bool>) -> Person {
        let (status, reason) = match self.active.is_true() {
            Some(true) => (IdentityStatus::Active, None),
            // The administrative status of the account (RFC 7643 §4.1.1).
            Some(false) => (IdentityStatus::Disabled, Some(Reason::Admin)),
            None => (IdentityStatus::Unknown, Some(Reason::FieldMissing)),
        };
        Person {
            id: Some(self.id.clone()),
            addresses: self.addresses(),
            name: self.person_name(),
            status,
            reason,
            since: None,
            evidence: evidence(&self.active),
            is_member,
        }
    }

    fn person_name(&self) -> Option<String> {
        let clean = |text: Option<&str>| cells::text(text).into_option();
        let part = |field: fn(&Name) -> &Option<String>| {
            clean(self.name.as_ref().and_then(|name| field(name).as_deref()))
        };
        clean(self.display_name.as_deref())
            .or_else(|| part(|name| &name.formatted))
            .or_else(|| {
                let parts = [part(|name| &name.given), part(|name| &name.family)];
                clean(Some(
                    &parts.into_iter().flatten().collect::<Vec<_>>().join(" "),
                ))
            })
    }
}

/// The value of `active` as the server sent it.
fn evidence(active: &Flag) -> String {
    match active {
        Flag::Bool(flag) => format!("active={flag}"),
        Flag::Quoted(_, text) => format!("active={text:?}"),
        Flag::Missing => "no field active".to_owned(),
        Flag::Invalid => "active is neither true nor false".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn build_person(user: Value) -> Option<Person> {
        let user: User = serde_json::from_value(user).unwrap();
        user.build_person(None)
    }

    #[rstest]
    #[case(json!({"active": true}), IdentityStatus::Active, None, "active=true")]
    #[case(json!({"active": "True"}), IdentityStatus::Active, None, "active=\"True\"")]
    #[case(json!({"active": false}), IdentityStatus::Disabled, Some(Reason::Admin), "active=false")]
    #[case(json!({"active": "False"}), IdentityStatus::Disabled, Some(Reason::Admin), "active=\"False\"")]
    #[case(json!({}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field active")]
    #[case(json!({"active": null}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field active")]
    #[case(json!({"active": "no"}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "active is neither true nor false")]
    #[case(json!({"active": 0}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "active is neither true nor false")]
    fn only_active_shows_whether_a_person_has_access(
        #[case] mut user: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        user["id"] = json!("1");
        user["userName"] = json!("ada@example.org");
        user["meta"] = json!({"lastModified": "2026-11-20T00:00:00Z"});
        let person = build_person(user).unwrap();
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
        assert_eq!(person.since, None, "a changed name is not a departure");
    }

    #[test]
    fn addresses_are_the_user_name_and_the_mailboxes_primary_first() {
        let emails = json!([
            {"value": "old@example.org"}, {"value": null}, {"value": "no address"},
            {"value": "ADA@example.org", "primary": false},
            {"value": "main@example.org", "primary": "True", "type": "work"}
        ]);
        let user =
            |name: Value| build_person(json!({"id": "1", "userName": name, "emails": emails}));
        let shown = |person: Option<Person>| -> Vec<String> {
            let addresses = person.unwrap().addresses;
            addresses.iter().map(Address::to_string).collect()
        };
        assert_eq!(
            shown(user(json!("ada@example.org"))),
            ["ada@example.org", "main@example.org", "old@example.org"]
        );
        assert_eq!(
            shown(user(json!("ada"))),
            ["main@example.org", "old@example.org", "ADA@example.org"]
        );
    }

    #[test]
    fn a_person_without_an_address_is_not_listed() {
        assert_eq!(build_person(json!({"id": "1", "userName": "root"})), None);
        assert_eq!(build_person(json!({"id": "1", "emails": null})), None);
    }

    #[test]
    fn an_account_without_an_address_has_a_status() {
        let user = json!({"id": "1", "userName": "ada", "emails": [], "active": false});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.build_account(None);
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert!(account.addresses.is_empty());
    }

    #[rstest]
    #[case(json!({"displayName": "Ada L.", "name": {"formatted": "Ada Lovelace"}}), Some("Ada L."))]
    #[case(json!({"displayName": " ", "name": {"formatted": "Ada\nLovelace"}}), Some("Ada Lovelace"))]
    #[case(json!({"name": {"givenName": "Ada", "familyName": "Lovelace"}}), Some("Ada Lovelace"))]
    #[case(json!({"name": {}}), None)]
    #[case(json!({"name": null, "displayName": null}), None)]
    fn the_display_name_comes_before_other_names(
        #[case] mut user: Value,
        #[case] name: Option<&str>,
    ) {
        user["id"] = json!("1");
        user["userName"] = json!("ada@example.org");
        assert_eq!(build_person(user).unwrap().name.as_deref(), name);
    }

    #[test]
    fn a_password_is_dropped_during_parsing() {
        let user = json!({"id": "1", "userName": "ada@example.org", "password": "s3cret",
            "x509Certificates": [{"value": "s3cret"}], "urn:example:own": {"key": "s3cret"}});
        let user: User = serde_json::from_value(user).unwrap();
        assert!(!format!("{user:?}{:?}", user.build_person(None)).contains("s3cret"));
    }
}
