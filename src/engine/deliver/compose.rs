//! Composing: what the store knows of a mail, as a letter.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::domain::{Step, Token, Topic};
use crate::notify::letter::{
    AlertEntry, EndedEntry, Entry, ExpiryEntry, Letter, OpenCount, OpenFinding, Rest, RevokedEntry,
    SummaryEntry, Unreachable,
};
use crate::sources::Source;
use crate::store::{self, ClaimedMail, Content, ContentRow, FindingRow};

/// Makes letters.
pub(super) struct Composer {
    /// The zone of times in mails.
    pub zone: Tz,
    /// The sources by name, which know the pages of their tokens.
    pub sources: HashMap<String, Arc<dyn Source>>,
}

impl Composer {
    /// The letter of a mail; `None` when nothing is left to say.
    pub fn letter(
        &self,
        mail: &ClaimedMail,
        content: Content,
        open: &SummaryEntry,
        now: DateTime<Utc>,
    ) -> Option<Letter> {
        let (mut entries, mut unreachable) = (Vec::new(), Vec::new());
        for row in content.rows {
            match row.topic {
                Topic::Unreachable => unreachable.extend(unreachable_of(row)),
                Topic::Expiry => entries.extend(self.expiry_of(row).map(Entry::Expiry)),
                Topic::SsoRevoked => entries.extend(self.revoked_of(row).map(Entry::Revoked)),
                Topic::Revoked => entries.extend(self.ended_of(row).map(Entry::Ended)),
                Topic::Summary if !open.counts.is_empty() => {
                    entries.push(Entry::Summary(open.clone()));
                }
                // Nothing is open any more.
                Topic::Summary => {}
                Topic::Alert => entries.push(Entry::Alert(AlertEntry {
                    title: row.title.unwrap_or_default(),
                    text: row.detail.unwrap_or_default(),
                })),
            }
        }
        let rest = content.rest.into_iter().map(|rest| Rest {
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
            rest: rest.collect(),
            unreachable,
        })
    }

    fn expiry_of(&self, row: ContentRow) -> Option<ExpiryEntry> {
        let instead_of_issuer = instead_of_issuer(&row);
        let step = row.step.unwrap_or(Step::ZERO);
        let token = row.token?;
        Some(ExpiryEntry {
            page: self.page_of(&token),
            token,
            step,
            ground: row.ground,
            due_at: row.send_at,
            instead_of_issuer,
        })
    }

    fn revoked_of(&self, row: ContentRow) -> Option<RevokedEntry> {
        let token = row.token?;
        let end = row.finding_id.zip(row.revoke_at);
        Some(RevokedEntry {
            end,
            since: row.evidence_since.unwrap_or(row.send_at),
            evidence: row.evidence?,
            page: self.page_of(&token),
            token,
            ground: row.ground,
        })
    }

    fn ended_of(&self, row: ContentRow) -> Option<EndedEntry> {
        let token = row.token?;
        Some(EndedEntry {
            by: row.title.unwrap_or_else(|| "somebody".to_owned()),
            at: row.send_at,
            reason: row.detail,
            page: self.page_of(&token),
            token,
            ground: row.ground,
        })
    }

    fn page_of(&self, token: &Token) -> Option<String> {
        self.sources.get(&token.source)?.page_of(&token.external_id)
    }
}

/// What is open, as a summary tells it.
pub(super) fn summary_of(
    counts: Vec<store::OpenCount>,
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
            kind: word(&finding.kind)?,
            severity: word(&finding.severity)?,
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

fn word<T: std::str::FromStr>(text: &str) -> Result<T, store::Error> {
    let reason = "a finding says what no version of lapsed writes";
    text.parse()
        .map_err(|_| store::Error::Inconsistent(reason.to_owned()))
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
