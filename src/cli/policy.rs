//! `lapsed policy check`: what the policy of the token service would change for tokens that exist.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Context;
use super::args::PolicyCommand;
use super::exit::{Exit, Result};
use super::output::{Cell, Column, Field, Printer, Row};
use super::service::{operator, with_service};
use super::setup::{self, Mode};
use crate::notify::wording::quantity;
use crate::service::policy_check::{DepartingToken, Departure, OverLimit, PolicyCheck};

pub(super) async fn policy(context: &Context, command: PolicyCommand) -> Result<Exit> {
    let PolicyCommand::Check(options) = command;
    let config = setup::load_store_config(context)?;
    let now = context.clock.now();
    let mut printer = Printer::stdout(options.format, now, config.policy.zone);
    let check = with_service(context, &config, Mode::Read, async |service| {
        Ok(service.policy_check(&operator()).await?)
    })
    .await?;
    for row in rows(&check).into_iter().take(options.max_rows()) {
        printer.print_row(&row)?;
    }
    printer.finish()?;
    Ok(Exit::Ok)
}

fn rows(check: &PolicyCheck) -> Vec<DepartureRow> {
    let tokens = check.tokens.iter().flat_map(|token| {
        let departures = token.departures.iter();
        departures.map(|departure| DepartureRow::of_token(token, departure))
    });
    let accounts = check.accounts.iter();
    let accounts = accounts.map(|over| DepartureRow::over_limit("account", over));
    let users = check.users.iter();
    let users = users.map(|over| DepartureRow::over_limit("user", over));
    tokens.chain(accounts).chain(users).collect()
}

/// One way in which something differs from the policy.
struct DepartureRow {
    /// `token`, `account` or `user`.
    what: &'static str,
    id: Option<String>,
    name: String,
    departure: &'static str,
    detail: String,
    latest: Option<DateTime<Utc>>,
}

impl DepartureRow {
    fn of_token(token: &DepartingToken, departure: &Departure) -> Self {
        let (kind, detail, latest) = match departure {
            Departure::TooLong { max, latest } => {
                let detail = format!("lives longer than {max}, the maximum of a new token");
                ("too_long", detail, Some(*latest))
            }
            Departure::Never => (
                "never",
                "never expires, which a new token may not".to_owned(),
                None,
            ),
            Departure::UnknownRole(role) => (
                "unknown_role",
                format!(
                    "has the role {role:?}, which is not in [service] roles and counts as the lowest"
                ),
                None,
            ),
            Departure::UnknownKind(kind) => (
                "unknown_kind",
                format!(
                    "is of the kind {kind:?}, which is not configured and has the terms of api"
                ),
                None,
            ),
        };
        Self {
            what: "token",
            id: Some(token.token.id.to_string()),
            name: token.token.label().to_owned(),
            departure: kind,
            detail,
            latest,
        }
    }

    fn over_limit(what: &'static str, over: &OverLimit) -> Self {
        let used = quantity(over.used, "token");
        Self {
            what,
            id: None,
            name: over.name.clone(),
            departure: "over_limit",
            detail: format!("has {used}, and the limit is {}: no new ones", over.limit),
            latest: None,
        }
    }
}

impl Row for DepartureRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("what", |row, _| json!(row.what)),
        ("id", |row, _| json!(row.id)),
        ("name", |row, _| json!(row.name)),
        ("departure", |row, _| json!(row.departure)),
        ("detail", |row, _| json!(row.detail)),
        // The latest expiry of a token that were issued now.
        ("latest", |row, _| super::output::when::rfc3339(row.latest)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("WHAT", 0, |row, _| Cell::new(row.what)),
        Column::elastic("ID", 2, 8, |row, _| Cell::optional(row.id.as_ref())),
        Column::elastic("NAME", 0, 12, |row, _| Cell::name(&row.name)),
        Column::fixed("DEPARTURE", 0, |row, _| Cell::new(row.departure)),
        Column::elastic("DETAIL", 1, 20, |row, _| Cell::new(&row.detail)),
    ];
    const EMPTY_MESSAGE: &'static str = "everything complies with the policy";
}
