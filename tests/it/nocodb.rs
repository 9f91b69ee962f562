//! NocoDB's own database, with the tables of 0.301 and of later versions.

use std::time::Duration;

use lapsed::domain::Cell;
use lapsed::sources::nocodb::Config;
use lapsed::sources::{Error, Fetched, LastListing, Listing, ProxyRules, Source};
use rstest::rstest;

use crate::db::{Db, Fresh};
use Db::{Postgres, Sqlite};

/// The tables of NocoDB 0.301.3, without irrelevant columns that hold nothing secret.
const TABLES: &str = "
    CREATE TABLE nc_api_tokens (id SERIAL PRIMARY KEY, base_id varchar(20), db_alias varchar(255),
        description varchar(255), permissions text, token text, expiry varchar(255),
        enabled boolean DEFAULT true, fk_user_id varchar(20), fk_workspace_id varchar(20),
        fk_sso_client_id varchar(20), created_at timestamptz, updated_at timestamptz);
    CREATE TABLE nc_users_v2 (id varchar(20) NOT NULL PRIMARY KEY, email varchar(255), password varchar(255),
        salt varchar(255), roles varchar(255) DEFAULT 'editor', blocked boolean DEFAULT false,
        is_deleted boolean DEFAULT false, display_name varchar(255), created_at timestamptz);
    CREATE TABLE nc_sso_client (id varchar(20) NOT NULL PRIMARY KEY, type varchar(20), title varchar(255),
        enabled boolean DEFAULT true, config text, deleted boolean DEFAULT false);
    INSERT INTO nc_users_v2 (id, email, password, salt, roles, display_name, blocked, is_deleted) VALUES
        ('us1', 'root@example.test', 's3cret', 's3cret', 'org-level-creator,super', NULL, false, false),
        ('us2', 'ada@example.org', 's3cret', 's3cret', 'org-level-creator', 'Ada', true, false),
        ('us3', 'grace@example.org', 's3cret', 's3cret', 'org-level-viewer', NULL, false, true);
    INSERT INTO nc_sso_client (id, title, enabled, config) VALUES ('sso1', 'Okta', false, 's3cret');
    INSERT INTO nc_api_tokens (description, token, fk_user_id, fk_sso_client_id, base_id, created_at) VALUES
        ('ci', 's3cret', 'us1', NULL, NULL, '2026-11-21 21:39:13+00:00'),
        ('sso', 's3cret', 'us2', 'sso1', 'p1', '2026-11-21 21:39:13+00:00'),
        ('left', 's3cret', 'us3', 'sso9', NULL, '2026-11-21 21:39:13+00:00'),
        ('removed', 's3cret', 'us9', NULL, NULL, '2026-11-21 21:39:13+00:00'),
        ('old', 's3cret', NULL, NULL, NULL, NULL);
";

/// Added with the fine-grained tokens of 2026.
const LATER_COLUMNS: &str = "
    ALTER TABLE nc_api_tokens ADD COLUMN token_hash varchar(255);
    ALTER TABLE nc_api_tokens ADD COLUMN token_prefix varchar(20);
    ALTER TABLE nc_api_tokens ADD COLUMN last_used_at timestamptz;
    UPDATE nc_api_tokens SET token_hash = 's3cret', token_prefix = 's3cret';
    UPDATE nc_api_tokens SET expiry = '2026-12-31T00:00:00.000Z', last_used_at = '2026-11-20 08:00:00+00:00'
        WHERE description = 'ci';
    UPDATE nc_api_tokens SET enabled = false WHERE description = 'left';
";

async fn create_tables(db: Db) -> Fresh {
    let fresh = db.empty();
    let tables = match db {
        Db::Postgres => TABLES.to_owned(),
        Db::Sqlite => TABLES
            .replace("SERIAL PRIMARY KEY", "integer PRIMARY KEY AUTOINCREMENT")
            .replace("timestamptz", "datetime"),
    };
    fresh.execute(&tables).await.unwrap();
    fresh
}

async fn fetch(url: &str) -> Result<Listing, Error> {
    let config = Config {
        url: "https://nocodb.example.org".parse().unwrap(),
        login: None,
        database: Some(url.into()),
    };
    match config
        .build(Duration::from_secs(20), &ProxyRules::default())?
        .fetch(&LastListing::default())
        .await?
    {
        Fetched::New(listing) => Ok(listing),
        Fetched::Unchanged => panic!("a database never reports that nothing has changed"),
    }
}

fn format_cell<T: ToString>(cell: &Cell<T>) -> String {
    match cell {
        Cell::Value(value) => value.to_string(),
        Cell::Empty => "-".to_owned(),
        Cell::Absent => "?".to_owned(),
    }
}

async fn lines(url: &str) -> Vec<String> {
    let listing = fetch(url).await.unwrap();
    let tokens = listing.tokens.map(Result::unwrap);
    let line = |token: lapsed::domain::ListedToken| {
        assert!(!format!("{token:?}").contains("s3cret"), "{token:?}");
        [
            token.external_id.clone(),
            format_cell(&token.name),
            format_cell(&token.issuer),
            format_cell(&token.role),
            format_cell(&token.issuer_gone),
            format_cell(&token.description),
        ]
        .join(" | ")
    };
    tokens.map(line).collect()
}

#[rstest]
#[tokio::test]
async fn the_database_lists_every_token(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tables(db).await;
    let expected = [
        "1 | ci | root@example.test | org-level-creator,super | - | -",
        "2 | sso | ada@example.org | org-level-creator | - | \
             made under single sign-on (Okta, since disabled); its user is blocked",
        "3 | left | grace@example.org | org-level-viewer | user us3 is marked as deleted in NocoDB | \
             made under single sign-on",
        "4 | removed | ? | ? | user us9 no longer exists in NocoDB | -",
        "5 | old | ? | ? | it belongs to no user, as tokens of early versions of NocoDB do | -",
    ];
    assert_eq!(lines(&fresh.url).await, expected);
    let listing = fetch(&fresh.url).await.unwrap();
    let tokens: Vec<_> = listing.tokens.map(Result::unwrap).collect();
    let expected = "2026-11-21 21:39:13 UTC";
    assert_eq!(format_cell(&tokens[0].created_at), expected);
    assert_eq!(format_cell(&tokens[1].scope), "p1");
    assert_eq!(format_cell(&tokens[1].issuer_name), "Ada");
    for token in &tokens {
        let formatted = (
            &token.expiry,
            &token.last_used_at,
            format_cell(&token.status),
        );
        let formatted = format!("{formatted:?}");
        assert_eq!(formatted, "(Value(Never), Absent, \"active\")");
    }
}

#[rstest]
#[tokio::test]
async fn columns_of_later_versions_are_read(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tables(db).await;
    let later = LATER_COLUMNS.replace(
        "timestamptz",
        match db {
            Db::Sqlite => "datetime",
            Db::Postgres => "timestamptz",
        },
    );
    fresh.execute(&later).await.unwrap();
    if db == Db::Postgres {
        // There, ids are texts.
        let texts = "ALTER TABLE nc_api_tokens ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id TYPE varchar(20)";
        fresh.execute(texts).await.unwrap();
    }
    let listing = fetch(&fresh.url).await.unwrap();
    let formatted: Vec<_> = listing
        .tokens
        .map(|token| {
            let token = token.unwrap();
            assert!(!format!("{token:?}").contains("s3cret"), "{token:?}");
            let (expiry, used) = (&token.expiry, &token.last_used_at);
            format!(
                "{} {expiry:?} {used:?} {}",
                token.external_id,
                format_cell(&token.status)
            )
        })
        .collect();
    let expected = [
        "1 Value(At(2026-12-31T00:00:00Z)) Value(2026-11-20T08:00:00Z) active",
        "2 Value(Never) Empty active",
        "3 Value(Never) Empty disabled",
        "4 Value(Never) Empty active",
        "5 Value(Never) Empty active",
    ];
    assert_eq!(formatted, expected);
}

#[rstest]
#[tokio::test]
async fn a_version_without_single_sign_on_is_read_too(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = create_tables(db).await;
    let older = "DROP TABLE nc_sso_client; ALTER TABLE nc_api_tokens DROP COLUMN fk_sso_client_id";
    fresh.execute(older).await.unwrap();
    let lines = lines(&fresh.url).await;
    let expected = "2 | sso | ada@example.org | org-level-creator | - | its user is blocked";
    assert_eq!(lines[1], expected);
    fresh
        .execute("ALTER TABLE nc_users_v2 DROP COLUMN email")
        .await
        .unwrap();
    let error = fetch(&fresh.url).await.map(|_| ()).unwrap_err().to_string();
    assert_contains!(error, "cannot read nc_users_v2.email at");
}

/// The statements of docs/sources/nocodb.md.
fn grants(role: &str) -> String {
    let page = include_str!("../../docs/sources/nocodb.md");
    let from = page.find("CREATE ROLE lapsed_nocodb").unwrap();
    let (grants, _) = page[from..].split_once("```").unwrap();
    grants.replace("lapsed_nocodb", role)
}

#[tokio::test]
async fn the_documented_grants_are_sufficient() {
    let fresh = create_tables(Db::Postgres).await;
    fresh.execute(LATER_COLUMNS).await.unwrap();
    let role = fresh
        .texts("SELECT current_database()::text || '_reader'")
        .await;
    let role = &role[0];
    fresh.execute(&grants(role)).await.unwrap();
    let later = format!("GRANT SELECT (last_used_at) ON nc_api_tokens TO {role}");
    fresh.execute(&later).await.unwrap();
    let mut url: url::Url = fresh.url.parse().unwrap();
    url.set_username(role).unwrap();
    assert_eq!(lines(url.as_str()).await, lines(&fresh.url).await);
    for secret in [
        "token FROM nc_api_tokens",
        "password FROM nc_users_v2",
        "config FROM nc_sso_client",
    ] {
        let select = format!("SET ROLE {role}; SELECT {secret}");
        let denied = fresh.execute(&select).await.unwrap_err().to_string();
        assert_contains!(denied, "permission denied");
    }
    let revoked = format!("REVOKE SELECT (email) ON nc_users_v2 FROM {role}");
    fresh.execute(&revoked).await.unwrap();
    let error = fetch(url.as_str())
        .await
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert_contains!(error, "cannot read nc_users_v2.email");
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    fresh.execute(&drop).await.unwrap();
}
