//! `[[source]]`: where tokens live.
//!
//! A new kind is one struct with a `read`, one variant, and one word in `KINDS`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::ExposeSecret;
use url::Url;

use super::{database, field::Field, table::Table};
use crate::domain::Schedule;
use crate::sources::{self, devtron, file, gcore, nocodb, rancher, sql};

/// A place where tokens live.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name: `[a-z0-9][a-z0-9_-]*`, not `local`. Unique.
    pub name: String,
    /// When it is listed; `None` is at every sweep.
    pub schedule: Option<Schedule>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether lapsed may end its tokens.
    pub allow_revoke: bool,
    /// The life that its tokens without an end are given.
    pub policy_ttl: Option<TimeDelta>,
    /// A file that says whose its tokens are.
    pub owners: Option<PathBuf>,
    /// What it is.
    pub kind: sources::Kind,
}

/// How long one request may take unless it is said otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How the table of a kind is read; `None` when something is missing, and noted.
pub(super) type ReadKind<T> = fn(&mut Table) -> Option<T>;

const SOURCE_KINDS: &[(&str, ReadKind<sources::Kind>)] = &[
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
    let url = table.required("url", example, database::theirs);
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
    let url = table.required("url", "url = \"https://rancher.example.org\"", Field::site);
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
    let kinds = table.list("kinds", Field::parsed);
    if kinds.as_ref().is_some_and(Vec::is_empty) {
        table.refuse(
            "kinds",
            "names none, so nothing would be watched; leave it out to watch all but sessions",
        );
    }
    let users = table.map("users", Field::parsed);
    Some(sources::Kind::Rancher(rancher::Config {
        url: url?,
        token: token?,
        ca_file,
        kinds: kinds.unwrap_or_else(rancher::TokenKind::watched),
        users,
    }))
}

fn devtron(table: &mut Table) -> Option<sources::Kind> {
    let url = table.required("url", "url = \"https://devtron.example.org\"", Field::site);
    let example = "token = { file = \"devtron-token\" }";
    let token = table.required("token", example, |field| {
        let token = field.secret()?;
        let parts: Vec<&str> = token.expose_secret().trim().split('.').collect();
        let is_jwt = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
        let why = "must be the whole API token that Devtron shows once: three parts with dots between them";
        is_jwt.then_some(token).ok_or_else(|| why.to_owned())
    });
    let database = table.optional("database", |field| {
        let url = database::theirs(field)?;
        let is_sqlite = url.expose_secret().starts_with("sqlite:");
        let why = "is SQLite; Devtron keeps its data in PostgreSQL";
        (!is_sqlite).then_some(url).ok_or_else(|| why.to_owned())
    });
    Some(sources::Kind::Devtron(devtron::Config {
        url: url?,
        token: token?,
        database,
    }))
}

fn gcore(table: &mut Table) -> Option<sources::Kind> {
    let url = table.optional("url", Field::site);
    let token = table.required("token", "token = { file = \"gcore-token\" }", |field| {
        let token = field.secret()?;
        let parts = token.expose_secret().trim().split_once(['_', '$']);
        let is_whole =
            parts.is_some_and(|(id, secret)| id.parse::<i64>().is_ok() && !secret.is_empty());
        // Without its number nobody could tell that a token no longer sees all.
        let why = "must be the whole API token that Gcore shows once: number, `_` (`$` in old ones), secret";
        is_whole.then_some(token).ok_or_else(|| why.to_owned())
    });
    let client_id = table.optional("client_id", number);
    let url = url.or_else(|| Url::parse(gcore::PUBLIC_URL).ok())?;
    Some(sources::Kind::Gcore(gcore::Config {
        url,
        token: token?,
        client_id,
    }))
}

/// A number by which another system names something; in quotes or without.
fn number(field: &Field) -> Result<i64, String> {
    match field.text().ok().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(number),
        None => field.whole(1..=i64::MAX.unsigned_abs()),
    }
}

/// It is read by who signs in, by its `database`, or by both.
fn nocodb(table: &mut Table) -> Option<sources::Kind> {
    let signs_in = table.has("email") || table.has("password") || !table.has("database");
    let url = table.required("url", "url = \"https://nocodb.example.org\"", Field::site);
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
    let database = table.optional("database", database::theirs);
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
    /// All sources; their schedules are read in this zone.
    pub(super) fn read_all(tables: Vec<Table>, zone: Tz) -> Vec<Self> {
        let mut names = BTreeSet::from(["local".to_owned()]);
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let schedule = schedule(&mut table, zone);
            let timeout = timeout(&mut table);
            let allow_revoke = table.or("allow_revoke", false, Field::flag);
            let policy_ttl = table.optional("policy_ttl", |field| field.span(TimeDelta::days(1)));
            let owners = table.optional("owners", Field::path);
            let kind = kind(&mut table, SOURCE_KINDS);
            table.finish();
            Some(Self {
                name: name?,
                schedule,
                timeout,
                allow_revoke,
                policy_ttl,
                owners,
                kind: kind?,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}

/// When it is asked; `None` is at every sweep.
pub(super) fn schedule(table: &mut Table, zone: Tz) -> Option<Schedule> {
    table.optional("schedule", |field| {
        Schedule::new(field.text()?, zone).map_err(|error| error.to_string())
    })
}

/// How long one request may take.
pub(super) fn timeout(table: &mut Table) -> Duration {
    table.or("timeout", TIMEOUT, |field| {
        let span = field.span(TimeDelta::seconds(1))?;
        span.to_std().map_err(|error| error.to_string())
    })
}

/// What it is called, which no other may be.
pub(super) fn name(table: &mut Table, taken: &mut BTreeSet<String>) -> Option<String> {
    let name = table.required("name", "name = \"exports\"", |field| {
        let name = field.text()?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = name.starts_with(plain) && name.chars().all(|c| plain(c) || "_-".contains(c));
        if fits && name.len() <= 60 {
            Ok(name.to_owned())
        } else {
            Err("must be made of a-z, 0-9, _ and -, and begin with a letter or digit".into())
        }
    })?;
    if !taken.insert(name.clone()) {
        let why = if name == "local" {
            "is the name of the built-in store"
        } else {
            "is taken by another"
        };
        table.refuse("name", &format!("{name:?} {why}; choose a different name"));
    }
    Some(name)
}

/// What the table's kind makes of it. The keys of an unknown kind are unknown, too, and left alone.
pub(super) fn kind<T>(table: &mut Table, kinds: &[(&'static str, ReadKind<T>)]) -> Option<T> {
    let Some(read) = table.required("kind", "kind = \"file\"", |field| field.word(kinds)) else {
        table.forget_rest();
        return None;
    };
    read(table)
}
