//! The helper of templates: `{{t "id" name=value}}` writes a phrase.
//!
//! It takes the language from `language` at the root of the context. A value may be text, a number, `true` or `false`,
//! or markup that another helper made: `{{t "id" name=(strong token.name)}}`. Everything else is escaped.

use std::sync::Arc;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderError,
    RenderErrorReason, ScopedJson,
};
use serde_json::{Value as Json, json};

use super::{Languages, Value};

/// The key of markup, which is not escaped again.
const HTML: &str = "html";
/// The first of the characters that stand for markup until the phrase is escaped.
const FIRST_MARK: u32 = 0xf_0000;

struct Phrase(Arc<Languages>);

type Escape<'a> = &'a dyn Fn(&str) -> String;
/// Writes a value as HTML; `None` if it cannot.
type MarkupWriter = fn(&Json, Escape<'_>) -> Option<String>;

/// Adds the helper `t`, and `strong` and `code` for its values.
pub fn register(registry: &mut Handlebars<'_>, languages: Arc<Languages>) {
    registry.register_helper("t", Box::new(Phrase(languages)));
    register_markup(registry, "strong", |value, escape| {
        Some(format!("<strong>{}</strong>", to_html(value, escape)))
    });
    register_markup(registry, "code", |value, escape| {
        Some(format!("<code>{}</code>", to_html(value, escape)))
    });
}

/// Adds a helper that makes markup of its value: `{{NAME value}}`, or for a value of `t`.
pub fn register_markup(registry: &mut Handlebars<'_>, name: &'static str, write: MarkupWriter) {
    registry.register_helper(name, Box::new(Markup { name, write }));
}

/// HTML that templates do not escape again.
fn markup(html: &str) -> Json {
    json!({ HTML: html })
}

/// What a value is in HTML: markup as it is, everything else escaped.
fn to_html(value: &Json, escape: impl Fn(&str) -> String) -> String {
    match (value.get(HTML), value) {
        (Some(Json::String(html)), _) => html.clone(),
        (_, Json::String(text)) => escape(text),
        (_, other) => escape(&other.to_string()),
    }
}

impl Phrase {
    /// The phrase, escaped if `escape` does, and whether it has markup.
    fn write(
        &self,
        helper: &Helper<'_>,
        context: &Context,
        escape: impl Fn(&str) -> String,
    ) -> Result<(String, bool), RenderError> {
        let id = helper.param(0).and_then(|id| id.value().as_str());
        let id = id.ok_or_else(|| failure("t needs the id of a phrase"))?;
        let tag = context.data().get("language").and_then(Json::as_str);
        let missing = || RenderErrorReason::MissingVariable(Some("language".to_owned()));
        let tag = tag.ok_or_else(missing)?;
        let language = self.0.get(tag);
        let language = language.ok_or_else(|| failure(format!("there is no language {tag:?}")))?;
        let mut values = Vec::new();
        let mut marks = Vec::new();
        for (name, value) in helper.hash() {
            if value.is_value_missing() {
                let path = value.relative_path().cloned();
                return Err(RenderErrorReason::MissingVariable(path).into());
            }
            let value = match value.value() {
                Json::String(text) => Value::from(text.as_str()),
                Json::Bool(is) => Value::from(if *is { "true" } else { "false" }),
                Json::Number(number) => Value::from(number.as_i64().unwrap_or(i64::MAX)),
                markup if markup.get(HTML).is_some() => {
                    let offset = u32::try_from(marks.len()).unwrap_or(u32::MAX);
                    let mark = char::from_u32(FIRST_MARK + offset).unwrap_or_default();
                    marks.push((mark, to_html(markup, &escape)));
                    Value::from(mark.to_string())
                }
                _ => return Err(failure(format!("{name} of the phrase {id:?} is no text"))),
            };
            values.push((*name, value));
        }
        let phrase = language
            .find(id, &values)
            .map_err(|error| failure(error.to_string()))?;
        let mut text = escape(&phrase);
        for (mark, html) in &marks {
            text = text.replace(*mark, html);
        }
        Ok((text, !marks.is_empty()))
    }
}

impl HelperDef for Phrase {
    /// In a subexpression: text that is not escaped yet, or markup.
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let (text, has_markup) = self.write(helper, context, str::to_owned)?;
        if has_markup {
            let (html, _) = self.write(helper, context, registry.get_escape_fn())?;
            return Ok(ScopedJson::Derived(markup(&html)));
        }
        Ok(ScopedJson::Derived(Json::String(text)))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (text, _) = self.write(helper, context, registry.get_escape_fn())?;
        Ok(out.write(&text)?)
    }
}

struct Markup {
    name: &'static str,
    write: MarkupWriter,
}

impl Markup {
    fn write(&self, helper: &Helper<'_>, escape: Escape<'_>) -> Result<String, RenderError> {
        let Self { name, write } = self;
        let value = helper.param(0);
        let value = value.ok_or_else(|| failure(format!("{name} needs a value")))?;
        if value.is_value_missing() {
            let path = value.relative_path().cloned();
            return Err(RenderErrorReason::MissingVariable(path).into());
        }
        write(value.value(), escape)
            .ok_or_else(|| failure(format!("{name} cannot show {}", value.value())))
    }
}

impl HelperDef for Markup {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let html = self.write(helper, registry.get_escape_fn())?;
        Ok(ScopedJson::Derived(markup(&html)))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let html = self.write(helper, registry.get_escape_fn())?;
        Ok(out.write(&html)?)
    }
}

fn failure(reason: impl Into<String>) -> RenderError {
    RenderErrorReason::Other(reason.into()).into()
}
