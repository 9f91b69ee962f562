//! `lapsed migrate`: the store, created or brought up to date.

use secrecy::ExposeSecret;

use super::{
    Context,
    exit::Exit,
    output::say,
    setup::{self, store_failure},
};
use crate::store::{Access, Store, Versions};

pub(super) async fn migrate(context: &Context) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    say(&bring_up_to_date(config.store.url.expose_secret()).await?)?;
    Ok(Exit::Ok)
}

/// Makes the store, even where `[store] create` forbids it to other commands, or brings it up to
/// this version; tells which.
pub(super) async fn bring_up_to_date(url: &str) -> anyhow::Result<String> {
    let (store, versions) = Store::open_versioned(url, Access::Create)
        .await
        .map_err(store_failure)?;
    store.close().await;
    Ok(match versions {
        Versions { before: 0, now } => format!("created the store with schema version {now}"),
        Versions { before, now } if before == now => {
            format!("the store is up to date: schema version {now}")
        }
        Versions { before, now } => {
            format!("migrated the store from schema version {before} to {now}")
        }
    })
}
