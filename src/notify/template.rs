//! The templates: built in, overridable file by file from a folder, and each rendered against every
//! sample before it is used. Two registries, because only HTML escapes.

mod source;

use std::path::{Path, PathBuf};

use handlebars::{Context, Handlebars, RenderErrorReason};
use serde_json::{Map, Value};

use super::{
    letter::{Kind, Letter},
    plain, sample,
    view::{self, Place},
    wrap,
};

use self::source::Source;

/// The most tokens that are listed one by one.
const LISTED: usize = 100;
/// The longest text part that anybody reads, in characters; lists shrink until it fits.
const READABLE: usize = 6_000;
/// The largest HTML part, in octets as sent; mail providers clip mails of some 100 kB.
const UNCLIPPED: usize = 60_000;

/// The mails' templates, compiled. Cheap to share behind an `Arc`; load anew to reload.
#[derive(Debug, Clone)]
pub struct Templates {
    text: Handlebars<'static>,
    html: Handlebars<'static>,
    /// Where each override came from, for errors.
    overrides: Vec<(&'static str, PathBuf)>,
}

/// One mail in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendering {
    /// The subject, on one line.
    pub subject: String,
    /// The text part; `\n` ends its lines, none is longer than 78 characters.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// Why templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be read.
    #[error("cannot read the template folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read the template {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file overrides nothing.
    #[error("{} overrides no template; did you mean {nearest}?", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The nearest name there is.
        nearest: &'static str,
    },
    /// A template does not parse, or uses what templates may not use.
    #[error("{file}:{line}: cannot parse the template: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A template does not render.
    #[error("{file}:{line}: cannot render the template for {sample}: {reason}")]
    Render {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What it was rendered for: a sample, or a mail.
        sample: String,
        /// What is wrong; names the variable or helper.
        reason: String,
    },
}

impl Templates {
    /// Compiles the built-in templates and those of `folder` that override them, and renders all
    /// of them against the samples.
    pub fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let mut templates = Self {
            text: registry(handlebars::no_escape),
            html: registry(handlebars::html_escape),
            overrides: Vec::new(),
        };
        for source in source::all(folder)? {
            templates.add(source)?;
        }
        templates.check()?;
        Ok(templates)
    }

    /// Puts a letter into words.
    pub fn render(&self, letter: &Letter, place: &Place) -> Result<Rendering, Error> {
        self.render_for(letter, place, &|| format!("mail {}", letter.reference))
    }

    fn add(&mut self, source: Source) -> Result<(), Error> {
        let file = source.shown();
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
            for place in [
                Place::default(),
                Place {
                    base_url: Some("https://lapsed.example.org".into()),
                },
            ] {
                self.render_for(&sample.letter, &place, &|| {
                    format!("the sample {}", sample.name)
                })?;
            }
        }
        Ok(())
    }

    /// Renders, and lists fewer tokens one by one until the mail is one that people read.
    fn render_for(
        &self,
        letter: &Letter,
        place: &Place,
        what: &dyn Fn() -> String,
    ) -> Result<Rendering, Error> {
        let mut limit = LISTED;
        loop {
            let view = view::view(letter, place, limit);
            let rendering = self.lay_out(letter.kind(), view.variables, what)?;
            let length = rendering.text.chars().count();
            let size = encoded_len(&rendering.html);
            if view.listed <= 1 || (length <= READABLE && size <= UNCLIPPED) {
                return Ok(rendering);
            }
            let fits = |is: usize, most: usize| view.listed * most / is.max(1);
            let next = fits(length, READABLE).min(fits(size, UNCLIPPED));
            limit = next.clamp(1, view.listed - 1);
        }
    }

    fn lay_out(
        &self,
        kind: Kind,
        variables: Map<String, Value>,
        what: &dyn Fn() -> String,
    ) -> Result<Rendering, Error> {
        let [subject_file, text, html] = source::files(kind);
        let mut context = Context::from(Value::Object(variables));
        let run = |registry: &Handlebars<'_>, name: &'static str, context: &Context| {
            registry
                .render_with_context(name, context)
                .map_err(|error| {
                    let line = error.line_no.unwrap_or(1);
                    self.broken(name, line, what(), reason(error.reason()))
                })
        };
        let subject = plain::line(&run(&self.text, subject_file, &context)?, 150);
        if subject.is_empty() {
            let reason = "the subject is empty".to_owned();
            return Err(self.broken(subject_file, 1, what(), reason));
        }
        set(&mut context, "subject", subject.clone());
        let body = run(&self.text, text, &context)?;
        set(&mut context, "body", body);
        let text = wrap::wrap(&run(&self.text, source::LAYOUT_TEXT, &context)?);
        let body = run(&self.html, html, &context)?;
        set(&mut context, "body", body);
        let html = run(&self.html, source::LAYOUT_HTML, &context)?;
        Ok(Rendering {
            subject,
            text,
            html,
        })
    }

    fn broken(&self, name: &str, line: usize, sample: String, reason: String) -> Error {
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
    // A template has no business in the log.
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
        other => plain::line(&other.to_string(), plain::TEXT),
    }
}

/// How many octets a text takes as quoted-printable, about.
fn encoded_len(text: &str) -> usize {
    text.len() + text.bytes().filter(|b| !b.is_ascii()).count() * 2
}

#[cfg(test)]
mod tests;
