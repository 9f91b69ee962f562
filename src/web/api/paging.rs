//! Pages of lists: cursors that nobody can forge, and the link to the next page.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, Uri, header};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::web::caller::Caller;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};
use crate::web::state::Web;

const DEFAULT_LIMIT: i64 = 50;
pub const MAX_LIMIT: i64 = 200;
/// In bytes.
const MAC_LENGTH: usize = 16;
/// The setting with the key of the cursors. All replicas have the same.
const CURSOR_KEY: &str = "web.cursor_key";

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page begins; null on the last one.
    pub next_cursor: Option<String>,
}

/// What selects the rows of a list, and where it continues.
pub struct List {
    key: hmac::Key,
    /// The path, the caller and all parameters but `limit` and `cursor`.
    filter: String,
    pub limit: i64,
    cursor: Option<String>,
}

impl List {
    /// # Errors
    /// If the limit is out of range.
    pub async fn new<Q: Serialize>(
        web: &Web,
        caller: &Caller,
        path: &str,
        query: &Q,
    ) -> ApiResult<Self> {
        let mut filter = serde_json::to_value(query).unwrap_or_default();
        let mut take = |name| {
            filter
                .as_object_mut()
                .and_then(|members| members.remove(name))
        };
        let limit = take("limit").and_then(|limit| limit.as_i64());
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        let cursor = take("cursor").and_then(|cursor| cursor.as_str().map(str::to_owned));
        if !(1..=MAX_LIMIT).contains(&limit) {
            let detail = format!("A page has 1 to {MAX_LIMIT} items");
            return Err(ApiError::invalid(vec![ProblemItem::new("?limit", detail)]));
        }
        let key = web.service.setting(CURSOR_KEY, random_key).await?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            filter: format!("{path}\n{}\n{filter}", caller.person.key),
            limit,
            cursor,
        })
    }

    /// One more than a page, so that the last page is known.
    pub fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// Where the list continues.
    ///
    /// # Errors
    /// 400 for a cursor of another list.
    pub fn position<P: DeserializeOwned>(&self) -> ApiResult<Option<P>> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let wrong = || {
            ApiError::bad_request(
                "This cursor is of another list, or of one with other filters; begin again without it",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
        let (mac, position) = bytes.split_at_checked(MAC_LENGTH).ok_or_else(wrong)?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(
            mac,
            self.mac(position).as_slice(),
        )) {
            return Err(wrong());
        }
        serde_json::from_slice(position)
            .map(Some)
            .map_err(|_| wrong())
    }

    fn mac(&self, position: &[u8]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(self.filter.as_bytes());
        context.update(b"\0");
        context.update(position);
        context.sign().as_ref()[..MAC_LENGTH].to_vec()
    }

    fn encode<P: Serialize>(&self, position: &P) -> String {
        let position = serde_json::to_vec(position).unwrap_or_default();
        URL_SAFE_NO_PAD.encode([self.mac(&position), position].concat())
    }

    /// The page of up to [`List::rows`] rows.
    pub fn page<R, T, P: Serialize>(
        &self,
        uri: &Uri,
        mut rows: Vec<R>,
        position: impl Fn(&R) -> P,
        item: impl Fn(R) -> T,
    ) -> Response<Body>
    where
        T: Serialize,
    {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| has_more).map(position);
        let items = rows.into_iter().map(item).collect();
        self.answer(uri, items, last.as_ref())
    }

    /// A page that continues at `next`.
    pub fn answer<T: Serialize, P: Serialize>(
        &self,
        uri: &Uri,
        items: Vec<T>,
        next: Option<&P>,
    ) -> Response<Body> {
        let next_cursor = next.map(|position| self.encode(position));
        let link = next_cursor.as_deref().map(|cursor| link(uri, cursor));
        let mut response = Json(Page { items, next_cursor }).into_response();
        if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// RFC 8288.
fn link(uri: &Uri, cursor: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let given = uri.query().unwrap_or_default();
    for (name, value) in url::form_urlencoded::parse(given.as_bytes()) {
        if name != "cursor" {
            query.append_pair(&name, &value);
        }
    }
    query.append_pair("cursor", cursor);
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())
}

fn random_key() -> String {
    uuid::Uuid::new_v4().to_string() + &uuid::Uuid::new_v4().to_string()
}

/// Keeps apart what is absent and what is null, for a merge patch.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
pub fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

pub fn with_etag(mut response: Response<Body>, version: Option<i64>) -> Response<Body> {
    if let Some(version) = version {
        let tag = crate::web::caller::etag(version);
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

pub fn with_header(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
