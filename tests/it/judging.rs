//! Judging with the whole engine: what a source allows, and what a sweep with nothing due reads.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::{Expiry, Listed, Policy, Rules, Schedule, Status, Token, TokenId};
use lapsed::engine::{self, Engine, LastPurge, SweepOptions, Watched};
use lapsed::sources::{Checked, Error, Fetched, Last, Listing, LongestLife, Source, Tokens};
use lapsed::store::{FindingFilter, Store};
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::parts;

/// A source with one clean token, which allows so long a life.
struct Allows(Option<LongestLife>);

#[async_trait]
impl Source for Allows {
    async fn fetch(&self, _: &Last) -> Result<Fetched<Listing>, Error> {
        let token = Listed::named("1");
        Ok(Fetched::New(Listing {
            tokens: Tokens(Box::new(std::iter::once(Ok(token)))),
            count: 1,
            longest_life: self.0.clone(),
            ..Listing::default()
        }))
    }

    async fn check(&self) -> Result<Checked, Error> {
        Ok(Checked::default())
    }
}

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

fn engine(store: &Store, folder: &std::path::Path, rules: Rules, source: Allows) -> Engine {
    Engine {
        store: store.clone(),
        policy: Policy {
            rules,
            ..parts::policy()
        },
        settings: parts::settings(),
        post: parts::post(&folder.join("outbox")),
        sources: vec![Watched {
            name: "rancher".into(),
            kind: "rancher",
            source: Arc::new(source),
            schedule: None,
            allow_revoke: false,
            policy_ttl: None,
            owners: None,
        }],
        directories: Vec::new(),
        issuers: lapsed::domain::Issuers::default(),
        holder: engine::new_id(now()),
        last_purge: LastPurge::default(),
        on_progress: Box::new(|| ()),
        clock: Clock::manual(now()),
    }
}

async fn sweep(engine: &Engine) -> (u64, u64) {
    let stop = CancellationToken::new();
    let report = engine.sweep(&SweepOptions::default(), &stop).await;
    assert!(!report.is_failure(), "{report:?}");
    (report.findings_opened, report.findings_resolved)
}

async fn evidence(store: &Store) -> Vec<String> {
    let mut tx = store.read().await.unwrap();
    let rows = tx
        .list_findings(FindingFilter::default(), None, now(), 10)
        .await
        .unwrap();
    rows.into_iter()
        .map(|row| {
            assert_eq!(
                (row.token_id, row.kind.as_str()),
                (None, "source_allows_unlimited")
            );
            format!("{}: {}", row.token_name, row.evidence)
        })
        .collect()
}

#[rstest]
#[tokio::test]
async fn what_a_source_allows_is_a_finding_until_it_allows_less_or_we_more(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let any = Rules::default();
    let strict = Rules {
        max_ttl: Some(TimeDelta::days(90)),
        ..any
    };
    let engine = |rules, source| engine(&store, fresh.folder(), rules, Allows(source));
    let lives = |life| {
        Some(LongestLife {
            life,
            evidence: "auth-token-max-ttl-minutes".into(),
        })
    };
    let year = lives(Some(TimeDelta::days(365)));

    assert_eq!(sweep(&engine(strict, lives(None))).await, (1, 0));
    let forever = "rancher: auth-token-max-ttl-minutes: tokens may live for ever";
    assert_eq!(evidence(&store).await, [forever]);
    assert_eq!(sweep(&engine(strict, lives(None))).await, (0, 0), "once");
    // Another evidence of the same, then nobody tells: what is known stays.
    let too_long = "rancher: auth-token-max-ttl-minutes: tokens may live 365d, max_ttl is 90d";
    assert_eq!(sweep(&engine(strict, year)).await, (0, 0));
    assert_eq!(evidence(&store).await, [too_long]);
    assert_eq!(sweep(&engine(strict, None)).await, (0, 0));
    assert_eq!(evidence(&store).await, [too_long]);
    // Our rules change, and those of the source.
    assert_eq!(sweep(&engine(any, None)).await, (0, 1));
    assert_eq!(sweep(&engine(strict, None)).await, (1, 0));
    let month = lives(Some(TimeDelta::days(30)));
    assert_eq!(sweep(&engine(strict, month)).await, (0, 1));
    assert!(evidence(&store).await.is_empty());
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_sweep_looks_at_no_token_whose_time_has_not_come(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let engine = engine(&store, fresh.folder(), Rules::default(), Allows(None));
    sweep(&engine).await;
    // Written past all that asks for a look; only who reads it would find it.
    let mut tx = store.begin().await.unwrap();
    let mut token = tx
        .tokens_by_id(&[TokenId::of("rancher", "1")])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(token.judge_at, None, "a clean token costs nothing later");
    token = Token {
        id: TokenId::of("shop", "2"),
        source: "shop".into(),
        expiry: Expiry::Never,
        status: Status::Active,
        ..token
    };
    tx.insert_tokens(&[token.clone()]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sweep(&engine).await, (0, 0));
    let mut tx = store.begin().await.unwrap();
    tx.put_judge_at(&[(token.id, Some(now()))]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sweep(&engine).await, (1, 0));
    assert_eq!(sweep(&engine).await, (0, 0));
    let mut tx = store.read().await.unwrap();
    assert!(
        !tx.is_any_to_judge(now() + TimeDelta::days(9_000))
            .await
            .unwrap()
    );
    drop(tx);
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn what_a_clock_that_was_ahead_found_is_looked_at_once_and_not_in_each_sweep(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let engine = engine(&store, fresh.folder(), Rules::default(), Allows(None));
    let ahead = now() + TimeDelta::days(30);
    engine.clock.advance(ahead - now());
    sweep(&engine).await;
    let mut tx = store.begin().await.unwrap();
    let first = tx.tokens_by_id(&[TokenId::of("rancher", "1")]).await;
    let token = Token {
        id: TokenId::of("shop", "2"),
        source: "shop".into(),
        expiry: Expiry::Never,
        judge_at: Some(ahead),
        ..first.unwrap().remove(0)
    };
    assert_eq!((token.created_at, token.first_seen_at), (None, ahead));
    tx.insert_tokens(std::slice::from_ref(&token))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sweep(&engine).await, (1, 0));

    engine.clock.advance(now() - ahead);
    assert_eq!(sweep(&engine).await, (0, 0), "it still never ends");
    let mut tx = store.read().await.unwrap();
    assert!(!tx.is_any_to_judge(now()).await.unwrap());
    let standing = tx.standing_of(&[token.id]).await.unwrap();
    assert_eq!(standing[0].since, now());
    drop(tx);
    store.close().await;
}

/// One that never tells admins, of a source that lets tokens live for ever.
fn silent(store: &Store, folder: &std::path::Path) -> Engine {
    let forever = LongestLife {
        life: None,
        evidence: "auth-token-max-ttl-minutes".into(),
    };
    let mut engine = engine(store, folder, Rules::default(), Allows(Some(forever)));
    engine.policy.admins = vec!["boss@example.org".parse().unwrap()];
    engine
}

/// How many admins are to be told so many days later.
async fn told(engine: &Engine, days: i64) -> u64 {
    engine.clock.advance(TimeDelta::days(days));
    let stop = CancellationToken::new();
    let report = engine.sweep(&SweepOptions::default(), &stop).await;
    assert!(!report.is_failure(), "{report:?}");
    report.notices_planned
}

#[rstest]
#[tokio::test]
async fn a_summary_that_is_switched_on_or_moved_makes_up_for_nothing(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let mut engine = silent(&store, fresh.folder());
    let by = |schedule| Some(Schedule::new(schedule, chrono_tz::UTC).unwrap());
    engine.settings.summary = by("0 9 * * 1");
    assert_eq!(told(&engine, 0).await, 0);
    assert_eq!(told(&engine, 2).await, 1, "it is Monday");
    engine.settings.summary = None;
    assert_eq!(told(&engine, 8).await, 0);
    assert_eq!(told(&engine, 8).await, 0);
    engine.settings.summary = by("0 9 * * 1");
    assert_eq!(told(&engine, 0).await, 0, "three Mondays have passed");
    assert_eq!(told(&engine, 5).await, 1);
    engine.settings.summary = by("0 8 * * *");
    assert_eq!(told(&engine, 3).await, 0, "nobody promised a mail a day");
    assert_eq!(told(&engine, 1).await, 1);
    assert_eq!(told(&engine, 3).await, 1, "several are made up by one");
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_source_that_is_no_longer_configured_is_not_in_the_summary(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let mut engine = silent(&store, fresh.folder());
    engine.settings.summary = Some(Schedule::new("0 9 * * 1", chrono_tz::UTC).unwrap());
    assert_eq!(told(&engine, 0).await, 0);
    assert_eq!(told(&engine, 2).await, 1, "it is Monday");
    let sources = std::mem::take(&mut engine.sources);
    assert_eq!(told(&engine, 7).await, 0, "nobody asks it any more");
    assert_eq!(evidence(&store).await.len(), 1, "it is still known");
    engine.sources = sources;
    assert_eq!(told(&engine, 7).await, 1);
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_summary_of_the_hour_of_the_daily_mail_goes_with_it(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let mut engine = silent(&store, fresh.folder());
    engine.settings.summary = Some(Schedule::new("0 9 * * 1", chrono_tz::UTC).unwrap());
    engine.policy.admin_digest = chrono::NaiveTime::from_hms_opt(9, 0, 0);
    engine.policy.merge_ahead = TimeDelta::hours(1);
    assert_eq!(told(&engine, 0).await, 0);
    let mut tx = store.begin().await.unwrap();
    let first = tx.tokens_by_id(&[TokenId::of("rancher", "1")]).await;
    let token = Token {
        id: TokenId::of("shop", "2"),
        source: "shop".into(),
        expiry: Expiry::At(now() + TimeDelta::hours(2 * 24 + 7 * 24 + 5)),
        ..first.unwrap().remove(0)
    };
    let due_at = engine.policy.due_at(&token);
    tx.insert_tokens(&[Token { due_at, ..token }])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    engine.clock.advance(TimeDelta::minutes(-1));
    assert_eq!(told(&engine, 2).await, 2, "a warning and the summary");
    let mails = || std::fs::read_dir(fresh.folder().join("outbox")).unwrap();
    assert_eq!(mails().count(), 1);
    engine.clock.advance(TimeDelta::minutes(1));
    assert_eq!(told(&engine, 0).await, 0);
    assert_eq!(mails().count(), 1);
    assert_eq!(
        told(&engine, 7).await,
        2,
        "the next summary, and a day is left"
    );
    store.close().await;
}
