//! The bytes of an input: opened, told apart by format, counted, and fed to a parser piece by piece.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::{Broken, Format, Input};

/// So much is looked at to tell the format.
const HEAD: u64 = 4096;

/// A stream of bytes that knows how many it gave.
pub(super) struct Stream {
    inner: Box<dyn BufRead + Send>,
    bytes: u64,
}

/// What a parser made of a piece.
pub(super) enum Fed {
    /// It took all of it and wants more.
    More,
    /// It has a whole frame after so many bytes.
    Frame(usize),
}

impl Stream {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Feeds pieces until the parser has a frame; false at the end of the input.
    pub fn feed(&mut self, mut take: impl FnMut(&[u8]) -> Fed) -> io::Result<bool> {
        loop {
            let piece = match self.inner.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                return Ok(false);
            }
            let (used, whole) = match take(piece) {
                Fed::More => (piece.len(), false),
                Fed::Frame(used) => (used, true),
            };
            self.inner.consume(used);
            self.bytes += used as u64;
            if whole {
                return Ok(true);
            }
        }
    }
}

/// Opens the input, tells its format and drops the byte order mark.
pub(super) fn open(input: &Input) -> Result<(Format, Stream), Broken> {
    let reader: Box<dyn Read + Send> = match input {
        Input::Path(path) => Box::new(File::open(path)?),
        Input::Stdin => Box::new(io::stdin()),
    };
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut head = Vec::new();
    reader.by_ref().take(HEAD).read_to_end(&mut head)?;
    refuse_foreign(&head)?;
    let mark = if head.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let format = tell(input, &head[mark..])?;
    let mut head = Cursor::new(head);
    head.set_position(mark as u64);
    let stream = Stream {
        inner: Box::new(head.chain(reader)),
        bytes: mark as u64,
    };
    Ok((format, stream))
}

/// Says what a file is that is no text in UTF-8, where that is plain to see.
fn refuse_foreign(head: &[u8]) -> Result<(), Broken> {
    const UTF_16: &str = "this is UTF-16; save it as UTF-8";
    const SIGNS: [(&[u8], &str); 5] = [
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
        (
            b"PK\x03\x04",
            "this is a workbook or a zip archive; export it as CSV in UTF-8",
        ),
        (
            b"\xd0\xcf\x11\xe0",
            "this is a workbook; export it as CSV in UTF-8",
        ),
        (
            b"\x1f\x8b",
            "this is compressed; unpack it with gunzip first",
        ),
    ];
    match SIGNS.iter().find(|(sign, _)| head.starts_with(sign)) {
        Some((_, reason)) => Err(Broken::Content(1, (*reason).to_owned())),
        None => Ok(()),
    }
}

/// Tells the format by the file's name, else by the first character.
fn tell(input: &Input, head: &[u8]) -> Result<Format, Broken> {
    let broken = |reason: &str| Err(Broken::Content(1, reason.to_owned()));
    let Some(first) = head.iter().find(|byte| !byte.is_ascii_whitespace()) else {
        return broken(
            "there is nothing in it, as after an export that failed; \
             a file without rows has the CSV header or the JSON array []",
        );
    };
    let extension = match input {
        Input::Path(path) => path.extension().and_then(|text| text.to_str()),
        Input::Stdin => None,
    };
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    match (extension.as_str(), first) {
        ("csv", _) => Ok(Format::Csv),
        ("json", b'{') => {
            broken("this must be an array: [{…}, {…}]; name it .jsonl if it has one object a line")
        }
        ("jsonl" | "ndjson", b'[') => {
            broken("this must have one object a line; name it .json if it is an array")
        }
        ("json", _) | (_, b'[') => Ok(Format::Json),
        ("jsonl" | "ndjson", _) | (_, b'{') => Ok(Format::JsonLines),
        _ => Ok(Format::Csv),
    }
}
