//! The secrets of tokens stay with those who got them: they are in no file, no log, no table, no page and no error.

use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

use crate::daemon::{Daemon, free_port, get};
use crate::secret_forms::secret_forms;
use crate::web::{Answer, Site, secret, send};
use crate::world::Db;
use Db::{Postgres, Sqlite};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The whole token of an answer, by the name of its member.
fn token<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name}: {answer}"))
}

fn json(answer: &Answer) -> Value {
    assert!([200, 201].contains(&answer.status), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// Tokens that were handed over, and the other answers.
#[derive(Default)]
struct Traffic {
    tokens: Vec<String>,
    answers: Vec<String>,
}

impl Traffic {
    /// Makes tokens in every way.
    fn make_tokens(&mut self, port: u16, caller: &str) {
        let bearer = format!("Bearer {caller}");
        let with_key = [
            ("Authorization", bearer.as_str()),
            JSON,
            ("Idempotency-Key", "a key"),
            ("If-Match", "*"),
        ];
        let body = json!({"name": "made", "description": "by the test"}).to_string();
        let made = json(&send(port, "POST /api/v1/tokens", &with_key, &body));
        let again = json(&send(port, "POST /api/v1/tokens", &with_key, &body));
        assert_eq!(made, again);
        let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
        let regenerate = format!("POST {path}/regenerate");
        let mut with_another_key = with_key;
        with_another_key[2].1 = "another key";
        let renewed = json(&send(port, &regenerate, &with_another_key, "{}"));
        let form = "grant_type=client_credentials";
        let headers = [("Authorization", bearer.as_str()), FORM];
        let exchanged = json(&send(port, "POST /oauth2/token", &headers, form));
        let refresh = token(&exchanged, "refresh_token");
        let form = format!("grant_type=refresh_token&refresh_token={refresh}");
        let refreshed = json(&send(port, "POST /oauth2/token", &[FORM], &form));
        let made = [
            caller,
            secret(&made),
            secret(&renewed),
            token(&exchanged, "access_token"),
            refresh,
            token(&refreshed, "access_token"),
        ];
        self.tokens.extend(made.map(str::to_owned));
        for path in [
            path,
            "/api/v1/tokens".to_owned(),
            "/api/v1/audit".to_owned(),
        ] {
            self.ask(port, &format!("GET {path}"), &headers[..1], "");
        }
    }

    fn ask(&mut self, port: u16, request: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        let answer = send(port, request, headers, body);
        self.answers
            .push(format!("{}\n{}", answer.head, answer.body));
        answer.status
    }

    /// Sends a token where it belongs, and where it does not.
    fn misuse(&mut self, port: u16, caller: &str, token: &str) {
        let bearer = format!("Bearer {token}");
        let own = format!("Bearer {caller}");
        let asks = [("Authorization", own.as_str()), JSON];
        let form = format!("token={token}");
        self.ask(port, "POST /oauth2/introspect", &[asks[0], FORM], &form);
        self.ask(
            port,
            "GET /api/v1/verify",
            &[("Authorization", &bearer)],
            "",
        );
        for name in ["access_token", "q", "cursor", "sort", "limit", "unknown"] {
            let request = format!("GET /api/v1/tokens?{name}={token}");
            self.ask(port, &request, &asks[..1], "");
            self.ask(port, &request, &[], "");
        }
        self.ask(port, &format!("GET /api/v1/tokens/{token}"), &asks[..1], "");
        self.ask(port, &format!("GET /{token}"), &asks[..1], "");
        // Not for names, such as that of a role: one that does not exist is repeated to the one who sent it.
        for name in [
            "expires_in",
            "expires_at",
            "never",
            "scopes",
            "networks",
            "not_before",
        ] {
            for value in [json!(token), json!([token])] {
                let body = json!({"name": "wrong", name: value}).to_string();
                self.ask(port, "POST /api/v1/tokens", &asks, &body);
            }
        }
        self.ask(
            port,
            "POST /api/v1/tokens",
            &asks,
            &format!("{{\"name\": \"{token}"),
        );
        for form in [
            format!("grant_type={token}"),
            format!("grant_type=refresh_token&refresh_token={token}x"),
            format!("grant_type=client_credentials&client_id={token}&client_secret={token}"),
        ] {
            self.ask(port, "POST /oauth2/token", &[FORM], &form);
        }
        let wrong = format!("Bearer {token}, {token}");
        self.ask(port, "GET /api/v1/verify", &[("Authorization", &wrong)], "");
        let twice = [("Authorization", bearer.as_str()), ("xc-token", token)];
        self.ask(port, "GET /api/v1/verify", &twice, "");
        let key = [asks[0], JSON, ("Idempotency-Key", token)];
        self.ask(port, "POST /api/v1/tokens", &key, "{\"name\": 1}");
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            found.push((path.display().to_string(), text(&bytes)));
        }
    }
    found
}

/// What is not text stays out; what is searched for is ASCII.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All tables of a PostgreSQL database.
fn pg_dump(url: &str) -> String {
    let output = Command::new("pg_dump").arg(url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[rstest]
fn a_secret_is_nowhere_but_with_those_who_got_it(#[values(Sqlite, Postgres)] db: Db) {
    let mut site = Site::new(db);
    let pages = free_port();
    site.world
        .set("http.listen", &format!("\"127.0.0.1:{pages}\""))
        .set("log.level", "\"trace\"")
        .set("service.headers", "[\"xc-token\"]")
        .set("web.trusted_proxies", "[\"127.0.0.1/32\"]")
        .env("RUST_LOG", "trace");
    let caller = site.issue(&[]);
    let caller = secret(&caller);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut traffic = Traffic::default();
    traffic.make_tokens(site.port, caller);
    for token in traffic.tokens.clone() {
        traffic.misuse(site.port, caller, &token);
    }
    traffic.answers.push(get(pages, "/metrics").1);
    let lists = [["audit", "list"], ["token", "list"], ["replica", "list"]];
    for list in lists {
        let listed = site.world.run(&[&list[..], &["--format", "json"]].concat());
        traffic.answers.push(listed.exits(0).stdout.clone());
    }
    if db == Sqlite {
        site.world.run(&["backup", "backup.db"]).exits(0);
    }
    // While the daemon runs: the store has a write-ahead log.
    let mut places = files(&site.world.path(""));
    daemon.stop();
    places.extend(files(&site.world.path("")));
    if db == Postgres {
        places.push(("the database".to_owned(), pg_dump(&site.world.store_url())));
    }
    let answers = traffic.answers.into_iter();
    places.extend(answers.map(|answer| (answer.clone(), answer)));
    assert_found_where_it_may_be(&places, &traffic.tokens, db);
    let mut leaks = Vec::new();
    for token in &traffic.tokens {
        let (_, secret_key) = token.rsplit_once('_').unwrap();
        for form in secret_forms(secret_key) {
            let with = places.iter().filter(|(_, text)| text.contains(&form));
            leaks.extend(with.map(|(place, _)| format!("{form} is in {place}")));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

/// The search would find what is there: the public id of a token is no secret.
fn assert_found_where_it_may_be(places: &[(String, String)], tokens: &[String], db: Db) {
    let (head, _) = tokens[1].rsplit_once('_').unwrap();
    let (_, public_id) = head.split_once('_').unwrap();
    let has = |part: &str| {
        let mut with = places.iter().filter(|(place, _)| place.ends_with(part));
        with.any(|(_, text)| text.contains(public_id))
    };
    match db {
        Sqlite => assert!(has("lapsed.db-wal") && has("lapsed.db") && has("backup.db")),
        Postgres => assert!(has("the database")),
    }
}
