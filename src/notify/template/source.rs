//! The templates' texts: which files there are, which of them a folder overrides, and what they may
//! contain.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use handlebars::{
    Template,
    template::{HelperTemplate, TemplateElement},
};

use crate::notify::{letter::Kind, plain};

use super::Error;

/// The largest template, in octets.
const LARGEST: u64 = 128 * 1024;
/// How deep blocks and brackets may stand in one another; the parser goes down its own stack.
const DEEPEST: usize = 40;

pub(super) const LAYOUT_TEXT: &str = "layout.txt.hbs";
pub(super) const LAYOUT_HTML: &str = "layout.html.hbs";

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../templates/", $name)))),+]
    };
}

pub(super) const BUILT_IN: &[(&str, &str)] = built_in![
    "layout.txt.hbs",
    "layout.html.hbs",
    "expiring/subject.txt.hbs",
    "expiring/body.txt.hbs",
    "expiring/body.html.hbs",
    "expired/subject.txt.hbs",
    "expired/body.txt.hbs",
    "expired/body.html.hbs",
    "digest/subject.txt.hbs",
    "digest/body.txt.hbs",
    "digest/body.html.hbs",
    "revoked_access/subject.txt.hbs",
    "revoked_access/body.txt.hbs",
    "revoked_access/body.html.hbs",
    "revoked/subject.txt.hbs",
    "revoked/body.txt.hbs",
    "revoked/body.html.hbs",
    "alert/subject.txt.hbs",
    "alert/body.txt.hbs",
    "alert/body.html.hbs",
    "summary/subject.txt.hbs",
    "summary/body.txt.hbs",
    "summary/body.html.hbs",
];

/// The files of a mail: subject, text, HTML.
pub(super) const fn files(kind: Kind) -> [&'static str; 3] {
    let at = 2 + 3 * kind as usize;
    [BUILT_IN[at].0, BUILT_IN[at + 1].0, BUILT_IN[at + 2].0]
}

/// The text of one template.
pub(super) struct Source {
    /// Its path in the folder of templates.
    pub name: &'static str,
    pub text: String,
    /// The file that overrides the built-in text.
    pub path: Option<PathBuf>,
}

impl Source {
    /// Its file, for errors.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => format!("templates/{}", self.name),
        }
    }
}

/// Every template, overridden where `folder` has a file of its name.
pub(super) fn all(folder: Option<&Path>) -> Result<Vec<Source>, Error> {
    let mut sources: Vec<Source> = BUILT_IN
        .iter()
        .map(|(name, text)| Source {
            name,
            text: (*text).to_owned(),
            path: None,
        })
        .collect();
    if let Some(folder) = folder {
        for (name, path) in found(folder)? {
            let Some(source) = sources.iter_mut().find(|source| source.name == name) else {
                return Err(Error::Unknown {
                    path,
                    nearest: nearest(&name),
                });
            };
            source.text = read(&path)?;
            source.path = Some(path);
        }
    }
    Ok(sources)
}

/// The files of the folder and of its folders, hidden ones left out, in order.
fn found(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    for (name, path) in entries(folder)? {
        if path.is_dir() {
            let inner = entries(&path)?;
            files.extend(
                inner
                    .into_iter()
                    .map(|(file, path)| (format!("{name}/{file}"), path)),
            );
        } else {
            files.push((name, path));
        }
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let list = || -> io::Result<Vec<(String, PathBuf)>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                list.push((name, entry.path()));
            }
        }
        list.sort();
        Ok(list)
    };
    list().map_err(|source| Error::Folder {
        path: folder.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<String, Error> {
    let read = || {
        if fs::metadata(path)?.len() > LARGEST {
            let limit = format!("it is larger than {} KiB", LARGEST / 1024);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, limit));
        }
        fs::read_to_string(path)
    };
    read().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn nearest(name: &str) -> &'static str {
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    BUILT_IN
        .iter()
        .map(|(known, _)| *known)
        .min_by_key(|known| distance(known))
        .expect("there are templates")
}

/// Compiles a template; refuses what could send the renderer down for ever.
pub(super) fn compile(file: &str, name: &str, text: &str) -> Result<Template, Error> {
    let syntax = |line, reason: String| Error::Syntax {
        file: file.to_owned(),
        line,
        reason,
    };
    if let Some(line) = too_deep(text) {
        return Err(syntax(
            line,
            format!("blocks or brackets stand more than {DEEPEST} deep"),
        ));
    }
    let template = Template::compile_with_name(text, name.to_owned()).map_err(|error| {
        let (line, _) = error.pos().unwrap_or((1, 0));
        syntax(line, plain::line(&error.reason().to_string(), plain::TEXT))
    })?;
    match foreign(&template) {
        Some(line) => Err(syntax(
            line,
            "partials ({{>) and decorators ({{*) are not for these templates".to_owned(),
        )),
        None => Ok(template),
    }
}

/// The line at which the nesting is too deep.
fn too_deep(text: &str) -> Option<usize> {
    let (mut blocks, mut brackets, mut line) = (0_usize, 0_usize, 1);
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
        if blocks > DEEPEST || brackets > DEEPEST {
            return Some(line);
        }
    }
    None
}

/// The line of the first partial or decorator: they could include one another without end.
fn foreign(template: &Template) -> Option<usize> {
    let inner = |helper: &HelperTemplate| {
        let blocks = [&helper.template, &helper.inverse];
        blocks.into_iter().flatten().find_map(foreign)
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
            // Partials and decorators, and what a later version may bring.
            _ => Some(at.0),
        })
}
