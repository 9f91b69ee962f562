//! The arguments of `lapsed notice` and `lapsed address`.
#![expect(
    clippy::doc_markdown,
    reason = "clap prints these comments, back-ticks and all"
)]

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, Subcommand};
use uuid::Uuid;

use super::nouns::ListOptions;
use super::values::{one_of, parse_instant, parse_recipient, parse_token_text};
use crate::domain::{Address, NoticeState};

#[derive(Debug, Subcommand)]
pub enum NoticeCommand {
    /// List notices, latest first
    #[command(after_help = "\
Examples:
  lapsed notice list --recipient ada@example.org
  lapsed notice list --state failed --format jsonl
  lapsed notice list --token exports/ci-deploy")]
    List(NoticeList),
    /// Plan failed notices again, for example after the mail server is fixed
    #[command(after_help = "\
Examples:
  lapsed notice retry --state failed
  lapsed notice retry 0193a1b2-7c41-7d9e-8f00-3b1c2d4e5f60

The next sweep or the running daemon sends them. A notice is skipped if its token was
renewed, has expired, is gone or is revoked, or if its recipient has a notice about a
tighter step.")]
    Retry(NoticeRetry),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct NoticeRetry {
    /// Notices: full ids (`lapsed notice list --format csv` shows them)
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<Uuid>,
    /// All notices in this state; only failed ones can be retried
    #[arg(long, value_name = "STATE", value_parser = ["failed"], group = "which")]
    pub state: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum AddressCommand {
    /// List the addresses that count as dead, with the server's reply
    #[command(after_help = "\
Examples:
  lapsed address list
  lapsed address list --format json

No mail is sent to a dead address until the time in UNTIL. Its notices go to the next
recipients in the chain.")]
    List(ListOptions),
    /// Clear an address that counts as dead, so that it gets mails again
    #[command(after_help = "\
Examples:
  lapsed address clear ada@example.org

The warnings that this address missed are planned again: for each token, the tightest
step that is due.")]
    Clear(AddressClear),
}

#[derive(Debug, Args)]
pub struct AddressClear {
    /// Address that works again
    #[arg(value_name = "ADDRESS")]
    pub address: Address,
}

#[derive(Debug, Args)]
pub struct NoticeList {
    /// Only notices to this address, or to the pseudonym of an erased person
    #[arg(long, value_name = "EMAIL", value_parser = parse_recipient)]
    pub recipient: Option<Address>,
    /// Only notices in this state
    #[arg(long, value_name = "STATE", value_parser = one_of::<NoticeState>(NoticeState::ALL.iter().map(|value| value.as_str())))]
    pub state: Option<NoticeState>,
    /// Only notices about this token: an id, SOURCE/EXTERNAL_ID or a name
    #[arg(long, value_name = "ID", value_parser = parse_token_text)]
    pub token: Option<String>,
    /// Only notices planned since this day (00:00 UTC) or RFC 3339 time
    #[arg(long, value_name = "DATE", value_parser = parse_instant)]
    pub since: Option<DateTime<Utc>>,
    #[command(flatten)]
    pub options: ListOptions,
}
