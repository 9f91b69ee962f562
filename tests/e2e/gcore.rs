//! The source `gcore`, also with faulty answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapsed::domain::{Cell, Expiry, ListedToken, Status};
use lapsed::sources::gcore::Config;
use lapsed::sources::{Error, Fetched, LastListing, Listing, ProxyRules, Source};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bad_responses::{
    BAD_RESPONSES, LEAKED_SECRET, assert_not_leaked, daemon_log_after_sweep,
};
use crate::stub::{Answer, Stub, StubRequest};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

pub const OWN: &str = "7_0wn-s3cret-of-gcore";

/// An account at Gcore with its tokens and users.
#[derive(Clone, Default)]
pub struct Gcore(Arc<Mutex<State>>);

#[derive(Default)]
pub struct State {
    tokens: BTreeMap<i64, Value>,
    users: BTreeMap<i64, Value>,
    /// Replaced answers, by path.
    replaced: BTreeMap<String, fn() -> Answer>,
    /// The maximum number of users on a page.
    page: Option<usize>,
    is_stubborn: bool,
}

pub const V2: &str = "/iam/v2/clients/456/tokens";
const V1: &str = "/iam/clients/456/tokens";

pub fn token(id: i64, user: i64, fields: Value) -> Value {
    let mut token = json!({
        "id": id, "name": format!("token {id}"), "description": "It's my token",
        "exp_date": null, "expired": false, "deleted": false,
        "created": "2026-01-01T12:00:00.000000Z", "last_usage": "2026-11-20T12:00:00.000000Z",
        "client_user": {
            "role": {"id": 1, "name": "Administrators"}, "deleted": false, "user_id": user,
            "user_name": "John Doe", "user_email": format!("user{user}@example.org"), "client_id": 456
        },
        // Not in real lists; if it ever were, it must not be kept.
        "token": LEAKED_SECRET
    });
    merge(&mut token, fields);
    token
}

pub fn user(id: i64, group: i64, fields: Value) -> Value {
    let mut user = json!({
        "id": id, "email": format!("user{id}@example.org"), "name": "John Doe", "activated": true,
        "is_active": true, "deleted": false, "sso_auth": false, "auth_types": ["password"],
        "groups": [{"id": group, "name": "a group"}], "client": 456, "company": "Example"
    });
    merge(&mut user, fields);
    user
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (key, value) in fields {
        into[key] = value;
    }
}

impl Gcore {
    /// With lapsed's own token, which belongs to an administrator.
    pub fn new() -> Self {
        let gcore = Self::default();
        gcore.token(token(7, 1, json!({"name": "lapsed"})));
        gcore.user(user(1, 1, json!({})));
        gcore
    }

    pub fn token(&self, token: Value) -> &Self {
        let id = token["id"].as_i64().unwrap();
        self.0.lock().unwrap().tokens.insert(id, token);
        self
    }

    pub fn user(&self, user: Value) -> &Self {
        let id = user["id"].as_i64().unwrap();
        self.0.lock().unwrap().users.insert(id, user);
        self
    }

    /// Whether a token still exists.
    pub fn has(&self, id: i64) -> bool {
        self.0.lock().unwrap().tokens.contains_key(&id)
    }

    pub fn replace(&self, path: &str, answer: fn() -> Answer) -> &Self {
        let mut state = self.0.lock().unwrap();
        state.replaced.insert(path.to_owned(), answer);
        self
    }

    pub fn restore(&self) {
        self.0.lock().unwrap().replaced.clear();
    }

    pub fn start(&self) -> Stub {
        let gcore = self.clone();
        Stub::start(move |asked| gcore.answer(asked))
    }

    pub fn answer(&self, asked: &StubRequest) -> Answer {
        let mut state = self.0.lock().unwrap();
        if let Some(answer) = state.replaced.get(&asked.path) {
            return answer();
        }
        if asked.header("authorization") != Some(&format!("APIKey {OWN}")) {
            return Answer::text(401, "{\"errors\": [\"Bad token: 29841\"]}");
        }
        let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["iam", "clients", "me"]) => Answer::json(&json!({
                "id": 456, "currentUser": 1, "companyName": "Example Ltd", "name": "Jane", "status": "active",
                "email": "company@example.org", "serviceStatuses": {"CDN": {"status": "active"}}
            })),
            ("GET", ["iam", "v2", "clients", "456", "tokens"]) => {
                assert!(asked.query.is_empty(), "filters are unreliable");
                Answer::json(&state.tokens.values().cloned().collect())
            }
            ("DELETE", ["iam", "v2", "clients", "456", "tokens", id]) => {
                let id = id.parse().unwrap();
                if state.is_stubborn || state.tokens.remove(&id).is_some() {
                    Answer::status(204)
                } else {
                    Answer::text(404, "{\"message\": \"API token not found\"}")
                }
            }
            ("GET", ["iam", "users"]) => state.users(asked),
            ("GET", ["iam", "users", id]) => match state.users.get(&id.parse().unwrap()) {
                Some(user) => Answer::json(user),
                None => Answer::status(404),
            },
            _ => Answer::status(404),
        }
    }
}

impl State {
    /// The list omits deleted users, but they can be requested by id.
    fn users(&self, asked: &StubRequest) -> Answer {
        let users: Vec<&Value> = self
            .users
            .values()
            .filter(|user| user["deleted"] != true)
            .collect();
        let number = |name| asked.query(name).map(|text| text.parse::<usize>().unwrap());
        let Some(limit) = number("limit") else {
            return Answer::json(&json!(users));
        };
        let limit = limit.min(self.page.unwrap_or(limit));
        let page: Vec<_> = users
            .iter()
            .skip(number("offset").unwrap_or(0))
            .take(limit)
            .collect();
        Answer::json(&json!({
            "count": users.len(), "next": "https://evil.example.org/iam/users", "previous": null, "results": page
        }))
    }
}

fn source(url: &str, token: &str) -> impl Source + use<> {
    let config = Config {
        url: url.parse().unwrap(),
        token: token.into(),
        client_id: None,
    };
    config
        .build(Duration::from_secs(20), &ProxyRules::default())
        .unwrap()
}

async fn fetch(stub: &Stub) -> Result<Listing, Error> {
    match source(&stub.url, OWN)
        .fetch(&LastListing::default())
        .await?
    {
        Fetched::New(listing) => Ok(listing),
        Fetched::Unchanged => panic!("there was no listing before"),
    }
}

async fn fetch_error(stub: &Stub) -> String {
    let error = fetch(stub).await.err().expect("the listing should fail");
    error.to_string()
}

async fn fetch_token(gcore: &Gcore, id: i64) -> ListedToken {
    let stub = gcore.start();
    let listing = fetch(&stub).await.unwrap();
    let mut tokens = listing.tokens.map(Result::unwrap);
    tokens
        .find(|token| token.external_id == id.to_string())
        .unwrap()
}

fn at(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn every_field_of_a_token_is_read() {
    let gcore = Gcore::new();
    gcore.token(token(
        42,
        1,
        json!({"exp_date": "2026-12-31T12:00:00.000000Z"}),
    ));
    let text = |text: &str| Cell::Value(text.to_owned());
    let expected = ListedToken {
        name: text("token 42"),
        description: text("It's my token"),
        issuer: Cell::Value("user1@example.org".parse().unwrap()),
        issuer_name: text("John Doe"),
        issuer_id: Some("1".to_owned()),
        issuer_gone: Cell::Empty,
        account: text("Example Ltd"),
        role: text("Administrators"),
        created_at: Cell::Value(at("2026-01-01T12:00:00Z")),
        last_used_at: Cell::Value(at("2026-11-20T12:00:00Z")),
        expiry: Cell::Value(Expiry::At(at("2026-12-31T12:00:00Z"))),
        status: Cell::Value(Status::Active),
        ..ListedToken::with_id("42")
    };
    assert_eq!(fetch_token(&gcore, 42).await, expected);
}

#[rstest]
#[case::never(json!({"exp_date": null}), Expiry::Never, Status::Active)]
#[case::spaced(json!({"exp_date": "2026-12-31 12:00:00+00:00"}), Expiry::At(at("2026-12-31T12:00:00Z")), Status::Active)]
#[case::expired(
    json!({"exp_date": "2026-11-01T00:00:00Z", "expired": true, "deleted": true}),
    Expiry::At(at("2026-11-01T00:00:00Z")), Status::Active
)]
#[case::expired_without_a_date(json!({"expired": true}), Expiry::Never, Status::Disabled)]
#[case::deleted(
    json!({"exp_date": "2026-12-31T12:00:00Z", "deleted": true}),
    Expiry::At(at("2026-12-31T12:00:00Z")), Status::Revoked
)]
#[tokio::test]
async fn expiry_and_status_follow_from_date_and_flags(
    #[case] fields: Value,
    #[case] expiry: Expiry,
    #[case] status: Status,
) {
    let gcore = Gcore::new();
    gcore.token(token(42, 1, fields));
    let token = fetch_token(&gcore, 42).await;
    assert_eq!(
        (token.expiry, token.status),
        (Cell::Value(expiry), Cell::Value(status))
    );
}

#[tokio::test]
async fn an_expiry_that_cannot_be_read_is_one_unreadable_cell() {
    let gcore = Gcore::new();
    gcore.token(token(42, 1, json!({"exp_date": "soon"})));
    let token = fetch_token(&gcore, 42).await;
    assert_eq!(token.expiry, Cell::Absent);
    assert_contains!(token.unreadable["expires_at"], "\"soon\" is not a date");
}

#[rstest]
#[case(json!(null))]
#[case(json!(""))]
#[tokio::test]
async fn a_token_that_was_never_used_has_an_empty_last_use(#[case] last_usage: Value) {
    let gcore = Gcore::new();
    gcore.token(token(42, 1, json!({"last_usage": last_usage})));
    assert_eq!(fetch_token(&gcore, 42).await.last_used_at, Cell::Empty);
}

#[rstest]
#[case::inactive(Some(json!({"is_active": false})), Some("Gcore lists the user 9 as inactive"))]
#[case::deleted(
    Some(json!({"deleted": true, "sso_auth": true, "auth_types": ["sso"]})),
    Some("Gcore lists the user 9 (SSO only) as deleted")
)]
#[case::unknown(None, Some("Gcore has no user 9"))]
#[case::there(Some(json!({})), None)]
#[tokio::test]
async fn an_issuer_has_left_if_the_user_record_says_so(
    #[case] fields: Option<Value>,
    #[case] gone: Option<&str>,
) {
    let gcore = Gcore::new();
    let mut token = token(42, 9, json!({}));
    // This flag concerns the token in the portal, not the user.
    token["client_user"]["deleted"] = json!(true);
    gcore.token(token);
    if let Some(fields) = fields {
        gcore.user(user(9, 2, fields));
    }
    let found = fetch_token(&gcore, 42).await.issuer_gone;
    assert_eq!(found.into_option().as_deref(), gone);
}

#[rstest]
#[case(json!({"auth_types": ["sso"], "sso_auth": true}), "John Doe (SSO only)")]
#[case(json!({"auth_types": ["password", "sso"]}), "John Doe (SSO)")]
#[case(json!({"auth_types": null, "sso_auth": true}), "John Doe (SSO)")]
#[case(json!({"auth_types": ["github"]}), "John Doe")]
#[tokio::test]
async fn the_name_of_an_issuer_notes_single_sign_on(#[case] fields: Value, #[case] name: &str) {
    let gcore = Gcore::new();
    gcore
        .token(token(42, 9, json!({})))
        .user(user(9, 2, fields));
    assert_eq!(
        fetch_token(&gcore, 42).await.issuer_name,
        Cell::Value(name.to_owned())
    );
}

#[rstest]
#[case::whole_pages(None)]
#[case::half_pages(Some(7))]
#[tokio::test]
async fn administrators_are_found_on_every_page(#[case] page: Option<usize>) {
    let gcore = Gcore::new();
    gcore.0.lock().unwrap().page = page;
    for id in 2..=120 {
        gcore.user(user(id, if id % 40 == 0 { 1 } else { 2 }, json!({})));
    }
    gcore.user(user(121, 1, json!({"is_active": false})));
    gcore.user(user(122, 1, json!({"deleted": true})));
    gcore.user(user(123, 1, json!({"email": "no address"})));
    gcore.user(user(
        124,
        1,
        json!({"client": 999, "company": "another account of the reseller"}),
    ));
    let stub = gcore.start();
    let admins = fetch(&stub).await.unwrap().admins.unwrap();
    assert!(admins.iter().all(|admin| admin.account == "Example Ltd"));
    let addresses: Vec<_> = admins
        .iter()
        .map(|admin| admin.address.to_string())
        .collect();
    let expected = [
        "user120@example.org",
        "user1@example.org",
        "user40@example.org",
        "user80@example.org",
    ];
    let (mut addresses, mut expected) = (addresses, expected.map(str::to_owned));
    addresses.sort();
    expected.sort();
    assert_eq!(addresses, expected);
}

#[tokio::test]
async fn a_list_of_users_that_ends_early_fails_the_listing() {
    let gcore = Gcore::new();
    gcore.replace("/iam/users", || {
        Answer::json(&json!({"count": 100, "results": []}))
    });
    let error = fetch_error(&gcore.start()).await;
    assert_contains!(error, "the list ends after 0 users");
}

#[tokio::test]
async fn a_plain_array_of_users_is_also_read() {
    let gcore = Gcore::new();
    gcore.replace("/iam/users", || {
        Answer::json(&json!([user(1, 1, json!({}))]))
    });
    assert_eq!(
        fetch(&gcore.start()).await.unwrap().admins.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn version_1_is_used_only_if_version_2_is_missing() {
    let gcore = Gcore::new();
    let stub = gcore.start();
    fetch(&stub).await.unwrap();
    assert!(!stub.take_request_lines().contains(&format!("GET {V1}")));

    gcore.replace(V2, || Answer::status(404));
    gcore.replace(V1, || Answer::json(&json!([token(7, 1, json!({}))])));
    assert_eq!(fetch(&stub).await.unwrap().count, 1);

    gcore.replace(V1, || Answer::status(404));
    let error = fetch_error(&stub).await;
    assert_contains!(error, "has no list of tokens of the account 456");

    stub.take_request_lines();
    gcore.replace(V2, || Answer::status(500));
    fetch_error(&stub).await;
    assert!(!stub.take_request_lines().contains(&format!("GET {V1}")));
}

#[tokio::test]
async fn a_configured_account_does_not_need_the_own_account() {
    let gcore = Gcore::new();
    gcore.replace("/iam/clients/me", || Answer::status(403));
    let stub = gcore.start();
    let config = Config {
        url: stub.url.parse().unwrap(),
        token: OWN.into(),
        client_id: Some(456),
    };
    let source = config
        .build(Duration::from_secs(20), &ProxyRules::default())
        .unwrap();
    let Fetched::New(listing) = source.fetch(&LastListing::default()).await.unwrap() else {
        panic!("there was no listing before");
    };
    assert_eq!(listing.admins.unwrap()[0].account, "456");
    let accounts: Vec<_> = listing.tokens.map(|token| token.unwrap().account).collect();
    assert_eq!(accounts, [Cell::Value("456".to_owned())]);
}

#[rstest]
// By the role of the own token.
#[case::by_role(7, json!({"id": 2, "name": "Users"}), 1, true)]
// By the groups of its user, because it is not in the list itself.
#[case::by_group(8, json!({"id": 1}), 2, true)]
#[case::of_an_administrator(7, json!({"id": 1}), 1, false)]
#[tokio::test]
async fn a_listing_of_the_own_tokens_is_refused(
    #[case] id: i64,
    #[case] role: Value,
    #[case] group: i64,
    #[case] is_refused: bool,
) {
    let gcore = Gcore::default();
    let mut own = token(id, 1, json!({}));
    own["client_user"]["role"] = role;
    gcore.token(own).user(user(1, group, json!({})));
    let stub = gcore.start();
    let error = fetch(&stub).await.err().map(|error| error.to_string());
    let expected_start = "the credentials show only the tokens of their own user; create a permanent API token with the role";
    assert_eq!(
        error
            .as_ref()
            .is_some_and(|error| error.starts_with(expected_start)),
        is_refused,
        "{error:?}"
    );

    let checked = source(&stub.url, OWN).check().await;
    let checked = checked.err().map(|error| error.to_string());
    assert_eq!(checked, error, "a check fails in the same way");
    // Tokens of other users prove that the list is complete.
    gcore.token(token(43, 9, json!({})));
    assert!(fetch(&stub).await.is_ok());
}

#[tokio::test]
async fn a_check_reports_the_rights() {
    let gcore = Gcore::new();
    gcore
        .token(token(42, 9, json!({})))
        .user(user(9, 2, json!({})));
    let stub = gcore.start();
    let checked = source(&stub.url, OWN).check().await.unwrap();
    let expected = "Gcore, account Example Ltd: 2 tokens, 2 users";
    assert_eq!(checked.summary, expected);
    assert!(
        checked.rights.iter().all(|right| right.missing.is_none()),
        "{:?}",
        checked.rights
    );

    let refusals: [fn() -> Answer; 2] = [|| Answer::status(403), || Answer::status(404)];
    for refusal in refusals {
        gcore.replace("/iam/users", refusal);
        let checked = source(&stub.url, OWN).check().await.unwrap();
        assert_contains!(
            checked.rights[1].missing.as_ref().unwrap(),
            "role Administrators"
        );
        let listing = fetch(&stub).await.unwrap();
        assert_eq!(listing.admins, None);
        assert!(
            listing
                .tokens
                .map(Result::unwrap)
                .all(|token| token.issuer_gone == Cell::Absent)
        );
    }

    let error = source(&stub.url, "7_wrong")
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("Gcore does not accept the token; create a permanent API token"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_is_deleted_and_verified() {
    let gcore = Gcore::new();
    gcore
        .token(token(42, 9, json!({})))
        .token(token(43, 9, json!({"deleted": true})));
    let stub = gcore.start();
    for own in [OWN, "7$0wn"] {
        let own = source(&stub.url, own).revoke("7").await;
        assert!(matches!(own, Err(Error::OwnToken)));
    }
    let without_id = source(&stub.url, "a-secret-without-a-number")
        .revoke("42")
        .await;
    assert_contains!(without_id.unwrap_err(), "id_secret");
    let source = source(&stub.url, OWN);
    for unknown in ["41", "43", "../me", ""] {
        let ended = source.revoke(unknown).await;
        assert!(matches!(ended, Err(Error::NoSuchToken(_))), "{unknown}");
    }
    assert!(
        stub.take_request_lines()
            .iter()
            .all(|line| line.starts_with("GET "))
    );

    gcore.0.lock().unwrap().is_stubborn = true;
    assert!(matches!(source.revoke("42").await, Err(Error::StillThere)));
    gcore.replace(&format!("{V2}/42"), || Answer::status(403));
    let error = source.revoke("42").await.unwrap_err().to_string();
    assert_contains!(error, "role Administrators");
    gcore.restore();
    gcore.0.lock().unwrap().is_stubborn = false;
    source.revoke("42").await.unwrap();
    assert!(!gcore.0.lock().unwrap().tokens.contains_key(&42));
}

/// A world with the account as its source.
pub fn world(db: Db, stub: &Stub) -> World {
    let mut world = World::new(db);
    world.table(&format!(
        "[[source]]\nname = \"gcore\"\nkind = \"gcore\"\nurl = \"{}\"\ntoken = {{ file = \"token\" }}\nallow_revoke = true",
        stub.url
    ));
    world.at("2026-11-24 12:00:00").write("token", OWN);
    world
}

#[rstest]
fn an_account_is_synced_and_its_people_are_notified(#[values(Sqlite, Postgres)] db: Db) {
    let gcore = Gcore::new();
    gcore.token(token(
        42,
        9,
        json!({"exp_date": "2026-11-28T12:00:00.000000Z"}),
    ));
    gcore.token(token(
        43,
        9,
        json!({"exp_date": "2026-12-28 12:00:00+00:00"}),
    ));
    gcore.user(user(9, 2, json!({"auth_types": ["sso"]})));
    let stub = gcore.start();
    let mut world = world(db, &stub);
    world.sweep().says("3 new");
    let expected = json!({
        "external_id": "42", "name": "token 42", "issuer": "user9@example.org", "account": "Example Ltd",
        "role": "Administrators", "scope": null, "created_at": "2026-01-01T12:00:00Z",
        "expires_at": "2026-11-28T12:00:00Z", "expires_on": null, "expiry": "at", "expiry_origin": "source", "status": "active",
        "last_used_at": "2026-11-20T12:00:00Z"
    });
    let tokens = world.list(&["token", "list", "--source", "gcore"]);
    let mut shown = tokens.iter().filter(|token| token["external_id"] == "42");
    let shown = shown.next().unwrap();
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}");
    }
    let mails = world.take_mails();
    let mut recipients: Vec<_> = mails.iter().map(|mail| mail.to.as_str()).collect();
    recipients.sort_unstable();
    // The second is the administrator of the account, as reported by Gcore.
    assert_eq!(
        recipients,
        ["boss@example.org", "user1@example.org", "user9@example.org"]
    );
    assert_contains!(mails[0].text, "John Doe (SSO only)");

    // A token that disappears after its expiry has expired; before that, it is gone.
    world.sweep().says("nothing was due");
    gcore.0.lock().unwrap().tokens.retain(|id, _| *id == 7);
    world.at("2026-11-28 12:00:01").sweep();
    assert_eq!(
        world.tokens(),
        ["42 expired", "43 gone", "7 active"].map(str::to_owned)
    );
}

#[test]
fn a_token_is_ended_by_a_command() {
    let gcore = Gcore::new();
    gcore
        .token(token(42, 9, json!({})))
        .user(user(9, 2, json!({})));
    let stub = gcore.start();
    // Gcore reports it as expired, without a date.
    gcore.token(token(44, 9, json!({"expired": true})));
    let mut world = world(Db::Sqlite, &stub);
    world
        .run(&["source", "check", "gcore"])
        .exits(0)
        .says("Example Ltd");
    world.sweep();
    stub.take_request_lines();
    let end = |world: &World, id: &str| world.run(&["token", "revoke", id, "--at-source", "--yes"]);
    for how in ["--dry-run", "--yes"] {
        world
            .run(&["token", "revoke", "gcore/7", "--at-source", how])
            .exits(1)
            .says("the token that lapsed itself uses for the source");
    }
    assert!(
        world.list(&["audit", "list"]).is_empty(),
        "it was not tried"
    );
    assert!(stub.take_request_lines().is_empty());
    end(&world, "gcore/42").exits(0);
    assert!(
        stub.take_request_lines()
            .contains(&format!("DELETE {V2}/42"))
    );
    assert_eq!(
        world.tokens(),
        ["42 revoked", "44 disabled", "7 active"].map(str::to_owned)
    );
    // After the command, which took a while.
    world.at("2026-11-24 12:01:00").sweep();
    end(&world, "gcore/44").exits(0);
    assert_eq!(
        world.tokens(),
        ["42 revoked", "44 revoked", "7 active"].map(str::to_owned)
    );
}

#[test]
fn an_invalid_answer_fails_the_sync_and_changes_nothing() {
    let gcore = Gcore::new();
    gcore.token(token(42, 9, json!({"exp_date": "2026-12-28T12:00:00Z"})));
    gcore.user(user(9, 2, json!({})));
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world.set("log.level", "\"trace\"").env("RUST_LOG", "trace");
    let mut output = world.sweep().stderr.clone();
    let before = world.tokens();
    for path in ["/iam/clients/me", V2, "/iam/users"] {
        for trap in &BAD_RESPONSES {
            if path == "/iam/users" && trap.expected_text == "404" {
                continue;
            }
            gcore.replace(path, trap.answer);
            let ran = world.run(&["sweep"]);
            ran.exits(1);
            let is_said = ran.stderr.contains(trap.expected_text)
                || (path == V2
                    && trap.expected_text == "404"
                    && ran.stderr.contains("has no list of tokens"));
            assert!(is_said, "{path} {}: {}", trap.expected_text, ran.stdout);
            output += &ran.stderr;
            output += &ran.stdout;
            gcore.restore();
        }
    }
    gcore.replace(V2, || Answer::text(401, LEAKED_SECRET));
    let ran = world.run(&["sweep"]);
    ran.exits(1).says("Gcore does not accept the token");
    output += &ran.stderr;
    gcore.restore();
    assert_eq!(world.tokens(), before);
    output += &daemon_log_after_sweep(world.at("2026-11-24 12:00:57"));
    let secret = OWN.split_once('_').unwrap().1;
    std::fs::remove_file(world.path("token")).unwrap();
    assert_not_leaked(&[LEAKED_SECRET, secret], &world, &output);
}

#[test]
fn a_request_to_wait_is_respected_and_is_no_failure() {
    let gcore = Gcore::new();
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    gcore.replace(V2, || Answer::status(429).with("retry-after", "600"));
    world.sweep();
    stub.take_request_lines();
    world.at("2026-11-24 12:09:00").sweep();
    assert_eq!(stub.take_request_lines(), Vec::<String>::new());
    gcore.restore();
    world.at("2026-11-24 12:11:00").sweep().says("1 new");
}

#[rstest]
fn a_revocation_that_is_killed_can_be_repeated(#[values(Sqlite, Postgres)] db: Db) {
    let gcore = Gcore::new();
    for id in [42, 43] {
        gcore.token(token(id, 9, json!({"exp_date": "2026-11-30T12:00:00Z"})));
    }
    gcore.user(user(9, 2, json!({})));
    // Kills the process that deletes 42, after the deletion and before the answer.
    let (victim, pid) = std::sync::mpsc::channel::<u32>();
    let (pid, inner) = (Mutex::new(pid), gcore.clone());
    let is_killing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let stub = Stub::start(move |asked| {
        let answer = inner.answer(asked);
        let is_deletion = asked.line() == format!("DELETE {V2}/42");
        if is_deletion && is_killing.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let pid = pid.lock().unwrap().recv().unwrap().to_string();
            let killed = std::process::Command::new("kill")
                .args(["-9", &pid])
                .status();
            assert!(killed.unwrap().success());
        }
        answer
    });
    let mut world = world(db, &stub);
    world.env("USER", "grace");
    world.sweep().says("3 new");
    world.take_mails();
    let trail = |world: &World| -> Vec<String> {
        let entries = world.list(&["audit", "list"]);
        let line = |it: &Value| format!("{} {}", it["action"], it["subject"]).replace('"', "");
        entries.iter().rev().map(line).collect()
    };

    let revoke = |id| ["token", "revoke", id, "--at-source", "--yes"];
    world
        .run(&revoke("gcore/7"))
        .exits(1)
        .says("the token that lapsed itself uses for the source");
    // The clock of every process starts at the same instant.
    world.at("2026-11-24 12:20:00");
    let mut child = world.start("revoke", &revoke("gcore/42"));
    victim.send(child.id()).unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "killed");
    let cut_off = ["token.revoke gcore/42"];
    assert_eq!(
        trail(&world),
        cut_off,
        "the attempt is recorded, without an outcome"
    );
    assert_eq!(world.tokens(), ["42 active", "43 active", "7 active"]);
    assert!(!gcore.0.lock().unwrap().tokens.contains_key(&42));

    // The repetition settles it: the people concerned are notified, and there is no warning of the expiry.
    world
        .run(&[&revoke("gcore/42")[..], &["--reason", "leaked"]].concat())
        .exits(0)
        .says("was revoked at its source");
    world
        .run(&revoke("gcore/42"))
        .exits(0)
        .says("already revoked");
    world.sweep();
    assert_eq!(world.tokens(), ["42 revoked", "43 active", "7 active"]);
    let settled = ["token.revoke gcore/42", "token.revoked gcore/42"];
    assert_eq!(trail(&world), [&cut_off[..], &settled[..]].concat());
    let mails = world.take_mails();
    let mut recipients: Vec<_> = mails.iter().map(|mail| mail.to.as_str()).collect();
    recipients.sort_unstable();
    let concerned = ["boss@example.org", "user1@example.org", "user9@example.org"];
    assert_eq!(
        recipients, concerned,
        "including the account's administrator"
    );
    for mail in &mails {
        let expected = "Token token 42 was revoked on Tue 24 Nov 2026";
        assert_eq!(mail.subject, expected);
        assert_contains!(
            mail.text,
            "by grace",
            "Reason: leaked",
            "where this one was made",
            "https:"
        );
    }
    world.run(&revoke("gcore/43")).exits(0);
    assert!(!gcore.0.lock().unwrap().tokens.contains_key(&43));
    world.at("2026-11-29 13:00:00").sweep();
    let subjects: Vec<_> = world
        .take_mails()
        .into_iter()
        .map(|mail| mail.subject)
        .collect();
    assert!(
        subjects
            .iter()
            .all(|subject| subject.contains("token 43 was revoked")),
        "{subjects:?}"
    );
    if db == Db::Sqlite {
        assert_not_leaked(&[LEAKED_SECRET], &world, "");
    }
}
