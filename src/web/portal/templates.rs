//! The templates of pages, built in or overridden by the operator's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use handlebars::{
    Context, Handlebars, Helper, HelperResult, Output, RenderContext, RenderError,
    RenderErrorReason,
};
use serde_json::{Map, Value};

use super::assets;
use crate::files::{list_folder, read_text};
use crate::language::{self, Languages};

/// The folder of overrides within that of the mails.
const FOLDER: &str = "web";
const LAYOUT: &str = "layout";
const ENDING: &str = ".html.hbs";
const MAX_OCTETS: u64 = 128 * 1024;

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../templates/web/", $name, ".html.hbs")))),+]
    };
}

/// Names and texts.
const BUILT_IN: &[(&str, &str)] = built_in![
    "layout",
    "error",
    "notices",
    "findings",
    "acknowledge",
    "audit",
    "forecast",
    "people",
    "person_state",
    "sources",
    "directories",
    "overview",
    "preferences",
    "sign_in",
    "sign_in_sent",
    "sign_in_link",
    "tokens",
    "token",
    "new_token",
    "made",
    "already_made",
    "regenerate",
    "edit",
    "disable",
    "enable",
    "revoke",
];

/// Parts that pages share.
const PARTS: &[(&str, &str)] = &[
    (
        "moment",
        "<time datetime=\"{{this.iso}}\" title=\"{{this.utc}}\">{{this.text}}</time>",
    ),
    (
        "distance",
        "<time datetime=\"{{this.iso}}\" title=\"{{this.text}} · {{this.utc}}\">{{this.distance}}</time>",
    ),
    (
        "errors",
        include_str!("../../../templates/web/errors.html.hbs"),
    ),
    (
        "token_form",
        include_str!("../../../templates/web/token_form.html.hbs"),
    ),
    (
        "callers",
        include_str!("../../../templates/web/callers.html.hbs"),
    ),
    (
        "expiry",
        include_str!("../../../templates/web/expiry.html.hbs"),
    ),
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} overrides no page", path.display())]
    Unknown { path: PathBuf },
    #[error(transparent)]
    Language(#[from] language::Error),
    #[error("cannot parse {file}: {reason}")]
    Syntax { file: String, reason: String },
}

pub struct PageTemplates(Handlebars<'static>);

impl PageTemplates {
    /// With the overrides in the subfolder `web` of `folder`.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn load(folder: Option<&Path>, languages: &Arc<Languages>) -> Result<Self, Error> {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::html_escape);
        // Templates must not write to the log.
        registry.unregister_helper("log");
        register_helpers(&mut registry, languages);
        for (name, text) in BUILT_IN.iter().chain(PARTS) {
            register(&mut registry, name, text, &format!("templates/web/{name}"))?;
        }
        let folder = folder.map(|folder| folder.join(FOLDER));
        for (name, path) in folder.map_or(Ok(Vec::new()), |folder| list(&folder))? {
            if !registry.has_template(&name) {
                return Err(Error::Unknown { path });
            }
            let text = read(&path)?;
            register(&mut registry, &name, &text, &path.display().to_string())?;
        }
        Ok(Self(registry))
    }

    /// Renders a page within the layout.
    ///
    /// # Errors
    /// If the template asks for what is not there.
    pub fn render(
        &self,
        name: &str,
        mut context: Map<String, Value>,
    ) -> Result<String, Box<RenderError>> {
        let body = self.0.render(name, &context).map_err(Box::new)?;
        context.insert("body".to_owned(), body.into());
        self.0.render(LAYOUT, &context).map_err(Box::new)
    }
}

fn register(
    registry: &mut Handlebars<'static>,
    name: &str,
    text: &str,
    file: &str,
) -> Result<(), Error> {
    registry
        .register_template_string(name, text)
        .map_err(|error| Error::Syntax {
            file: file.to_owned(),
            reason: error.reason().to_string(),
        })
}

/// The files that override pages, by the names of these.
fn list(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let files = list_folder(folder).map_err(|source| Error::Read {
        path: folder.to_owned(),
        source,
    })?;
    let name = |(name, path): (String, PathBuf)| (name.trim_end_matches(ENDING).to_owned(), path);
    Ok(files.into_iter().map(name).collect())
}

fn read(path: &Path) -> Result<String, Error> {
    read_text(path, MAX_OCTETS).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

fn register_helpers(registry: &mut Handlebars<'static>, languages: &Arc<Languages>) {
    language::register(registry, Arc::clone(languages));
    registry.register_helper("asset", Box::new(asset));
    registry.register_helper("icon", Box::new(icon));
}

fn first<'a>(helper: &'a Helper<'_>, name: &'static str) -> Result<&'a str, RenderErrorReason> {
    let value = helper.param(0).and_then(|param| param.value().as_str());
    value.ok_or(RenderErrorReason::ParamNotFoundForIndex(name, 0))
}

/// `{{asset "portal.css"}}`: the path of an embedded file.
fn asset(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: &mut dyn Output,
) -> HelperResult {
    let name = first(helper, "asset")?;
    let path = assets::path(name);
    let path = path.ok_or_else(|| RenderErrorReason::Other(format!("there is no {name:?}")))?;
    Ok(out.write(&path)?)
}

/// `{{icon "key"}}`: a symbol of the sprite, which says nothing to a screen reader.
fn icon(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: &mut dyn Output,
) -> HelperResult {
    let name = first(helper, "icon")?;
    let sprite = assets::path("icons.svg").unwrap_or_default();
    let name = handlebars::html_escape(name);
    out.write(&format!(
        "<svg class=\"icon\" aria-hidden=\"true\" focusable=\"false\"><use href=\"{sprite}#{name}\"></use></svg>"
    ))?;
    Ok(())
}
