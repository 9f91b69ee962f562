//! A stub of a tenant of Microsoft Entra ID: its sign-in, and the parts of Graph v1.0 that lapsed uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lapsed::directories::entra::{Cloud, Config, Credential};
use ring::signature::{KeyPair, RSA_PSS_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::stub::{Answer, Stub, StubRequest};

pub const TENANT: &str = "contoso.example";
pub const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
pub const SECRET: &str = "Abc8Q~s3cret-of-entra";

/// SHA-256 of the certificate in `rsa.pem`, as `openssl x509 -fingerprint -sha256` prints it.
const THUMBPRINT: &str = "pM5c0GgWShW44VKv4rWBzjDnSzQ0RM2bD6oB643X7Mc";

/// The prefix of access tokens; their number follows.
pub const ACCESS: &str = "access-t0ken-of-entra";

#[derive(Clone, Default)]
pub struct Tenant(Arc<Mutex<State>>);

/// Kind and id.
type Member = (&'static str, String);

pub struct State {
    pub users: BTreeMap<String, Value>,
    pub deleted: BTreeMap<String, Value>,
    /// By id: name, and members with their kinds.
    pub groups: BTreeMap<String, (String, Vec<Member>)>,
    /// All changes, as a delta query returns them.
    pub changes: Vec<Value>,
    /// Overridden responses, by path.
    pub overrides: BTreeMap<String, fn() -> Answer>,
    /// The largest page, whatever is requested.
    pub page: usize,
    /// An empty page follows the first.
    pub has_empty_page: bool,
    /// The server that links to next pages lead to.
    pub elsewhere: Option<String>,
    /// Fields that no response has.
    pub hidden: BTreeSet<&'static str>,
    /// How many access tokens were granted; only the last is accepted.
    pub granted: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            users: BTreeMap::new(),
            deleted: BTreeMap::new(),
            groups: BTreeMap::new(),
            changes: Vec::new(),
            overrides: BTreeMap::new(),
            page: 999,
            has_empty_page: false,
            elsewhere: None,
            hidden: BTreeSet::new(),
            granted: 0,
        }
    }
}

pub fn config(stub: &Stub) -> Config {
    Config {
        tenant: TENANT.to_owned(),
        client_id: CLIENT.parse().unwrap(),
        credential: Credential::Secret(SECRET.into()),
        cloud: Cloud::Global,
        url: Some(stub.url.parse().unwrap()),
    }
}

/// The keys of its `[[directory]]` without the credential.
pub fn keys(stub: &Stub) -> String {
    let url = &stub.url;
    format!("kind = \"entra\"\ntenant = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\nurl = \"{url}\"\n")
}

pub fn id(number: u32) -> String {
    format!("87d349ed-44d7-43e1-9a83-{number:012}")
}

pub fn user(number: u32, mail: &str) -> Value {
    json!({
        "id": id(number), "mail": mail, "userPrincipalName": mail, "displayName": format!("User {number}"),
        "proxyAddresses": [format!("SMTP:{mail}")], "accountEnabled": true, "externalUserState": null
    })
}

fn error(status: u16, code: &str) -> Answer {
    let text = json!({"error": {"code": code, "message": "s3cret-of-an-answer"}});
    Answer::text(status, &text.to_string())
}

impl Tenant {
    /// With this many users, `user1@example.org` and so on.
    pub fn new(users: u32) -> Self {
        let tenant = Self::default();
        for number in 1..=users {
            tenant.user(&user(number, &format!("user{number}@example.org")));
        }
        tenant.state().changes.clear();
        tenant
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn start(&self) -> Stub {
        let tenant = self.clone();
        Stub::start(move |request| tenant.answer(request))
    }

    /// Adds or replaces a user.
    pub fn user(&self, user: &Value) -> &Self {
        let mut state = self.state();
        let id = user["id"].as_str().unwrap().to_owned();
        state.changes.push(user.clone());
        state.users.insert(id, user.clone());
        drop(state);
        self
    }

    /// Enables or disables a user. A delta query returns only this field.
    pub fn enable(&self, number: u32, enabled: bool) -> &Self {
        let mut state = self.state();
        state.users.get_mut(&id(number)).unwrap()["accountEnabled"] = json!(enabled);
        let change = json!({"id": id(number), "accountEnabled": enabled});
        state.changes.push(change);
        drop(state);
        self
    }

    /// Moves a user to the recycle bin.
    pub fn delete(&self, number: u32) -> &Self {
        let mut state = self.state();
        let user = state.users.remove(&id(number)).unwrap();
        state.deleted.insert(id(number), user);
        let change = json!({"id": id(number), "@removed": {"reason": "changed"}});
        state.changes.push(change);
        for (_, members) in state.groups.values_mut() {
            members.retain(|(_, member)| *member != id(number));
        }
        drop(state);
        self
    }

    /// Removes a user from the recycle bin.
    pub fn purge(&self, number: u32) -> &Self {
        let mut state = self.state();
        state.deleted.remove(&id(number));
        let change = json!({"id": id(number), "@removed": {"reason": "deleted"}});
        state.changes.push(change);
        drop(state);
        self
    }

    /// Restores a user from the recycle bin.
    pub fn restore(&self, number: u32) -> &Self {
        let user = self.state().deleted.remove(&id(number)).unwrap();
        self.user(&user)
    }

    /// A group with these users, a nested group and a device.
    pub fn group(&self, number: u32, name: &str, members: &[u32]) -> &Self {
        let mut all = vec![
            ("#microsoft.graph.group", id(9_000)),
            ("#microsoft.graph.device", id(9_001)),
        ];
        let users = members.iter();
        all.extend(users.map(|number| ("#microsoft.graph.user", id(*number))));
        let group = (name.to_owned(), all);
        self.state().groups.insert(id(number), group);
        self
    }

    pub fn override_response(&self, path: &str, answer: fn() -> Answer) -> &Self {
        self.state().overrides.insert(path.to_owned(), answer);
        self
    }

    fn answer(&self, request: &StubRequest) -> Answer {
        let mut state = self.state();
        if let Some(answer) = state.overrides.get(&request.path) {
            return answer();
        }
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        if let ("POST", [TENANT, "oauth2", "v2.0", "token"]) = (request.method.as_str(), &parts[..])
        {
            return state.token(request);
        }
        let bearer = format!("Bearer {ACCESS}-{}", state.granted);
        if request.header("authorization") != Some(&bearer) {
            return error(401, "InvalidAuthenticationToken");
        }
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["v1.0", "users"]) => state.users(request),
            ("GET", ["v1.0", "users", "delta"]) => state.delta(request),
            ("GET", ["v1.0", "users", id]) => match state.users.get(*id) {
                Some(user) => Answer::json(&state.selected(user, request)),
                None => error(404, "Request_ResourceNotFound"),
            },
            ("GET", ["v1.0", "directory", "deletedItems", "microsoft.graph.user"]) => {
                let all: Vec<Value> = state.deleted.values().cloned().collect();
                Answer::json(&json!({ "value": all }))
            }
            ("GET", ["v1.0", "directory", "deletedItems", id]) => match state.deleted.get(*id) {
                Some(_) => Answer::json(&json!({"@odata.type": "#microsoft.graph.user", "id": id})),
                None => error(404, "Request_ResourceNotFound"),
            },
            ("GET", ["v1.0", "groups"]) => state.groups(request),
            ("GET", ["v1.0", "groups", id]) => match state.groups.get(*id) {
                Some((name, _)) => Answer::json(&json!({"id": id, "displayName": name})),
                None => error(404, "Request_ResourceNotFound"),
            },
            ("GET", ["v1.0", "groups", id, "transitiveMembers"]) => match state.groups.get(*id) {
                Some((_, members)) => {
                    let members = members.iter();
                    let shown = members.map(|(kind, id)| json!({"@odata.type": kind, "id": id}));
                    state.page_of(request, &shown.collect::<Vec<_>>())
                }
                None => error(404, "Request_ResourceNotFound"),
            },
            _ => error(400, "BadRequest"),
        }
    }
}

impl State {
    /// RFC 6749 §4.4, with a secret or with an assertion.
    fn token(&mut self, request: &StubRequest) -> Answer {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(request.body.as_bytes())
            .into_owned()
            .collect();
        let is = |name: &str, value: &str| form.get(name).is_some_and(|it| it == value);
        let is_asked_well = is("grant_type", "client_credentials")
            && is("client_id", CLIENT)
            && is("scope", "https://graph.microsoft.com/.default");
        let is_proven = match form.get("client_assertion") {
            Some(assertion) => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                is("client_assertion_type", kind) && is_signed(assertion)
            }
            None => is("client_secret", SECRET),
        };
        if !is_asked_well || !is_proven {
            let answer = json!({
                "error": "invalid_client", "error_codes": [7_000_215],
                "error_description": format!("AADSTS7000215: {}", request.body)
            });
            return Answer::text(401, &answer.to_string());
        }
        self.granted += 1;
        let token = format!("{ACCESS}-{}", self.granted);
        Answer::json(&json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token}))
    }

    /// The selected fields that are not hidden.
    fn selected(&self, user: &Value, request: &StubRequest) -> Value {
        let select = request.query("$select");
        let select: Vec<&str> = match select {
            Some(select) => select.split(',').collect(),
            // The default fields, without `accountEnabled`.
            None => vec!["id", "mail", "userPrincipalName", "displayName"],
        };
        let mut shown = user.clone();
        let is_shown = |name: &str| select.contains(&name) && !self.hidden.contains(name);
        shown
            .as_object_mut()
            .unwrap()
            .retain(|name, _| is_shown(name));
        shown
    }

    fn users(&self, request: &StubRequest) -> Answer {
        let users = self.users.values().map(|user| self.selected(user, request));
        self.page_of(request, &users.collect::<Vec<_>>())
    }

    fn groups(&self, request: &StubRequest) -> Answer {
        let filter = request.query("$filter").unwrap();
        let name = filter.strip_prefix("displayName eq '").unwrap();
        let name = name.strip_suffix('\'').unwrap().replace("''", "'");
        let meant = self.groups.iter();
        let meant = meant.filter(|(_, (it, _))| it.to_lowercase() == name.to_lowercase());
        let shown = meant.map(|(id, (name, _))| json!({"id": id, "displayName": name}));
        self.page_of(request, &shown.collect::<Vec<_>>())
    }

    /// One page; its link to the next keeps the query.
    fn page_of(&self, request: &StubRequest, all: &[Value]) -> Answer {
        let skip: usize = request
            .query("$skiptoken")
            .map_or(0, |it| it.parse().unwrap());
        let top: usize = request.query("$top").map_or(100, |it| it.parse().unwrap());
        let size = top.min(self.page);
        let is_empty = self.has_empty_page && skip == size && request.query("empty").is_none();
        let taken = if is_empty { 0 } else { size };
        let page: Vec<&Value> = all.iter().skip(skip).take(taken).collect();
        let mut answer = json!({ "@odata.context": "users", "value": page });
        let next = skip + taken;
        if next < all.len() || is_empty {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in &request.query {
                if name != "$skiptoken" {
                    query.append_pair(name, value);
                }
            }
            query.append_pair("$skiptoken", &next.to_string());
            if is_empty {
                query.append_pair("empty", "was");
            }
            let link = self.link(request, &request.path, &query.finish());
            answer["@odata.nextLink"] = json!(link);
        }
        Answer::json(&answer)
    }

    /// Changes since a token; `latest` means now.
    fn delta(&self, request: &StubRequest) -> Answer {
        let end = self.changes.len();
        let since = match request.query("$deltatoken") {
            Some("latest") => end,
            Some(token) => token.parse().unwrap(),
            None => 0,
        };
        let query = format!("$deltatoken={end}");
        let link = self.link(request, "/v1.0/users/delta", &query);
        Answer::json(&json!({ "value": self.changes[since..], "@odata.deltaLink": link }))
    }

    fn link(&self, request: &StubRequest, path: &str, query: &str) -> String {
        let here = format!("http://{}", request.header("host").unwrap());
        let origin = self.elsewhere.clone().unwrap_or(here);
        format!("{origin}{path}?{query}")
    }
}

/// Whether an assertion is valid: signed by the key of `rsa.pem`, for this tenant.
fn is_signed(assertion: &str) -> bool {
    let pem = include_bytes!("../../data/assertion/rsa.pem");
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let key = UnparsedPublicKey::new(
        &RSA_PSS_2048_8192_SHA256,
        key.public_key().as_ref().to_vec(),
    );
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decoded(header)).unwrap();
    let claims: Value = serde_json::from_slice(&decoded(claims)).unwrap();
    let audience = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
    key.verify(signed.as_bytes(), &decoded(signature)).is_ok()
        && header == json!({"alg": "PS256", "typ": "JWT", "x5t#S256": THUMBPRINT})
        && claims["aud"] == audience.as_str()
        && claims["iss"] == CLIENT
        && claims["sub"] == CLIENT
        && claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap() == 300
}
