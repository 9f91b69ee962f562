//! `/api/v1/preferences`: how the caller wants to be notified.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::response::IntoResponse as _;
use chrono::NaiveTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::paging::{given, with_etag};
use crate::domain::{Address, Channel, Preference, Step};
use crate::service::preferences::{PreferenceChange, may_set_preference};
use crate::web::body::ApiBody;
use crate::web::caller::{Caller, Precondition};
use crate::web::openapi::Problems;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};
use crate::web::state::AppState;

const TIME: &str = "%H:%M";

/// Null is as configured.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preferences)]
pub struct PreferenceBody {
    /// The warnings before an expiry, such as `7d`, widest first.
    #[schema(required)]
    steps: Option<Vec<String>>,
    /// `mail`, or `account` for notices in the account alone.
    #[schema(required)]
    channel: Option<String>,
    #[schema(required)]
    language: Option<String>,
    #[schema(required)]
    timezone: Option<String>,
    /// When the mails of a day are sent, such as `09:00`.
    #[schema(required)]
    digest_at: Option<String>,
}

impl From<Preference> for PreferenceBody {
    fn from(preference: Preference) -> Self {
        let steps = preference.steps;
        Self {
            steps: steps.map(|steps| steps.iter().map(Step::to_string).collect()),
            channel: preference.channel.map(|channel| channel.to_string()),
            language: preference.language,
            timezone: preference.timezone.map(|zone| zone.name().to_owned()),
            digest_at: preference.digest_at.map(|at| at.format(TIME).to_string()),
        }
    }
}

/// Each member that is given replaces what is there; null is as configured (RFC 7396).
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct UpdatePreferences {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>, max_items = 10, example = json!(["7d", "1d"]))]
    steps: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "mail")]
    channel: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "en")]
    language: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "Europe/Vienna")]
    timezone: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, example = "09:00")]
    digest_at: Option<Option<String>>,
}

impl UpdatePreferences {
    fn read(self) -> ApiResult<PreferenceChange> {
        let wrong = |pointer: &str, detail: &str, fix: &str| {
            let item = ProblemItem::new(pointer, detail).fix(Some(fix.to_owned()));
            ApiError::invalid(vec![item])
        };
        let steps = |steps: Vec<String>| {
            let steps = steps.iter().map(|step| step.parse::<Step>());
            let steps: Result<Vec<Step>, _> = steps.collect();
            steps.map_err(|error| wrong("/steps", &error.to_string(), "write steps as 7d or 12h"))
        };
        let channel = |channel: String| {
            let channel = channel.parse::<Channel>();
            channel.map_err(|_| wrong("/channel", "It is no channel", "write mail or account"))
        };
        let timezone = |zone: String| {
            let zone = zone.parse();
            zone.map_err(|_| {
                wrong(
                    "/timezone",
                    "It is no time zone",
                    "write it as Europe/Vienna",
                )
            })
        };
        let digest_at = |at: String| {
            let at = NaiveTime::parse_from_str(&at, TIME);
            at.map_err(|_| wrong("/digest_at", "It is no time of day", "write it as 09:00"))
        };
        Ok(PreferenceChange {
            steps: read(self.steps, steps)?,
            channel: read(self.channel, channel)?,
            language: self.language,
            timezone: read(self.timezone, timezone)?,
            digest_at: read(self.digest_at, digest_at)?,
        })
    }
}

#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things"
)]
fn read<T, U>(
    member: Option<Option<T>>,
    read: impl Fn(T) -> ApiResult<U>,
) -> ApiResult<Option<Option<U>>> {
    member.map(|value| value.map(read).transpose()).transpose()
}

/// A machine user is not notified.
fn person(caller: &Caller) -> ApiResult<&Address> {
    caller.person.address.as_ref().ok_or_else(|| {
        ApiError::forbidden("A machine user has no preferences: its owners are notified")
    })
}

fn answer(preference: Preference) -> Response<Body> {
    let version = preference.version;
    let body = Json(PreferenceBody::from(preference));
    with_etag(body.into_response(), Some(version))
}

/// The caller's preferences.
#[utoipa::path(
    get,
    path = "/api/v1/preferences",
    tag = "preferences",
    responses((status = 200, description = "The preferences", body = PreferenceBody, headers(
        ("ETag" = String, description = "The version"),
    )), Problems)
)]
pub async fn show_preferences(
    State(web): State<AppState>,
    caller: Caller,
) -> ApiResult<Response<Body>> {
    let person = person(&caller)?;
    let found = web.service.find_preference(&caller.actor(), person).await?;
    Ok(answer(found))
}

/// Changes the caller's preferences, with a token of their only account or of none. The last warning about a token that
/// was used within 7 days cannot be switched off.
#[utoipa::path(
    patch,
    path = "/api/v1/preferences",
    tag = "preferences",
    params(("If-Match" = String, Header, description = "The ETag of the version that this changes")),
    request_body = UpdatePreferences,
    responses((status = 200, description = "The preferences", body = PreferenceBody, headers(
        ("ETag" = String, description = "The new version"),
    )), Problems)
)]
pub async fn update_preferences(
    State(web): State<AppState>,
    caller: Caller,
    precondition: Precondition,
    request: ApiBody,
) -> ApiResult<Response<Body>> {
    let (actor, person) = (caller.actor(), person(&caller)?);
    may_set_preference(&actor, person)?;
    let known = web.service.find_preference(&actor, person).await?;
    precondition.require(known.version)?;
    let change = request.patch::<UpdatePreferences>().await?.read()?;
    let saved = web
        .service
        .set_preference(&actor, person, Some(known.version), &change)
        .await?;
    Ok(answer(saved))
}
