//! How a visitor reads: their language, their zone, and now.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use crate::domain::When;
use crate::language::{Language, clock, phrase};

/// Where counts stop.
const MAX_COUNT: i64 = 10_000;

#[derive(Debug, Clone)]
pub struct Words {
    pub language: Language,
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
    /// In UTC.
    pub utc: String,
    /// How far away: `in 6 days`, `2 hours ago`.
    pub distance: String,
}

impl Words {
    /// Counts stop at 10,000.
    pub fn count(&self, count: i64) -> String {
        if count > MAX_COUNT {
            return phrase!(self.language, "count-more", count = MAX_COUNT);
        }
        self.language.number(count)
    }

    /// A length of time.
    pub fn span(&self, span: TimeDelta) -> String {
        self.language.time_left(span)
    }

    pub fn moment(&self, at: DateTime<Utc>) -> Moment {
        let day = self.language.day(at, self.zone);
        Moment {
            iso: at.to_rfc3339_opts(SecondsFormat::Secs, true),
            text: format!("{day}, {}", clock(at, self.zone)),
            utc: at.format("%Y-%m-%d %H:%M UTC").to_string(),
            distance: if at > self.now {
                self.language.time_in(at - self.now)
            } else {
                self.language.ago(self.now - at)
            },
        }
    }

    /// A plain date, which has no zone.
    pub fn date(&self, date: NaiveDate) -> String {
        let at = date.and_time(chrono::NaiveTime::MIN).and_utc();
        self.language.day(
            When {
                at,
                day: Some(date),
            },
            self.zone,
        )
    }
}
