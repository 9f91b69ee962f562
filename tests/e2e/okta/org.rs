//! A stub of an Okta organisation: it verifies client assertions, and responds as documented.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lapsed::directories::okta::Config;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};

use crate::stub::{Answer, Stub, StubRequest};
use crate::world::World;

pub const JWK: &str = include_str!("../../data/assertion/rsa.jwk");
pub const CLIENT: &str = "0oa1a2b3c4D5e6F7g8h9";

pub struct Org {
    pub users: Vec<Value>,
    /// Id, name, and the ids of members.
    pub groups: Vec<(String, String, Vec<String>)>,
    /// The largest page, whatever is requested.
    pub page: usize,
    /// The scopes that the app was granted.
    pub scopes: Vec<&'static str>,
    /// Whether the app has a role that lets it see users.
    pub is_reader: bool,
    /// Ids that `search` does not know yet.
    pub unindexed: BTreeSet<String>,
    /// Query parameters that are refused: `filter`, `search`, `q`.
    pub refused: Vec<&'static str>,
    /// Query parameters that are ignored.
    pub ignored: Vec<&'static str>,
    /// Overrides all other responses.
    pub fault: Option<Fault>,
    assertions: BTreeSet<String>,
    tokens: u32,
}

type Fault = Box<dyn Fn(&StubRequest) -> Option<Answer> + Send>;

pub struct Okta {
    pub stub: Stub,
    org: Arc<Mutex<Org>>,
}

pub fn user(id: &str, login: &str, status: &str) -> Value {
    json!({
        "id": id,
        "status": status,
        "created": "2024-01-01T08:00:00.000Z",
        "statusChanged": "2026-11-01T08:00:00.000Z",
        "lastUpdated": "2026-11-01T08:00:00.000Z",
        "profile": {"login": login, "email": login, "firstName": "A", "lastName": "B", "secondEmail": null}
    })
}

fn error(status: u16, code: &str) -> Answer {
    let summary = format!("secret of {code}");
    let body =
        json!({"errorCode": code, "errorSummary": summary, "errorId": "oae1", "errorCauses": []});
    Answer::text(status, &body.to_string())
}

fn refusal(code: &str) -> Answer {
    let body = json!({"error": code, "error_description": "secret words"});
    Answer::text(400, &body.to_string())
}

impl Okta {
    pub fn with_users(users: Vec<Value>) -> Self {
        let org = Arc::new(Mutex::new(Org {
            users,
            groups: Vec::new(),
            page: 200,
            scopes: vec!["okta.users.read", "okta.groups.read"],
            is_reader: true,
            unindexed: BTreeSet::new(),
            refused: Vec::new(),
            ignored: Vec::new(),
            fault: None,
            assertions: BTreeSet::new(),
            tokens: 0,
        }));
        let shared = Arc::clone(&org);
        let stub = Stub::start(move |request| shared.lock().unwrap().answer(request));
        Self { stub, org }
    }

    pub fn config(&self) -> Config {
        Config {
            url: self.stub.url.parse().unwrap(),
            client_id: CLIENT.to_owned(),
            private_key: JWK.into(),
            key_id: None,
        }
    }

    /// The keys of its `[[directory]]`.
    pub fn keys_of(&self, world: &World) -> String {
        world.write("okta.jwk", JWK);
        let url = &self.stub.url;
        format!(
            "kind = \"okta\"\nurl = \"{url}\"\nclient_id = \"{CLIENT}\"\n\
             private_key = {{ file = \"okta.jwk\" }}\n"
        )
    }

    pub fn org(&self) -> MutexGuard<'_, Org> {
        self.org.lock().unwrap()
    }

    /// The requests without those for access tokens, in short: `users filter`.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.stub.requests();
        let requests = requests.iter().filter(|request| request.method == "GET");
        let short = |request: &StubRequest| {
            let path = request.path.trim_start_matches("/api/v1/");
            let mut parameters = ["filter", "search", "after", "q"].into_iter();
            let parameter = parameters.find(|name| request.query(name).is_some());
            format!("{path} {}", parameter.unwrap_or("-"))
        };
        requests.map(short).collect()
    }
}

impl Org {
    pub fn set(&mut self, id: &str, status: &str) {
        let user = self.users.iter_mut().find(|user| user["id"] == id);
        user.unwrap()["status"] = status.into();
    }

    pub fn delete(&mut self, id: &str) {
        self.users.retain(|user| user["id"] != id);
    }

    fn answer(&mut self, request: &StubRequest) -> Answer {
        if let Some(answer) = self.fault.as_ref().and_then(|fault| fault(request)) {
            return answer;
        }
        if request.line() == "POST /oauth2/v1/token" {
            return self.grant(request);
        }
        let token = request.header("authorization").unwrap_or_default();
        let number = token.strip_prefix("Bearer access-");
        let number: Option<u32> = number.and_then(|number| number.parse().ok());
        if number != Some(self.tokens) {
            return error(401, "E0000011");
        }
        if self
            .refused
            .iter()
            .any(|effective_query| request.query(effective_query).is_some())
        {
            return error(400, "E0000031");
        }
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match path.as_slice() {
            ["api", "v1", "users"] => self.list_users(request),
            ["api", "v1", "users", key] => self.one_user(key),
            ["api", "v1", "groups"] => self.list_groups(request),
            ["api", "v1", "groups", id] => match self.groups.iter().find(|group| group.0 == *id) {
                Some(group) => Answer::json(&group_json(group)),
                None => error(404, "E0000007"),
            },
            ["api", "v1", "groups", id, "users"] => {
                let Some(group) = self.groups.iter().find(|group| group.0 == *id) else {
                    return error(404, "E0000007");
                };
                let is_in = |user: &&Value| group.2.iter().any(|id| user["id"] == **id);
                let users: Vec<_> = self.users.iter().filter(is_in).cloned().collect();
                self.page_of(request, &users)
            }
            _ => error(404, "E0000022"),
        }
    }

    /// Verifies a client assertion (RFC 7523 §3).
    fn grant(&mut self, request: &StubRequest) -> Answer {
        let form = url::form_urlencoded::parse(request.body.as_bytes());
        let form: std::collections::BTreeMap<_, _> = form.into_owned().collect();
        assert_eq!(form["grant_type"], "client_credentials");
        let expected = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert_eq!(form["client_assertion_type"], expected);
        let (signed, signature) = form["client_assertion"].rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let object = |part: &str| serde_json::from_slice::<Value>(&bytes(part)).unwrap();
        let (header, claims) = (object(header), object(claims));
        let jwk: Value = serde_json::from_str(JWK).unwrap();
        let number = |name: &str| bytes(jwk[name].as_str().unwrap());
        let key = RsaPublicKeyComponents {
            n: number("n"),
            e: number("e"),
        };
        let verified = key.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            signed.as_bytes(),
            &bytes(signature),
        );
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        let audience = format!(
            "http://{}/oauth2/v1/token",
            request.header("host").unwrap_or_default()
        );
        let is_known = verified.is_ok()
            && (&header["alg"], &header["kid"]) == (&json!("RS256"), &jwk["kid"])
            && (&claims["iss"], &claims["sub"]) == (&json!(CLIENT), &json!(CLIENT))
            && claims["aud"] == audience
            && (1..=3600).contains(&life)
            && self.assertions.insert(claims["jti"].to_string());
        if !is_known {
            return refusal("invalid_client");
        }
        let mut scopes = form["scope"].split(' ');
        if !scopes.all(|scope| self.scopes.contains(&scope)) {
            return refusal("invalid_scope");
        }
        self.tokens += 1;
        let token = format!("access-{}", self.tokens);
        let scope = &form["scope"];
        Answer::json(
            &json!({"token_type": "Bearer", "expires_in": 3600, "access_token": token, "scope": scope}),
        )
    }

    fn list_users(&self, request: &StubRequest) -> Answer {
        assert_eq!(request.query("q"), None, "`q` leaves out deactivated users");
        if !self.is_reader {
            return Answer::json(&json!([]));
        }
        let (filter, search) = (
            self.effective_query(request, "filter"),
            self.effective_query(request, "search"),
        );
        let passes = |user: &&Value| match (filter, search) {
            (Some(filter), _) => matches(filter, user, str::eq),
            (_, Some(search)) => {
                let id = user["id"].as_str().unwrap();
                !self.unindexed.contains(id) && matches(search, user, str::eq_ignore_ascii_case)
            }
            _ => user["status"] != "DEPROVISIONED",
        };
        let users: Vec<_> = self.users.iter().filter(passes).cloned().collect();
        self.page_of(request, &users)
    }

    fn one_user(&self, key: &str) -> Answer {
        if !self.is_reader {
            return error(403, "E0000006");
        }
        let key = percent_encoding::percent_decode_str(key)
            .decode_utf8()
            .unwrap();
        let is_it = |user: &&Value| {
            let login = user["profile"]["login"].as_str().unwrap_or_default();
            user["id"] == *key || login.eq_ignore_ascii_case(&key)
        };
        match self.users.iter().find(is_it) {
            Some(user) => Answer::json(user),
            None => error(404, "E0000007"),
        }
    }

    fn list_groups(&self, request: &StubRequest) -> Answer {
        let (search, start) = (
            self.effective_query(request, "search"),
            self.effective_query(request, "q"),
        );
        let passes = |group: &Value| {
            let name = group["profile"]["name"].as_str().unwrap();
            search.is_none_or(|search| matches(search, group, str::eq_ignore_ascii_case))
                && start.is_none_or(|start| name.to_lowercase().starts_with(&start.to_lowercase()))
        };
        let groups = self.groups.iter().map(group_json).filter(passes);
        self.page_of(request, &groups.collect::<Vec<_>>())
    }

    /// The value of a query parameter that is not ignored.
    fn effective_query<'a>(&self, request: &'a StubRequest, name: &str) -> Option<&'a str> {
        request
            .query(name)
            .filter(|_| !self.ignored.contains(&name))
    }

    /// `after` is a cursor, and the Link header has the page itself and the next.
    fn page_of(&self, request: &StubRequest, all: &[Value]) -> Answer {
        let number = |name: &str| {
            request
                .query(name)
                .map(|text| text.parse::<usize>().unwrap())
        };
        let from = number("after").unwrap_or_default();
        let size = number("limit").unwrap().min(self.page);
        let page: Vec<&Value> = all.iter().skip(from).take(size).collect();
        let host = request.header("host").unwrap();
        let mut query = request.query.clone();
        let mut link = |rel: &str| {
            let mut url = url::Url::parse(&format!("http://{host}{}", request.path)).unwrap();
            url.query_pairs_mut().extend_pairs(&query);
            query.insert("after".to_owned(), (from + size).to_string());
            format!("<{url}>; rel=\"{rel}\"")
        };
        let answer = Answer::json(&json!(page)).with("link", &link("self"));
        if from + size < all.len() {
            return answer.with("link", &link("next"));
        }
        answer
    }
}

fn group_json((id, name, _): &(String, String, Vec<String>)) -> Value {
    json!({"id": id, "type": "OKTA_GROUP", "profile": {"name": name, "description": null}})
}

/// Whether an object matches `a.b eq "x"`, a single clause.
fn matches(expression: &str, object: &Value, is_same: fn(&str, &str) -> bool) -> bool {
    let (path, value) = expression.split_once(" eq ").unwrap();
    let value: String = serde_json::from_str(value).unwrap();
    let found = path.split('.').fold(object, |value, name| &value[name]);
    found.as_str().is_some_and(|found| is_same(found, &value))
}
