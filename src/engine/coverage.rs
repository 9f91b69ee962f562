//! Coverage: the issuers whose loss of access a directory would report.

use chrono::{DateTime, Utc};

use crate::domain::{Cover, Coverage, DirectoryTerms, IdentityStatus, Issuers, Reason};
use crate::store::{self, DirectoryRow, Tx};

/// The names of the directories in the store whose data is too old to count, or that are not configured.
#[must_use]
pub fn stale_directories(
    configured: &[&DirectoryTerms],
    rows: &[DirectoryRow],
    now: DateTime<Utc>,
) -> Vec<String> {
    let is_fresh = |row: &DirectoryRow| {
        let read_at = row.sync_state.last_good_sync_at;
        let mut terms = configured.iter().filter(|terms| terms.name == row.name);
        terms.any(|terms| terms.is_fresh(read_at, now))
    };
    let stale = rows.iter().filter(|row| !is_fresh(row));
    stale.map(|row| row.name.clone()).collect()
}

/// Every issuer of working tokens with what is known about them, in order of address. Stale data does not count.
pub async fn issuer_covers(
    tx: &mut Tx,
    issuers: &Issuers,
    directories: &[&DirectoryTerms],
    now: DateTime<Utc>,
) -> store::Result<Vec<(String, Cover)>> {
    let stale = stale_directories(directories, &tx.list_directories().await?, now);
    let names = directories.iter().map(|terms| terms.name.clone());
    let names: Vec<String> = names.collect();
    let rows = tx.list_issuer_identities(&names, now).await?;
    let covers = rows
        .chunk_by(|a, b| a.email_key == b.email_key)
        .map(|rows| {
            let statuses: Vec<_> = rows
                .iter()
                .filter_map(|row| row.directory.as_ref().zip(row.status).zip(Some(row.reason)))
                .map(|((directory, status), reason)| {
                    if status != IdentityStatus::Unknown && stale.contains(directory) {
                        (IdentityStatus::Unknown, Some(Reason::Stale))
                    } else {
                        (status, reason)
                    }
                })
                .collect();
            let key = rows[0].email_key.clone();
            let cover = Cover::from_statuses(issuers.mode(&key), &statuses);
            (key, cover)
        });
    Ok(covers.collect())
}

#[must_use]
pub fn count_covers(covers: &[(String, Cover)]) -> Coverage {
    let mut coverage = Coverage::new();
    for (_, cover) in covers {
        *coverage.entry(*cover).or_default() += 1;
    }
    coverage
}
