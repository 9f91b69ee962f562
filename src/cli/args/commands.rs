//! The commands, and the arguments of those that list nothing.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments, back-ticks and all"
)]

use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use clap_complete::Shell;
use secrecy::SecretString;

use super::import::Import;
use super::notices::{AddressCommand, NoticeCommand};
use super::nouns::{AuditCommand, FindingCommand, Forecast, IdentityCommand, ReplicaCommand};
use super::service::{
    AccountCommand, PolicyCommand, PreferenceCommand, ServiceCommand, UserCommand,
};
use super::tokens::TokenCommand;
use super::upstreams::{DirectoryCommand, SourceCommand};
use super::values::{TEMPLATES, parse_token_text};
use crate::domain::Address;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: sweep on schedule until stopped
    #[command(after_help = "\
Examples:
  lapsed run
  lapsed run --config /etc/lapsed/lapsed.toml

The daemon sweeps as `[schedule] sweep` says, and catches up on missed sweeps.
It serves metrics and health checks on `[http] listen`.
SIGTERM and SIGINT stop it after the mails in flight.
SIGHUP reloads the templates, the log level and the certificate of [web].")]
    Run,

    /// Sweep once, then exit (for cron or a Kubernetes CronJob)
    #[command(after_help = "\
Examples:
  # show what a sweep would do; changes nothing, takes no lock
  lapsed sweep --dry-run

  # sync one source only
  lapsed sweep --source exports

  # accept that half of the tokens of this source are gone
  lapsed sweep --accept-shrink exports

A sweep syncs the sources and directories, marks expired tokens, opens findings,
plans notices and sends the mails.
A dry run does the same on a copy of the store, and lists the mails instead of sending them.
It does not wait for deferred mails; the next sweep tries them again.")]
    Sweep(Sweep),

    /// Import tokens from a CSV, JSON or JSON lines file
    #[command(after_help = "\
Examples:
  lapsed import tokens.csv

  # only check the file, and copy the refused rows to a new one, to correct and import them
  lapsed import tokens.csv --dry-run --rejects refused.csv

  # read from another program
  export-tokens | lapsed import - --source build

  # an export of another system, such as that of `az ad app credential list`
  lapsed import secrets.json --map external_id=keyId --map expires_at=endDateTime

Required column: external_id.
expires_at is a date or time, `never`, or empty for unknown.
Optional columns: name, issuer_email, expires_at, description, account, role, scope,
created_at, last_used_at, issuer_name, status.
A cell that cannot be read is reported with line and column, and the rest of the row is
imported. A row without an id, or that cannot be split into cells, is refused.
Importing the same file again changes nothing.")]
    Import(Import),

    /// List, show, issue, regenerate, update, verify, revoke or remove tokens
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed token list --expires-within 7d
  lapsed token show 0b5e17c2
  lapsed token issue --name ci-deploy --user ada@example.org"
    )]
    Token(TokenCommand),

    /// Manage the accounts of the token service
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed account add acme
  lapsed account list"
    )]
    Account(AccountCommand),

    /// Manage the users of the token service
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed user add ada@example.org --account acme --role administrator
  lapsed user disable ada@example.org"
    )]
    User(UserCommand),

    /// Compare the tokens that exist with the policy of the token service
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed policy check"
    )]
    Policy(PolicyCommand),

    /// Show or set how a person wants to be notified
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed preference get ada@example.org
  lapsed preference set ada@example.org steps 30d,7d,1d"
    )]
    Preference(PreferenceCommand),

    /// Resume the token service after a restore
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed service resume"
    )]
    Service(ServiceCommand),

    /// List notices: planned, sent and failed; retry failed ones
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed notice list --state failed
  lapsed notice retry --state failed"
    )]
    Notice(NoticeCommand),

    /// List the addresses that count as dead; clear one
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed address list
  lapsed address clear ada@example.org"
    )]
    Address(AddressCommand),

    /// List findings: what is wrong with tokens now; acknowledge one
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed finding list --kind sso_revoked
  lapsed finding acknowledge 0193a1b2 --until 2027-03-31 --reason planned"
    )]
    Finding(FindingCommand),

    /// List people and their status at the directories; rebind or erase one
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed identity list --status disabled
  lapsed identity show ada@example.org
  lapsed identity coverage"
    )]
    Identity(IdentityCommand),

    /// List, check and sync directories; decide on held changes
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

    /// List, check and sync sources; rename one, or remove what is no longer configured
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed source list
  lapsed source check exports
  lapsed source sync exports --dry-run
  lapsed source rename exports gitlab"
    )]
    Source(SourceCommand),

    /// List what operators did, and why
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed audit list --since 2026-11-01"
    )]
    Audit(AuditCommand),

    /// List the daemons that use the store
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed replica list"
    )]
    Replica(ReplicaCommand),

    /// Show what will expire, and who will be notified when
    #[command(after_help = "\
Examples:
  lapsed forecast
  lapsed forecast --days 90 --format csv")]
    Forecast(Forecast),

    /// Show why the notices of a token, or to a person, were or were not sent
    #[command(after_help = "\
Examples:
  lapsed explain 0b5e17c2
  lapsed explain exports/ci-deploy

  # what was sent to a person: their tokens, and the latest notices to them
  lapsed explain ada@example.org")]
    Explain(Explain),

    /// Test configuration, store, mail server, sources and directories
    #[command(after_help = "\
Examples:
  lapsed check

  # as the user of the service: files, folders and the store must be accessible for them
  lapsed check --as lapsed

  # read every page of an SQLite store, which takes about a second for 100 MB
  lapsed check --integrity

It changes nothing and sends no mail.
It does not contact a source or directory that asked us to wait.
For each problem it says how to fix it.")]
    Check(Check),

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

    /// Send the mails of a held plan, or discard them
    #[command(after_help = "\
Examples:
  lapsed release
  lapsed release --discard

A sweep that would send more mails than `[notify] max_per_sweep` sends none of them.
Its plan is held until an operator decides.
`lapsed notice list --state planned` lists the held notices.")]
    Release(Release),

    /// Create the store, or migrate it to this version
    #[command(after_help = "\
Examples:
  lapsed migrate")]
    Migrate,

    /// Copy the store to a file, also while the daemon runs (SQLite)
    #[command(after_help = "\
Examples:
  lapsed backup /var/backups/lapsed.db")]
    Backup(Backup),

    /// Move the store from SQLite to PostgreSQL, or back
    #[command(after_help = "\
Examples:
  PGPASSWORD=… lapsed move --to postgres://lapsed@db.example.org/lapsed
  lapsed move --to sqlite:///var/lib/lapsed/lapsed.db

It copies every table into an empty store, reads the copy again and compares it.
Then the old store is marked: every command but `backup` and `move` ends there with exit 78
and names the new place. Set `[store] url` to it before the next start.
It refuses while a sweep runs or mails are being sent: stop the daemon first.")]
    Move(MoveStore),

    /// Print an example configuration, or the built-in mail templates
    #[command(
        subcommand,
        after_help = "\
Examples:
  lapsed config example > lapsed.toml
  lapsed config templates --out templates"
    )]
    Config(ConfigCommand),

    /// Print the completion script for a shell
    #[command(after_help = "\
Examples:
  lapsed completions bash > /usr/share/bash-completion/completions/lapsed
  lapsed completions zsh > ~/.zfunc/_lapsed
  lapsed completions fish > ~/.config/fish/completions/lapsed.fish

The script runs `lapsed` to complete commands, options, and the names of sources,
directories and findings. Print it again after an upgrade.")]
    Completions(Completions),

    /// Print the manual pages
    #[command(after_help = "\
Examples:
  lapsed man | man -l -

  # one page per command, for packaging
  lapsed man --out /usr/share/man/man1

lapsed.toml(5) describes the configuration. If the folder is called man1, that page goes
to the folder man5 beside it.")]
    Man(Man),

    /// Try lapsed with sample data in a new folder
    #[command(after_help = "\
Examples:
  lapsed demo
  lapsed demo /tmp/tour

It creates the folder with a commented configuration, sample tokens and people.
Then it sweeps once and writes the mails to files in the folder.
It sends nothing.")]
    Demo(Demo),
}

#[derive(Debug, Args)]
pub struct Sweep {
    /// Show what would be done; change nothing and take no lock
    #[arg(long)]
    pub dry_run: bool,
    /// Sync only this source or directory; repeatable
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,
    /// Accept the listing of this source or directory although it shrank by half; repeatable
    #[arg(long, value_name = "NAME")]
    pub accept_shrink: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Read credentials as root, as systemd does, and check everything else as this user
    #[arg(long = "as", value_name = "USER", value_hint = clap::ValueHint::Username)]
    pub as_user: Option<String>,
    /// Read every page of the store (SQLite)
    #[arg(long)]
    pub integrity: bool,
}

#[derive(Debug, Args)]
pub struct Explain {
    /// Token: an id, its first digits, SOURCE/EXTERNAL_ID, or a name that only one token has;
    /// or the mail address of a person
    #[arg(value_name = "ID", value_parser = parse_token_text)]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Preview {
    /// Mail to render [default: all]
    #[arg(value_name = "TEMPLATE", value_parser = clap::builder::PossibleValuesParser::new(TEMPLATES))]
    pub template: Option<String>,
    /// Write files to this folder instead of printing
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Language, such as de [default: notify.language]
    #[arg(long, value_name = "LANGUAGE")]
    pub language: Option<String>,
}

#[derive(Debug, Args)]
pub struct SendTest {
    /// Recipient of the test mail
    #[arg(value_name = "ADDRESS")]
    pub address: Address,
}

#[derive(Debug, Args)]
pub struct Release {
    /// Discard the held notices for good instead of sending them
    #[arg(long)]
    pub discard: bool,
}

#[derive(Debug, Args)]
pub struct Backup {
    /// File to write; it must not exist yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print lapsed.example.toml: every key, its default and what it does
    #[command(after_help = "\
Examples:
  lapsed config example > lapsed.toml")]
    Example,
    /// Write the built-in mail templates to a folder
    #[command(after_help = "\
Examples:
  lapsed config templates --out templates

Change the files, remove those that you leave as they are,
and set `[mail] templates` to the folder.")]
    Templates(ConfigTemplates),
}

#[derive(Debug, Args)]
pub struct ConfigTemplates {
    /// Folder to write to; existing files are not overwritten
    #[arg(long, value_name = "DIR", required = true)]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct MoveStore {
    /// URL of the new store, which must be empty; a missing SQLite file or schema is created
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new().map(SecretString::from))]
    pub to: SecretString,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// Shell to print the script for
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct Man {
    /// Write one page per command to this folder instead of printing all
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Folder to create; it must be new or empty
    #[arg(value_name = "DIR", default_value = "lapsed-demo")]
    pub dir: PathBuf,
}
