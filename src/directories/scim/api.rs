//! Requests to a SCIM server, what the server supports, and what its refusals mean.

use std::collections::HashSet;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::resources::{Page, Resource};
use crate::directories::UNSUPPORTED;
use crate::upstream::Error;
use crate::upstream::http::{self, Client, Request, path_segment};
use crate::upstream::pager::{Content, Next, Pager};

pub(super) const READ_ADVICE: &str = "give the token's client at the identity provider the right to read users and groups \
     by SCIM, or use a token of a client that has it";

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

    fn place(&self, path: &str) -> String {
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

    pub fn list(&self, provider: Provider, query: ListQuery) -> Pages<'_> {
        Pages {
            api: self,
            provider,
            query,
            pager: Pager::default(),
            total: None,
            received: 0,
            ids: HashSet::new(),
        }
    }

    /// Resources found by a filter; `None` if the server does not support the filter or, as some do, ignores it
    /// and returns others.
    pub async fn find<T: Resource>(
        &self,
        provider: Provider,
        query: ListQuery,
        is_match: impl Fn(&T) -> bool,
    ) -> Result<Option<Vec<T>>, Error> {
        let path = query.path;
        let mut pages = self.list(provider, query);
        let mut found = Vec::new();
        loop {
            match none_if_query_unsupported(pages.next().await, path)? {
                Some(None) => return Ok(Some(found)),
                Some(Some(page)) if page.iter().all(&is_match) => found.extend(page),
                _ => return Ok(None),
            }
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

/// Reads a list page by page, and accepts it only with proof that it is complete: by index (RFC 7644 §3.4.2.4)
/// as many resources as `totalResults`, by cursor (RFC 9865 §2) a page without a next cursor.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    api: &'a Api,
    provider: Provider,
    query: ListQuery,
    pager: Pager<Position>,
    /// `totalResults` of the first page.
    pub total: Option<u64>,
    received: u64,
    ids: HashSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Position {
    /// Starts at 1.
    Index(u64),
    Cursor(String),
}

impl Pages<'_> {
    pub fn is_done(&self) -> bool {
        self.pager.is_done()
    }

    pub fn selects_fields(&self) -> bool {
        self.query.attributes.is_some()
    }

    /// The new resources of the next page; `None` after the last.
    pub async fn next<T: Resource>(&mut self) -> Result<Option<Vec<T>>, Error> {
        if self.is_done() {
            return Ok(None);
        }
        let page = match self.fetch_page().await {
            Err(error)
                if self.pager.is_first()
                    && self.selects_fields()
                    && error.has_status(&QUERY_UNSUPPORTED) =>
            {
                self.query.attributes = None;
                self.fetch_page().await
            }
            Err(error) if self.is_at_cursor() && error.has_status(&QUERY_UNSUPPORTED) => {
                return Err(self.invalid_response(
                    "the server rejects a cursor that it issued; the next sync starts over",
                ));
            }
            response => response,
        };
        self.accept_page(page?).map(Some)
    }

    async fn fetch_page<T: DeserializeOwned>(&self) -> Result<Page<T>, Error> {
        let mut request = self.api.get(self.query.path);
        if let Some(attributes) = self.query.attributes {
            request = request.query("attributes", attributes);
        }
        if let Some(filter) = &self.query.filter {
            request = request.query("filter", filter);
        }
        if let Some(page) = self.provider.page {
            request = request.query("count", &page.to_string());
        }
        request = match self.pager.next() {
            Next::First if self.provider.uses_cursors => request.query("cursor", ""),
            Next::First | Next::End => request,
            Next::At(Position::Index(index)) => request.query("startIndex", &index.to_string()),
            Next::At(Position::Cursor(cursor)) => request.query("cursor", cursor),
        };
        Ok(request.json().await?)
    }

    fn is_at_cursor(&self) -> bool {
        matches!(self.pager.next(), Next::At(Position::Cursor(_)))
    }

    /// Checks and counts a page, and sets where the next one is.
    fn accept_page<T: Resource>(&mut self, page: Page<T>) -> Result<Vec<T>, Error> {
        let cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
        let is_first = self.pager.is_first();
        // A server may use cursors without announcing them.
        let uses_cursors =
            cursor.is_some() || self.is_at_cursor() || (is_first && self.provider.uses_cursors);
        let is_list = page.total_results.is_some() || (uses_cursors && page.resources.is_some());
        if !is_list {
            return Err(Error::Http(http::Error::Malformed {
                place: self.api.place(self.query.path),
                reason: "totalResults is missing".to_owned(),
            }));
        }
        if is_first {
            self.total = page.total_results;
        }
        let totals = page.total_results.zip(self.total);
        if totals.is_some_and(|(total, first)| total != first) {
            return Err(self.invalid_response(
                "its pages report different totals; the list changed while it was read",
            ));
        }
        let mut resources = page.resources.unwrap_or_default();
        let count = resources.len();
        self.received += count as u64;
        resources.retain(|resource| self.ids.insert(resource.id().to_owned()));
        let has_more = self.total.is_some_and(|total| self.received < total) && count > 0;
        let next = match cursor {
            Some(cursor) => Some(Position::Cursor(cursor)),
            None => (!uses_cursors && has_more).then_some(Position::Index(self.received + 1)),
        };
        let content = Content::new(count, resources.len());
        let advanced = self.pager.advance(content, next);
        advanced.map_err(|endless| self.invalid_response(&endless.to_string()))?;
        if self.is_done() {
            self.ensure_complete()?;
        }
        Ok(resources)
    }

    /// A resource on two pages has taken the place of another one, so duplicates do not count.
    fn ensure_complete(&self) -> Result<(), Error> {
        let distinct = self.ids.len() as u64;
        let Some(total) = self
            .total
            .filter(|&total| total != self.received || total != distinct)
        else {
            return Ok(());
        };
        let twice = if distinct < self.received {
            ", some of them twice"
        } else {
            ""
        };
        Err(self.invalid_response(&format!(
            "it reports {total} resources but listed {distinct}{twice}; the list changed while \
             it was read, or the server leaves some out of its pages"
        )))
    }

    fn invalid_response(&self, reason: &str) -> Error {
        self.api.invalid_response(self.query.path, reason)
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
