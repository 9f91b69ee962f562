//! Judging with the whole engine: what a source allows, and which tokens a sweep reads.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;
use lapsed::domain::{
    Cell, Expiry, ListedToken, Rules, Schedule, SourceTerms, Status, Token, TokenId,
};
use lapsed::engine::{Engine, WatchedSource};
use lapsed::sources::{CheckReport, Error, Fetched, LastListing, Listing, MaxLife, Source, Tokens};
use lapsed::store::{FindingFilter, Store};
use rstest::rstest;

use crate::db::Db;
use crate::world::{self, now};
use Db::{Postgres, Sqlite};

/// A source with one clean token, which allows this life.
struct Allows(Option<MaxLife>);

#[async_trait]
impl Source for Allows {
    async fn fetch(&self, _: &LastListing) -> Result<Fetched<Listing>, Error> {
        let later = Expiry::At(now() + TimeDelta::days(85));
        let token = ListedToken {
            expiry: Cell::Value(later),
            ..ListedToken::with_id("1")
        };
        Ok(Fetched::New(Listing {
            tokens: Tokens(Box::new(std::iter::once(Ok(token)))),
            count: 1,
            max_life: self.0.clone(),
            ..Listing::default()
        }))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        Ok(CheckReport::default())
    }
}

fn engine(store: &Store, folder: &std::path::Path, rules: Rules, source: Allows) -> Engine {
    let mut engine = world::engine(store, &folder.join("outbox"));
    engine.policy.rules = rules;
    engine.sources.push(WatchedSource {
        terms: SourceTerms {
            name: "rancher".into(),
            kind: "rancher",
            ..SourceTerms::default()
        },
        source: Arc::new(source),
    });
    engine
}

async fn sweep(engine: &Engine) -> (u64, u64) {
    let report = world::sweep(engine).await;
    assert!(!report.is_failure(), "{report:?}");
    (report.findings_opened, report.findings_resolved)
}

async fn evidence(store: &Store) -> Vec<String> {
    let mut tx = store.begin_read().await.unwrap();
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
async fn a_source_limit_is_a_finding_until_it_or_max_ttl_changes(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let any = Rules::default();
    let strict = Rules {
        max_ttl: Some(TimeDelta::days(90)),
        ..any
    };
    let engine = |rules, source| engine(&store, fresh.folder(), rules, Allows(source));
    let lives = |life| {
        Some(MaxLife {
            life,
            evidence: "auth-token-max-ttl-minutes".into(),
        })
    };
    let year = lives(Some(TimeDelta::days(365)));

    assert_eq!(sweep(&engine(strict, lives(None))).await, (1, 0));
    let unlimited = "rancher: auth-token-max-ttl-minutes: tokens may live without an expiry";
    assert_eq!(evidence(&store).await, [unlimited]);
    assert_eq!(sweep(&engine(strict, lives(None))).await, (0, 0), "once");
    // New evidence of the same finding; then the source reports nothing, and the finding stays.
    let too_long = "rancher: auth-token-max-ttl-minutes: tokens may live 365d, max_ttl is 90d";
    assert_eq!(sweep(&engine(strict, year)).await, (0, 0));
    assert_eq!(evidence(&store).await, [too_long]);
    assert_eq!(sweep(&engine(strict, None)).await, (0, 0));
    assert_eq!(evidence(&store).await, [too_long]);
    // Our rules change, then those of the source.
    assert_eq!(sweep(&engine(any, None)).await, (0, 1));
    assert_eq!(sweep(&engine(strict, None)).await, (1, 0));
    let month = lives(Some(TimeDelta::days(30)));
    assert_eq!(sweep(&engine(strict, month)).await, (0, 1));
    assert!(evidence(&store).await.is_empty());
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_sweep_judges_no_token_that_is_not_due(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let engine = engine(&store, fresh.folder(), Rules::default(), Allows(None));
    sweep(&engine).await;
    // Stored without a `judge_at`: only a sweep that reads all tokens would find it.
    let mut tx = store.begin().await.unwrap();
    let mut token = tx
        .load_tokens(&[TokenId::new("rancher", "1")])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(token.judge_at, None, "a clean token is not judged again");
    token = Token {
        id: TokenId::new("shop", "2"),
        source: "shop".into(),
        expiry: Expiry::Never,
        status: Status::Active,
        ..token
    };
    tx.insert_tokens(&[token.clone()]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sweep(&engine).await, (0, 0));
    let mut tx = store.begin().await.unwrap();
    tx.set_judge_at(&[(token.id, Some(now()))]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sweep(&engine).await, (1, 0));
    assert_eq!(sweep(&engine).await, (0, 0));
    let mut tx = store.begin_read().await.unwrap();
    assert!(
        !tx.has_tokens_to_judge(now() + TimeDelta::days(9_000))
            .await
            .unwrap()
    );
    drop(tx);
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_finding_from_a_clock_ahead_is_judged_once_and_not_in_each_sweep(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let engine = engine(&store, fresh.folder(), Rules::default(), Allows(None));
    let ahead = now() + TimeDelta::days(30);
    engine.clock.advance(ahead - now());
    sweep(&engine).await;
    let mut tx = store.begin().await.unwrap();
    let first = tx.load_tokens(&[TokenId::new("rancher", "1")]).await;
    let token = Token {
        id: TokenId::new("shop", "2"),
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
    assert_eq!(sweep(&engine).await, (0, 0), "it still has no expiry");
    let mut tx = store.begin_read().await.unwrap();
    assert!(!tx.has_tokens_to_judge(now()).await.unwrap());
    let findings = tx.load_open_findings(&[token.id]).await.unwrap();
    assert_eq!(findings[0].since, now());
    drop(tx);
    store.close().await;
}

/// An engine with one admin and a source that allows tokens without an expiry.
fn engine_with_admin(store: &Store, folder: &std::path::Path) -> Engine {
    let unlimited = MaxLife {
        life: None,
        evidence: "auth-token-max-ttl-minutes".into(),
    };
    let mut engine = engine(store, folder, Rules::default(), Allows(Some(unlimited)));
    engine.policy.admins = vec!["boss@example.org".parse().unwrap()];
    engine
}

/// The notices that a sweep plans this many days later.
async fn notices_after(engine: &Engine, days: i64) -> u64 {
    engine.clock.advance(TimeDelta::days(days));
    let report = world::sweep(engine).await;
    assert!(!report.is_failure(), "{report:?}");
    report.notices_planned
}

#[rstest]
#[tokio::test]
async fn an_enabled_or_moved_summary_is_not_sent_for_the_past(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let mut engine = engine_with_admin(&store, fresh.folder());
    let at = |schedule| Some(Schedule::new(schedule, chrono_tz::UTC).unwrap());
    engine.settings.summary = at("0 9 * * 1");
    assert_eq!(notices_after(&engine, 0).await, 0);
    assert_eq!(notices_after(&engine, 2).await, 1, "it is Monday");
    engine.settings.summary = None;
    assert_eq!(notices_after(&engine, 8).await, 0);
    assert_eq!(notices_after(&engine, 8).await, 0);
    engine.settings.summary = at("0 9 * * 1");
    assert_eq!(
        notices_after(&engine, 0).await,
        0,
        "three Mondays have passed"
    );
    assert_eq!(notices_after(&engine, 5).await, 1);
    engine.settings.summary = at("0 8 * * *");
    assert_eq!(
        notices_after(&engine, 3).await,
        0,
        "the schedule has just changed"
    );
    assert_eq!(notices_after(&engine, 1).await, 1);
    assert_eq!(
        notices_after(&engine, 3).await,
        1,
        "one summary replaces several missed ones"
    );
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn the_tokens_of_a_ghost_leave_the_summary_after_its_grace(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let mut engine = engine_with_admin(&store, fresh.folder());
    engine.settings.summary = Some(Schedule::new("0 9 * * 1", chrono_tz::UTC).unwrap());
    assert_eq!(notices_after(&engine, 0).await, 0);
    assert_eq!(notices_after(&engine, 2).await, 1, "it is Monday");
    let sources = std::mem::take(&mut engine.sources);
    let open = async |at| {
        let mut tx = store.begin_read().await.unwrap();
        let silent = tx.list_silent_sources(at).await.unwrap();
        tx.count_open_findings(at, &silent).await.unwrap().len()
    };
    assert_eq!(
        notices_after(&engine, 7).await,
        2,
        "the summary, and an alert"
    );
    assert_eq!(open(engine.now()).await, 2);
    assert_eq!(
        notices_after(&engine, 7).await,
        2,
        "the same, at the end of its grace"
    );
    assert_eq!(
        open(engine.now()).await,
        1,
        "only that it is not configured"
    );
    engine.sources = sources;
    assert_eq!(notices_after(&engine, 7).await, 1);
    assert_eq!(open(engine.now()).await, 1);
    store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_summary_at_the_time_of_the_daily_mail_is_merged_with_it(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let mut engine = engine_with_admin(&store, fresh.folder());
    engine.settings.summary = Some(Schedule::new("0 9 * * 1", chrono_tz::UTC).unwrap());
    engine.policy.admin_digest = chrono::NaiveTime::from_hms_opt(9, 0, 0);
    engine.policy.merge_ahead = TimeDelta::hours(1);
    assert_eq!(notices_after(&engine, 0).await, 0);
    let mut tx = store.begin().await.unwrap();
    let first = tx.load_tokens(&[TokenId::new("rancher", "1")]).await;
    let token = Token {
        id: TokenId::new("shop", "2"),
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
    assert_eq!(
        notices_after(&engine, 2).await,
        2,
        "a warning and the summary"
    );
    let mails = || std::fs::read_dir(fresh.folder().join("outbox")).unwrap();
    assert_eq!(mails().count(), 1);
    engine.clock.advance(TimeDelta::minutes(1));
    assert_eq!(notices_after(&engine, 0).await, 0);
    assert_eq!(mails().count(), 1);
    assert_eq!(
        notices_after(&engine, 7).await,
        2,
        "the next summary, and the step of one day"
    );
    store.close().await;
}
