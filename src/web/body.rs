//! Reads bodies, queries and paths, and says precisely what is wrong with them.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use serde::de::{Deserialize as _, DeserializeOwned, Deserializer};
use serde_json::Value;
use tokio::time::timeout;

use super::fields::members;
use super::problem::{ApiError, ApiResult, ProblemItem};
use crate::nearest::nearest;
use crate::text::MAX_TEXT;

pub const MAX_BODY_BYTES: usize = 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Of a query or a form; no request has more.
const MAX_PAIRS: usize = 100;
/// What an answer names; there may be as many as fit into a body.
const MAX_ITEMS: usize = 20;
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const FORM: &str = "application/x-www-form-urlencoded";

/// A body that has not been read: the right to a resource and the precondition are checked first.
pub struct ApiBody {
    headers: HeaderMap,
    body: Body,
}

impl ApiBody {
    pub async fn json<T: DeserializeOwned>(self) -> ApiResult<T> {
        self.require_type(&[JSON])?;
        parse_json(&self.bytes().await?)
    }

    /// JSON that is parsed by [`parse_json`], because its bytes are signed.
    pub async fn json_bytes(self, limit: usize) -> ApiResult<Vec<u8>> {
        self.require_type(&[JSON])?;
        self.bytes_up_to(limit).await
    }

    /// JSON, or nothing, which is the same as `{}`.
    pub async fn json_or_empty<T: DeserializeOwned>(self) -> ApiResult<T> {
        parse_json(&self.json_or_empty_bytes().await?)
    }

    /// The bytes of a body that is JSON, or nothing, which is the same as `{}`; to be read by [`parse_json`].
    pub async fn json_or_empty_bytes(self) -> ApiResult<Vec<u8>> {
        let has_type = self.headers.contains_key(CONTENT_TYPE);
        let typed = self.require_type(&[JSON]);
        let bytes = self.bytes().await?;
        if !bytes.is_empty() || has_type {
            typed?;
        }
        Ok(if bytes.is_empty() {
            b"{}".to_vec()
        } else {
            bytes
        })
    }

    /// JSON or a merge patch (RFC 7396).
    pub async fn patch<T: DeserializeOwned>(self) -> ApiResult<T> {
        self.require_type(&[JSON, MERGE_PATCH])?;
        parse_json(&self.bytes().await?)
    }

    /// A form (`application/x-www-form-urlencoded`), with the names of `T`; others are ignored, as OAuth asks for.
    pub async fn form<T: DeserializeOwned>(self) -> ApiResult<T> {
        self.require_type(&[FORM])?;
        let bytes = self.bytes().await?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| ApiError::bad_request("The body is not UTF-8"))?;
        read_pairs(text, "/").map_err(ApiError::into_bad_request)
    }

    /// At most [`MAX_BODY_BYTES`].
    pub async fn bytes(self) -> ApiResult<Vec<u8>> {
        self.bytes_up_to(MAX_BODY_BYTES).await
    }

    pub async fn bytes_up_to(self, limit: usize) -> ApiResult<Vec<u8>> {
        let too_large = || {
            let detail = format!("The body is larger than {limit} bytes");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
        };
        let announced = self.headers.get(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let read = async {
            let mut chunks = self.body.into_data_stream();
            let mut bytes = Vec::new();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| ApiError::bad_request("The body was cut off"))?;
                if bytes.len() + chunk.len() > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        };
        timeout(BODY_TIMEOUT, read).await.unwrap_or_else(|_| {
            let detail = "The body did not arrive in time";
            Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                detail,
            ))
        })
    }

    fn require_type(&self, allowed: &[&str]) -> ApiResult<()> {
        let given = self.headers.get(CONTENT_TYPE);
        let given = given.and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = given.split(';').next().unwrap_or_default().trim();
        if allowed.iter().any(|it| essence.eq_ignore_ascii_case(it)) {
            return Ok(());
        }
        let allowed = allowed.join(" or ");
        let detail = format!("The body must be {allowed}; say so in Content-Type");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(ApiError::new(status, "unsupported-media-type", detail))
    }
}

impl<S: Sync> FromRequest<S> for ApiBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        Ok(Self { headers, body })
    }
}

/// The parameters of the query. Unknown and repeated ones are refused.
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let query = parts.uri.query().unwrap_or_default();
        let known = members::<T>();
        let names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        let unknown = names.filter(|name| !known.is_empty() && !known.contains(&&**name));
        let items: Vec<_> = unknown
            .take(MAX_ITEMS)
            .map(|name| unknown_member(&format!("?{name}"), &name, known))
            .collect();
        if !items.is_empty() {
            return Err(ApiError::invalid(items));
        }
        read_pairs(query, "?").map(Self)
    }
}

/// The parameters of the path; one that cannot be read is the id of nothing.
pub struct ApiPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        // PostgreSQL has no text with the character 0, so it is the id of nothing.
        if parts.uri.path().contains("%00") {
            return Err(ApiError::not_found());
        }
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(read)| Self(read))
            .map_err(|_| ApiError::not_found())
    }
}

pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let detail = format!("The body is not JSON: line {line}, column {column}");
        ApiError::bad_request(detail)
    })?;
    let mut items = Vec::new();
    let zero = find_zero_character(&value);
    items.extend(zero.map(|path| ProblemItem::new(path, "It contains a zero character")));
    let known = members::<T>();
    if !known.is_empty() {
        // A struct could be read from an array, too.
        let Value::Object(object) = &value else {
            return Err(ApiError::invalid(vec![ProblemItem::new(
                "",
                "It must be a JSON object",
            )]));
        };
        let unknown = object.keys().filter(|name| !known.contains(&name.as_str()));
        let unknown = unknown.take(MAX_ITEMS);
        items.extend(unknown.map(|name| unknown_member(&pointer([name.as_str()]), name, known)));
    }
    if !items.is_empty() {
        return Err(ApiError::invalid(items));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer_of(error.path());
        ApiError::invalid(vec![ProblemItem::new(pointer, describe(error.inner()))])
    })
}

/// Why something is done. It is not cut, so that the audit trail has all of it.
pub fn read_reason<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let reason = Option::<String>::deserialize(from)?;
    let is_long = |text: &String| text.chars().count() > MAX_TEXT;
    if reason.as_ref().is_some_and(is_long) {
        let detail = format!("A reason has at most {MAX_TEXT} characters");
        return Err(serde::de::Error::custom(detail));
    }
    Ok(reason)
}

/// Without the value, which may be a secret in the wrong place.
fn describe(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("It must be {expected}"),
        None => text,
    }
}

/// Pairs of names and values, as in a query or a form.
fn read_pairs<T: DeserializeOwned>(text: &str, mark: &str) -> ApiResult<T> {
    let mut names = HashSet::new();
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        let pointer = format!("{mark}{name}");
        let detail = if value.contains('\0') {
            "It contains a zero character"
        } else if names.len() == MAX_PAIRS {
            "There are too many parameters"
        } else if !names.insert(name) {
            "It is given more than once"
        } else {
            continue;
        };
        return Err(ApiError::invalid(vec![ProblemItem::new(pointer, detail)]));
    }
    let pairs = url::form_urlencoded::parse(text.as_bytes());
    let pairs = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let pointer = format!("{mark}{}", error.path());
        ApiError::invalid(vec![ProblemItem::new(pointer, describe(error.inner()))])
    })
}

fn unknown_member(pointer: &str, name: &str, known: &[&str]) -> ProblemItem {
    let nearest = nearest(name, known.iter().copied());
    let fix = nearest.map_or_else(
        || format!("leave it out; known are {}", known.join(", ")),
        |name| format!("write {name}, or leave it out"),
    );
    ProblemItem::new(pointer, "It is unknown here").fix(Some(fix))
}

/// The pointer to the first text with the character 0, which PostgreSQL cannot store.
fn find_zero_character(value: &Value) -> Option<String> {
    let below = |name: &str, value| {
        let path = find_zero_character(value)?;
        Some(format!("{}{path}", pointer([name])))
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => {
            let mut indexed = values.iter().enumerate();
            indexed.find_map(|(index, value)| below(&index.to_string(), value))
        }
        Value::Object(members) => {
            let mut members = members.iter();
            members.find_map(|(name, value)| below(name, value))
        }
        _ => None,
    }
}

fn pointer<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names = names.into_iter();
    let names = names.map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
    names.collect()
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let names = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Map { key } => Some(key.clone()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    let names: Vec<String> = names.collect();
    pointer(names.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only whether it can be read is tested")]
    struct Sample {
        name: String,
        scopes: Option<Vec<String>>,
        limit: Option<u32>,
    }

    fn problem(error: ApiError) -> Value {
        let bytes = axum::body::to_bytes(error.body("/here", "1"), MAX_BODY_BYTES);
        let bytes = futures_util::FutureExt::now_or_never(bytes);
        serde_json::from_slice(&bytes.unwrap().unwrap()).unwrap()
    }

    #[rstest]
    #[case::a_near_member(r#"{"nmae": "x"}"#, "/nmae", Some("write name, or leave it out"))]
    #[case::a_far_member(
        r#"{"a/b": "x"}"#,
        "/a~1b",
        Some("leave it out; known are name, scopes, limit")
    )]
    #[case::a_wrong_type(r#"{"name": "x", "scopes": ["a", 1]}"#, "/scopes/1", None)]
    #[case::a_zero_character(r#"{"name": "x", "scopes": ["\u0000"]}"#, "/scopes/0", None)]
    #[case::out_of_range(r#"{"name": "x", "limit": -1}"#, "/limit", None)]
    #[case::an_array(r#"["x"]"#, "", None)]
    fn what_is_wrong_is_named(
        #[case] body: &str,
        #[case] pointer: &str,
        #[case] fix: Option<&str>,
    ) {
        let error = parse_json::<Sample>(body.as_bytes()).unwrap_err();
        assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem = problem(error);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        assert_eq!(problem["errors"][0]["fix"].as_str(), fix, "{problem}");
    }

    #[test]
    fn a_reason_is_not_cut() {
        #[derive(Debug, Deserialize)]
        struct Reason {
            #[serde(deserialize_with = "read_reason")]
            reason: Option<String>,
        }
        let body = |length| serde_json::json!({"reason": "é".repeat(length)}).to_string();
        let read = parse_json::<Reason>(body(MAX_TEXT).as_bytes()).unwrap();
        assert_eq!(read.reason.unwrap().chars().count(), MAX_TEXT);
        let error = parse_json::<Reason>(body(MAX_TEXT + 1).as_bytes()).unwrap_err();
        assert_eq!(problem(error)["errors"][0]["pointer"], "/reason");
    }

    #[rstest]
    #[case::empty(b"" as &[u8])]
    #[case::cut(br#"{"name": "#)]
    #[case::not_utf8(b"\"\xff\"")]
    #[case::deep("[".repeat(100_000).into_bytes())]
    fn what_is_no_json_is_a_bad_request(#[case] body: impl AsRef<[u8]>) {
        let error = parse_json::<Sample>(body.as_ref()).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }

    #[rstest]
    #[case::unknown("limt=1", "?limt")]
    #[case::not_a_number("name=a&limit=x", "?limit")]
    #[case::twice("name=a&name=b", "?name")]
    #[case::a_zero_character("name=%00", "?name")]
    #[tokio::test]
    async fn a_wrong_parameter_is_named(#[case] query: &str, #[case] pointer: &str) {
        let request = axum::http::Request::get(format!("/?{query}"))
            .body(())
            .unwrap();
        let (mut parts, ()) = request.into_parts();
        let read = ApiQuery::<Sample>::from_request_parts(&mut parts, &()).await;
        let problem = problem(read.err().unwrap());
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        assert_eq!(problem["status"], json!(422));
    }
}
