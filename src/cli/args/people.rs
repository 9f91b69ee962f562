//! The arguments of the commands about people and those who know them.

use clap::{Args, Subcommand};

use super::listing::{Format, Listing, Shown};
use super::values::word;
use crate::domain::{Address, Cover, IdentityStatus};

/// `lapsed identity`.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// List people and their status, by directory and address
    ///
    /// Those of a directory that has not been read well for too long are unknown, with the reason stale.
    #[command(after_help = "\
Examples:
  lapsed identity list
  lapsed identity list --status disabled --directory hr
  lapsed identity list --status unknown --format csv")]
    List(IdentityList),
    /// Show what every directory says of one person, and on what evidence
    ///
    /// Of an issuer of tokens also how lapsed looks upon them (`[issuers] modes`), by which address the
    /// directories know them, and what loss awaits its confirmation.
    #[command(after_help = "\
Examples:
  lapsed identity show ada@example.org
  lapsed identity show ada@example.org --format json")]
    Show(IdentityShow),
    /// Count the issuers of working tokens whose access somebody watches, and those nobody does
    ///
    /// An issuer whom two directories know counts once: as lost where one of them says so, else as active
    /// where one says that. Each line names the command that lists what it counts.
    #[command(after_help = "\
Examples:
  lapsed identity coverage

  # whom no directory ever listed
  lapsed identity coverage --of never_seen")]
    Coverage(IdentityCoverage),
    /// Bind a person to the account that has their address now
    ///
    /// A person is bound to one account of a directory once and for all, so that nobody is taken for
    /// whoever is given their address later. Say by this that the new account is the same person's. The next
    /// reading binds them anew. Only for those whose account was deleted or whose address has gone over to
    /// another account; written to the audit trail.
    #[command(after_help = "\
Examples:
  lapsed identity rebind ada@example.org --directory corp")]
    Rebind(IdentityRebind),
}

/// `lapsed identity list`.
#[derive(Debug, Args)]
pub struct IdentityList {
    /// Only people with this status
    #[arg(long, value_name = "STATUS", value_parser = word::<IdentityStatus>(IdentityStatus::ALL.iter().map(|it| it.as_str())))]
    pub status: Option<IdentityStatus>,
    /// Only people of this directory
    #[arg(long, value_name = "NAME")]
    pub directory: Option<String>,
    /// The form.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lapsed identity show`.
#[derive(Debug, Args)]
pub struct IdentityShow {
    /// The person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    /// The form.
    #[command(flatten)]
    pub shown: Shown,
}

/// `lapsed identity coverage`.
#[derive(Debug, Args)]
pub struct IdentityCoverage {
    /// List the issuers whom this line counts
    #[arg(long, value_name = "WORD", value_parser = word::<Cover>(Cover::ALL.iter().map(|it| it.as_str())))]
    pub of: Option<Cover>,
    /// The form.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lapsed identity rebind`.
#[derive(Debug, Args)]
pub struct IdentityRebind {
    /// The person
    #[arg(value_name = "EMAIL")]
    pub email: Address,
    /// The directory
    #[arg(long, value_name = "NAME")]
    pub directory: String,
}

/// `lapsed directory`.
#[derive(Debug, Subcommand)]
pub enum DirectoryCommand {
    /// List the directories: how their last reading went, whether their word still holds, and when the
    /// next is
    #[command(after_help = "\
Examples:
  lapsed directory list
  lapsed directory list --format json")]
    List(Listing),
    /// Say what the credentials of a directory can and cannot do
    ///
    /// Changes nothing, there or here. A right that is missing is told with what adds it. Exit 1: it
    /// cannot be read; 75: it wants to be left alone for a while.
    #[command(after_help = "\
Examples:
  lapsed directory check hr")]
    Check {
        /// The directory
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read a directory now, and take in what is believed of it
    ///
    /// Waits for no schedule and no back-off; only where the directory asked to be left alone it is, which
    /// is no failure. No token is flagged by it: that is what the next sweep does.
    #[command(after_help = "\
Examples:
  lapsed directory sync hr

  # person by person what a sync would change, or whom a hold is about; leaves no trace
  lapsed directory sync hr --dry-run

  # yes, half of its people are truly gone
  lapsed directory sync hr --accept-shrink")]
    Sync(DirectorySync),
    /// Let through the mass change that a directory holds
    ///
    /// When more people than `breaker_share` and `breaker_min` allow would lose access at once, nothing
    /// changes until an operator says that it is true. `lapsed directory sync NAME --dry-run` shows whom it
    /// is about.
    #[command(after_help = "\
Examples:
  lapsed directory release hr")]
    Release {
        /// The directory
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Refuse the mass change that a directory holds
    ///
    /// Those whom it is about stay unknown until the directory says something else of them, no token of
    /// theirs is flagged, and what it says of everybody else counts again.
    #[command(after_help = "\
Examples:
  lapsed directory reject hr")]
    Reject {
        /// The directory
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget what a directory said that is no longer in the configuration
    ///
    /// What it said last flags nobody any more, but what was flagged stays so until it is forgotten: then the next
    /// sweep resolves those findings that no other directory has a ground for.
    #[command(after_help = "\
Examples:
  lapsed directory forget hr")]
    Forget {
        /// The directory
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `lapsed directory sync`.
#[derive(Debug, Args)]
pub struct DirectorySync {
    /// The directory
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Say what would change; leave no trace and take no lock
    #[arg(long)]
    pub dry_run: bool,
    /// Believe it although it lists half as many people as before
    #[arg(long)]
    pub accept_shrink: bool,
    /// Form of what --dry-run tells
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        requires = "dry_run"
    )]
    pub format: Format,
}
