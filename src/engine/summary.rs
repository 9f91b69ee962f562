//! The summary: a mail to the administrators about all open findings, once per tick of its schedule.

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::domain::{NewNotice, Occurrence, Policy, Recipient, Schedule, Topic};
use crate::notify::wording;
use crate::store::Store;

use super::common::horizon;
use super::error::Error;
use super::notices::{DeadAddresses, reachable_admins};
use super::report::Report;
use super::upstream::WatchedSource;

/// Setting: the instant up to which ticks of the summary's schedule are done and, once a sweep has seen it, the
/// schedule. Past ticks of a different schedule do not count.
pub(super) const SUMMARIZED_UNTIL: &str = "summary.until";
/// Its value without a schedule. A schedule that is configured later begins with its first sweep.
const OFF: &str = "off";

pub(super) struct Summary<'a> {
    pub store: &'a Store,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
    /// When sweeps run.
    pub sweep: &'a Schedule,
    /// `None` means never.
    pub schedule: Option<&'a Schedule>,
    pub sources: &'a [WatchedSource],
}

impl Summary<'_> {
    /// Plans the summary if its schedule has a tick between `summarized_until` and now, or one soon enough to go with
    /// the administrators' daily mail. Several missed ticks make one mail. Without open findings there is no mail.
    pub async fn run(
        &self,
        summarized_until: Option<&str>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(schedule) = self.schedule else {
            return self.write_mark(summarized_until, OFF).await;
        };
        let now = self.clock.now();
        let schedule_key = format!("{schedule} {}", schedule.zone());
        let soon = self.summary_horizon(now);
        // A later one was written by a clock that jumped.
        let until = parse_mark(summarized_until, &schedule_key).filter(|until| *until <= soon);
        let tick = until.and_then(|until| schedule.next_after(until));
        let tick = tick.filter(|tick| *tick <= soon);
        if let (Some(until), None) = (until, tick) {
            return self
                .write_mark(summarized_until, &format_mark(until, &schedule_key))
                .await;
        }
        let mut tx = self.store.begin().await?;
        if let Some(tick) = tick {
            let is_known = |name: &str| self.sources.iter().any(|source| source.terms.name == name);
            let removed_sources = tx.list_unknown_sources(is_known).await?;
            let open = tx
                .count_open_findings(now, &removed_sources)
                .await?
                .iter()
                .map(|open| open.count)
                .sum();
            if open > 0 {
                let dead = DeadAddresses::load(&mut tx, now).await?;
                let notices: Vec<NewNotice> = reachable_admins(self.policy, &dead)
                    .map(|admin| summary_notice(&admin, tick, open, now))
                    .collect();
                if notices.is_empty() {
                    tracing::warn!("findings are open, but no administrator can be notified");
                }
                report.notices_planned += tx.insert_notices(&notices, None, now).await?;
            }
        }
        let until = if tick.is_some() { soon } else { now };
        tx.set_setting(SUMMARIZED_UNTIL, &format_mark(until, &schedule_key))
            .await?;
        Ok(tx.commit().await?)
    }

    /// Ticks up to this instant are handled now. The daily mail goes out with the last sweep before its hour, and a
    /// summary at the same hour goes with it.
    fn summary_horizon(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.policy.admin_digest {
            Some(_) => horizon(self.sweep, now).min(now + self.policy.merge_ahead),
            None => now,
        }
    }

    /// Stores the mark if it differs from the `known` one.
    async fn write_mark(&self, known: Option<&str>, mark: &str) -> Result<(), Error> {
        if known == Some(mark) {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tx.set_setting(SUMMARIZED_UNTIL, mark).await?;
        Ok(tx.commit().await?)
    }
}

fn format_mark(until: DateTime<Utc>, schedule: &str) -> String {
    format!("{} {schedule}", until.to_rfc3339())
}

/// `None` if the mark is for another schedule.
fn parse_mark(mark: Option<&str>, schedule: &str) -> Option<DateTime<Utc>> {
    let mark = mark?;
    let (until, stored_schedule) = mark.split_once(' ').unwrap_or((mark, schedule));
    until.parse().ok().filter(|_| stored_schedule == schedule)
}

/// The notice of one tick to one administrator. Its key is the tick, so that a second replica does not send it
/// again.
fn summary_notice(
    admin: &Recipient,
    tick: DateTime<Utc>,
    open: i64,
    now: DateTime<Utc>,
) -> NewNotice {
    let occurrence = Occurrence {
        topic: Topic::Summary,
        generation: tick,
        step: None,
    };
    NewNotice {
        title: Some(wording::quantity(open, "open finding")),
        ..NewNotice::for_subject("findings", occurrence, admin, now)
    }
}
