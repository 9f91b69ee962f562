//! `/api/v1/notices`: what the caller is notified of in their account.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::paging::{List, Page};
use crate::domain::Step;
use crate::domain::service::Operation;
use crate::store::AccountNotice;
use crate::web::body::{ApiPath, ApiQuery};
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::ApiResult;
use crate::web::state::AppState;

#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NoticeQuery {
    /// Whether only those that were not read are listed.
    unread: Option<bool>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notice)]
pub struct NoticeBody {
    id: Uuid,
    #[schema(required)]
    token_id: Option<Uuid>,
    #[schema(required)]
    token_name: Option<String>,
    topic: String,
    /// How long before the expiry, such as `7d`; null for other topics.
    #[schema(required)]
    step: Option<String>,
    #[schema(required)]
    read_at: Option<DateTime<Utc>>,
}

impl From<AccountNotice> for NoticeBody {
    fn from(notice: AccountNotice) -> Self {
        Self {
            id: notice.id,
            token_id: notice.token_id.map(|id| id.0),
            token_name: notice.token_name,
            topic: notice.topic.to_string(),
            step: notice.step.map(|step| Step::from_seconds(step).to_string()),
            read_at: notice.read_at,
        }
    }
}

/// The caller's notices, newest first; of a person in several accounts, those about tokens that the token of the request
/// sees.
#[utoipa::path(
    get,
    path = "/api/v1/notices",
    tag = "notices",
    params(NoticeQuery),
    responses((status = 200, description = "A page of notices", body = Page<NoticeBody>), Problems)
)]
pub async fn list_notices(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<NoticeQuery>,
) -> ApiResult<Response<Body>> {
    caller.actor().may(Operation::ReadNotices)?;
    let list = List::new(&web, &caller, "/api/v1/notices", &query).await?;
    let before = list.position::<(DateTime<Utc>, Uuid)>()?;
    let is_unread = query.unread == Some(true);
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let found = web
        .service
        .list_notices(&caller.access, is_unread, before, limit)
        .await?;
    let items: Vec<_> = found.rows.into_iter().map(NoticeBody::from).collect();
    Ok(list.answer(&uri, items, found.next.as_ref()))
}

/// Marks a notice as read.
#[utoipa::path(
    post,
    path = "/api/v1/notices/{id}/read",
    tag = "notices",
    params(("id" = Uuid, Path, description = "The id of a notice")),
    responses((status = 204, description = "It is read"), Problems)
)]
pub async fn read_notice(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<StatusCode> {
    web.service.read_notice(&caller.access, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
