//! The table columns of people and directories, and the sheet of one person.

use anstyle::Style;

use super::{address_cell, problem_cell};
use crate::cli::output::column::{BAD, Cell, Column, FAINT, Row, WARN};
use crate::cli::output::rows::{
    CoverageRow, CoveredRow, DirectoryRow, IdentityDetail, IdentityRow, StatusChangeRow,
};
use crate::cli::output::sheet::Sheet;
use crate::cli::output::when::{format_distance, format_instant, format_when};
use crate::domain::{IdentityStatus, IssuerMode};

impl Row for IdentityRow {
    const KEYS: &'static [&'static str] = &[
        "email",
        "directory",
        "status",
        "reason",
        "evidence",
        "observed_at",
        "since",
        "tokens",
        "known_status",
        "candidate",
        "candidate_since",
        "candidate_evidence",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("EMAIL", 0, 12, |row, _| address_cell(Some(&row.email))),
        Column::fixed("STATUS", 0, |row, _| status_cell(row.status)),
        Column::fixed("TOKENS", 1, |row, _| Cell::new(row.tokens.to_string())),
        Column::elastic("DIRECTORY", 2, 8, |row, _| Cell::name(&row.directory)),
        Column::fixed("SINCE", 3, |row, _| {
            Cell::optional(row.since.map(format_instant))
        }),
        Column::fixed("OBSERVED", 5, |row, _| {
            Cell::optional(row.observed_at.map(format_instant))
        }),
        Column::elastic("WHY", 4, 20, |row, _| {
            Cell::optional(row.reason_text().or_else(|| row.evidence.clone()))
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no people match";
}

impl IdentityRow {
    /// The reason; if the status is unknown, also the last known status.
    fn reason_text(&self) -> Option<String> {
        let reason = self.reason.map(|reason| reason.to_string());
        if self.status != IdentityStatus::Unknown || self.known_status == IdentityStatus::Unknown {
            return reason;
        }
        let reason = reason.unwrap_or_else(|| "no reason is recorded".to_owned());
        Some(format!("{reason}; last reported {}", self.known_status))
    }
}

impl Row for DirectoryRow {
    const KEYS: &'static [&'static str] = &[
        "name",
        "kind",
        "people",
        "observed_at",
        "held",
        "error",
        "state",
        "fresh",
        "fresh_until",
        "failing_since",
        "deferred_until",
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("NAME", 0, 8, |row, _| Cell::name(&row.name)),
        Column::fixed("KIND", 4, |row, _| Cell::new(&row.kind)),
        Column::fixed("STATE", 0, |row, _| {
            Cell::new(row.state).style(match row.state {
                "failing" | "held" => BAD,
                "never" => FAINT,
                _ => Style::new(),
            })
        }),
        Column::fixed("PEOPLE", 1, |row, _| Cell::new(row.people.to_string())),
        Column::fixed("LAST GOOD", 1, |row, view| {
            Cell::optional(row.observed_at.map(|at| format_distance(at, view.now)))
        }),
        Column::fixed("DATA", 0, |row, _| match (row.fresh, row.observed_at) {
            (true, _) => Cell::new("fresh"),
            (false, Some(_)) => Cell::new("stale").style(BAD),
            (false, None) => Cell::optional(None::<&str>),
        }),
        Column::fixed("NEXT", 2, |row, view| {
            Cell::optional(row.next.map(|at| format_distance(at, view.now)))
        }),
        Column::elastic("TROUBLE", 0, 20, |row, view| {
            if let (None, Some(until)) = (&row.held, row.deferred_until) {
                let text = format!("asked us to wait until {}", format_when(until, view.now));
                return Cell::new(text).style(WARN);
            }
            let failing = row.failing_since.map_or(String::new(), |since| {
                format!("failing since {}: ", format_instant(since))
            });
            let error = row.error.as_ref().map(|error| format!("{failing}{error}"));
            let held = row.held.as_ref().map(|held| format!("held: {held}"));
            let trouble: Vec<String> = held.into_iter().chain(error).collect();
            problem_cell((!trouble.is_empty()).then(|| trouble.join("; ")))
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no directories are configured";
}

impl Row for StatusChangeRow {
    const KEYS: &'static [&'static str] =
        &["change", "email", "before", "after", "reason", "evidence"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("CHANGE", 0, |row, _| Cell::new(row.change)),
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.email)),
        Column::fixed("BEFORE", 0, |row, _| {
            row.before.map_or_else(no_value, status_cell)
        }),
        Column::fixed("AFTER", 0, |row, _| {
            row.after.map_or_else(no_value, status_cell)
        }),
        Column::fixed("REASON", 2, |row, _| Cell::optional(row.reason.as_ref())),
        Column::elastic("EVIDENCE", 1, 16, |row, _| {
            Cell::optional(row.evidence.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "nothing would change";
}

impl Row for CoverageRow {
    const KEYS: &'static [&'static str] = &["cover", "reason", "count", "command"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("COVER", 0, |row, _| {
            Cell::new(row.cover).style(cover_style(row.cover, row.count))
        }),
        Column::fixed("REASON", 0, |row, _| Cell::optional(row.reason)),
        Column::fixed("COUNT", 0, |row, _| Cell::new(row.count.to_string())),
        Column::fixed("OF", 1, |row, _| {
            Cell::new(if row.cover == "no_issuer" {
                "tokens"
            } else {
                "issuers"
            })
        }),
        Column::elastic("LISTED BY", 0, 20, |row, _| Cell::new(&row.command)),
    ];
    const EMPTY_MESSAGE: &'static str = "there are no tokens";
}

impl Row for CoveredRow {
    const KEYS: &'static [&'static str] = &["email", "cover", "reason"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.email)),
        Column::fixed("COVER", 0, |row, _| {
            Cell::new(row.cover).style(cover_style(row.cover, 1))
        }),
        Column::fixed("REASON", 0, |row, _| Cell::optional(row.reason)),
    ];
    const EMPTY_MESSAGE: &'static str = "no issuers match";
}

impl IdentityDetail {
    pub const KEYS: &'static [&'static str] =
        &["email", "name", "mode", "address", "directories", "tokens"];

    pub fn write_to(&self, sheet: &mut Sheet) {
        sheet.title(self.email.as_str());
        sheet.field("name", Cell::optional(self.name.as_ref()));
        if !self.tokens.is_empty() || self.mode != IssuerMode::Sso {
            sheet.field("mode", Cell::new(self.mode.as_str()));
        }
        if self.address != self.email.key() {
            sheet.field("known as", Cell::new(&self.address));
        }
        if self.directories.is_empty() {
            sheet.title("Directories");
            sheet.text_line(match self.mode {
                IssuerMode::Sso => "no directory knows this address",
                IssuerMode::Local | IssuerMode::Service | IssuerMode::Ignore => {
                    "not covered by any directory"
                }
            });
        }
        for (index, row) in self.directories.iter().enumerate() {
            let confirmation = self.confirmations.get(index).and_then(Option::as_ref);
            self.write_directory(row, confirmation, sheet);
        }
        sheet.title("Tokens");
        sheet.table(&self.tokens, &["ISSUER"]);
    }

    fn write_directory(&self, row: &IdentityRow, confirmation: Option<&String>, sheet: &mut Sheet) {
        let view = *sheet.view();
        sheet.title(&format!("Directory {}", row.directory));
        let since = row.since.map(|at| format_when(at, view.now));
        let observed = row.observed_at.map(|at| format_when(at, view.now));
        if self.mode != IssuerMode::Sso {
            sheet.text_line("not covered by any directory; the next sync deletes this");
        }
        for (label, cell) in [
            ("status", status_cell(row.status)),
            ("since", Cell::optional(since)),
            ("why", Cell::optional(row.reason_text())),
            ("evidence", Cell::optional(row.evidence.as_ref())),
            ("observed", Cell::optional(observed)),
        ] {
            sheet.field(label, cell);
        }
        let Some(candidate) = row.candidate else {
            return;
        };
        sheet.field("pending", status_cell(candidate));
        let since = row.candidate_since.map(|at| format_when(at, view.now));
        sheet.field("pending since", Cell::optional(since));
        let evidence = row.candidate_evidence.as_ref();
        sheet.field("pending evidence", Cell::optional(evidence));
        sheet.field("accepted", Cell::optional(confirmation));
    }
}

fn no_value() -> Cell {
    Cell::optional(None::<&str>)
}

fn status_cell(status: IdentityStatus) -> Cell {
    Cell::new(status.as_str()).style(match status {
        IdentityStatus::Disabled | IdentityStatus::Deleted | IdentityStatus::OutOfGroup => BAD,
        IdentityStatus::Unknown => WARN,
        IdentityStatus::Active => Style::new(),
    })
}

fn cover_style(cover: &str, count: u64) -> Style {
    match (cover, count) {
        (_, 0) | ("not_covered", _) => FAINT,
        ("lost", _) => BAD,
        ("unknown" | "no_issuer", _) => WARN,
        _ => Style::new(),
    }
}
