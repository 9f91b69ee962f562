//! Alerts: what administrators must know of lapsed itself.

use chrono::{DateTime, Utc};

use crate::domain::{Ground, NewNotice, Occurrence, Recipient, Topic};
use crate::store::Tx;

use super::{Engine, Error, Report};

/// Something administrators must know.
pub(super) struct Alert<'a> {
    /// What it is about: `plan`, `directory hr`. With `since` it tells one occurrence from another.
    pub subject: &'a str,
    /// Since when.
    pub since: DateTime<Utc>,
    /// As a subject line.
    pub title: String,
    /// What it means and what to do.
    pub text: String,
}

impl Engine {
    /// Plans a mail to every configured administrator. The same occurrence again plans nothing.
    pub(super) async fn alert(
        &self,
        tx: &mut Tx,
        alert: Alert<'_>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let dead = self.dead(tx, now).await?;
        let notices: Vec<NewNotice> = self
            .policy
            .admins
            .iter()
            .filter(|address| !dead.has(address))
            .map(|address| {
                let occurrence = Occurrence {
                    topic: Topic::Alert,
                    generation: alert.since,
                    step: None,
                };
                let recipient = Recipient {
                    address: address.clone(),
                    ground: Ground::Admin,
                };
                NewNotice {
                    title: Some(alert.title.clone()),
                    detail: Some(alert.text.clone()),
                    ..NewNotice::about_subject(alert.subject, occurrence, &recipient, now)
                }
            })
            .collect();
        if notices.is_empty() {
            tracing::error!("no administrator can be told: {}", alert.title);
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(())
    }
}
