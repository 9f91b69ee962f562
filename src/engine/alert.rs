//! Alerts: mails to the administrators about lapsed itself and its upstreams.

use chrono::{DateTime, Utc};

use crate::domain::{Basis, NewNotice, Occurrence, Recipient, Topic};
use crate::store::Tx;

use super::{Engine, Error, Report};

pub(super) struct Alert<'a> {
    /// `plan`, or the name of an upstream. Together with `since` it identifies an occurrence.
    pub subject: &'a str,
    pub since: DateTime<Utc>,
    /// The subject line.
    pub title: String,
    /// What it means and what to do.
    pub text: String,
}

impl Engine {
    /// Plans a notice to every configured administrator, once per occurrence.
    pub(super) async fn alert(
        &self,
        tx: &mut Tx,
        alert: Alert<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let dead = self.load_dead_addresses(tx, now).await?;
        let notices: Vec<NewNotice> = self
            .policy
            .admins
            .iter()
            .filter(|address| !dead.contains(address))
            .map(|address| {
                let occurrence = Occurrence {
                    topic: Topic::Alert,
                    generation: alert.since,
                    step: None,
                };
                let recipient = Recipient {
                    address: address.clone(),
                    basis: Basis::Admin,
                };
                NewNotice {
                    title: Some(alert.title.clone()),
                    detail: Some(alert.text.clone()),
                    ..NewNotice::for_subject(alert.subject, occurrence, &recipient, now)
                }
            })
            .collect();
        if notices.is_empty() {
            tracing::error!("no administrator can be notified: {}", alert.title);
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(())
    }
}
