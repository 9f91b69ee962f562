//! `[mail]` and `[smtp]`: how mails are sent.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::error::{for_display, hint};
use super::field::{Field, Parsed};
use super::secret::is_unread;
use super::table::Table;
use crate::domain::Address;
use crate::notify::smtp::{SessionSettings, SmtpSettings, Tls};

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

struct ParsedUrl {
    host: String,
    port: u16,
    tls: Tls,
    user: Option<String>,
    password: Option<SecretString>,
}

impl ParsedUrl {
    /// In place of a URL that was not read.
    fn unread() -> Self {
        Self {
            host: String::new(),
            port: 0,
            tls: Tls::Implicit,
            user: None,
            password: None,
        }
    }
}

const TRANSPORTS: [(&str, Transport); 2] = [("smtp", Transport::Smtp), ("file", Transport::File)];
const TLS_OPTIONS: [(&str, Tls); 3] = [
    ("required", Tls::Required),
    ("opportunistic", Tls::Opportunistic),
    ("none", Tls::None),
];
const URL_FORM: &str = "write smtps://user@host:465 or smtp://user@host:587";

impl Mail {
    pub(super) fn from_table(mut table: Table) -> Self {
        let outbox = table.base().join("outbox");
        Self {
            transport: table.choice("transport", &TRANSPORTS, Transport::Smtp),
            directory: table.path("directory").unwrap_or(outbox),
            templates: table.path("templates"),
        }
    }
}

/// `None` if there is no section or no valid URL; problems are reported. `from` is the default of
/// `envelope_from`. The limits of the section are read with `[delivery]`.
pub(super) fn smtp(
    table: &mut Table,
    transport: Transport,
    from: Option<&Mailbox>,
) -> Option<SmtpSettings> {
    if !table.is_present() {
        if transport == Transport::Smtp {
            table.refuse_section(format!(
                "there is no [smtp] section: set [smtp] url ({URL_FORM}), or write mails \
                 to a folder with [mail] transport = \"file\""
            ));
        }
        return None;
    }
    let example = "smtps://user@mail.example.org:465";
    let server = table.required("url", example, parse_url);
    if let Some(server) = &server
        && !server.host.is_empty()
    {
        check_credentials(table, server);
    }
    let password = table.secret("password");
    let ca_file = table.path("ca_file");
    let envelope_from = table.optional("envelope_from", |field| sender(&field.parse()?));
    let pipelining = table.boolean("pipelining", true);
    let timeout = table.timeout("timeout", Duration::from_secs(30));
    let final_timeout = table.timeout("final_timeout", Duration::from_mins(5));
    let hello_name = table.optional("hello_name", hello_name);
    let server = server?;
    Some(SmtpSettings {
        host: server.host,
        port: server.port,
        tls: server.tls,
        user: server.user,
        password: password.or(server.password),
        ca_file,
        hello_name,
        session: SessionSettings {
            timeout,
            final_timeout,
            pipelining,
            envelope_from: envelope_from.or_else(|| Some(from?.email.clone()))?,
        },
    })
}

/// An address of ours, with its domain in punycode. Its local part is ASCII, because a mail from another needs a server
/// with SMTPUTF8, also for recipients in ASCII.
pub(super) fn sender(address: &Address) -> Parsed<lettre::Address> {
    match address.to_lettre() {
        Some(sender) if !address.needs_smtputf8() => Ok(sender),
        _ => Err("has a letter beyond ASCII before the @; write an address without one".to_owned()),
    }
}

/// User and password go together. Call before `password` is read from the table.
fn check_credentials(table: &Table, server: &ParsedUrl) {
    match (&server.user, &server.password, table.has("password")) {
        (None, _, true) => {
            let why = "there is no user; add one to smtp.url: smtps://user@host:465";
            table.refuse("password", why);
        }
        (Some(_), Some(_), true) => {
            let why = "there is already a password in smtp.url; remove one of them";
            table.refuse("password", why);
        }
        (Some(user), None, false) => {
            let form = "password = { file = \"smtp-password\" }";
            let why = format!("there is no password for {user:?}; add for example {form}");
            table.refuse("url", why);
        }
        (None, _, false) | (Some(_), Some(_), false) | (Some(_), None, true) => {}
    }
}

/// The URL may contain a password, so no message repeats it.
fn parse_url(field: &Field) -> Parsed<ParsedUrl> {
    let secret = field.secret()?;
    if is_unread(&secret) {
        return Ok(ParsedUrl::unread());
    }
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
    let password = password.map(percent_decode).transpose()?;
    let server = ParsedUrl {
        host,
        port: url.port().unwrap_or(port),
        tls: parse_tls(&url, implicit)?,
        user: user.map(percent_decode).transpose()?,
        password: password.map(SecretString::from),
    };
    let ParsedUrl {
        host,
        port,
        tls,
        user,
        ..
    } = &server;
    field.count_as(format!("{host}:{port} {tls:?} {user:?}"));
    Ok(server)
}

fn parse_tls(url: &Url, implicit: bool) -> Parsed<Tls> {
    let mut tls = if implicit {
        Tls::Implicit
    } else {
        Tls::Required
    };
    for (key, value) in url.query_pairs() {
        if key != "tls" {
            let hint = hint(&key, &["tls"]);
            return Err(format!("unknown option `{}`; {hint}", for_display(&key)));
        }
        if implicit {
            return Err("smtps:// is always encrypted; leave out ?tls=".into());
        }
        let Some((_, option)) = TLS_OPTIONS.iter().find(|(name, _)| *name == value) else {
            let hint = hint(&value, &TLS_OPTIONS.map(|(name, _)| name));
            let value = for_display(&value);
            return Err(format!("unknown value tls=`{value}`; {hint}"));
        };
        tls = *option;
    }
    Ok(tls)
}

fn percent_decode(text: &str) -> Parsed<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.chars().any(char::is_control) => Ok(decoded.into_owned()),
        _ => Err(
            "contains percent-encoded characters that a host, user or password cannot have".into(),
        ),
    }
}

/// A host name or an address literal (RFC 5321 §4.1.3).
fn hello_name(field: &Field) -> Parsed<String> {
    let name = field.string()?;
    if name.len() > 255 || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err("is not a host name; write for example lapsed.example.org".into());
    }
    Ok(name)
}
