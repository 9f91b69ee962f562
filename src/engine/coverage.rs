//! Coverage: the issuers whose loss of access a directory would report.

use chrono::{DateTime, Utc};

use crate::domain::{Cover, Coverage, IdentityStatus, Issuers, Reason};
use crate::store::{self, Tx};

/// Every issuer of working tokens with what is known about them, in order of address. The data of the directories
/// in `stale` is too old to count.
pub async fn issuer_covers(
    tx: &mut Tx,
    issuers: &Issuers,
    (directories, stale): (&[String], &[String]),
    now: DateTime<Utc>,
) -> store::Result<Vec<(String, Cover)>> {
    let rows = tx.list_issuer_identities(directories, now).await?;
    let covers = rows
        .chunk_by(|a, b| a.email_key == b.email_key)
        .map(|rows| {
            let statuses: Vec<_> = rows
                .iter()
                .filter_map(|row| row.identity.as_ref())
                .map(|(directory, status, reason)| {
                    if *status != IdentityStatus::Unknown && stale.contains(directory) {
                        (IdentityStatus::Unknown, Some(Reason::Stale))
                    } else {
                        (*status, *reason)
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
