//! How a visitor reads: their language, their zone, and now.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;
use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use chrono_tz::Tz;
use fluent_bundle::{FluentArgs, FluentValue};
use serde::Serialize;

use super::languages::Languages;
use crate::time::format_span;

/// From here on, time is told in days.
const IN_DAYS: TimeDelta = TimeDelta::hours(36);
/// Where counts stop.
pub const MAX_COUNT: i64 = 10_000;

#[derive(Clone)]
pub struct Words {
    languages: Arc<Languages>,
    language: &'static str,
    pub zone: Tz,
    pub now: DateTime<Utc>,
}

/// An instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// RFC 3339.
    pub iso: String,
    /// In the zone of the visitor.
    pub text: String,
    /// The day alone.
    pub day: String,
    /// In UTC.
    pub utc: String,
    /// How far away: `in 6 days`, `2 hours ago`.
    pub distance: String,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Words({}, {})", self.language, self.zone)
    }
}

impl Words {
    /// In the language of the person, else as their browser asks.
    pub fn choose(
        languages: &Arc<Languages>,
        preferred: Option<&str>,
        headers: &HeaderMap,
        zone: Tz,
        now: DateTime<Utc>,
    ) -> Self {
        let accepted = headers.get(ACCEPT_LANGUAGE);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        Self {
            language: languages.choose(preferred, accepted.unwrap_or_default()),
            languages: Arc::clone(languages),
            zone,
            now,
        }
    }

    pub fn language(&self) -> &'static str {
        self.language
    }

    pub fn text(&self, id: &str) -> String {
        self.with(id, [])
    }

    pub fn with_name(&self, id: &str, name: &str) -> String {
        self.with(id, [("name", FluentValue::from(name.to_owned()))])
    }

    pub fn with_count(&self, id: &str, count: i64) -> String {
        let shown = self.count(count);
        self.with(id, [("count", count.into()), ("shown", shown.into())])
    }

    /// A phrase. One that does not exist is a mistake that a test finds; its id is shown.
    pub fn with<const N: usize>(
        &self,
        id: &str,
        arguments: [(&'static str, FluentValue<'_>); N],
    ) -> String {
        let mut given = FluentArgs::new();
        for (name, value) in arguments {
            given.set(name, value);
        }
        let text = self.languages.format(self.language, id, &given);
        text.unwrap_or_else(|error| {
            tracing::error!(%error, "a phrase is missing");
            id.to_owned()
        })
    }

    /// Counts stop at 10,000.
    pub fn count(&self, count: i64) -> String {
        if count > MAX_COUNT {
            return self.text("count-more");
        }
        count.to_string()
    }

    /// A length of time, in the largest unit that fits.
    pub fn span(&self, span: TimeDelta) -> String {
        let seconds = span.num_seconds();
        let units = [
            (86_400, "span-days"),
            (3600, "span-hours"),
            (60, "span-minutes"),
        ];
        let fits = |(length, _): &(i64, &str)| seconds >= *length && seconds % length == 0;
        match units.into_iter().find(fits) {
            Some((length, phrase)) => self.with_count(phrase, seconds / length),
            None => format_span(span),
        }
    }

    pub fn moment(&self, at: DateTime<Utc>) -> Moment {
        let local = at.with_timezone(&self.zone);
        let day = self.day(local.year(), local.month(), local.day());
        let time = local.format("%H:%M").to_string();
        Moment {
            iso: at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            text: format!("{day}, {time}"),
            day,
            utc: at.format("%Y-%m-%d %H:%M UTC").to_string(),
            distance: self.distance(at),
        }
    }

    fn day(&self, year: i32, month: u32, day: u32) -> String {
        let month = self.text(&format!("month-{month}"));
        self.with(
            "day",
            [
                ("day", day.to_string().into()),
                ("month", month.into()),
                ("year", year.to_string().into()),
            ],
        )
    }

    /// A plain date, which has no zone.
    pub fn date(&self, date: chrono::NaiveDate) -> String {
        self.day(date.year(), date.month(), date.day())
    }

    fn distance(&self, at: DateTime<Utc>) -> String {
        let (span, is_past) = if at > self.now {
            (at - self.now, false)
        } else {
            (self.now - at, true)
        };
        let phrase = |unit: &str| format!("{}-{unit}", if is_past { "ago" } else { "in" });
        if span >= IN_DAYS {
            // To the nearest.
            let days = (span + TimeDelta::hours(12)).num_days();
            return self.with_count(&phrase("days"), days);
        }
        if span >= TimeDelta::hours(1) {
            return self.with_count(&phrase("hours"), span.num_hours());
        }
        if span >= TimeDelta::minutes(1) {
            return self.with_count(&phrase("minutes"), span.num_minutes());
        }
        self.text(&phrase("moment"))
    }
}
