//! The command line as a tree of types, with help and examples. Each command is implemented in a
//! module of its own.

mod commands;
mod import;
mod notices;
mod nouns;
mod service;
mod tokens;
mod upstreams;
mod values;

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::StyledStr;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::complete;

pub use commands::{
    Backup, Check, Command, Completions, ConfigCommand, ConfigTemplates, Demo, Explain, Man,
    MoveStore, Preview, Release, SendTest, Sweep,
};
pub use import::{Import, Reading};
pub use notices::{AddressClear, AddressCommand, NoticeCommand, NoticeList, NoticeRetry};
pub use nouns::{
    Acknowledge, AuditCommand, AuditList, FindingCommand, FindingList, Forecast, Format,
    IdentityCommand, IdentityCoverage, IdentityErase, IdentityList, IdentityRebind, ListOptions,
    ReplicaCommand,
};
pub use service::{
    AccountCommand, AccountLimit, AccountRemove, AccountRename, PREFERENCES, PolicyCommand,
    PreferenceCommand, PreferenceSet, ServiceCommand, UserAbout, UserAdd, UserCommand, UserLink,
    UserRemove, UserRole, UserSet, UserSwitch,
};
pub use tokens::{
    TokenChanges, TokenCommand, TokenDelete, TokenEnd, TokenIssue, TokenList, TokenRegenerate,
    TokenRemove, TokenRevoke, TokenShow, TokenUpdate, TokenVerify,
};
pub use upstreams::{DirectoryCommand, SourceCommand, SourceForget, SourceRename, UpstreamSync};
pub use values::{Input, parse_token_ref};

/// The groups of the root help; each command is in exactly one.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Start", &["demo", "check", "import"]),
    ("Watch", &["run", "sweep", "release"]),
    (
        "Inspect",
        &[
            "token",
            "notice",
            "address",
            "finding",
            "identity",
            "directory",
            "source",
            "forecast",
            "explain",
            "audit",
            "replica",
        ],
    ),
    (
        "Token service",
        &["account", "user", "policy", "preference", "service"],
    ),
    ("Mail", &["preview", "send-test"]),
    (
        "Maintain",
        &["migrate", "backup", "move", "config", "completions", "man"],
    ),
];

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version with the details that a bug report needs. Packagers set `LAPSED_COMMIT`.
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

/// Watches API tokens: warns before they expire, marks expired ones, and flags tokens whose
/// issuer has lost access.
#[derive(Debug, Parser)]
#[command(
    name = "lapsed",
    version = VERSION,
    long_version = LONG_VERSION.as_str(),
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
Examples:
  # try it with sample data in a new folder
  lapsed demo

  # show what the next sweep would do
  lapsed sweep --dry-run

  # list the tokens that expire within a week
  lapsed token list --status active --expires-within 7d

`lapsed COMMAND --help` shows the options and examples of a command.
Exit codes: 0 done, 1 something failed or is held, 2 wrong usage, 75 try again later,
78 wrong configuration."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    #[arg(
        long,
        value_name = "FILE",
        help = "Configuration file [default: $LAPSED_CONFIG, ./lapsed.toml, \
                /etc/lapsed/lapsed.toml]",
        global = true
    )]
    pub config: Option<PathBuf>,
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help = "Use colors: auto, always or never; auto respects NO_COLOR",
        global = true
    )]
    pub color: Color,
    /// Log more: -v is debug, -vv is trace; overrides `[log] level`
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
}

impl GlobalOptions {
    /// The log level that `--verbose` sets.
    pub fn log_level(&self) -> Option<tracing::Level> {
        match self.verbose {
            0 => None,
            1 => Some(tracing::Level::DEBUG),
            _ => Some(tracing::Level::TRACE),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Only on a terminal, and not if the environment forbids it.
    #[default]
    Auto,
    Always,
    Never,
}

impl Cli {
    /// Parses the arguments of the process. The error may be the help or version text to print.
    pub fn parse_args(
        args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(args)?;
        Self::from_arg_matches(&matches)
    }
}

/// The clap command, with completions, and with the root help in groups, which clap itself does not offer.
pub fn command() -> clap::Command {
    let command = add_completions(Cli::command(), "");
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{}\n\n{}\n{{options}}{{after-help}}",
        format_groups(&command),
        format_heading(&command, "Options"),
    );
    command.help_template(StyledStr::from(template))
}

/// Completes the names of sources, directories and findings, and file names only where a file is expected.
fn add_completions(command: clap::Command, parent: &str) -> clap::Command {
    let name = command.get_name().to_owned();
    command
        .mut_args(|arg| {
            let candidates = candidates(parent, &name, arg.get_id().as_str());
            let takes_values = arg.get_action().takes_values();
            match (candidates, arg.get_value_hint()) {
                (Some(candidates), _) => arg.add(ArgValueCandidates::new(candidates)),
                (None, ValueHint::Unknown) if takes_values => arg.value_hint(ValueHint::Other),
                _ => arg,
            }
        })
        .mut_subcommands(|sub| add_completions(sub, &name))
}

fn candidates(
    parent: &str,
    command: &str,
    argument: &str,
) -> Option<fn() -> Vec<CompletionCandidate>> {
    Some(match (parent, command, argument) {
        (_, "sweep", "source" | "accept_shrink") => complete::upstream_names,
        // The name of a configured source would be a mistake there.
        (_, "import", "source") => return None,
        ("source", "forget", "name") | ("source", "rename", "old") => complete::stored_source_names,
        (_, _, "source") | ("source", _, "name") => complete::source_names,
        (_, _, "directory") | ("directory", _, "name") => complete::directory_names,
        ("finding", _, "id") => complete::finding_ids,
        _ => return None,
    })
}

fn format_groups(command: &clap::Command) -> String {
    let literal = command.get_styles().get_literal();
    let width = GROUPS
        .iter()
        .flat_map(|(_, names)| names.iter())
        .map(|name| name.len())
        .max()
        .unwrap_or_default();
    let mut lines = Vec::new();
    for (title, names) in GROUPS {
        lines.push(format!("\n{}", format_heading(command, title)));
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

fn format_heading(command: &clap::Command, title: &str) -> String {
    let style = command.get_styles().get_header();
    format!("{style}{title}:{style:#}")
}

#[cfg(test)]
mod tests;
