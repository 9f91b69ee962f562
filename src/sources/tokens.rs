//! Tokens from files: which columns there are, what each means, and each id once, in order.

use super::intake::{Intake, Place};
use super::rows::{Columns, Format, Row, Rows, Value};
use super::{Error, Listing, Refusal, Refusals};
use crate::domain::{Listed, Status};

pub use super::rows::Input;

/// The columns of a token, in the order in which [`token`] takes them.
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

/// The longest external id in bytes.
const ID_LIMIT: usize = 512;

/// Progress is told after so many rows.
const PROGRESS_ROWS: u64 = 4096;

/// How far the reading is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read, of all inputs.
    pub bytes: u64,
    /// Rows read, refused ones included.
    pub rows: u64,
}

/// Who wants to know what while files are read.
#[derive(Default)]
pub struct Watch<'a> {
    /// Told now and then, and at the end of each input.
    pub progress: Option<&'a mut dyn FnMut(Progress)>,
    /// Told of every refused row, beyond the few that [`Refusals`] shows.
    pub refused: Option<&'a mut dyn FnMut(&Refusal)>,
}

/// Reads whole files into one listing, in bounded memory. Blocks.
///
/// The listing has no fingerprint; that is for the caller who knows where the files come from.
///
/// # Errors
/// When a file cannot be read to its end or makes no sense as a whole. Bad rows are refusals.
pub fn read(inputs: &[Input], watch: &mut Watch<'_>) -> Result<Listing, Error> {
    Ok(Reading::new(watch, u64::MAX).run(inputs)?.listing)
}

/// Reads at most so many rows of each file, to see whether they are sound.
pub(super) fn peek(inputs: &[Input], rows: u64) -> Result<Peeked, Error> {
    Reading::new(&mut Watch::default(), rows).run(inputs)
}

/// What the beginning of some files looks like.
pub(super) struct Peeked {
    /// Of the last one.
    pub format: Option<Format>,
    /// What was read.
    pub listing: Listing,
    /// Whether there is more.
    pub more: bool,
}

/// The reading of some files, under way.
struct Reading<'a, 'b> {
    watch: &'a mut Watch<'b>,
    limit: u64,
    progress: Progress,
    refusals: Refusals,
    intake: Intake,
}

impl<'a, 'b> Reading<'a, 'b> {
    fn new(watch: &'a mut Watch<'b>, limit: u64) -> Self {
        Self {
            watch,
            limit,
            progress: Progress::default(),
            refusals: Refusals::default(),
            intake: Intake::default(),
        }
    }

    fn run(mut self, inputs: &[Input]) -> Result<Peeked, Error> {
        let mut format = None;
        let mut more = false;
        for (index, input) in inputs.iter().enumerate() {
            let mut rows = Rows::open(input, &COLUMNS)?;
            format = Some(rows.format());
            more |= self.read_file(index, &mut rows)?;
        }
        let intake = std::mem::take(&mut self.intake);
        let (tokens, count) =
            intake.finish(|kept, place| self.refuse(double(inputs, kept, place)))?;
        self.refusals.shown.sort_by(|one, two| {
            let place = |refusal: &Refusal| {
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
        Ok(Peeked {
            format,
            listing,
            more,
        })
    }

    /// Reads one file; true if the limit kept some of it back.
    fn read_file(&mut self, index: usize, rows: &mut Rows<12>) -> Result<bool, Error> {
        let before = self.progress;
        while let Some(row) = rows.next() {
            if self.progress.rows - before.rows == self.limit {
                return Ok(true);
            }
            self.progress.rows += 1;
            match row?.and_then(|row| listed(row).map_err(|(line, why)| rows.refusal(line, why))) {
                Ok((line, token)) => self.intake.push(Place { file: index, line }, &token)?,
                Err(refusal) => self.refuse(refusal),
            }
            if self.progress.rows.is_multiple_of(PROGRESS_ROWS) {
                self.tell(before.bytes + rows.bytes());
            }
        }
        self.tell(before.bytes + rows.bytes());
        Ok(false)
    }

    fn tell(&mut self, bytes: u64) {
        self.progress.bytes = bytes;
        if let Some(progress) = &mut self.watch.progress {
            progress(self.progress);
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        if let Some(refused) = &mut self.watch.refused {
            refused(&refusal);
        }
        self.refusals.add(refusal);
    }
}

/// The refusal of a row whose id an earlier row has.
fn double(inputs: &[Input], kept: Place, place: Place) -> Refusal {
    let line = kept.line;
    let whence = if kept.file == place.file {
        format!("line {line}")
    } else {
        format!("{}, line {line}", inputs[kept.file])
    };
    Refusal {
        file: inputs[place.file].to_string(),
        line: place.line,
        reason: format!("the external_id is already in {whence}; keep one of the two"),
    }
}

/// Makes a token of a row; its line goes with it, or with the reason why it is none.
fn listed(row: Row<12>) -> Result<(u64, Listed), (u64, String)> {
    let line = row.line;
    match token(row.values) {
        Ok(token) => Ok((line, token)),
        Err(reason) => Err((line, reason)),
    }
}

/// Makes a token of what stands in its columns; the reason says what is wrong where it is none.
pub(super) fn token(values: [Value; 12]) -> Result<Listed, String> {
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
    Ok(Listed {
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
        ..Listed::default()
    })
}

fn external_id(value: Value) -> Result<String, String> {
    let id = value.into_text("external_id")?.over(None);
    let id = id.ok_or("external_id is missing; write what the source calls the token")?;
    if id.len() > ID_LIMIT {
        return Err(format!(
            "external_id is longer than {ID_LIMIT} bytes; write a shorter one"
        ));
    }
    Ok(id)
}

fn parse_status(text: &str) -> Result<Status, String> {
    match text.to_ascii_lowercase().as_str() {
        // Whether it is expired follows from its expiry.
        "active" | "expired" => Ok(Status::Active),
        "disabled" => Ok(Status::Disabled),
        "revoked" => Ok(Status::Revoked),
        "gone" => Err("is lapsed's own word; write revoked, or leave the token out".to_owned()),
        _ => Err("is no status; write active, disabled, revoked or expired".to_owned()),
    }
}

#[cfg(test)]
mod tests;
