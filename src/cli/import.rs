//! `lapsed import`: tokens from a file into the built-in store.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::args::{Import, Input};
use super::exit::{Exit, Failure};
use super::progress::Progress;
use super::{Context, setup};
use crate::engine::{self, ImportCounts, Mode};
use crate::sources::tokens::{self, Watch};
use crate::sources::{Listing, Refusal};
use crate::store;

pub(super) async fn import(context: &Context, args: Import) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    check_source(&config, &args.source)?;
    if config
        .sources
        .iter()
        .any(|source| source.name == args.source)
    {
        anstream::eprintln!(
            "warning: {} is a [[source]]: what it does not list itself is marked gone at the next sweep",
            args.source
        );
    }
    let (file, rejects) = (args.file.clone(), args.rejects.clone());
    // Reading comes first: a file that makes no sense must not leave a store behind.
    let listing = tokio::task::spawn_blocking(move || read(&file, rejects)).await??;
    let mode = if args.dry_run {
        Mode::DryRun
    } else {
        Mode::Write
    };
    let (store, scratch) = match mode {
        Mode::Write => (setup::store(&config).await?, None),
        Mode::DryRun => setup::store_to_look_at(&config).await?,
    };
    let refusals = listing.refusals.clone();
    let bar = Arc::new(Progress::rows(Some(listing.count)));
    let shown = Arc::clone(&bar);
    let (policy, clock) = (setup::policy(&config), &context.clock);
    let into = engine::Into {
        store: &store,
        policy: &policy,
        clock,
        source: &args.source,
        mode,
    };
    let mut done = 0;
    let counts = engine::import(into, listing, move |rows| {
        shown.advance(rows - done);
        done = rows;
    })
    .await
    .map_err(setup::engine_failure)?;
    drop(bar);
    store.close().await;
    drop(scratch);
    for refusal in &refusals.shown {
        anstream::eprintln!(
            "refused: {}",
            super::output::text::clean_lines(&refusal.to_string())
        );
    }
    let unseen = refusals.count - refusals.shown.len() as u64;
    if unseen > 0 {
        anstream::eprintln!(
            "refused: {unseen} more rows; `--rejects FILE` writes all of them down"
        );
    }
    anstream::println!("{}", sentence(counts, mode));
    Ok(if counts.refused > 0 {
        Exit::Failed
    } else {
        Exit::Ok
    })
}

/// Only the built-in source and configured ones have a name; another is most likely a slip.
fn check_source(config: &crate::config::Config, name: &str) -> anyhow::Result<()> {
    let is_known = name == engine::LOCAL || config.sources.iter().any(|source| source.name == name);
    let is_name = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if is_known || is_name {
        return Ok(());
    }
    let error = anyhow::anyhow!("{name:?} cannot be the name of a source");
    Err(Failure::usage(error)
        .hint("use lower-case letters, digits, - and _")
        .into())
}

/// Reads the whole file, with a bar over its bytes.
fn read(file: &Input, rejects: Option<PathBuf>) -> anyhow::Result<Listing> {
    let (input, size) = match file {
        Input::Stdin => (tokens::Input::Stdin, None),
        Input::File(path) => {
            let size = std::fs::metadata(path).ok().map(|meta| meta.len());
            (tokens::Input::Path(path.clone()), size)
        }
    };
    let mut rejected = rejects.map(|path| Rejects::create(&path)).transpose()?;
    let bar = Progress::bytes(size);
    let mut last = 0;
    let mut progress = |at: tokens::Progress| {
        bar.advance(at.bytes - last);
        last = at.bytes;
        bar.rows_so_far(at.rows);
    };
    let mut failure = None;
    let mut refused = |refusal: &Refusal| {
        if let Some(rejects) = &mut rejected
            && let Err(error) = rejects.write(refusal)
        {
            failure.get_or_insert(error);
        }
    };
    let mut watch = Watch {
        progress: Some(&mut progress),
        refused: Some(&mut refused),
    };
    let listing = tokens::read(&[input], &mut watch).map_err(Failure::failed)?;
    if let Some(error) = failure {
        return Err(error).context("cannot write the file of refused rows");
    }
    if let Some(rejects) = rejected {
        rejects
            .finish()
            .context("cannot write the file of refused rows")?;
    }
    Ok(listing)
}

/// The file that every refused row is written down in.
struct Rejects(csv::Writer<File>);

impl Rejects {
    fn create(path: &std::path::Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(["file", "line", "reason"])?;
        Ok(Self(writer))
    }

    fn write(&mut self, refusal: &Refusal) -> Result<(), csv::Error> {
        self.0
            .write_record([&refusal.file, &refusal.line.to_string(), &refusal.reason])
    }

    fn finish(mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn sentence(counts: ImportCounts, mode: Mode) -> String {
    let ImportCounts {
        new,
        changed,
        unchanged,
        refused,
    } = counts;
    let would = if mode == Mode::DryRun {
        "would take in: "
    } else {
        ""
    };
    format!("{would}{new} new, {changed} changed, {unchanged} unchanged, {refused} refused")
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        setup::store_failure(error)
    }
}
