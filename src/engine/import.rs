//! Imports tokens from a file. An import is never a complete listing: tokens that are not in the file stay as they
//! are.

use crate::clock::Clock;
use crate::domain::{ListedToken, MergeRules, Policy};
use crate::sources::Listing;
use crate::store::Store;

use super::common::{Error, PAGE_SIZE, Report};
use super::sync::Changes;

/// The default source of imported tokens.
pub const LOCAL: &str = "local";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportCounts {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Rows that could not be read.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    Write,
    DryRun,
}

#[derive(Debug, Clone, Copy)]
pub struct ImportTarget<'a> {
    pub store: &'a Store,
    pub policy: &'a Policy,
    pub clock: &'a Clock,
    pub source: &'a str,
    pub mode: ImportMode,
}

/// Imports a listing. `progress` gets the number of rows done so far.
pub async fn import(
    target: ImportTarget<'_>,
    listing: Listing,
    mut progress: impl FnMut(u64) + Send,
) -> Result<ImportCounts, Error> {
    let ImportTarget {
        store,
        policy,
        clock,
        source,
        mode,
    } = target;
    let Listing {
        mut tokens,
        refusals,
        ..
    } = listing;
    let rules = MergeRules::from(policy);
    let mut report = Report::default();
    let mut rows = 0;
    let page = usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX);
    loop {
        let listed: Vec<ListedToken> = tokens.by_ref().take(page).collect::<Result<_, _>>()?;
        if listed.is_empty() {
            break;
        }
        rows += listed.len() as u64;
        let mut tx = match mode {
            ImportMode::Write => store.begin().await?,
            ImportMode::DryRun => store.begin_read().await?,
        };
        let now = clock.now();
        let changes = Changes::from_rows(&mut tx, source, listed, rules, now).await?;
        changes.count(&mut report);
        if mode == ImportMode::Write {
            changes.write(&mut tx, rules, now).await?;
            tx.commit().await?;
        }
        progress(rows);
    }
    Ok(ImportCounts {
        new: report.tokens_new,
        changed: report.tokens_changed,
        unchanged: rows - report.tokens_new - report.tokens_changed,
        refused: refusals.count,
    })
}
