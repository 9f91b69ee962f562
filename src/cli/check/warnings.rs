//! What the store says that a person should see.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::causes::Causes;
use crate::cli::output::when::format_when;
use crate::cli::setup;
use crate::config::Config;
use crate::domain::{Cover, account_key};
use crate::nearest::nearest;
use crate::service;
use crate::store::{self, DirectoryRow, Store, Tx};

/// That no token is verified, because the store was restored.
pub(super) async fn restore_warning(store: &Store, config: &Config) -> Option<String> {
    let mark = config.service.as_ref().and(setup::find_mark(store))?;
    match mark.is_in(store).await {
        Ok(true) => None,
        Ok(false) => Some(service::Error::Closed.to_string()),
        Err(error) => Some(format!("{}; let this user read it", Causes(&error))),
    }
}

pub(super) async fn delivery_warning(
    tx: &mut Tx,
    config: &Config,
    now: DateTime<Utc>,
) -> store::Result<Option<String>> {
    // Where a timer sweeps, a mail waits for the next sweep.
    if tx.list_replicas().await?.is_empty() {
        return Ok(None);
    }
    let due_at = tx.find_oldest_due_mail().await?;
    let due_at = due_at.filter(|at| now - *at > config.settings.max_delivery_delay(now));
    Ok(due_at.map(|due_at| {
        let since = format_when(due_at, now, config.policy.zone);
        format!("mails are due since {since}; see whether `lapsed run` is running, and its log")
    }))
}

/// A warning for each configured account that no token has; none before there are tokens.
pub(super) async fn account_warnings(tx: &mut Tx, config: &Config) -> store::Result<Vec<String>> {
    let configured = &config.policy.accounts;
    if configured.is_empty() {
        return Ok(Vec::new());
    }
    let found = tx.list_accounts().await?;
    let is_empty = found.is_empty();
    let found: BTreeMap<_, _> = found
        .into_iter()
        .flatten()
        .map(|name| (account_key(&name), name))
        .collect();
    let unmatched = configured
        .iter()
        .filter(|(key, _)| !is_empty && !found.contains_key(*key));
    Ok(unmatched
        .map(|(_, account)| {
            let name = &account.name;
            let near = match nearest(name, found.values().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write it as its tokens name it, or remove it".to_owned(),
            };
            format!(
                "no token has the account `{name}`, so its admins and steps apply to none; {near}"
            )
        })
        .collect())
}

pub(super) fn directory_warnings(
    row: &DirectoryRow,
    is_stale: bool,
    now: DateTime<Utc>,
    zone: Tz,
) -> Vec<String> {
    let name = &row.name;
    let held = row.held.as_ref().map(|held| {
        format!(
            "held: {held}; `lapsed directory sync {name} --dry-run` lists the people, `lapsed directory \
             release {name}` or `reject {name}` decides"
        )
    });
    let error = row.sync_state.error.as_ref().map(|error| {
        let since = match row.sync_state.failing_since {
            Some(at) => format!(", failing since {}", format_when(at, now, zone)),
            None => String::new(),
        };
        format!("last sync: {error}{since}")
    });
    let stale = match row.sync_state.last_good_sync_at {
        Some(at) if is_stale => Some(format!(
            "its data is stale: the last good sync was {}; its people are unknown",
            format_when(at, now, zone)
        )),
        _ => None,
    };
    held.into_iter().chain(error).chain(stale).collect()
}

pub(super) fn coverage_warning(covers: &[(String, Cover)]) -> Option<String> {
    let unknown = covers
        .iter()
        .filter(|(_, cover)| cover.is_unknown())
        .count();
    (unknown > 0).then(|| {
        format!(
            "the access of {unknown} of {} issuers of tokens is unknown; `lapsed identity coverage` shows why, and \
             [issuers] modes excludes accounts that are not people",
            covers.len()
        )
    })
}
