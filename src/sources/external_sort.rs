//! Sorts any number of records by key, in bounded memory.
//!
//! An external merge sort: full runs are sorted and written to one unnamed temporary file, which disappears with
//! the process, and reading merges the runs. Not a crate, because a record that cannot be read back must be an
//! error rather than the end of a listing, and because memory must be bounded in bytes, not in records.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// How many bytes of records are collected in memory before they are written to the file as a sorted run.
pub(super) const RUN_SIZE: usize = 8 * 1024 * 1024;

const WRITE_BUFFER_SIZE: usize = 256 * 1024;

/// The bytes that the read buffers of all runs may use together.
const READ_BUFFERS_SIZE: usize = 8 * 1024 * 1024;
const MIN_READ_BUFFER_SIZE: usize = 4 * 1024;
const MAX_READ_BUFFER_SIZE: usize = 256 * 1024;

/// A stored record begins with the lengths of its key and its value, as `u32`.
const HEADER_LENGTH: usize = 2 * size_of::<u32>();

/// `Ord` compares the fields in this order: of equal keys, the one in the earlier run was added first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub key: Vec<u8>,
    run: usize,
    pub value: Vec<u8>,
}

#[derive(Default)]
pub(super) struct ExternalSorter {
    run_size: usize,
    /// The keys and values of the current run, one after the other.
    buffer: Vec<u8>,
    records: Vec<BufferedRecord>,
    file: Option<BufWriter<File>>,
    file_size: u64,
    runs: Vec<Run>,
}

struct BufferedRecord {
    start: usize,
    key_length: usize,
    value_length: usize,
}

struct Run {
    range: Range<u64>,
    count: u64,
}

impl ExternalSorter {
    pub fn new(run_size: usize) -> Self {
        Self {
            run_size,
            ..Self::default()
        }
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let size = key.len() + value.len();
        if !self.records.is_empty() && self.memory_used() + size > self.run_size {
            self.write_run()?;
        }
        self.records.push(BufferedRecord {
            start: self.buffer.len(),
            key_length: key.len(),
            value_length: value.len(),
        });
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        Ok(())
    }

    fn memory_used(&self) -> usize {
        self.buffer.len() + self.records.len() * size_of::<BufferedRecord>()
    }

    pub fn finish(mut self) -> io::Result<SortedRecords> {
        if self.runs.is_empty() {
            self.sort();
            let size = self.buffer.len() + self.records.len() * HEADER_LENGTH;
            let mut bytes = Vec::with_capacity(size);
            self.write_records(&mut bytes)?;
            let range = 0..bytes.len() as u64;
            let count = self.records.len() as u64;
            return Ok(SortedRecords {
                storage: Storage::Memory(bytes.into()),
                runs: vec![Run { range, count }],
            });
        }
        self.write_run()?;
        let file = self.file.expect("a run was written to it");
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(SortedRecords {
            storage: Storage::File(Arc::new(file)),
            runs: self.runs,
        })
    }

    /// Stable: records with equal keys keep their order.
    fn sort(&mut self) {
        let buffer = &self.buffer;
        self.records
            .sort_by_key(|record| &buffer[record.start..][..record.key_length]);
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.sort();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => BufWriter::with_capacity(WRITE_BUFFER_SIZE, temporary_file()?),
        };
        let size = self.write_records(&mut file)?;
        self.file = Some(file);
        self.runs.push(Run {
            range: self.file_size..self.file_size + size,
            count: self.records.len() as u64,
        });
        self.file_size += size;
        self.buffer.clear();
        self.records.clear();
        Ok(())
    }

    fn write_records(&self, out: &mut impl Write) -> io::Result<u64> {
        let mut written = 0;
        for record in &self.records {
            for length in [record.key_length, record.value_length] {
                let length = u32::try_from(length).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
            }
            let size = record.key_length + record.value_length;
            out.write_all(&self.buffer[record.start..][..size])?;
            written += (HEADER_LENGTH + size) as u64;
        }
        Ok(written)
    }
}

/// A file in `TMPDIR`, otherwise in `/var/tmp`, because `/tmp` is often kept in memory.
fn temporary_file() -> io::Result<File> {
    if std::env::var_os("TMPDIR").is_none()
        && let Ok(file) = tempfile::tempfile_in("/var/tmp")
    {
        return Ok(file);
    }
    tempfile::tempfile()
}

/// All records, which can be read in order any number of times.
pub(super) struct SortedRecords {
    storage: Storage,
    runs: Vec<Run>,
}

enum Storage {
    Memory(Arc<[u8]>),
    File(Arc<File>),
}

impl SortedRecords {
    /// Reads the records by key, and those with equal keys in the order of insertion.
    pub fn merge(&self) -> io::Result<Merge> {
        let buffer_size = (READ_BUFFERS_SIZE / self.runs.len().max(1))
            .clamp(MIN_READ_BUFFER_SIZE, MAX_READ_BUFFER_SIZE);
        let mut merge = Merge {
            next_records: BinaryHeap::with_capacity(self.runs.len()),
            runs: Vec::with_capacity(self.runs.len()),
        };
        for (index, run) in self.runs.iter().enumerate() {
            let size = run.range.end - run.range.start;
            let reader: Box<dyn Read + Send> = match &self.storage {
                Storage::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
                Storage::File(file) => {
                    let file = Arc::clone(file);
                    let position = run.range.start;
                    Box::new(SharedFileReader { file, position }.take(size))
                }
            };
            let capacity = usize::try_from(size).unwrap_or(usize::MAX);
            merge.runs.push(RunReader {
                reader: BufReader::with_capacity(capacity.min(buffer_size), reader),
                remaining: run.count,
            });
            merge.read_next(index)?;
        }
        Ok(merge)
    }
}

pub(super) struct Merge {
    next_records: BinaryHeap<Reverse<Record>>,
    runs: Vec<RunReader>,
}

struct RunReader {
    reader: BufReader<Box<dyn Read + Send>>,
    remaining: u64,
}

impl Merge {
    /// Reads the next record of a run, if it has one.
    fn read_next(&mut self, run: usize) -> io::Result<()> {
        let RunReader { reader, remaining } = &mut self.runs[run];
        if *remaining == 0 {
            return Ok(());
        }
        *remaining -= 1;
        let mut key = vec![0; read_length(reader)?];
        let mut value = vec![0; read_length(reader)?];
        reader.read_exact(&mut key)?;
        reader.read_exact(&mut value)?;
        self.next_records.push(Reverse(Record { key, run, value }));
        Ok(())
    }
}

/// Stops after the first error.
impl Iterator for Merge {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(record) = self.next_records.pop()?;
        if let Err(error) = self.read_next(record.run) {
            self.next_records.clear();
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
struct SharedFileReader {
    file: Arc<File>,
    position: u64,
}

impl Read for SharedFileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let read = |runs: &SortedRecords| runs.merge()?.collect::<io::Result<Vec<_>>>();
        assert!(read(&runs).is_err());
    }
}
