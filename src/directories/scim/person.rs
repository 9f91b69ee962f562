//! Builds people from SCIM users.

use super::responses::{Email, Flag, User};
use crate::directories::account::{AccountBuilder, AccountStatus};
use crate::domain::{Address, Person};

impl User {
    pub fn has_address(&self, address: &Address) -> bool {
        self.account().has_address(address)
    }

    fn account(&self) -> AccountBuilder {
        let is_primary = |email: &&Email| email.primary.is_true() == Some(true);
        let primary = self.emails.iter().filter(is_primary);
        let others = self.emails.iter().filter(|email| !is_primary(email));
        let mailboxes = primary
            .chain(others)
            .filter_map(|email| email.value.as_deref());
        let account = AccountBuilder::default()
            .mailboxes(mailboxes)
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
        let status = AccountStatus {
            evidence: evidence(&self.active),
            ..AccountStatus::from_flag("active", self.active.is_true())
        };
        self.account().build(self.id.clone(), status)
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
}
