//! The source `sql`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use secrecy::SecretString;

use lapsed::domain::{Cell, Expiry, ListedToken, Status};
use lapsed::sources::cells::CellRules;
use lapsed::sources::sql::{Config, SqlSource};
use lapsed::sources::{Error, Fetched, LastListing, Listing, Source};

use crate::db::{Db, Fresh};
use Db::{Postgres, Sqlite};

struct Table {
    fresh: Fresh,
    config: Config,
}

impl Table {
    /// The table `api_token` has the columns `id, title, mail, ends, changed, state`.
    async fn new(db: Db, query: &str) -> Self {
        let fresh = db.empty();
        let tables = match db {
            Db::Sqlite => {
                "CREATE TABLE api_token (id INTEGER PRIMARY KEY, title TEXT, mail TEXT, ends, changed, state TEXT);
                 CREATE TABLE person (mail TEXT, tenant TEXT, role TEXT, name TEXT, state TEXT)"
            }
            Db::Postgres => {
                "CREATE TABLE api_token (id int PRIMARY KEY, title varchar(40), mail text, ends timestamptz,
                                         changed timestamptz, state text);
                 CREATE TABLE person (mail text, tenant text, role text, name text, state text)"
            }
        };
        fresh.execute(tables).await.unwrap();
        let config = Config {
            url: SecretString::from(fresh.url.as_str()),
            query: query.to_owned(),
            people_query: None,
            mark_expired: None,
            revoke: None,
            rules: CellRules::default(),
        };
        Self { fresh, config }
    }

    /// Rows of `id, title, mail, ends, changed, state`, in SQL.
    async fn insert(&self, rows: &str) -> &Self {
        let sql = format!("INSERT INTO api_token VALUES {rows}");
        self.fresh.execute(&sql).await.unwrap();
        self
    }

    fn source(&self) -> SqlSource {
        build(&self.config).unwrap()
    }

    async fn fetch(&self, last: &LastListing) -> Result<Listing, Error> {
        match self.source().fetch(last).await? {
            Fetched::New(listing) => Ok(listing),
            Fetched::Unchanged => panic!("a table is always read"),
        }
    }

    async fn error(&self) -> String {
        self.fetch(&LastListing::default())
            .await
            .err()
            .unwrap()
            .to_string()
    }
}

fn build(config: &Config) -> Result<SqlSource, Error> {
    config.build(Duration::from_secs(20))
}

fn tokens(listing: Listing) -> Vec<ListedToken> {
    listing.tokens.map(Result::unwrap).collect()
}

fn ids(listing: Listing) -> Vec<String> {
    let ids = tokens(listing).into_iter();
    ids.map(|token| token.external_id).collect()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn value(text: &str) -> Cell<String> {
    Cell::Value(text.to_owned())
}

const QUERY: &str = "SELECT id AS external_id, title AS name, mail AS issuer_email, ends AS expires_at, \
                     state AS status FROM api_token";
const CHANGES: &str = "SELECT id AS external_id, title AS name, ends AS expires_at FROM api_token
                       WHERE changed > :since";

#[rstest]
#[tokio::test]
async fn columns_have_the_same_meaning_as_in_a_file(#[values(Sqlite, Postgres)] db: Db) {
    let table = Table::new(db, QUERY).await;
    table
        .insert(
            "(2, ' two ', 'Ada@Example.org', '2026-12-01 09:30:00', NULL, 'disabled'),
             (1, NULL, NULL, NULL, NULL, NULL)",
        )
        .await;
    let listing = table.fetch(&LastListing::default()).await.unwrap();
    assert_eq!((listing.count, listing.is_partial), (2, false));
    assert!(listing.admins.is_none() && listing.fingerprint.is_none());
    let tokens = tokens(listing);
    let cleared = ListedToken {
        name: value(""),
        issuer: Cell::Empty,
        expiry: Cell::Value(Expiry::Unknown),
        status: Cell::Empty,
        ..ListedToken::with_id("1")
    };
    assert_eq!(tokens[0], cleared, "NULL clears, an absent column keeps");
    let whole = ListedToken {
        name: value("two"),
        issuer: Cell::Value("ada@example.org".parse().unwrap()),
        expiry: Cell::Value(Expiry::At(at("2026-12-01T09:30:00Z"))),
        status: Cell::Value(Status::Disabled),
        ..ListedToken::with_id("2")
    };
    let issuer = tokens[1].issuer.clone().into_option().unwrap();
    assert_eq!(issuer.key(), "ada@example.org");
    assert_eq!(
        ListedToken {
            issuer: whole.issuer.clone(),
            ..tokens[1].clone()
        },
        whole
    );
}

#[tokio::test]
async fn types_of_postgres_are_converted() {
    let query =
        "SELECT '6f1c2a34-0000-4000-8000-000000000001'::uuid AS external_id, 'x'::char(5) AS name,
            'infinity'::timestamptz AS expires_at, '2026-11-12'::date AS created_at,
            '2026-11-12 08:00'::timestamp AS last_used_at, 7::bigint AS account, true AS role,
            'read'::scope AS scope, 3::smallint AS issuer_id";
    let table = Table::new(Db::Postgres, query).await;
    let types = "CREATE TYPE scope AS ENUM ('read', 'write')";
    table.fresh.execute(types).await.unwrap();
    let tokens = tokens(table.fetch(&LastListing::default()).await.unwrap());
    let expected = ListedToken {
        name: value("x"),
        expiry: Cell::Value(Expiry::Never),
        created_at: Cell::Value(at("2026-11-12T00:00:00Z")),
        last_used_at: Cell::Value(at("2026-11-12T08:00:00Z")),
        account: value("7"),
        role: value("true"),
        scope: value("read"),
        issuer_id: Some("3".to_owned()),
        ..ListedToken::with_id("6f1c2a34-0000-4000-8000-000000000001")
    };
    assert_eq!(tokens, [expected]);

    let odd = Table::new(
        Db::Postgres,
        "SELECT v.* FROM (VALUES ('a', 'infinity'::date, NULL::jsonb), ('b', NULL, '{}'::jsonb),
                                 ('c', '-infinity'::date, NULL))
              AS v (external_id, created_at, description)",
    );
    let listing = odd.await.fetch(&LastListing::default()).await.unwrap();
    assert_eq!(listing.refusals.count, 0);
    let unreadable: Vec<_> = self::tokens(listing)
        .into_iter()
        .flat_map(|token| token.unreadable)
        .map(|(column, why)| format!("{column} {why}"))
        .collect();
    assert_eq!(
        unreadable,
        [
            "created_at \"infinity\" is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty",
            "description is of type JSONB, not a text, number or date; cast it in the query",
            "created_at \"-infinity\" is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty",
        ]
    );
}

#[tokio::test]
async fn a_number_is_a_date_in_every_unit() {
    let query =
        "SELECT id AS external_id, ends AS expires_at, changed AS last_used_at FROM api_token";
    let table = Table::new(Db::Sqlite, query).await;
    table
        .insert(
            "(1, '', '', 1796428800, 0, NULL), (2, '', '', 1796428800000, 1795161704.25, NULL),
             (3, '', '', 0, NULL, NULL), (4, '', '', 253402300799, '1795161704', NULL)",
        )
        .await;
    let expiry = Cell::Value(Expiry::At(at("2026-12-05T00:00:00Z")));
    let used = Cell::Value(at("2026-11-20T08:01:44Z"));
    let listed = tokens(table.fetch(&LastListing::default()).await.unwrap());
    let dates: Vec<_> = listed
        .iter()
        .map(|token| (token.expiry, token.last_used_at))
        .collect();
    assert_eq!(
        dates,
        [
            (expiry, Cell::Empty),
            (expiry, used),
            (Cell::Absent, Cell::Empty),
            (Cell::Value(Expiry::Never), used),
        ]
    );
    assert!(listed[2].unreadable["expires_at"].contains("most likely it means never"));
    let checked = table.source().check().await.unwrap();
    assert_contains!(
        checked.summary,
        "dates in milliseconds and seconds since 1970"
    );
    assert_contains!(
        checked.notes[0],
        "a cell cannot be read, row 3: expires_at \"0\" is before 2000"
    );
}

#[rstest]
#[tokio::test]
async fn a_source_may_have_its_own_time_zone(#[values(Sqlite, Postgres)] db: Db) {
    let query = match db {
        Sqlite => {
            "SELECT 1 AS external_id, '2026-12-01 09:30:00' AS created_at, '2026-12-05' AS expires_at"
        }
        Postgres => {
            "SELECT 1 AS external_id, '2026-12-01 09:30'::timestamp AS created_at, '2026-12-05'::date AS expires_at"
        }
    };
    let mut table = Table::new(db, query).await;
    table.config.rules.dates.timezone = Some(chrono_tz::Tz::Europe__Berlin);
    table.config.rules.dates.is_day_end = true;
    let token = tokens(table.fetch(&LastListing::default()).await.unwrap()).remove(0);
    assert_eq!(token.created_at, Cell::Value(at("2026-12-01T08:30:00Z")));
    assert_eq!(
        token.expiry,
        Cell::Value(Expiry::At(at("2026-12-05T22:59:59Z")))
    );
    assert_eq!(
        token.expiry_day,
        chrono::NaiveDate::from_ymd_opt(2026, 12, 5)
    );
}

#[rstest]
#[tokio::test]
async fn invalid_rows_are_refused_with_their_place(#[values(Sqlite, Postgres)] db: Db) {
    let query = "SELECT title AS external_id, mail AS issuer_email, ends AS expires_at FROM api_token ORDER BY id";
    let table = Table::new(db, query).await;
    let rows =
        "(1, 'a', 'ada@example.org', NULL, NULL, NULL), (2, 'b', 'nobody', NULL, NULL, NULL),
                (3, NULL, NULL, NULL, NULL, NULL), (4, 'a', NULL, '2026-12-05 00:00:00+00:00', NULL, NULL)";
    table.insert(rows).await;
    let listing = table.fetch(&LastListing::default()).await.unwrap();
    assert_eq!((listing.count, listing.refusals.count), (2, 2));
    let messages: Vec<_> = listing
        .refusals
        .shown
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "query:3: external_id is missing; write the token's id at the source",
        "query:4: the external_id is already in row 1; the query must return it once",
    ];
    assert_eq!(messages, expected);
    let tokens = tokens(listing);
    assert_eq!(tokens[0].external_id, "a");
    let unreadable = &tokens[1].unreadable;
    assert_contains!(
        unreadable["issuer_email"],
        "\"nobody\" is not a mail address"
    );
}

#[rstest]
#[tokio::test]
async fn columns_are_checked_even_without_rows(#[values(Sqlite, Postgres)] db: Db) {
    let mut table = Table::new(db, QUERY).await;
    assert_eq!(table.fetch(&LastListing::default()).await.unwrap().count, 0);
    "SELECT id AS external_id, mail AS isuer_email FROM api_token -- all"
        .clone_into(&mut table.config.query);
    let message = table.error().await;
    assert_contains!(
        message,
        "\"isuer_email\" is not a column; did you mean issuer_email?"
    );
    "SELECT id, title AS name FROM api_token".clone_into(&mut table.config.query);
    let message = table.error().await;
    let expected = "query: \"id\" is not a column; name it: id AS external_id";
    assert_eq!(message, expected);
    "SELECT title AS name FROM api_token;".clone_into(&mut table.config.query);
    let message = table.error().await;
    assert_contains!(message, "has no column external_id");
    "SELECT id AS external_id, title AS name, mail AS name FROM api_token"
        .clone_into(&mut table.config.query);
    let message = table.error().await;
    assert_contains!(message, "the column name occurs twice");
    "SELECT id AS external_id FROM api_token WHERE id > :after".clone_into(&mut table.config.query);
    let message = build(&table.config).err().unwrap().to_string();
    let expected = "query: has no parameter :after; it may contain :since";
    assert_eq!(message, expected);
}

#[rstest]
#[tokio::test]
async fn a_query_with_since_returns_changes_since_the_last_good_listing(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut table = Table::new(db, CHANGES).await;
    let rows = "(1, 'old', NULL, NULL, '2020-01-01 00:00:00', NULL),
                (2, 'late', NULL, NULL, '2026-11-20 07:55:00', NULL),
                (3, 'new', NULL, NULL, '2026-11-20 08:01:00', NULL)";
    table.insert(rows).await;
    let first = table.fetch(&LastListing::default()).await.unwrap();
    assert!(first.is_partial);
    let last = LastListing {
        fingerprint: first.fingerprint.clone(),
        asked_at: Some(at("2026-11-20T08:00:00Z")),
    };
    assert_eq!(ids(first), ["1", "2", "3"]);
    let second = table.fetch(&last).await.unwrap();
    assert_eq!(ids(second), ["2", "3"], "a little is read twice");
    let later = LastListing {
        asked_at: last.asked_at.map(|at| at + TimeDelta::days(1)),
        ..last.clone()
    };
    assert_eq!(table.fetch(&later).await.unwrap().count, 0);

    // A refused row is read again until it is fixed.
    table.config.query = CHANGES.replace("id AS", "CASE WHEN id < 0 THEN id END AS");
    let refused = table.fetch(&last).await.unwrap();
    assert_eq!(
        refused.refusals.count, 3,
        "another query starts with a full listing"
    );
    let later = LastListing {
        fingerprint: refused.fingerprint,
        ..later
    };
    assert_eq!(table.fetch(&later).await.unwrap().refusals.count, 3);
}

#[rstest]
#[tokio::test]
async fn an_issuer_who_is_not_among_the_people_is_gone(#[values(Sqlite, Postgres)] db: Db) {
    let mut table = Table::new(db, QUERY).await;
    table.config.people_query = Some(
        "SELECT mail AS email, tenant AS account, role, name, state AS status FROM person"
            .to_owned(),
    );
    let rows = "(1, '', 'ada@example.org', NULL, NULL, NULL), (2, '', 'bob@example.org', NULL, NULL, NULL),
                (3, '', 'eve@example.org', NULL, NULL, NULL), (4, '', NULL, NULL, NULL, NULL)";
    table.insert(rows).await;
    let messages = table.error().await;
    assert_contains!(messages, "people_query: returns no one");
    let people = "INSERT INTO person VALUES ('Ada@Example.org', 'acme', 'Admin', 'Ada', NULL),
            ('ada@example.org', 'old', 'admin', 'Ada', 'deleted'), (NULL, 'acme', 'admin', 'Robot', 'active'),
            ('bob@example.org', 'acme', 'member', 'Bob', 'disabled')";
    table.fresh.execute(people).await.unwrap();
    let listing = table.fetch(&LastListing::default()).await.unwrap();
    let admins = listing.admins.clone().unwrap();
    let admins: Vec<_> = admins
        .iter()
        .map(|admin| (admin.account.as_str(), admin.address.key()))
        .collect();
    assert_eq!(admins, [("acme", "ada@example.org")]);
    let tokens = tokens(listing);
    let gone: Vec<_> = tokens
        .iter()
        .map(|token| token.issuer_gone.clone())
        .collect();
    assert_eq!(
        gone,
        [
            Cell::Empty,
            value("the issuer is disabled at the source"),
            value("the issuer is not among the people of the source"),
            Cell::Empty,
        ]
    );
    assert_eq!(tokens[0].issuer_name, value("Ada"));
    table
        .fresh
        .execute("INSERT INTO person VALUES ('x', NULL, NULL, NULL, NULL)")
        .await
        .unwrap();
    let listing = table.fetch(&LastListing::default()).await.unwrap();
    let refused = &listing.refusals;
    assert!(
        refused.shown[0]
            .to_string()
            .starts_with("people_query:5: email \"x\""),
        "{refused:?}"
    );
}

#[rstest]
#[tokio::test]
async fn no_issuer_is_gone_if_a_person_was_refused(#[values(Sqlite, Postgres)] db: Db) {
    let mut table = Table::new(db, QUERY).await;
    table.config.people_query =
        Some("SELECT mail AS email, tenant AS account, role, state AS status FROM person".into());
    let rows = "(1, '', 'ada@example.org', NULL, NULL, NULL), (2, '', 'bob@example.org', NULL, NULL, NULL),
                (3, '', 'eve@example.org', NULL, NULL, NULL)";
    table.insert(rows).await;
    let people = "INSERT INTO person VALUES ('ada@example.org', 'acme', 'admin', 'Ada', 'active'),
            ('bob@example.org', 'acme', 'admin', 'Bob', 'on leave'),
            ('eve@example.org', 'acme', 'member', 'Eve', 'disabled')";
    table.fresh.execute(people).await.unwrap();
    let listing = table.fetch(&LastListing::default()).await.unwrap();
    assert_eq!(listing.refusals.count, 1);
    assert_eq!(listing.admins, None, "the ones known before stay");
    let tokens = tokens(listing);
    let gone: Vec<_> = tokens.into_iter().map(|token| token.issuer_gone).collect();
    assert_eq!(gone, [Cell::Empty, Cell::Absent, Cell::Absent]);
}

/// The statement with a cast where the database needs one.
fn by_id(db: Db, statement: &str) -> String {
    let cast = if db == Db::Postgres { "::int" } else { "" };
    format!("{statement} WHERE id = :external_id{cast}")
}

#[rstest]
#[tokio::test]
async fn a_token_is_ended_only_if_exactly_one_row_changes(#[values(Sqlite, Postgres)] db: Db) {
    let mut table = Table::new(db, QUERY).await;
    table
        .insert("(1, 'a', NULL, NULL, NULL, NULL), (2, 'b', NULL, NULL, NULL, NULL)")
        .await;
    let error = table.source().revoke("1").await.unwrap_err();
    assert!(matches!(error, Error::Rights { .. }), "{error}");
    table.config.revoke = Some(by_id(db, "UPDATE api_token SET state = 'revoked'"));
    table.source().revoke("1").await.unwrap();
    assert_eq!(
        table
            .fresh
            .texts("SELECT title FROM api_token WHERE state = 'revoked'")
            .await,
        ["a"]
    );
    for id in ["1", "3"] {
        let error = table.source().revoke(id).await.unwrap_err();
        assert!(matches!(error, Error::NoSuchToken(_)), "{error}");
    }
    table.config.revoke = Some("DELETE FROM api_token WHERE :external_id <> 'x'".to_owned());
    let error = table.source().revoke("2").await.unwrap_err();
    assert!(!error.is_in_doubt(), "{error:?}");
    let expected = "revoke: would change 2 rows instead of one; nothing was changed";
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        table
            .fresh
            .texts("SELECT title FROM api_token ORDER BY id")
            .await,
        ["a", "b"]
    );
    table.config.revoke = Some(by_id(db, "UPDATE api_token SET title = 'c'"));
    let error = table.source().revoke("2").await.unwrap_err();
    assert!(matches!(error, Error::StillThere), "{error}");
    table.config.revoke = Some(by_id(db, "UPDATE api_token SET state = 'odd'"));
    let error = table.source().revoke("2").await.unwrap_err();
    assert!(error.is_in_doubt(), "it was done: {error:?}");
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    table.config.revoke = Some(by_id(db, "DELETE FROM api_token"));
    table.source().revoke("2").await.unwrap();
    assert_eq!(
        table.fresh.texts("SELECT title FROM api_token").await,
        ["a"]
    );
}

#[rstest]
#[case::a_column_without_a_type("id, state TEXT", "1", "id = :external_id")]
#[case::texts_in_one("id, state TEXT", "'1'", "id = :external_id")]
#[case::a_column_of_texts("id TEXT, state TEXT", "'1'", "id = :external_id")]
#[case::a_column_of_integers("id INTEGER, state TEXT", "1", "id = :external_id")]
#[case::an_expression("id INTEGER, state TEXT", "1", "id + 0 = :external_id")]
#[case::as_text("id INTEGER, state TEXT", "1", "'' || id = :external_id")]
#[tokio::test]
async fn sqlite_finds_an_id_in_a_column_of_any_type(
    #[case] columns: &str,
    #[case] id: &str,
    #[case] finds: &str,
) {
    let mut table = Table::new(
        Db::Sqlite,
        "SELECT id AS external_id, state AS status FROM t",
    )
    .await;
    let create = format!("CREATE TABLE t ({columns}); INSERT INTO t VALUES ({id}, NULL)");
    table.fresh.execute(&create).await.unwrap();
    table.config.mark_expired = Some(format!("UPDATE t SET state = 'expired' WHERE {finds}"));
    table.config.revoke = Some(format!("UPDATE t SET state = 'revoked' WHERE {finds}"));
    let token = crate::store::token("1");
    let ack = table
        .source()
        .mark_expired(std::slice::from_ref(&token))
        .await;
    assert_eq!(ack.done, [token.id]);
    assert_eq!(table.fresh.texts("SELECT state FROM t").await, ["expired"]);
    table.source().revoke("1").await.unwrap();
    assert_eq!(table.fresh.texts("SELECT state FROM t").await, ["revoked"]);
    let error = table.source().revoke("01").await.unwrap_err();
    assert!(matches!(error, Error::NoSuchToken(_)), "{error}");
}

#[rstest]
#[tokio::test]
async fn a_check_names_the_columns_and_the_permissions(#[values(Sqlite, Postgres)] db: Db) {
    let mut table = Table::new(db, QUERY).await;
    table.insert("(1, 'a', 'x', NULL, NULL, NULL)").await;
    let checked = table.source().check().await.unwrap();
    for expected in [
        "columns external_id, name, issuer_email, expires_at, status (without description, account",
        "1 rows checked",
        "can write",
    ] {
        assert_contains!(checked.summary, expected);
    }
    assert_contains!(
        checked.notes[0],
        "a cell cannot be read, row 1: issuer_email \"x\""
    );
    assert_eq!(checked.rights, []);
    table.config.revoke = Some(by_id(db, "UPDATE api_token SET state = 'revoked'"));
    table.config.mark_expired = Some(by_id(db, "UPDATE no_such_table SET state = 'expired'"));
    let checked = table.source().check().await.unwrap();
    assert_eq!(checked.rights.len(), 2);
    assert_eq!(checked.rights[1].missing, None, "{:?}", checked.rights);
    let missing = checked.rights[0].missing.clone().unwrap();
    assert_contains!(missing, "no_such_table");
    assert_lacks!(checked.summary, "can write");
    assert_eq!(
        table
            .fresh
            .texts("SELECT title FROM api_token WHERE state IS NULL")
            .await,
        ["a"]
    );
}

/// Copies a database in the middle of a write, as after a kill: with a rollback journal.
async fn interrupted_write(table: &Table, folder: &std::path::Path) -> std::path::PathBuf {
    use sqlx::{Connection as _, Executor as _};
    let file = table.fresh.url.trim_start_matches("sqlite://");
    let file = file.split('?').next().unwrap();
    let mut writer = sqlx::SqliteConnection::connect(file).await.unwrap();
    writer
        .execute("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN")
        .await
        .unwrap();
    writer
        .execute("UPDATE api_token SET title = title || hex(zeroblob(2000))")
        .await
        .unwrap();
    let left = folder.join("left.db");
    std::fs::copy(file, &left).unwrap();
    std::fs::copy(format!("{file}-journal"), folder.join("left.db-journal")).unwrap();
    left
}

#[tokio::test]
async fn an_interrupted_write_is_rolled_back_if_lapsed_may_write() {
    let mut table = Table::new(Db::Sqlite, QUERY).await;
    let rows: Vec<String> = (0..200)
        .map(|id| format!("({id}, 'a', NULL, NULL, NULL, NULL)"))
        .collect();
    table.insert(&rows.join(", ")).await;
    let folder = tempfile::tempdir().unwrap();
    let left = interrupted_write(&table, folder.path()).await;
    table.config.url = SecretString::from(format!("sqlite://{}", left.display()));

    let error = table
        .fetch(&LastListing::default())
        .await
        .err()
        .unwrap()
        .to_string();
    assert_contains!(error, "killed while it wrote");
    table.config.mark_expired =
        Some("UPDATE api_token SET state = 'x' WHERE id = :external_id".to_owned());
    let listing = table.fetch(&LastListing::default()).await.unwrap();
    assert_eq!(listing.count, 200);
    assert!(
        listing
            .tokens
            .map(Result::unwrap)
            .all(|token| token.name == Cell::Value("a".to_owned()))
    );
}
