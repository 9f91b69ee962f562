//! `/tokens/{id}/regenerate`: a form for a new secret.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::TimeDelta;
use serde::Serialize;

use super::made::{FormRequest, kept_answer, new_form_key, show_outcome};
use super::token::read_id;
use super::token_form::{ExpiryFields, FieldError, field_error, read_lifetime};
use super::token_view::{TokenRow, row};
use crate::domain::TokenId;
use crate::domain::service::{Kind, Operation, ProblemKind, Regeneration};
use crate::language::phrase;
use crate::service::Error;
use crate::service::pages::TokenItem;
use crate::time::format_span;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::state::{AppState, Web};

/// How long the old secret may work on; the default of the policy comes first.
const OVERLAPS: [TimeDelta; 5] = [
    TimeDelta::zero(),
    TimeDelta::hours(1),
    TimeDelta::hours(24),
    TimeDelta::days(3),
    TimeDelta::days(7),
];

#[derive(Debug, Serialize)]
struct OverlapChoice {
    value: String,
    text: String,
    is_chosen: bool,
}

/// Who uses the token, to be told before it changes.
#[derive(Debug, Serialize)]
pub struct Callers {
    pub addresses: Vec<String>,
    /// Of the last 24 hours.
    pub calls: i64,
}

#[derive(Debug, Serialize)]
struct RegenerateView {
    row: TokenRow,
    version: i64,
    form_key: String,
    expiry: ExpiryFields,
    overlaps: Vec<OverlapChoice>,
    is_leaked: bool,
    callers: Callers,
    errors: Vec<FieldError>,
}

impl View for RegenerateView {
    const TEMPLATE: &'static str = "regenerate";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(
            visitor.words.language,
            "regenerate-title",
            name = self.row.name.text.as_str()
        )
    }
}

/// The token, if the visitor may do this with it.
pub async fn find(
    web: &Web,
    signed_in: &SignedIn,
    id: TokenId,
    operation: Operation,
) -> PageResult<TokenItem> {
    let item = web
        .service
        .find_for(&signed_in.actor(), id, operation)
        .await?;
    match &item.credential {
        Some(credential) if !credential.kind.is_internal() => Ok(item),
        _ => Err(PageError::NotFound),
    }
}

/// # Errors
/// If the store fails.
pub async fn load_callers(web: &Web, signed_in: &SignedIn, id: TokenId) -> PageResult<Callers> {
    let since = signed_in.words().now - TimeDelta::hours(24);
    let uses = web.service.load_uses(id).await?;
    let recent = uses.hours.iter().filter(|hour| hour.hour >= since);
    let addresses = uses.addresses.iter();
    let addresses = addresses.filter(|used| !used.is_refused && used.last_at >= since);
    Ok(Callers {
        addresses: addresses.map(|used| used.address.to_string()).collect(),
        calls: recent.map(|hour| hour.ok).sum(),
    })
}

async fn view(
    web: &Web,
    signed_in: &SignedIn,
    item: &TokenItem,
    form: &Form,
    errors: Vec<FieldError>,
) -> PageResult<RegenerateView> {
    let words = signed_in.words();
    let credential = item.credential.as_ref();
    let kind = credential.map_or(Kind::Api, |it| it.kind.clone());
    let expires = form.text("expires");
    let is_same = matches!(expires, "" | "same");
    let mut expiry = ExpiryFields::new(web, words, &kind, expires, form.text("date"));
    if is_same {
        expiry
            .presets
            .iter_mut()
            .for_each(|it| it.is_chosen = false);
        expiry.is_never = false;
    }
    let default = web.service.terms().overlap;
    let mut spans = OVERLAPS.to_vec();
    spans.push(default);
    spans.sort_unstable();
    spans.dedup();
    let chosen = form
        .filled("overlap")
        .map_or(format_span(default), str::to_owned);
    let overlap = |span: &TimeDelta| {
        let value = format_span(*span);
        OverlapChoice {
            is_chosen: value == chosen,
            text: if span.is_zero() {
                phrase!(words.language, "overlap-none")
            } else {
                words.span(*span)
            },
            value,
        }
    };
    let form_key = form.filled("form_key").map(str::to_owned);
    Ok(RegenerateView {
        row: row(item, words),
        version: credential.map_or(0, |it| it.version),
        form_key: form_key.unwrap_or_else(new_form_key),
        expiry: ExpiryFields {
            offers_same: true,
            is_same,
            ..expiry
        },
        overlaps: spans.iter().map(overlap).collect(),
        is_leaked: form.is_checked("leaked"),
        callers: load_callers(web, signed_in, item.token.id).await?,
        errors,
    })
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    let id = read_id(&id)?;
    let item = find(&web, &signed_in, id, Operation::RegenerateToken).await?;
    signed_in.require_fresh(&signed_in.visitor.path)?;
    let view = view(&web, &signed_in, &item, &Form::default(), Vec::new()).await?;
    page_with_status(&web, &signed_in.visitor, StatusCode::OK, &view).await
}

pub async fn regenerate(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> PageResult {
    let id = read_id(&id)?;
    let item = find(&web, &signed_in, id, Operation::RegenerateToken).await?;
    let path = format!("/tokens/{id}/regenerate");
    let request = FormRequest::new(&signed_in, &form, &path)?;
    if let Some(former) = request.find_former(&web, &signed_in).await? {
        return Ok(former);
    }
    signed_in.require_fresh(&path)?;
    let version = form.text("version").parse().ok();
    let how = match read(&form, &signed_in) {
        Ok(how) => how,
        Err(error) => return refuse(&web, &signed_in, &item, &form, error).await,
    };
    let actor = signed_in.actor();
    let once = request.once(&kept_answer);
    let made = web
        .service
        .regenerate_once(&actor, id, version, &how, Some(&once))
        .await;
    match made {
        Ok(outcome) => show_outcome(&web, &signed_in, outcome, false).await,
        Err(Error::Refused(problem)) if problem.kind != ProblemKind::NotFound => {
            let error = field_error(&problem);
            refuse(&web, &signed_in, &item, &form, error).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn refuse(
    web: &Web,
    signed_in: &SignedIn,
    item: &TokenItem,
    form: &Form,
    error: FieldError,
) -> PageResult {
    let view = view(web, signed_in, item, form, vec![error]).await?;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    page_with_status(web, &signed_in.visitor, status, &view).await
}

fn read(form: &Form, signed_in: &SignedIn) -> Result<Regeneration, FieldError> {
    let words = signed_in.words();
    let overlap = form.filled("overlap").map(|overlap| {
        let overlap = humantime::parse_duration(overlap).ok();
        let overlap = overlap.and_then(|overlap| TimeDelta::from_std(overlap).ok());
        overlap.ok_or_else(|| FieldError {
            field: "overlap",
            text: phrase!(words.language, "form-expires-invalid"),
        })
    });
    Ok(Regeneration {
        lifetime: read_lifetime(form, words)?,
        overlap: overlap.transpose()?,
        is_leaked: form.is_checked("leaked"),
        reason: form.line("reason"),
    })
}
