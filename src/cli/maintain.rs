//! `lapsed migrate`, `backup`, `completions` and `man`.

use std::path::Path;
use std::{fs, io};

use anyhow::Context as _;
use secrecy::ExposeSecret;

use super::Context;
use super::args::{Backup, Completions, Man, command};
use super::exit::{Error, Exit, Failure, Result};
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
        Versions { before: 0, now } => format!("created the store with schema version {now}"),
        Versions { before, now } if before == now => {
            format!("the store is up to date: schema version {now}")
        }
        Versions { before, now } => {
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
    // Via memory, because the generator panics if standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "lapsed", &mut script);
    print_bytes(&script)
}

/// Prints or writes the manual pages, which are generated from the help.
pub(super) fn man(args: &Man) -> Result<Exit> {
    // A manual page must not have the colors of the terminal.
    let command = command().styles(clap::builder::Styles::plain());
    if let Some(dir) = &args.out {
        let failed = || format!("cannot write the manual to {}", dir.display());
        fs::create_dir_all(dir).with_context(failed)?;
        clap_mangen::generate_to(command, dir).with_context(failed)?;
        return Ok(Exit::Ok);
    }
    let mut pages = Vec::new();
    write_pages(command, &mut pages).context("cannot make the manual")?;
    print_bytes(&pages)
}

fn print_bytes(bytes: &[u8]) -> Result<Exit> {
    io::Write::write_all(&mut io::stdout().lock(), bytes).map_err(output::Error::from)?;
    Ok(Exit::Ok)
}

/// Writes the page of the command and the pages of its subcommands.
fn write_pages(command: clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_built_pages(&command, out)
}

fn write_built_pages(command: &clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    command
        .get_subcommands()
        .try_for_each(|sub| write_built_pages(sub, out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_a_page_for_every_command() {
        let mut pages = Vec::new();
        write_pages(command(), &mut pages).unwrap();
        let pages = String::from_utf8(pages).unwrap();
        for name in [
            "lapsed",
            "lapsed-sweep",
            "lapsed-token-list",
            "lapsed-send-test",
        ] {
            assert!(pages.contains(&format!(".TH {name} 1")), "{name}");
        }
        assert!(!pages.contains('\u{1b}'));
    }
}
