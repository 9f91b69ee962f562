//! `lapsed identity coverage`: whose loss of access some directory would tell of.

use chrono::{DateTime, Utc};

use crate::cli::{
    args::IdentityCoverage,
    freshness::Freshness,
    output::{
        Printer,
        rows::{CoverageRow, CoveredRow},
    },
    setup::store_failure,
};
use crate::config::Config;
use crate::domain::{Cover, Issuers};
use crate::engine;
use crate::store::Store;

pub(super) async fn coverage(
    store: &Store,
    config: &Config,
    args: &IdentityCoverage,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let freshness = Freshness::of(config);
    let listing = args.listing;
    let limit = listing
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    if let Some(of) = args.of {
        let mut printer = Printer::stdout(listing.format, now);
        let issuers = covers(store, &config.issuers, &freshness, now).await?;
        let shown = issuers.iter().filter(|(_, cover)| *cover == of);
        for (email, cover) in shown.take(limit) {
            printer.row(&CoveredRow {
                email: email.clone(),
                cover: cover.group(),
                reason: reason(*cover),
            })?;
        }
        printer.finish()?;
    } else {
        let mut printer = Printer::stdout(listing.format, now);
        let rows = counts(store, &config.issuers, &freshness, now).await?;
        for row in rows.iter().take(limit) {
            printer.row(row)?;
        }
        printer.finish()?;
    }
    Ok(())
}

/// Every issuer of working tokens with what is known of them.
pub(in crate::cli) async fn covers(
    store: &Store,
    issuers: &Issuers,
    freshness: &Freshness,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<(String, Cover)>> {
    let stale = freshness.stale_in(store, now).await?;
    let mut tx = store.read().await.map_err(store_failure)?;
    let covers = engine::covers(&mut tx, issuers, (&freshness.names(), &stale), now).await;
    Ok(covers.map_err(store_failure)?)
}

/// A line for each kind there is; those of active and lost always.
pub(in crate::cli) async fn counts(
    store: &Store,
    issuers: &Issuers,
    freshness: &Freshness,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<CoverageRow>> {
    let coverage = engine::counted(&covers(store, issuers, freshness, now).await?);
    let mut tx = store.read().await.map_err(store_failure)?;
    let without = tx.count_without_issuer(now).await.map_err(store_failure)?;
    drop(tx);
    let row = |cover: &Cover| {
        let count = coverage.get(cover).copied().unwrap_or_default();
        let is_shown = count > 0 || matches!(cover, Cover::Active | Cover::Lost);
        is_shown.then(|| CoverageRow {
            cover: cover.group(),
            reason: reason(*cover),
            count,
            command: format!("lapsed identity coverage --of {cover}"),
        })
    };
    let mut rows: Vec<CoverageRow> = Cover::ALL.iter().filter_map(row).collect();
    rows.push(CoverageRow {
        cover: "no_issuer",
        reason: None,
        count: u64::try_from(without).unwrap_or_default(),
        command: "lapsed token list --no-issuer".to_owned(),
    });
    Ok(rows)
}

/// Why somebody is unknown or not covered.
fn reason(cover: Cover) -> Option<&'static str> {
    (!matches!(cover, Cover::Active | Cover::Lost)).then(|| cover.as_str())
}
