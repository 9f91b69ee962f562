//! Exit codes, and the printing of errors.

use std::error::Error as StdError;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use super::output;
use crate::text;
use anstyle::{AnsiColor, Style};

/// The exit codes; 75 and 78 are those of sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, with single deferrals at most.
    Ok = 0,
    /// Something failed for good in this run, or is held.
    Failed = 1,
    /// Wrong command-line usage.
    Usage = 2,
    /// Nothing could be done: the server or store is unreachable, or another sweep holds the lease.
    TempFail = 75,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The one of two exit codes that takes precedence.
    #[must_use]
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

    /// The exit code of an error: that of the [`Failure`] in its chain, else 1.
    #[must_use]
    pub fn from_error(error: &anyhow::Error) -> Self {
        if matches!(error.downcast_ref(), Some(output::Error::Closed)) {
            // The reader (`head`, a pager) stopped reading.
            return Self::Ok;
        }
        error
            .downcast_ref::<Failure>()
            .map_or(Self::Failed, |failure| failure.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error with an exit code and, if there is one, a hint how to fix it.
///
/// It displays as the error it holds, and keeps its code and hint when context is added:
/// `config::load(path).map_err(Failure::config)?`.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    hint: Option<String>,
    cause: anyhow::Error,
}

impl Failure {
    /// A final failure: exit 1.
    pub fn failed(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Failed, cause)
    }

    /// Arguments that are wrong or do not fit together: exit 2.
    pub fn usage(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Usage, cause)
    }

    /// A server or store that is unreachable now: exit 75.
    pub fn unreachable(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::TempFail, cause)
    }

    /// A wrong configuration, or a missing store that must not be created: exit 78.
    pub fn config(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Config, cause)
    }

    fn new(exit: Exit, cause: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            hint: None,
            cause: cause.into(),
        }
    }

    /// Adds the key or the command that fixes it.
    #[must_use]
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
pub fn print_error(error: &anyhow::Error, mut out: impl Write) -> Exit {
    let exit = Exit::from_error(error);
    if exit != Exit::Ok {
        // Standard error may be closed; there is no other place for the message.
        let _ = out.write_all(format_error(error).as_bytes());
    }
    exit
}

fn format_error(error: &anyhow::Error) -> String {
    let red = AnsiColor::Red.on_default().bold();
    let cyan = AnsiColor::Cyan.on_default().bold();
    let mut lines = Vec::new();
    let mut last = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let message = text::clean_lines(&cause.to_string());
        // Libraries often end their message with the message of the cause.
        if depth > 0 && last.ends_with(&message) {
            continue;
        }
        let (label, style) = if depth == 0 {
            ("error", red)
        } else {
            ("caused by", Style::new())
        };
        lines.push(format!("{style}{label}:{style:#} {message}\n"));
        last = message;
    }
    if let Some(hint) = error
        .downcast_ref::<Failure>()
        .and_then(|failure| failure.hint.as_deref())
    {
        lines.push(format!("{cyan}hint:{cyan:#} {}\n", text::clean_lines(hint)));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    fn printed(error: &anyhow::Error) -> (Exit, String) {
        let mut out = anstream::StripStream::new(Vec::new());
        let exit = print_error(error, &mut out);
        (exit, String::from_utf8(out.into_inner()).unwrap())
    }

    #[test]
    fn an_error_is_printed_with_its_causes_and_hint() {
        let error = anyhow::Error::from(
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
        let (exit, text) = printed(&error);
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
        assert_eq!(Exit::from_error(&anyhow!("no")), Exit::Failed);
    }

    #[test]
    fn a_message_cannot_color_the_terminal_and_is_printed_once() {
        let error =
            anyhow!("bad \u{1b}[2J\u{202e}name").context("row 3: bad \u{1b}[2J\u{202e}name");
        let (_, text) = printed(&error);
        assert_eq!(text, "error: row 3: bad  [2J name\n");
    }

    #[test]
    fn a_closed_output_is_not_a_failure_but_a_broken_connection_is() {
        let closed = anyhow::Error::from(output::Error::Closed);
        assert_eq!(printed(&closed), (Exit::Ok, String::new()));
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Exit::from_error(&broken.into()), Exit::Failed);
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
