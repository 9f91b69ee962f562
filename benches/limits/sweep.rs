//! Sweeps: the cost of one with nothing due, and the rates of planning a backlog and a day.

use std::time::Instant;

use chrono::TimeDelta;
use lapsed::clock::Clock;
use lapsed::engine::SweepOptions;
use tokio_util::sync::CancellationToken;

use super::data::{self, Place, Raw, START, Shape};
use super::{Options, median, print_result, start};

/// Measures stores of every size on both databases.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let sizes: &[u64] = if options.quick {
        &[100_000, 1_000_000]
    } else {
        &[100_000, 1_000_000, 10_000_000]
    };
    for place in options.places() {
        let mut smallest = None;
        for tokens in sizes.iter().copied() {
            let idle = measure(&place, tokens).await?;
            let flat = idle / *smallest.get_or_insert(idle);
            print_result(&format!(
                "{} {tokens}: nothing due {idle:.2} ms, {flat:.2} of the smallest store",
                place.name()
            ));
            place.clear("bench_sweep").await?;
        }
    }
    Ok(())
}

/// Sweeps one store; returns the milliseconds of a sweep with nothing due.
async fn measure(place: &Place, tokens: u64) -> anyhow::Result<f64> {
    let shape = Shape::of(tokens);
    let policy = data::policy(shape.accounts);
    let start_of_generation = Instant::now();
    let url = place.generate("bench_sweep", shape, &policy).await?;
    print_result(&format!(
        "{} {tokens}: start_of_generation in {:.1} s",
        place.name(),
        start_of_generation.elapsed().as_secs_f64()
    ));
    let clock = Clock::manual(start());
    let engine = data::engine(&url, clock.clone(), policy, (9, 1)).await?;
    let stop = CancellationToken::new();
    let sweep = || async {
        let started = Instant::now();
        let report = engine.prepare(&SweepOptions::default(), &stop).await;
        anyhow::ensure!(report.errors.is_empty(), "{:?}", report.errors);
        Ok((report, started.elapsed().as_secs_f64()))
    };
    let (report, seconds) = sweep().await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = |notices: u64, seconds: f64| notices as f64 / seconds;
    let backlog = rate(report.notices_planned, seconds);
    print_result(&format!(
        "{} {tokens}: backlog of {} notices in {seconds:.2} s, {backlog:.0}/s",
        place.name(),
        report.notices_planned
    ));
    let mut idle = Vec::new();
    for _ in 0..9 {
        idle.push(sweep().await?.1 * 1000.0);
    }
    let mut days = Vec::new();
    for _ in 0..7 {
        clock.advance(TimeDelta::days(1));
        let (report, seconds) = sweep().await?;
        days.push(rate(report.notices_planned, seconds));
    }
    let day = median(days);
    print_result(&format!(
        "{} {tokens}: a day's notices {day:.0}/s (median of 7)",
        place.name()
    ));
    engine.store.close().await;
    if let Place::Postgres(_) = place {
        let (first, daily) = reference(place, tokens).await?;
        print_result(&format!(
            "{} {tokens}: reference SQL backlog {first:.0}/s, a day {daily:.0}/s; ratios {:.2}, {:.2}",
            place.name(),
            backlog / first,
            day / daily
        ));
    }
    Ok(median(idle))
}

/// The notices per second that set-based SQL plans on a plain schema: for the backlog, and for a day.
async fn reference(place: &Place, tokens: u64) -> anyhow::Result<(f64, f64)> {
    place.clear("bench_reference").await?;
    let mut raw = Raw::connect(&place.url("bench_reference")).await?;
    let plain = |sql: &str| -> String {
        let lines = sql
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default());
        lines
            .collect::<Vec<_>>()
            .join("\n")
            .replace(":t0", &START.to_string())
            .replace(":n", &tokens.to_string())
    };
    raw.run(&plain(include_str!("../baseline/pg_schema.sql")))
        .await?;
    raw.run(&plain(include_str!("../sql/pg_generate.sql")))
        .await?;
    raw.run(&plain(include_str!("../baseline/pg_indexes.sql")))
        .await?;
    raw.run("VACUUM ANALYZE").await?;
    let mut rates = Vec::new();
    for day in 0..=7 {
        let now = START + day * 86_400;
        let window = if day == 0 { BACKLOG } else { DAY };
        let sql = format!("{window}{PLAN}")
            .replace(":now", &now.to_string())
            .replace(":prev", &(now - 86_400).to_string());
        let started = Instant::now();
        let rows = raw.run(&sql).await?;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        rates.push(rows as f64 / started.elapsed().as_secs_f64());
    }
    let daily = median(rates.split_off(1));
    drop(raw);
    place.clear("bench_reference").await?;
    Ok((rates[0], daily))
}

/// Form A of `benches/sql/reference.sql`.
const BACKLOG: &str = "WITH due AS MATERIALIZED (
  SELECT id, account_id, issuer_id, CASE WHEN expires_at <= :now+86400 THEN 1 ELSE 7 END AS threshold
  FROM tokens WHERE status=0 AND expires_at > :now AND expires_at <= :now+604800)";
/// Form B.
const DAY: &str = "WITH due AS MATERIALIZED (
  SELECT id, account_id, issuer_id, 1 AS threshold FROM tokens WHERE status=0 AND expires_at > :prev+86400  AND expires_at <= :now+86400  AND expires_at > :now
  UNION ALL
  SELECT id, account_id, issuer_id, 7 AS threshold FROM tokens WHERE status=0 AND expires_at > :prev+604800 AND expires_at <= :now+604800 AND expires_at > :now+86400)";
const PLAN: &str = "
INSERT INTO notices (token_id, threshold, recipient_id, created_at)
SELECT id, threshold, issuer_id, :now FROM due WHERE true
UNION ALL
SELECT d.id, d.threshold, a.user_id, :now FROM due d JOIN account_admins a ON a.account_id=d.account_id WHERE a.user_id <> d.issuer_id
ON CONFLICT DO NOTHING";
