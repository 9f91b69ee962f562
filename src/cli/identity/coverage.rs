//! `lapsed identity coverage`: what the directories report about the issuers of working tokens.

use anstyle::Style;
use chrono::{DateTime, Utc};
use serde_json::json;

use crate::cli::args::IdentityCoverage;
use crate::cli::exit::{Exit, Result};
use crate::cli::output::{BAD, Cell, Column, FAINT, Field, Printer, Row, WARN};
use crate::cli::query::print_list;
use crate::config::Config;
use crate::domain::Cover;
use crate::engine;
use crate::store::Store;

pub(super) async fn print_coverage(
    config: &Config,
    args: &IdentityCoverage,
    now: DateTime<Utc>,
) -> Result<Exit> {
    let format = args.options.format;
    let limit = args.options.max_rows();
    let Some(of) = args.of else {
        return print_list(config, format, now, async |store, printer| {
            print_counts(store, config, limit, now, printer).await
        })
        .await;
    };
    print_list(config, format, now, async |store, printer| {
        let issuers = load_covers(store, config, now).await?.into_iter();
        for (email, cover) in issuers.filter(|(_, cover)| *cover == of).take(limit) {
            printer.print_row(&CoveredRow { email, cover })?;
        }
        Ok(())
    })
    .await
}

/// Every issuer of working tokens with their coverage.
async fn load_covers(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Vec<(String, Cover)>> {
    let mut tx = store.begin_read().await?;
    let directories = config.directory_terms();
    Ok(engine::issuer_covers(&mut tx, &config.issuers, &directories, now).await?)
}

/// Prints a row for each kind of coverage that occurs; active and lost always have one.
pub(in crate::cli) async fn print_counts(
    store: &Store,
    config: &Config,
    limit: usize,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, CoverageRow>,
) -> Result<()> {
    let counts = engine::count_covers(&load_covers(store, config, now).await?);
    let mut tx = store.begin_read().await?;
    let without = tx.count_tokens_without_issuer(now).await?;
    drop(tx);
    let covers = Cover::ALL.iter().filter_map(|cover| {
        let count = counts.get(cover).copied().unwrap_or_default();
        let is_shown = count > 0 || matches!(cover, Cover::Active | Cover::Lost);
        is_shown.then_some((Some(*cover), count))
    });
    let no_issuer = (None, u64::try_from(without).unwrap_or_default());
    for (cover, count) in covers.chain([no_issuer]).take(limit) {
        printer.print_row(&CoverageRow { cover, count })?;
    }
    Ok(())
}

/// The number of issuers of working tokens with one kind of coverage; without a kind, the number of
/// tokens without an issuer.
pub(in crate::cli) struct CoverageRow {
    cover: Option<Cover>,
    count: u64,
}

impl CoverageRow {
    /// `active`, `lost`, `unknown`, `not_covered`, or `no_issuer`.
    fn group(&self) -> &'static str {
        self.cover.map_or("no_issuer", Cover::group)
    }

    fn command(&self) -> String {
        match self.cover {
            Some(cover) => format!("lapsed identity coverage --of {cover}"),
            None => "lapsed token list --no-issuer".to_owned(),
        }
    }
}

impl Row for CoverageRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("cover", |row, _| json!(row.group())),
        ("reason", |row, _| json!(row.cover.and_then(reason))),
        ("count", |row, _| json!(row.count)),
        ("command", |row, _| json!(row.command())),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("COVER", 0, |row, _| cover_cell(row.group(), row.count)),
        Column::fixed("REASON", 0, |row, _| {
            Cell::optional(row.cover.and_then(reason))
        }),
        Column::fixed("COUNT", 0, |row, _| Cell::new(row.count)),
        Column::fixed("OF", 1, |row, _| {
            Cell::new(row.cover.map_or("tokens", |_| "issuers"))
        }),
        Column::elastic("LISTED BY", 0, 20, |row, _| Cell::new(row.command())),
    ];
    const EMPTY_MESSAGE: &'static str = "there are no tokens";
}

pub(in crate::cli) struct CoveredRow {
    email: String,
    cover: Cover,
}

impl Row for CoveredRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("email", |row, _| json!(row.email)),
        ("cover", |row, _| json!(row.cover.group())),
        ("reason", |row, _| json!(reason(row.cover))),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.email)),
        Column::fixed("COVER", 0, |row, _| cover_cell(row.cover.group(), 1)),
        Column::fixed("REASON", 0, |row, _| Cell::optional(reason(row.cover))),
    ];
    const EMPTY_MESSAGE: &'static str = "no issuers match";
}

/// Why an issuer is unknown or not covered.
fn reason(cover: Cover) -> Option<&'static str> {
    (!matches!(cover, Cover::Active | Cover::Lost)).then(|| cover.as_str())
}

fn cover_cell(group: &str, count: u64) -> Cell {
    Cell::new(group).style(match (group, count) {
        (_, 0) | ("not_covered", _) => FAINT,
        ("lost", _) => BAD,
        ("unknown" | "no_issuer", _) => WARN,
        _ => Style::new(),
    })
}
