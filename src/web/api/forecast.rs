//! `/api/v1/forecast`: which tokens expire, and when their warnings are sent.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::paging::{List, Page};
use crate::domain::service::Operation;
use crate::domain::{Policy, Status, StepState, TokenId};
use crate::service::pages::TokenItem;
use crate::store::{PageFilter, PageKey, PageOrder, TokenSort};
use crate::time::shift;
use crate::web::body::ApiQuery;
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};
use crate::web::state::AppState;

const DEFAULT_DAYS: u32 = 30;
const MAX_DAYS: u32 = 3650;

#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ForecastQuery {
    #[param(minimum = 1, maximum = 3650, default = 30)]
    days: Option<u32>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Forecast)]
pub struct ForecastBody {
    token_id: Uuid,
    token_name: String,
    source: String,
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// The plain date, if the source reports one.
    #[schema(required)]
    expires_on: Option<NaiveDate>,
    /// Those that are still to be sent, the earliest first.
    warnings: Vec<WarningBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Warning)]
pub struct WarningBody {
    /// Such as `7d`.
    step: String,
    at: DateTime<Utc>,
}

/// The tokens of the caller that expire within some days, the earliest first.
#[utoipa::path(
    get,
    path = "/api/v1/forecast",
    tag = "forecast",
    params(ForecastQuery),
    responses((status = 200, description = "A page of tokens that expire", body = Page<ForecastBody>), Problems)
)]
pub async fn list_forecast(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<ForecastQuery>,
) -> ApiResult<Response<Body>> {
    let actor = caller.actor();
    actor.may(Operation::ReadForecast)?;
    let list = List::new(&web, &caller, "/api/v1/forecast", &query).await?;
    let days = query.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        let detail = format!("It is between 1 and {MAX_DAYS}");
        return Err(ApiError::invalid(vec![ProblemItem::new("?days", detail)]));
    }
    let until = shift(web.service.now(), TimeDelta::days(i64::from(days)));
    let filter = PageFilter {
        status: Some(Status::Active),
        expires_until: Some(until),
        ..PageFilter::default()
    };
    let after = list.position::<(DateTime<Utc>, Uuid)>()?;
    let after = after.map(|(at, id)| PageKey {
        name: None,
        at: Some(at),
        id: TokenId(id),
    });
    let order = PageOrder {
        sort: TokenSort::ExpiresAt,
        is_descending: false,
        after: after.as_ref(),
    };
    let items = web
        .service
        .list_tokens(&actor, &filter, order, list.rows())
        .await?;
    let position = |item: &TokenItem| (item.token.expiry.at(), item.token.id.0);
    let policy = web.service.policy();
    Ok(list.page(&uri, items, position, |item| forecast(policy, item)))
}

fn forecast(policy: &Policy, item: TokenItem) -> ForecastBody {
    let token = item.token;
    let outlook = policy.outlook(&token);
    let open = outlook.into_iter().filter_map(|step| match step.state {
        StepState::Open { .. } => Some(WarningBody {
            step: step.step.to_string(),
            at: step.at,
        }),
        StepState::Planned | StepState::TooWide => None,
    });
    ForecastBody {
        warnings: open.collect(),
        token_id: token.id.0,
        expires_at: token.expiry.at(),
        expires_on: token.expiry_day,
        token_name: token.name,
        source: token.source,
    }
}
