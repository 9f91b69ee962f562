//! `[[source]]`. A new kind needs a function that parses its keys and an entry in `SOURCE_KINDS`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::ExposeSecret;
use url::Url;

use super::database;
use super::field::Field;
use super::table::Table;
use crate::domain::{Schedule, SourceTerms};
use crate::sources::{self, devtron, file, gcore, nocodb, rancher, sql};

#[derive(Debug, Clone)]
pub struct SourceConfig {
    pub terms: SourceTerms,
    /// Limit for one request.
    pub timeout: Duration,
    pub kind: sources::Kind,
}

/// Limit for one request by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Parses the keys of a kind; `None` if something is missing or invalid, which is reported.
pub(super) type ParseKind<T> = fn(&mut Table) -> Option<T>;

const SOURCE_KINDS: &[(&str, ParseKind<sources::Kind>)] = &[
    ("file", |table| {
        let path = table.required("path", "path = \"tokens.csv\"", Field::path)?;
        Some(sources::Kind::File(file::Config { path }))
    }),
    ("rancher", rancher),
    ("devtron", devtron),
    ("gcore", gcore),
    ("nocodb", nocodb),
    ("sql", sql),
];

fn sql(table: &mut Table) -> Option<sources::Kind> {
    let statement = |field: &Field| field.text().map(str::to_owned);
    let example = "url = \"sqlite:///path/to/app.db\"";
    let url = table.required("url", example, database::source_url);
    let example = "query = \"SELECT id AS external_id, expires_at FROM api_token\"";
    let query = table.required("query", example, statement);
    let people_query = table.optional("people_query", statement);
    let mark_expired = table.optional("mark_expired", statement);
    let revoke = table.optional("revoke", statement);
    Some(sources::Kind::Sql(sql::Config {
        url: url?,
        query: query?,
        people_query,
        mark_expired,
        revoke,
    }))
}

fn rancher(table: &mut Table) -> Option<sources::Kind> {
    let url = table.required("url", "url = \"https://rancher.example.org\"", |field| {
        field.http_url("https://rancher.example.org")
    });
    let example = "token = { file = \"rancher-token\" }";
    let token = table.required("token", example, |field| {
        let token = field.secret()?;
        let mut parts = token.expose_secret().split(':');
        let has_two = parts.next().is_some_and(|name| !name.trim().is_empty())
            && parts.next().is_some_and(|secret| !secret.trim().is_empty())
            && parts.next().is_none();
        let why = "must be the bearer token that Rancher shows once: access key, colon, secret key";
        has_two.then_some(token).ok_or_else(|| why.to_owned())
    });
    let ca_file = table.optional("ca_file", Field::path);
    let kinds = table.list("kinds", Field::parse);
    if kinds.as_ref().is_some_and(Vec::is_empty) {
        table.refuse(
            "kinds",
            "is empty, so nothing would be watched; leave it out to watch all kinds except sessions",
        );
    }
    let users = table.map("users", Field::parse);
    Some(sources::Kind::Rancher(rancher::Config {
        url: url?,
        token: token?,
        ca_file,
        kinds: kinds.unwrap_or_else(rancher::TokenKind::default_kinds),
        users,
    }))
}

fn devtron(table: &mut Table) -> Option<sources::Kind> {
    let url = table.required("url", "url = \"https://devtron.example.org\"", |field| {
        field.http_url("https://devtron.example.org")
    });
    let example = "token = { file = \"devtron-token\" }";
    let token = table.required("token", example, |field| {
        let token = field.secret()?;
        let parts: Vec<&str> = token.expose_secret().trim().split('.').collect();
        let is_jwt = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
        let why = "must be the whole API token that Devtron shows once: three parts with dots between them";
        is_jwt.then_some(token).ok_or_else(|| why.to_owned())
    });
    let database = table.optional("database", |field| {
        let url = database::source_url(field)?;
        let is_sqlite = url.expose_secret().starts_with("sqlite:");
        let why = "is a SQLite URL, but Devtron keeps its data in PostgreSQL";
        (!is_sqlite).then_some(url).ok_or_else(|| why.to_owned())
    });
    Some(sources::Kind::Devtron(devtron::Config {
        url: url?,
        token: token?,
        database,
    }))
}

fn gcore(table: &mut Table) -> Option<sources::Kind> {
    let url = table.optional("url", |field| field.http_url(gcore::PUBLIC_URL));
    let token = table.required("token", "token = { file = \"gcore-token\" }", |field| {
        let token = field.secret()?;
        let parts = token.expose_secret().trim().split_once(['_', '$']);
        let is_whole =
            parts.is_some_and(|(id, secret)| id.parse::<i64>().is_ok() && !secret.is_empty());
        // The number is needed to detect that a token no longer sees everything.
        let why = "must be the whole API token that Gcore shows once: number, `_` (`$` in old tokens), secret";
        is_whole.then_some(token).ok_or_else(|| why.to_owned())
    });
    let client_id = table.optional("client_id", numeric_id);
    let url = url.or_else(|| Url::parse(gcore::PUBLIC_URL).ok())?;
    Some(sources::Kind::Gcore(gcore::Config {
        url,
        token: token?,
        client_id,
    }))
}

/// A numeric id, with or without quotes.
fn numeric_id(field: &Field) -> Result<i64, String> {
    match field.text().ok().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(number),
        None => field.integer(1..=i64::MAX.unsigned_abs()),
    }
}

/// NocoDB is read by signing in, from its `database`, or both.
fn nocodb(table: &mut Table) -> Option<sources::Kind> {
    let signs_in = table.has("email") || table.has("password") || !table.has("database");
    let url = table.required("url", "url = \"https://nocodb.example.org\"", |field| {
        field.http_url("https://nocodb.example.org")
    });
    let email = |field: &Field| field.text().map(str::to_owned);
    let (email, password) = if signs_in {
        let example = "email = \"lapsed@example.org\"";
        let email = table.required("email", example, email);
        let example = "password = { file = \"nocodb-password\" }";
        (email, table.required("password", example, Field::secret))
    } else {
        let email = table.optional("email", email);
        (email, table.optional("password", Field::secret))
    };
    let database = table.optional("database", database::source_url);
    let login = match (email, password) {
        (Some(email), Some(password)) => Some(nocodb::Login { email, password }),
        _ if signs_in => return None,
        _ => None,
    };
    Some(sources::Kind::NocoDb(nocodb::Config {
        url: url?,
        login,
        database,
    }))
}

impl SourceConfig {
    /// `zone` applies to their schedules.
    pub(super) fn from_tables(tables: Vec<Table>, zone: Tz) -> Vec<Self> {
        let mut names = BTreeSet::from(["local".to_owned()]);
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let schedule = schedule(&mut table, zone);
            let timeout = timeout(&mut table);
            let allow_revoke = table.with_default("allow_revoke", false, Field::boolean);
            let policy_ttl =
                table.optional("policy_ttl", |field| field.duration(TimeDelta::days(1)));
            let owners = table.optional("owners", Field::path);
            let kind = kind(&mut table, SOURCE_KINDS);
            table.finish();
            let (name, kind) = (name?, kind?);
            Some(Self {
                terms: SourceTerms {
                    name,
                    kind: kind.as_str(),
                    schedule,
                    allow_revoke,
                    policy_ttl,
                    owners,
                },
                timeout,
                kind,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}

/// `None` means at every sweep.
pub(super) fn schedule(table: &mut Table, zone: Tz) -> Option<Schedule> {
    table.optional("schedule", |field| {
        Schedule::new(field.text()?, zone).map_err(|error| error.to_string())
    })
}

pub(super) fn timeout(table: &mut Table) -> Duration {
    table.with_default("timeout", DEFAULT_TIMEOUT, |field| {
        let timeout = field.duration(TimeDelta::seconds(1))?;
        timeout.to_std().map_err(|error| error.to_string())
    })
}

/// The name, which must not be in `taken`.
pub(super) fn name(table: &mut Table, taken: &mut BTreeSet<String>) -> Option<String> {
    let name = table.required("name", "name = \"exports\"", |field| {
        let name = field.text()?;
        let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_valid = name.starts_with(is_alphanumeric)
            && name.chars().all(|c| is_alphanumeric(c) || "_-".contains(c));
        if is_valid && name.len() <= 60 {
            Ok(name.to_owned())
        } else {
            Err("may contain only a-z, 0-9, _ and -, and must begin with a letter or digit".into())
        }
    })?;
    if !taken.insert(name.clone()) {
        let why = if name == "local" {
            "is the name of the built-in store"
        } else {
            "is already used"
        };
        table.refuse("name", &format!("{name:?} {why}; choose a different name"));
    }
    Some(name)
}

/// Parses the keys of the table's kind. If the kind is unknown, its keys are not checked.
pub(super) fn kind<T>(table: &mut Table, kinds: &[(&'static str, ParseKind<T>)]) -> Option<T> {
    let Some(parse) = table.required("kind", "kind = \"file\"", |field| field.choice(kinds)) else {
        table.ignore_remaining();
        return None;
    };
    parse(table)
}
