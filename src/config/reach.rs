//! `proxy` and `allow_plaintext`: how an upstream is reached over the network.

use secrecy::ExposeSecret;
use url::Url;

use super::field::{Field, Parsed};
use super::secret::is_unread;
use super::table::Table;
use crate::network::is_exposed;
use crate::sources::ProxyRules;

/// By default no proxy is used.
#[derive(Default)]
pub(super) struct Reach {
    pub proxies: ProxyRules,
    /// The URL of the proxy that is used, without credentials.
    pub proxy: Option<String>,
}

impl Reach {
    /// Reads the keys of a kind with requests by HTTP. `url` is `None` if it is invalid, or nothing is sent there.
    pub fn read_http(&mut self, table: &mut Table, url: Option<&Url>) {
        check_plaintext(table, url.is_some_and(is_exposed), "write https://");
        let proxies = table.optional("proxy", proxy);
        self.proxies = proxies.unwrap_or_else(|| ProxyRules::from_env(table.env()));
        self.proxy = url.and_then(|url| self.proxies.find_url(url));
        // Of no matter to a command that sends nothing there.
        if let Some(proxy) = self.proxy.as_ref().filter(|url| !url.starts_with("http"))
            && table.reads_secrets()
        {
            table.refuse_section(format!(
                "the environment names the proxy {proxy}, which is not http:// or https://; set proxy to \
                 another one, or to \"off\""
            ));
        }
    }
}

/// Reports credentials that would cross the network unencrypted. `encrypt` says how to avoid that.
pub(super) fn check_plaintext(table: &mut Table, is_exposed: bool, encrypt: &str) {
    if !table.boolean("allow_plaintext", false) && is_exposed {
        let why = "the credentials would cross the network unencrypted";
        let message = format!("{why}; {encrypt}, or set allow_plaintext = true");
        table.refuse("url", message);
    }
}

/// The URL may contain a password, so no message shows it.
fn proxy(field: &Field) -> Parsed<ProxyRules> {
    if matches!(field.text(), Ok("off")) {
        return Ok(ProxyRules::default());
    }
    let secret = field.secret()?;
    let is_proxy = |url: &Url| {
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare
    };
    if is_unread(&secret) {
        return Ok(ProxyRules::default());
    }
    match Url::parse(secret.expose_secret().trim()) {
        Ok(url) if is_proxy(&url) => Ok(ProxyRules::single(&secret)),
        _ => {
            Err("is not the URL of a proxy; write http://proxy.example.org:3128, or \"off\"".into())
        }
    }
}
