//! Opening a store that is not as it should be, and copying one aside.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use lapsed::store::{Access, Error, Store, TokenFilter};
use rstest::rstest;

use super::{insert, now, plan, read, token, warning, write};
use crate::db::{Db, sqlite_url};

/// An error with its causes, as people see it.
fn said(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

async fn refused(url: &str, access: Access) -> Error {
    match Store::open(url, access).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    }
}

const ALL: [Access; 3] = [Access::Create, Access::Migrate, Access::ReadOnly];

#[tokio::test]
async fn another_url_is_refused_without_its_password() {
    let error = refused("mysql://root:secret@localhost/x", Access::Create).await;
    assert_eq!(
        said(&error),
        "store.url \"mysql\" is neither sqlite: nor postgres:"
    );
}

#[tokio::test]
async fn a_missing_store_is_not_made_unless_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lapsed.db");
    for access in [Access::Migrate, Access::ReadOnly] {
        let error = refused(&sqlite_url(&file), access).await;
        assert!(matches!(&error, Error::Missing(_)), "{error:?}");
        assert!(said(&error).contains("lapsed migrate"), "{}", said(&error));
        assert!(!error.is_transient());
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "no trace is left"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_may_answer_later_and_its_password_is_not_told() {
    // Port 9 discards, and nobody listens there.
    let error = refused(
        "postgres://lapsed:secret@127.0.0.1:9/lapsed",
        Access::Create,
    )
    .await;
    assert!(error.is_transient(), "{error:?}");
    assert!(!format!("{error:?} {}", said(&error)).contains("secret"));
    assert!(
        said(&error).starts_with("cannot open the store at postgres://127.0.0.1/lapsed: "),
        "{}",
        said(&error)
    );
}

#[rstest]
#[tokio::test]
async fn an_empty_database_is_filled_only_by_those_who_may_make_one(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let fresh = db.empty().await;
    if db == Db::Sqlite {
        std::fs::write(fresh.folder().join("lapsed.db"), b"").unwrap();
    }
    for access in [Access::ReadOnly, Access::Migrate] {
        let error = refused(&fresh.url, access).await;
        assert!(matches!(error, Error::Missing(_)), "{error:?}");
        assert!(said(&error).contains("lapsed migrate"));
    }
    let store = fresh.open(Access::Create).await;
    assert!(read!(store, tx => tx.sources()).is_empty());
}

#[rstest]
#[tokio::test]
async fn a_store_opened_for_reading_is_read_and_not_written(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
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
        read!(store, tx => tx.tokens_of("exports", None, 10)).len(),
        1
    );
    let mut tx = store.read().await.unwrap();
    tx.put_meta("k", "v").await.unwrap_err();
    drop(tx);
    store.close().await;
    assert_eq!(names(fresh.folder()), before, "no trace is left");
}

#[tokio::test]
async fn a_reader_runs_beside_a_daemon_and_sees_what_it_wrote() {
    let (daemon, fresh) = Db::Sqlite.store().await;
    insert(&daemon, &[token("1")]).await;
    let reader = fresh.open(Access::ReadOnly).await;
    assert_eq!(
        read!(reader, tx => tx.tokens_of("exports", None, 10)).len(),
        1
    );
    let mut writing = daemon.begin().await.unwrap();
    writing.insert_tokens(&[token("2")]).await.unwrap();
    assert_eq!(
        read!(reader, tx => tx.tokens_of("exports", None, 10)).len(),
        1
    );
    writing.commit().await.unwrap();
    assert_eq!(
        read!(reader, tx => tx.tokens_of("exports", None, 10)).len(),
        2
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lapsed.db");
    let text = "external_id,name,issuer_email,expires_at\n".repeat(300);
    std::fs::write(&file, &text).unwrap();
    for access in ALL {
        let error = refused(&sqlite_url(&file), access).await;
        assert!(
            said(&error).contains("file is not a database"),
            "{access:?}: {}",
            said(&error)
        );
        assert!(
            said(&error).starts_with("cannot open the store at "),
            "{access:?}: {}",
            said(&error)
        );
        assert!(!error.is_transient());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_store_whose_pages_are_damaged_is_an_error_and_no_panic() {
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
    let mut tx = store.read().await.unwrap();
    let error = tx.tokens_of("exports", None, 5000).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    assert!(said(&error).contains("malformed"), "{}", said(&error));
}

#[rstest]
#[case::a_folder("")]
#[case::below_a_file("file/lapsed.db")]
#[case::in_a_folder_that_is_not_there("no/lapsed.db")]
#[tokio::test]
async fn a_place_where_no_file_can_be_is_named(#[case] place: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"x").unwrap();
    let place = folder.path().join(place);
    let error = refused(&sqlite_url(&place), Access::Create).await;
    let named = place.display().to_string();
    assert!(
        said(&error).contains(named.trim_end_matches('/')),
        "{}",
        said(&error)
    );
    assert!(
        said(&error).contains("unable to open database file"),
        "{}",
        said(&error)
    );
}

/// Not even root may make a file below /proc.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_place_without_permission_is_named() {
    let error = refused("sqlite:///proc/lapsed.db", Access::Create).await;
    assert!(
        said(&error).starts_with("cannot open the store at /proc/lapsed.db: "),
        "{}",
        said(&error)
    );
}

#[tokio::test]
async fn a_backup_made_while_others_write_is_whole() {
    let (store, fresh) = Db::Sqlite.store().await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let writing = store.clone();
    let writer = tokio::spawn(async move {
        let mut count = 0_u32;
        while !*stopped.borrow_and_update() {
            let token = token(&count.to_string());
            let mut tx = writing.begin().await.unwrap();
            // Both or neither.
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
        // A copy can be gone on with.
        opened.close().await;
        let opened = Store::open(&sqlite_url(&copy), Access::Create)
            .await
            .unwrap();
        write!(opened, tx => tx.put_meta("k", "v"));
    }
    stop.send(true).unwrap();
    let count = writer.await.unwrap();
    assert!(
        count > 0 && sizes.is_sorted(),
        "{count} written, copies of {sizes:?}"
    );
}

#[tokio::test]
async fn a_backup_never_writes_over_a_file() {
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
async fn a_store_opened_for_reading_can_be_copied() {
    let (daemon, fresh) = Db::Sqlite.store().await;
    insert(&daemon, &[token("1")]).await;
    let reader = fresh.open(Access::ReadOnly).await;
    let copy = fresh.folder().join("copy.db");
    reader.backup(&copy).await.unwrap();
    let opened = Store::open(&sqlite_url(&copy), Access::ReadOnly)
        .await
        .unwrap();
    assert_eq!(
        read!(opened, tx => tx.tokens_of("exports", None, 10)).len(),
        1
    );
}

#[tokio::test]
async fn a_backup_of_postgres_is_left_to_its_own_tools() {
    let (store, fresh) = Db::Postgres.store().await;
    let copy = fresh.folder().join("copy.db");
    let error = store.backup(&copy).await.unwrap_err();
    assert!(said(&error).contains("pg_dump"));
    assert!(!copy.exists());
}
