//! `GET /api/v1/tokens`: lists tokens, filtered and sorted.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::paging::{List, Page};
use super::target::manage_url;
use super::token_body::{StatusFilter, TokenBody, read_span};
use crate::domain::service::{Kind, Operation};
use crate::domain::{Status, TokenId, account_key};
use crate::service::pages::TokenItem;
use crate::store::{PageFilter, PageKey, PageOrder, TokenSort};
use crate::time::shift;
use crate::web::body::ApiQuery;
use crate::web::caller::Caller;
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};
use crate::web::state::{AppState, Web};

const PATH: &str = "/api/v1/tokens";

#[derive(Debug, Deserialize, Serialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// The address of an owner.
    issued_by: Option<String>,
    role: Option<String>,
    /// Without it, all but the deleted ones.
    #[param(inline)]
    status: Option<StatusFilter>,
    /// Internal kinds (`session`, `access`, `refresh`, `feed`) are listed only when named.
    kind: Option<String>,
    account: Option<String>,
    source: Option<String>,
    /// Such as `7d`.
    #[param(pattern = "^[0-9]{1,4}[smhdw]$")]
    expires_within: Option<String>,
    /// What a name or an external id begins with.
    q: Option<String>,
    /// `-` for descending; tokens without the value are last.
    #[param(inline)]
    sort: Option<Sort>,
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
pub enum Sort {
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameDescending,
    #[serde(rename = "created_at")]
    CreatedAt,
    #[serde(rename = "-created_at")]
    CreatedAtDescending,
    #[serde(rename = "expires_at")]
    ExpiresAt,
    #[serde(rename = "-expires_at")]
    ExpiresAtDescending,
    #[serde(rename = "last_used_at")]
    LastUsedAt,
    #[serde(rename = "-last_used_at")]
    LastUsedAtDescending,
}

impl Sort {
    fn order(self) -> (TokenSort, bool) {
        match self {
            Self::Name => (TokenSort::Name, false),
            Self::NameDescending => (TokenSort::Name, true),
            Self::CreatedAt => (TokenSort::CreatedAt, false),
            Self::CreatedAtDescending => (TokenSort::CreatedAt, true),
            Self::ExpiresAt => (TokenSort::ExpiresAt, false),
            Self::ExpiresAtDescending => (TokenSort::ExpiresAt, true),
            Self::LastUsedAt => (TokenSort::LastUsedAt, false),
            Self::LastUsedAtDescending => (TokenSort::LastUsedAt, true),
        }
    }
}

/// The last token of a page, in a cursor.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    name: Option<String>,
    at: Option<DateTime<Utc>>,
    id: Uuid,
}

/// The tokens that the caller may see, of all sources.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    tag = "tokens",
    params(TokenQuery),
    responses((status = 200, description = "A page of tokens", body = Page<TokenBody>), Problems)
)]
pub async fn list_tokens(
    State(web): State<AppState>,
    caller: Caller,
    uri: Uri,
    ApiQuery(query): ApiQuery<TokenQuery>,
) -> ApiResult<Response<Body>> {
    caller.actor().may(Operation::ReadTokens)?;
    let kind = query.kind.as_deref().map(Kind::parse);
    if query.sort.is_some() && kind.is_some_and(|kind| kind.is_internal()) {
        let detail = "Tokens of this kind are not sorted; leave out sort";
        return Err(ApiError::invalid(vec![ProblemItem::new("?sort", detail)]));
    }
    let list = List::new(&web, &caller, PATH, &query).await?;
    let now = web.service.now();
    let within = query.expires_within.as_deref();
    let within = within.map(read_within).transpose()?;
    let filter = PageFilter {
        issued_by: query.issued_by.as_deref().map(account_key),
        role: query.role,
        status: query.status.map(Status::from),
        kind: query.kind,
        account: query.account.as_deref().map(account_key),
        source: query.source,
        expires_until: within.map(|span| shift(now, span)),
        prefix: query.q.filter(|prefix| !prefix.is_empty()),
        ..PageFilter::default()
    };
    let after = list.position::<Position>()?.map(|position| PageKey {
        name: position.name,
        at: position.at,
        id: TokenId(position.id),
    });
    let (sort, is_descending) = query.sort.unwrap_or(Sort::CreatedAtDescending).order();
    let order = PageOrder {
        sort,
        is_descending,
        after: after.as_ref(),
    };
    let actor = caller.actor();
    let items = web
        .service
        .list_tokens(&actor, &filter, order, list.rows())
        .await?;
    let position = |item: &TokenItem| position(item, sort);
    Ok(list.page(&uri, items, position, |item| body(&web, item, now)))
}

/// One number and one unit, as the document says.
fn read_within(text: &str) -> ApiResult<TimeDelta> {
    let number = text.trim_end_matches(|letter| "smhdw".contains(letter));
    let is_plain = text.len() == number.len() + 1
        && (1..=4).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit());
    read_span("?expires_within", if is_plain { text } else { "" })
}

fn position(item: &TokenItem, sort: TokenSort) -> Position {
    let token = &item.token;
    Position {
        name: (sort == TokenSort::Name).then(|| token.name.clone()),
        at: match sort {
            TokenSort::Name => None,
            TokenSort::CreatedAt => token.created_at,
            TokenSort::ExpiresAt => token.expiry.at(),
            TokenSort::LastUsedAt => token.last_used_at,
        },
        id: token.id.0,
    }
}

/// With the page of a token of another source.
fn body(web: &Web, item: TokenItem, now: DateTime<Utc>) -> TokenBody {
    let manage_url = manage_url(web, &item);
    TokenBody {
        manage_url,
        ..TokenBody::new(item, now)
    }
}
