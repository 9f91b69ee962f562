//! The command line as a tree of types: what can be asked, with help and examples. What is done
//! about it is in the command's own module.

mod commands;
mod listing;
mod people;
mod values;

use std::{path::PathBuf, sync::LazyLock};

use clap::{
    ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueEnum, builder::StyledStr,
};

pub use commands::{
    Backup, Command, Completions, Demo, Explain, Import, Man, Preview, Release, SendTest, Sweep,
};
pub use listing::{
    Acknowledge, AuditCommand, FindingCommand, FindingList, Forecast, Format, Listing,
    NoticeCommand, NoticeList, Shown, SourceCommand, SourceSync, TokenCommand, TokenList,
    TokenRevoke, TokenShow,
};
pub use people::{
    DirectoryCommand, DirectorySync, IdentityCommand, IdentityCoverage, IdentityList,
    IdentityRebind, IdentityShow,
};
pub use values::{Input, Invalid, TEMPLATES};

/// The groups under which the help lists the commands; each command is in exactly one.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Begin", &["demo", "check", "import"]),
    ("Watch", &["run", "sweep", "release"]),
    (
        "Look",
        &[
            "token",
            "notice",
            "finding",
            "identity",
            "directory",
            "source",
            "forecast",
            "explain",
            "audit",
        ],
    ),
    ("Mail", &["preview", "send-test"]),
    ("Maintain", &["migrate", "backup", "completions", "man"]),
];

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version with what a bug report needs. Packagers set `LAPSED_COMMIT` when they build.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let commit = option_env!("LAPSED_COMMIT").map(|commit| format!("commit {commit}, "));
    let commit = commit.unwrap_or_default();
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    format!("{VERSION} ({commit}{build} build, {arch}-{os}, SQLite and PostgreSQL)")
});

/// Watches API tokens: warns before they expire, marks them when they have, and flags those that
/// outlive their owner's access.
#[derive(Debug, Parser)]
#[command(
    name = "lapsed",
    version = VERSION,
    long_version = LONG_VERSION.as_str(),
    propagate_version = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
Examples:
  # see it work, in a folder of its own
  lapsed demo

  # what would the next sweep do?
  lapsed sweep --dry-run

  # which tokens end within a week?
  lapsed token list --status active --expires-within 7d

`lapsed COMMAND --help` shows the options and examples of a command.
Exit status: 0 done, 1 something failed or is held, 2 usage, 75 try again later, 78 configuration."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The configuration file that was named.
    #[arg(
        long,
        value_name = "FILE",
        help = "Configuration file [default: $LAPSED_CONFIG, ./lapsed.toml, \
                /etc/lapsed/lapsed.toml]",
        global = true
    )]
    pub config: Option<PathBuf>,
    /// When to colour the output.
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help = "When to colour: auto, always or never; auto heeds NO_COLOR",
        global = true
    )]
    pub color: Color,
    /// Log more: -v for debug, -vv for trace; overrides `[log] level`
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
}

impl Global {
    /// The log level that was asked for, if one was.
    #[must_use]
    pub fn level(&self) -> Option<tracing::Level> {
        match self.verbose {
            0 => None,
            1 => Some(tracing::Level::DEBUG),
            _ => Some(tracing::Level::TRACE),
        }
    }
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Cli {
    /// Parses the arguments of the process.
    ///
    /// # Errors
    /// What to print: a usage error, or the help or version that was asked for.
    pub fn parse_args(
        args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(args)?;
        Self::from_arg_matches(&matches)
    }
}

/// The command line as clap sees it, with the commands of the root help in groups, which clap
/// itself does not offer.
#[must_use]
pub fn command() -> clap::Command {
    let command = Cli::command();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{}\n\n{}\n{{options}}{{after-help}}",
        grouped(&command),
        heading(&command, "Options"),
    );
    command.help_template(StyledStr::from(template))
}

fn grouped(command: &clap::Command) -> String {
    let literal = command.get_styles().get_literal();
    let width = GROUPS
        .iter()
        .flat_map(|(_, names)| names.iter())
        .map(|name| name.len())
        .max()
        .unwrap_or_default();
    let mut lines = Vec::new();
    for (title, names) in GROUPS {
        lines.push(format!("\n{}", heading(command, title)));
        for sub in names
            .iter()
            .filter_map(|name| command.find_subcommand(name))
        {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let name = sub.get_name();
            let gap = " ".repeat(width - name.len());
            lines.push(format!("  {literal}{name}{literal:#}{gap}  {about}"));
        }
    }
    lines.join("\n")
}

fn heading(command: &clap::Command, title: &str) -> String {
    let style = command.get_styles().get_header();
    format!("{style}{title}:{style:#}")
}

#[cfg(test)]
mod tests;
