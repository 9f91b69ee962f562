//! `/audit`: what was done, for admins.

use axum::extract::{Query, State};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::list_link::{decode, encode, link};
use super::token_form::end_of;
use super::token_view::{Name, name};
use crate::language::phrase;
use crate::store::{AuditFilter, AuditRow};
use crate::web::portal::error::PageResult;
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::AppState;

const PATH: &str = "/audit";
const ROWS: usize = 50;

/// The form of filters; all may be empty.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AuditQuery {
    actor: String,
    action: String,
    subject: String,
    since: String,
    until: String,
    cursor: String,
}

#[derive(Debug, Serialize)]
struct EntryView {
    at: Moment,
    actor: Name,
    action: String,
    subject: Name,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct AuditView {
    query: AuditQuery,
    is_filtered: bool,
    rows: Vec<EntryView>,
    next_link: Option<String>,
}

impl View for AuditView {
    const TEMPLATE: &'static str = "audit";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "audit-title")
    }
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<AuditQuery>,
) -> PageResult {
    signed_in.require_admin()?;
    let words = signed_in.words();
    let before = decode::<(DateTime<Utc>, Uuid)>(&query.cursor)?;
    let before = before.map(|(at, id)| AuditRow::position(at, id));
    let filter = query.filter(words);
    let found = web
        .service
        .list_audit(&signed_in.actor(), &filter, before, ROWS)
        .await?;
    let next_link = found.next.map(|row| {
        let cursor = encode(&(row.at, row.id));
        link(
            PATH,
            &AuditQuery {
                cursor,
                ..query.clone()
            },
        )
    });
    let view = AuditView {
        is_filtered: filter != AuditFilter::default(),
        rows: found.rows.iter().map(|row| entry(row, words)).collect(),
        query,
        next_link,
    };
    page(&web, &signed_in.visitor, &view).await
}

fn entry(row: &AuditRow, words: &Words) -> EntryView {
    EntryView {
        at: words.moment(row.at),
        actor: name(&row.actor),
        action: row.action.clone(),
        subject: name(&row.subject),
        reason: row.reason.clone(),
    }
}

impl AuditQuery {
    /// Days that cannot be read do not filter: browsers send none.
    fn filter(&self, words: &Words) -> AuditFilter {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        AuditFilter {
            since: self.since.parse().ok().and_then(|day| begin_of(day, words)),
            until: self.until.parse().ok().and_then(|day| end_of(day, words)),
            actor: given(&self.actor),
            action: given(&self.action),
            subject: given(&self.subject),
        }
    }
}

/// Where the visitor is.
pub fn begin_of(day: NaiveDate, words: &Words) -> Option<DateTime<Utc>> {
    let local = day.and_time(NaiveTime::MIN).and_local_timezone(words.zone);
    local.earliest().map(|at| at.with_timezone(&Utc))
}
