//! The arguments of `lapsed source` and `lapsed directory`.

use clap::{Args, Subcommand};

use super::nouns::{Format, ListOptions};
use super::values::parse_reason;

#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// List the sources: last sync and next sync
    #[command(after_help = "\
Examples:
  lapsed source list
  lapsed source list --format json")]
    List(ListOptions),
    /// Show what the credentials of a source can and cannot do
    #[command(after_help = "\
Examples:
  lapsed source check exports

It changes nothing at the source or in the store.
For each missing right it says how to add it.
Exit code 1: the source cannot be listed.
Exit code 75: the source asked us to wait.")]
    Check {
        /// Name of the source, as in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read a source now and store what it lists
    #[command(after_help = "\
Examples:
  lapsed source sync exports

  # show, token by token, what would change; change nothing
  lapsed source sync exports --dry-run

  # accept that half of its tokens are gone
  lapsed source sync exports --accept-shrink

The sync ignores the schedule and the back-off after failures.
If the source asked us to wait, it is not contacted; that is not a failure.
The sync sends no warnings; the next sweep does.")]
    Sync(UpstreamSync),
    /// Remove a source that is no longer in the configuration, with its tokens
    #[command(after_help = "\
Examples:
  lapsed source forget exports --reason decommissioned

Its tokens and findings are deleted, and their unsent notices are cancelled.
The ledger keeps what was sent.
A source filled by `lapsed import` is removed in the same way.
After `lapsed source rename OLD NEW`, `lapsed source forget OLD` frees the old name.")]
    Forget(SourceForget),
    /// Give a source a new name; its tokens keep their ids and their history
    #[command(after_help = "\
Examples:
  lapsed source rename exports gitlab

Write the new name into its [[source]], too.
Until `lapsed source forget OLD`, a sync under the old name fails, so that no token
appears twice.")]
    Rename(SourceRename),
}

#[derive(Debug, Args)]
pub struct SourceForget {
    /// Name of the source
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct SourceRename {
    /// Present name of the source
    #[arg(value_name = "OLD")]
    pub old: String,
    /// New name; no other source may have it
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// List the directories: last sync, whether their data is fresh, and next sync
    #[command(after_help = "\
Examples:
  lapsed directory list
  lapsed directory list --format json")]
    List(ListOptions),
    /// Show what the credentials of a directory can and cannot do
    #[command(after_help = "\
Examples:
  lapsed directory check hr

It changes nothing in the directory or the store.
For each missing right it says how to add it.
Exit code 1: the directory cannot be read, a right is missing, or a sync would be
rejected.
Exit code 75: the directory asked us to wait.")]
    Check {
        /// Name of the directory, as in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read a directory now and store what it reports
    #[command(after_help = "\
Examples:
  lapsed directory sync hr

  # show, person by person, what would change or is held; change nothing
  lapsed directory sync hr --dry-run

  # accept that half of its people are gone
  lapsed directory sync hr --accept-shrink

The sync ignores the schedule and the back-off after failures.
If the directory asked us to wait, it is not contacted; that is not a failure.
The sync flags no tokens; the next sweep does.")]
    Sync(UpstreamSync),
    /// Release the held change of a directory: the next sync accepts it
    #[command(after_help = "\
Examples:
  lapsed directory release hr

If more people would lose access at once than `breaker_share` and `breaker_min`
allow, the change is held until an operator decides.
`lapsed directory sync NAME --dry-run` lists these people.")]
    Release {
        /// Name of the directory, as in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Reject the held change of a directory
    #[command(after_help = "\
Examples:
  lapsed directory reject hr

The people who would lose access are unknown until the directory reports something else
about them, and none of their tokens is flagged.
The reports about all other people count again.")]
    Reject {
        /// Name of the directory, as in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete the data of a directory that is no longer in the configuration
    #[command(after_help = "\
Examples:
  lapsed directory forget hr

The data of a removed directory flags no more tokens, but flagged tokens stay flagged.
After this command, the next sweep resolves the findings that no other directory supports.")]
    Forget {
        /// Name of the directory, as in the configuration
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct UpstreamSync {
    /// Name, as in the configuration
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Show what would change; change nothing and take no lock
    #[arg(long)]
    pub dry_run: bool,
    /// Accept the listing although it shrank by half
    #[arg(long)]
    pub accept_shrink: bool,
    /// Output format of --dry-run
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        requires = "dry_run"
    )]
    pub format: Format,
}
