//! The summary: what is open, told to the administrators once at each tick of its schedule.

use chrono::{DateTime, Utc};

use crate::domain::{Ground, NewNotice, Occurrence, Recipient, Topic};
use crate::notify::wording;

use super::{Engine, Error, Report};

/// The small fact up to when ticks of the summary's schedule are dealt with: an instant and, once a sweep
/// has seen it, the schedule. Ticks of another schedule were never promised to anybody.
pub(super) const TOLD_UNTIL: &str = "summary.until";
/// Its value while there is no schedule. One that comes later begins with its first sweep.
const OFF: &str = "off";

impl Engine {
    /// Plans the summary when a tick of its schedule lies between `told_until` and
    /// now, or comes soon enough to go with the administrators' daily mail. Several that were
    /// missed are made up by one. Nothing open is no mail.
    pub(super) async fn summarise(
        &self,
        told_until: Option<&str>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(schedule) = &self.settings.summary else {
            return self.mark_told(told_until, OFF).await;
        };
        let now = self.now();
        let by = format!("{schedule} {}", schedule.zone());
        let soon = self.summary_horizon(now);
        // One that lies further ahead was written by a clock that jumped.
        let until = known_until(told_until, &by).filter(|until| *until <= soon);
        let tick = until.and_then(|until| schedule.next_after(until));
        let tick = tick.filter(|tick| *tick <= soon);
        if let (Some(until), None) = (until, tick) {
            return self.mark_told(told_until, &mark(until, &by)).await;
        }
        let mut tx = self.store.begin().await?;
        if let Some(tick) = tick {
            let is_known = |name: &str| self.sources.iter().any(|source| source.name == name);
            let left = tx.sources_other_than(is_known).await?;
            let open = tx
                .open_counts(now, &left)
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
        let until = if tick.is_some() { soon } else { now };
        tx.put_meta(TOLD_UNTIL, &mark(until, &by)).await?;
        Ok(tx.commit().await?)
    }

    /// Ticks up to here are dealt with now. A daily mail goes with the last sweep before its hour, and a
    /// summary of the same hour with it, not a sweep later in a mail of its own.
    fn summary_horizon(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.policy.admin_digest {
            Some(_) => self.horizon(now).min(now + self.policy.merge_ahead),
            None => now,
        }
    }

    /// Writes the mark where it is another than the one that is known.
    async fn mark_told(&self, known: Option<&str>, mark: &str) -> Result<(), Error> {
        if known == Some(mark) {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tx.put_meta(TOLD_UNTIL, mark).await?;
        Ok(tx.commit().await?)
    }
}

fn mark(until: DateTime<Utc>, by: &str) -> String {
    format!("{} {by}", until.to_rfc3339())
}

/// Up to when this schedule is dealt with; `None` where there was another or none.
fn known_until(mark: Option<&str>, by: &str) -> Option<DateTime<Utc>> {
    let mark = mark?;
    let (until, seen) = mark.split_once(' ').unwrap_or((mark, by));
    until.parse().ok().filter(|_| seen == by)
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
