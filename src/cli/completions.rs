//! `lapsed completions`: what a shell needs to complete our commands.

use std::io;

use super::{
    args::{Completions, command},
    exit::Exit,
    output::Error,
};

pub(super) fn completions(args: &Completions) -> anyhow::Result<Exit> {
    // Written to memory first: the generator panics when standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "lapsed", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script).map_err(Error::from)?;
    Ok(Exit::Ok)
}
