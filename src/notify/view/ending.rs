//! Announces which tokens lapsed revokes by itself, and how to stop it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::notify::letter::Letter;
use crate::notify::wording;

use super::list::Item;

/// How long after the revocation the proposed acknowledgement lasts.
const ACKNOWLEDGED_AFTER_END: TimeDelta = TimeDelta::days(30);

#[derive(Serialize)]
pub(super) struct Ending {
    /// `lapsed revokes this token in 24 hours, on Sun 22 Nov 2026 at 09:00 UTC`.
    sentence: String,
    /// Stops it for a time.
    command: String,
    /// Lists the ids for `command`, if the mail does not show them.
    ids: Option<&'static str>,
}

impl Ending {
    pub(super) fn new(items: &[Item<'_>], letter: &Letter, is_detailed: bool) -> Option<Self> {
        let (finding, at) = items
            .iter()
            .filter_map(Item::revocation)
            .min_by_key(|(_, at)| *at)?;
        let is_same = |other: DateTime<Utc>| (other - at).abs() < TimeDelta::minutes(1);
        let ends: Vec<_> = items.iter().filter_map(Item::revocation).collect();
        let first = if ends.iter().all(|(_, other)| is_same(*other)) {
            ""
        } else {
            "the first "
        };
        let left = wording::time_left(at - letter.now);
        let when = format!(
            "{first}in {left}, on {}",
            wording::date_time(at, letter.zone)
        );
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
        let until = (at + ACKNOWLEDGED_AFTER_END).format("%Y-%m-%d");
        Some(Self {
            sentence: format!("lapsed revokes {what} {when}"),
            command: format!("lapsed finding acknowledge {id} --until {until} --reason WHY"),
            ids: (!is_detailed).then_some("lapsed finding list --kind sso_revoked"),
        })
    }
}
