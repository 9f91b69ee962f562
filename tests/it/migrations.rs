//! The migrations, one by one on both databases, with data in between.
//!
//! `tests/data/migrations/NNNN.sqlite.sql` and `NNNN.postgres.sql` hold rows as that version of lapsed
//! writes them. They are inserted after migration NNNN, and all later ones run over them. A new migration
//! needs both files, with at least one row for every table that it adds.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lapsed::domain::{FindingKind, IdentityStatus, Status};
use lapsed::store::{
    Access, Change, Error, NoticeFilter, POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, Store, TABLES,
    TokenFilter,
};
use rstest::rstest;
use sqlx::migrate::Migrator;

use crate::db::{Db, Fresh};
use Db::{Postgres, Sqlite};

fn migrations(db: Db) -> &'static Migrator {
    match db {
        Db::Sqlite => &SQLITE_MIGRATIONS,
        Db::Postgres => &POSTGRES_MIGRATIONS,
    }
}

fn versions(db: Db) -> Vec<i64> {
    migrations(db)
        .iter()
        .map(|migration| migration.version)
        .collect()
}

/// Rows as that version of lapsed writes them.
fn sample(db: Db, version: i64) -> String {
    let name = format!("tests/data/migrations/{version:04}.{}.sql", db.name());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
    std::fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("migration {version} needs sample rows in {name}: {error}"))
}

/// The tables or views of the schema, except the table of migrations.
async fn names(fresh: &Fresh, kind: &str) -> BTreeSet<String> {
    let sql = match (fresh.db, kind) {
        (Db::Sqlite, "table") => {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        }
        (Db::Sqlite, _) => "SELECT name FROM sqlite_schema WHERE type = 'view'",
        (Db::Postgres, "table") => {
            "SELECT table_name::text FROM information_schema.tables
             WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        }
        (Db::Postgres, _) => {
            "SELECT table_name::text FROM information_schema.tables
             WHERE table_schema = 'public' AND table_type = 'VIEW'"
        }
    };
    fresh
        .texts(sql)
        .await
        .into_iter()
        .filter(|name| name != "_sqlx_migrations")
        .collect()
}

/// `table.column type` of every column, with the type names of the database.
async fn columns(fresh: &Fresh) -> BTreeSet<String> {
    let sql = match fresh.db {
        Db::Sqlite => {
            r#"SELECT t.name || '.' || c.name || CASE WHEN c."notnull" = 1 THEN ' ' ELSE '? ' END || LOWER(c.type)
               FROM sqlite_schema t JOIN pragma_table_info(t.name) c
               WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"#
        }
        Db::Postgres => {
            "SELECT table_name || '.' || column_name || CASE is_nullable WHEN 'NO' THEN ' ' ELSE '? ' END || data_type
             FROM information_schema.columns JOIN information_schema.tables t USING (table_schema, table_name)
             WHERE table_schema = 'public' AND t.table_type = 'BASE TABLE'"
        }
    };
    let rows = fresh.texts(sql).await.into_iter();
    rows.filter(|row| !row.starts_with("_sqlx_migrations."))
        .collect()
}

/// `index on table (columns)`, followed by `unique` and `partial` where they apply.
async fn indexes(fresh: &Fresh) -> BTreeSet<String> {
    let sql = match fresh.db {
        Db::Sqlite => {
            r#"SELECT i.name || ' on ' || t.name || ' (' || (SELECT group_concat(name, ', ') FROM
                    (SELECT COALESCE(name, 'expression') AS name FROM pragma_index_info(i.name) ORDER BY seqno)) || ')'
                    || CASE WHEN i."unique" = 1 THEN ' unique' ELSE '' END
                    || CASE WHEN i.partial = 1 THEN ' partial' ELSE '' END
               FROM sqlite_schema t JOIN pragma_index_list(t.name) i
               WHERE t.type = 'table' AND i.origin = 'c'"#
        }
        Db::Postgres => {
            "SELECT c.relname || ' on ' || t.relname || ' (' || (SELECT string_agg(COALESCE(a.attname, 'expression'), ', ' ORDER BY k.nth)
                    FROM unnest(i.indkey) WITH ORDINALITY AS k(attnum, nth)
                    LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) || ')'
                    || CASE WHEN i.indisunique THEN ' unique' ELSE '' END
                    || CASE WHEN i.indpred IS NULL THEN '' ELSE ' partial' END
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
             JOIN pg_namespace n ON n.oid = t.relnamespace
             WHERE n.nspname = 'public' AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid)"
        }
    };
    fresh.texts(sql).await.into_iter().collect()
}

#[rstest]
#[tokio::test]
async fn every_migration_runs_over_the_rows_of_earlier_versions(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let fresh = db.empty();
    for version in versions(db) {
        fresh.migrate_to(version).await;
        fresh.execute(&sample(db, version)).await.unwrap();
        for table in names(&fresh, "table").await {
            let rows = fresh
                .texts(&format!("SELECT 'row' FROM {table} LIMIT 1"))
                .await;
            assert!(
                !rows.is_empty(),
                "the sample of migration {version} has no rows for {table}"
            );
        }
    }
    // The current version reads rows of earlier versions.
    let store = fresh.open(Access::ReadOnly).await;
    let mut tx = store.begin_read().await.unwrap();
    let now = "2026-11-21T09:00:00Z".parse().unwrap();
    let tokens = tx
        .list_tokens(&TokenFilter::default(), None, now, 10)
        .await
        .unwrap();
    assert_eq!(tokens[0].token.external_id, "ci-deploy");
    assert_eq!(tokens[0].token.status_at(now), Status::Active);
    assert_eq!(
        tokens[0].token.due_at,
        Some("2026-11-21T08:00:00Z".parse().unwrap())
    );
    assert_eq!(tokens[0].findings, [FindingKind::SsoRevoked]);
    let notices = tx
        .list_notices(&NoticeFilter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(
        (notices[0].state.as_str(), notices[0].attempts),
        ("sent", 1)
    );
    let people = tx
        .list_identities(&lapsed::store::IdentityFilter::default(), None, now, 10)
        .await
        .unwrap();
    assert_eq!(
        (people[0].0.identity.status, people[0].1),
        (IdentityStatus::Unknown, 1)
    );
    assert_eq!(tx.list_sources().await.unwrap()[0].tokens, 1);
    let decision = tx.list_directories().await.unwrap().remove(0).decision;
    assert_eq!(decision.as_deref(), Some("released"));
    assert_eq!(
        tx.find_last_run(true)
            .await
            .unwrap()
            .unwrap()
            .outcome
            .as_deref(),
        Some("ok")
    );
    assert_eq!(tx.list_held_plans().await.unwrap().len(), 1);
    assert_eq!(
        tx.load_dead_addresses(chrono::DateTime::UNIX_EPOCH)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn both_databases_have_the_same_forward_migrations() {
    let names = |db| {
        migrations(db)
            .iter()
            .map(|m| (m.version, m.description.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(Db::Sqlite), names(Db::Postgres));
    assert_eq!(
        versions(Db::Sqlite),
        (1..).take(versions(Db::Sqlite).len()).collect::<Vec<_>>()
    );
    for db in [Db::Sqlite, Db::Postgres] {
        assert!(
            migrations(db)
                .iter()
                .all(|m| !m.migration_type.is_down_migration())
        );
    }
}

#[tokio::test]
async fn both_schemas_have_the_same_tables_columns_and_indexes() {
    let (_sqlite, embedded) = Db::Sqlite.store().await;
    let (_postgres, server) = Db::Postgres.store().await;
    for kind in ["table", "view"] {
        assert_eq!(names(&embedded, kind).await, names(&server, kind).await);
    }
    assert_eq!(indexes(&embedded).await, indexes(&server).await);
    let (sqlite, postgres) = (columns(&embedded).await, columns(&server).await);
    let column_names = |columns: &BTreeSet<String>| {
        columns
            .iter()
            .map(|column| column.split(' ').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        column_names(&sqlite),
        column_names(&postgres),
        "? marks a nullable column"
    );
    for (column, counterpart) in sqlite.iter().zip(&postgres) {
        let (name, kind) = column.split_once(' ').unwrap();
        let (_, counterpart) = counterpart.split_once(' ').unwrap();
        let is_instant = name.trim_end_matches('?').ends_with("_at")
            || [
                "dead_since",
                "unlisted_since",
                ".since",
                ".until",
                ".at",
                ".generation",
                "life_from",
                "lease_until",
                "deferred_until",
                "acknowledged_until",
                "failing_since",
                "refused_since",
                "candidate_since",
                ".hour",
                "not_before",
                "old_valid_until",
            ]
            .iter()
            .any(|end| name.trim_end_matches('?').ends_with(end));
        let allowed: &[&str] = match kind {
            "text" if is_instant => &["timestamp with time zone"],
            "text" => &["text"],
            "blob" => &["uuid"],
            "integer" => &["bigint", "boolean"],
            _ => &[],
        };
        assert!(
            allowed.contains(&counterpart),
            "{column} is {counterpart} on PostgreSQL"
        );
    }
}

#[tokio::test]
async fn keys_have_byte_order_on_postgres() {
    let (_store, fresh) = Db::Postgres.store().await;
    let other = fresh
        .texts(
            "SELECT table_name || '.' || column_name FROM information_schema.columns
             WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'
               AND table_name NOT IN ('_sqlx_migrations', 'ledger')
               AND (column_name LIKE '%\\_key' OR column_name IN ('key', 'external_id', 'source', 'directory')
                    OR (column_name = 'name' AND table_name IN ('source', 'directory', 'lease')))",
        )
        .await;
    assert!(other.is_empty(), "{other:?}");
}

#[rstest]
#[tokio::test]
async fn a_store_of_a_newer_version_is_refused(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(Access::Create, Access::Migrate, Access::ReadOnly)] access: Access,
) {
    let (store, fresh) = db.store().await;
    store.close().await;
    let known = *versions(db).last().unwrap();
    add_migration(&fresh, known + 7).await;
    let error = Store::open(&fresh.url, access).await.unwrap_err();
    assert!(matches!(error, Error::Newer { .. }), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        format!(
            "the store has schema version {}, this program knows {known}: it was used by a newer lapsed; run that \
             version, or restore a backup made before the upgrade",
            known + 7
        )
    );
}

/// As if a newer version of lapsed had run a migration of its own.
async fn add_migration(fresh: &Fresh, version: i64) {
    let checksum = match fresh.db {
        Sqlite => "x'00'",
        Postgres => "'\\x00'",
    };
    let newer = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ({version}, 'later', TRUE, {checksum}, 0)"
    );
    fresh.execute(&newer).await.unwrap();
}

async fn set_schema_min(fresh: &Fresh, version: i64) {
    let sql = format!(
        "DELETE FROM meta WHERE key = 'schema_min'; INSERT INTO meta (key, value) VALUES ('schema_min', '{version}')"
    );
    fresh.execute(&sql).await.unwrap();
}

/// A newer version adds columns and a table, and lets this one go on.
async fn expand(fresh: &Fresh) -> i64 {
    let known = *versions(fresh.db).last().unwrap();
    let number = if fresh.db == Sqlite {
        "INTEGER"
    } else {
        "SMALLINT"
    };
    for table in TABLES {
        let sql = format!(
            "ALTER TABLE {table} ADD COLUMN added_text TEXT;
             ALTER TABLE {table} ADD COLUMN added_number {number} NOT NULL DEFAULT 0"
        );
        fresh.execute(&sql).await.unwrap();
    }
    let added =
        "CREATE TABLE added (id INTEGER NOT NULL PRIMARY KEY); INSERT INTO added VALUES (1)";
    fresh.execute(added).await.unwrap();
    add_migration(fresh, known + 1).await;
    set_schema_min(fresh, known).await;
    known + 1
}

#[rstest]
#[tokio::test]
async fn a_newer_store_is_used_if_it_allows_that(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(Access::Create, Access::Migrate, Access::ReadOnly)] access: Access,
) {
    let fresh = db.empty();
    for version in versions(db) {
        fresh.migrate_to(version).await;
        fresh.execute(&sample(db, version)).await.unwrap();
    }
    let newer = expand(&fresh).await;
    let (store, versions) = Store::open_versioned(&fresh.url, access).await.unwrap();
    assert_eq!((versions.before, versions.now), (newer, newer));
    assert!(versions.is_newer());
    assert!(
        !store
            .begin_read()
            .await
            .unwrap()
            .list_sources()
            .await
            .unwrap()
            .is_empty()
    );
    let scratch = tempfile::tempdir().unwrap();
    let copy = store.copy_to_scratch(scratch.path()).await.unwrap();
    copy.close().await;
    let copy = Fresh::in_file(&scratch.path().join("scratch.db"));
    for table in TABLES
        .into_iter()
        .filter(|table| !["lease", "meta", "idempotency", "sign_in_link"].contains(table))
    {
        let sql = format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}");
        assert_eq!(copy.texts(&sql).await, fresh.texts(&sql).await, "{table}");
    }
    store.close().await;
    let applied = "SELECT CAST(MAX(version) AS TEXT) FROM _sqlx_migrations";
    assert_eq!(
        fresh.texts(applied).await,
        [newer.to_string()],
        "it was not migrated"
    );
}

#[rstest]
#[tokio::test]
async fn a_running_program_notices_that_it_may_no_longer_use_the_store(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    store.check_usable().await.unwrap();
    let newer = expand(&fresh).await;
    store.check_usable().await.unwrap();
    set_schema_min(&fresh, newer).await;
    let error = store.check_usable().await.unwrap_err();
    assert!(matches!(error, Error::Newer { .. }), "{error:?}");
    let mut tx = store.begin_read().await.unwrap();
    assert!(matches!(tx.check_usable().await, Err(Error::Newer { .. })));
    drop(tx);
    store.close().await;
    for access in [Access::Create, Access::ReadOnly] {
        let error = Store::open(&fresh.url, access).await.unwrap_err();
        assert!(matches!(error, Error::Newer { .. }), "{error:?}");
    }
}

#[rstest]
#[tokio::test]
async fn what_must_know_every_table_is_refused_on_a_newer_store(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    expand(&fresh).await;
    let error = Store::open(&fresh.url, Access::Move).await.unwrap_err();
    assert!(matches!(error, Error::Newer { .. }), "{error:?}");
    let mut tx = store.begin().await.unwrap();
    let person = "ada@example.org".parse().unwrap();
    let refusals = [
        tx.erase_person(&person, "erased").await.map(drop),
        tx.rename_source("old", "new").await,
        tx.delete_source("old").await,
    ];
    for refused in refusals {
        assert!(matches!(refused, Err(Error::Newer { .. })), "{refused:?}");
    }
    drop(tx);
    store.close().await;
}

/// Without it, programs of the version before would stop at the first migration, or go on after one that they cannot
/// work with.
#[test]
fn every_migration_after_the_first_sets_schema_min() {
    for db in [Sqlite, Postgres] {
        for migration in migrations(db).iter().skip(1) {
            let sql = migration.sql.as_str();
            assert!(
                sql.contains("'schema_min'"),
                "{} on {}",
                migration.version,
                db.name()
            );
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_store_of_an_earlier_build_is_refused_but_can_be_backed_up(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(Access::Create, Access::Migrate, Access::ReadOnly)] access: Access,
) {
    let (store, fresh) = db.store().await;
    store.close().await;
    let checksum = if db == Db::Sqlite { "x'00'" } else { "'\\x00'" };
    let earlier = format!("UPDATE _sqlx_migrations SET checksum = {checksum}");
    fresh.execute(&earlier).await.unwrap();
    let error = Store::open(&fresh.url, access).await.unwrap_err();
    assert!(matches!(error, Error::EarlierBuild), "{error:?}");
    assert!(!error.is_transient());
    fresh.open(Access::AsIs).await;
}

#[rstest]
#[tokio::test]
async fn an_old_store_is_upgraded_but_never_by_a_reader(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = db.empty();
    // No migration has run, but their table exists.
    fresh.migrate_to(0).await;
    for access in [Access::ReadOnly, Access::Migrate] {
        let error = Store::open(&fresh.url, access).await.unwrap_err();
        assert!(matches!(error, Error::Missing(_)), "{error:?}");
    }
    assert!(names(&fresh, "table").await.is_empty());
    let known = *versions(db).last().unwrap();
    for (before, access) in [(0, Access::Create), (known, Access::Migrate)] {
        let (store, versions) = Store::open_versioned(&fresh.url, access).await.unwrap();
        assert_eq!((versions.before, versions.now), (before, known));
        store.close().await;
    }
    fresh.open(Access::ReadOnly).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_migrations_all_succeed(#[values(Sqlite, Postgres)] db: Db) {
    for _ in 0..5 {
        let fresh = db.empty();
        let openers: Vec<_> = (0..4)
            .map(|_| {
                let url = fresh.url.clone();
                tokio::spawn(async move { Store::open(&url, Access::Create).await })
            })
            .collect();
        for opener in openers {
            let opened = tokio::time::timeout(Duration::from_mins(1), opener)
                .await
                .unwrap()
                .unwrap();
            let store = opened.unwrap();
            store
                .begin_read()
                .await
                .unwrap()
                .list_sources()
                .await
                .unwrap();
        }
        let applied = fresh
            .texts("SELECT description FROM _sqlx_migrations")
            .await;
        assert_eq!(applied.len(), versions(db).len());
    }
}

#[rstest]
#[tokio::test]
async fn a_failed_migration_is_reported_and_rolled_back(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = db.empty();
    fresh
        .execute("CREATE TABLE notice (other INTEGER)")
        .await
        .unwrap();
    let error = Store::open(&fresh.url, Access::Create).await.unwrap_err();
    assert!(matches!(error, Error::Migrate(_)), "{error:?}");
    assert_eq!(
        names(&fresh, "table").await,
        BTreeSet::from(["notice".to_owned()])
    );
}

#[rstest]
#[tokio::test]
async fn a_copy_for_a_dry_run_has_every_table(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = db.empty();
    for version in versions(db) {
        fresh.migrate_to(version).await;
        fresh.execute(&sample(db, version)).await.unwrap();
    }
    let known = TABLES.map(str::to_owned).into_iter().collect();
    assert_eq!(names(&fresh, "table").await, known);
    let store = fresh.open(Access::ReadOnly).await;
    let scratch = tempfile::tempdir().unwrap();
    let copy = store.copy_to_scratch(scratch.path()).await.unwrap();
    copy.close().await;
    store.close().await;
    let copy = Fresh::in_file(&scratch.path().join("scratch.db"));
    for table in TABLES {
        let sql = format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}");
        let expected = match table {
            "lease" | "idempotency" | "sign_in_link" => vec!["0".to_owned()],
            _ => fresh.texts(&sql).await,
        };
        assert_eq!(copy.texts(&sql).await, expected, "{table}");
    }
}

#[rstest]
#[tokio::test]
async fn a_moved_store_has_every_row(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = db.empty();
    for version in versions(db) {
        fresh.migrate_to(version).await;
        fresh.execute(&sample(db, version)).await.unwrap();
    }
    let in_flight = "UPDATE mail SET state = 'sending'";
    let waiting = "UPDATE mail SET state = 'waiting'";
    let (to, target) = match db {
        Sqlite => Postgres,
        Postgres => Sqlite,
    }
    .store()
    .await;
    let store = fresh.open(Access::Move).await;
    let mut rows = 0;
    let mut on_rows = |count| rows += count;
    fresh.execute(in_flight).await.unwrap();
    let error = store.move_to(&to, &mut on_rows).await.unwrap_err();
    assert_contains!(error.to_string(), "mails are being sent");
    fresh.execute(waiting).await.unwrap();
    store.move_to(&to, &mut on_rows).await.unwrap();
    let error = store.move_to(&to, &mut on_rows).await.unwrap_err();
    assert_contains!(error.to_string(), "not empty");
    let mut expected_rows = 0;
    for table in TABLES {
        let sql = format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}");
        let mut expected: u64 = fresh.texts(&sql).await[0].parse().unwrap();
        if table == "meta" {
            // Where it was moved to.
            expected -= 1;
        }
        if matches!(table, "idempotency" | "sign_in_link") {
            expected = 0;
        }
        expected_rows += expected;
        if matches!(table, "lease" | "replica") {
            expected = 0;
        }
        assert_eq!(target.texts(&sql).await, [expected.to_string()], "{table}");
    }
    assert_eq!(rows, expected_rows);
    to.check_usable().await.unwrap();
    let mut tx = to.begin().await.unwrap();
    let last = tx.last_change_id().await.unwrap();
    tx.record_change(&Change::Everything).await.unwrap();
    assert_eq!(tx.last_change_id().await.unwrap(), last + 1);
    tx.commit().await.unwrap();
    assert!(matches!(store.check_usable().await, Err(Error::Moved(_))));
    store.close().await;
    to.close().await;
}
