//! A token as pages show it.

use serde::Serialize;

use crate::domain::service::CredentialState;
use crate::domain::{Expiry, Status, Token};
use crate::language::phrase;
use crate::service::pages::{SOON, TokenItem};
use crate::text::clean;
use crate::time::shift;
use crate::web::portal::words::{Moment, Words};

/// The longest name in a table; the whole one is in its title.
const MAX_NAME: usize = 60;

/// A text that is cut where it is long.
#[derive(Debug, Clone, Serialize)]
pub struct Name {
    pub text: String,
    /// The whole text, if it is cut.
    pub full: Option<String>,
}

/// A status, in a word, a color and a symbol.
#[derive(Debug, Clone, Serialize)]
pub struct Badge {
    pub text: String,
    pub class: &'static str,
    pub icon: &'static str,
}

/// The expiry: an instant, or a word.
#[derive(Debug, Clone, Serialize)]
pub struct ExpiryView {
    pub moment: Option<Moment>,
    /// Instead of a moment: never, unknown; or the plain date of a source.
    pub text: Option<String>,
}

/// A row of a table of tokens.
#[derive(Debug, Clone, Serialize)]
pub struct TokenRow {
    pub id: String,
    pub name: Name,
    pub badge: Badge,
    pub expiry: ExpiryView,
    pub last_used: Option<Moment>,
    /// Whether the source would report a use.
    pub reports_use: bool,
    pub issuer: Option<String>,
    pub account: Option<String>,
    pub source: String,
    pub role: Option<String>,
    pub findings: Vec<String>,
}

pub fn name(text: &str) -> Name {
    let text = clean(text).into_owned();
    if text.chars().count() <= MAX_NAME {
        return Name { text, full: None };
    }
    let cut: String = text.chars().take(MAX_NAME - 1).collect();
    Name {
        text: format!("{cut}…"),
        full: Some(text),
    }
}

/// What matters most: deleted before expired before disabled before ending soon.
pub fn badge(item: &TokenItem, words: &Words) -> Badge {
    let token = &item.token;
    let ends_soon = |at| at <= shift(words.now, SOON);
    let locked = item
        .credential
        .as_ref()
        .is_some_and(|it| it.state == CredentialState::Locked);
    let (status, class, icon) = match token.status_at(words.now) {
        Status::Revoked => ("revoked", "ended", "revoke"),
        Status::Gone => ("gone", "ended", "revoke"),
        Status::Expired => ("expired", "ended", "clock"),
        Status::Disabled if locked => ("locked", "off", "pause"),
        Status::Disabled => ("disabled", "off", "pause"),
        Status::Active if token.expiry.at().is_some_and(ends_soon) => ("ending", "soon", "warning"),
        Status::Active => ("active", "good", "check"),
    };
    Badge {
        text: phrase!(words.language, "token-status", status = status),
        class,
        icon,
    }
}

pub fn expiry(token: &Token, words: &Words) -> ExpiryView {
    let text = match (token.expiry, token.expiry_day) {
        (_, Some(day)) => Some(words.date(day)),
        (Expiry::Never, None) => Some(phrase!(words.language, "expiry-never")),
        (Expiry::Unknown, None) => Some(phrase!(words.language, "expiry-unknown")),
        (Expiry::At(_), None) => None,
    };
    ExpiryView {
        moment: token.expiry.at().map(|at| words.moment(at)),
        text,
    }
}

pub fn row(item: &TokenItem, words: &Words) -> TokenRow {
    let token = &item.token;
    let text = |text: &Option<String>| text.as_deref().map(|text| clean(text).into_owned());
    TokenRow {
        id: token.id.to_string(),
        name: name(token.label()),
        badge: badge(item, words),
        expiry: expiry(token, words),
        last_used: token.last_used_at.map(|at| words.moment(at)),
        reports_use: token.reports_use || item.credential.is_some(),
        issuer: token.issuer.as_ref().map(ToString::to_string),
        account: text(&token.account),
        source: token.source.clone(),
        role: text(&token.role),
        findings: item
            .findings
            .iter()
            .map(|kind| finding_text(kind.as_str(), words))
            .collect(),
    }
}

/// What a kind of finding is called.
pub fn finding_text(kind: &str, words: &Words) -> String {
    phrase!(words.language, "finding-kind", kind = kind)
}
