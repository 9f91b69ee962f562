//! `POST /oauth2/revoke` (RFC 7009).

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::parts::{OauthErrors, parse};
use crate::domain::service::{Actor, Presented, Refusal};
use crate::domain::{LOCAL_SOURCE, TokenId};
use crate::web::body::ApiBody;
use crate::web::problem::ApiResult;
use crate::web::state::{AppState, RequestContext, Web};

/// In the audit trail.
const HOLDER: &str = "holder of the token";
const REASON: &str = "revoked with the token itself";

#[derive(Debug, Deserialize, ToSchema)]
pub struct RevokeForm {
    /// The token to end.
    token: String,
    /// Any value; it changes nothing.
    #[expect(dead_code, reason = "RFC 7009 §2.1 names it")]
    #[schema(required = false)]
    token_type_hint: Option<String>,
}

/// Ends a token, and what was derived from it: to have it is enough. The answer is the same for a token that is unknown or ended.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    tag = "tokens",
    security(()),
    request_body(content = RevokeForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token is not valid any more"), OauthErrors)
)]
pub async fn revoke(
    State(web): State<AppState>,
    context: RequestContext,
    body: ApiBody,
) -> ApiResult<StatusCode> {
    let form: RevokeForm = body.form().await?;
    if let Some(presented) = parse(&form.token) {
        end(&web, &context, &presented, HOLDER, REASON).await?;
    }
    Ok(StatusCode::OK)
}

/// Revokes a token with the right secret, and returns whether the secret was right. A secret that was replaced revokes
/// nothing, because the token goes on with a new one. No use is counted.
pub async fn end(
    web: &Web,
    context: &RequestContext,
    presented: &Presented,
    actor: &str,
    reason: &str,
) -> ApiResult<bool> {
    let verdict = web.service.examine(presented, context.client()).await?;
    match verdict {
        Err(Refusal::Replaced) => return Ok(true),
        Err(refusal) if !refusal.is_of_right_secret() => return Ok(false),
        _ => {}
    }
    let id = TokenId::new(LOCAL_SOURCE, presented.id.as_str());
    let actor = Actor::Operator(actor.to_owned());
    web.service.delete(&actor, id, None, Some(reason)).await?;
    Ok(true)
}
