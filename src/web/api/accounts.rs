//! `/api/v1/accounts`, for super admins.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::paging::{List, Page, given, with_header};
use crate::domain::service::{Operation, ServiceAccount};
use crate::service::accounts::AccountChange;
use crate::web::body::{ApiBody, ApiPath, ApiQuery};
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::ApiResult;
use crate::web::state::AppState;

#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountBody {
    /// The name in lower case, for the path.
    key: String,
    name: String,
    /// Null for the limit of the policy, 0 for no limit.
    #[schema(required)]
    max_tokens: Option<u64>,
    created_at: DateTime<Utc>,
    /// How many tokens count towards the limit; only of one account.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
}

impl From<ServiceAccount> for AccountBody {
    fn from(account: ServiceAccount) -> Self {
        Self {
            key: account.key,
            name: account.name,
            max_tokens: account.max_tokens,
            created_at: account.created_at,
            used: None,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateAccount {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Without it, the limit of the policy; 0 for no limit.
    #[schema(maximum = 1_000_000_000)]
    max_tokens: Option<u32>,
}

#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct UpdateAccount {
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Null for the limit of the policy, 0 for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, maximum = 1_000_000_000)]
    max_tokens: Option<Option<u32>>,
}

/// All accounts.
#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    tag = "accounts",
    params(PageQuery),
    responses((status = 200, description = "A page of accounts", body = Page<AccountBody>), Problems)
)]
pub async fn list_accounts(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::ReadService)?;
    let list = List::new(&web, &caller, "/api/v1/accounts", &query).await?;
    let after = list.position::<String>()?;
    let accounts = web
        .service
        .list_accounts(&actor, after.as_deref(), list.rows())
        .await?;
    let position = |account: &ServiceAccount| account.key.clone();
    Ok(list.page(&uri, accounts, position, AccountBody::from))
}

/// Adds an account.
#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    tag = "accounts",
    request_body = CreateAccount,
    responses((status = 201, description = "The account", body = AccountBody, headers(
        ("Location" = String, description = "Where the account is"),
    )), Problems)
)]
pub async fn create_account(
    State(web): State<AppState>,
    caller: Caller,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::WriteService)?;
    let new: CreateAccount = request.json().await?;
    let limit = new.max_tokens.map(u64::from);
    let account = web.service.add_account(&actor, &new.name, limit).await?;
    let key = utf8_percent_encode(&account.key, NON_ALPHANUMERIC);
    let location = format!("/api/v1/accounts/{key}");
    let body = Json(AccountBody::from(account));
    let response = (StatusCode::CREATED, body).into_response();
    Ok(with_header(response, header::LOCATION, &location))
}

/// One account, with how many tokens it has.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{name}",
    tag = "accounts",
    params(("name" = String, Path, description = "The name of the account")),
    responses((status = 200, description = "The account", body = AccountBody), Problems)
)]
pub async fn show_account(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> ApiResult<Json<AccountBody>> {
    let (account, used) = web.service.find_account(&caller.actor(), &name).await?;
    Ok(Json(AccountBody {
        used: Some(used),
        ..account.into()
    }))
}

/// Changes the limit or the name of an account.
#[utoipa::path(
    patch,
    path = "/api/v1/accounts/{name}",
    tag = "accounts",
    params(("name" = String, Path, description = "The name of the account")),
    request_body = UpdateAccount,
    responses((status = 200, description = "The account", body = AccountBody), Problems)
)]
pub async fn update_account(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
    request: ApiBody,
) -> ApiResult<Json<AccountBody>> {
    let actor = caller.actor();
    actor.may(Operation::WriteService)?;
    web.service.find_account(&actor, &name).await?;
    let change: UpdateAccount = request.patch().await?;
    let change = AccountChange {
        name: change.name,
        max_tokens: change.max_tokens.map(|limit| limit.map(u64::from)),
    };
    let account = web.service.change_account(&actor, &name, &change).await?;
    Ok(Json(account.into()))
}

/// Removes an account without tokens.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{name}",
    tag = "accounts",
    params(("name" = String, Path, description = "The name of the account")),
    responses((status = 204, description = "It is removed"), Problems)
)]
pub async fn delete_account(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> ApiResult<StatusCode> {
    web.service
        .remove_account(&caller.actor(), &name, None)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
