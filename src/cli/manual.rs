//! `lapsed man`: manual pages, made from the help and from the example configuration.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{Man, command};
use super::config::EXAMPLE;
use super::exit::{Exit, Result};
use super::output;
use crate::files::{READABLE, replace};

/// Name and text; what follows the first blank line of a text is a new paragraph.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

const FILES: Section = (
    "FILES",
    &[
        (
            "./lapsed.toml, /etc/lapsed/lapsed.toml",
            "The configuration, if neither --config nor LAPSED_CONFIG names another; see lapsed.toml(5).",
        ),
        (
            "/var/lib/lapsed/lapsed.db",
            "The store, unless [store] url names another.",
        ),
    ],
);

const ENVIRONMENT: Section = (
    "ENVIRONMENT",
    &[
        ("LAPSED_CONFIG", "The configuration file."),
        (
            "LAPSED__SECTION__KEY",
            "Overrides the key of the configuration file: LAPSED__SMTP__URL is url in [smtp].",
        ),
        (
            "CREDENTIALS_DIRECTORY",
            "The folder of the credentials that the configuration names; systemd sets it.",
        ),
        ("RUST_LOG", "Overrides [log] level: lapsed=debug."),
        ("NO_COLOR", "If it is set, the output has no colors."),
    ],
);

const EXIT_STATUS: Section = (
    "EXIT STATUS",
    &[
        ("0", "Done. Single mails may be deferred."),
        ("1", "Something failed for good, or is held."),
        ("2", "The command line is invalid."),
        (
            "75",
            "Nothing could be done now: the store or the mail server is unreachable, or another sweep is at work. Try \
             again later.",
        ),
        (
            "78",
            "A person must change something: the configuration is invalid, or the store is missing, newer than the \
             program, or not permitted to this user.",
        ),
    ],
);

/// A manual page: its name with its section, and its text.
struct Page {
    file: String,
    text: Vec<u8>,
}

pub(super) fn man(args: &Man) -> Result<Exit> {
    let pages = pages().context("cannot make the manual")?;
    let Some(dir) = &args.out else {
        for page in &pages {
            io::Write::write_all(&mut io::stdout().lock(), &page.text)
                .map_err(output::Error::from)?;
        }
        return Ok(Exit::Ok);
    };
    for page in &pages {
        let folder = folder_of(page, dir);
        let write = || {
            fs::create_dir_all(&folder)?;
            replace(&folder.join(&page.file), &page.text, READABLE)
        };
        write().with_context(|| format!("cannot write the manual to {}", folder.display()))?;
    }
    Ok(Exit::Ok)
}

/// `man` finds a page of section 5 in a folder `man5` only.
fn folder_of(page: &Page, dir: &Path) -> PathBuf {
    if page.file.ends_with(".5") && dir.ends_with("man1") {
        dir.with_file_name("man5")
    } else {
        dir.to_owned()
    }
}

fn pages() -> io::Result<Vec<Page>> {
    // A manual page must not have the colors of the terminal.
    let mut command = command()
        .styles(clap::builder::Styles::plain())
        .disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_command_pages(&command, &mut pages)?;
    pages.push(config_page()?);
    Ok(pages)
}

/// Adds the page of the command and the pages of its subcommands.
fn add_command_pages(command: &clap::Command, pages: &mut Vec<Page>) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    add_help_sections(&mut roff, command);
    for (title, entries) in [FILES, ENVIRONMENT, EXIT_STATUS] {
        roff.control("SH", [title]);
        for (name, meaning) in entries {
            roff.control("TP", []);
            roff.text([bold(*name)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("lapsed(1), lapsed.toml(5)")]);
    roff.to_writer(&mut text)?;
    pages.push(Page {
        file: page.get_filename(),
        text,
    });
    command
        .get_subcommands()
        .try_for_each(|sub| add_command_pages(sub, pages))
}

/// The examples of a help text, and what follows them.
fn add_help_sections(roff: &mut Roff, command: &clap::Command) {
    let help = command.get_after_help();
    let help = help.map(ToString::to_string).unwrap_or_default();
    let Some(help) = help.strip_prefix("Examples:\n") else {
        return;
    };
    let is_example = |line: &&str| line.is_empty() || line.starts_with(' ');
    let examples: Vec<&str> = help.lines().take_while(is_example).collect();
    let notes = help.lines().skip(examples.len());
    roff.control("SH", ["EXAMPLES"]);
    add_literal(roff, examples.iter().map(|line| line.trim()));
    let notes: Vec<&str> = notes.collect();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        roff.text([roman(notes.join("\n"))]);
    }
}

/// Adds lines that keep their breaks.
fn add_literal<'a>(roff: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    let lines: Vec<&str> = lines.collect();
    roff.control("nf", []);
    roff.text([roman(lines.join("\n").trim_end())]);
    roff.control("fi", []);
}

fn config_page() -> io::Result<Page> {
    let mut roff = Roff::new();
    let source = concat!("lapsed ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["lapsed.toml", "5", "", source, ""]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("lapsed.toml - the configuration of lapsed")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "A TOML file. Below is the example, which `lapsed config example` prints: every section and key, its default \
         and its meaning.",
    )]);
    roff.control("SH", ["CONFIGURATION"]);
    add_literal(&mut roff, EXAMPLE.lines());
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("lapsed(1), lapsed-check(1)")]);
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    Ok(Page {
        file: "lapsed.toml.5".to_owned(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(file: &str) -> String {
        let pages = pages().unwrap();
        let page = pages.into_iter().find(|page| page.file == file);
        String::from_utf8(page.expect(file).text).unwrap()
    }

    #[test]
    fn every_command_has_a_page_with_examples_and_exit_status() {
        let pages = pages().unwrap();
        assert!(pages.len() > 40);
        for page in pages.iter().filter(|page| page.file.ends_with(".1")) {
            let text = String::from_utf8(page.text.clone()).unwrap();
            for title in [
                "EXAMPLES",
                "FILES",
                "ENVIRONMENT",
                "\"EXIT STATUS\"",
                "\"SEE ALSO\"",
            ] {
                assert!(
                    text.contains(&format!(".SH {title}\n")),
                    "{title} is not in {}",
                    page.file
                );
            }
            assert!(!text.contains('\u{1b}'));
        }
        assert!(text_of("lapsed-token-list.1").starts_with(".ie"));
    }

    #[test]
    fn the_configuration_has_a_page_with_every_line_of_the_example() {
        let text = text_of("lapsed.toml.5");
        assert!(text.contains("max_per_sweep = 1000"));
    }

    #[test]
    fn a_page_of_section_5_goes_where_man_finds_it() {
        let page = config_page().unwrap();
        let folder = folder_of(&page, Path::new("/usr/share/man/man1"));
        assert_eq!(folder, Path::new("/usr/share/man/man5"));
        assert_eq!(folder_of(&page, Path::new("pages")), Path::new("pages"));
    }
}
