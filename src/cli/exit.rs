//! How the program ends: exit codes, and errors as people see them.

use std::{error::Error as StdError, fmt, io::Write, process::ExitCode};

use anstyle::{AnsiColor, Style};

use super::output::{self, text};

/// The exit codes; 75 and 78 are those of sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done; single deferrals too.
    Ok = 0,
    /// Something failed for good in this run, or is held.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Nothing could go: server or store unreachable, or another sweep holds the lease.
    TempFail = 75,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// Of two ends of one run, the one that the exit code tells.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let weight = |exit| match exit {
            Self::Config => 4,
            Self::Usage => 3,
            Self::Failed => 2,
            Self::TempFail => 1,
            Self::Ok => 0,
        };
        if weight(other) > weight(self) {
            other
        } else {
            self
        }
    }

    /// What an error ends the program with: the code of the [`Failure`] in its chain, else 1.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if matches!(error.downcast_ref(), Some(output::Error::Closed)) {
            // The reader (`head`, a pager) has seen enough.
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

/// An error with the exit code it deserves and, where there is one, the way out.
///
/// It speaks with the voice of the error it holds, and keeps its code and hint however much context
/// is put around it: `config::load(path).map_err(Failure::config)?`.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    hint: Option<String>,
    cause: anyhow::Error,
}

impl Failure {
    /// Something that failed for good: exit 1.
    pub fn failed(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Failed, cause)
    }

    /// Arguments that make no sense together: exit 2.
    pub fn usage(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::Usage, cause)
    }

    /// A server or a store that cannot be reached now: exit 75.
    pub fn unreachable(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(Exit::TempFail, cause)
    }

    /// A wrong configuration, or a store that is not there and must not be made: exit 78.
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

    /// Adds the key or the command that mends it.
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

/// Writes an error, its causes and its hint, one a line, and returns what to exit with.
pub fn report(error: &anyhow::Error, mut out: impl Write) -> Exit {
    let exit = Exit::of(error);
    if exit != Exit::Ok {
        // Standard error is gone: there is nobody left to tell.
        let _ = out.write_all(describe(error).as_bytes());
    }
    exit
}

fn describe(error: &anyhow::Error) -> String {
    let red = AnsiColor::Red.on_default().bold();
    let cyan = AnsiColor::Cyan.on_default().bold();
    let mut lines = Vec::new();
    let mut last = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let message = text::clean_lines(&cause.to_string());
        // Libraries often end their message with that of their cause.
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

    fn shown(error: &anyhow::Error) -> (Exit, String) {
        let mut out = anstream::StripStream::new(Vec::new());
        let exit = report(error, &mut out);
        (exit, String::from_utf8(out.into_inner()).unwrap())
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_the_way_out() {
        let error = anyhow::Error::from(
            Failure::config(anyhow!("no such file").context("cannot read lapsed.toml"))
                .hint("name another with --config FILE"),
        );
        let (exit, text) = shown(&error);
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
        let (exit, text) = shown(&error);
        assert_eq!(exit, Exit::TempFail);
        insta::assert_snapshot!(text, @"
        error: cannot sweep
        caused by: cannot open the store
        caused by: connection refused
        hint: start it
        ");
    }

    #[test]
    fn an_error_without_a_code_is_a_plain_failure() {
        assert_eq!(Exit::of(&anyhow!("no")), Exit::Failed);
    }

    #[test]
    fn a_message_cannot_colour_the_terminal_and_is_not_said_twice() {
        let error =
            anyhow!("bad \u{1b}[2J\u{202e}name").context("row 3: bad \u{1b}[2J\u{202e}name");
        let (_, text) = shown(&error);
        assert_eq!(text, "error: row 3: bad  [2J name\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_but_a_broken_connection_is() {
        let closed = anyhow::Error::from(output::Error::Closed);
        assert_eq!(shown(&closed), (Exit::Ok, String::new()));
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Exit::of(&broken.into()), Exit::Failed);
    }

    #[test]
    fn the_worst_end_is_told_in_the_order_of_the_contract() {
        use Exit::{Config, Failed, Ok, TempFail, Usage};
        let order = [Config, Usage, Failed, TempFail, Ok];
        for (rank, worse) in order.into_iter().enumerate() {
            for other in order.into_iter().skip(rank) {
                assert_eq!((worse.or(other), other.or(worse)), (worse, worse));
            }
        }
    }
}
