//! Why a source or directory gives no usable answer.

use std::io::{self, ErrorKind};
use std::time::Duration;

use reqwest::StatusCode;

use super::{database, http, ldap};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}{}", read_advice(source))]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    /// Rows that do not fit into memory could not be written or read back.
    #[error("cannot store rows in a temporary file; set TMPDIR to a directory with free space")]
    TempFile(#[source] io::Error),
    #[error(
        "{path} changed while it was read; write it under another name and rename it when it is complete"
    )]
    Changed { path: String },
    /// The path is not a readable file, or the folder has nothing to read.
    #[error("{path} {reason}")]
    Path {
        path: String,
        /// What is wrong, and what it should be.
        reason: &'static str,
    },
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Ldap(#[from] ldap::Error),
    #[error(transparent)]
    Database(#[from] database::Error),
    #[error("{what}; {fix}")]
    Rights { what: String, fix: String },
    /// The source lists only the tokens of the user whose credentials lapsed has.
    #[error("the credentials show only the tokens of their own user; {fix}")]
    OwnTokensOnly { fix: String },
    #[error("the source has no token {0:?}")]
    NoSuchToken(String),
    #[error(
        "this is the token that lapsed itself uses for the source; revoke it by hand when you replace it"
    )]
    OwnToken,
    #[error("sources of this kind cannot revoke tokens; revoke it in the system that issued it")]
    CannotRevoke,
    #[error("the source accepted the request, but the token still exists")]
    StillThere,
    /// The attempt to end the token was rolled back, so nothing has changed.
    #[error(transparent)]
    RolledBack(Box<Error>),
    /// Nothing was attempted, because the token could not be looked up.
    #[error(transparent)]
    NotAttempted(Box<Error>),
    /// Hides the status of a refused sign-in: for the request itself, 404 would mean that a person is gone.
    #[error(transparent)]
    SignIn(Box<Error>),
    #[error("the request was sent, but its outcome could not be verified")]
    OutcomeUnknown(#[source] Box<Error>),
    /// The content as a whole is invalid, for example without a header or with an unknown column.
    #[error("{place}: {reason}")]
    Content {
        place: String,
        /// Why, and what to write instead.
        reason: String,
    },
}

impl Error {
    /// How long the source asked us to wait. A request to wait is not a failure.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.wait(),
            Self::Ldap(error) => error.wait(),
            Self::RolledBack(error) | Self::NotAttempted(error) | Self::OutcomeUnknown(error) => {
                error.wait()
            }
            _ => None,
        }
    }

    /// How to fix it, if the message does not say so.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Http(error) => error.advice(),
            Self::Ldap(_) | Self::Database(_) => Some(
                "check the address, the credentials and what they permit, in its section of the configuration",
            ),
            Self::SignIn(_) => Some("check the credentials in its section of the configuration"),
            _ => None,
        }
    }

    pub(crate) fn content(place: impl Into<String>, reason: impl Into<String>) -> Self {
        let (place, reason) = (place.into(), reason.into());
        Self::Content { place, reason }
    }

    pub(crate) fn rights(what: impl Into<String>, fix: impl Into<String>) -> Self {
        let (what, fix) = (what.into(), fix.into());
        Self::Rights { what, fix }
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Http(error) => error.status(),
            _ => None,
        }
    }

    pub(crate) fn has_status(&self, statuses: &[StatusCode]) -> bool {
        self.status()
            .is_some_and(|status| statuses.contains(&status))
    }

    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Http(error) => error.code(),
            _ => None,
        }
    }

    /// Explains a refusal by its status: what is wrong, and how to fix it.
    pub(crate) fn explain(self, advice: &[(StatusCode, &str, &str)]) -> Self {
        let status = self.status();
        let known = advice.iter().find(|(known, ..)| Some(*known) == status);
        known.map_or(self, |(_, what, fix)| Self::rights(*what, *fix))
    }

    pub(crate) fn not_attempted(self) -> Self {
        Self::NotAttempted(Box::new(self))
    }

    pub(crate) fn sign_in(self) -> Self {
        match self.status() {
            Some(_) => Self::SignIn(Box::new(self)),
            None => self,
        }
    }

    pub(crate) fn outcome_unknown(self) -> Self {
        Self::OutcomeUnknown(Box::new(self))
    }

    /// Whether the token may have ended in spite of the error.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Http(_) | Self::Content { .. } => self.wait().is_none(),
            Self::SignIn(error) => error.is_in_doubt(),
            Self::StillThere | Self::OutcomeUnknown(_) => true,
            Self::Database(error) => error.is_in_doubt(),
            _ => false,
        }
    }
}

/// Turns a refusal with one of these statuses into `None`.
pub(crate) fn none_if_status<T>(
    result: Result<T, Error>,
    statuses: &[StatusCode],
) -> Result<Option<T>, Error> {
    match result {
        Err(error) if error.has_status(statuses) => Ok(None),
        result => result.map(Some),
    }
}

fn read_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; correct the path, or run the export first",
        ErrorKind::PermissionDenied => "; make it readable for the user that runs lapsed",
        ErrorKind::IsADirectory => "; specify a file in it",
        _ => "",
    }
}
