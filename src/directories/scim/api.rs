//! A SCIM server over HTTP: what it can do, and what its refusals mean.

use std::fmt::Write;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::directories::id::segment;
use crate::sources::Error;
use crate::web::{self, Request, Web};

/// How to give the token what it lacks.
pub const READ_RIGHT: &str = "give its client or application at the identity provider the right to read users \
     and groups by SCIM, or make a token of one that has it";

/// The most people or groups that a page is asked for.
const LARGEST_PAGE: u64 = 500;

/// One SCIM server, and the token by which it is seen.
#[derive(Debug)]
pub struct Api {
    web: Web,
    bearer: HeaderValue,
    base: String,
}

/// What a server can do (RFC 7643 §5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Provider {
    /// Whether it takes filters.
    pub has_filter: bool,
    /// Whether its pages are parted by cursors.
    pub is_by_cursor: bool,
    /// How many a page may be asked to hold. Where the server names no number, none is asked for.
    pub page: Option<u64>,
}

impl Api {
    /// The server whose `Users` are below `base`.
    pub fn new(web: Web, base: &Url, token: &SecretString) -> Result<Self, web::Error> {
        let bearer = format!("Bearer {}", token.expose_secret().trim());
        let base = format!("{}{}", base.origin().ascii_serialization(), base.path());
        Ok(Self {
            web,
            bearer: web::secret_header("the token", &bearer)?,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Request<'_> {
        let types = HeaderValue::from_static("application/scim+json, application/json");
        let request = self.web.get(path).header(ACCEPT.as_str(), types);
        request.header("authorization", self.bearer.clone())
    }

    /// One resource, as it is now.
    pub async fn one<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<T, web::Error> {
        self.get(&resource(kind, id)).json().await
    }

    /// What a path is called in messages.
    pub fn place(&self, path: &str) -> String {
        format!("GET {}/{path}", self.base)
    }

    /// What is wrong with an answer as a whole.
    pub fn unsound(&self, path: &str, reason: &str) -> Error {
        Error::Content {
            place: self.place(path),
            reason: reason.to_owned(),
        }
    }

    /// What the server can do. One that does not say it has pages by index, and no filter.
    pub async fn provider(&self) -> Result<Provider, Error> {
        match self.get("ServiceProviderConfig").json::<Value>().await {
            Ok(told) => Ok(Provider::read(&told)),
            Err(error) if is_not_there(&error) || is_forbidden(&error) => Ok(Provider::default()),
            Err(error) => Err(refused(error, "ServiceProviderConfig")),
        }
    }
}

impl Provider {
    /// Fields that are missing, or not as documented, say nothing.
    fn read(told: &Value) -> Self {
        let flag = |section: &str, key: &str| told[section][key].as_bool();
        let number = |section: &str, key: &str| told[section][key].as_u64().filter(|it| *it > 0);
        let (by_cursor, by_index) = (flag("pagination", "cursor"), flag("pagination", "index"));
        let default = told["pagination"]["defaultPaginationMethod"].as_str();
        let is_by_cursor =
            by_cursor == Some(true) && (by_index == Some(false) || default == Some("cursor"));
        // The limit of filters is one of lists, too, but only where pages go by index: with a cursor, a
        // number that is too large is an error (RFC 9865 §2.2).
        let most = number("filter", "maxResults").filter(|_| !is_by_cursor);
        let page = number("pagination", "maxPageSize").or(most);
        Self {
            has_filter: flag("filter", "supported") == Some(true),
            is_by_cursor,
            page: page.map(|page| page.min(LARGEST_PAGE)),
        }
    }
}

/// An error, in words that say what to add where it is the token or the URL that does not do.
pub fn refused(error: web::Error, path: &str) -> Error {
    let (what, mend) = match error.status() {
        Some(StatusCode::UNAUTHORIZED) => (
            "the server does not accept the token (401)".to_owned(),
            "make a new one at the identity provider and write it as token".to_owned(),
        ),
        Some(StatusCode::FORBIDDEN) => (
            format!("the server forbids the token to read {path} (403)"),
            READ_RIGHT.to_owned(),
        ),
        Some(StatusCode::NOT_FOUND) => (
            format!("the server knows no {path} (404)"),
            "write url as far as its version, such as https://idp.example.org/scim/v2".to_owned(),
        ),
        _ => return error.into(),
    };
    Error::Rights { what, mend }
}

/// Whether there is nothing at that path.
pub fn is_not_there(error: &web::Error) -> bool {
    use StatusCode as S;
    matches!(
        error.status(),
        Some(S::NOT_FOUND | S::NOT_IMPLEMENTED | S::METHOD_NOT_ALLOWED)
    )
}

/// Whether it is not for this token.
pub fn is_forbidden(error: &web::Error) -> bool {
    error.status() == Some(StatusCode::FORBIDDEN)
}

/// Whether the server does not know what was asked of it.
pub fn is_not_understood(error: &web::Error) -> bool {
    use StatusCode as S;
    matches!(error.status(), Some(S::BAD_REQUEST | S::NOT_IMPLEMENTED))
}

/// The path of a resource; what cannot be an id leads to no resource.
pub fn resource(kind: &str, id: &str) -> String {
    format!("{kind}/{}", segment(id).unwrap_or_default())
}

/// A filter for one value (RFC 7644 §3.4.2.2, where a value is written as JSON has it).
pub fn equals(attribute: &str, value: &str) -> String {
    let mut filter = format!("{attribute} eq ");
    let _ = write!(filter, "{}", Value::from(value));
    filter
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
        Provider { has_filter: true, is_by_cursor: false, page: Some(200) }
    )]
    #[case::cursor_alone(
        json!({"filter": {"supported": true, "maxResults": 200}, "pagination": {"cursor": true, "index": false}}),
        Provider { has_filter: true, is_by_cursor: true, page: None }
    )]
    #[case::both(
        json!({"pagination": {"cursor": true, "index": true, "maxPageSize": 1000}}),
        Provider { has_filter: false, is_by_cursor: false, page: Some(LARGEST_PAGE) }
    )]
    #[case::cursor_first(
        json!({"pagination": {"cursor": true, "index": true, "defaultPaginationMethod": "cursor", "maxPageSize": 2}}),
        Provider { has_filter: false, is_by_cursor: true, page: Some(2) }
    )]
    fn a_server_is_believed_what_it_says_of_itself(#[case] told: Value, #[case] is: Provider) {
        assert_eq!(Provider::read(&told), is);
    }

    #[test]
    fn no_value_gets_out_of_its_quotes() {
        assert_eq!(
            equals("userName", "ada@example.org"),
            "userName eq \"ada@example.org\""
        );
        assert_eq!(
            equals("userName", "\"x\" or \\@example.org"),
            "userName eq \"\\\"x\\\" or \\\\@example.org\""
        );
    }

    #[test]
    fn no_id_gets_out_of_its_part_of_the_path() {
        assert_eq!(
            resource("Users", "a/../b?c#d e%"),
            "Users/a%2F..%2Fb%3Fc%23d%20e%25"
        );
        assert_eq!(resource("Users", "59e0-4.b_~"), "Users/59e0-4.b_~");
    }
}
