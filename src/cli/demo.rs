//! `lapsed demo`: one sweep over sample data in a new folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::args::Demo;
use super::exit::{Exit, Failure, Result};
use super::report::{exit_code, summary_lines};
use super::setup::{self, Mode};
use crate::config::Config;
use crate::engine::SweepOptions;
use crate::files::{PRIVATE, create_private_folder, replace};
use crate::time::shift;

const CONFIG: &str = include_str!("demo/lapsed.toml");
const PEOPLE: &str = include_str!("demo/people.csv");
const TOKENS: &str = include_str!("demo/tokens.csv");

pub(super) async fn demo(context: &Context, args: Demo) -> Result<Exit> {
    let folder = create_folder(&args.dir)?;
    let now = context.clock.now();
    for (name, text) in [
        ("lapsed.toml", CONFIG),
        ("people.csv", PEOPLE),
        ("tokens.csv", TOKENS),
    ] {
        let file = folder.join(name);
        replace(&file, fill_in_dates(text, now).as_bytes(), PRIVATE)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let config_file = folder.join("lapsed.toml");
    // The demo ignores environment variables.
    let config = Config::load(Some(&config_file), &HashMap::new()).map_err(Failure::failed)?;
    let mailer = setup::build_mailer(&config)?;
    let report = setup::with_store(&config, Mode::Normal, async |store| {
        let engine = setup::build_engine(context, &config, store.clone(), mailer)?;
        Ok(engine
            .sweep(&SweepOptions::default(), &CancellationToken::new())
            .await)
    })
    .await?;
    anstream::println!("One sweep over {}:\n", folder.display());
    for line in summary_lines(&report).lines() {
        anstream::println!("    {line}");
    }
    let mails = list_mails(&config.mail.directory)?;
    anstream::println!(
        "\nThe sweep wrote these mails to {}:\n",
        config.mail.directory.display()
    );
    for (to, subject) in mails {
        anstream::println!("    to {to}\n       {subject}");
    }
    let config = config_file.display();
    anstream::println!(
        "\nTry next:\n\n    lapsed --config {config} token list\n    lapsed --config {config} finding list\n    \
         lapsed --config {config} explain exports/ci-deploy\n\nThe configuration explains itself in comments: {config}"
    );
    Ok(exit_code(&report))
}

/// Creates the folder, which must be new or empty.
fn create_folder(folder: &Path) -> Result<PathBuf> {
    create_private_folder(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if fs::read_dir(folder)?.next().is_some() {
        let error = anyhow::anyhow!("{} is not empty", folder.display());
        return Err(Failure::failed(error)
            .hint("name another folder: lapsed demo DIR")
            .into());
    }
    Ok(fs::canonicalize(folder)?)
}

/// Replaces `{+7d}` and `{-90d}` by the instant that far from now.
fn fill_in_dates(text: &str, now: DateTime<Utc>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut remaining = text;
    while let Some(start) = remaining.find(['{']) {
        let (before, from) = remaining.split_at(start);
        out.push_str(before);
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        let (mark, after) = from.split_at(end);
        match parse_offset(mark) {
            Some(offset) => {
                out.push_str(&shift(now, offset).format("%Y-%m-%dT%H:%M:%SZ").to_string());
            }
            None => out.push_str(mark),
        }
        remaining = after;
    }
    out.push_str(remaining);
    out
}

fn parse_offset(mark: &str) -> Option<TimeDelta> {
    let inner = mark.strip_prefix('{')?.strip_suffix('}')?;
    let (sign, span) = inner.split_at_checked(1)?;
    let span = TimeDelta::from_std(humantime::parse_duration(span).ok()?).ok()?;
    match sign {
        "+" => Some(span),
        "-" => Some(-span),
        _ => None,
    }
}

/// The recipient and subject of each mail in the folder.
fn list_mails(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    files
        .iter()
        .map(|file| Ok(recipient_and_subject(&fs::read(file)?)))
        .collect()
}

fn recipient_and_subject(message: &[u8]) -> (String, String) {
    let message = mail_parser::MessageParser::default()
        .parse(message)
        .unwrap_or_default();
    let to = message
        .to()
        .and_then(|to| to.first())
        .and_then(|to| to.address());
    (
        to.unwrap_or_default().to_owned(),
        message.subject().unwrap_or_default().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_marks_are_replaced_and_other_braces_stay() {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(
            fill_in_dates("a,{+7d},{ file = \"x\" },{-1h}", now),
            "a,2026-11-28T10:00:00Z,{ file = \"x\" },2026-11-21T09:00:00Z"
        );
    }
}
