//! Compares a file of phrases with the English ones, so that a mistake is found at start and not in a mail.

use std::collections::{BTreeMap, BTreeSet};

use fluent_bundle::FluentResource;
use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};

use super::error::Error;
use crate::nearest::nearest;

/// The variables of each English phrase.
pub(super) type Variables = BTreeMap<String, BTreeSet<String>>;

/// What a text refers to.
#[derive(Default)]
struct Uses {
    variables: BTreeSet<String>,
    terms: BTreeSet<String>,
    /// Something that phrases cannot use.
    refused: Option<String>,
}

/// The id of a phrase.
pub(super) fn id<'a>(entry: &'a Entry<&str>) -> Option<&'a str> {
    match entry {
        Entry::Message(message) => Some(message.id.name),
        _ => None,
    }
}

pub(super) fn variables(files: &[FluentResource]) -> Variables {
    let mut all = Variables::new();
    for entry in files.iter().flat_map(FluentResource::entries) {
        if let Entry::Message(message) = entry
            && let Some(text) = &message.value
        {
            all.insert(message.id.name.to_owned(), uses(text).variables);
        }
    }
    all
}

/// Checks the entries of an operator's file. `terms` are those of the built-in files of the language.
pub(super) fn check(
    name: &str,
    file: &FluentResource,
    english: &Variables,
    terms: &BTreeSet<String>,
) -> Result<(), Error> {
    let mut terms = terms.clone();
    terms.extend(term_ids(file));
    for entry in file.entries() {
        let (id, found) = match entry {
            Entry::Message(message) => (
                message.id.name.to_owned(),
                check_phrase(message, english, &terms),
            ),
            Entry::Term(term) => (format!("-{}", term.id.name), check_term(&uses(&term.value))),
            _ => continue,
        };
        found.map_err(|reason| Error::Phrase {
            file: name.to_owned(),
            line: line_of(file.source(), &id),
            reason,
        })?;
    }
    Ok(())
}

pub(super) fn term_ids(file: &FluentResource) -> impl Iterator<Item = String> {
    file.entries().filter_map(|entry| match entry {
        Entry::Term(term) => Some(term.id.name.to_owned()),
        _ => None,
    })
}

fn check_phrase(
    message: &fluent_syntax::ast::Message<&str>,
    english: &Variables,
    terms: &BTreeSet<String>,
) -> Result<(), String> {
    let id = message.id.name;
    let Some(known) = english.get(id) else {
        let meant = nearest(id, english.keys().map(String::as_str));
        let meant = meant.map_or_else(String::new, |name| format!("; did you mean {name}?"));
        return Err(format!("there is no phrase {id}{meant}"));
    };
    let Some(text) = &message.value else {
        return Err(format!("the phrase {id} has no text"));
    };
    if !message.attributes.is_empty() {
        return Err(format!(
            "the phrase {id} has an attribute, which nothing shows"
        ));
    }
    let uses = uses(text);
    if let Some(refused) = uses.refused {
        return Err(refused);
    }
    if let Some(name) = uses.variables.difference(known).next() {
        let meant = nearest(name, known.iter().map(String::as_str));
        let meant = meant.map_or_else(String::new, |name| format!("; did you mean ${name}?"));
        return Err(format!("the phrase {id} has no variable ${name}{meant}"));
    }
    match uses.terms.difference(terms).next() {
        Some(term) => Err(format!("there is no term -{term}")),
        None => Ok(()),
    }
}

fn check_term(uses: &Uses) -> Result<(), String> {
    match (&uses.refused, uses.terms.first()) {
        (Some(refused), _) => Err(refused.clone()),
        // Terms could use each other without end.
        (None, Some(term)) => Err(format!("a term cannot use another one, -{term}")),
        (None, None) => Ok(()),
    }
}

/// The line where a phrase begins.
fn line_of(source: &str, id: &str) -> usize {
    let begins = |line: &str| {
        let rest = line.strip_prefix(id);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    source.lines().position(begins).map_or(1, |at| at + 1)
}

fn uses(text: &Pattern<&str>) -> Uses {
    let mut uses = Uses::default();
    add_pattern(text, &mut uses);
    uses
}

fn add_pattern(text: &Pattern<&str>, uses: &mut Uses) {
    for element in &text.elements {
        if let PatternElement::Placeable { expression } = element {
            add_expression(expression, uses);
        }
    }
}

fn add_expression(expression: &Expression<&str>, uses: &mut Uses) {
    match expression {
        Expression::Select { selector, variants } => {
            add_inline(selector, uses);
            for variant in variants {
                add_pattern(&variant.value, uses);
            }
        }
        Expression::Inline(inline) => add_inline(inline, uses),
    }
}

fn add_inline(inline: &InlineExpression<&str>, uses: &mut Uses) {
    match inline {
        InlineExpression::StringLiteral { .. } | InlineExpression::NumberLiteral { .. } => {}
        InlineExpression::VariableReference { id } => {
            uses.variables.insert(id.name.to_owned());
        }
        InlineExpression::TermReference { id, .. } => {
            uses.terms.insert(id.name.to_owned());
        }
        InlineExpression::Placeable { expression } => add_expression(expression, uses),
        InlineExpression::MessageReference { id, .. } => {
            let why = format!(
                "a phrase cannot use another one, {}; make a term of it",
                id.name
            );
            uses.refused = Some(why);
        }
        InlineExpression::FunctionReference { id, .. } => {
            uses.refused = Some(format!("there is no function {}", id.name));
        }
    }
}
