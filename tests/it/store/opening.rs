//! Opening a store that is missing, damaged or foreign, and backing one up.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use lapsed::store::{Access, Error, Store, TokenFilter};
use rstest::rstest;

use super::{insert, now, plan, read, token, warning, write};
use crate::db::{Db, sqlite_url};
use Db::{Postgres, Sqlite};

/// An error with its causes, as shown to people.
pub fn full_message(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

async fn open_error(url: &str, access: Access) -> Error {
    match Store::open(url, access).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

const ALL: [Access; 3] = [Access::Create, Access::Migrate, Access::ReadOnly];

#[tokio::test]
async fn another_scheme_is_refused_without_showing_the_password() {
    let error = open_error("mysql://root:secret@localhost/x", Access::Create).await;
    let expected = "store.url \"mysql\" is neither sqlite: nor postgres:";
    assert_eq!(full_message(&error), expected);
}

#[tokio::test]
async fn a_missing_store_is_created_only_if_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lapsed.db");
    for access in [Access::Migrate, Access::ReadOnly] {
        let error = open_error(&sqlite_url(&file), access).await;
        assert!(matches!(&error, Error::Missing(_)), "{error:?}");
        assert_contains!(full_message(&error), "lapsed migrate");
        assert!(!error.is_transient());
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no file is left"
    );
}

#[tokio::test]
async fn an_unreachable_server_is_transient_and_its_password_is_not_shown() {
    // Port 9 (discard) is closed.
    let error = open_error(
        "postgres://lapsed:secret@127.0.0.1:9/lapsed",
        Access::Create,
    )
    .await;
    assert!(error.is_transient(), "{error:?}");
    assert!(!format!("{error:?} {}", full_message(&error)).contains("secret"));
    assert!(
        full_message(&error)
            .starts_with("cannot open the store at postgres://127.0.0.1:9/lapsed: "),
        "{}",
        full_message(&error)
    );
}

#[rstest]
#[tokio::test]
async fn an_empty_database_is_initialised_only_if_allowed(#[values(Sqlite, Postgres)] db: Db) {
    let fresh = db.empty();
    if db == Db::Sqlite {
        std::fs::write(fresh.folder().join("lapsed.db"), b"").unwrap();
    }
    for access in [Access::ReadOnly, Access::Migrate] {
        let error = open_error(&fresh.url, access).await;
        assert!(matches!(error, Error::Missing(_)), "{error:?}");
        assert_contains!(full_message(&error), "lapsed migrate");
    }
    let store = fresh.open(Access::Create).await;
    assert!(read!(store, tx => tx.list_sources()).is_empty());
}

#[rstest]
#[tokio::test]
async fn a_read_only_store_cannot_be_written(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    insert(&store, &[token("1")]).await;
    store.close().await;
    let names = |folder: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = names(fresh.folder());
    let store = fresh.open(Access::ReadOnly).await;
    assert_eq!(
        read!(store, tx => tx.load_tokens_of_source("exports", None, 10)).len(),
        1
    );
    let mut tx = store.begin_read().await.unwrap();
    tx.set_setting("k", "v").await.unwrap_err();
    drop(tx);
    store.close().await;
    assert_eq!(names(fresh.folder()), before, "no file is left");
}

#[tokio::test]
async fn a_reader_beside_a_daemon_sees_committed_writes() {
    let (daemon, fresh) = Db::Sqlite.store().await;
    insert(&daemon, &[token("1")]).await;
    let reader = fresh.open(Access::ReadOnly).await;
    assert_eq!(
        read!(reader, tx => tx.load_tokens_of_source("exports", None, 10)).len(),
        1
    );
    let mut writing = daemon.begin().await.unwrap();
    writing.insert_tokens(&[token("2")]).await.unwrap();
    assert_eq!(
        read!(reader, tx => tx.load_tokens_of_source("exports", None, 10)).len(),
        1
    );
    writing.commit().await.unwrap();
    assert_eq!(
        read!(reader, tx => tx.load_tokens_of_source("exports", None, 10)).len(),
        2
    );
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lapsed.db");
    let text = "external_id,name,issuer_email,expires_at\n".repeat(300);
    std::fs::write(&file, &text).unwrap();
    for access in ALL {
        let error = open_error(&sqlite_url(&file), access).await;
        assert!(
            full_message(&error).contains("file is not a database"),
            "{access:?}: {}",
            full_message(&error)
        );
        assert!(
            full_message(&error).starts_with("cannot open the store at "),
            "{access:?}: {}",
            full_message(&error)
        );
        assert!(!error.is_transient());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_store_with_damaged_pages_is_an_error_not_a_panic() {
    let (store, fresh) = Db::Sqlite.store().await;
    let tokens: Vec<_> = (0..2000).map(|nth| token(&nth.to_string())).collect();
    insert(&store, &tokens).await;
    store.close().await;
    let file = fresh.folder().join("lapsed.db");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in &mut bytes[4096 * 20..] {
        *byte = 0xa5;
    }
    std::fs::write(&file, bytes).unwrap();
    let Ok(store) = Store::open(&fresh.url, Access::Create).await else {
        return;
    };
    let mut tx = store.begin_read().await.unwrap();
    let error = tx
        .load_tokens_of_source("exports", None, 5000)
        .await
        .unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    assert_contains!(full_message(&error), "malformed");
}

#[rstest]
#[case::a_folder("", "is a folder")]
#[case::below_a_file("file/lapsed.db", "file is not a folder")]
#[case::in_a_missing_folder("no/lapsed.db", "no does not exist")]
#[tokio::test]
async fn an_impossible_path_is_named(#[case] place: &str, #[case] reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"x").unwrap();
    let place = folder.path().join(place);
    let error = open_error(&sqlite_url(&place), Access::Create).await;
    let named = place.display().to_string();
    assert_contains!(full_message(&error), named.trim_end_matches('/'));
    assert_contains!(full_message(&error), reason);
    assert!(!error.is_transient(), "waiting does not help");
}

/// Not even root can create a file below /proc.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_without_permission_is_named() {
    let error = open_error("sqlite:///proc/lapsed.db", Access::Create).await;
    assert!(
        full_message(&error).starts_with("cannot open the store at /proc/lapsed.db: "),
        "{}",
        full_message(&error)
    );
}

#[tokio::test]
async fn a_backup_made_during_writes_is_consistent() {
    let (store, fresh) = Db::Sqlite.store().await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let writing = store.clone();
    let writer = tokio::spawn(async move {
        let mut count = 0_u32;
        while !*stopped.borrow_and_update() {
            let token = token(&count.to_string());
            let mut tx = writing.begin().await.unwrap();
            // In one transaction: both or neither.
            tx.insert_tokens(std::slice::from_ref(&token))
                .await
                .unwrap();
            let notice = warning(&token, "7d", "ada@example.org", now());
            tx.insert_notices(&[notice], None, now()).await.unwrap();
            tx.commit().await.unwrap();
            count += 1;
            tokio::task::yield_now().await;
        }
        count
    });
    let mut sizes = Vec::new();
    for nth in 0..5 {
        let copy = fresh.folder().join(format!("copy {nth}'s.db"));
        tokio::time::timeout(Duration::from_secs(30), store.backup(&copy))
            .await
            .unwrap()
            .unwrap();
        let opened = Store::open(&sqlite_url(&copy), Access::ReadOnly)
            .await
            .unwrap();
        let tokens =
            read!(opened, tx => tx.list_tokens(&TokenFilter::default(), None, now(), 1_000_000));
        let notices = super::ledger(&opened).await;
        assert_eq!(tokens.len(), notices.len(), "copy {nth}");
        sizes.push(tokens.len());
        // A copy can be used as a store.
        opened.close().await;
        let opened = Store::open(&sqlite_url(&copy), Access::Create)
            .await
            .unwrap();
        write!(opened, tx => tx.set_setting("k", "v"));
    }
    stop.send(true).unwrap();
    let count = writer.await.unwrap();
    assert!(
        count > 0 && sizes.is_sorted(),
        "{count} written, copies of {sizes:?}"
    );
}

#[tokio::test]
async fn a_backup_never_overwrites_a_file() {
    let (store, fresh) = Db::Sqlite.store().await;
    plan(&store, &[]).await;
    let copy = fresh.folder().join("copy.db");
    store.backup(&copy).await.unwrap();
    let before = std::fs::read(&copy).unwrap();
    store.backup(&copy).await.unwrap_err();
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    store
        .backup(&fresh.folder().join("no/copy.db"))
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_read_only_store_can_be_backed_up() {
    let (daemon, fresh) = Db::Sqlite.store().await;
    insert(&daemon, &[token("1")]).await;
    let reader = fresh.open(Access::ReadOnly).await;
    let copy = fresh.folder().join("copy.db");
    reader.backup(&copy).await.unwrap();
    let opened = Store::open(&sqlite_url(&copy), Access::ReadOnly)
        .await
        .unwrap();
    assert_eq!(
        read!(opened, tx => tx.load_tokens_of_source("exports", None, 10)).len(),
        1
    );
}

#[tokio::test]
async fn a_backup_of_postgres_refers_to_pg_dump() {
    let (store, fresh) = Db::Postgres.store().await;
    let copy = fresh.folder().join("copy.db");
    let error = store.backup(&copy).await.unwrap_err();
    assert_contains!(full_message(&error), "pg_dump");
    assert!(!copy.exists());
}

#[tokio::test]
async fn an_older_copy_over_the_file_is_noticed() {
    let fresh = Sqlite.empty();
    let file = fresh.folder().join("lapsed.db");
    let older = fresh.folder().join("older.db");
    fresh.open(Access::Create).await.close().await;
    std::fs::copy(&file, &older).unwrap();
    let store = fresh.open(Access::Create).await;
    store.check_file().unwrap();
    for _ in 0..2 {
        write!(store, tx => tx.count_generation());
        fresh
            .execute("PRAGMA wal_checkpoint(TRUNCATE)")
            .await
            .unwrap();
        store.check_file().unwrap();
    }
    std::fs::copy(&older, &file).unwrap();
    let error = store.check_file().unwrap_err();
    assert_contains!(full_message(&error), "overwritten by an older copy");
    store.leave_open();
}

#[tokio::test]
async fn a_backup_over_the_file_is_noticed_at_once() {
    let fresh = Sqlite.empty();
    let file = fresh.folder().join("lapsed.db");
    let backup = fresh.folder().join("backup.db");
    fresh.open(Access::Create).await.close().await;
    let store = fresh.open(Access::Create).await;
    store.backup(&backup).await.unwrap();
    store.check_file().unwrap();
    std::fs::copy(&backup, &file).unwrap();
    let error = store.check_file().unwrap_err();
    assert_contains!(full_message(&error), "overwritten by another file");
    store.leave_open();
}
