//! The phrases of one language, ready to be filled in.

use std::borrow::Cow;
use std::fmt;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::resolver::errors::{ReferenceKind, ResolverError};
use fluent_bundle::{FluentArgs, FluentError, FluentResource};
use intl_memoizer::concurrent::IntlLangMemoizer;
use unic_langid::{CharacterDirection, LanguageIdentifier};

use super::Value;
use crate::nearest::nearest;
use crate::text;

/// Stands between groups of digits until the phrase is complete: what formats a number does not know the language.
const GROUP: &str = "\u{f8ff}";

pub(super) struct Catalog {
    pub tag: LanguageIdentifier,
    bundle: FluentBundle<FluentResource>,
    ids: Vec<String>,
    digit_group: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    #[error(
        "there is no phrase {id:?}{}",
        nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"))
    )]
    Unknown { id: String, nearest: Option<String> },
    #[error("the phrase {id:?} needs {name:?}")]
    Missing { id: String, name: String },
    #[error("cannot write the phrase {id:?}: {reason}")]
    Broken { id: String, reason: String },
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Catalog {
    /// A later file overrides the phrases of an earlier one.
    pub fn new(tag: LanguageIdentifier, files: Vec<FluentResource>) -> Self {
        let mut bundle = FluentBundle::new_concurrent(vec![tag.clone()]);
        // Only foreign text is isolated, because the marks would be copied with names and commands.
        bundle.set_use_isolating(false);
        bundle.set_formatter(Some(format_number));
        let mut ids = Vec::new();
        for file in files {
            let known = file.entries().filter_map(super::check::id);
            ids.extend(known.map(str::to_owned));
            bundle.add_resource_overriding(file);
        }
        let mut catalog = Self {
            tag,
            bundle,
            ids,
            digit_group: None,
        };
        catalog.digit_group = catalog.phrase("digit-group", &[]).ok();
        catalog
    }

    pub fn is_right_to_left(&self) -> bool {
        self.tag.character_direction() == CharacterDirection::RTL
    }

    pub fn digit_group<'a>(&'a self, english: &'a Self) -> Cow<'a, str> {
        let group = self.digit_group.as_ref().or(english.digit_group.as_ref());
        group.map_or(Cow::Borrowed(""), |group| Cow::Borrowed(group.as_str()))
    }

    pub fn has(&self, id: &str) -> bool {
        self.bundle.has_message(id)
    }

    pub fn phrase(&self, id: &str, values: &[(&str, Value<'_>)]) -> Result<String, PhraseError> {
        let message = self.bundle.get_message(id);
        let Some(pattern) = message.and_then(|message| message.value()) else {
            return Err(PhraseError::Unknown {
                id: id.to_owned(),
                nearest: nearest(id, self.ids.iter().map(String::as_str)).map(str::to_owned),
            });
        };
        let args = values.iter().map(|(name, value)| match value {
            Value::String(text) => (*name, Value::String(self.isolate(text))),
            other => (*name, other.clone()),
        });
        let args: FluentArgs<'_> = args.collect();
        let mut errors = Vec::new();
        let text = self
            .bundle
            .format_pattern(pattern, Some(&args), &mut errors);
        match errors.into_iter().next() {
            None => Ok(text.replace(GROUP, self.digit_group.as_deref().unwrap_or_default())),
            Some(FluentError::ResolverError(ResolverError::Reference(
                ReferenceKind::Variable { id: name },
            ))) => Err(PhraseError::Missing {
                id: id.to_owned(),
                name,
            }),
            Some(error) => Err(PhraseError::Broken {
                id: id.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// Keeps a value from changing the direction of the text around it.
    fn isolate<'a>(&self, value: &'a str) -> Cow<'a, str> {
        if value.contains('\u{2068}') {
            Cow::Borrowed(value)
        } else if self.is_right_to_left() {
            Cow::Owned(format!("\u{2068}{value}\u{2069}"))
        } else {
            text::isolate(value)
        }
    }
}

fn format_number(value: &Value<'_>, _: &IntlLangMemoizer) -> Option<String> {
    match value {
        #[expect(clippy::cast_possible_truncation, reason = "counts")]
        Value::Number(number) => Some(group_digits(number.value as i64, GROUP)),
        _ => None,
    }
}

/// Groups the digits in threes.
pub fn group_digits(number: i64, separator: &str) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * separator.len() + 1);
    if number < 0 {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push_str(separator);
        }
        out.push(digit);
    }
    out
}
