//! `[[source]]`. A new kind needs a function that parses its keys and an entry in `SOURCE_KINDS`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use url::Url;

use super::database;
use super::field::{Field, MAX_DURATION, Parsed};
use super::reach::Reach;
use super::reading::{cell_rules, read_options};
use super::sections;
use super::table::Table;
use crate::domain::{LOCAL_SOURCE, Name, SourceTerms, Step};
use crate::notify::view::SourceInfo;
use crate::sources::{Kind, ProxyRules, devtron, file, gcore, nocodb, rancher, sql};

#[derive(Debug, Clone)]
pub struct SourceConfig {
    pub terms: SourceTerms,
    pub timeout: Duration,
    pub kind: Kind,
    pub info: SourceInfo,
    /// Steps that replace those of `[notify]`.
    pub steps: Option<Vec<Step>>,
    pub proxies: ProxyRules,
    /// The URL of the proxy that is used, without credentials.
    pub proxy: Option<String>,
}

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Parses the keys of a kind; `None` if something is missing or invalid, which is reported.
pub(super) type ParseKind<T> = fn(&mut Table, &mut Reach) -> Option<T>;

const SOURCE_KINDS: &[(&str, ParseKind<Kind>)] = &[
    ("file", |table, _| {
        let path = table.required("path", "tokens.csv", Field::path);
        let options = read_options(table);
        Some(Kind::File(file::Config {
            path: path?,
            options,
        }))
    }),
    ("rancher", rancher),
    ("devtron", devtron),
    ("gcore", gcore),
    ("nocodb", nocodb),
    ("sql", |table, _| sql(table)),
];

fn sql(table: &mut Table) -> Option<Kind> {
    let url = table.required("url", "sqlite:///path/to/app.db", database::source_url);
    let example = "SELECT id AS external_id, expires_at FROM api_token";
    let query = table.required("query", example, Field::string);
    let people_query = table.text("people_query");
    let mark_expired = table.text("mark_expired");
    let revoke = table.text("revoke");
    let rules = cell_rules(table);
    Some(Kind::Sql(sql::Config {
        url: url?,
        query: query?,
        people_query,
        mark_expired,
        revoke,
        rules,
    }))
}

fn rancher(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let url = table.required_url("url", "https://rancher.example.org");
    reach.read_http(table, url.as_ref());
    let token = table.required_secret("token", "rancher-token");
    let has_two_parts = |token: &str| {
        let parts = token.split_once(':');
        let is_part = |part: &str| !part.trim().is_empty() && !part.contains(':');
        parts.is_some_and(|(name, secret)| is_part(name) && is_part(secret))
    };
    let why = "must be the bearer token that Rancher shows once: access key, colon, secret key";
    let token = table.check_secret("token", token, has_two_parts, why);
    let ca_file = table.path("ca_file");
    let kinds = table.list("kinds", Field::parse);
    if kinds.as_ref().is_some_and(Vec::is_empty) {
        let why = "is empty, so nothing would be watched; leave it out to watch all kinds except sessions";
        table.refuse("kinds", why);
    }
    let users = table.map("users", Field::parse);
    Some(Kind::Rancher(rancher::Config {
        url: url?,
        token: token?,
        ca_file,
        kinds: kinds.unwrap_or_else(rancher::TokenKind::default_kinds),
        users,
    }))
}

fn devtron(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let url = table.required_url("url", "https://devtron.example.org");
    reach.read_http(table, url.as_ref());
    let token = table.required_secret("token", "devtron-token");
    let is_jwt = |token: &str| {
        let parts: Vec<&str> = token.trim().split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| !part.is_empty())
    };
    let why =
        "must be the whole API token that Devtron shows once: three parts with dots between them";
    let token = table.check_secret("token", token, is_jwt, why);
    let database = table.optional("database", database::source_url);
    let is_postgres = |url: &str| !url.starts_with("sqlite:");
    let why = "is a SQLite URL, but Devtron keeps its data in PostgreSQL";
    let database = table.check_secret("database", database, is_postgres, why);
    Some(Kind::Devtron(devtron::Config {
        url: url?,
        token: token?,
        database,
    }))
}

fn gcore(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let url = table.optional("url", |field| field.http_url(gcore::PUBLIC_URL));
    let url = url.or_else(|| Url::parse(gcore::PUBLIC_URL).ok());
    reach.read_http(table, url.as_ref());
    let token = table.required_secret("token", "gcore-token");
    // The number is needed to detect that a token no longer sees everything.
    let is_whole = |token: &str| {
        let parts = token.trim().split_once(['_', '$']);
        parts.is_some_and(|(id, secret)| id.parse::<i64>().is_ok() && !secret.is_empty())
    };
    let why = "must be the whole API token that Gcore shows once: number, `_` (`$` in old tokens), secret";
    let token = table.check_secret("token", token, is_whole, why);
    let client_id = table.optional("client_id", numeric_id);
    Some(Kind::Gcore(gcore::Config {
        url: url?,
        token: token?,
        client_id,
    }))
}

/// A numeric id, with or without quotes.
fn numeric_id(field: &Field) -> Parsed<i64> {
    match field.text().ok().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(number),
        None => field.integer(&(1..=i64::MAX.unsigned_abs())),
    }
}

/// NocoDB is read by signing in, from its `database`, or both.
fn nocodb(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let signs_in = table.has("email") || table.has("password") || !table.has("database");
    let url = table.required_url("url", "https://nocodb.example.org");
    reach.read_http(table, url.as_ref().filter(|_| signs_in));
    let (email, password) = if signs_in {
        let email = table.required("email", "lapsed@example.org", Field::string);
        (email, table.required_secret("password", "nocodb-password"))
    } else {
        (table.text("email"), table.secret("password"))
    };
    let database = table.optional("database", database::source_url);
    let login = match (email, password) {
        (Some(email), Some(password)) => Some(nocodb::Login { email, password }),
        _ if signs_in => return None,
        _ => None,
    };
    Some(Kind::NocoDb(nocodb::Config {
        url: url?,
        login,
        database,
    }))
}

impl SourceConfig {
    pub(super) fn mail_info(&self) -> (String, SourceInfo) {
        (self.terms.name.clone(), self.info.clone())
    }

    pub(super) fn named_steps(&self) -> Option<(String, Vec<Step>)> {
        Some((self.terms.name.clone(), self.steps.clone()?))
    }

    pub(super) fn from_tables(tables: Vec<Table>, zone: Tz) -> Vec<Self> {
        let mut names = BTreeSet::from([LOCAL_SOURCE.to_owned()]);
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let schedule = table.optional("schedule", |field| field.schedule(zone));
            let timeout = table.timeout("timeout", TIMEOUT);
            let help_url = |field: &Field<'_>| field.http_url("https://wiki.example.org/tokens");
            let info = SourceInfo {
                title: table.optional("title", sections::line),
                help_url: table.optional("help_url", help_url).map(String::from),
            };
            let terms = SourceTerms {
                schedule,
                allow_revoke: table.boolean("allow_revoke", false),
                policy_ttl: table.optional("policy_ttl", |field| {
                    field.duration(&(TimeDelta::days(1)..=MAX_DURATION))
                }),
                owners: table.path("owners"),
                ..SourceTerms::default()
            };
            let steps = sections::steps(&mut table);
            // The dates of the other kinds have a zone.
            let timezone = table.optional("timezone", sections::zone);
            let mut reach = Reach::default();
            let mut kind = kind(&mut table, &mut reach, SOURCE_KINDS)?;
            match &mut kind {
                Kind::File(file) => file.options.cells.dates.timezone = timezone,
                Kind::Sql(sql) => sql.rules.dates.timezone = timezone,
                _ => {}
            }
            Some(Self {
                terms: SourceTerms {
                    name: name?,
                    kind: kind.as_str(),
                    ..terms
                },
                timeout,
                kind,
                info,
                steps,
                proxies: reach.proxies,
                proxy: reach.proxy,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}

/// The name, which must not be in `taken`.
pub(super) fn name(table: &mut Table, taken: &mut BTreeSet<String>) -> Option<String> {
    let name = table.required("name", "exports", |field| {
        field.parse::<Name>().map(String::from)
    })?;
    if !taken.insert(name.clone()) {
        let why = match name.as_str() {
            LOCAL_SOURCE => "is the name of the built-in store",
            _ => "is already used",
        };
        table.refuse("name", format!("{name:?} {why}; choose a different name"));
    }
    Some(name)
}

/// Parses the keys of the table's kind. If the kind is unknown, its keys are not checked.
pub(super) fn kind<T>(
    table: &mut Table,
    reach: &mut Reach,
    kinds: &[(&'static str, ParseKind<T>)],
) -> Option<T> {
    let Some(parse) = table.required("kind", "file", |field| field.choice(kinds)) else {
        table.ignore_remaining();
        return None;
    };
    parse(table, reach)
}
