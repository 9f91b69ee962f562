//! Why the service refuses a request, in words for the person who made it.

use chrono::{DateTime, Utc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The token that asks has ended since the request began.
    Unauthorized,
    /// It does not exist, or the caller may not know that it does.
    NotFound,
    /// The caller may see it and not do this with it.
    Forbidden,
    /// The request says something that cannot be done.
    Invalid,
    /// The account or the person has as many tokens as they may have.
    LimitReached,
    /// It contradicts the present state, such as a token of another source.
    Conflict,
    /// It was changed since the caller read it.
    Stale,
}

/// A request that is refused; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}{}", fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default())]
pub struct Problem {
    pub kind: ProblemKind,
    /// The part of the request, as a JSON pointer (RFC 6901), such as `/expires_in`.
    pub pointer: Option<&'static str>,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    pub fix: Option<String>,
    /// The scope that the caller lacks.
    pub scope: Option<&'static str>,
    /// For a life that is too long, the longest, and the latest expiry.
    pub latest: Option<(String, DateTime<Utc>)>,
    /// For a limit that is reached, the limit and how many there are.
    pub limit: Option<(u64, u64)>,
}

impl Problem {
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            pointer: None,
            detail: detail.into(),
            fix: None,
            scope: None,
            latest: None,
            limit: None,
        }
    }

    pub fn invalid(pointer: &'static str, detail: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer),
            ..Self::new(ProblemKind::Invalid, detail)
        }
    }

    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }
}
