//! Down the chain: where somebody cannot be told, the next one is.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::{NewNotice, Occurrence, Recipient, Topic};
use crate::store::{ClaimedMail, FAR, InMail, Tx};

use super::super::{Engine, Error, PAGE, Report};

impl Engine {
    /// Plans the notices of a mail that failed for whoever comes next in the chain and does not have
    /// them; those who do learn from their next mail that this address cannot be reached.
    pub(super) async fn pass_on(
        &self,
        tx: &mut Tx,
        mail: &ClaimedMail,
        reason: &str,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let dead = self.dead(tx, now).await?;
        let mut after = Uuid::nil();
        loop {
            let owed = tx.notices_in(mail.id, after, PAGE).await?;
            let Some(last) = owed.last() else {
                return Ok(());
            };
            after = last.id;
            let ids: Vec<_> = owed.iter().filter_map(|notice| notice.token_id).collect();
            let outside = tx.lost_access(&ids).await?;
            let tokens = tx.tokens_by_id(&ids).await?;
            let told = tx.told_admins(&tokens).await?;
            let mut notices = Vec::new();
            let mut riders = std::collections::BTreeMap::new();
            for token in &tokens {
                let others: Vec<Recipient> = self
                    .policy
                    .recipients(token, &told, outside.contains(&token.id), &|address| {
                        dead.has(address)
                    })
                    .into_iter()
                    .filter(|other| other.address != mail.recipient)
                    .collect();
                for notice in owed
                    .iter()
                    .filter(|notice| notice.token_id == Some(token.id))
                {
                    notices.extend(
                        others
                            .iter()
                            .filter_map(|other| successor(notice, token, other, now)),
                    );
                }
                for other in others {
                    riders.entry(other.address.clone()).or_insert(other);
                }
            }
            report.notices_planned += tx.insert_notices(&notices, None, now).await?;
            let riders: Vec<_> = riders
                .values()
                .map(|to| rider(mail, to, reason, now))
                .collect();
            tx.insert_notices(&riders, None, now).await?;
        }
    }
}

/// The same notice for somebody else; one he has already is not planned again.
fn successor(
    notice: &InMail,
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
        Topic::Expiry | Topic::SsoRevoked => Some(NewNotice::about(token, occurrence, to, now)),
        // That a token was ended everybody was told at once, so nobody is left to be told instead.
        Topic::Unreachable | Topic::Alert | Topic::Summary | Topic::Revoked => None,
    }
}

/// A word about the address, which rides along in the next mail whenever that goes. One a day about
/// one address is enough.
fn rider(mail: &ClaimedMail, to: &Recipient, reason: &str, now: DateTime<Utc>) -> NewNotice {
    let day = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    let occurrence = Occurrence {
        topic: Topic::Unreachable,
        generation: day,
        step: None,
    };
    NewNotice {
        detail: Some(reason.to_owned()),
        ..NewNotice::about_subject(mail.recipient.as_str(), occurrence, to, FAR)
    }
}
