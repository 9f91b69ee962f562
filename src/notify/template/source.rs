//! The template files: the built-in texts, their overrides in a folder, and checks of their content.

use std::path::{Path, PathBuf};
use std::{fs, io};

use handlebars::Template;
use handlebars::template::{HelperTemplate, TemplateElement};

use crate::nearest::nearest;
use crate::notify::letter::Kind;
use crate::text;

use super::Error;

const MAX_OCTETS: u64 = 128 * 1024;
/// Nesting of blocks and brackets; the parser is recursive.
const MAX_NESTING: usize = 40;

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

/// Subject, text and HTML.
pub(super) const fn files(kind: Kind) -> [&'static str; 3] {
    let at = 2 + 3 * kind as usize;
    [BUILT_IN[at].0, BUILT_IN[at + 1].0, BUILT_IN[at + 2].0]
}

pub(super) struct Source {
    /// Path in the folder of templates.
    pub name: &'static str,
    pub text: String,
    /// The file that overrides the built-in text.
    pub path: Option<PathBuf>,
}

impl Source {
    /// For errors.
    pub fn display_path(&self) -> String {
        match &self.path {
            Some(path) => path.display().to_string(),
            None => format!("templates/{}", self.name),
        }
    }
}

/// All templates, with the overrides in `folder`.
pub(super) fn load(folder: Option<&Path>) -> Result<Vec<Source>, Error> {
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
            source.text = read_file(&path)?;
            source.path = Some(path);
        }
    }
    Ok(sources)
}

/// Files of the folder and its subfolders, sorted, without hidden ones.
fn list_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    for (name, path) in list_entries(folder)? {
        if path.is_dir() {
            let inner = list_entries(&path)?;
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

fn list_entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
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

fn read_file(path: &Path) -> Result<String, Error> {
    let read = || {
        if fs::metadata(path)?.len() > MAX_OCTETS {
            let limit = format!("it is larger than {} KiB", MAX_OCTETS / 1024);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, limit));
        }
        fs::read_to_string(path)
    };
    read().map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Compiles a template; rejects what could make the renderer recurse without end.
pub(super) fn compile(file: &str, name: &str, text: &str) -> Result<Template, Error> {
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
