//! What `lapsed check` found about one thing.

use anstyle::{AnsiColor, Style};

use crate::causes::Causes;
use crate::cli::exit::Exit;
use crate::{sources, text};

pub(super) enum Outcome {
    Passed(String),
    /// It works, but an operator should look at it.
    Warning(String),
    Failed {
        problem: String,
        /// `None` if the problem says it.
        fix: Option<String>,
        exit: Exit,
    },
}

impl Outcome {
    pub(super) fn failed(problem: impl Into<String>, fix: impl Into<String>, exit: Exit) -> Self {
        Self::Failed {
            problem: problem.into(),
            fix: Some(fix.into()),
            exit,
        }
    }

    pub(super) fn upstream_failed(error: &sources::Error, exit: Exit) -> Self {
        Self::Failed {
            problem: Causes(error).to_string(),
            fix: error.advice().map(str::to_owned),
            exit,
        }
    }
}

pub(super) fn print_outcome(name: &str, outcome: &Outcome) {
    let mark = |color: AnsiColor, word: &str| {
        let style: Style = color.on_default().bold();
        format!("{style}{word:<4}{style:#}")
    };
    let print = |mark: String, text: &str| {
        anstream::println!("{mark} {name}: {}", text::clean_lines(text));
    };
    match outcome {
        Outcome::Passed(detail) => print(mark(AnsiColor::Green, "ok"), detail),
        Outcome::Warning(warning) => print(mark(AnsiColor::Yellow, "warn"), warning),
        Outcome::Failed { problem, fix, .. } => {
            print(mark(AnsiColor::Red, "FAIL"), problem);
            if let Some(fix) = fix {
                anstream::println!("     to fix it: {}", text::clean_lines(fix));
            }
        }
    }
}
