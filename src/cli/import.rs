//! `lapsed import`: imports tokens from a file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::NamedTempFile;

use super::Context;
use super::args::{Import, Input, Reading};
use super::exit::{Error, Exit, Failure, Result};
use super::setup::{self, Mode};
use crate::config::Config;
use crate::domain::{LOCAL_SOURCE, Name};
use crate::engine::{self, ImportCounts, ImportMode};
use crate::files::create_private;
use crate::sources::cells::CellRules;
use crate::sources::file::{self as token_file, ReadCallbacks, ReadOptions, Span, UnreadableCell};
use crate::sources::rows::options::{Extra, parse_items};
use crate::sources::{Listing, RefusedRow, RefusedRows};
use crate::store;
use crate::text;
use crate::time::DateRules;

pub(super) async fn import(context: &Context, args: Import) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    check_source_name(&args.source)?;
    warn_if_configured(&config, &args.source);
    let (file, rejects) = (args.file.clone(), args.rejects.clone());
    let options = read_options(&args.reading)?;
    let reserved = load_reserved_ids(&config, &args.source).await?;
    // Read the file first: a bad file must not leave a new store behind.
    let listing =
        tokio::task::spawn_blocking(move || read_file(&file, &options, rejects, &reserved))
            .await
            .map_err(anyhow::Error::from)??;
    let unreadable: u64 = listing
        .columns
        .by_name
        .values()
        .map(|count| count.unreadable)
        .sum();
    let mode = if args.dry_run {
        ImportMode::DryRun
    } else {
        ImportMode::Write
    };
    let refused = listing.refusals.clone();
    let bar = Arc::new(Progress::rows(Some(listing.count)));
    let import_bar = Arc::clone(&bar);
    let (policy, clock) = (config.policy.clone(), &context.clock);
    let counts = setup::with_store(&config, Mode::new(args.dry_run), async |store| {
        let target = engine::ImportTarget {
            store,
            policy: &policy,
            clock,
            source: &args.source,
            mode,
        };
        let mut done = 0;
        let on_progress = move |rows| {
            import_bar.advance(rows - done);
            done = rows;
        };
        Ok(engine::import(target, listing, on_progress).await?)
    })
    .await?;
    drop(bar);
    if args.rejects.is_none() {
        print_refusals(&refused);
    }
    anstream::println!("{}", summary(counts, mode));
    Ok(if counts.refused > 0 || unreadable > 0 {
        Exit::Failed
    } else {
        Exit::Ok
    })
}

fn warn_if_configured(config: &Config, source: &str) {
    let mut sources = config.sources.iter();
    if sources.any(|configured| configured.terms.name == source) {
        anstream::eprintln!(
            "warning: {source} is a [[source]]: the next sweep marks tokens as gone that it does not list itself"
        );
    }
}

/// The ids of the tokens that lapsed itself issued, which an import never changes.
async fn load_reserved_ids(config: &Config, source: &str) -> Result<HashSet<String>> {
    if source != LOCAL_SOURCE {
        return Ok(HashSet::new());
    }
    let ids = setup::with_store(config, Mode::Read, async |store| {
        Ok(store.begin_read().await?.list_public_ids().await?)
    });
    match ids.await {
        Ok(ids) => Ok(ids.into_iter().collect()),
        Err(Error::Store(store::Error::Missing(_) | store::Error::Older)) => Ok(HashSet::new()),
        Err(error) => Err(error),
    }
}

fn print_refusals(refused: &RefusedRows) {
    refused.shown.iter().for_each(print_refusal);
    let omitted = refused.count - refused.shown.len() as u64;
    if omitted > 0 {
        anstream::eprintln!(
            "refused: {omitted} more rows; `--rejects FILE` names all of them, and writes them to a file"
        );
    }
}

fn check_source_name(name: &str) -> Result<()> {
    if let Err(error) = name.parse::<Name>() {
        let unusable = anyhow::anyhow!("{name:?} cannot be the name of a source");
        return Err(Failure::usage(unusable).hint(format!("it {error}")).into());
    }
    Ok(())
}

fn read_options(args: &Reading) -> Result<ReadOptions> {
    let fail = |message: String| Failure::usage(anyhow::anyhow!(message));
    let mut options = ReadOptions {
        extra: args.extra.as_deref().map(|extra| match extra {
            "ignore" => Extra::Ignore,
            _ => Extra::Error,
        }),
        encoding: args.encoding,
        cells: CellRules {
            dates: DateRules {
                timezone: args.timezone,
                is_day_end: args.dates.as_deref() == Some("end"),
                format: args.date_format.clone(),
            },
            never: args.never.clone(),
            flags: None,
        },
        ..ReadOptions::default()
    };
    if let Some(items) = &args.items {
        options.items = parse_items(items).map_err(|why| fail(format!("--items: {why}")))?;
    }
    for (column, name) in &args.map {
        token_file::map_column(&mut options, column, name)
            .map_err(|why| fail(format!("--map: {why}")))?;
    }
    Ok(options)
}

/// Reads the whole file and shows a progress bar. Copies refused rows to a new file, whose errors matter as much as
/// those of the input.
fn read_file(
    file: &Input,
    options: &ReadOptions,
    rejects: Option<PathBuf>,
    reserved: &HashSet<String>,
) -> anyhow::Result<Listing> {
    let Some(path) = rejects else {
        return read_with(&to_input(file), options, reserved, |_, _| {});
    };
    let target = create_rejects(&path)?;
    read_and_copy(file, options, (&path, target), reserved).inspect_err(|_| {
        // It would stand in the way of the next attempt.
        let _ = std::fs::remove_file(&path);
    })
}

fn read_and_copy(
    file: &Input,
    options: &ReadOptions,
    (path, target): (&Path, File),
    reserved: &HashSet<String>,
) -> anyhow::Result<Listing> {
    // Standard input can be read only once.
    let copy = match file {
        Input::Stdin => Some(copy_stdin().context("cannot keep a copy of standard input")?),
        Input::File(_) => None,
    };
    let input = match &copy {
        Some(copy) => token_file::Input::Copied(copy.path().to_owned()),
        None => to_input(file),
    };
    let mut spans = Vec::new();
    let listing = read_with(&input, options, reserved, |row, span| {
        print_refusal(row);
        spans.push(span);
    })?;
    token_file::copy_rows(&input, options, &mut spans, &mut BufWriter::new(target))
        .with_context(|| format!("cannot write the refused rows to {}", path.display()))?;
    Ok(listing)
}

fn to_input(file: &Input) -> token_file::Input {
    match file {
        Input::Stdin => token_file::Input::Stdin,
        Input::File(path) => token_file::Input::Path(path.clone()),
    }
}

fn copy_stdin() -> io::Result<NamedTempFile> {
    let mut copy = NamedTempFile::new()?;
    io::copy(&mut io::stdin(), &mut copy)?;
    Ok(copy)
}

fn read_with(
    input: &token_file::Input,
    options: &ReadOptions,
    reserved: &HashSet<String>,
    mut on_refused: impl FnMut(&RefusedRow, Span),
) -> anyhow::Result<Listing> {
    let size = match input {
        token_file::Input::Stdin => None,
        token_file::Input::Path(path) | token_file::Input::Copied(path) => {
            std::fs::metadata(path).ok().map(|meta| meta.len())
        }
    };
    let bar = Progress::bytes(size);
    let mut last = 0;
    let mut progress = |at: token_file::Progress| {
        bar.advance(at.bytes - last);
        last = at.bytes;
        bar.show_rows(at.rows);
    };
    let mut refused = |row: &RefusedRow, span| bar.0.suspend(|| on_refused(row, span));
    let print = |line: String| bar.0.suspend(|| anstream::eprintln!("{line}"));
    let mut unreadable = |cell: UnreadableCell| {
        print(format!(
            "unreadable: {}",
            text::clean_lines(&cell.to_string())
        ));
    };
    let mut unended = |line| {
        print(format!(
            "warning: {input}:{line}: the last line has no end; is the file whole?"
        ));
    };
    let mut callbacks = ReadCallbacks {
        on_progress: Some(&mut progress),
        on_refused: Some(&mut refused),
        on_unreadable: Some(&mut unreadable),
        accept_unended: Some(&mut unended),
        why_refused: Some(&|id| {
            let why = "lapsed itself issued this token; `lapsed token update` changes it";
            reserved.contains(id).then(|| why.to_owned())
        }),
    };
    Ok(token_file::read_files(
        std::slice::from_ref(input),
        options,
        &mut callbacks,
    )?)
}

/// An existing file may be the input, and a link may lead anywhere.
fn create_rejects(path: &Path) -> anyhow::Result<File> {
    create_private(path).with_context(|| match path.symlink_metadata() {
        Ok(_) => format!("{} exists; give --rejects a new file", path.display()),
        Err(_) => format!("cannot write {}", path.display()),
    })
}

fn print_refusal(row: &RefusedRow) {
    anstream::eprintln!("refused: {}", text::clean_lines(&row.to_string()));
}

fn summary(counts: ImportCounts, mode: ImportMode) -> String {
    let ImportCounts {
        new,
        changed,
        unchanged,
        refused,
    } = counts;
    let would = if mode == ImportMode::DryRun {
        "would import: "
    } else {
        ""
    };
    format!("{would}{new} new, {changed} changed, {unchanged} unchanged, {refused} refused")
}

/// A progress bar on standard error, shown only on a terminal. It is removed when dropped, so that no error leaves half a bar behind.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Counts bytes; `total` is unknown for standard input.
    fn bytes(total: Option<u64>) -> Self {
        let known =
            "{bar:32} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} (about {eta} left)";
        Self::new(
            total,
            known,
            "{spinner} {bytes} {binary_bytes_per_sec} {msg}",
        )
    }

    pub(super) fn rows(total: Option<u64>) -> Self {
        let known = "{bar:32} {human_pos}/{human_len} {msg} (about {eta} left)";
        Self::new(total, known, "{spinner} {human_pos} {msg}")
    }

    fn new(total: Option<u64>, known: &str, unknown: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() { known } else { unknown };
        let style = ProgressStyle::with_template(template).expect("the templates are constants");
        bar.set_style(style.progress_chars("=> "));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    pub(super) fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// Shows how many rows the bytes so far had.
    fn show_rows(&self, rows: u64) {
        // Formatting costs more than reading a row, so update rarely.
        if rows.is_multiple_of(1024) && !self.0.is_hidden() {
            self.0.set_message(format!("{} rows", HumanCount(rows)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rstest::rstest;

    use super::*;

    #[test]
    fn refused_rows_go_to_a_new_private_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("tokens.csv");
        let content =
            "\u{feff}external_id,name\r\na,\"two\r\nlines\"\r\n,\"no, id\"\r\n\r\nb,ok\r\na,again";
        fs::write(&input, content).unwrap();
        let link = folder.path().join("link.csv");
        symlink(&input, &link).unwrap();
        for existing in [&input, &link] {
            let read = read_file(
                &Input::File(input.clone()),
                &ReadOptions::default(),
                Some(existing.clone()),
                &HashSet::new(),
            );
            assert!(
                read.err()
                    .unwrap()
                    .to_string()
                    .ends_with("give --rejects a new file")
            );
            assert_eq!(fs::read_to_string(&input).unwrap(), content);
        }
        let new = folder.path().join("refused.csv");
        read_file(
            &Input::File(input),
            &ReadOptions::default(),
            Some(new.clone()),
            &HashSet::new(),
        )
        .unwrap();
        assert_eq!(
            fs::read_to_string(&new).unwrap(),
            "\u{feff}external_id,name\r\n,\"no, id\"\r\na,again"
        );
        let mode = fs::metadata(&new).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[rstest]
    #[case::lines(
        "\n {\"name\": \"x\"}\n{\"external_id\": \"a\"}\r\n[]\r\n",
        " {\"name\": \"x\"}\n[]\r\n"
    )]
    #[case::an_array(
        "[ {\"name\":\n\"x, ]\"} , {\"external_id\": \"a\"},[]]",
        "[\n{\"name\":\n\"x, ]\"} ,\n[]\n]\n"
    )]
    #[case::no_refusal("[{\"external_id\": \"a\"}]", "[\n\n]\n")]
    #[case::old_line_ends("external_id,name\r,x\ra,y\r", "external_id,name\r,x\r")]
    fn refused_rows_are_copied_byte_for_byte(#[case] content: &str, #[case] copied: &str) {
        let folder = tempfile::tempdir().unwrap();
        let (input, new) = (folder.path().join("tokens"), folder.path().join("new"));
        fs::write(&input, content).unwrap();
        read_file(
            &Input::File(input),
            &ReadOptions::default(),
            Some(new.clone()),
            &HashSet::new(),
        )
        .unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), copied);
    }

    #[test]
    fn refused_records_of_a_page_are_copied_into_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let (input, new) = (
            folder.path().join("page.json"),
            folder.path().join("new.json"),
        );
        let page = r#"{"next":1,"data":{"tokens":[{"external_id":"a"}, {"name":"x"}]}}"#;
        fs::write(&input, page).unwrap();
        let options = ReadOptions {
            items: parse_items("data.tokens").unwrap(),
            ..ReadOptions::default()
        };
        read_file(
            &Input::File(input),
            &options,
            Some(new.clone()),
            &HashSet::new(),
        )
        .unwrap();
        let copied = fs::read_to_string(&new).unwrap();
        assert_eq!(copied, "{\"data\":{\"tokens\":[\n{\"name\":\"x\"}\n]}}\n");
        let read = read_file(&Input::File(new), &options, None, &HashSet::new()).unwrap();
        assert_eq!((read.count, read.refusals.count), (0, 1));
    }

    #[test]
    fn a_token_that_lapsed_issued_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("tokens.csv");
        fs::write(&input, "external_id,name\na,x\nlp3fK9x2QwAb,taken\n").unwrap();
        let reserved = HashSet::from(["lp3fK9x2QwAb".to_owned()]);
        let listing = read_file(
            &Input::File(input),
            &ReadOptions::default(),
            None,
            &reserved,
        );
        let listing = listing.unwrap();
        assert_eq!((listing.count, listing.refusals.count), (1, 1));
        let refusal = listing.refusals.shown[0].to_string();
        assert!(
            refusal.contains("tokens.csv:3: lapsed itself issued"),
            "{refusal}"
        );
    }

    #[test]
    fn every_template_is_valid() {
        for total in [None, Some(10)] {
            Progress::bytes(total).show_rows(1024);
            let rows = Progress::rows(total);
            rows.advance(3);
            assert_eq!(rows.0.position(), 3);
        }
    }
}
