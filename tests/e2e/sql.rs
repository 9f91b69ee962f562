//! The source `sql`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rstest::rstest;

use crate::postgres::{self, Database};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const PASSWORD: &str = "pa55word-of-the-reader";
const SECRET: &str = "s3cret-of-a-token";

/// An application that keeps tokens in a table.
pub enum Portal {
    Sqlite(PathBuf),
    Postgres(Database),
}

impl Portal {
    pub fn new(db: Db, world: &World) -> Self {
        let portal = match db {
            Db::Sqlite => Self::Sqlite(world.path("portal.db")),
            Db::Postgres => Self::Postgres(Database::new()),
        };
        let (id, instant) = match db {
            Db::Sqlite => ("INTEGER", "TEXT"),
            Db::Postgres => ("bigint", "timestamptz"),
        };
        portal.run(&format!(
            "CREATE TABLE api_token (id {id} PRIMARY KEY, title text, mail text, ends {instant}, state text,
                                     secret text);
             CREATE TABLE person (mail text, state text);
             CREATE TABLE marked (id text, title text, at {instant});
             INSERT INTO person VALUES ('ada@example.org', 'active'), ('bob@example.org', 'active')"
        ));
        portal
    }

    /// Runs statements; returns the rows of the last one as lines.
    pub fn run(&self, sql: &str) -> Vec<String> {
        let output = match self {
            Self::Sqlite(file) => {
                let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n\
                              parts = sys.argv[2].split(';')\n\
                              for part in parts: rows = c.execute(part).fetchall()\n\
                              c.commit()\nprint('\\n'.join('|'.join(map(str, row)) for row in rows))";
                let ran = Command::new("python3")
                    .args(["-c", script])
                    .arg(file)
                    .arg(sql)
                    .output();
                let ran = ran.unwrap();
                assert!(
                    ran.status.success(),
                    "{}",
                    String::from_utf8_lossy(&ran.stderr)
                );
                String::from_utf8(ran.stdout).unwrap()
            }
            Self::Postgres(database) => postgres::query(&database.url(), sql),
        };
        let lines = output.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    }

    /// Rows of `id, title, mail, ends`, in SQL.
    pub fn insert(&self, rows: &[&str]) {
        let mut sql = String::new();
        for row in rows {
            write!(
                sql,
                "; INSERT INTO api_token VALUES ({row}, 'active', '{SECRET}')"
            )
            .unwrap();
        }
        self.run(&sql[2..]);
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => "sqlite:portal.db".to_owned(),
            Self::Postgres(database) => database.url(),
        }
    }

    /// The parameter with the type of the id.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => ":external_id",
            Self::Postgres(_) => ":external_id::bigint",
        }
    }
}

pub const QUERY: &str = "SELECT id AS external_id, title AS name, mail AS issuer_email, ends AS expires_at, \
                     CASE state WHEN 'expired' THEN NULL ELSE state END AS status FROM api_token";

pub fn source(url: &str, query: &str, keys: &str) -> String {
    format!(
        "[[source]]\nname = \"portal\"\nkind = \"sql\"\nurl = {url:?}\nquery = {query:?}\n{keys}"
    )
}

#[rstest]
fn tokens_of_a_table_are_notified_marked_and_ended(
    #[values(Sqlite, Postgres)] store: Db,
    #[values(Sqlite, Postgres)] theirs: Db,
) {
    let mut world = World::new(store);
    let portal = Portal::new(theirs, &world);
    let id = portal.id();
    let keys = format!(
        "people_query = \"SELECT mail AS email, state AS status FROM person\"\nallow_revoke = true\n\
         mark_expired = \"INSERT INTO marked VALUES (:external_id, :name, :expires_at)\"\n\
         revoke = \"UPDATE api_token SET state = 'revoked' WHERE id = {id}\""
    );
    world.table(&source(&portal.url(), QUERY, &keys));
    portal.insert(&[
        "1, 'deploy', 'ada@example.org', '2026-12-01 00:00:00'",
        "2, 'long ago', 'bob@example.org', '2026-01-01 00:00:00'",
        "3, 'for ever', 'bob@example.org', NULL",
    ]);
    world.at("2026-11-24 00:00:00");
    world.sweep();
    let known = world.list(&["token", "list"]);
    assert_eq!(known.len(), 3);
    let expected = [
        "ada@example.org: Token deploy expires in 7 days (Tue 1 Dec 2026)",
        "boss@example.org: Token deploy expires in 7 days (Tue 1 Dec 2026)",
    ];
    assert_eq!(world.mails(), expected);
    let marked = || portal.run("SELECT id, title FROM marked ORDER BY at, id");
    let expected = ["2|long ago"];
    assert_eq!(marked(), expected, "it had expired before the first sweep");

    world.at("2026-12-01 00:01:00");
    world
        .sweep()
        .says("1 made known to their source as expired");
    world.sweep();
    assert_eq!(marked(), ["2|long ago", "1|deploy"], "each once");
    assert_eq!(world.tokens().len(), 3);

    let revoked = world.run(&["token", "revoke", "portal/3", "--at-source", "--yes"]);
    revoked.exits(0);
    assert_eq!(
        portal.run("SELECT id FROM api_token WHERE state = 'revoked'"),
        ["3"]
    );
    portal.run("DELETE FROM api_token WHERE id = 3");
    portal.insert(&[
        "4, 'lost', 'eve@example.org', NULL",
        "5, 'soon gone', 'ada@example.org', NULL",
    ]);
    world.run(&["sweep"]);
    portal.run("DELETE FROM api_token WHERE id = 5");
    world.run(&["sweep"]);
    let tokens = world.tokens();
    assert!(tokens.contains(&"5 gone".to_owned()), "{tokens:?}");
    assert!(tokens.contains(&"3 revoked".to_owned()), "{tokens:?}");
}

#[rstest]
fn a_rolled_back_revocation_has_failed_and_is_not_in_doubt(#[values(Sqlite, Postgres)] theirs: Db) {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(theirs, &world);
    let keys = "allow_revoke = true\nrevoke = \"DELETE FROM person WHERE mail = :external_id\"";
    world.table(&source(&portal.url(), QUERY, keys));
    portal.insert(&["1, 'deploy', 'ada@example.org', NULL"]);
    world.at("2026-11-24 00:00:00");
    world.sweep();
    let revoke = ["token", "revoke", "portal/1", "--at-source", "--yes"];
    let ran = world.run(&revoke);
    ran.exits(1).says("would change 0 rows instead of one");
    ran.says("nothing was changed at the source");
    world.run(&["audit", "list"]).says("token.revoke_failed");
    // Another program ends it, so there is nothing left to do.
    portal.run("DELETE FROM api_token");
    world.at("2026-11-24 00:01:00");
    world.run(&revoke).exits(1).says("has no token");
}

#[test]
fn a_source_that_cannot_end_tokens_although_allowed_is_reported() {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(Db::Sqlite, &world);
    portal.insert(&["1, 'deploy', 'ada@example.org', NULL"]);
    world.write("tokens.csv", "external_id\nk-1\n");
    let file = "\n[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"\nallow_revoke = true";
    let tables = source(&portal.url(), QUERY, "allow_revoke = true") + file;
    world.table(&tables);
    for (name, lacks) in [
        ("portal", "set revoke, such as revoke = "),
        ("exports", "a file only lists tokens"),
    ] {
        let ran = world.run(&["source", "check", name]);
        ran.exits(0).says("cannot  revoke tokens").says(lacks);
        world.run(&["check"]).says(lacks);
    }
    let keys = "allow_revoke = true\nrevoke = \"DELETE FROM api_token WHERE id = :external_id\"";
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(Db::Sqlite, &world);
    world.table(&source(&portal.url(), QUERY, keys));
    let ran = world.run(&["source", "check", "portal"]);
    ran.exits(0).says("can     run revoke");
    assert!(!ran.stdout.contains("cannot"), "{}", ran.stdout);
}

#[rstest]
fn a_token_is_marked_once_also_when_its_end_is_long_past(
    #[values(Sqlite, Postgres)] store: Db,
    #[values(Sqlite, Postgres)] theirs: Db,
) {
    let mut world = World::new(store);
    let portal = Portal::new(theirs, &world);
    let keys = "mark_expired = \"INSERT INTO marked (id) VALUES (:external_id)\"";
    world.table(&source(&portal.url(), QUERY, keys));
    portal.insert(&[
        "1, 'long ago', NULL, '2024-01-01 00:00:00'",
        "2, 'lately', NULL, '2026-11-24 12:00:00'",
    ]);
    for day in [
        "2026-11-24",
        "2026-11-25",
        "2026-11-26",
        "2028-04-01",
        "2028-04-02",
    ] {
        world.at(&format!("{day} 00:00:00"));
        let swept = world.sweep();
        let is_new = swept.stdout.contains("new");
        assert_eq!(is_new, day == "2026-11-24", "{}", swept.stdout);
        assert_eq!(world.tokens().len(), 2);
    }
    let marked = portal.run("SELECT id FROM marked ORDER BY id");
    assert_eq!(marked, ["1", "2"]);
}

#[rstest]
fn a_token_whose_users_row_is_gone_is_orphaned(#[values(Sqlite, Postgres)] theirs: Db) {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(theirs, &world);
    let query = "SELECT id AS external_id, title AS name, person.mail AS issuer_email, ends AS expires_at, \
                 CASE WHEN person.mail IS NULL THEN 'no person has the address ' || api_token.mail END AS issuer_gone \
                 FROM api_token LEFT JOIN person ON person.mail = api_token.mail";
    world.table(&source(&portal.url(), query, ""));
    portal.insert(&[
        "1, 'kept', 'ada@example.org', '2027-12-01 00:00:00'",
        "2, 'orphan', 'gone@example.org', '2027-12-01 00:00:00'",
    ]);
    world.at("2026-11-24 00:00:00").sweep();
    let findings = world.list(&["finding", "list", "--kind", "orphaned"]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0]["token_name"], "orphan");
    assert_contains!(
        findings[0]["evidence"].as_str().unwrap(),
        "no person has the address"
    );
}

#[test]
fn a_check_names_columns_without_values() {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(Db::Sqlite, &world);
    let query = "SELECT id AS external_id, datetime(ends, 'unixepoch') AS expires_at, state AS created_at, \
                 CASE WHEN id = 3 THEN mail END AS issuer_email FROM api_token";
    world.table(&source(&portal.url(), query, ""));
    portal.insert(&[
        "1, 'a', 'a@example.org', '1795737600000'",
        "2, 'b', 'b@example.org', '1795737600000'",
        "3, 'c', 'c@example.org', '1795737600000'",
    ]);
    let checked = world.run(&["source", "check", "portal"]);
    checked
        .exits(0)
        .says("note    expires_at is empty or NULL in all 3 records")
        .says("note    issuer_email is empty or NULL in 2 of 3 records")
        .says("note    created_at cannot be read in all 3 records");
    world
        .run(&["check"])
        .says("expires_at is empty or NULL in all 3 records");
    let without = "SELECT id AS external_id FROM api_token";
    world.replace_tables(&source(&portal.url(), without, ""));
    world
        .run(&["source", "check", "portal"])
        .says("there is no expires_at, so no expiry is known");
}

#[rstest]
fn an_expiry_by_policy_is_not_marked_at_the_source(#[values(Sqlite, Postgres)] theirs: Db) {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(theirs, &world);
    let query =
        "SELECT id AS external_id, 'never' AS expires_at, title AS created_at FROM api_token";
    let keys =
        "policy_ttl = \"30d\"\nmark_expired = \"INSERT INTO marked (id) VALUES (:external_id)\"";
    world.table(&source(&portal.url(), query, keys));
    portal.insert(&["1, '2026-01-01', NULL, NULL", "2, '2026-11-01', NULL, NULL"]);
    for now in ["2026-11-24 00:00:00", "2026-12-02 00:00:00"] {
        world.at(now);
        world.sweep();
    }
    assert_eq!(world.tokens(), ["1 expired", "2 expired"]);
    let marked = portal.run("SELECT id FROM marked");
    assert!(marked.is_empty(), "they work on: {marked:?}");
}

#[rstest]
fn a_token_missing_in_an_incremental_listing_is_not_gone(
    #[values(Sqlite, Postgres)] store: Db,
    #[values(Sqlite, Postgres)] theirs: Db,
) {
    let mut world = World::new(store);
    let portal = Portal::new(theirs, &world);
    let query = "SELECT id AS external_id, title AS name, 'never' AS expires_at FROM api_token WHERE ends > :since";
    world.table(&source(&portal.url(), query, ""));
    portal.insert(&[
        "1, 'old', NULL, '2026-11-01 00:00:00'",
        "2, 'ended', NULL, '2026-11-01 00:00:00'",
    ]);
    world.at("2026-11-24 08:00:00");
    world.sweep();
    portal.run("DELETE FROM api_token WHERE id = 2; UPDATE api_token SET title = 'unseen'");
    portal.insert(&["3, 'new', NULL, '2026-11-24 07:55:00'"]);
    world.at("2026-11-24 08:01:00");
    world.sweep();
    let tokens = world.list(&["token", "list"]);
    let mut names: Vec<_> = tokens
        .iter()
        .map(|token| format!("{} {}", token["name"], token["status"]).replace('"', ""))
        .collect();
    names.sort();
    assert_eq!(names, ["ended active", "new active", "old active"]);
}

/// All files and mails that lapsed has written.
fn left_behind(world: &World) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(world.path("")).unwrap() {
        let path = entry.unwrap().path();
        let is_theirs = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("portal") || name == "lapsed.toml"
        });
        if path.is_file() && !is_theirs {
            all.extend(fs::read(path).unwrap());
        }
    }
    for mail in world.take_mails() {
        all.extend(mail.raw.into_bytes());
    }
    all
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn columns_outside_the_query_are_left_nowhere(#[case] theirs: Db) {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(theirs, &world);
    portal.insert(&["1, 'deploy', 'ada@example.org', '2026-12-01 00:00:00'"]);
    world.env("RUST_LOG", "trace").at("2026-11-24 00:00:00");
    world.table(&source(
        &portal.url(),
        QUERY,
        "mark_expired = \"DELETE FROM marked WHERE title = :issuer_email\"",
    ));
    let mut output = String::new();
    for clock in ["2026-11-24 00:00:00", "2026-12-02 00:00:00"] {
        world.at(clock);
        let ran = world.run(&["sweep"]);
        ran.exits(0);
        output += &(ran.stdout + &ran.stderr);
    }
    let left = left_behind(&world);
    let holds =
        |all: &[u8], word: &str| all.windows(word.len()).any(|part| part == word.as_bytes());
    assert!(holds(&left, "deploy"), "the store was looked at");
    assert!(!holds(&left, SECRET) && !output.contains(SECRET));
    assert!(!output.contains("ada@example.org"), "{output}");
}

#[test]
fn login_and_connection_failures_are_reported() {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(Db::Postgres, &world);
    let table = |url: &str, name: &str| source(url, QUERY, "").replace("portal", name);
    let mut url = url::Url::parse(&portal.url()).unwrap();
    url.set_username("nobody_here").unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let away = format!("postgres://reader:{PASSWORD}@127.0.0.1:1/db");
    world
        .table(&table(url.as_str(), "wrong"))
        .table(&table(&away, "away"))
        .table(&table("sqlite:nowhere.db", "nowhere"))
        .table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"");
    world.write(
        "exports.csv",
        "external_id,name,issuer_email,expires_at\na,a,,never\n",
    );
    world.env("RUST_LOG", "trace");
    let ran = world.run(&["sweep"]);
    ran.exits(1)
        .says("refuses the user; check user and password in the URL")
        .says("cannot reach postgres://127.0.0.1/db")
        .says("nowhere.db: the file cannot be opened");
    assert!(!ran.stderr.contains(PASSWORD) && !ran.stdout.contains(PASSWORD));
    assert!(!world.path("nowhere.db").exists());
    world.env("RUST_LOG", "warn");
    assert_eq!(world.tokens(), ["a active"], "the other sources are synced");
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn nothing_is_concluded_from_a_query_that_fails_in_the_middle(#[case] theirs: Db) {
    let mut world = World::new(Db::Sqlite);
    let portal = Portal::new(theirs, &world);
    let rows: Vec<String> = (1..=30)
        .map(|n| format!("{n}, '{SECRET}', 'ada@example.org', '2026-12-30 00:00:00'"))
        .collect();
    portal.insert(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    world.at("2026-11-24 00:00:00");
    let fails = match theirs {
        Db::Sqlite => format!("json(CASE WHEN id = 25 THEN '{{' || title ELSE '\"{SECRET}\"' END)"),
        Db::Postgres => "CASE WHEN id = 25 THEN title::int END::text".to_owned(),
    };
    // At first the view works.
    portal.run("CREATE VIEW listed AS SELECT id, NULL AS broken FROM api_token");
    let query = "SELECT id AS external_id, broken AS description FROM listed";
    world.table(&source(&portal.url(), query, ""));
    world.sweep();
    portal.run("DROP VIEW listed");
    portal.run(&format!(
        "CREATE VIEW listed AS SELECT id, {fails} AS broken FROM api_token WHERE id > 5"
    ));
    let ran = world.run(&["sweep"]);
    ran.exits(1).says("failed:");
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
    let tokens = world.tokens();
    assert_eq!(tokens.len(), 30);
    assert!(
        tokens.iter().all(|token| token.ends_with(" active")),
        "{tokens:?}"
    );
}

#[rstest]
fn after_kills_every_token_is_marked_and_few_are_marked_twice(
    #[values(Sqlite, Postgres)] store: Db,
    #[values(Sqlite, Postgres)] theirs: Db,
) {
    const TOKENS: usize = 400;
    let mut world = World::new(store);
    let portal = Portal::new(theirs, &world);
    let rows: Vec<String> = (0..TOKENS)
        .map(|n| format!("{n}, 't', NULL, '2026-01-01 00:00:00'"))
        .collect();
    portal.insert(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    let keys = "mark_expired = \"INSERT INTO marked (id) VALUES (:external_id)\"";
    world.table(&source(&portal.url(), QUERY, keys));
    let mut kills = 0;
    for round in 0..12 {
        world.at(&format!("2026-11-24 00:00:{:02}", 3 * round));
        let mut program = world.start("sweep", &["sweep"]);
        thread::sleep(Duration::from_millis(40 + 35 * round));
        program.kill().unwrap();
        kills += usize::from(program.wait().unwrap().code().is_none());
    }
    world.at("2026-11-24 00:10:00");
    world.sweep();
    world.sweep();
    let count = |sql: &str| portal.run(sql)[0].parse::<usize>().unwrap();
    assert_eq!(count("SELECT count(DISTINCT id) FROM marked"), TOKENS);
    let marks = count("SELECT count(*) FROM marked");
    assert!(
        marks <= TOKENS + 50 * kills,
        "{marks} marks after {kills} kills"
    );
    println!("{kills} kills, {} marks made twice", marks - TOKENS);
}

/// Runs the program and returns its peak memory in MiB.
fn peak_memory(world: &World, arguments: &[&str]) -> u64 {
    let mut program = world.start("memory", arguments);
    let status = format!("/proc/{}/status", program.id());
    let mut peak = 0;
    let ended = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(ended) = program.try_wait().unwrap() {
            break ended;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let log = fs::read_to_string(world.path("memory.log")).unwrap();
    assert!(ended.success(), "{log}");
    peak / 1024
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn two_hundred_thousand_rows_take_no_more_memory_than_twenty_thousand(#[case] theirs: Db) {
    let mut peak = Vec::new();
    for rows in [20_000, 200_000] {
        let mut world = World::new(Db::Sqlite);
        let portal = Portal::new(theirs, &world);
        let numbers = match theirs {
            Db::Sqlite => format!(
                "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {rows}) SELECT n FROM n) n"
            ),
            Db::Postgres => format!("generate_series(1, {rows}) n"),
        };
        let query = format!(
            "SELECT n.n AS external_id, 'a token with a name of some length ' || n.n AS name,
                    'user' || (n.n % 5000) || '@example.org' AS issuer_email,
                    '2027-06-01' AS expires_at, 'what it is for, in a sentence or two' AS description
             FROM {numbers}"
        );
        world.table(&source(&portal.url(), &query, ""));
        world.at("2026-11-24 00:00:00");
        peak.push(peak_memory(
            &world,
            &["source", "sync", "portal", "--dry-run"],
        ));
        let log = fs::read_to_string(world.path("memory.log")).unwrap();
        assert_contains!(log, format!("{rows} new"));
    }
    println!(
        "{} MiB for 20,000 rows, {} MiB for 200,000",
        peak[0], peak[1]
    );
    assert!(peak[1] < peak[0] + 30, "{peak:?}");
}
