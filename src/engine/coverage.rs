//! Coverage: whose loss of access some directory would tell of.

use chrono::{DateTime, Utc};

use crate::domain::{Cover, Coverage, IdentityStatus, Issuers, Reason};
use crate::store::{self, Tx};

/// Every issuer of working tokens with what is known of them, in order of address. `directories` are
/// those that are asked; the word of those in `stale` holds no longer.
///
/// # Errors
/// When the store cannot tell.
pub async fn covers(
    tx: &mut Tx,
    issuers: &Issuers,
    (directories, stale): (&[String], &[String]),
    now: DateTime<Utc>,
) -> store::Result<Vec<(String, Cover)>> {
    let rows = tx.issuers_said(directories, now).await?;
    let is_same =
        |one: &store::IssuerSaid, other: &store::IssuerSaid| one.email_key == other.email_key;
    let covers = rows.chunk_by(is_same).map(|rows| {
        let said: Vec<_> = rows
            .iter()
            .filter_map(|row| row.said.as_ref())
            .map(|(directory, status, reason)| {
                if *status != IdentityStatus::Unknown && stale.contains(directory) {
                    (IdentityStatus::Unknown, Some(Reason::Stale))
                } else {
                    (*status, *reason)
                }
            })
            .collect();
        let key = rows[0].email_key.clone();
        let cover = Cover::of(issuers.mode(&key), &said);
        (key, cover)
    });
    Ok(covers.collect())
}

/// How many issuers there are of each kind.
#[must_use]
pub fn counted(covers: &[(String, Cover)]) -> Coverage {
    let mut coverage = Coverage::new();
    for (_, cover) in covers {
        *coverage.entry(*cover).or_default() += 1;
    }
    coverage
}
