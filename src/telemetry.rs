//! Logs to stderr, as text or JSON, and panics as one more line of them.
//!
//! Numbers are not its business: `http` shows them.

use std::{
    error::Error as StdError,
    ffi::OsStr,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
};

use serde::Deserialize;
use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{Directive, FilterFn, ParseError},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` makes no sense.
    #[error("cannot read RUST_LOG={directives:?}; write it as debug or lapsed=debug,sqlx=warn")]
    Directives {
        /// What it says.
        directives: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// The process logs already.
    #[error("cannot set up logging twice in one process")]
    Twice(#[source] Box<dyn StdError + Send + Sync>),
    /// The filter is gone.
    #[error("cannot change the level of the log")]
    Level(#[source] reload::Error),
}

/// The loudest that code which is not ours may ever get, by the first part of its target.
///
/// These hold whatever `[log] level` and `RUST_LOG` say, and there is no key to lift them: an SMTP
/// client at trace level writes the whole conversation, passwords and addresses included; database
/// and template libraries at debug level write the values they are given. Nobody who turns the
/// level up to see what *lapsed* does asks for that, and logs are kept and shipped.
const CAPS: &[(&str, LevelFilter)] = &[
    // Its warnings may hold an answer that nobody waited for.
    ("ldap3", LevelFilter::ERROR),
    ("lettre", LevelFilter::WARN),
    ("sqlx", LevelFilter::WARN),
    ("sqlx_core", LevelFilter::WARN),
    ("sqlx_postgres", LevelFilter::WARN),
    ("sqlx_sqlite", LevelFilter::WARN),
    ("tokio_cron_scheduler", LevelFilter::WARN),
];

/// The loudest that anybody else may get.
const CAP: LevelFilter = LevelFilter::INFO;

/// The target of everything that this program says itself.
const OURS: &str = env!("CARGO_CRATE_NAME");

/// The running log, of which the level can be changed.
#[derive(Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    directives: Option<String>,
}

/// Starts to log to stderr and sends panics the same way.
///
/// `directives` is what `RUST_LOG` says, if it says anything; then `level` does not count.
///
/// # Errors
/// When `directives` make no sense, or the process logs already.
pub fn install(
    level: Level,
    format: Format,
    directives: Option<String>,
) -> Result<Telemetry, Error> {
    let no_color = std::env::var_os("NO_COLOR");
    let look = Look {
        format,
        colour: is_colourful(io::stderr().is_terminal(), no_color.as_deref()),
    };
    let directives = directives.filter(|directives| !directives.trim().is_empty());
    let (filter, handle) = reload::Layer::new(filter(level, directives.as_deref())?);
    subscriber(filter, look, io::stderr)
        .try_init()
        .map_err(|error| Error::Twice(error.into()))?;
    panic::set_hook(Box::new(log_panic));
    Ok(Telemetry {
        filter: handle,
        directives,
    })
}

impl Telemetry {
    /// Changes the level, unless `RUST_LOG` rules; says whether it took effect.
    ///
    /// # Errors
    /// When the log has ended.
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

/// Whether an event or span may be logged at all, whatever the filter says.
fn is_within_cap(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let root = target.split("::").next().unwrap_or(target);
    if root == OURS {
        return true;
    }
    let cap = CAPS.iter().find(|(name, _)| *name == root);
    *metadata.level() <= cap.map_or(CAP, |(_, cap)| *cap)
}

/// How lines look.
#[derive(Debug, Clone, Copy)]
struct Look {
    format: Format,
    colour: bool,
}

/// Colour is for people at a terminal who did not forbid it (no-color.org: any value but none).
fn is_colourful(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

fn subscriber<W>(
    filter: impl Layer<Registry> + Send + Sync,
    look: Look,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::registry()
        .with(filter)
        .with(FilterFn::new(is_within_cap))
        .with(lines(look, writer))
}

fn lines<S, W>(look: Look, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // When stderr is closed there is nowhere left to complain; the default would panic.
    let lines = fmt::layer()
        .with_ansi(look.colour)
        .log_internal_errors(false);
    match look.format {
        Format::Text => lines
            .compact()
            .with_writer(SingleLines(writer, look.colour))
            .boxed(),
        // JSON escapes control characters itself.
        Format::Json => lines.json().flatten_event(true).with_writer(writer).boxed(),
    }
}

/// Keeps every event on one line and free of control characters: a token's name must not be able
/// to write a line of its own, nor to steer the terminal of whoever reads the log. The formatter
/// sees to neither in fields.
///
/// The second part says whether colours may pass.
struct SingleLines<W>(W, bool);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for SingleLines<W> {
    type Writer = SingleLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SingleLine(self.0.make_writer(), self.1)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        SingleLine(self.0.make_writer_for(metadata), self.1)
    }
}

struct SingleLine<W>(W, bool);

impl<W: Write> Write for SingleLine<W> {
    /// Takes an event whole, as the formatter hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        self.0.write_all((tame(line, self.1) + "\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The text with its control characters written out, except for colours where they may pass.
fn tame(text: &str, colours_pass: bool) -> String {
    let mut tamed = String::with_capacity(text.len() + 1);
    for (place, letter) in text.char_indices() {
        if !letter.is_control() || (colours_pass && starts_colour(&text[place..])) {
            tamed.push(letter);
        } else {
            tamed.extend(letter.escape_default());
        }
    }
    tamed
}

/// Whether the text starts with a sequence that sets a colour: ESC [ digits and semicolons m
/// (ECMA-48 §8.3.117).
fn starts_colour(text: &str) -> bool {
    text.strip_prefix("\u{1b}[").is_some_and(|rest| {
        rest.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';')
            .starts_with('m')
    })
}

/// The panic hook. What panics in a task would otherwise reach stderr past the log's format, or
/// nobody at all.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string);
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
        .then(|| backtrace.to_string());
    tracing::error!(
        panic.place = place,
        panic.thread = std::thread::current().name(),
        panic.backtrace = backtrace,
        "panic: {}",
        info.payload_as_str().unwrap_or("without words"),
    );
}

#[cfg(test)]
mod tests;
