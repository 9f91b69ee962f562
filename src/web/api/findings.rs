//! `/api/v1/findings`: what is wrong with the tokens that the caller may see.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::paging::{List, Page};
use crate::domain::FindingKind;
use crate::store::{FindingFilter, FindingRow};
use crate::web::body::{ApiBody, ApiPath, ApiQuery, read_reason};
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};
use crate::web::state::AppState;

#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindingQuery {
    /// Such as `never_expires`; docs/findings.md lists the kinds.
    #[param(example = "never_expires")]
    kind: Option<String>,
    /// Also those that are acknowledged or resolved.
    all: Option<bool>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingBody {
    id: Uuid,
    /// Null for a finding about a source.
    #[schema(required)]
    token_id: Option<Uuid>,
    /// The name of the token or the source.
    token_name: String,
    source: String,
    kind: String,
    severity: String,
    since: DateTime<Utc>,
    evidence: String,
    /// `open`, `acknowledged` or `resolved`.
    state: String,
    /// When the policy revokes the token.
    #[schema(required)]
    revoke_at: Option<DateTime<Utc>>,
}

impl From<FindingRow> for FindingBody {
    fn from(row: FindingRow) -> Self {
        Self {
            id: row.id,
            token_id: row.token_id.map(|id| id.0),
            token_name: row.token_name,
            source: row.source,
            kind: row.kind.to_string(),
            severity: row.severity.to_string(),
            since: row.since,
            evidence: row.evidence,
            state: row.state.to_string(),
            revoke_at: row.revoke_at,
        }
    }
}

/// Open findings, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/findings",
    tag = "findings",
    params(FindingQuery),
    responses((status = 200, description = "A page of findings", body = Page<FindingBody>), Problems)
)]
pub async fn list_findings(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<FindingQuery>,
) -> ApiResult<Response<Body>> {
    let list = List::new(&web, &caller, "/api/v1/findings", &query).await?;
    let kind = query.kind.as_deref().map(str::parse::<FindingKind>);
    let kind = kind
        .transpose()
        .map_err(|error| ApiError::invalid(vec![ProblemItem::new("?kind", error.to_string())]))?;
    let filter = FindingFilter {
        kind,
        all: query.all == Some(true),
    };
    let before = list.position::<Uuid>()?;
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    let actor = caller.actor();
    let found = web
        .service
        .list_findings(&actor, filter, before, limit)
        .await?;
    let items: Vec<_> = found.rows.into_iter().map(FindingBody::from).collect();
    Ok(list.answer(&uri, items, found.next.as_ref()))
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct AcknowledgeFinding {
    /// Then it opens again, unless it is resolved.
    until: DateTime<Utc>,
    #[schema(value_type = String, min_length = 1, max_length = 300)]
    #[serde(deserialize_with = "read_reason")]
    reason: Option<String>,
}

/// Accepts a finding for a time.
#[utoipa::path(
    post,
    path = "/api/v1/findings/{id}/acknowledge",
    tag = "findings",
    params(("id" = Uuid, Path, description = "The id of a finding")),
    request_body = AcknowledgeFinding,
    responses((status = 200, description = "The finding", body = FindingBody), Problems)
)]
pub async fn acknowledge_finding(
    State(web): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    request: ApiBody,
) -> ApiResult<Json<FindingBody>> {
    let actor = caller.actor();
    web.service.find_finding(&actor, id).await?;
    let AcknowledgeFinding { until, reason } = request.json().await?;
    let row = web
        .service
        .acknowledge_finding(&actor, id, until, &reason.unwrap_or_default())
        .await?;
    Ok(Json(row.into()))
}
