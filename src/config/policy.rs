//! `[notify]`, `[[account]]`, `[policy]` and `[issuers]`: what is reported to whom, and when.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::Tz;
use lettre::message::Mailbox;

use super::error::for_display;
use super::field::Field;
use super::table::Table;
use crate::domain::{
    Address, IssuerMode, Issuers, Policy, RevocationPolicy, Rules, Schedule, Step,
};
use crate::notify::message::MailIdentity;
use crate::notify::view::Installation;

/// What `[notify]` configures.
pub(super) struct Notify {
    /// Without accounts and rules, which have their own sections.
    pub policy: Policy,
    pub summary: Option<Schedule>,
    /// `None` if something is missing, which is reported.
    pub mail_identity: Option<MailIdentity>,
}

pub(super) fn notify(mut table: Table, zone: Tz) -> Notify {
    let steps = steps(&mut table);
    let from = table.required("from", "API tokens <tokens@example.org>", mailbox);
    let admins = deduplicate(table.list("admins", Field::parse));
    let admin_digest = table.unless_off("admin_digest", NaiveTime::from_hms_opt(9, 0, 0), time);
    let monday = Schedule::new("0 9 * * 1", zone).ok();
    let summary = table.unless_off("summary", monday, |field| {
        let expression = field.text()?;
        Schedule::new(expression, zone).map_err(|error| format!("{error}; or \"off\""))
    });
    let policy = Policy {
        steps,
        admins,
        admin_digest,
        zone,
        merge_ahead: table.duration("merge_ahead", TimeDelta::hours(1), TimeDelta::zero()),
        max_per_sweep: table.integer("max_per_sweep", 1000, 0..=1_000_000_000),
        accounts: BTreeMap::new(),
        rules: Rules::default(),
    };
    let example = "https://lapsed.example.org";
    let base_url = table.optional("base_url", |field| field.http_url(example));
    let installation = Installation {
        base_url: base_url.map(|url| url.as_str().trim_end_matches('/').to_owned()),
    };
    let reply_to = table.optional("reply_to", mailbox);
    table.finish();
    Notify {
        policy,
        summary,
        mail_identity: from.map(|from| MailIdentity {
            from,
            reply_to,
            installation,
        }),
    }
}

/// The administrators of each account.
pub(super) fn accounts(tables: Vec<Table>) -> BTreeMap<String, Vec<Address>> {
    let mut accounts = BTreeMap::new();
    for mut table in tables {
        let name = table.required("name", "acme", Field::string);
        let admins = deduplicate(table.list("admins", Field::parse));
        if let Some(name) = name {
            if accounts.contains_key(&name) {
                let name = for_display(&name);
                let why =
                    format!("there is another account `{name}`; give its admins in one place");
                table.refuse("name", why);
            }
            accounts.insert(name, admins);
        }
        table.finish();
    }
    accounts
}

/// Rules for tokens, and how tokens are revoked when their issuers lose access.
/// `max_revocations_per_day` is at least one: with zero, lapsed would announce revocations that never happen.
pub(super) fn rules(mut table: Table) -> (Rules, Option<RevocationPolicy>) {
    let duration = |field: &Field| field.duration(TimeDelta::minutes(1));
    let rules = Rules {
        max_ttl: table.unless_off("max_ttl", None, duration),
        unused_after: table.unless_off("unused_after", None, duration),
    };
    let may_revoke = table.choice("sso_revoked", &[("flag", false), ("revoke", true)], false);
    let response = RevocationPolicy {
        revoke_after: table.duration("revoke_after", TimeDelta::days(3), TimeDelta::hours(1)),
        max_per_day: table.with_default("max_revocations_per_day", 10, |field| {
            field.integer(1..=10_000).map_err(|error| {
                format!("{error}; to revoke none, set policy.sso_revoked = \"flag\"")
            })
        }),
    };
    table.finish();
    (rules, may_revoke.then_some(response))
}

/// Which issuers the directories cover, and under which address.
pub(super) fn issuers(mut table: Table) -> Issuers {
    let modes = table.map("modes", Field::parse::<IssuerMode>);
    let addresses = table.map("addresses", Field::parse::<Address>);
    let is_address = |name: &str| name.parse::<Address>().is_ok();
    let is_domain = |name: &str| {
        let domain = name.strip_prefix("*@");
        domain.is_some_and(|domain| is_address(&format!("a@{domain}")))
    };
    for name in modes
        .keys()
        .filter(|name| !is_address(name) && !is_domain(name))
    {
        let why = format!("{name:?} is not an address; write name@example.org or *@example.org");
        table.refuse("modes", why);
    }
    for name in addresses.keys().filter(|name| !is_address(name)) {
        let why = format!("{name:?} is not an address; write name@example.org");
        table.refuse("addresses", why);
    }
    table.finish();
    Issuers {
        modes: with_lower_keys(modes),
        addresses: with_lower_keys(addresses),
    }
}

fn with_lower_keys<T, M: FromIterator<(String, T)>>(entries: BTreeMap<String, T>) -> M {
    let lower = |(name, value): (String, T)| (name.trim().to_lowercase(), value);
    entries.into_iter().map(lower).collect()
}

/// Longest first, without duplicates.
fn steps(table: &mut Table) -> Vec<Step> {
    let default = || {
        ["7d", "1d"]
            .iter()
            .filter_map(|step| step.parse().ok())
            .collect()
    };
    let mut steps: Vec<Step> = table.list("steps", Field::parse).unwrap_or_else(default);
    if steps.is_empty() {
        let why = "needs at least one entry, such as steps = [\"7d\", \"1d\"]";
        table.refuse("steps", why);
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

fn time(field: &Field) -> Result<NaiveTime, String> {
    let text = field.text()?;
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
        let text = for_display(text);
        format!("`{text}` is not a time of day; write \"09:00\" or \"off\"")
    })
}
