//! All sections except `[mail]`, `[smtp]`, `[[source]]` and `[[directory]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::{TZ_VARIANTS, Tz};
use lettre::message::Mailbox;
use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::database;
use super::error::{for_display, hint};
use super::field::{Field, MAX_DURATION, Parsed};
use super::mail::sender;
use super::reach::Reach;
use super::secret::is_unread;
use super::table::Table;
use crate::domain::{
    Account, Address, Backoff, IssuerMode, Issuers, Policy, RevocationPolicy, Rules, Schedule,
    Step, account_key,
};
use crate::engine::{Delivery, Retention};
use crate::language::is_tag;
use crate::nearest::nearest;
use crate::notify::message::MailIdentity;
use crate::notify::view::Installation;
use crate::sources::ProxyRules;
use crate::telemetry::Format;
use crate::text;

#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:///absolute/path`, percent-encoded, or a `postgres://` URL. May contain a password.
    pub url: SecretString,
    /// Whether to create a store that does not exist.
    pub create: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `None` turns the server off.
    pub listen: Option<SocketAddr>,
}

/// How monitoring systems learn that sweeps succeed.
#[derive(Debug, Clone)]
pub struct Monitoring {
    pub heartbeat: Option<Heartbeat>,
    /// Metrics are written to it after each sweep, for `node_exporter`.
    pub textfile: Option<PathBuf>,
}

/// A request by GET after each good sweep.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Often contains a key.
    pub url: SecretString,
    pub proxies: ProxyRules,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The level, or directives that `tracing_subscriber::EnvFilter` has accepted.
    pub level: String,
    pub format: Format,
}

const DEFAULT_URL: &str = "sqlite:///var/lib/lapsed/lapsed.db";
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];
const EVERY_MINUTE: &str = "* * * * *";
const SECOND: TimeDelta = TimeDelta::seconds(1);
const DAY: TimeDelta = TimeDelta::days(1);
const WEEK: TimeDelta = TimeDelta::days(7);
const YEAR: TimeDelta = TimeDelta::days(365);

impl Store {
    pub(super) fn from_table(mut table: Table) -> Self {
        Self {
            url: table.with_default("url", DEFAULT_URL.into(), database::store_url),
            create: table.boolean("create", true),
        }
    }

    /// The only other database is PostgreSQL.
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }
}

impl Heartbeat {
    /// The URL without its path, which is often a key.
    pub fn server(&self) -> String {
        let url = Url::parse(self.url.expose_secret());
        url.map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }
}

/// When to sweep, and the time zone of every schedule.
pub(super) fn schedule(mut table: Table) -> (Option<Schedule>, Tz, Monitoring) {
    let timezone = table.or_default("timezone", Tz::UTC, zone);
    let sweep = table.or_default(
        "sweep",
        Schedule::new(EVERY_MINUTE, timezone).ok(),
        |field| field.schedule(timezone).map(Some),
    );
    let monitoring = Monitoring {
        heartbeat: heartbeat(table.section("heartbeat")),
        textfile: table.optional("textfile", textfile),
    };
    (sweep, timezone, monitoring)
}

fn heartbeat(mut table: Table) -> Option<Heartbeat> {
    if !table.is_present() {
        return None;
    }
    let form = "https://hc-ping.com/0193a1b2";
    let url = table.required("url", form, |field| {
        let secret = field.secret()?;
        let url = Url::parse(secret.expose_secret());
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
        match url.ok().filter(is_http) {
            _ if is_unread(&secret) => Ok((secret, None)),
            Some(url) => Ok((secret, Some(url))),
            // The URL is often a key, so no message shows it.
            None => Err(format!("is not an HTTP URL; write for example {form}")),
        }
    });
    let mut reach = Reach::default();
    let destination = url.as_ref().and_then(|(_, url)| url.as_ref());
    reach.read_http(&mut table, destination);
    url.map(|(url, _)| Heartbeat {
        url,
        proxies: reach.proxies,
    })
}

/// `node_exporter` reads only files with this ending.
fn textfile(field: &Field) -> Parsed<PathBuf> {
    let path = field.path()?;
    if path.extension().is_none_or(|ending| ending != "prom") {
        return Err("must end with .prom: node_exporter reads no other files".to_owned());
    }
    Ok(path)
}

/// One mail a day.
const MIN_MAILS_PER_SECOND: f64 = 1.0 / 86_400.0;

/// The limits of `[smtp]` apply to the delivery as a whole. Also returns how long a stop waits for mails
/// that are being sent.
pub(super) fn delivery(mut table: Table, smtp: &mut Table) -> (Delivery, Duration) {
    let delivery = Delivery {
        lease: table.duration(
            "lease",
            TimeDelta::seconds(30),
            SECOND..=TimeDelta::hours(1),
        ),
        backoff: Backoff {
            min: table.duration("retry_min", TimeDelta::minutes(1), SECOND..=DAY),
            max: table.duration("retry_max", TimeDelta::hours(6), SECOND..=WEEK),
        },
        give_up: table.duration("give_up", TimeDelta::days(5), SECOND..=YEAR),
        connections: smtp.integer("connections", 4, 1..=256),
        messages_per_connection: smtp.integer("messages_per_connection", 100, 0..=1_000_000),
        mails_per_second: Some(smtp.number("mails_per_second", 0.0, 0.0..=100_000.0))
            .filter(|limit| *limit > 0.0),
    };
    if delivery
        .mails_per_second
        .is_some_and(|limit| limit < MIN_MAILS_PER_SECOND)
    {
        let why = "must be at least 0.0000116, one mail a day, or 0 for no limit";
        smtp.refuse("mails_per_second", why);
    }
    let stop_timeout = table.timeout("stop_timeout", Duration::from_secs(25));
    if delivery.backoff.min > delivery.backoff.max {
        table.refuse("retry_min", "must not be longer than retry_max");
    }
    if delivery.backoff.max > delivery.give_up {
        table.refuse("retry_max", "must not be longer than give_up");
    }
    (delivery, stop_timeout)
}

pub(super) fn retention(mut table: Table) -> Retention {
    Retention {
        gone_tokens: table.duration("gone_tokens", TimeDelta::days(400), DAY..=MAX_DURATION),
        notices: table.duration("notices", TimeDelta::days(400), DAY..=MAX_DURATION),
        runs: table.duration("runs", TimeDelta::days(90), DAY..=MAX_DURATION),
        findings: table.duration("findings", TimeDelta::days(400), DAY..=MAX_DURATION),
        audit: table.duration("audit", TimeDelta::days(1095), DAY..=MAX_DURATION),
    }
}

impl Http {
    pub(super) fn from_table(mut table: Table) -> Self {
        let default = SocketAddr::from(([127, 0, 0, 1], 8484));
        let listen = table.unless_off("listen", Some(default), |field| {
            let text = field.text()?;
            text.parse().map_err(|_| {
                let text = for_display(text);
                format!("\"{text}\" is not an address and a port; write \"127.0.0.1:8484\", \"[::]:8484\" or \"off\"")
            })
        });
        Self { listen }
    }
}

impl Log {
    pub(super) fn from_table(mut table: Table) -> Self {
        Self {
            level: table.with_default("level", "info".to_owned(), level),
            format: table.choice("format", &FORMATS, Format::Text),
        }
    }
}

/// The parts of `[notify]`, which other modules use.
pub(super) struct Notify {
    /// Without accounts and rules, which have their own sections.
    pub policy: Policy,
    pub summary: Option<Schedule>,
    /// `None` if something is missing, which is reported.
    pub mail_identity: Option<MailIdentity>,
}

pub(super) fn notify(mut table: Table, zone: Tz) -> Notify {
    let default = vec![Step::from_seconds(7 * 86_400), Step::from_seconds(86_400)];
    let steps = steps(&mut table).unwrap_or_else(|| default.clone());
    if steps == default {
        table.uncount("steps");
    }
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
        source_steps: BTreeMap::new(),
        admins,
        admin_digest,
        zone,
        merge_ahead: table.duration("merge_ahead", TimeDelta::hours(1), TimeDelta::zero()..=WEEK),
        max_per_sweep: table.integer("max_per_sweep", 1000, 0..=1_000_000_000),
        accounts: BTreeMap::new(),
        rules: Rules::default(),
        personal: crate::domain::PersonalTimes::default(),
    };
    let installation = Installation {
        base_url: table.optional("base_url", page_template),
        contact: table.optional("contact", line),
        language: Some(table.or_default("language", "en".to_owned(), language)),
        sources: BTreeMap::new(),
    };
    let reply_to = table.optional("reply_to", mailbox);
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

pub(super) fn accounts(tables: Vec<Table>) -> BTreeMap<String, Account> {
    let mut accounts = BTreeMap::new();
    for mut table in tables {
        let name = table.required("name", "acme", Field::string);
        let admins = deduplicate(table.list("admins", Field::parse));
        let steps = steps(&mut table);
        let Some(name) = name else { continue };
        let key = account_key(&name);
        if accounts.contains_key(&key) {
            let name = for_display(&name);
            let why = format!("there is another account `{name}`; give its keys in one place");
            table.refuse("name", why);
        }
        let account = Account {
            name,
            admins,
            steps,
        };
        accounts.insert(key, account);
    }
    accounts
}

/// Rules for tokens, and how tokens are revoked when their issuers lose access.
/// `max_revocations_per_day` is at least one: with zero, lapsed would announce revocations that never happen.
pub(super) fn rules(mut table: Table) -> (Rules, Option<RevocationPolicy>) {
    let duration = |field: &Field| field.duration(&(TimeDelta::minutes(1)..=MAX_DURATION));
    let rules = Rules {
        max_ttl: table.unless_off("max_ttl", None, duration),
        unused_after: table.unless_off("unused_after", None, duration),
        new_place: table.boolean("new_place", false),
    };
    let may_revoke = table.choice("sso_revoked", &[("flag", false), ("revoke", true)], false);
    let response = RevocationPolicy {
        revoke_after: table.duration(
            "revoke_after",
            TimeDelta::days(3),
            TimeDelta::hours(1)..=YEAR,
        ),
        max_per_day: table.or_default("max_revocations_per_day", 10, |field| {
            field.integer(&(1..=10_000)).map_err(|error| {
                format!("{error}; to revoke none, set policy.sso_revoked = \"flag\"")
            })
        }),
    };
    (rules, may_revoke.then_some(response))
}

/// Which issuers the directories cover, and under which address.
pub(super) fn issuers(mut table: Table) -> Issuers {
    let modes = table.map("modes", Field::parse::<IssuerMode>);
    let addresses = table.map("addresses", Field::parse::<Address>);
    let refuse = |key, name: &str, forms| {
        table.refuse(key, format!("{name:?} is not an address; write {forms}"));
    };
    let is_key = |name: &str| name.parse::<Address>().is_ok();
    for name in modes.keys().filter(|name| !is_key(name)) {
        refuse("modes", name, "name@example.org or *@example.org");
    }
    for name in addresses.keys().filter(|name| !is_key(name)) {
        refuse("addresses", name, "name@example.org");
    }
    Issuers {
        modes: by_address(modes),
        addresses: by_address(addresses),
    }
}

/// With the keys of addresses; `*@example.org` is one in form.
fn by_address<T, M: FromIterator<(String, T)>>(entries: BTreeMap<String, T>) -> M {
    entries
        .into_iter()
        .filter_map(|(name, value)| Some((name.parse::<Address>().ok()?.key().to_owned(), value)))
        .collect()
}

/// The steps, longest first, without duplicates; `None` if they are not given.
pub(super) fn steps(table: &mut Table) -> Option<Vec<Step>> {
    let mut steps = table.list("steps", |field| {
        let step: Step = field.parse()?;
        field.count_as(step);
        Ok(step)
    })?;
    if steps.is_empty() {
        let why = "needs at least one entry, such as steps = [\"7d\", \"1d\"]";
        table.refuse("steps", why);
    }
    steps.sort_unstable_by(|one, two| two.cmp(one));
    steps.dedup();
    if steps.len() > Step::MAX_COUNT {
        let most = Step::MAX_COUNT;
        table.refuse("steps", format!("has at most {most} entries"));
    }
    Some(steps)
}

/// Keeps the first of equal addresses.
fn deduplicate(addresses: Option<Vec<Address>>) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    let mut addresses = addresses.unwrap_or_default();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

pub(super) fn zone(field: &Field) -> Parsed<Tz> {
    let text = field.text()?;
    text.parse().map_err(|_| {
        let near = match nearest(text, TZ_VARIANTS.iter().map(|zone| zone.name())) {
            Some(zone) => format!("did you mean `{zone}`? "),
            None => String::new(),
        };
        let text = for_display(text);
        format!("unknown time zone `{text}`; {near}(write a name such as UTC or Europe/Berlin)")
    })
}

/// `EnvFilter` accepts any single word as a module name and then logs nothing else, so a typo such as
/// `inof` must be caught here.
fn level(field: &Field) -> Parsed<String> {
    let text = field.text()?;
    let mut levels = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.contains(['=', '[']));
    if let Some(unknown) = levels.find(|part| part.parse::<LevelFilter>().is_err()) {
        let suggestion = hint(unknown, LEVELS);
        let unknown = for_display(unknown);
        return Err(format!(
            "unknown level `{unknown}`; {suggestion}; a module can have its own level: \"info,lapsed::engine=debug\""
        ));
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; write a level, or \"info,lapsed::engine=debug\""
        )),
    }
}

/// The address of a page; `{source}` and `{id}` stand for those of a token.
fn page_template(field: &Field<'_>) -> Parsed<String> {
    field.http_url("https://wiki.example.org/tokens/{source}")?;
    let text = field.text()?.trim_end_matches('/');
    let rest = text.replace("{source}", "").replace("{id}", "");
    if rest.contains(['{', '}']) {
        return Err("has a placeholder other than {source} and {id}".to_owned());
    }
    Ok(text.to_owned())
}

/// One line of text for mails.
pub(super) fn line(field: &Field<'_>) -> Parsed<String> {
    let text = field.text()?;
    match text::one_line(text, text::MAX_TEXT) {
        line if line.is_empty() => Err("is empty; leave the key out".to_owned()),
        line => Ok(line),
    }
}

/// Whether there is such a language is known when the phrases are read.
fn language(field: &Field<'_>) -> Parsed<String> {
    let tag = field.text()?;
    if is_tag(tag) {
        Ok(tag.to_owned())
    } else {
        Err("is not the tag of a language; write for example de or pt-BR".to_owned())
    }
}

fn mailbox(field: &Field) -> Parsed<Mailbox> {
    let text = field.text()?;
    let form = "write it as name@example.org or \"Name <name@example.org>\"";
    if text.chars().any(char::is_control) {
        return Err(format!("contains a control character; {form}"));
    }
    let mut mailbox: Mailbox = text
        .parse()
        .map_err(|_| format!("is not a mail address; {form}"))?;
    // Our own parser is stricter and applies to every address that lapsed sends to a server.
    let address: Result<Address, _> = mailbox.email.to_string().parse();
    mailbox.email = sender(&address.map_err(|error| error.to_string())?)?;
    Ok(mailbox)
}

fn time(field: &Field) -> Parsed<NaiveTime> {
    let text = field.text()?;
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
        let text = for_display(text);
        format!("`{text}` is not a time of day; write \"09:00\" or \"off\"")
    })
}
