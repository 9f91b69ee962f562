//! `/api/v1/users`, for the administrators of an account and super admins.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accounts::PageQuery;
use super::paging::{List, Page, given, with_etag, with_header};
use super::tokens::Reason;
use crate::domain::Address;
use crate::domain::service::{NewUser, RoleChange, UserChange};
use crate::domain::service::{Operation, ServicePerson};
use crate::web::body::{ApiBody, ApiPath, ApiQuery};
use crate::web::caller::{Caller, Precondition};
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};
use crate::web::state::{AppState, Web};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserBody {
    /// The address in lower case, or the name of a machine user.
    key: String,
    /// Null for a machine user.
    #[schema(required)]
    address: Option<String>,
    #[schema(required)]
    name: Option<String>,
    /// Whether they are a super admin.
    #[serde(rename = "super")]
    is_super: bool,
    /// Whether they sign in by SSO.
    sso: bool,
    /// The people who are notified about the tokens of a machine user.
    owners: Vec<String>,
    /// The role in each account; an administrator sees that in their own.
    roles: BTreeMap<String, String>,
    created_at: DateTime<Utc>,
    /// Since when their tokens are stopped.
    #[schema(required)]
    disabled_at: Option<DateTime<Utc>>,
    /// Since when a directory reports that they lost access.
    #[schema(required)]
    lost_access_at: Option<DateTime<Utc>>,
}

impl From<ServicePerson> for UserBody {
    fn from(person: ServicePerson) -> Self {
        Self {
            key: person.key,
            address: person.address.as_ref().map(Address::to_string),
            name: person.name,
            is_super: person.is_super,
            sso: person.is_sso,
            owners: person.owners.iter().map(Address::to_string).collect(),
            roles: person.roles,
            created_at: person.created_at,
            disabled_at: person.disabled_at,
            lost_access_at: person.lost_access_at,
        }
    }
}

/// A person, or a machine user.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateUser {
    /// The mail address of a person.
    #[schema(format = "email")]
    address: Option<String>,
    /// The name of a machine user, instead of an address.
    #[schema(min_length = 1, max_length = 100)]
    machine: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    account: Option<String>,
    /// In the account; without it the lowest.
    role: Option<String>,
    #[serde(rename = "super")]
    is_super: Option<bool>,
    sso: Option<bool>,
    /// The addresses of the people who own a machine user.
    owners: Option<Vec<String>>,
}

impl CreateUser {
    fn read(self) -> ApiResult<(NewUser, UserChange)> {
        let user = match (self.address, self.machine) {
            (Some(address), None) => NewUser::Person(read_address("/address", &address)?),
            (None, Some(name)) => NewUser::Machine(name),
            _ => {
                return Err(invalid(
                    "/address",
                    "A user has either an address or the name of a machine",
                ));
            }
        };
        if self.account.is_none() && self.role.is_some() {
            return Err(invalid("/role", "A role is in an account; name it, too"));
        }
        let role = self.role;
        let roles = self
            .account
            .map(|account| RoleChange::Give { account, role });
        let change = UserChange {
            name: self.name.map(Some),
            is_super: self.is_super,
            is_sso: self.sso,
            owners: self.owners.as_deref().map(read_owners).transpose()?,
            roles: roles.into_iter().collect(),
        };
        Ok((user, change))
    }
}

/// Each member that is given replaces what is there (RFC 7396).
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct UpdateUser {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 100)]
    name: Option<Option<String>>,
    #[serde(rename = "super")]
    is_super: Option<bool>,
    sso: Option<bool>,
    owners: Option<Vec<String>>,
    /// Roles by account; null takes the user out of the account.
    roles: Option<BTreeMap<String, Option<String>>>,
}

impl UpdateUser {
    fn read(self) -> ApiResult<UserChange> {
        let roles = self.roles.unwrap_or_default().into_iter();
        let roles = roles.map(|(account, role)| match role {
            Some(role) => RoleChange::Give {
                account,
                role: Some(role),
            },
            None => RoleChange::Leave { account },
        });
        Ok(UserChange {
            name: self.name,
            is_super: self.is_super,
            is_sso: self.sso,
            owners: self.owners.as_deref().map(read_owners).transpose()?,
            roles: roles.collect(),
        })
    }
}

fn read_address(pointer: &str, text: &str) -> ApiResult<Address> {
    text.parse()
        .map_err(|error: crate::domain::InvalidAddress| invalid(pointer, &error.to_string()))
}

fn read_owners(owners: &[String]) -> ApiResult<Vec<Address>> {
    let owners = owners.iter().enumerate();
    owners
        .map(|(nth, owner)| read_address(&format!("/owners/{nth}"), owner))
        .collect()
}

fn invalid(pointer: &str, detail: &str) -> ApiError {
    ApiError::invalid(vec![ProblemItem::new(pointer, detail)])
}

/// The users whom the caller manages.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    tag = "users",
    params(PageQuery),
    responses((status = 200, description = "A page of users", body = Page<UserBody>), Problems)
)]
pub async fn list_users(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::ReadUsers)?;
    let list = List::new(&web, &caller, "/api/v1/users", &query).await?;
    let after = list.position::<String>()?;
    let users = web
        .service
        .list_users(&actor, after.as_deref(), list.rows())
        .await?;
    let position = |person: &ServicePerson| person.key.clone();
    Ok(list.page(&uri, users, position, UserBody::from))
}

/// Adds a user, or changes what is given about one who is known.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    tag = "users",
    request_body = CreateUser,
    responses((status = 201, description = "The user", body = UserBody, headers(
        ("Location" = String, description = "Where the user is"),
    )), Problems)
)]
pub async fn create_user(
    State(web): State<AppState>,
    caller: Caller,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::WriteUsers)?;
    let (user, change) = request.json::<CreateUser>().await?.read()?;
    let person = web.service.add_user(&actor, &user, &change).await?;
    let key = utf8_percent_encode(&person.key, NON_ALPHANUMERIC);
    let location = format!("/api/v1/users/{key}");
    let version = person.version;
    let response = (StatusCode::CREATED, Json(UserBody::from(person))).into_response();
    let response = with_etag(response, Some(version));
    Ok(with_header(response, header::LOCATION, &location))
}

fn answer(person: ServicePerson) -> Response<Body> {
    let version = person.version;
    with_etag(Json(UserBody::from(person)).into_response(), Some(version))
}

/// One user.
#[utoipa::path(
    get,
    path = "/api/v1/users/{key}",
    tag = "users",
    params(("key" = String, Path, description = "The address of the user, or the name of a machine user")),
    responses((status = 200, description = "The user", body = UserBody, headers(
        ("ETag" = String, description = "The version"),
    )), Problems)
)]
pub async fn show_user(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
) -> ApiResult<Response<Body>> {
    let person = web.service.find_user(&caller.actor(), &key).await?;
    Ok(answer(person))
}

/// Changes a user. Their tokens stay valid.
#[utoipa::path(
    patch,
    path = "/api/v1/users/{key}",
    tag = "users",
    params(
        ("key" = String, Path, description = "The address of the user, or the name of a machine user"),
        ("If-Match" = String, Header, description = "The ETag of the version that this changes"),
    ),
    request_body = UpdateUser,
    responses((status = 200, description = "The user", body = UserBody, headers(
        ("ETag" = String, description = "The new version"),
    )), Problems)
)]
pub async fn update_user(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    precondition: Precondition,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::WriteUsers)?;
    let version = web.service.find_user(&actor, &key).await?.version;
    precondition.require(version)?;
    let change = request.patch::<UpdateUser>().await?.read()?;
    let person = web
        .service
        .change_user(&actor, &key, Some(version), &change)
        .await?;
    Ok(answer(person))
}

/// Removes a user, and ends all their tokens.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{key}",
    tag = "users",
    params(("key" = String, Path, description = "The address of the user, or the name of a machine user")),
    responses((status = 204, description = "They are removed"), Problems)
)]
pub async fn delete_user(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
) -> ApiResult<StatusCode> {
    web.service.remove_user(&caller.actor(), &key, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops all tokens of a user until they are enabled again.
#[utoipa::path(
    post,
    path = "/api/v1/users/{key}/disable",
    tag = "users",
    params(("key" = String, Path, description = "The address of the user, or the name of a machine user")),
    request_body = Option<Reason>,
    responses((status = 200, description = "The user", body = UserBody), Problems)
)]
pub async fn disable_user(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    set_enabled(&web, &caller, &key, false, request).await
}

/// Lets the tokens of a disabled user work again.
#[utoipa::path(
    post,
    path = "/api/v1/users/{key}/enable",
    tag = "users",
    params(("key" = String, Path, description = "The address of the user, or the name of a machine user")),
    request_body = Option<Reason>,
    responses((status = 200, description = "The user", body = UserBody), Problems)
)]
pub async fn enable_user(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    set_enabled(&web, &caller, &key, true, request).await
}

async fn set_enabled(
    web: &Web,
    caller: &Caller,
    key: &str,
    is_enabled: bool,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::WriteUsers)?;
    web.service.find_user(&actor, key).await?;
    let Reason { reason } = request.json_or_empty().await?;
    let person = web
        .service
        .set_user_enabled(&actor, key, is_enabled, reason.as_deref())
        .await?;
    Ok(answer(person))
}
