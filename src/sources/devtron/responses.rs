//! The responses of Devtron: tokens, and the permissions of their machine accounts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::DateTime;
use serde::Deserialize;

use crate::domain::{Address, Cell, Expiry, ListedToken, Status, column};
use crate::sources::fields::{Field, FieldReader};
use crate::sources::{Error, cells};

/// Precedes the token's name in the name of its machine account.
const ACCOUNT_PREFIX: &str = "API-TOKEN:";

/// Further permissions are only counted.
const MAX_SHOWN: usize = 10;

/// Whether `identity` is the machine account of the token `name`.
pub(super) fn is_account(name: &str, identity: &str) -> bool {
    format!("{ACCOUNT_PREFIX}{name}").eq_ignore_ascii_case(identity)
}

/// The envelope of every response.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Response<T> {
    #[serde(default)]
    code: Field,
    /// May be null, but must not be missing.
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    result: Cell<T>,
}

impl<T> Response<T> {
    /// `None` if the result is null.
    pub fn result(self, path: &str) -> Result<Option<T>, Error> {
        let reason = match (self.code.integer(), self.result) {
            (Ok(Some(code)), _) if !(200..300).contains(&code) => {
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
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Token {
    id: Field,
    user_id: Field,
    user_identifier: Field,
    name: Field,
    description: Field,
    /// Zero, negative values and null mean never.
    expire_at_in_ms: Field,
}

impl Token {
    /// `None` if it has no usable id.
    pub fn id(&self) -> Option<i64> {
        self.id.integer().ok()?
    }

    pub fn account(&self) -> Option<i64> {
        self.user_id.integer().ok()?
    }

    /// The exact name.
    pub fn name(&self) -> Option<&str> {
        match &self.name {
            Field::Text(name) => Some(name),
            _ => None,
        }
    }

    /// Whether this is the token of the machine account.
    pub fn has_account(&self, identity: &str) -> bool {
        let account = self.user_identifier.text();
        account.is_some_and(|account| account.eq_ignore_ascii_case(identity))
            || self.name().is_some_and(|name| is_account(name, identity))
    }

    /// Devtron does not list deleted tokens.
    pub fn to_listed(&self, permissions: Option<&Permissions>) -> ListedToken {
        let mut fields = FieldReader::default();
        let token = ListedToken {
            name: fields.text("name", &self.name),
            description: fields.text("description", &self.description),
            role: permissions.map_or(Cell::Absent, |found| cells::text(Some(&found.role()))),
            scope: permissions.map_or(Cell::Absent, |found| cells::text(Some(&found.scope()))),
            expiry: self.expiry(&mut fields),
            status: Cell::Value(Status::Active),
            ..ListedToken::with_id(self.id.id().unwrap_or_default())
        };
        fields.finish(token)
    }

    /// Some versions write 1 for a token whose expiry they do not know.
    fn expiry(&self, fields: &mut FieldReader) -> Cell<Expiry> {
        let millis = match &self.expire_at_in_ms {
            Field::Absent => return Cell::Value(Expiry::Unknown),
            Field::Null => return Cell::Value(Expiry::Never),
            millis => fields.integer(column::EXPIRES_AT, millis),
        };
        match millis {
            None => Cell::Absent,
            Some(..=0) => Cell::Value(Expiry::Never),
            Some(..1000) => Cell::Value(Expiry::Unknown),
            Some(millis) => match DateTime::from_timestamp_millis(millis) {
                Some(at) => fields.expiry_at(at),
                // It is beyond what a date can be.
                None => Cell::Value(Expiry::Never),
            },
        }
    }

    /// Takes the only address in the description as the issuer. Without one, or with several, the known issuer is
    /// kept.
    pub fn set_issuer_from_description(&self, listed: &mut ListedToken) {
        let text = self.description.text().unwrap_or_default();
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

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permissions {
    super_admin: Option<bool>,
    role_filters: Option<Vec<Filter>>,
    /// The names of the permission groups, on older servers.
    groups: Option<Vec<String>>,
    user_role_groups: Option<Vec<Membership>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Membership {
    role_group: Option<NamedGroup>,
}

#[derive(Debug, Deserialize)]
struct NamedGroup {
    name: Option<String>,
}

/// A specific permission. Empty text means everything.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    entity: Option<String>,
    access_type: Option<String>,
    action: Option<String>,
    team: Option<String>,
    environment: Option<String>,
    entity_name: Option<String>,
    cluster: Option<String>,
    namespace: Option<String>,
    group: Option<String>,
    kind: Option<String>,
    resource: Option<String>,
}

impl Permissions {
    fn is_super_admin(&self) -> bool {
        self.super_admin == Some(true)
    }

    /// Examples: `super admin`, `trigger, view, group ops`.
    pub fn role(&self) -> String {
        if self.is_super_admin() {
            return "super admin".to_owned();
        }
        let filters = self.role_filters.iter().flatten();
        let actions: BTreeSet<&str> = filters
            .filter_map(|filter| non_empty(filter.action.as_ref()))
            .collect();
        let memberships = self.user_role_groups.iter().flatten();
        let groups: BTreeSet<String> = memberships
            .filter_map(|member| member.role_group.as_ref()?.name.as_ref())
            .chain(self.groups.iter().flatten())
            .map(|name| format!("group {name}"))
            .collect();
        let actions = actions.into_iter().map(str::to_owned);
        join_limited(actions.chain(groups).collect(), ", ")
    }

    /// Example: `Devtron apps payments/prod/*; chart groups *`.
    pub fn scope(&self) -> String {
        if self.is_super_admin() {
            return String::new();
        }
        let filters = self.role_filters.iter().flatten();
        let scopes: BTreeSet<String> = filters.map(Filter::scope).collect();
        join_limited(scopes.into_iter().collect(), "; ")
    }
}

impl Filter {
    fn scope(&self) -> String {
        let app = [&self.team, &self.environment, &self.entity_name];
        let resource = [
            &self.cluster,
            &self.namespace,
            &self.group,
            &self.kind,
            &self.resource,
        ];
        let (what, path): (&str, &[_]) = match non_empty(self.entity.as_ref()) {
            Some("cluster") => ("Kubernetes resources", &resource),
            Some("chart-group") => ("chart groups", &app[2..]),
            Some("jobs") => ("jobs", &app),
            _ if non_empty(self.access_type.as_ref()) == Some("helm-app") => ("Helm apps", &app),
            _ => ("Devtron apps", &app),
        };
        let path: Vec<&str> = path
            .iter()
            .map(|part| non_empty(part.as_ref()).unwrap_or("*"))
            .collect();
        format!("{what} {}", path.join("/"))
    }
}

fn non_empty(text: Option<&String>) -> Option<&str> {
    let text = text.map(|text| text.trim());
    text.filter(|text| !text.is_empty())
}

fn join_limited(mut items: Vec<String>, between: &str) -> String {
    let omitted = items.len().saturating_sub(MAX_SHOWN);
    items.truncate(MAX_SHOWN);
    let mut text = items.join(between);
    if omitted > 0 {
        let _ = write!(text, "{between}and {omitted} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::sources::RefusedRows;
    use crate::sources::fields::{Item, generated, with_ids};

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
    #[case(json!({"expireAtInMs": "1795737600000"}), Expiry::At("2026-11-27T00:00:00Z".parse().unwrap()))]
    #[case(json!({"expireAtInMs": 7_258_118_400_000_i64}), Expiry::Never)]
    #[case(json!({"expireAtInMs": i64::MAX}), Expiry::Never)]
    #[case(json!({"expireAtInMs": 1}), Expiry::Unknown)]
    #[case(json!({}), Expiry::Unknown)]
    fn an_expiry_is_in_milliseconds_and_zero_is_never(
        #[case] fields: Value,
        #[case] expiry: Expiry,
    ) {
        let listed = token(&fields).to_listed(None);
        assert_eq!(listed.expiry, Cell::Value(expiry));
        assert!(listed.unreadable.is_empty());
    }

    #[rstest]
    #[case(json!(true))]
    #[case(json!("soon"))]
    #[case(json!(1.5))]
    #[case(json!({}))]
    // Seconds instead of milliseconds.
    #[case(json!(1_795_737_600))]
    fn an_expiry_that_cannot_be_read_is_one_unreadable_cell(#[case] expiry: Value) {
        let listed = token(&json!({"expireAtInMs": expiry, "description": "x"})).to_listed(None);
        assert_eq!(listed.expiry, Cell::Absent);
        let unreadable: Vec<_> = listed.unreadable.into_keys().collect();
        assert_eq!(unreadable, ["expires_at"]);
        assert_eq!(listed.description, Cell::Value("x".to_owned()));
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
    fn an_odd_token_changes_no_other() {
        let token = |id: i64| {
            json!({
                "id": id, "userId": id, "userIdentifier": format!("API-TOKEN:ci {id}"), "name": format!("ci {id}"),
                "description": "ask ada@example.org", "expireAtInMs": 1_795_737_600_000_i64,
            })
        };
        let tokens: Vec<_> = (3..6).map(token).collect();
        generated::assert_only_the_odd_record_changes(&tokens, |text| {
            let text = format!("{{\"code\": 200, \"result\": {text}}}");
            let response: Response<Vec<Item<Token>>> = serde_json::from_str(&text).unwrap();
            let items = response.result("x").unwrap().unwrap();
            let has_id = |token: &Token| token.id().is_some();
            let tokens = with_ids(items, "tokens", has_id, &mut RefusedRows::default());
            let listed = tokens.iter().map(|token| {
                let mut listed = token.to_listed(None);
                token.set_issuer_from_description(&mut listed);
                listed
            });
            listed.collect()
        });
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

    #[rstest]
    #[case::super_admin(
        json!({"superAdmin": true, "roleFilters": [{"action": "admin"}]}),
        "super admin", ""
    )]
    #[case::apps(
        json!({"superAdmin": false, "groups": [], "roleFilters": [
            {"entity": "", "team": "payments", "environment": "prod", "entityName": "", "action": "view", "accessType": ""},
            {"entity": "apps", "team": "web", "environment": "", "entityName": "shop", "action": "trigger",
             "accessType": "helm-app"}
        ]}),
        "trigger, view", "Devtron apps payments/prod/*; Helm apps web/*/shop"
    )]
    #[case::kubernetes(
        json!({"roleFilters": [
            {"entity": "cluster", "cluster": "dev", "namespace": "ci", "kind": "Pod", "action": "view"},
            {"entity": "chart-group", "action": "view", "entityName": null}
        ]}),
        "view", "Kubernetes resources dev/ci/*/Pod/*; chart groups *"
    )]
    #[case::groups(
        json!({"roleFilters": null, "groups": ["ops"], "userRoleGroups": [{"roleGroup": {"id": 1, "name": "dev"}}]}),
        "group dev, group ops", ""
    )]
    #[case::nothing(json!({}), "", "")]
    fn permissions_are_a_role_and_a_scope(
        #[case] account: Value,
        #[case] role: &str,
        #[case] scope: &str,
    ) {
        let permissions: Permissions = serde_json::from_value(account).unwrap();
        assert_eq!(
            (permissions.role().as_str(), permissions.scope().as_str()),
            (role, scope)
        );
    }

    #[test]
    fn a_long_list_is_counted_after_ten() {
        let filters: Vec<Value> = (0..13)
            .map(|n| json!({"team": format!("team{n:02}")}))
            .collect();
        let permissions: Permissions =
            serde_json::from_value(json!({"roleFilters": filters})).unwrap();
        assert!(
            permissions
                .scope()
                .ends_with("Devtron apps team09/*/*; and 3 more")
        );
    }
}
