//! `lapsed migrate`: creates or migrates the store.

use secrecy::ExposeSecret;

use super::Context;
use super::exit::{Exit, Result};
use super::output::print_line;
use super::setup;
use crate::store::{Access, Store, Versions};

pub(super) async fn migrate(context: &Context) -> Result<Exit> {
    let config = setup::load_config(context)?;
    print_line(&create_or_migrate(config.store.url.expose_secret()).await?)?;
    Ok(Exit::Ok)
}

/// Creates the store, even if `[store] create` is false, or migrates it to this version.
/// Returns the message to print.
pub(super) async fn create_or_migrate(url: &str) -> Result<String> {
    let (store, versions) = Store::open_versioned(url, Access::Create).await?;
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
