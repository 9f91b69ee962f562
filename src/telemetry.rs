//! Logging to stderr, as text or JSON, panics included. Metrics are in `http`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error as StdError;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{Directive, FilterExt, FilterFn, ParseError};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::causes::contains_panics;
use crate::{server_warnings, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read RUST_LOG={directives:?}; write it as debug or lapsed=debug,sqlx=warn")]
    Directives {
        directives: String,
        #[source]
        source: ParseError,
    },
    #[error("cannot set up logging twice in one process")]
    Twice(#[source] Box<dyn StdError + Send + Sync>),
    #[error("cannot change the log level")]
    Level(#[source] reload::Error),
}

/// Maximum log levels for third-party crates, by the first part of the target.
///
/// They apply regardless of `[log] level` and `RUST_LOG`, and no setting lifts them: an SMTP client at
/// trace level logs whole conversations with passwords and addresses; database and template libraries at
/// debug level log the values they are given. Raising the level to see what *lapsed* does must not write
/// these into logs that are stored and shipped.
const LEVEL_CAPS: &[(&str, LevelFilter)] = &[
    // Its warnings may contain responses of the server.
    ("ldap3", LevelFilter::ERROR),
    ("lettre", LevelFilter::WARN),
    ("sqlx", LevelFilter::WARN),
    ("sqlx_core", LevelFilter::WARN),
    ("sqlx_postgres", LevelFilter::WARN),
    ("sqlx_sqlite", LevelFilter::WARN),
    ("tokio_cron_scheduler", LevelFilter::WARN),
];

/// The maximum level for all other third-party crates.
const DEFAULT_LEVEL_CAP: LevelFilter = LevelFilter::INFO;
/// The first part of the targets of lapsed itself.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    directives: Option<String>,
}

/// Starts logging to stderr, panics included.
///
/// `directives` is the value of `RUST_LOG`; if set, it overrides `level`.
///
/// # Errors
/// When `directives` are invalid, or logging is already set up.
pub fn install(
    level: Level,
    format: Format,
    directives: Option<String>,
) -> Result<Telemetry, Error> {
    let no_color = std::env::var_os("NO_COLOR");
    let style = LineStyle {
        format,
        colour: has_colour(io::stderr().is_terminal(), no_color.as_deref()),
    };
    let directives = directives.filter(|directives| !directives.trim().is_empty());
    let (filter, handle) = reload::Layer::new(filter(level, directives.as_deref())?);
    subscriber(filter, style, io::stderr)
        .try_init()
        .map_err(|error| Error::Twice(error.into()))?;
    Ok(Telemetry {
        filter: handle,
        directives,
    })
}

/// Collects the warnings of servers for a command that logs nothing. Does nothing once logging is set up.
pub fn collect_warnings() {
    let _ = tracing_subscriber::registry()
        .with(server_warnings::layer())
        .try_init();
}

/// Reports panics in the log, and on stderr before the log is set up.
pub fn report_panics() {
    panic::set_hook(Box::new(log_panic));
}

impl Telemetry {
    /// Changes the level and returns `true`, unless `RUST_LOG` overrides it.
    ///
    /// # Errors
    /// When logging has ended.
    pub fn set_level(&self, level: Level) -> Result<bool, Error> {
        if self.directives.is_some() {
            return Ok(false);
        }
        let filter = filter(level, None)?;
        self.filter.reload(filter).map_err(Error::Level)?;
        Ok(true)
    }
}

fn filter(level: Level, directives: Option<&str>) -> Result<EnvFilter, Error> {
    let Some(directives) = directives else {
        return Ok(EnvFilter::default().add_directive(Directive::from(level)));
    };
    EnvFilter::try_new(directives).map_err(|source| Error::Directives {
        directives: directives.to_owned(),
        source,
    })
}

fn is_within_cap(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let root = target.split("::").next().unwrap_or(target);
    if root == OWN_TARGET {
        return true;
    }
    let cap = LEVEL_CAPS.iter().find(|(name, _)| *name == root);
    *metadata.level() <= cap.map_or(DEFAULT_LEVEL_CAP, |(_, cap)| *cap)
}

#[derive(Debug, Clone, Copy)]
struct LineStyle {
    format: Format,
    colour: bool,
}

/// Only on a terminal, and only if `NO_COLOR` is unset or empty (no-color.org).
fn has_colour(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

fn subscriber<W>(
    filter: impl Filter<Registry> + Send + Sync + 'static,
    style: LineStyle,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter.and(FilterFn::new(is_within_cap));
    tracing_subscriber::registry()
        .with(format_layer(style, writer).with_filter(filter))
        .with(server_warnings::layer())
}

fn format_layer<S, W>(style: LineStyle, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // With internal errors on, a closed stderr would cause a panic.
    let layer = fmt::layer()
        .with_ansi(style.colour)
        .log_internal_errors(false);
    match style.format {
        Format::Text => layer
            .compact()
            .with_writer(SingleLines {
                inner: writer,
                style,
            })
            .boxed(),
        Format::Json => layer
            .json()
            .flatten_event(true)
            .with_writer(SingleLines {
                inner: writer,
                style,
            })
            .boxed(),
    }
}

/// Keeps each event on one line and escapes unsafe characters: a token's name must neither forge a log
/// line nor control the reader's terminal. The formatter does not ensure this for fields.
struct SingleLines<W> {
    inner: W,
    style: LineStyle,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for SingleLines<W> {
    type Writer = SingleLines<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SingleLines {
            inner: self.inner.make_writer(),
            style: self.style,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        SingleLines {
            inner: self.inner.make_writer_for(metadata),
            style: self.style,
        }
    }
}

impl<W: Write> Write for SingleLines<W> {
    /// The formatter passes each event in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let event_text = String::from_utf8_lossy(event);
        let line = event_text.strip_suffix('\n').unwrap_or(&event_text);
        let line = match self.style.format {
            Format::Text => escape_unsafe(line, self.style.colour),
            Format::Json => text::escape_json(line.to_owned()),
        } + "\n";
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Escapes unsafe characters, except colour sequences if `allows_colours`.
fn escape_unsafe(text: &str, allows_colours: bool) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for (index, letter) in text.char_indices() {
        if !text::is_unsafe(letter) || (allows_colours && starts_colour(&text[index..])) {
            escaped.push(letter);
        } else {
            escaped.extend(letter.escape_default());
        }
    }
    escaped
}

/// Whether the text starts with a sequence that sets a colour: ESC [ digits and semicolons m
/// (ECMA-48 §8.3.117).
fn starts_colour(text: &str) -> bool {
    text.strip_prefix("\u{1b}[").is_some_and(|rest| {
        rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';')
            .starts_with('m')
    })
}

/// The panic hook. Without it, a panic in a task would reach stderr in another format, or not at all.
fn log_panic(info: &PanicHookInfo<'_>) {
    if contains_panics() {
        return;
    }
    let place = info.location().map(|place| {
        let file = strip_build_path(place.file());
        format!("{file}:{}:{}", place.line(), place.column())
    });
    let message = info.payload_as_str().unwrap_or("no message");
    if !tracing::dispatcher::has_been_set() {
        let (place, message) = (place.unwrap_or_default(), text::clean(message));
        // Stderr may be closed; there is no other place for the message.
        let _ = writeln!(io::stderr(), "lapsed: internal error at {place}: {message}");
        return;
    }
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic.place = place,
        panic.thread = std::thread::current().name(),
        panic.backtrace = backtrace,
        "panic: {message}",
    );
}

/// The path of a source file without the folders of the machine that built the program:
/// `ldap3-0.12.1/src/protocol.rs`.
fn strip_build_path(file: &str) -> &str {
    if !file.starts_with('/') {
        return file;
    }
    let package = file.rfind("/src/").unwrap_or(file.len());
    let start = file[..package].rfind('/').map_or(0, |slash| slash + 1);
    &file[start..]
}

#[cfg(test)]
mod tests;
