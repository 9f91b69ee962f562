//! Reads the store for commands: listings page by page, and the one item that a reference names.

use chrono::{DateTime, Utc};

use super::args::{Format, parse_token_ref};
use super::exit::{Exit, Failure, Result};
use super::output::{Printer, Row};
use super::setup::{self, Mode};
use crate::config::Config;
use crate::domain::{Token, TokenRef};
use crate::store::{self, FindingRow, Store, Tx};
use crate::text::{clean_lines, clean_name};

/// Each page has its own transaction, so that a paused reader (`less`) keeps none open.
const PAGE_SIZE: i64 = 1000;
/// How many matches an ambiguous reference lists.
const MAX_LISTED_MATCHES: usize = 5;
/// One more is read, to know whether there are more.
const MAX_READ_MATCHES: i64 = 6;

/// Opens the store and prints the rows that `list` reads from it.
pub(super) async fn print_list<R: Row>(
    config: &Config,
    format: Format,
    now: DateTime<Utc>,
    list: impl AsyncFnOnce(&Store, &mut Printer<'_, R>) -> Result<()>,
) -> Result<Exit> {
    let mut printer = Printer::stdout(format, now, config.policy.zone);
    setup::with_store(config, Mode::Read, async |store| {
        list(store, &mut printer).await
    })
    .await?;
    printer.finish()?;
    Ok(Exit::Ok)
}

/// Prints up to `limit` rows. `next` loads the page after a row; `to_row` converts a stored row.
pub(super) async fn print_pages<T: Clone, R: Row>(
    printer: &mut Printer<'_, R>,
    limit: Option<u64>,
    mut next: impl AsyncFnMut(Option<&T>, i64) -> store::Result<Vec<T>>,
    to_row: impl Fn(T) -> R,
) -> Result<()> {
    let mut remaining = limit.unwrap_or(u64::MAX);
    let mut last: Option<T> = None;
    while remaining > 0 {
        let wanted = i64::try_from(remaining).map_or(PAGE_SIZE, |count| count.min(PAGE_SIZE));
        let page = next(last.as_ref(), wanted).await?;
        let count = page.len() as u64;
        last = page.last().cloned();
        for item in page {
            printer.print_row(&to_row(item))?;
        }
        remaining -= count.min(remaining);
        if count < wanted.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

/// The token that `reference` names. The error says how to write a reference that names one.
pub(super) async fn find_token(tx: &mut Tx, reference: &TokenRef) -> Result<Token> {
    let found = find_by_reference(tx, reference).await?;
    found.ok_or_else(|| unknown_token_failure(reference).into())
}

/// The token that `text` names for a command that only reads: by reference, else by a name that only one
/// token has.
pub(super) async fn look_up_token(tx: &mut Tx, text: &str) -> Result<Token> {
    let reference = parse_token_ref(text).ok();
    if let Some(reference) = &reference
        && let Some(token) = find_by_reference(tx, reference).await?
    {
        return Ok(token);
    }
    let named = tx.find_tokens_by_name(text, MAX_READ_MATCHES).await?;
    let start = format!("several tokens have the name {text:?}:");
    let hint = "give the first digits of an id, or SOURCE/EXTERNAL_ID";
    only_token(named, start, hint)?.ok_or_else(|| {
        let failure = reference.as_ref().map(unknown_token_failure);
        let failure = failure.unwrap_or_else(|| {
            let hint =
                "`lapsed token list` shows the ids and names; SOURCE/EXTERNAL_ID names a token too";
            Failure::failed(anyhow::anyhow!("no token has the name {text:?}")).hint(hint)
        });
        failure.into()
    })
}

async fn find_by_reference(tx: &mut Tx, reference: &TokenRef) -> Result<Option<Token>> {
    match reference {
        TokenRef::External(source, external_id) => {
            let tokens = tx
                .load_tokens_by_external_id(source, &[external_id])
                .await?;
            Ok(tokens.into_iter().next())
        }
        TokenRef::Prefix(prefix) => {
            let tokens = tx.find_tokens_by_prefix(prefix, MAX_READ_MATCHES).await?;
            let start = format!("several tokens' ids begin with {prefix}:");
            only_token(tokens, start, "give more digits, or SOURCE/EXTERNAL_ID")
        }
    }
}

fn only_token(mut tokens: Vec<Token>, start: String, hint: &str) -> Result<Option<Token>> {
    if tokens.len() > 1 {
        let lines = tokens.iter().map(|token| {
            let (source, external_id) = (&token.source, &token.external_id);
            format!("{}  {source}/{external_id}  {}", token.id, token.label())
        });
        return Err(ambiguous_failure(start, lines, hint).into());
    }
    Ok(tokens.pop())
}

fn unknown_token_failure(reference: &TokenRef) -> Failure {
    let (text, hint) = match reference {
        TokenRef::External(source, external_id) => (
            format!("source {source:?} has no token {external_id:?}"),
            "`lapsed token list --format csv` shows the source and external id of every token",
        ),
        TokenRef::Prefix(prefix) => (
            format!("no token's id begins with {prefix}"),
            "`lapsed token list` shows the ids in its first column; SOURCE/EXTERNAL_ID names a token too",
        ),
    };
    Failure::failed(anyhow::anyhow!(text)).hint(hint)
}

/// The name of a token, and how commands name it.
pub(super) fn label(token: &Token) -> String {
    format!(
        "{} ({}/{})",
        clean_name(token.label()),
        token.source,
        clean_lines(&token.external_id)
    )
}

/// The finding whose id starts with `prefix`. The error says how to write an id that names one.
pub(super) async fn find_finding(
    tx: &mut Tx,
    prefix: &str,
    now: DateTime<Utc>,
) -> Result<FindingRow> {
    let mut findings = tx
        .find_findings_by_prefix(prefix, now, MAX_READ_MATCHES)
        .await?;
    if findings.len() > 1 {
        let lines = findings
            .iter()
            .map(|finding| format!("{}  {}  {}", finding.id, finding.kind, finding.token_name));
        let start = format!("several findings' ids begin with {prefix}:");
        return Err(ambiguous_failure(start, lines, "give more digits").into());
    }
    findings.pop().ok_or_else(|| {
        let error = anyhow::anyhow!("no finding's id begins with {prefix}");
        let hint = "`lapsed finding list --all --format csv` shows the ids in full";
        Failure::failed(error).hint(hint).into()
    })
}

fn ambiguous_failure(
    mut text: String,
    matches: impl ExactSizeIterator<Item = String>,
    hint: &str,
) -> Failure {
    let has_more = matches.len() > MAX_LISTED_MATCHES;
    for line in matches.take(MAX_LISTED_MATCHES) {
        text.push_str("\n  ");
        text.push_str(&line);
    }
    if has_more {
        text.push_str("\n  and more");
    }
    Failure::failed(anyhow::anyhow!(text)).hint(hint)
}
