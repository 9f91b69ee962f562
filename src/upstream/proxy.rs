//! Which HTTP proxy leads to an upstream.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::network::is_this_host;

/// The proxies by destination; none by default. Debug output shows no credentials.
#[derive(Debug, Clone)]
pub struct ProxyRules(Arc<Matcher>);

impl Default for ProxyRules {
    fn default() -> Self {
        Self(Arc::new(Matcher::builder().build()))
    }
}

impl ProxyRules {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub fn from_env(env: &HashMap<String, String>) -> Self {
        let find = |name: &str| {
            let value = env.get(name).or_else(|| env.get(&name.to_lowercase()));
            value.cloned().unwrap_or_default()
        };
        let rules = Matcher::builder()
            .all(find("ALL_PROXY"))
            .http(find("HTTP_PROXY"))
            .https(find("HTTPS_PROXY"))
            .no(find("NO_PROXY"));
        Self(Arc::new(rules.build()))
    }

    /// One proxy for every destination. The URL may have a user and a password.
    pub fn single(url: &SecretString) -> Self {
        let rules = Matcher::builder().all(url.expose_secret().to_owned());
        Self(Arc::new(rules.build()))
    }

    /// The URL of the proxy for a destination, without credentials. This machine is reached without a proxy.
    pub fn find_url(&self, destination: &Url) -> Option<String> {
        let found = self.find(destination)?;
        Some(found.uri().to_string().trim_end_matches('/').to_owned())
    }

    fn find(&self, destination: &Url) -> Option<Intercept> {
        if is_this_host(destination.host_str()?) {
            return None;
        }
        self.0.intercept(&destination.as_str().parse::<Uri>().ok()?)
    }

    pub(super) fn find_proxy(&self, destination: &Url) -> reqwest::Result<Option<reqwest::Proxy>> {
        let Some(found) = self.find(destination) else {
            return Ok(None);
        };
        let proxy = reqwest::Proxy::all(found.uri().to_string())?;
        Ok(Some(match found.basic_auth() {
            Some(credentials) => proxy.custom_http_auth(credentials.clone()),
            None => proxy,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rules: &ProxyRules, destination: &str) -> Option<String> {
        rules.find_url(&destination.parse().unwrap())
    }

    #[test]
    fn the_environment_names_proxies_and_exceptions() {
        let env = [
            ("HTTPS_PROXY", "http://ada:s3cret@proxy.example.org:3128"),
            ("http_proxy", "plain.example.org:80"),
            ("NO_PROXY", ".internal.example.org,192.0.2.0/24"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let rules = ProxyRules::from_env(&env.into());
        for (destination, proxy) in [
            (
                "https://rancher.example.org/v3",
                Some("http://proxy.example.org:3128"),
            ),
            (
                "http://rancher.example.org",
                Some("http://plain.example.org:80"),
            ),
            ("https://a.internal.example.org", None),
            ("https://192.0.2.7", None),
            ("http://localhost:8080", None),
            ("http://127.0.0.1:8080", None),
            ("http://[::1]:8080", None),
        ] {
            assert_eq!(find(&rules, destination).as_deref(), proxy, "{destination}");
        }
        assert!(!format!("{rules:?}").contains("s3cret"));
        assert_eq!(
            find(&ProxyRules::default(), "https://rancher.example.org"),
            None
        );
    }

    #[test]
    fn a_configured_proxy_is_for_every_other_host() {
        let rules = ProxyRules::single(&"http://proxy.example.org:3128".into());
        let proxy = find(&rules, "https://a.internal.example.org");
        assert_eq!(proxy.as_deref(), Some("http://proxy.example.org:3128"));
        assert_eq!(find(&rules, "https://127.0.0.1"), None);
    }
}
