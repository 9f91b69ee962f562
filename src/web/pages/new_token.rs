//! `/tokens/new`: a form for a new token.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;

use super::made::{FormRequest, kept_answer, new_form_key, show_outcome};
use super::token_form::{
    ExpiryFields, FieldError, ScopeChoice, field_error, other_scopes, read_lifetime, read_networks,
    read_scopes, roles, scopes,
};
use super::tokens::{Choice, choices};
use crate::domain::service::{Kind, NewToken, Scopes};
use crate::language::phrase;
use crate::service::Error;
use crate::web::portal::error::PageResult;
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::state::{AppState, Web};

const PATH: &str = "/tokens/new";

#[derive(Debug, Serialize)]
struct NewTokenView {
    form_key: String,
    name: String,
    description: String,
    account: String,
    /// Whether the visitor names an account: super admins do.
    asks_account: bool,
    roles: Vec<Choice>,
    kinds: Vec<Choice>,
    scopes: Vec<ScopeChoice>,
    other_scopes: String,
    networks: String,
    expiry: ExpiryFields,
    errors: Vec<FieldError>,
}

impl View for NewTokenView {
    const TEMPLATE: &'static str = "new_token";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "new-token-title")
    }
}

/// With the fields of a form, or of the query of a link.
fn view(web: &Web, signed_in: &SignedIn, form: &Form, errors: Vec<FieldError>) -> NewTokenView {
    let terms = web.service.terms();
    let kind = kind_of(form);
    let kinds = terms.kinds.iter().filter(|kind| kind.can_issue);
    let kinds = ["api"]
        .into_iter()
        .chain(kinds.map(|kind| kind.name.as_str()));
    let chosen = read_scopes(form).unwrap_or_else(|_| Scopes::default());
    let expires = form.text("expires");
    let form_key = form.filled("form_key").map(str::to_owned);
    NewTokenView {
        form_key: form_key.unwrap_or_else(new_form_key),
        name: form.text("name").to_owned(),
        description: form.text("description").to_owned(),
        account: form.text("account").to_owned(),
        asks_account: signed_in.access.is_super,
        roles: roles(web, &signed_in.access, form.text("role")),
        kinds: choices(kinds, kind.as_str(), str::to_owned),
        scopes: scopes(web, &chosen),
        other_scopes: other_scopes(web, &chosen),
        networks: form.text("networks").to_owned(),
        expiry: ExpiryFields::new(web, signed_in.words(), &kind, expires, form.text("date")),
        errors,
    }
}

fn kind_of(form: &Form) -> Kind {
    form.filled("kind").map_or(Kind::Api, Kind::parse)
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    RawQuery(query): RawQuery,
) -> PageResult {
    signed_in.actor().may_issue(web.service.terms().issuers)?;
    signed_in.require_fresh(&signed_in.visitor.path)?;
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let view = NewTokenView {
        form_key: new_form_key(),
        ..view(&web, &signed_in, &form, Vec::new())
    };
    page_with_status(&web, &signed_in.visitor, StatusCode::OK, &view).await
}

pub async fn create(State(web): State<AppState>, signed_in: SignedIn, form: Form) -> PageResult {
    signed_in.actor().may_issue(web.service.terms().issuers)?;
    let request = FormRequest::new(&signed_in, &form, PATH)?;
    if let Some(former) = request.find_former(&web, &signed_in).await? {
        return Ok(former);
    }
    signed_in.require_fresh(PATH)?;
    let new = match read(&form, &signed_in) {
        Ok(new) => new,
        Err(errors) => return refuse(&web, &signed_in, &form, errors).await,
    };
    let once = request.once(&kept_answer);
    let actor = signed_in.actor();
    match web.service.issue_once(&actor, &new, Some(&once)).await {
        Ok(outcome) => show_outcome(&web, &signed_in, outcome, true).await,
        Err(Error::Refused(problem)) => {
            let errors = vec![field_error(&problem)];
            refuse(&web, &signed_in, &form, errors).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn refuse(
    web: &Web,
    signed_in: &SignedIn,
    form: &Form,
    errors: Vec<FieldError>,
) -> PageResult {
    let view = view(web, signed_in, form, errors);
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    page_with_status(web, &signed_in.visitor, status, &view).await
}

/// All that is wrong at once.
fn read(form: &Form, signed_in: &SignedIn) -> Result<NewToken, Vec<FieldError>> {
    let words = signed_in.words();
    let lifetime = read_lifetime(form, words);
    let scopes = read_scopes(form);
    let networks = read_networks(form, words);
    let mut errors: Vec<FieldError> = Vec::new();
    if form.filled("name").is_none() {
        errors.push(FieldError {
            field: "name",
            text: phrase!(words.language, "form-name-missing"),
        });
    }
    let (lifetime, scopes, networks) = match (lifetime, scopes, networks) {
        (Ok(lifetime), Ok(scopes), Ok(networks)) if errors.is_empty() => {
            (lifetime, scopes, networks)
        }
        (lifetime, scopes, networks) => {
            errors.extend(lifetime.err());
            errors.extend(scopes.err());
            errors.extend(networks.err());
            return Err(errors);
        }
    };
    Ok(NewToken {
        name: form.text("name").to_owned(),
        description: form
            .filled("description")
            .map(|text| text.replace("\r\n", "\n")),
        user: None,
        account: form.filled("account").map(str::to_owned),
        role: form.filled("role").map(str::to_owned),
        scopes,
        kind: kind_of(form),
        lifetime,
        not_before: None,
        networks,
    })
}
