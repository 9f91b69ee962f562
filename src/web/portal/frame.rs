//! The frame of a page: head, menu and foot.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::{PageError, PageResult};
use super::session::Visitor;
use crate::domain::service::{Access, Actor, Operation};
use crate::language::phrase;
use crate::web::state::{RequestContext, Web};

pub const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// What a page shows.
pub trait View: Serialize {
    /// The file below `templates/web`, without its endings.
    const TEMPLATE: &'static str;

    /// What the page is for: the title, and the only heading of the first level.
    fn title(&self, visitor: &Visitor) -> String;
}

/// A page of the menu.
struct Entry {
    path: &'static str,
    /// In the phrase `menu`.
    name: &'static str,
    icon: &'static str,
    /// Who sees the page: `None` for everybody.
    needs: Option<Operation>,
}

/// The menu, in order. A page that is not for a role is not in its menu.
const MENU: &[Entry] = &[
    entry("/", "overview", "home", None),
    entry("/tokens", "tokens", "key", None),
    entry("/notices", "notices", "bell", None),
    entry(
        "/forecast",
        "forecast",
        "calendar",
        Some(Operation::ReadForecast),
    ),
    entry(
        "/findings",
        "findings",
        "flag",
        Some(Operation::ReadFindings),
    ),
    entry("/people", "people", "people", Some(Operation::ReadUsers)),
    entry(
        "/sources",
        "sources",
        "source",
        Some(Operation::ReadService),
    ),
    entry(
        "/directories",
        "directories",
        "directory",
        Some(Operation::ReadService),
    ),
    entry("/audit", "audit", "list", Some(Operation::ReadAudit)),
    entry("/preferences", "preferences", "settings", None),
];

const fn entry(
    path: &'static str,
    name: &'static str,
    icon: &'static str,
    needs: Option<Operation>,
) -> Entry {
    Entry {
        path,
        name,
        icon,
        needs,
    }
}

#[derive(Debug, Serialize)]
struct MenuItem {
    path: &'static str,
    text: String,
    icon: &'static str,
    is_here: bool,
    /// Tokens that end soon, unread notices.
    count: Option<String>,
    /// The count in words.
    count_text: Option<String>,
}

#[derive(Debug, Serialize)]
struct AccountItem {
    name: String,
    is_here: bool,
}

/// Renders a page for a visitor.
///
/// # Errors
/// If the store fails, or a template that the operator wrote.
pub async fn page<V: View + Sync>(web: &Web, visitor: &Visitor, view: &V) -> PageResult {
    page_with_status(web, visitor, StatusCode::OK, view).await
}

/// # Errors
/// As [`page`].
pub async fn page_with_status<V: View + Sync>(
    web: &Web,
    visitor: &Visitor,
    status: StatusCode,
    view: &V,
) -> PageResult {
    let menu = load_menu(web, visitor).await?;
    let html = render(web, visitor, &menu, view)?;
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HTML);
    Ok(response)
}

fn render<V: View>(
    web: &Web,
    visitor: &Visitor,
    menu: &[MenuItem],
    view: &V,
) -> PageResult<String> {
    let words = &visitor.words;
    let title = view.title(visitor);
    let attention = menu.iter().find_map(|item| item.count.clone());
    let mut context = match serde_json::to_value(view) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    let access = visitor.access.as_deref();
    let frame = json!({
        "lang": words.language.tag(),
        "dir": words.language.direction(),
        "theme": visitor.theme,
        "path": visitor.path,
        "title": title,
        "attention": attention,
        "menu": menu,
        "person": access.map(|access| access.person.name.clone().unwrap_or_else(|| access.person.key.clone())),
        "address": access.map(|access| access.person.key.clone()),
        "role": access.map(|access| role_text(web, visitor, access)),
        "accounts": access.map(accounts).unwrap_or_default(),
        "zone": words.zone.name(),
    });
    context.insert("frame".to_owned(), frame);
    context.insert("language".to_owned(), words.language.tag().into());
    web.templates.render(V::TEMPLATE, context).map_err(|error| {
        tracing::error!(%error, "a page cannot be shown");
        PageError::Internal
    })
}

fn role_text(web: &Web, visitor: &Visitor, access: &Access) -> String {
    let account = access.credential.account.as_deref();
    match (access.rank, account) {
        (Some(rank), Some(account)) => {
            format!("{} · {account}", web.service.terms().roles.name(rank))
        }
        _ => phrase!(visitor.words.language, "role-super"),
    }
}

/// Those that the session can be turned to.
fn accounts(access: &Access) -> Vec<AccountItem> {
    let roles = &access.person.roles;
    if access.is_super || roles.len() < 2 {
        return Vec::new();
    }
    let here = access.credential.account.as_deref();
    let item = |name: &String| AccountItem {
        name: name.clone(),
        is_here: Some(name.as_str()) == here,
    };
    roles.keys().map(item).collect()
}

async fn load_menu(web: &Web, visitor: &Visitor) -> PageResult<Vec<MenuItem>> {
    let Some(access) = &visitor.access else {
        return Ok(Vec::new());
    };
    let actor = Actor::Caller(access.clone());
    let language = &visitor.words.language;
    let attention = web.service.load_attention(&actor).await?;
    let path = visitor.path.split('?').next().unwrap_or("/");
    let is_here = |entry: &Entry| {
        path == entry.path || (entry.path != "/" && path.starts_with(&format!("{}/", entry.path)))
    };
    let visible = MENU
        .iter()
        .filter(|entry| entry.needs.is_none_or(|needs| actor.may(needs).is_ok()));
    let item = |entry: &Entry| {
        let count = match entry.path {
            "/tokens" => attention.ending,
            "/notices" => attention.unread,
            _ => 0,
        };
        let count = (count > 0).then_some(count);
        MenuItem {
            path: entry.path,
            text: phrase!(language, "menu", page = entry.name),
            icon: entry.icon,
            is_here: is_here(entry),
            count: count.map(|count| visitor.words.count(count)),
            count_text: count.map(|count| match entry.path {
                "/tokens" => phrase!(language, "menu-tokens-ending", count = count),
                _ => phrase!(language, "menu-notices-unread", count = count),
            }),
        }
    };
    Ok(visible.map(item).collect())
}

#[derive(Debug, Serialize)]
struct ErrorView {
    #[serde(skip)]
    error: &'static str,
    text: String,
    detail: Option<String>,
    request_id: String,
}

impl View for ErrorView {
    const TEMPLATE: &'static str = "error";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "error-title", error = self.error)
    }
}

pub async fn error_page(
    web: &Web,
    visitor: &Visitor,
    error: &PageError,
    context: &RequestContext,
) -> Body {
    let view = ErrorView {
        error: error.name(),
        text: phrase!(visitor.words.language, "error-text", error = error.name()),
        detail: match error {
            PageError::Refused(problem) => Some(problem.to_string()),
            _ => None,
        },
        request_id: context.id().to_string(),
    };
    // A store that fails must not keep the page from being shown.
    let menu = load_menu(web, visitor).await.unwrap_or_default();
    render(web, visitor, &menu, &view).map_or_else(|_| Body::empty(), Body::from)
}
