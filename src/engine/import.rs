//! Import: tokens from a file into the built-in store. Never a listing: what a file leaves out
//! stays as it is.

use crate::clock::Clock;
use crate::domain::{Listed, Policy, Terms};
use crate::sources::Listing;
use crate::store::Store;

use super::sync::Changes;
use super::{Error, PAGE, Report};

/// The source that imported tokens belong to unless another is named.
pub const LOCAL: &str = "local";

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ImportCounts {
    /// Tokens seen for the first time.
    pub new: u64,
    /// Tokens with something different about them.
    pub changed: u64,
    /// Tokens that were known as they are.
    pub unchanged: u64,
    /// Rows that were refused.
    pub refused: u64,
}

/// Whether an import writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Write,
    /// It only says what it would do.
    DryRun,
}

/// What tokens are taken into.
#[derive(Debug, Clone, Copy)]
pub struct Into<'a> {
    /// The store.
    pub store: &'a Store,
    /// By which the tokens become due.
    pub policy: &'a Policy,
    /// When they were seen.
    pub clock: &'a Clock,
    /// The source they belong to.
    pub source: &'a str,
    /// Whether anything is written.
    pub mode: Mode,
}

/// Takes in a listing; `progress` is told the rows done so far.
pub async fn import(
    into: Into<'_>,
    listing: Listing,
    mut progress: impl FnMut(u64) + Send,
) -> Result<ImportCounts, Error> {
    let Into {
        store,
        policy,
        clock,
        source,
        mode,
    } = into;
    let Listing {
        mut tokens,
        refusals,
        ..
    } = listing;
    let terms = Terms::from(policy);
    let mut report = Report::default();
    let mut rows = 0;
    let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
    loop {
        let listed: Vec<Listed> = tokens.by_ref().take(page).collect::<Result<_, _>>()?;
        if listed.is_empty() {
            break;
        }
        rows += listed.len() as u64;
        let mut tx = match mode {
            Mode::Write => store.begin().await?,
            Mode::DryRun => store.read().await?,
        };
        let now = clock.now();
        let changes = Changes::of_rows(&mut tx, source, listed, terms, now).await?;
        changes.count(&mut report);
        if mode == Mode::Write {
            changes.write(&mut tx, terms, now).await?;
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
