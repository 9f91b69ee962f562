//! `[[directory]]`: who knows the people.
//!
//! A new kind is one function that reads its keys, one variant, and one word in `KINDS`.

mod ldap;

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::ExposeSecret;

use super::sources::{ReadKind, kind, name, schedule, timeout};
use super::{field::Field, table::Table};
use crate::directories::{Kind, entra, file, keycloak, okta, scim};
use crate::domain::{Address, Schedule};

/// A place that knows whether a person still has access.
#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    /// Its name: `[a-z0-9][a-z0-9_-]*`. Unique.
    pub name: String,
    /// When it is asked; `None` is at every sweep.
    pub schedule: Option<Schedule>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Names or ids of groups, of which people must be in one; empty is no such condition.
    pub allowed_groups: Vec<String>,
    /// People who are known to have access: a pull that says otherwise is not believed.
    pub canaries: Vec<Address>,
    /// For so long somebody must be missing before a deletion is believed.
    pub absence_grace: TimeDelta,
    /// For so long its word holds when it cannot be read.
    pub fresh_for: TimeDelta,
    /// Which part of the people known active may lose access in one sync, from 0 to 1.
    pub breaker_share: f64,
    /// So many may in any case.
    pub breaker_min: u32,
    /// What it is.
    pub kind: Kind,
}

const KINDS: &[(&str, ReadKind<Kind>)] = &[
    ("file", |table| {
        let path = table.required("path", "path = \"people.csv\"", Field::path)?;
        Some(Kind::File(file::Config { path }))
    }),
    ("ldap", ldap::read),
    ("scim", scim),
    ("okta", okta),
    ("keycloak", keycloak),
    ("entra", entra),
];

fn scim(table: &mut Table) -> Option<Kind> {
    let example = "url = \"https://idp.example.org/scim/v2\"";
    let url = table.required("url", example, |field| {
        let url = field.site()?;
        let is_list = ["/Users", "/Groups"]
            .iter()
            .any(|list| url.path().trim_end_matches('/').ends_with(list));
        let why = "must end before /Users: write for example https://idp.example.org/scim/v2";
        (!is_list).then_some(url).ok_or_else(|| why.to_owned())
    });
    let token = table.required("token", "token = { file = \"scim-token\" }", |field| {
        let token = field.secret()?;
        let is_token = !token.expose_secret().trim().is_empty();
        is_token
            .then_some(token)
            .ok_or_else(|| "is empty".to_owned())
    });
    let ca_file = table.optional("ca_file", Field::path);
    Some(Kind::Scim(scim::Config {
        url: url?,
        token: token?,
        ca_file,
    }))
}

fn okta(table: &mut Table) -> Option<Kind> {
    let text = |field: &Field| field.text().map(str::to_owned);
    let url = table.required("url", "url = \"https://acme.okta.com\"", |field| {
        let url = field.site()?;
        let host = url.host_str().unwrap_or_default();
        let is_console = host
            .split('.')
            .next()
            .is_some_and(|name| name.ends_with("-admin"));
        let why = "is the admin console, which has no API; write it without -admin";
        (!is_console).then_some(url).ok_or_else(|| why.to_owned())
    });
    let client_id = table.required("client_id", "client_id = \"0oa1a2b3c4D5e6F7g8h9\"", text);
    let example = "private_key = { file = \"okta-key.pem\" }";
    let private_key = table.required("private_key", example, Field::secret);
    let key_id = table.optional("key_id", text);
    Some(Kind::Okta(okta::Config {
        url: url?,
        client_id: client_id?,
        private_key: private_key?,
        key_id,
    }))
}

fn keycloak(table: &mut Table) -> Option<Kind> {
    let text = |field: &Field| field.text().map(str::to_owned);
    let url = table.required("url", "url = \"https://sso.example.org\"", |field| {
        let url = field.site()?;
        let mut parts = url.path().split('/');
        // What the console and the tokens show goes on behind the server's base.
        let is_base = !parts.any(|part| matches!(part, "realms" | "admin"));
        let why = "must end before /realms and /admin; write for example https://sso.example.org, or \
                   https://sso.example.org/auth where the server has that";
        is_base.then_some(url).ok_or_else(|| why.to_owned())
    });
    let realm = table.required("realm", "realm = \"example\"", |field| {
        let realm = field.text()?;
        let is_name = !realm.contains('/') && !matches!(realm, "." | "..");
        let why = "must be the name of the realm alone, as in the address of its console";
        is_name
            .then(|| realm.to_owned())
            .ok_or_else(|| why.to_owned())
    });
    let client_id = table.required("client_id", "client_id = \"lapsed\"", text);
    let example = "client_secret = { file = \"keycloak-secret\" }";
    let client_secret = table.required("client_secret", example, Field::secret);
    let ca_file = table.optional("ca_file", Field::path);
    Some(Kind::Keycloak(keycloak::Config {
        url: url?,
        realm: realm?,
        client_id: client_id?,
        client_secret: client_secret?,
        ca_file,
    }))
}

fn entra(table: &mut Table) -> Option<Kind> {
    let tenant = table.required("tenant", "tenant = \"example.org\"", tenant);
    let example = "client_id = \"00000000-0000-0000-0000-000000000000\"";
    let client_id = table.required("client_id", example, |field| {
        field.text().map(str::to_owned)
    });
    let credential = entra_credential(table);
    let cloud = table.or("cloud", entra::Cloud::default(), |field| {
        field.word(&entra::Cloud::WORDS)
    });
    let url = table.optional("url", Field::site);
    Some(Kind::Entra(entra::Config {
        tenant: tenant?,
        client_id: client_id?,
        credential: credential?,
        cloud,
        url,
    }))
}

/// One of the two by which a program signs in.
fn entra_credential(table: &mut Table) -> Option<entra::Credential> {
    let has_certificate = table.has("certificate");
    if has_certificate && table.has("client_secret") {
        let why =
            "stands beside client_secret; a program signs in by one of them, leave out the other";
        table.refuse("certificate", why);
    }
    let certificate = table.optional("certificate", |field| {
        // A key must not be shown as the path of a file that is not there.
        if field.text()?.contains("-----BEGIN") {
            let why = "holds a key itself; write that to a file which only lapsed may read, and name the file";
            return Err(why.to_owned());
        }
        field.path()
    });
    if has_certificate {
        table.optional("client_secret", Field::secret);
        return certificate.map(entra::Credential::Certificate);
    }
    let example = "client_secret = { file = \"entra-secret\" }";
    let secret = table.required("client_secret", example, Field::secret);
    secret.map(entra::Credential::Secret)
}

/// The id of a tenant, or one of its domains.
fn tenant(field: &Field) -> Result<String, String> {
    let text = field.text()?;
    if ["common", "organizations", "consumers"].contains(&text) {
        return Err(format!(
            "{text:?} is no tenant; write the Directory (tenant) ID"
        ));
    }
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let why = "must be the Directory (tenant) ID, or a domain of the tenant such as example.org";
    (is_plain && !text.starts_with('.'))
        .then(|| text.to_owned())
        .ok_or_else(|| why.to_owned())
}

impl DirectoryConfig {
    /// All directories; their schedules are read in this zone.
    pub(super) fn read_all(tables: Vec<Table>, zone: Tz) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let schedule = schedule(&mut table, zone);
            let timeout = timeout(&mut table);
            let text = |field: &Field| field.text().map(str::to_owned);
            let allowed_groups = table.list("allowed_groups", text);
            let canaries = table.list("canaries", Field::parsed);
            let span = |least| move |field: &Field| field.span(least);
            let grace = TimeDelta::minutes(30);
            let absence_grace = table.or("absence_grace", grace, span(TimeDelta::zero()));
            let day = TimeDelta::days(1);
            let fresh_for = table.or("fresh_for", day, span(TimeDelta::minutes(1)));
            let breaker_share = table.or("breaker_share", 0.1, |field| field.number(0.0..=1.0));
            let breaker_min = table.or("breaker_min", 3, |field| {
                field.whole(0..=u64::from(u32::MAX))
            });
            let kind = kind(&mut table, KINDS);
            table.finish();
            Some(Self {
                name: name?,
                schedule,
                timeout,
                allowed_groups: allowed_groups.unwrap_or_default(),
                canaries: canaries.unwrap_or_default(),
                absence_grace,
                fresh_for,
                breaker_share,
                breaker_min,
                kind: kind?,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}
