//! What earlier attempts mean for the next ones: the limit of a day, and those that were cut off.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::response::{Outcome, Trail, Tried};
use crate::domain::{Response, Status, TokenId};
use crate::engine::alert::Alert;
use crate::engine::revoke::{ATTEMPT, DONE, FAILED, IN_DOUBT, Order};
use crate::engine::{Engine, Error, Report};
use crate::store::AuditRow;

use super::{BY, REMEMBERED};

/// The small fact since when the limit has held tokens back.
const LIMITED: &str = "respond.limited";

impl Engine {
    /// What the audit trail tells of the policy's own attempts.
    pub(super) async fn trail(&self, now: DateTime<Utc>) -> Result<Trail, Error> {
        let mut tx = self.store.read().await?;
        let entries = tx.audit_of_actor(BY, now - REMEMBERED).await?;
        Ok(Trail::of(entries.into_iter().filter_map(tried)))
    }

    /// Settles tokens that the policy has ended without learning of it, because it was cut off or had no
    /// answer, and that are gone by now.
    pub(in crate::engine) async fn settle_cut_off(&self, report: &mut Report) -> Result<(), Error> {
        if self.settings.response.is_none() {
            return Ok(());
        }
        let trail = self.trail(self.now()).await?;
        let in_doubt = trail
            .in_doubt()
            .filter_map(|subject| subject.split_once('/'));
        let ids: Vec<TokenId> = in_doubt
            .map(|(source, id)| TokenId::of(source, id))
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut tokens = self.store.read().await?.tokens_by_id(&ids).await?;
        tokens.retain(|token| token.status == Status::Gone);
        for token in &tokens {
            let reason = "its issuer lost access; it is gone since its end was ordered";
            let order = Order {
                token,
                by: BY,
                reason: Some(reason),
            };
            let revoked = self.settle_revoked(order).await?;
            report.revoked += 1;
            report.notices_planned += revoked.told.len() as u64;
        }
        Ok(())
    }

    /// Tells administrators, once for as long as it lasts, that the limit holds back so many tokens.
    pub(super) async fn heed_limit(
        &self,
        stopped: u64,
        response: Response,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let since = self.store.read().await?.meta(LIMITED).await?;
        if stopped == 0 {
            if let Some(since) = since {
                let mut tx = self.store.begin().await?;
                tx.drop_meta(LIMITED, &since).await?;
                tx.commit().await?;
            }
            return Ok(());
        }
        let limit = response.max_per_day;
        report.problems.push(format!(
            "{stopped} more tokens of people without access are to be ended, but [policy] \
             max_revocations_per_day = {limit} holds them back; the oldest finding goes first"
        ));
        let mut tx = self.store.begin().await?;
        let known = since.and_then(|since| since.parse().ok());
        let since = known.unwrap_or(now);
        if known.is_none() {
            let text = since.to_rfc3339_opts(SecondsFormat::Micros, true);
            tx.put_meta(LIMITED, &text).await?;
            self.alert(&mut tx, alert(since, stopped, limit), report)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}

fn alert(since: DateTime<Utc>, stopped: u64, limit: u32) -> Alert<'static> {
    Alert {
        subject: "revocations",
        since,
        title: format!("{stopped} tokens wait for their end: the daily limit is reached"),
        text: format!(
            "The policy ends tokens of people without access, at most {limit} in any 24 hours ([policy] \
             max_revocations_per_day). {stopped} more are to be ended; they wait, and the oldest finding goes \
             first when the limit allows it again. So many at once may be right, after many people left, or a \
             mistake in a directory.\n\n\
             See what is to be ended, and what waits:\n\n    lapsed sweep --dry-run\n    \
             lapsed finding list --kind sso_revoked\n\n\
             If it is a mistake, stop it before the limit lets the next ones go: set sso_revoked = \"flag\" in \
             [policy], or accept a finding for a time with lapsed finding acknowledge. If it is right, there is \
             nothing to do; a higher limit makes it faster."
        ),
    }
}

/// What an entry tells of an attempt, if it is one.
fn tried(entry: AuditRow) -> Option<Tried> {
    let outcome = match entry.action.as_str() {
        ATTEMPT => Outcome::Begun,
        DONE => Outcome::Done,
        FAILED => Outcome::Failed,
        IN_DOUBT => Outcome::InDoubt,
        _ => return None,
    };
    Some(Tried {
        subject: entry.subject,
        at: entry.at,
        outcome,
    })
}
