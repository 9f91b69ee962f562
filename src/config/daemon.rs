//! `[schedule]`, `[delivery]`, `[http]` and `[log]`: how the daemon runs.

use std::net::SocketAddr;

use chrono::TimeDelta;
use chrono_tz::{TZ_VARIANTS, Tz};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    error::{hint, shown},
    field::Field,
    table::Table,
};
use crate::domain::Schedule;

/// When lapsed sweeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// The sweeps.
    pub sweep: Schedule,
    /// Whose wall clock counts, here and for `notify.admin_digest`.
    pub timezone: Tz,
}

/// How claims and retries are timed. `retry_min <= retry_max <= give_up`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// How long a claim holds without being renewed; at least 5 seconds.
    pub lease: TimeDelta,
    /// The first wait after a mail was put off.
    pub retry_min: TimeDelta,
    /// The longest wait.
    pub retry_max: TimeDelta,
    /// How long a mail is tried at all.
    pub give_up: TimeDelta,
    /// How long a stop waits for the mails in hand.
    pub stop_timeout: TimeDelta,
}

/// Health and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where to listen; `None` is nowhere.
    pub listen: Option<SocketAddr>,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`, known to parse.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a line of log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl ScheduleConfig {
    /// `None` when it makes no sense; the problem is noted.
    pub(super) fn read(mut table: Table) -> Option<Self> {
        let timezone = table.or("timezone", Tz::UTC, zone);
        let sweep = table.or(
            "sweep",
            Schedule::new("* * * * *", timezone).ok(),
            |field| {
                let schedule = Schedule::new(field.text()?, timezone);
                schedule.map(Some).map_err(|error| error.to_string())
            },
        );
        table.finish();
        Some(Self {
            sweep: sweep?,
            timezone,
        })
    }
}

impl Delivery {
    pub(super) fn read(mut table: Table) -> Self {
        let mut span = |key, default, least| table.or(key, default, |field| field.span(least));
        let second = TimeDelta::seconds(1);
        let delivery = Self {
            lease: span("lease", TimeDelta::seconds(30), TimeDelta::seconds(1)),
            retry_min: span("retry_min", TimeDelta::minutes(1), second),
            retry_max: span("retry_max", TimeDelta::hours(6), second),
            give_up: span("give_up", TimeDelta::days(5), second),
            stop_timeout: span("stop_timeout", TimeDelta::seconds(25), second),
        };
        if delivery.retry_min > delivery.retry_max {
            table.refuse("retry_min", "must not be longer than retry_max");
        }
        if delivery.retry_max > delivery.give_up {
            table.refuse("retry_max", "must not be longer than give_up");
        }
        table.finish();
        delivery
    }
}

impl Http {
    pub(super) fn read(mut table: Table) -> Self {
        let default = Some(SocketAddr::from(([127, 0, 0, 1], 8484)));
        let http = Self {
            listen: table.or("listen", default, |field| match field.text()? {
                "off" => Ok(None),
                text => text.parse().map(Some).map_err(|_| {
                    let text = shown(text);
                    format!("\"{text}\" is not an address and a port; write \"127.0.0.1:8484\", \"[::]:8484\" or \"off\"")
                }),
            }),
        };
        table.finish();
        http
    }
}

impl Log {
    pub(super) fn read(mut table: Table) -> Self {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log = Self {
            level: table.or("level", "info".to_owned(), level),
            format: table.or("format", LogFormat::Text, |field| field.word(&formats)),
        };
        table.finish();
        log
    }
}

fn zone(field: &Field) -> Result<Tz, String> {
    let text = field.text()?;
    text.parse().map_err(|_| {
        let distance =
            |zone: &&str| strsim::damerau_levenshtein(&text.to_lowercase(), &zone.to_lowercase());
        let names = TZ_VARIANTS.iter().map(|zone| zone.name());
        let near = names
            .min_by_key(distance)
            .filter(|zone| distance(zone) <= 3);
        let near = near
            .map(|zone| format!("did you mean `{zone}`? "))
            .unwrap_or_default();
        let text = shown(text);
        format!("unknown time zone `{text}`; {near}(write a name such as UTC or Europe/Berlin)")
    })
}

/// A filter takes any single word for the name of a module and then logs nothing of the rest, so
/// that a slip such as `inof` must be caught here.
fn level(field: &Field) -> Result<String, String> {
    let text = field.text()?;
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.contains(['=', '[']))
    {
        let is_level = part.parse::<LevelFilter>().is_ok();
        if !is_level {
            return Err(format!(
                "unknown level `{}`; {}; a part of lapsed can have its own: \"info,lapsed::engine=debug\"",
                shown(part),
                hint(part, LEVELS)
            ));
        }
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; write a level, or \"info,lapsed::engine=debug\""
        )),
    }
}
