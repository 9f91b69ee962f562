//! Why an operation of the service failed.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::domain::service::Problem;
use crate::{engine, store};

use super::mark::MarkError;

#[derive(Debug)]
pub enum Error {
    /// The request is refused; nothing has changed.
    Refused(Problem),
    /// Shared by all requests that waited for the same read.
    Store(Arc<store::Error>),
    Engine(engine::Error),
    Mark(MarkError),
    /// The store was restored, and no one has decided yet what that means for its tokens.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => problem.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Mark(error) => error.fmt(f),
            Self::Closed => f.write_str(
                "the store lacks changes that this machine has seen, as after a restore or a failover, so no \
                 token is verified: it may have forgotten revocations; decide with `lapsed service resume`",
            ),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Engine(error) => error.source(),
            Self::Mark(error) => error.source(),
            Self::Refused(_) | Self::Closed => None,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        match error {
            engine::Error::Store(error) => error.into(),
            error => Self::Engine(error),
        }
    }
}

impl From<MarkError> for Error {
    fn from(error: MarkError) -> Self {
        match error {
            MarkError::Store(error) => error.into(),
            error @ MarkError::File { .. } => Self::Mark(error),
        }
    }
}
