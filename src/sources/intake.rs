//! Rows that became tokens, each with its place, made into a listing: in order and each id once, in
//! bounded memory.

use serde::{Deserialize, Serialize};

use crate::domain::Listed;

use super::sorter::{Merge, RUN_SIZE, Sorted, Sorter};
use super::{Error, Tokens};

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Which of several files.
    pub file: usize,
    /// The line in it, or the number of the row; from 1.
    pub line: u64,
}

/// A listing that is being taken in.
pub(super) struct Intake {
    sorter: Sorter,
    pushed: u64,
    /// A row's value for the sorter, kept for its memory.
    buffer: Vec<u8>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            sorter: Sorter::new(RUN_SIZE),
            pushed: 0,
            buffer: Vec::new(),
        }
    }
}

impl Intake {
    /// Takes one token.
    pub fn push(&mut self, place: Place, token: &Listed) -> Result<(), Error> {
        self.buffer.clear();
        let written = serde_json::to_writer(&mut self.buffer, &(place, token));
        written.map_err(|error| Error::Scratch(error.into()))?;
        let pushed = self.sorter.push(token.external_id.as_bytes(), &self.buffer);
        pushed.map_err(Error::Scratch)?;
        self.pushed += 1;
        Ok(())
    }

    /// The tokens and how many there are. Of an id that came twice the first counts; `double` is told of
    /// the place of the first, and of each other.
    pub fn finish(self, mut double: impl FnMut(Place, Place)) -> Result<(Tokens, u64), Error> {
        let sorted = self.sorter.finish().map_err(Error::Scratch)?;
        let doubles = find_doubles(&sorted, &mut double)?;
        let tokens = First {
            records: sorted.merge().map_err(Error::Scratch)?,
            previous: None,
        };
        Ok((Tokens(Box::new(tokens)), self.pushed - doubles))
    }
}

/// Tells of every row whose id an earlier row has; says how many.
fn find_doubles(sorted: &Sorted, double: &mut impl FnMut(Place, Place)) -> Result<u64, Error> {
    let mut doubles = 0;
    let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
    for record in sorted.merge().map_err(Error::Scratch)? {
        let record = record.map_err(Error::Scratch)?;
        match first.as_ref().filter(|(key, _)| *key == record.key) {
            Some((_, kept)) => {
                double(decode(kept)?.0, decode(&record.value)?.0);
                doubles += 1;
            }
            None => first = Some((record.key, record.value)),
        }
    }
    Ok(doubles)
}

fn decode(value: &[u8]) -> Result<(Place, Listed), Error> {
    serde_json::from_slice(value).map_err(|error| Error::Scratch(error.into()))
}

/// Of the tokens of one id, the one that came first.
struct First {
    records: Merge,
    previous: Option<Vec<u8>>,
}

impl Iterator for First {
    type Item = Result<Listed, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(Error::Scratch(error))),
            };
            if self.previous.as_ref() == Some(&record.key) {
                continue;
            }
            self.previous = Some(record.key);
            return Some(decode(&record.value).map(|(_, token)| token));
        }
    }
}
