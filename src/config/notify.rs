//! `[notify]` and `[[account]]`: who gets mails, and when.

use std::collections::BTreeSet;

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::Tz;
use lettre::message::Mailbox;
use url::Url;

use super::error::for_display;
use super::field::Field;
use super::table::Table;
use crate::domain::{Address, Schedule, Step};

#[derive(Debug, Clone)]
pub struct Notify {
    /// Longest first, without duplicates; at least one.
    pub steps: Vec<Step>,
    pub from: Mailbox,
    /// Administrators of all accounts, without duplicates; may be empty.
    pub admins: Vec<Address>,
    /// When administrators get their daily mail, in `[schedule] timezone`; `None` means at the time of
    /// the step, like issuers.
    pub admin_digest: Option<NaiveTime>,
    /// When administrators get the summary of open findings; `None` means never.
    pub summary: Option<Schedule>,
    /// Notices due within this time are added to an issuer's mail.
    pub merge_ahead: TimeDelta,
    /// A sweep that plans more mails than this is held; 0 means no limit.
    pub max_per_sweep: u64,
    /// Start of the links in mails; http or https, without user, query and fragment.
    pub base_url: Option<Url>,
    pub reply_to: Option<Mailbox>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As in the tokens; unique.
    pub name: String,
    /// Without duplicates.
    pub admins: Vec<Address>,
}

impl Notify {
    /// `None` if something is missing; problems are reported.
    pub(super) fn from_table(mut table: Table, zone: Tz) -> Option<Self> {
        let steps = steps(&mut table);
        let from = table.required(
            "from",
            "from = \"API tokens <tokens@example.org>\"",
            mailbox,
        );
        let notify = Self {
            steps,
            admins: deduplicate(table.list("admins", Field::parse)),
            admin_digest: table.with_default(
                "admin_digest",
                NaiveTime::from_hms_opt(9, 0, 0),
                time_or_off,
            ),
            summary: table.with_default(
                "summary",
                Schedule::new("0 9 * * 1", zone).ok(),
                |field| schedule_or_off(field, zone),
            ),
            merge_ahead: table.with_default("merge_ahead", TimeDelta::hours(1), |field| {
                field.duration(TimeDelta::zero())
            }),
            max_per_sweep: table.with_default("max_per_sweep", 1000, |field| {
                field.integer(0..=1_000_000_000)
            }),
            base_url: table.optional("base_url", base_url),
            reply_to: table.optional("reply_to", mailbox),
            from: from.clone().unwrap_or_else(placeholder),
        };
        table.finish();
        from.map(|_| notify)
    }
}

impl Account {
    pub(super) fn from_tables(tables: Vec<Table>) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let mut accounts = vec![];
        for mut table in tables {
            let name = table.required("name", "name = \"acme\"", |field| {
                field.text().map(str::to_owned)
            });
            let admins = deduplicate(table.list("admins", Field::parse));
            if let Some(name) = name {
                if !names.insert(name.clone()) {
                    table.refuse(
                        "name",
                        &format!(
                            "there is another account `{}`; give its admins in one place",
                            for_display(&name)
                        ),
                    );
                }
                accounts.push(Self { name, admins });
            }
            table.finish();
        }
        accounts
    }
}

fn steps(table: &mut Table) -> Vec<Step> {
    let default = || {
        ["7d", "1d"]
            .iter()
            .filter_map(|step| step.parse().ok())
            .collect()
    };
    let mut steps: Vec<Step> = table.list("steps", Field::parse).unwrap_or_else(default);
    if steps.is_empty() {
        table.refuse(
            "steps",
            "needs at least one entry, such as steps = [\"7d\", \"1d\"]",
        );
    }
    steps.sort_unstable_by(|one, two| two.cmp(one));
    steps.dedup();
    steps
}

/// Keeps the first of equal addresses.
fn deduplicate(addresses: Option<Vec<Address>>) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    let mut addresses = addresses.unwrap_or_default();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

fn mailbox(field: &Field) -> Result<Mailbox, String> {
    let text = field.text()?;
    let form = "write it as name@example.org or \"Name <name@example.org>\"";
    if text.chars().any(char::is_control) {
        return Err(format!("contains a control character; {form}"));
    }
    let mailbox: Mailbox = text
        .parse()
        .map_err(|_| format!("is not a mail address; {form}"))?;
    // Our own parser is stricter and applies to every address that lapsed sends to a server.
    let strict: Result<Address, _> = mailbox.email.to_string().parse();
    strict.map(|_| mailbox).map_err(|error| error.to_string())
}

fn time_or_off(field: &Field) -> Result<Option<NaiveTime>, String> {
    let text = field.text()?;
    if text == "off" {
        return Ok(None);
    }
    NaiveTime::parse_from_str(text, "%H:%M")
        .map(Some)
        .map_err(|_| {
            format!(
                "`{}` is not a time of day; write \"09:00\" or \"off\"",
                for_display(text)
            )
        })
}

fn schedule_or_off(field: &Field, zone: Tz) -> Result<Option<Schedule>, String> {
    match field.text()? {
        "off" => Ok(None),
        expression => Schedule::new(expression, zone)
            .map(Some)
            .map_err(|error| format!("{error}; or \"off\"")),
    }
}

fn base_url(field: &Field) -> Result<Url, String> {
    let form = "write for example https://lapsed.example.org";
    let url: Url = field
        .text()?
        .parse()
        .map_err(|error| format!("is not a URL ({error}); {form}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("must begin with https:// or http://; {form}"));
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "is used in mails, so it must not contain a user, `?` or `#`; {form}"
        ));
    }
    Ok(url)
}

/// Used while the rest of the section is read; the section is discarded.
fn placeholder() -> Mailbox {
    let address = lettre::Address::new("nobody", "localhost").expect("a well-formed address");
    Mailbox::new(None, address)
}
