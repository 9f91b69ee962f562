//! The summary: what is open, told to the administrators once at each tick of its schedule.

use chrono::{DateTime, Utc};

use crate::domain::{Ground, NewNotice, Occurrence, Recipient, Topic};
use crate::notify::wording;

use super::{Engine, Error, Report};

/// The small fact up to when ticks of the summary's schedule are dealt with.
pub(super) const TOLD_UNTIL: &str = "summary.until";

impl Engine {
    /// Plans the summary when a tick of its schedule lies between `told_until` and now. Several that were
    /// missed are made up by one. Nothing open is no mail.
    pub(super) async fn summarise(
        &self,
        told_until: Option<&str>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(schedule) = &self.settings.summary else {
            return Ok(());
        };
        let now = self.now();
        let told_until = told_until
            .and_then(|text| text.parse::<DateTime<Utc>>().ok())
            // One that lies ahead was written by a clock that jumped.
            .filter(|until| *until <= now);
        let tick = match told_until {
            Some(until) => match schedule.next_after(until).filter(|tick| *tick <= now) {
                Some(tick) => Some(tick),
                None => return Ok(()),
            },
            None => None,
        };
        let mut tx = self.store.begin().await?;
        if let Some(tick) = tick {
            let open = tx
                .open_counts(now)
                .await?
                .iter()
                .map(|open| open.count)
                .sum();
            if open > 0 {
                let dead = self.dead(&mut tx, now).await?;
                let notices: Vec<NewNotice> = self
                    .policy
                    .admins
                    .iter()
                    .filter(|address| !dead.has(address))
                    .map(|address| summary(address.clone(), tick, open, now))
                    .collect();
                if notices.is_empty() {
                    tracing::warn!("findings are open, and no administrator can be told");
                }
                report.notices_planned += tx.insert_notices(&notices, None, now).await?;
            }
        }
        tx.put_meta(TOLD_UNTIL, &now.to_rfc3339()).await?;
        Ok(tx.commit().await?)
    }
}

/// The notice of one tick to one administrator. Its key is the tick, so that no second replica tells him
/// again.
fn summary(
    address: crate::domain::Address,
    tick: DateTime<Utc>,
    open: i64,
    now: DateTime<Utc>,
) -> NewNotice {
    let occurrence = Occurrence {
        topic: Topic::Summary,
        generation: tick,
        step: None,
    };
    let recipient = Recipient {
        address,
        ground: Ground::Admin,
    };
    NewNotice {
        title: Some(wording::number(open, "open finding")),
        ..NewNotice::about_subject("findings", occurrence, &recipient, now)
    }
}
