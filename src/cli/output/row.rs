//! Rows: the fields of their JSON objects and CSV records, and the columns of their tables.

use std::fmt::Display;

use anstyle::{AnsiColor, Effects, Style};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::when::{format_distance, format_expiry, format_instant, format_when};
use crate::domain::When;
use crate::text;

pub trait Row: Sized + 'static {
    /// The keys of the JSON object with their values, in order. The keys are also the CSV header.
    const FIELDS: &'static [Field<Self>];
    const COLUMNS: &'static [Column<Self>];
    const EMPTY_MESSAGE: &'static str;
}

/// A key, and the value of a row at a point in time.
pub type Field<R> = (&'static str, fn(&R, DateTime<Utc>) -> Value);

/// Serializes as the JSON object of a row.
pub struct JsonRow<'a, R> {
    pub row: &'a R,
    pub now: DateTime<Utc>,
}

impl<R: Row> Serialize for JsonRow<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { row, now } = *self;
        serializer.collect_map(R::FIELDS.iter().map(|(key, value)| (key, value(row, now))))
    }
}

pub fn objects<R: Row>(rows: &[R], now: DateTime<Utc>) -> Vec<JsonRow<'_, R>> {
    rows.iter().map(|row| JsonRow { row, now }).collect()
}

#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The current time, from which distances in time count.
    pub now: DateTime<Utc>,
    /// The time zone of the schedule, in which people read times.
    pub zone: Tz,
    /// The width of the terminal. `None` if the output is not a terminal; then nothing is shortened.
    pub width: Option<usize>,
    pub use_color: bool,
}

impl View {
    pub fn for_stdout(now: DateTime<Utc>, zone: Tz) -> Self {
        let terminal = console::Term::stdout();
        Self {
            now,
            zone,
            // A terminal that does not report its size counts as 80 columns wide.
            width: terminal.is_term().then(|| usize::from(terminal.size().1)),
            use_color: anstream::AutoStream::choice(&std::io::stdout())
                != anstream::ColorChoice::Never,
        }
    }

    /// The text in this style, if colors are on.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.use_color && style != Style::new() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// A cell of a table. Its text is sanitised on creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    pub fn new(text: impl Display) -> Self {
        Self {
            text: text::clean(&text.to_string()).into_owned(),
            style: Style::new(),
        }
    }

    /// A cell with a name, cut to 80 characters.
    pub fn name(name: &str) -> Self {
        Self {
            text: text::clean_name(name),
            style: Style::new(),
        }
    }

    pub fn dash() -> Self {
        Self::new("-").style(FAINT)
    }

    /// A cell with this text, or with a dash if there is none.
    pub fn optional(value: Option<impl Display>) -> Self {
        value.map_or_else(Self::dash, Self::new)
    }

    /// The items with commas between them, or a dash.
    pub fn list(items: impl IntoIterator<Item = impl Display>) -> Self {
        let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
        Self::optional((!items.is_empty()).then(|| items.join(", ")))
    }

    /// `2026-11-28 09:00Z (in 7 days)`, or a dash.
    pub fn when(at: impl Into<Option<DateTime<Utc>>>, view: &View) -> Self {
        Self::optional(at.into().map(|at| format_when(at, view.now, view.zone)))
    }

    /// Like [`Cell::when`]; a plain date without a time.
    pub fn expiry(when: Option<When>, view: &View) -> Self {
        Self::optional(when.map(|when| format_expiry(when, view.now, view.zone)))
    }

    /// An expiry without its distance.
    pub fn expires(when: Option<When>, view: &View) -> Self {
        match when {
            Some(When { day: Some(day), .. }) => Self::new(day),
            _ => Self::instant(when.map(|when| when.at), view),
        }
    }

    pub fn instant(at: impl Into<Option<DateTime<Utc>>>, view: &View) -> Self {
        Self::optional(at.into().map(|at| format_instant(at, view.zone)))
    }

    /// `in 7 days`, or a dash.
    pub fn distance(at: Option<DateTime<Utc>>, view: &View) -> Self {
        Self::optional(at.map(|at| format_distance(at, view.now)))
    }

    /// Red, unless it is a dash.
    pub fn mark_problem(self) -> Self {
        if self == Self::dash() {
            self
        } else {
            self.style(BAD)
        }
    }

    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

pub const FAINT: Style = Style::new().effects(Effects::DIMMED);
pub const STRONG: Style = Style::new().effects(Effects::BOLD);
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const BAD: Style = AnsiColor::Red.on_default();

pub struct Column<R> {
    pub(super) title: &'static str,
    /// The column with the highest rank is narrowed, then omitted, first. Rank 0 is never omitted.
    pub(super) rank: u8,
    /// The column is not narrowed below this width; `None` if it is never narrowed.
    pub(super) min_width: Option<usize>,
    /// For ids: a terminal shows at least this many characters of each.
    pub(super) prefix: Option<usize>,
    pub(super) cell: fn(&R, &View) -> Cell,
}

impl<R> Column<R> {
    /// A column that is shown whole or, with a rank above 0, omitted.
    pub const fn fixed(title: &'static str, rank: u8, cell: fn(&R, &View) -> Cell) -> Self {
        Self {
            title,
            rank,
            min_width: None,
            prefix: None,
            cell,
        }
    }

    /// A column of ids. A terminal shows unique prefixes of at least `prefix` characters. The column is
    /// never omitted, because other commands take ids as arguments.
    pub const fn id(prefix: usize, cell: fn(&R, &View) -> Cell) -> Self {
        Self {
            title: "ID",
            rank: 0,
            min_width: None,
            prefix: Some(prefix),
            cell,
        }
    }

    /// A column that can be narrowed to `min_width`.
    pub const fn elastic(
        title: &'static str,
        rank: u8,
        min_width: usize,
        cell: fn(&R, &View) -> Cell,
    ) -> Self {
        Self {
            title,
            rank,
            min_width: Some(min_width),
            prefix: None,
            cell,
        }
    }
}
