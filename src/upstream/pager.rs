//! Reads a list page by page, with a guard against lists without an end.

use std::collections::HashSet;
use std::hash::Hash;

/// Some servers send empty pages in between, but more in a row than this mean that a list has no end.
const MAX_EMPTY_PAGES: u32 = 100;

/// A server that sends more pages than this is broken.
const MAX_PAGES: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Endless {
    #[error("a page repeats an earlier one")]
    Loop,
    #[error("more than {MAX_EMPTY_PAGES} pages in a row have nothing new")]
    EmptyPages,
    #[error("it has more than {MAX_PAGES} pages")]
    TooLong,
}

/// Where the next page is: `P` is a link, a cursor or an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next<P> {
    First,
    At(P),
    End,
}

#[derive(Debug)]
pub(crate) struct Pager<P> {
    next: Next<P>,
    seen: HashSet<P>,
    /// How many pages in a row had no new item.
    empty_pages: u32,
}

impl<P> Default for Pager<P> {
    fn default() -> Self {
        Self {
            next: Next::First,
            seen: HashSet::new(),
            empty_pages: 0,
        }
    }
}

impl<P: Clone + Eq + Hash> Pager<P> {
    pub fn next(&self) -> &Next<P> {
        &self.next
    }

    pub fn is_first(&self) -> bool {
        matches!(self.next, Next::First)
    }

    pub fn is_done(&self) -> bool {
        matches!(self.next, Next::End)
    }

    /// Moves on after a page: to the next one, or to the end if `next` is `None`.
    ///
    /// # Errors
    /// If the list has no end.
    pub fn advance(&mut self, is_empty: bool, next: Option<P>) -> Result<(), Endless> {
        self.empty_pages = if is_empty { self.empty_pages + 1 } else { 0 };
        let Some(next) = next else {
            self.next = Next::End;
            return Ok(());
        };
        if self.empty_pages > MAX_EMPTY_PAGES {
            return Err(Endless::EmptyPages);
        } else if self.seen.len() >= MAX_PAGES {
            return Err(Endless::TooLong);
        } else if !self.seen.insert(next.clone()) {
            return Err(Endless::Loop);
        }
        self.next = Next::At(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_after_the_page_without_a_next_one() {
        let mut pager = Pager::default();
        assert!(pager.is_first() && !pager.is_done());
        pager.advance(false, Some(2)).unwrap();
        assert_eq!(pager.next(), &Next::At(2));
        pager.advance(true, None).unwrap();
        assert!(pager.is_done());
    }

    #[test]
    fn a_loop_is_an_error() {
        let mut pager = Pager::default();
        pager.advance(false, Some("2")).unwrap();
        pager.advance(false, Some("3")).unwrap();
        assert_eq!(pager.advance(false, Some("2")), Err(Endless::Loop));
    }

    #[test]
    fn many_pages_without_anything_new_are_an_error() {
        let mut pager = Pager::default();
        let mut advance = |page, is_empty| pager.advance(is_empty, Some(page));
        for page in (0..100).chain(101..201) {
            advance(page, true).unwrap();
            if page == 99 {
                advance(100, false).unwrap();
            }
        }
        assert_eq!(advance(201, true), Err(Endless::EmptyPages));
    }

    #[test]
    fn a_list_of_too_many_pages_is_an_error() {
        let mut pager = Pager::default();
        let end = (0..).find_map(|page| pager.advance(false, Some(page)).err().zip(Some(page)));
        assert_eq!(end, Some((Endless::TooLong, MAX_PAGES)));
    }
}
