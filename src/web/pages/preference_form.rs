//! The form of `/preferences`: how the visitor is notified.

use chrono::NaiveTime;
use chrono_tz::Tz;
use serde::Serialize;

use super::token_form::FieldError;
use super::tokens::{Choice, choices};
use crate::domain::service::Problem;
use crate::domain::{Address, Channel, Preference, Step};
use crate::language::phrase;
use crate::service::preferences::PreferenceChange;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::session::SignedIn;
use crate::web::portal::words::Words;
use crate::web::state::Web;

const TIME: &str = "%H:%M";
/// As configured, a list of one's own, none.
const WARNINGS: [&str; 3] = ["default", "own", "none"];

/// What the form shows: what is saved, or what was typed.
#[derive(Debug, Serialize)]
pub struct PreferenceFields {
    version: String,
    warnings: Vec<Choice>,
    steps: String,
    /// Those of the configuration.
    default_steps: String,
    channels: Vec<Choice>,
    languages: Vec<Choice>,
    timezone: String,
    default_timezone: String,
    digest: String,
    errors: Vec<FieldError>,
}

fn write_steps(steps: &[Step]) -> String {
    let steps: Vec<_> = steps.iter().map(Step::to_string).collect();
    steps.join(" ")
}

/// The fields as they are sent for what is saved.
fn saved(preference: &Preference) -> Vec<(&'static str, String)> {
    let steps = preference.steps.as_deref();
    let warnings = match steps {
        None => "default",
        Some([]) => "none",
        Some(_) => "own",
    };
    let text = |text: Option<String>| text.unwrap_or_default();
    vec![
        ("version", preference.version.to_string()),
        ("warnings", warnings.to_owned()),
        ("steps", text(steps.map(write_steps))),
        ("channel", text(preference.channel.map(|it| it.to_string()))),
        ("language", text(preference.language.clone())),
        (
            "timezone",
            text(preference.timezone.map(|it| it.name().to_owned())),
        ),
        (
            "digest",
            text(preference.digest_at.map(|at| at.format(TIME).to_string())),
        ),
    ]
}

impl PreferenceFields {
    pub fn of(web: &Web, words: &Words, preference: &Preference) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(saved(preference));
        Self::new(
            web,
            words,
            &Form::parse(form.finish().as_bytes()),
            Vec::new(),
        )
    }

    pub fn new(web: &Web, words: &Words, form: &Form, errors: Vec<FieldError>) -> Self {
        let text = |name: &str| form.text(name).to_owned();
        let warnings = form.filled("warnings").unwrap_or("default");
        let language = form.text("language");
        let mut languages: Vec<String> = web.languages.tags().collect();
        if !language.is_empty() && !languages.iter().any(|tag| tag == language) {
            languages.push(language.to_owned());
        }
        let policy = web.service.policy();
        Self {
            version: text("version"),
            warnings: choices(WARNINGS.into_iter(), warnings, |value| {
                phrase!(words.language, "preferences-warnings-value", value = value)
            }),
            steps: text("steps"),
            default_steps: write_steps(&policy.steps),
            channels: choices(
                Channel::ALL.iter().map(|channel| channel.as_str()),
                form.text("channel"),
                |value| phrase!(words.language, "preferences-channel-value", channel = value),
            ),
            languages: choices(
                languages.iter().map(String::as_str),
                language,
                |tag| match tag {
                    "en" => "English".to_owned(),
                    "de" => "Deutsch".to_owned(),
                    tag => tag.to_owned(),
                },
            ),
            timezone: text("timezone"),
            default_timezone: policy.zone.name().to_owned(),
            digest: text("digest"),
            errors,
        }
    }
}

/// A field that is left empty is as configured.
pub fn read(form: &Form, words: &Words) -> Result<PreferenceChange, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut wrong = |field: &'static str, text: String| errors.push(FieldError { field, text });
    let steps = match form.text("warnings") {
        "none" => Some(Vec::new()),
        "own" => {
            let steps = form
                .text("steps")
                .split([' ', ','])
                .filter(|step| !step.is_empty());
            let steps: Result<Vec<Step>, _> = steps.map(str::parse).collect();
            match steps {
                Ok(steps) if steps.is_empty() => {
                    wrong(
                        "steps",
                        phrase!(words.language, "preferences-steps-missing"),
                    );
                    None
                }
                Ok(steps) => Some(steps),
                Err(error) => {
                    wrong("steps", error.to_string());
                    None
                }
            }
        }
        _ => None,
    };
    let zone = form.text("timezone");
    let timezone: Option<Tz> = zone.parse().ok();
    if timezone.is_none() && !zone.is_empty() {
        wrong(
            "timezone",
            phrase!(words.language, "preferences-timezone-wrong", name = zone),
        );
    }
    let time = form.text("digest");
    let digest_at = NaiveTime::parse_from_str(time, TIME).ok();
    if digest_at.is_none() && !time.is_empty() {
        wrong(
            "digest",
            phrase!(words.language, "preferences-digest-wrong"),
        );
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(PreferenceChange {
        steps: Some(steps),
        channel: Some(form.text("channel").parse().ok()),
        language: Some(form.filled("language").map(str::to_owned)),
        timezone: Some(timezone),
        digest_at: Some(digest_at),
    })
}

/// The address of the visitor: only people sign in.
pub fn address(signed_in: &SignedIn) -> PageResult<&Address> {
    signed_in
        .access
        .person
        .address
        .as_ref()
        .ok_or(PageError::NotFound)
}

pub fn field_error(problem: &Problem) -> FieldError {
    let field = match problem.pointer.unwrap_or_default() {
        "/steps" => "warnings",
        "/language" => "language",
        _ => "form",
    };
    FieldError {
        field,
        text: problem.to_string(),
    }
}
