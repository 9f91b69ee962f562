//! `[mail]` and `[smtp]`: how mails are sent.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::error::{for_display, hint};
use super::field::Field;
use super::table::Table;
use crate::domain::Address;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub transport: Transport,
    /// Where [`Transport::File`] writes one .eml file for each mail.
    pub directory: PathBuf,
    /// A folder with templates that override the built-in ones.
    pub templates: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Smtp,
    File,
}

#[derive(Debug, Clone)]
pub struct Smtp {
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// There is a password if and only if there is a user.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Parallel connections, 1 to 256.
    pub connections: u16,
    /// Where bounces go; `None` means the address of `notify.from`.
    pub envelope_from: Option<Address>,
    /// Whether to use PIPELINING if the server offers it (RFC 2920).
    pub pipelining: bool,
    /// `None` means no limit.
    pub messages_per_connection: Option<u32>,
    /// Over all connections; may be below 1. `None` means no limit.
    pub mails_per_second: Option<f64>,
    /// Limit for each step of the conversation, except the reply to the final dot.
    pub timeout: Duration,
    /// Limit for the reply to the final dot. If it is too short, a mail the server still works on is sent
    /// twice; RFC 5321 §4.5.3.2.6 allows ten minutes.
    pub final_timeout: Duration,
    /// The name in EHLO; `None` means the name of the machine.
    pub hello_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// From the first byte (RFC 8314 §3.3).
    Implicit,
    /// STARTTLS; a server that does not offer it gets no mail.
    #[default]
    Required,
    /// STARTTLS if the server offers it; an attacker on the network can suppress the offer.
    Opportunistic,
    None,
}

#[derive(Default)]
struct ParsedUrl {
    host: String,
    port: u16,
    tls: Tls,
    user: Option<String>,
    password: Option<SecretString>,
}

const URL_FORM: &str = "write smtps://user@host:465 or smtp://user@host:587";

impl Mail {
    pub(super) fn from_table(mut table: Table) -> Self {
        let transports = [("smtp", Transport::Smtp), ("file", Transport::File)];
        let mail = Self {
            transport: table.with_default("transport", Transport::Smtp, |field| {
                field.choice(&transports)
            }),
            directory: table
                .optional("directory", Field::path)
                .unwrap_or_else(|| table.base().join("outbox")),
            templates: table.optional("templates", Field::path),
        };
        table.finish();
        mail
    }
}

impl Smtp {
    /// `None` if there is no section or no valid URL; problems are reported.
    pub(super) fn from_table(mut table: Table, transport: Transport) -> Option<Self> {
        if !table.is_present() {
            if transport == Transport::Smtp {
                table.refuse_section(format!(
                    "there is no [smtp] section: set [smtp] url ({URL_FORM}), or write mails \
                     to a folder with [mail] transport = \"file\""
                ));
            }
            return None;
        }
        let server = table.required(
            "url",
            "url = \"smtps://user@mail.example.org:465\"",
            parse_url,
        );
        if let Some(server) = &server {
            check_credentials(&table, server);
        }
        let smtp = Self::parse_keys(&mut table, server);
        table.finish();
        smtp
    }

    /// Reads every other key even without a server, to report their problems.
    fn parse_keys(table: &mut Table, server: Option<ParsedUrl>) -> Option<Self> {
        let is_known = server.is_some();
        let server = server.unwrap_or_default();
        let no_limit = 0.0;
        let default_timeout = TimeDelta::seconds(30);
        let default_final_timeout = TimeDelta::minutes(5);
        let smtp = Self {
            host: server.host,
            port: server.port,
            tls: server.tls,
            user: server.user,
            password: table
                .optional("password", Field::secret)
                .or(server.password),
            ca_file: table.optional("ca_file", Field::path),
            connections: table.with_default("connections", 4, |field| field.integer(1..=256)),
            envelope_from: table.optional("envelope_from", Field::parse),
            pipelining: table.with_default("pipelining", true, Field::boolean),
            messages_per_connection: Some(table.with_default(
                "messages_per_connection",
                100,
                |field| field.integer(0..=1_000_000),
            ))
            .filter(|limit| *limit > 0),
            mails_per_second: Some(table.with_default("mails_per_second", no_limit, |field| {
                field.number(0.0..=100_000.0)
            }))
            .filter(|limit| *limit > no_limit),
            timeout: table
                .with_default("timeout", default_timeout, |field| {
                    field.duration(TimeDelta::seconds(1))
                })
                .to_std()
                .unwrap_or_default(),
            final_timeout: table
                .with_default("final_timeout", default_final_timeout, |field| {
                    field.duration(TimeDelta::seconds(1))
                })
                .to_std()
                .unwrap_or_default(),
            hello_name: table.optional("hello_name", hello_name),
        };
        is_known.then_some(smtp)
    }
}

/// User and password go together. Call before `password` is read from the table.
fn check_credentials(table: &Table, server: &ParsedUrl) {
    match (&server.user, &server.password, table.has("password")) {
        (None, _, true) => table.refuse(
            "password",
            "there is no user; add one to smtp.url: smtps://user@host:465",
        ),
        (Some(_), Some(_), true) => {
            table.refuse("password", "there is already a password in smtp.url; remove one of them");
        }
        (Some(user), None, false) => table.refuse(
            "url",
            &format!(
                "there is no password for {user:?}; add for example password = {{ file = \"smtp-password\" }}"
            ),
        ),
        (None, _, false) | (Some(_), Some(_), false) | (Some(_), None, true) => {}
    }
}

/// The URL may contain a password, so no message repeats it.
fn parse_url(field: &Field) -> Result<ParsedUrl, String> {
    let secret = field.secret()?;
    let url = Url::parse(secret.expose_secret().trim())
        .map_err(|error| format!("is not a URL ({error}); {URL_FORM}"))?;
    let (port, implicit) = match url.scheme() {
        "smtps" => (465, true),
        "smtp" => (587, false),
        other if url.has_host() => {
            return Err(format!("begins with {}://; {URL_FORM}", for_display(other)));
        }
        // The text before the colon can be part of a secret.
        _ => return Err(format!("is not the URL of a mail server; {URL_FORM}")),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(format!(
            "contains something after the host; {URL_FORM}, and percent-encode `/`, `#`, `?` and `@` in user \
             and password"
        ));
    }
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => percent_decode(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Domain(_)) | None => return Err(format!("does not name a host; {URL_FORM}")),
    };
    let user = Some(url.username()).filter(|user| !user.is_empty());
    let password = url.password().filter(|password| !password.is_empty());
    if password.is_some() && user.is_none() {
        return Err(format!("has a password without a user; {URL_FORM}"));
    }
    Ok(ParsedUrl {
        host,
        port: url.port().unwrap_or(port),
        tls: parse_tls(&url, implicit)?,
        user: user.map(percent_decode).transpose()?,
        password: password
            .map(percent_decode)
            .transpose()?
            .map(SecretString::from),
    })
}

fn parse_tls(url: &Url, implicit: bool) -> Result<Tls, String> {
    let mut tls = if implicit {
        Tls::Implicit
    } else {
        Tls::Required
    };
    for (key, value) in url.query_pairs() {
        if key != "tls" {
            return Err(format!(
                "unknown option `{}`; {}",
                for_display(&key),
                hint(&key, &["tls"])
            ));
        }
        if implicit {
            return Err("smtps:// is always encrypted; leave out ?tls=".into());
        }
        tls = match value.as_ref() {
            "required" => Tls::Required,
            "opportunistic" => Tls::Opportunistic,
            "none" => Tls::None,
            other => {
                let allowed = ["required", "opportunistic", "none"];
                return Err(format!(
                    "unknown value tls=`{}`; {}",
                    for_display(other),
                    hint(other, &allowed)
                ));
            }
        };
    }
    Ok(tls)
}

fn percent_decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    match decoded {
        Ok(decoded) if !decoded.chars().any(char::is_control) => Ok(decoded),
        _ => Err(
            "contains percent-encoded characters that a host, user or password cannot have".into(),
        ),
    }
}

/// A host name or an address literal (RFC 5321 §4.1.3).
fn hello_name(field: &Field) -> Result<String, String> {
    let name = field.text()?;
    if name.len() > 255 || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err("is not a host name; write for example lapsed.example.org".into());
    }
    Ok(name.to_owned())
}
