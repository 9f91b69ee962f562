//! Reading foreign databases, as connectors do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rstest::rstest;
use secrecy::SecretString;

use lapsed::sources::Error;
use lapsed::upstream::database::{self, Database};

use crate::db::{Db, Fresh};
use Db::{Postgres, Sqlite};

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Token {
    id: i64,
    title: String,
    updated_at: Option<DateTime<Utc>>,
}

const QUERY: &str = "SELECT id, title, updated_at FROM api_token ORDER BY id";

async fn create_tokens(db: Db, rows: u32) -> Fresh {
    let fresh = db.empty();
    let sql = match db {
        Db::Sqlite => format!(
            "CREATE TABLE api_token (id INTEGER PRIMARY KEY, title TEXT NOT NULL, updated_at TIMESTAMP,
                                     secret TEXT);
             INSERT INTO api_token SELECT value, 'token ' || value, '2026-11-20 08:00:00', 's3cret'
             FROM generate_series(1, {rows})"
        )
        .replace(
            &format!("generate_series(1, {rows})"),
            &format!(
                "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT {rows})
                  SELECT value FROM n)"
            ),
        ),
        Db::Postgres => format!(
            "CREATE TABLE api_token (id bigint PRIMARY KEY, title text NOT NULL, updated_at timestamptz,
                                     secret text);
             INSERT INTO api_token SELECT n, 'token ' || n, '2026-11-20 08:00:00Z', 's3cret'
             FROM generate_series(1, {rows}) n"
        ),
    };
    fresh.execute(&sql).await.unwrap();
    fresh
}

fn database(url: &str) -> Database {
    Database::new(&SecretString::from(url), Duration::from_secs(20)).unwrap()
}

async fn read_tokens(database: &Database, query: &'static str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut reading = database.begin_read().await?;
    reading
        .for_each_row(query, |token: Token| {
            tokens.push(token);
            Ok(())
        })
        .await?;
    reading.close().await;
    Ok(tokens)
}

#[rstest]
#[tokio::test]
async fn all_rows_are_read_with_their_types(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tokens(db, 5_001).await;
    let tokens = read_tokens(&database(&fresh.url), QUERY).await.unwrap();
    assert_eq!(tokens.len(), 5_001);
    let first = Token {
        id: 1,
        title: "token 1".to_owned(),
        updated_at: Some("2026-11-20T08:00:00Z".parse().unwrap()),
    };
    assert_eq!(tokens[0], first);
}

#[rstest]
#[tokio::test]
async fn several_queries_see_one_snapshot(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tokens(db, 3).await;
    let database = database(&fresh.url);
    let mut reading = database.begin_read().await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..2 {
        let mut count = 0;
        let counted = reading.for_each_row(QUERY, |_: Token| {
            count += 1;
            Ok(())
        });
        counted.await.unwrap();
        counts.push(count);
        if db == Db::Postgres {
            fresh.execute("DELETE FROM api_token").await.unwrap();
        }
    }
    assert_eq!(counts, [3, 3]);
    let columns = reading.table_columns("api_token").await.unwrap();
    assert!(columns.contains("secret"));
    let columns = reading.table_columns("no_such_table").await.unwrap();
    assert!(columns.is_empty());
}

#[rstest]
#[tokio::test]
async fn nothing_is_written_or_created(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tokens(db, 1).await;
    let database = database(&fresh.url);
    let writing = "DELETE FROM api_token RETURNING id, title, updated_at";
    read_tokens(&database, writing).await.unwrap_err();
    let expected = ["token 1"];
    assert_eq!(fresh.texts("SELECT title FROM api_token").await, expected);
    if db == Db::Sqlite {
        let missing = self::database(&format!("{}-missing", fresh.url));
        let error = read_tokens(&missing, QUERY).await.unwrap_err().to_string();
        assert_contains!(error, "cannot be opened; correct the path");
        assert!(!std::path::Path::new(missing.place()).exists());
    }
}

#[rstest]
#[tokio::test]
async fn errors_name_tables_and_columns_but_contain_no_values(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tokens(db, 1).await;
    let database = database(&fresh.url);
    let error_of = async |query| read_tokens(&database, query).await.unwrap_err().to_string();
    let missing = error_of("SELECT id, titel FROM api_token").await;
    assert_contains!(missing, "titel");
    let missing = error_of("SELECT id FROM api_tokens").await;
    assert_contains!(missing, "api_tokens");
    let missing = error_of("SELECT id, title FROM api_token").await;
    assert_contains!(missing, "column updated_at");
    let value = match db {
        Db::Sqlite => "SELECT id, title, secret AS updated_at FROM api_token",
        Db::Postgres => "SELECT secret::bigint AS id, title, updated_at FROM api_token",
    };
    let value = error_of(value).await;
    assert!(!value.contains("s3cret"), "{value}");
}

#[tokio::test]
async fn a_role_reads_granted_columns_and_the_error_names_the_missing_grant() {
    let fresh = create_tokens(Db::Postgres, 1).await;
    let role = format!(
        "{}_reader",
        fresh.texts("SELECT current_database()::text").await[0]
    );
    let grant = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pa55word';
         GRANT SELECT (id, title) ON api_token TO {role}"
    );
    fresh.execute(&grant).await.unwrap();
    let mut url: url::Url = fresh.url.parse().unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("pa55word")).unwrap();
    let database = database(url.as_str());
    let mut reading = database.begin_read().await.unwrap();
    let columns = reading.table_columns("api_token").await.unwrap();
    assert_eq!(columns.into_iter().collect::<Vec<_>>(), ["id", "title"]);
    reading.close().await;
    let denied = read_tokens(&database, QUERY).await.unwrap_err().to_string();
    assert_contains!(denied, "permission denied for table api_token");
    assert_contains!(denied, "GRANT SELECT");
    assert!(!denied.contains("pa55word"), "{denied}");
    fresh
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unreachable_or_slow_database_is_given_up() {
    let unreachable = database("postgres://user:pa55word@127.0.0.1:1/db");
    let error = read_tokens(&unreachable, QUERY).await.unwrap_err();
    assert!(matches!(
        error,
        Error::Database(database::Error::Unreachable { .. })
    ));
    assert!(!format!("{error} {error:?}").contains("pa55word"));
    for db in [Db::Sqlite, Db::Postgres] {
        let fresh = create_tokens(db, 1).await;
        let impatient = Database::new(
            &SecretString::from(fresh.url.as_str()),
            Duration::from_millis(300),
        )
        .unwrap();
        let endless = match db {
            Db::Sqlite => {
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
                 SELECT count(*) AS id, '' AS title, NULL AS updated_at FROM n"
            }
            Db::Postgres => {
                "SELECT count(*) AS id, '' AS title, NULL::timestamptz AS updated_at
                 FROM generate_series(1, 1000000000000)"
            }
        };
        let error = read_tokens(&impatient, endless).await.unwrap_err();
        let has_timed_out = matches!(error, Error::Database(database::Error::TimedOut { .. }));
        assert!(has_timed_out, "{error}");
    }
}

#[test]
fn the_place_of_a_database_has_no_password() {
    let database = database("postgres://user:pa55word@db.example.org:5433/tokens?sslmode=require");
    assert_eq!(database.place(), "postgres://db.example.org/tokens");
    let refused = Database::new(
        &SecretString::from("mysql://u:pa55word@h/d"),
        Duration::ZERO,
    );
    assert!(refused.is_err());
}
