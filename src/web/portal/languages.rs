//! The phrases of the portal in every language.

use std::collections::BTreeMap;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue};
use fluent_langneg::{NegotiationStrategy, negotiate_languages, parse_accepted_languages};
use unic_langid::LanguageIdentifier;

const FILES: [(&str, &str); 2] = [
    ("en", include_str!("../../../locales/en/pages.ftl")),
    ("de", include_str!("../../../locales/de/pages.ftl")),
];
/// Of visitors whose languages are not here.
const DEFAULT: &str = "en";

/// Phrases by language.
pub struct Languages(BTreeMap<&'static str, FluentBundle<FluentResource>>);

impl Languages {
    /// # Panics
    /// If a built-in file is not Fluent.
    pub fn built_in() -> Self {
        let bundle = |(language, text): (&'static str, &str)| {
            let id: LanguageIdentifier = language.parse().expect("a built-in language");
            let mut bundle = FluentBundle::new_concurrent(vec![id]);
            // The marks would be in the titles of windows, too; `<bdi>` isolates the names in pages.
            bundle.set_use_isolating(false);
            let resource = FluentResource::try_new(text.to_owned());
            let resource = resource.map_err(|(_, errors)| format!("{language}: {errors:?}"));
            bundle
                .add_resource(resource.expect("a built-in file is Fluent"))
                .expect("a built-in file names each phrase once");
            (language, bundle)
        };
        Self(FILES.map(bundle).into())
    }

    /// The language of a person, else the one that their browser asks for.
    pub fn choose(&self, preferred: Option<&str>, accepted: &str) -> &'static str {
        let preferred = preferred.and_then(|tag| tag.parse::<LanguageIdentifier>().ok());
        let accepted = parse_accepted_languages(accepted);
        let wanted: Vec<_> = preferred.into_iter().chain(accepted).collect();
        let known = self.0.keys().filter_map(|language| language.parse().ok());
        let known: Vec<LanguageIdentifier> = known.collect();
        let default: Option<LanguageIdentifier> = DEFAULT.parse().ok();
        let strategy = NegotiationStrategy::Lookup;
        let chosen = negotiate_languages(&wanted, &known, default.as_ref(), strategy);
        let chosen = chosen.first().map(ToString::to_string);
        let chosen =
            chosen.and_then(|chosen| self.0.keys().copied().find(|language| *language == chosen));
        chosen.unwrap_or(DEFAULT)
    }

    /// # Errors
    /// If there is no such phrase, or it lacks a variable.
    pub fn format(
        &self,
        language: &str,
        id: &str,
        arguments: &FluentArgs<'_>,
    ) -> Result<String, String> {
        let bundle = self.0.get(language).or_else(|| self.0.get(DEFAULT));
        let bundle = bundle.ok_or("there is no language")?;
        let pattern = bundle.get_message(id).and_then(|message| message.value());
        let pattern = pattern.ok_or_else(|| format!("there is no phrase {id:?}"))?;
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, Some(arguments), &mut errors);
        match errors.first() {
            None => Ok(text.into_owned()),
            Some(error) => Err(format!("the phrase {id:?}: {error}")),
        }
    }
}

/// An argument as a template gives it.
pub fn argument(value: &serde_json::Value) -> FluentValue<'static> {
    match value {
        serde_json::Value::Number(number) => FluentValue::from(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => FluentValue::from(text.clone()),
        other => FluentValue::from(other.to_string()),
    }
}
