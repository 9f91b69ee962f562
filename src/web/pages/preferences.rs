//! `/preferences`: how the visitor is notified, and their sessions.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::preference_form::{PreferenceFields, address, field_error, read};
use super::site::see_other;
use super::token::read_id;
use crate::domain::service::ProblemKind;
use crate::language::phrase;
use crate::service::Error;
use crate::service::sessions::SessionItem;
use crate::web::portal::cookies;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::{AppState, Web};

#[derive(Debug, Serialize)]
struct SessionView {
    id: String,
    is_this: bool,
    address: Option<String>,
    created: Moment,
    last_used: Option<Moment>,
    expires: Option<Moment>,
}

#[derive(Debug, Serialize)]
struct PreferencesView {
    is_saved: bool,
    #[serde(flatten)]
    fields: PreferenceFields,
    sessions: Vec<SessionView>,
}

impl View for PreferencesView {
    const TEMPLATE: &'static str = "preferences";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "preferences-title")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PreferencesQuery {
    done: String,
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<PreferencesQuery>,
) -> PageResult {
    let (actor, person) = (signed_in.actor(), address(&signed_in)?);
    let preference = web.service.find_preference(&actor, person).await?;
    let fields = PreferenceFields::of(&web, signed_in.words(), &preference);
    let is_saved = query.done == "saved";
    show_with(&web, &signed_in, StatusCode::OK, fields, is_saved).await
}

pub async fn save(State(web): State<AppState>, signed_in: SignedIn, form: Form) -> PageResult {
    let errors = match read(&form, signed_in.words()) {
        Ok(change) => {
            let (actor, person) = (signed_in.actor(), address(&signed_in)?);
            let version = form
                .text("version")
                .parse()
                .map_err(|_| PageError::BadRequest)?;
            let saved = web
                .service
                .set_preference(&actor, person, Some(version), &change);
            match saved.await {
                Ok(_) => return Ok(see_other("/preferences?done=saved")),
                Err(Error::Refused(problem)) if problem.kind != ProblemKind::NotFound => {
                    vec![field_error(&problem)]
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(errors) => errors,
    };
    let fields = PreferenceFields::new(&web, signed_in.words(), &form, errors);
    show_with(
        &web,
        &signed_in,
        StatusCode::UNPROCESSABLE_ENTITY,
        fields,
        false,
    )
    .await
}

async fn show_with(
    web: &Web,
    signed_in: &SignedIn,
    status: StatusCode,
    fields: PreferenceFields,
    is_saved: bool,
) -> PageResult {
    let sessions = web.service.list_sessions(&signed_in.actor()).await?;
    let own = signed_in.access.credential.id;
    let words = signed_in.words();
    let view = |item: &SessionItem| session(item, item.id == own, words);
    let view = PreferencesView {
        is_saved,
        fields,
        sessions: sessions.iter().map(view).collect(),
    };
    page_with_status(web, &signed_in.visitor, status, &view).await
}

fn session(item: &SessionItem, is_this: bool, words: &Words) -> SessionView {
    SessionView {
        id: item.id.to_string(),
        is_this,
        address: item.address.map(|address| address.to_string()),
        created: words.moment(item.created_at),
        last_used: item.last_used_at.map(|at| words.moment(at)),
        expires: item.expires_at.map(|at| words.moment(at)),
    }
}

pub async fn end_session(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> PageResult {
    let id = read_id(&id)?;
    web.service.end_session(&signed_in.actor(), id).await?;
    if id != signed_in.access.credential.id {
        return Ok(see_other("/preferences"));
    }
    let mut response = see_other("/sign-in");
    cookies::remove(response.headers_mut(), cookies::SESSION);
    Ok(response)
}
