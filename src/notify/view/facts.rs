//! The table of facts about a token.

use serde::Serialize;

use super::parts::TokenFacts;
use crate::language::{Language, phrase};

/// The least width of the labels in the text part.
const MIN_WIDTH: usize = 10;

#[derive(Serialize)]
pub(super) struct Fact {
    label: String,
    /// The label with spaces up to the values, for the text part.
    padded: String,
    value: String,
}

/// Facts in the order of the mail, which begin with the source and end with the id.
pub(super) struct Facts(Vec<(String, String)>);

impl Facts {
    pub fn new(token: &TokenFacts, language: &Language) -> Self {
        let mut facts = Self(Vec::new());
        facts.add(phrase!(language, "fact-source"), &token.source);
        facts.add_known(phrase!(language, "fact-account"), token.account.as_ref());
        facts
    }

    pub fn add(&mut self, label: String, value: &str) {
        self.0.push((label, value.to_owned()));
    }

    pub fn add_rights(&mut self, token: &TokenFacts, language: &Language) {
        self.add_known(phrase!(language, "fact-role"), token.role.as_ref());
        self.add_known(phrase!(language, "fact-scope"), token.scope.as_ref());
    }

    pub fn add_people(&mut self, token: &TokenFacts, language: &Language) {
        let about = phrase!(language, "fact-description");
        self.add_known(about, token.description.as_ref());
        self.add_known(phrase!(language, "fact-issuer"), token.issuer.as_ref());
        self.add_known(phrase!(language, "fact-owners"), token.owners.as_ref());
    }

    pub fn finish(mut self, token: &TokenFacts, language: &Language) -> Vec<Fact> {
        self.add(phrase!(language, "fact-id"), &token.external_id);
        let widths = self.0.iter().map(|(label, _)| label.chars().count() + 1);
        let width = widths.max().unwrap_or_default().max(MIN_WIDTH);
        let facts = self.0.into_iter().map(|(label, value)| Fact {
            padded: format!("{label:width$}"),
            label,
            value,
        });
        facts.collect()
    }

    fn add_known(&mut self, label: String, value: Option<&String>) {
        if let Some(value) = value {
            self.add(label, value);
        }
    }
}
