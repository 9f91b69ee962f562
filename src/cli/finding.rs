//! `lapsed finding`: lists and acknowledges findings.

use std::fmt::Write as _;
use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use super::args::{Acknowledge, FindingCommand, FindingList};
use super::exit::{Exit, Failure, Result};
use super::output::rows::FindingRow;
use super::output::{Printer, print_line};
use super::pages::print_pages;
use super::setup::{self, Mode};
use super::{Context, actor};
use crate::domain::FindingState;
use crate::store::{self, FindingFilter, Store, Tx};

/// How many matches an ambiguous id lists.
const MAX_LISTED_MATCHES: usize = 5;

pub(super) async fn finding(context: &Context, args: FindingCommand) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let now = context.clock.now();
    setup::with_store(&config, Mode::Write, async |store| match args {
        FindingCommand::List(args) => {
            let mut printer = Printer::stdout(args.options.format, now);
            list(store, &args, now, &mut printer).await?;
            printer.finish()?;
            Ok(Exit::Ok)
        }
        FindingCommand::Acknowledge(args) => {
            print_line(&acknowledge(store, &args, now).await?)?;
            Ok(Exit::Ok)
        }
    })
    .await
}

/// Lists the open findings, or all, latest first.
pub(super) async fn list(
    store: &Store,
    args: &FindingList,
    now: DateTime<Utc>,
    printer: &mut Printer<FindingRow, impl Write, impl Write>,
) -> Result<()> {
    let filter = FindingFilter {
        kind: args.kind,
        all: args.all,
    };
    print_pages(
        printer,
        args.options.limit,
        async |last: Option<&store::FindingRow>, limit| {
            let before = last.map(|finding| finding.id);
            store
                .begin_read()
                .await?
                .list_findings(filter, before, now, limit)
                .await
        },
        |finding| finding.clone().into(),
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
    let finding = find_finding(&mut tx, &args.id, now).await?;
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
    let entry = ("finding.acknowledge", subject.as_str());
    actor::record_action(&mut tx, now, entry, Some(&reason)).await?;
    tx.commit().await?;
    Ok(format!(
        "{label} is acknowledged until {until}\nAfter that it opens again, unless it is resolved."
    ))
}

/// The finding whose id starts with `prefix`. The error says how to write an id that names one.
async fn find_finding(tx: &mut Tx, prefix: &str, now: DateTime<Utc>) -> Result<store::FindingRow> {
    let limit = i64::try_from(MAX_LISTED_MATCHES + 1).unwrap_or(i64::MAX);
    let mut found = tx.find_findings_by_prefix(prefix, now, limit).await?;
    if found.len() > 1 {
        return Err(ambiguous_error(prefix, &found).into());
    }
    found.pop().ok_or_else(|| {
        let error = anyhow::anyhow!("no finding's id begins with {prefix}");
        let hint = "`lapsed finding list --all --format csv` shows the ids in full";
        Failure::failed(error).hint(hint).into()
    })
}

fn ambiguous_error(prefix: &str, found: &[store::FindingRow]) -> Failure {
    let mut text = format!("several findings' ids begin with {prefix}:");
    for finding in found.iter().take(MAX_LISTED_MATCHES) {
        let _ = write!(
            text,
            "\n  {}  {}  {}",
            finding.id, finding.kind, finding.token_name
        );
    }
    if found.len() > MAX_LISTED_MATCHES {
        text.push_str("\n  and more");
    }
    Failure::failed(anyhow::anyhow!(text)).hint("give more digits")
}
