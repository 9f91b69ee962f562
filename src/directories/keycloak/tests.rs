use std::collections::HashSet;

use rstest::rstest;
use serde_json::{Value, json};

use super::answers::User;
use super::roll::Roll;
use crate::domain::{IdentityStatus, Person, Reason};

const ID: &str = "0b0f2c34-6a35-4f7c-9a2a-1d1b7f4f0001";

fn user(fields: Value) -> User {
    let mut user =
        json!({"id": ID, "username": "ada", "email": "Ada@Example.org", "enabled": true});
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            user[name] = value;
        }
    }
    serde_json::from_value(user).unwrap()
}

fn person(fields: Value) -> Person {
    user(fields).person(None).unwrap()
}

/// The rows of what means that access is lost, and what does not.
#[rstest]
#[case::enabled(json!({}), IdentityStatus::Active, None, "enabled=true")]
#[case::disabled(json!({"enabled": false}), IdentityStatus::Disabled, Some(Reason::Admin), "enabled=false")]
#[case::absent(json!({"enabled": null}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field enabled")]
#[case::to_act(
    json!({"requiredActions": ["UPDATE_PASSWORD", "VERIFY_EMAIL"], "emailVerified": false}),
    IdentityStatus::Active, None, "enabled=true"
)]
#[case::signed_out(json!({"notBefore": 1_800_000_000, "totp": false}), IdentityStatus::Active, None, "enabled=true")]
fn a_status_is_what_enabled_says(
    #[case] fields: Value,
    #[case] status: IdentityStatus,
    #[case] reason: Option<Reason>,
    #[case] evidence: &str,
) {
    let person = person(fields);
    assert_eq!(
        (person.status, person.reason, person.evidence.as_str()),
        (status, reason, evidence)
    );
    assert_eq!((person.id.as_deref(), person.since), (Some(ID), None));
}

#[rstest]
#[case::text(json!({"id": ID, "enabled": "false"}))]
#[case::number(json!({"id": ID, "enabled": 0}))]
#[case::no_id(json!({"enabled": true}))]
fn what_is_not_as_documented_is_no_person(#[case] answer: Value) {
    assert!(serde_json::from_value::<User>(answer).is_err());
}

#[test]
fn addresses_are_the_mailbox_and_the_sign_in_name_where_it_is_one() {
    let addresses = |fields| -> Vec<String> {
        let person = user(fields).person(None);
        let addresses = person.map(|person| person.addresses).unwrap_or_default();
        addresses.iter().map(ToString::to_string).collect()
    };
    assert_eq!(addresses(json!({})), ["Ada@Example.org"]);
    assert_eq!(
        addresses(json!({"username": "ada@corp.example"})),
        ["Ada@Example.org", "ada@corp.example"]
    );
    assert_eq!(
        addresses(json!({"username": "ada@example.org"})),
        ["Ada@Example.org"]
    );
    assert_eq!(
        addresses(json!({"email": null, "username": "ada@example.org"})),
        ["ada@example.org"]
    );
    assert_eq!(addresses(json!({"email": "", "username": "ada"})), [""; 0]);
}

#[test]
fn an_account_without_an_address_still_says_whether_it_works() {
    let bare = || user(json!({"email": null, "enabled": false}));
    assert_eq!(bare().person(None), None);
    let account = bare().account(None);
    assert_eq!(account.status, IdentityStatus::Disabled);
    assert!(account.addresses.is_empty());
}

#[test]
fn a_name_is_made_of_what_there_is() {
    let name = |fields| person(fields).name;
    assert_eq!(
        name(json!({"firstName": "Ada", "lastName": "Lovelace"})).as_deref(),
        Some("Ada Lovelace")
    );
    assert_eq!(
        name(json!({"firstName": " ", "lastName": "Lovelace"})).as_deref(),
        Some("Lovelace")
    );
    assert_eq!(name(json!({})), None);
}

#[test]
fn accounts_of_programs_and_of_other_storages_are_known() {
    assert!(user(json!({"username": "service-account-lapsed"})).is_service());
    assert!(user(json!({"serviceAccountClientId": "lapsed"})).is_service());
    assert!(!user(json!({})).is_service());
    assert!(user(json!({"id": "f:1b3c:ada"})).is_stored_elsewhere());
    assert!(!user(json!({})).is_stored_elsewhere());
}

/// What is told of those who are added.
fn told(members: Option<HashSet<uuid::Uuid>>, users: Vec<User>) -> Vec<Person> {
    let mut told = Vec::new();
    let mut tell = |person: Person| told.push(person);
    let mut roll = Roll::new(&mut tell, members);
    for user in users {
        roll.add(user);
    }
    let answering = roll.storages_in_doubt();
    roll.finish("the users", &answering).unwrap();
    told
}

#[test]
fn an_account_is_told_of_once() {
    let twice = told(None, vec![user(json!({})), user(json!({"enabled": false}))]);
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].is_member, None);
}

#[test]
fn membership_goes_by_id() {
    let members = HashSet::from([user(json!({})).key()]);
    let others = json!({"id": "other", "email": "bob@example.org"});
    let people = told(Some(members), vec![user(json!({})), user(others)]);
    let is_member: Vec<_> = people.iter().map(|person| person.is_member).collect();
    assert_eq!(is_member, [Some(true), Some(false)]);
}

#[test]
fn a_storage_of_which_everybody_is_disabled_may_be_out_of_reach() {
    let of = |id: &str, storage: &str, enabled: bool| {
        user(json!({"id": id, "federationLink": storage, "enabled": enabled}))
    };
    let statuses = |users| -> Vec<_> {
        let people = told(None, users);
        let mut statuses: Vec<_> = people
            .into_iter()
            .map(|person| (person.id.unwrap(), person.status))
            .collect();
        statuses.sort();
        statuses
    };
    let (disabled, unknown) = (IdentityStatus::Disabled, IdentityStatus::Unknown);
    assert_eq!(
        statuses(vec![of("a", "ldap", false), of("b", "ldap", false)]),
        [("a".to_owned(), unknown), ("b".to_owned(), unknown)]
    );
    assert_eq!(
        statuses(vec![of("a", "ldap", false), of("b", "ldap", true)]),
        [
            ("a".to_owned(), disabled),
            ("b".to_owned(), IdentityStatus::Active)
        ],
        "one who is enabled proves that it answers, whoever comes first"
    );
    assert_eq!(
        statuses(vec![of("a", "ldap", false), of("b", "hr", true)])[0],
        ("a".to_owned(), unknown),
        "of another storage proves nothing"
    );
    assert_eq!(
        statuses(vec![user(json!({"id": "a", "enabled": false}))]),
        [("a".to_owned(), disabled)],
        "those of Keycloak itself need no proof"
    );
}
