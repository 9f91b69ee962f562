//! What administrators are told of directories themselves.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::News;
use crate::engine::alert::Alert;

use super::HeldTurn;

/// So many people are named in a mail; the rest is counted.
const NAMED: usize = 20;

/// A directory that fails, or works again.
pub(super) fn told<'a>(name: &'a str, news: News, error: Option<&str>) -> Alert<'a> {
    match news {
        News::Failing { since } => Alert {
            subject: name,
            since,
            title: format!("The directory {name} cannot be read"),
            text: format!(
                "Since {} every attempt to read the directory {name} has failed:\n\n    {}\n\n\
                 Until it works again nobody who loses access there is noticed. What was known before holds for \
                 a while; no token is flagged and no finding closed meanwhile.\n\n\
                 See what its credentials can do:\n\n    lapsed directory check {name}",
                since.format("%Y-%m-%d %H:%M UTC"),
                error.unwrap_or("no reason given"),
            ),
        },
        News::Recovered { since } => Alert {
            subject: name,
            // Another occurrence than the failure itself.
            since: since + TimeDelta::microseconds(1),
            title: format!("The directory {name} can be read again"),
            text: format!(
                "Its people's status is known again. It had failed since {}.",
                since.format("%Y-%m-%d %H:%M UTC")
            ),
        },
    }
}

/// A directory that says more than is believed without a person's word.
pub(super) fn held<'a>(
    name: &'a str,
    since: DateTime<Utc>,
    reason: &str,
    turns: &[HeldTurn],
) -> Alert<'a> {
    let mut people = String::new();
    for turn in turns.iter().take(NAMED) {
        let _ = write!(people, "\n    {}: {}", turn.email, turn.after);
    }
    if turns.len() > NAMED {
        let more = turns.len() - NAMED;
        let _ = write!(
            people,
            "\n    and {more} more: lapsed directory sync {name} --dry-run"
        );
    }
    let people = if people.is_empty() {
        people
    } else {
        format!("It is about:\n{people}\n\n")
    };
    Alert {
        subject: name,
        since,
        title: format!("Directory {name} is held: {reason}"),
        text: format!(
            "The directory \"{name}\" was read, and {reason}. That is more than lapsed believes without a \
             person's word, so nothing was changed and no token was flagged.\n\n{people}\
             Look at the directory. If it is right, let it through:\n\n    \
             lapsed directory release {name}\n\n\
             If it is wrong, mend it there, and the hold ends by itself with the next good reading; or refuse it, \
             and what else the directory says counts again:\n\n    lapsed directory reject {name}"
        ),
    }
}
