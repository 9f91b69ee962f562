use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cli::exit::report;
use crate::cli::{backup, directory, migrate, release};
use crate::store::{DirectoryRow, HoldVerdict};

#[tokio::test]
async fn a_held_plan_is_released_or_discarded_once() {
    for (discard, state) in [(false, "planned"), (true, "suppressed")] {
        for world in World::all().await {
            let one = token("s", "one", Some(days(7)));
            world.insert(std::slice::from_ref(&one)).await;
            let nothing = release::settle(&world.store, discard, now()).await.unwrap();
            assert!(nothing.starts_with("nothing is held"), "{nothing}");
            let mut tx = world.store.begin().await.unwrap();
            let plan = tx.open_plan(Uuid::from_u128(9), now()).await.unwrap();
            let occurrence = Occurrence {
                topic: Topic::Expiry,
                generation: days(7),
                step: Some("7d".parse().unwrap()),
            };
            let to = Recipient {
                address: "ada@example.org".parse().unwrap(),
                ground: Ground::Issuer,
            };
            tx.insert_notices(
                &[NewNotice::about(&one, occurrence, &to, now())],
                Some(plan),
                now(),
            )
            .await
            .unwrap();
            tx.close_plan(plan, 1, true).await.unwrap();
            tx.commit().await.unwrap();

            let said = release::settle(&world.store, discard, now()).await.unwrap();
            assert!(said.contains("1 notice"), "{said}");
            let mut tx = world.store.read().await.unwrap();
            let notices = tx.notices_about(&[one.id]).await.unwrap();
            assert_eq!(notices[0].state, state);
            drop(tx);
            let again = release::settle(&world.store, discard, now()).await.unwrap();
            assert!(again.starts_with("nothing is held"), "{again}");
        }
    }
}

#[tokio::test]
async fn only_a_directory_that_is_held_is_released_and_a_sync_under_way_keeps_that() {
    for world in World::all().await {
        let quiet = DirectoryRow {
            name: "hr".into(),
            kind: "file".into(),
            ..DirectoryRow::default()
        };
        let held = DirectoryRow {
            held: Some("9 of 10 people known active would lose their access at once".into()),
            held_turns: Some("f".into()),
            ..quiet.clone()
        };
        let put = async |row: &DirectoryRow| {
            let mut tx = world.store.begin().await.unwrap();
            tx.put_directory(row).await.unwrap();
            let now = tx.directory("hr").await.unwrap().unwrap();
            tx.commit().await.unwrap();
            now
        };
        let settle = async |verdict| {
            directory::settle(&world.store, ("hr", Vec::new()), verdict, now()).await
        };
        let unknown = settle(HoldVerdict::Released).await.unwrap_err();
        assert!(unknown.to_string().contains("there is no directory \"hr\""));
        let known = vec!["hr".to_owned()];
        let said = directory::settle(&world.store, ("hr", known), HoldVerdict::Released, now());
        assert!(said.await.unwrap().contains("was never read"));
        put(&quiet).await;
        let said = settle(HoldVerdict::Rejected).await.unwrap();
        assert!(said.contains("holds nothing"), "{said}");
        put(&held).await;
        let said = settle(HoldVerdict::Rejected).await.unwrap();
        assert!(said.contains("no token of theirs is flagged"), "{said}");
        assert_eq!(put(&held).await.verdict.as_deref(), Some("rejected"));
        let said = settle(HoldVerdict::Rejected).await.unwrap();
        assert!(said.contains("was rejected before"), "{said}");
        let said = settle(HoldVerdict::Released).await.unwrap();
        assert!(said.contains("flags the tokens"), "{said}");
        assert_eq!(
            put(&held).await.verdict.as_deref(),
            Some("released"),
            "a sync that began before writes what it read"
        );
        let mut tx = world.store.read().await.unwrap();
        let actions: Vec<_> = tx.list_audit(None, 9).await.unwrap();
        let mut actions: Vec<_> = actions.iter().map(|entry| entry.action.as_str()).collect();
        actions.sort_unstable();
        assert_eq!(actions, ["directory.reject", "directory.release"]);
        drop(tx);
        let other = DirectoryRow {
            held_turns: Some("g".into()),
            ..held
        };
        assert!(
            put(&other).await.verdict.is_none(),
            "another listing was not released"
        );
        assert!(put(&quiet).await.verdict.is_none());
    }
}

#[tokio::test]
async fn migrating_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    let created = migrate::bring_up_to_date(&url).await.unwrap();
    assert!(
        created.starts_with("created the store with schema version "),
        "{created}"
    );
    let again = migrate::bring_up_to_date(&url).await.unwrap();
    assert!(
        again.starts_with("the store is up to date: schema version "),
        "{again}"
    );
}

#[tokio::test]
async fn a_copy_is_private_whole_and_overwrites_nothing() {
    let world = World::sqlite().await;
    world.insert(&[token("s", "one", None)]).await;
    let writing = world.store.begin().await.unwrap();
    let file = world.folder.path().join("a copy.db");
    backup::copy(&world.store, &file).await.unwrap();
    drop(writing);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let copy = Store::open(&format!("sqlite://{}", file.display()), Access::ReadOnly)
        .await
        .unwrap();
    let mut tx = copy.read().await.unwrap();
    assert_eq!(
        tx.tokens_matching(&TokenId::of("s", "one").0.simple().to_string(), 2)
            .await
            .unwrap()
            .len(),
        1
    );

    let before = std::fs::read(&file).unwrap();
    for (file, expected) in [
        (file.clone(), "never overwrites"),
        (world.folder.path().join("no/copy.db"), "make the folder"),
    ] {
        let error = backup::copy(&world.store, &file).await.unwrap_err();
        let mut said = Vec::new();
        report(&error, &mut said);
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
}
