//! Generated responses of systems, for tests of their readers.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::domain::ListedToken;

const CASES: u32 = 10_000;

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop_oneof![
            Just(""),
            Just("soon"),
            Just("0001-01-01T00:00:00Z"),
            Just("1970-01-01"),
            Just("+294276-12-31T23:59:59Z"),
            Just("99999999999999999999"),
            Just("2"),
            Just("a@b@c"),
        ]
        .prop_map(Value::from),
        Just(Value::from("é".repeat(300))),
        any::<[i64; 2]>().prop_map(|numbers| json!(numbers)),
        any::<i64>().prop_map(|number| json!({"id": number, "name": [number]})),
        Just(json!(["ada@example.org", "bob@example.org"])),
        Just(json!([[[{}]], null])),
    ]
}

/// The places of all values, as JSON pointers.
fn add_places(value: &Value, place: &str, places: &mut Vec<String>) {
    places.push(place.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                add_places(value, &format!("{place}/{key}"), places);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add_places(item, &format!("{place}/{index}"), places);
            }
        }
        _ => {}
    }
}

/// `list` reads the records of a list; it may refuse one, but must not fail.
pub fn assert_only_the_odd_record_changes(good: &[Value], list: impl Fn(&str) -> Vec<ListedToken>) {
    let text = |records: &[Value]| serde_json::to_string(records).unwrap();
    let expected = list(&text(good));
    assert_eq!(expected.len(), good.len());
    let mut places = Vec::new();
    for (index, record) in good.iter().enumerate() {
        let mut in_record = Vec::new();
        add_places(record, "", &mut in_record);
        places.extend(in_record.into_iter().map(|place| (index, place)));
    }
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let changes = (proptest::sample::select(places), odd_value());
    TestRunner::new_with_rng(config, rng)
        .run(&changes, |((index, place), odd)| {
            let mut records = good.to_vec();
            *records[index].pointer_mut(&place).unwrap() = odd;
            let listed = list(&text(&records));
            prop_assert!(listed.len() + 1 >= good.len());
            for (other, token) in expected.iter().enumerate() {
                prop_assert!(other == index || listed.contains(token), "{token:?}");
            }
            Ok(())
        })
        .unwrap();
}
