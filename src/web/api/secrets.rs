//! Answers with a secret: to a new token and to a regenerated one.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use chrono::{DateTime, Utc};
use hyper::body::{Frame, SizeHint};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::target::find_version;
use super::token_body::{IssuedToken, LifetimeFields, read_id, read_span};
use crate::domain::TokenId;
use crate::domain::service::{NewToken, Operation, Regeneration};
use crate::service::Service;
use crate::service::idempotency::Repeatable;
use crate::service::issue::{Issued, Once, Outcome};
use crate::web::body::{ApiBody, ApiPath, parse_json, read_reason};
use crate::web::caller::{Caller, Precondition, etag};
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult};
use crate::web::state::{AppState, Web};
use crate::web::well_known::base_url;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What is answered, and answered again to a repeated request.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    id: TokenId,
    version: i64,
    body: serde_json::Value,
}

/// # Errors
/// If the key of the request cannot be one.
pub fn repeatable(
    headers: &HeaderMap,
    caller: &Caller,
    path: &str,
    body: &[u8],
) -> ApiResult<Option<Repeatable>> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|_| keys.next().is_none());
    let key = key.ok_or_else(|| ApiError::bad_request("Send one Idempotency-Key in ASCII"))?;
    let parts = [path.as_bytes(), body];
    let read = Repeatable::new(key, caller.token.clone(), &parts);
    Ok(Some(read.map_err(|problem| {
        ApiError::bad_request(problem.to_string())
    })?))
}

pub async fn answer_again(
    web: &Web,
    request: Option<&Repeatable>,
) -> ApiResult<Option<SecretString>> {
    match request {
        Some(request) => Ok(web.service.answer_again(request).await?),
        None => Ok(None),
    }
}

/// The answer that was given before. Whoever made the first request may not have got it.
pub fn respond_again(web: &Web, status: StatusCode, answer: &SecretString) -> Response<Body> {
    match serde_json::from_str::<Answer>(answer.expose_secret()) {
        Ok(answer) => respond(web, status, &answer),
        Err(_) => axum::response::IntoResponse::into_response(ApiError::internal()),
    }
}

/// The answer with a secret, which counts as shown once the body is handed over.
fn respond(web: &Web, status: StatusCode, answer: &Answer) -> Response<Body> {
    let body = ShownBody {
        data: Some(Bytes::from(
            serde_json::to_vec(&answer.body).unwrap_or_default(),
        )),
        service: Arc::clone(&web.service),
        id: answer.id,
    };
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::ETAG, etag(answer.version));
    let location = format!("/api/v1/tokens/{}", answer.id);
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::try_from(location)
    {
        headers.insert(header::LOCATION, location);
    }
    response
}

fn make_answer(issued: &Issued, endpoint: &str, now: DateTime<Utc>) -> Answer {
    let body = IssuedToken::new(issued, endpoint.to_owned(), now);
    Answer {
        id: issued.credential.id,
        version: issued.credential.version,
        body: serde_json::to_value(body).unwrap_or_default(),
    }
}

fn write_answer(answer: &Answer) -> SecretString {
    serde_json::to_string(answer).unwrap_or_default().into()
}

fn finish(web: &Web, status: StatusCode, outcome: Outcome, endpoint: &str) -> Response<Body> {
    match outcome {
        Outcome::Made(issued) => {
            let answer = make_answer(&issued, endpoint, web.service.now());
            respond(web, status, &answer)
        }
        Outcome::Again(answer) => respond_again(web, status, &answer),
    }
}

pub async fn issue(
    web: &Web,
    caller: &Caller,
    headers: &HeaderMap,
    new: &NewToken,
    request: Option<&Repeatable>,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    let now = web.service.now();
    let endpoint = base_url(web, &caller.context, headers);
    let answer = |issued: &Issued| write_answer(&make_answer(issued, &endpoint, now));
    let once = request.map(|request| Once {
        request,
        answer: &answer,
    });
    let outcome = web.service.issue_once(&actor, new, once.as_ref()).await?;
    Ok(finish(web, StatusCode::CREATED, outcome, &endpoint))
}

/// How a token gets its new secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct RegenerateToken {
    /// Without an expiry, the token lives as long again as before.
    #[schema(example = "30d")]
    expires_in: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    never: Option<bool>,
    /// How long the old secret works beside the new one.
    #[schema(example = "24h")]
    overlap: Option<String>,
    /// Whether others know the old secret: it ends at once.
    leaked: Option<bool>,
    /// Why, for the audit trail.
    #[schema(max_length = 300)]
    #[serde(default, deserialize_with = "read_reason")]
    reason: Option<String>,
}

impl RegenerateToken {
    fn read(self) -> ApiResult<Regeneration> {
        let lifetime = LifetimeFields {
            expires_in: self.expires_in,
            expires_at: self.expires_at,
            never: self.never,
        };
        let overlap = self.overlap.as_deref();
        Ok(Regeneration {
            lifetime: lifetime.read()?,
            overlap: overlap
                .map(|overlap| read_span("/overlap", overlap))
                .transpose()?,
            is_leaked: self.leaked == Some(true),
            reason: self.reason,
        })
    }
}

/// Gives a token a new secret. The old one works until the overlap is over.
#[utoipa::path(
    post,
    path = "/api/v1/tokens/{id}/regenerate",
    tag = "tokens",
    params(
        ("id" = String, Path, description = "The id of a token, or self"),
        ("If-Match" = String, Header, description = "The ETag of the version that this changes"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the request repeatable for an hour: it gets the same answer, secret included", min_length = 1, max_length = 255),
    ),
    request_body = Option<RegenerateToken>,
    responses((status = 200, description = "The token with its new secret", body = IssuedToken, headers(
        ("ETag" = String, description = "The new version"),
    )), Problems)
)]
pub async fn regenerate_token(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    precondition: Precondition,
    headers: HeaderMap,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let id = read_id(&id, caller.credential.id)?;
    let operation = Operation::RegenerateToken;
    let version = find_version(&web, &caller, id, operation).await?;
    // A repeated request names the version before the one that it made.
    if !headers.contains_key(IDEMPOTENCY_KEY) {
        precondition.require(version)?;
    }
    let bytes = request.json_or_empty_bytes().await?;
    let path = format!("/api/v1/tokens/{id}/regenerate");
    let repeatable = repeatable(&headers, &caller, &path, &bytes)?;
    if let Some(answer) = answer_again(&web, repeatable.as_ref()).await? {
        return Ok(respond_again(&web, StatusCode::OK, &answer));
    }
    precondition.require(version)?;
    let how = parse_json::<RegenerateToken>(&bytes)?.read()?;
    let actor = caller.actor();
    let now = web.service.now();
    let endpoint = base_url(&web, &caller.context, &headers);
    let answer = |issued: &Issued| write_answer(&make_answer(issued, &endpoint, now));
    let once = repeatable.as_ref().map(|request| Once {
        request,
        answer: &answer,
    });
    let outcome = web
        .service
        .regenerate_once(&actor, id, Some(version), &how, once.as_ref())
        .await?;
    Ok(finish(&web, StatusCode::OK, outcome, &endpoint))
}

/// A body with a secret. When it is handed over, the token counts as shown.
struct ShownBody {
    data: Option<Bytes>,
    service: Arc<Service>,
    id: TokenId,
}

impl HttpBody for ShownBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take();
        if data.is_some() {
            self.service.note_shown(self.id);
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.data.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(length as u64)
    }
}
