//! Scopes: what a token may be used for, as `resource:action` patterns.

use std::fmt;
use std::str::FromStr;

/// The scopes of a token, sorted. Without any, the token is not limited by scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(Vec<String>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScope {
    #[error(
        "{0:?} is not a scope; write resource:action, such as app:read, or app:* for every action"
    )]
    Form(String),
    #[error("a token has at most {MAX_COUNT} scopes; use patterns such as app:*")]
    Count,
}

/// All of them are in one header of an answer to a gateway.
const MAX_COUNT: usize = 50;
const MAX_LENGTH: usize = 100;
/// What an error shows of an invalid scope.
const MAX_QUOTED: usize = 40;

impl Scopes {
    /// # Errors
    /// Names the first that is not a scope.
    pub fn new(scopes: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, InvalidScope> {
        let mut scopes: Vec<String> = scopes.into_iter().map(Into::into).collect();
        if let Some(invalid) = scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(InvalidScope::Form(
                invalid.chars().take(MAX_QUOTED).collect(),
            ));
        }
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.len() > MAX_COUNT {
            return Err(InvalidScope::Count);
        }
        Ok(Self(scopes))
    }

    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether it allows `scope`, which may be a pattern itself.
    pub fn allows(&self, scope: &str) -> bool {
        self.is_unlimited() || self.iter().any(|pattern| covers(pattern, scope))
    }

    /// Whether it allows everything that `other` allows.
    pub fn contains(&self, other: &Self) -> bool {
        self.is_unlimited()
            || (!other.is_unlimited() && other.iter().all(|scope| self.allows(scope)))
    }
}

/// Separated by blanks, as in OAuth 2.0 (RFC 6749 §3.3).
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.split_whitespace())
    }
}

/// `*` is a whole segment: `app:*` covers every action of `app`, and nothing of `app2`.
fn covers(pattern: &str, scope: &str) -> bool {
    let (resource, action) = split(pattern);
    let (wanted_resource, wanted_action) = split(scope);
    let matches = |pattern, wanted| pattern == "*" || pattern == wanted;
    matches(resource, wanted_resource) && matches(action, wanted_action)
}

fn split(scope: &str) -> (&str, &str) {
    scope.split_once(':').unwrap_or((scope, ""))
}

fn is_scope(text: &str) -> bool {
    let (resource, action) = split(text);
    let is_segment = |segment: &str| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        segment == "*" || (!segment.is_empty() && segment.chars().all(is_word))
    };
    text.len() <= MAX_LENGTH && is_segment(resource) && is_segment(action)
}
