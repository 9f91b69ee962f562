//! The arguments of `lapsed token`.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments, back-ticks and all"
)]

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};

use super::nouns::{ListOptions, ShowOptions};
use super::values::{
    OrNone, one_of, parse_instant, parse_lifetime, parse_name, parse_networks, parse_reason,
    parse_scopes, parse_span, parse_token_ref, parse_token_text, parse_user,
};
use crate::domain::service::{Lifetime, Networks, Scopes};
use crate::domain::{Address, FindingKind, Status, TokenRef};

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List tokens
    #[command(after_help = "\
Examples:
  lapsed token list --status active --expires-within 7d
  lapsed token list --issuer ada@example.org
  lapsed token list --source exports --format csv
  lapsed token list --expiry never --account acme

Tokens are sorted by source and external id, with --expires-within by expiry.")]
    List(TokenList),
    /// Show one token with its steps, notices and findings
    #[command(after_help = "\
Examples:
  lapsed token show 0b5e17c2
  lapsed token show exports/ci-deploy --format json

  # by a name that only one token has
  lapsed token show ci-deploy")]
    Show(TokenShow),
    /// Revoke a token at its source
    #[command(after_help = "\
Examples:
  # show what would be done and who would be notified
  lapsed token revoke rancher/token-x7k2p --at-source --dry-run

  lapsed token revoke 0b5e17c2 --at-source --reason leaked

  # from a script
  lapsed token revoke 0b5e17c2 --at-source --yes

This cannot be undone.
The source needs `allow_revoke = true` in the configuration.
lapsed never revokes the token that it uses to read the source.
It verifies that the token is revoked, cancels its pending warnings, notifies the issuer
and the administrators, and records everything in the audit trail.")]
    Revoke(TokenRevoke),
    /// Remove a token whose source is not configured
    #[command(after_help = "\
Examples:
  lapsed token remove local/ci-deploy --reason mistake
  lapsed token remove 0b5e17c2

It is for imported tokens that should never have been there, and changes nothing at a
source.
The token and its findings are deleted, and its unsent notices are cancelled.
The ledger keeps what was sent.
A token of a configured source comes back with the next sync, so it is not removed.")]
    Remove(TokenRemove),
    /// Issue a token of the token service
    #[command(after_help = "\
Examples:
  lapsed token issue --name ci-deploy --user ada@example.org --account acme --expires 30d

  # for a program: the whole answer, with the token, as JSON
  lapsed token issue --name ci-deploy --user ada@example.org --format json

  # limited to one application, and to one network
  lapsed token issue --name ci --user ada@example.org --scope app:read --network 10.0.0.0/8

The token is shown once and never stored.
Without --expires it lives as long as `[service] default_ttl` says, without --role it has
the role of its user, without --account it belongs to the user's only account.")]
    Issue(TokenIssue),
    /// Give a token of the token service a new secret
    #[command(after_help = "\
Examples:
  lapsed token regenerate local/lp3fK9x2QwAb
  lapsed token regenerate lp3fK9x2QwAb --expires 90d --overlap 1h

  # its secret is known to others: the old one ends now
  lapsed token regenerate lp3fK9x2QwAb --leaked --reason committed

The token keeps its id, name, role and scopes. The old secret works until the end of the
overlap, but not longer than it would have.
Without --expires the token lives as long as before, counted from now.")]
    Regenerate(TokenRegenerate),
    /// Change the name, role, scopes, networks or owner of a token of the token service
    #[command(after_help = "\
Examples:
  lapsed token update lp3fK9x2QwAb --name ci-deploy --description planned
  lapsed token update lp3fK9x2QwAb --scope app:read --scope app:write
  lapsed token update lp3fK9x2QwAb --owner grace@example.org

Lists replace what was there; an empty value (--scope '') removes it.
The secret stays the same.")]
    Update(TokenUpdate),
    /// Stop a token of the token service until it is enabled again
    #[command(after_help = "\
Examples:
  lapsed token disable lp3fK9x2QwAb --reason suspicious")]
    Disable(TokenEnd),
    /// Let a disabled token of the token service work again
    #[command(after_help = "\
Examples:
  lapsed token enable lp3fK9x2QwAb")]
    Enable(TokenEnd),
    /// Revoke a token of the token service for good
    #[command(after_help = "\
Examples:
  lapsed token delete lp3fK9x2QwAb --reason replaced

  # from a script
  lapsed token delete lp3fK9x2QwAb --yes

This cannot be undone. The token stays in the lists as revoked, for the audit.")]
    Delete(TokenDelete),
    /// Verify a token of the token service that is read from standard input
    #[command(after_help = "\
Examples:
  lapsed token verify
  lapsed token verify --address 10.1.2.3 --format json

Reads one token, and prints what it may be used for.
Exits 1 with the reason if it is refused. This does not count as a use of it.")]
    Verify(TokenVerify),
}

#[derive(Debug, Args)]
pub struct TokenRemove {
    /// Token: an id, its first digits, or SOURCE/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = parse_token_ref)]
    pub id: TokenRef,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct TokenRevoke {
    /// Token: an id, its first digits, or SOURCE/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = parse_token_ref)]
    pub id: TokenRef,
    /// Confirm that the token is revoked at its source, not only in the store
    #[arg(long, required = true)]
    pub at_source: bool,
    /// Do not ask for confirmation
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Show what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Reason, for the mails and the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct TokenList {
    /// Only tokens with this status
    #[arg(long, value_name = "STATUS", value_parser = one_of::<Status>(Status::ALL.iter().map(|value| value.as_str())))]
    pub status: Option<Status>,
    /// Only tokens of this owner: the issuer or another
    #[arg(long, value_name = "EMAIL")]
    pub issuer: Option<Address>,
    /// Only tokens without an issuer's address
    #[arg(long, conflicts_with = "issuer")]
    pub no_issuer: bool,
    /// Only tokens with this role
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Only tokens of this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only tokens of the token service of this kind; `session`, `access`, `refresh` and `feed`
    /// are listed only with it
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only tokens with this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only tokens of this account, in upper or lower case
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Only tokens with an open finding of this kind
    #[arg(long, value_name = "KIND", value_parser = one_of::<FindingKind>(FindingKind::ALL.iter().map(|value| value.as_str())))]
    pub finding: Option<FindingKind>,
    /// Only tokens that never expire, expire at a known time, or whose expiry is unknown
    #[arg(long, value_name = "EXPIRY", value_parser = ["never", "at", "unknown"])]
    pub expiry: Option<String>,
    /// Only tokens that expire within this time from now, such as 7d or 36h
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub expires_within: Option<TimeDelta>,
    #[command(flatten)]
    pub options: ListOptions,
}

#[derive(Debug, Args)]
pub struct TokenShow {
    /// Token: an id, its first digits, SOURCE/EXTERNAL_ID, or a name that only one token has
    #[arg(value_name = "ID", value_parser = parse_token_text)]
    pub id: String,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct TokenIssue {
    /// Name, for people
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// The user whose token it is: an address, or the name of a machine user
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    pub user: String,
    /// Account [default: the user's only one]
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Role, at most that of the user [default: that of the user]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// What it may be used for, such as app:read or app:*; may be repeated [default: everything]
    #[arg(long, value_name = "SCOPE", value_parser = parse_scopes)]
    pub scope: Vec<Scopes>,
    /// Kind: api, or one of the configuration
    #[arg(long, value_name = "KIND", default_value = "api")]
    pub kind: String,
    /// When it expires: a span such as 30d, a date, or never [default: `[service] default_ttl`]
    #[arg(long, value_name = "WHEN", value_parser = parse_lifetime)]
    pub expires: Option<Lifetime>,
    /// When it begins to work: a date or time [default: now]
    #[arg(long, value_name = "DATE", value_parser = parse_instant)]
    pub not_before: Option<DateTime<Utc>>,
    /// What it is for
    #[arg(long, value_name = "TEXT", value_parser = parse_name)]
    pub description: Option<String>,
    /// Network from which it may be used, such as 10.0.0.0/8; may be repeated [default: all]
    #[arg(long, value_name = "CIDR", value_parser = parse_networks)]
    pub network: Vec<Networks>,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct TokenRegenerate {
    /// Token: its public id, an id, its first digits, or local/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = parse_token_ref)]
    pub id: TokenRef,
    /// When the new secret expires: a span such as 30d, a date, or never [default: as long as before]
    #[arg(long, value_name = "WHEN", value_parser = parse_lifetime)]
    pub expires: Option<Lifetime>,
    /// How long the old secret works beside the new one [default: `[service] overlap`]
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with = "leaked")]
    pub overlap: Option<TimeDelta>,
    /// The old secret is known to others: end it now
    #[arg(long)]
    pub leaked: bool,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true)]
pub struct TokenChanges {
    /// Name, for people
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub name: Option<String>,
    /// What it is for; empty: nothing
    #[arg(long, value_name = "TEXT")]
    pub description: Option<OrNone>,
    /// Role, at most that of its user; empty: that of its user
    #[arg(long, value_name = "ROLE")]
    pub role: Option<OrNone>,
    /// What it may be used for; may be repeated; empty: everything
    #[arg(long, value_name = "SCOPE", value_parser = parse_scopes)]
    pub scope: Option<Vec<Scopes>>,
    /// Network from which it may be used; may be repeated; empty: all
    #[arg(long, value_name = "CIDR", value_parser = parse_networks)]
    pub network: Option<Vec<Networks>>,
    /// The user who gets the token
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    pub owner: Option<String>,
}

#[derive(Debug, Args)]
pub struct TokenUpdate {
    /// Token: its public id, an id, its first digits, or local/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = parse_token_ref)]
    pub id: TokenRef,
    #[command(flatten)]
    pub changes: TokenChanges,
}

#[derive(Debug, Args)]
pub struct TokenEnd {
    /// Token: its public id, an id, its first digits, or local/EXTERNAL_ID
    #[arg(value_name = "ID", value_parser = parse_token_ref)]
    pub id: TokenRef,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct TokenDelete {
    #[command(flatten)]
    pub end: TokenEnd,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct TokenVerify {
    /// The address from which it is used
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// A scope that the token must have
    #[arg(long, value_name = "SCOPE", value_parser = parse_scopes)]
    pub scope: Option<Scopes>,
    #[command(flatten)]
    pub options: ShowOptions,
}
