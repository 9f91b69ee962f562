//! `[web]`: the listener of the HTTP API.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use super::error::for_display;
use super::field::{Field, Parsed};
use super::table::Table;
use crate::domain::service::parse_network;

#[derive(Debug, Clone)]
pub struct Web {
    /// `None` turns the listener off.
    pub listen: Option<SocketAddr>,
    pub tls: Option<WebTls>,
    pub base_url: Option<Url>,
    /// The networks whose statement about the client's address is read.
    pub trusted_proxies: Vec<IpNet>,
    pub client_address: ClientAddress,
    /// How people sign in to the portal.
    pub sign_in: Vec<SignIn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    Oidc,
    /// By a link in a mail.
    Link,
}

/// The files are read by the listener, which reads them again on SIGHUP.
#[derive(Debug, Clone)]
pub struct WebTls {
    pub certificate: PathBuf,
    pub key: SecretString,
}

/// The request header in which trusted proxies pass the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

const CLIENT_ADDRESS: [(&str, ClientAddress); 2] = [
    ("x-forwarded-for", ClientAddress::XForwardedFor),
    ("forwarded", ClientAddress::Forwarded),
];
const SIGN_IN: [(&str, SignIn); 2] = [("oidc", SignIn::Oidc), ("link", SignIn::Link)];

impl Web {
    pub(super) fn from_table(mut table: Table, has_service: bool) -> Self {
        let has_key = table.has("tls_key");
        let certificate = table.path("tls_certificate");
        let key = table.secret("tls_key");
        match (&certificate, &key) {
            (Some(_), None) if !has_key => {
                table.refuse("tls_certificate", "needs tls_key, its private key");
            }
            (None, Some(_)) => table.refuse("tls_key", "needs tls_certificate"),
            _ => {}
        }
        let all = SIGN_IN.map(|(_, way)| way);
        let sign_in = table.list("sign_in", |field| field.choice(&SIGN_IN));
        if sign_in.as_deref() == Some(&all) {
            table.uncount("sign_in");
        }
        let web = Self {
            listen: table.unless_off("listen", None, listen),
            tls: certificate
                .zip(key)
                .map(|(certificate, key)| WebTls { certificate, key }),
            base_url: table.optional("base_url", |field| {
                field.http_url("https://tokens.example.org")
            }),
            trusted_proxies: table.list("trusted_proxies", network).unwrap_or_default(),
            client_address: table.choice(
                "client_address",
                &CLIENT_ADDRESS,
                ClientAddress::XForwardedFor,
            ),
            sign_in: sign_in.unwrap_or_else(|| all.to_vec()),
        };
        web.check(&table, has_service);
        web
    }

    /// Where people reach the portal; `None` if it is off.
    pub fn portal_url(&self) -> Option<Url> {
        let listen = self.listen?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let own = || Url::parse(&format!("{scheme}://{listen}/")).ok();
        self.base_url.clone().or_else(own)
    }

    fn check(&self, table: &Table, has_service: bool) {
        let Some(listen) = self.listen else { return };
        if !has_service {
            let why = "needs the token service; write enabled = true in [service]";
            table.refuse("listen", why);
        }
        let is_open = !listen.ip().to_canonical().is_loopback();
        if is_open && self.tls.is_none() && self.trusted_proxies.is_empty() {
            table.refuse(
                "listen",
                "beyond loopback, tokens would cross the network unencrypted; set tls_certificate and \
                 tls_key, or in trusted_proxies the networks of the proxies that end TLS",
            );
        }
    }
}

fn listen(field: &Field) -> Parsed<SocketAddr> {
    let text = field.text()?;
    text.parse().map_err(|_| {
        let text = for_display(text);
        format!(
            "\"{text}\" is not an address and a port; write \"127.0.0.1:8485\", \"[::]:8485\" or \"off\""
        )
    })
}

fn network(field: &Field) -> Parsed<IpNet> {
    let text = field.text()?;
    let network = parse_network(text).map_err(|_| {
        let text = for_display(text);
        format!("`{text}` is not a network; write it as 10.0.0.0/8, or 192.0.2.7 for one address")
    })?;
    if network.prefix_len() == 0 {
        return Err("would trust every address; name the networks of your proxies".into());
    }
    Ok(network)
}
