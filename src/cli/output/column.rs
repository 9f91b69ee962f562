//! Rows, and the columns of their tables.

use anstyle::{AnsiColor, Effects, Style};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::text;

pub trait Row: Serialize + Sized + 'static {
    /// The keys of the JSON object in order; also the CSV header.
    const KEYS: &'static [&'static str];
    const COLUMNS: &'static [Column<Self>];
    /// The message if there are no rows.
    const EMPTY_MESSAGE: &'static str;
}

/// How the output is to look.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The current time, from which distances in time count.
    pub now: DateTime<Utc>,
    /// The width of the terminal. `None` if the output is not a terminal; then nothing is shortened.
    pub width: Option<usize>,
    pub use_color: bool,
}

impl View {
    #[must_use]
    pub fn for_stdout(now: DateTime<Utc>) -> Self {
        let terminal = console::Term::stdout();
        Self {
            now,
            // A terminal that does not report its size counts as 80 columns wide.
            width: terminal.is_term().then(|| usize::from(terminal.size().1)),
            use_color: anstream::AutoStream::choice(&std::io::stdout())
                != anstream::ColorChoice::Never,
        }
    }

    /// The text in this style, if colors are on.
    #[must_use]
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
    pub fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: text::clean(text.as_ref()).into_owned(),
            style: Style::new(),
        }
    }

    /// A cell with a name, cut to 80 characters.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self {
            text: text::clean_name(name),
            style: Style::new(),
        }
    }

    /// A cell with this text, or with a dash if there is none.
    #[must_use]
    pub fn optional(value: Option<impl AsRef<str>>) -> Self {
        value.map_or_else(|| Self::new("-").style(FAINT), Self::new)
    }

    #[must_use]
    pub fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }
}

pub const FAINT: Style = Style::new().effects(Effects::DIMMED);
pub const STRONG: Style = Style::new().effects(Effects::BOLD);
/// Needs attention soon.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Needs attention now.
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
