//! Planning by an engine: which mail a notice is in when the sweep is over.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::{Address, Expiry, Policy, Token};
use lapsed::engine::{Engine, Into, LastPurge, Mode, Report, SweepOptions, import, new_id};
use lapsed::sources::tokens::{self, Input, Watch};
use lapsed::store::{ClaimedMail, NoticeRow, Store};
use rstest::rstest;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    address, days, far, fresh_id, holder, insert, ledger, minutes, now, plan, read, step, token,
    warning, write,
};
use crate::db::Db;
use crate::parts;

/// An engine that plans for issuers alone, a week ahead, and never sends.
fn engine(store: &Store, folder: &Path, max_per_sweep: u64) -> Engine {
    Engine {
        store: store.clone(),
        clock: Clock::manual(now()),
        policy: Policy {
            steps: vec![step("7d")],
            merge_ahead: TimeDelta::hours(1),
            admins: vec![address("ops@example.org")],
            max_per_sweep,
            ..parts::policy()
        },
        settings: parts::settings(),
        post: parts::post(&folder.join("outbox")),
        sources: Vec::new(),
        directories: Vec::new(),
        issuers: lapsed::domain::Issuers::default(),
        holder: new_id(now()),
        last_purge: LastPurge::default(),
        on_progress: Box::new(|| ()),
    }
}

async fn sweep(engine: &Engine) -> Report {
    let stop = CancellationToken::new();
    let report = engine.prepare(&SweepOptions::default(), &stop).await;
    assert_eq!(report.errors, Vec::<String>::new());
    report
}

/// A token of `issuer` whose warning goes at `send_at`, due in this place of the order.
fn owed(name: &str, issuer: &str, send_at: DateTime<Utc>, due_at: DateTime<Utc>) -> Token {
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
    rows.retain(|row| row.recipient == to);
    rows
}

fn mails_of(rows: &[NoticeRow]) -> Vec<Option<Uuid>> {
    rows.iter().map(|row| row.mail_id).collect()
}

#[rstest]
#[case::due_first(-120, -60)]
#[case::soon_first(-60, -120)]
#[tokio::test]
async fn what_is_due_soon_goes_along_whichever_page_it_is_on(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
    #[case] due: i64,
    #[case] soon: i64,
) {
    let (store, fresh) = db.store().await;
    let mut tokens: Vec<Token> = (0..1000)
        .map(|nth| owed(&format!("{nth}"), "crowd@example.org", now(), minutes(-90)))
        .collect();
    tokens.extend([
        owed("due", "ada@example.org", now(), minutes(due)),
        owed("soon", "ada@example.org", minutes(30), minutes(soon)),
        owed("alone", "bob@example.org", minutes(30), minutes(soon)),
    ]);
    insert(&store, &tokens).await;
    // Waits since an earlier sweep, as something to ride along does.
    let rider = warning(&token("0"), "1d", "ada@example.org", far());
    plan(&store, &[rider]).await;
    let engine = Engine {
        policy: Policy {
            admins: Vec::new(),
            ..engine(&store, fresh.folder(), 0).policy
        },
        ..engine(&store, fresh.folder(), 0)
    };
    write!(store, tx => tx.put_meta("plan.policy", &engine.policy.fingerprint()));
    assert_eq!(sweep(&engine).await.notices_planned, 1003);
    let to_ada = mails_of(&notices_to(&store, "ada@example.org").await);
    assert!(to_ada[0].is_some());
    assert_eq!(to_ada, [to_ada[0]; 3]);
    let to_bob = mails_of(&notices_to(&store, "bob@example.org").await);
    assert_eq!(to_bob, [None], "nothing is due to him");
    assert_eq!(claim(&store).await.len(), 2, "one mail to a person");
}

#[rstest]
#[tokio::test]
async fn a_flood_is_held_whole_and_what_else_was_due_goes(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let tokens = [
        owed("1", "ada@example.org", now(), now()),
        owed("2", "bob@example.org", now(), now()),
    ];
    insert(&store, &tokens).await;
    // One waits for a mail; one is in a mail that nobody has claimed yet.
    let old = ["3", "4"].map(|name| warning(&token(name), "7d", "ada@example.org", now()));
    plan(&store, &old[..1]).await;
    super::gather(&store, now()).await;
    plan(&store, &old[1..]).await;
    let report = sweep(&engine(&store, fresh.folder(), 2)).await;
    assert_eq!(report.mails_held, 3, "ada, bob and the administrator");
    let to_ada = notices_to(&store, "ada@example.org").await;
    let held = |row: &&NoticeRow| row.reason.as_deref() == Some("held");
    assert_eq!(to_ada.iter().filter(held).count(), 1);
    for row in &to_ada {
        assert_eq!(row.mail_id.is_some(), !held(&row), "{row:?}");
    }
    let claimed = claim(&store).await;
    let mut to: Vec<Address> = claimed.iter().map(|mail| mail.recipient.clone()).collect();
    to.sort();
    let expected = ["ada@example.org", "ops@example.org"].map(address);
    assert_eq!(to, expected, "what was owed before, and the alert");
    let ada = claimed.iter().find(|mail| mail.recipient == expected[0]);
    let said = read!(store, tx => tx.notices_in(ada.unwrap().id, Uuid::nil(), 10));
    assert_eq!(said.len(), 2);
    assert_eq!(write!(store, tx => tx.settle_held(false)), 4);
    sweep(&engine(&store, fresh.folder(), 2)).await;
    assert_eq!(claim(&store).await.len(), 3, "let go, it goes");
}

#[rstest]
#[tokio::test]
async fn mails_of_a_plan_wait_until_a_later_sweep_has_closed_it(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let notice = warning(&token("1"), "7d", "ada@example.org", now());
    let tokens = [owed("2", "ada@example.org", now(), now())];
    insert(&store, &tokens).await;
    // What a sweep leaves that dies after its first page.
    let mut tx = store.begin().await.unwrap();
    let left = tx.open_plan(fresh_id(), now()).await.unwrap();
    let mails = [(fresh_id(), address("ada@example.org"))];
    let open = tx.open_mails(&mails, Some(left), now()).await.unwrap();
    let into = [Some(open[0].id)];
    tx.insert_into_mails(&[notice], &into, Some(left), now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(claim(&store).await.is_empty(), "it may yet be held");
    sweep(&engine(&store, fresh.folder(), 9)).await;
    let claimed = claim(&store).await;
    assert_eq!(claimed.len(), 2, "ada and the administrator");
    let said = read!(store, tx => tx.notices_in(open[0].id, Uuid::nil(), 10));
    assert_eq!(said.len(), 2, "of both sweeps");
    assert_eq!(read!(store, tx => tx.unfinished_plan()), None);
}

#[rstest]
#[tokio::test]
async fn a_plan_that_says_nothing_new_leaves_no_mail(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let owed = owed("1", "ada@example.org", now(), now());
    insert(&store, std::slice::from_ref(&owed)).await;
    let engine = engine(&store, fresh.folder(), 0);
    assert_eq!(sweep(&engine).await.notices_planned, 2);
    assert_eq!(claim(&store).await.len(), 2);
    // As after a clock that jumped and came back: planned anew, and known.
    write!(store, tx => tx.reschedule(&[(owed.id, Some(now()), None)]));
    assert_eq!(sweep(&engine).await.notices_planned, 0);
    assert_eq!(fresh.texts("SELECT 'mail' FROM mail").await.len(), 2);
}

#[rstest]
#[tokio::test]
async fn the_first_import_notes_the_policy_by_which_its_tokens_are_due(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
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
        let listing = tokens::read(&[Input::Path(file)], &mut Watch::default()).unwrap();
        let into = Into {
            store: &store,
            policy,
            clock: &engine.clock,
            source: "local",
            mode: Mode::Write,
        };
        let counts = import(into, listing, |_| ()).await.unwrap();
        assert_eq!(counts.new, 1);
        assert_eq!(
            read!(store, tx => tx.meta("plan.policy")),
            Some(engine.policy.fingerprint()),
            "the second finds tokens that are due by the first"
        );
    }
}
