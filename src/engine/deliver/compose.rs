//! Composes the letter of a mail from the store's content.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::domain::{Step, Token, Topic};
use crate::notify::letter::{
    AlertEntry, EndedEntry, Entry, ExpiryEntry, Letter, OpenCount, OpenFinding, RevokedEntry,
    SummaryEntry, UnlistedTokens, Unreachable,
};
use crate::sources::Source;
use crate::store::{self, ClaimedMail, ContentRow, FindingRow, MailContent};

pub(super) struct Composer {
    pub zone: Tz,
    /// By name; they know the web pages of their tokens.
    pub sources: HashMap<String, Arc<dyn Source>>,
}

impl Composer {
    /// Returns `None` if no notice applies any more.
    pub fn compose(
        &self,
        mail: &ClaimedMail,
        content: MailContent,
        open: &SummaryEntry,
        now: DateTime<Utc>,
    ) -> Option<Letter> {
        let (mut entries, mut unreachable) = (Vec::new(), Vec::new());
        for row in content.rows {
            match row.topic {
                Topic::Unreachable => unreachable.extend(unreachable_entry(row)),
                Topic::Expiry => entries.extend(self.expiry_entry(row).map(Entry::Expiry)),
                Topic::SsoRevoked => entries.extend(self.loss_entry(row).map(Entry::Revoked)),
                Topic::Revoked => entries.extend(self.revocation_entry(row).map(Entry::Ended)),
                Topic::Summary if !open.counts.is_empty() => {
                    entries.push(Entry::Summary(open.clone()));
                }
                // No finding is open any more.
                Topic::Summary => {}
                Topic::Alert => entries.push(Entry::Alert(AlertEntry {
                    title: row.title.unwrap_or_default(),
                    text: row.detail.unwrap_or_default(),
                })),
            }
        }
        let rest = content.unlisted.into_iter().map(|rest| UnlistedTokens {
            topic: rest.topic,
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
            unlisted: rest.collect(),
            unreachable,
        })
    }

    fn expiry_entry(&self, row: ContentRow) -> Option<ExpiryEntry> {
        let instead_of_issuer = instead_of_issuer(&row);
        let step = row.step.unwrap_or(Step::ZERO);
        let token = row.token?;
        Some(ExpiryEntry {
            page: self.token_page(&token),
            token,
            step,
            basis: row.basis,
            due_at: row.send_at,
            instead_of_issuer,
        })
    }

    fn loss_entry(&self, row: ContentRow) -> Option<RevokedEntry> {
        let token = row.token?;
        let end = row.finding_id.zip(row.revoke_at);
        Some(RevokedEntry {
            end,
            since: row.evidence_since.unwrap_or(row.send_at),
            evidence: row.evidence?,
            page: self.token_page(&token),
            token,
            basis: row.basis,
        })
    }

    fn revocation_entry(&self, row: ContentRow) -> Option<EndedEntry> {
        let token = row.token?;
        Some(EndedEntry {
            by: row.title.unwrap_or_else(|| "an operator".to_owned()),
            at: row.send_at,
            reason: row.detail,
            page: self.token_page(&token),
            token,
            basis: row.basis,
        })
    }

    fn token_page(&self, token: &Token) -> Option<String> {
        self.sources
            .get(&token.source)?
            .token_page(&token.external_id)
    }
}

/// The open findings, for the summary.
pub(super) fn summary_entry(
    counts: Vec<store::FindingCount>,
    findings: Vec<FindingRow>,
) -> Result<SummaryEntry, store::Error> {
    let counts = counts.into_iter().map(|open| OpenCount {
        kind: open.kind,
        source: open.source,
        count: open.count,
    });
    let open = |finding: FindingRow| -> Result<OpenFinding, store::Error> {
        Ok(OpenFinding {
            id: finding.id,
            kind: parse_stored(&finding.kind)?,
            severity: parse_stored(&finding.severity)?,
            source: finding.source,
            name: finding.token_name,
            since: finding.since,
            evidence: finding.evidence,
        })
    };
    Ok(SummaryEntry {
        counts: counts.collect(),
        findings: findings.into_iter().map(open).collect::<Result<_, _>>()?,
    })
}

fn parse_stored<T: std::str::FromStr>(text: &str) -> Result<T, store::Error> {
    let reason = "a finding has an unknown kind or severity";
    text.parse()
        .map_err(|_| store::Error::Inconsistent(reason.to_owned()))
}

fn unreachable_entry(row: ContentRow) -> Option<Unreachable> {
    let address = row.subject.as_deref()?.parse().ok()?;
    Some(Unreachable {
        address,
        reason: row.detail.unwrap_or_default(),
    })
}

/// Why the issuer does not get the mail.
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
