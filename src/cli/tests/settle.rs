use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::cli::exit::print_error;
use crate::cli::{directory, maintain, sweep};
use crate::store::{AuditFilter, Decision, DirectoryRow};

#[tokio::test]
async fn a_held_plan_is_released_or_discarded_once() {
    for (discard, state) in [(false, "planned"), (true, "suppressed")] {
        for world in World::all().await {
            let one = token("s", "one", Some(days(7)));
            world.insert(std::slice::from_ref(&one)).await;
            let nothing = sweep::settle_held_plans(&world.store, discard, now())
                .await
                .unwrap();
            assert!(nothing.starts_with("nothing is held"), "{nothing}");
            let mut tx = world.store.begin().await.unwrap();
            let plan = tx.open_plan(Uuid::from_u128(9), now()).await.unwrap();
            let occurrence = Occurrence {
                topic: Topic::Expiry,
                generation: days(7).into(),
                step: Some("7d".parse().unwrap()),
            };
            let to = Recipient {
                address: "ada@example.org".parse().unwrap(),
                basis: Basis::Issuer,
            };
            tx.insert_notices(
                &[NewNotice::for_token(&one, occurrence, &to, now())],
                Some(plan),
                now(),
            )
            .await
            .unwrap();
            tx.close_plan(plan, 1, true).await.unwrap();
            tx.commit().await.unwrap();

            let text = sweep::settle_held_plans(&world.store, discard, now())
                .await
                .unwrap();
            assert!(text.contains("1 notice"), "{text}");
            let mut tx = world.store.begin_read().await.unwrap();
            let notices = tx.list_notices_of_tokens(&[one.id]).await.unwrap();
            assert_eq!(notices[0].state.as_str(), state);
            drop(tx);
            let again = sweep::settle_held_plans(&world.store, discard, now())
                .await
                .unwrap();
            assert!(again.starts_with("nothing is held"), "{again}");
        }
    }
}

#[tokio::test]
async fn only_a_held_directory_is_released_and_a_running_sync_keeps_the_decision() {
    for world in World::all().await {
        let quiet = DirectoryRow {
            name: "hr".into(),
            kind: "file".into(),
            ..DirectoryRow::default()
        };
        let held = DirectoryRow {
            held: Some("9 of 10 active people would lose access at once".into()),
            held_changes: Some("f".into()),
            ..quiet.clone()
        };
        let put = async |row: &DirectoryRow| {
            let mut tx = world.store.begin().await.unwrap();
            tx.save_directory(row).await.unwrap();
            let now = tx.find_directory("hr").await.unwrap().unwrap();
            tx.commit().await.unwrap();
            now
        };
        let settle = async |decision| {
            directory::record_decision(&world.store, "hr", Vec::new(), decision, now()).await
        };
        let unknown = settle(Decision::Released).await.unwrap_err();
        assert!(unknown.to_string().contains("there is no directory \"hr\""));
        let known = vec!["hr".to_owned()];
        let text = directory::record_decision(&world.store, "hr", known, Decision::Released, now());
        assert!(text.await.unwrap().contains("was never synced"));
        put(&quiet).await;
        let text = settle(Decision::Rejected).await.unwrap();
        assert!(text.contains("holds no change"), "{text}");
        put(&held).await;
        let text = settle(Decision::Rejected).await.unwrap();
        assert!(text.contains("None of their tokens is flagged"), "{text}");
        assert_eq!(put(&held).await.decision.as_deref(), Some("rejected"));
        let text = settle(Decision::Rejected).await.unwrap();
        assert!(text.contains("was already rejected"), "{text}");
        let text = settle(Decision::Released).await.unwrap();
        assert!(text.contains("flags the tokens"), "{text}");
        assert_eq!(
            put(&held).await.decision.as_deref(),
            Some("released"),
            "a sync that started before writes its result"
        );
        let mut tx = world.store.begin_read().await.unwrap();
        let all = AuditFilter::default();
        let actions = tx.list_audit(&all, None, 9).await.unwrap();
        let mut actions: Vec<_> = actions.iter().map(|entry| entry.action.as_str()).collect();
        actions.sort_unstable();
        assert_eq!(actions, ["directory.reject", "directory.release"]);
        drop(tx);
        let other = DirectoryRow {
            held_changes: Some("g".into()),
            ..held
        };
        assert!(
            put(&other).await.decision.is_none(),
            "another listing was not released"
        );
        assert!(put(&quiet).await.decision.is_none());
    }
}

#[tokio::test]
async fn migrate_reports_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    let created = maintain::create_or_migrate(&url).await.unwrap();
    assert!(
        created.starts_with("created the store with schema version "),
        "{created}"
    );
    let again = maintain::create_or_migrate(&url).await.unwrap();
    assert!(
        again.starts_with("the store is up to date: schema version "),
        "{again}"
    );
}

#[tokio::test]
async fn a_backup_is_private_complete_and_overwrites_nothing() {
    let world = World::sqlite().await;
    world.insert(&[token("s", "one", None)]).await;
    let writing = world.store.begin().await.unwrap();
    let file = world.folder.path().join("a copy.db");
    maintain::copy_store(&world.store, &file).await.unwrap();
    drop(writing);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let copy = Store::open(&format!("sqlite://{}", file.display()), Access::ReadOnly)
        .await
        .unwrap();
    let mut tx = copy.begin_read().await.unwrap();
    assert_eq!(
        tx.find_tokens_by_prefix(&TokenId::new("s", "one").0.simple().to_string(), 2)
            .await
            .unwrap()
            .len(),
        1
    );

    let before = std::fs::read(&file).unwrap();
    for (file, expected) in [
        (file.clone(), "never overwrites"),
        (world.folder.path().join("no/copy.db"), "create the folder"),
    ] {
        let error = maintain::copy_store(&world.store, &file).await.unwrap_err();
        let mut text = Vec::new();
        print_error(&error, &mut text);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
}
