//! `lapsed backup`: a copy of the store.

use std::path::Path;

use super::{
    Context,
    args::Backup,
    exit::{Exit, Failure},
    output::say,
    setup::{self, store_failure},
};
use crate::store::{self, Access, Store};

pub(super) async fn backup(context: &Context, args: Backup) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    if !config.store.is_sqlite() {
        return Err(failure(store::Error::NotEmbedded).into());
    }
    // As it is: a copy is made before an upgrade, not after.
    let store = setup::store_with(&config, Access::AsIs).await?;
    say(&copy(&store, &args.file).await?)?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Copies the store while others use it.
pub(super) async fn copy(store: &Store, file: &Path) -> anyhow::Result<String> {
    store.backup(file).await.map_err(failure)?;
    Ok(format!("copied the store to {}", file.display()))
}

fn failure(error: store::Error) -> Failure {
    match &error {
        store::Error::NotEmbedded => Failure::failed(error)
            .hint("pg_dump --format=custom --file=lapsed.dump, with the URL of [store] url"),
        store::Error::Copy { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Failure::failed(error)
                .hint("name a file that does not exist yet; a copy never overwrites")
        }
        store::Error::Copy { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::failed(error).hint("make the folder first")
        }
        store::Error::Copy { .. } => Failure::failed(error),
        _ => store_failure(error),
    }
}
