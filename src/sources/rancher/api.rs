//! Rancher's API, as the owner of one token sees it: the Kubernetes API of the cluster that Rancher runs
//! in, through Rancher's proxy, because `/v3/tokens` shows nobody the tokens of others.

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;

use super::shapes::{Object, Page, PageMeta, Review, Version};
use crate::sources::Error;
use crate::web::{self, Request, Web};

/// Legacy tokens, users and their attributes.
pub const MANAGEMENT: &str = "k8s/clusters/local/apis/management.cattle.io/v3";

/// Tokens since Rancher 2.12.
pub const EXT: &str = "k8s/clusters/local/apis/ext.cattle.io/v1";

/// How the ids of ext tokens begin, here and in bearer tokens.
pub const EXT_PREFIX: &str = "ext/";

const REVIEWS: &str = "k8s/clusters/local/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// How many items a page may have.
const PAGE: &str = "500";

/// The rule that shows everything.
pub const RULE: &str = "add the rule apiGroups [\"*\"], resources [\"*\"], verbs [\"get\", \"list\"] to a GlobalRole of \
     its user (and \"delete\" where allow_revoke = true)";

/// One Rancher, and the token by which it is seen.
#[derive(Debug)]
pub struct Api {
    web: Web,
    bearer: HeaderValue,
    /// The external id of that token.
    pub own: String,
}

impl Api {
    /// An API whose token is `NAME:SECRET`, with `ext/` before it for an ext token.
    pub fn new(web: Web, token: &SecretString) -> Result<Self, web::Error> {
        let token = token.expose_secret().trim();
        let name = token.split(':').next().unwrap_or_default();
        Ok(Self {
            web,
            bearer: web::secret_header("the token", &format!("Bearer {token}"))?,
            own: name.to_owned(),
        })
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = self.web.request(method, path);
        request.header("authorization", self.bearer.clone())
    }

    /// What is at a path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.request(Method::GET, path).json().await?)
    }

    /// Deletes what is at a path.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        Ok(self.request(Method::DELETE, path).done().await?)
    }

    /// Whether there is something at a path that nobody is deleting.
    pub async fn stands(&self, path: &str) -> Result<Standing, Error> {
        match readable(self.get::<Object>(path).await, &[StatusCode::NOT_FOUND])? {
            None => Ok(Standing::Gone),
            Some(object) if object.metadata.deletion_timestamp.is_some() => Ok(Standing::Going),
            Some(_) => Ok(Standing::There),
        }
    }

    /// A list, page by page.
    pub fn list(&self, path: &str) -> Pages<'_> {
        Pages {
            api: self,
            path: path.to_owned(),
            next: None,
            remaining: None,
            is_done: false,
        }
    }

    /// Whether the cluster lets the caller do this; `None` where it does not tell.
    pub async fn may(
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
        match request.json::<Review>().await {
            Ok(review) => Ok(Some(review.status.allowed)),
            Err(web::Error::Status { .. } | web::Error::Malformed { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a list of ext tokens brought; `None` where there are no ext tokens, which a cluster says only
    /// to those who might see them.
    pub async fn ext<T>(&self, listed: Result<T, Error>) -> Result<Option<T>, Error> {
        let missing = [StatusCode::NOT_FOUND];
        let is_refused = |error: &Error| status(error) == Some(StatusCode::FORBIDDEN);
        if listed.as_ref().is_err_and(is_refused) {
            let group = self.get::<IgnoredAny>(EXT).await;
            if readable(group, &missing)?.is_none() {
                return Ok(None);
            }
        }
        readable(listed, &missing)
    }

    /// What runs there: `v2.12.1`. Not everybody lets it be known.
    pub async fn version(&self) -> Option<String> {
        let version = self.get::<Version>("rancherversion").await;
        Some(version.ok()?.version)
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    There,
    /// It is being deleted.
    Going,
    /// It is not there.
    Gone,
}

/// A list under way.
pub struct Pages<'a> {
    api: &'a Api,
    path: String,
    next: Option<String>,
    /// How many items come after the pages read so far, where the server says.
    pub remaining: Option<u64>,
    /// Whether the last page has been read.
    pub is_done: bool,
}

impl Pages<'_> {
    /// The next page; `None` after the last.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let mut request = self.api.request(Method::GET, &self.path);
        request = request.query("limit", PAGE);
        if let Some(next) = &self.next {
            request = request.query("continue", next);
        }
        let page = request.json().await.map_err(|error| self.broken(error));
        let Page { metadata, items } = page?;
        // Go writes a list of none as null; a page before others has some.
        let is_last = metadata.next.as_deref().unwrap_or_default().is_empty();
        let has_more = !is_last || metadata.remaining_item_count.unwrap_or(0) > 0;
        if items.is_none() && has_more {
            return Err(self.unfit("a page has no items, but says that there are more"));
        }
        self.turn(metadata)?;
        Ok(Some(items.unwrap_or_default()))
    }

    /// Says what an error means. A list that was there for one page is a list that broke off, and neither
    /// one that does not exist nor one that nobody may see.
    fn broken(&self, error: web::Error) -> Error {
        let error = Error::Web(error);
        match status(&error) {
            Some(StatusCode::NOT_FOUND) if self.next.is_some() => {
                self.unfit("a later page of the list was not found (404)")
            }
            Some(StatusCode::FORBIDDEN) if self.next.is_some() => explained(error),
            _ => error,
        }
    }

    fn unfit(&self, reason: &str) -> Error {
        Error::Content {
            place: self.path.clone(),
            reason: reason.to_owned(),
        }
    }

    fn turn(&mut self, meta: PageMeta) -> Result<(), Error> {
        let next = meta.next.filter(|next| !next.is_empty());
        self.remaining = meta.remaining_item_count;
        if next.is_some() && next == self.next {
            return Err(self.unfit("a page names itself as the next"));
        }
        self.is_done = next.is_none();
        self.next = next;
        Ok(())
    }
}

/// What was read, or nothing where the answer was one of these.
pub fn readable<T>(read: Result<T, Error>, missing: &[StatusCode]) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if status(&error).is_some_and(|status| missing.contains(&status)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The status that Rancher refused with.
pub fn status(error: &Error) -> Option<StatusCode> {
    match error {
        Error::Web(error) => error.status(),
        _ => None,
    }
}

/// Says of a refusal what to do about it.
pub fn explained(error: Error) -> Error {
    let (what, mend) = match status(&error) {
        Some(StatusCode::UNAUTHORIZED) => (
            "Rancher does not accept the token: it has expired, is disabled, or is good for one cluster alone",
            "make a new one without a cluster as its scope, and write it as token",
        ),
        Some(StatusCode::FORBIDDEN) => ("Rancher does not let the token see what it must", RULE),
        _ => return error,
    };
    Error::Rights {
        what: format!("{what} ({error})"),
        mend: mend.to_owned(),
    }
}

/// Whether this can be the name of an object, so that it is safe in a path.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}
