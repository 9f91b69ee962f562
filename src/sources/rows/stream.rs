//! Opens an input, detects its format, and feeds its bytes to a parser in pieces.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::{Broken, Format, Input};

/// How many bytes are read to detect the format.
const HEAD_LENGTH: u64 = 4096;

/// A stream that counts its bytes.
pub(super) struct Stream {
    inner: Box<dyn BufRead + Send>,
    bytes: u64,
}

/// What a parser did with a piece.
pub(super) enum Fed {
    /// It consumed the whole piece and needs more.
    More,
    /// It has a complete frame after this number of bytes.
    Frame(usize),
}

impl Stream {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Feeds pieces until the parser has a frame. Returns false at the end of the input.
    pub fn feed(&mut self, mut parse: impl FnMut(&[u8]) -> Fed) -> io::Result<bool> {
        loop {
            let piece = match self.inner.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                return Ok(false);
            }
            let (used, is_frame) = match parse(piece) {
                Fed::More => (piece.len(), false),
                Fed::Frame(used) => (used, true),
            };
            self.inner.consume(used);
            self.bytes += used as u64;
            if is_frame {
                return Ok(true);
            }
        }
    }
}

/// Opens the input, detects its format and skips the byte order mark.
pub(super) fn open(input: &Input) -> Result<(Format, Stream), Broken> {
    let reader: Box<dyn Read + Send> = match input {
        Input::Path(path) => Box::new(File::open(path)?),
        Input::Stdin => Box::new(io::stdin()),
    };
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_LENGTH).read_to_end(&mut head)?;
    refuse_other_formats(&head)?;
    let mark = if head.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let format = detect_format(input, &head[mark..])?;
    let mut head = Cursor::new(head);
    head.set_position(mark as u64);
    let stream = Stream {
        inner: Box::new(head.chain(reader)),
        bytes: mark as u64,
    };
    Ok((format, stream))
}

/// Refuses files that are evidently not text in UTF-8.
fn refuse_other_formats(head: &[u8]) -> Result<(), Broken> {
    const UTF_16: &str = "this is UTF-16; save it as UTF-8";
    const SIGNATURES: [(&[u8], &str); 5] = [
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
    match SIGNATURES
        .iter()
        .find(|(signature, _)| head.starts_with(signature))
    {
        Some((_, reason)) => Err(Broken::Content(1, (*reason).to_owned())),
        None => Ok(()),
    }
}

/// Detects the format by the file's name, otherwise by the first character.
fn detect_format(input: &Input, head: &[u8]) -> Result<Format, Broken> {
    let broken = |reason: &str| Err(Broken::Content(1, reason.to_owned()));
    let Some(first) = head.iter().find(|byte| !byte.is_ascii_whitespace()) else {
        return broken(
            "the file is empty, as after a failed export; \
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
