use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};

use super::output;
use crate::notify::{message, template};
use crate::{config, engine, service, sources, store, text};

/// The exit codes; 75 and 78 are those of sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, with single deferrals at most.
    Ok = 0,
    /// Something failed for good in this run, or is held.
    Failed = 1,
    Usage = 2,
    /// Nothing could be done: the server or store is unreachable, or another sweep holds the lease.
    TempFail = 75,
    Config = 78,
}

impl Exit {
    /// The one of two exit codes that takes precedence.
    pub fn worst(self, other: Self) -> Self {
        let severity = |exit| match exit {
            Self::Config => 4,
            Self::Usage => 3,
            Self::Failed => 2,
            Self::TempFail => 1,
            Self::Ok => 0,
        };
        if severity(other) > severity(self) {
            other
        } else {
            self
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed. Its exit code and hint follow from the type, except for a [`Failure`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Source(#[from] sources::Error),
    #[error(transparent)]
    Template(#[from] template::Error),
    #[error(transparent)]
    Mail(#[from] message::Error),
    #[error(transparent)]
    Output(#[from] output::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// SQLite's errors do not say what is missing.
pub(super) const STORE_ACCESS_HINT: &str = "check [store] url, that the folder or server exists, that the disk has free space, and that this \
     user may write there";
pub(super) const STORE_DAMAGE_HINT: &str =
    "restore a backup (`lapsed backup` makes them), or set another file in [store] url";

const FILE_CHANGED_HINT: &str = "stop every lapsed that uses it; the log of the earlier file is now in the files beside it that end in -wal.old \
     and -shm.old; put a backup there, or put the same file back and rename its log to -wal again; with `[store] create \
     = false`, lapsed does not begin a new store, which would send everything again";

/// What the token service refuses has its fix as the hint.
impl From<service::Error> for Error {
    fn from(error: service::Error) -> Self {
        match error {
            service::Error::Refused(problem) => {
                let failure = Failure::failed(anyhow::anyhow!(problem.detail));
                match problem.fix {
                    Some(fix) => failure.hint(fix).into(),
                    None => failure.into(),
                }
            }
            service::Error::Store(error) => Arc::try_unwrap(error).map_or_else(
                |error| {
                    let (exit, _) = store_advice(&error);
                    Failure::with_exit(exit, anyhow::anyhow!(error.to_string())).into()
                },
                Self::Store,
            ),
            service::Error::Engine(error) => error.into(),
            error @ (service::Error::Closed | service::Error::Mark(_)) => {
                Failure::failed(error).into()
            }
        }
    }
}

impl Error {
    /// The exit code, and how to fix it.
    fn advice(&self) -> (Exit, Option<&str>) {
        match self {
            Self::Failure(failure) => (failure.exit, failure.hint.as_deref()),
            Self::Config(_) => (Exit::Config, None),
            Self::Store(error) | Self::Engine(engine::Error::Store(error)) => store_advice(error),
            // The reader (`head`, a pager) stopped reading.
            Self::Output(output::Error::Closed) => (Exit::Ok, None),
            Self::Other(error) => match (error.downcast_ref(), error.downcast_ref::<Self>()) {
                (Some(Failure { exit, hint, .. }), _) => (*exit, hint.as_deref()),
                (None, Some(inner)) => inner.advice(),
                (None, None) => (Exit::Failed, None),
            },
            Self::Source(error) => (Exit::Failed, error.advice()),
            Self::Engine(_) | Self::Template(_) | Self::Mail(_) | Self::Output(_) | Self::Io(_) => {
                (Exit::Failed, None)
            }
        }
    }
}

pub(super) fn store_advice(error: &store::Error) -> (Exit, Option<&str>) {
    match error {
        store::Error::Unusable { fix, .. } => (Exit::Config, Some(fix)),
        store::Error::FileChanged { .. } => (Exit::Config, Some(FILE_CHANGED_HINT)),
        store::Error::Url(_)
        | store::Error::Missing(_)
        | store::Error::Moved(_)
        | store::Error::Newer { .. }
        | store::Error::Older
        | store::Error::EarlierBuild => (Exit::Config, None),
        store::Error::Open { .. } if error.is_corruption() => {
            (Exit::Failed, Some(STORE_DAMAGE_HINT))
        }
        store::Error::NoServer { is_transient, .. } if !is_transient => {
            (Exit::Config, Some(STORE_ACCESS_HINT))
        }
        store::Error::Open { .. } | store::Error::NoServer { .. } => {
            (Exit::TempFail, Some(STORE_ACCESS_HINT))
        }
        transient if transient.is_transient() => (Exit::TempFail, None),
        _ => (Exit::Failed, None),
    }
}

/// An error with an exit code and, if there is one, a hint how to fix it.
///
/// It displays as the error it holds, and keeps its code and hint when context is added:
/// `Relay::new(settings).map_err(Failure::config)?`.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    hint: Option<String>,
    cause: anyhow::Error,
}

impl Failure {
    /// A final failure: exit 1.
    pub fn failed(cause: impl Into<anyhow::Error>) -> Self {
        Self::with_exit(Exit::Failed, cause)
    }

    /// Arguments that are wrong or do not fit together: exit 2.
    pub fn usage(cause: impl Into<anyhow::Error>) -> Self {
        Self::with_exit(Exit::Usage, cause)
    }

    /// A server or store that is unreachable now: exit 75.
    pub fn unreachable(cause: impl Into<anyhow::Error>) -> Self {
        Self::with_exit(Exit::TempFail, cause)
    }

    /// A wrong configuration, or a missing store that must not be created: exit 78.
    pub fn config(cause: impl Into<anyhow::Error>) -> Self {
        Self::with_exit(Exit::Config, cause)
    }

    pub(super) fn with_exit(exit: Exit, cause: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            hint: None,
            cause: cause.into(),
        }
    }

    /// Adds the key or the command that fixes it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

/// Prints an error, its causes and its hint, one per line, and returns the exit code.
pub fn print_error(error: &Error, mut out: impl Write) -> Exit {
    let (exit, _) = error.advice();
    if exit != Exit::Ok {
        // Standard error may be closed; there is no other place for the message.
        let _ = out.write_all(format_error(error).as_bytes());
    }
    exit
}

fn format_error(error: &Error) -> String {
    let red = AnsiColor::Red.on_default().bold();
    let cyan = AnsiColor::Cyan.on_default().bold();
    let mut lines = Vec::new();
    let mut last = String::new();
    let mut next: Option<&dyn StdError> = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        let message = text::clean_lines(&cause.to_string());
        let (label, style) = if lines.is_empty() {
            ("error", red)
        } else if last.ends_with(&message) {
            // Libraries often end their message with the message of the cause.
            continue;
        } else {
            ("caused by", Style::new())
        };
        lines.push(format!("{style}{label}:{style:#} {message}\n"));
        last = message;
    }
    if let (_, Some(hint)) = error.advice() {
        lines.push(format!("{cyan}hint:{cyan:#} {}\n", text::clean_lines(hint)));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    fn printed(error: &Error) -> (Exit, String) {
        let mut out = anstream::StripStream::new(Vec::new());
        let exit = print_error(error, &mut out);
        (exit, String::from_utf8(out.into_inner()).unwrap())
    }

    #[test]
    fn an_error_is_printed_with_its_causes_and_hint() {
        let error = Error::from(
            Failure::config(anyhow!("no such file").context("cannot read lapsed.toml"))
                .hint("name another with --config FILE"),
        );
        let (exit, text) = printed(&error);
        assert_eq!(exit, Exit::Config);
        insta::assert_snapshot!(text, @"
        error: cannot read lapsed.toml
        caused by: no such file
        hint: name another with --config FILE
        ");
    }

    #[test]
    fn context_around_a_failure_keeps_code_and_hint() {
        let error =
            Err::<(), _>(Failure::unreachable(anyhow!("connection refused")).hint("start it"))
                .context("cannot open the store")
                .context("cannot sweep")
                .unwrap_err();
        let (exit, text) = printed(&error.into());
        assert_eq!(exit, Exit::TempFail);
        insta::assert_snapshot!(text, @"
        error: cannot sweep
        caused by: cannot open the store
        caused by: connection refused
        hint: start it
        ");
    }

    #[test]
    fn an_error_without_a_code_exits_1() {
        assert_eq!(printed(&anyhow!("no").into()).0, Exit::Failed);
    }

    #[test]
    fn a_message_cannot_color_the_terminal_and_is_printed_once() {
        let error =
            anyhow!("bad \u{1b}[2J\u{202e}name").context("row 3: bad \u{1b}[2J\u{202e}name");
        let (_, text) = printed(&error.into());
        assert_eq!(text, "error: row 3: bad  [2J name\n");
    }

    #[test]
    fn a_closed_output_is_not_a_failure_but_a_broken_connection_is() {
        let closed = Error::from(output::Error::Closed);
        assert_eq!(printed(&closed), (Exit::Ok, String::new()));
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(printed(&broken.into()).0, Exit::Failed);
    }

    #[test]
    fn the_worst_exit_code_takes_precedence() {
        use Exit::{Config, Failed, Ok, TempFail, Usage};
        let order = [Config, Usage, Failed, TempFail, Ok];
        for (rank, worse) in order.into_iter().enumerate() {
            for other in order.into_iter().skip(rank) {
                assert_eq!((worse.worst(other), other.worst(worse)), (worse, worse));
            }
        }
    }
}
