//! Revokes a token at its source by order of an operator or the policy, and notifies its owners and administrators.
//!
//! The audit trail gets the attempt before the source is asked and the outcome after, so that a crash in between
//! leaves a trace and a second attempt can finish what the first began.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::revocation::{Attempt, Countdown, Outcome, Trail};
use crate::domain::service::CredentialState;
use crate::domain::{
    ExpiryOrigin, NewNotice, Occurrence, Policy, Recipient, RevocationPolicy, Status, Token, Topic,
};
use crate::sources;
use crate::store::{AuditRow, Tx};
use crate::time::shift;

use super::common::{Error, LISTING_TIMEOUT, Report, RevokeRefusal, new_id};
use super::findings;
use super::leased::{LeasedStore, page};
use super::notices::{Audience, insert_copies};
use super::upstream::WatchedSource;

/// Audit action before the source is asked.
const ATTEMPT: &str = "token.revoke";
const DONE: &str = "token.revoked";
const FAILED: &str = "token.revoke_failed";
/// Audit action if the outcome is unknown.
const UNKNOWN: &str = "token.revoke_unknown";

/// The policy as the actor, in the audit trail and in mails.
pub(super) const POLICY_ACTOR: &str = "lapsed (policy)";
/// How far back the audit trail is read for attempts.
const TRAIL_WINDOW: TimeDelta = TimeDelta::days(7);

#[derive(Debug, Clone, Copy)]
pub struct RevocationOrder<'a> {
    pub token: &'a Token,
    /// The actor, for the audit trail and the mails.
    pub by: &'a str,
    pub reason: Option<&'a str>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocation {
    pub cancelled: u64,
    pub recipients: Vec<Recipient>,
}

pub struct Revoke<'a> {
    pub(super) store: LeasedStore<'a>,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
    pub(super) sources: &'a [WatchedSource],
}

impl Revoke<'_> {
    /// Fails if lapsed may not revoke the token.
    pub fn may_revoke(&self, token: &Token) -> Result<(), RevokeRefusal> {
        may_revoke(self.sources, token, self.clock.now()).map(drop)
    }

    /// Revokes a token at its source, cancels its unsent notices, and plans notices about the revocation.
    pub async fn revoke(&self, order: RevocationOrder<'_>) -> Result<Revocation, Error> {
        let place = may_revoke(self.sources, order.token, self.clock.now())?;
        let Place::Source(watched) = place else {
            return page!(self.store, tx => {
                end_credential(tx, order.token).await?;
                self.settle_in(tx, order).await
            });
        };
        let was_unknown = self.record_attempt(order).await?;
        let revoke = watched.source.revoke(&order.token.external_id);
        let outcome = match tokio::time::timeout(LISTING_TIMEOUT, revoke).await {
            // The token is gone, so the previous attempt, whose outcome was unknown, did revoke it.
            Ok(Err(sources::Error::NoSuchToken(_))) if was_unknown => Ok(()),
            Ok(outcome) => outcome.map_err(Error::Listing),
            Err(_) => Err(Error::NoAnswer),
        };
        match outcome {
            Ok(()) => self.settle_revoked(order).await,
            Err(error) => {
                let reason = error.chain();
                let action = if is_outcome_unknown(&error, was_unknown) {
                    UNKNOWN
                } else {
                    FAILED
                };
                page!(self.store, tx => self.audit(tx, order, action, Some(&reason)).await)?;
                Err(error)
            }
        }
    }

    /// Records the attempt. Returns whether the outcome of the previous attempt is unknown.
    async fn record_attempt(&self, order: RevocationOrder<'_>) -> Result<bool, Error> {
        let last = page!(self.store, tx => {
            // It may have been revoked since it was read.
            let known = tx.lock_token(order.token.id).await?;
            if let Some(status @ Status::Revoked) = known.map(|token| token.status) {
                return Err(RevokeRefusal::NotActive(status).into());
            }
            self.audit(tx, order, ATTEMPT, order.reason).await
        })?;
        Ok(last.is_some_and(|entry| [ATTEMPT, UNKNOWN].contains(&entry.action.as_str())))
    }

    /// Stores that a token is revoked, cancels its unsent notices, and plans notices about the revocation.
    pub(super) async fn settle_revoked(
        &self,
        order: RevocationOrder<'_>,
    ) -> Result<Revocation, Error> {
        page!(self.store, tx => self.settle_in(tx, order).await)
    }

    async fn settle_in(
        &self,
        tx: &mut Tx,
        order: RevocationOrder<'_>,
    ) -> Result<Revocation, Error> {
        let now = self.clock.now();
        // A sync may have changed it meanwhile.
        let known = tx.lock_token(order.token.id).await?;
        if let Some(known) = &known
            && known.status == Status::Revoked
            && known.revoked_at.is_some()
        {
            // A concurrent revocation has planned the notices.
            return Ok(Revocation::default());
        }
        let token = Token {
            status: Status::Revoked,
            due_at: None,
            judge_at: Some(now),
            revoked_at: Some(now),
            ..known.unwrap_or_else(|| order.token.clone())
        };
        tx.update_token(&token).await?;
        let reason = "the token is revoked";
        let cancelled = tx.cancel_notices(token.id, None, reason).await?;
        tx.cancel_notices_of_topic(token.id, Topic::SsoRevoked, reason)
            .await?;
        findings::request(tx, now).await?;
        let recipients =
            plan_revoked_notices(tx, self.policy, &token, order.by, order.reason, now).await?;
        self.audit(tx, order, DONE, order.reason).await?;
        Ok(Revocation {
            cancelled,
            recipients,
        })
    }

    /// Settles revocations of the policy whose outcome was unknown, because the attempt was interrupted or had no
    /// answer, and whose tokens are gone now.
    pub(super) async fn settle_interrupted(&self, report: &mut Report) -> Result<(), Error> {
        let trail = load_trail(self.store, self.clock.now()).await?;
        let subjects: Vec<_> = trail
            .unknown_outcomes()
            .filter_map(|subject| subject.split_once('/'))
            .collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin_read().await?;
        let mut tokens = Vec::new();
        for (source, external_id) in subjects {
            tokens.extend(
                tx.load_tokens_by_external_id(source, &[external_id])
                    .await?,
            );
        }
        drop(tx);
        tokens.retain(|token| token.status == Status::Gone);
        for token in &tokens {
            let reason = "its issuer lost access; it is gone since its revocation was ordered";
            let order = RevocationOrder {
                token,
                by: POLICY_ACTOR,
                reason: Some(reason),
            };
            let revocation = self.settle_revoked(order).await?;
            report.revoked += 1;
            report.notices_planned += revocation.recipients.len() as u64;
        }
        Ok(())
    }

    pub async fn recipients(&self, tx: &mut Tx, token: &Token) -> Result<Vec<Recipient>, Error> {
        load_recipients(tx, self.policy, token, self.clock.now()).await
    }

    /// Adds to the audit trail and returns the token's previous entry. Entries are in order even if the clock stood
    /// still or went back.
    async fn audit(
        &self,
        tx: &mut Tx,
        order: RevocationOrder<'_>,
        action: &str,
        reason: Option<&str>,
    ) -> Result<Option<AuditRow>, Error> {
        let subject = audit_subject(&order.token.source, &order.token.external_id);
        let last = tx.find_last_audit(&subject).await?;
        let now = self.clock.now();
        let at = match &last {
            Some(entry) => now.max(shift(entry.at, TimeDelta::microseconds(1))),
            None => now,
        };
        let entry = [order.by, action, &subject];
        tx.insert_audit(new_id(at), at, entry, reason).await?;
        Ok(last)
    }
}

async fn load_recipients(
    tx: &mut Tx,
    policy: &Policy,
    token: &Token,
    now: DateTime<Utc>,
) -> Result<Vec<Recipient>, Error> {
    let audience = Audience::load(tx, std::slice::from_ref(token), now).await?;
    Ok(audience.recipients(policy, token))
}

/// Plans notices to the owners and administrators of a token that `by` has revoked. Returns who is notified.
pub async fn plan_revoked_notices(
    tx: &mut Tx,
    policy: &Policy,
    token: &Token,
    by: &str,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Vec<Recipient>, Error> {
    let recipients = load_recipients(tx, policy, token, now).await?;
    let occurrence = Occurrence {
        topic: Topic::Revoked,
        generation: now.into(),
        step: None,
    };
    let notices: Vec<NewNotice> = recipients
        .iter()
        .map(|recipient| NewNotice {
            title: Some(by.to_owned()),
            detail: reason.map(str::to_owned),
            ..NewNotice::for_token(token, occurrence, recipient, now)
        })
        .collect();
    tx.insert_notices(&notices, None, now).await?;
    insert_copies(tx, &notices, now).await?;
    Ok(recipients)
}

/// Where a token is revoked.
pub(super) enum Place<'a> {
    /// lapsed itself issued it.
    BuiltIn,
    Source(&'a WatchedSource),
}

/// Ends what the token verifies by, in the transaction that marks it as revoked. Tokens that were exchanged for it end
/// with it.
async fn end_credential(tx: &mut Tx, token: &Token) -> Result<(), Error> {
    let Some(mut credential) = tx.lock_credential(token.id).await? else {
        return Err(RevokeRefusal::UnknownSource(token.source.clone()).into());
    };
    if credential.state == CredentialState::Revoked {
        return Err(RevokeRefusal::NotActive(Status::Revoked).into());
    }
    credential.state = CredentialState::Revoked;
    tx.save_credential(&credential).await?;
    Ok(())
}

/// Returns where lapsed may revoke the token.
pub(super) fn may_revoke<'a>(
    sources: &'a [WatchedSource],
    token: &Token,
    now: DateTime<Utc>,
) -> Result<Place<'a>, RevokeRefusal> {
    let place = if token.is_of_service() {
        Place::BuiltIn
    } else {
        Place::Source(find_revocable_source(sources, token)?)
    };
    let status = token.status_at(now);
    // Past a date of our own policy it still works at its source.
    let is_ours = token.expiry_origin == Some(ExpiryOrigin::Policy);
    match status {
        // A disabled token can be enabled again.
        Status::Active | Status::Disabled => Ok(place),
        Status::Expired if is_ours => Ok(place),
        Status::Expired | Status::Revoked | Status::Gone => Err(RevokeRefusal::NotActive(status)),
    }
}

fn find_revocable_source<'a>(
    sources: &'a [WatchedSource],
    token: &Token,
) -> Result<&'a WatchedSource, RevokeRefusal> {
    let watched = sources
        .iter()
        .find(|watched| watched.terms.name == token.source)
        .ok_or_else(|| RevokeRefusal::UnknownSource(token.source.clone()))?;
    if !watched.terms.allow_revoke {
        return Err(RevokeRefusal::NotAllowed(token.source.clone()));
    }
    if watched.source.is_own(token) {
        return Err(RevokeRefusal::OwnToken);
    }
    Ok(watched)
}

/// The countdown of a token with a finding of lost access, if the policy revokes it.
pub(super) fn find_countdown(
    sources: &[WatchedSource],
    response: RevocationPolicy,
    token: &Token,
    finding: Uuid,
    acknowledged_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<Countdown> {
    if token.status_at(now) == Status::Disabled || may_revoke(sources, token, now).is_err() {
        return None;
    }
    response.countdown(finding, acknowledged_until, now)
}

/// Identifies the warnings of a scheduled revocation.
pub(super) fn warning_occurrence(response: RevocationPolicy, countdown: Countdown) -> Occurrence {
    Occurrence {
        topic: Topic::SsoRevoked,
        generation: countdown.ends_at.into(),
        step: Some(response.warning_step()),
    }
}

/// Whether the token may be revoked despite the error. If this attempt saw nothing, the doubt of the previous one
/// remains.
fn is_outcome_unknown(error: &Error, was_unknown: bool) -> bool {
    match error {
        Error::Listing(sources::Error::NotAttempted(_)) => was_unknown,
        Error::Listing(error) => error.is_in_doubt(),
        error => matches!(error, Error::NoAnswer),
    }
}

/// The audit trail's subject for a token, which the command line also accepts as a token.
pub(super) fn audit_subject(source: &str, external_id: &str) -> String {
    format!("{source}/{external_id}")
}

/// Loads the policy's own attempts from the audit trail.
pub(super) async fn load_trail(store: LeasedStore<'_>, now: DateTime<Utc>) -> Result<Trail, Error> {
    let mut tx = store.begin_read().await?;
    let since = shift(now, -TRAIL_WINDOW);
    let entries = tx.list_audit_of_actor(POLICY_ACTOR, since).await?;
    Ok(Trail::from_attempts(
        entries.into_iter().filter_map(parse_attempt),
    ))
}

fn parse_attempt(entry: AuditRow) -> Option<Attempt> {
    let outcome = match entry.action.as_str() {
        ATTEMPT => Outcome::Started,
        DONE => Outcome::Done,
        FAILED => Outcome::Failed,
        UNKNOWN => Outcome::Unknown,
        _ => return None,
    };
    Some(Attempt {
        subject: entry.subject,
        at: entry.at,
        outcome,
    })
}
