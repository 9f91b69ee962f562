//! The source `rancher`, with a stand-in for Rancher and its peculiarities.

mod authority;
mod completeness;
mod ending;
mod listing;
mod story;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lapsed::domain::ListedToken;
use lapsed::sources::{Error, Fetched, Kind, LastListing, Listing, ProxyRules, Source, rancher};
use serde_json::{Value, json};

use crate::stub::{Answer, Stub, StubRequest};

pub const OWN: &str = "token-lapsd:hush-own";

/// The prefix of everything that is secret.
pub const SECRET: &str = "hush-";

const MANAGEMENT: &str = "/k8s/clusters/local/apis/management.cattle.io/v3/";
const EXT: &str = "/k8s/clusters/local/apis/ext.cattle.io/v1/tokens";
const REVIEWS: &str = "/k8s/clusters/local/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

pub struct Rancher {
    stub: Stub,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    /// Of `management.cattle.io`.
    pub legacy: Vec<Value>,
    /// Of `ext.cattle.io`; `None` before 2.12.
    pub ext: Option<Vec<Value>>,
    /// The version, if it does not follow from the ext tokens.
    pub version: Option<&'static str>,
    pub users: Vec<Value>,
    pub attributes: Vec<Value>,
    pub providers: BTreeMap<&'static str, bool>,
    pub settings: BTreeMap<&'static str, &'static str>,
    /// Parts of paths that the token may not see.
    pub hidden: Vec<&'static str>,
    /// The answer of the cluster to access reviews; `None` means 404.
    pub allowed: Option<bool>,
    /// Users that lists omit, because they were created later.
    pub omitted: Vec<&'static str>,
    /// The ext tokens of other users are omitted.
    pub is_narrow: bool,
    /// The maximum number of items on a page.
    pub page: usize,
    /// Pages do not report the number of remaining items.
    pub is_uncounted: bool,
    /// The number of requests for further pages that get 410.
    pub stale: usize,
    /// Replaces the answer to the second page of a list.
    pub second_page: Option<fn() -> Answer>,
    /// Deleted objects stay, with a deletion timestamp (`true`) or without.
    pub keeps_deleted: Option<bool>,
    /// Replaces the answer to a DELETE after the deletion.
    pub delete_answer: Option<fn() -> Answer>,
}

impl Rancher {
    /// With two users, and tokens in both stores.
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State {
            legacy: vec![
                legacy(
                    "token-lapsd",
                    "u-boss",
                    json!({"description": "lapsed", "ttl": 0, "expiresAt": ""}),
                ),
                legacy("token-7x2kq", "u-ada", json!({})),
            ],
            ext: Some(vec![ext("token-chjc9", "u-ada", json!({}))]),
            users: vec![user("u-boss", json!({})), user("u-ada", json!({}))],
            providers: [("local", true), ("okta", true)].into(),
            settings: [("auth-token-max-ttl-minutes", "129600")].into(),
            allowed: Some(true),
            page: 500,
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let stub = Stub::start(move |asked| shared.lock().unwrap().answer(asked));
        Self { stub, state }
    }

    pub fn with(change: impl FnOnce(&mut State)) -> Self {
        let rancher = Self::new();
        change(&mut rancher.state());
        rancher
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The access reviews so far.
    pub fn reviews(&self) -> Vec<Value> {
        let asked = self.stub.requests().into_iter();
        let asked = asked.filter(|asked| asked.path == REVIEWS);
        asked
            .map(|asked| serde_json::from_str::<Value>(&asked.body).unwrap())
            .map(|question| question["spec"]["resourceAttributes"].clone())
            .collect()
    }

    pub fn url(&self) -> &str {
        &self.stub.url
    }

    /// Returns and clears the request lines so far.
    pub fn take_request_lines(&self) -> Vec<String> {
        self.stub.take_request_lines()
    }

    /// The source with the default configuration.
    pub fn source(&self) -> Box<dyn Source> {
        self.source_of(&rancher::TokenKind::default_kinds(), OWN)
    }

    /// The source with these kinds and this token.
    pub fn source_of(&self, kinds: &[rancher::TokenKind], token: &str) -> Box<dyn Source> {
        let config = rancher::Config {
            url: format!("{}/v3", self.stub.url).parse().unwrap(),
            token: token.into(),
            ca_file: None,
            kinds: kinds.to_vec(),
            users: [("u-map".to_owned(), "map@example.org".parse().unwrap())].into(),
        };
        Kind::Rancher(config)
            .build(Duration::from_secs(20), &ProxyRules::default())
            .unwrap()
    }

    pub async fn fetch(&self) -> Result<Listing, Error> {
        match self.source().fetch(&LastListing::default()).await? {
            Fetched::New(listing) => Ok(listing),
            Fetched::Unchanged => panic!("there was nothing before"),
        }
    }

    pub async fn tokens(&self) -> Vec<ListedToken> {
        let listing = self.fetch().await.unwrap();
        let tokens: Vec<ListedToken> = listing.tokens.map(Result::unwrap).collect();
        assert_eq!(tokens.len() as u64, listing.count);
        tokens
    }

    pub async fn token(&self, id: &str) -> ListedToken {
        let mut tokens = self.tokens().await.into_iter();
        tokens.find(|token| token.external_id == id).unwrap()
    }

    pub async fn fetch_error(&self) -> String {
        let error = self.fetch().await.map(|_| ()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET), "{text}");
        error.to_string()
    }
}

impl State {
    fn answer(&mut self, asked: &StubRequest) -> Answer {
        if asked.path == "/rancherversion" {
            let default_version = if self.ext.is_some() {
                "v2.12.1"
            } else {
                "v2.9.3"
            };
            return Answer::json(&json!({"Version": self.version.unwrap_or(default_version)}));
        }
        let bearer = asked.header("authorization").unwrap_or_default();
        if bearer
            .strip_prefix("Bearer ")
            .is_none_or(|token| !token.ends_with(":hush-own"))
        {
            return Answer::text(401, "{\"message\":\"must authenticate\"}");
        }
        if self.hidden.iter().any(|hidden| asked.path.contains(hidden)) {
            return Answer::text(403, "{\"kind\":\"Status\",\"code\":403}");
        }
        if asked.line() == format!("POST {REVIEWS}") {
            return match self.allowed {
                Some(allowed) => Answer::json(
                    &json!({"kind": "SelfSubjectAccessReview", "status": {"allowed": allowed}}),
                ),
                None => Answer::status(404),
            };
        }
        if let Some(name) = asked.path.strip_prefix("/v3/settings/") {
            return match self.settings.get(name) {
                Some(value) => Answer::json(
                    &json!({"id": name, "value": "", "default": value, "customized": false}),
                ),
                None => Answer::status(404),
            };
        }
        if asked.path == EXT.trim_end_matches("/tokens") && self.ext.is_some() {
            return Answer::json(&json!({"kind": "APIResourceList"}));
        }
        match asked.path.as_str() {
            "/v3/authConfigs" => {
                let one = |(id, enabled)| json!({"id": id, "type": "x", "enabled": enabled});
                Answer::json(
                    &json!({"type": "collection", "data": self.providers.iter().map(one).collect::<Vec<_>>()}),
                )
            }
            // This lists only the caller's own tokens.
            "/v3/tokens" => {
                Answer::json(&json!({"type": "collection", "data": [{"id": "token-lapsd"}]}))
            }
            path => self.object(asked, path),
        }
    }

    fn object(&mut self, asked: &StubRequest, path: &str) -> Answer {
        let omitted = self.omitted.clone();
        let is_narrow = self.is_narrow && path.starts_with(EXT);
        let Some((list, name)) = self.list_and_name(path) else {
            return Answer::text(404, "404 page not found");
        };
        if name.is_empty() {
            let items: Vec<Value> = list
                .iter()
                .filter(|item| !is_narrow || item["spec"]["userID"] == "u-boss")
                .filter(|item| !omitted.iter().any(|name| item["metadata"]["name"] == *name))
                .cloned()
                .collect();
            return self.page(asked, &items);
        }
        let Some(at) = list
            .iter()
            .position(|item| item["metadata"]["name"] == *name)
        else {
            return Answer::text(404, "{\"kind\":\"Status\",\"code\":404}");
        };
        if asked.method == "GET" {
            return Answer::json(&list[at]);
        }
        assert_eq!(asked.method, "DELETE");
        let mut deleted = list[at].clone();
        deleted["metadata"]["deletionTimestamp"] = json!("2026-11-24T00:00:00Z");
        list.remove(at);
        match self.keeps_deleted {
            None => {}
            Some(true) => self.list_and_name(path).unwrap().0.push(deleted),
            Some(false) => {
                deleted["metadata"]["deletionTimestamp"] = Value::Null;
                self.list_and_name(path).unwrap().0.push(deleted);
            }
        }
        let success = json!({"kind": "Status", "status": "Success"});
        self.delete_answer
            .map_or_else(|| Answer::json(&success), |answer| answer())
    }

    /// The list of a path, and the name after it.
    fn list_and_name(&mut self, path: &str) -> Option<(&mut Vec<Value>, String)> {
        let after = |rest: &str| rest.trim_start_matches('/').to_owned();
        if let Some(rest) = path.strip_prefix(EXT) {
            return self.ext.as_mut().map(|list| (list, after(rest)));
        }
        let path = path.strip_prefix(MANAGEMENT)?;
        let (resource, rest) = path.split_once('/').unwrap_or((path, ""));
        let list = match resource {
            "tokens" => &mut self.legacy,
            "users" => &mut self.users,
            "userattributes" => &mut self.attributes,
            _ => return None,
        };
        Some((list, after(rest)))
    }

    fn page(&mut self, asked: &StubRequest, items: &[Value]) -> Answer {
        let limit = asked
            .query("limit")
            .map_or(usize::MAX, |limit| limit.parse().unwrap());
        let from = match asked.query("continue") {
            None => 0,
            Some(_) if self.stale > 0 => {
                self.stale -= 1;
                return Answer::text(
                    410,
                    "{\"kind\":\"Status\",\"reason\":\"Expired\",\"code\":410}",
                );
            }
            Some(_) if self.second_page.is_some() => return self.second_page.unwrap()(),
            Some(next) => next.parse().unwrap(),
        };
        let to = items.len().min(from + limit.min(self.page));
        let mut metadata = json!({"resourceVersion": "881234"});
        if to < items.len() {
            metadata["continue"] = json!(to.to_string());
            if !self.is_uncounted {
                metadata["remainingItemCount"] = json!(items.len() - to);
            }
        }
        // Go writes an empty list as null.
        let items = if items.is_empty() {
            Value::Null
        } else {
            json!(items[from..to])
        };
        Answer::json(&json!({"kind": "List", "metadata": metadata, "items": items}))
    }
}

/// A token of `management.cattle.io` with changed fields.
pub fn legacy(name: &str, user: &str, fields: Value) -> Value {
    let token = json!({
        "metadata": {
            "name": name,
            "uid": "5f0c",
            "creationTimestamp": "2026-08-30T10:15:02Z",
            "labels": {"authn.management.cattle.io/token-userId": user},
        },
        "token": format!("{SECRET}{name}"),
        "userId": user,
        "authProvider": "okta",
        "isDerived": true,
        "description": "ci deploy",
        "userPrincipal": {
            "metadata": {"name": format!("okta_user://{}@example.org", &user[2..]), "creationTimestamp": null},
            "displayName": "Ada",
            "loginName": format!("{}@example.org", &user[2..]),
            "principalType": "user",
            "provider": "okta",
            "me": true,
        },
        "ttl": 7_776_000_000_i64,
        "expiresAt": "2026-11-28T10:15:02Z",
        "expired": false,
        "current": false,
        "enabled": true,
        "lastUsedAt": "2026-11-20T08:01:44Z",
        "clusterName": "c-m-abc123",
    });
    merged(token, fields)
}

pub fn ext(name: &str, user: &str, fields: Value) -> Value {
    let token = json!({
        "metadata": {"name": name, "creationTimestamp": "2026-10-01T09:00:00Z"},
        "spec": {
            "userID": user,
            "userPrincipal": {
                "name": "keycloakoidc_user://8b1",
                "displayName": "Ada",
                "loginName": format!("{}@example.org", &user[2..]),
                "principalType": "user",
                "provider": "keycloakoidc",
            },
            "kind": "",
            "description": "example",
            "ttl": 7_776_000_000_i64,
            "enabled": true,
            "clusterName": "",
        },
        "status": {
            "value": format!("{SECRET}{name}"),
            "current": false,
            "expired": false,
            "expiresAt": "2026-12-30T10:00:00+01:00",
            "lastUpdateTime": "2026-10-01T09:00:00Z",
        },
    });
    merged(token, fields)
}

pub fn user(name: &str, fields: Value) -> Value {
    let user = json!({
        "metadata": {"name": name},
        "displayName": "Ada",
        "principalIds": [format!("local://{name}"), "okta_user://x"],
        "enabled": true,
        "password": format!("{SECRET}{name}"),
    });
    merged(user, fields)
}

/// The data of providers about a user.
pub fn attribute(name: &str, fields: Value) -> Value {
    let attribute = json!({
        "metadata": {"name": name},
        "UserName": name,
        "GroupPrincipals": {},
        "LastRefresh": "2026-11-20T00:00:00Z",
        "NeedsRefresh": false,
        "ExtraByProvider": {"okta": {"principalid": ["okta_user://x"], "username": ["x"]}},
    });
    merged(attribute, fields)
}

fn merged(mut below: Value, above: Value) -> Value {
    match (below.as_object_mut(), above) {
        (Some(fields), Value::Object(above)) => {
            for (name, value) in above {
                let field = fields.entry(name).or_insert(Value::Null);
                *field = merged(field.take(), value);
            }
            below
        }
        (_, above) => above,
    }
}
