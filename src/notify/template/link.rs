//! The helper `link` of HTML templates: only `https` addresses are clickable.

use handlebars::Handlebars;
use serde_json::Value;

use crate::language::register_markup;

pub(super) fn register(registry: &mut Handlebars<'_>) {
    register_markup(registry, "link", |link, escape| {
        let url = escape(link.get("url")?.as_str()?);
        Some(if link.get("secure").and_then(Value::as_bool)? {
            format!("<a class=\"lnk\" href=\"{url}\" style=\"color:#1650c8\">{url}</a>")
        } else {
            url
        })
    });
}
