//! Requests to a SCIM server, what the server supports, and what its refusals mean.

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::upstream::Error;
use crate::upstream::http::{self, Client, Request, path_segment};

pub const READ_ADVICE: &str = "give the token's client at the identity provider the right to read users and groups \
     by SCIM, or use a token of a client that has it";

const LARGEST_PAGE: u64 = 500;

#[derive(Debug)]
pub struct Session {
    web: Client,
    bearer: HeaderValue,
    base: String,
}

/// What a server supports (RFC 7643 §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Provider {
    pub supports_filters: bool,
    pub uses_cursors: bool,
    /// The page size to request; `None` if the server does not report a limit.
    pub page: Option<u64>,
}

impl Session {
    pub fn new(web: Client, base: &Url, token: &SecretString) -> Result<Self, http::Error> {
        let bearer = format!("Bearer {}", token.expose_secret().trim());
        let base = format!("{}{}", base.origin().ascii_serialization(), base.path());
        Ok(Self {
            web,
            bearer: http::secret_header("the token", &bearer)?,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    pub fn get(&self, path: &str) -> Request<'_> {
        let types = HeaderValue::from_static("application/scim+json, application/json");
        let request = self.web.get(path).header(ACCEPT.as_str(), types);
        request.header("authorization", self.bearer.clone())
    }

    pub async fn fetch<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<T, http::Error> {
        self.get(&resource_path(kind, id)).json().await
    }

    /// A path as messages show it.
    pub fn place(&self, path: &str) -> String {
        format!("GET {}/{path}", self.base)
    }

    pub fn invalid_response(&self, path: &str, reason: &str) -> Error {
        Error::Content {
            place: self.place(path),
            reason: reason.to_owned(),
        }
    }

    /// What the server supports; pages by index and no filters if it does not report it.
    pub async fn fetch_provider(&self) -> Result<Provider, Error> {
        match self.get("ServiceProviderConfig").json::<Value>().await {
            Ok(config) => Ok(Provider::parse(&config)),
            Err(error) if is_unsupported(&error) || is_forbidden(&error) => Ok(Provider::default()),
            Err(error) => Err(explain_refusal(error, "ServiceProviderConfig")),
        }
    }
}

impl Provider {
    /// Ignores fields that are missing or invalid.
    fn parse(config: &Value) -> Self {
        let flag = |section: &str, key: &str| config[section][key].as_bool();
        let number =
            |section: &str, key: &str| config[section][key].as_u64().filter(|number| *number > 0);
        let (by_cursor, by_index) = (flag("pagination", "cursor"), flag("pagination", "index"));
        let default = config["pagination"]["defaultPaginationMethod"].as_str();
        let uses_cursors =
            by_cursor == Some(true) && (by_index == Some(false) || default == Some("cursor"));
        // The limit of filters applies to lists by index, too. With a cursor, a size that is too large is an
        // error (RFC 9865 §2.2).
        let filter_limit = number("filter", "maxResults").filter(|_| !uses_cursors);
        let page = number("pagination", "maxPageSize").or(filter_limit);
        Self {
            supports_filters: flag("filter", "supported") == Some(true),
            uses_cursors,
            page: page.map(|page| page.min(LARGEST_PAGE)),
        }
    }
}

/// Adds advice to a refusal.
pub fn explain_refusal(error: http::Error, path: &str) -> Error {
    let (what, fix) = match error.status() {
        Some(StatusCode::UNAUTHORIZED) => (
            "the server does not accept the token (401)".to_owned(),
            "create a new one at the identity provider and set token to it".to_owned(),
        ),
        Some(StatusCode::FORBIDDEN) => (
            format!("the server does not let the token read {path} (403)"),
            READ_ADVICE.to_owned(),
        ),
        Some(StatusCode::NOT_FOUND) => (
            format!("the server has no {path} (404)"),
            "write url up to its version, such as https://idp.example.org/scim/v2".to_owned(),
        ),
        _ => return error.into(),
    };
    Error::Rights { what, fix }
}

/// Whether the server lacks this part of the API.
pub fn is_unsupported(error: &http::Error) -> bool {
    use StatusCode as S;
    matches!(
        error.status(),
        Some(S::NOT_FOUND | S::NOT_IMPLEMENTED | S::METHOD_NOT_ALLOWED)
    )
}

pub fn is_forbidden(error: &http::Error) -> bool {
    error.status() == Some(StatusCode::FORBIDDEN)
}

/// Whether the server does not support the parameters of a request.
pub fn is_query_unsupported(error: &http::Error) -> bool {
    use StatusCode as S;
    matches!(error.status(), Some(S::BAD_REQUEST | S::NOT_IMPLEMENTED))
}

/// The path of a resource; an invalid id leads to no resource.
pub fn resource_path(kind: &str, id: &str) -> String {
    format!("{kind}/{}", path_segment(id).unwrap_or_default())
}

/// A filter for one value, which is quoted as in JSON (RFC 7644 §3.4.2.2).
pub fn eq_filter(attribute: &str, value: &str) -> String {
    format!("{attribute} eq {}", Value::from(value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::nothing(json!({}), Provider::default())]
    #[case::none(json!(null), Provider::default())]
    #[case::another_type(json!({"filter": "yes", "pagination": []}), Provider::default())]
    #[case::no_filter(
        json!({"filter": {"supported": false, "maxResults": 0}}),
        Provider::default()
    )]
    #[case::filter(
        json!({"filter": {"supported": true, "maxResults": 200}}),
        Provider { supports_filters: true, uses_cursors: false, page: Some(200) }
    )]
    #[case::cursor_alone(
        json!({"filter": {"supported": true, "maxResults": 200}, "pagination": {"cursor": true, "index": false}}),
        Provider { supports_filters: true, uses_cursors: true, page: None }
    )]
    #[case::both(
        json!({"pagination": {"cursor": true, "index": true, "maxPageSize": 1000}}),
        Provider { supports_filters: false, uses_cursors: false, page: Some(LARGEST_PAGE) }
    )]
    #[case::cursor_first(
        json!({"pagination": {"cursor": true, "index": true, "defaultPaginationMethod": "cursor", "maxPageSize": 2}}),
        Provider { supports_filters: false, uses_cursors: true, page: Some(2) }
    )]
    fn features_are_read_from_the_provider_config(#[case] config: Value, #[case] is: Provider) {
        assert_eq!(Provider::parse(&config), is);
    }

    #[test]
    fn a_value_stays_in_its_quotes() {
        assert_eq!(
            eq_filter("userName", "ada@example.org"),
            "userName eq \"ada@example.org\""
        );
        assert_eq!(
            eq_filter("userName", "\"x\" or \\@example.org"),
            "userName eq \"\\\"x\\\" or \\\\@example.org\""
        );
    }

    #[test]
    fn an_id_stays_one_segment_of_the_path() {
        assert_eq!(
            resource_path("Users", "a/../b?c#d e%"),
            "Users/a%2F..%2Fb%3Fc%23d%20e%25"
        );
        assert_eq!(resource_path("Users", "59e0-4.b_~"), "Users/59e0-4.b_~");
    }
}
