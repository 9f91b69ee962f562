//! What belongs to no page: signing out, the theme, the account, reports of browsers.

use axum::body::Body;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, Response, StatusCode};

use crate::web::body::ApiBody;
use crate::web::portal::cookies;
use crate::web::portal::error::PageResult;
use crate::web::portal::form::Form;
use crate::web::portal::session::{SignedIn, Visitor, safe_next};
use crate::web::state::AppState;

/// Browsers send a few kilobytes.
const MAX_REPORT_BYTES: usize = 64 * 1024;
const YEAR: i64 = 365 * 86_400;

/// After a form: the browser gets a page that it may reload.
pub fn see_other(path: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(location) = HeaderValue::try_from(path) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

pub async fn sign_out(State(web): State<AppState>, visitor: Visitor) -> PageResult {
    if let Some(access) = visitor.access.clone() {
        let id = access.credential.id;
        let actor = crate::domain::service::Actor::Caller(access);
        web.service.end_session(&actor, id).await?;
    }
    let mut response = see_other("/sign-in");
    cookies::remove(response.headers_mut(), cookies::SESSION);
    Ok(response)
}

/// Turns the session to another account of its person.
pub async fn switch_account(
    State(web): State<AppState>,
    signed_in: SignedIn,
    form: Form,
) -> PageResult {
    let account = form.text("account");
    web.service
        .switch_account(&signed_in.access, account)
        .await?;
    Ok(see_other("/"))
}

pub async fn set_theme(form: Form) -> Response<Body> {
    let mut response = see_other(safe_next(form.text("next")));
    let headers = response.headers_mut();
    match form.text("theme") {
        theme @ ("light" | "dark") => cookies::set(headers, cookies::THEME, theme, Some(YEAR)),
        _ => cookies::remove(headers, cookies::THEME),
    }
    response
}

/// A page did what its policy forbids. The metrics count it.
pub async fn report_violation(request: Request) -> StatusCode {
    let Ok(body) = ApiBody::from_request(request, &()).await else {
        return StatusCode::BAD_REQUEST;
    };
    match body.bytes_up_to(MAX_REPORT_BYTES).await {
        Ok(report) => {
            let report = String::from_utf8_lossy(&report);
            tracing::debug!(report = %crate::text::one_line(&report, 500), "a browser reports a violation of the policy of pages");
            StatusCode::NO_CONTENT
        }
        Err(_) => StatusCode::PAYLOAD_TOO_LARGE,
    }
}
