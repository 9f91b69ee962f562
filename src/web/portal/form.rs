//! Forms as browsers send them.

use axum::extract::{FromRequest, Request};

use super::error::PageError;
use crate::text::is_unsafe;
use crate::web::body::ApiBody;

/// The fields of a form, in order.
#[derive(Debug, Clone, Default)]
pub struct Form(Vec<(String, String)>);

/// No form of a page is larger.
const MAX_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 500;

impl Form {
    pub fn parse(text: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(text).take(MAX_FIELDS);
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The value of a field without blanks around it; empty where it is not sent.
    pub fn text(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(known, _)| known == name);
        field.map_or("", |(_, value)| value.trim())
    }

    /// The value of a field that is filled in.
    pub fn filled(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|value| !value.is_empty())
    }

    /// One line, without characters that are not to be stored.
    pub fn line(&self, name: &str) -> Option<String> {
        let line: String = self.text(name).chars().filter(|c| !is_unsafe(*c)).collect();
        Some(line).filter(|line| !line.is_empty())
    }

    /// The values of a field that may occur several times.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.trim())
    }

    pub fn is_checked(&self, name: &str) -> bool {
        self.filled(name).is_some()
    }
}

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        let body = ApiBody::from_request(request, state).await;
        let body = body.map_err(|_| PageError::BadRequest)?;
        let bytes = body.bytes_up_to(MAX_BYTES).await;
        let bytes = bytes.map_err(|_| PageError::BadRequest)?;
        // PostgreSQL has no text with the character 0.
        if bytes.contains(&0) || bytes.windows(3).any(|part| part == b"%00") {
            return Err(PageError::BadRequest);
        }
        Ok(Self::parse(&bytes))
    }
}
