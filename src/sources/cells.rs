//! Converts values from the responses of systems into cells. A date that cannot be read becomes an empty
//! cell, because that is no reason to lose the token.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::{Address, Cell};
use crate::time;

use super::rows::Value;

/// A text without control characters, as in a file. Empty text is an empty cell.
#[must_use]
pub fn text(text: Option<&str>) -> Cell<String> {
    match Value::text("", text.unwrap_or_default()) {
        Ok(Value::Text(text)) => Cell::Value(text),
        _ => Cell::Empty,
    }
}

/// A mail address. Anything else, such as a login name, is an empty cell.
#[must_use]
pub fn address(text: Option<&str>) -> Cell<Address> {
    text.and_then(|text| text.trim().parse().ok()).into()
}

/// Reads null as an empty cell. With `default`, a missing field becomes an absent one.
///
/// # Errors
/// If the value is of another type.
pub fn null_as_empty<'de, D, T>(value: D) -> Result<Cell<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(value).map(Cell::from)
}

#[must_use]
pub fn instant_cell(text: Option<&str>) -> Cell<DateTime<Utc>> {
    text.and_then(time::parse_system_instant).into()
}
