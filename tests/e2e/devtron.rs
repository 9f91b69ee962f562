//! The source `devtron`, with and without its database, and with faulty answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use lapsed::domain::{Cell, Expiry, ListedToken, Status};
use lapsed::sources::devtron::Config;
use lapsed::sources::{Error, Fetched, LastListing, Listing, ProxyRules, Source};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bad_responses::{
    BAD_RESPONSES, LEAKED_SECRET, assert_not_leaked, daemon_log_after_sweep,
};
use crate::postgres::{Database, query};
use crate::stub::{Answer, Stub, StubRequest};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const TOKENS: &str = "/orchestrator/api-token";

/// The signature of lapsed's own token.
const OWN_SECRET: &str = "0wn-s3cret-of-devtron";

/// 2026-11-27 at 00:00 UTC.
const END: i64 = 1_795_737_600_000;

/// lapsed's own token, with the id 1.
fn own() -> String {
    let claims = json!({"email": "API-TOKEN:lapsed", "version": "1", "iss": "apiTokenIssuer"});
    format!(
        "eyJhbGciOiJIUzI1NiJ9.{}.{OWN_SECRET}",
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

/// A Devtron with its tokens and machine accounts.
#[derive(Clone, Default)]
struct Devtron(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tokens: BTreeMap<i64, Value>,
    accounts: BTreeMap<i64, Value>,
    /// Replaced answers, by path.
    replaced: BTreeMap<String, fn() -> Answer>,
    is_stubborn: bool,
}

impl Devtron {
    fn new() -> Self {
        let devtron = Self::default();
        devtron.token(1, "lapsed", json!({"expireAtInMs": 0}));
        devtron.account(1, json!({"superAdmin": true, "roleFilters": []}));
        devtron
    }

    /// Adds a token whose machine account has the id plus ten.
    fn token(&self, id: i64, name: &str, fields: Value) -> &Self {
        let mut token = json!({
            "id": id, "userId": id + 10, "userIdentifier": format!("API-TOKEN:{name}"), "name": name,
            "description": "jenkins", "expireAtInMs": END, "token": format!("eyJhbG.{LEAKED_SECRET}-{id}"),
            "lastUsedAt": "2026-10-02 07:44:10.512345 +0530 IST", "lastUsedByIp": "10.2.3.4",
            "updatedAt": "2026-09-01 12:00:00.123456 +0000 UTC"
        });
        let Value::Object(fields) = fields else {
            panic!("no fields");
        };
        token.as_object_mut().unwrap().extend(fields);
        self.0.lock().unwrap().tokens.insert(id, token);
        self
    }

    /// Sets the permissions of a token.
    fn account(&self, id: i64, permissions: Value) -> &Self {
        let mut account = json!({"id": id + 10, "email_id": "API-TOKEN:x", "access_token": LEAKED_SECRET, "groups": []});
        let Value::Object(permissions) = permissions else {
            panic!("no permissions");
        };
        account.as_object_mut().unwrap().extend(permissions);
        self.0.lock().unwrap().accounts.insert(id + 10, account);
        self
    }

    fn replace(&self, path: &str, answer: fn() -> Answer) -> &Self {
        let mut state = self.0.lock().unwrap();
        state.replaced.insert(path.to_owned(), answer);
        self
    }

    fn restore(&self) {
        self.0.lock().unwrap().replaced.clear();
    }

    fn start(&self) -> Stub {
        let devtron = self.clone();
        Stub::start(move |asked| devtron.answer(asked))
    }

    fn answer(&self, asked: &StubRequest) -> Answer {
        let mut state = self.0.lock().unwrap();
        if let Some(answer) = state.replaced.get(&asked.path) {
            return answer();
        }
        if asked.header("token") != Some(&own()) {
            return Answer::text(
                401,
                r#"{"code": 401, "errors": [{"userMessage": "unauthorized"}]}"#,
            );
        }
        let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["orchestrator", "api-token"]) => {
                let tokens: Vec<&Value> = state.tokens.values().collect();
                envelope(&if tokens.is_empty() {
                    Value::Null
                } else {
                    json!(tokens)
                })
            }
            ("DELETE", ["orchestrator", "api-token", id]) => {
                let id = id.parse().unwrap();
                if !state.is_stubborn && state.tokens.remove(&id).is_none() {
                    return Answer::status(404);
                }
                envelope(&json!({"success": true}))
            }
            ("GET", ["orchestrator", "user", id]) => match state.accounts.get(&id.parse().unwrap())
            {
                Some(account) => envelope(account),
                None => Answer::status(404),
            },
            _ => Answer::status(404),
        }
    }
}

fn envelope(result: &Value) -> Answer {
    Answer::json(&json!({"code": 200, "status": "OK", "result": result}))
}

fn source(url: &str, token: &str, database: Option<&str>) -> impl Source + use<> {
    let config = Config {
        url: url.parse().unwrap(),
        token: token.into(),
        database: database.map(Into::into),
    };
    config
        .build(Duration::from_secs(20), &ProxyRules::default())
        .unwrap()
}

async fn fetch(stub: &Stub, database: Option<&str>) -> Result<Listing, Error> {
    match source(&stub.url, &own(), database)
        .fetch(&LastListing::default())
        .await?
    {
        Fetched::New(listing) => Ok(listing),
        Fetched::Unchanged => panic!("there was no listing before"),
    }
}

async fn fetch_error(stub: &Stub, database: Option<&str>) -> String {
    let error = fetch(stub, database)
        .await
        .err()
        .expect("the listing should fail");
    error.to_string()
}

async fn fetch_token(devtron: &Devtron, database: Option<&str>, id: i64) -> ListedToken {
    let stub = devtron.start();
    let listing = fetch(&stub, database).await.unwrap();
    let mut tokens = listing.tokens.map(Result::unwrap);
    tokens
        .find(|token| token.external_id == id.to_string())
        .unwrap()
}

fn at(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap()
}

fn text(text: &str) -> Cell<String> {
    Cell::Value(text.to_owned())
}

#[tokio::test]
async fn fields_of_the_api_are_read_but_not_the_wrong_last_use() {
    let devtron = Devtron::new();
    devtron.token(
        4,
        "ci-deploy",
        json!({"description": "jenkins, ask ada@example.org"}),
    );
    devtron.account(4, json!({"superAdmin": false, "roleFilters": [
        {"entity": "apps", "team": "payments", "environment": "prod", "entityName": "", "action": "trigger"}
    ]}));
    let expected = ListedToken {
        name: text("ci-deploy"),
        description: text("jenkins, ask ada@example.org"),
        issuer: Cell::Value("ada@example.org".parse().unwrap()),
        role: text("trigger"),
        scope: text("Devtron apps payments/prod/*"),
        expiry: Cell::Value(Expiry::At(at("2026-11-27T00:00:00Z"))),
        status: Cell::Value(Status::Active),
        ..ListedToken::with_id("4")
    };
    assert_eq!(expected.last_used_at, Cell::Absent);
    assert_eq!(fetch_token(&devtron, None, 4).await, expected);
    let own = fetch_token(&devtron, None, 1).await;
    assert_eq!(
        (own.expiry, own.role),
        (Cell::Value(Expiry::Never), text("super admin"))
    );
}

#[tokio::test]
async fn null_is_an_empty_listing() {
    let devtron = Devtron::default();
    let listing = fetch(&devtron.start(), None).await.unwrap();
    assert_eq!((listing.count, listing.is_partial), (0, false));
}

#[rstest]
#[case(|| Answer::status(403))]
#[case(|| Answer::text(200, "<html>"))]
#[case(|| envelope(&Value::Null))]
#[case(|| Answer::text(200, r#"{"code": 500, "result": null}"#))]
#[case(|| Answer::text(200, r#"{"code": 200}"#))]
#[case(|| Answer::cut("{\"code\": 200"))]
#[tokio::test]
async fn a_token_is_listed_even_if_its_permissions_are_not_visible(#[case] answer: fn() -> Answer) {
    let devtron = Devtron::new();
    devtron
        .token(4, "ci-deploy", json!({}))
        .replace("/orchestrator/user/14", answer);
    let token = fetch_token(&devtron, None, 4).await;
    assert_eq!(
        (token.name, token.role, token.scope),
        (text("ci-deploy"), Cell::Absent, Cell::Absent)
    );
}

#[tokio::test]
async fn permissions_are_skipped_after_several_unanswered_requests() {
    let devtron = Devtron::new();
    for id in 20..60 {
        devtron.token(id, &format!("ci-{id}"), json!({}));
        let path = format!("/orchestrator/user/{}", id + 10);
        devtron.replace(&path, || Answer::cut("{\"code\": 200"));
    }
    let stub = devtron.start();
    assert_eq!(fetch(&stub, None).await.unwrap().count, 41);
    let lines = stub.take_request_lines();
    assert!(lines.len() < 15, "{lines:?}");
    devtron.replace("/orchestrator/user/11", || {
        Answer::status(429).with("retry-after", "600")
    });
    let error = fetch(&stub, None).await.err().unwrap();
    assert_eq!(error.wait(), Some(Duration::from_mins(10)));
}

#[rstest]
#[case::no_result(|| Answer::text(200, r#"{"code": 200, "status": "OK"}"#), "the response has no result")]
#[case::error_within(|| Answer::text(200, r#"{"code": 500, "result": null}"#), "an error of code 500")]
#[case::unknown_token(|| Answer::status(401), "does not accept the token; it may have expired")]
#[case::no_super_admin(|| Answer::status(403), "no super admin permission; generate an API token with super admin permission")]
#[tokio::test]
async fn an_invalid_list_fails_the_listing(
    #[case] answer: fn() -> Answer,
    #[case] expected_text: &str,
) {
    let devtron = Devtron::new();
    devtron.replace(TOKENS, answer);
    let error = fetch_error(&devtron.start(), None).await;
    assert_contains!(error, expected_text);
}

#[tokio::test]
async fn a_token_is_deleted_and_verified() {
    let devtron = Devtron::new();
    devtron.token(4, "ci-deploy", json!({}));
    let stub = devtron.start();
    let source = source(&stub.url, &own(), None);
    assert!(matches!(source.revoke("1").await, Err(Error::OwnToken)));
    for unknown in ["5", "../user/3", ""] {
        assert!(
            matches!(source.revoke(unknown).await, Err(Error::NoSuchToken(_))),
            "{unknown}"
        );
    }
    assert!(
        stub.take_request_lines()
            .iter()
            .all(|line| line.starts_with("GET "))
    );
    devtron.0.lock().unwrap().is_stubborn = true;
    assert!(matches!(source.revoke("4").await, Err(Error::StillThere)));
    devtron.replace(&format!("{TOKENS}/4"), || Answer::status(403));
    assert_contains!(source.revoke("4").await.unwrap_err(), "super admin");
    devtron.restore();
    devtron.0.lock().unwrap().is_stubborn = false;
    source.revoke("4").await.unwrap();
    assert!(!devtron.0.lock().unwrap().tokens.contains_key(&4));
    assert_eq!(
        source.token_page("4").unwrap(),
        format!("{}/dashboard/global-config/auth/api-token/edit/4", stub.url)
    );
}

#[tokio::test]
async fn no_token_is_ended_if_the_own_token_is_unknown() {
    let devtron = Devtron::new();
    devtron.token(4, "ci-deploy", json!({}));
    let list = || envelope(&json!([{"id": 4, "name": "ci-deploy"}]));
    devtron.replace(TOKENS, list);
    let stub = devtron.start();
    let error = source(&stub.url, "no-jwt", None)
        .revoke("4")
        .await
        .unwrap_err()
        .to_string();
    assert_contains!(error, "it is not known which token lapsed itself uses");
    assert_eq!(stub.take_request_lines(), [format!("GET {TOKENS}")]);
}

/// A database of Devtron, with the documented role.
struct DevtronDatabase {
    database: Option<Database>,
    server: String,
    role: String,
}

/// The relevant tables (`scripts/sql` of Devtron).
const TABLES: &str = "
    CREATE TABLE users (id int4 PRIMARY KEY, email_id varchar(256), access_token text, active bool NOT NULL,
        user_type varchar(250), created_on timestamptz, created_by int4, updated_on timestamptz, updated_by int4);
    CREATE TABLE api_token (id int4 PRIMARY KEY, user_id int4 NOT NULL REFERENCES users (id),
        name varchar(100) NOT NULL UNIQUE, description text NOT NULL, expire_at_in_ms bigint, token text NOT NULL,
        created_on timestamptz NOT NULL, created_by int4 NOT NULL, updated_on timestamptz, updated_by int4,
        version int4 NOT NULL DEFAULT 1);
    CREATE TABLE user_audit (id serial PRIMARY KEY, user_id int4 NOT NULL, client_ip varchar(256),
        created_on timestamptz NOT NULL, updated_on timestamptz NOT NULL);
    INSERT INTO users (id, email_id, active) VALUES
        (1, 'system', true), (2, 'admin', true), (3, 'ada@example.org', true), (5, 'leaver@example.org', false),
        (11, 'API-TOKEN:lapsed', true), (14, 'API-TOKEN:ci-deploy', true);
    INSERT INTO api_token (id, user_id, name, description, token, created_on, created_by) VALUES
        (1, 11, 'lapsed', '', 's3cret-of-an-answer', '2026-01-01 00:00:00+00', 2),
        (4, 14, 'ci-deploy', 'jenkins', 's3cret-of-an-answer-4', '2026-09-01 14:00:00+02', 3);
    INSERT INTO user_audit (user_id, client_ip, created_on, updated_on) VALUES
        (14, '10.0.0.1', '2026-09-02 08:00:00+00', '2026-09-02 08:00:00+00'),
        (14, '10.0.0.2', '2026-10-02 07:44:10+00', '2026-11-20 09:00:00+00');";

impl DevtronDatabase {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = Database::new();
        let own_database = Self {
            server: {
                let mut server = url::Url::parse(&database.url()).unwrap();
                server.set_path("postgres");
                server.into()
            },
            role: format!("lapsed_reader_{}_{nth}", std::process::id()),
            database: Some(database),
        };
        own_database.run(TABLES);
        own_database.run(&documented_grants().replace("lapsed_reader", &own_database.role));
        own_database
    }

    fn run(&self, sql: &str) {
        query(&self.database.as_ref().unwrap().url(), sql);
    }

    fn url(&self) -> String {
        let mut url = url::Url::parse(&self.database.as_ref().unwrap().url()).unwrap();
        url.set_username(&self.role).unwrap();
        url.set_password(Some("choose-one")).unwrap();
        url.into()
    }
}

impl Drop for DevtronDatabase {
    fn drop(&mut self) {
        drop(self.database.take());
        query(&self.server, &format!("DROP ROLE {}", self.role));
    }
}

/// The statements in the documentation.
fn documented_grants() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sources/devtron.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, from) = document.split_once("```sql\n").unwrap();
    from.split_once("```").unwrap().0.to_owned()
}

fn with_ci_deploy() -> Devtron {
    let devtron = Devtron::new();
    devtron.token(4, "ci-deploy", json!({}));
    devtron
}

#[tokio::test]
async fn the_database_adds_issuer_creation_and_last_use() {
    let (devtron, own_database) = (with_ci_deploy(), DevtronDatabase::new());
    let url = own_database.url();
    let token = fetch_token(&devtron, Some(&url), 4).await;
    assert_eq!(
        token.issuer,
        Cell::Value("ada@example.org".parse().unwrap())
    );
    assert_eq!(
        (token.issuer_id.as_deref(), token.secret_version),
        (Some("3"), Some(1))
    );
    assert_eq!(token.created_at, Cell::Value(at("2026-09-01T12:00:00Z")));
    assert_eq!(token.last_used_at, Cell::Value(at("2026-11-20T09:00:00Z")));
    assert_eq!(token.issuer_gone, Cell::Empty);

    // The built-in administrator has no mailbox, and the token was never used.
    let own = fetch_token(&devtron, Some(&url), 1).await;
    assert_eq!((own.issuer, own.issuer_name), (Cell::Empty, text("admin")));
    assert_eq!(
        (own.last_used_at, own.issuer_gone),
        (Cell::Empty, Cell::Empty)
    );

    // Used at an unknown time is not the same as never.
    own_database.run(
        "ALTER TABLE user_audit ALTER updated_on DROP NOT NULL;
         UPDATE user_audit SET updated_on = NULL WHERE user_id = 14",
    );
    assert_eq!(
        fetch_token(&devtron, Some(&url), 4).await.last_used_at,
        Cell::Absent
    );

    for (change, gone) in [
        (
            "UPDATE api_token SET created_by = 5 WHERE id = 4",
            "Devtron lists the user 5 as inactive",
        ),
        (
            "UPDATE api_token SET created_by = 99 WHERE id = 4",
            "Devtron has no user 99",
        ),
    ] {
        own_database.run(change);
        assert_eq!(
            fetch_token(&devtron, Some(&url), 4).await.issuer_gone,
            text(gone)
        );
    }
    // A listed token that is not in the database has only the fields of the API.
    devtron.token(6, "new", json!({}));
    let new = fetch_token(&devtron, Some(&url), 6).await;
    assert_eq!(
        (new.issuer, new.created_at, new.secret_version),
        (Cell::Absent, Cell::Absent, None)
    );
}

#[tokio::test]
async fn the_documented_role_can_read_no_secret_and_change_nothing() {
    let own_database = DevtronDatabase::new();
    let url = own_database.url();
    let connect = async || sqlx::PgPool::connect(&url).await.unwrap();
    let pool = connect().await;
    for statement in [
        "SELECT token FROM api_token",
        "SELECT * FROM api_token",
        "SELECT access_token FROM users",
        "SELECT client_ip FROM user_audit",
        "UPDATE users SET active = true",
        "DELETE FROM api_token",
    ] {
        let error = sqlx::query(statement)
            .execute(&pool)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("permission denied"), "{statement}: {error}");
    }
    pool.close().await;
}

#[tokio::test]
async fn an_unsuitable_database_fails_the_listing() {
    let (devtron, own_database) = (with_ci_deploy(), DevtronDatabase::new());
    let stub = devtron.start();
    let url = own_database.url();
    let fails_after = async |sql: &str| {
        own_database.run(&sql.replace("lapsed_reader", &own_database.role));
        fetch_error(&stub, Some(&url)).await
    };
    let error = fails_after("UPDATE api_token SET name = name || '-elsewhere'").await;
    assert_contains!(error, "it has none of the tokens that Devtron lists");
    own_database.run("UPDATE api_token SET name = replace(name, '-elsewhere', '')");
    // Before 0.7.
    own_database.run("ALTER TABLE api_token DROP COLUMN version");
    assert_eq!(
        fetch_token(&devtron, Some(&url), 4).await.secret_version,
        None
    );
    let error = fails_after("REVOKE ALL (email_id) ON users FROM lapsed_reader").await;
    assert_contains!(error, "permission denied for table users");
    let error = fails_after("ALTER TABLE api_token RENAME TO api_tokens").await;
    assert_contains!(error, "api_token");
    let away = "postgres://lapsed_reader:s3cret@127.0.0.1:1/orchestrator";
    let error = fetch_error(&stub, Some(away)).await;
    assert_contains!(error, "cannot reach");
    assert_lacks!(error, "s3cret");
}

#[tokio::test]
async fn a_check_reports_the_rights() {
    let (devtron, own_database) = (with_ci_deploy(), DevtronDatabase::new());
    let stub = devtron.start();
    let checked = source(&stub.url, &own(), Some(&own_database.url()))
        .check()
        .await
        .unwrap();
    assert_eq!(checked.summary, "Devtron: 2 tokens");
    assert!(
        checked.rights.iter().all(|right| right.missing.is_none()),
        "{:?}",
        checked.rights
    );

    // Without the optional column tokens are still listed, and the check reports the missing right.
    own_database.run(&format!(
        "REVOKE SELECT (version) ON api_token FROM {}",
        own_database.role
    ));
    let checked = source(&stub.url, &own(), Some(&own_database.url()))
        .check()
        .await
        .unwrap();
    let missing: Vec<_> = checked
        .rights
        .iter()
        .filter_map(|right| right.missing.as_deref())
        .collect();
    let expected = ["GRANT SELECT (version) ON api_token to the role of database"];
    assert_eq!(missing, expected);
    own_database.run("ALTER TABLE api_token DROP COLUMN version");
    let checked = source(&stub.url, &own(), Some(&own_database.url()))
        .check()
        .await
        .unwrap();
    assert!(
        checked.rights.iter().all(|right| right.missing.is_none()),
        "before 0.7 there is no version: {:?}",
        checked.rights
    );

    devtron.0.lock().unwrap().accounts.clear();
    let checked = source(&stub.url, &own(), None).check().await.unwrap();
    let missing: Vec<_> = checked
        .rights
        .iter()
        .filter(|right| right.missing.is_some())
        .collect();
    let what: Vec<_> = missing.iter().map(|right| right.what.as_str()).collect();
    let expected = [
        "see the permissions of tokens",
        "see who issued tokens and when, and when they were used",
    ];
    assert_eq!(what, expected);
    let error = source(&stub.url, "wrong", None)
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("Devtron does not accept the token"),
        "{error}"
    );
}

/// A world with Devtron as its source, six days before a token expires.
fn world(db: Db, stub: &Stub, database: Option<&str>) -> World {
    let mut world = World::new(db);
    let database = database.map(|_| "database = { file = \"database\" }\n");
    world.table(&format!(
        "[[source]]\nname = \"devtron\"\nkind = \"devtron\"\nurl = \"{}\"\ntoken = {{ file = \"token\" }}\nallow_revoke = true\n{}",
        stub.url,
        database.unwrap_or_default()
    ));
    world.at("2026-11-21 00:00:00").write("token", own());
    world
}

#[rstest]
fn its_tokens_are_synced_without_their_secrets(#[values(Sqlite, Postgres)] db: Db) {
    let devtron = with_ci_deploy();
    devtron.account(4, json!({"superAdmin": true}));
    let stub = devtron.start();
    let mut world = world(db, &stub, None);
    world.env("RUST_LOG", "trace");
    world.sweep().says("2 new");
    let tokens = world.list(&["token", "list", "--source", "devtron"]);
    let mut shown = tokens.iter().filter(|token| token["external_id"] == "4");
    let shown = shown.next().unwrap();
    let expected = json!({
        "name": "ci-deploy", "description": "jenkins", "issuer": null, "role": "super admin", "scope": null,
        "created_at": null, "expires_at": "2026-11-27T00:00:00Z", "expires_on": null, "expiry": "at", "expiry_origin": "source",
        "status": "active", "last_used_at": null
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}");
    }
    assert_eq!(world.mails().len(), 1);
    world.sweep().says("nothing was due");

    // Expired tokens stay listed; deleted ones do not.
    world.at("2026-11-27 00:00:01").sweep();
    assert_eq!(world.tokens(), ["1 active", "4 expired"].map(str::to_owned));
    devtron.0.lock().unwrap().tokens.remove(&1);
    world.sweep();
    assert_eq!(world.tokens(), ["1 gone", "4 expired"].map(str::to_owned));
}

#[test]
fn a_token_is_ended_by_a_command() {
    let devtron = with_ci_deploy();
    let stub = devtron.start();
    let mut world = world(Db::Sqlite, &stub, None);
    world
        .run(&["source", "check", "devtron"])
        .exits(0)
        .says("Devtron: 2 tokens")
        .says("set database");
    world.sweep();
    let end = |id: &str| world.run(&["token", "revoke", id, "--at-source", "--yes"]);
    for how in ["--dry-run", "--yes"] {
        world
            .run(&["token", "revoke", "devtron/1", "--at-source", how])
            .exits(1)
            .says("the token that lapsed itself uses for the source");
    }
    assert!(
        world.list(&["audit", "list"]).is_empty(),
        "it was not tried"
    );
    stub.take_request_lines();
    end("devtron/4").exits(0);
    assert!(
        stub.take_request_lines()
            .contains(&format!("DELETE {TOKENS}/4"))
    );
    assert_eq!(world.tokens(), ["1 active", "4 revoked"].map(str::to_owned));

    // The token is created again: the same id, another secret.
    devtron.token(
        4,
        "ci-deploy",
        json!({"expireAtInMs": END + 90 * 86_400_000}),
    );
    world.at("2026-11-21 00:10:00").sweep();
    assert_eq!(world.tokens(), ["1 active", "4 active"].map(str::to_owned));
}

#[rstest]
fn a_regenerated_token_with_the_same_expiry_is_notified_again(#[values(Sqlite, Postgres)] db: Db) {
    let (devtron, own_database) = (with_ci_deploy(), DevtronDatabase::new());
    let stub = devtron.start();
    let mut world = world(db, &stub, Some(&own_database.url()));
    world.write("database", own_database.url());
    let recipients = |world: &World| {
        let mut to: Vec<_> = world.take_mails().into_iter().map(|mail| mail.to).collect();
        to.sort();
        to
    };
    let both = ["ada@example.org", "boss@example.org"].map(str::to_owned);
    world.sweep();
    assert_eq!(recipients(&world), both);
    world.sweep().says("nothing was due");

    own_database.run("UPDATE api_token SET version = 2, updated_on = now() WHERE id = 4");
    world.at("2026-11-21 00:10:00").sweep().says("1 changed");
    assert_eq!(recipients(&world), both, "the secret is new");
    world.sweep().says("nothing was due");
    let tokens = world.list(&["token", "list", "--source", "devtron"]);
    let ends: Vec<_> = tokens.iter().map(|token| &token["expires_at"]).collect();
    assert!(ends.contains(&&json!("2026-11-27T00:00:00Z")), "{ends:?}");

    // With another expiry, as on the page of the token.
    let later = json!({"expireAtInMs": END + 10 * 86_400_000});
    devtron.token(4, "ci-deploy", later);
    own_database.run("UPDATE api_token SET version = 3 WHERE id = 4");
    world.at("2026-11-21 00:20:00").sweep();
    assert_eq!(recipients(&world), [""; 0], "the expiry is far away");
    // Back to the first expiry: the fourth secret is a new one, with less than seven days to live.
    devtron.token(4, "ci-deploy", json!({}));
    own_database.run("UPDATE api_token SET version = 4 WHERE id = 4");
    world.at("2026-11-21 00:30:00").sweep();
    assert_eq!(recipients(&world), [""; 0]);
    world.at("2026-11-26 00:00:00").sweep();
    assert_eq!(recipients(&world), both);
}

#[test]
fn an_invalid_answer_fails_the_sync_and_leaks_no_secret() {
    let (devtron, own_database) = (with_ci_deploy(), DevtronDatabase::new());
    devtron.account(4, json!({"superAdmin": true}));
    let stub = devtron.start();
    let mut world = world(Db::Sqlite, &stub, Some(&own_database.url()));
    world.write("database", own_database.url());
    world.env("RUST_LOG", "trace").set("log.level", "\"trace\"");
    let ran = world.run(&["sweep"]);
    let mut output = ran.exits(0).stderr.clone() + &ran.stdout;
    let before = world.tokens();
    for trap in &BAD_RESPONSES {
        devtron.replace(TOKENS, trap.answer);
        let ran = world.run(&["sweep"]);
        ran.exits(1);
        let is_said = ran.stderr.contains(trap.expected_text)
            || ran.stderr.contains("the response has no result");
        assert!(is_said, "{}: {}", trap.expected_text, ran.stderr);
        output += &(ran.stderr + &ran.stdout);
        devtron.restore();
    }
    assert_eq!(world.tokens(), before);
    for command in [
        &["token", "list"][..],
        &["token", "show", "devtron/4"],
        &["notice", "list"],
    ] {
        output += &world.run(command).exits(0).stdout;
    }
    devtron.token(
        4,
        "ci-deploy",
        json!({"expireAtInMs": END + 1000 * 60 * 60}),
    );
    output += &daemon_log_after_sweep(world.at("2026-11-26 00:00:57"));
    for name in ["token", "database"] {
        fs::remove_file(world.path(name)).unwrap();
    }
    assert_not_leaked(&[LEAKED_SECRET, OWN_SECRET, "choose-one"], &world, &output);
}

#[test]
fn a_request_to_wait_is_respected_and_is_no_failure() {
    let devtron = Devtron::new();
    let stub = devtron.start();
    let mut world = world(Db::Sqlite, &stub, None);
    devtron.replace(TOKENS, || Answer::status(429).with("retry-after", "600"));
    world.sweep();
    stub.take_request_lines();
    world.at("2026-11-21 00:09:00").sweep();
    assert_eq!(stub.take_request_lines(), Vec::<String>::new());
    devtron.restore();
    world.at("2026-11-21 00:11:00").sweep().says("1 new");
}
