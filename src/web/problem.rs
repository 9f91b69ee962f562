//! What a refused request is answered: `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::credential::without_tokens;
use crate::causes::Causes;
use crate::domain::service::{Problem, ProblemKind};
use crate::service::Error;
use crate::store;

pub const PROBLEM_JSON: &str = "application/problem+json";
const NO_CREDENTIAL: &str = "Bearer realm=\"lapsed\"";
const INVALID_TOKEN: &str = "Bearer realm=\"lapsed\", error=\"invalid_token\"";
const INVALID_REQUEST: &str = "Bearer realm=\"lapsed\", error=\"invalid_request\"";

/// The body of every error of the API.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Names the kind of problem; docs/api.md lists them.
    #[serde(rename = "type")]
    #[schema(example = "urn:lapsed:problem:invalid")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// The path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The id of the request in the log of lapsed. Absent where a token was refused, so that such answers do not differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<ProblemItem>,
    /// Of a life that is too long: the longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Of a life that is too long: the latest possible expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<DateTime<Utc>>,
    /// Of a limit that is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Of a limit that is reached: how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Of a token of another source: where it can be managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manage_url: Option<String>,
}

/// One thing that is wrong with the request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProblemItem {
    /// The part of the body, as a JSON pointer (RFC 6901); `?name` for a parameter.
    pub pointer: String,
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl ProblemItem {
    pub fn new(pointer: impl AsRef<str>, detail: impl Into<String>) -> Self {
        Self {
            pointer: without_tokens(pointer.as_ref()),
            detail: detail.into(),
            fix: None,
        }
    }

    pub fn fix(self, fix: Option<String>) -> Self {
        Self { fix, ..self }
    }
}

/// A request that is refused or that failed. It becomes a response without a body; the body is written where the
/// path and the id of the request are known.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    body: ProblemBody,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    oauth_code: Option<&'static str>,
}

/// The body of errors below `/oauth2` (RFC 6749 §5.2).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OauthError {
    #[schema(example = "invalid_request")]
    error: &'static str,
    error_description: String,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            body: ProblemBody {
                kind: format!("urn:lapsed:problem:{kind}"),
                title: status.canonical_reason().unwrap_or("Error").to_owned(),
                status: status.as_u16(),
                detail: detail.into(),
                instance: None,
                request_id: None,
                errors: Vec::new(),
                max: None,
                latest: None,
                limit: None,
                used: None,
                manage_url: None,
            },
            status,
            headers: Vec::new(),
            oauth_code: None,
        }))
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub fn not_found() -> Self {
        let detail = "There is nothing here, or you may not see it";
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub fn invalid(items: Vec<ProblemItem>) -> Self {
        let detail = "The request says something that cannot be done; see errors";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).items(items)
    }

    pub fn no_credential() -> Self {
        let detail = "This needs a token; send it as Authorization: Bearer TOKEN";
        Self::new(StatusCode::UNAUTHORIZED, "no-credential", detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(NO_CREDENTIAL))
    }

    /// The same for every reason.
    pub fn invalid_token() -> Self {
        let detail = "The token is not valid here and now";
        Self::new(StatusCode::UNAUTHORIZED, "invalid-token", detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(INVALID_TOKEN))
    }

    pub fn ambiguous_credential(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ambiguous-credential", detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(INVALID_REQUEST))
    }

    pub fn insufficient_scope(scope: &str) -> Self {
        let detail = format!("The token lacks the scope {scope}");
        let challenge =
            format!("Bearer realm=\"lapsed\", error=\"insufficient_scope\", scope=\"{scope}\"");
        let challenge = HeaderValue::try_from(challenge);
        let error = Self::new(StatusCode::FORBIDDEN, "insufficient-scope", detail);
        match challenge {
            Ok(challenge) => error.header(WWW_AUTHENTICATE, challenge),
            Err(_) => error,
        }
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub fn unavailable(detail: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .header(RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub fn internal() -> Self {
        let detail = "Internal error; the log of lapsed has the details under this request_id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// For an answer that another library made.
    pub fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                let detail =
                    "This path does not have this method; the header Allow lists those it has";
                Self::new(status, "method-not-allowed", detail)
            }
            StatusCode::INTERNAL_SERVER_ERROR => Self::internal(),
            status => {
                let reason = status.canonical_reason().unwrap_or("Error");
                Self::new(status, "bad-request", reason)
            }
        }
    }

    /// The code of the error below `/oauth2`.
    pub fn oauth(mut self, code: &'static str) -> Self {
        self.0.oauth_code = Some(code);
        self
    }

    /// The body below `/oauth2`.
    pub fn oauth_body(self) -> Body {
        let code = match self.0.status {
            StatusCode::UNAUTHORIZED => "invalid_client",
            StatusCode::FORBIDDEN => "insufficient_scope",
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                "temporarily_unavailable"
            }
            status if status.is_server_error() => "server_error",
            _ => "invalid_request",
        };
        let items = self.0.body.errors.iter();
        let items = items.map(|item| format!("; {}: {}", item.pointer, item.detail));
        let description = self.0.body.detail + &items.collect::<String>();
        // RFC 6749 §5.2 allows only these characters.
        let is_allowed =
            |letter: &char| matches!(letter, ' '..='~') && !matches!(letter, '"' | '\\');
        let body = OauthError {
            error: self.0.oauth_code.unwrap_or(code),
            error_description: description.chars().filter(is_allowed).collect(),
        };
        serde_json::to_vec(&body).unwrap_or_default().into()
    }

    /// For calls that document only 400.
    pub fn into_bad_request(mut self) -> Self {
        let body = &mut self.0.body;
        body.status = StatusCode::BAD_REQUEST.as_u16();
        "Bad Request".clone_into(&mut body.title);
        "urn:lapsed:problem:bad-request".clone_into(&mut body.kind);
        self.0.status = StatusCode::BAD_REQUEST;
        self
    }

    pub fn items(mut self, items: Vec<ProblemItem>) -> Self {
        self.0.body.errors = items;
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub fn manage_url(mut self, url: Option<String>) -> Self {
        self.0.body.manage_url = url;
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Completes the response that [`IntoResponse`] began.
    pub fn body(self, instance: &str, request_id: &str) -> Body {
        let mut body = self.0.body;
        body.instance = Some(instance.to_owned());
        let is_refused_token = self.0.status == StatusCode::UNAUTHORIZED;
        body.request_id = (!is_refused_token).then(|| request_id.to_owned());
        serde_json::to_vec(&body).unwrap_or_default().into()
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        if let Some(scope) = problem.scope {
            return Self::insufficient_scope(scope);
        }
        let (status, kind) = match problem.kind {
            ProblemKind::Unauthorized => return Self::invalid_token(),
            ProblemKind::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            ProblemKind::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            ProblemKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            ProblemKind::LimitReached => (StatusCode::CONFLICT, "limit-reached"),
            ProblemKind::Conflict => (StatusCode::CONFLICT, "conflict"),
            ProblemKind::Stale => (StatusCode::PRECONDITION_FAILED, "stale"),
        };
        let item = problem.pointer.map(|pointer| {
            ProblemItem::new(pointer, problem.detail.clone()).fix(problem.fix.clone())
        });
        let detail = match (&item, problem.fix) {
            (None, Some(fix)) => format!("{}; {fix}", problem.detail),
            _ => problem.detail,
        };
        let mut error = Self::new(status, kind, detail);
        let body = &mut error.0.body;
        body.errors = item.into_iter().collect();
        if let Some((max, latest)) = problem.latest {
            (body.max, body.latest) = (Some(max), Some(latest));
        }
        if let Some((limit, used)) = problem.limit {
            (body.limit, body.used) = (Some(limit), Some(used));
        }
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(mut self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        for (name, value) in self.0.headers.drain(..) {
            headers.insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let is_transient = match &error {
            Error::Refused(problem) => return problem.clone().into(),
            Error::Closed => {
                let detail =
                    "The store was restored, and an operator has yet to resume the service";
                return Self::unavailable(detail);
            }
            Error::Store(error) => error.is_transient(),
            Error::Engine(_) | Error::Mark(_) => false,
        };
        tracing::error!(error = %Causes(&error), "a request failed");
        if is_transient {
            Self::unavailable("The store does not answer; try again")
        } else {
            Self::internal()
        }
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        Error::from(error).into()
    }
}
