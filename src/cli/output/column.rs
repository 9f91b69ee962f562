//! What a row is, and how its columns look in a table.

use anstyle::{AnsiColor, Effects, Style};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::text;

/// A row of a listing.
pub trait Row: Serialize + Sized + 'static {
    /// The keys of its JSON object in their order; the header of its CSV.
    const KEYS: &'static [&'static str];
    /// The columns of its table.
    const COLUMNS: &'static [Column<Self>];
    /// What is said when there are no rows.
    const NONE: &'static str;
}

/// What a cell needs to know of its surroundings.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The current time; distances in time count from here.
    pub now: DateTime<Utc>,
    /// The width of the terminal in columns; none where the output is no terminal, and nothing is
    /// shortened then.
    pub width: Option<usize>,
    /// Whether to colour.
    pub color: bool,
}

impl View {
    /// How standard output wants it.
    #[must_use]
    pub fn of_stdout(now: DateTime<Utc>) -> Self {
        let terminal = console::Term::stdout();
        Self {
            now,
            // A terminal that does not tell its size is taken to be 80 columns wide.
            width: terminal.is_term().then(|| usize::from(terminal.size().1)),
            color: anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never,
        }
    }

    /// The text in this style, where there are colours.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.color && style != Style::new() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

/// A cell of a table. Its text is made harmless when the cell is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    /// A cell with this text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: text::clean(text.as_ref()).into_owned(),
            style: Style::new(),
        }
    }

    /// A cell with a name, cut at 80 characters.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self {
            text: text::name(name),
            style: Style::new(),
        }
    }

    /// A cell with this text, or with a dash.
    #[must_use]
    pub fn maybe(value: Option<impl AsRef<str>>) -> Self {
        value.map_or_else(|| Self::new("-").style(FAINT), Self::new)
    }

    /// The same in a style.
    #[must_use]
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

/// What matters little.
pub const FAINT: Style = Style::new().effects(Effects::DIMMED);
/// Headings.
pub const STRONG: Style = Style::new().effects(Effects::BOLD);
/// Look at it soon.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Look at it now.
pub const BAD: Style = AnsiColor::Red.on_default();

/// A column of a table.
pub struct Column<R> {
    pub(super) title: &'static str,
    /// How dispensable it is: the highest is narrowed, then left out, first; 0 always stays.
    pub(super) rank: u8,
    /// The width below which it is not narrowed; none is never narrowed.
    pub(super) least: Option<usize>,
    /// Where it tells rows apart: the characters that a terminal shows at least of each.
    pub(super) prefix: Option<usize>,
    pub(super) cell: fn(&R, &View) -> Cell,
}

impl<R> Column<R> {
    /// A column that is shown whole or, at a rank above 0, not at all.
    pub const fn fixed(title: &'static str, rank: u8, cell: fn(&R, &View) -> Cell) -> Self {
        Self {
            title,
            rank,
            least: None,
            prefix: None,
            cell,
        }
    }

    /// A column of ids, of which a terminal shows as much as tells them apart, and at least so many
    /// characters. It always stays: it is what other commands take.
    pub const fn id(prefix: usize, cell: fn(&R, &View) -> Cell) -> Self {
        Self {
            title: "ID",
            rank: 0,
            least: None,
            prefix: Some(prefix),
            cell,
        }
    }

    /// A column that can be narrowed to so many columns of the terminal.
    pub const fn elastic(
        title: &'static str,
        rank: u8,
        least: usize,
        cell: fn(&R, &View) -> Cell,
    ) -> Self {
        Self {
            title,
            rank,
            least: Some(least),
            prefix: None,
            cell,
        }
    }
}
