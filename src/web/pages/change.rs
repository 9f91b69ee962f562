//! `/tokens/{id}/edit`, `/disable`, `/enable` and `/revoke`: forms that change what a token is.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use chrono::TimeDelta;
use serde::Serialize;

use super::regenerate::{Callers, find, load_callers};
use super::site::see_other;
use super::token::read_id;
use super::token_form::{
    FieldError, ScopeChoice, field_error, other_scopes, read_networks, read_scopes, roles, scopes,
};
use super::token_view::{TokenRow, row};
use super::tokens::Choice;
use crate::domain::service::{Operation, ProblemKind, TokenChange};
use crate::language::phrase;
use crate::service::Error;
use crate::service::pages::TokenItem;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::state::{AppState, Web};

/// Why tokens are revoked.
const REASONS: [&str; 4] = ["unused", "leaked", "left", "other"];

#[derive(Debug, Serialize)]
struct Facts {
    row: TokenRow,
    callers: Callers,
    /// Used within a day: whoever revokes it types its name.
    asks_name: bool,
    reasons: Vec<Choice>,
    can_disable: bool,
    reason: String,
    errors: Vec<FieldError>,
}

#[derive(Debug, Serialize)]
struct DisableView(Facts);

impl View for DisableView {
    const TEMPLATE: &'static str = "disable";

    fn title(&self, visitor: &Visitor) -> String {
        let name = self.0.row.name.text.as_str();
        phrase!(visitor.words.language, "disable-title", name = name)
    }
}

#[derive(Debug, Serialize)]
struct EnableView(Facts);

impl View for EnableView {
    const TEMPLATE: &'static str = "enable";

    fn title(&self, visitor: &Visitor) -> String {
        let name = self.0.row.name.text.as_str();
        phrase!(visitor.words.language, "enable-title", name = name)
    }
}

#[derive(Debug, Serialize)]
struct RevokeView(Facts);

impl View for RevokeView {
    const TEMPLATE: &'static str = "revoke";

    fn title(&self, visitor: &Visitor) -> String {
        let name = self.0.row.name.text.as_str();
        phrase!(visitor.words.language, "revoke-title", name = name)
    }
}

async fn facts(
    web: &Web,
    signed_in: &SignedIn,
    item: &TokenItem,
    form: &Form,
    errors: Vec<FieldError>,
) -> PageResult<Facts> {
    let words = signed_in.words();
    let since = words.now - TimeDelta::hours(24);
    let disable = web
        .service
        .find_for(&signed_in.actor(), item.token.id, Operation::DisableToken)
        .await;
    Ok(Facts {
        row: row(item, words),
        callers: load_callers(web, signed_in, item.token.id).await?,
        asks_name: item.token.last_used_at >= Some(since),
        reasons: super::tokens::choices(REASONS.into_iter(), form.text("why"), |why| {
            phrase!(words.language, "reason-value", reason = why)
        }),
        can_disable: disable.is_ok() && item.token.status == crate::domain::Status::Active,
        reason: form.text("reason").to_owned(),
        errors,
    })
}

/// The reason in the audit trail: the one that was chosen, and the text.
fn read_reason(form: &Form) -> Option<String> {
    let why = REASONS.into_iter().find(|why| *why == form.text("why"));
    match (why.filter(|why| *why != "other"), form.line("reason")) {
        (Some(why), Some(text)) => Some(format!("{why}: {text}")),
        (Some(why), None) => Some(why.to_owned()),
        (None, text) => text,
    }
}

async fn show_form<V: View + Sync>(
    web: &Web,
    signed_in: &SignedIn,
    id: &str,
    operation: Operation,
    view: fn(Facts) -> V,
) -> PageResult {
    let item = find(web, signed_in, read_id(id)?, operation).await?;
    let facts = facts(web, signed_in, &item, &Form::default(), Vec::new()).await?;
    page(web, &signed_in.visitor, &view(facts)).await
}

pub async fn show_disable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    show_form(&web, &signed_in, &id, Operation::DisableToken, DisableView).await
}

pub async fn show_enable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    show_form(&web, &signed_in, &id, Operation::EnableToken, EnableView).await
}

pub async fn show_revoke(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    show_form(&web, &signed_in, &id, Operation::DeleteToken, RevokeView).await
}

pub async fn disable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> PageResult {
    set_enabled(&web, &signed_in, &id, &form, false).await
}

pub async fn enable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> PageResult {
    set_enabled(&web, &signed_in, &id, &form, true).await
}

async fn set_enabled(
    web: &Web,
    signed_in: &SignedIn,
    id: &str,
    form: &Form,
    is_enabled: bool,
) -> PageResult {
    let (operation, done) = if is_enabled {
        (Operation::EnableToken, "enabled")
    } else {
        (Operation::DisableToken, "disabled")
    };
    let id = read_id(id)?;
    find(web, signed_in, id, operation).await?;
    let reason = form.line("reason");
    web.service
        .set_enabled(&signed_in.actor(), id, None, is_enabled, reason.as_deref())
        .await?;
    Ok(see_other(&format!("/tokens/{id}?done={done}")))
}

pub async fn revoke(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> PageResult {
    let id = read_id(&id)?;
    let item = find(&web, &signed_in, id, Operation::DeleteToken).await?;
    let view = facts(&web, &signed_in, &item, &form, Vec::new()).await?;
    if view.asks_name && form.text("name") != item.token.label().trim() {
        let error = FieldError {
            field: "name",
            text: phrase!(signed_in.words().language, "revoke-name-wrong"),
        };
        let view = RevokeView(Facts {
            errors: vec![error],
            ..view
        });
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return page_with_status(&web, &signed_in.visitor, status, &view).await;
    }
    let reason = read_reason(&form);
    web.service
        .delete(&signed_in.actor(), id, None, reason.as_deref())
        .await?;
    Ok(see_other(&format!("/tokens/{id}?done=revoked")))
}

#[derive(Debug, Serialize)]
struct EditView {
    row: TokenRow,
    version: i64,
    name: String,
    description: String,
    roles: Vec<Choice>,
    scopes: Vec<ScopeChoice>,
    other_scopes: String,
    networks: String,
    errors: Vec<FieldError>,
}

impl View for EditView {
    const TEMPLATE: &'static str = "edit";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(
            visitor.words.language,
            "edit-title",
            name = self.row.name.text.as_str()
        )
    }
}

/// The token as it is, or as the form has it.
fn edit_view(
    web: &Web,
    signed_in: &SignedIn,
    item: &TokenItem,
    form: Option<&Form>,
    errors: Vec<FieldError>,
) -> PageResult<EditView> {
    let credential = item.credential.as_ref().ok_or(PageError::NotFound)?;
    let field = |name: &str, known: String| form.map_or(known, |form| form.text(name).to_owned());
    let known = || credential.scopes.clone();
    let chosen = form.map_or_else(known, |form| read_scopes(form).unwrap_or_else(|_| known()));
    let role = field("role", credential.role.clone().unwrap_or_default());
    let version = form.and_then(|form| form.text("version").parse().ok());
    Ok(EditView {
        row: row(item, signed_in.words()),
        version: version.unwrap_or(credential.version),
        name: field("name", item.token.name.clone()),
        description: field(
            "description",
            item.token.description.clone().unwrap_or_default(),
        ),
        roles: roles(web, &signed_in.access, &role),
        scopes: scopes(web, &chosen),
        other_scopes: other_scopes(web, &chosen),
        networks: field("networks", credential.networks.to_string()),
        errors,
    })
}

pub async fn show_edit(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    let item = find(&web, &signed_in, read_id(&id)?, Operation::UpdateToken).await?;
    let view = edit_view(&web, &signed_in, &item, None, Vec::new())?;
    page(&web, &signed_in.visitor, &view).await
}

pub async fn edit(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    form: Form,
) -> PageResult {
    let id = read_id(&id)?;
    let item = find(&web, &signed_in, id, Operation::UpdateToken).await?;
    let error = match read_change(&item, &form, &signed_in) {
        Ok(change) => {
            let version = form.text("version").parse().ok();
            let actor = signed_in.actor();
            match web.service.update(&actor, id, version, &change).await {
                Ok(_) => return Ok(see_other(&format!("/tokens/{id}?done=edited"))),
                Err(Error::Refused(problem)) if problem.kind != ProblemKind::NotFound => {
                    field_error(&problem)
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) => error,
    };
    let view = edit_view(&web, &signed_in, &item, Some(&form), vec![error])?;
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    page_with_status(&web, &signed_in.visitor, status, &view).await
}

/// Only what differs: whoever changes a name need not be able to give the role.
fn read_change(
    item: &TokenItem,
    form: &Form,
    signed_in: &SignedIn,
) -> Result<TokenChange, FieldError> {
    let scopes = read_scopes(form)?;
    let networks = read_networks(form, signed_in.words())?;
    let credential = item.credential.as_ref();
    let description = form
        .filled("description")
        .map(|text| text.replace("\r\n", "\n"));
    let role = form.filled("role").map(str::to_owned);
    let known_role = credential.and_then(|it| it.role.clone());
    Ok(TokenChange {
        name: Some(form.text("name").to_owned()).filter(|name| *name != item.token.name),
        description: (description != item.token.description).then_some(description),
        role: (role.is_some() && role != known_role).then_some(role),
        scopes: Some(scopes).filter(|scopes| credential.is_none_or(|it| it.scopes != *scopes)),
        networks: Some(networks)
            .filter(|networks| credential.is_none_or(|it| it.networks != *networks)),
        owner: None,
    })
}
