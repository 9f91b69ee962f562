//! Token files: the source `file`, which is a file or a folder of files that are read again if they have changed,
//! and the columns that `lapsed import` and queries share with them.

mod stamp;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::cells::{CellReader, CellRules, Value, flags_of};
use super::owner_cell::set_owners;
use super::rows::{self, Columns, Format, Row, Rows, Target};
use super::{
    CheckReport, Error, Fetched, LastListing, Listing, RefusedRow, RefusedRows, Source, hex,
};
use super::{ListingBuilder, MAX_ID_LENGTH, RowPosition};
use crate::domain::{Cell, ListedToken, Unreadable, column};

pub(crate) use self::stamp::FileStamp;
pub use super::rows::options::ReadOptions;
pub use super::rows::{Input, Span};

/// How many rows of each file [`Source::check`] reads.
const CHECKED_ROWS: u64 = 1000;

const UNENDED: &str = "the last line has no end, as in a file that was cut off; \
                       run the export again, or end the line";

/// How many rows are read between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;

pub(super) const COLUMNS: Columns<12> = Columns {
    names: [
        "external_id",
        "name",
        "issuer_email",
        "expires_at",
        "description",
        "account",
        "role",
        "scope",
        "created_at",
        "last_used_at",
        "issuer_name",
        "status",
    ],
    required: &["external_id"],
    export: &[
        ("id", Target::Nothing),
        ("source", Target::Nothing),
        ("external_id", Target::Column("external_id")),
        ("name", Target::Column("name")),
        ("description", Target::Column("description")),
        ("issuer", Target::Column("issuer_email")),
        ("owners", Target::OwnersOf("issuer_email")),
        ("account", Target::Column("account")),
        ("role", Target::Column("role")),
        ("scope", Target::Column("scope")),
        ("kind", Target::Nothing),
        ("networks", Target::Nothing),
        ("created_at", Target::Column("created_at")),
        ("expires_at", Target::Column("expires_at")),
        ("expires_on", Target::DayOf("expires_at")),
        ("expiry", Target::NeverOf("expires_at")),
        ("expiry_origin", Target::OriginOf("expires_at")),
        ("status", Target::Column("status")),
        ("last_used_at", Target::Column("last_used_at")),
        ("due_at", Target::Nothing),
        ("findings", Target::Nothing),
    ],
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV, JSON or JSON lines file, or a folder of them. An id that is in two files of a folder is refused.
    pub path: PathBuf,
    pub options: ReadOptions,
}

/// Sets the name that a column has in files.
///
/// # Errors
/// If there is no such column.
pub fn map_column(options: &mut ReadOptions, column: &str, name: &str) -> Result<(), String> {
    if COLUMNS.find(column).is_none() {
        let all = COLUMNS.names.join(", ");
        return Err(format!("{column} is not a column; the columns are {all}"));
    }
    if column == column::STATUS {
        options.cells.flags = flags_of(name);
    }
    options.columns.insert(column.to_owned(), name.to_owned());
    Ok(())
}

#[async_trait]
impl Source for Config {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let source = self.clone();
        let previous = last.fingerprint.clone();
        run_blocking(move || fetch(&source, previous.as_deref())).await
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let source = self.clone();
        run_blocking(move || check(&source)).await
    }

    fn missing_to_revoke(&self) -> Option<&'static str> {
        Some(
            "configure the system that the file comes from as a source, or remove allow_revoke: a file only lists tokens",
        )
    }
}

/// Runs file access on a thread that may block.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::TempFile(error.into())),
        },
    }
}

fn fetch(source: &Config, previous: Option<&str>) -> Result<Fetched<Listing>, Error> {
    let stamp = FileStamp::take(&source.path)?;
    let options = format!("{:?}", source.options);
    let fingerprint = hex(Sha256::new_with_prefix(&stamp.fingerprint).chain_update(options));
    if previous == Some(fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let callbacks = &mut ReadCallbacks::default();
    let mut listing = read_files(&inputs(&stamp), &source.options, callbacks)?;
    stamp.ensure_unchanged(&source.path)?;
    listing.fingerprint = Some(fingerprint);
    Ok(Fetched::New(listing))
}

fn check(source: &Config) -> Result<CheckReport, Error> {
    let stamp = FileStamp::take(&source.path)?;
    let mut first = None;
    let mut on_unreadable = |cell: UnreadableCell| {
        first.get_or_insert(cell.to_string());
    };
    let callbacks = &mut ReadCallbacks {
        on_unreadable: Some(&mut on_unreadable),
        ..ReadCallbacks::default()
    };
    let preview = read_up_to(CHECKED_ROWS, &inputs(&stamp), &source.options, callbacks)?;
    if let Some(refusal) = preview.listing.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = preview.listing.count;
    let what = match (stamp.files.len(), preview.format_of_last) {
        (1, Some(format)) => format.to_string(),
        (files, _) => format!("{files} files"),
    };
    let mut summary = if preview.has_more {
        format!("{what}, the first {count} tokens are valid")
    } else {
        format!("{what}, {count} tokens")
    };
    summary.push_str(&describe_units(&preview.units));
    Ok(CheckReport {
        summary,
        notes: preview.listing.columns.notes(first),
        ..CheckReport::default()
    })
}

/// For a check: how numbers were read as dates.
pub(super) fn describe_units(units: &BTreeSet<&'static str>) -> String {
    if units.is_empty() {
        return String::new();
    }
    let units: Vec<_> = units.iter().copied().collect();
    format!("; dates in {} since 1970", units.join(" and "))
}

fn inputs(stamp: &FileStamp) -> Vec<Input> {
    stamp.files.iter().cloned().map(Input::Path).collect()
}

/// What was read of all inputs so far, including refused rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub bytes: u64,
    pub rows: u64,
}

/// A cell that cannot be read, of a record that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableCell {
    pub file: String,
    /// The line in which the record starts.
    pub line: u64,
    pub column: String,
    pub reason: String,
}

impl fmt::Display for UnreadableCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            reason,
        } = self;
        write!(f, "{file}:{line}: {column} {reason}")
    }
}

/// Returns why a token with this external id is refused.
type WhyRefused<'a> = dyn Fn(&str) -> Option<String> + 'a;
type OnRefused<'a> = dyn FnMut(&RefusedRow, Span) + 'a;

#[derive(Default)]
pub struct ReadCallbacks<'a> {
    /// Called every few thousand rows and at the end of each input.
    pub on_progress: Option<&'a mut dyn FnMut(Progress)>,
    /// Called for every refused row; [`RefusedRows`] keeps only the first ones.
    pub on_refused: Option<&'a mut OnRefused<'a>>,
    pub on_unreadable: Option<&'a mut dyn FnMut(UnreadableCell)>,
    /// Called with the line of a last row without a line end. Without it, such a row is refused: the file may have
    /// been cut off.
    pub accept_unended: Option<&'a mut dyn FnMut(u64)>,
    pub why_refused: Option<&'a WhyRefused<'a>>,
}

/// Reads whole files into one listing without a fingerprint, in bounded memory; blocks the thread. Rows that cannot
/// be split or have no id are refused; a file that is invalid as a whole is an error.
pub fn read_files(
    inputs: &[Input],
    options: &ReadOptions,
    callbacks: &mut ReadCallbacks<'_>,
) -> Result<Listing, Error> {
    Ok(read_up_to(u64::MAX, inputs, options, callbacks)?.listing)
}

/// Copies the rows at `spans` to `target`, byte for byte and after what comes before the rows. So the copy can be
/// corrected and read again.
pub fn copy_rows(
    input: &Input,
    options: &ReadOptions,
    spans: &mut [Span],
    target: &mut impl Write,
) -> Result<(), Error> {
    rows::copy_rows(input, &COLUMNS, options, spans, target)
}

struct Preview {
    format_of_last: Option<Format>,
    listing: Listing,
    units: BTreeSet<&'static str>,
    has_more: bool,
}

/// Reads at most `limit` rows of each file.
fn read_up_to(
    limit: u64,
    inputs: &[Input],
    options: &ReadOptions,
    callbacks: &mut ReadCallbacks<'_>,
) -> Result<Preview, Error> {
    let mut reader = FileReader {
        callbacks,
        rules: &options.cells,
        limit,
        progress: Progress::default(),
        refusals: RefusedRows::default(),
        units: BTreeSet::new(),
        builder: ListingBuilder::default(),
    };
    let mut format_of_last = None;
    let mut has_more = false;
    for (index, input) in inputs.iter().enumerate() {
        let mut rows = Rows::open(input, &COLUMNS, options)?;
        format_of_last = Some(rows.format);
        has_more |= reader.read_file(index, &mut rows)?;
    }
    let builder = std::mem::take(&mut reader.builder);
    let mut listing = builder.finish_rows(|first, repeated| {
        let refusal = refuse_duplicate(inputs, first, repeated);
        reader.refuse(refusal, repeated.span);
    })?;
    listing.refusals = reader.refusals;
    listing.refusals.shown.sort_by_key(|refusal| {
        let mut inputs = inputs.iter();
        let file = inputs.position(|input| input.to_string() == refusal.file);
        (file, refusal.line)
    });
    Ok(Preview {
        format_of_last,
        listing,
        units: reader.units,
        has_more,
    })
}

struct FileReader<'a, 'b> {
    callbacks: &'a mut ReadCallbacks<'b>,
    rules: &'a CellRules,
    limit: u64,
    progress: Progress,
    refusals: RefusedRows,
    units: BTreeSet<&'static str>,
    builder: ListingBuilder,
}

impl FileReader<'_, '_> {
    /// Returns true if the file has more rows than the limit.
    fn read_file(&mut self, index: usize, rows: &mut Rows<12>) -> Result<bool, Error> {
        let before = self.progress;
        while let Some(row) = rows.next() {
            if self.progress.rows - before.rows == self.limit {
                return Ok(true);
            }
            self.progress.rows += 1;
            self.read_row(index, &rows.file, row?)?;
            if self.progress.rows.is_multiple_of(PROGRESS_ROWS) {
                self.report_progress(before.bytes + rows.bytes());
            }
        }
        self.report_progress(before.bytes + rows.bytes());
        Ok(false)
    }

    fn read_row(&mut self, index: usize, file: &str, row: Row<12>) -> Result<(), Error> {
        let (line, span) = (row.line, row.span);
        let values = match &mut self.callbacks.accept_unended {
            Some(on_unended) if row.is_unended => {
                on_unended(line);
                row.values
            }
            None if row.is_unended => Err(UNENDED.to_owned()),
            _ => row.values,
        };
        let token =
            values.and_then(|values| parse_token(&COLUMNS, values, self.rules, &mut self.units));
        let token = token.and_then(|token| {
            let why_refused = self.callbacks.why_refused;
            let refused = why_refused.and_then(|why| why(&token.external_id));
            refused.map_or(Ok(token), Err)
        });
        match token {
            Ok(token) => {
                self.report_unreadable(file, line, &token);
                let file = index;
                let position = RowPosition { file, line, span };
                self.builder.push_checked(position, &token)
            }
            Err(reason) => {
                let file = file.to_owned();
                self.refuse(RefusedRow { file, line, reason }, span);
                Ok(())
            }
        }
    }

    fn report_unreadable(&mut self, file: &str, line: u64, token: &ListedToken) {
        if let Some(on_unreadable) = &mut self.callbacks.on_unreadable {
            for (column, reason) in &token.unreadable {
                on_unreadable(UnreadableCell {
                    file: file.to_owned(),
                    line,
                    column: column.clone(),
                    reason: reason.clone(),
                });
            }
        }
    }

    fn report_progress(&mut self, bytes: u64) {
        self.progress.bytes = bytes;
        if let Some(on_progress) = &mut self.callbacks.on_progress {
            on_progress(self.progress);
        }
    }

    fn refuse(&mut self, refusal: RefusedRow, span: Span) {
        if let Some(on_refused) = &mut self.callbacks.on_refused {
            on_refused(&refusal, span);
        }
        self.refusals.add(refusal);
    }
}

fn refuse_duplicate(inputs: &[Input], first: RowPosition, repeated: RowPosition) -> RefusedRow {
    let mut first_row = format!("line {}", first.line);
    if first.file != repeated.file {
        first_row = format!("{}, {first_row}", inputs[first.file]);
    }
    RefusedRow {
        file: inputs[repeated.file].to_string(),
        line: repeated.line,
        reason: format!("the external_id is already in {first_row}; keep one of the two"),
    }
}

/// Reads a record cell by cell. A cell that cannot be read is recorded in the token; without a usable id there is no
/// token.
pub(super) fn parse_token<const N: usize>(
    columns: &Columns<N>,
    values: [Value; N],
    rules: &CellRules,
    units: &mut BTreeSet<&'static str>,
) -> Result<ListedToken, String> {
    let mut token = ListedToken::default();
    let mut cells = CellReader {
        rules,
        unreadable: Unreadable::new(),
        units,
    };
    for (name, value) in columns.names.into_iter().zip(values) {
        match name {
            "external_id" => token.external_id = external_id(value)?,
            "name" if value == Value::Empty => token.name = Cell::Value(String::new()),
            "name" => token.name = cells.text(name, value),
            column::ISSUER => set_owners(&mut token, value),
            column::EXPIRES_AT => (token.expiry, token.expiry_day) = cells.expiry(name, value),
            "description" => token.description = cells.text(name, value),
            "account" => token.account = cells.text(name, value),
            "role" => token.role = cells.text(name, value),
            "scope" => token.scope = cells.text(name, value),
            column::CREATED_AT => token.created_at = cells.instant(name, value),
            column::LAST_USED_AT => token.last_used_at = cells.instant(name, value),
            "issuer_name" => token.issuer_name = cells.text(name, value),
            column::STATUS => token.status = cells.status(name, value),
            "issuer_id" => token.issuer_id = cells.text(name, value).into_option(),
            "issuer_gone" => token.issuer_gone = issuer_gone(cells.text(name, value)),
            _ => return Err(format!("{name} is not a column of tokens")),
        }
    }
    token.unreadable.append(&mut cells.unreadable);
    Ok(token)
}

/// The evidence that the issuer is gone: a text of the source, or ours if it only says that they are.
fn issuer_gone(cell: Cell<String>) -> Cell<String> {
    match cell {
        Cell::Value(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "1" => {
                Cell::Value("its source reports that the issuer is gone".to_owned())
            }
            "false" | "f" | "no" | "0" => Cell::Empty,
            _ => Cell::Value(text),
        },
        cell => cell,
    }
}

fn external_id(value: Value) -> Result<String, String> {
    if let Value::List(_) | Value::Other(..) = value {
        let what = match value {
            Value::Other(_, what) => what,
            _ => "a list",
        };
        return Err(format!("external_id must be a text, not {what}"));
    }
    let id = value
        .into_text("external_id")?
        .into_option()
        .ok_or("external_id is missing; write the token's id at the source")?;
    if id.len() > MAX_ID_LENGTH {
        return Err(format!(
            "external_id is longer than {MAX_ID_LENGTH} bytes; write a shorter one"
        ));
    }
    if is_rounded(&id) {
        return Err(format!(
            "external_id {id} was rounded by a spreadsheet; format the column as text and export again"
        ));
    }
    Ok(id)
}

/// Whether a spreadsheet has written a long number as `1.23457E+17`.
fn is_rounded(id: &str) -> bool {
    let Some((number, exponent)) = id.split_once(['E', 'e']) else {
        return false;
    };
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number(whole) && is_number(fraction) && exponent.strip_prefix('+').is_some_and(is_number)
}

#[cfg(test)]
mod tests;
