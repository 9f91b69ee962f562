//! `[[directory]]`. A new kind needs a function that parses its keys and an entry in `KINDS`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::field::{Field, Parsed};
use super::reach::{Reach, check_plaintext};
use super::sources::{ParseKind, TIMEOUT, kind, name};
use super::table::Table;
use crate::directories::{Kind, entra, file, keycloak, ldap, okta, scim};
use crate::domain::DirectoryTerms;
use crate::sources::ProxyRules;

#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    pub terms: DirectoryTerms,
    pub timeout: Duration,
    pub kind: Kind,
    pub proxies: ProxyRules,
    /// The URL of the proxy that is used, without credentials.
    pub proxy: Option<String>,
}

const MAX_LOSSES: u64 = u32::MAX as u64;

const KINDS: &[(&str, ParseKind<Kind>)] = &[
    ("file", |table, _| {
        let path = table.required("path", "people.csv", Field::path)?;
        Some(Kind::File(file::Config { path }))
    }),
    ("ldap", |table, _| ldap(table)),
    ("scim", scim),
    ("okta", okta),
    ("keycloak", keycloak),
    ("entra", entra),
];

fn ldap(table: &mut Table) -> Option<Kind> {
    let url = table.required("url", "ldaps://ldap.example.org", ldap_url);
    let example = "cn=lapsed,ou=services,dc=example,dc=org";
    let bind_dn = table.required("bind_dn", example, Field::string);
    let password = table.required_secret("password", "ldap-password");
    let base = table.required("base", "ou=people,dc=example,dc=org", Field::string);
    let filter = table.text("filter");
    let why = "is not an LDAP filter; write for example (&(objectClass=inetOrgPerson)(mail=*))";
    let is_filter = |filter: &String| ldap::is_valid_filter(filter);
    let filter = table.check("filter", filter, is_filter, why);
    let ca_file = table.path("ca_file");
    let starttls = table.boolean("starttls", false);
    let flavor = table.optional("flavor", |field| field.choice(ldap::FLAVORS));
    let shadow_expire = table.boolean("shadow_expire", false);
    let default = ldap::OutsideFilter::default();
    let is_outside_set = table.has("outside_filter");
    let outside_filter = table.choice("outside_filter", ldap::OUTSIDE_FILTER, default);
    if is_outside_set && filter.is_none() {
        table.refuse("outside_filter", "has no effect without filter; set filter");
    }
    let client_certificate = client_certificate(table);
    let is_open = url
        .as_ref()
        .is_some_and(|url: &Url| ldap::exposes_password(url, starttls));
    check_plaintext(table, is_open, "write ldaps:// or set starttls = true");
    let access = ldap::Access {
        url: url?,
        starttls,
        bind_dn: bind_dn?,
        password: password?,
        ca_file,
        client_certificate,
    };
    if access.client_certificate.is_some() && access.url.scheme() == "ldap" && !starttls {
        let why = "is shown over TLS only; write ldaps:// or set starttls = true";
        table.refuse("client_certificate", why);
    }
    if starttls && access.url.scheme() == "ldaps" {
        table.refuse("starttls", "is for ldap://; ldaps:// is always encrypted");
    }
    Some(Kind::Ldap(ldap::Config {
        access,
        base: base?,
        filter,
        flavor,
        shadow_expire,
        outside_filter,
    }))
}

fn client_certificate(table: &mut Table) -> Option<ldap::ClientCertificate> {
    let (has_path, has_key) = (table.has("client_certificate"), table.has("client_key"));
    let path = table.path("client_certificate");
    let key = table.secret("client_key");
    if has_path && !has_key {
        table.refuse(
            "client_certificate",
            "needs its private key; set client_key",
        );
    } else if has_key && !has_path {
        table.refuse(
            "client_key",
            "is the key of client_certificate, which is missing",
        );
    }
    Some(ldap::ClientCertificate {
        path: path?,
        key: key?,
    })
}

/// Scheme, host and port only; the other parts of RFC 4516 are keys of their own.
fn ldap_url(field: &Field) -> Parsed<Url> {
    const FORM: &str = "write for example ldaps://ldap.example.org";
    let url =
        Url::parse(field.text()?).map_err(|error| format!("is not a URL ({error}); {FORM}"))?;
    if !matches!(url.scheme(), "ldap" | "ldaps") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!(
            "must begin with ldaps:// or ldap:// and name a host; {FORM}"
        ));
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    let has_path = !matches!(url.path(), "" | "/");
    if has_user || has_path || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "may contain only scheme, host and port; the rest has its own keys; {FORM}"
        ));
    }
    Ok(url)
}

fn scim(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let url = table.required_url("url", "https://idp.example.org/scim/v2");
    let is_base = |url: &Url| {
        let path = url.path().trim_end_matches('/');
        !path.ends_with("/Users") && !path.ends_with("/Groups")
    };
    let why = "must end before /Users: write for example https://idp.example.org/scim/v2";
    let url = table.check("url", url, is_base, why);
    reach.read_http(table, url.as_ref());
    let token = table.required_secret("token", "scim-token");
    let is_token = |token: &SecretString| !token.expose_secret().trim().is_empty();
    let token = table.check("token", token, is_token, "is empty");
    let ca_file = table.path("ca_file");
    Some(Kind::Scim(scim::Config {
        url: url?,
        token: token?,
        ca_file,
    }))
}

fn okta(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let url = table.required_url("url", "https://acme.okta.com");
    let is_api = |url: &Url| {
        let name = url.host_str().unwrap_or_default().split('.').next();
        !name.is_some_and(|name| name.ends_with("-admin"))
    };
    let why = "is the admin console, which has no API; remove -admin";
    let url = table.check("url", url, is_api, why);
    reach.read_http(table, url.as_ref());
    let client_id = table.required("client_id", "0oa1a2b3c4D5e6F7g8h9", Field::string);
    let private_key = table.required_secret("private_key", "okta-key.pem");
    let key_id = table.text("key_id");
    Some(Kind::Okta(okta::Config {
        url: url?,
        client_id: client_id?,
        private_key: private_key?,
        key_id,
    }))
}

fn keycloak(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let url = table.required_url("url", "https://sso.example.org");
    // The console and tokens show URLs that continue after the server's base URL.
    let is_base = |url: &Url| {
        !url.path()
            .split('/')
            .any(|part| matches!(part, "realms" | "admin"))
    };
    let why = "must end before /realms and /admin; write for example https://sso.example.org, or \
               https://sso.example.org/auth if the server uses /auth";
    let url = table.check("url", url, is_base, why);
    reach.read_http(table, url.as_ref());
    let realm = table.required("realm", "example", Field::string);
    let is_name = |realm: &String| !realm.contains('/') && !matches!(realm.as_str(), "." | "..");
    let why = "must be only the name of the realm, as in the URL of its console";
    let realm = table.check("realm", realm, is_name, why);
    let client_id = table.required("client_id", "lapsed", Field::string);
    let client_secret = table.required_secret("client_secret", "keycloak-secret");
    let ca_file = table.path("ca_file");
    Some(Kind::Keycloak(keycloak::Config {
        url: url?,
        realm: realm?,
        client_id: client_id?,
        client_secret: client_secret?,
        ca_file,
    }))
}

fn entra(table: &mut Table, reach: &mut Reach) -> Option<Kind> {
    let tenant = table.required("tenant", "example.org", tenant);
    let example = "00000000-0000-0000-0000-000000000000";
    let client_id = table.required("client_id", example, Field::string);
    let credential = entra_credential(table);
    let cloud = table.choice("cloud", &entra::Cloud::NAMES, entra::Cloud::default());
    let url = table.optional("url", |field| field.http_url("https://graph.microsoft.com"));
    let default = Url::parse(cloud.graph_url()).ok();
    reach.read_http(table, url.as_ref().or(default.as_ref()));
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
        let why = "contains the key itself; write it to a file that only lapsed can read, and give the path";
        if field.text()?.contains("-----BEGIN") {
            return Err(why.into());
        }
        field.path()
    });
    if has_certificate {
        table.secret("client_secret");
        return certificate.map(entra::Credential::Certificate);
    }
    let secret = table.required_secret("client_secret", "entra-secret");
    secret.map(entra::Credential::Secret)
}

/// The id of a tenant or one of its domains.
fn tenant(field: &Field) -> Parsed<String> {
    let text = field.string()?;
    if ["common", "organizations", "consumers"].contains(&text.as_str()) {
        return Err(format!(
            "{text:?} is not a tenant; write the Directory (tenant) ID"
        ));
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let why = "must be the Directory (tenant) ID or a domain of the tenant such as example.org";
    if text.starts_with('.') || !text.bytes().all(is_plain) {
        return Err(why.into());
    }
    Ok(text)
}

impl DirectoryConfig {
    pub(super) fn from_tables(tables: Vec<Table>, zone: Tz) -> Vec<Self> {
        let mut names = BTreeSet::new();
        let read = |mut table: Table| {
            let name = name(&mut table, &mut names);
            let schedule = table.optional("schedule", |field| field.schedule(zone));
            let timeout = table.timeout("timeout", TIMEOUT);
            let default = DirectoryTerms::default();
            let allowed_groups = table.list("allowed_groups", Field::string);
            let canaries = table.list("canaries", Field::parse);
            let (at_once, year) = (TimeDelta::zero(), TimeDelta::days(365));
            let terms = DirectoryTerms {
                schedule,
                allowed_groups: allowed_groups.unwrap_or_default(),
                canaries: canaries.unwrap_or_default(),
                absence_grace: table.duration(
                    "absence_grace",
                    default.absence_grace,
                    at_once..=year,
                ),
                fresh_for: table.duration(
                    "fresh_for",
                    default.fresh_for,
                    TimeDelta::minutes(1)..=year,
                ),
                breaker_share: table.number("breaker_share", default.breaker_share, 0.0..=1.0),
                breaker_min: table.integer("breaker_min", default.breaker_min, 0..=MAX_LOSSES),
                ..default
            };
            let mut reach = Reach::default();
            let kind = kind(&mut table, &mut reach, KINDS)?;
            Some(Self {
                terms: DirectoryTerms {
                    name: name?,
                    kind: kind.as_str(),
                    ..terms
                },
                timeout,
                proxies: reach.proxies,
                proxy: reach.proxy,
                kind,
            })
        };
        tables.into_iter().filter_map(read).collect()
    }
}
