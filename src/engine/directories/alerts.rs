//! Alerts to the administrators about directories.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::SyncAlert;
use crate::engine::alert::Alert;

use super::HeldStatusChange;

/// Further people are only counted in the mail.
const MAX_NAMED_PEOPLE: usize = 20;

pub(super) fn sync_alert<'a>(name: &'a str, news: SyncAlert, error: Option<&str>) -> Alert<'a> {
    match news {
        SyncAlert::Failing { since } => Alert {
            subject: name,
            since,
            title: format!("The directory {name} cannot be read"),
            text: format!(
                "Since {} every attempt to read the directory {name} has failed:\n\n    {}\n\n\
                 Until it works again, lapsed does not notice who loses access there. The last known status counts for \
                 some time; meanwhile no token is flagged and no finding is closed.\n\n\
                 See what its credentials can do:\n\n    lapsed directory check {name}",
                since.format("%Y-%m-%d %H:%M UTC"),
                error.unwrap_or("no reason given"),
            ),
        },
        SyncAlert::Recovered { since } => Alert {
            subject: name,
            // A different occurrence than the failure.
            since: since + TimeDelta::microseconds(1),
            title: format!("The directory {name} can be read again"),
            text: format!(
                "The status of its people is known again. It had failed since {}.",
                since.format("%Y-%m-%d %H:%M UTC")
            ),
        },
    }
}

/// A directory with a held change.
pub(super) fn held_alert<'a>(
    name: &'a str,
    since: DateTime<Utc>,
    reason: &str,
    changes: &[HeldStatusChange],
) -> Alert<'a> {
    let mut people = String::new();
    for change in changes.iter().take(MAX_NAMED_PEOPLE) {
        let _ = write!(people, "\n    {}: {}", change.email, change.after);
    }
    if changes.len() > MAX_NAMED_PEOPLE {
        let more = changes.len() - MAX_NAMED_PEOPLE;
        let _ = write!(
            people,
            "\n    and {more} more: lapsed directory sync {name} --dry-run"
        );
    }
    let people = if people.is_empty() {
        people
    } else {
        format!("These people would lose access:\n{people}\n\n")
    };
    Alert {
        subject: name,
        since,
        title: format!("Directory {name} is held: {reason}"),
        text: format!(
            "The directory \"{name}\" was read, and {reason}. lapsed does not accept so large a change without your \
             decision, so nothing was changed and no token was flagged.\n\n{people}\
             Check the directory. If it is right, release the change:\n\n    \
             lapsed directory release {name}\n\n\
             If it is wrong, fix the directory, and the hold ends by itself with the next good sync; or reject the \
             change, so that the other data of the directory counts again:\n\n    lapsed directory reject {name}"
        ),
    }
}
