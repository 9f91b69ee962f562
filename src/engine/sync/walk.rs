//! The two sides of a sync, page by page: what is known and what is listed, in order of external id.

use std::collections::VecDeque;

use crate::domain::diff::{self, Pair};
use crate::domain::{Listed, Token};
use crate::engine::{Error, PAGE};
use crate::sources;
use crate::store::Tx;

/// A walk along both sides; memory holds a page of each.
pub(in crate::engine) struct Walk<'a, L> {
    source: &'a str,
    listed: L,
    known: VecDeque<Token>,
    known_done: bool,
    cursor: Option<String>,
    found: VecDeque<Listed>,
    found_done: bool,
}

impl<'a, L: Iterator<Item = Result<Listed, sources::Error>>> Walk<'a, L> {
    /// Before the first token of either side.
    pub fn new(source: &'a str, listed: L) -> Self {
        Self {
            source,
            listed,
            known: VecDeque::new(),
            known_done: false,
            cursor: None,
            found: VecDeque::new(),
            found_done: false,
        }
    }

    /// Whether both sides are at their ends.
    pub fn is_over(&self) -> bool {
        self.known_done && self.known.is_empty() && self.found_done && self.found.is_empty()
    }

    /// The next tokens, each with its other side.
    pub async fn pairs(&mut self, tx: &mut Tx) -> Result<Vec<Pair>, Error> {
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        if self.known.is_empty() && !self.known_done {
            let after = self.cursor.as_deref();
            self.known
                .extend(tx.tokens_of(self.source, after, PAGE).await?);
            self.known_done = self.known.len() < page;
            self.cursor = self.known.back().map(|token| token.external_id.clone());
        }
        while self.found.len() < page && !self.found_done {
            match self.listed.next() {
                Some(row) => self.found.push_back(row?),
                None => self.found_done = true,
            }
        }
        Ok(diff::pair_up(
            &mut self.known,
            self.known_done,
            &mut self.found,
            self.found_done,
        ))
    }
}
