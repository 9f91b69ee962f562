//! `[mail]` and `[smtp]`: how mails leave.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{
    error::{hint, shown},
    field::Field,
    table::Table,
};
use crate::domain::Address;

/// How mails leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// To a server or to a folder.
    pub transport: Transport,
    /// For [`Transport::File`], the folder. One .eml file each.
    pub directory: PathBuf,
    /// A folder with templates that replace the embedded ones.
    pub templates: Option<PathBuf>,
}

/// Where mails go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// To the server of `[smtp]`.
    Smtp,
    /// Into a folder.
    File,
}

/// The server that takes the mails.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Who lapsed signs in as. There is a password exactly if there is a user.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<SecretString>,
    /// A file with the certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections at the same time, 1 to 256.
    pub connections: u16,
    /// The sender on the envelope, where bounces go; `None` is the address of `notify.from`.
    pub envelope_from: Option<Address>,
    /// Whether commands are sent together where the server offers it (RFC 2920).
    pub pipelining: bool,
    /// Mails on one connection; `None` is no limit.
    pub messages_per_connection: Option<u32>,
    /// Mails in a second over all connections; `None` is no limit. May be below 1.
    pub mails_per_second: Option<f64>,
    /// How long each step of the conversation may take, but for the reply to a whole mail.
    pub timeout: Duration,
    /// How long the reply to a whole mail may take. A mail that is given up on while the server still
    /// works on it is sent twice; RFC 5321 §4.5.3.2.6 allows ten minutes.
    pub final_timeout: Duration,
    /// What lapsed calls itself in EHLO; `None` is the name of the machine.
    pub hello_name: Option<String>,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// From the first byte (RFC 8314 §3.3).
    Implicit,
    /// By STARTTLS; a server that does not offer it gets no mail.
    #[default]
    Required,
    /// By STARTTLS if it is offered; somebody between can take it away.
    Opportunistic,
    /// Not at all.
    None,
}

/// What the URL says.
#[derive(Default)]
struct Server {
    host: String,
    port: u16,
    tls: Tls,
    user: Option<String>,
    password: Option<SecretString>,
}

const URL_FORM: &str = "write smtps://user@host:465 or smtp://user@host:587";

impl Mail {
    pub(super) fn read(mut table: Table) -> Self {
        let transports = [("smtp", Transport::Smtp), ("file", Transport::File)];
        let mail = Self {
            transport: table.or("transport", Transport::Smtp, |field| {
                field.word(&transports)
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
    /// `None` when there is no section, or no server in it; what is wrong is noted.
    pub(super) fn read(mut table: Table, transport: Transport) -> Option<Self> {
        if !table.is_present() {
            if transport == Transport::Smtp {
                table.refuse_whole(format!(
                    "there is no [smtp] section: name the server by [smtp] url ({URL_FORM}), or let \
                     mails be written to a folder by [mail] transport = \"file\""
                ));
            }
            return None;
        }
        let server = table.required("url", "url = \"smtps://user@mail.example.org:465\"", server);
        if let Some(server) = &server {
            check_sign_in(&table, server);
        }
        let smtp = Self::read_with(&mut table, server);
        table.finish();
        smtp
    }

    /// Reads every other key even if there is no server, for what is wrong with them.
    fn read_with(table: &mut Table, server: Option<Server>) -> Option<Self> {
        let is_known = server.is_some();
        let server = server.unwrap_or_default();
        let no_limit = 0.0;
        let step = TimeDelta::seconds(30);
        let whole = TimeDelta::minutes(5);
        let smtp = Self {
            host: server.host,
            port: server.port,
            tls: server.tls,
            user: server.user,
            password: table
                .optional("password", Field::secret)
                .or(server.password),
            ca_file: table.optional("ca_file", Field::path),
            connections: table.or("connections", 4, |field| field.whole(1..=256)),
            envelope_from: table.optional("envelope_from", Field::parsed),
            pipelining: table.or("pipelining", true, Field::flag),
            messages_per_connection: Some(table.or("messages_per_connection", 100, |field| {
                field.whole(0..=1_000_000)
            }))
            .filter(|limit| *limit > 0),
            mails_per_second: Some(table.or("mails_per_second", no_limit, |field| {
                field.number(0.0..=100_000.0)
            }))
            .filter(|limit| *limit > no_limit),
            timeout: table
                .or("timeout", step, |field| field.span(TimeDelta::seconds(1)))
                .to_std()
                .unwrap_or_default(),
            final_timeout: table
                .or("final_timeout", whole, |field| {
                    field.span(TimeDelta::seconds(1))
                })
                .to_std()
                .unwrap_or_default(),
            hello_name: table.optional("hello_name", hello_name),
        };
        is_known.then_some(smtp)
    }
}

/// A user goes with a password, and there is one of each; before the password is taken.
fn check_sign_in(table: &Table, server: &Server) {
    match (&server.user, &server.password, table.has("password")) {
        (None, _, true) => table.refuse(
            "password",
            "there is no user to go with it; name him in smtp.url: smtps://user@host:465",
        ),
        (Some(_), Some(_), true) => {
            table.refuse("password", "there is another one in smtp.url; give it once");
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

/// Reads the URL. It may hold a password, so that no message repeats it.
fn server(field: &Field) -> Result<Server, String> {
    let secret = field.secret()?;
    let url = Url::parse(secret.expose_secret().trim())
        .map_err(|error| format!("is not a URL ({error}); {URL_FORM}"))?;
    let (port, implicit) = match url.scheme() {
        "smtps" => (465, true),
        "smtp" => (587, false),
        other if url.has_host() => {
            return Err(format!("begins with {}://; {URL_FORM}", shown(other)));
        }
        // What stands before a lone colon may be anything, a part of a secret too.
        _ => return Err(format!("is not the URL of a mail server; {URL_FORM}")),
    };
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err(format!(
            "has something after the host; {URL_FORM}, and percent-encode `/`, `#`, `?` and `@` in user \
             and password"
        ));
    }
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => decoded(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(Host::Domain(_)) | None => return Err(format!("names no host; {URL_FORM}")),
    };
    let user = Some(url.username()).filter(|user| !user.is_empty());
    let password = url.password().filter(|password| !password.is_empty());
    if password.is_some() && user.is_none() {
        return Err(format!("has a password without a user; {URL_FORM}"));
    }
    Ok(Server {
        host,
        port: url.port().unwrap_or(port),
        tls: tls(&url, implicit)?,
        user: user.map(decoded).transpose()?,
        password: password.map(decoded).transpose()?.map(SecretString::from),
    })
}

fn tls(url: &Url, implicit: bool) -> Result<Tls, String> {
    let mut tls = if implicit {
        Tls::Implicit
    } else {
        Tls::Required
    };
    for (key, value) in url.query_pairs() {
        if key != "tls" {
            return Err(format!(
                "unknown option `{}`; {}",
                shown(&key),
                hint(&key, &["tls"])
            ));
        }
        if implicit {
            return Err("smtps:// is encrypted from the first byte; leave ?tls= out".into());
        }
        tls = match value.as_ref() {
            "required" => Tls::Required,
            "opportunistic" => Tls::Opportunistic,
            "none" => Tls::None,
            other => {
                let allowed = ["required", "opportunistic", "none"];
                return Err(format!(
                    "unknown word tls=`{}`; {}",
                    shown(other),
                    hint(other, &allowed)
                ));
            }
        };
    }
    Ok(tls)
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    match decoded {
        Ok(decoded) if !decoded.chars().any(char::is_control) => Ok(decoded),
        _ => Err("holds percent-encoded characters that no host, user or password has".into()),
    }
}

/// A host name or an address literal (RFC 5321 §4.1.3), as far as a line of SMTP takes it.
fn hello_name(field: &Field) -> Result<String, String> {
    let name = field.text()?;
    if name.len() > 255 || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err("is not a host name; write for example lapsed.example.org".into());
    }
    Ok(name.to_owned())
}
