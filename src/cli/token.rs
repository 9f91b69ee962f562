//! `lapsed token`: lists, shows and revokes tokens.

mod revoke;

use std::io;

use anstyle::Style;
use chrono::{DateTime, TimeDelta, Utc};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::Context;
use super::args::{TokenCommand, TokenList, TokenShow};
use super::exit::{Exit, Result};
use super::notice::NoticeLine;
use super::output::when::rfc3339;
use super::output::{
    BAD, Cell, Column, Detail, FAINT, Field, Printer, Row, Sheet, View, WARN, objects, print_one,
};
use super::query::{self, print_pages};
use super::setup::{self, Mode};
use super::steps::{StepRow, step_rows};
use crate::config::Config;
use crate::domain::{Address, ExpiryOrigin, Policy, Status, Token, TokenRef};
use crate::store::{FindingRow, Store, TokenFilter, TokenView};
use crate::text::clean_name;

pub(super) async fn token(context: &Context, args: TokenCommand) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let now = context.clock.now();
    match args {
        TokenCommand::List(args) => {
            let mut printer = Printer::stdout(args.options.format, now);
            setup::with_store(&config, Mode::Write, async |store| {
                list(store, &args, now, &mut printer).await
            })
            .await?;
            printer.finish()?;
            Ok(Exit::Ok)
        }
        TokenCommand::Show(args) => show_one(&config, &args, now).await,
        TokenCommand::Revoke(args) => revoke::revoke(context, &config, args).await,
    }
}

async fn show_one(config: &Config, args: &TokenShow, now: DateTime<Utc>) -> Result<Exit> {
    let context = DetailContext {
        policy: config.policy.clone(),
        domain: config.mail_identity.from.email.domain(),
        now,
    };
    let mut detail = setup::with_store(config, Mode::Write, async |store| {
        load_detail(store, &args.id, &context).await
    })
    .await?;
    let token = &detail.view.token;
    detail.page = page_url(config, &token.source, &token.external_id);
    let view = View::for_stdout(now);
    print_one(args.options.format, view, io::stdout(), &detail)?;
    Ok(Exit::Ok)
}

/// The URL of the token's page at its source, if the source has such pages.
fn page_url(config: &Config, source: &str, external_id: &str) -> Option<String> {
    let source_config = config
        .sources
        .iter()
        .find(|configured| configured.terms.name == source)?;
    setup::build_source(source_config)
        .ok()?
        .source
        .token_page(external_id)
}

/// Lists the tokens that match the filters, by source and external id, or by expiry if they limit it.
pub(super) async fn list(
    store: &Store,
    args: &TokenList,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, TokenView>,
) -> Result<()> {
    let filter = TokenFilter {
        status: args.status,
        issuer_key: args.issuer.as_ref().map(|issuer| issuer.key().to_owned()),
        has_no_issuer: args.no_issuer,
        role: args.role.clone(),
        source: args.source.clone(),
        expires_until: args.expires_within.map(|span| now + span),
    };
    print_pages(
        printer,
        args.options.limit,
        async |last, limit| {
            let after = last.map(|view: &TokenView| &view.token);
            let mut tx = store.begin_read().await?;
            tx.list_tokens(&filter, after, now, limit).await
        },
        std::convert::identity,
    )
    .await
}

/// What [`load_detail`] needs beside the store.
pub(super) struct DetailContext<'a> {
    pub(super) policy: Policy,
    /// The domain of `[notify] from`.
    pub(super) domain: &'a str,
    pub(super) now: DateTime<Utc>,
}

/// One token with its steps, notices and findings.
pub(super) async fn load_detail(
    store: &Store,
    reference: &TokenRef,
    context: &DetailContext<'_>,
) -> Result<TokenDetail> {
    let mut tx = store.begin_read().await?;
    let token = query::find_token(&mut tx, reference).await?;
    let notices = tx.list_notices_of_tokens(&[token.id]).await?;
    let findings = tx.list_findings_of_token(token.id, context.now).await?;
    let admins = tx.load_account_admins(std::slice::from_ref(&token)).await?;
    drop(tx);
    Ok(TokenDetail {
        steps: step_rows(&token, &context.policy, &notices, context.now),
        notices: notices
            .into_iter()
            .map(|notice| NoticeLine::new(notice, context.domain))
            .collect(),
        page: None,
        admins: admins.for_token(&token).to_vec(),
        view: TokenView {
            token,
            findings: Vec::new(),
        },
        findings,
        now: context.now,
    })
}

impl Row for TokenView {
    const FIELDS: &'static [Field<Self>] = &[
        ("id", |row, _| json!(row.token.id)),
        ("source", |row, _| json!(row.token.source)),
        ("external_id", |row, _| json!(row.token.external_id)),
        ("name", |row, _| json!(row.token.name)),
        ("description", |row, _| json!(row.token.description)),
        ("issuer", |row, _| json!(row.token.issuer)),
        ("account", |row, _| json!(row.token.account)),
        ("role", |row, _| json!(row.token.role)),
        ("scope", |row, _| json!(row.token.scope)),
        ("created_at", |row, _| rfc3339(row.token.created_at)),
        // Null if it never expires or the expiry is unknown.
        ("expires_at", |row, _| rfc3339(row.token.expiry.at())),
        ("expiry", |row, _| json!(row.token.expiry.kind())),
        ("expiry_origin", |row, _| json!(row.token.expiry_origin)),
        ("status", |row, now| json!(row.token.status_at(now))),
        ("last_used_at", |row, _| rfc3339(row.token.last_used_at)),
        // When a sweep must process it next.
        ("due_at", |row, _| rfc3339(row.token.due_at)),
        (FINDINGS, |row, _| json!(row.findings)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        // Eight digits nearly always identify one token.
        Column::id(8, |row, _| Cell::new(row.token.id.to_string())),
        Column::elastic("NAME", 0, 16, |row, _| Cell::name(row.token.label())),
        Column::fixed("STATUS", 0, |row, view| {
            status_cell(row.token.status_at(view.now))
        }),
        Column::fixed("EXPIRES", 1, |row, view| expiry_cell(&row.token, view)),
        Column::elastic("ISSUER", 3, 14, |row, _| {
            Cell::optional(row.token.issuer.as_ref())
        }),
        Column::elastic("FINDINGS", 2, 10, |row, _| {
            Cell::list(row.findings.iter().map(|kind| kind.as_str())).mark_problem()
        }),
        Column::elastic("SOURCE", 4, 8, |row, _| Cell::name(&row.token.source)),
    ];
    const EMPTY_MESSAGE: &'static str = "no tokens match";
}

/// In lists the kinds of the open findings; for one token all its findings in full.
const FINDINGS: &str = "findings";

pub(super) struct TokenDetail {
    pub(super) view: TokenView,
    pub(super) steps: Vec<StepRow>,
    pub(super) findings: Vec<FindingRow>,
    pub(super) notices: Vec<NoticeLine>,
    /// URL of its page at the source; shown to people only.
    pub(super) page: Option<String>,
    /// The administrators of its account, as the source reports them; shown to people only.
    pub(super) admins: Vec<Address>,
    pub(super) now: DateTime<Utc>,
}

impl Serialize for TokenDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in TokenView::FIELDS.iter().filter(|(key, _)| *key != FINDINGS) {
            map.serialize_entry(key, &value(&self.view, self.now))?;
        }
        map.serialize_entry(FINDINGS, &objects(&self.findings, self.now))?;
        map.serialize_entry("notices", &objects(&self.notices, self.now))?;
        map.end()
    }
}

impl Detail for TokenDetail {
    fn keys() -> Vec<&'static str> {
        TokenView::FIELDS.iter().map(|(key, _)| *key).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        let token = &self.view.token;
        let view = &sheet.view();
        sheet.title(&clean_name(token.label()));
        sheet.fields([
            ("id", Cell::new(token.id.to_string())),
            ("source", Cell::name(&token.source)),
            ("external id", Cell::new(&token.external_id)),
            ("status", status_cell(token.status_at(view.now))),
            ("expires", expiry_cell(token, view)),
            (
                "set by",
                Cell::optional(token.expiry_origin.map(origin_text)),
            ),
            ("issuer", Cell::optional(token.issuer.as_ref())),
            ("admins", Cell::list(&self.admins)),
            ("account", Cell::optional(token.account.as_ref())),
            ("role", Cell::optional(token.role.as_ref())),
            ("scope", Cell::optional(token.scope.as_ref())),
            ("description", Cell::optional(token.description.as_ref())),
            ("created", Cell::when(token.created_at, view)),
            ("last used", Cell::when(token.last_used_at, view)),
            ("next due", Cell::when(token.due_at, view)),
            ("page", Cell::optional(self.page.as_ref())),
        ]);
        sheet.title("Steps");
        sheet.table(&self.steps, &[]);
        sheet.title("Notices");
        sheet.table(&self.notices, &["TOKEN"]);
        sheet.title("Findings");
        sheet.table(&self.findings, &["TOKEN"]);
    }
}

/// Who set the expiry of a token.
fn origin_text(origin: ExpiryOrigin) -> &'static str {
    match origin {
        ExpiryOrigin::Source | ExpiryOrigin::Computed => origin.as_str(),
        ExpiryOrigin::Policy => "policy (yours; the token still works after it)",
    }
}

fn expiry_cell(token: &Token, view: &View) -> Cell {
    let Some(at) = token.expiry.at() else {
        return Cell::new(token.expiry.kind());
    };
    let left = at - view.now;
    let style = match token.status_at(view.now) {
        Status::Active if left <= TimeDelta::days(1) => BAD,
        Status::Active if left <= TimeDelta::days(7) => WARN,
        Status::Active => Style::new(),
        Status::Expired | Status::Disabled | Status::Revoked | Status::Gone => FAINT,
    };
    Cell::when(at, view).style(style)
}

pub(super) fn status_cell(status: Status) -> Cell {
    Cell::new(status.as_str()).style(match status {
        Status::Active => Style::new(),
        Status::Expired => BAD,
        Status::Disabled | Status::Revoked | Status::Gone => FAINT,
    })
}
