//! Token files: the source `file`, which is a file or a folder of files that are read again if they have changed,
//! and the columns that `lapsed import` and queries share with them.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::cells::Value;
use super::rows::{Columns, Format, Row, Rows, Target};
use super::{
    CheckReport, Error, Fetched, LastListing, Listing, RefusedRow, RefusedRows, Source, hex,
};
use super::{ListingBuilder, MAX_ID_LENGTH, RowPosition};
use crate::domain::{Cell, ListedToken, Status};

pub use super::rows::{Input, Span};

/// How many rows of each file [`Source::check`] reads.
const CHECKED_ROWS: u64 = 1000;

/// How many rows are read between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;

/// The extensions of the files that are read in a folder.
const EXTENSIONS: [&str; 4] = ["csv", "json", "jsonl", "ndjson"];

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
        ("account", Target::Column("account")),
        ("role", Target::Column("role")),
        ("scope", Target::Column("scope")),
        ("created_at", Target::Column("created_at")),
        ("expires_at", Target::Column("expires_at")),
        ("expiry", Target::NeverOf("expires_at")),
        ("expiry_origin", Target::Nothing),
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
}

#[async_trait]
impl Source for Config {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let path = self.path.clone();
        let previous = last.fingerprint.clone();
        run_blocking(move || fetch(&path, previous.as_deref())).await
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let path = self.path.clone();
        run_blocking(move || check(&path))
            .await
            .map(CheckReport::from)
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

fn fetch(path: &Path, previous: Option<&str>) -> Result<Fetched<Listing>, Error> {
    let stamp = FileStamp::take(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let mut listing = read_files(&inputs(&stamp), &mut ReadCallbacks::default())?;
    stamp.ensure_unchanged(path)?;
    listing.fingerprint = Some(stamp.fingerprint);
    Ok(Fetched::New(listing))
}

fn check(path: &Path) -> Result<String, Error> {
    let stamp = FileStamp::take(path)?;
    let preview = read_up_to(CHECKED_ROWS, &inputs(&stamp), &mut ReadCallbacks::default())?;
    if let Some(refusal) = preview.listing.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = preview.listing.count;
    let what = match (stamp.files.len(), preview.format_of_last) {
        (1, Some(format)) => format.to_string(),
        (files, _) => format!("{files} files"),
    };
    Ok(if preview.has_more {
        format!("{what}, the first {count} tokens are valid")
    } else {
        format!("{what}, {count} tokens")
    })
}

fn inputs(stamp: &FileStamp) -> Vec<Input> {
    stamp.files.iter().cloned().map(Input::Path).collect()
}

/// The files of a path and their metadata at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    /// The file itself, or the files of the folder by name.
    pub files: Vec<PathBuf>,
    /// Changes if one of the files is written, replaced, added or removed.
    pub fingerprint: String,
}

impl FileStamp {
    /// Reads only metadata. A folder without any file to read is an error: it is more likely a disk that is not
    /// mounted than a source without tokens.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let metadata = metadata(path)?;
        if !metadata.is_dir() {
            return Self::take_files(vec![path.to_owned()]);
        }
        let files = list_files(path).map_err(|source| read_error(path, source))?;
        if files.is_empty() {
            let reason = "contains no .csv, .json, .jsonl or .ndjson file";
            return Err(path_error(path, reason));
        }
        Self::take_files(files)
    }

    /// Like [`FileStamp::take`], but the path must be a file.
    pub fn take_file(path: &Path) -> Result<Self, Error> {
        Self::take_files(vec![path.to_owned()])
    }

    /// Fails if something has changed, so that what was read may be a mixture of old and new.
    pub fn ensure_unchanged(&self, path: &Path) -> Result<(), Error> {
        if Self::take(path)? == *self {
            return Ok(());
        }
        let path = path.display().to_string();
        Err(Error::Changed { path })
    }

    fn take_files(files: Vec<PathBuf>) -> Result<Self, Error> {
        // Another version of lapsed may read the same file differently.
        let mut seen = String::from(env!("CARGO_PKG_VERSION"));
        for file in &files {
            let metadata = metadata(file)?;
            if !metadata.is_file() {
                return Err(path_error(file, "is not a file; name a regular file"));
            }
            let times = (
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            );
            let line = (file, metadata.len(), times, metadata.dev(), metadata.ino());
            write!(seen, "\n{line:?}").expect("writing to a string cannot fail");
        }
        let fingerprint = hex(Sha256::new_with_prefix(seen));
        Ok(Self { files, fingerprint })
    }
}

/// Skips dot files, which belong to editors, `rsync` and mounted volumes.
fn list_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let is_listing = EXTENSIONS.iter().any(|known| extension == *known);
        if is_listing && !is_hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn metadata(path: &Path) -> Result<Metadata, Error> {
    fs::metadata(path).map_err(|source| read_error(path, source))
}

fn read_error(path: &Path, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    Error::Read { path, source }
}

fn path_error(path: &Path, reason: &'static str) -> Error {
    let path = path.display().to_string();
    Error::Path { path, reason }
}

/// What was read of all inputs so far, including refused rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub bytes: u64,
    pub rows: u64,
}

type OnRefused<'a> = dyn FnMut(&RefusedRow, Span) + 'a;

#[derive(Default)]
pub struct ReadCallbacks<'a> {
    /// Called every few thousand rows and at the end of each input.
    pub on_progress: Option<&'a mut dyn FnMut(Progress)>,
    /// Called for every refused row; [`RefusedRows`] keeps only the first ones.
    pub on_refused: Option<&'a mut OnRefused<'a>>,
}

/// Reads whole files into one listing without a fingerprint, in bounded memory; blocks the thread. Invalid rows
/// are refused; a file that is invalid as a whole is an error.
pub fn read_files(inputs: &[Input], callbacks: &mut ReadCallbacks<'_>) -> Result<Listing, Error> {
    Ok(read_up_to(u64::MAX, inputs, callbacks)?.listing)
}

/// Copies the rows at `spans` to `target`, byte for byte: after the header if the input is CSV, in an array if it
/// is a JSON array. So the copy can be corrected and read again.
pub fn copy_rows(input: &Input, spans: &mut [Span], target: &mut impl Write) -> Result<(), Error> {
    let (Input::Path(path) | Input::Copied(path)) = input else {
        return Err(path_error(Path::new("stdin"), "cannot be read twice"));
    };
    let rows = Rows::open(input, &COLUMNS)?;
    spans.sort_unstable();
    let mut copy = || {
        let mut source = fs::File::open(path)?;
        let mut copy = |Span(start, end), target: &mut dyn Write| {
            source.seek(SeekFrom::Start(start))?;
            std::io::copy(&mut (&source).take(end - start), target).map(drop)
        };
        match rows.format {
            Format::Csv => copy(rows.header, target)?,
            Format::Json => target.write_all(b"[\n")?,
            Format::JsonLines => {}
        }
        for (index, span) in spans.iter().enumerate() {
            if index > 0 && rows.format == Format::Json {
                target.write_all(b",\n")?;
            }
            copy(*span, target)?;
        }
        if rows.format == Format::Json {
            target.write_all(b"\n]\n")?;
        }
        target.flush()
    };
    copy().map_err(|source| read_error(path, source))
}

struct Preview {
    format_of_last: Option<Format>,
    listing: Listing,
    has_more: bool,
}

/// Reads at most `limit` rows of each file.
fn read_up_to(
    limit: u64,
    inputs: &[Input],
    callbacks: &mut ReadCallbacks<'_>,
) -> Result<Preview, Error> {
    let mut reader = FileReader {
        callbacks,
        limit,
        progress: Progress::default(),
        refusals: RefusedRows::default(),
        builder: ListingBuilder::default(),
    };
    let mut format_of_last = None;
    let mut has_more = false;
    for (index, input) in inputs.iter().enumerate() {
        let mut rows = Rows::open(input, &COLUMNS)?;
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
        has_more,
    })
}

struct FileReader<'a, 'b> {
    callbacks: &'a mut ReadCallbacks<'b>,
    limit: u64,
    progress: Progress,
    refusals: RefusedRows,
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
            let Row { line, span, values } = row?;
            match values.and_then(|values| parse_token(&COLUMNS, values)) {
                Ok(token) => {
                    let file = index;
                    let position = RowPosition { file, line, span };
                    self.builder.push_checked(position, &token)?;
                }
                Err(reason) => {
                    let file = rows.file.clone();
                    self.refuse(RefusedRow { file, line, reason }, span);
                }
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
            _ => return Err(format!("{name} is not a column of tokens")),
        }
    }
    Ok(token)
}

fn external_id(value: Value) -> Result<String, String> {
    let id = value
        .into_text("external_id")?
        .into_option()
        .ok_or("external_id is missing; write the token's id at the source")?;
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
