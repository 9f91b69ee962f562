//! Requests to Okta, with an access token that is granted for an assertion signed by the app's key.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, LINK};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::{Config, PAGE_SIZE, check, link};
use crate::clock::Clock;
use crate::directories::Common;
use crate::directories::access_tokens::AccessTokens;
use crate::directories::assertion::{self, ASSERTION_TYPE, Algorithm, Signer};
use crate::sources::Error;
use crate::upstream::http::{self, Client, Request};

/// The token endpoint of the organisation's own authorisation server.
const TOKEN_PATH: &str = "oauth2/v1/token";

/// Okta's error code for a resource that does not exist.
pub(super) const NOT_FOUND: &str = "E0000007";

/// Leaves credentials and their links out of users.
const BRIEF: HeaderValue = HeaderValue::from_static(
    "application/json; okta-response=\"omitCredentials,omitCredentialsLinks,omitTransitioningToStatus\"",
);

/// Query parameters of a list, except its limit.
pub(super) type Query = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(super) struct Session {
    web: Client,
    access_tokens: AccessTokens,
    app: App,
    /// The scopes, with spaces between them.
    scope: String,
}

#[derive(Debug)]
struct App {
    client_id: String,
    signer: Signer,
    key_id: Option<String>,
    /// The `aud` of assertions.
    audience: String,
}

impl Session {
    pub fn new(config: &Config, common: &Common) -> Result<Self, Error> {
        let (signer, key_id) = read_private_key(&config.private_key)?;
        let base = config.url.as_str().trim_end_matches('/');
        let has_groups = !common.allowed_groups.is_empty();
        Ok(Self {
            web: Client::new(&config.url, None, common.timeout)?,
            access_tokens: AccessTokens::default(),
            app: App {
                client_id: config.client_id.clone(),
                signer,
                key_id: config.key_id.clone().or(key_id),
                audience: format!("{base}/{TOKEN_PATH}"),
            },
            scope: check::scopes(has_groups).join(" "),
        })
    }

    /// Requests an access token for this scope alone.
    pub async fn try_scope(&self, scope: &str) -> Result<(), http::Error> {
        let access_tokens = AccessTokens::default();
        let form = || self.app.form(scope);
        access_tokens
            .bearer(&self.web, TOKEN_PATH, form)
            .await
            .map(drop)
    }

    async fn bearer(&self) -> Result<HeaderValue, http::Error> {
        let form = || self.app.form(&self.scope);
        self.access_tokens.bearer(&self.web, TOKEN_PATH, form).await
    }

    pub async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, http::Error> {
        let make = || Ok(self.web.get(path));
        self.send(make).await.map(|(_, it)| it)
    }

    /// Like [`Session::fetch`] for a path that holds an address; messages show `shown` instead.
    pub async fn fetch_shown_as<T: DeserializeOwned>(
        &self,
        path: &str,
        shown: &str,
    ) -> Result<T, http::Error> {
        let make = || Ok(self.web.get(path).shown_as(shown));
        self.send(make).await.map(|(_, it)| it)
    }

    /// The first item of a list, if any.
    pub async fn fetch_first<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Vec<T>, http::Error> {
        let make = || Ok(self.web.get(path).query("limit", "1"));
        self.send(make).await.map(|(_, page)| page)
    }

    pub fn pager(&self, path: &str, query: Query) -> Pager<'_> {
        Pager {
            session: self,
            path: path.to_owned(),
            query,
            next: Next::First,
            seen: BTreeSet::new(),
        }
    }

    /// Sends a request, and again with a new access token if Okta rejects the token with 401.
    async fn send<'a, T: DeserializeOwned>(
        &'a self,
        make: impl Fn() -> Result<Request<'a>, http::Error>,
    ) -> Result<(HeaderMap, T), http::Error> {
        let request = |bearer| {
            let request = make()?.header("content-type", BRIEF);
            Ok::<_, http::Error>(request.header("authorization", bearer))
        };
        match request(self.bearer().await?)?.json_with_headers().await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
                self.access_tokens.forget().await;
                request(self.bearer().await?)?.json_with_headers().await
            }
            response => response,
        }
    }
}

impl App {
    /// The fields of a request for an access token (RFC 7523 §2.2).
    fn form(&self, scope: &str) -> Result<Vec<(&'static str, String)>, http::Error> {
        let claims = assertion::new_claims(&self.client_id, &self.audience, Clock::system().now())?;
        let header: Vec<(&str, &str)> = self.key_id.iter().map(|id| ("kid", id.as_str())).collect();
        Ok(vec![
            ("grant_type", "client_credentials".to_owned()),
            ("scope", scope.to_owned()),
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", self.signer.sign(&header, &claims)?),
        ])
    }
}

/// Reads a list page by page.
#[derive(Debug)]
pub(super) struct Pager<'a> {
    session: &'a Session,
    path: String,
    query: Query,
    next: Next,
    /// Links that were followed.
    seen: BTreeSet<String>,
}

#[derive(Debug)]
enum Next {
    First,
    Link(String),
    End,
}

impl Pager<'_> {
    /// Whether an error of [`Pager::next_page`] means that Okta does not support the query. A filter or a search
    /// that was accepted once is not refused on a later page.
    pub fn is_query_refused(&self, error: &Error) -> bool {
        let is_first = matches!(self.next, Next::First);
        is_first
            && !self.query.is_empty()
            && matches!(error, Error::Http(error) if is_query_unsupported(error))
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// When it cannot be read, or it is unclear whether it is the last.
    pub async fn next_page<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, Error> {
        let (session, path, query) = (self.session, &self.path, &self.query);
        let response = match &self.next {
            Next::First => {
                session
                    .send(|| Ok(first_page(&session.web, path, query)))
                    .await
            }
            Next::Link(link) => session.send(|| session.web.follow(link)).await,
            Next::End => return Ok(None),
        };
        let (headers, page): (_, Vec<T>) = response.map_err(explain_refusal)?;
        let invalid_response = |reason: &str| Error::Content {
            place: format!("GET {path}"),
            reason: reason.to_owned(),
        };
        let next = link::next(&headers).map_err(|_| {
            invalid_response("its Link header, which names the next page, cannot be parsed")
        })?;
        // Okta links at least to the page itself.
        if page.len() >= PAGE_SIZE && !headers.contains_key(LINK) {
            return Err(invalid_response(
                "a full page came without a Link header, which names the next page; \
                 configure the proxy in between to pass it on",
            ));
        }
        self.next = match next {
            Some(link) if !self.seen.insert(link.clone()) => {
                return Err(invalid_response("a page links to an earlier page"));
            }
            Some(link) => Next::Link(link),
            None => Next::End,
        };
        Ok(Some(page))
    }
}

fn first_page<'a>(web: &'a Client, path: &str, query: &Query) -> Request<'a> {
    let request = web.get(path).query("limit", &PAGE_SIZE.to_string());
    let add = |request: Request<'a>, (name, value): &(&str, String)| request.query(name, value);
    query.iter().fold(request, add)
}

/// Whether Okta itself reports 404, and not a proxy.
pub(super) fn is_not_found(error: &http::Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND) && error.code() == Some(NOT_FOUND)
}

/// Whether the query was refused (`E0000031` is an invalid filter), and not the app.
pub(super) fn is_query_unsupported(error: &http::Error) -> bool {
    let is_okta = error.code().is_none_or(|code| code.starts_with('E'));
    error.status() == Some(StatusCode::BAD_REQUEST) && is_okta
}

/// Adds advice to a refusal.
pub(super) fn explain_refusal(error: http::Error) -> Error {
    check::refusal_advice(&error).unwrap_or_else(|| error.into())
}

/// Reads a key as PEM or JWK, with Okta's id of the key if the text has one.
///
/// # Errors
/// When it is not a private key of a kind that Okta accepts.
fn read_private_key(text: &SecretString) -> Result<(Signer, Option<String>), Error> {
    /// What messages call the text.
    const PLACE: &str = "private_key";
    let text = text.expose_secret().trim();
    if text.starts_with('{') {
        return Signer::from_jwk(PLACE, text);
    }
    let from_pem = |algorithm| Signer::from_pem(PLACE, text.as_bytes(), algorithm);
    let is_ec = text.contains("-----BEGIN EC PRIVATE KEY-----");
    let signer = from_pem(Algorithm::Rs256).or_else(|rsa_error| {
        from_pem(Algorithm::Es256).map_err(|ec_error| if is_ec { ec_error } else { rsa_error })
    })?;
    Ok((signer, None))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const RSA: &str = include_str!("../../../tests/data/assertion/rsa.pem");
    const RSA_PKCS1: &str = include_str!("../../../tests/data/assertion/rsa-pkcs1.pem");
    const RSA_JWK: &str = include_str!("../../../tests/data/assertion/rsa.jwk");
    const EC: &str = include_str!("../../../tests/data/assertion/ec.pem");
    const EC_JWK: &str = include_str!("../../../tests/data/assertion/ec.jwk");
    const EC_SEC1: &str = include_str!("../../../tests/data/assertion/ec-sec1.pem");
    const ENCRYPTED: &str = include_str!("../../../tests/data/assertion/encrypted.pem");

    #[rstest]
    #[case::pkcs8(RSA, "Rs256", None)]
    #[case::pkcs1(RSA_PKCS1, "Rs256", None)]
    #[case::jwk(RSA_JWK, "Rs256", Some("k-rsa"))]
    #[case::set("{\"keys\": [KEY]}", "Rs256", Some("k-rsa"))]
    #[case::ec(EC, "Es256", None)]
    #[case::ec_jwk(EC_JWK, "Es256", Some("k-ec"))]
    fn each_form_is_read(#[case] text: &str, #[case] algorithm: &str, #[case] id: Option<&str>) {
        let text = text.replace("KEY]", &format!("{RSA_JWK}]"));
        let (signer, found) = read_private_key(&text.into()).unwrap();
        let shown = format!("Signer {{ algorithm: {algorithm}, .. }}");
        assert_eq!(format!("{signer:?}"), shown);
        assert_eq!(found.as_deref(), id);
    }

    #[rstest]
    #[case::encrypted(ENCRYPTED, "without a passphrase")]
    #[case::sec1(EC_SEC1, "in SEC1 (BEGIN EC PRIVATE KEY), but must be in PKCS #8")]
    #[case::something_else("hidden", "it has no private key")]
    #[case::broken_json("{\"kty\": \"hidden", "not a JSON Web Key")]
    fn an_unreadable_key_is_refused_and_not_shown(#[case] text: &str, #[case] expected: &str) {
        let error = read_private_key(&text.into()).unwrap_err().to_string();
        assert!(error.starts_with("private_key: "), "{error}");
        assert!(
            error.contains(expected) && !error.contains("hidden"),
            "{error}"
        );
    }
}
