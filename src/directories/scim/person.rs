//! What a SCIM user means.

use super::shapes::{Email, Flag, Name, User};
use crate::domain::{Address, IdentityStatus, Person, Reason};
use crate::sources::cells;

impl User {
    /// The userName if it is a mail address, then the mailboxes, the main ones first; each once.
    pub fn addresses(&self) -> Vec<Address> {
        let is_main = |email: &&Email| email.primary.is_true() == Some(true);
        let main = self.emails.iter().filter(is_main);
        let others = self.emails.iter().filter(|email| !is_main(email));
        let mailboxes = main.chain(others).map(|email| email.value.as_deref());
        let mut addresses: Vec<Address> = Vec::new();
        for text in std::iter::once(self.sign_in.as_deref()).chain(mailboxes) {
            let address = cells::address(text).over(None);
            let is_new = |address: &Address| !addresses.contains(address);
            addresses.extend(address.filter(is_new));
        }
        addresses
    }

    /// The person; `None` where there is no address by which anybody could be matched.
    pub fn person(&self, is_member: Option<bool>) -> Option<Person> {
        let account = self.account(is_member);
        (!account.addresses.is_empty()).then_some(account)
    }

    /// The account, with an address or without.
    pub fn account(&self, is_member: Option<bool>) -> Person {
        let (status, reason) = match self.active.is_true() {
            Some(true) => (IdentityStatus::Active, None),
            // It is the administrative status of the account (RFC 7643 §4.1.1).
            Some(false) => (IdentityStatus::Disabled, Some(Reason::Admin)),
            None => (IdentityStatus::Unknown, Some(Reason::FieldMissing)),
        };
        Person {
            id: Some(self.id.clone()),
            addresses: self.addresses(),
            name: self.shown_name(),
            status,
            reason,
            since: None,
            evidence: evidence(&self.active),
            is_member,
        }
    }

    fn shown_name(&self) -> Option<String> {
        let clean = |text: Option<&str>| cells::text(text).over(None);
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

/// The field as it was written.
fn evidence(active: &Flag) -> String {
    match active {
        Flag::Told(flag) => format!("active={flag}"),
        Flag::Quoted(_, text) => format!("active={text:?}"),
        Flag::Untold => "nothing about active".to_owned(),
        Flag::Odd => "neither true nor false for active".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn person(user: Value) -> Option<Person> {
        let user: User = serde_json::from_value(user).unwrap();
        user.person(None)
    }

    #[rstest]
    #[case(json!({"active": true}), IdentityStatus::Active, None, "active=true")]
    #[case(json!({"active": "True"}), IdentityStatus::Active, None, "active=\"True\"")]
    #[case(json!({"active": false}), IdentityStatus::Disabled, Some(Reason::Admin), "active=false")]
    #[case(json!({"active": "False"}), IdentityStatus::Disabled, Some(Reason::Admin), "active=\"False\"")]
    #[case(json!({}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "nothing about active")]
    #[case(json!({"active": null}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "nothing about active")]
    #[case(json!({"active": "no"}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "neither true nor false for active")]
    #[case(json!({"active": 0}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "neither true nor false for active")]
    fn only_active_says_whether_somebody_has_access(
        #[case] mut user: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        user["id"] = json!("1");
        user["userName"] = json!("ada@example.org");
        user["meta"] = json!({"lastModified": "2026-11-20T00:00:00Z"});
        let person = person(user).unwrap();
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
        assert_eq!(person.since, None, "a change of the name is no leave");
    }

    #[test]
    fn addresses_are_the_user_name_and_the_mailboxes_the_main_one_first() {
        let emails = json!([
            {"value": "old@example.org"}, {"value": null}, {"value": "no address"},
            {"value": "ADA@example.org", "primary": false},
            {"value": "main@example.org", "primary": "True", "type": "work"}
        ]);
        let user = |name: Value| person(json!({"id": "1", "userName": name, "emails": emails}));
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
    fn who_has_no_address_is_not_told_of() {
        assert_eq!(person(json!({"id": "1", "userName": "root"})), None);
        assert_eq!(person(json!({"id": "1", "emails": null})), None);
    }

    #[test]
    fn an_account_without_an_address_still_says_whether_it_works() {
        let user = json!({"id": "1", "userName": "ada", "emails": [], "active": false});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.account(None);
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert!(account.addresses.is_empty());
    }

    #[rstest]
    #[case(json!({"displayName": "Ada L.", "name": {"formatted": "Ada Lovelace"}}), Some("Ada L."))]
    #[case(json!({"displayName": " ", "name": {"formatted": "Ada\nLovelace"}}), Some("Ada Lovelace"))]
    #[case(json!({"name": {"givenName": "Ada", "familyName": "Lovelace"}}), Some("Ada Lovelace"))]
    #[case(json!({"name": {}}), None)]
    #[case(json!({"name": null, "displayName": null}), None)]
    fn the_name_is_the_one_for_others_to_see(#[case] mut user: Value, #[case] name: Option<&str>) {
        user["id"] = json!("1");
        user["userName"] = json!("ada@example.org");
        assert_eq!(person(user).unwrap().name.as_deref(), name);
    }

    #[test]
    fn a_password_is_dropped_while_it_is_read() {
        let user = json!({"id": "1", "userName": "ada@example.org", "password": "s3cret",
            "x509Certificates": [{"value": "s3cret"}], "urn:example:own": {"key": "s3cret"}});
        let user: User = serde_json::from_value(user).unwrap();
        assert!(!format!("{user:?}{:?}", user.person(None)).contains("s3cret"));
    }
}
