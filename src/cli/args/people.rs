//! The arguments of `lapsed identity` and `lapsed directory`.

use clap::{Args, Subcommand};

use super::listing::{ListOptions, ShowOptions, UpstreamSync};
use super::values::one_of;
use crate::domain::{Address, Cover, IdentityStatus};

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
reports a loss, else as active if any of them reports that.
Each line names the command that lists the issuers it counts.")]
    Coverage(IdentityCoverage),
    /// Bind a person to the entry that now has their address
    #[command(after_help = "\
Examples:
  lapsed identity rebind ada@example.org --directory corp

lapsed binds a person to one entry of a directory and keeps that binding, so that
a new owner of the address is not mistaken for them.
Use this command if the entry was deleted or the address moved to another entry,
and the new entry belongs to the same person.
The next sync binds them to it.
The audit trail records the command.")]
    Rebind(IdentityRebind),
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
    /// Address of the person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct IdentityCoverage {
    /// List the issuers that this line counts
    #[arg(long, value_name = "COVER", value_parser = one_of::<Cover>(Cover::ALL.iter().map(|value| value.as_str())))]
    pub of: Option<Cover>,
    #[command(flatten)]
    pub options: ListOptions,
}

#[derive(Debug, Args)]
pub struct IdentityRebind {
    /// Address of the person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    /// Name of the directory
    #[arg(long, value_name = "NAME")]
    pub directory: String,
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
        /// Name of the directory
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Sync a directory now
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
        /// Name of the directory
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Reject the held change of a directory
    #[command(after_help = "\
Examples:
  lapsed directory reject hr

These people are unknown until the directory reports something else about them.
None of their tokens is flagged.
The reports about all other people count again.")]
    Reject {
        /// Name of the directory
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
        /// Name of the directory
        #[arg(value_name = "NAME")]
        name: String,
    },
}
