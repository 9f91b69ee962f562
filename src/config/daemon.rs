//! `[store]`, `[schedule]`, `[delivery]`, `[retention]`, `[http]` and `[log]`: how the daemon runs.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::{TZ_VARIANTS, Tz};
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::database;
use super::error::{for_display, hint};
use super::field::Field;
use super::table::Table;
use crate::domain::{Backoff, Schedule};
use crate::engine::{Delivery, Retention};
use crate::nearest::nearest;
use crate::telemetry::Format;

#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:///absolute/path`, percent-encoded, or a `postgres://` URL. May contain a password.
    pub url: SecretString,
    /// Whether to create a store that does not exist.
    pub create: bool,
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
    pub format: Format,
}

const DEFAULT_URL: &str = "sqlite:///var/lib/lapsed/lapsed.db";
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];
const SECOND: TimeDelta = TimeDelta::seconds(1);
const DAY: TimeDelta = TimeDelta::days(1);

impl Store {
    pub(super) fn from_table(mut table: Table) -> Self {
        let store = Self {
            url: table.with_default("url", DEFAULT_URL.into(), database::store_url),
            create: table.boolean("create", true),
        };
        table.finish();
        store
    }

    /// Otherwise it is PostgreSQL.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }
}

/// When to sweep, and the time zone of every schedule.
pub(super) fn schedule(mut table: Table) -> (Option<Schedule>, Tz) {
    let timezone = table.with_default("timezone", Tz::UTC, zone);
    let sweep = table.optional("sweep", |field| field.schedule(timezone));
    table.finish();
    let default = || Schedule::new("* * * * *", timezone).ok();
    (sweep.or_else(default), timezone)
}

/// The limits of `[smtp]` apply to the delivery as a whole. Also returns how long a stop waits for mails
/// that are being sent.
pub(super) fn delivery(mut table: Table, smtp: &mut Table) -> (Delivery, Duration) {
    let delivery = Delivery {
        lease: table.duration("lease", TimeDelta::seconds(30), SECOND),
        backoff: Backoff {
            min: table.duration("retry_min", TimeDelta::minutes(1), SECOND),
            max: table.duration("retry_max", TimeDelta::hours(6), SECOND),
        },
        give_up: table.duration("give_up", TimeDelta::days(5), SECOND),
        connections: smtp.integer("connections", 4, 1..=256),
        messages_per_connection: smtp.integer("messages_per_connection", 100, 0..=1_000_000),
        mails_per_second: Some(smtp.number("mails_per_second", 0.0, 0.0..=100_000.0))
            .filter(|limit| *limit > 0.0),
    };
    let stop_timeout = table.timeout("stop_timeout", Duration::from_secs(25));
    if delivery.backoff.min > delivery.backoff.max {
        table.refuse("retry_min", "must not be longer than retry_max");
    }
    if delivery.backoff.max > delivery.give_up {
        table.refuse("retry_max", "must not be longer than give_up");
    }
    table.finish();
    (delivery, stop_timeout)
}

pub(super) fn retention(mut table: Table) -> Retention {
    let retention = Retention {
        gone_tokens: table.duration("gone_tokens", TimeDelta::days(400), DAY),
        notices: table.duration("notices", TimeDelta::days(400), DAY),
        runs: table.duration("runs", TimeDelta::days(90), DAY),
        findings: table.duration("findings", TimeDelta::days(400), DAY),
        audit: table.duration("audit", TimeDelta::days(1095), DAY),
    };
    table.finish();
    retention
}

impl Http {
    pub(super) fn from_table(mut table: Table) -> Self {
        let default = SocketAddr::from(([127, 0, 0, 1], 8484));
        let listen = table.unless_off("listen", Some(default), |field| {
            let text = field.text()?;
            text.parse().map_err(|_| {
                let text = for_display(text);
                format!("\"{text}\" is not an address and a port; write \"127.0.0.1:8484\", \"[::]:8484\" or \"off\"")
            })
        });
        table.finish();
        Self { listen }
    }
}

impl Log {
    pub(super) fn from_table(mut table: Table) -> Self {
        let log = Self {
            level: table.with_default("level", "info".to_owned(), level),
            format: table.choice("format", &FORMATS, Format::Text),
        };
        table.finish();
        log
    }
}

fn zone(field: &Field) -> Result<Tz, String> {
    let text = field.text()?;
    text.parse().map_err(|_| {
        let near = nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name()))
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
