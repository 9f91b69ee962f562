//! `/notices`: what the visitor was notified of. Only forms mark it as read.

use axum::extract::{Path, Query, State};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::list_link::{decode, encode, link};
use super::site::see_other;
use super::token_view::{Name, name};
use crate::domain::Topic;
use crate::language::phrase;
use crate::store::AccountNotice;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::{AppState, Web};

const ROWS: usize = 50;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NoticesQuery {
    cursor: String,
}

/// Where a page of the list begins.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
struct Place {
    is_read: bool,
    before: Option<(DateTime<Utc>, Uuid)>,
}

#[derive(Debug, Serialize)]
struct NoticeRow {
    id: String,
    token: Option<String>,
    /// Of the token, or of what else the notice is about.
    name: Option<Name>,
    text: String,
    at: Moment,
    read: Option<Moment>,
}

#[derive(Debug, Serialize)]
struct NoticesView {
    rows: Vec<NoticeRow>,
    has_unread: bool,
    /// Notices that come later stay unread.
    until: String,
    next_link: Option<String>,
}

impl View for NoticesView {
    const TEMPLATE: &'static str = "notices";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "notices-title")
    }
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<NoticesQuery>,
) -> PageResult {
    let place = decode::<Place>(&query.cursor)?.unwrap_or_default();
    let words = signed_in.words();
    let (notices, next) = load(&web, &signed_in, place).await?;
    let next_link = next.map(|place| {
        let cursor = encode(&place);
        link("/notices", &NoticesQuery { cursor })
    });
    let view = NoticesView {
        has_unread: notices.iter().any(|notice| notice.read_at.is_none()),
        rows: notices.iter().map(|notice| row(notice, words)).collect(),
        until: words.now.to_rfc3339_opts(SecondsFormat::Micros, true),
        next_link,
    };
    page(&web, &signed_in.visitor, &view).await
}

/// Those that were not read come first, and each of both newest first.
async fn load(
    web: &Web,
    signed_in: &SignedIn,
    place: Place,
) -> PageResult<(Vec<AccountNotice>, Option<Place>)> {
    let mut notices = Vec::new();
    for is_read in [false, true] {
        if place.is_read && !is_read {
            continue;
        }
        let left = ROWS - notices.len();
        let before = place.before.filter(|_| place.is_read == is_read);
        if left == 0 {
            return Ok((notices, Some(Place { is_read, before })));
        }
        let found = web
            .service
            .list_notices(&signed_in.access, !is_read, before, left)
            .await?;
        let wanted = |notice: &AccountNotice| notice.read_at.is_some() == is_read;
        notices.extend(found.rows.into_iter().filter(wanted));
        if found.next.is_some() {
            let before = found.next;
            return Ok((notices, Some(Place { is_read, before })));
        }
    }
    Ok((notices, None))
}

fn row(notice: &AccountNotice, words: &Words) -> NoticeRow {
    NoticeRow {
        id: notice.id.to_string(),
        token: notice.token_id.map(|id| id.to_string()),
        name: notice.token_name.as_deref().map(name),
        text: text(notice, words),
        at: words.moment(notice.planned_at),
        read: notice.read_at.map(|at| words.moment(at)),
    }
}

fn text(notice: &AccountNotice, words: &Words) -> String {
    if let (Topic::Expiry, Some(step)) = (notice.topic, notice.step.filter(|step| *step > 0)) {
        let span = words.span(TimeDelta::seconds(step));
        return phrase!(words.language, "notice-step", span = span);
    }
    phrase!(words.language, "notice-text", topic = notice.topic.as_str())
}

pub async fn read(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    let id: Uuid = id.parse().map_err(|_| PageError::NotFound)?;
    web.service.read_notice(&signed_in.access, id).await?;
    Ok(see_other("/notices"))
}

pub async fn read_all(State(web): State<AppState>, signed_in: SignedIn, form: Form) -> PageResult {
    let until: Option<DateTime<Utc>> = form.text("until").parse().ok();
    let until = until.ok_or(PageError::BadRequest)?;
    web.service.read_notices(&signed_in.access, until).await?;
    Ok(see_other("/notices"))
}
