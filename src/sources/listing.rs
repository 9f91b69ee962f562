//! Builds listings from tokens in any order: sorted, each id once, in bounded memory.
//!
//! An external sort: sorted runs in one unnamed temporary file, which disappears with the process, are merged
//! when they are read. Not a crate, because a record that cannot be read back must be an error rather than the
//! end of a listing, and because memory must be bounded in bytes, not in records.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Write};
use std::iter::Peekable;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::ListedToken;

use super::{Error, Listing, Tokens, hex};

/// The longest external id in bytes.
pub(super) const MAX_ID_LENGTH: usize = 512;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub file: usize,
    /// The line in the file, or the number of the row; from 1.
    pub line: u64,
}

pub struct ListingBuilder {
    sorter: ExternalSorter,
    buffer: Vec<u8>,
}

impl Default for ListingBuilder {
    fn default() -> Self {
        Self {
            sorter: ExternalSorter::new(RUN_SIZE),
            buffer: Vec::new(),
        }
    }
}

impl ListingBuilder {
    /// Adds a token of a system that is read page by page.
    ///
    /// # Errors
    /// If the token has no valid id, or cannot be stored.
    pub fn push(&mut self, token: &ListedToken) -> Result<(), Error> {
        let length = token.external_id.len();
        if length == 0 || length > MAX_ID_LENGTH {
            let reason = format!("a token has an id of {length} bytes");
            return Err(Error::content("the listing", reason));
        }
        self.push_row(Place::default(), token)
    }

    /// Adds a token of a row, whose id the caller has checked.
    pub(super) fn push_row(&mut self, place: Place, token: &ListedToken) -> Result<(), Error> {
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, &(place, token));
        written.map_err(|error| Error::TempFile(error.into()))?;
        let pushed = self.sorter.push(token.external_id.as_bytes(), &self.buffer);
        pushed.map_err(Error::TempFile)
    }

    /// The listing, with a fingerprint of its tokens. If an id occurs twice, because pages shifted while they
    /// were read, the last occurrence counts.
    ///
    /// # Errors
    /// If tokens cannot be stored or read back.
    pub fn finish(self) -> Result<Listing, Error> {
        self.collect(true, |_, _| {}).map_err(Error::TempFile)
    }

    /// The listing of rows, without a fingerprint. If an id occurs twice, the first occurrence counts;
    /// `on_duplicate` gets its place, and that of each further one.
    pub(super) fn finish_rows(
        self,
        on_duplicate: impl FnMut(Place, Place),
    ) -> Result<Listing, Error> {
        let listing = self.collect(false, on_duplicate).map_err(Error::TempFile)?;
        Ok(Listing {
            fingerprint: None,
            ..listing
        })
    }

    fn collect(
        self,
        last_counts: bool,
        mut on_duplicate: impl FnMut(Place, Place),
    ) -> io::Result<Listing> {
        let sorted = self.sorter.finish()?;
        let mut count = 0;
        let mut digest = Sha256::new();
        let mut records = sorted.merge()?;
        let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
        while let Some(record) = records.next().transpose()? {
            // The value is JSON with the id in it, so values need no separator.
            digest.update(&record.value);
            match &first {
                Some((key, value)) if *key == record.key => {
                    on_duplicate(decode(value)?.0, decode(&record.value)?.0);
                }
                _ => {
                    count += 1;
                    first = Some((record.key, record.value));
                }
            }
        }
        let records = sorted.merge()?.peekable();
        Ok(Listing {
            tokens: Tokens(Box::new(UniqueTokens {
                records,
                last_counts,
            })),
            count,
            fingerprint: Some(hex(digest)),
            ..Listing::default()
        })
    }
}

fn decode(value: &[u8]) -> io::Result<(Place, ListedToken)> {
    Ok(serde_json::from_slice(value)?)
}

struct UniqueTokens {
    records: Peekable<Merge>,
    /// Of several tokens with the same id.
    last_counts: bool,
}

impl UniqueTokens {
    fn read_next(&mut self) -> io::Result<Option<ListedToken>> {
        let Some(mut record) = self.records.next().transpose()? else {
            return Ok(None);
        };
        while let Some(Ok(other)) = self
            .records
            .next_if(|next| next.as_ref().is_ok_and(|next| next.key == record.key))
        {
            if self.last_counts {
                record = other;
            }
        }
        Ok(Some(decode(&record.value)?.1))
    }
}

impl Iterator for UniqueTokens {
    type Item = Result<ListedToken, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_next().map_err(Error::TempFile).transpose()
    }
}

/// The number of bytes that are sorted in memory.
const RUN_SIZE: usize = 8 * 1024 * 1024;

/// The size of all read buffers of a merge together, in bytes.
const MERGE_SIZE: usize = 8 * 1024 * 1024;

/// Ordered by the bytes of the key, then by run, because an earlier run was inserted first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    pub key: Vec<u8>,
    run: usize,
    pub value: Vec<u8>,
}

struct ExternalSorter {
    run_size: usize,
    /// The records of the current run, one after the other.
    bytes: Vec<u8>,
    records: Vec<Slot>,
    file: Option<BufWriter<File>>,
    written: u64,
    runs: Vec<Run>,
}

struct Slot {
    start: usize,
    key: usize,
    value: usize,
}

struct Run {
    bytes: Range<u64>,
    count: u64,
}

impl ExternalSorter {
    /// `run_size` bytes are collected before they are written out.
    pub fn new(run_size: usize) -> Self {
        Self {
            run_size,
            bytes: Vec::new(),
            records: Vec::new(),
            file: None,
            written: 0,
            runs: Vec::new(),
        }
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if !self.records.is_empty() && self.memory_used() + key.len() + value.len() > self.run_size
        {
            self.write_run()?;
        }
        self.records.push(Slot {
            start: self.bytes.len(),
            key: key.len(),
            value: value.len(),
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    pub fn memory_used(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Slot>()
    }

    pub fn finish(mut self) -> io::Result<Sorted> {
        if self.runs.is_empty() {
            self.sort();
            let mut bytes = Vec::with_capacity(self.bytes.len() + self.records.len() * 8);
            self.write_records(&mut bytes)?;
            let count = self.records.len() as u64;
            let run = Run {
                bytes: 0..bytes.len() as u64,
                count,
            };
            return Ok(Sorted {
                storage: Storage::Memory(bytes.into()),
                runs: vec![run],
            });
        }
        self.write_run()?;
        let file = self.file.expect("a run was written to it");
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Sorted {
            storage: Storage::File(Arc::new(file)),
            runs: self.runs,
        })
    }

    /// Stable: records with equal keys keep their order.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.records
            .sort_by_key(|slot| &bytes[slot.start..][..slot.key]);
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.sort();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => BufWriter::with_capacity(256 * 1024, temporary_file()?),
        };
        let size = self.write_records(&mut file)?;
        self.file = Some(file);
        self.runs.push(Run {
            bytes: self.written..self.written + size,
            count: self.records.len() as u64,
        });
        self.written += size;
        self.bytes.clear();
        self.records.clear();
        Ok(())
    }

    fn write_records(&self, to: &mut impl Write) -> io::Result<u64> {
        let mut size = 0;
        for Slot { start, key, value } in &self.records {
            for length in [*key, *value] {
                let length = u32::try_from(length).map_err(io::Error::other)?;
                to.write_all(&length.to_le_bytes())?;
            }
            to.write_all(&self.bytes[*start..][..key + value])?;
            size += 8 + (key + value) as u64;
        }
        Ok(size)
    }
}

/// In `TMPDIR`, otherwise in `/var/tmp`, because `/tmp` is often kept in memory.
fn temporary_file() -> io::Result<File> {
    if std::env::var_os("TMPDIR").is_none()
        && let Ok(file) = tempfile::tempfile_in("/var/tmp")
    {
        return Ok(file);
    }
    tempfile::tempfile()
}

/// All records, which can be read in order any number of times.
struct Sorted {
    storage: Storage,
    runs: Vec<Run>,
}

enum Storage {
    Memory(Arc<[u8]>),
    File(Arc<File>),
}

impl Sorted {
    /// Reads the records by key, and those with equal keys in the order of insertion.
    pub fn merge(&self) -> io::Result<Merge> {
        let buffer = (MERGE_SIZE / self.runs.len().max(1)).clamp(4 * 1024, 256 * 1024);
        let mut merge = Merge {
            heads: BinaryHeap::with_capacity(self.runs.len()),
            tails: Vec::with_capacity(self.runs.len()),
        };
        for (index, run) in self.runs.iter().enumerate() {
            let size = run.bytes.end - run.bytes.start;
            let reader: Box<dyn Read + Send> = match &self.storage {
                Storage::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
                Storage::File(file) => {
                    let (file, at) = (Arc::clone(file), run.bytes.start);
                    Box::new(FileReader { file, at }.take(size))
                }
            };
            let capacity = usize::try_from(size).map_or(buffer, |size| buffer.min(size));
            merge.tails.push(Tail {
                reader: BufReader::with_capacity(capacity, reader),
                left: run.count,
            });
            merge.advance(index)?;
        }
        Ok(merge)
    }
}

struct Merge {
    /// The next record of each run.
    heads: BinaryHeap<Reverse<Record>>,
    tails: Vec<Tail>,
}

struct Tail {
    reader: BufReader<Box<dyn Read + Send>>,
    left: u64,
}

impl Merge {
    fn advance(&mut self, run: usize) -> io::Result<()> {
        let tail = &mut self.tails[run];
        if tail.left == 0 {
            return Ok(());
        }
        tail.left -= 1;
        let mut key = vec![0; read_length(&mut tail.reader)?];
        let mut value = vec![0; read_length(&mut tail.reader)?];
        tail.reader.read_exact(&mut key)?;
        tail.reader.read_exact(&mut value)?;
        self.heads.push(Reverse(Record { key, run, value }));
        Ok(())
    }
}

/// Stops after the first error.
impl Iterator for Merge {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(record) = self.heads.pop()?;
        if let Err(error) = self.advance(record.run) {
            self.heads.clear();
            return Some(Err(error));
        }
        Some(Ok(record))
    }
}

fn read_length(reader: &mut impl Read) -> io::Result<usize> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)
}

/// Reads from its own position, because runs share the file.
struct FileReader {
    file: Arc<File>,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Cell;

    #[test]
    fn a_listing_is_sorted_and_holds_the_last_token_of_each_id() {
        let mut builder = ListingBuilder::default();
        for (id, name) in [("b", "first"), ("a", "only"), ("b", "last"), ("c", "end")] {
            let token = ListedToken {
                name: Cell::Value(name.to_owned()),
                ..ListedToken::with_id(id)
            };
            builder.push(&token).unwrap();
        }
        let listing = builder.finish().unwrap();
        assert_eq!(listing.count, 3);
        let tokens: Vec<_> = listing.tokens.map(Result::unwrap).collect();
        let names: Vec<_> = tokens
            .iter()
            .map(|token| (token.external_id.as_str(), token.name.clone().into_option()))
            .collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            names,
            [("a", name("only")), ("b", name("last")), ("c", name("end"))]
        );
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_the_order() {
        let fingerprint = |tokens: &[(&str, &str)]| {
            let mut builder = ListingBuilder::default();
            for (id, name) in tokens {
                let name = Cell::Value((*name).to_owned());
                let token = ListedToken {
                    name,
                    ..ListedToken::with_id(*id)
                };
                builder.push(&token).unwrap();
            }
            builder.finish().unwrap().fingerprint.unwrap()
        };
        let one = fingerprint(&[("a", "x"), ("b", "y")]);
        assert_eq!(one, fingerprint(&[("b", "y"), ("a", "x")]));
        assert_ne!(one, fingerprint(&[("a", "x"), ("b", "z")]));
        assert_ne!(one, fingerprint(&[("a", "x")]));
    }

    #[test]
    fn a_token_without_an_id_fails_the_listing() {
        assert!(
            ListingBuilder::default()
                .push(&ListedToken::default())
                .is_err()
        );
    }

    fn sort(run_size: usize, keys: &[&str]) -> Vec<(String, usize)> {
        let mut sorter = ExternalSorter::new(run_size);
        for (nth, key) in keys.iter().enumerate() {
            sorter.push(key.as_bytes(), &nth.to_le_bytes()).unwrap();
        }
        let read = |record: io::Result<Record>| {
            let Record { key, value, .. } = record.unwrap();
            let nth = usize::from_le_bytes(value.try_into().unwrap());
            (String::from_utf8(key).unwrap(), nth)
        };
        sorter
            .finish()
            .unwrap()
            .merge()
            .unwrap()
            .map(read)
            .collect()
    }

    #[test]
    fn records_are_sorted_by_key_and_equal_keys_keep_their_order() {
        let keys = ["b", "", "ab", "b", "a", "B", "é", "ab", "b"];
        let expected: Vec<(String, usize)> = [
            ("", 1),
            ("B", 5),
            ("a", 4),
            ("ab", 2),
            ("ab", 7),
            ("b", 0),
            ("b", 3),
            ("b", 8),
            ("é", 6),
        ]
        .map(|(key, nth)| (key.to_owned(), nth))
        .into();
        for run_size in [1, 40, 100, RUN_SIZE] {
            assert_eq!(sort(run_size, &keys), expected, "run size {run_size}");
        }
    }

    #[test]
    fn only_one_run_of_two_hundred_thousand_records_is_in_memory() {
        let run_size = 256 * 1024;
        let mut sorter = ExternalSorter::new(run_size);
        for nth in 0..200_000_u32 {
            // An odd factor visits every number once, in no order.
            let key = nth.wrapping_mul(2_654_435_761).to_be_bytes();
            sorter.push(&key, &nth.to_le_bytes()).unwrap();
            assert!(sorter.memory_used() <= run_size + 64);
        }
        let runs = sorter.finish().unwrap();
        assert!(runs.runs.len() > 20);
        let mut previous = None;
        let mut count = 0;
        for record in runs.merge().unwrap() {
            let key = Some(record.unwrap().key);
            assert!(previous < key);
            previous = key;
            count += 1;
        }
        assert_eq!(count, 200_000);
    }

    #[test]
    fn a_truncated_temporary_file_is_an_error() {
        let mut sorter = ExternalSorter::new(64);
        for nth in 0..100_u32 {
            sorter.push(&nth.to_be_bytes(), b"value").unwrap();
        }
        let runs = sorter.finish().unwrap();
        let Storage::File(file) = &runs.storage else {
            panic!("not written out");
        };
        let whole = file.metadata().unwrap().len();
        file.set_len(whole - 1).unwrap();
        let read = |runs: &Sorted| runs.merge()?.collect::<io::Result<Vec<_>>>();
        assert!(read(&runs).is_err());
    }
}
