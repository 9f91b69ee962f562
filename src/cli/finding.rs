//! `lapsed finding`: findings, listed and accepted for a time.

use std::fmt::Write as _;
use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    Context, actor,
    args::{Acknowledge, FindingCommand, FindingList},
    exit::{Exit, Failure},
    output::{Printer, rows::FindingRow, say},
    pages::pages,
    setup::{self, store_failure},
};
use crate::domain::FindingState;
use crate::store::{self, FindingFilter, Store, Tx};

/// How many of several candidates are named.
const NAMED: usize = 5;

pub(super) async fn finding(context: &Context, args: FindingCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let now = context.clock.now();
    match args {
        FindingCommand::List(args) => {
            let mut printer = Printer::stdout(args.listing.format, now);
            list(&store, &args, now, &mut printer).await?;
            printer.finish()?;
        }
        FindingCommand::Acknowledge(args) => say(&acknowledge(&store, &args, now).await?)?,
    }
    store.close().await;
    Ok(Exit::Ok)
}

/// Lists the open findings, or all, the last found first.
pub(super) async fn list(
    store: &Store,
    args: &FindingList,
    now: DateTime<Utc>,
    printer: &mut Printer<FindingRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    let filter = FindingFilter {
        kind: args.kind,
        all: args.all,
    };
    pages(
        printer,
        args.listing.limit,
        async |last: Option<&store::FindingRow>, limit| {
            let before = last.map(|finding| finding.id);
            store
                .read()
                .await?
                .list_findings(filter, before, now, limit)
                .await
        },
        |finding| FindingRow::stored(finding.clone()),
    )
    .await
}

/// Accepts a finding until the time given, and tells what comes of it.
pub(super) async fn acknowledge(
    store: &Store,
    args: &Acknowledge,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let until = args.until.to_rfc3339_opts(SecondsFormat::Secs, true);
    if args.until <= now {
        let error = anyhow::anyhow!("{until} has passed already");
        return Err(Failure::usage(error)
            .hint("name a day to come with --until")
            .into());
    }
    let mut tx = store.begin().await.map_err(store_failure)?;
    let finding = named(&mut tx, &args.id, now).await?;
    let what = format!(
        "{} of {} (finding {})",
        finding.kind, finding.token_name, finding.id
    );
    let is_done = finding.state != FindingState::Resolved.as_str()
        && tx
            .acknowledge_finding(finding.id, args.until)
            .await
            .map_err(store_failure)?;
    if !is_done {
        let error = anyhow::anyhow!("{what} is resolved; there is nothing to accept");
        return Err(Failure::failed(error)
            .hint("`lapsed finding list` shows the open ones")
            .into());
    }
    let subject = format!("finding {}", finding.id);
    let reason = format!("until {until}: {}", args.reason);
    let entry = ("finding.acknowledge", subject.as_str());
    actor::audit(&mut tx, now, entry, Some(&reason)).await?;
    tx.commit().await.map_err(store_failure)?;
    Ok(format!(
        "{what} is acknowledged until {until}\nThen it is open again, unless it is resolved by that time."
    ))
}

/// The one finding whose id begins so; an error says how to find or tell apart what was meant.
async fn named(tx: &mut Tx, prefix: &str, now: DateTime<Utc>) -> anyhow::Result<store::FindingRow> {
    let limit = i64::try_from(NAMED + 1).unwrap_or(i64::MAX);
    let mut found = tx
        .findings_matching(prefix, now, limit)
        .await
        .map_err(store_failure)?;
    if found.len() > 1 {
        return Err(ambiguous(prefix, &found).into());
    }
    found.pop().ok_or_else(|| {
        let error = anyhow::anyhow!("no finding's id begins with {prefix}");
        let hint = "`lapsed finding list --all --format csv` shows the ids in full";
        Failure::failed(error).hint(hint).into()
    })
}

fn ambiguous(prefix: &str, found: &[store::FindingRow]) -> Failure {
    let mut text = format!("several findings' ids begin with {prefix}:");
    for finding in found.iter().take(NAMED) {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n  {}  {}  {}",
            finding.id, finding.kind, finding.token_name
        );
    }
    if found.len() > NAMED {
        text.push_str("\n  and more");
    }
    Failure::failed(anyhow::anyhow!(text)).hint("give more digits")
}
