//! `/api/v1/tokens`: lists, shows, issues and changes tokens.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse as _;
use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::paging::{given, with_etag};
use super::secrets;
use super::target::{find_version, manage_url};
use super::token_body::{
    IssuedToken, LifetimeFields, TokenBody, TokenDetail, read_id, read_networks, read_scopes,
};
use crate::domain::service::{Credential, Kind, NewToken, Operation, TokenChange};
use crate::domain::{Status, Token};
use crate::service::pages::TokenItem;
use crate::web::body::{ApiBody, ApiPath, ApiQuery, parse_json, read_reason};
use crate::web::caller::{Caller, Precondition};
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult};
use crate::web::state::{AppState, Web};

const PATH: &str = "/api/v1/tokens";

/// A token that is to be issued.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateToken {
    /// What uses it.
    #[schema(min_length = 1, max_length = 100, example = "ci-deploy")]
    name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Without it, that of the caller's token, or the caller's only one.
    account: Option<String>,
    /// At most the caller's own, which is the default.
    role: Option<String>,
    /// Without any, it is not limited by scope.
    #[schema(example = json!(["app:read"]))]
    scopes: Option<Vec<String>>,
    /// `api`, or a kind of the configuration.
    #[schema(example = "api")]
    kind: Option<String>,
    /// How long it is to live.
    #[schema(example = "30d")]
    expires_in: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    /// Whether it is never to expire.
    never: Option<bool>,
    /// From when on it works.
    not_before: Option<DateTime<Utc>>,
    /// Where it may be used from; without any, from everywhere.
    #[schema(example = json!(["192.0.2.0/24"]))]
    networks: Option<Vec<String>>,
}

impl CreateToken {
    fn read(self) -> ApiResult<NewToken> {
        let lifetime = LifetimeFields {
            expires_in: self.expires_in,
            expires_at: self.expires_at,
            never: self.never,
        };
        Ok(NewToken {
            name: self.name,
            description: self.description,
            user: None,
            account: self.account,
            role: self.role,
            scopes: read_scopes(self.scopes)?,
            kind: self.kind.as_deref().map_or(Kind::Api, Kind::parse),
            lifetime: lifetime.read()?,
            not_before: self.not_before.map(|at| at.trunc_subsecs(6)),
            networks: read_networks(self.networks)?,
        })
    }
}

/// Issues a token. The secret is in this answer only.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    tag = "tokens",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request repeatable for an hour: it gets the same answer, secret included", min_length = 1, max_length = 255)),
    request_body = CreateToken,
    responses(
        (status = 201, description = "The new token", body = IssuedToken, headers(
            ("Location" = String, description = "Where the token is"),
            ("ETag" = String, description = "Its version"),
        )),
        Problems
    )
)]
pub async fn create_token(
    State(web): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    caller.actor().may_issue(web.service.terms().issuers)?;
    let bytes = request.json_or_empty_bytes().await?;
    let repeatable = secrets::repeatable(&headers, &caller, PATH, &bytes)?;
    if let Some(answer) = secrets::answer_again(&web, repeatable.as_ref()).await? {
        return Ok(secrets::respond_again(&web, StatusCode::CREATED, &answer));
    }
    let new = parse_json::<CreateToken>(&bytes)?.read()?;
    secrets::issue(&web, &caller, &headers, &new, repeatable.as_ref()).await
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ShowQuery {
    /// `revoked` also shows a deleted token.
    #[param(inline)]
    include: Option<Include>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Include {
    Revoked,
}

/// One token with its secrets and uses. `self` is the token of the request.
#[utoipa::path(
    get,
    path = "/api/v1/tokens/{id}",
    tag = "tokens",
    params(("id" = String, Path, description = "The id of a token, or self"), ShowQuery),
    responses(
        (status = 200, description = "The token", body = TokenDetail, headers(
            ("ETag" = String, description = "The version of a token of the service"),
        )),
        Problems
    )
)]
pub async fn show_token(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<ShowQuery>,
) -> ApiResult<Response<Body>> {
    let id = read_id(&id, caller.credential.id)?;
    let item = web
        .service
        .find_for(&caller.actor(), id, Operation::ReadToken)
        .await?;
    let is_deleted = matches!(item.token.status, Status::Revoked | Status::Gone);
    if is_deleted && query.include.is_none() {
        return Err(ApiError::not_found());
    }
    let uses = web.service.load_uses(id).await?;
    let version = item
        .credential
        .as_ref()
        .map(|credential| credential.version);
    let manage_url = manage_url(&web, &item);
    let never_shown = web.service.is_never_shown(id).await?;
    let mut detail = TokenDetail::new(item, uses, never_shown, web.service.now());
    detail.token.manage_url = manage_url;
    Ok(with_etag(Json(detail).into_response(), version))
}

/// Each member that is given replaces what is there (RFC 7396).
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct UpdateToken {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 1000)]
    description: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    role: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    networks: Option<Option<Vec<String>>>,
    /// The address of another person in the account, who gets the token.
    owner: Option<String>,
}

/// Changes a token. The secret stays.
#[utoipa::path(
    patch,
    path = "/api/v1/tokens/{id}",
    tag = "tokens",
    params(
        ("id" = String, Path, description = "The id of a token, or self"),
        ("If-Match" = String, Header, description = "The ETag of the version that this changes"),
    ),
    request_body = UpdateToken,
    responses((status = 200, description = "The token", body = TokenBody, headers(
        ("ETag" = String, description = "The new version"),
    )), Problems)
)]
pub async fn update_token(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    precondition: Precondition,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    let id = read_id(&id, caller.credential.id)?;
    let version = find_version(&web, &caller, id, Operation::UpdateToken).await?;
    precondition.require(version)?;
    let change: UpdateToken = request.patch().await?;
    let change = TokenChange {
        name: change.name,
        description: change.description,
        role: change.role,
        scopes: change.scopes.map(read_scopes).transpose()?,
        networks: change.networks.map(read_networks).transpose()?,
        owner: change.owner,
    };
    let found = web
        .service
        .update(&actor, id, Some(version), &change)
        .await?;
    Ok(answer(&web, found.token, found.credential))
}

fn answer(web: &Web, token: Token, credential: Credential) -> Response<Body> {
    let version = credential.version;
    let item = TokenItem {
        token,
        credential: Some(credential),
        findings: Vec::new(),
    };
    let body = TokenBody::new(item, web.service.now());
    with_etag(Json(body).into_response(), Some(version))
}

/// Ends a token for good. It is kept for the audit: `?include=revoked` shows it.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{id}",
    tag = "tokens",
    params(("id" = String, Path, description = "The id of a token, or self")),
    responses((status = 204, description = "It is deleted"), Problems)
)]
pub async fn delete_token(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    precondition: Precondition,
) -> ApiResult<StatusCode> {
    let id = read_id(&id, caller.credential.id)?;
    let version = find_version(&web, &caller, id, Operation::DeleteToken).await?;
    let version = precondition.check(version)?;
    let actor = caller.actor();
    web.service.delete(&actor, id, version, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Reason {
    /// Why, for the audit trail.
    #[schema(max_length = 300)]
    #[serde(default, deserialize_with = "read_reason")]
    pub(super) reason: Option<String>,
}

/// Stops a token until it is enabled again.
#[utoipa::path(
    post,
    path = "/api/v1/tokens/{id}/disable",
    tag = "tokens",
    params(("id" = String, Path, description = "The id of a token, or self")),
    request_body = Option<Reason>,
    responses((status = 200, description = "The token", body = TokenBody), Problems)
)]
pub async fn disable_token(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    precondition: Precondition,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    set_enabled(&web, &caller, &id, false, precondition, request).await
}

/// Lets a disabled token work again.
#[utoipa::path(
    post,
    path = "/api/v1/tokens/{id}/enable",
    tag = "tokens",
    params(("id" = String, Path, description = "The id of a token, or self")),
    request_body = Option<Reason>,
    responses((status = 200, description = "The token", body = TokenBody), Problems)
)]
pub async fn enable_token(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    precondition: Precondition,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    set_enabled(&web, &caller, &id, true, precondition, request).await
}

async fn set_enabled(
    web: &Web,
    caller: &Caller,
    id: &str,
    is_enabled: bool,
    precondition: Precondition,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let id = read_id(id, caller.credential.id)?;
    let operation = if is_enabled {
        Operation::EnableToken
    } else {
        Operation::DisableToken
    };
    let version = find_version(web, caller, id, operation).await?;
    let version = precondition.check(version)?;
    let Reason { reason } = request.json_or_empty().await?;
    let actor = caller.actor();
    let found = web
        .service
        .set_enabled(&actor, id, version, is_enabled, reason.as_deref())
        .await?;
    Ok(answer(web, found.token, found.credential))
}

/// How many tokens the caller sees, by what is to be done about them.
#[derive(Debug, Serialize, ToSchema)]
pub struct SummaryBody {
    active: i64,
    /// Active ones that expire within 7 days.
    expiring: i64,
    expired: i64,
    /// Active ones that never expire.
    never: i64,
    disabled: i64,
    /// Whether a token of the caller expires within 7 days.
    attention: bool,
    /// For administrators: whether one of their account does.
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_account: Option<bool>,
}

/// The counts of the tokens that the caller may see.
#[utoipa::path(
    get,
    path = "/api/v1/tokens/summary",
    tag = "tokens",
    responses((status = 200, description = "The counts", body = SummaryBody), Problems)
)]
pub async fn summarize_tokens(
    State(web): State<AppState>,
    caller: Caller,
) -> ApiResult<Json<SummaryBody>> {
    let summary = web.service.summarize(&caller.actor()).await?;
    let counts = summary.counts;
    Ok(Json(SummaryBody {
        active: counts.active,
        expiring: counts.expiring,
        expired: counts.expired,
        never: counts.never,
        disabled: counts.disabled,
        attention: summary.attention,
        attention_account: summary.attention_account,
    }))
}
