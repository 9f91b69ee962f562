//! The page with a new secret, which is shown once: a form that is sent again makes nothing and shows nothing.

use axum::http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::token_view::{ExpiryView, Name, expiry, name};
use crate::domain::service::ProblemKind;
use crate::language::phrase;
use crate::service::Error;
use crate::service::idempotency::Repeatable;
use crate::service::issue::{Issued, Once, Outcome};
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::Moment;
use crate::web::state::Web;

#[derive(Serialize)]
struct MadeView {
    id: String,
    name: Name,
    expiry: ExpiryView,
    token: String,
    access_key: String,
    secret_key: String,
    endpoint: String,
    host: String,
    /// Until when the old secret works.
    old_until: Option<Moment>,
    is_new: bool,
}

impl View for MadeView {
    const TEMPLATE: &'static str = "made";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(
            visitor.words.language,
            "made-title",
            name = self.name.text.as_str()
        )
    }
}

#[derive(Debug, Serialize)]
struct AlreadyMadeView {
    id: Option<String>,
}

impl View for AlreadyMadeView {
    const TEMPLATE: &'static str = "already_made";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "already-made-title")
    }
}

/// The hidden field of a form that makes a secret.
pub fn new_form_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What a form asks for, to be done once.
pub struct FormRequest(Repeatable);

impl FormRequest {
    /// # Errors
    /// If the form has no key.
    pub fn new(signed_in: &SignedIn, form: &Form, path: &str) -> PageResult<Self> {
        // Only the person can know the key, and the answer that is kept is the id of the token.
        let person: SecretString = signed_in.access.person.key.clone().into();
        let key = form.text("form_key");
        let request = Repeatable::new(key, person, &[b"page", path.as_bytes()]);
        request.map(Self).map_err(|_| PageError::BadRequest)
    }

    /// The page that says that it was done before.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find_former(
        &self,
        web: &Web,
        signed_in: &SignedIn,
    ) -> PageResult<Option<FormerAnswer>> {
        let id = match web.service.answer_again(&self.0).await {
            Ok(None) => return Ok(None),
            Ok(Some(id)) => Some(id.expose_secret().to_owned()),
            Err(Error::Refused(problem)) if problem.kind == ProblemKind::Conflict => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(already_made(web, signed_in, id).await?))
    }

    pub fn once<'a>(&'a self, answer: &'a (dyn Fn(&Issued) -> SecretString + Sync)) -> Once<'a> {
        Once {
            request: &self.0,
            answer,
        }
    }
}

type FormerAnswer = axum::http::Response<axum::body::Body>;

/// What is kept of an answer.
pub fn kept_answer(issued: &Issued) -> SecretString {
    issued.credential.id.to_string().into()
}

pub async fn show_outcome(
    web: &Web,
    signed_in: &SignedIn,
    outcome: Outcome,
    is_new: bool,
) -> PageResult {
    match outcome {
        Outcome::Made(issued) => show_made(web, signed_in, &issued, is_new).await,
        Outcome::Again(id) => {
            let id = id.expose_secret().to_owned();
            already_made(web, signed_in, Some(id)).await
        }
    }
}

async fn show_made(web: &Web, signed_in: &SignedIn, issued: &Issued, is_new: bool) -> PageResult {
    let words = signed_in.words();
    let url = web.settings.portal_url.as_ref();
    let endpoint = url.map_or(String::new(), |url| {
        url.as_str().trim_end_matches('/').to_owned()
    });
    let view = MadeView {
        id: issued.credential.id.to_string(),
        name: name(issued.token.label()),
        expiry: expiry(&issued.token, words),
        token: issued.secret.token.expose_secret().to_owned(),
        access_key: issued.secret.access_key.clone(),
        secret_key: issued.secret.secret_key.expose_secret().to_owned(),
        host: url
            .and_then(|url| url.host_str())
            .unwrap_or_default()
            .to_owned(),
        endpoint,
        old_until: issued
            .credential
            .old_secret
            .as_ref()
            .map(|old| old.valid_until)
            .filter(|at| words.now < *at)
            .map(|at| words.moment(at)),
        is_new,
    };
    let status = StatusCode::CREATED;
    let response = page_with_status(web, &signed_in.visitor, status, &view).await?;
    web.service.note_shown(issued.credential.id);
    Ok(response)
}

async fn already_made(web: &Web, signed_in: &SignedIn, id: Option<String>) -> PageResult {
    let view = AlreadyMadeView { id };
    page_with_status(web, &signed_in.visitor, StatusCode::CONFLICT, &view).await
}
