//! The engine with a source that does as a test tells it, on both databases.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::{Cell, Expiry, ExpiryOrigin, Listed, Policy, Status, Token, TokenId};
use lapsed::engine::{
    Engine, Error, Foreseen, LastPurge, Order, Refused, SweepOptions, Watched, new_id,
};
use lapsed::sources::{
    self, AccountAdmin, Checked, Fetched, Last, Listing, Refusal, Source, gather::Gathering,
};
use lapsed::store::{AuditRow, NoticeRow};
use rstest::rstest;
use tokio::sync::{Barrier, oneshot};
use tokio_util::sync::CancellationToken;

use crate::db::{Db, Fresh};
use crate::parts;

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

/// A source that does as it is told.
#[derive(Default)]
struct Fake {
    tokens: Mutex<Vec<Listed>>,
    admins: Mutex<Option<Vec<AccountAdmin>>>,
    /// What comes of the next orders; when there are no more, all is well.
    revokes: Mutex<VecDeque<sources::Error>>,
    /// What it was ordered to end.
    ended: Mutex<Vec<String>>,
    /// Whether it lists only what changed.
    is_partial: AtomicBool,
    /// Rows of its list that cannot be read.
    refused: AtomicU64,
    /// As many must order something to be ended before it answers any of them.
    orders: Mutex<Option<Arc<Barrier>>>,
    /// What goes on while it is being listed.
    meanwhile: Mutex<Option<Meanwhile>>,
}

/// Tells the test that the list is drawn up, and waits for its word to hand it over.
struct Meanwhile {
    drawn_up: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

#[async_trait]
impl Source for Fake {
    async fn fetch(&self, _: &Last) -> Result<Fetched<Listing>, sources::Error> {
        let mut gathering = Gathering::default();
        for token in self.tokens.lock().unwrap().iter() {
            gathering.push(token)?;
        }
        let mut listing = gathering.finish()?;
        listing.is_partial = self.is_partial.load(Ordering::Relaxed);
        for line in 1..=self.refused.load(Ordering::Relaxed) {
            listing.refusals.add(Refusal {
                file: "shop.csv".to_owned(),
                line,
                reason: "no such day".to_owned(),
            });
        }
        listing.admins.clone_from(&self.admins.lock().unwrap());
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.drawn_up.send(()).unwrap();
            meanwhile.go_on.await.unwrap();
        }
        Ok(Fetched::New(listing))
    }

    async fn check(&self) -> Result<Checked, sources::Error> {
        Ok(Checked::default())
    }

    async fn revoke(&self, external_id: &str) -> Result<(), sources::Error> {
        self.ended.lock().unwrap().push(external_id.to_owned());
        let orders = self.orders.lock().unwrap().clone();
        if let Some(orders) = orders {
            orders.wait().await;
        }
        let failure = self.revokes.lock().unwrap().pop_front();
        failure.map_or(Ok(()), Err)
    }

    fn page_of(&self, external_id: &str) -> Option<String> {
        Some(format!("https://shop.example.org/tokens/{external_id}"))
    }
}

struct World {
    engine: Engine,
    source: Arc<Fake>,
    outbox: tempfile::TempDir,
    _fresh: Fresh,
}

impl World {
    async fn new(db: Db) -> Self {
        let (store, fresh) = db.store().await;
        let source = Arc::new(Fake::default());
        let outbox = tempfile::tempdir().unwrap();
        let watched = Watched {
            name: "shop".to_owned(),
            kind: "fake",
            source: source.clone(),
            schedule: None,
            allow_revoke: true,
            policy_ttl: None,
            owners: None,
        };
        let engine = Engine {
            store,
            clock: Clock::manual(now()),
            policy: Policy {
                admins: vec!["boss@example.org".parse().unwrap()],
                ..parts::policy()
            },
            settings: parts::settings(),
            post: parts::post(outbox.path()),
            sources: vec![watched],
            directories: Vec::new(),
            issuers: lapsed::domain::Issuers::default(),
            holder: new_id(now()),
            last_purge: LastPurge::default(),
            on_progress: Box::new(|| ()),
        };
        Self {
            engine,
            source,
            outbox,
            _fresh: fresh,
        }
    }

    /// Lets the source list a token of Ada's at acme.
    async fn list(&self, external_id: &str, expires_at: DateTime<Utc>) -> Token {
        use lapsed::domain::Cell::Value;
        let listed = Listed {
            name: Value("ci-deploy".to_owned()),
            issuer: Value("ada@example.org".parse().unwrap()),
            account: Value("acme".to_owned()),
            expiry: Value(Expiry::At(expires_at)),
            ..Listed::named(external_id)
        };
        self.source.tokens.lock().unwrap().push(listed);
        self.sweep().await;
        self.token(external_id).await
    }

    async fn sweep(&self) {
        let stop = CancellationToken::new();
        let report = self.engine.sweep(&SweepOptions::default(), &stop).await;
        assert!(!report.is_failure(), "{report:?}");
    }

    /// Lets the source list these tokens, which never end, and gives what a sweep complains of.
    async fn complaints(&self, ids: std::ops::Range<u32>) -> Vec<String> {
        let tokens = ids.map(|n| Listed::named(format!("k-{n:02}"))).collect();
        *self.source.tokens.lock().unwrap() = tokens;
        let stop = CancellationToken::new();
        let report = self.engine.sweep(&SweepOptions::default(), &stop).await;
        report.problems
    }

    /// How many tokens the source is said to have.
    async fn count(&self) -> i64 {
        let mut tx = self.engine.store.read().await.unwrap();
        tx.source("shop").await.unwrap().unwrap().tokens
    }

    async fn token(&self, external_id: &str) -> Token {
        let mut tx = self.engine.store.read().await.unwrap();
        let id = TokenId::of("shop", external_id);
        tx.tokens_by_id(&[id]).await.unwrap().pop().unwrap()
    }

    async fn revoke(&self, token: &Token) -> Result<lapsed::engine::Revoked, Error> {
        let order = Order {
            token,
            by: "grace",
            reason: Some("it was found in a public repository"),
        };
        self.engine.revoke(order).await
    }

    /// The trail, the first entry first, as `actor action subject: reason`.
    async fn trail(&self) -> Vec<String> {
        let mut tx = self.engine.store.read().await.unwrap();
        let entries = tx.list_audit(None, 100).await.unwrap();
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
        let mut tx = self.engine.store.read().await.unwrap();
        let notices = tx.notices_about(&[token.id]).await.unwrap();
        let line = |it: &NoticeRow| format!("{} {} {}", it.topic, it.recipient, it.state);
        let mut lines: Vec<String> = notices.iter().map(line).collect();
        lines.sort();
        lines
    }

    /// The mails that were written since the last look.
    fn mails(&self) -> Vec<String> {
        let mut mails = Vec::new();
        for file in std::fs::read_dir(self.outbox.path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // Long lines are broken in transit.
            mails.push(text.replace("=\r\n", "").replace("=3D", "="));
            std::fs::remove_file(path).unwrap();
        }
        mails.sort();
        mails
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
async fn a_token_is_ended_where_it_lives_and_all_whom_it_concerns_are_told(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let admins = vec![admin("acme", "acme-admin@example.org")];
    *world.source.admins.lock().unwrap() = Some(admins);
    // Due tomorrow: planned, and not yet sent, but for an hour from now.
    let token = world.list("k-1", now() + TimeDelta::days(8)).await;
    world.engine.clock.advance(TimeDelta::hours(1));

    let revoked = world.revoke(&token).await.unwrap();
    let told: Vec<&str> = revoked.told.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(
        told,
        [
            "ada@example.org",
            "acme-admin@example.org",
            "boss@example.org"
        ]
    );
    assert_eq!(*world.source.ended.lock().unwrap(), ["k-1"]);
    let token = world.token("k-1").await;
    assert_eq!((token.status, token.due_at), (Status::Revoked, None));
    assert_eq!(
        world.trail().await,
        [
            "grace token.revoke shop/k-1: it was found in a public repository",
            "grace token.revoked shop/k-1: it was found in a public repository",
        ]
    );

    // The source lists it no longer; it stays revoked, and nobody is warned of anything.
    world.source.tokens.lock().unwrap().clear();
    world.sweep().await;
    let mails = world.mails();
    assert_eq!(mails.len(), 3);
    for mail in &mails {
        assert!(mail.contains("Subject: Token ci-deploy was revoked on Sat 21 Nov 2026"));
        assert!(mail.contains("by grace"), "{mail}");
        assert!(mail.contains("found in a public repository"), "{mail}");
        assert!(
            mail.contains("https://shop.example.org/tokens/k-1"),
            "{mail}"
        );
    }
    world.engine.clock.advance(TimeDelta::days(7));
    world.sweep().await;
    assert!(world.mails().is_empty());
    assert_eq!(world.token("k-1").await.status, Status::Revoked);

    // Once is enough, and a second time asks nobody.
    let again = world.revoke(&world.token("k-1").await).await;
    assert!(matches!(
        again,
        Err(Error::Revoke(Refused::NotActive(Status::Revoked)))
    ));
    assert_eq!(world.source.ended.lock().unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_listing_drawn_up_before_a_token_was_ended_does_not_bring_it_back(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(8)).await;
    // What the listing says of it is news, but for the fact that counts.
    world.source.tokens.lock().unwrap()[0].name = Cell::Value("renamed".to_owned());
    world.engine.clock.advance(TimeDelta::days(2));
    let (drawn_up, listed) = oneshot::channel();
    let (go, go_on) = oneshot::channel();
    *world.source.meanwhile.lock().unwrap() = Some(Meanwhile { drawn_up, go_on });
    let revoke = async {
        listed.await.unwrap();
        world.engine.clock.advance(TimeDelta::seconds(1));
        world.revoke(&token).await.unwrap();
        world.engine.clock.advance(TimeDelta::seconds(1));
        go.send(()).unwrap();
    };
    tokio::join!(world.sweep(), revoke);
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
    let is_warning = |line: &String| line.starts_with("expiry") && !line.ends_with("cancelled");
    let notices = world.notices(&token).await;
    assert!(!notices.iter().any(is_warning), "{notices:?}");

    // A later listing lacks it: that is how it should be.
    world.source.tokens.lock().unwrap().clear();
    world.sweep().await;
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
}

#[rstest]
#[tokio::test]
async fn another_token_under_the_external_id_of_one_that_was_ended_is_warned_about(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let ends_at = now() + TimeDelta::days(7);
    let token = world.list("k-1", ends_at).await;
    world.revoke(&token).await.unwrap();
    world.source.tokens.lock().unwrap().clear();
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
        let is = |line: &&String| line.as_str() == "expiry ada@example.org sent";
        lines.iter().filter(is).count()
    };
    assert_eq!((sent(&before), sent(&after)), (1, 2), "{after:?}");
    // It may be ended as well, and the next listing has nothing new to say of it.
    world.sweep().await;
    assert_eq!(world.token("k-1").await, other);
    world.revoke(&other).await.unwrap();
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
}

#[rstest]
#[tokio::test]
async fn warnings_that_were_planned_are_taken_back(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
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
async fn what_may_not_be_ended_is_not_even_asked_for(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    let refused = |world: &World, token: &Token| world.engine.may_revoke(token).err().unwrap();
    world.engine.sources[0].allow_revoke = false;
    assert_eq!(
        refused(&world, &token),
        Refused::NotAllowed("shop".to_owned())
    );
    world.engine.sources[0].allow_revoke = true;
    let elsewhere = Token {
        source: "local".to_owned(),
        ..token.clone()
    };
    assert_eq!(
        refused(&world, &elsewhere),
        Refused::UnknownSource("local".to_owned())
    );
    for status in [Status::Gone, Status::Revoked] {
        let ended = Token {
            status,
            ..token.clone()
        };
        assert_eq!(refused(&world, &ended), Refused::NotActive(status));
    }
    let disabled = Token {
        status: Status::Disabled,
        ..token.clone()
    };
    assert!(
        world.engine.may_revoke(&disabled).is_ok(),
        "it might be enabled again"
    );
    let expired = Token {
        expiry: Expiry::At(now()),
        ..token.clone()
    };
    assert_eq!(
        refused(&world, &expired),
        Refused::NotActive(Status::Expired)
    );
    let past_our_date = Token {
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..expired
    };
    assert!(world.engine.may_revoke(&past_our_date).is_ok());
    assert!(world.trail().await.is_empty());
    assert!(world.source.ended.lock().unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn what_the_source_refuses_changes_nothing_and_leaves_a_trace(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
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
            sources::Error::NotDone(Box::new(sources::Error::Content {
                place: "revoke".to_owned(),
                reason: "would change 0 rows".to_owned(),
            })),
            "token.revoke_failed",
        ),
        (sources::Error::StillThere, "token.revoke_unknown"),
    ];
    for (failure, action) in failures {
        let said = failure.to_string();
        world.source.revokes.lock().unwrap().push_back(failure);
        let error = world.revoke(&token).await.unwrap_err();
        assert_eq!(error.to_string(), said);
        let trail = world.trail().await;
        let last = trail.last().unwrap();
        assert_eq!(*last, format!("grace {action} shop/k-1: {said}"));
        assert_eq!(world.token("k-1").await, token);
        assert!(world.notices(&token).await.is_empty());
        world.engine.clock.advance(TimeDelta::seconds(1));
    }
}

#[rstest]
#[tokio::test]
async fn a_second_try_settles_what_the_first_was_cut_off_from(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    // As a process leaves it that was killed while the source did as it was told.
    let mut tx = world.engine.store.begin().await.unwrap();
    let entry = ["grace", "token.revoke", "shop/k-1"];
    tx.audit(new_id(now()), now(), entry, None).await.unwrap();
    tx.commit().await.unwrap();
    world.engine.clock.advance(TimeDelta::minutes(1));

    let gone = sources::Error::NoSuchToken("k-1".to_owned());
    world.source.revokes.lock().unwrap().push_back(gone);
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
async fn a_try_that_saw_nothing_leaves_the_one_before_it_in_doubt(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    let unread = || {
        Box::new(sources::Error::Content {
            place: "query".to_owned(),
            reason: "has no column external_id".to_owned(),
        })
    };
    let failures = [
        (sources::Error::NotAsked(unread()), "token.revoke_failed"),
        (sources::Error::Unseen(unread()), "token.revoke_unknown"),
        (sources::Error::NotAsked(unread()), "token.revoke_unknown"),
    ];
    for (failure, action) in failures {
        world.source.revokes.lock().unwrap().push_back(failure);
        world.revoke(&token).await.unwrap_err();
        let last = world.trail().await.pop().unwrap();
        assert!(last.starts_with(&format!("grace {action} ")), "{last}");
        world.engine.clock.advance(TimeDelta::seconds(1));
    }
    let gone = sources::Error::NoSuchToken("k-1".to_owned());
    world.source.revokes.lock().unwrap().push_back(gone);
    world.revoke(&token).await.unwrap();
    assert_eq!(world.token("k-1").await.status, Status::Revoked);
}

#[rstest]
#[tokio::test]
async fn two_who_end_a_token_at_once_tell_everybody_once(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let token = world.list("k-1", now() + TimeDelta::days(30)).await;
    *world.source.orders.lock().unwrap() = Some(Arc::new(Barrier::new(2)));
    let (one, other) = tokio::join!(world.revoke(&token), world.revoke(&token));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.told.len() + other.told.len(), 2);
    let trail = world.trail().await;
    let done = |line: &&String| line.starts_with("grace token.revoked ");
    assert_eq!(trail.iter().filter(done).count(), 1, "{trail:?}");
    world.engine.clock.advance(TimeDelta::minutes(1));
    world.source.tokens.lock().unwrap().clear();
    world.sweep().await;
    assert_eq!(world.mails().len(), 2);

    // Who comes after that, with what he had looked up before, asks nobody.
    let late = world.revoke(&token).await;
    assert!(matches!(
        late,
        Err(Error::Revoke(Refused::NotActive(Status::Revoked)))
    ));
    assert_eq!(world.source.ended.lock().unwrap().len(), 2);
}

#[rstest]
#[tokio::test]
async fn tokens_that_no_whole_listing_held_are_counted_and_guarded(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    world.source.is_partial.store(true, Ordering::Relaxed);
    assert!(world.complaints(0..24).await.is_empty());
    assert_eq!(world.count().await, 24);
    // What it lacks is there all the same.
    assert!(world.complaints(24..25).await.is_empty());
    assert_eq!(world.count().await, 25);
    assert!(world.complaints(0..0).await.is_empty());
    assert_eq!(world.count().await, 25);

    // Then somebody lets it list all, or means to.
    world.source.is_partial.store(false, Ordering::Relaxed);
    let complaints = world.complaints(0..2).await;
    assert!(
        complaints[0].contains("--accept-shrink shop"),
        "{complaints:?}"
    );
    assert_eq!(
        (world.count().await, world.token("k-07").await.status),
        (25, Status::Active)
    );
    assert!(world.complaints(0..20).await.is_empty());
    assert_eq!(
        (world.count().await, world.token("k-22").await.status),
        (20, Status::Gone)
    );
}

#[rstest]
#[tokio::test]
async fn where_most_rows_were_refused_the_first_is_said(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    world.source.refused.store(1, Ordering::Relaxed);
    let complaints = world.complaints(0..24).await;
    assert!(
        complaints[0].contains("1 row was refused"),
        "{complaints:?}"
    );
    assert_eq!(world.count().await, 24);
    world.source.refused.store(23, Ordering::Relaxed);
    assert_eq!(
        world.complaints(0..1).await,
        [
            "source shop: 23 rows were refused, which leaves 1 of the 24 tokens that were there, so \
          nothing was changed; the first: shop.csv:1: no such day"
        ]
    );
    assert_eq!(world.count().await, 24);
}

#[rstest]
#[tokio::test]
async fn admins_whom_the_source_tells_of_are_warned_and_those_who_left_are_not(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let told = |admins: &[AccountAdmin]| {
        *world.source.admins.lock().unwrap() = Some(admins.to_vec());
    };
    told(&[
        admin("acme", "acme-admin@example.org"),
        admin("acme", "left@example.org"),
        admin("other", "other@example.org"),
    ]);
    let token = world.list("k-1", now() + TimeDelta::days(7)).await;
    assert_eq!(
        world.notices(&token).await,
        [
            "expiry acme-admin@example.org sent",
            "expiry ada@example.org sent",
            "expiry boss@example.org sent",
            "expiry left@example.org sent",
        ]
    );
    told(&[admin("acme", "acme-admin@example.org")]);
    world.engine.clock.advance(TimeDelta::days(6));
    world.sweep().await;
    let of_both = world.notices(&token).await;
    let count = |of: &str| of_both.iter().filter(|line| line.contains(of)).count();
    assert_eq!((count("acme-admin@"), count("left@")), (2, 1));
    let mails = world.mails();
    let page = "https://shop.example.org/tokens/k-1";
    assert!(mails.iter().all(|mail| mail.contains(page)), "{mails:?}");
}

#[rstest]
#[tokio::test]
async fn a_dry_run_foresees_what_leaves_what_is_refused_and_who_is_told(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let foresee = async |options: SweepOptions| {
        let mut told = Vec::new();
        let tell = |it: Foreseen| told.push(it.notice.recipient.to_string());
        let report = world.engine.foresee(&options, tell).await.unwrap();
        (report, told)
    };
    *world.source.admins.lock().unwrap() = Some(vec![admin("acme", "left@example.org")]);
    let due = now() + TimeDelta::days(8);
    for n in 0..20 {
        world.list(&format!("k-{n:02}"), due).await;
    }
    *world.source.admins.lock().unwrap() = Some(vec![admin("acme", "new@example.org")]);
    world.source.tokens.lock().unwrap().truncate(11);
    world.engine.clock.advance(TimeDelta::days(1));
    let (report, told) = foresee(SweepOptions::default()).await;
    assert_eq!(
        (report.tokens_gone, report.tokens_due),
        (9, 11),
        "{report:?}"
    );
    let to = |address: &str| told.iter().filter(|it| *it == address).count();
    let counts = ["ada@example.org", "new@example.org", "left@example.org"].map(to);
    assert_eq!(counts, [11, 11, 0]);

    world.source.tokens.lock().unwrap().truncate(2);
    let (report, _) = foresee(SweepOptions::default()).await;
    assert!(
        report.problems[0].contains("--accept-shrink shop"),
        "{report:?}"
    );
    assert_eq!((report.tokens_gone, report.tokens_due), (0, 20));
    let accept = SweepOptions {
        accept_shrink: vec!["shop".to_owned()],
        ..SweepOptions::default()
    };
    let (report, _) = foresee(accept).await;
    assert_eq!((report.tokens_gone, report.tokens_due), (18, 2));
    assert_eq!(
        world.token("k-19").await.status,
        Status::Active,
        "nothing was written"
    );
}
