//! `/api/v1/audit`: what was done, for administrators.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::paging::{List, Page};
use crate::store::{AuditFilter, AuditRow};
use crate::web::body::ApiQuery;
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::ApiResult;
use crate::web::state::AppState;

#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only what was done since then.
    since: Option<DateTime<Utc>>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditBody {
    at: DateTime<Utc>,
    actor: String,
    action: String,
    subject: String,
    #[schema(required)]
    reason: Option<String>,
}

/// Entries of the audit trail, newest first: all for a super admin, else those about tokens of the caller's account.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "A page of entries", body = Page<AuditBody>), Problems)
)]
pub async fn list_audit(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> ApiResult<Response<Body>> {
    let list = List::new(&web, &caller, "/api/v1/audit", &query).await?;
    let before = list.position::<(DateTime<Utc>, Uuid)>()?;
    let before = before.map(|(at, id)| AuditRow::position(at, id));
    let filter = AuditFilter {
        since: query.since,
        ..AuditFilter::default()
    };
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let found = web
        .service
        .list_audit(&caller.actor(), &filter, before, limit)
        .await?;
    let items: Vec<_> = found.rows.into_iter().map(AuditBody::from).collect();
    let next = found.next.map(|row| (row.at, row.id));
    Ok(list.answer(&uri, items, next.as_ref()))
}

impl From<AuditRow> for AuditBody {
    fn from(row: AuditRow) -> Self {
        Self {
            at: row.at,
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            reason: row.reason,
        }
    }
}
