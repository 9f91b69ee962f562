//! `[schedule]`, `[delivery]`, `[http]` and `[log]`: how the daemon runs.

use std::net::SocketAddr;

use chrono::TimeDelta;
use chrono_tz::{TZ_VARIANTS, Tz};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::error::{for_display, hint};
use super::field::Field;
use super::table::Table;
use crate::domain::Schedule;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleConfig {
    pub sweep: Schedule,
    /// Applies to `sweep`, `notify.admin_digest` and the schedules of sources and directories.
    pub timezone: Tz,
}

/// Times for claims and retries; `retry_min <= retry_max <= give_up`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// How long a claim is valid without renewal.
    pub lease: TimeDelta,
    /// The first wait after a failed attempt.
    pub retry_min: TimeDelta,
    /// The longest wait between two attempts.
    pub retry_max: TimeDelta,
    /// After this time a mail is not tried again.
    pub give_up: TimeDelta,
    /// How long a stop waits for mails that are being sent.
    pub stop_timeout: TimeDelta,
}

/// The HTTP server for health and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `None` turns the server off.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Valid directives of `tracing_subscriber::EnvFilter`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One JSON object a line.
    Json,
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl ScheduleConfig {
    /// `None` if invalid; the problem is reported.
    pub(super) fn from_table(mut table: Table) -> Option<Self> {
        let timezone = table.with_default("timezone", Tz::UTC, zone);
        let sweep = table.with_default(
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
    pub(super) fn from_table(mut table: Table) -> Self {
        let mut duration =
            |key, default, least| table.with_default(key, default, |field| field.duration(least));
        let second = TimeDelta::seconds(1);
        let delivery = Self {
            lease: duration("lease", TimeDelta::seconds(30), TimeDelta::seconds(1)),
            retry_min: duration("retry_min", TimeDelta::minutes(1), second),
            retry_max: duration("retry_max", TimeDelta::hours(6), second),
            give_up: duration("give_up", TimeDelta::days(5), second),
            stop_timeout: duration("stop_timeout", TimeDelta::seconds(25), second),
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
    pub(super) fn from_table(mut table: Table) -> Self {
        let default = Some(SocketAddr::from(([127, 0, 0, 1], 8484)));
        let http = Self {
            listen: table.with_default("listen", default, |field| match field.text()? {
                "off" => Ok(None),
                text => text.parse().map(Some).map_err(|_| {
                    let text = for_display(text);
                    format!("\"{text}\" is not an address and a port; write \"127.0.0.1:8484\", \"[::]:8484\" or \"off\"")
                }),
            }),
        };
        table.finish();
        http
    }
}

impl Log {
    pub(super) fn from_table(mut table: Table) -> Self {
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log = Self {
            level: table.with_default("level", "info".to_owned(), level),
            format: table.with_default("format", LogFormat::Text, |field| field.choice(&formats)),
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
        let text = for_display(text);
        format!("unknown time zone `{text}`; {near}(write a name such as UTC or Europe/Berlin)")
    })
}

/// `EnvFilter` accepts any single word as a module name and then logs nothing else, so a typo such as
/// `inof` must be caught here.
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
                "unknown level `{}`; {}; a module can have its own level: \"info,lapsed::engine=debug\"",
                for_display(part),
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
