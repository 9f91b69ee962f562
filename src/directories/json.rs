//! Reads the JSON of identity providers value by value. A value that is not of the documented type is missing, and a
//! record without an id is counted and left out; neither makes the rest of a response unreadable.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The records of a list. Some servers send one record alone instead of a list with one.
#[derive(Debug)]
pub(super) struct Records<T> {
    pub items: Vec<T>,
    /// Records without an id, which no one can be bound to.
    pub without_id: u64,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            without_id: 0,
        }
    }
}

impl<T> Records<T> {
    /// How many the server sent.
    pub fn count(&self) -> usize {
        self.items.len() + usize::try_from(self.without_id).unwrap_or(usize::MAX)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Records<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut records = Self::default();
        match Value::deserialize(deserializer)? {
            Value::Array(values) => {
                for value in values {
                    match T::deserialize(value) {
                        Ok(item) => records.items.push(item),
                        Err(_) => records.without_id += 1,
                    }
                }
            }
            // Anything else may be a report of an error.
            value => records
                .items
                .push(T::deserialize(value).map_err(D::Error::custom)?),
        }
        Ok(records)
    }
}

/// Why people may be missing from a listing, if records have no id.
pub(super) fn without_id_note(count: u64) -> Option<String> {
    match count {
        0 => None,
        1 => Some("1 record of a person has no id and is left out".to_owned()),
        _ => Some(format!(
            "{count} records of people have no id and are left out"
        )),
    }
}

/// A text, or a number as text.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(into_text(Value::deserialize(deserializer)?))
}

pub(super) fn required_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    let text = text(deserializer)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| D::Error::custom("is missing"))
}

pub(super) fn into_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A number, or a text that is one.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = text(deserializer)?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

/// The values of a list that have the documented type. One value alone counts as a list.
pub(super) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let values = match Value::deserialize(deserializer)? {
        Value::Array(values) => values,
        Value::Null => Vec::new(),
        value => vec![value],
    };
    let items = values.into_iter().map(T::deserialize);
    Ok(items.filter_map(Result::ok).collect())
}

/// The records of a list that may be `null`.
pub(super) fn records<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Records<T>, D::Error> {
    let records: Option<Records<T>> = Option::deserialize(deserializer)?;
    Ok(records.unwrap_or_default())
}

/// A value of the documented type.
pub(super) fn optional<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(T::deserialize(Value::deserialize(deserializer)?).ok())
}

/// A boolean, which some servers send as a text or as a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Flag {
    #[default]
    Missing,
    /// The value, and the JSON that the server sent.
    Set(bool, String),
    Invalid,
}

impl Flag {
    /// `None` if it is missing or invalid.
    pub fn value(&self) -> Option<bool> {
        match self {
            Self::Set(flag, _) => Some(*flag),
            Self::Missing | Self::Invalid => None,
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let json = value.to_string();
        let flag = match &value {
            Value::Null => return Ok(Self::Missing),
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => parse_flag(&number.to_string()),
            Value::String(text) => parse_flag(text.trim()),
            Value::Array(_) | Value::Object(_) => None,
        };
        Ok(flag.map_or(Self::Invalid, |flag| Self::Set(flag, json)))
    }
}

fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Record {
        #[serde(deserialize_with = "required_text")]
        id: String,
        #[serde(default, deserialize_with = "text")]
        name: Option<String>,
        #[serde(default, deserialize_with = "list")]
        mails: Vec<String>,
    }

    fn read(json: Value) -> Records<Record> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn records_without_an_id_are_counted_and_the_others_are_kept() {
        let records = read(json!([
            {"id": "a"}, {"id": 7, "name": 1.5, "mails": "x"}, {"id": null}, {"id": ""}, {"name": "b"},
            "text", null, [], {"id": ["c"]}, {"id": "d", "name": {}, "mails": [1, "y", null]}
        ]));
        let ids: Vec<&str> = records.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["a", "7", "d"]);
        assert_eq!((records.without_id, records.count()), (7, 10));
        let [_, seven, last] = &records.items[..] else {
            panic!("{records:?}")
        };
        assert_eq!(seven.name.as_deref(), Some("1.5"));
        assert_eq!(
            (&seven.mails[..], &last.mails[..]),
            (&["x".to_owned()][..], &["y".to_owned()][..])
        );
        assert_eq!(last.name, None);
    }

    #[test]
    fn null_is_a_list_without_values() {
        #[derive(Deserialize)]
        struct Lists {
            #[serde(deserialize_with = "list")]
            values: Vec<Value>,
            #[serde(deserialize_with = "records")]
            records: Records<Record>,
        }
        let lists = |values: Value, records: Value| -> (usize, usize) {
            let json = json!({"values": values, "records": records});
            let lists: Lists = serde_json::from_value(json).unwrap();
            (lists.values.len(), lists.records.count())
        };
        assert_eq!(lists(json!(null), json!(null)), (0, 0));
        assert_eq!(lists(json!([null]), json!([null])), (1, 1));
        assert_eq!(lists(json!("x"), json!({"id": "a"})), (1, 1));
    }

    #[test]
    fn one_record_alone_is_a_list_and_an_error_report_is_not() {
        assert_eq!(read(json!({"id": "a"})).count(), 1);
        for other in [
            json!(null),
            json!({"error": "denied"}),
            json!("denied"),
            json!(5),
            json!(true),
        ] {
            assert!(serde_json::from_value::<Records<Record>>(other).is_err());
        }
    }

    #[rstest]
    #[case(json!(true), Some(true))]
    #[case(json!("True"), Some(true))]
    #[case(json!(" 1 "), Some(true))]
    #[case(json!(1), Some(true))]
    #[case(json!("FALSE"), Some(false))]
    #[case(json!(0), Some(false))]
    #[case(json!("0"), Some(false))]
    #[case(json!("yes"), None)]
    #[case(json!(2), None)]
    #[case(json!(1.0), None)]
    #[case(json!(""), None)]
    #[case(json!([true]), None)]
    #[case(json!({}), None)]
    fn a_flag_is_read_in_every_form_that_has_one_meaning(
        #[case] json: Value,
        #[case] value: Option<bool>,
    ) {
        let flag: Flag = serde_json::from_value(json).unwrap();
        assert_eq!(flag.value(), value);
        assert_eq!(flag == Flag::Invalid, value.is_none());
    }
}
