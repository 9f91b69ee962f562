//! Earlier attempts: the daily limit, and attempts that were interrupted.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::domain::revocation::{Attempt, Outcome, Trail};
use crate::domain::{Policy, Status, TokenId};
use crate::engine::common::{Error, Report};
use crate::engine::notices::Alert;
use crate::engine::revoke::{ATTEMPT, DONE, FAILED, RevocationOrder, Revoke, UNKNOWN};
use crate::store::{AuditRow, Store};

/// The actor in the audit trail and in mails.
pub(super) const POLICY_ACTOR: &str = "lapsed (policy)";
/// How far back the audit trail is read for attempts.
const TRAIL_WINDOW: TimeDelta = TimeDelta::days(7);

/// Setting: since when the limit has stopped revocations.
const LIMIT_REACHED_SINCE: &str = "respond.limited";

/// Loads the policy's own attempts from the audit trail.
pub(super) async fn load_trail(store: &Store, now: DateTime<Utc>) -> Result<Trail, Error> {
    let mut tx = store.begin_read().await?;
    let entries = tx
        .list_audit_of_actor(POLICY_ACTOR, now - TRAIL_WINDOW)
        .await?;
    Ok(Trail::from_attempts(
        entries.into_iter().filter_map(parse_attempt),
    ))
}

/// Records revocations of the policy whose outcome was unknown, because the attempt was interrupted or had no
/// answer, and whose tokens are gone now.
pub(super) async fn settle_interrupted(
    revoke: &Revoke<'_>,
    report: &mut Report,
) -> Result<(), Error> {
    let trail = load_trail(revoke.store, revoke.clock.now()).await?;
    let in_doubt = trail
        .unknown_outcomes()
        .filter_map(|subject| subject.split_once('/'));
    let ids: Vec<TokenId> = in_doubt
        .map(|(source, id)| TokenId::new(source, id))
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut tokens = revoke.store.begin_read().await?.load_tokens(&ids).await?;
    tokens.retain(|token| token.status == Status::Gone);
    for token in &tokens {
        let reason = "its issuer lost access; it is gone since its revocation was ordered";
        let order = RevocationOrder {
            token,
            by: POLICY_ACTOR,
            reason: Some(reason),
        };
        let revocation = revoke.settle_revoked(order).await?;
        report.revoked += 1;
        report.notices_planned += revocation.recipients.len() as u64;
    }
    Ok(())
}

/// Reports that the limit stopped revocations, and alerts the administrators once for as long as that lasts.
pub(super) async fn report_limit(
    store: &Store,
    policy: &Policy,
    (stopped, limit): (u64, u32),
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut tx = store.begin_read().await?;
    let since = tx.find_setting(LIMIT_REACHED_SINCE).await?;
    drop(tx);
    if stopped == 0 {
        if let Some(since) = since {
            let mut tx = store.begin().await?;
            tx.delete_setting(LIMIT_REACHED_SINCE, &since).await?;
            tx.commit().await?;
        }
        return Ok(());
    }
    report.problems.push(format!(
        "{stopped} more tokens of people without access are due to be revoked, but [policy] \
         max_revocations_per_day = {limit} is reached; the oldest finding goes first"
    ));
    let mut tx = store.begin().await?;
    let known = since.and_then(|since| since.parse().ok());
    let since = known.unwrap_or(now);
    if known.is_none() {
        let text = since.to_rfc3339_opts(SecondsFormat::Micros, true);
        tx.set_setting(LIMIT_REACHED_SINCE, &text).await?;
        let alert = limit_alert(since, stopped, limit);
        alert.plan(&mut tx, policy, now, report).await?;
    }
    Ok(tx.commit().await?)
}

fn limit_alert(since: DateTime<Utc>, stopped: u64, limit: u32) -> Alert<'static> {
    Alert {
        subject: "revocations",
        since,
        title: format!("{stopped} tokens wait to be revoked: the daily limit is reached"),
        text: format!(
            "The policy revokes tokens of people without access, at most {limit} in any 24 hours ([policy] \
             max_revocations_per_day). {stopped} more are due; they wait until the limit allows it, the oldest \
             finding first. This may be right, because many people left, or caused by a mistake in a \
             directory.\n\n\
             See what is due and what waits:\n\n    lapsed sweep --dry-run\n    \
             lapsed finding list --kind sso_revoked\n\n\
             If it is a mistake, stop it now: set sso_revoked = \"flag\" in [policy], or accept a finding for some \
             time with lapsed finding acknowledge. If it is right, there is nothing to do; a higher limit makes it \
             faster."
        ),
    }
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
