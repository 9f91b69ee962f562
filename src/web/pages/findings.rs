//! `/findings`: what is wrong with the tokens that the visitor may see; admins acknowledge findings for a time.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::list_link::{decode, encode, link};
use super::site::see_other;
use super::token_form::{FieldError, end_of};
use super::token_view::{Badge, Name, finding_text, name};
use super::tokens::{Choice, choices};
use crate::domain::service::{Problem, ProblemKind};
use crate::domain::{FindingKind, FindingState, Severity, account_key};
use crate::language::phrase;
use crate::service::Error;
use crate::store::{FindingFilter, FindingRow};
use crate::text::clean;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::AppState;

const PATH: &str = "/findings";
const ROWS: usize = 50;
/// How long a finding is acknowledged for, unless the form says otherwise.
const DEFAULT_DAYS: Days = Days::new(30);

/// The form of filters; all may be empty.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct FindingsQuery {
    kind: String,
    /// `all` also lists those that are acknowledged or resolved.
    state: String,
    cursor: String,
    done: String,
}

#[derive(Debug, Serialize)]
struct FindingItem {
    id: String,
    text: String,
    badge: Badge,
    token: Option<String>,
    /// Of the token or the source.
    name: Name,
    source: String,
    since: Moment,
    evidence: String,
    state: String,
    /// When the policy revokes the token.
    revoke_at: Option<Moment>,
    can_acknowledge: bool,
}

#[derive(Debug, Serialize)]
struct FindingsView {
    kinds: Vec<Choice>,
    is_all: bool,
    is_filtered: bool,
    is_acknowledged: bool,
    rows: Vec<FindingItem>,
    next_link: Option<String>,
}

impl View for FindingsView {
    const TEMPLATE: &'static str = "findings";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "findings-title")
    }
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<FindingsQuery>,
) -> PageResult {
    let words = signed_in.words();
    let filter = FindingFilter {
        kind: query.kind.parse().ok(),
        all: query.state == "all",
    };
    let before = decode::<Uuid>(&query.cursor)?;
    let found = web
        .service
        .list_findings(&signed_in.actor(), filter, before, ROWS)
        .await?;
    let next_link = found.next.map(|id| {
        let cursor = encode(&id);
        let done = String::new();
        link(
            PATH,
            &FindingsQuery {
                cursor,
                done,
                ..query.clone()
            },
        )
    });
    let kinds = FindingKind::ALL.iter().map(|kind| kind.as_str());
    let view = FindingsView {
        kinds: choices(kinds, &query.kind, |kind| finding_text(kind, words)),
        is_all: filter.all,
        is_filtered: filter.all || filter.kind.is_some(),
        is_acknowledged: query.done == "acknowledged",
        rows: found.rows.iter().map(|row| item(row, &signed_in)).collect(),
        next_link,
    };
    page(&web, &signed_in.visitor, &view).await
}

fn item(row: &FindingRow, signed_in: &SignedIn) -> FindingItem {
    let words = signed_in.words();
    FindingItem {
        id: row.id.to_string(),
        text: finding_text(row.kind.as_str(), words),
        badge: badge(row.severity, words),
        token: row.token_id.map(|id| id.to_string()),
        name: name(&row.token_name),
        source: row.source.clone(),
        since: words.moment(row.since),
        evidence: clean(&row.evidence).into_owned(),
        state: phrase!(words.language, "finding-state", state = row.state.as_str()),
        revoke_at: row.revoke_at.map(|at| words.moment(at)),
        can_acknowledge: row.state == FindingState::Open && manages(signed_in, row),
    }
}

fn badge(severity: Severity, words: &Words) -> Badge {
    let (class, icon) = match severity {
        Severity::Medium => ("off", "flag"),
        Severity::High => ("soon", "warning"),
        Severity::Critical => ("ended", "warning"),
    };
    Badge {
        text: phrase!(
            words.language,
            "finding-severity",
            severity = severity.as_str()
        ),
        class,
        icon,
    }
}

/// The service decides; this says whether the page offers it.
fn manages(signed_in: &SignedIn, row: &FindingRow) -> bool {
    let access = &signed_in.access;
    let account = row.account.as_deref().map(account_key);
    access.is_super || (account.is_some() && access.administers() == account.as_deref())
}

#[derive(Debug, Serialize)]
struct AcknowledgeView {
    finding: FindingItem,
    until: String,
    /// The first day that may be chosen.
    min: String,
    reason: String,
    errors: Vec<FieldError>,
}

impl View for AcknowledgeView {
    const TEMPLATE: &'static str = "acknowledge";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(
            visitor.words.language,
            "finding-acknowledge-title",
            name = self.finding.name.text.as_str()
        )
    }
}

fn read_id(id: &str) -> PageResult<Uuid> {
    id.parse().map_err(|_| PageError::NotFound)
}

pub async fn show_acknowledge(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    signed_in.require_admin()?;
    let row = web
        .service
        .find_finding(&signed_in.actor(), read_id(&id)?)
        .await?;
    let today = today(signed_in.words());
    let until = today.checked_add_days(DEFAULT_DAYS).unwrap_or(today);
    let view = AcknowledgeView {
        finding: item(&row, &signed_in),
        until: until.to_string(),
        min: today.to_string(),
        reason: String::new(),
        errors: Vec::new(),
    };
    page(&web, &signed_in.visitor, &view).await
}

pub async fn acknowledge(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> PageResult {
    signed_in.require_admin()?;
    let (id, actor) = (read_id(&id)?, signed_in.actor());
    let row = web.service.find_finding(&actor, id).await?;
    let words = signed_in.words();
    let reason = form.line("reason").unwrap_or_default();
    let error = match read_until(&form, words) {
        Ok(until) => match web
            .service
            .acknowledge_finding(&actor, id, until, &reason)
            .await
        {
            Ok(_) => return Ok(see_other("/findings?done=acknowledged")),
            Err(Error::Refused(problem)) if problem.kind != ProblemKind::NotFound => {
                field_error(&problem)
            }
            Err(error) => return Err(error.into()),
        },
        Err(error) => error,
    };
    let view = AcknowledgeView {
        finding: item(&row, &signed_in),
        until: form.text("until").to_owned(),
        min: today(words).to_string(),
        reason: form.text("reason").to_owned(),
        errors: vec![error],
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    page_with_status(&web, &signed_in.visitor, status, &view).await
}

fn today(words: &Words) -> NaiveDate {
    words.now.with_timezone(&words.zone).date_naive()
}

fn read_until(form: &Form, words: &Words) -> Result<DateTime<Utc>, FieldError> {
    let day = form.text("until").parse().ok();
    let until = day.and_then(|day| end_of(day, words));
    until.ok_or_else(|| FieldError {
        field: "until",
        text: phrase!(words.language, "form-date-invalid"),
    })
}

fn field_error(problem: &Problem) -> FieldError {
    let field = match problem.pointer.unwrap_or_default() {
        "/until" => "until",
        "/reason" => "reason",
        _ => "form",
    };
    FieldError {
        field,
        text: problem.to_string(),
    }
}
