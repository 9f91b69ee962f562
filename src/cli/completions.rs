//! `lapsed completions`: prints the completion script for a shell.

use std::io;

use super::args::{Completions, command};
use super::exit::{Exit, Result};
use super::output::Error;

pub(super) fn completions(args: &Completions) -> Result<Exit> {
    // Via memory, because the generator panics if standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "lapsed", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script).map_err(Error::from)?;
    Ok(Exit::Ok)
}
