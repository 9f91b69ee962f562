//! Composing: what the store knows of a mail, as a letter.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::domain::{Step, Topic};
use crate::notify::letter::{
    AlertEntry, Entry, ExpiryEntry, Letter, Rest, RevokedEntry, Unreachable,
};
use crate::store::{ClaimedMail, Content, ContentRow};

/// Makes letters.
pub(super) struct Composer {
    /// The zone of times in mails.
    pub zone: Tz,
}

impl Composer {
    /// The letter of a mail; `None` when nothing is left to say.
    pub fn letter(
        &self,
        mail: &ClaimedMail,
        content: Content,
        now: DateTime<Utc>,
    ) -> Option<Letter> {
        let (mut entries, mut unreachable) = (Vec::new(), Vec::new());
        for row in content.rows {
            match row.topic {
                Topic::Unreachable => unreachable.extend(unreachable_of(row)),
                Topic::Expiry => entries.extend(expiry_of(row).map(Entry::Expiry)),
                Topic::SsoRevoked => entries.extend(revoked_of(row).map(Entry::Revoked)),
                Topic::Alert => entries.push(Entry::Alert(AlertEntry {
                    title: row.title.unwrap_or_default(),
                    text: row.detail.unwrap_or_default(),
                })),
            }
        }
        let rest = content.rest.into_iter().map(|rest| Rest {
            is_revoked: rest.topic == Topic::SsoRevoked,
            source: rest.source,
            day: rest.day.and_then(|day| day.parse().ok()),
            count: usize::try_from(rest.count).unwrap_or(0),
        });
        (!entries.is_empty()).then(|| Letter {
            reference: mail.id.simple().to_string(),
            to: mail.recipient.clone(),
            zone: self.zone,
            now,
            entries,
            rest: rest.collect(),
            unreachable,
        })
    }
}

fn expiry_of(row: ContentRow) -> Option<ExpiryEntry> {
    let instead_of_issuer = instead_of_issuer(&row);
    let step = row.step.unwrap_or(Step::ZERO);
    let token = row.token?;
    Some(ExpiryEntry {
        token,
        step,
        ground: row.ground,
        due_at: row.send_at,
        instead_of_issuer,
    })
}

fn revoked_of(row: ContentRow) -> Option<RevokedEntry> {
    let token = row.token?;
    Some(RevokedEntry {
        since: row.evidence_since.unwrap_or(row.send_at),
        evidence: row.evidence?,
        token,
        ground: row.ground,
    })
}

fn unreachable_of(row: ContentRow) -> Option<Unreachable> {
    let address = row.subject.as_deref()?.parse().ok()?;
    Some(Unreachable {
        address,
        reason: row.detail.unwrap_or_default(),
    })
}

/// Why the issuer is not told himself.
fn instead_of_issuer(row: &ContentRow) -> Option<String> {
    let token = row.token.as_ref()?;
    let Some(issuer) = &token.issuer else {
        return Some("the token has no issuer on record".to_owned());
    };
    if let Some(evidence) = &row.evidence {
        return Some(format!("{issuer} lost access ({evidence})"));
    }
    row.issuer_dead
        .as_ref()
        .map(|reason| format!("mail to {issuer} is refused ({reason})"))
}
