//! `[notify]` and `[[account]]`: who is told, when, and in whose name.

use std::collections::BTreeSet;

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::Tz;
use lettre::message::Mailbox;
use url::Url;

use super::{error::shown, field::Field, table::Table};
use crate::domain::{Address, Schedule, Step};

/// Who is told, when, and in whose name.
#[derive(Debug, Clone)]
pub struct Notify {
    /// The warning times; widest first, each once, at least one.
    pub steps: Vec<Step>,
    /// The sender of every mail.
    pub from: Mailbox,
    /// Administrators of everything; each once. May be empty.
    pub admins: Vec<Address>,
    /// When administrators get their mail of the day, by the wall clock of `[schedule] timezone`;
    /// `None` is at the step's instant, like issuers.
    pub admin_digest: Option<NaiveTime>,
    /// When administrators are told of all open findings; `None` is never.
    pub summary: Option<Schedule>,
    /// How far ahead an issuer's mail takes along what is due to him next.
    pub merge_ahead: TimeDelta,
    /// A plan with more mails than this is held; 0 is no limit.
    pub max_per_sweep: u64,
    /// Where people reach lapsed's pages; http or https, without user, query and fragment.
    pub base_url: Option<Url>,
    /// Where answers go, if not to `from`.
    pub reply_to: Option<Mailbox>,
}

/// A tenant, and who administers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, as tokens give it. Unique.
    pub name: String,
    /// Who administers it; each once.
    pub admins: Vec<Address>,
}

impl Notify {
    /// `None` when something is missing; the problems are noted.
    pub(super) fn read(mut table: Table, zone: Tz) -> Option<Self> {
        let steps = steps(&mut table);
        let from = table.required(
            "from",
            "from = \"API tokens <tokens@example.org>\"",
            mailbox,
        );
        let notify = Self {
            steps,
            admins: once(table.list("admins", Field::parsed)),
            admin_digest: table.or(
                "admin_digest",
                NaiveTime::from_hms_opt(9, 0, 0),
                time_or_off,
            ),
            summary: table.or("summary", Schedule::new("0 9 * * 1", zone).ok(), |field| {
                schedule_or_off(field, zone)
            }),
            merge_ahead: table.or("merge_ahead", TimeDelta::hours(1), |field| {
                field.span(TimeDelta::zero())
            }),
            max_per_sweep: table.or("max_per_sweep", 1000, |field| {
                field.whole(0..=1_000_000_000)
            }),
            base_url: table.optional("base_url", base_url),
            reply_to: table.optional("reply_to", mailbox),
            from: from.clone().unwrap_or_else(nobody),
        };
        table.finish();
        from.map(|_| notify)
    }
}

impl Account {
    /// All accounts.
    pub(super) fn read_all(tables: Vec<Table>) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let mut accounts = vec![];
        for mut table in tables {
            let name = table.required("name", "name = \"acme\"", |field| {
                field.text().map(str::to_owned)
            });
            let admins = once(table.list("admins", Field::parsed));
            if let Some(name) = name {
                if !names.insert(name.clone()) {
                    table.refuse(
                        "name",
                        &format!(
                            "there is another account `{}`; give its admins in one place",
                            shown(&name)
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
    let mut steps: Vec<Step> = table.list("steps", Field::parsed).unwrap_or_else(default);
    if steps.is_empty() {
        table.refuse(
            "steps",
            "needs at least one warning time, such as steps = [\"7d\", \"1d\"]",
        );
    }
    steps.sort_unstable_by(|one, two| two.cmp(one));
    steps.dedup();
    steps
}

/// Addresses, each once, in the order of the list.
fn once(addresses: Option<Vec<Address>>) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    let mut addresses = addresses.unwrap_or_default();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

fn mailbox(field: &Field) -> Result<Mailbox, String> {
    let text = field.text()?;
    let form = "write it as name@example.org or \"Name <name@example.org>\"";
    if text.chars().any(char::is_control) {
        return Err(format!("holds a control character; {form}"));
    }
    let mailbox: Mailbox = text
        .parse()
        .map_err(|_| format!("is not a mail address; {form}"))?;
    // The stricter reading holds for every address that lapsed writes to the wire.
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
                shown(text)
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
            "goes into mails, so it has no user, `?` or `#`; {form}"
        ));
    }
    Ok(url)
}

/// Stands in while the rest of the section is read; such a section is thrown away.
fn nobody() -> Mailbox {
    let nobody = lettre::Address::new("nobody", "localhost").expect("a well-formed address");
    Mailbox::new(None, nobody)
}
