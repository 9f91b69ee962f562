//! What mails say about this installation of lapsed.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::Token;

use super::parts::Link;

/// Data of this installation that mails show.
#[derive(Debug, Clone, Default)]
pub struct Installation {
    /// A page of the operator's own. `{source}` and `{id}` stand for those of the token; without them it is one
    /// page about everything.
    pub base_url: Option<String>,
    /// The tag of the language of recipients who prefer none; `None` is English.
    pub language: Option<String>,
    /// The last line before the footer: whom to ask.
    pub contact: Option<String>,
    /// How mails present the sources, by name.
    pub sources: BTreeMap<String, SourceInfo>,
}

/// How mails present a source.
#[derive(Debug, Clone, Default)]
pub struct SourceInfo {
    /// Shown instead of the name.
    pub title: Option<String>,
    /// A page that says how to make a token.
    pub help_url: Option<String>,
}

impl Installation {
    pub(super) fn source_title<'a>(&'a self, source: &'a str) -> &'a str {
        let info = self.sources.get(source);
        info.and_then(|info| info.title.as_deref())
            .unwrap_or(source)
    }

    pub(super) fn help(&self, source: &str) -> Option<Link> {
        let url = self.sources.get(source)?.help_url.as_deref();
        Link::to_page(url)
    }

    /// The operator's page about the token, or about everything.
    pub(super) fn page(&self, token: Option<&Token>) -> Option<Link> {
        let url = self.base_url.as_deref()?;
        if !url.contains('{') {
            return Some(Link::new(url.to_owned()));
        }
        let token = token?;
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let url = url
            .replace("{source}", &encoded(&token.source))
            .replace("{id}", &token.id.to_string());
        Some(Link::new(url))
    }
}
