//! Checks the sync state of directories and how many issuers they cover.

use chrono::{DateTime, Utc};

use super::{Outcome, unreadable_store};
use crate::cli::output::when::format_when;
use crate::config::Config;
use crate::domain::Cover;
use crate::engine;
use crate::store::{self, DirectoryRow, Store};

/// Warns about directories that are held, failing or stale, and about issuers with unknown access.
pub(super) async fn check_people(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Vec<(String, Outcome)> {
    let directories = config.directory_terms();
    let loaded = async {
        let mut tx = store.begin_read().await?;
        let rows = tx.list_directories().await?;
        let stale = engine::stale_directories(&directories, &rows, now);
        let covers = engine::issuer_covers(&mut tx, &config.issuers, &directories, now).await?;
        Ok::<_, store::Error>((rows, stale, covers))
    };
    let (rows, stale, covers) = match loaded.await {
        Ok(loaded) => loaded,
        Err(error) => return vec![("store".to_owned(), unreadable_store(&error))],
    };
    let mut outcomes = Vec::new();
    for row in rows {
        let is_configured = directories.iter().any(|terms| terms.name == row.name);
        let is_stale = is_configured && stale.contains(&row.name);
        let name = format!("directory {}", row.name);
        let warnings = directory_warnings(&row, is_stale, now).into_iter();
        outcomes.extend(warnings.map(|warning| (name.clone(), Outcome::Warning(warning))));
    }
    if !config.directories.is_empty() {
        let warning = coverage_warning(&covers);
        outcomes.extend(warning.map(|text| ("issuers".to_owned(), Outcome::Warning(text))));
    }
    outcomes
}

fn directory_warnings(row: &DirectoryRow, is_stale: bool, now: DateTime<Utc>) -> Vec<String> {
    let name = &row.name;
    let held = row.held.as_ref().map(|held| {
        format!(
            "held: {held}; `lapsed directory sync {name} --dry-run` lists the people, `lapsed directory \
             release {name}` or `reject {name}` decides"
        )
    });
    let error = row.sync_state.error.as_ref().map(|error| {
        let since = row.sync_state.failing_since;
        let since = since.map_or(String::new(), |at| {
            format!(", failing since {}", format_when(at, now))
        });
        format!("last sync: {error}{since}")
    });
    let synced_at = row.sync_state.last_good_sync_at.filter(|_| is_stale);
    let stale = synced_at.map(|at| {
        let at = format_when(at, now);
        format!("its data is stale: the last good sync was {at}; its people are unknown")
    });
    held.into_iter().chain(error).chain(stale).collect()
}

fn coverage_warning(covers: &[(String, Cover)]) -> Option<String> {
    let unknown = covers
        .iter()
        .filter(|(_, cover)| cover.is_unknown())
        .count();
    (unknown > 0).then(|| {
        format!(
            "the access of {unknown} of {} issuers of tokens is unknown; `lapsed identity coverage` shows why, and \
             [issuers] modes excludes accounts that are not people",
            covers.len()
        )
    })
}
