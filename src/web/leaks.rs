//! `POST /api/v1/leaks`: tokens that a scanner found in public.

use axum::body::Body;
use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{ApiBody, parse_json};
use super::caller::{too_many, with_headers};
use super::json::Json;
use super::oauth2::end;
use super::openapi::Problems;
use super::problem::{ApiError, ApiResult, ProblemItem};
use super::state::{AppState, RequestContext, Web};
use crate::domain::service::Presented;

const MAX_TOKENS: usize = 100;
const MAX_BYTES: usize = 64 * 1000;
/// In the audit trail.
const REPORTER: &str = "leak report";
const REASON: &str = "reported as leaked";
/// As GitHub and others sign their reports.
const KEY_ID: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";

/// A token, alone or with where it was found.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LeakedToken {
    Token(String),
    Found(FoundToken),
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct FoundToken {
    token: String,
    #[serde(rename = "type")]
    #[schema(required = false)]
    kind: Option<String>,
    #[expect(
        dead_code,
        reason = "may hold the token itself, so it is not written down"
    )]
    #[schema(required = false)]
    url: Option<String>,
    #[expect(dead_code, reason = "as the url")]
    #[schema(required = false)]
    source: Option<String>,
}

/// What became of a token, for reporters whose signature is known.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeakVerdict {
    token_raw: String,
    token_type: String,
    label: Label,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Label {
    TruePositive,
    FalsePositive,
}

/// Revokes tokens that were found in public. Only where `[service] leak_reports = true`.
#[utoipa::path(
    post,
    path = "/api/v1/leaks",
    tag = "tokens",
    security(()),
    request_body(content = Vec<LeakedToken>, description = "At most 100 tokens and 64 kB"),
    responses(
        (status = 200, description = "A signed report: the verdict on each token", body = Vec<LeakVerdict>),
        (status = 202, description = "An unsigned report was handled"),
        Problems
    )
)]
pub async fn report(State(web): State<AppState>, request: Request) -> ApiResult<Response<Body>> {
    if !web.service.terms().leak_reports {
        return Err(ApiError::not_found());
    }
    let (mut parts, body) = request.into_parts();
    let context = RequestContext::from_request_parts(&mut parts, &web).await?;
    let limit = web.leaks.take(context.client());
    let limit =
        limit.map_err(|(exhausted, headers)| with_headers(too_many(exhausted.seconds), headers))?;
    let headers = parts.headers.clone();
    let body = ApiBody::from_request(Request::from_parts(parts, body), &web).await?;
    let bytes = body.json_bytes(MAX_BYTES).await?;
    let is_signed = check_signature(&web, &headers, &bytes)?;
    let tokens: Vec<LeakedToken> = parse_json(&bytes)?;
    if tokens.len() > MAX_TOKENS {
        let detail = format!("There are more than {MAX_TOKENS} tokens");
        let fix = Some("send the rest in further reports".to_owned());
        return Err(ApiError::invalid(vec![
            ProblemItem::new("", detail).fix(fix),
        ]));
    }
    let verdicts = handle(&web, &context, tokens).await?;
    let mut response = if is_signed {
        Json(verdicts).into_response()
    } else {
        StatusCode::ACCEPTED.into_response()
    };
    response.headers_mut().extend(limit);
    Ok(response)
}

async fn handle(
    web: &Web,
    context: &RequestContext,
    tokens: Vec<LeakedToken>,
) -> ApiResult<Vec<LeakVerdict>> {
    let mut verdicts = Vec::new();
    for found in tokens {
        let (token, kind) = match found {
            LeakedToken::Token(token) => (token, None),
            LeakedToken::Found(found) => (found.token, found.kind),
        };
        let is_ours = match Presented::parse(token.trim()) {
            Ok(presented) => end(web, context, &presented, REPORTER, REASON).await?,
            Err(_) => false,
        };
        verdicts.push(LeakVerdict {
            token_raw: token,
            token_type: kind.unwrap_or_else(|| "lapsed".to_owned()),
            label: if is_ours {
                Label::TruePositive
            } else {
                Label::FalsePositive
            },
        });
    }
    Ok(verdicts)
}

/// Whether a key of the configuration signed it. A report that names another key counts as unsigned.
fn check_signature(web: &Web, headers: &HeaderMap, body: &[u8]) -> ApiResult<bool> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some((id, signature)) = text(KEY_ID).zip(text(SIGNATURE)) else {
        return Ok(false);
    };
    let keys = &web.service.terms().leak_keys;
    let Some(key) = keys.iter().find(|key| key.id == id) else {
        return Ok(false);
    };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.point);
    let is_signed = STANDARD
        .decode(signature)
        .is_ok_and(|signature| key.verify(body, &signature).is_ok());
    if is_signed {
        return Ok(true);
    }
    let detail = "The signature is not that of this body by the key it names";
    Err(ApiError::forbidden(detail))
}
