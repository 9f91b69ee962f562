//! `/sources` and `/directories`: how lapsed reads them, for super admins.

use axum::extract::State;
use serde::Serialize;

use super::token_view::Badge;
use crate::domain::SyncState;
use crate::language::phrase;
use crate::store::{DirectoryRow, SourceRow};
use crate::text::clean;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::AppState;

/// A source or a directory.
#[derive(Debug, Serialize)]
struct UpstreamView {
    name: String,
    kind: String,
    badge: Badge,
    /// How many tokens or people.
    count: String,
    last_good: Option<Moment>,
    /// The next attempt, where it waits longer than its schedule says.
    next: Option<Moment>,
    failing_since: Option<Moment>,
    /// What is wrong, each with the command that says more or sets it right.
    troubles: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
struct Trouble {
    text: String,
    fixes: Vec<Fix>,
}

#[derive(Debug, Serialize)]
struct Fix {
    text: String,
    command: String,
}

#[derive(Debug, Serialize)]
struct SourcesView {
    rows: Vec<UpstreamView>,
}

impl View for SourcesView {
    const TEMPLATE: &'static str = "sources";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "sources-title")
    }
}

#[derive(Debug, Serialize)]
struct DirectoriesView {
    rows: Vec<UpstreamView>,
}

impl View for DirectoriesView {
    const TEMPLATE: &'static str = "directories";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "directories-title")
    }
}

fn require_super(signed_in: &SignedIn) -> PageResult<()> {
    let is_super = signed_in.access.is_super;
    is_super.then_some(()).ok_or(PageError::NotFound)
}

pub async fn show_sources(State(web): State<AppState>, signed_in: SignedIn) -> PageResult {
    require_super(&signed_in)?;
    let rows = web.service.list_sources(&signed_in.actor()).await?;
    let words = signed_in.words();
    let view = SourcesView {
        rows: rows.iter().map(|row| source(row, words)).collect(),
    };
    page(&web, &signed_in.visitor, &view).await
}

pub async fn show_directories(State(web): State<AppState>, signed_in: SignedIn) -> PageResult {
    require_super(&signed_in)?;
    let rows = web.service.list_directories(&signed_in.actor()).await?;
    let words = signed_in.words();
    let view = DirectoriesView {
        rows: rows.iter().map(|row| directory(row, words)).collect(),
    };
    page(&web, &signed_in.visitor, &view).await
}

fn source(row: &SourceRow, words: &Words) -> UpstreamView {
    let mut view = upstream("source", (&row.name, &row.kind), &row.sync_state, words);
    view.count = phrase!(words.language, "sources-tokens", count = row.tokens);
    if let Some(new) = &row.renamed_to {
        view.badge = badge("renamed", "off", "again", words);
        view.troubles = vec![Trouble {
            text: phrase!(words.language, "sources-renamed", name = new.as_str()),
            fixes: vec![fix("forget", "source forget", &row.name, words)],
        }];
    }
    view
}

fn directory(row: &DirectoryRow, words: &Words) -> UpstreamView {
    let mut view = upstream("directory", (&row.name, &row.kind), &row.sync_state, words);
    view.count = phrase!(words.language, "directories-people", count = row.people);
    if let Some(gaps) = &row.gaps {
        let text = phrase!(words.language, "directories-gaps", name = clean(gaps));
        view.troubles.push(Trouble {
            text,
            fixes: Vec::new(),
        });
    }
    if let Some(held) = &row.held {
        if row.sync_state.failures == 0 {
            view.badge = badge("held", "ended", "pause", words);
        }
        view.troubles.insert(0, held_change(row, held, words));
    }
    view
}

/// A mass change that waits for a decision, or for the next sync after one.
fn held_change(row: &DirectoryRow, held: &str, words: &Words) -> Trouble {
    let decision = row.decision.as_deref().unwrap_or("none");
    let fixes = [
        ("look", "directory sync --dry-run"),
        ("release", "directory release"),
        ("reject", "directory reject"),
    ];
    let fixes = fixes.map(|(act, command)| fix(act, command, &row.name, words));
    Trouble {
        text: phrase!(
            words.language,
            "directories-change",
            decision = decision,
            name = clean(held)
        ),
        fixes: match row.decision {
            None => fixes.into(),
            Some(_) => Vec::new(),
        },
    }
}

/// `what` is the command that is about it.
fn upstream(
    what: &str,
    (name, kind): (&str, &str),
    state: &SyncState,
    words: &Words,
) -> UpstreamView {
    let is_waiting = state.is_deferred(words.now);
    let (key, class, icon) = match (state.failures, state.last_good_sync_at) {
        (1.., _) => ("failing", "ended", "warning"),
        _ if is_waiting => ("waiting", "soon", "pause"),
        (_, None) => ("never", "off", "clock"),
        (_, Some(_)) => ("ok", "good", "check"),
    };
    let check = || fix("check", &format!("{what} check"), name, words);
    let error = state.error.as_ref().map(|error| Trouble {
        text: clean(error).into_owned(),
        fixes: vec![check()],
    });
    let next = state.next_attempt_at(None);
    UpstreamView {
        name: name.to_owned(),
        kind: kind.to_owned(),
        badge: badge(key, class, icon, words),
        count: String::new(),
        last_good: state.last_good_sync_at.map(|at| words.moment(at)),
        next: next.filter(|at| *at > words.now).map(|at| words.moment(at)),
        failing_since: state.failing_since.map(|at| words.moment(at)),
        troubles: error.into_iter().collect(),
    }
}

fn badge(state: &str, class: &'static str, icon: &'static str, words: &Words) -> Badge {
    Badge {
        text: phrase!(words.language, "upstream-state", state = state),
        class,
        icon,
    }
}

fn fix(act: &str, command: &str, name: &str, words: &Words) -> Fix {
    Fix {
        text: phrase!(words.language, "upstream-fix", act = act),
        command: format!("lapsed {command} {name}"),
    }
}
