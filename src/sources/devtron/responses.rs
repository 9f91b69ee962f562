//! The responses of Devtron.

use serde::Deserialize;

use super::permissions::Permissions;
use crate::domain::{Address, Cell, Expiry, ListedToken, Status};
use crate::sources::{Error, cells};
use crate::time;

/// Precedes the token's name in the name of its machine account.
const ACCOUNT_PREFIX: &str = "API-TOKEN:";

/// Whether `identity` is the machine account of the token `name`.
pub(super) fn is_account(name: &str, identity: &str) -> bool {
    format!("{ACCOUNT_PREFIX}{name}").eq_ignore_ascii_case(identity)
}

/// The envelope of every response.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Response<T> {
    code: Option<i64>,
    /// May be null, but must not be missing.
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    result: Cell<T>,
}

impl<T> Response<T> {
    /// `None` if the result is null.
    pub fn result(self, path: &str) -> Result<Option<T>, Error> {
        let reason = match (self.code, self.result) {
            (Some(code), _) if !(200..300).contains(&code) => {
                format!("the response is an error of code {code}")
            }
            (_, Cell::Absent) => "the response has no result".to_owned(),
            (_, result) => return Ok(result.into_option()),
        };
        Err(Error::content(format!("GET /{path}"), reason))
    }
}

/// A token. There is no field for its secret, which Devtron sends along unless it is configured not to, nor for
/// what it calls the last use, which is the first.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token {
    pub id: i64,
    pub user_id: Option<i64>,
    user_identifier: Option<String>,
    pub name: Option<String>,
    description: Option<String>,
    /// Zero, negative values and null mean never.
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    expire_at_in_ms: Cell<i64>,
}

impl Token {
    /// Whether this is the token of the machine account.
    pub fn has_account(&self, identity: &str) -> bool {
        let account = self.user_identifier.as_deref();
        let name = self.name.as_deref();
        account.is_some_and(|account| account.eq_ignore_ascii_case(identity))
            || name.is_some_and(|name| is_account(name, identity))
    }

    /// Devtron does not list deleted tokens.
    pub fn to_listed(&self, permissions: Option<&Permissions>) -> ListedToken {
        ListedToken {
            name: cells::text(self.name.as_deref()),
            description: cells::text(self.description.as_deref()),
            role: permissions.map_or(Cell::Absent, |found| cells::text(Some(&found.role()))),
            scope: permissions.map_or(Cell::Absent, |found| cells::text(Some(&found.scope()))),
            expiry: Cell::Value(self.expiry()),
            status: Cell::Value(Status::Active),
            ..ListedToken::with_id(self.id.to_string())
        }
    }

    fn expiry(&self) -> Expiry {
        match self.expire_at_in_ms {
            Cell::Empty | Cell::Value(..=0) => Expiry::Never,
            Cell::Value(millis) => time::from_millis(millis).map_or(Expiry::Unknown, Expiry::At),
            Cell::Absent => Expiry::Unknown,
        }
    }

    /// Takes the only address in the description as the issuer. Without one, or with several, the known issuer is
    /// kept.
    pub fn set_issuer_from_description(&self, listed: &mut ListedToken) {
        let text = self.description.as_deref().unwrap_or_default();
        let words = text.split(|c: char| c.is_whitespace() || "<>()[]{},;:\"'|".contains(c));
        let addresses: Vec<Address> = words
            .filter(|word| word.contains('@'))
            .filter_map(|word| word.trim_end_matches('.').parse().ok())
            .collect();
        listed.issuer = match addresses.as_slice() {
            [address] => Cell::Value(address.clone()),
            _ => Cell::Absent,
        };
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn token(fields: &Value) -> Token {
        let mut token = json!({"id": 4, "name": "ci"});
        let fields = fields.as_object().unwrap().clone();
        token.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(token).unwrap()
    }

    #[rstest]
    #[case(json!({"expireAtInMs": 1_795_737_600_000_i64}), Expiry::At("2026-11-27T00:00:00Z".parse().unwrap()))]
    #[case(json!({"expireAtInMs": 0}), Expiry::Never)]
    #[case(json!({"expireAtInMs": -1}), Expiry::Never)]
    #[case(json!({"expireAtInMs": null}), Expiry::Never)]
    #[case(json!({"expireAtInMs": i64::MAX}), Expiry::Unknown)]
    #[case(json!({}), Expiry::Unknown)]
    fn an_expiry_is_in_milliseconds_and_zero_is_never(
        #[case] fields: Value,
        #[case] expiry: Expiry,
    ) {
        assert_eq!(token(&fields).expiry(), expiry);
    }

    #[rstest]
    #[case("jenkins", None)]
    #[case("jenkins, ask Ada <ada@example.org>.", Some("ada@example.org"))]
    #[case("owner: ada@example.org.", Some("ada@example.org"))]
    #[case("ada@example.org or bob@example.org", None)]
    #[case("deploys @ night", None)]
    fn a_single_address_in_the_description_is_the_issuer(
        #[case] description: &str,
        #[case] address: Option<&str>,
    ) {
        let mut listed = ListedToken::with_id("4");
        token(&json!({"description": description})).set_issuer_from_description(&mut listed);
        assert_eq!(listed.issuer == Cell::Absent, address.is_none());
        let found = listed
            .issuer
            .into_option()
            .map(|address| address.to_string());
        assert_eq!(found.as_deref(), address);
    }

    #[test]
    fn a_response_without_a_result_is_an_error() {
        let read = |text: &str| {
            serde_json::from_str::<Response<Vec<i64>>>(text)
                .unwrap()
                .result("x")
        };
        assert_eq!(read(r#"{"code":200,"result":null}"#).unwrap(), None);
        assert_eq!(read(r#"{"result":[1]}"#).unwrap(), Some(vec![1]));
        for bad in [
            r#"{"code":200,"status":"OK"}"#,
            "{}",
            r#"{"code":500,"result":null}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
