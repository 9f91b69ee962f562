//! The arguments of the commands that are named after what they list, and of `lapsed forecast`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};

use super::values::{one_of, parse_id_prefix, parse_instant, parse_reason};
use crate::domain::{Address, Cover, FindingKind, IdentityStatus};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table, for people.
    #[default]
    Table,
    /// One array, or one object for a single result.
    Json,
    /// One object per line.
    Jsonl,
    /// With a header line.
    Csv,
}

/// The options of every command that lists rows.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct ListOptions {
    /// Output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// Maximum number of rows [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX.cast_unsigned()))]
    pub limit: Option<u64>,
}

impl ListOptions {
    pub(crate) fn max_rows(&self) -> usize {
        self.limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(usize::MAX)
    }
}

/// The options of every command that shows one thing.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct ShowOptions {
    /// Output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum FindingCommand {
    /// List open findings, latest first
    #[command(after_help = "\
Examples:
  lapsed finding list
  lapsed finding list --kind sso_revoked --format json
  lapsed finding list --all")]
    List(FindingList),
    /// Accept one finding for a time
    #[command(after_help = "\
Examples:
  lapsed finding acknowledge 0193a1b2 --until 2027-03-31 --reason planned

Until then the finding is not open and appears in no summary.
After that it opens again, unless it is resolved.
The audit trail records who accepted it, until when and why.")]
    Acknowledge(Acknowledge),
}

#[derive(Debug, Args)]
pub struct Acknowledge {
    /// Finding: an id or its first digits (`lapsed finding list` shows them)
    #[arg(value_name = "ID", value_parser = parse_id_prefix)]
    pub id: String,
    /// End: a day (00:00 UTC) or an RFC 3339 time
    #[arg(long, value_name = "DATE", value_parser = parse_instant)]
    pub until: DateTime<Utc>,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct FindingList {
    /// Only findings of this kind
    #[arg(long, value_name = "KIND", value_parser = one_of::<FindingKind>(FindingKind::ALL.iter().map(|value| value.as_str())))]
    pub kind: Option<FindingKind>,
    /// Include acknowledged and resolved findings
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub options: ListOptions,
}

#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// List people and their status, sorted by directory and address
    #[command(after_help = "\
Examples:
  lapsed identity list
  lapsed identity list --status disabled --directory hr
  lapsed identity list --status unknown --format csv

If the last good sync of a directory is too old, its people are unknown, with the
reason `stale`.")]
    List(IdentityList),
    /// Show what each directory reports about one person, with the evidence
    #[command(after_help = "\
Examples:
  lapsed identity show ada@example.org
  lapsed identity show ada@example.org --format json

For an issuer of tokens it also shows the mode (`[issuers] modes`), the address
that directories know, and a loss of access that awaits confirmation.")]
    Show(IdentityShow),
    /// Count the issuers of working tokens by what the directories report about them
    #[command(after_help = "\
Examples:
  lapsed identity coverage

  # list the issuers that no directory has ever listed
  lapsed identity coverage --of never_seen

An issuer that several directories know counts once: as lost if any of them
reports a loss, else as active if any of them reports access.
Each line names the command that lists the issuers it counts.")]
    Coverage(IdentityCoverage),
    /// Bind a person to the entry that now has their address
    #[command(after_help = "\
Examples:
  lapsed identity rebind ada@example.org --directory corp

  # several entries have the address, and this one is hers
  lapsed identity rebind ada@example.org --directory corp --account 8a5c37c2-7a3e-1041-9241-29492a159404

lapsed binds a person to one entry of a directory and keeps that binding, so that
a new owner of the address is not mistaken for them.
Use this command if the entry was deleted or the address moved to another entry,
and the new entry belongs to the same person.
The next sync binds them to it.
The audit trail records the command.")]
    Rebind(IdentityRebind),
    /// Erase what is known of a person
    #[command(after_help = "\
Examples:
  lapsed identity erase ada@example.org --reason requested

This cannot be undone.
Unsent notices to the person are cancelled, and what directories and mail servers
reported about them is deleted.
In the ledger, the audit trail and all other texts a pseudonym replaces the address.
It is refused while a configured source or directory still names the person, and while a
mail to them is being delivered.
Backups made before still have the address.")]
    Erase(IdentityErase),
}

#[derive(Debug, Args)]
pub struct IdentityErase {
    /// Mail address of the person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct IdentityList {
    /// Only people with this status
    #[arg(long, value_name = "STATUS", value_parser = one_of::<IdentityStatus>(IdentityStatus::ALL.iter().map(|value| value.as_str())))]
    pub status: Option<IdentityStatus>,
    /// Only people of this directory
    #[arg(long, value_name = "NAME")]
    pub directory: Option<String>,
    #[command(flatten)]
    pub options: ListOptions,
}

#[derive(Debug, Args)]
pub struct IdentityShow {
    /// Mail address of the person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct IdentityCoverage {
    /// List the issuers that this line of the table counts
    #[arg(long, value_name = "COVER", value_parser = one_of::<Cover>(Cover::ALL.iter().map(|value| value.as_str())))]
    pub of: Option<Cover>,
    #[command(flatten)]
    pub options: ListOptions,
}

#[derive(Debug, Args)]
pub struct IdentityRebind {
    /// Mail address of the person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    /// Name of the directory, as in the configuration
    #[arg(long, value_name = "NAME")]
    pub directory: String,
    /// Id of the entry to bind to, where several have the address
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what operators did, latest first
    #[command(after_help = "\
Examples:
  lapsed audit list
  lapsed audit list --since 2026-11-01
  lapsed audit list --limit 20 --format json")]
    List(AuditList),
}

#[derive(Debug, Args)]
pub struct AuditList {
    /// Only entries since this day (00:00 UTC) or RFC 3339 time
    #[arg(long, value_name = "DATE", value_parser = parse_instant)]
    pub since: Option<DateTime<Utc>>,
    #[command(flatten)]
    pub options: ListOptions,
}

#[derive(Debug, Subcommand)]
pub enum ReplicaCommand {
    /// List the daemons that use the store
    #[command(after_help = "\
Examples:
  lapsed replica list
  lapsed replica list --format json

Replicas with the same settings show the same configuration, a fingerprint.
Secrets, paths, and what may differ between machines do not count.
The leader sweeps, or was the last to sweep; all send mails.
A replica is gone if it was not seen for 3 minutes.")]
    List(ListOptions),
}

#[derive(Debug, Args)]
pub struct Forecast {
    /// How many days ahead to look
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    #[command(flatten)]
    pub options: ListOptions,
}
