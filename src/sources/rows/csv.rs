//! CSV by RFC 4180, strict about quotes: usual readers accept any quotes, so a missing one silently swallows
//! the rows up to the next quote.
//!
//! Beyond the RFC: a byte order mark, any line end (CRLF, LF, CR), blank lines, and blanks around quotes.

use super::stream::{Fed, Stream};
use super::{Broken, Columns, MAX_ROW_LENGTH, Next, Row, TOO_LONG, Value, value};

pub(super) struct Parser<const N: usize> {
    columns: &'static Columns<N>,
    /// For each cell of a row, the index of its column.
    order: Vec<usize>,
    splitter: Splitter,
}

impl<const N: usize> Parser<N> {
    pub fn open(columns: &'static Columns<N>, stream: &mut Stream) -> Result<Self, Broken> {
        let mut splitter = Splitter::default();
        if !splitter.advance(stream)? {
            return Err(Broken::Content(1, no_header(columns)));
        }
        let order = read_header(columns, &splitter)
            .map_err(|reason| Broken::Content(splitter.start, reason))?;
        Ok(Self {
            columns,
            order,
            splitter,
        })
    }

    pub fn next(&mut self, stream: &mut Stream) -> Next<N> {
        if !self.splitter.advance(stream)? {
            return Ok(None);
        }
        Ok(Some(Row {
            line: self.splitter.start,
            values: self.values(),
        }))
    }

    fn values(&self) -> Result<[Value; N], String> {
        let cells = self.splitter.cells()?;
        let (found, wanted) = (self.splitter.ends.len(), self.order.len());
        if found != wanted {
            return Err(format!(
                "the row has {found} cells and the header {wanted}; \
                 put a cell that contains a comma between double quotes"
            ));
        }
        let mut values = [const { Value::Absent }; N];
        for (cell, column) in cells.zip(&self.order) {
            values[*column] = Value::text(self.columns.names[*column], cell)?;
        }
        Ok(values)
    }
}

fn read_header<const N: usize>(
    columns: &Columns<N>,
    splitter: &Splitter,
) -> Result<Vec<usize>, String> {
    let names: Vec<&str> = splitter.cells()?.map(str::trim).collect();
    // A first line without any known name is probably a row, so it is not quoted.
    if names.iter().all(|name| columns.find(name).is_none()) {
        let separator = ["\t", ";"]
            .into_iter()
            .find(|separator| names.concat().contains(separator));
        return Err(match separator {
            Some(";") => "the columns are separated by semicolons; use commas".to_owned(),
            Some(_) => "the columns are separated by tabs; use commas".to_owned(),
            None => no_header(columns),
        });
    }
    let mut order = Vec::new();
    for name in &names {
        match columns.find(name) {
            Some(column) if order.contains(&column) => {
                return Err(format!("the column {name} occurs twice; remove one"));
            }
            Some(column) => order.push(column),
            None if name.is_empty() => {
                let nth = order.len() + 1;
                return Err(format!("column {nth} has no name; name it or remove it"));
            }
            None => return Err(columns.explain_unknown(name)),
        }
    }
    match columns.required.iter().find(|name| !names.contains(name)) {
        Some(missing) => Err(format!("the column {missing} is missing; add it")),
        None => Ok(order),
    }
}

fn no_header<const N: usize>(columns: &Columns<N>) -> String {
    let (required, all) = (columns.required.join(" and "), columns.names.join(", "));
    format!("the first line must name the columns, at least {required}; they are {all}")
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[derive(Default)]
struct Splitter {
    state: State,
    /// The cells of the row, one after the other.
    text: Vec<u8>,
    /// The end of each cell in `text`.
    ends: Vec<usize>,
    /// Why the row is invalid.
    fault: Option<&'static str>,
    /// The line in which the row starts.
    start: u64,
    /// Line ends seen so far.
    lines: u64,
    /// The last byte was a CR, so an LF after it is part of the same line end.
    after_cr: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    /// At the start of a row.
    #[default]
    RowStart,
    /// At the start of a cell, or in blanks before it.
    CellStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted cell: its end, or the first of two.
    QuoteSeen,
    /// In blanks after the closing quote.
    Closed,
    /// After a fault, up to the line's end.
    Faulty,
}

const STRAY_QUOTE: &str = "a comma or the line's end must follow the closing quote of a cell; \
                           write a quote inside a cell twice (\"\")";
const OPEN_QUOTE: &str = "a quoted cell is not closed; add the quote";

impl Splitter {
    /// Reads the next row that is not blank. Returns false at the end.
    fn advance(&mut self, stream: &mut Stream) -> Result<bool, Broken> {
        loop {
            self.state = State::RowStart;
            self.text.clear();
            self.ends.clear();
            self.fault = None;
            let is_row = stream.feed(|piece| self.feed(piece))?;
            if !is_row {
                if self.state == State::RowStart {
                    return Ok(false);
                }
                if self.state == State::Quoted {
                    self.fault.get_or_insert(OPEN_QUOTE);
                }
                self.ends.push(self.text.len());
            }
            if self.fault.is_some() || !self.text.iter().all(u8::is_ascii_whitespace) {
                return Ok(true);
            }
        }
    }

    /// Consumes bytes up to the end of the row.
    fn feed(&mut self, piece: &[u8]) -> Fed {
        for (index, byte) in piece.iter().enumerate() {
            let line = self.lines + 1;
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            if *byte == b'\r' || (*byte == b'\n' && !after_cr) {
                self.lines += 1;
            }
            if self.state == State::RowStart {
                self.start = line;
                self.state = State::CellStart;
            }
            if self.feed_byte(*byte) {
                return Fed::Frame(index + 1);
            }
        }
        Fed::More
    }

    /// Returns true if the byte ends the row.
    fn feed_byte(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (State::CellStart | State::QuoteSeen, b'"') => {
                if self.state == State::QuoteSeen {
                    self.push(byte);
                }
                self.state = State::Quoted;
            }
            (State::CellStart, byte) if is_blank(byte) => {}
            (State::Quoted, b'"') => self.state = State::QuoteSeen,
            (State::Quoted, _) => self.push(byte),
            (_, b'\r' | b'\n') => {
                self.ends.push(self.text.len());
                return true;
            }
            (State::Faulty, _) => {}
            (_, b',') => self.end_cell(),
            (State::QuoteSeen | State::Closed, byte) if is_blank(byte) => {
                self.state = State::Closed;
            }
            (State::QuoteSeen | State::Closed, _) => {
                self.fault.get_or_insert(STRAY_QUOTE);
                self.state = State::Faulty;
            }
            (State::RowStart | State::CellStart | State::Unquoted, _) => {
                self.push(byte);
                self.state = State::Unquoted;
            }
        }
        false
    }

    fn end_cell(&mut self) {
        self.state = State::CellStart;
        // Empty cells need no text, so their number has a limit of its own.
        if self.ends.len() < MAX_ROW_LENGTH / 8 {
            self.ends.push(self.text.len());
        } else {
            self.fault = Some(TOO_LONG);
        }
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() < MAX_ROW_LENGTH {
            self.text.push(byte);
        } else {
            self.fault = Some(TOO_LONG);
        }
    }

    /// The cells of the row, if it is valid.
    fn cells(&self) -> Result<impl Iterator<Item = &str>, String> {
        if let Some(fault) = self.fault {
            return Err(match self.lines.max(self.start) {
                last if last > self.start => format!("{fault}; read up to line {last} as one row"),
                _ => fault.to_owned(),
            });
        }
        let text = str::from_utf8(&self.text).map_err(|_| value::NOT_UTF_8.to_owned())?;
        let starts = std::iter::once(&0).chain(&self.ends);
        // A quote or a comma between the halves of a character would split it.
        let are_boundaries = self.ends.iter().all(|end| text.is_char_boundary(*end));
        if !are_boundaries {
            return Err(value::NOT_UTF_8.to_owned());
        }
        Ok(starts
            .zip(&self.ends)
            .map(|(start, end)| &text[*start..*end]))
    }
}
