//! The arguments of the commands of the token service.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::{Args, Subcommand};

use super::nouns::{ListOptions, ShowOptions};
use super::values::{
    OrNone, one_of, parse_instant, parse_name, parse_reason, parse_user, parse_zone,
};
use crate::domain::Address;

/// What `lapsed preference set` knows.
pub const PREFERENCES: [&str; 5] = ["steps", "channel", "language", "timezone", "digest_at"];

#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Add an account
    #[command(after_help = "\
Examples:
  lapsed account add acme
  lapsed account add acme --max-tokens 200")]
    Add(AccountAdd),
    /// List the accounts with their tokens
    #[command(after_help = "\
Examples:
  lapsed account list
  lapsed account list --format json")]
    List(ListOptions),
    /// Show one account with its users
    #[command(after_help = "\
Examples:
  lapsed account show acme")]
    Show(AccountShow),
    /// Set how many tokens may exist in an account at a time
    #[command(after_help = "\
Examples:
  lapsed account limit acme 200

  # no limit
  lapsed account limit acme 0

  # that of the policy, `[service] per_account`
  lapsed account limit acme default

Active and disabled tokens count. Tokens that exist stay where there are more.")]
    Limit(AccountLimit),
    /// Give an account a new name
    #[command(after_help = "\
Examples:
  lapsed account rename acme acme-corp

Its users and tokens follow. `[[account]]` and `--account` use the new name from then on.")]
    Rename(AccountRename),
    /// Remove an account without tokens
    #[command(after_help = "\
Examples:
  lapsed account remove acme --reason closed

Its users stay, without their role in it. Tokens that work must be deleted first.")]
    Remove(AccountRemove),
}

#[derive(Debug, Args)]
pub struct AccountAdd {
    /// Name, in upper or lower case
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// Tokens at a time; 0: no limit [default: `[service] per_account`]
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u64>,
}

#[derive(Debug, Args)]
pub struct AccountShow {
    /// Account, in upper or lower case
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct AccountRemove {
    /// Account, in upper or lower case
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct AccountLimit {
    /// Account, in upper or lower case
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// Tokens at a time; 0: no limit; default: that of the policy
    #[arg(value_name = "N", value_parser = parse_limit)]
    pub limit: AccountMax,
}

/// The limit of an account; `None` for that of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountMax(pub Option<u64>);

fn parse_limit(text: &str) -> Result<AccountMax, &'static str> {
    match text.trim() {
        "default" => Ok(AccountMax(None)),
        number => number
            .parse()
            .map(|number| AccountMax(Some(number)))
            .map_err(|_| "write a number, 0 for no limit, or default for that of the policy"),
    }
}

#[derive(Debug, Args)]
pub struct AccountRename {
    /// Account, in upper or lower case
    #[arg(value_name = "OLD", value_parser = parse_name)]
    pub old: String,
    /// Its new name
    #[arg(value_name = "NEW", value_parser = parse_name)]
    pub new: String,
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, or change what is given of one
    #[command(after_help = "\
Examples:
  lapsed user add ada@example.org --name Ada --account acme --role administrator
  lapsed user add root@example.org --super

  # a machine user, whose owners are notified about its tokens
  lapsed user add build-farm --service --owner ada@example.org --account acme

Without --role, a new user has the lowest.")]
    Add(UserAdd),
    /// List the users
    #[command(after_help = "\
Examples:
  lapsed user list
  lapsed user list --format json")]
    List(ListOptions),
    /// Show one user with their roles
    #[command(after_help = "\
Examples:
  lapsed user show ada@example.org")]
    Show(UserShow),
    /// Stop all tokens of a user until they are enabled again
    #[command(after_help = "\
Examples:
  lapsed user disable ada@example.org --reason absent

Lists the tokens that were used this week first.")]
    Disable(UserSwitch),
    /// Let the tokens of a disabled user work again
    #[command(after_help = "\
Examples:
  lapsed user enable ada@example.org")]
    Enable(UserSwitch),
    /// Give a user a role in an account
    #[command(after_help = "\
Examples:
  lapsed user role ada@example.org viewer
  lapsed user role ada@example.org administrator --account acme

Their tokens have at most this role from then on.")]
    Role(UserRole),
    /// Change the name or the kind of a user
    #[command(after_help = "\
Examples:
  lapsed user set ada@example.org --name Ada --timezone Europe/London
  lapsed user set build-farm --owner grace@example.org
  lapsed user set root@example.org --super false

Their tokens keep working.")]
    Set(UserSet),
    /// Print a link that signs a user in to the web portal, once
    #[command(after_help = "\
Examples:
  lapsed user link ada@example.org

The link works once, within 15 minutes. Whoever has it signs in as this user: pass it on in private. The link
begins with `[web] base_url`.")]
    Link(UserLink),
    /// Remove a user and revoke their tokens
    #[command(after_help = "\
Examples:
  lapsed user remove ada@example.org --reason left

  # from a script
  lapsed user remove ada@example.org --yes

This cannot be undone. `lapsed user disable` can.")]
    Remove(UserRemove),
}

#[derive(Debug, Args)]
pub struct UserAdd {
    /// Address of a person, or with --service the name of a machine user
    #[arg(value_name = "USER", value_parser = parse_user)]
    pub user: String,
    /// Account that they belong to
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Role in the account
    #[arg(long, value_name = "ROLE", requires = "account")]
    pub role: Option<String>,
    /// Super admin: all rights in all accounts
    #[arg(long = "super")]
    pub is_super: bool,
    /// They sign in at the SSO provider
    #[arg(long, conflicts_with = "service")]
    pub sso: bool,
    /// A machine user
    #[arg(long)]
    pub service: bool,
    /// Person who is notified about the tokens of a machine user; may be repeated
    #[arg(long, value_name = "EMAIL", requires = "service")]
    pub owner: Vec<Address>,
    #[command(flatten)]
    pub about: UserAbout,
}

#[derive(Debug, Args)]
pub struct UserAbout {
    /// Name
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub name: Option<String>,
    /// Language, such as en
    #[arg(long, value_name = "LANGUAGE", value_parser = parse_name)]
    pub language: Option<String>,
    /// Time zone of the times in their mails, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", value_parser = parse_zone)]
    pub timezone: Option<Tz>,
}

#[derive(Debug, Args)]
pub struct UserShow {
    /// User: an address, or the name of a machine user
    #[arg(value_name = "USER", value_parser = parse_user)]
    pub user: String,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct UserSwitch {
    /// User: an address, or the name of a machine user
    #[arg(value_name = "USER", value_parser = parse_user)]
    pub user: String,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct UserRole {
    /// User: an address, or the name of a machine user
    #[arg(value_name = "USER", value_parser = parse_user)]
    pub user: String,
    /// Role; empty: they leave the account
    #[arg(value_name = "ROLE")]
    pub role: OrNone,
    /// Account [default: their only one]
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
}

#[derive(Debug, Args)]
pub struct UserSet {
    /// User: an address, or the name of a machine user
    #[arg(value_name = "USER", value_parser = parse_user)]
    pub user: String,
    /// Whether they are a super admin
    #[arg(long = "super", value_name = "true|false")]
    pub is_super: Option<bool>,
    /// Whether they sign in at the SSO provider
    #[arg(long, value_name = "true|false")]
    pub sso: Option<bool>,
    /// Person who is notified about the tokens of a machine user; may be repeated; replaces the others
    #[arg(long, value_name = "EMAIL")]
    pub owner: Option<Vec<Address>>,
    #[command(flatten)]
    pub about: UserAbout,
}

#[derive(Debug, Args)]
pub struct UserLink {
    /// Address of the person
    #[arg(value_name = "EMAIL", value_parser = parse_user)]
    pub user: String,
}

#[derive(Debug, Args)]
pub struct UserRemove {
    /// User: an address, or the name of a machine user
    #[arg(value_name = "USER", value_parser = parse_user)]
    pub user: String,
    /// Reason, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show what the policy of the token service would change for tokens that exist
    #[command(after_help = "\
Examples:
  lapsed policy check
  lapsed policy check --format csv

Nothing is shortened or ended: the policy binds new tokens and new secrets.")]
    Check(ListOptions),
}

#[derive(Debug, Subcommand)]
pub enum PreferenceCommand {
    /// Show how a person wants to be notified
    #[command(after_help = "\
Examples:
  lapsed preference get ada@example.org
  lapsed preference get ada@example.org --format json")]
    Get(PreferenceGet),
    /// Set how a person wants to be notified
    #[command(after_help = "\
Examples:
  lapsed preference set ada@example.org steps 30d,7d,1d
  lapsed preference set ada@example.org channel account
  lapsed preference set ada@example.org timezone Europe/Berlin
  lapsed preference set ada@example.org digest_at 09:00

  # that of the configuration again
  lapsed preference set ada@example.org steps default

The last step of a token that was used within 7 days cannot be switched off.")]
    Set(PreferenceSet),
}

#[derive(Debug, Args)]
pub struct PreferenceGet {
    /// Address of the person
    #[arg(value_name = "EMAIL")]
    pub address: Address,
    #[command(flatten)]
    pub options: ShowOptions,
}

#[derive(Debug, Args)]
pub struct PreferenceSet {
    /// Address of the person
    #[arg(value_name = "EMAIL")]
    pub address: Address,
    /// What to set
    #[arg(value_name = "KEY", value_parser = one_of::<String>(PREFERENCES))]
    pub key: String,
    /// Its value, or default
    #[arg(value_name = "VALUE")]
    pub value: String,
}

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Let tokens be verified again after a restore
    #[command(after_help = "\
Examples:
  lapsed service resume

  # also revoke what may have been revoked after the backup
  lapsed service resume --revoke-changed-since 2026-11-30T02:00:00Z

A restored store may have forgotten that a token was revoked, so the daemon verifies none
until you decide.")]
    Resume(ServiceResume),
}

#[derive(Debug, Args)]
pub struct ServiceResume {
    /// Revoke the tokens that this machine saw change since this time
    #[arg(long, value_name = "DATE", value_parser = parse_instant)]
    pub revoke_changed_since: Option<DateTime<Utc>>,
}
