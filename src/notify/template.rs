//! Loads the templates, built in or overridden by files of a folder, and renders letters. All templates
//! are rendered with every sample before they are used.

mod source;

use std::path::{Path, PathBuf};

use handlebars::{Context, Handlebars, RenderErrorReason};
use serde_json::{Map, Value};

use super::letter::{Kind, Letter};
use super::view::{self, Installation};
use super::{sample, wrap};
use crate::text;

use self::source::Source;

/// Tokens listed individually.
const MAX_LISTED: usize = 100;
/// Lists shrink until the text part fits.
const MAX_TEXT_CHARS: usize = 6_000;
/// As sent; mail providers clip mails of about 100 kB.
const MAX_HTML_OCTETS: usize = 60_000;

/// Compiled templates; load again to reload. Only the HTML registry escapes.
#[derive(Debug, Clone)]
pub struct Templates {
    text: Handlebars<'static>,
    html: Handlebars<'static>,
    /// For errors.
    overrides: Vec<(&'static str, PathBuf)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendering {
    pub subject: String,
    /// Lines of at most 78 characters, except links.
    pub text: String,
    pub html: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the template folder {}", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the template {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{} overrides no template{}",
        path.display(),
        nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
    )]
    Unknown {
        path: PathBuf,
        nearest: Option<&'static str>,
    },
    /// A template does not parse or uses a forbidden feature.
    #[error("{file}:{line}: cannot parse the template: {reason}")]
    Syntax {
        file: String,
        line: usize,
        reason: String,
    },
    #[error("{file}:{line}: cannot render the template for {sample}: {reason}")]
    Render {
        file: String,
        line: usize,
        /// Name of the sample or mail.
        sample: String,
        reason: String,
    },
}

impl Templates {
    /// Compiles the built-in templates and their overrides in `folder`, and renders all samples with them.
    pub fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let mut templates = Self {
            text: registry(handlebars::no_escape),
            html: registry(handlebars::html_escape),
            overrides: Vec::new(),
        };
        for source in source::load(folder)? {
            templates.add(source)?;
        }
        templates.check()?;
        Ok(templates)
    }

    pub fn render(&self, letter: &Letter, installation: &Installation) -> Result<Rendering, Error> {
        self.render_for(letter, installation, &|| {
            format!("mail {}", letter.reference)
        })
    }

    fn add(&mut self, source: Source) -> Result<(), Error> {
        let file = source.display_path();
        let template = source::compile(&file, source.name, &source.text)?;
        let registry = if source.name.ends_with(".html.hbs") {
            &mut self.html
        } else {
            &mut self.text
        };
        registry.register_template(source.name, template);
        if let Some(path) = source.path {
            self.overrides.push((source.name, path));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        for sample in sample::all(sample::now()) {
            for installation in [
                Installation::default(),
                Installation {
                    base_url: Some("https://lapsed.example.org".into()),
                },
            ] {
                self.render_for(&sample.letter, &installation, &|| {
                    format!("the sample {}", sample.name)
                })?;
            }
        }
        Ok(())
    }

    /// Lists fewer tokens until the mail is short enough.
    fn render_for(
        &self,
        letter: &Letter,
        installation: &Installation,
        rendered_for: &dyn Fn() -> String,
    ) -> Result<Rendering, Error> {
        let mut limit = MAX_LISTED;
        loop {
            let view = view::build(letter, installation, limit);
            let rendering = self.render_once(letter.kind(), view.variables, rendered_for)?;
            let length = rendering.text.chars().count();
            let size = encoded_len(&rendering.html);
            if view.listed <= 1 || (length <= MAX_TEXT_CHARS && size <= MAX_HTML_OCTETS) {
                return Ok(rendering);
            }
            let estimate = |actual: usize, max: usize| view.listed * max / actual.max(1);
            let next = estimate(length, MAX_TEXT_CHARS).min(estimate(size, MAX_HTML_OCTETS));
            limit = next.clamp(1, view.listed - 1);
        }
    }

    fn render_once(
        &self,
        kind: Kind,
        variables: Map<String, Value>,
        rendered_for: &dyn Fn() -> String,
    ) -> Result<Rendering, Error> {
        let [subject_file, text, html] = source::files(kind);
        let mut context = Context::from(Value::Object(variables));
        let render = |registry: &Handlebars<'_>, name: &'static str, context: &Context| {
            registry
                .render_with_context(name, context)
                .map_err(|error| {
                    let line = error.line_no.unwrap_or(1);
                    self.render_error(name, line, rendered_for(), reason(error.reason()))
                })
        };
        let subject = text::one_line(&render(&self.text, subject_file, &context)?, 150);
        if subject.is_empty() {
            let reason = "the subject is empty".to_owned();
            return Err(self.render_error(subject_file, 1, rendered_for(), reason));
        }
        set(&mut context, "subject", subject.clone());
        let body = render(&self.text, text, &context)?;
        set(&mut context, "body", body);
        let text = wrap::wrap(&render(&self.text, source::LAYOUT_TEXT, &context)?);
        let body = render(&self.html, html, &context)?;
        set(&mut context, "body", body);
        let html = render(&self.html, source::LAYOUT_HTML, &context)?;
        Ok(Rendering {
            subject,
            text,
            html,
        })
    }

    fn render_error(&self, name: &str, line: usize, sample: String, reason: String) -> Error {
        let path = self.overrides.iter().find(|(known, _)| *known == name);
        let file = path.map_or_else(
            || format!("templates/{name}"),
            |(_, path)| path.display().to_string(),
        );
        Error::Render {
            file,
            line,
            sample,
            reason,
        }
    }
}

fn registry(escape: fn(&str) -> String) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.register_escape_fn(escape);
    // Templates must not write to the log.
    registry.unregister_helper("log");
    registry
}

fn set(context: &mut Context, name: &str, text: String) {
    if let Value::Object(variables) = context.data_mut() {
        variables.insert(name.to_owned(), Value::String(text));
    }
}

fn reason(reason: &RenderErrorReason) -> String {
    match reason {
        RenderErrorReason::MissingVariable(Some(name)) => format!("there is no variable {name:?}"),
        RenderErrorReason::MissingVariable(None) => "there is no such variable".to_owned(),
        RenderErrorReason::HelperNotFound(name) => format!("there is no helper {name:?}"),
        other => text::one_line(&other.to_string(), text::MAX_TEXT),
    }
}

/// Approximate size as quoted-printable.
fn encoded_len(text: &str) -> usize {
    text.len() + text.bytes().filter(|b| !b.is_ascii()).count() * 2
}

#[cfg(test)]
mod tests;
