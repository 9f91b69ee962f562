//! The engine with a scripted source, on both databases.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{
    Cell, Expiry, ExpiryOrigin, ListedToken, Replica, SourceTerms, Status, Token, TokenId,
};
use lapsed::engine::{Error, RevocationOrder, RevokeRefusal, SweepOptions, WatchedSource, new_id};
use lapsed::sources::ListingBuilder;
use lapsed::sources::{
    self, AccountAdmin, CheckReport, Fetched, LastListing, Listing, RefusedRow, Source,
};
use lapsed::store::{AuditFilter, AuditRow, Holder, NoticeRow};
use rstest::rstest;
use tokio::sync::{Barrier, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::Db;
use crate::world::{self, now};
use Db::{Postgres, Sqlite};

/// A source that a test scripts.
#[derive(Default)]
struct Fake {
    tokens: Mutex<Vec<ListedToken>>,
    admins: Mutex<Option<Vec<AccountAdmin>>>,
    /// Errors of the next revocations; without one they succeed.
    revoke_errors: Mutex<VecDeque<sources::Error>>,
    /// The ids of the tokens it was ordered to revoke.
    revoked: Mutex<Vec<String>>,
    /// Whether its listing is partial.
    is_partial: AtomicBool,
    refused_rows: AtomicU64,
    /// Waited for in each revocation, for concurrent ones.
    revoke_barrier: Mutex<Option<Arc<Barrier>>>,
    /// Pauses the next listing before it is returned.
    pause: Mutex<Option<Pause>>,
}

/// Signals that the listing is ready, and waits for the signal to return it.
struct Pause {
    ready: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

#[async_trait]
impl Source for Fake {
    async fn fetch(&self, _: &LastListing) -> Result<Fetched<Listing>, sources::Error> {
        let mut gathering = ListingBuilder::default();
        for token in self.tokens.lock().unwrap().iter() {
            gathering.push(token)?;
        }
        let mut listing = gathering.finish()?;
        listing.is_partial = self.is_partial.load(Ordering::Relaxed);
        for line in 1..=self.refused_rows.load(Ordering::Relaxed) {
            listing.refusals.add(RefusedRow {
                file: "shop.csv".to_owned(),
                line,
                reason: "no such day".to_owned(),
            });
        }
        listing.admins.clone_from(&self.admins.lock().unwrap());
        let pause = self.pause.lock().unwrap().take();
        if let Some(pause) = pause {
            pause.ready.send(()).unwrap();
            pause.go_on.await.unwrap();
        }
        Ok(Fetched::New(listing))
    }

    async fn check(&self) -> Result<CheckReport, sources::Error> {
        Ok(CheckReport::default())
    }

    async fn revoke(&self, external_id: &str) -> Result<(), sources::Error> {
        self.revoked.lock().unwrap().push(external_id.to_owned());
        let barrier = self.revoke_barrier.lock().unwrap().clone();
        if let Some(barrier) = barrier {
            barrier.wait().await;
        }
        let error = self.revoke_errors.lock().unwrap().pop_front();
        error.map_or(Ok(()), Err)
    }

    fn token_page(&self, external_id: &str) -> Option<String> {
        Some(format!("https://shop.example.org/tokens/{external_id}"))
    }
}

type World = world::World<Fake>;

impl World {
    async fn new(db: Db) -> Self {
        let mut world = Self::empty(db).await;
        world.engine.sources.push(WatchedSource {
            terms: SourceTerms {
                name: "shop".to_owned(),
                kind: "fake",
                allow_revoke: true,
                ..SourceTerms::default()
            },
            source: world.fake.clone(),
        });
        world
    }

    /// Adds a token of Ada's at acme to the listing, and sweeps.
    async fn list(&self, external_id: &str, expires_at: DateTime<Utc>) -> Token {
        use lapsed::domain::Cell::Value;
        let listed = ListedToken {
            name: Value("ci-deploy".to_owned()),
            issuer: Value("ada@example.org".parse().unwrap()),
            account: Value("acme".to_owned()),
            expiry: Value(Expiry::At(expires_at)),
            ..ListedToken::with_id(external_id)
        };
        self.fake.tokens.lock().unwrap().push(listed);
        self.sweep().await;
        self.token(external_id).await
    }

    async fn sweep(&self) {
        let report = world::sweep(&self.engine).await;
        assert!(!report.is_failure(), "{report:?}");
    }

    /// Lists these tokens, which never expire, and returns the problems of a sweep.
    async fn sweep_problems(&self, ids: std::ops::Range<u32>) -> Vec<String> {
        let tokens = ids
            .map(|n| ListedToken::with_id(format!("k-{n:02}")))
            .collect();
        *self.fake.tokens.lock().unwrap() = tokens;
        world::sweep(&self.engine).await.problems
    }

    async fn stored_token_count(&self) -> i64 {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        tx.find_source("shop").await.unwrap().unwrap().tokens
    }

    async fn token(&self, external_id: &str) -> Token {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let id = TokenId::new("shop", external_id);
        tx.load_tokens(&[id]).await.unwrap().pop().unwrap()
    }

    async fn revoke(&self, token: &Token) -> Result<lapsed::engine::Revocation, Error> {
        let order = RevocationOrder {
            token,
            by: "grace",
            reason: Some("it was found in a public repository"),
        };
        self.engine.revocation().revoke(order).await
    }

    /// The audit trail, oldest first, as `actor action subject: reason`.
    async fn trail(&self) -> Vec<String> {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let entries = tx
            .list_audit(&AuditFilter::default(), None, 100)
            .await
            .unwrap();
        let line = |entry: &AuditRow| {
            let reason = entry.reason.as_deref().unwrap_or("-");
            format!(
                "{} {} {}: {reason}",
                entry.actor, entry.action, entry.subject
            )
        };
        entries.iter().rev().map(line).collect()
    }

    async fn notices(&self, token: &Token) -> Vec<String> {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let notices = tx.list_notices_of_tokens(&[token.id]).await.unwrap();
        let line = |row: &NoticeRow| format!("{} {} {}", row.topic, row.recipient, row.state);
        let mut lines: Vec<String> = notices.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn admin(account: &str, address: &str) -> AccountAdmin {
    AccountAdmin {
        account: account.to_owned(),
        address: address.parse().unwrap(),
    }
}

#[rstest]
#[tokio::test]
async fn a_token_is_revoked_at_its_source_and_all_recipients_are_notified(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let admins = vec![admin("acme", "acme-admin@example.org")];
    *world.fake.admins.lock().unwrap() = Some(admins);
    // Due tomorrow, so nothing is planned yet.
    let token = world.list("k-1", now() + TimeDelta::days(8)).await;
    world.engine.clock.advance(TimeDelta::hours(1));

    let revoked = world.revoke(&token).await.unwrap();
    let recipients: Vec<&str> = revoked
        .recipients
        .iter()
        .map(|recipient| recipient.address.as_str())
        .collect();
    let expected = [
        "ada@example.org",
        "acme-admin@example.org",
        "boss@example.org",
    ];
    assert_eq!(recipients, expected);
    assert_eq!(*world.fake.revoked.lock().unwrap(), ["k-1"]);
    let token = world.token("k-1").await;
    assert_eq!((token.status, token.due_at), (Status::Revoked, None));
    let expected = [
        "grace token.revoke shop/k-1: it was found in a public repository",
        "grace token.revoked shop/k-1: it was found in a public repository",
    ];
    assert_eq!(world.trail().await, expected);

    // The source no longer lists it: it stays revoked, and no one is warned.
    world.fake.tokens.lock().unwrap().clear();
    world.sweep().await;
    let mails = world.take_mails();
    assert_eq!(mails.len(), 3);
    for mail in &mails {
        assert_contains!(
            mail,
            "Subject: Token ci-deploy was revoked on Sat 21 Nov 2026"
        );
        assert_contains!(mail, "by grace", "found in a public repository");
        assert_contains!(mail, "https://shop.example.org/tokens/k-1");
    }
    world.engine.clock.advance(TimeDelta::days(7));
    world.sweep().await;
    assert!(world.take_mails().is_empty());
    assert_eq!(world.token("k-1").await.status, Status::Revoked);

    // A second revocation does not ask the source.
    let again = world.revoke(&world.token("k-1").await).await;
    assert!(matches!(
        again,
        Err(Error::Revoke(RevokeRefusal::NotActive(Status::Revoked)))
    ));
    assert_eq!(world.fake.revoked.lock().unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_listing_from_before_a_revocation_does_not_reactivate_the_token(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(8)).await;
    // The listing has a change of it, but not the revocation.
    world.fake.tokens.lock().unwrap()[0].name = Cell::Value("renamed".to_owned());
    world.engine.clock.advance(TimeDelta::days(2));
    let (ready, is_ready) = oneshot::channel();
    let (go, go_on) = oneshot::channel();
    *world.fake.pause.lock().unwrap() = Some(Pause { ready, go_on });
    let revoke = async {
        is_ready.await.unwrap();
        world.engine.clock.advance(TimeDelta::seconds(1));
        world.revoke(&token).await.unwrap();
        world.engine.clock.advance(TimeDelta::seconds(1));
        go.send(()).unwrap();
    };
    let (options, stop) = (SweepOptions::default(), CancellationToken::new());
    tokio::join!(world.engine.sweep(&options, &stop), revoke);
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
    let is_warning = |line: &String| line.starts_with("expiry") && !line.ends_with("cancelled");
    let notices = world.notices(&token).await;
    assert!(!notices.iter().any(is_warning), "{notices:?}");

    // A later listing lacks it, as expected.
    world.fake.tokens.lock().unwrap().clear();
    world.sweep().await;
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
}

#[rstest]
#[tokio::test]
async fn a_new_token_with_the_external_id_of_a_revoked_one_is_warned_about(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let ends_at = now() + TimeDelta::days(7);
    let token = world.list("k-1", ends_at).await;
    world.revoke(&token).await.unwrap();
    world.fake.tokens.lock().unwrap().clear();
    world.engine.clock.advance(TimeDelta::minutes(1));
    world.sweep().await;
    let before = world.notices(&token).await;

    world.engine.clock.advance(TimeDelta::minutes(1));
    let other = world.list("k-1", ends_at).await;
    assert_eq!((other.id, other.status), (token.id, Status::Active));
    assert_eq!((other.revoked_at, other.created_at), (None, None));
    assert_eq!(other.first_seen_at, now() + TimeDelta::minutes(2));
    let after = world.notices(&token).await;
    let sent = |lines: &[String]| {
        let is_sent = |line: &&String| line.as_str() == "expiry ada@example.org sent";
        lines.iter().filter(is_sent).count()
    };
    assert_eq!((sent(&before), sent(&after)), (1, 2), "{after:?}");
    // The next listing changes nothing about it, and it can be revoked, too.
    world.sweep().await;
    assert_eq!(world.token("k-1").await, other);
    world.revoke(&other).await.unwrap();
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
}

#[rstest]
#[tokio::test]
async fn a_revocation_cancels_planned_warnings(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    // Planned at once for the digest at nine tomorrow.
    world.engine.policy.admin_digest = Some("09:00:00".parse().unwrap());
    world.engine.policy.merge_ahead = TimeDelta::days(1);
    let token = world
        .list("k-1", now() + TimeDelta::days(7) + TimeDelta::hours(20))
        .await;
    let planned = world.notices(&token).await;
    assert!(
        planned.contains(&"expiry ada@example.org planned".to_owned()),
        "{planned:?}"
    );
    let revoked = world.revoke(&token).await.unwrap();
    assert!(revoked.cancelled > 0, "{revoked:?}");
    let left = world.notices(&token).await;
    assert!(
        left.contains(&"expiry ada@example.org cancelled".to_owned()),
        "{left:?}"
    );
    assert!(
        left.contains(&"revoked ada@example.org planned".to_owned()),
        "{left:?}"
    );
}

#[rstest]
#[tokio::test]
async fn a_token_that_may_not_be_revoked_is_not_sent_to_the_source(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    let refused =
        |world: &World, token: &Token| world.engine.revocation().may_revoke(token).err().unwrap();
    world.engine.sources[0].terms.allow_revoke = false;
    assert_eq!(
        refused(&world, &token),
        RevokeRefusal::NotAllowed("shop".to_owned())
    );
    world.engine.sources[0].terms.allow_revoke = true;
    let elsewhere = Token {
        source: "local".to_owned(),
        ..token.clone()
    };
    assert_eq!(
        refused(&world, &elsewhere),
        RevokeRefusal::UnknownSource("local".to_owned())
    );
    for status in [Status::Gone, Status::Revoked] {
        let inactive = Token {
            status,
            ..token.clone()
        };
        assert_eq!(refused(&world, &inactive), RevokeRefusal::NotActive(status));
    }
    let disabled = Token {
        status: Status::Disabled,
        ..token.clone()
    };
    assert!(
        world.engine.revocation().may_revoke(&disabled).is_ok(),
        "it can be enabled again"
    );
    let expired = Token {
        expiry: Expiry::At(now()),
        ..token.clone()
    };
    assert_eq!(
        refused(&world, &expired),
        RevokeRefusal::NotActive(Status::Expired)
    );
    let past_our_date = Token {
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..expired
    };
    assert!(world.engine.revocation().may_revoke(&past_our_date).is_ok());
    assert!(world.trail().await.is_empty());
    assert!(world.fake.revoked.lock().unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_failed_revocation_changes_nothing_and_is_audited(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    let failures = [
        (sources::Error::OwnToken, "token.revoke_failed"),
        (sources::Error::CannotRevoke, "token.revoke_failed"),
        (
            sources::Error::NoSuchToken("k-1".to_owned()),
            "token.revoke_failed",
        ),
        (
            sources::Error::RolledBack(Box::new(sources::Error::Content {
                place: "revoke".to_owned(),
                reason: "would change 0 rows".to_owned(),
            })),
            "token.revoke_failed",
        ),
        (sources::Error::StillThere, "token.revoke_unknown"),
    ];
    for (failure, action) in failures {
        let text = failure.to_string();
        world.fake.revoke_errors.lock().unwrap().push_back(failure);
        let error = world.revoke(&token).await.unwrap_err();
        assert_eq!(error.to_string(), text);
        let trail = world.trail().await;
        let last = trail.last().unwrap();
        assert_eq!(*last, format!("grace {action} shop/k-1: {text}"));
        assert_eq!(world.token("k-1").await, token);
        assert!(world.notices(&token).await.is_empty());
        world.engine.clock.advance(TimeDelta::seconds(1));
    }
}

#[rstest]
#[tokio::test]
async fn a_second_attempt_completes_an_interrupted_one(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    // As if the process had been killed while the source revoked the token.
    let mut tx = world.engine.store.begin().await.unwrap();
    let entry = ["grace", "token.revoke", "shop/k-1"];
    tx.insert_audit(new_id(now()), now(), entry, None)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    world.engine.clock.advance(TimeDelta::minutes(1));

    let gone = sources::Error::NoSuchToken("k-1".to_owned());
    world.fake.revoke_errors.lock().unwrap().push_back(gone);
    world.revoke(&token).await.unwrap();
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
    let trail = world.trail().await;
    assert!(
        trail[2].starts_with("grace token.revoked shop/k-1"),
        "{trail:?}"
    );
}

#[rstest]
#[tokio::test]
async fn an_attempt_that_saw_nothing_keeps_the_previous_outcome_unknown(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    let unreadable = || {
        Box::new(sources::Error::Content {
            place: "query".to_owned(),
            reason: "has no column external_id".to_owned(),
        })
    };
    let failures = [
        (
            sources::Error::NotAttempted(unreadable()),
            "token.revoke_failed",
        ),
        (
            sources::Error::OutcomeUnknown(unreadable()),
            "token.revoke_unknown",
        ),
        (
            sources::Error::NotAttempted(unreadable()),
            "token.revoke_unknown",
        ),
    ];
    for (failure, action) in failures {
        world.fake.revoke_errors.lock().unwrap().push_back(failure);
        world.revoke(&token).await.unwrap_err();
        let last = world.trail().await.pop().unwrap();
        assert!(last.starts_with(&format!("grace {action} ")), "{last}");
        world.engine.clock.advance(TimeDelta::seconds(1));
    }
    let gone = sources::Error::NoSuchToken("k-1".to_owned());
    world.fake.revoke_errors.lock().unwrap().push_back(gone);
    world.revoke(&token).await.unwrap();
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
}

#[rstest]
#[tokio::test]
async fn two_concurrent_revocations_notify_everyone_once(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    *world.fake.revoke_barrier.lock().unwrap() = Some(Arc::new(Barrier::new(2)));
    let (one, other) = tokio::join!(world.revoke(&token), world.revoke(&token));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.recipients.len() + other.recipients.len(), 2);
    let trail = world.trail().await;
    let is_revoked = |line: &&String| line.starts_with("grace token.revoked ");
    assert_eq!(trail.iter().filter(is_revoked).count(), 1, "{trail:?}");
    world.engine.clock.advance(TimeDelta::minutes(1));
    world.fake.tokens.lock().unwrap().clear();
    world.sweep().await;
    assert_eq!(world.take_mails().len(), 2);

    // A later one with the old token does not ask the source.
    let late = world.revoke(&token).await;
    assert!(matches!(
        late,
        Err(Error::Revoke(RevokeRefusal::NotActive(Status::Revoked)))
    ));
    assert_eq!(world.fake.revoked.lock().unwrap().len(), 2);
}

#[rstest]
#[tokio::test]
async fn tokens_from_partial_listings_are_counted_and_guarded(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.fake.is_partial.store(true, Ordering::Relaxed);
    assert!(world.sweep_problems(0..24).await.is_empty());
    assert_eq!(world.stored_token_count().await, 24);
    // Tokens that a partial listing lacks are still there.
    assert!(world.sweep_problems(24..25).await.is_empty());
    assert_eq!(world.stored_token_count().await, 25);
    assert!(world.sweep_problems(0..0).await.is_empty());
    assert_eq!(world.stored_token_count().await, 25);

    // Now its listings are complete.
    world.fake.is_partial.store(false, Ordering::Relaxed);
    let problems = world.sweep_problems(0..2).await;
    assert_contains!(problems[0], "--accept-shrink shop");
    assert_eq!(
        (
            world.stored_token_count().await,
            world.token("k-07").await.status
        ),
        (25, Status::Active)
    );
    assert!(world.sweep_problems(0..20).await.is_empty());
    assert_eq!(
        (
            world.stored_token_count().await,
            world.token("k-22").await.status
        ),
        (20, Status::Gone)
    );
}

#[rstest]
#[tokio::test]
async fn if_most_rows_are_refused_the_problem_names_the_first(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    world.fake.refused_rows.store(1, Ordering::Relaxed);
    let problems = world.sweep_problems(0..24).await;
    assert_contains!(problems[0], "1 row was refused");
    assert_eq!(world.stored_token_count().await, 24);
    world.fake.refused_rows.store(23, Ordering::Relaxed);
    let expected = [
        "source shop: 23 rows were refused, which leaves only 1 of 24 tokens, so nothing was changed; \
             the first: shop.csv:1: no such day",
    ];
    assert_eq!(world.sweep_problems(0..1).await, expected);
    assert_eq!(world.stored_token_count().await, 24);
}

#[rstest]
#[tokio::test]
async fn account_admins_are_warned_and_former_ones_are_not(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let set_admins = |admins: &[AccountAdmin]| {
        *world.fake.admins.lock().unwrap() = Some(admins.to_vec());
    };
    set_admins(&[
        admin("acme", "acme-admin@example.org"),
        admin("acme", "left@example.org"),
        admin("other", "other@example.org"),
    ]);
    let token = world.list("k-1", now() + TimeDelta::days(7)).await;
    let expected = [
        "expiry acme-admin@example.org sent",
        "expiry ada@example.org sent",
        "expiry boss@example.org sent",
        "expiry left@example.org sent",
    ];
    assert_eq!(world.notices(&token).await, expected);
    set_admins(&[admin("acme", "acme-admin@example.org")]);
    world.engine.clock.advance(TimeDelta::days(6));
    world.sweep().await;
    let notices = world.notices(&token).await;
    let count = |address: &str| notices.iter().filter(|line| line.contains(address)).count();
    assert_eq!((count("acme-admin@"), count("left@")), (2, 1));
    let mails = world.take_mails();
    let page = "https://shop.example.org/tokens/k-1";
    assert!(mails.iter().all(|mail| mail.contains(page)), "{mails:?}");
}

#[rstest]
#[tokio::test]
async fn a_dry_run_previews_gone_tokens_rejected_listings_and_recipients(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let preview = async |options: SweepOptions| {
        let stop = CancellationToken::new();
        let dry_run = world.engine.dry_run(&options, &stop).await.unwrap();
        (dry_run.report, dry_run.mails)
    };
    *world.fake.admins.lock().unwrap() = Some(vec![admin("acme", "left@example.org")]);
    let due = now() + TimeDelta::days(8);
    for n in 0..20 {
        world.list(&format!("k-{n:02}"), due).await;
    }
    *world.fake.admins.lock().unwrap() = Some(vec![admin("acme", "new@example.org")]);
    world.fake.tokens.lock().unwrap().truncate(11);
    world.engine.clock.advance(TimeDelta::days(1));
    let (report, mails) = preview(SweepOptions::default()).await;
    assert_eq!(
        (report.tokens_gone, report.tokens_due),
        (9, 11),
        "{report:?}"
    );
    let count = |address: &str| {
        let mut notices = mails.iter();
        let first = notices.find(|notice| notice.recipient.to_string() == address);
        first.map_or(0, |notice| notice.notices)
    };
    let counts = ["ada@example.org", "new@example.org", "left@example.org"].map(count);
    assert_eq!(counts, [11, 11, 0]);

    world.fake.tokens.lock().unwrap().truncate(2);
    let (report, _) = preview(SweepOptions::default()).await;
    assert_contains!(report.problems[0], "--accept-shrink shop");
    assert_eq!((report.tokens_gone, report.tokens_due), (0, 20));
    let accept = SweepOptions {
        accept_shrink: vec!["shop".to_owned()],
        ..SweepOptions::default()
    };
    let (report, _) = preview(accept).await;
    assert_eq!((report.tokens_gone, report.tokens_due), (18, 2));
    assert_eq!(
        world.token("k-19").await.status,
        Status::Active,
        "nothing was written"
    );
}

#[rstest]
#[tokio::test]
async fn a_date_at_the_end_of_9999_keeps_no_other_token_waiting(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(None, Some(TimeDelta::days(30)))] policy_ttl: Option<TimeDelta>,
) {
    use lapsed::domain::Cell::Value;
    let mut world = World::new(db).await;
    world.engine.policy.rules.unused_after = Some(TimeDelta::days(90));
    world.engine.policy.rules.max_ttl = Some(TimeDelta::days(365));
    world.engine.sources[0].terms.policy_ttl = policy_ttl;
    let last: DateTime<Utc> = "9999-12-31T23:59:59.999999Z".parse().unwrap();
    let never = |external_id| ListedToken {
        expiry: Value(Expiry::Never),
        last_used_at: Cell::Empty,
        ..ListedToken::with_id(external_id)
    };
    *world.fake.tokens.lock().unwrap() = vec![
        ListedToken {
            last_used_at: Value(last),
            ..never("used")
        },
        ListedToken {
            created_at: Value(last),
            ..never("created")
        },
        ListedToken {
            expiry: Value(Expiry::At(last)),
            ..never("expires")
        },
    ];
    world.list("warned", now() + TimeDelta::days(1)).await;
    world.sweep().await;
    let warned = world.token("warned").await;
    let expected = [
        "expiry ada@example.org sent",
        "expiry boss@example.org sent",
    ];
    assert_eq!(world.notices(&warned).await, expected);
    for id in ["used", "created", "expires"] {
        let token = world.token(id).await;
        assert!(token.judge_at.is_none_or(|at| at > now()), "{id}");
        assert!(token.due_at.is_none_or(|at| at > now()), "{id}");
    }
}

#[rstest]
#[tokio::test]
async fn a_token_that_stays_due_ends_its_job_and_no_other(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(1)).await;
    let stuck = match db {
        Sqlite => {
            "CREATE TRIGGER stuck AFTER UPDATE OF judge_at ON token
             BEGIN UPDATE token SET judge_at = '2026-01-01T00:00:00+00:00'; END"
        }
        Postgres => {
            "CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.judge_at := '2026-01-01'; RETURN NEW; END $$;
             CREATE TRIGGER stuck BEFORE UPDATE ON token FOR EACH ROW EXECUTE FUNCTION stuck()"
        }
    };
    world.database().execute(stuck).await.unwrap();
    let make_due = "UPDATE token SET judge_at = '2026-01-01T00:00:00+00:00'";
    world.database().execute(make_due).await.unwrap();
    world.engine.clock.advance(TimeDelta::days(1));
    // The copy for a dry run has no trigger.
    let stop = CancellationToken::new();
    let report = world.engine.sweep(&SweepOptions::default(), &stop).await;
    let [error] = report.errors.as_slice() else {
        panic!("{report:?}")
    };
    assert!(error.contains(&token.id.to_string()), "{error}");
    assert_eq!(report.expired, 1, "the other jobs go on");
}

/// Lets another process take the lease of the sweep at its end.
async fn steal_lease(world: &World) {
    let now = world.engine.now() + TimeDelta::minutes(1);
    let thief = Holder {
        id: new_id(now),
        until: now + TimeDelta::minutes(1),
    };
    let mut tx = world.engine.store.begin().await.unwrap();
    let far = now + TimeDelta::hours(1);
    assert!(tx.take_lease("sweep", thief, now, far).await.unwrap());
    tx.commit().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_leader_whose_lease_another_took_writes_nothing_more(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let known = world.list("k-1", now() + TimeDelta::days(5)).await;
    let notices = world.notices(&known).await;
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let last_run = tx.find_last_run(false).await.unwrap().unwrap();
    drop(tx);

    world.engine.clock.advance(TimeDelta::days(5));
    let new = ListedToken::with_id("k-2");
    world.fake.tokens.lock().unwrap().push(new);
    let (ready, is_ready) = oneshot::channel();
    let (let_go, go_on) = oneshot::channel();
    *world.fake.pause.lock().unwrap() = Some(Pause { ready, go_on });
    let stop = CancellationToken::new();
    let options = SweepOptions::default();
    let steal = async {
        is_ready.await.unwrap();
        steal_lease(&world).await;
        let_go.send(()).unwrap();
    };
    let (report, ()) = tokio::join!(world.engine.prepare(&options, &stop), steal);
    assert_eq!(report.errors, ["sync: another sweep took over"]);
    assert_eq!((report.tokens_new, report.expired), (0, 0), "{report:?}");

    let mut tx = world.engine.store.begin_read().await.unwrap();
    let id = TokenId::new("shop", "k-2");
    assert_eq!(tx.load_tokens(&[id]).await.unwrap(), []);
    let run = tx.find_last_run(false).await.unwrap().unwrap();
    assert_eq!(run.started_at, last_run.started_at, "the thief reports");
    assert_eq!(
        world.notices(&known).await,
        notices,
        "what was written stays"
    );
    assert_eq!(world.token("k-1").await.status, Status::Active, "unmarked");
}

#[rstest]
#[tokio::test]
async fn pages_written_before_the_lease_was_lost_stay(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let other = Uuid::from_u128(1);
    let trigger = match db {
        Sqlite => format!(
            "CREATE TRIGGER steal AFTER INSERT ON token WHEN NEW.external_id = 'k-2400'
             BEGIN UPDATE lease SET holder = x'{}'; END",
            other.simple()
        ),
        Postgres => format!(
            "CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.external_id = 'k-2400' THEN UPDATE lease SET holder = '{other}'; END IF;
                 RETURN NULL; END $$;
             CREATE TRIGGER steal AFTER INSERT ON token FOR EACH ROW EXECUTE FUNCTION steal()"
        ),
    };
    world.database().execute(&trigger).await.unwrap();
    let ids = 1000..2500;
    let tokens = ids.map(|n| ListedToken::with_id(format!("k-{n}")));
    *world.fake.tokens.lock().unwrap() = tokens.collect();
    let stop = CancellationToken::new();
    let options = SweepOptions::default();
    let report = world.engine.prepare(&options, &stop).await;
    assert_eq!(report.errors, ["sync: another sweep took over"]);
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let stored = tx.count_present_tokens("shop").await.unwrap();
    assert_eq!(stored.unsigned_abs(), report.tokens_new);
    assert_eq!(report.tokens_new, 1000);
    assert!(tx.find_last_run(false).await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn the_rate_is_divided_among_live_replicas(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    world.engine.settings.delivery.mails_per_second = Some(20.0);
    let replica = |id, seen_at| Replica {
        id,
        host: "lapsed-1".to_owned(),
        version: "0.1.0".to_owned(),
        configuration: "0123456789ab".to_owned(),
        started_at: now(),
        seen_at,
    };
    let mut tx = world.engine.store.begin().await.unwrap();
    for row in [
        replica(world.engine.holder, now()),
        replica(Uuid::from_u128(1), now() - TimeDelta::minutes(2)),
        replica(Uuid::from_u128(2), now() - TimeDelta::minutes(9)),
    ] {
        tx.save_replica(&row).await.unwrap();
    }
    tx.commit().await.unwrap();
    let listed = (0..8).map(|n| ListedToken {
        issuer: Cell::Value(format!("user{n}@example.org").parse().unwrap()),
        expiry: Cell::Value(Expiry::At(now() + TimeDelta::days(5))),
        ..ListedToken::with_id(format!("k-{n}"))
    });
    *world.fake.tokens.lock().unwrap() = listed.collect();
    let stop = CancellationToken::new();
    let begun_at = Instant::now();
    let report = world.engine.sweep(&SweepOptions::default(), &stop).await;
    let elapsed = begun_at.elapsed();
    // With the administrator's digest.
    assert_eq!(report.mails_sent, 9, "{report:?}");
    // Two of three are live: 8 intervals of a tenth of a second.
    assert!(elapsed >= Duration::from_millis(790), "{elapsed:?}");
}

/// Lets statements that write fail now and then, as two transactions that meet do on some engines.
const RACES: &str = "
    CREATE SEQUENCE races;
    CREATE FUNCTION race() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('races') % 25 < 2 THEN RAISE EXCEPTION 'a race' USING ERRCODE = '40001'; END IF;
        RETURN NULL;
    END $$;
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
            AND tablename <> '_sqlx_migrations'
        LOOP
            EXECUTE format('CREATE TRIGGER race AFTER INSERT OR UPDATE OR DELETE ON %I
                FOR EACH STATEMENT EXECUTE FUNCTION race()', name);
        END LOOP;
    END $$;";

#[tokio::test]
async fn a_sweep_whose_transactions_lose_races_does_what_one_without_does() {
    let (calm, racing) = (World::new(Postgres).await, World::new(Postgres).await);
    racing.database().execute(RACES).await.unwrap();
    let mut mails = Vec::new();
    for world in [&calm, &racing] {
        for step in 0..6 {
            let id = format!("k-{step}");
            let ends_at = now() + TimeDelta::days(7 + step / 3);
            world.list(&id, ends_at).await;
            world.engine.clock.advance(TimeDelta::hours(8));
        }
        world.fake.tokens.lock().unwrap().truncate(4);
        world.engine.clock.advance(TimeDelta::days(6));
        world.sweep().await;
        mails.push(world.take_mails().len());
    }
    assert_eq!(mails[0], mails[1]);
    assert!(mails[0] > 6, "{mails:?}");
    let races = "SELECT last_value::text FROM races";
    let statements = racing.database().texts(races).await;
    let statements: u32 = statements[0].parse().unwrap();
    assert!(statements > 100, "only {statements} statements");
}
