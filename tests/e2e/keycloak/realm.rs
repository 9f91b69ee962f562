//! A stub of Keycloak: one realm with people and groups, as the Admin REST API of version 26 shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use lapsed::directories::keycloak::Config;
use serde_json::{Value, json};

use crate::stub::{Answer, Stub, StubRequest};
use crate::world::World;

pub const SECRET: &str = "s3cret-of-the-client";

const BASE: &str = "/auth/admin/realms/example/";
pub const TOKEN: &str = "/auth/realms/example/protocol/openid-connect/token";

#[derive(Clone, Default)]
pub struct Realm(pub Arc<Mutex<State>>);

/// Overrides the response at a path. The number counts earlier requests.
pub type Override = Box<dyn Fn(&State, &StubRequest, usize) -> Option<Answer> + Send>;

#[derive(Default)]
pub struct State {
    /// In the order of the list.
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    members: BTreeMap<String, BTreeSet<String>>,
    /// Roles that the client lacks.
    pub lacks: BTreeSet<&'static str>,
    /// User storages that are out of reach.
    pub down: BTreeSet<String>,
    /// Ids of accounts that are shown from the cache.
    pub cached: BTreeSet<String>,
    /// Like a version before 20: groups include their subgroups and have no list of them, and `exact` is
    /// ignored.
    pub is_old: bool,
    /// How many access tokens were granted; only the last is accepted.
    pub granted: usize,
    overrides: Vec<(String, Override)>,
    request_counts: BTreeMap<String, usize>,
}

pub fn config(stub: &Stub) -> Config {
    Config {
        url: format!("{}/auth", stub.url).parse().unwrap(),
        realm: "example".to_owned(),
        client_id: "lapsed".to_owned(),
        client_secret: SECRET.into(),
        ca_file: None,
    }
}

/// The keys of its `[[directory]]`.
pub fn keys(stub: &Stub, world: &World) -> String {
    world.write("client-secret", SECRET);
    format!(
        "kind = \"keycloak\"\nurl = \"{}/auth\"\nrealm = \"example\"\nclient_id = \"lapsed\"\n\
         client_secret = {{ file = \"client-secret\" }}",
        stub.url
    )
}

pub fn id(number: usize) -> String {
    format!("0b0f2c34-6a35-4f7c-9a2a-{number:012}")
}

impl Realm {
    pub fn new() -> Self {
        Self::default()
    }

    /// `user1@example.org` and so on.
    pub fn with_people(people: usize) -> Self {
        let realm = Self::new();
        for number in 1..=people {
            realm.user(number, json!({}));
        }
        realm
    }

    /// Adds or replaces a user.
    pub fn user(&self, number: usize, fields: Value) -> &Self {
        let mut user = json!({
            "id": id(number), "username": format!("user{number}"), "firstName": "John", "lastName": "Doe",
            "email": format!("user{number}@example.org"), "emailVerified": true, "enabled": true,
            "createdTimestamp": 1_790_000_000_000_u64, "access": {"manage": false}
        });
        if let Value::Object(fields) = fields {
            for (name, value) in fields {
                user[name] = value;
            }
        }
        let mut state = self.0.lock().unwrap();
        state.users.retain(|_, other| other["id"] != user["id"]);
        let name = user["username"].as_str().unwrap().to_owned();
        // Sorted by number.
        state.users.insert(format!("{number:06} {name}"), user);
        drop(state);
        self
    }

    pub fn delete(&self, number: usize) -> &Self {
        let mut state = self.0.lock().unwrap();
        state.users.retain(|_, user| user["id"] != id(number));
        drop(state);
        self
    }

    /// Adds or replaces a group.
    pub fn group(&self, number: usize, path: &str, members: &[usize]) -> &Self {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut state = self.0.lock().unwrap();
        let parent = state.groups.values().find(|group| group["path"] == parent);
        let parent = parent.map_or(Value::Null, |group| group["id"].clone());
        let group = json!({"id": id(number), "name": name, "path": path, "parentId": parent});
        state.groups.insert(id(number), group);
        let members = members.iter().map(|number| id(*number)).collect();
        state.members.insert(id(number), members);
        drop(state);
        self
    }

    pub fn with(&self, change: impl FnOnce(&mut State)) -> &Self {
        change(&mut self.0.lock().unwrap());
        self
    }

    /// Overrides the response at a path below the realm, unless `answer` returns `None`.
    pub fn override_response(
        &self,
        path: &str,
        answer: impl Fn(&State, &StubRequest, usize) -> Option<Answer> + Send + 'static,
    ) -> &Self {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{BASE}{path}")
        };
        let mut state = self.0.lock().unwrap();
        state.request_counts.remove(&path);
        state.overrides.push((path, Box::new(answer)));
        drop(state);
        self
    }

    pub fn without_overrides(&self) -> &Self {
        self.0.lock().unwrap().overrides.clear();
        self
    }

    pub fn start(&self) -> Stub {
        let realm = self.clone();
        Stub::start(move |request| realm.0.lock().unwrap().answer(request))
    }
}

impl State {
    fn answer(&mut self, request: &StubRequest) -> Answer {
        let count = self.request_counts.entry(request.path.clone()).or_default();
        let before = *count;
        *count += 1;
        let found = self
            .overrides
            .iter()
            .find(|(path, _)| *path == request.path);
        if let Some(answer) = found.and_then(|(_, answer)| answer(self, request, before)) {
            return answer;
        }
        if request.line() == format!("POST {TOKEN}") {
            return self.grant(request);
        }
        let Some(path) = request.path.strip_prefix(BASE) else {
            return Answer::text(404, "{\"error\":\"Realm not found.\"}");
        };
        if request.header("authorization") != Some(&format!("Bearer token-{}", self.granted)) {
            return Answer::text(401, "{\"error\":\"HTTP 401 Unauthorized\"}");
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["users"] => self.list_users(request),
            ["users", "count"] => Answer::json(&json!(self.count())),
            ["users", id] => self.get_user(id),
            ["groups"] => self.search_groups(request),
            ["groups", id, "members"] => self.list_members(id, request),
            ["groups", id, "children"] if !self.is_old => {
                let subgroups: Vec<Value> = self
                    .subgroups(id)
                    .map(|group| self.shown_group(group))
                    .collect();
                page(request, &subgroups)
            }
            ["groups", id] => match self.groups.get(*id) {
                _ if self.lacks.contains("view-users") => forbidden(),
                Some(group) => Answer::json(&self.shown_group(group)),
                None => Answer::text(404, "{\"error\":\"Could not find group by id\"}"),
            },
            _ => Answer::status(405),
        }
    }

    fn grant(&mut self, request: &StubRequest) -> Answer {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(request.body.as_bytes())
            .into_owned()
            .collect();
        let field = |name: &str| form.get(name).map(String::as_str);
        assert_eq!(field("grant_type"), Some("client_credentials"));
        if (field("client_id"), field("client_secret")) != (Some("lapsed"), Some(SECRET)) {
            return Answer::text(401, "{\"error\":\"unauthorized_client\"}");
        }
        self.granted += 1;
        let token = format!("token {}", self.granted).replace(' ', "-");
        Answer::json(&json!({"access_token": token, "expires_in": 300, "token_type": "Bearer"}))
    }

    /// Accounts of a storage out of reach are shown as disabled.
    fn shown_user(&self, user: &Value) -> Value {
        let mut user = user.clone();
        let storage = user["federationLink"].as_str().unwrap_or_default();
        let is_cached = self.cached.contains(user["id"].as_str().unwrap());
        if self.down.contains(storage) && !is_cached {
            user["enabled"] = json!(false);
        }
        user
    }

    fn is_service(user: &Value) -> bool {
        let name = user["username"].as_str().unwrap();
        name.starts_with("service-account-")
    }

    pub fn people(&self) -> impl Iterator<Item = &Value> {
        self.users.values().filter(|user| !Self::is_service(user))
    }

    fn count(&self) -> usize {
        let is_counted = |user: &&Value| !user["id"].as_str().unwrap().starts_with("f:");
        self.people().filter(is_counted).count()
    }

    fn list_users(&self, request: &StubRequest) -> Answer {
        assert_eq!(
            request.query("max").is_some(),
            request.query("first").is_some()
        );
        if self.lacks.contains("query-users") {
            return forbidden();
        }
        if self.lacks.contains("view-users") {
            return Answer::json(&json!([]));
        }
        let is_exact = !self.is_old && request.query("exact") == Some("true");
        let wanted = ["email", "username"]
            .into_iter()
            .find_map(|key| Some((key, request.query(key)?)));
        let asks_exactly = wanted.is_none() || request.query("exact") == Some("true");
        assert!(asks_exactly, "{request:?}");
        let matches = |user: &&Value| match wanted {
            None => !Self::is_service(user),
            Some((key, wanted)) => {
                let value = user[key].as_str().unwrap_or_default().to_lowercase();
                let wanted = wanted.to_lowercase();
                value == wanted || (!is_exact && value.contains(&wanted))
            }
        };
        let users: Vec<Value> = self
            .users
            .values()
            .filter(matches)
            .map(|user| self.shown_user(user))
            .collect();
        page(request, &users)
    }

    fn get_user(&self, id: &str) -> Answer {
        match self.users.values().find(|user| user["id"] == *id) {
            // Keycloak passes the id on to the storage, and does not handle its errors.
            None if self
                .down
                .iter()
                .any(|it| id.starts_with(&format!("f:{it}:"))) =>
            {
                Answer::text(500, "{\"error\":\"unknown_error\"}")
            }
            None if self.lacks.contains("query-users") => forbidden(),
            None => Answer::text(404, "{\"error\":\"User not found\"}"),
            Some(_) if self.lacks.contains("view-users") => forbidden(),
            Some(user) => Answer::json(&self.shown_user(user)),
        }
    }

    fn subgroups(&self, id: &str) -> impl Iterator<Item = &Value> {
        self.groups
            .values()
            .filter(move |group| group["parentId"] == *id)
    }

    fn shown_group(&self, group: &Value) -> Value {
        let mut group = group.clone();
        let id = group["id"].as_str().unwrap().to_owned();
        let subgroups: Vec<Value> = self
            .subgroups(&id)
            .map(|group| self.shown_group(group))
            .collect();
        if self.is_old {
            group["subGroups"] = subgroups.into();
        } else {
            group["subGroupCount"] = subgroups.len().into();
            group["subGroups"] = json!([]);
        }
        group
    }

    /// Groups that a search finds, each below its parents.
    fn search_groups(&self, request: &StubRequest) -> Answer {
        if self.lacks.contains("query-groups") {
            return forbidden();
        }
        if self.lacks.contains("view-users") {
            return Answer::json(&json!([]));
        }
        let wanted = request.query("search").unwrap_or_default();
        let is_exact = !self.is_old && request.query("exact") == Some("true");
        let matches = |group: &&Value| {
            let name = group["name"].as_str().unwrap();
            name == wanted || (!is_exact && name.contains(wanted))
        };
        let found: Vec<&Value> = self.groups.values().filter(matches).collect();
        let trees = window(request, &found).iter().map(|group| {
            let mut tree = (*group).clone();
            while let Some(parent) = tree["parentId"].as_str() {
                let mut above = self.groups[parent].clone();
                above["subGroups"] = json!([tree]);
                tree = above;
            }
            tree
        });
        Answer::json(&trees.collect())
    }

    fn list_members(&self, id: &str, request: &StubRequest) -> Answer {
        if self.lacks.contains("view-users") {
            return forbidden();
        }
        let Some(members) = self.members.get(id) else {
            return Answer::text(404, "{\"error\":\"Could not find group by id\"}");
        };
        let is_in = |user: &&Value| members.contains(user["id"].as_str().unwrap());
        let users: Vec<Value> = self
            .users
            .values()
            .filter(is_in)
            .map(|user| self.shown_user(user))
            .collect();
        page(request, &users)
    }
}

fn forbidden() -> Answer {
    Answer::text(403, "{\"error\":\"HTTP 403 Forbidden\"}")
}

fn window<'a, T>(request: &StubRequest, rows: &'a [T]) -> &'a [T] {
    let number = |name| {
        request
            .query(name)
            .and_then(|text| text.parse::<usize>().ok())
    };
    let first = number("first").unwrap_or(0).min(rows.len());
    let last = (first + number("max").unwrap_or(100)).min(rows.len());
    &rows[first..last]
}

pub fn page(request: &StubRequest, rows: &[Value]) -> Answer {
    Answer::json(&json!(window(request, rows)))
}
