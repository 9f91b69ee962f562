//! `lapsed man`: the manual pages, generated from the help.

use std::{fs, io};

use anyhow::Context as _;
use clap_mangen::Man as Page;

use super::args::{Man, command};
use super::exit::{Exit, Result};
use super::output::Error;

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
    io::Write::write_all(&mut io::stdout().lock(), &pages).map_err(Error::from)?;
    Ok(Exit::Ok)
}

/// Writes the page of the command and the pages of its subcommands.
fn write_pages(command: clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_built_pages(&command, out)
}

fn write_built_pages(command: &clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    Page::new(command.clone()).render(out)?;
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
