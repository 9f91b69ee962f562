//! The arguments of the commands that list or show.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments, back-ticks and all"
)]

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand, ValueEnum};

use super::values::{instant, prefix, reason, span, token_ref, word};
use crate::domain::{Address, FindingKind, NoticeState, Status, TokenRef};

/// In what form results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One array, or one object for a single thing.
    Json,
    /// One object per line.
    Jsonl,
    /// With a header.
    Csv,
}

/// The options of every listing.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct Listing {
    /// Form of the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    /// At most so many rows [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX.cast_unsigned()))]
    pub limit: Option<u64>,
}

/// The options of every command that shows one thing.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output")]
pub struct Shown {
    /// Form of the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// `lapsed token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List tokens by source and external id; with --expires-within, those that end first on top
    #[command(after_help = "\
Examples:
  lapsed token list --status active --expires-within 7d
  lapsed token list --issuer ada@example.org
  lapsed token list --source exports --format csv")]
    List(TokenList),
    /// Show all that is known of one token: status, steps, notices, findings
    #[command(after_help = "\
Examples:
  lapsed token show 0b5e17c2
  lapsed token show exports/ci-deploy --format json")]
    Show(TokenShow),
    /// End a token for good, where it lives
    ///
    /// Only where its source has `allow_revoke = true`, and never the token by which lapsed sees the
    /// source. Looks again whether it has ended, takes back the warnings that were owed about it, tells the
    /// issuer and the administrators, and writes all of it to the audit trail. It cannot be undone.
    #[command(after_help = "\
Examples:
  # what would be done, and who would be told
  lapsed token revoke rancher/token-x7k2p --at-source --dry-run

  lapsed token revoke 0b5e17c2 --at-source --reason leaked

  # from a script
  lapsed token revoke 0b5e17c2 --at-source --yes")]
    Revoke(TokenRevoke),
}

/// `lapsed token revoke`.
#[derive(Debug, Args)]
pub struct TokenRevoke {
    /// Token: an id, the first digits of one, or SOURCE/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = token_ref)]
    pub id: TokenRef,
    /// End it at its source, not only in the store
    #[arg(long, required = true)]
    pub at_source: bool,
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Say what would be done; leave no trace
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for those who are told and for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `lapsed token list`.
#[derive(Debug, Args)]
pub struct TokenList {
    /// Only tokens with this status
    #[arg(long, value_name = "STATUS", value_parser = word::<Status>(Status::ALL.iter().map(|it| it.as_str())))]
    pub status: Option<Status>,
    /// Only tokens of this issuer
    #[arg(long, value_name = "EMAIL")]
    pub issuer: Option<Address>,
    /// Only tokens that name no issuer's address
    #[arg(long, conflicts_with = "issuer")]
    pub no_issuer: bool,
    /// Only tokens with this role
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Only tokens of this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only tokens that end from now on within this time, such as 7d or 36h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub expires_within: Option<TimeDelta>,
    /// The form.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lapsed token show`.
#[derive(Debug, Args)]
pub struct TokenShow {
    /// Token: an id, the first digits of one, or SOURCE/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = token_ref)]
    pub id: TokenRef,
    /// The form.
    #[command(flatten)]
    pub shown: Shown,
}

/// `lapsed notice`.
#[derive(Debug, Subcommand)]
pub enum NoticeCommand {
    /// List notices, the latest on top
    #[command(after_help = "\
Examples:
  lapsed notice list --recipient ada@example.org
  lapsed notice list --state failed --format jsonl
  lapsed notice list --token exports/ci-deploy")]
    List(NoticeList),
}

/// `lapsed notice list`.
#[derive(Debug, Args)]
pub struct NoticeList {
    /// Only notices to this address
    #[arg(long, value_name = "EMAIL")]
    pub recipient: Option<Address>,
    /// Only notices in this state
    #[arg(long, value_name = "STATE", value_parser = word::<NoticeState>(NoticeState::ALL.iter().map(|it| it.as_str())))]
    pub state: Option<NoticeState>,
    /// Only notices about this token
    #[arg(long, value_name = "ID", value_parser = token_ref)]
    pub token: Option<TokenRef>,
    /// The form.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lapsed finding`.
#[derive(Debug, Subcommand)]
pub enum FindingCommand {
    /// List open findings, or all, the last found on top
    #[command(after_help = "\
Examples:
  lapsed finding list
  lapsed finding list --kind sso_revoked --format json
  lapsed finding list --all")]
    List(FindingList),
    /// Accept one finding for a time: until then it is not open, and in no summary
    ///
    /// It is open again by itself at that time, unless it is resolved by then. Who accepted it, until
    /// when and why is written to the audit trail.
    #[command(after_help = "\
Examples:
  lapsed finding acknowledge 0193a1b2 --until 2027-03-31 --reason planned")]
    Acknowledge(Acknowledge),
}

/// `lapsed finding acknowledge`.
#[derive(Debug, Args)]
pub struct Acknowledge {
    /// Its id, or the first digits of it (`lapsed finding list` shows them)
    #[arg(value_name = "ID", value_parser = prefix)]
    pub id: String,
    /// Until when: a day (00:00 UTC), or an instant as in RFC 3339
    #[arg(long, value_name = "DATE", value_parser = instant)]
    pub until: DateTime<Utc>,
    /// Why it may stay
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
}

/// `lapsed finding list`.
#[derive(Debug, Args)]
pub struct FindingList {
    /// Only findings of this kind
    #[arg(long, value_name = "KIND", value_parser = word::<FindingKind>(FindingKind::ALL.iter().map(|it| it.as_str())))]
    pub kind: Option<FindingKind>,
    /// Acknowledged and resolved ones too
    #[arg(long)]
    pub all: bool,
    /// The form.
    #[command(flatten)]
    pub listing: Listing,
}

/// `lapsed source`.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// List the sources: how their last sync went, and when the next is
    #[command(after_help = "\
Examples:
  lapsed source list
  lapsed source list --format json")]
    List(Listing),
    /// Say what the credentials of a source can and cannot do
    ///
    /// Changes nothing, there or here. A right that is missing is told with what adds it. Exit 1: it
    /// cannot be listed; 75: it wants to be left alone for a while.
    #[command(after_help = "\
Examples:
  lapsed source check exports")]
    Check {
        /// The source
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List the tokens of a source now, and take them in
    ///
    /// Waits for no schedule and no back-off; only where the source asked to be left alone it is, which
    /// is no failure. Nobody is warned by it: that is what sweeps do.
    #[command(after_help = "\
Examples:
  lapsed source sync exports

  # token by token what a sync would change; leaves no trace
  lapsed source sync exports --dry-run

  # yes, half of its tokens are truly gone
  lapsed source sync exports --accept-shrink")]
    Sync(SourceSync),
}

/// `lapsed source sync`.
#[derive(Debug, Args)]
pub struct SourceSync {
    /// The source
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Say what would change; leave no trace and take no lock
    #[arg(long)]
    pub dry_run: bool,
    /// Believe the listing although it shrank by half
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

/// `lapsed audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what people have done, the latest on top
    #[command(after_help = "\
Examples:
  lapsed audit list
  lapsed audit list --limit 20 --format json")]
    List(Listing),
}

/// `lapsed forecast`.
#[derive(Debug, Args)]
pub struct Forecast {
    /// How many days ahead
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    /// The form.
    #[command(flatten)]
    pub listing: Listing,
}
