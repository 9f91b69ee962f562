//! Requests to a SCIM server, what the server supports, and what its refusals mean.

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::directories::UNSUPPORTED;
use crate::upstream::Error;
use crate::upstream::http::{self, Client, Request, path_segment};

pub(super) const READ_ADVICE: &str = "give the token's client at the identity provider the right to read users and groups \
     by SCIM, or use a token of a client that has it";

pub(super) const USERS: &str = "Users";
pub(super) const EMAILS: &str = "emails.value";

pub(super) const FIELDS: &str = "id,userName,active,emails,displayName,name";

pub(super) const FIELDS_AND_GROUPS: &str = "id,userName,active,emails,displayName,name,groups";

const MAX_PAGE_SIZE: u64 = 500;

/// Responses to parameters that the server does not support.
pub(super) const QUERY_UNSUPPORTED: [StatusCode; 2] =
    [StatusCode::BAD_REQUEST, StatusCode::NOT_IMPLEMENTED];

#[derive(Debug)]
pub(super) struct Api {
    web: Client,
    bearer: HeaderValue,
    base: String,
}

/// What a server supports (RFC 7643 §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Provider {
    pub supports_filters: bool,
    pub uses_cursors: bool,
    /// The page size to request; `None` if the server does not report a limit.
    pub page: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct ListQuery {
    pub path: &'static str,
    /// The requested fields; `None` requests all.
    pub attributes: Option<&'static str>,
    pub filter: Option<String>,
}

impl Api {
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

    pub async fn fetch<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<T, Error> {
        Ok(self.get(&resource_path(kind, id)).json().await?)
    }

    pub fn place(&self, path: &str) -> String {
        format!("GET {}/{path}", self.base)
    }

    pub fn invalid_response(&self, path: &str, reason: &str) -> Error {
        Error::content(self.place(path), reason)
    }

    /// What the server supports; pages by index and no filters if it does not report it.
    pub async fn fetch_provider(&self) -> Result<Provider, Error> {
        let path = "ServiceProviderConfig";
        match self.get(path).json::<Value>().await.map_err(Error::from) {
            Ok(config) => Ok(Provider::parse(&config)),
            Err(error)
                if error.has_status(&UNSUPPORTED)
                    || error.status() == Some(StatusCode::FORBIDDEN) =>
            {
                Ok(Provider::default())
            }
            Err(error) => Err(explain_refusal(error, path)),
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
            page: page.map(|page| page.min(MAX_PAGE_SIZE)),
        }
    }
}

pub(super) fn users_query(attributes: Option<&'static str>) -> ListQuery {
    ListQuery {
        path: USERS,
        attributes,
        filter: None,
    }
}

/// `None` if the server does not support the query: it refuses it, or its response does not fit. The caller
/// then tries another query.
pub(super) fn none_if_query_unsupported<T>(
    response: Result<T, Error>,
    path: &str,
) -> Result<Option<T>, Error> {
    let is_unsupported = match &response {
        Err(Error::Content { .. } | Error::Http(http::Error::Malformed { .. })) => true,
        Err(error) => error.status().is_some_and(|status| {
            let is_refusal = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
            is_refusal && status != StatusCode::UNAUTHORIZED
        }),
        Ok(_) => false,
    };
    match response {
        Err(_) if is_unsupported => Ok(None),
        Err(error) => Err(explain_refusal(error, path)),
        Ok(response) => Ok(Some(response)),
    }
}

pub(super) fn explain_refusal(error: Error, path: &str) -> Error {
    let rejected = "the server does not accept the token (401)";
    let denied = format!("the server does not let the token read {path} (403)");
    let missing = format!("the server has no {path} (404)");
    let token_advice = "create a new one at the identity provider and set token to it";
    let url_advice = "write url up to its version, such as https://idp.example.org/scim/v2";
    error.explain(&[
        (StatusCode::UNAUTHORIZED, rejected, token_advice),
        (StatusCode::FORBIDDEN, &denied, READ_ADVICE),
        (StatusCode::NOT_FOUND, &missing, url_advice),
    ])
}

/// The path of a resource; an invalid id leads to no resource.
pub(super) fn resource_path(kind: &str, id: &str) -> String {
    format!("{kind}/{}", path_segment(id).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::directories::eq_filter;

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
        Provider { supports_filters: false, uses_cursors: false, page: Some(MAX_PAGE_SIZE) }
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
