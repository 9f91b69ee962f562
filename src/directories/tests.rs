//! One odd record of a response is at most one unknown person: the others' records mean the same.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{entra, keycloak, ldap, okta, scim};
use crate::domain::Person;

const CASES: u32 = 10_000;

const RECORDS: usize = 5;

/// What a server may send in place of anything.
fn odd_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("true"),
            Just("False"),
            Just("1"),
            Just("2026-13-45"),
            Just("@")
        ]
        .prop_map(Value::from),
        "[a-z]{1,3}@[a-z]{1,3}\\.example".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("id|value|name|[a-z]{1,4}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// All places in a JSON text, the whole of it included.
fn pointers(value: &Value, prefix: &str, found: &mut Vec<String>) {
    found.push(prefix.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{prefix}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                pointers(value, &format!("{prefix}/{at}"), found);
            }
        }
        _ => {}
    }
}

/// Checks a reader of a list of records; `record` is a good one with this number.
fn check(record: fn(usize) -> Value, read: impl Fn(Vec<Value>) -> Option<Vec<Person>>) {
    let good: Vec<Value> = (0..RECORDS).map(record).collect();
    let people = read(good.clone()).unwrap();
    assert_eq!(people.len(), RECORDS);
    assert!(people.iter().all(Person::has_access));
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    };
    let case = (0..RECORDS, any::<Index>(), odd_value());
    let ran = TestRunner::new(config).run(&case, |(number, place, odd)| {
        let mut records = good.clone();
        let mut places = Vec::new();
        pointers(&records[number], "", &mut places);
        let place = place.get(&places);
        *records[number].pointer_mut(place).unwrap() = odd;
        let found = read(records);
        prop_assert!(found.is_some(), "the whole list is refused");
        let found = found.unwrap();
        prop_assert!(found.len() <= RECORDS);
        for (other, person) in people.iter().enumerate() {
            prop_assert!(other == number || found.contains(person), "{:?}", person);
        }
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn one_odd_user_of_scim_changes_no_other() {
    let user = |number: usize| {
        json!({
            "id": format!("id-{number}"), "userName": format!("u{number}@example.org"), "active": true,
            "emails": [{"value": format!("u{number}@example.org"), "type": "work", "primary": true}],
            "displayName": "Ada", "name": {"formatted": "Ada", "givenName": "Ada", "familyName": "L"},
            "groups": [{"value": "g", "display": "ops"}], "meta": {"resourceType": "User"}
        })
    };
    check(user, |users| {
        scim::read_people(json!({"totalResults": RECORDS, "Resources": users}))
    });
}

#[test]
fn one_odd_user_of_okta_changes_no_other() {
    let user = |number: usize| {
        json!({
            "id": format!("id-{number}"), "status": "ACTIVE", "statusChanged": "2026-11-01T08:00:00.000Z",
            "profile": {"login": format!("u{number}@example.org"), "email": format!("u{number}@example.org"),
                "secondEmail": null, "firstName": "Ada", "lastName": "L", "displayName": "Ada"}
        })
    };
    check(user, |users| okta::read_people(Value::from(users)));
}

#[test]
fn one_odd_user_of_keycloak_changes_no_other() {
    let user = |number: usize| {
        json!({
            "id": format!("id-{number}"), "username": format!("u{number}"), "email": format!("u{number}@example.org"),
            "firstName": "Ada", "lastName": "L", "enabled": true, "federationLink": "ldap", "attributes": {"x": ["y"]}
        })
    };
    check(user, |users| keycloak::read_people(Value::from(users)));
}

#[test]
fn one_odd_user_of_entra_changes_no_other() {
    let user = |number: usize| {
        json!({
            "id": format!("id-{number}"), "userPrincipalName": format!("u{number}@example.org"),
            "mail": format!("u{number}@example.org"), "proxyAddresses": [format!("SMTP:u{number}@example.org")],
            "otherMails": [format!("u{number}@home.example")], "displayName": "Ada", "accountEnabled": true,
            "externalUserState": null
        })
    };
    check(user, |users| entra::read_people(json!({"value": users})));
}

/// Attributes of an entry as JSON: a text, or the bytes of a value that is not one.
#[test]
fn one_odd_entry_of_ldap_changes_no_other() {
    let entry = |number: usize| {
        json!({
            "entryUUID": [format!("id-{number}")], "mail": [format!("u{number}@example.org")], "cn": ["Ada"],
            "displayName": ["Ada"], "pwdAccountLockedTime": [], "pwdEndTime": ["20991231000000Z"]
        })
    };
    check(entry, |entries| Some(ldap::read_people(&entries)));
}
