//! Reads the files of phrases: those built in, and those of the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fluent_bundle::FluentResource;
use fluent_syntax::parser::ParserError;
use unic_langid::LanguageIdentifier;

use super::check::{self, Variables};
use super::error::Error;
use crate::files::{list_folder, read_text};
use crate::text;

pub(super) const ENGLISH: &str = "en";

const MAX_OCTETS: u64 = 512 * 1024;
const MAX_REASON: usize = 200;

macro_rules! built_in {
    ($tag:literal) => {
        built_in!($tag, "common.ftl", "mails.ftl", "pages.ftl")
    };
    ($tag:literal, $($file:literal),+) => {
        ($tag, &[$((
            concat!("locales/", $tag, "/", $file),
            include_str!(concat!("../../locales/", $tag, "/", $file)),
        )),+])
    };
}

/// The tag of each language, with the paths and texts of its files.
pub const BUILT_IN: &[(&str, &[(&str, &str)])] = &[built_in!("en"), built_in!("de")];

type Files = BTreeMap<LanguageIdentifier, Vec<FluentResource>>;

/// The files of each language, those of the operator last.
pub(super) fn load(templates: Option<&Path>) -> Result<Files, Error> {
    let mut all = Files::new();
    let mut english = Variables::new();
    for (tag, files) in BUILT_IN {
        let files = files
            .iter()
            .map(|(name, text)| parse(name, (*text).to_owned()));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        if *tag == ENGLISH {
            english = check::variables(&files);
        }
        all.insert(built_in_tag(tag), files);
    }
    let folder = templates.map(|templates| templates.join("locales"));
    if let Some(folder) = folder.filter(|folder| folder.exists()) {
        add_folder(&mut all, &folder, &english)?;
    }
    Ok(all)
}

/// One of the tags of [`BUILT_IN`].
pub(super) fn built_in_tag(tag: &str) -> LanguageIdentifier {
    tag.parse().expect("a valid tag")
}

fn add_folder(all: &mut Files, folder: &Path, english: &Variables) -> Result<(), Error> {
    for (name, path) in list(folder)? {
        let is_file = !path.is_dir();
        let Some(tag) = name.parse().ok().filter(|_| !is_file) else {
            return Err(Error::Tag { path });
        };
        let files = all.entry(tag).or_default();
        let terms: BTreeSet<_> = files.iter().flat_map(check::term_ids).collect();
        for (_, path) in list(&path)? {
            if path.extension().is_none_or(|ending| ending != "ftl") {
                return Err(Error::Name { path });
            }
            let text = read_text(&path, MAX_OCTETS).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
            let name = path.display().to_string();
            let file = parse(&name, text)?;
            check::check(&name, &file, english, &terms)?;
            files.push(file);
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<(String, std::path::PathBuf)>, Error> {
    list_folder(folder).map_err(|source| Error::Folder {
        path: folder.to_owned(),
        source,
    })
}

pub(super) fn parse(name: &str, text: String) -> Result<FluentResource, Error> {
    FluentResource::try_new(text).map_err(|(file, errors)| {
        let first = errors.into_iter().min_by_key(|error| error.pos.start);
        let at = first.as_ref().map_or(0, |error| error.pos.start);
        let before = file.source().get(..at).unwrap_or_default();
        Error::Phrase {
            file: name.to_owned(),
            line: before.trim_end().matches('\n').count() + 1,
            reason: format!("cannot parse the phrase: {}", reason(first.as_ref())),
        }
    })
}

fn reason(error: Option<&ParserError>) -> String {
    let reason = error.map(|error| error.kind.to_string());
    text::one_line(&reason.unwrap_or_default(), MAX_REASON)
}
