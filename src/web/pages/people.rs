//! `/people`: the users whom an admin manages; who is disabled is out at the next request.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::TimeDelta;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::list_link::{decode, encode, link};
use super::site::see_other;
use super::token_form::FieldError;
use super::token_view::{Badge, Name, name};
use crate::domain::Token;
use crate::domain::service::ServicePerson;
use crate::language::phrase;
use crate::service::Error;
use crate::text::clean;
use crate::web::portal::error::PageResult;
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page, page_with_status};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::{AppState, Web};

const PATH: &str = "/people";
const ROWS: usize = 50;
/// What was used within this time is likely to be missed.
const RECENT: TimeDelta = TimeDelta::days(7);

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PeopleQuery {
    cursor: String,
    done: String,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "a template asks for each by its name"
)]
#[derive(Debug, Serialize)]
struct PersonView {
    /// Within an address.
    path: String,
    key: Name,
    name: Option<Name>,
    is_machine: bool,
    is_super: bool,
    /// With the account of each.
    roles: Vec<String>,
    badge: Badge,
    since: Option<Moment>,
    /// What directories report about somebody without access.
    evidence: Vec<String>,
    tokens_link: String,
    is_disabled: bool,
    /// Nobody disables themselves here.
    is_self: bool,
}

#[derive(Debug, Serialize)]
struct PeopleView {
    done: Option<String>,
    rows: Vec<PersonView>,
    next_link: Option<String>,
}

impl View for PeopleView {
    const TEMPLATE: &'static str = "people";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "people-title")
    }
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<PeopleQuery>,
) -> PageResult {
    signed_in.require_admin()?;
    let after = decode::<String>(&query.cursor)?;
    let limit = i64::try_from(ROWS + 1).unwrap_or(i64::MAX);
    let mut people = web
        .service
        .list_users(&signed_in.actor(), after.as_deref(), limit)
        .await?;
    let has_more = people.len() > ROWS;
    people.truncate(ROWS);
    let last = people.last().filter(|_| has_more);
    let next_link = last.map(|person| {
        let (cursor, done) = (encode(&person.key), String::new());
        link(PATH, &PeopleQuery { cursor, done })
    });
    let mut rows = Vec::new();
    for person in &people {
        rows.push(load_view(&web, &signed_in, person).await?);
    }
    let words = signed_in.words();
    let done = ["disabled", "enabled"]
        .into_iter()
        .find(|act| *act == query.done);
    let view = PeopleView {
        done: done.map(|act| phrase!(words.language, "people-done", act = act)),
        rows,
        next_link,
    };
    page(&web, &signed_in.visitor, &view).await
}

async fn load_view(
    web: &Web,
    signed_in: &SignedIn,
    person: &ServicePerson,
) -> PageResult<PersonView> {
    let mut evidence = Vec::new();
    if person.lost_access_at.is_some() {
        let actor = signed_in.actor();
        let reports = web.service.list_reports(&actor, &person.key).await?;
        let lost = reports
            .into_iter()
            .filter(|report| report.identity.status.is_lost());
        evidence.extend(lost.map(|report| {
            let evidence = clean(&report.identity.evidence).into_owned();
            format!("{}: {evidence}", report.directory)
        }));
    }
    let words = signed_in.words();
    let roles = person.roles.iter();
    Ok(PersonView {
        path: utf8_percent_encode(&person.key, NON_ALPHANUMERIC).to_string(),
        key: name(&person.key),
        name: person.name.as_deref().map(name),
        is_machine: person.is_machine(),
        is_super: person.is_super,
        roles: roles
            .map(|(account, role)| format!("{account}: {role}"))
            .collect(),
        badge: badge(person, words),
        since: person
            .disabled_at
            .or(person.lost_access_at)
            .map(|at| words.moment(at)),
        evidence,
        tokens_link: link(
            "/tokens",
            &serde_json::json!({ "issued_by": person.key, "view": "all" }),
        ),
        is_disabled: person.disabled_at.is_some(),
        is_self: person.key == signed_in.access.person.key,
    })
}

fn badge(person: &ServicePerson, words: &Words) -> Badge {
    let (status, class, icon) = match (person.disabled_at, person.lost_access_at) {
        (Some(_), _) => ("disabled", "off", "pause"),
        (None, Some(_)) => ("lost", "ended", "revoke"),
        (None, None) => ("active", "good", "check"),
    };
    Badge {
        text: phrase!(words.language, "person-status", status = status),
        class,
        icon,
    }
}

/// A token that was used lately.
#[derive(Debug, Serialize)]
struct UsedToken {
    id: String,
    name: Name,
    last_used: Option<Moment>,
}

#[derive(Debug, Serialize)]
struct DecisionView {
    person: PersonView,
    is_enabling: bool,
    used: Vec<UsedToken>,
    reason: String,
    errors: Vec<FieldError>,
}

impl View for DecisionView {
    const TEMPLATE: &'static str = "person_state";

    fn title(&self, visitor: &Visitor) -> String {
        let (language, name) = (&visitor.words.language, self.person.key.text.as_str());
        if self.is_enabling {
            phrase!(language, "people-enable-title", name = name)
        } else {
            phrase!(language, "people-disable-title", name = name)
        }
    }
}

async fn decision(
    web: &Web,
    signed_in: &SignedIn,
    key: &str,
    is_enabling: bool,
) -> PageResult<DecisionView> {
    signed_in.require_admin()?;
    let (actor, words) = (signed_in.actor(), signed_in.words());
    let person = web.service.find_user(&actor, key).await?;
    let since = words.now - RECENT;
    let used = web
        .service
        .list_used_tokens(&actor, &person.key, since)
        .await?;
    let used_token = |token: &Token| UsedToken {
        id: token.id.to_string(),
        name: name(token.label()),
        last_used: token.last_used_at.map(|at| words.moment(at)),
    };
    Ok(DecisionView {
        person: load_view(web, signed_in, &person).await?,
        is_enabling,
        used: used.iter().map(used_token).collect(),
        reason: String::new(),
        errors: Vec::new(),
    })
}

pub async fn show_disable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(key): Path<String>,
) -> PageResult {
    let view = decision(&web, &signed_in, &key, false).await?;
    page(&web, &signed_in.visitor, &view).await
}

pub async fn show_enable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(key): Path<String>,
) -> PageResult {
    let view = decision(&web, &signed_in, &key, true).await?;
    page(&web, &signed_in.visitor, &view).await
}

pub async fn disable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(key): Path<String>,
    form: Form,
) -> PageResult {
    decide(&web, &signed_in, &key, &form, false).await
}

pub async fn enable(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(key): Path<String>,
    form: Form,
) -> PageResult {
    decide(&web, &signed_in, &key, &form, true).await
}

async fn decide(
    web: &Web,
    signed_in: &SignedIn,
    key: &str,
    form: &Form,
    is_enabling: bool,
) -> PageResult {
    let view = decision(web, signed_in, key, is_enabling).await?;
    let Some(reason) = form.line("reason") else {
        let text = phrase!(signed_in.words().language, "people-reason-missing");
        return refuse(web, signed_in, view, form, ("reason", text)).await;
    };
    let actor = signed_in.actor();
    let service = &web.service;
    let done = service.set_user_enabled(&actor, key, is_enabling, Some(&reason));
    match done.await {
        Ok(_) if is_enabling => Ok(see_other("/people?done=enabled")),
        Ok(_) => Ok(see_other("/people?done=disabled")),
        Err(Error::Refused(problem)) => {
            refuse(web, signed_in, view, form, ("form", problem.to_string())).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn refuse(
    web: &Web,
    signed_in: &SignedIn,
    view: DecisionView,
    form: &Form,
    (field, text): (&'static str, String),
) -> PageResult {
    let view = DecisionView {
        reason: form.text("reason").to_owned(),
        errors: vec![FieldError { field, text }],
        ..view
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    page_with_status(web, &signed_in.visitor, status, &view).await
}
