//! `[[directory]]`. A new kind needs a function that parses its keys and an entry in `KINDS`.

mod ldap;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::ExposeSecret;

use super::field::Field;
use super::sources::{ParseKind, kind, name, schedule, timeout};
use super::table::Table;
use crate::directories::{Kind, entra, file, keycloak, okta, scim};
use crate::domain::DirectoryTerms;

#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    pub terms: DirectoryTerms,
    /// Limit for one request.
    pub timeout: Duration,
    pub kind: Kind,
}

const KINDS: &[(&str, ParseKind<Kind>)] = &[
    ("file", |table| {
        let path = table.required("path", "path = \"people.csv\"", Field::path)?;
        Some(Kind::File(file::Config { path }))
    }),
    ("ldap", ldap::parse),
    ("scim", scim),
    ("okta", okta),
    ("keycloak", keycloak),
    ("entra", entra),
];

fn scim(table: &mut Table) -> Option<Kind> {
    let example = "url = \"https://idp.example.org/scim/v2\"";
    let url = table.required("url", example, |field| {
        let url = field.http_url("https://idp.example.org/scim/v2")?;
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
        let url = field.http_url("https://acme.okta.com")?;
        let host = url.host_str().unwrap_or_default();
        let is_console = host
            .split('.')
            .next()
            .is_some_and(|name| name.ends_with("-admin"));
        let why = "is the admin console, which has no API; remove -admin";
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
        let url = field.http_url("https://sso.example.org")?;
        let mut parts = url.path().split('/');
        // The console and tokens show URLs that continue after the server's base URL.
        let is_base = !parts.any(|part| matches!(part, "realms" | "admin"));
        let why = "must end before /realms and /admin; write for example https://sso.example.org, or \
                   https://sso.example.org/auth if the server uses /auth";
        is_base.then_some(url).ok_or_else(|| why.to_owned())
    });
    let realm = table.required("realm", "realm = \"example\"", |field| {
        let realm = field.text()?;
        let is_name = !realm.contains('/') && !matches!(realm, "." | "..");
        let why = "must be only the name of the realm, as in the URL of its console";
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
    let cloud = table.with_default("cloud", entra::Cloud::default(), |field| {
        field.choice(&entra::Cloud::NAMES)
    });
    let url = table.optional("url", |field| field.http_url("https://graph.microsoft.com"));
    Some(Kind::Entra(entra::Config {
        tenant: tenant?,
        client_id: client_id?,
        credential: credential?,
        cloud,
        url,
    }))
}

fn entra_credential(table: &mut Table) -> Option<entra::Credential> {
    let has_certificate = table.has("certificate");
    if has_certificate && table.has("client_secret") {
        let why = "cannot be combined with client_secret; remove one of them";
        table.refuse("certificate", why);
    }
    let certificate = table.optional("certificate", |field| {
        // Otherwise the key would be shown as the path of a missing file.
        if field.text()?.contains("-----BEGIN") {
            let why = "contains the key itself; write it to a file that only lapsed can read, and give the path";
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

/// The id of a tenant or one of its domains.
fn tenant(field: &Field) -> Result<String, String> {
    let text = field.text()?;
    if ["common", "organizations", "consumers"].contains(&text) {
        return Err(format!(
            "{text:?} is not a tenant; write the Directory (tenant) ID"
        ));
    }
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let why = "must be the Directory (tenant) ID or a domain of the tenant such as example.org";
    (is_plain && !text.starts_with('.'))
        .then(|| text.to_owned())
        .ok_or_else(|| why.to_owned())
}

impl DirectoryConfig {
    /// `zone` applies to their schedules.
    pub(super) fn from_tables(tables: Vec<Table>, zone: Tz) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let schedule = schedule(&mut table, zone);
            let timeout = timeout(&mut table);
            let text = |field: &Field| field.text().map(str::to_owned);
            let allowed_groups = table.list("allowed_groups", text);
            let canaries = table.list("canaries", Field::parse);
            let default = DirectoryTerms::default();
            let absence_grace =
                table.with_default("absence_grace", default.absence_grace, |field| {
                    field.duration(TimeDelta::zero())
                });
            let fresh_for = table.with_default("fresh_for", default.fresh_for, |field| {
                field.duration(TimeDelta::minutes(1))
            });
            let breaker_share =
                table.with_default("breaker_share", default.breaker_share, |field| {
                    field.number(0.0..=1.0)
                });
            let breaker_min = table.with_default("breaker_min", default.breaker_min, |field| {
                field.integer(0..=u64::from(u32::MAX))
            });
            let kind = kind(&mut table, KINDS);
            table.finish();
            let (name, kind) = (name?, kind?);
            Some(Self {
                terms: DirectoryTerms {
                    name,
                    kind: kind.as_str(),
                    schedule,
                    allowed_groups: allowed_groups.unwrap_or_default(),
                    canaries: canaries.unwrap_or_default(),
                    absence_grace,
                    fresh_for,
                    breaker_share,
                    breaker_min,
                },
                timeout,
                kind,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}
