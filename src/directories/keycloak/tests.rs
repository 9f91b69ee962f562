use std::collections::HashSet;

use rstest::rstest;
use serde_json::{Value, json};

use super::groups::{Group, identified};
use super::users::{Collector, User};
use crate::directories::account::{AllowedGroups, GroupMembers, PersonCollector, id_key};
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

fn build_person(fields: Value) -> Person {
    user(fields).into_person()
}

#[rstest]
#[case::enabled(json!({}), IdentityStatus::Active, None, "enabled=true")]
#[case::disabled(json!({"enabled": false}), IdentityStatus::Disabled, Some(Reason::Admin), "enabled=false")]
#[case::absent(json!({"enabled": null}), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field enabled")]
#[case::to_act(
    json!({"requiredActions": ["UPDATE_PASSWORD", "VERIFY_EMAIL"], "emailVerified": false}),
    IdentityStatus::Active, None, "enabled=true"
)]
#[case::signed_out(json!({"notBefore": 1_800_000_000, "totp": false}), IdentityStatus::Active, None, "enabled=true")]
fn the_status_is_the_value_of_enabled(
    #[case] fields: Value,
    #[case] status: IdentityStatus,
    #[case] reason: Option<Reason>,
    #[case] evidence: &str,
) {
    let person = build_person(fields);
    assert_eq!(
        (person.status, person.reason, person.evidence.as_str()),
        (status, reason, evidence)
    );
    assert_eq!((person.id.as_deref(), person.since), (Some(ID), None));
}

#[rstest]
#[case::text(json!({"enabled": "false"}), "disabled: enabled=\"false\"")]
#[case::number(json!({"enabled": 0}), "disabled: enabled=0")]
#[case::another(json!({"enabled": {}}), "unknown: enabled is neither true nor false")]
fn an_undocumented_value_changes_only_this_account(#[case] fields: Value, #[case] expected: &str) {
    let person = build_person(fields);
    assert_eq!(format!("{}: {}", person.status, person.evidence), expected);
}

#[test]
fn an_account_without_an_id_is_not_read() {
    assert!(serde_json::from_value::<User>(json!({"enabled": true})).is_err());
}

#[test]
fn addresses_are_the_mailbox_and_a_sign_in_name_that_is_an_address() {
    let addresses = |fields| -> Vec<String> {
        let person = user(fields).into_person();
        person.addresses().map(ToString::to_string).collect()
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
fn an_account_without_an_address_has_a_status() {
    let bare = || user(json!({"email": null, "enabled": false}));
    let account = bare().into_person();
    assert_eq!(account.status, IdentityStatus::Disabled);
    assert_eq!(account.main, None);
}

#[test]
fn a_name_is_made_of_the_parts_that_exist() {
    let name = |fields| build_person(fields).name;
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
fn service_accounts_and_external_accounts_are_recognised() {
    assert!(user(json!({"username": "service-account-lapsed"})).is_service());
    assert!(user(json!({"serviceAccountClientId": "lapsed"})).is_service());
    assert!(!user(json!({})).is_service());
    assert!(user(json!({"id": "f:1b3c:ada"})).is_external());
    assert!(!user(json!({})).is_external());
}

/// The people that a collector passes on.
fn collected(members: Option<HashSet<uuid::Uuid>>, users: Vec<User>) -> Vec<Person> {
    let mut people = Vec::new();
    let mut sink = |person: Person| people.push(person);
    let mut allowed_groups = AllowedGroups::default();
    if let Some(members) = members {
        let without_id = 0;
        let ids = members;
        allowed_groups.add("ops", GroupMembers { ids, without_id });
    }
    let mut collector = Collector::new(PersonCollector::new(&allowed_groups, &mut sink));
    for user in users {
        collector.add(user);
    }
    let reachable = collector.doubtful_storages();
    collector.finish("the users", &reachable).unwrap();
    people
}

#[test]
fn an_account_is_listed_once() {
    let twice = collected(None, vec![user(json!({})), user(json!({"enabled": false}))]);
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].is_member, None);
}

#[test]
fn membership_is_by_id() {
    let members = HashSet::from([id_key(&user(json!({})).id)]);
    let others = json!({"id": "other", "email": "bob@example.org"});
    let people = collected(Some(members), vec![user(json!({})), user(others)]);
    let is_member: Vec<_> = people.iter().map(|person| person.is_member).collect();
    assert_eq!(is_member, [Some(true), Some(false)]);
}

#[test]
fn a_storage_with_no_enabled_account_may_be_out_of_reach() {
    let imported = |id: &str, storage: &str, enabled: bool| {
        user(json!({"id": id, "federationLink": storage, "enabled": enabled}))
    };
    let statuses = |users| -> Vec<_> {
        let people = collected(None, users);
        let mut statuses: Vec<_> = people
            .into_iter()
            .map(|person| (person.id.unwrap(), person.status))
            .collect();
        statuses.sort();
        statuses
    };
    let (disabled, unknown) = (IdentityStatus::Disabled, IdentityStatus::Unknown);
    assert_eq!(
        statuses(vec![
            imported("a", "ldap", false),
            imported("b", "ldap", false)
        ]),
        [("a".to_owned(), unknown), ("b".to_owned(), unknown)]
    );
    assert_eq!(
        statuses(vec![
            imported("a", "ldap", false),
            imported("b", "ldap", true)
        ]),
        [
            ("a".to_owned(), disabled),
            ("b".to_owned(), IdentityStatus::Active)
        ],
        "an enabled account proves that the storage answers, in any order"
    );
    assert_eq!(
        statuses(vec![
            imported("a", "ldap", false),
            imported("b", "hr", true)
        ])[0],
        ("a".to_owned(), unknown),
        "an account of another storage proves nothing"
    );
    assert_eq!(
        statuses(vec![
            imported("a", "ldap", false),
            imported("a", "ldap", true)
        ]),
        [("a".to_owned(), unknown)],
        "a storage that answers only later does not confirm what it showed before"
    );
    assert_eq!(
        statuses(vec![user(json!({"id": "a", "enabled": false}))]),
        [("a".to_owned(), disabled)],
        "accounts of Keycloak itself need no proof"
    );
}

#[rstest]
#[case::none(json!({}), Some(0))]
#[case::null(json!({"subGroups": null}), Some(0))]
#[case::all_with_an_id(json!({"subGroups": [{"id": "a"}, {"id": 7}]}), Some(2))]
#[case::one_without_an_id(json!({"subGroups": [{"id": "a"}, {"name": "b"}]}), None)]
#[case::odd(json!({"subGroups": [{"id": "a"}, "b"]}), None)]
fn a_subgroup_without_an_id_is_an_error(#[case] mut group: Value, #[case] count: Option<usize>) {
    group["id"] = json!(ID);
    let group: Group = serde_json::from_value(group).unwrap();
    let children = identified(group.sub_groups, "groups");
    assert_eq!(children.ok().map(|groups| groups.len()), count);
}
