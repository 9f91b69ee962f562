//! `POST /oauth2/token`: short-lived tokens (RFC 6749 §4.4 and §6).

use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::parts::{OauthErrors, parse, presented_in_header, refuse_client};
use crate::domain::service::{Access, Presented, Scopes};
use crate::service::{self, Exchanged, Grant};
use crate::web::body::ApiBody;
use crate::web::json::Json;
use crate::web::problem::{ApiError, ApiResult};
use crate::web::state::{AppState, Note, RequestContext, Web};

#[derive(Debug, Deserialize, ToSchema)]
pub struct TokenForm {
    /// `client_credentials` or `refresh_token`.
    #[schema(pattern = "^(client_credentials|refresh_token)$")]
    grant_type: String,
    /// The access key of a token, unless it is in the header Authorization.
    #[schema(required = false)]
    client_id: Option<String>,
    /// The secret key of that token.
    #[schema(required = false)]
    client_secret: Option<String>,
    /// For the grant `refresh_token`.
    #[schema(required = false)]
    refresh_token: Option<String>,
    /// The scopes that the new token must have; it has all of the old one.
    #[schema(required = false)]
    scope: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    /// In seconds.
    expires_in: i64,
    /// For the grant `client_credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// Absent where the token is not limited by scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Exchanges a token for an access token and a refresh token, or a refresh token for an access token.
#[utoipa::path(
    post,
    path = "/oauth2/token",
    tag = "tokens",
    security((), ("basic" = []), ("bearer" = [])),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "Shown once", body = TokenAnswer), OauthErrors)
)]
pub async fn token(State(web): State<AppState>, request: Request) -> ApiResult<Json<TokenAnswer>> {
    let (mut parts, body) = request.into_parts();
    let (context, in_header) = presented_in_header(&web, &mut parts).await?;
    let request = Request::from_parts(parts, body);
    let form: TokenForm = ApiBody::from_request(request, &web).await?.form().await?;
    let grant = match form.grant_type.as_str() {
        "client_credentials" => Grant::ClientCredentials,
        "refresh_token" => Grant::RefreshToken,
        _ => {
            let detail = "grant_type must be client_credentials or refresh_token";
            return Err(ApiError::bad_request(detail).oauth("unsupported_grant_type"));
        }
    };
    let client = client(&web, &context, &form, in_header).await?;
    let access = match grant {
        Grant::ClientCredentials => client.ok_or_else(ApiError::no_credential)?,
        Grant::RefreshToken => refresh(&web, &context, &form, client).await?,
    };
    check_scope(&access, form.scope.as_deref())?;
    let exchanged = web.service.exchange(grant, &access).await;
    let exchanged = exchanged.map_err(|error| match (error, grant) {
        (service::Error::Refused(problem), Grant::ClientCredentials) => {
            ApiError::bad_request(problem.detail).oauth("unauthorized_client")
        }
        (service::Error::Refused(_), Grant::RefreshToken) => invalid_grant(),
        (error, _) => error.into(),
    })?;
    Ok(Json(describe(&exchanged)))
}

/// The token that the client identifies itself by, if it does.
async fn client(
    web: &Web,
    context: &RequestContext,
    form: &TokenForm,
    in_header: Option<Box<Presented>>,
) -> ApiResult<Option<Access>> {
    let in_body = match (&form.client_id, &form.client_secret) {
        (Some(id), Some(secret)) => {
            let pair = Presented::from_pair(id, secret);
            let pair = pair.map_err(|_| refuse_client(web, context, ApiError::invalid_token()))?;
            Some(Box::new(pair))
        }
        (None, Some(_)) => return Err(ApiError::bad_request("client_id is missing")),
        _ => None,
    };
    let presented = match (in_header, in_body) {
        (Some(_), Some(_)) => {
            return Err(ApiError::ambiguous_credential(
                "There is more than one credential",
            ));
        }
        (header, body) => header.or(body),
    };
    let Some(presented) = presented else {
        return Ok(None);
    };
    match web.service.verify(&presented, context.client()).await? {
        Ok(access) => {
            context.note(Note::caller(&access));
            Ok(Some(access))
        }
        Err(refusal) => {
            context.note(Note::Refused(refusal.as_str()));
            Err(refuse_client(web, context, ApiError::invalid_token()))
        }
    }
}

/// The refresh token, which must be of the client, if there is one.
async fn refresh(
    web: &Web,
    context: &RequestContext,
    form: &TokenForm,
    client: Option<Access>,
) -> ApiResult<Access> {
    let Some(token) = &form.refresh_token else {
        return Err(ApiError::bad_request("refresh_token is missing"));
    };
    let refused = || match web.count_failure(context.client(), invalid_grant()) {
        error if error.status() == StatusCode::TOO_MANY_REQUESTS => error,
        _ => invalid_grant(),
    };
    let presented = parse(token).ok_or_else(refused)?;
    let access = match web.service.verify(&presented, context.client()).await? {
        Ok(access) => access,
        Err(refusal) => {
            context.note(Note::Refused(refusal.as_str()));
            return Err(refused());
        }
    };
    let is_of = |client: Access| {
        access
            .credential
            .parent
            .is_some_and(|parent| parent.id == client.credential.id)
    };
    if !client.is_none_or(is_of) {
        return Err(invalid_grant());
    }
    context.note(Note::caller(&access));
    Ok(access)
}

fn invalid_grant() -> ApiError {
    ApiError::bad_request("The refresh token is not valid here and now").oauth("invalid_grant")
}

fn check_scope(access: &Access, scope: Option<&str>) -> ApiResult<()> {
    let invalid = |detail: String| ApiError::bad_request(detail).oauth("invalid_scope");
    let Some(scope) = scope else {
        return Ok(());
    };
    let wanted: Scopes = scope.parse().map_err(|error| invalid(format!("{error}")))?;
    let scopes = &access.credential.scopes;
    match wanted.iter().find(|scope| !scopes.allows(scope)) {
        Some(scope) => Err(invalid(format!("The token lacks the scope {scope}"))),
        None => Ok(()),
    }
}

fn describe(exchanged: &Exchanged) -> TokenAnswer {
    let credential = &exchanged.access.credential;
    let life = credential.expires_at.map(|at| at - credential.created_at);
    let refresh = exchanged.refresh.as_ref();
    let scopes = &credential.scopes;
    TokenAnswer {
        access_token: exchanged.access.secret.token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: life.map_or(0, |life| life.num_seconds()),
        refresh_token: refresh.map(|refresh| refresh.secret.token.expose_secret().to_owned()),
        scope: (!scopes.is_unlimited()).then(|| scopes.to_string()),
    }
}
