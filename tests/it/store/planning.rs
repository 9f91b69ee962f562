//! Planning by the engine: which mail each notice is in after a sweep.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::{Address, Expiry, Policy, Token};
use lapsed::engine::{Engine, ImportMode, ImportTarget, Report, SweepOptions, import};
use lapsed::sources::file::{Input, ReadCallbacks, ReadOptions, read_files};
use lapsed::store::{ClaimedMail, NoticeRow, Store};
use rstest::rstest;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    address, days, fresh_id, holder, insert, ledger, max_instant, minutes, now, plan, read, step,
    token, warning, write,
};
use crate::db::Db;
use crate::world;
use Db::{Postgres, Sqlite};

/// An engine with the single step 7d and one admin; these tests only plan with it.
fn engine(store: &Store, folder: &Path, max_per_sweep: u64) -> Engine {
    let mut engine = world::engine(store, &folder.join("outbox"));
    engine.clock = Clock::manual(now());
    engine.policy = Policy {
        steps: vec![step("7d")],
        merge_ahead: TimeDelta::hours(1),
        admins: vec![address("ops@example.org")],
        max_per_sweep,
        ..engine.policy
    };
    engine
}

async fn sweep(engine: &Engine) -> Report {
    let stop = CancellationToken::new();
    let report = engine.prepare(&SweepOptions::default(), &stop).await;
    assert_eq!(report.errors, Vec::<String>::new());
    report
}

/// A token of `issuer` whose warning is due at `send_at`; `due_at` sets its place in the due order.
fn owed_token(name: &str, issuer: &str, send_at: DateTime<Utc>, due_at: DateTime<Utc>) -> Token {
    Token {
        issuer: Some(address(issuer)),
        expiry: Expiry::At(send_at + TimeDelta::days(7)),
        due_at: Some(due_at),
        ..token(name)
    }
}

async fn claim(store: &Store) -> Vec<ClaimedMail> {
    let holder = holder(minutes(10));
    write!(store, tx => tx.claim_mails(holder, minutes(5), days(30), 100))
}

async fn notices_to(store: &Store, to: &str) -> Vec<NoticeRow> {
    let mut rows = ledger(store).await;
    rows.retain(|row| row.recipient.as_str() == to);
    rows
}

fn mails_of(rows: &[NoticeRow]) -> Vec<Option<Uuid>> {
    rows.iter().map(|row| row.mail_id).collect()
}

#[rstest]
#[case::due_first(-120, -60)]
#[case::soon_first(-60, -120)]
#[tokio::test]
async fn notices_due_soon_are_merged_across_pages(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] due: i64,
    #[case] soon: i64,
) {
    let (store, fresh) = db.store().await;
    let mut tokens: Vec<Token> = (0..1000)
        .map(|nth| owed_token(&format!("{nth}"), "crowd@example.org", now(), minutes(-90)))
        .collect();
    tokens.extend([
        owed_token("due", "ada@example.org", now(), minutes(due)),
        owed_token("soon", "ada@example.org", minutes(30), minutes(soon)),
        owed_token("alone", "bob@example.org", minutes(30), minutes(soon)),
    ]);
    insert(&store, &tokens).await;
    // Left by an earlier sweep, to go with the next mail.
    let attached = warning(&token("0"), "1d", "ada@example.org", max_instant());
    plan(&store, &[attached]).await;
    let engine = Engine {
        policy: Policy {
            admins: Vec::new(),
            ..engine(&store, fresh.folder(), 0).policy
        },
        ..engine(&store, fresh.folder(), 0)
    };
    write!(store, tx => tx.set_setting("plan.policy", &engine.policy.fingerprint()));
    assert_eq!(sweep(&engine).await.notices_planned, 1003);
    let to_ada = mails_of(&notices_to(&store, "ada@example.org").await);
    assert!(to_ada[0].is_some());
    assert_eq!(to_ada, [to_ada[0]; 3]);
    let to_bob = mails_of(&notices_to(&store, "bob@example.org").await);
    assert_eq!(to_bob, [None], "nothing is due to bob");
    assert_eq!(claim(&store).await.len(), 2, "one mail per person");
}

#[rstest]
#[tokio::test]
async fn too_many_mails_are_held_and_earlier_ones_are_sent(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let tokens = [
        owed_token("1", "ada@example.org", now(), now()),
        owed_token("2", "bob@example.org", now(), now()),
    ];
    insert(&store, &tokens).await;
    // One is in an unclaimed mail, one in no mail yet.
    let old = ["3", "4"].map(|name| warning(&token(name), "7d", "ada@example.org", now()));
    plan(&store, &old[..1]).await;
    super::fill_mails(&store, now()).await;
    plan(&store, &old[1..]).await;
    let report = sweep(&engine(&store, fresh.folder(), 2)).await;
    assert_eq!(report.mails_held, 3, "ada, bob and the admin");
    let to_ada = notices_to(&store, "ada@example.org").await;
    let held = |row: &&NoticeRow| row.held;
    assert_eq!(to_ada.iter().filter(held).count(), 1);
    for row in &to_ada {
        assert_eq!(row.mail_id.is_some(), !held(&row), "{row:?}");
    }
    let claimed = claim(&store).await;
    let mut to: Vec<Address> = claimed.iter().map(|mail| mail.recipient.clone()).collect();
    to.sort();
    let expected = ["ada@example.org", "ops@example.org"].map(address);
    assert_eq!(to, expected, "the earlier notices, and the alert");
    let ada = claimed.iter().find(|mail| mail.recipient == expected[0]);
    let notices = read!(store, tx => tx.load_mail_notices(ada.unwrap().id, Uuid::nil(), 10));
    assert_eq!(notices.len(), 2);
    assert_eq!(write!(store, tx => tx.settle_held_plans(false)), 4);
    sweep(&engine(&store, fresh.folder(), 2)).await;
    assert_eq!(claim(&store).await.len(), 3, "released, it is sent");
}

#[rstest]
#[tokio::test]
async fn mails_of_an_open_plan_wait_until_a_later_sweep_closes_it(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let notice = warning(&token("1"), "7d", "ada@example.org", now());
    let tokens = [owed_token("2", "ada@example.org", now(), now())];
    insert(&store, &tokens).await;
    // As left by a sweep that died after its first page.
    let mut tx = store.begin().await.unwrap();
    let plan = tx.open_plan(fresh_id(), now()).await.unwrap();
    let mails = [(fresh_id(), address("ada@example.org"))];
    let open = tx.open_mails(&mails, Some(plan), now()).await.unwrap();
    let into = [Some(open[0].id)];
    tx.insert_notices_into_mails(&[notice], &into, Some(plan), now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(claim(&store).await.is_empty(), "the plan may yet be held");
    sweep(&engine(&store, fresh.folder(), 9)).await;
    let claimed = claim(&store).await;
    assert_eq!(claimed.len(), 2, "ada and the admin");
    let notices = read!(store, tx => tx.load_mail_notices(open[0].id, Uuid::nil(), 10));
    assert_eq!(notices.len(), 2, "those of both sweeps");
    assert_eq!(read!(store, tx => tx.find_unfinished_plan()), None);
}

#[rstest]
#[tokio::test]
async fn a_plan_without_new_notices_leaves_no_mail(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let token = owed_token("1", "ada@example.org", now(), now());
    insert(&store, std::slice::from_ref(&token)).await;
    let engine = engine(&store, fresh.folder(), 0);
    assert_eq!(sweep(&engine).await.notices_planned, 2);
    assert_eq!(claim(&store).await.len(), 2);
    // As after a clock that jumped and came back: planned again, but the notices exist.
    write!(store, tx => tx.reschedule_tokens(&[(token.id, Some(now()), None)]));
    assert_eq!(sweep(&engine).await.notices_planned, 0);
    assert_eq!(fresh.texts("SELECT 'mail' FROM mail").await.len(), 2);
}

#[rstest]
#[tokio::test]
async fn the_first_import_records_the_policy_that_set_due_at(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let engine = engine(&store, fresh.folder(), 0);
    let other = Policy {
        steps: vec![step("30d")],
        ..engine.policy.clone()
    };
    for (policy, name) in [(&engine.policy, "1"), (&other, "2")] {
        let expires = days(90).to_rfc3339();
        let file = fresh.folder().join("tokens.csv");
        let rows = format!("external_id,name,issuer_email,expires_at\n{name},,,{expires}\n");
        std::fs::write(&file, rows).unwrap();
        let listing = read_files(
            &[Input::Path(file)],
            &ReadOptions::default(),
            &mut ReadCallbacks::default(),
        )
        .unwrap();
        let into = ImportTarget {
            store: &store,
            policy,
            clock: &engine.clock,
            source: "local",
            mode: ImportMode::Write,
        };
        let counts = import(into, listing, |_| ()).await.unwrap();
        assert_eq!(counts.new, 1);
        assert_eq!(
            read!(store, tx => tx.find_setting("plan.policy")),
            Some(engine.policy.fingerprint()),
            "the second import finds tokens that are due by the first policy"
        );
    }
}
