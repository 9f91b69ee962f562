//! Splits bytes into rows, so that an invalid row does not affect the others and only one is in memory.

use std::borrow::Cow;
use std::io::{self, BufRead, ErrorKind};

use serde::{Deserialize, Serialize};

/// The most bytes of a row, including quotes and escapes.
pub(super) const MAX_ROW_LENGTH: usize = 1024 * 1024;

pub(super) const NOT_UTF_8: &str =
    "is not UTF-8; set encoding, such as \"windows-1252\", or save the file as UTF-8";
const TOO_LONG: &str = "the row is longer than 1 MiB; is a quote left open?";
const STRAY_QUOTE: &str = "the next cell or the line's end must follow the closing quote of a cell; \
                           write a quote inside a cell twice (\"\")";
const OPEN_QUOTE: &str = "a quoted cell is not closed; add the quote";
const NOT_AN_ARRAY: &str = "this must be an array of objects: [{…}, {…}]";
const NO_ITEMS: &str = "there is no list where items says; correct items";
const TRAILING: &str = "there is something after the end of the array; remove it";
/// The most bytes of a key that are compared.
const MAX_KEY_LENGTH: usize = 1024;
const NOT_CLOSED: &str = "the array is not closed, as in a truncated export; run the export again";

pub(super) enum Broken {
    Read(io::Error),
    /// The content is invalid from this line on.
    Content(u64, String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// The first byte of a row in the input, and the one after its last: that of its line end, or of an element of an
/// array.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span(pub u64, pub u64);

pub(super) struct Stream {
    pub inner: Box<dyn BufRead + Send>,
    pub bytes: u64,
}

impl Stream {
    /// Feeds bytes until one of them ends a row. Returns false at the end of the input.
    fn feed(&mut self, mut ends_row: impl FnMut(u8) -> bool) -> io::Result<bool> {
        loop {
            let piece = match self.inner.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                return Ok(false);
            }
            let end = piece.iter().position(|byte| ends_row(*byte));
            let used = end.map_or(piece.len(), |end| end + 1);
            self.inner.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Skips a byte if it is the next one.
    fn skip(&mut self, byte: u8) -> io::Result<bool> {
        let is_next = loop {
            match self.inner.fill_buf() {
                Ok(piece) => break piece.first() == Some(&byte),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.inner.consume(usize::from(is_next));
        self.bytes += u64::from(is_next);
        Ok(is_next)
    }
}

#[derive(Default)]
pub(super) struct RawRow {
    bytes: Vec<u8>,
    fault: Option<&'static str>,
    /// The line in which the row starts, from 1.
    pub start: u64,
    /// The bytes of the row, however long it is.
    length: u64,
    /// Line ends in the file so far.
    lines: u64,
}

impl RawRow {
    fn begin(&mut self) {
        self.bytes.clear();
        self.fault = None;
        self.length = 0;
        self.start = self.lines + 1;
    }

    fn push(&mut self, byte: u8) {
        self.length += 1;
        if self.bytes.len() < MAX_ROW_LENGTH {
            self.bytes.push(byte);
        } else {
            self.fault = Some(TOO_LONG);
        }
    }

    /// The text; what is not UTF-8 is replaced by U+FFFD.
    pub fn text(&self) -> Result<Cow<'_, str>, String> {
        if let Some(fault) = self.fault {
            return Err(fault.to_owned());
        }
        Ok(String::from_utf8_lossy(&self.bytes))
    }
}

/// Splits CSV by RFC 4180, strict about quotes: usual readers accept any quotes, so a missing one silently
/// swallows the rows up to the next quote.
///
/// Beyond the RFC: any line end (CRLF, LF, CR), blank lines, and blanks around quotes.
#[derive(Default)]
pub(super) struct CsvSplitter {
    pub separator: u8,
    /// The row has no line end.
    pub is_unended: bool,
    state: CsvState,
    /// The cells of the row, one after the other.
    pub row: RawRow,
    ends: Vec<usize>,
    /// The last byte was a CR, so an LF after it is part of the same line end.
    after_cr: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum CsvState {
    /// At the start of a cell, or in blanks before it.
    #[default]
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

impl CsvSplitter {
    pub fn new(separator: u8) -> Self {
        Self {
            separator,
            ..Self::default()
        }
    }

    /// Reads the next row that is not blank, and returns where it is; `None` at the end.
    pub fn advance(&mut self, stream: &mut Stream) -> io::Result<Option<Span>> {
        loop {
            let start = stream.bytes;
            self.state = CsvState::CellStart;
            self.row.begin();
            self.ends.clear();
            let has_ended = stream.feed(|byte| self.feed(byte))?;
            self.is_unended = !has_ended;
            if !has_ended {
                if self.state == CsvState::Quoted {
                    self.row.fault.get_or_insert(OPEN_QUOTE);
                }
                self.ends.push(self.row.bytes.len());
            }
            if self.after_cr && stream.skip(b'\n')? {
                self.after_cr = false;
            }
            let is_blank = self.row.bytes.iter().all(u8::is_ascii_whitespace);
            if self.row.fault.is_some() || !is_blank {
                return Ok(Some(Span(start, stream.bytes)));
            }
            if !has_ended {
                return Ok(None);
            }
        }
    }

    /// Returns true if the byte ends the row.
    fn feed(&mut self, byte: u8) -> bool {
        use CsvState::{CellStart, Closed, Faulty, QuoteSeen, Quoted, Unquoted};
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        if byte == b'\r' || (byte == b'\n' && !after_cr) {
            self.row.lines += 1;
        }
        let is_blank = matches!(byte, b' ' | b'\t') && byte != self.separator;
        match (self.state, byte) {
            (CellStart | QuoteSeen, b'"') => {
                if self.state == QuoteSeen {
                    self.row.push(byte);
                }
                self.state = Quoted;
            }
            (CellStart, _) if is_blank => {}
            (Quoted, b'"') => self.state = QuoteSeen,
            (Quoted, _) => self.row.push(byte),
            (_, b'\r' | b'\n') => {
                self.ends.push(self.row.bytes.len());
                return true;
            }
            (Faulty, _) => {}
            (_, byte) if byte == self.separator => self.end_cell(),
            (QuoteSeen | Closed, _) if is_blank => self.state = Closed,
            (QuoteSeen | Closed, _) => {
                self.row.fault.get_or_insert(STRAY_QUOTE);
                self.state = Faulty;
            }
            (CellStart | Unquoted, _) => {
                self.row.push(byte);
                self.state = Unquoted;
            }
        }
        false
    }

    fn end_cell(&mut self) {
        self.state = CsvState::CellStart;
        // Empty cells need no text, so their number has a limit of its own.
        if self.ends.len() < MAX_ROW_LENGTH / 8 {
            self.ends.push(self.row.bytes.len());
        } else {
            self.row.fault = Some(TOO_LONG);
        }
    }

    /// The cells of the row, if it can be split.
    pub fn cells(&self) -> Result<impl Iterator<Item = &[u8]>, String> {
        let RawRow {
            fault,
            start,
            lines: last,
            ..
        } = self.row;
        match fault {
            Some(fault) if last > start => {
                Err(format!("{fault}; read up to line {last} as one row"))
            }
            Some(fault) => Err(fault.to_owned()),
            None => {
                let starts = std::iter::once(&0).chain(&self.ends);
                let cells = starts.zip(&self.ends);
                Ok(cells.map(|(start, end)| &self.row.bytes[*start..*end]))
            }
        }
    }

    /// The cells of a header.
    pub fn texts(&self) -> Result<Vec<&str>, String> {
        self.cells()?
            .map(|cell| str::from_utf8(cell).map(str::trim))
            .collect::<Result<_, _>>()
            .map_err(|_| format!("the header {NOT_UTF_8}"))
    }
}

/// Splits JSON into objects; what is in them is not parsed here.
#[derive(Default)]
pub(super) struct JsonSplitter {
    state: JsonState,
    /// How many objects around the array must still be closed after it.
    around: u32,
    pub row: RawRow,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum JsonState {
    #[default]
    BeforeArray,
    ArrayStart,
    AfterComma,
    /// In an element, at this depth of brackets.
    Inside(u32),
    /// In a string within an element.
    String(u32),
    /// After a backslash in such a string.
    Escape(u32),
    AfterArray,
    /// After the array in objects of which so many are open.
    Tail(u32),
    TailString(u32),
    TailEscape(u32),
    /// After an unexpected character; what to do about it.
    Stray(&'static str),
}

impl JsonSplitter {
    /// Reads the next line that is not blank; `None` at the end.
    pub fn advance_line(&mut self, stream: &mut Stream) -> io::Result<Option<Span>> {
        loop {
            let start = stream.bytes;
            let row = &mut self.row;
            row.begin();
            let has_ended = stream.feed(|byte| {
                let ends_row = byte == b'\n';
                row.lines += u64::from(ends_row);
                if !ends_row && (!row.bytes.is_empty() || !byte.is_ascii_whitespace()) {
                    row.push(byte);
                }
                ends_row
            })?;
            if !row.bytes.is_empty() {
                return Ok(Some(Span(start, stream.bytes)));
            }
            if !has_ended {
                return Ok(None);
            }
        }
    }

    /// Reads the next element of an array; `None` at the end.
    pub fn advance_element(&mut self, stream: &mut Stream) -> Result<Option<Span>, Broken> {
        let has_ended = stream.feed(|byte| {
            let (state, ends_row) = self.feed(byte);
            self.state = state;
            self.row.lines += u64::from(byte == b'\n');
            ends_row
        })?;
        let broken = |reason: &str| Err(Broken::Content(self.row.lines + 1, reason.to_owned()));
        match self.state {
            JsonState::Stray(reason) => broken(reason),
            _ if has_ended => {
                let end = stream.bytes - 1;
                Ok(Some(Span(end - self.row.length, end)))
            }
            JsonState::AfterArray => Ok(None),
            _ => broken(NOT_CLOSED),
        }
    }

    /// The state after a byte, and whether it ends the element, as the comma or `]` after it does.
    fn feed(&mut self, byte: u8) -> (JsonState, bool) {
        use JsonState::{
            AfterArray, AfterComma, ArrayStart, BeforeArray, Escape, Inside, Stray, String, Tail,
            TailEscape, TailString,
        };
        match (self.state, byte) {
            (Stray(_), _) => (self.state, true),
            (BeforeArray | ArrayStart | AfterComma | AfterArray, byte)
                if byte.is_ascii_whitespace() =>
            {
                (self.state, false)
            }
            (BeforeArray, b'[') => (ArrayStart, false),
            (BeforeArray, _) => (Stray(NOT_AN_ARRAY), true),
            (AfterArray, _) => (Stray(TRAILING), true),
            (ArrayStart, b']') => (self.array_end(), false),
            (Tail(1), b'}') => (AfterArray, false),
            (Tail(depth), _) => match byte {
                b'"' => (TailString(depth), false),
                b'{' | b'[' => (Tail(depth.saturating_add(1)), false),
                b'}' | b']' => (Tail(depth - 1), false),
                _ => (Tail(depth), false),
            },
            (TailString(depth), b'\\') => (TailEscape(depth), false),
            (TailString(depth), b'"') => (Tail(depth), false),
            (TailString(depth) | TailEscape(depth), _) => (TailString(depth), false),
            (ArrayStart | AfterComma, _) => {
                self.row.begin();
                self.feed_inside(0, byte)
            }
            (Inside(depth), _) => self.feed_inside(depth, byte),
            (String(depth) | Escape(depth), _) => {
                self.row.push(byte);
                let state = match (self.state, byte) {
                    (String(_), b'\\') => Escape(depth),
                    (String(_), b'"') => Inside(depth),
                    _ => String(depth),
                };
                (state, false)
            }
        }
    }

    fn array_end(&self) -> JsonState {
        match self.around {
            0 => JsonState::AfterArray,
            around => JsonState::Tail(around),
        }
    }

    /// Skips what comes before the array at this path of keys.
    pub fn skip_to_items(&mut self, stream: &mut Stream, path: &[String]) -> Result<(), Broken> {
        for (depth, key) in path.iter().enumerate() {
            self.around = u32::try_from(depth).unwrap_or(u32::MAX).saturating_add(1);
            if self.next_solid(stream)? != Some(b'{') {
                return self.no_items();
            }
            loop {
                let mut name = Vec::new();
                match self.next_solid(stream)? {
                    Some(b'"') => self.read_string(stream, &mut name)?,
                    Some(b',') => continue,
                    _ => return self.no_items(),
                }
                if self.next_solid(stream)? != Some(b':') {
                    return self.no_items();
                }
                if name == key.as_bytes() {
                    break;
                }
                self.skip_value(stream)?;
            }
        }
        if self.next_solid(stream)? != Some(b'[') {
            return self.no_items();
        }
        self.state = JsonState::ArrayStart;
        Ok(())
    }

    fn no_items<T>(&self) -> Result<T, Broken> {
        Err(Broken::Content(self.row.lines + 1, NO_ITEMS.to_owned()))
    }

    fn next_byte(&mut self, stream: &mut Stream) -> Result<Option<u8>, Broken> {
        let mut next = None;
        stream.feed(|byte| {
            next = Some(byte);
            true
        })?;
        self.row.lines += u64::from(next == Some(b'\n'));
        Ok(next)
    }

    /// The next byte that is not white space.
    fn next_solid(&mut self, stream: &mut Stream) -> Result<Option<u8>, Broken> {
        loop {
            match self.next_byte(stream)? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                byte => return Ok(byte),
            }
        }
    }

    /// Reads the rest of a string; only so much of it is kept as a key can have.
    fn read_string(&mut self, stream: &mut Stream, text: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            match self.next_byte(stream)? {
                None => return self.no_items(),
                Some(b'"') => return Ok(()),
                Some(b'\\') => drop(self.next_byte(stream)?),
                Some(byte) if text.len() < MAX_KEY_LENGTH => text.push(byte),
                Some(_) => {}
            }
        }
    }

    /// Skips a value, and what is after it up to the next key.
    fn skip_value(&mut self, stream: &mut Stream) -> Result<(), Broken> {
        let mut depth = 0_u32;
        loop {
            match self.next_solid(stream)? {
                None => return self.no_items(),
                Some(b'"') => self.read_string(stream, &mut Vec::new())?,
                Some(b'{' | b'[') => depth = depth.saturating_add(1),
                Some(b'}' | b']') if depth == 0 => return self.no_items(),
                Some(b'}' | b']') => depth -= 1,
                Some(b',') if depth == 0 => return Ok(()),
                Some(_) => {}
            }
        }
    }

    fn feed_inside(&mut self, depth: u32, byte: u8) -> (JsonState, bool) {
        let state = match (depth, byte) {
            (0, b',') => return (JsonState::AfterComma, true),
            (0, b']') => return (self.array_end(), true),
            (_, b'"') => JsonState::String(depth),
            (_, b'{' | b'[') => JsonState::Inside(depth.saturating_add(1)),
            (_, b'}' | b']') => JsonState::Inside(depth.saturating_sub(1)),
            _ => JsonState::Inside(depth),
        };
        self.row.push(byte);
        (state, false)
    }
}
