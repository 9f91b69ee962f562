//! `POST /oauth2/introspect` (RFC 7662).

use std::net::IpAddr;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::parts::{OauthErrors, parse};
use crate::domain::service::{Access, Credential, Rank, Refusal, Roles};
use crate::web::body::ApiBody;
use crate::web::caller::Caller;
use crate::web::json::Json;
use crate::web::problem::{ApiError, ApiResult};
use crate::web::state::AppState;
use crate::web::well_known::base_url;

const INTROSPECT: &str = "token:introspect";
const REASON: &str = "token:introspect-reason";

#[derive(Debug, Deserialize, ToSchema)]
pub struct IntrospectForm {
    /// The token that is asked about.
    token: String,
    /// Any value; it changes nothing.
    #[expect(dead_code, reason = "RFC 7662 §2.1 names it")]
    #[schema(required = false)]
    token_type_hint: Option<String>,
    /// From which address the token was used, for tokens that are limited to networks; without it, that of the caller.
    #[schema(required = false, value_type = String, format = "ip")]
    client_address: Option<IpAddr>,
}

/// Of a token that is not active, `active` alone.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Introspection {
    active: bool,
    /// Separated by blanks; absent where the token is not limited by scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The id of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The issuer's address in lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lapsed: Option<Details>,
}

/// What lapsed knows beside the standard.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Why it is not active, for callers with the scope `token:introspect-reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Whether a token is valid, for a service that received it. For administrators, and for tokens with the scope
/// `token:introspect`, about the tokens of their account.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    tag = "verification",
    request_body(content = IntrospectForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "Whether the token is active", body = Introspection), OauthErrors)
)]
pub async fn introspect(
    State(web): State<AppState>,
    caller: Caller,
    headers: axum::http::HeaderMap,
    body: ApiBody,
) -> ApiResult<Json<Introspection>> {
    check_right(&caller)?;
    let form: IntrospectForm = body.form().await?;
    let Some(presented) = parse(&form.token) else {
        return Ok(Json(Introspection::default()));
    };
    let address = form.client_address.unwrap_or(caller.context.client());
    let (verdict, credential) = web.service.introspect(&presented, address).await?;
    // From what verification has read: another read would tell a refused token from an unknown one by its time.
    let may_know = credential.is_some_and(|credential| may_know(&caller, &credential));
    Ok(Json(match verdict {
        Ok(access) if may_know => {
            let issuer = base_url(&web, &caller.context, &headers);
            describe(&access, issuer, &web.service.terms().roles)
        }
        Err(refusal) if may_know => explain(&caller, refusal),
        _ => Introspection::default(),
    }))
}

/// An administrator, or a token that has the scope.
fn check_right(caller: &Caller) -> ApiResult<()> {
    let is_admin = caller.is_super || caller.rank.is_some_and(Rank::is_highest);
    if caller.credential.scopes.is_unlimited() && !is_admin {
        return Err(ApiError::insufficient_scope(INTROSPECT));
    }
    caller.require_scope(INTROSPECT)
}

fn may_know(caller: &Access, credential: &Credential) -> bool {
    if caller.is_super {
        return true;
    }
    let account = &credential.account;
    credential.kind.opens_api() && account.is_some() && *account == caller.credential.account
}

fn describe(access: &Access, issuer: String, roles: &Roles) -> Introspection {
    let credential = &access.credential;
    let id = credential.id.to_string();
    let seconds = |at: DateTime<Utc>| at.timestamp();
    let scopes = &credential.scopes;
    Introspection {
        active: true,
        scope: (!scopes.is_unlimited()).then(|| scopes.to_string()),
        client_id: Some(id.clone()),
        username: Some(access.person.key.clone()),
        token_type: Some("Bearer"),
        exp: access.ends_at.map(seconds),
        iat: Some(seconds(credential.created_at)),
        nbf: credential.not_before.map(seconds),
        sub: Some(access.person.key.clone()),
        iss: Some(issuer),
        jti: Some(id),
        lapsed: Some(Details {
            account: credential.account.clone(),
            role: access.rank.map(|rank| roles.name(rank).to_owned()),
            kind: Some(credential.kind.as_str().to_owned()),
            reason: None,
        }),
    }
}

/// Only for a caller who may know why, and only about a token whose secret was right.
fn explain(caller: &Caller, refusal: Refusal) -> Introspection {
    let may_know_why = caller.credential.scopes.allows(REASON) && refusal.is_of_right_secret();
    Introspection {
        lapsed: may_know_why.then(|| Details {
            reason: Some(refusal.as_str().to_owned()),
            ..Details::default()
        }),
        ..Introspection::default()
    }
}
