//! The commands, and the arguments of those that are no listings.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments, back-ticks and all"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::{
    listing::{AuditCommand, FindingCommand, Forecast, NoticeCommand, SourceCommand, TokenCommand},
    people::{DirectoryCommand, IdentityCommand},
    values::{Input, TEMPLATES, token_ref},
};
use crate::domain::{Address, TokenRef};

/// Everything lapsed can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the tokens: sweep on schedule until stopped
    ///
    /// The daemon. It sweeps as `[schedule] sweep` says, makes up for sweeps it missed, and answers
    /// on `[http] listen`. SIGTERM and SIGINT finish the mails in hand and stop; SIGHUP reloads
    /// templates and log level.
    #[command(after_help = "\
Examples:
  lapsed run
  lapsed run --config /etc/lapsed/lapsed.toml")]
    Run,

    /// Sweep once, then exit (for cron or a Kubernetes CronJob)
    ///
    /// One pass: read the sources, mark and flag, plan the notices, deliver the mails. It does not
    /// wait for mails that were put off; the next sweep takes them up.
    #[command(after_help = "\
Examples:
  # say what a sweep would do; changes nothing, locks nothing
  lapsed sweep --dry-run

  # read one source only
  lapsed sweep --source exports

  # yes, half of the tokens of this source are truly gone
  lapsed sweep --accept-shrink exports")]
    Sweep(Sweep),

    /// Take in tokens from a CSV, JSON or JSON lines file
    ///
    /// Columns: external_id, name, issuer_email, expires_at (RFC 3339, a date, `never`, or empty
    /// for unknown); optional: description, account, role, scope, created_at, last_used_at,
    /// issuer_name, status. A bad row is reported with its line and refused, the good ones go in.
    /// The same file again changes nothing.
    #[command(after_help = "\
Examples:
  lapsed import tokens.csv

  # only check the file; keep the refused rows to mend and import again
  lapsed import tokens.csv --dry-run --rejects refused.csv

  # from another program
  export-tokens | lapsed import - --source build")]
    Import(Import),

    /// List tokens, or show all that is known of one
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed token list --expires-within 7d
  lapsed token show 0b5e17c2"
    )]
    Token(TokenCommand),

    /// List the notices: who was told what, who will be, and what failed
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed notice list --state failed"
    )]
    Notice(NoticeCommand),

    /// List what is wrong with tokens now, or accept one finding for a time
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed finding list --kind sso_revoked
  lapsed finding acknowledge 0193a1b2 --until 2027-03-31 --reason planned"
    )]
    Finding(FindingCommand),

    /// List people and their status at the directories, show one, or count whom they cover
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed identity list --status disabled
  lapsed identity show ada@example.org
  lapsed identity coverage"
    )]
    Identity(IdentityCommand),

    /// List the directories, test or read one, or decide on what it holds
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed directory list
  lapsed directory check hr
  lapsed directory sync hr --dry-run
  lapsed directory release hr"
    )]
    Directory(DirectoryCommand),

    /// List the sources, test one, or bring one up to date
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed source list
  lapsed source check exports
  lapsed source sync exports --dry-run"
    )]
    Source(SourceCommand),

    /// List who did what, and why
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed audit list --limit 20"
    )]
    Audit(AuditCommand),

    /// Say what will expire, and who will be told when
    #[command(after_help = "\
Examples:
  lapsed forecast
  lapsed forecast --days 90 --format csv")]
    Forecast(Forecast),

    /// Say why the notices of a token were, or were not, sent
    #[command(after_help = "\
Examples:
  lapsed explain 0b5e17c2
  lapsed explain exports/ci-deploy")]
    Explain(Explain),

    /// Test configuration, store, mail server, sources and directories
    ///
    /// The doctor: tries everything without changing anything or sending a mail, and says how to
    /// mend what is wrong.
    #[command(after_help = "\
Examples:
  lapsed check
  lapsed check --config /etc/lapsed/lapsed.toml")]
    Check,

    /// Render the mails with sample data
    #[command(after_help = "\
Examples:
  # print one mail
  lapsed preview expiring

  # write every mail as text, HTML and .eml
  lapsed preview --out previews")]
    Preview(Preview),

    /// Send a test mail
    #[command(after_help = "\
Examples:
  lapsed send-test you@example.org")]
    SendTest(SendTest),

    /// Let a held plan go, or drop it
    ///
    /// A sweep that would send more mails than `[notify] max_per_sweep` is held whole until an
    /// operator decides. Look at it first: `lapsed notice list --state planned`.
    #[command(after_help = "\
Examples:
  lapsed release
  lapsed release --discard")]
    Release(Release),

    /// Create the store, or bring it up to this version
    #[command(after_help = "\
Examples:
  lapsed migrate")]
    Migrate,

    /// Copy the store to a file while the daemon runs (SQLite)
    #[command(after_help = "\
Examples:
  lapsed backup /var/backups/lapsed.db")]
    Backup(Backup),

    /// Print the completions of a shell
    #[command(after_help = "\
Examples:
  lapsed completions bash > /usr/share/bash-completion/completions/lapsed
  lapsed completions zsh > ~/.zfunc/_lapsed
  lapsed completions fish > ~/.config/fish/completions/lapsed.fish")]
    Completions(Completions),

    /// Print the manual
    #[command(after_help = "\
Examples:
  lapsed man | man -l -

  # one page per command, for packaging
  lapsed man --out /usr/share/man/man1")]
    Man(Man),

    /// Take the tour: sample tokens, one real sweep, the mails in a folder
    ///
    /// Writes a folder with a commented configuration, sample tokens of every situation, a people
    /// file with a leaver and an embedded store, sweeps once, and leaves the mails there as files.
    /// Nothing is sent.
    #[command(after_help = "\
Examples:
  lapsed demo
  lapsed demo /tmp/tour")]
    Demo(Demo),
}

/// `lapsed sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    /// Say what would be done; leave no trace and take no lock
    #[arg(long)]
    pub dry_run: bool,
    /// Read only this source; repeatable
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,
    /// Believe this source although its listing shrank by half; repeatable
    #[arg(long, value_name = "NAME")]
    pub accept_shrink: Vec<String>,
}

/// `lapsed import`.
#[derive(Debug, Args)]
pub struct Import {
    /// File to read; - is standard input
    #[arg(value_name = "FILE")]
    pub file: Input,
    /// Source the tokens belong to; not one of the configuration, whose own listing would call them gone
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub source: String,
    /// Write the refused rows to this file
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Check the file and say what would change; leave no trace
    #[arg(long)]
    pub dry_run: bool,
}

/// `lapsed explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Token: an id, the first digits of one, or SOURCE/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = token_ref)]
    pub id: TokenRef,
}

/// `lapsed preview`.
#[derive(Debug, Args)]
pub struct Preview {
    /// Mail to render [default: all]
    #[arg(value_name = "TEMPLATE", value_parser = clap::builder::PossibleValuesParser::new(TEMPLATES))]
    pub template: Option<String>,
    /// Write files to this folder instead of printing
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `lapsed send-test`.
#[derive(Debug, Args)]
pub struct SendTest {
    /// Where to send it
    #[arg(value_name = "ADDRESS")]
    pub address: Address,
}

/// `lapsed release`.
#[derive(Debug, Args)]
pub struct Release {
    /// Suppress the held notices for good instead of sending them
    #[arg(long)]
    pub discard: bool,
}

/// `lapsed backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// File to write; it must not exist yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `lapsed completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell to complete for
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `lapsed man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write one page per command to this folder instead of printing all
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `lapsed demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Folder to make; it must not exist yet, or be empty
    #[arg(value_name = "DIR", default_value = "lapsed-demo")]
    pub dir: PathBuf,
}
