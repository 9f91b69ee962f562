//! Tokens from files: the columns and their meaning.

use super::listing::{ListingBuilder, MAX_ID_LENGTH, Place};
use super::rows::{Columns, Format, Row, Rows, Value};
use super::{Error, Listing, RefusedRow, RefusedRows};
use crate::domain::{Cell, ListedToken, Status};

pub use super::rows::Input;

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
};

/// The number of rows between two progress reports.
const PROGRESS_ROWS: u64 = 4096;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of all inputs.
    pub bytes: u64,
    /// Including refused rows.
    pub rows: u64,
}

/// Called while files are read.
#[derive(Default)]
pub struct ReadCallbacks<'a> {
    /// Called every few thousand rows and at the end of each input.
    pub on_progress: Option<&'a mut dyn FnMut(Progress)>,
    /// Called for every refused row; [`RefusedRows`] keeps only the first ones.
    pub on_refused: Option<&'a mut dyn FnMut(&RefusedRow)>,
}

/// Reads whole files into one listing, in bounded memory. Blocks.
///
/// The caller sets the fingerprint.
///
/// # Errors
/// If a file cannot be read to its end or is invalid as a whole. Invalid rows are only refused.
pub fn read_files(inputs: &[Input], callbacks: &mut ReadCallbacks<'_>) -> Result<Listing, Error> {
    Ok(FileReader::new(callbacks, u64::MAX).run(inputs)?.listing)
}

/// Reads at most `rows` rows of each file.
pub(super) fn peek(inputs: &[Input], rows: u64) -> Result<Preview, Error> {
    FileReader::new(&mut ReadCallbacks::default(), rows).run(inputs)
}

/// The beginning of some files.
pub(super) struct Preview {
    /// Of the last file.
    pub format: Option<Format>,
    pub listing: Listing,
    /// Whether the files have further rows.
    pub has_more: bool,
}

struct FileReader<'a, 'b> {
    callbacks: &'a mut ReadCallbacks<'b>,
    limit: u64,
    progress: Progress,
    refusals: RefusedRows,
    builder: ListingBuilder,
}

impl<'a, 'b> FileReader<'a, 'b> {
    fn new(callbacks: &'a mut ReadCallbacks<'b>, limit: u64) -> Self {
        Self {
            callbacks,
            limit,
            progress: Progress::default(),
            refusals: RefusedRows::default(),
            builder: ListingBuilder::default(),
        }
    }

    fn run(mut self, inputs: &[Input]) -> Result<Preview, Error> {
        let mut format = None;
        let mut has_more = false;
        for (index, input) in inputs.iter().enumerate() {
            let mut rows = Rows::open(input, &COLUMNS)?;
            format = Some(rows.format());
            has_more |= self.read_file(index, &mut rows)?;
        }
        let builder = std::mem::take(&mut self.builder);
        let listing = builder
            .finish_rows(|kept, place| self.refuse(refuse_duplicate(inputs, kept, place)))?;
        self.refusals.shown.sort_by_key(|refusal| {
            let mut inputs = inputs.iter();
            let file = inputs.position(|input| input.to_string() == refusal.file);
            (file, refusal.line)
        });
        Ok(Preview {
            format,
            listing: Listing {
                refusals: self.refusals,
                ..listing
            },
            has_more,
        })
    }

    /// Returns true if the file has more rows than the limit.
    fn read_file(&mut self, index: usize, rows: &mut Rows<12>) -> Result<bool, Error> {
        let before = self.progress;
        while let Some(row) = rows.next() {
            if self.progress.rows - before.rows == self.limit {
                return Ok(true);
            }
            self.progress.rows += 1;
            let Row { line, values } = row?;
            match values.and_then(|values| parse_token(&COLUMNS, values)) {
                Ok(token) => self.builder.push_row(Place { file: index, line }, &token)?,
                Err(reason) => self.refuse(rows.refusal(line, reason)),
            }
            if self.progress.rows.is_multiple_of(PROGRESS_ROWS) {
                self.report_progress(before.bytes + rows.bytes());
            }
        }
        self.report_progress(before.bytes + rows.bytes());
        Ok(false)
    }

    fn report_progress(&mut self, bytes: u64) {
        self.progress.bytes = bytes;
        if let Some(on_progress) = &mut self.callbacks.on_progress {
            on_progress(self.progress);
        }
    }

    fn refuse(&mut self, refusal: RefusedRow) {
        if let Some(on_refused) = &mut self.callbacks.on_refused {
            on_refused(&refusal);
        }
        self.refusals.add(refusal);
    }
}

/// For a row whose id an earlier row has.
fn refuse_duplicate(inputs: &[Input], kept: Place, place: Place) -> RefusedRow {
    let line = kept.line;
    let first_place = if kept.file == place.file {
        format!("line {line}")
    } else {
        format!("{}, line {line}", inputs[kept.file])
    };
    RefusedRow {
        file: inputs[place.file].to_string(),
        line: place.line,
        reason: format!("the external_id is already in {first_place}; keep one of the two"),
    }
}

/// Parses a token from the values of these columns.
pub(super) fn parse_token<const N: usize>(
    columns: &Columns<N>,
    values: [Value; N],
) -> Result<ListedToken, String> {
    let mut token = ListedToken::default();
    for (name, value) in columns.names.into_iter().zip(values) {
        match name {
            "external_id" => token.external_id = external_id(value)?,
            "name" if value == Value::Empty => token.name = Cell::Value(String::new()),
            "name" => token.name = value.into_text(name)?,
            "issuer_email" => token.issuer = value.into_address(name)?,
            "expires_at" => token.expiry = value.into_expiry(name)?,
            "description" => token.description = value.into_text(name)?,
            "account" => token.account = value.into_text(name)?,
            "role" => token.role = value.into_text(name)?,
            "scope" => token.scope = value.into_text(name)?,
            "created_at" => token.created_at = value.into_instant(name)?,
            "last_used_at" => token.last_used_at = value.into_instant(name)?,
            "issuer_name" => token.issuer_name = value.into_text(name)?,
            "status" => token.status = value.parse(name, parse_status)?,
            "issuer_id" => token.issuer_id = value.into_text(name)?.into_option(),
            _ => unreachable!("{name} is a column"),
        }
    }
    Ok(token)
}

fn external_id(value: Value) -> Result<String, String> {
    let id = value.into_text("external_id")?.into_option();
    let id = id.ok_or("external_id is missing; write the token's id at the source")?;
    if id.len() > MAX_ID_LENGTH {
        return Err(format!(
            "external_id is longer than {MAX_ID_LENGTH} bytes; write a shorter one"
        ));
    }
    Ok(id)
}

fn parse_status(text: &str) -> Result<Status, String> {
    match text.to_ascii_lowercase().as_str() {
        // Whether a token is expired follows from its expiry.
        "active" | "expired" => Ok(Status::Active),
        "disabled" => Ok(Status::Disabled),
        "revoked" => Ok(Status::Revoked),
        "gone" => Err("is set only by lapsed; write revoked, or leave the token out".to_owned()),
        _ => Err("is not a status; write active, disabled, revoked or expired".to_owned()),
    }
}

#[cfg(test)]
mod tests;
