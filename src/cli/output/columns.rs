//! The table columns of the rows, and the sheet of one token.

mod people;

use anstyle::Style;
use chrono::TimeDelta;

use super::column::{BAD, Cell, Column, FAINT, Row, View, WARN};
use super::rows::{
    AuditRow, DifferenceRow, FindingRow, ForecastRow, NoticeRow, SourceRow, StepRow, TokenDetail,
    TokenRow,
};
use super::sheet::Sheet;
use super::when::{Instant, format_distance, format_instant, format_when};
use crate::domain::{Address, ExpiryOrigin, NoticeState, Severity, Status};
use crate::time::MAX_INSTANT;

impl Row for TokenRow {
    const KEYS: &'static [&'static str] = TOKEN_KEYS;
    const COLUMNS: &'static [Column<Self>] = &[
        // Eight digits nearly always identify one token.
        Column::id(8, |row, _| Cell::new(row.id.to_string())),
        Column::elastic("NAME", 0, 16, |row, _| Cell::name(row.label())),
        Column::fixed("STATUS", 0, |row, _| status_cell(row.status)),
        Column::fixed("EXPIRES", 1, expiry_cell),
        Column::elastic("ISSUER", 3, 14, |row, _| address_cell(row.issuer.as_ref())),
        Column::elastic("FINDINGS", 2, 10, |row, _| {
            let kinds: Vec<_> = row.findings.iter().map(|kind| kind.as_str()).collect();
            problem_cell((!kinds.is_empty()).then(|| kinds.join(", ")))
        }),
        Column::elastic("SOURCE", 4, 8, |row, _| Cell::name(&row.source)),
    ];
    const EMPTY_MESSAGE: &'static str = "no tokens match";
}

const TOKEN_KEYS: &[&str] = &[
    "id",
    "source",
    "external_id",
    "name",
    "description",
    "issuer",
    "account",
    "role",
    "scope",
    "created_at",
    "expires_at",
    "expiry",
    "expiry_origin",
    "status",
    "last_used_at",
    "due_at",
    "findings",
];

impl Row for StepRow {
    const KEYS: &'static [&'static str] = &["step", "at", "outcome"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("STEP", 0, |row, _| Cell::new(row.step.to_string())),
        Column::fixed("AT", 0, |row, view| when_cell(row.at, view)),
        Column::elastic("OUTCOME", 0, 20, |row, _| Cell::new(&row.outcome)),
    ];
    const EMPTY_MESSAGE: &'static str = "no steps: it has no known expiry";
}

impl Row for NoticeRow {
    const KEYS: &'static [&'static str] = &[
        "id",
        "token_id",
        "token_name",
        "topic",
        "step",
        "recipient",
        "channel",
        "state",
        "send_at",
        "planned_at",
        "sent_at",
        "attempts",
        "message_id",
        "reason",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("TOKEN", 0, 12, |row, _| {
            row.token_name
                .as_deref()
                .map_or_else(|| Cell::optional(None::<&str>), Cell::name)
        }),
        Column::fixed("TOPIC", 1, |row, _| match row.step {
            Some(step) => Cell::new(format!("{} {step}", row.topic)),
            None => Cell::new(&row.topic),
        }),
        Column::elastic("RECIPIENT", 0, 12, |row, _| {
            address_cell(Some(&row.recipient))
        }),
        Column::fixed("STATE", 0, |row, _| {
            Cell::new(row.state.as_str()).style(notice_style(row.state))
        }),
        Column::fixed("WHEN", 2, |row, view| {
            // Notices about a dead address have no time of their own; `FAR` marks them.
            let at = row.sent_at.unwrap_or(row.send_at);
            if at.0 >= MAX_INSTANT {
                Cell::new("with the next mail")
            } else {
                when_cell(at, view)
            }
        }),
        Column::elastic("REASON", 3, 16, |row, _| {
            Cell::optional(row.reason.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no notices match";
}

impl Row for FindingRow {
    const KEYS: &'static [&'static str] = &[
        "id",
        "token_id",
        "token_name",
        "kind",
        "severity",
        "since",
        "evidence",
        "state",
        "revoke_at",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        // The ids of one sweep share the first 13 characters, which encode its time.
        Column::id(18, |row, _| Cell::new(row.id.to_string())),
        Column::elastic("TOKEN", 0, 12, |row, _| Cell::name(&row.token_name)),
        Column::fixed("KIND", 1, |row, _| Cell::new(row.kind.as_str())),
        Column::fixed("SEVERITY", 3, |row, _| {
            Cell::new(row.severity.as_str()).style(severity_style(row.severity))
        }),
        Column::fixed("SINCE", 4, |row, view| when_cell(row.since, view)),
        Column::fixed("STATE", 5, |row, _| Cell::new(row.state.as_str())),
        Column::elastic("EVIDENCE", 2, 16, |row, _| Cell::new(&row.evidence)),
    ];
    const EMPTY_MESSAGE: &'static str = "no findings match";
}

impl Row for SourceRow {
    const KEYS: &'static [&'static str] = &[
        "name",
        "kind",
        "last_sync_at",
        "last_good_sync_at",
        "tokens",
        "state",
        "error",
        "deferred_until",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("NAME", 0, 8, |row, _| Cell::name(&row.name)),
        Column::fixed("KIND", 4, |row, _| Cell::new(&row.kind)),
        Column::fixed("STATE", 0, |row, _| {
            Cell::new(row.state).style(match row.state {
                "failing" => BAD,
                "never" => FAINT,
                _ => Style::new(),
            })
        }),
        Column::fixed("TOKENS", 1, |row, _| Cell::new(row.tokens.to_string())),
        Column::fixed("LAST GOOD", 1, |row, view| {
            Cell::optional(
                row.last_good_sync_at
                    .map(|at| format_distance(at, view.now)),
            )
        }),
        Column::fixed("LAST", 3, |row, view| {
            Cell::optional(row.last_sync_at.map(|at| format_distance(at, view.now)))
        }),
        Column::fixed("NEXT", 2, |row, view| {
            Cell::optional(row.next.map(|at| format_distance(at, view.now)))
        }),
        Column::elastic("TROUBLE", 0, 20, |row, view| match row.deferred_until {
            Some(until) => Cell::new(format!(
                "asked us to wait until {}",
                format_when(until, view.now)
            ))
            .style(WARN),
            None => problem_cell(row.error.as_ref()),
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no sources are configured";
}

impl Row for DifferenceRow {
    const KEYS: &'static [&'static str] = &[
        "change",
        "id",
        "external_id",
        "name",
        "issuer",
        "status",
        "expires_at",
        "fields",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("CHANGE", 0, |row, _| Cell::new(row.change)),
        Column::elastic("TOKEN", 0, 12, |row, _| Cell::name(&row.external_id)),
        Column::elastic("NAME", 2, 12, |row, _| Cell::name(&row.name)),
        Column::fixed("STATUS", 3, |row, _| status_cell(row.status)),
        Column::fixed("EXPIRES", 3, |row, _| {
            Cell::optional(row.expires_at.map(format_instant))
        }),
        Column::elastic("ISSUER", 4, 12, |row, _| address_cell(row.issuer.as_ref())),
        Column::elastic("FIELDS", 1, 12, |row, _| {
            Cell::optional((!row.fields.is_empty()).then(|| row.fields.join(", ")))
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "nothing would change";
}

impl Row for AuditRow {
    const KEYS: &'static [&'static str] = &["at", "actor", "action", "subject", "reason"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("AT", 1, |row, _| Cell::new(format_instant(row.at))),
        Column::elastic("ACTOR", 0, 8, |row, _| Cell::name(&row.actor)),
        Column::fixed("ACTION", 0, |row, _| Cell::new(&row.action)),
        Column::elastic("SUBJECT", 0, 12, |row, _| Cell::name(&row.subject)),
        Column::elastic("REASON", 0, 12, |row, _| {
            Cell::optional(row.reason.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "the audit trail is empty";
}

impl Row for ForecastRow {
    const KEYS: &'static [&'static str] = &[
        "at",
        "token_id",
        "token_name",
        "source",
        "expires_at",
        "step",
        "recipients",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("AT", 0, |row, view| when_cell(row.at, view)),
        Column::elastic("TOKEN", 0, 12, |row, _| Cell::name(&row.token_name)),
        Column::fixed("STEP", 0, |row, _| {
            Cell::optional(row.step.map(|step| step.to_string()))
        }),
        Column::fixed("EXPIRES", 2, |row, _| {
            Cell::new(format_instant(row.expires_at))
        }),
        Column::elastic("RECIPIENTS", 1, 16, |row, _| {
            let to: Vec<_> = row.recipients.iter().map(Address::as_str).collect();
            Cell::optional((!to.is_empty()).then(|| to.join(", ")))
        }),
        Column::elastic("SOURCE", 3, 8, |row, _| Cell::name(&row.source)),
    ];
    const EMPTY_MESSAGE: &'static str = "nothing expires and no mail is due in this time";
}

impl TokenDetail {
    pub const KEYS: &'static [&'static str] = TOKEN_KEYS;

    /// Writes the token and the steps of its current expiry to a sheet.
    pub fn write_to(&self, sheet: &mut Sheet, steps: &[StepRow]) {
        let token = &self.token;
        let view = *sheet.view();
        let text = |value: &Option<String>| Cell::optional(value.as_ref());
        let time = |at: Option<Instant>| Cell::optional(at.map(|at| format_when(at, view.now)));
        let admins: Vec<_> = self.admins.iter().map(Address::as_str).collect();
        let admins = Cell::optional((!admins.is_empty()).then(|| admins.join(", ")));
        sheet.title(&Cell::name(token.label()).text);
        for (label, cell) in [
            ("id", Cell::new(token.id.to_string())),
            ("source", Cell::name(&token.source)),
            ("external id", Cell::new(&token.external_id)),
            ("status", status_cell(token.status)),
            ("expires", expiry_cell(token, &view)),
            (
                "set by",
                Cell::optional(token.expiry_origin.map(origin_text)),
            ),
            ("issuer", address_cell(token.issuer.as_ref())),
            ("admins", admins),
            ("account", text(&token.account)),
            ("role", text(&token.role)),
            ("scope", text(&token.scope)),
            ("description", text(&token.description)),
            ("created", time(token.created_at)),
            ("last used", time(token.last_used_at)),
            ("next due", time(token.due_at)),
            ("page", text(&self.page)),
        ] {
            sheet.field(label, cell);
        }
        sheet.title("Steps");
        sheet.table(steps, &[]);
        sheet.title("Notices");
        sheet.table(&self.notices, &["TOKEN"]);
        sheet.title("Findings");
        sheet.table(&token.findings, &["TOKEN"]);
    }
}

/// Who set the expiry of a token.
fn origin_text(origin: ExpiryOrigin) -> &'static str {
    match origin {
        ExpiryOrigin::Source | ExpiryOrigin::Computed => origin.as_str(),
        ExpiryOrigin::Policy => "policy (yours; the token still works after it)",
    }
}

fn address_cell(address: Option<&Address>) -> Cell {
    Cell::optional(address.map(Address::as_str))
}

/// A problem in red, or a dash.
fn problem_cell(text: Option<impl AsRef<str>>) -> Cell {
    let style = if text.is_some() { BAD } else { FAINT };
    Cell::optional(text).style(style)
}

fn when_cell(at: Instant, view: &View) -> Cell {
    Cell::new(format_when(at, view.now))
}

fn expiry_cell<F>(row: &TokenRow<F>, view: &View) -> Cell {
    let Some(at) = row.expires_at else {
        return Cell::new(row.expiry);
    };
    let left = at.0 - view.now;
    let style = match row.status {
        Status::Active if left <= TimeDelta::days(1) => BAD,
        Status::Active if left <= TimeDelta::days(7) => WARN,
        Status::Active => Style::new(),
        Status::Expired | Status::Disabled | Status::Revoked | Status::Gone => FAINT,
    };
    when_cell(at, view).style(style)
}

fn status_cell(status: Status) -> Cell {
    Cell::new(status.as_str()).style(match status {
        Status::Active => Style::new(),
        Status::Expired => BAD,
        Status::Disabled | Status::Revoked | Status::Gone => FAINT,
    })
}

fn notice_style(state: NoticeState) -> Style {
    match state {
        NoticeState::Failed => BAD,
        NoticeState::Unknown => WARN,
        NoticeState::Cancelled | NoticeState::Suppressed => FAINT,
        NoticeState::Planned | NoticeState::Sending | NoticeState::Sent => Style::new(),
    }
}

fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => BAD,
        Severity::High => WARN,
        Severity::Medium => Style::new(),
    }
}
