//! `lapsed backup`: copies the store.

use std::path::Path;

use super::Context;
use super::args::Backup;
use super::exit::{Exit, Failure};
use super::output::print_line;
use super::setup::{self, store_failure};
use crate::store::{self, Access, Store};

pub(super) async fn backup(context: &Context, args: Backup) -> anyhow::Result<Exit> {
    let config = setup::load_config(context)?;
    if !config.store.is_sqlite() {
        return Err(backup_failure(store::Error::NotEmbedded).into());
    }
    // Without migrating it: the backup before an upgrade must be of the old version.
    let store = setup::open_store_with(&config, Access::AsIs).await?;
    print_line(&copy_store(&store, &args.file).await?)?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Copies the store, also while it is in use, and returns the message to print.
pub(super) async fn copy_store(store: &Store, file: &Path) -> anyhow::Result<String> {
    store.backup(file).await.map_err(backup_failure)?;
    Ok(format!("copied the store to {}", file.display()))
}

fn backup_failure(error: store::Error) -> Failure {
    match &error {
        store::Error::NotEmbedded => Failure::failed(error)
            .hint("pg_dump --format=custom --file=lapsed.dump, with the URL of [store] url"),
        store::Error::Copy { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Failure::failed(error).hint("name a new file; a backup never overwrites a file")
        }
        store::Error::Copy { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::failed(error).hint("create the folder first")
        }
        store::Error::Copy { .. } => Failure::failed(error),
        _ => store_failure(error),
    }
}
