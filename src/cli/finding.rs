//! `lapsed finding`: lists and acknowledges findings.

use anstyle::Style;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use super::args::{Acknowledge, FindingCommand, FindingList};
use super::exit::{Exit, Failure, Result};
use super::output::when::rfc3339;
use super::output::{BAD, Cell, Column, Field, Printer, Row, WARN, print_line};
use super::query::{self, print_list, print_pages};
use super::setup::{self, Mode};
use super::{Context, audit};
use crate::domain::{FindingState, Severity};
use crate::store::{FindingFilter, FindingRow, Store};

pub(super) async fn finding(context: &Context, args: FindingCommand) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    let now = context.clock.now();
    match args {
        FindingCommand::List(args) => {
            print_list(&config, args.options.format, now, async |store, printer| {
                list(store, &args, now, printer).await
            })
            .await
        }
        FindingCommand::Acknowledge(args) => {
            let message = setup::with_store(&config, Mode::Normal, async |store| {
                acknowledge(store, &args, now).await
            })
            .await?;
            print_line(&message)?;
            Ok(Exit::Ok)
        }
    }
}

/// Lists the open findings, or all, latest first.
pub(super) async fn list(
    store: &Store,
    args: &FindingList,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, FindingRow>,
) -> Result<()> {
    let filter = FindingFilter {
        kind: args.kind,
        all: args.all,
    };
    print_pages(
        printer,
        args.options.limit,
        async |last, limit| {
            let before = last.map(|finding: &FindingRow| finding.id);
            let mut tx = store.begin_read().await?;
            tx.list_findings(filter, before, now, limit).await
        },
        |row| row,
    )
    .await
}

/// Acknowledges a finding and returns the message to print.
pub(super) async fn acknowledge(
    store: &Store,
    args: &Acknowledge,
    now: DateTime<Utc>,
) -> Result<String> {
    let until = args.until.to_rfc3339_opts(SecondsFormat::Secs, true);
    if args.until <= now {
        let error = anyhow::anyhow!("{until} has passed already");
        return Err(Failure::usage(error)
            .hint("write a future day with --until")
            .into());
    }
    let mut tx = store.begin().await?;
    let finding = query::find_finding(&mut tx, &args.id, now).await?;
    let label = format!(
        "{} of {} (finding {})",
        finding.kind, finding.token_name, finding.id
    );
    let is_done = finding.state != FindingState::Resolved
        && tx.acknowledge_finding(finding.id, args.until).await?;
    if !is_done {
        let error = anyhow::anyhow!("{label} is resolved; there is nothing to acknowledge");
        return Err(Failure::failed(error)
            .hint("`lapsed finding list` shows the open ones")
            .into());
    }
    let subject = format!("finding {}", finding.id);
    let reason = format!("until {until}: {}", args.reason);
    let action = "finding.acknowledge";
    audit::record_action(&mut tx, now, action, &subject, Some(&reason)).await?;
    tx.commit().await?;
    Ok(format!(
        "{label} is acknowledged until {until}\nAfter that it opens again, unless it is resolved."
    ))
}

impl Row for FindingRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("id", |row, _| json!(row.id)),
        // Null if it is about a source; then `token_name` is the name of the source.
        ("token_id", |row, _| json!(row.token_id)),
        ("token_name", |row, _| json!(row.token_name)),
        ("kind", |row, _| json!(row.kind)),
        ("severity", |row, _| json!(row.severity)),
        ("since", |row, _| rfc3339(row.since)),
        ("evidence", |row, _| json!(row.evidence)),
        ("state", |row, _| json!(row.state)),
        // When the policy revokes its token.
        ("revoke_at", |row, _| rfc3339(row.revoke_at)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        // The ids of one sweep share the first 13 characters, which encode its time.
        Column::id(18, |row, _| Cell::new(row.id.to_string())),
        Column::elastic("TOKEN", 0, 12, |row, _| Cell::name(&row.token_name)),
        Column::fixed("KIND", 1, |row, _| Cell::new(row.kind.as_str())),
        Column::fixed("SEVERITY", 3, |row, _| {
            Cell::new(row.severity.as_str()).style(match row.severity {
                Severity::Critical => BAD,
                Severity::High => WARN,
                Severity::Medium => Style::new(),
            })
        }),
        Column::fixed("SINCE", 4, |row, view| Cell::when(row.since, view)),
        Column::fixed("STATE", 5, |row, _| Cell::new(row.state.as_str())),
        Column::elastic("EVIDENCE", 2, 16, |row, _| Cell::new(&row.evidence)),
    ];
    const EMPTY_MESSAGE: &'static str = "no findings match";
}
