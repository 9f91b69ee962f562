//! A stand-in for Keycloak: one realm with its people and groups, as the Admin REST API of 26 shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::stub::{Answer, Asked, Stub};

/// The secret of the client.
pub const SECRET: &str = "s3cret-of-the-client";

const BASE: &str = "/auth/admin/realms/example/";
pub const TOKEN: &str = "/auth/realms/example/protocol/openid-connect/token";

/// A realm as it stands at present.
#[derive(Clone, Default)]
pub struct Realm(pub Arc<Mutex<State>>);

/// An answer that is given instead of what would be: by path, and the number of times it was asked before.
pub type Instead = Box<dyn Fn(&State, &Asked, usize) -> Option<Answer> + Send>;

#[derive(Default)]
pub struct State {
    /// In the order of the list: by sign-in name.
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    members: BTreeMap<String, BTreeSet<String>>,
    /// Roles that the client lacks.
    pub lacks: BTreeSet<&'static str>,
    /// User storages that are out of reach.
    pub down: BTreeSet<String>,
    /// Ids of accounts that are shown as they were cached, whatever their storage does.
    pub cached: BTreeSet<String>,
    /// Before 23: groups come with all below, and have no list of them; before 20, `exact` is not known.
    pub is_old: bool,
    /// How many access tokens were granted; the last is the one that is taken.
    pub granted: usize,
    /// After so many requests the access token has expired.
    pub expires_after: Option<usize>,
    instead: Vec<(String, Instead)>,
    asked: BTreeMap<String, usize>,
}

/// An id that looks as Keycloak's do.
pub fn id(number: usize) -> String {
    format!("0b0f2c34-6a35-4f7c-9a2a-{number:012}")
}

impl Realm {
    pub fn new() -> Self {
        Self::default()
    }

    /// With `user1@example.org` and so on.
    pub fn of(people: usize) -> Self {
        let realm = Self::new();
        for number in 1..=people {
            realm.user(number, json!({}));
        }
        realm
    }

    /// Puts somebody in, or in another's place.
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
        // In steps of the number, so that the order is theirs.
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

    /// Puts a group in, with members.
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

    pub fn leave(&self, group: usize, number: usize) -> &Self {
        let mut state = self.0.lock().unwrap();
        state
            .members
            .get_mut(&id(group))
            .unwrap()
            .remove(&id(number));
        drop(state);
        self
    }

    pub fn with(&self, change: impl FnOnce(&mut State)) -> &Self {
        change(&mut self.0.lock().unwrap());
        self
    }

    /// Answers otherwise at a path below the realm, where this gives an answer.
    pub fn instead(
        &self,
        path: &str,
        answer: impl Fn(&State, &Asked, usize) -> Option<Answer> + Send + 'static,
    ) -> &Self {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{BASE}{path}")
        };
        let mut state = self.0.lock().unwrap();
        state.asked.remove(&path);
        state.instead.push((path, Box::new(answer)));
        drop(state);
        self
    }

    pub fn mended(&self) -> &Self {
        self.0.lock().unwrap().instead.clear();
        self
    }

    pub fn start(&self) -> Stub {
        let realm = self.clone();
        Stub::start(move |asked| realm.0.lock().unwrap().answer(asked))
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        let times = self.asked.entry(asked.path.clone()).or_default();
        let before = *times;
        *times += 1;
        let instead = self.instead.iter().find(|(path, _)| *path == asked.path);
        if let Some(answer) = instead.and_then(|(_, instead)| instead(self, asked, before)) {
            return answer;
        }
        if asked.line() == format!("POST {TOKEN}") {
            return self.grant(asked);
        }
        let Some(path) = asked.path.strip_prefix(BASE) else {
            return Answer::text(404, "{\"error\":\"Realm not found.\"}");
        };
        if !self.takes(asked) {
            return Answer::text(401, "{\"error\":\"HTTP 401 Unauthorized\"}");
        }
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["users"] => self.listed(asked),
            ["users", "count"] => Answer::json(&json!(self.count())),
            ["users", id] => self.one(id),
            ["groups"] => self.found_groups(asked),
            ["groups", id, "members"] => self.members_of(id, asked),
            ["groups", id, "children"] if !self.is_old => {
                let below: Vec<Value> = self.below(id).map(|group| self.shown(group)).collect();
                page(asked, &below)
            }
            ["groups", id] => match self.groups.get(*id) {
                _ if self.lacks.contains("view-users") => forbidden(),
                Some(group) => Answer::json(&self.shown(group)),
                None => Answer::text(404, "{\"error\":\"Could not find group by id\"}"),
            },
            _ => Answer::status(405),
        }
    }

    fn grant(&mut self, asked: &Asked) -> Answer {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(asked.body.as_bytes())
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

    fn takes(&mut self, asked: &Asked) -> bool {
        if let Some(left) = &mut self.expires_after {
            if *left == 0 {
                self.expires_after = None;
                return false;
            }
            *left -= 1;
        }
        asked.header("authorization") == Some(&format!("Bearer token-{}", self.granted))
    }

    /// As the account is shown: by whom its storage does not answer for, as disabled.
    fn seen(&self, user: &Value) -> Value {
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

    fn listed(&self, asked: &Asked) -> Answer {
        assert_eq!(asked.query("max").is_some(), asked.query("first").is_some());
        if self.lacks.contains("query-users") {
            return forbidden();
        }
        if self.lacks.contains("view-users") {
            return Answer::json(&json!([]));
        }
        let is_exact = !self.is_old && asked.query("exact") == Some("true");
        let wanted = ["email", "username"]
            .into_iter()
            .find_map(|key| Some((key, asked.query(key)?)));
        let fits = |user: &&Value| match wanted {
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
            .filter(fits)
            .map(|user| self.seen(user))
            .collect();
        page(asked, &users)
    }

    fn one(&self, id: &str) -> Answer {
        match self.users.values().find(|user| user["id"] == *id) {
            // It is looked for where its id says, and nothing catches what goes wrong there.
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
            Some(user) => Answer::json(&self.seen(user)),
        }
    }

    fn below(&self, id: &str) -> impl Iterator<Item = &Value> {
        self.groups
            .values()
            .filter(move |group| group["parentId"] == *id)
    }

    /// As the group is shown by its id.
    fn shown(&self, group: &Value) -> Value {
        let mut group = group.clone();
        let id = group["id"].as_str().unwrap().to_owned();
        let below: Vec<Value> = self.below(&id).map(|group| self.shown(group)).collect();
        if self.is_old {
            group["subGroups"] = below.into();
        } else {
            group["subGroupCount"] = below.len().into();
            group["subGroups"] = json!([]);
        }
        group
    }

    /// Those that a search finds, each below its parents.
    fn found_groups(&self, asked: &Asked) -> Answer {
        if self.lacks.contains("query-groups") {
            return forbidden();
        }
        if self.lacks.contains("view-users") {
            return Answer::json(&json!([]));
        }
        let wanted = asked.query("search").unwrap_or_default();
        let is_exact = !self.is_old && asked.query("exact") == Some("true");
        let fits = |group: &&Value| {
            let name = group["name"].as_str().unwrap();
            name == wanted || (!is_exact && name.contains(wanted))
        };
        let found: Vec<&Value> = self.groups.values().filter(fits).collect();
        let trees = window(asked, &found).iter().map(|group| {
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

    fn members_of(&self, id: &str, asked: &Asked) -> Answer {
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
            .map(|user| self.seen(user))
            .collect();
        page(asked, &users)
    }
}

fn forbidden() -> Answer {
    Answer::text(403, "{\"error\":\"HTTP 403 Forbidden\"}")
}

fn window<'a, T>(asked: &Asked, rows: &'a [T]) -> &'a [T] {
    let number = |name| {
        asked
            .query(name)
            .and_then(|text| text.parse::<usize>().ok())
    };
    let first = number("first").unwrap_or(0).min(rows.len());
    let last = (first + number("max").unwrap_or(100)).min(rows.len());
    &rows[first..last]
}

/// The page that is asked for.
pub fn page(asked: &Asked, rows: &[Value]) -> Answer {
    Answer::json(&json!(window(asked, rows)))
}
