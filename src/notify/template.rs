//! Loads the templates, built in or overridden by files of a folder, and renders letters. Templates with
//! overrides are rendered with every sample before they are used.

mod link;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use handlebars::template::{HelperTemplate, TemplateElement};
use handlebars::{Context, Handlebars, RenderErrorReason, Template};
use serde_json::{Map, Value};

use super::letter::{Kind, Letter};
use super::view::{self, Installation, SourceInfo};
use super::{sample, wording};
use crate::files::{list_folder, read_text};
use crate::language::{self, Language, Languages};
use crate::nearest::nearest;
use crate::text;

/// How many tokens or findings a mail lists individually.
const MAX_LISTED: usize = 100;
/// The longest text part; a longer mail lists fewer.
const MAX_TEXT_CHARS: usize = 6_000;
/// The longest HTML part as sent: mail providers clip mails of about 100 kB.
const MAX_HTML_OCTETS: usize = 60_000;

const MAX_TEMPLATE_OCTETS: u64 = 128 * 1024;
/// How deep blocks and brackets may be nested, because the parser is recursive.
const MAX_NESTING: usize = 40;

/// The folder of phrases.
const LANGUAGES: &str = "locales";
/// The subfolder with the templates of pages.
const PAGES: &str = "web";

const LAYOUT_TEXT: &str = "layout.txt.hbs";
const LAYOUT_HTML: &str = "layout.html.hbs";

macro_rules! built_in {
    ($($kind:literal),+) => {
        &[
            built_in!(@ "layout", ".txt.hbs"),
            built_in!(@ "layout", ".html.hbs"),
            $(
                built_in!(@ $kind, "/subject.txt.hbs"),
                built_in!(@ $kind, "/body.txt.hbs"),
                built_in!(@ $kind, "/body.html.hbs"),
            )+
        ]
    };
    (@ $folder:literal, $file:literal) => {
        (concat!($folder, $file), include_str!(concat!("../../templates/", $folder, $file)))
    };
}

/// Names and texts: the layouts, then three for each kind.
pub const BUILT_IN: &[(&str, &str)] = built_in![
    "expiring",
    "expired",
    "digest",
    "revoked_access",
    "revoked",
    "old_secret",
    "alert",
    "summary",
    "test",
    "sign_in"
];

/// Compiled templates; load again to reload. Only the HTML registry escapes.
#[derive(Debug, Clone)]
pub struct Templates {
    text: Handlebars<'static>,
    html: Handlebars<'static>,
    overrides: Vec<(&'static str, PathBuf)>,
    languages: Arc<Languages>,
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
    #[error(transparent)]
    Language(#[from] language::Error),
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
    #[error("{file}:{line}: cannot render the template for {mail}: {reason}")]
    Render {
        file: String,
        line: usize,
        /// `mail REFERENCE` or `the sample NAME`.
        mail: String,
        reason: String,
    },
}

impl Templates {
    /// Compiles the built-in templates. With overrides in `folder`, renders all samples with them in every
    /// language.
    pub fn load(folder: Option<&Path>) -> Result<Self, Error> {
        let languages = Arc::new(Languages::load(folder)?);
        let mut html = registry(handlebars::html_escape, &languages);
        link::register(&mut html);
        let mut templates = Self {
            text: registry(handlebars::no_escape, &languages),
            html,
            overrides: Vec::new(),
            languages,
        };
        for source in load_sources(folder)? {
            templates.add(source)?;
        }
        // A test renders what is built in.
        if folder.is_some() {
            templates.check()?;
        }
        Ok(templates)
    }

    /// Renders the letter in the language that its recipient prefers, or in that of the installation.
    pub fn render(&self, letter: &Letter, installation: &Installation) -> Result<Rendering, Error> {
        let wishes = [&letter.language, &installation.language];
        let wishes = wishes.into_iter().flatten().map(String::as_str);
        let language = self.languages.choose(wishes);
        let mail = format!("mail {}", letter.reference);
        self.render_in(&language, letter, installation, &mail)
    }

    pub fn languages(&self) -> &Arc<Languages> {
        &self.languages
    }

    fn add(&mut self, source: Source) -> Result<(), Error> {
        let file = source.display_path();
        let template = compile(&file, source.name, &source.text)?;
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
        let full = Installation {
            base_url: Some("https://wiki.example.org/tokens/{id}".to_owned()),
            contact: Some("platform@example.org".to_owned()),
            language: None,
            sources: [("exports".to_owned(), full_info())].into(),
        };
        for sample in sample::all(sample::now()) {
            let mail = format!("the sample {}", sample.name);
            for language in self.languages.iter() {
                self.render_in(&language, &sample.letter, &Installation::default(), &mail)?;
                self.render_in(&language, &sample.letter, &full, &mail)?;
            }
        }
        Ok(())
    }

    /// Lists fewer tokens until the mail is short enough.
    fn render_in(
        &self,
        language: &Language,
        letter: &Letter,
        installation: &Installation,
        mail: &str,
    ) -> Result<Rendering, Error> {
        let mut limit = MAX_LISTED;
        loop {
            let view = view::build(letter, installation, language, limit);
            let rendering = self.render_once(letter.kind(), view.variables, mail)?;
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
        mail: &str,
    ) -> Result<Rendering, Error> {
        let [subject_file, text, html] = template_names(kind);
        let mut context = Context::from(Value::Object(variables));
        let render = |registry: &Handlebars<'_>, name: &'static str, context: &Context| {
            registry
                .render_with_context(name, context)
                .map_err(|error| {
                    let line = error.line_no.unwrap_or(1);
                    self.render_error(name, line, mail, reason(error.reason()))
                })
        };
        let subject = text::one_line(&render(&self.text, subject_file, &context)?, 150);
        if subject.is_empty() {
            let reason = "the subject is empty".to_owned();
            return Err(self.render_error(subject_file, 1, mail, reason));
        }
        set(&mut context, "subject", subject.clone());
        let body = render(&self.text, text, &context)?;
        set(&mut context, "body", body);
        let text = wording::wrap(&render(&self.text, LAYOUT_TEXT, &context)?);
        let body = render(&self.html, html, &context)?;
        set(&mut context, "body", body);
        let html = render(&self.html, LAYOUT_HTML, &context)?;
        Ok(Rendering {
            subject,
            text,
            html,
        })
    }

    fn render_error(&self, name: &str, line: usize, mail: &str, reason: String) -> Error {
        let file = match self.overrides.iter().find(|(known, _)| *known == name) {
            Some((_, path)) => path.display().to_string(),
            None => format!("templates/{name}"),
        };
        Error::Render {
            file,
            line,
            mail: mail.to_owned(),
            reason,
        }
    }
}

fn full_info() -> SourceInfo {
    SourceInfo {
        title: Some("GitLab (git.example.org)".to_owned()),
        help_url: Some("https://wiki.example.org/gitlab-tokens".to_owned()),
    }
}

fn registry(escape: fn(&str) -> String, languages: &Arc<Languages>) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.register_escape_fn(escape);
    // Templates must not write to the log.
    registry.unregister_helper("log");
    language::register(&mut registry, Arc::clone(languages));
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

/// The approximate size when encoded as quoted-printable.
fn encoded_len(text: &str) -> usize {
    text.len() + text.bytes().filter(|b| !b.is_ascii()).count() * 2
}

/// The names of a kind's templates: subject, text and HTML.
const fn template_names(kind: Kind) -> [&'static str; 3] {
    let at = 2 + 3 * kind as usize;
    [BUILT_IN[at].0, BUILT_IN[at + 1].0, BUILT_IN[at + 2].0]
}

struct Source {
    /// Path in the folder of templates.
    name: &'static str,
    text: String,
    /// The file that overrides the built-in text.
    path: Option<PathBuf>,
}

impl Source {
    fn display_path(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => format!("templates/{}", self.name),
        }
    }
}

/// All templates, with the overrides in `folder`.
fn load_sources(folder: Option<&Path>) -> Result<Vec<Source>, Error> {
    let mut sources: Vec<Source> = BUILT_IN
        .iter()
        .map(|(name, text)| Source {
            name,
            text: (*text).to_owned(),
            path: None,
        })
        .collect();
    if let Some(folder) = folder {
        for (name, path) in list_files(folder)? {
            let Some(source) = sources.iter_mut().find(|source| source.name == name) else {
                return Err(Error::Unknown {
                    path,
                    nearest: nearest(&name, BUILT_IN.iter().map(|(known, _)| *known)),
                });
            };
            source.text = read_text(&path, MAX_TEMPLATE_OCTETS).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
            source.path = Some(path);
        }
    }
    Ok(sources)
}

/// Files of the folder and its subfolders, sorted, without hidden ones and those of languages and pages.
fn list_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    for (name, path) in list_entries(folder)? {
        if name == LANGUAGES || name == PAGES {
            continue;
        }
        if path.is_dir() {
            for (file, path) in list_entries(&path)? {
                files.push((format!("{name}/{file}"), path));
            }
        } else {
            files.push((name, path));
        }
    }
    Ok(files)
}

fn list_entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    list_folder(folder).map_err(|source| Error::Folder {
        path: folder.to_owned(),
        source,
    })
}

/// Compiles a template; rejects what could make the renderer recurse without end.
fn compile(file: &str, name: &str, text: &str) -> Result<Template, Error> {
    let syntax = |line, reason: String| Error::Syntax {
        file: file.to_owned(),
        line,
        reason,
    };
    if let Some(line) = find_deep_nesting(text) {
        return Err(syntax(
            line,
            format!("blocks or brackets are nested more than {MAX_NESTING} deep"),
        ));
    }
    let template = Template::compile_with_name(text, name.to_owned()).map_err(|error| {
        let (line, _) = error.pos().unwrap_or((1, 0));
        syntax(
            line,
            text::one_line(&error.reason().to_string(), text::MAX_TEXT),
        )
    })?;
    match find_forbidden(&template) {
        Some(line) => Err(syntax(
            line,
            "partials ({{>) and decorators ({{*) are not supported".to_owned(),
        )),
        None => Ok(template),
    }
}

/// The line where the nesting gets too deep.
fn find_deep_nesting(text: &str) -> Option<usize> {
    let mut blocks = 0_usize;
    let mut brackets = 0_usize;
    let mut line = 1;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => line += 1,
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b'#' | b'^' if bytes[..at].ends_with(b"{{") || bytes[..at].ends_with(b"{{~") => {
                blocks += 1;
            }
            b'/' if bytes[..at].ends_with(b"{{") || bytes[..at].ends_with(b"{{~") => {
                blocks = blocks.saturating_sub(1);
            }
            _ => {}
        }
        if blocks > MAX_NESTING || brackets > MAX_NESTING {
            return Some(line);
        }
    }
    None
}

/// The line of the first partial or decorator; these could include each other without end.
fn find_forbidden(template: &Template) -> Option<usize> {
    let inner = |helper: &HelperTemplate| {
        let blocks = [&helper.template, &helper.inverse];
        blocks.into_iter().flatten().find_map(find_forbidden)
    };
    template
        .elements
        .iter()
        .zip(&template.mapping)
        .find_map(|(element, at)| match element {
            TemplateElement::RawString(_) | TemplateElement::Comment(_) => None,
            TemplateElement::HtmlExpression(helper)
            | TemplateElement::Expression(helper)
            | TemplateElement::HelperBlock(helper) => inner(helper),
            // Partials, decorators and anything a later version adds.
            _ => Some(at.0),
        })
}

#[cfg(test)]
mod tests;
