//! What people read, in their language: the phrases of `locales/`, which mails and pages share.
//!
//! A phrase is a message of a Fluent file. English has all of them; another language may lack some, which are then
//! shown in English. Templates ask for a phrase with `{{t "id" name=value}}`, code with [`phrase!`].

mod catalog;
mod check;
mod error;
mod files;
mod helper;
#[cfg(feature = "test-support")]
pub mod pseudo;
mod times;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use fluent_bundle::FluentValue as Value;
use fluent_langneg::NegotiationStrategy;
use unic_langid::LanguageIdentifier;

use self::catalog::Catalog;
pub use self::catalog::{PhraseError, group_digits};
pub use self::error::Error;
pub use self::files::BUILT_IN;
use self::files::ENGLISH;
pub use self::helper::{register, register_markup};
pub use self::times::{clock, date, utc_offset};

/// All languages; load again to reload.
#[derive(Debug)]
pub struct Languages {
    catalogs: BTreeMap<LanguageIdentifier, Arc<Catalog>>,
    english: Arc<Catalog>,
}

/// One language, and English for the phrases that it lacks.
#[derive(Debug, Clone)]
pub struct Language {
    own: Arc<Catalog>,
    english: Arc<Catalog>,
}

impl Languages {
    /// The built-in languages, with the phrases of `locales/TAG/*.ftl` in the operator's folder of templates: these
    /// override built-in ones, or add a language.
    pub fn load(templates: Option<&Path>) -> Result<Self, Error> {
        let mut catalogs = BTreeMap::new();
        for (tag, files) in files::load(templates)? {
            catalogs.insert(tag.clone(), Arc::new(Catalog::new(tag, files)));
        }
        let english = Arc::clone(&catalogs[&files::built_in_tag(ENGLISH)]);
        Ok(Self { catalogs, english })
    }

    pub fn tags(&self) -> impl Iterator<Item = String> {
        self.catalogs.keys().map(ToString::to_string)
    }

    pub fn iter(&self) -> impl Iterator<Item = Language> {
        let own = self.catalogs.values().map(Arc::clone);
        own.map(|own| self.language(own))
    }

    pub fn english(&self) -> Language {
        self.language(Arc::clone(&self.english))
    }

    /// The language with exactly this tag.
    pub fn get(&self, tag: &str) -> Option<Language> {
        let own = self.catalogs.get(&tag.parse().ok()?)?;
        Some(self.language(Arc::clone(own)))
    }

    /// The language of the first wish that can be fulfilled; English, if none can. A wish is a tag, or a list in the
    /// form of `Accept-Language`.
    pub fn choose<'a>(&self, wishes: impl IntoIterator<Item = &'a str>) -> Language {
        let mut wishes = wishes.into_iter();
        let found = wishes.find_map(|wish| self.find(wish));
        found.unwrap_or_else(|| self.english())
    }

    /// The language of a wish, if there is one.
    pub fn find(&self, wish: &str) -> Option<Language> {
        let known: Vec<_> = self.catalogs.keys().cloned().collect();
        let tags = parse_wish(wish);
        let lookup = NegotiationStrategy::Lookup;
        let fitting = fluent_langneg::negotiate_languages(&tags, &known, None, lookup);
        let own = self.catalogs.get(*fitting.first()?)?;
        Some(self.language(Arc::clone(own)))
    }

    /// The language of a wish that must be fulfilled.
    pub fn require(&self, wish: &str) -> Result<Language, Error> {
        self.find(wish).ok_or_else(|| Error::Unavailable {
            wish: wish.to_owned(),
            known: self.tags().collect::<Vec<_>>().join(", "),
        })
    }

    fn language(&self, own: Arc<Catalog>) -> Language {
        Language {
            own,
            english: Arc::clone(&self.english),
        }
    }
}

/// Whether a text is the tag of a language (BCP 47), such as `de` or `pt-BR`.
pub fn is_tag(text: &str) -> bool {
    text.parse::<LanguageIdentifier>()
        .is_ok_and(|tag| !tag.language.is_empty())
}

/// The tags of a list with weights (RFC 9110 §12.5.4), the most wanted first.
fn parse_wish(wish: &str) -> Vec<LanguageIdentifier> {
    let mut tags: Vec<(LanguageIdentifier, f32)> = Vec::new();
    for part in wish.split(',') {
        let mut parts = part.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default().parse();
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q="));
        let weight = weight.map_or(Ok(1.0), str::parse);
        if let (Ok(tag), Ok(weight)) = (tag, weight)
            && weight > 0.0
        {
            tags.push((tag, weight));
        }
    }
    tags.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    tags.into_iter().map(|(tag, _)| tag).collect()
}

impl Language {
    /// The tag, for `lang` in HTML and `language` in the context of a template.
    pub fn tag(&self) -> String {
        self.own.tag.to_string()
    }

    /// `ltr` or `rtl`, for `dir` in HTML.
    pub fn direction(&self) -> &'static str {
        if self.own.is_right_to_left() {
            "rtl"
        } else {
            "ltr"
        }
    }

    /// The phrase with these values, as plain text.
    pub fn find(&self, id: &str, values: &[(&str, Value<'_>)]) -> Result<String, PhraseError> {
        let catalog = if self.own.has(id) {
            &self.own
        } else {
            &self.english
        };
        catalog.phrase(id, values)
    }

    /// Like [`Self::find`], for [`phrase!`], whose ids and values a test compares with the files. Shows the id of what
    /// is nevertheless missing.
    pub fn say(&self, id: &str, values: &[(&str, Value<'_>)]) -> String {
        let found = self.find(id, values);
        debug_assert!(found.is_ok(), "{found:?}");
        found.unwrap_or_else(|_| id.to_owned())
    }

    /// A number, with its digits in groups: `1,204`.
    pub fn number(&self, number: impl TryInto<i64>) -> String {
        group_digits(
            number.try_into().unwrap_or(i64::MAX),
            &self.own.digit_group(&self.english),
        )
    }
}

/// A phrase of a language, with values: `phrase!(language, "tokens", count = 3)`.
macro_rules! phrase {
    ($language:expr, $id:literal $(, $name:ident = $value:expr)* $(,)?) => {
        $language.say(
            $id,
            &[$((stringify!($name), $crate::language::Value::from($value))),*],
        )
    };
}
pub(crate) use phrase;

#[cfg(test)]
mod tests;
