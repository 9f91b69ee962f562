//! `lapsed backup`: copies the store.

use std::path::Path;

use super::Context;
use super::args::Backup;
use super::exit::{Error, Exit, Failure, Result};
use super::output::print_line;
use super::setup::{self, Mode};
use crate::store::{self, Store};

pub(super) async fn backup(context: &Context, args: Backup) -> Result<Exit> {
    let config = setup::load_config(context)?;
    if !config.store.is_sqlite() {
        return Err(backup_failure(store::Error::NotEmbedded));
    }
    // Without migrating it: the backup before an upgrade must be of the old version.
    let copied = setup::with_store(&config, Mode::AsIs, async |store| {
        copy_store(store, &args.file).await
    });
    print_line(&copied.await?)?;
    Ok(Exit::Ok)
}

/// Copies the store, also while it is in use, and returns the message to print.
pub(super) async fn copy_store(store: &Store, file: &Path) -> Result<String> {
    store.backup(file).await.map_err(backup_failure)?;
    Ok(format!("copied the store to {}", file.display()))
}

fn backup_failure(error: store::Error) -> Error {
    let hint = match &error {
        store::Error::NotEmbedded => {
            "pg_dump --format=custom --file=lapsed.dump, with the URL of [store] url"
        }
        store::Error::Copy { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            "name a new file; a backup never overwrites a file"
        }
        store::Error::Copy { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "create the folder first"
        }
        _ => return error.into(),
    };
    Failure::failed(error).hint(hint).into()
}
