//! The policy, the sources and the directories, for super admins.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::paging::Page;
use crate::domain::service::{KindTerms, Operation, ScopeInfo, Terms};
use crate::service::policy_check::{DepartingToken, Departure, OverLimit, PolicyCheck};
use crate::store::{DirectoryRow, SourceRow};
use crate::time::format_span;
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::ApiResult;
use crate::web::state::AppState;

/// The policy of `[service]`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyBody {
    /// Highest first.
    roles: Vec<String>,
    /// Such as `365d`; null for no maximum.
    #[schema(required)]
    max_ttl: Option<String>,
    /// Null for never.
    #[schema(required)]
    default_ttl: Option<String>,
    allow_never: bool,
    presets: Vec<String>,
    /// 0 for no limit.
    per_account: u64,
    /// 0 for no limit.
    per_user: u64,
    /// `everyone`, `administrators` or `super`.
    issuers: String,
    overlap: String,
    kinds: Vec<KindBody>,
    scopes: Vec<ScopeBody>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct KindBody {
    name: String,
    /// Null for never.
    #[schema(required)]
    ttl: Option<String>,
    /// Whether new tokens of this kind may be issued.
    issue: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ScopeBody {
    name: String,
    #[schema(required)]
    description: Option<String>,
}

impl From<&Terms> for PolicyBody {
    fn from(terms: &Terms) -> Self {
        let span = |span: Option<TimeDelta>| span.map(format_span);
        let kind = |kind: &KindTerms| KindBody {
            name: kind.name.clone(),
            ttl: span(kind.ttl),
            issue: kind.can_issue,
        };
        let scope = |scope: &ScopeInfo| ScopeBody {
            name: scope.name.clone(),
            description: scope.description.clone(),
        };
        Self {
            roles: terms.roles.iter().map(str::to_owned).collect(),
            max_ttl: span(terms.max_ttl),
            default_ttl: span(terms.default_ttl),
            allow_never: terms.allow_never,
            presets: terms.presets.iter().copied().map(format_span).collect(),
            per_account: terms.per_account,
            per_user: terms.per_user,
            issuers: terms.issuers.to_string(),
            overlap: format_span(terms.overlap),
            kinds: terms.kinds.iter().map(kind).collect(),
            scopes: terms.scopes.iter().map(scope).collect(),
        }
    }
}

/// The policy for tokens of the service.
#[utoipa::path(
    get,
    path = "/api/v1/policy",
    tag = "policy",
    responses((status = 200, description = "The policy", body = PolicyBody), Problems)
)]
pub async fn show_policy(
    State(web): State<AppState>,
    caller: Caller,
) -> ApiResult<Json<PolicyBody>> {
    caller.actor().may(Operation::ReadService)?;
    Ok(Json(web.service.terms().into()))
}

/// What the policy would not allow today. Nothing that exists is shortened.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyCheck)]
pub struct CheckBody {
    /// How many tokens were looked at.
    checked: u64,
    tokens: Vec<DepartingBody>,
    accounts: Vec<OverLimitBody>,
    users: Vec<OverLimitBody>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DepartingBody {
    token_id: Uuid,
    token_name: String,
    departures: Vec<DepartureBody>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DepartureBody {
    /// `too_long`, `never`, `unknown_role` or `unknown_kind`.
    what: String,
    detail: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OverLimitBody {
    name: String,
    used: u64,
    limit: u64,
}

impl From<OverLimit> for OverLimitBody {
    fn from(over: OverLimit) -> Self {
        let OverLimit { name, used, limit } = over;
        Self { name, used, limit }
    }
}

impl From<Departure> for DepartureBody {
    fn from(departure: Departure) -> Self {
        let (what, detail) = match departure {
            Departure::TooLong { max, latest } => (
                "too_long",
                format!("The maximum is {max}; regenerated now, it could last until {latest}"),
            ),
            Departure::Never => ("never", "It never expires".to_owned()),
            Departure::UnknownRole(role) => {
                ("unknown_role", format!("{role} counts as the lowest role"))
            }
            Departure::UnknownKind(kind) => {
                ("unknown_kind", format!("{kind} has the lifetimes of api"))
            }
        };
        Self {
            what: what.to_owned(),
            detail,
        }
    }
}

impl From<DepartingToken> for DepartingBody {
    fn from(departing: DepartingToken) -> Self {
        let departures = departing.departures.into_iter();
        Self {
            token_id: departing.token.id.0,
            token_name: departing.token.name,
            departures: departures.map(DepartureBody::from).collect(),
        }
    }
}

impl From<PolicyCheck> for CheckBody {
    fn from(check: PolicyCheck) -> Self {
        Self {
            checked: check.checked,
            tokens: check.tokens.into_iter().map(DepartingBody::from).collect(),
            accounts: check
                .accounts
                .into_iter()
                .map(OverLimitBody::from)
                .collect(),
            users: check.users.into_iter().map(OverLimitBody::from).collect(),
        }
    }
}

/// What the policy would change about tokens that exist.
#[utoipa::path(
    get,
    path = "/api/v1/policy/check",
    tag = "policy",
    responses((status = 200, description = "What departs from the policy", body = CheckBody), Problems)
)]
pub async fn check_policy(
    State(web): State<AppState>,
    caller: Caller,
) -> ApiResult<Json<CheckBody>> {
    let check = web.service.policy_check(&caller.actor()).await?;
    Ok(Json(check.into()))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub struct SourceBody {
    name: String,
    kind: String,
    tokens: i64,
    #[schema(required)]
    last_sync_at: Option<DateTime<Utc>>,
    #[schema(required)]
    last_good_sync_at: Option<DateTime<Utc>>,
    /// Failures in a row.
    failures: i64,
    #[schema(required)]
    error: Option<String>,
    #[schema(required)]
    deferred_until: Option<DateTime<Utc>>,
}

impl From<SourceRow> for SourceBody {
    fn from(row: SourceRow) -> Self {
        let state = row.sync_state;
        Self {
            name: row.name,
            kind: row.kind,
            tokens: row.tokens,
            last_sync_at: state.last_sync_at,
            last_good_sync_at: state.last_good_sync_at,
            failures: state.failures,
            error: state.error,
            deferred_until: state.deferred_until,
        }
    }
}

/// The sources that lapsed has read.
#[utoipa::path(
    get,
    path = "/api/v1/sources",
    tag = "sources",
    responses((status = 200, description = "All sources", body = Page<SourceBody>), Problems)
)]
pub async fn list_sources(
    State(web): State<AppState>,
    caller: Caller,
) -> ApiResult<Json<Page<SourceBody>>> {
    caller.actor().may(Operation::ReadService)?;
    let mut tx = web.service.store().begin_short_read().await?;
    let rows = tx.list_sources().await?;
    Ok(Json(Page {
        items: rows.into_iter().map(SourceBody::from).collect(),
        next_cursor: None,
    }))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Directory)]
pub struct DirectoryBody {
    name: String,
    kind: String,
    people: i64,
    #[schema(required)]
    last_good_sync_at: Option<DateTime<Utc>>,
    /// Failures in a row.
    failures: i64,
    #[schema(required)]
    error: Option<String>,
    /// Why a change waits for an operator.
    #[schema(required)]
    held: Option<String>,
    #[schema(required)]
    deferred_until: Option<DateTime<Utc>>,
}

impl From<DirectoryRow> for DirectoryBody {
    fn from(row: DirectoryRow) -> Self {
        let state = row.sync_state;
        Self {
            name: row.name,
            kind: row.kind,
            people: row.people,
            last_good_sync_at: state.last_good_sync_at,
            failures: state.failures,
            error: state.error,
            held: row.held,
            deferred_until: state.deferred_until,
        }
    }
}

/// The directories that lapsed has read.
#[utoipa::path(
    get,
    path = "/api/v1/directories",
    tag = "directories",
    responses((status = 200, description = "All directories", body = Page<DirectoryBody>), Problems)
)]
pub async fn list_directories(
    State(web): State<AppState>,
    caller: Caller,
) -> ApiResult<Json<Page<DirectoryBody>>> {
    caller.actor().may(Operation::ReadService)?;
    let mut tx = web.service.store().begin_short_read().await?;
    let rows = tx.list_directories().await?;
    Ok(Json(Page {
        items: rows.into_iter().map(DirectoryBody::from).collect(),
        next_cursor: None,
    }))
}
