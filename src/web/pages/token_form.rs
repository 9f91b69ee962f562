//! The fields of the forms for a new token, a new secret and other facts.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Serialize;

use crate::domain::service::{
    Access, Kind, Lifetime, Networks, Problem, Rank, Scopes, parse_network,
};
use crate::language::phrase;
use crate::time::{format_span, shift};
use crate::web::portal::form::Form;
use crate::web::portal::words::{Moment, Words};
use crate::web::state::Web;

use super::tokens::{Choice, choices};

/// A field that is wrong, with what to do.
#[derive(Debug, Clone, Serialize)]
pub struct FieldError {
    /// The id of the field.
    pub field: &'static str,
    pub text: String,
}

/// A length of life that the form offers.
#[derive(Debug, Serialize)]
pub struct Preset {
    pub value: String,
    pub text: String,
    pub until: Moment,
    pub is_chosen: bool,
}

/// How long the token is to live.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a template asks for each by its name"
)]
#[derive(Debug, Serialize)]
pub struct ExpiryFields {
    pub presets: Vec<Preset>,
    pub is_date: bool,
    /// `2026-12-31`
    pub date: String,
    pub min: String,
    /// The last day that the policy allows.
    pub max: Option<String>,
    pub max_text: Option<Moment>,
    pub allows_never: bool,
    pub is_never: bool,
    /// Of a new secret: the former length of life.
    pub offers_same: bool,
    pub is_same: bool,
}

#[derive(Debug, Serialize)]
pub struct ScopeChoice {
    pub name: String,
    pub description: Option<String>,
    pub is_chosen: bool,
}

impl ExpiryFields {
    /// `chosen` is the value of the field `expires`; empty for the default.
    pub fn new(web: &Web, words: &Words, kind: &Kind, chosen: &str, date: &str) -> Self {
        let terms = web.service.terms();
        let life = terms.life(kind);
        let latest = life.latest(words.now).map(|(_, latest)| latest);
        let default = life.default.map(format_span).unwrap_or_default();
        let mut spans = terms.presets.clone();
        spans.extend(life.default);
        spans.retain(|span| life.max.is_none_or(|max| *span <= max));
        spans.sort_unstable();
        spans.dedup();
        let chosen = if chosen.is_empty() {
            default.as_str()
        } else {
            chosen
        };
        let preset = |span: &TimeDelta| Preset {
            is_chosen: format_span(*span) == chosen,
            value: format_span(*span),
            text: words.span(*span),
            until: words.moment(shift(words.now, *span)),
        };
        let day = |at: DateTime<Utc>| at.with_timezone(&words.zone).date_naive().to_string();
        Self {
            presets: spans.iter().map(preset).collect(),
            is_date: chosen == "date",
            date: date.to_owned(),
            min: day(shift(words.now, TimeDelta::days(1))),
            max: latest.map(day),
            max_text: latest.map(|latest| words.moment(latest)),
            allows_never: life.allows_never,
            is_never: chosen == "never" || (chosen.is_empty() && life.default.is_none()),
            offers_same: false,
            is_same: false,
        }
    }
}

/// The choice of a life.
///
/// # Errors
/// If it is a date that cannot be read.
pub fn read_lifetime(form: &Form, words: &Words) -> Result<Lifetime, FieldError> {
    let error = |text: String| FieldError {
        field: "expires",
        text,
    };
    let no_day = || error(phrase!(words.language, "form-date-invalid"));
    match form.text("expires") {
        "" | "same" => Ok(Lifetime::Default),
        "never" => Ok(Lifetime::Never),
        "date" => {
            let date = form.text("date").parse::<NaiveDate>();
            let date = date.map_err(|_| no_day())?;
            let end = end_of(date, words).ok_or_else(no_day)?;
            Ok(Lifetime::Until(end))
        }
        span => {
            let span = humantime::parse_duration(span).ok();
            let span = span.and_then(|span| TimeDelta::from_std(span).ok());
            let span =
                span.ok_or_else(|| error(phrase!(words.language, "form-expires-invalid")))?;
            Ok(Lifetime::For(span))
        }
    }
}

/// The last minute of a day where the visitor is.
pub fn end_of(date: NaiveDate, words: &Words) -> Option<DateTime<Utc>> {
    let time = NaiveTime::from_hms_opt(23, 59, 0)?;
    let local = date.and_time(time).and_local_timezone(words.zone);
    local.latest().map(|at| at.with_timezone(&Utc))
}

/// # Errors
/// If one is no scope.
pub fn read_scopes(form: &Form) -> Result<Scopes, FieldError> {
    let other = form.all("other_scopes").flat_map(str::split_whitespace);
    let scopes: Vec<&str> = form.all("scope").chain(other).collect();
    Scopes::new(scopes).map_err(|error| FieldError {
        field: "scopes",
        text: error.to_string(),
    })
}

/// # Errors
/// If one is no network.
pub fn read_networks(form: &Form, words: &Words) -> Result<Networks, FieldError> {
    let mut networks = Vec::new();
    for text in form
        .text("networks")
        .split([' ', '\t', '\r', '\n', ','])
        .filter(|text| !text.is_empty())
    {
        let network = parse_network(text).map_err(|_| FieldError {
            field: "networks",
            text: phrase!(words.language, "form-network-invalid", name = text),
        })?;
        networks.push(network);
    }
    Ok(Networks::new(networks))
}

/// Beside which field a refusal is shown.
pub fn field_error(problem: &Problem) -> FieldError {
    let field = match problem.pointer.unwrap_or_default() {
        "/name" => "name",
        "/description" => "description",
        "/account" => "account",
        "/role" => "role",
        "/scopes" => "scopes",
        "/kind" => "kind",
        "/networks" => "networks",
        "/overlap" => "overlap",
        "/expires_in" | "/expires_at" | "/never" => "expires",
        _ => "form",
    };
    FieldError {
        field,
        text: problem.to_string(),
    }
}

/// Those that the visitor may give.
pub fn roles(web: &Web, access: &Access, chosen: &str) -> Vec<Choice> {
    let roles = &web.service.terms().roles;
    let own = access.rank.unwrap_or(Rank::HIGHEST);
    let may_give = |role: &&str| own.may_give(roles.rank_or_lowest(role));
    choices(roles.iter().filter(may_give), chosen, str::to_owned)
}

/// The configured scopes, and which of them are chosen.
pub fn scopes(web: &Web, chosen: &Scopes) -> Vec<ScopeChoice> {
    let terms = web.service.terms();
    let choice = |scope: &crate::domain::service::ScopeInfo| ScopeChoice {
        name: scope.name.clone(),
        description: scope.description.clone(),
        is_chosen: chosen.iter().any(|it| it == scope.name),
    };
    terms.scopes.iter().map(choice).collect()
}

/// Chosen scopes that the form does not offer.
pub fn other_scopes(web: &Web, chosen: &Scopes) -> String {
    let known = &web.service.terms().scopes;
    let is_other = |scope: &&str| !known.iter().any(|it| it.name == *scope);
    let other: Vec<&str> = chosen.iter().filter(is_other).collect();
    other.join(" ")
}
