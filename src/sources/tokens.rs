//! Tokens from files: the columns and their meaning.

use super::listing::{MAX_ID_LENGTH, Place, RowListingBuilder};
use super::rows::{Columns, Format, Row, Rows, Value};
use super::{Error, Listing, RefusedRow, RefusedRows};
use crate::domain::{ListedToken, Status};

pub use super::rows::Input;

/// In the order in which [`token`] reads them.
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
    builder: RowListingBuilder,
}

impl<'a, 'b> FileReader<'a, 'b> {
    fn new(callbacks: &'a mut ReadCallbacks<'b>, limit: u64) -> Self {
        Self {
            callbacks,
            limit,
            progress: Progress::default(),
            refusals: RefusedRows::default(),
            builder: RowListingBuilder::default(),
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
        let (tokens, count) =
            builder.finish(|kept, place| self.refuse(refuse_duplicate(inputs, kept, place)))?;
        self.refusals.shown.sort_by(|one, two| {
            let place = |refusal: &RefusedRow| {
                inputs
                    .iter()
                    .position(|input| input.to_string() == refusal.file)
            };
            (place(one), one.line).cmp(&(place(two), two.line))
        });
        let listing = Listing {
            tokens,
            count,
            refusals: self.refusals,
            ..Listing::default()
        };
        Ok(Preview {
            format,
            listing,
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
            match row?
                .and_then(|row| token_with_line(row).map_err(|(line, why)| rows.refusal(line, why)))
            {
                Ok((line, token)) => self.builder.push(Place { file: index, line }, &token)?,
                Err(refusal) => self.refuse(refusal),
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

fn token_with_line(row: Row<12>) -> Result<(u64, ListedToken), (u64, String)> {
    let line = row.line;
    match token(row.values) {
        Ok(token) => Ok((line, token)),
        Err(reason) => Err((line, reason)),
    }
}

/// Parses a token from the values of its columns.
pub(super) fn token(values: [Value; 12]) -> Result<ListedToken, String> {
    let [
        id,
        name,
        issuer,
        expiry,
        description,
        account,
        role,
        scope,
        created,
        used,
        issuer_name,
        status,
    ] = values;
    Ok(ListedToken {
        external_id: external_id(id)?,
        name: match name {
            Value::Empty => crate::domain::Cell::Value(String::new()),
            name => name.into_text("name")?,
        },
        issuer: issuer.into_address("issuer_email")?,
        expiry: expiry.into_expiry("expires_at")?,
        description: description.into_text("description")?,
        account: account.into_text("account")?,
        role: role.into_text("role")?,
        scope: scope.into_text("scope")?,
        created_at: created.into_instant("created_at")?,
        last_used_at: used.into_instant("last_used_at")?,
        issuer_name: issuer_name.into_text("issuer_name")?,
        status: status.parse("status", parse_status)?,
        ..ListedToken::default()
    })
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
