//! What a page shows when it cannot be shown.

use axum::body::Body;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;

use crate::causes::Causes;
use crate::domain::service::{Problem, ProblemKind};
use crate::service::Error;

pub type PageResult<T = Response<Body>> = Result<T, PageError>;

/// It becomes a response without a body; the page is written where the language and the visitor are known.
#[derive(Debug, Clone)]
pub enum PageError {
    /// It does not exist, or the visitor may not know that it does.
    NotFound,
    /// The visitor signs in first and then returns to this path.
    SignIn(String),
    BadRequest,
    /// The request comes from a page of another site.
    CrossSite,
    /// The service refuses; says why.
    Refused(Problem),
    Unavailable,
    /// The log has the details.
    Internal,
    Status(StatusCode),
}

impl PageError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::SignIn(_) => StatusCode::SEE_OTHER,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Refused(problem) => match problem.kind {
                ProblemKind::NotFound => StatusCode::NOT_FOUND,
                ProblemKind::Forbidden | ProblemKind::Unauthorized => StatusCode::FORBIDDEN,
                ProblemKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                ProblemKind::LimitReached | ProblemKind::Conflict | ProblemKind::Stale => {
                    StatusCode::CONFLICT
                }
            },
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Status(status) => *status,
        }
    }

    /// In the phrases that say what is wrong.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossSite => "cross-site",
            _ => match self.status() {
                StatusCode::NOT_FOUND => "not-found",
                StatusCode::FORBIDDEN => "forbidden",
                StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => "refused",
                StatusCode::METHOD_NOT_ALLOWED => "method",
                StatusCode::SERVICE_UNAVAILABLE => "unavailable",
                status if status.is_client_error() => "bad-request",
                _ => "internal",
            },
        }
    }
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(problem) => problem.into(),
            Error::Closed => Self::Unavailable,
            Error::Store(ref inner) if inner.is_transient() => {
                tracing::warn!(error = %Causes(&error), "a page cannot be shown");
                Self::Unavailable
            }
            error => {
                tracing::error!(error = %Causes(&error), "a page cannot be shown");
                Self::Internal
            }
        }
    }
}

impl From<Problem> for PageError {
    fn from(problem: Problem) -> Self {
        match problem.kind {
            ProblemKind::NotFound => Self::NotFound,
            ProblemKind::Unauthorized => Self::SignIn("/".to_owned()),
            _ => Self::Refused(problem),
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        if let Self::SignIn(next) = &self
            && let Ok(location) = HeaderValue::try_from(sign_in_path(next))
        {
            response.headers_mut().insert(LOCATION, location);
            return response;
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The page where people sign in before they come to `next`.
pub fn sign_in_path(next: &str) -> String {
    if next == "/" {
        return "/sign-in".to_owned();
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("next", next);
    format!("/sign-in?{}", query.finish())
}
