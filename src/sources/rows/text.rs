//! Opens files in other encodings as UTF-8, and writes text in the encoding of such a file.

use std::io::{self, BufReader, Cursor, Read, Write};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// How many bytes are read to detect the format.
pub(super) const HEAD_LENGTH: u64 = 4096;

/// The encoding that a byte order mark names, otherwise `configured`; `None` for UTF-8, which is not decoded.
pub(super) fn detect_encoding(
    head: &[u8],
    configured: Option<&'static Encoding>,
) -> Option<&'static Encoding> {
    let marked = Encoding::for_bom(head).map(|(encoding, _)| encoding);
    marked.or(configured).filter(|encoding| *encoding != UTF_8)
}

pub(super) type Input = Box<dyn Read + Send>;

/// The input as UTF-8 and its encoding. In UTF-8 it may have a byte order mark.
pub(super) fn decode(
    input: Input,
    configured: Option<&'static Encoding>,
) -> io::Result<(Input, Option<&'static Encoding>)> {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let mut head = Vec::new();
    input.by_ref().take(HEAD_LENGTH).read_to_end(&mut head)?;
    let encoding = detect_encoding(&head, configured);
    let input = Cursor::new(head).chain(input);
    let Some(encoding) = encoding else {
        return Ok((Box::new(input), None));
    };
    let decoding = Decoding {
        input: Box::new(input),
        decoder: encoding.new_decoder_with_bom_removal(),
        raw: Vec::new(),
        text: Cursor::new(Vec::new()),
        has_ended: false,
    };
    Ok((Box::new(decoding), Some(encoding)))
}

/// No byte of UTF-8, so that the cell in which it is cannot be read.
const MALFORMED: u8 = 0xff;

struct Decoding {
    input: Input,
    decoder: Decoder,
    /// What is not decoded yet.
    raw: Vec<u8>,
    text: Cursor<Vec<u8>>,
    has_ended: bool,
}

impl Decoding {
    /// Returns how many bytes are read and written.
    fn decode(&mut self, text: &mut [u8], is_last: bool) -> (DecoderResult, usize, usize) {
        let (mut read, mut written) = (0, 0);
        loop {
            let (raw, rest) = (&self.raw[read..], &mut text[written..]);
            let decoder = &mut self.decoder;
            let (result, more_read, more_written) =
                decoder.decode_to_utf8_without_replacement(raw, rest, is_last);
            read += more_read;
            written += more_written;
            match (&result, text.get_mut(written)) {
                (DecoderResult::Malformed(..), Some(byte)) => {
                    *byte = MALFORMED;
                    written += 1;
                }
                _ => return (result, read, written),
            }
        }
    }
}

impl Read for Decoding {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.text.read(buffer)?;
            if count > 0 || buffer.is_empty() || self.has_ended {
                return Ok(count);
            }
            let before = self.raw.len();
            let limit = HEAD_LENGTH;
            self.input.by_ref().take(limit).read_to_end(&mut self.raw)?;
            let is_last = self.raw.len() == before;
            let mut text = vec![0; self.raw.len() * 3 + 16];
            let (result, read, written) = self.decode(&mut text, is_last);
            self.raw.drain(..read);
            text.truncate(written);
            self.text = Cursor::new(text);
            self.has_ended = is_last && result == DecoderResult::InputEmpty;
        }
    }
}

/// Writes UTF-8 in this encoding.
pub(super) fn write_encoded(
    text: &[u8],
    encoding: Option<&'static Encoding>,
    target: &mut dyn Write,
) -> io::Result<()> {
    let Some(encoding) = encoding else {
        return target.write_all(text);
    };
    let text = String::from_utf8_lossy(text);
    if encoding != UTF_16LE && encoding != UTF_16BE {
        return target.write_all(&encoding.encode(&text).0);
    }
    text.encode_utf16().try_for_each(|unit| {
        let bytes = if encoding == UTF_16LE {
            unit.to_le_bytes()
        } else {
            unit.to_be_bytes()
        };
        target.write_all(&bytes)
    })
}
