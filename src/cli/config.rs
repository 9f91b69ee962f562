//! `lapsed config`: the example configuration and the built-in mail templates, for machines that have only the
//! program.

use std::io::Write as _;

use anyhow::Context as _;

use super::args::{ConfigCommand, ConfigTemplates};
use super::exit::{Exit, Result};
use super::output::{self, print_line};
use crate::language;
use crate::notify::template::BUILT_IN;

pub(super) const EXAMPLE: &str = include_str!("../../lapsed.example.toml");

pub(super) fn config(command: &ConfigCommand) -> Result<Exit> {
    match command {
        ConfigCommand::Example => {
            let written = std::io::stdout().write_all(EXAMPLE.as_bytes());
            written.map_err(output::Error::from)?;
        }
        ConfigCommand::Templates(args) => write_templates(args)?,
    }
    Ok(Exit::Ok)
}

fn write_templates(args: &ConfigTemplates) -> Result<()> {
    let languages = language::BUILT_IN.iter().flat_map(|(_, files)| *files);
    let files = || BUILT_IN.iter().chain(languages.clone());
    for (name, text) in files() {
        let path = args.out.join(name);
        let failed = || format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        let mut file = std::fs::File::create_new(&path).with_context(failed)?;
        file.write_all(text.as_bytes()).with_context(failed)?;
    }
    let (count, out) = (files().count(), args.out.display());
    print_line(&format!("wrote {count} files to {out}"))?;
    Ok(())
}
