//! The source `nocodb`: its tokens, and the peculiarities of NocoDB.

mod server;

use std::fs;
use std::time::Duration;

use lapsed::domain::{Cell, ListedToken};
use lapsed::sources::nocodb::{Config, Login, NocoDbSource};
use lapsed::sources::{Error, Fetched, LastListing, Listing, ProxyRules, Source};
use rstest::rstest;
use serde_json::json;

use self::server::{EMAIL, NocoDb, SECRETS};
use crate::daemon::Daemon;
use crate::listed::missing;
use crate::postgres::{self, Database};
use crate::stub::Answer;
use crate::waiting::wait_until;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

fn source(nocodb: &NocoDb) -> NocoDbSource {
    source_with(nocodb, None)
}

fn source_with(nocodb: &NocoDb, database: Option<&str>) -> NocoDbSource {
    let config = Config {
        url: nocodb.url().parse().unwrap(),
        login: Some(Login {
            email: EMAIL.to_owned(),
            password: SECRETS[2].into(),
        }),
        database: database.map(Into::into),
    };
    config
        .build(Duration::from_secs(20), &ProxyRules::default())
        .unwrap()
}

async fn fetch(source: &NocoDbSource) -> Result<Listing, Error> {
    match source.fetch(&LastListing::default()).await? {
        Fetched::New(listing) => Ok(listing),
        Fetched::Unchanged => panic!("NocoDB never reports that nothing has changed"),
    }
}

async fn fetch_tokens(nocodb: &NocoDb) -> Vec<ListedToken> {
    let listing = fetch(&source(nocodb)).await.unwrap();
    listing.tokens.map(Result::unwrap).collect()
}

async fn fetch_error(nocodb: &NocoDb) -> String {
    match fetch(&source(nocodb)).await {
        Ok(listing) => panic!("{} tokens", listing.count),
        Err(error) => error.to_string(),
    }
}

/// The value of a cell, or `-`.
fn format_cell<T: ToString>(cell: &Cell<T>) -> String {
    match cell {
        Cell::Value(value) => value.to_string(),
        _ => "-".to_owned(),
    }
}

/// An answer, the exit code of the sweep, and what it prints.
type Failure = (fn() -> Answer, i32, &'static str);

fn world(nocodb: &NocoDb, db: Db) -> World {
    let mut world = World::new(db);
    world.table(&format!(
        "[[source]]\nname = \"bases\"\nkind = \"nocodb\"\nurl = \"{}\"\nemail = \"{EMAIL}\"\n\
         password = {{ file = \"nocodb-password\" }}",
        nocodb.url()
    ));
    world.write("nocodb-password", SECRETS[2]);
    world
}

#[tokio::test]
async fn every_token_is_listed_with_its_user() {
    let nocodb = NocoDb::start();
    let tokens = fetch_tokens(&nocodb).await;
    let lines: Vec<_> = tokens
        .iter()
        .map(|token| {
            let (name, issuer) = (format_cell(&token.name), format_cell(&token.issuer));
            format!(
                "{} {name} {issuer} {}",
                token.external_id,
                format_cell(&token.role)
            )
        })
        .collect();
    let expected = [
        "1 token 1 root@example.test org-level-creator,super",
        "2 token 2 ada@example.org org-level-creator",
        "3 token 3 ada@example.org org-level-creator",
        "4 token 4 grace@example.org org-level-viewer",
    ];
    assert_eq!(lines, expected);
    let expected = "2026-11-21 21:39:13 UTC";
    assert_eq!(format_cell(&tokens[0].created_at), expected);
    assert_eq!(format_cell(&tokens[1].issuer_name), "Ada");
    assert_eq!(
        tokens[0].last_used_at,
        Cell::Absent,
        "0.301 does not report it"
    );
    assert_eq!(tokens[0].issuer_gone, Cell::Empty);
    let asked = nocodb.requests();
    let lists = asked.iter().filter(|asked| asked.path == "/api/v1/tokens");
    let limits: Vec<_> = lists
        .map(|asked| (asked.query("limit"), asked.query("offset")))
        .collect();
    assert_eq!(limits, [(Some("10000"), Some("0"))], "one big page");
}

#[tokio::test]
async fn fields_of_later_versions_are_read() {
    let nocodb = NocoDb::start();
    for (id, key, value) in [
        (1, "expiry", json!("2026-12-31T00:00:00.000Z")),
        (1, "last_used_at", json!("2026-11-20T08:00:00.000Z")),
        (1, "created_at", json!("2026-11-01T08:00:00.000Z")),
        (2, "enabled", json!(0)),
        (2, "last_used_at", json!(null)),
        (3, "enabled", json!(true)),
        (3, "expiry", json!("soon")),
        (4, "id", json!("tok4")),
    ] {
        nocodb.state().token(id)[key] = value;
    }
    let tokens = fetch_tokens(&nocodb).await;
    let lines: Vec<_> = tokens
        .iter()
        .map(|token| {
            let (expiry, used) = (&token.expiry, &token.last_used_at);
            let (id, created) = (&token.external_id, format_cell(&token.created_at));
            format!(
                "{id} {expiry:?} {used:?} {} {created}",
                format_cell(&token.status)
            )
        })
        .collect();
    let expected = [
        "1 Value(At(2026-12-31T00:00:00Z)) Value(2026-11-20T08:00:00Z) active 2026-11-01 08:00:00 UTC",
        "2 Value(Never) Empty disabled 2026-11-21 21:39:13 UTC",
        "3 Absent Absent active 2026-11-21 21:39:13 UTC",
        "tok4 Value(Never) Absent active 2026-11-21 21:39:13 UTC",
    ];
    assert_eq!(lines, expected);
    assert!(tokens[2].unreadable["expires_at"].contains("is not a date"));
}

#[tokio::test]
async fn a_token_whose_user_was_removed_has_no_issuer() {
    let nocodb = NocoDb::start();
    nocodb.state().users.retain(|user| user["id"] != "us2");
    nocodb.state().token(4)["fk_user_id"] = json!(null);
    let tokens = fetch_tokens(&nocodb).await;
    let gone: Vec<_> = tokens
        .iter()
        .map(|token| format_cell(&token.issuer_gone))
        .collect();
    let removed = "user us2 no longer exists in NocoDB";
    let unowned = "it belongs to no user, as tokens of early versions of NocoDB do";
    assert_eq!(gone, ["-", removed, removed, unowned]);
    assert_eq!(tokens[1].issuer, Cell::Absent, "the known issuer is kept");
}

#[tokio::test]
async fn only_the_community_edition_has_a_known_maximum_life() {
    let nocodb = NocoDb::start();
    let max_life = fetch(&source(&nocodb)).await.unwrap().max_life.unwrap();
    assert_eq!(max_life.life, None);
    let expected = "NocoDB 0.301.3, community edition: API tokens never expire";
    assert_eq!(max_life.evidence, expected);
    nocodb.state().info = json!({"version": "2026.04.1", "ee": true});
    let listing = fetch(&source(&nocodb)).await.unwrap();
    assert_eq!(listing.max_life, None);
}

#[tokio::test]
async fn pages_are_read_to_the_end_whatever_they_report() {
    let nocodb = NocoDb::start();
    for id in 5..=14 {
        nocodb.state().add(id, "us2");
    }
    assert_eq!(fetch_tokens(&nocodb).await.len(), 14, "more than ten");
    nocodb.state().page = 4;
    assert_eq!(fetch_tokens(&nocodb).await.len(), 14);
    nocodb.state().page = usize::MAX;
    let twice = nocodb.state().tokens[0].clone();
    nocodb.state().tokens.push(twice);
    assert_eq!(fetch_tokens(&nocodb).await.len(), 14, "each once");
    nocodb.state().tokens.pop();
    nocodb.state().page = 4;
    nocodb.state().is_unordered = true;
    let error = fetch_error(&nocodb).await;
    assert_contains!(error, "it changed from page to page");
}

#[rstest]
#[case::wrong_password(
    "POST /api/v1/auth/user/signin",
    || Answer::text(400, "{\"msg\":\"Invalid credentials\"}"),
    "NocoDB does not accept `email` and `password`; correct them"
)]
#[case::single_sign_on_only(
    "POST /api/v1/auth/user/signin",
    || Answer::text(403, "{\"msg\":\"Not available\"}"),
    "NocoDB does not permit sign-in with a password; set `database` to"
)]
#[case::second_factor(
    "POST /api/v1/auth/user/signin",
    || Answer::text(200, "{\"requires_2fa\":true}"),
    "requires more than the password, for example a second factor; give lapsed a user without that, or set `database` to"
)]
#[case::half(
    "GET /api/v1/tokens",
    || Answer::text(200, "{\"list\":[{\"id\":1,\"token\":\"s3cret-of-token-1\""),
    "ends in the middle"
)]
#[case::cut("GET /api/v1/tokens", || Answer::cut("{\"list\":["), "cannot reach GET")]
#[case::no_json("GET /api/v1/tokens", || Answer::text(200, "<html>s3cret-of-token"), "not JSON")]
#[case::no_list("GET /api/v1/tokens", || Answer::text(200, "{\"msg\":\"hello\"}"), "not as documented")]
#[case::elsewhere(
    "GET /api/v1/tokens",
    || Answer::status(302).with("location", "https://evil.example.org/api/v1/tokens"),
    "redirects to https://evil.example.org"
)]
#[case::elsewhere_at_once(
    "POST /api/v1/auth/user/signin",
    || Answer::status(307).with("location", "https://evil.example.org/"),
    "redirects to https://evil.example.org"
)]
#[case::huge("GET /api/v1/tokens", || Answer::endless(2 << 30), "more than 32 MiB")]
#[case::broken("GET /api/v1/users", || Answer::text(500, "s3cret-of-token"), "answered 500")]
#[case::busy(
    "GET /api/v1/users",
    || Answer::status(429).with("retry-after", "120"),
    "asks to wait 120 s"
)]
#[tokio::test]
async fn any_failure_fails_the_listing(
    #[case] line: &'static str,
    #[case] answer: fn() -> Answer,
    #[case] expected_text: &str,
) {
    let nocodb = NocoDb::start();
    nocodb.trap(line, answer);
    let error = fetch_error(&nocodb).await;
    assert_contains!(error, expected_text);
    assert!(!error.contains("s3cret"), "{error}");
    assert_eq!(
        fetch_tokens(&nocodb).await.len(),
        4,
        "the failure leaves no state"
    );
}

#[tokio::test]
async fn a_session_is_kept_and_renewed_once_after_it_has_ended() {
    let nocodb = NocoDb::start();
    let source = source(&nocodb);
    for _ in 0..3 {
        assert_eq!(fetch(&source).await.unwrap().count, 4);
    }
    assert_eq!(nocodb.state().sessions, 1);
    nocodb.take_request_lines();
    // In the middle of a listing.
    nocodb.trap("GET /api/v1/users", || Answer::status(401));
    assert_eq!(fetch(&source).await.unwrap().count, 4);
    let expected = [
        "GET /api/v1/auth/user/me",
        "GET /api/v1/tokens",
        "GET /api/v1/users",
        "POST /api/v1/auth/user/signin",
        "GET /api/v1/users",
        "GET /api/v1/db/meta/nocodb/info",
    ];
    assert_eq!(nocodb.take_request_lines(), expected);
    // Between two listings.
    nocodb.state().sessions += 1;
    assert_eq!(fetch(&source).await.unwrap().count, 4);
    for _ in 0..2 {
        nocodb.trap("GET /api/v1/tokens", || Answer::status(401));
    }
    let error = fetch(&source).await.map(|_| ()).unwrap_err().to_string();
    assert_contains!(error, "answered 401");
}

#[tokio::test]
async fn a_listing_of_the_own_tokens_is_refused() {
    let nocodb = NocoDb::start();
    let narrowed = "the credentials show only the tokens of their own user";
    nocodb.state().me = "us2".to_owned();
    let error = fetch_error(&nocodb).await;
    assert_contains!(error, narrowed, "super admin");
    // A server that does not report the user is recognised by its total.
    nocodb.trap("GET /api/v1/auth/user/me", || Answer::status(404));
    let error = fetch_error(&nocodb).await;
    assert_contains!(error, narrowed, "NocoDB lists 2 of 4");

    // The enterprise edition shows a super admin only their own tokens.
    let nocodb = NocoDb::start();
    nocodb.state().info = json!({"version": "0.301.3", "ee": true});
    nocodb.state().tokens.retain(|token| token["id"] == 1);
    let error = fetch_error(&nocodb).await;
    assert_contains!(error, narrowed, "enterprise edition");
}

#[tokio::test]
async fn a_check_reports_the_rights() {
    let nocodb = NocoDb::start();
    let checked = source(&nocodb).check().await.unwrap();
    let expected = "NocoDB 0.301.3, community edition, 4 tokens";
    assert_eq!(checked.summary, expected);
    assert!(missing(&checked).is_empty());

    nocodb.state().info["oidcAuthEnabled"] = json!(true);
    nocodb
        .trap("GET /api/v1/auth/user/me", || Answer::status(404))
        .trap("GET /api/v1/users", || Answer::status(403));
    let missing = missing(&source(&nocodb).check().await.unwrap()).join("\n");
    for expected_text in [
        "list the tokens of all users: NocoDB does not report whether the user is a super admin",
        "list tokens made under single sign-on: NocoDB does not list them to users with a password",
        "list the users: give lapsed a super admin",
    ] {
        assert_contains!(missing, expected_text);
    }
}

#[tokio::test]
async fn a_token_has_ended_if_the_list_no_longer_shows_it() {
    let nocodb = NocoDb::start();
    let source = source(&nocodb);
    source.revoke("3").await.unwrap();
    assert!(!nocodb.state().accepts(3), "not from the cache either");
    assert_eq!(fetch_tokens(&nocodb).await.len(), 3);
    let unknown = source.revoke("3").await.unwrap_err();
    assert!(matches!(unknown, Error::NoSuchToken(id) if id == "3"));

    // Another user was faster: NocoDB answers with a stack trace, and the token is gone.
    nocodb.state().add(5, "us2");
    nocodb.state().is_raced = true;
    source.revoke("5").await.unwrap();
    assert!(!nocodb.state().accepts(5));
    nocodb.state().is_raced = false;
    nocodb.trap("DELETE /api/v1/tokens/2", || {
        Answer::text(500, "{\"stack\":\"TypeError\"}")
    });
    let error = source.revoke("2").await.unwrap_err().to_string();
    assert_contains!(error, "answered 500");
    assert_lacks!(error, "TypeError");
    nocodb.trap("DELETE /api/v1/tokens/2", || Answer::status(200));
    let still = source.revoke("2").await.unwrap_err();
    assert!(matches!(still, Error::StillThere), "{still}");
    source.revoke("2").await.unwrap();

    nocodb.trap("DELETE /api/v1/db/meta/cache", || Answer::status(500));
    let error = source.revoke("4").await.unwrap_err().to_string();
    assert_contains!(error, "NocoDB may still accept it from its cache");
    assert_contains!(error, "restart NocoDB");
    assert!(nocodb.state().accepts(4));
}

/// A NocoDB with REST and a database that has a token that REST does not show.
fn source_with_both(nocodb: &NocoDb, database: &Database) -> NocoDbSource {
    let tables = "
        CREATE TABLE nc_users_v2 (id varchar(20), email varchar(255));
        CREATE TABLE nc_api_tokens (id serial, description varchar(255), fk_user_id varchar(20),
            fk_sso_client_id varchar(20), expiry varchar(255), created_at timestamptz);
        INSERT INTO nc_users_v2 VALUES ('us2', 'ada@example.org');
        INSERT INTO nc_api_tokens VALUES (7, 'sso', 'us2', 'sso1', NULL, NULL)";
    postgres::query(&database.url(), tables);
    source_with(nocodb, Some(&database.url()))
}

#[tokio::test]
async fn the_database_lists_tokens_and_rest_ends_them() {
    let (nocodb, database) = (NocoDb::start(), Database::new());
    let source = source_with_both(&nocodb, &database);
    let listing = fetch(&source).await.unwrap();
    assert!(listing.max_life.is_some(), "REST reports the edition");
    let ids: Vec<_> = listing
        .tokens
        .map(|token| token.unwrap().external_id)
        .collect();
    assert_eq!(ids, ["7"]);
    nocodb.take_request_lines();
    let unknown = source.revoke("1").await.unwrap_err();
    assert!(matches!(unknown, Error::NoSuchToken(_)), "{unknown}");
    assert!(nocodb.take_request_lines().is_empty());
    let still = source.revoke("7").await.unwrap_err().to_string();
    assert_contains!(still, "answered 500");
    assert!(
        nocodb
            .take_request_lines()
            .contains(&"DELETE /api/v1/tokens/7".to_owned())
    );

    assert!(missing(&source.check().await.unwrap()).is_empty());
    nocodb.state().me = "us2".to_owned();
    let missing = missing(&source.check().await.unwrap()).join("\n");
    assert!(missing.starts_with("revoke tokens: "), "{missing}");
    assert_contains!(missing, "super admin");
    // The listing does not depend on REST.
    drop(nocodb);
    assert_eq!(fetch(&source).await.unwrap().count, 1);
}

#[test]
fn the_link_opens_the_page_of_the_users_tokens() {
    let nocodb = NocoDb::start();
    let page = source(&nocodb).token_page("1").unwrap();
    assert_eq!(page, format!("{}/#/account/tokens", nocodb.url()));
}

#[rstest]
fn sweeps_follow_nocodb_and_conclude_nothing_from_failures(#[values(Sqlite, Postgres)] db: Db) {
    let nocodb = NocoDb::start();
    let mut world = world(&nocodb, db);
    world.at("2026-11-22 08:00:00");
    world.sweep().says("4 new");
    let tokens = world.list(&["token", "list"]);
    let ada = tokens
        .iter()
        .filter(|token| token["issuer"] == "ada@example.org");
    assert_eq!(ada.count(), 2);
    assert!(
        tokens
            .iter()
            .all(|token| token["expiry"] == "never" && token["source"] == "bases")
    );

    world.at("2026-11-22 08:01:00");
    let again = world.run(&["sweep"]);
    assert!(
        !again.exits(0).stdout.contains("changed"),
        "{}",
        again.stdout
    );

    let traps: [Failure; 5] = [
        (
            || Answer::text(200, "{\"list\":[{\"id\":1"),
            1,
            "ends in the middle",
        ),
        (|| Answer::text(200, "nonsense"), 1, "not JSON"),
        (|| Answer::endless(2 << 30), 1, "more than 32 MiB"),
        (
            || Answer::status(302).with("location", "https://evil.example.org"),
            1,
            "redirects to",
        ),
        (
            || Answer::status(429).with("retry-after", "60"),
            0,
            "asks to wait 60 s",
        ),
    ];
    // A trap is for one request.
    world.without_dry_runs();
    for (hour, (trap, code, expected_text)) in traps.into_iter().enumerate() {
        // After any back-off.
        world.at(&format!("2026-11-22 {:02}:00:00", hour + 10));
        nocodb.trap("GET /api/v1/tokens", trap);
        world.run(&["sweep"]).exits(code).says(expected_text);
        assert!(world.tokens().iter().all(|token| token.ends_with("active")));
    }

    // A token and a user are removed from NocoDB.
    nocodb.state().tokens.remove(0);
    nocodb.state().users.retain(|user| user["id"] != "us3");
    world.at("2026-11-22 20:00:00");
    world.sweep().says("1 gone");
    let expected = ["1 gone", "2 active", "3 active", "4 active"];
    assert_eq!(world.tokens(), expected);
    let shown = world.list(&["token", "list", "--issuer", "grace@example.org"]);
    assert_eq!(shown.len(), 1, "the issuer is still known");
    if db == Db::Postgres {
        let sql = "SELECT issuer_gone FROM token WHERE external_id = '4'";
        let gone = postgres::query(&world.store_url(), sql);
        assert_eq!(gone, "user us3 no longer exists in NocoDB");
    }

    nocodb.state().me = "us2".to_owned();
    world.at("2026-11-22 21:00:00");
    world
        .run(&["sweep"])
        .exits(1)
        .says("show only the tokens of their own user");
    let expected = ["1 gone", "2 active", "3 active", "4 active"];
    assert_eq!(world.tokens(), expected);
}

#[rstest]
fn no_secret_is_left_anywhere(#[values(Sqlite, Postgres)] db: Db) {
    let nocodb = NocoDb::start();
    let mut world = world(&nocodb, db);
    world.set("log.level", "\"trace\"").env("RUST_LOG", "trace");
    world.set("notify.base_url", "\"https://lapsed.example.org\"");
    for (id, expiry) in [(2, "2026-11-25"), (3, "2026-11-26T00:00:00Z")] {
        let mut state = nocodb.state();
        state.token(id)["expiry"] = json!(expiry);
        state.token(id)["created_at"] = json!("2026-11-01 08:00:00+00:00");
    }
    let (mut seen, mut log) = (String::new(), String::new());
    for (hour, line) in [
        "GET /api/v1/nothing",
        "GET /api/v1/users",
        "GET /api/v1/tokens",
        "POST /api/v1/auth/user/signin",
    ]
    .into_iter()
    .enumerate()
    {
        world.at(&format!("2026-11-22 {:02}:00:00", 2 * hour + 8));
        let trap = || {
            Answer::text(
                200,
                "{\"list\":[\"s3cret-of-token\", \"s3cret-of-session\"]}",
            )
        };
        nocodb.trap(line, trap);
        for arguments in [
            ["sweep"].as_slice(),
            &["check"],
            &["token", "list", "--format", "json"],
        ] {
            let ran = world.run(arguments);
            seen += &ran.stdout;
            log += &ran.stderr;
        }
    }
    world.at("2026-11-23 08:00:50 x20");
    let daemon = Daemon::start(&world, "daemon");
    wait_until("it has swept", || {
        daemon.log().contains("sweep:").then_some(())
    });
    log += &daemon.log();
    daemon.stop();
    let mails = world.take_mails();
    assert!(mails.iter().any(|mail| mail.to == "ada@example.org"));
    seen.extend(
        mails
            .iter()
            .flat_map(|mail| [mail.raw.as_str(), &mail.text, &mail.html]),
    );
    assert!(!log.contains("@example."), "an address is in the log");
    seen += &log;
    match db {
        Db::Sqlite => {
            for file in ["lapsed.db", "lapsed.db-wal"] {
                let bytes = fs::read(world.path(file)).unwrap_or_default();
                seen += &String::from_utf8_lossy(&bytes);
            }
            assert!(seen.contains("token 2"), "that was the store");
        }
        Db::Postgres => {
            let sql = "SELECT string_agg(table_to_xml(format('%I.%I', schemaname, tablename)::regclass, true, true, '')::text, '')
                       FROM pg_tables WHERE schemaname = 'public'";
            seen += &postgres::query(&world.store_url(), sql);
        }
    }
    for secret in SECRETS {
        let line = seen.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was left");
    }
}
