//! `lapsed token`: lists, shows, revokes and removes tokens, and manages those that lapsed issues.

mod change;
mod internal;
mod issue;
mod issued;
mod remove;
mod revoke;
mod verify;

use std::collections::BTreeSet;
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
    BAD, Cell, Column, FAINT, Field, Printer, Row, Sheet, SheetItem, View, WARN, objects,
    print_item,
};
use super::query::{self, print_list, print_pages};
use super::setup::{self, Mode};
use super::steps::{StepRow, step_rows};
use crate::config::Config;
use crate::domain::{Address, ExpiryOrigin, Status, Token};
use crate::store::{FindingRow, Store, TokenFilter, TokenView};
use crate::text::clean_name;
use crate::time::shift;

use issued::{IssuedToken, network_list};

pub(super) use change::confirm;

/// The key whose value is a list of kinds in lists, and of whole findings for one token.
const FINDINGS: &str = "findings";
/// An active token that expires within this time is red, or yellow.
const URGENT: TimeDelta = TimeDelta::days(1);
const SOON: TimeDelta = TimeDelta::days(7);

pub(super) async fn token(context: &Context, args: TokenCommand) -> Result<Exit> {
    let config = match &args {
        TokenCommand::Revoke(_) => setup::load_config(context),
        _ => setup::load_store_config(context),
    }?;
    let now = context.clock.now();
    match args {
        TokenCommand::List(args) => {
            print_list(&config, args.options.format, now, async |store, printer| {
                list(store, &args, now, printer).await
            })
            .await
        }
        TokenCommand::Show(args) => show_one(&config, &args, now).await,
        TokenCommand::Revoke(args) => revoke::revoke(context, &config, args).await,
        TokenCommand::Remove(args) => remove::remove(context, &config, args).await,
        TokenCommand::Issue(args) => issue::issue(context, &config, args).await,
        TokenCommand::Regenerate(args) => issue::regenerate(context, &config, args).await,
        TokenCommand::Update(args) => change::update(context, &config, args).await,
        TokenCommand::Disable(args) => change::set_enabled(context, &config, &args, false).await,
        TokenCommand::Enable(args) => change::set_enabled(context, &config, &args, true).await,
        TokenCommand::Delete(args) => change::delete(context, &config, &args).await,
        TokenCommand::Verify(args) => verify::verify(context, &config, &args).await,
    }
}

async fn show_one(config: &Config, args: &TokenShow, now: DateTime<Utc>) -> Result<Exit> {
    let detail = setup::with_store(config, Mode::Read, async |store| {
        load_detail(store, config, &args.id, now).await
    })
    .await?;
    let view = View::for_stdout(now, config.policy.zone);
    print_item(args.options.format, view, io::stdout(), &detail)?;
    Ok(Exit::Ok)
}

/// The URL of the token's page at its source, if the source has such pages.
fn page_url(config: &Config, token: &Token) -> Option<String> {
    let source_config = config
        .sources
        .iter()
        .find(|configured| configured.terms.name == token.source)?;
    // A source that cannot be built has no page.
    let watched = setup::build_source(source_config).ok()?;
    watched.source.token_page(&token.external_id)
}

/// Lists the tokens that match the filters, by source and external id, or by expiry with
/// `--expires-within`.
pub(super) async fn list(
    store: &Store,
    args: &TokenList,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, TokenView>,
) -> Result<()> {
    let filter = TokenFilter {
        status: args.status,
        owner_key: args.issuer.as_ref().map(|issuer| issuer.key().to_owned()),
        has_no_issuer: args.no_issuer,
        role: args.role.clone(),
        source: args.source.clone(),
        name: args.name.clone(),
        account: args.account.clone(),
        finding: args.finding,
        expiry: args.expiry.clone(),
        kind: args.kind.clone(),
        expires_until: args.expires_within.map(|span| shift(now, span)),
    };
    if internal::internal_kind(&filter).is_some() {
        let views = internal::list(store, &filter, now).await?;
        for view in views.into_iter().take(args.options.max_rows()) {
            printer.print_row(&view)?;
        }
        return Ok(());
    }
    print_pages(
        printer,
        args.options.limit,
        async |last, limit| {
            let after = last.map(|view: &TokenView| &view.token);
            let mut tx = store.begin_read().await?;
            tx.list_tokens(&filter, after, now, limit).await
        },
        |row| row,
    )
    .await
}

/// One token with its steps, notices and findings.
pub(super) async fn load_detail(
    store: &Store,
    config: &Config,
    token: &str,
    now: DateTime<Utc>,
) -> Result<TokenDetail> {
    let mut tx = store.begin_read().await?;
    let token = query::look_up_token(&mut tx, token).await?;
    let notices = tx.list_notices_of_tokens(&[token.id]).await?;
    let findings = tx.list_findings_of_token(token.id, now).await?;
    let admins = tx.load_account_admins(std::slice::from_ref(&token)).await?;
    let issued = IssuedToken::load(&mut tx, token.id).await?;
    drop(tx);
    let domain = config.mail_identity.from.email.domain();
    Ok(TokenDetail {
        steps: step_rows(&token, &config.policy, &notices, now),
        notices: notices
            .into_iter()
            .map(|notice| NoticeLine::new(notice, domain))
            .collect(),
        page: page_url(config, &token),
        admins: {
            let admins = config.policy.account_admins(&token, &admins);
            let mut seen = BTreeSet::new();
            admins
                .filter(|admin| seen.insert(*admin))
                .cloned()
                .collect()
        },
        row: TokenView {
            token,
            findings: Vec::new(),
            kind: issued.as_ref().map(IssuedToken::kind),
            networks: issued
                .as_ref()
                .map(IssuedToken::networks)
                .unwrap_or_default(),
        },
        issued,
        findings,
        now,
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
        // Beside the issuer.
        ("owners", |row, _| json!(row.token.co_owners)),
        ("account", |row, _| json!(row.token.account)),
        ("role", |row, _| json!(row.token.role)),
        ("scope", |row, _| json!(row.token.scope)),
        // Of tokens that lapsed issued.
        ("kind", |row, _| json!(row.kind)),
        ("networks", |row, _| json!(network_list(&row.networks))),
        ("created_at", |row, _| rfc3339(row.token.created_at)),
        // Null if it never expires or the expiry is unknown.
        ("expires_at", |row, _| rfc3339(row.token.expiry.at())),
        // The plain date, if the source reports one: expires_at is then its start or end.
        ("expires_on", |row, _| json!(row.token.expiry_day)),
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
        Column::elastic("EXTERNAL ID", 5, 12, |row, _| {
            Cell::name(&row.token.external_id)
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no tokens match";
}

pub(super) struct TokenDetail {
    pub(super) row: TokenView,
    pub(super) steps: Vec<StepRow>,
    pub(super) findings: Vec<FindingRow>,
    pub(super) notices: Vec<NoticeLine>,
    /// URL of its page at the source; not in the JSON output.
    pub(super) page: Option<String>,
    /// The administrators of its account, as the source reports them; not in the JSON output.
    pub(super) admins: Vec<Address>,
    /// What is known of a token that lapsed issued.
    pub(super) issued: Option<IssuedToken>,
    pub(super) now: DateTime<Utc>,
}

impl Serialize for TokenDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in TokenView::FIELDS.iter().filter(|(key, _)| *key != FINDINGS) {
            map.serialize_entry(key, &value(&self.row, self.now))?;
        }
        map.serialize_entry(FINDINGS, &objects(&self.findings, self.now))?;
        map.serialize_entry("notices", &objects(&self.notices, self.now))?;
        for (key, value) in IssuedToken::FIELDS {
            map.serialize_entry(key, &value(self.issued.as_ref(), self.now))?;
        }
        map.end()
    }
}

impl SheetItem for TokenDetail {
    fn keys() -> Vec<&'static str> {
        TokenView::FIELDS.iter().map(|(key, _)| *key).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        let token = &self.row.token;
        let view = &sheet.view();
        sheet.section(&clean_name(token.label()));
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
            ("other owners", Cell::list(&token.co_owners)),
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
        if let Some(issued) = &self.issued {
            issued.write_to(sheet);
        }
        sheet.section("Steps");
        sheet.table(&self.steps, &[]);
        sheet.section("Notices");
        sheet.table(&self.notices, &["TOKEN"]);
        sheet.section("Findings");
        sheet.table(&self.findings, &["TOKEN"]);
    }
}

fn origin_text(origin: ExpiryOrigin) -> &'static str {
    match origin {
        ExpiryOrigin::Source | ExpiryOrigin::Computed => origin.as_str(),
        ExpiryOrigin::Policy => "policy (yours; the token still works after it)",
    }
}

fn expiry_cell(token: &Token, view: &View) -> Cell {
    let Some(expires) = token.expires() else {
        return Cell::new(token.expiry.kind());
    };
    let remaining = expires.at - view.now;
    let style = match token.status_at(view.now) {
        Status::Active if remaining <= URGENT => BAD,
        Status::Active if remaining <= SOON => WARN,
        Status::Active => Style::new(),
        Status::Expired | Status::Disabled | Status::Revoked | Status::Gone => FAINT,
    };
    Cell::expiry(Some(expires), view).style(style)
}

pub(super) fn status_cell(status: Status) -> Cell {
    Cell::new(status.as_str()).style(match status {
        Status::Active => Style::new(),
        Status::Expired => BAD,
        Status::Disabled | Status::Revoked | Status::Gone => FAINT,
    })
}
