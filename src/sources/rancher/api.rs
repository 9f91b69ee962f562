//! Requests to Rancher: to the Kubernetes API of its own cluster, through Rancher's proxy, because `/v3/tokens`
//! lists only the caller's own tokens.

use chrono::TimeDelta;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::responses::{Meta, Object, Page, Setting};
use crate::sources::fields;
use crate::sources::{Error, MaxLife, RefusedRows};
use crate::text;
use crate::upstream::http::{self, Client, Request};
use crate::upstream::none_if_status;
use crate::upstream::pager::{Identified, Next, Pager};

/// The API of legacy tokens, users and their attributes.
pub const MANAGEMENT: &str = "k8s/clusters/local/apis/management.cattle.io/v3";

/// The API of ext tokens, since Rancher 2.12.
pub const EXT: &str = "k8s/clusters/local/apis/ext.cattle.io/v1";

/// The prefix of the ids of ext tokens, here and in bearer tokens.
pub const EXT_PREFIX: &str = "ext/";

const REVIEWS: &str = "k8s/clusters/local/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// Rancher does not permit or does not have what was requested.
pub const NOT_READABLE: [StatusCode; 2] = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];

const PAGE_SIZE: &str = "500";

/// Adds the rule with which everything is visible.
pub const RULE_ADVICE: &str = "add the rule apiGroups [\"*\"], resources [\"*\"], verbs [\"get\", \"list\"] to a GlobalRole of \
     its user (and \"delete\" where allow_revoke = true)";

const MAX_TTL: &str = "auth-token-max-ttl-minutes";
const KUBECONFIG: &str = "kubeconfig-default-token-ttl-minutes";
/// Only servers before Rancher 2.8 have it.
const OLD_KUBECONFIG: &str = "kubeconfig-token-ttl-minutes";
const GENERATE_KUBECONFIG: &str = "kubeconfig-generate-token";

#[derive(Debug)]
pub struct Api {
    client: Client,
    bearer: HeaderValue,
    /// The external id of lapsed's own token.
    pub own_id: String,
}

impl Api {
    /// `token` is `NAME:SECRET`, with the prefix `ext/` for an ext token.
    pub fn new(client: Client, token: &SecretString) -> Result<Self, http::Error> {
        let token = token.expose_secret().trim();
        let name = token.split(':').next().unwrap_or_default();
        Ok(Self {
            client,
            bearer: http::secret_header("the token", &format!("Bearer {token}"))?,
            own_id: name.to_owned(),
        })
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = self.client.request(method, path);
        request.header("authorization", self.bearer.clone())
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.request(Method::GET, path).json().await?)
    }

    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        Ok(self
            .request(Method::DELETE, path)
            .send_ignoring_body()
            .await?)
    }

    pub async fn object_state(&self, path: &str) -> Result<ObjectState, Error> {
        match none_if_status(self.get::<Object>(path).await, &[StatusCode::NOT_FOUND])? {
            None => Ok(ObjectState::Gone),
            Some(object) if object.metadata.get().is_some_and(Meta::is_being_deleted) => {
                Ok(ObjectState::Deleting)
            }
            Some(_) => Ok(ObjectState::Present),
        }
    }

    /// Passes on every item of a list; returns false if Rancher does not have or does not permit it.
    pub async fn for_each<T: DeserializeOwned + Identified>(
        &self,
        path: &str,
        mut each: impl FnMut(T) + Send,
    ) -> Result<bool, Error> {
        let mut pages = self.list(path);
        loop {
            match none_if_status(pages.next().await, &NOT_READABLE)? {
                None => return Ok(false),
                Some(None) => return Ok(true),
                Some(Some(page)) => page.into_iter().for_each(&mut each),
            }
        }
    }

    pub fn list(&self, path: &str) -> Pages<'_> {
        Pages {
            api: self,
            path: path.to_owned(),
            pager: Pager::default(),
            remaining: None,
            refusals: RefusedRows::default(),
        }
    }

    /// Asks the cluster whether the caller may do this; `None` if it does not answer.
    pub async fn is_allowed(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<Option<bool>, Error> {
        let question = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
        });
        let request = self.request(Method::POST, REVIEWS).body(&question);
        match request.json::<Value>().await {
            Ok(review) => Ok(review["status"]["allowed"].as_bool()),
            Err(http::Error::Status { .. } | http::Error::Malformed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Turns the error of a list into `None` if there are no ext tokens. A cluster without them may answer 403,
    /// so the API group is checked as well.
    pub async fn none_if_no_ext_tokens<T>(
        &self,
        result: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let missing = [StatusCode::NOT_FOUND];
        if let Err(error) = &result
            && error.status() == Some(StatusCode::FORBIDDEN)
        {
            let group = self.get::<IgnoredAny>(EXT).await;
            if none_if_status(group, &missing)?.is_none() {
                return Ok(None);
            }
        }
        none_if_status(result, &missing)
    }

    /// Example: `v2.12.1`. Some installations do not report it.
    pub async fn version(&self) -> Option<String> {
        let version: Value = self.get("rancherversion").await.ok()?;
        Some(version["Version"].as_str()?.to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    Present,
    Deleting,
    Gone,
}

pub struct Pages<'a> {
    api: &'a Api,
    path: String,
    /// Its cursor is the token for the next page.
    pub pager: Pager<String>,
    /// The number of items after the pages read so far, if reported.
    pub remaining: Option<u64>,
    /// Items without a name.
    pub refusals: RefusedRows,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    pub async fn next<T: DeserializeOwned + Identified>(
        &mut self,
    ) -> Result<Option<Vec<T>>, Error> {
        let mut request = self.api.request(Method::GET, &self.path);
        request = request.query("limit", PAGE_SIZE);
        match self.pager.next() {
            Next::First => {}
            Next::At(next) => request = request.query("continue", next),
            Next::End => return Ok(None),
        }
        let Page { metadata, items } = request
            .json()
            .await
            .map_err(|error| self.explain_page_error(error))?;
        self.remaining = metadata.remaining();
        let next = metadata.next.filter(|next| !next.is_empty());
        // Go writes an empty list as null. A page before others is never empty.
        let has_more = next.is_some() || self.remaining.unwrap_or(0) > 0;
        if items.is_none() && has_more {
            return Err(self.content_error("a page has no items although there are more pages"));
        }
        let has_name = |item: &T| !item.id().is_empty();
        let items = items.unwrap_or_default();
        let items = fields::with_ids(items, &self.path, has_name, &mut self.refusals);
        let content = self.pager.content(&items);
        self.pager
            .advance(content, next)
            .map_err(|endless| Error::content(&self.path, endless.to_string()))?;
        Ok(Some(items))
    }

    /// After the first page, 404 or 403 means that the list broke off, not that it is missing or not permitted.
    fn explain_page_error(&self, error: http::Error) -> Error {
        let error = Error::Http(error);
        match error.status() {
            Some(StatusCode::NOT_FOUND) if !self.pager.is_first() => {
                self.content_error("a later page of the list was not found (404)")
            }
            Some(StatusCode::FORBIDDEN) if !self.pager.is_first() => explain_refusal(error),
            _ => error,
        }
    }

    fn content_error(&self, reason: &str) -> Error {
        Error::content(&self.path, reason)
    }
}

pub fn explain_refusal(error: Error) -> Error {
    let refused = format!(
        "Rancher does not accept the token: it has expired, is disabled, or is limited to one cluster ({error})"
    );
    let denied = format!("Rancher does not permit this with the token ({error})");
    let fix = "create a token without a cluster as its scope, and write it as token";
    error.explain(&[
        (StatusCode::UNAUTHORIZED, &refused, fix),
        (StatusCode::FORBIDDEN, &denied, RULE_ADVICE),
    ])
}

/// Whether this is a valid name of an object, and so is safe in a path.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}

/// Whether this version records when legacy tokens are used. Development builds have no version.
pub fn records_use(version: Option<&str>) -> bool {
    is_since(version, (2, 10))
}

/// Whether this version has ext tokens, so that their list must exist.
pub fn has_ext_tokens(version: Option<&str>) -> bool {
    is_since(version, (2, 12))
}

fn is_since(version: Option<&str>, first: (u32, u32)) -> bool {
    let version = version.unwrap_or_default().trim_start_matches('v');
    let mut numbers = version.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= first,
        _ => false,
    }
}

/// The settings that exist and may be read, with their values.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Settings(Vec<(&'static str, String)>);

impl Settings {
    pub async fn fetch(api: &Api) -> Result<Self, Error> {
        let mut settings = Self::default();
        for name in [MAX_TTL, KUBECONFIG, OLD_KUBECONFIG, GENERATE_KUBECONFIG] {
            let setting = api.get::<Setting>(&format!("v3/settings/{name}")).await;
            if let Some(value) =
                none_if_status(setting, &NOT_READABLE)?.and_then(Setting::effective)
            {
                // The text is printed, so it is cleaned; these settings are short.
                settings.0.push((name, text::one_line(&value, 40)));
            }
        }
        Ok(settings)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let setting = self.0.iter().find(|(known, _)| *known == name);
        setting.map(|(_, value)| value.as_str())
    }

    /// Whether the most important setting could be read.
    pub fn are_readable(&self) -> bool {
        self.get(MAX_TTL).is_some()
    }

    /// Rancher limits the life of every token, including kubeconfig tokens. Servers without a default life for
    /// kubeconfig tokens create them without an expiry.
    pub fn max_life(&self) -> Option<MaxLife> {
        let max_ttl: i64 = self.get(MAX_TTL)?.parse().ok()?;
        let creates_endless = self.get(KUBECONFIG).is_none()
            && self.get(OLD_KUBECONFIG).is_some()
            && self.get(GENERATE_KUBECONFIG) == Some("true");
        let life = if max_ttl > 0 && !creates_endless {
            TimeDelta::try_minutes(max_ttl)
        } else {
            None
        };
        let mut evidence = Vec::new();
        for (name, value) in &self.0 {
            evidence.push(format!("{name} is {value}"));
        }
        let evidence = evidence.join(", ");
        Some(MaxLife { life, evidence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_recorded_since_2_10() {
        let recorded = ["v2.10.0", "v2.11.3-rc1", "2.13.0", "v3.0.0"];
        assert!(recorded.iter().all(|version| records_use(Some(version))));
        let unrecorded = [Some("v2.9.12"), Some("dev"), Some("v2"), None];
        assert!(!unrecorded.iter().any(|version| records_use(*version)));
    }

    #[test]
    fn ext_tokens_exist_since_2_12() {
        let with_ext = ["v2.12.0", "v2.12-head", "v2.15.0-rc1"];
        assert!(with_ext.iter().all(|version| has_ext_tokens(Some(version))));
        let without_ext = [Some("v2.11.9"), Some("dev"), None];
        assert!(!without_ext.iter().any(|version| has_ext_tokens(*version)));
    }

    fn settings(max_ttl: &str, kubeconfig: Option<&str>, generates: &str) -> Settings {
        let settings = [
            (MAX_TTL, Some(max_ttl)),
            (KUBECONFIG, kubeconfig),
            (OLD_KUBECONFIG, Some("960")),
            (GENERATE_KUBECONFIG, Some(generates)),
        ];
        let settings = settings.into_iter();
        Settings(
            settings
                .filter_map(|(name, value)| Some((name, value?.to_owned())))
                .collect(),
        )
    }

    fn life(settings: &Settings) -> Option<TimeDelta> {
        settings.max_life().unwrap().life
    }

    #[test]
    fn zero_means_an_unlimited_life() {
        let endless = settings("0", Some("43200"), "true");
        assert_eq!(
            endless.max_life(),
            Some(MaxLife {
                life: None,
                evidence: "auth-token-max-ttl-minutes is 0, kubeconfig-default-token-ttl-minutes is 43200, \
                           kubeconfig-token-ttl-minutes is 960, kubeconfig-generate-token is true"
                    .to_owned()
            })
        );
    }

    #[test]
    fn the_maximum_life_also_limits_kubeconfig_tokens() {
        let days = Some(TimeDelta::days(90));
        assert_eq!(life(&settings("129600", Some("0"), "true")), days);
        assert_eq!(life(&settings("129600", None, "false")), days);
    }

    #[test]
    fn old_servers_create_kubeconfig_tokens_without_expiry() {
        assert_eq!(life(&settings("129600", None, "true")), None);
    }

    #[test]
    fn unreadable_settings_give_no_maximum_life() {
        assert_eq!(Settings::default().max_life(), None);
        assert_eq!(settings("soon", None, "true").max_life(), None);
    }
}
