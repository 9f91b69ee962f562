//! `lapsed migrate`, `backup` and `completions`.

use std::io::Write as _;
use std::path::Path;

use secrecy::ExposeSecret;

use super::Context;
use super::args::{Backup, Completions, MoveStore};
use super::complete;
use super::exit::{Error, Exit, Failure, Result, store_advice};
use super::import::Progress;
use super::output::{self, print_line};
use super::setup::{self, Mode};
use crate::store::{self, Access, Store, Versions};

pub(super) async fn migrate(context: &Context) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    print_line(&create_or_migrate(config.store.url.expose_secret()).await?)?;
    Ok(Exit::Ok)
}

/// Creates the store, even if `[store] create` is false, or migrates it to this version.
/// Returns the message to print.
pub(super) async fn create_or_migrate(url: &str) -> Result<String> {
    let (store, versions) = Store::open_versioned(url, Access::Create).await?;
    store.close().await;
    Ok(match versions {
        Versions { before: 0, now, .. } => format!("created the store with schema version {now}"),
        Versions { now, known, .. } if versions.is_newer() => format!(
            "nothing to do: the store has schema version {now} of a newer lapsed, which this one, with version {known}, \
             may still use"
        ),
        Versions { before, now, .. } if before == now => {
            format!("the store is up to date: schema version {now}")
        }
        Versions { before, now, .. } => {
            format!("migrated the store from schema version {before} to {now}")
        }
    })
}

pub(super) async fn backup(context: &Context, args: Backup) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    if !config.store.is_sqlite() {
        return Err(backup_failure(store::Error::NotEmbedded));
    }
    // The store is not migrated: the backup before an upgrade must be of the old version.
    let message = setup::with_store(&config, Mode::AsIs, async |store| {
        copy_store(store, &args.file).await
    })
    .await?;
    print_line(&message)?;
    Ok(Exit::Ok)
}

/// Copies the store, also while it is in use, and returns the message to print.
pub(super) async fn copy_store(store: &Store, file: &Path) -> Result<String> {
    store.backup(file).await.map_err(backup_failure)?;
    Ok(format!("copied the store to {}", file.display()))
}

/// Copies the store to another database, and lets no command use it from then on.
pub(super) async fn move_store(context: &Context, args: MoveStore) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    let url = args.to.expose_secret();
    let stop = context.stop.graceful(config.stop_timeout);
    let (rows, place) = setup::with_idle_engine(context, &config, Mode::Move, async |engine| {
        let to = Store::open(url, Access::Create)
            .await
            .map_err(target_failure)?;
        if to.place() == engine.store.place() {
            let error = anyhow::anyhow!("--to names the store itself");
            return Err(Failure::usage(error).into());
        }
        let (mut rows, progress) = (0, Progress::rows(None));
        let mut on_rows = |count| {
            rows += count;
            progress.advance(count);
        };
        let moved = engine.move_store(&to, &mut on_rows, stop).await;
        to.close().await;
        match moved? {
            Some(()) => Ok((rows, to.place())),
            None => Err(Failure::unreachable(anyhow::anyhow!("a sweep is running"))
                .hint("try again when it is done, or stop lapsed")
                .into()),
        }
    })
    .await?;
    print_line(&format!(
        "moved the store to {place}: {rows} rows, each compared; now set [store] url to it, and start lapsed"
    ))?;
    Ok(Exit::Ok)
}

/// The advice of such an error is about `[store] url`.
fn target_failure(error: store::Error) -> Error {
    let (exit, advice) = store_advice(&error);
    let advice = advice.unwrap_or_default().replace("[store] url", "--to");
    Failure::with_exit(exit, error).hint(advice).into()
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

pub(super) fn completions(args: &Completions) -> Result<Exit> {
    let script = complete::script(args.shell)?;
    std::io::stdout()
        .write_all(&script)
        .map_err(output::Error::from)?;
    Ok(Exit::Ok)
}
