//! A stand-in for NocoDB 0.301 with its peculiarities.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::stub::{Answer, Stub, StubRequest};

/// Secrets that must not be left anywhere: of tokens, of sessions, and the password of lapsed.
pub const SECRETS: [&str; 3] = ["s3cret-of-token", "s3cret-of-session", "s3cret-of-lapsed"];

pub const EMAIL: &str = "root@example.test";

/// A request line and the answer that replaces the real one.
type Trap = (&'static str, fn() -> Answer);

pub struct NocoDb {
    stub: Stub,
    state: Arc<Mutex<State>>,
}

pub struct State {
    pub users: Vec<Value>,
    pub tokens: Vec<Value>,
    /// The server's own information.
    pub info: Value,
    /// The maximum number of rows of a page.
    pub page: usize,
    /// Every token is deleted by another user just before.
    pub is_raced: bool,
    /// Every request returns rows in another order.
    pub is_unordered: bool,
    /// The id of the user who signs in.
    pub me: String,
    /// The number of sessions so far; the last is valid.
    pub sessions: usize,
    /// Secrets of deleted tokens, which are accepted until the cache is cleared.
    cached: BTreeSet<String>,
    traps: VecDeque<Trap>,
}

impl NocoDb {
    /// With three users and four tokens: of the super admin, of Ada (twice), and of Grace.
    pub fn start() -> Self {
        let user = |id: &str, email: &str, name: Value, roles: &str| json!({"id": id, "email": email, "display_name": name, "roles": roles, "invite_token": null});
        let mut state = State {
            users: vec![
                user("us1", EMAIL, Value::Null, "org-level-creator,super"),
                user("us2", "ada@example.org", json!("Ada"), "org-level-creator"),
                user("us3", "grace@example.org", Value::Null, "org-level-viewer"),
            ],
            tokens: Vec::new(),
            info: json!({"version": "0.301.3", "ee": false, "oidcAuthEnabled": false}),
            page: usize::MAX,
            is_raced: false,
            is_unordered: false,
            me: "us1".to_owned(),
            sessions: 0,
            cached: BTreeSet::new(),
            traps: VecDeque::new(),
        };
        for (id, user) in [(1, "us1"), (2, "us2"), (3, "us2"), (4, "us3")] {
            state.add(id, user);
        }
        let state = Arc::new(Mutex::new(state));
        let inner = Arc::clone(&state);
        let stub = Stub::start(move |asked| inner.lock().unwrap().answer(asked));
        Self { stub, state }
    }

    pub fn url(&self) -> &str {
        &self.stub.url
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Replaces the next answer to this request line (`GET /api/v1/tokens`).
    pub fn trap(&self, line: &'static str, answer: fn() -> Answer) -> &Self {
        self.state().traps.push_back((line, answer));
        self
    }

    /// Returns and clears the request lines so far.
    pub fn take_request_lines(&self) -> Vec<String> {
        self.stub.take_request_lines()
    }

    pub fn requests(&self) -> Vec<StubRequest> {
        self.stub.requests()
    }
}

impl State {
    pub fn add(&mut self, id: usize, user: &str) {
        self.tokens.push(json!({
            "id": id, "token": format!("{}-{id}", SECRETS[0]), "description": format!("token {id}"),
            "fk_user_id": user, "fk_sso_client_id": null, "base_id": null,
            "created_at": "2026-11-21 21:39:13+00:00", "updated_at": "2026-11-21 21:39:13+00:00",
        }));
    }

    pub fn token(&mut self, id: usize) -> &mut Value {
        let found = self.tokens.iter_mut().find(|token| token["id"] == id);
        found.unwrap()
    }

    /// Whether NocoDB accepts the secret of this token.
    pub fn accepts(&self, id: usize) -> bool {
        let secret = format!("{}-{id}", SECRETS[0]);
        let is_there = self.tokens.iter().any(|token| token["token"] == secret);
        is_there || self.cached.contains(&secret)
    }

    fn session(&self) -> String {
        format!("{}-{}", SECRETS[1], self.sessions)
    }

    fn answer(&mut self, asked: &StubRequest) -> Answer {
        let line = asked.line();
        if let Some(at) = self.traps.iter().position(|(trapped, _)| *trapped == line) {
            return self.traps.remove(at).unwrap().1();
        }
        if line == "POST /api/v1/auth/user/signin" {
            return self.sign_in(asked);
        }
        if line == "GET /api/v1/db/meta/nocodb/info" {
            return Answer::json(&self.info);
        }
        let is_signed_in = asked.header("xc-auth") == Some(self.session().as_str());
        if line == "GET /api/v1/auth/user/me" && !is_signed_in {
            return Answer::json(&json!({"roles": {"guest": true}}));
        }
        if !is_signed_in {
            return Answer::text(401, "{\"msg\":\"Unauthorized\"}");
        }
        match line.as_str() {
            "GET /api/v1/auth/user/me" => self.me(),
            "GET /api/v1/tokens" => self.list(asked),
            "GET /api/v1/users" => page(self.users.clone(), self.users.len(), self.page, asked),
            "DELETE /api/v1/db/meta/cache" => {
                self.cached.clear();
                Answer::json(&json!(true))
            }
            _ => self.delete(&line),
        }
    }

    fn sign_in(&mut self, asked: &StubRequest) -> Answer {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        if body != json!({"email": EMAIL, "password": SECRETS[2]}) {
            return Answer::text(400, "{\"msg\":\"Invalid credentials\"}");
        }
        self.sessions += 1;
        Answer::json(&json!({"token": self.session()}))
    }

    fn is_super_admin(&self) -> bool {
        self.me == "us1"
    }

    fn me(&self) -> Answer {
        let roles = json!({"org-level-creator": true, "super": self.is_super_admin()});
        Answer::json(&json!({"id": self.me, "email": EMAIL, "roles": roles}))
    }

    /// Tokens created under single sign-on are neither listed nor counted. The total counts the tokens of all
    /// users, even for a user who sees only their own.
    fn list(&mut self, asked: &StubRequest) -> Answer {
        let email_of = |id: &Value| {
            let user = self.users.iter().find(|user| user["id"] == *id);
            user.map_or(Value::Null, |user| user["email"].clone())
        };
        let mut rows = self.tokens.clone();
        rows.retain(|token| token["fk_sso_client_id"].is_null());
        let total = rows.len();
        rows.retain(|token| self.is_super_admin() || token["fk_user_id"] == json!(self.me));
        for row in &mut rows {
            row["created_by"] = email_of(&row["fk_user_id"]);
        }
        if self.is_unordered {
            self.tokens.rotate_right(1);
        }
        page(rows, total, self.page, asked)
    }

    fn delete(&mut self, line: &str) -> Answer {
        let id = line.strip_prefix("DELETE /api/v1/tokens/");
        let id: usize = id.and_then(|id| id.parse().ok()).expect("a path of NocoDB");
        let at = self.tokens.iter().position(|token| token["id"] == id);
        if let Some(at) = at {
            let token = self.tokens.remove(at);
            self.cached
                .insert(token["token"].as_str().unwrap().to_owned());
            if !self.is_raced {
                return Answer::status(200);
            }
        }
        let stack = "TypeError: Cannot read properties of undefined (reading 'id')\\n    at ApiToken.delete";
        Answer::text(
            500,
            &format!(
                "{{\"msg\":\"Something didn't work\",\"innerError\":{{\"stack\":\"{stack}\"}}}}"
            ),
        )
    }
}

/// Ten rows by default; of the page information only the total is right.
fn page(rows: Vec<Value>, total: usize, max_rows: usize, asked: &StubRequest) -> Answer {
    let number = |name, default| {
        asked
            .query(name)
            .map_or(default, |text| text.parse().unwrap())
    };
    let (limit, offset) = (number("limit", 10).min(max_rows), number("offset", 0));
    if offset > 0 && offset >= total {
        return Answer::text(422, "{\"error\":\"ERR_INVALID_OFFSET_VALUE\"}");
    }
    let list: Vec<Value> = rows.into_iter().skip(offset).take(limit).collect();
    let info = json!({"totalRows": total, "page": 1, "pageSize": 25, "isFirstPage": true, "isLastPage": true});
    Answer::json(&json!({"list": list, "pageInfo": info}))
}
