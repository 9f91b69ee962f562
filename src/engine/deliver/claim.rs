//! Claims due mails under a lease, composes their letters from the store's content, and renders them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::domain::{Backoff, Preference, Step, Token, TokenId, Topic, When, column};
use crate::engine::common::{Error, MAX_SKEW_FACTOR};
use crate::engine::notices::Audience;
use crate::notify::letter::{
    AlertEntry, Callers, EndedEntry, Entry, ExpiryEntry, Letter, OldSecretEntry, OpenCount,
    OpenFinding, OwnerGap, RevokedEntry, SummaryEntry, UnlistedTokens, Unreachable,
};
use crate::sources::Source;
use crate::store::{
    ClaimedMail, ContentRow, FindingCount, FindingRow, Holder, MailContent, MailRecord, Store, Tx,
    Uses, Verdict,
};
use crate::time::shift;

use super::worker::{Mailer, Ready};

/// Tokens listed in one mail; the others are only counted.
const MAX_LISTED_TOKENS: i64 = 100;
/// Mails whose contents are in memory at a time; a mail lists up to a hundred tokens.
const RENDER_CHUNK: usize = 32;
/// How far back the callers of an expired token count.
const CALLERS_WINDOW: TimeDelta = TimeDelta::hours(24);
const MAX_CALLERS: usize = 3;

#[derive(Default)]
pub(super) struct Claimed {
    pub ready: Vec<Ready>,
    /// Mails whose notices no longer apply, or that could not be rendered.
    pub settled: Vec<MailRecord>,
    /// The limit was reached, so there may be more.
    pub is_full: bool,
}

impl Claimed {
    fn settle(&mut self, mail: &ClaimedMail, verdict: Verdict, reason: String) {
        self.settled.push(MailRecord {
            id: mail.id,
            verdict,
            reason: Some(reason),
        });
    }
}

/// Claims mails in a task of its own, concurrently with the sending.
#[derive(Clone)]
pub(super) struct Claimer {
    pub store: Store,
    pub mailer: Arc<Mailer>,
    pub composer: Arc<Composer>,
    pub backoff: Backoff,
}

impl Claimer {
    /// Claims and renders up to `limit` mails.
    pub async fn claim(
        self,
        holder: Holder,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Claimed, Error> {
        let take = || self.take_mails(holder, now, limit);
        let mails = self.store.retrying(take).await?;
        let mut claimed = Claimed {
            is_full: i64::try_from(mails.len()).is_ok_and(|count| count == limit),
            ..Claimed::default()
        };
        for chunk in mails.chunks(RENDER_CHUNK) {
            self.render(chunk, now, &mut claimed).await?;
        }
        Ok(claimed)
    }

    async fn take_mails(
        &self,
        holder: Holder,
        now: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<ClaimedMail>, Error> {
        let mut tx = self.store.begin_short().await?;
        let max_next_at = shift(now, self.backoff.max * MAX_SKEW_FACTOR);
        let mails = tx.claim_mails(holder, now, max_next_at, limit).await?;
        if mails.is_empty() {
            return Ok(mails);
        }
        let ids: Vec<_> = mails.iter().map(|mail| mail.id).collect();
        tx.settle_claimed(&ids, now).await?;
        tx.count_generation().await?;
        // Only now: on PostgreSQL the claim waits for a move or a migration that is under way.
        tx.check_usable().await?;
        tx.commit().await?;
        Ok(mails)
    }

    /// Renders claimed mails. Their contents are read outside the claiming transaction: the set of notices is frozen, and
    /// those cancelled meanwhile should be left out.
    async fn render(
        &self,
        mails: &[ClaimedMail],
        now: DateTime<Utc>,
        claimed: &mut Claimed,
    ) -> Result<(), Error> {
        let ids: Vec<_> = mails.iter().map(|mail| mail.id).collect();
        let mut tx = self.store.begin_read().await?;
        let contents = tx.load_mail_contents(&ids, MAX_LISTED_TOKENS).await?;
        let known = load_known(&mut tx, mails, &contents, now).await?;
        drop(tx);
        let templates = self.mailer.templates();
        for (mail, content) in mails.iter().zip(contents) {
            let notices = content.rows.len();
            let Some(letter) = self.composer.compose(mail, content, &known, now) else {
                let reason = "none of its notices applies any more".to_owned();
                claimed.settle(mail, Verdict::Cancelled, reason);
                continue;
            };
            match self.mailer.writer.write(&letter, &templates) {
                Ok(message) => claimed.ready.push(Ready {
                    mail: mail.clone(),
                    message: Arc::new(message),
                    notices,
                }),
                Err(error) => {
                    // A template that fails on real data can be fixed, so the mail waits.
                    tracing::error!(mail.id = %mail.id, "a mail cannot be rendered: {error}");
                    let next_at = shift(now, self.backoff.delay_after(mail.attempts + 1, mail.id));
                    claimed.settle(mail, Verdict::Retry(next_at), error.to_string());
                }
            }
        }
        Ok(())
    }
}

/// What letters need to know beside the contents of their mails.
pub(super) struct Known {
    open: SummaryEntry,
    /// Of tokens with several owners.
    audience: Option<Audience>,
    /// What still uses expired tokens.
    callers: HashMap<TokenId, Callers>,
    /// When old secrets that are still used end, and where their tokens were used from.
    old_secrets: HashMap<TokenId, (DateTime<Utc>, Vec<IpAddr>)>,
    /// By the keys of their addresses.
    preferences: HashMap<String, Preference>,
}

async fn load_known(
    tx: &mut Tx,
    mails: &[ClaimedMail],
    contents: &[MailContent],
    now: DateTime<Utc>,
) -> Result<Known, Error> {
    let mut rows = contents.iter().flat_map(|content| &content.rows);
    let open = if rows.any(|row| row.topic == Topic::Summary) {
        let silent_sources = tx.list_silent_sources(now).await?;
        let counts = tx.count_open_findings(now, &silent_sources).await?;
        let findings = tx
            .list_urgent_findings(now, &silent_sources, MAX_LISTED_TOKENS)
            .await?;
        summary_entry(counts, findings)
    } else {
        SummaryEntry::default()
    };
    let tokens = contents
        .iter()
        .flat_map(|content| &content.rows)
        .filter_map(|row| row.token.as_ref());
    let shared: Vec<_> = tokens
        .filter(|token| !token.co_owners.is_empty())
        .cloned()
        .collect();
    let audience = match shared.as_slice() {
        [] => None,
        shared => Some(Audience::load(tx, shared, now).await?),
    };
    let callers = load_callers(tx, contents, now).await?;
    let old_secrets = load_old_secrets(tx, contents).await?;
    let people: Vec<_> = mails.iter().map(|mail| mail.recipient.key()).collect();
    let preferences = tx.find_preferences(&people).await?.into_iter();
    let by_key = |person: Preference| (person.address.key().to_owned(), person);
    Ok(Known {
        open,
        audience,
        callers,
        old_secrets,
        preferences: preferences.map(by_key).collect(),
    })
}

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
        known: &Known,
        now: DateTime<Utc>,
    ) -> Option<Letter> {
        let mut entries = Vec::new();
        let mut unreachable = Vec::new();
        for row in content.rows {
            match row.topic {
                Topic::Unreachable => unreachable.extend(unreachable_entry(row)),
                Topic::Expiry => {
                    entries.extend(self.expiry_entry(row, known).map(Entry::Expiry));
                }
                Topic::SsoRevoked => entries.extend(self.loss_entry(row).map(Entry::Revoked)),
                Topic::Revoked => entries.extend(self.revocation_entry(row).map(Entry::Ended)),
                Topic::OldSecret => {
                    entries.extend(self.old_secret_entry(row, known).map(Entry::OldSecret));
                }
                Topic::Summary if !known.open.counts.is_empty() => {
                    entries.push(Entry::Summary(known.open.clone()));
                }
                // No finding is open any more.
                Topic::Summary => {}
                Topic::Alert => entries.push(Entry::Alert(alert_entry(row))),
            }
        }
        if entries.is_empty() {
            return None;
        }
        let unlisted = content.unlisted.into_iter().map(|tokens| UnlistedTokens {
            topic: tokens.topic,
            source: tokens.source,
            latest: tokens.latest.map(|at| When {
                at,
                day: tokens.expiry_day.and_then(|day| day.parse().ok()),
            }),
            count: usize::try_from(tokens.count).unwrap_or(0),
        });
        let preference = known.preferences.get(mail.recipient.key());
        Some(Letter {
            reference: mail.id.simple().to_string(),
            to: mail.recipient.clone(),
            zone: preference
                .and_then(|person| person.timezone)
                .unwrap_or(self.zone),
            language: preference.and_then(|person| person.language.clone()),
            now,
            entries,
            unlisted: unlisted.collect(),
            unreachable,
        })
    }

    fn expiry_entry(&self, row: ContentRow, known: &Known) -> Option<ExpiryEntry> {
        let instead_of_issuer = why_not_to_issuer(&row, known.audience.as_ref());
        let step = row.step.map_or(Step::ZERO, Step::from_seconds);
        let token = row.token?;
        Some(ExpiryEntry {
            page: self.token_page(&token),
            still_used: known.callers.get(&token.id).cloned(),
            token,
            step,
            basis: row.basis,
            due_at: row.send_at,
            instead_of_issuer,
        })
    }

    fn loss_entry(&self, row: ContentRow) -> Option<RevokedEntry> {
        let token = row.token?;
        Some(RevokedEntry {
            end: row.finding_id.zip(row.revoke_at),
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

    /// `None` if there is no old secret any more.
    fn old_secret_entry(&self, row: ContentRow, known: &Known) -> Option<OldSecretEntry> {
        let token = row.token.clone()?;
        let (ends_at, addresses) = known.old_secrets.get(&token.id)?.clone();
        Some(OldSecretEntry {
            ends_at,
            addresses,
            basis: row.basis,
            page: self.token_page(&token),
            token,
            alert: alert_entry(row),
        })
    }

    fn token_page(&self, token: &Token) -> Option<String> {
        self.sources
            .get(&token.source)?
            .token_page(&token.external_id)
    }
}

fn alert_entry(row: ContentRow) -> AlertEntry {
    AlertEntry {
        title: row.title.unwrap_or_default(),
        text: row.detail.unwrap_or_default(),
    }
}

async fn load_callers(
    tx: &mut Tx,
    contents: &[MailContent],
    now: DateTime<Utc>,
) -> Result<HashMap<TokenId, Callers>, Error> {
    let mut callers = HashMap::new();
    for token in expired_tokens_of_service(contents, now) {
        let uses = tx.load_uses(token).await?;
        callers.extend(find_callers(&uses, now).map(|callers| (token, callers)));
    }
    Ok(callers)
}

async fn load_old_secrets(
    tx: &mut Tx,
    contents: &[MailContent],
) -> Result<HashMap<TokenId, (DateTime<Utc>, Vec<IpAddr>)>, Error> {
    let rows = contents.iter().flat_map(|content| &content.rows);
    let tokens: BTreeSet<TokenId> = rows
        .filter(|row| row.topic == Topic::OldSecret)
        .filter_map(|row| Some(row.token.as_ref()?.id))
        .collect();
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut old_secrets = HashMap::new();
    for credential in tx.find_credentials(&tokens).await? {
        let Some(old) = credential.old_secret else {
            continue;
        };
        let uses = tx.load_uses(credential.id).await?;
        let latest = uses.addresses.iter().filter(|used| !used.is_refused);
        let latest = latest.take(MAX_CALLERS).map(|used| used.address);
        old_secrets.insert(credential.id, (old.valid_until, latest.collect()));
    }
    Ok(old_secrets)
}

/// Tokens in mails that lapsed issued and that have expired: it knows who still presents them.
fn expired_tokens_of_service(contents: &[MailContent], now: DateTime<Utc>) -> Vec<TokenId> {
    let rows = contents.iter().flat_map(|content| &content.rows);
    let tokens = rows
        .filter(|row| row.topic == Topic::Expiry)
        .filter_map(|row| row.token.as_ref());
    let is_expired = |token: &&Token| token.expiry.at().is_some_and(|at| at <= now);
    tokens
        .filter(|token| token.is_of_service())
        .filter(is_expired)
        .map(|token| token.id)
        .collect()
}

/// What used a token in the last 24 hours; `None` if nothing did.
fn find_callers(uses: &Uses, now: DateTime<Utc>) -> Option<Callers> {
    let since = shift(now, -CALLERS_WINDOW);
    let lately = uses.hours.iter().filter(|hour| hour.hour >= since);
    let calls: i64 = lately.map(|hour| hour.ok + hour.refused).sum();
    let lately = uses.addresses.iter().filter(|used| used.last_at >= since);
    let addresses: BTreeSet<_> = lately.take(MAX_CALLERS).map(|used| used.address).collect();
    (calls > 0).then(|| Callers {
        calls,
        addresses: addresses.into_iter().collect(),
    })
}

fn summary_entry(counts: Vec<FindingCount>, findings: Vec<FindingRow>) -> SummaryEntry {
    let counts = counts.into_iter().map(|open| OpenCount {
        kind: open.kind,
        source: open.source,
        count: open.count,
    });
    let findings = findings.into_iter().map(|finding| OpenFinding {
        id: finding.id,
        kind: finding.kind,
        severity: finding.severity,
        source: finding.source,
        name: finding.token_name,
        since: finding.since,
        evidence: finding.evidence,
        issuer: finding.issuer,
        account: finding.account,
        last_used_at: finding.last_used_at,
    });
    SummaryEntry {
        counts: counts.collect(),
        findings: findings.collect(),
    }
}

fn unreachable_entry(row: ContentRow) -> Option<Unreachable> {
    let address = row.subject.as_deref()?.parse().ok()?;
    Some(Unreachable {
        address,
        reason: row.detail.unwrap_or_default(),
    })
}

/// Why neither the issuer nor another owner gets the mail; empty if one does.
fn why_not_to_issuer(row: &ContentRow, audience: Option<&Audience>) -> Vec<OwnerGap> {
    let Some(token) = &row.token else {
        return Vec::new();
    };
    let Some(issuer) = &token.issuer else {
        return vec![match token.unreadable.get(column::ISSUER) {
            Some(reason) => OwnerGap::Unreadable(reason.clone()),
            None => OwnerGap::NoIssuer,
        }];
    };
    if !token.co_owners.is_empty() {
        let gaps = audience.and_then(|audience| audience.why_not_owners(token));
        return gaps.unwrap_or_default();
    }
    let owner = issuer.clone();
    match (&row.evidence, &row.issuer_dead) {
        (Some(evidence), _) => vec![OwnerGap::LostAccess {
            owner,
            evidence: Some(evidence.clone()),
        }],
        (None, Some(reply)) => vec![OwnerGap::Refused {
            owner,
            reply: reply.clone(),
        }],
        (None, None) => Vec::new(),
    }
}
