//! `[service]`: the policy of the token service.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::for_display;
use super::field::{Field, MAX_DURATION, Parsed};
use super::table::Table;
use crate::domain::Name;
use crate::domain::service::{
    Kind, KindTerms, LeakKey, MAX_TOKEN_LIMIT, Profile, Roles, ScopeInfo, Scopes, Terms, WhoIssues,
};
use crate::time::format_span;

const SECOND: TimeDelta = TimeDelta::seconds(1);
const YEAR: TimeDelta = TimeDelta::days(365);
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const MAX_ROLE_LENGTH: usize = 60;
const PROFILES: [(&str, Profile); 4] = [
    ("gcore", Profile::Gcore),
    ("rancher", Profile::Rancher),
    ("devtron", Profile::Devtron),
    ("nocodb", Profile::NocoDb),
];
const ISSUERS: [(&str, WhoIssues); 3] = [
    ("everyone", WhoIssues::Everyone),
    ("administrators", WhoIssues::Administrators),
    ("super", WhoIssues::Super),
];
/// Headers with a meaning of their own, which never carry a token.
const RESERVED_HEADERS: [&str; 9] = [
    "authorization",
    "content-length",
    "content-type",
    "cookie",
    "forwarded",
    "host",
    "idempotency-key",
    "if-match",
    "x-forwarded-for",
];

/// `None` if the service is off; its keys are checked all the same.
pub(super) fn terms(mut table: Table) -> Option<Terms> {
    let is_enabled = table.boolean("enabled", false);
    let profile = table.optional("profile", |field| field.choice(&PROFILES));
    let base = profile.map_or_else(Terms::default, Terms::from);
    let mut terms = lifetimes(&mut table, base);
    terms.prefix = table.or_default("prefix", terms.prefix, prefix);
    if let Some(headers) = table.list("headers", header) {
        terms.headers = headers;
    }
    if let Some(names) = table.list("roles", role) {
        let roles = roles(&table, names);
        if roles == terms.roles {
            table.uncount("roles");
        }
        terms.roles = roles;
    }
    let limits = 0..=MAX_TOKEN_LIMIT;
    terms.per_account = table.integer("per_account", terms.per_account, limits.clone());
    terms.per_user = table.integer("per_user", terms.per_user, limits);
    terms.issuers = table.choice("issuers", &ISSUERS, terms.issuers);
    terms.follow_directories = table.boolean("follow_directories", terms.follow_directories);
    terms.leak_reports = table.boolean("leak_reports", terms.leak_reports);
    let has_kinds = table.has("kind");
    let tables = table.sections("kind");
    if has_kinds {
        terms.kinds = kinds(tables, &terms);
    } else {
        cap_kinds(&mut terms);
    }
    let has_scopes = table.has("scope");
    let tables = table.sections("scope");
    if has_scopes {
        terms.scopes = scopes(tables);
    }
    terms.leak_keys = leak_keys(table.sections("leak_key"));
    is_enabled.then_some(terms)
}

/// Values of the profile that the keys exclude are capped; written ones are errors.
fn lifetimes(table: &mut Table, base: Terms) -> Terms {
    let mut terms = base;
    let long = |field: &Field| field.duration(&(SECOND..=MAX_DURATION));
    terms.max_ttl = table.unless_off("max_ttl", terms.max_ttl, long);
    terms.allow_never = table.boolean("allow_never", terms.allow_never);
    let max = terms.max_ttl;
    let is_written = table.has("default_ttl");
    terms.default_ttl = table.or_default("default_ttl", terms.default_ttl, ttl);
    if is_written {
        check_ttl(table, "default_ttl", terms.default_ttl, &terms);
    } else {
        terms.default_ttl = terms.capped(terms.default_ttl);
        if terms.default_ttl.is_none() && !terms.allow_never {
            let why = "has no default in this profile without allow_never; write for example \
                       default_ttl = \"30d\"";
            table.refuse("default_ttl", why);
        }
    }
    let is_legal = |preset: &TimeDelta| max.is_none_or(|max| *preset <= max);
    match table.list("presets", long) {
        Some(presets) if presets == terms.presets => table.uncount("presets"),
        Some(presets) => terms.presets = sorted(presets),
        None => terms.presets.retain(is_legal),
    }
    if let (Some(preset), Some(max)) = (terms.presets.iter().find(|it| !is_legal(it)), max) {
        table.refuse(
            "presets",
            too_long(&format_span(*preset), &format_span(max)),
        );
    }
    terms.overlap = table.duration("overlap", terms.overlap, TimeDelta::zero()..=YEAR);
    let short = SECOND..=YEAR;
    terms.access_ttl = table.duration("access_ttl", terms.access_ttl, short.clone());
    terms.refresh_ttl = table.duration("refresh_ttl", terms.refresh_ttl, short.clone());
    terms.session_ttl = table.duration("session_ttl", terms.session_ttl, short);
    if terms.access_ttl > terms.refresh_ttl {
        table.refuse("access_ttl", "must not be longer than refresh_ttl");
    }
    terms
}

fn sorted(mut spans: Vec<TimeDelta>) -> Vec<TimeDelta> {
    spans.sort_unstable();
    spans.dedup();
    spans
}

/// A duration, or `never`.
fn ttl(field: &Field) -> Parsed<Option<TimeDelta>> {
    match field.text() {
        Ok("never") => Ok(None),
        _ => field.duration(&(SECOND..=MAX_DURATION)).map(Some),
    }
}

/// Reports a written life that the policy does not allow.
fn check_ttl(table: &Table, key: &str, ttl: Option<TimeDelta>, terms: &Terms) {
    match (ttl, terms.max_ttl) {
        (None, _) if !terms.allow_never => {
            let why = "is \"never\", which needs allow_never = true in [service]";
            table.refuse(key, why);
        }
        (Some(ttl), Some(max)) if ttl > max => {
            table.refuse(key, too_long(&format_span(ttl), &format_span(max)));
        }
        _ => {}
    }
}

fn too_long(ttl: &str, max: &str) -> String {
    format!("{ttl} is longer than max_ttl, which is {max}")
}

fn kinds(tables: Vec<Table>, terms: &Terms) -> Vec<KindTerms> {
    let mut names = BTreeSet::new();
    let read = |mut table: Table| {
        let name = table.required("name", "kubeconfig", kind_name);
        let ttl = table.required("ttl", "16h", ttl);
        let can_issue = table.boolean("issue", true);
        let (name, ttl) = (name?, ttl?);
        check_ttl(&table, "ttl", ttl, terms);
        if !names.insert(name.clone()) {
            let why = format!("there is another kind `{name}`; give its keys in one place");
            table.refuse("name", why);
        }
        Some(KindTerms {
            name,
            ttl,
            can_issue,
        })
    };
    tables.into_iter().filter_map(read).collect()
}

fn cap_kinds(terms: &mut Terms) {
    let mut kinds = std::mem::take(&mut terms.kinds);
    for kind in &mut kinds {
        kind.ttl = terms
            .capped(kind.ttl)
            .or(terms.default_ttl.filter(|_| !terms.allow_never));
    }
    terms.kinds = kinds;
}

fn kind_name(field: &Field) -> Parsed<String> {
    let name = String::from(field.parse::<Name>()?);
    match Kind::parse(&name) {
        Kind::Named(name) => Ok(name),
        Kind::Api => Err("`api` is built in; default_ttl in [service] is its lifetime".into()),
        _ => Err(format!(
            "`{name}` is a kind of lapsed itself; choose a different name"
        )),
    }
}

fn scopes(tables: Vec<Table>) -> Vec<ScopeInfo> {
    let mut names = BTreeSet::new();
    let read = |mut table: Table| {
        let name = table.required("name", "app:read", |field| {
            let name = field.string()?;
            let scope = Scopes::new([name.as_str()]);
            scope.map(|_| name).map_err(|error| error.to_string())
        });
        let description = table.text("description");
        let name = name?;
        if !names.insert(name.clone()) {
            let why = format!("there is another scope `{name}`; give its keys in one place");
            table.refuse("name", why);
        }
        Some(ScopeInfo { name, description })
    };
    tables.into_iter().filter_map(read).collect()
}

fn leak_keys(tables: Vec<Table>) -> Vec<LeakKey> {
    let read = |mut table: Table| {
        let id = table.required(
            "id",
            "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d",
            Field::string,
        );
        let point = table.required("key", "-----BEGIN PUBLIC KEY-----…", |field| {
            let text = field.text()?;
            p256_point(text)
                .ok_or_else(|| "is not a public key in PEM form, on the curve P-256".into())
        });
        let (id, point) = (id?, point?);
        Some(LeakKey { id, point })
    };
    tables.into_iter().filter_map(read).collect()
}

/// The point of a public key, after the head that is the same for all keys of the curve (RFC 5480).
fn p256_point(pem: &str) -> Option<Vec<u8>> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let point = key.strip_prefix(&P256_HEAD[..])?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

fn prefix(field: &Field) -> Parsed<String> {
    let text = field.text()?;
    let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() > 16 || !text.chars().all(is_valid) {
        return Err("may have 1 to 16 characters of a-z and 0-9".into());
    }
    Ok(text.to_owned())
}

fn header(field: &Field) -> Parsed<String> {
    let name = field.text()?.to_ascii_lowercase();
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if !name.chars().all(is_valid) {
        let name = for_display(&name);
        return Err(format!(
            "`{name}` is not the name of a header; write for example \"xc-token\""
        ));
    }
    if RESERVED_HEADERS.contains(&name.as_str()) || name.starts_with("lapsed-") {
        return Err(format!(
            "`{name}` has another meaning; choose a different header"
        ));
    }
    Ok(name)
}

fn role(field: &Field) -> Parsed<String> {
    let name = field.string()?;
    let is_valid = |c: char| !c.is_control() && c != '/';
    if name.chars().count() > MAX_ROLE_LENGTH || !name.chars().all(is_valid) {
        return Err(format!(
            "may have at most {MAX_ROLE_LENGTH} characters, and neither `/` nor control characters"
        ));
    }
    Ok(name)
}

/// Highest first.
fn roles(table: &Table, names: Vec<String>) -> Roles {
    let unique: BTreeSet<&String> = names.iter().collect();
    if names.is_empty() {
        table.refuse(
            "roles",
            "needs at least one role, such as roles = [\"administrator\"]",
        );
    } else if unique.len() < names.len() {
        table.refuse("roles", "names a role twice");
    }
    Roles::new(names)
}
