//! `lapsed directory`: directories, listed and released.

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Utc};

use super::{
    Context, actor,
    args::{DirectoryCommand, Listing},
    exit::{Exit, Failure},
    output::{Printer, rows::DirectoryRow, say, when::Instant},
    setup::{self, store_failure},
};
use crate::config::Config;
use crate::store::{self, HoldVerdict, Store};

pub(super) async fn directory(context: &Context, args: DirectoryCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let now = context.clock.now();
    match args {
        DirectoryCommand::List(listing) => {
            let mut printer = Printer::stdout(listing.format, now);
            list(&store, &configured(&config), listing, &mut printer).await?;
            printer.finish()?;
        }
        DirectoryCommand::Release { name } => say(&release(&store, &name, now).await?)?,
    }
    store.close().await;
    Ok(Exit::Ok)
}

/// Names and kinds of the directories in the configuration.
fn configured(config: &Config) -> BTreeMap<String, &'static str> {
    let named = config
        .directories
        .iter()
        .map(|directory| (directory.name.clone(), directory.kind.as_str()));
    named.collect()
}

/// Lists the directories that are configured, whether they were ever read or not, and those that
/// were read once and are configured no longer.
pub(super) async fn list(
    store: &Store,
    configured: &BTreeMap<String, &'static str>,
    listing: Listing,
    printer: &mut Printer<DirectoryRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let read = tx.directories().await.map_err(store_failure)?;
    drop(tx);
    let mut rows: BTreeMap<String, DirectoryRow> = configured
        .iter()
        .map(|(name, kind)| (name.clone(), unread(name, kind)))
        .collect();
    for row in read {
        let is_configured = configured.contains_key(&row.name);
        rows.insert(row.name.clone(), shown(row, is_configured));
    }
    let limit = listing
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    for row in rows.values().take(limit) {
        printer.row(row)?;
    }
    Ok(())
}

fn unread(name: &str, kind: &str) -> DirectoryRow {
    DirectoryRow {
        name: name.to_owned(),
        kind: kind.to_owned(),
        people: 0,
        observed_at: None,
        held: None,
        error: None,
    }
}

fn shown(row: store::DirectoryRow, is_configured: bool) -> DirectoryRow {
    let held = match (row.held, row.verdict.as_deref()) {
        (Some(held), Some("released")) => {
            Some(format!("{held}; released, the next sweep lets it through"))
        }
        (Some(held), Some(_)) => Some(format!("{held}; rejected, the next sweep refuses it")),
        (held, _) => held,
    };
    let gone = (!is_configured).then(|| "it is no longer in the configuration".to_owned());
    DirectoryRow {
        name: row.name,
        kind: row.kind,
        people: u64::try_from(row.people).unwrap_or_default(),
        observed_at: row.standing.last_good_sync_at.map(Instant),
        held,
        error: row.standing.error.or(gone),
    }
}

/// Lets through what the directory holds, and tells what comes of it.
pub(super) async fn release(
    store: &Store,
    name: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let mut tx = store.begin().await.map_err(store_failure)?;
    let Some(row) = tx.directory(name).await.map_err(store_failure)? else {
        let error = anyhow::anyhow!("no directory named {name:?} was ever read");
        return Err(Failure::failed(error)
            .hint("`lapsed directory list` shows their names")
            .into());
    };
    let Some(held) = row.held else {
        return Ok(format!(
            "directory {name} holds nothing; nothing was changed"
        ));
    };
    if row.verdict.as_deref() == Some("released") {
        return Ok(format!(
            "directory {name} was released before; the next sweep lets it through: {held}"
        ));
    }
    tx.settle_directory(name, HoldVerdict::Released)
        .await
        .map_err(store_failure)?;
    actor::audit(&mut tx, now, ("directory.release", name), Some(&held)).await?;
    tx.commit().await.map_err(store_failure)?;
    Ok(format!(
        "directory {name} is released: {held}\nThe next sweep takes its listing in if it is still the same, and \
         flags the tokens of those who lost access. Another listing is held again."
    ))
}
