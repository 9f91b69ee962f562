//! Samples about people who lost access.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{address, letter, now, one_of_many};
use crate::domain::{Basis, Expiry};
use crate::notify::letter::{Entry, Letter, RevokedEntry};

pub(super) fn revoked(tokens: i64) -> Letter {
    let entries = (0..tokens).map(|n| {
        let mut token = one_of_many(n).token;
        if n % 3 == 0 {
            token.expiry = Expiry::Never;
        }
        let person = format!("leaver{}@example.org", n * 4 / tokens.max(1));
        token.issuer = Some(address(&person));
        Entry::Revoked(RevokedEntry {
            end: None,
            token,
            evidence: format!(
                "status \"disabled\" in people.csv, line {}",
                n * 4 / tokens.max(1) + 2
            ),
            since: now() - TimeDelta::days(9),
            basis: Basis::Admin,
            page: None,
        })
    });
    let entries = entries.collect();
    letter("10", entries)
}

/// Tokens that lapsed revokes by itself.
pub(super) fn ending(tokens: i64) -> Letter {
    let mut letter = revoked(tokens);
    for (n, entry) in (1_u32..).zip(&mut letter.entries) {
        if let Entry::Revoked(entry) = entry {
            let at = now() + TimeDelta::days(1) + TimeDelta::hours((n / 9).into());
            entry.end = Some((
                Uuid::from_u128(0x019a_0000_0000_7000_8000_0000_0000_0000 + u128::from(n)),
                at,
            ));
        }
    }
    letter
}
