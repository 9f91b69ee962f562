//! What is doubtful about directories and the people they should know.

use chrono::{DateTime, Utc};

use super::{Finding, no_answer};
use crate::cli::freshness::Freshness;
use crate::cli::output::when::{Instant, when};
use crate::config::Config;
use crate::domain::Cover;
use crate::engine;
use crate::store::{self, DirectoryRow, Store};

/// Directories that are held, fail, or whose word holds no longer; and how many issuers nobody knows of.
pub(super) async fn doubts(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Vec<(String, Finding)> {
    let freshness = Freshness::of(config);
    let looked = async {
        let mut tx = store.read().await?;
        let rows = tx.directories().await?;
        let stale = freshness.stale(&rows, now);
        let names = freshness.names();
        let covers = engine::covers(&mut tx, &config.issuers, (&names, &stale), now).await?;
        Ok::<_, store::Error>((rows, stale, covers))
    };
    let (rows, stale, covers) = match looked.await {
        Ok(seen) => seen,
        Err(error) => return vec![("store".to_owned(), no_answer(&error))],
    };
    let mut found = Vec::new();
    for row in rows {
        let is_configured = freshness.names().contains(&row.name);
        let is_stale = is_configured && stale.contains(&row.name);
        let name = format!("directory {}", row.name);
        let doubts = of_directory(&row, is_stale, now).into_iter();
        found.extend(doubts.map(|doubt| (name.clone(), Finding::Doubtful(doubt))));
    }
    if !config.directories.is_empty() {
        found.extend(unknown(&covers).map(|said| ("issuers".to_owned(), Finding::Doubtful(said))));
    }
    found
}

fn of_directory(row: &DirectoryRow, is_stale: bool, now: DateTime<Utc>) -> Vec<String> {
    let name = &row.name;
    let held = row.held.as_ref().map(|held| {
        format!(
            "held: {held}; `lapsed directory sync {name} --dry-run` shows whom it is about, `lapsed directory \
             release {name}` or `reject {name}` decides"
        )
    });
    let error = row.standing.error.as_ref().map(|error| {
        let since = row.standing.failing_since;
        let since = since.map_or(String::new(), |at| {
            format!(", failing since {}", when(Instant(at), now))
        });
        format!("last time: {error}{since}")
    });
    let read_at = row.standing.last_good_sync_at.filter(|_| is_stale);
    let stale = read_at.map(|at| {
        let at = when(Instant(at), now);
        format!("its word holds no longer: it was last read well {at}; its people are unknown")
    });
    held.into_iter().chain(error).chain(stale).collect()
}

fn unknown(covers: &[(String, Cover)]) -> Option<String> {
    let unknown = covers
        .iter()
        .filter(|(_, cover)| cover.is_unknown())
        .count();
    (unknown > 0).then(|| {
        format!(
            "whether they still have access is not known of {unknown} of {} issuers of tokens; `lapsed identity \
             coverage` says why, and [issuers] modes leaves out who is no person",
            covers.len()
        )
    })
}
