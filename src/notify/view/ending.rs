//! What lapsed ends by itself, as a mail says it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::notify::{letter::Letter, wording};

use super::list::Item;

/// The command that is proposed accepts a finding for so long after the end.
const ACCEPTED: TimeDelta = TimeDelta::days(30);

/// Tokens of people without access that are ended by the policy.
#[derive(Serialize)]
pub(super) struct Ending {
    /// `lapsed ends this token by itself in 24 hours, on Sun 22 Nov 2026 at 09:00 UTC`.
    sentence: String,
    /// The command that stops it for a time.
    command: String,
    /// The command that tells the ids for it, where they do not stand in the mail.
    ids: Option<&'static str>,
}

impl Ending {
    pub(super) fn of(items: &[Item<'_>], letter: &Letter, rich: bool) -> Option<Self> {
        let (finding, at) = items
            .iter()
            .filter_map(Item::end)
            .min_by_key(|(_, at)| *at)?;
        let is_same = |other: DateTime<Utc>| (other - at).abs() < TimeDelta::minutes(1);
        let ends: Vec<_> = items.iter().filter_map(Item::end).collect();
        let first = if ends.iter().all(|(_, other)| is_same(*other)) {
            ""
        } else {
            "the first "
        };
        let left = wording::left(at - letter.now);
        let when = format!("{first}in {left}, on {}", wording::exact(at, letter.zone));
        let what = match (ends.len(), items.len()) {
            (1, 1) => "this token".to_owned(),
            (1, _) => "one of these tokens".to_owned(),
            (ends, items) if ends == items => "these tokens".to_owned(),
            (ends, _) => format!("{ends} of these tokens"),
        };
        let id = match ends.len() {
            1 => finding.to_string(),
            _ => "ID".to_owned(),
        };
        let until = (at + ACCEPTED).format("%Y-%m-%d");
        Some(Self {
            sentence: format!("lapsed ends {what} by itself {when}"),
            command: format!("lapsed finding acknowledge {id} --until {until} --reason WHY"),
            ids: (!rich).then_some("lapsed finding list --kind sso_revoked"),
        })
    }
}
