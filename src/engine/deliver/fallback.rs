//! Fallback: if a recipient cannot be reached, the next one in the chain is notified.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{NewNotice, Occurrence, Recipient, Topic};
use crate::store::{ClaimedMail, MAX_INSTANT, MailNotice, Tx};

use super::super::{Engine, Error, PAGE_SIZE, Report};

impl Engine {
    /// Plans the notices of a failed mail for the next recipients in the chain. Their next mail also says that this
    /// address cannot be reached.
    pub(super) async fn plan_fallback(
        &self,
        tx: &mut Tx,
        mail: &ClaimedMail,
        reason: &str,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let dead = self.load_dead_addresses(tx, now).await?;
        let mut after = Uuid::nil();
        loop {
            let owed = tx.load_mail_notices(mail.id, after, PAGE_SIZE).await?;
            let Some(last) = owed.last() else {
                return Ok(());
            };
            after = last.id;
            let ids: Vec<_> = owed.iter().filter_map(|notice| notice.token_id).collect();
            let without_access = tx.find_lost_access(&ids).await?;
            let tokens = tx.load_tokens(&ids).await?;
            let admins = tx.load_account_admins(&tokens).await?;
            let mut notices = Vec::new();
            let mut next_recipients = std::collections::BTreeMap::new();
            for token in &tokens {
                let is_dead = |address: &_| dead.contains(address);
                let mut others = self.policy.recipients(
                    token,
                    &admins,
                    without_access.contains(&token.id),
                    &is_dead,
                );
                others.retain(|other| other.address != mail.recipient);
                for notice in owed
                    .iter()
                    .filter(|notice| notice.token_id == Some(token.id))
                {
                    notices.extend(
                        others
                            .iter()
                            .filter_map(|other| fallback_notice(notice, token, other, now)),
                    );
                }
                for other in others {
                    next_recipients
                        .entry(other.address.clone())
                        .or_insert(other);
                }
            }
            report.notices_planned += tx.insert_notices(&notices, None, now).await?;
            let unreachable: Vec<_> = next_recipients
                .values()
                .map(|to| unreachable_notice(mail, to, reason, now))
                .collect();
            tx.insert_notices(&unreachable, None, now).await?;
        }
    }
}

/// The same notice to another recipient. If they have it already, its key keeps it from being planned again.
fn fallback_notice(
    notice: &MailNotice,
    token: &crate::domain::Token,
    to: &Recipient,
    now: DateTime<Utc>,
) -> Option<NewNotice> {
    let occurrence = Occurrence {
        topic: notice.topic,
        generation: notice.generation,
        step: notice.step,
    };
    match notice.topic {
        Topic::Expiry | Topic::SsoRevoked => Some(NewNotice::for_token(token, occurrence, to, now)),
        // A revocation is sent to all recipients at once, so there is no one to fall back to.
        Topic::Unreachable | Topic::Alert | Topic::Summary | Topic::Revoked => None,
    }
}

/// A notice about the unreachable address, at most one a day. It goes along with the recipient's next mail.
fn unreachable_notice(
    mail: &ClaimedMail,
    to: &Recipient,
    reason: &str,
    now: DateTime<Utc>,
) -> NewNotice {
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let occurrence = Occurrence {
        topic: Topic::Unreachable,
        generation: day,
        step: None,
    };
    NewNotice {
        detail: Some(reason.to_owned()),
        ..NewNotice::for_subject(mail.recipient.as_str(), occurrence, to, MAX_INSTANT)
    }
}
