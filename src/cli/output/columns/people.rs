//! How people and those who know them look in a table, and one person on a sheet.

use anstyle::Style;

use super::{address, alarm};
use crate::cli::output::{
    column::{BAD, Cell, Column, FAINT, Row, WARN},
    rows::{CoverageRow, CoveredRow, DirectoryRow, IdentityDetail, IdentityRow, TurnRow},
    sheet::Sheet,
    when::{distance, instant, when},
};
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
        Column::elastic("EMAIL", 0, 12, |row, _| address(Some(&row.email))),
        Column::fixed("STATUS", 0, |row, _| status(row.status)),
        Column::fixed("TOKENS", 1, |row, _| Cell::new(row.tokens.to_string())),
        Column::elastic("DIRECTORY", 2, 8, |row, _| Cell::name(&row.directory)),
        Column::fixed("SINCE", 3, |row, _| Cell::maybe(row.since.map(instant))),
        Column::fixed("OBSERVED", 5, |row, _| {
            Cell::maybe(row.observed_at.map(instant))
        }),
        Column::elastic("WHY", 4, 20, |row, _| {
            Cell::maybe(row.why().or_else(|| row.evidence.clone()))
        }),
    ];
    const NONE: &'static str = "no people match";
}

impl IdentityRow {
    /// The reason, and where nothing is known now what was.
    fn why(&self) -> Option<String> {
        let reason = self.reason.clone();
        if self.status != IdentityStatus::Unknown || self.known_status == IdentityStatus::Unknown {
            return reason;
        }
        let reason = reason.unwrap_or_else(|| "no reason is known".to_owned());
        Some(format!("{reason}; it last said {}", self.known_status))
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
            Cell::maybe(row.observed_at.map(|at| distance(at, view.now)))
        }),
        Column::fixed("WORD", 0, |row, _| match (row.fresh, row.observed_at) {
            (true, _) => Cell::new("fresh"),
            (false, Some(_)) => Cell::new("stale").style(BAD),
            (false, None) => Cell::maybe(None::<&str>),
        }),
        Column::fixed("NEXT", 2, |row, view| {
            Cell::maybe(row.next.map(|at| distance(at, view.now)))
        }),
        Column::elastic("TROUBLE", 0, 20, |row, view| {
            if let (None, Some(until)) = (&row.held, row.deferred_until) {
                let said = format!("asked to be left alone until {}", when(until, view.now));
                return Cell::new(said).style(WARN);
            }
            let failing = row.failing_since.map_or(String::new(), |since| {
                format!("failing since {}: ", instant(since))
            });
            let error = row.error.as_ref().map(|error| format!("{failing}{error}"));
            let held = row.held.as_ref().map(|held| format!("held: {held}"));
            let trouble: Vec<String> = held.into_iter().chain(error).collect();
            alarm((!trouble.is_empty()).then(|| trouble.join("; ")))
        }),
    ];
    const NONE: &'static str = "no directories are configured";
}

impl Row for TurnRow {
    const KEYS: &'static [&'static str] =
        &["change", "email", "before", "after", "reason", "evidence"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("CHANGE", 0, |row, _| Cell::new(row.change)),
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.email)),
        Column::fixed("BEFORE", 0, |row, _| row.before.map_or_else(none, status)),
        Column::fixed("AFTER", 0, |row, _| row.after.map_or_else(none, status)),
        Column::fixed("REASON", 2, |row, _| Cell::maybe(row.reason.as_ref())),
        Column::elastic("EVIDENCE", 1, 16, |row, _| {
            Cell::maybe(row.evidence.as_ref())
        }),
    ];
    const NONE: &'static str = "nothing would change";
}

impl Row for CoverageRow {
    const KEYS: &'static [&'static str] = &["cover", "reason", "count", "command"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("COVER", 0, |row, _| {
            Cell::new(row.cover).style(cover_style(row.cover, row.count))
        }),
        Column::fixed("REASON", 0, |row, _| Cell::maybe(row.reason)),
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
    const NONE: &'static str = "there are no tokens";
}

impl Row for CoveredRow {
    const KEYS: &'static [&'static str] = &["email", "cover", "reason"];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.email)),
        Column::fixed("COVER", 0, |row, _| {
            Cell::new(row.cover).style(cover_style(row.cover, 1))
        }),
        Column::fixed("REASON", 0, |row, _| Cell::maybe(row.reason)),
    ];
    const NONE: &'static str = "no issuers match";
}

impl IdentityDetail {
    /// The keys that a row of CSV shows.
    pub const KEYS: &'static [&'static str] =
        &["email", "name", "mode", "address", "directories", "tokens"];

    /// Writes the person on a sheet.
    pub fn write_to(&self, sheet: &mut Sheet) {
        sheet.title(self.email.as_str());
        sheet.field("name", Cell::maybe(self.name.as_ref()));
        if !self.tokens.is_empty() || self.mode != IssuerMode::Sso {
            sheet.field("mode", Cell::new(self.mode.as_str()));
        }
        if self.address != self.email.key() {
            sheet.field("known as", Cell::new(&self.address));
        }
        if self.directories.is_empty() {
            sheet.title("Directories");
            sheet.say(match self.mode {
                IssuerMode::Sso => "no directory knows this address",
                IssuerMode::Local | IssuerMode::Service | IssuerMode::Ignore => {
                    "not covered by any directory"
                }
            });
        }
        for (at, row) in self.directories.iter().enumerate() {
            self.write_directory(row, self.believed.get(at).and_then(Option::as_ref), sheet);
        }
        sheet.title("Tokens");
        sheet.table(&self.tokens, &["ISSUER"]);
    }

    fn write_directory(&self, row: &IdentityRow, believed: Option<&String>, sheet: &mut Sheet) {
        let view = *sheet.view();
        sheet.title(&format!("Directory {}", row.directory));
        let since = row.since.map(|at| when(at, view.now));
        let observed = row.observed_at.map(|at| when(at, view.now));
        if self.mode != IssuerMode::Sso {
            sheet.say("not covered by any directory; the next sync forgets this");
        }
        for (label, cell) in [
            ("status", status(row.status)),
            ("since", Cell::maybe(since)),
            ("why", Cell::maybe(row.why())),
            ("evidence", Cell::maybe(row.evidence.as_ref())),
            ("observed", Cell::maybe(observed)),
        ] {
            sheet.field(label, cell);
        }
        let Some(candidate) = row.candidate else {
            return;
        };
        sheet.field("claimed", status(candidate));
        let since = row.candidate_since.map(|at| when(at, view.now));
        sheet.field("claimed since", Cell::maybe(since));
        let words = row.candidate_evidence.as_ref();
        sheet.field("in whose words", Cell::maybe(words));
        sheet.field("believed", Cell::maybe(believed));
    }
}

fn none() -> Cell {
    Cell::maybe(None::<&str>)
}

fn status(status: IdentityStatus) -> Cell {
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
