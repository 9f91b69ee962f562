//! Reads a list page by page, with a guard against lists without an end.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};

/// Some servers send empty pages in between, but more in a row than this mean that a list has no end.
const MAX_EMPTY_PAGES: u32 = 100;

/// A server that sends more pages than this is broken.
const MAX_PAGES: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Endless {
    #[error("a page has no new id, so the server sends the same page again")]
    NothingNew,
    #[error("its pages lead in a circle")]
    Loop,
    #[error("more than {MAX_EMPTY_PAGES} pages in a row are empty")]
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
    ids: SeenIds,
    empty_pages: u32,
}

impl<P> Default for Pager<P> {
    fn default() -> Self {
        Self {
            next: Next::First,
            seen: HashSet::new(),
            ids: SeenIds::default(),
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

    /// What a page adds to the earlier pages.
    pub fn content<T: Identified>(&mut self, page: &[T]) -> Content {
        let new = page.iter().filter(|item| self.ids.insert(item.id()));
        Content::new(page.len(), new.count())
    }

    /// Moves on after a page: to the next one, or to the end if `next` is `None`.
    ///
    /// # Errors
    /// If the list has no end.
    pub fn advance(&mut self, page: Content, next: Option<P>) -> Result<(), Endless> {
        let Some(next) = next else {
            self.next = Next::End;
            return Ok(());
        };
        match page {
            Content::Repeated => return Err(Endless::NothingNew),
            Content::Empty => self.empty_pages += 1,
            Content::New => self.empty_pages = 0,
        }
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

pub(crate) trait Identified {
    fn id(&self) -> &str;
}

/// What a page adds to the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    New,
    /// Each of its items was on an earlier page.
    Repeated,
    Empty,
}

impl Content {
    pub fn new(items: usize, new_items: usize) -> Self {
        match (items, new_items) {
            (0, _) => Self::Empty,
            (_, 0) => Self::Repeated,
            _ => Self::New,
        }
    }
}

/// Hashes, because a list may have a million ids.
#[derive(Debug, Default)]
struct SeenIds {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl SeenIds {
    fn insert(&mut self, id: &str) -> bool {
        self.hashes.insert(self.hasher.hash_one(id))
    }
}

#[cfg(test)]
mod tests {
    use super::Content::{Empty, New, Repeated};
    use super::*;

    impl Identified for &'static str {
        fn id(&self) -> &str {
            self
        }
    }

    #[test]
    fn a_list_ends_after_the_page_without_a_next_one() {
        let mut pager = Pager::default();
        assert!(pager.is_first() && !pager.is_done());
        pager.advance(New, Some(2)).unwrap();
        assert_eq!(pager.next(), &Next::At(2));
        pager.advance(Repeated, None).unwrap();
        assert!(pager.is_done());
    }

    #[test]
    fn a_loop_is_an_error() {
        let mut pager = Pager::default();
        pager.advance(New, Some("2")).unwrap();
        pager.advance(New, Some("3")).unwrap();
        assert_eq!(pager.advance(New, Some("2")), Err(Endless::Loop));
    }

    #[test]
    fn a_page_before_others_must_have_a_new_id() {
        let mut pager = Pager::default();
        let mut read = |ids: &[&'static str], next| {
            let page = pager.content(ids);
            pager.advance(page, next)
        };
        read(&["a", "b"], Some(1)).unwrap();
        read(&["b", "c"], Some(2)).unwrap();
        read(&[], Some(3)).unwrap();
        assert_eq!(read(&["a", "c"], Some(4)), Err(Endless::NothingNew));
    }

    #[test]
    fn many_empty_pages_are_an_error() {
        let mut pager = Pager::default();
        let mut advance = |page, content| pager.advance(content, Some(page));
        for page in (0..100).chain(101..201) {
            advance(page, Empty).unwrap();
            if page == 99 {
                advance(100, New).unwrap();
            }
        }
        assert_eq!(advance(201, Empty), Err(Endless::EmptyPages));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(10_000))]

        /// Whatever pages a server sends, the list ends.
        #[test]
        fn every_list_ends(
            pages in proptest::collection::vec((0..4_usize, 0..6_usize, 0..9_u8), 1..9),
            is_by_number: bool,
        ) {
            const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let mut pager = Pager::default();
            let is_ended = (0..2000_usize).zip(pages.iter().cycle()).any(|(number, (count, first, next))| {
                let ids = IDS.iter().cycle().skip(*first).take(*count);
                let content = pager.content(&ids.copied().collect::<Vec<_>>());
                let next = if is_by_number { number } else { usize::from(*next) };
                pager.advance(content, Some(next)).is_err() || pager.is_done()
            });
            proptest::prop_assert!(is_ended);
        }
    }

    #[test]
    fn a_list_of_too_many_pages_is_an_error() {
        let mut pager = Pager::default();
        let end = (0..).find_map(|page| pager.advance(New, Some(page)).err().zip(Some(page)));
        assert_eq!(end, Some((Endless::TooLong, MAX_PAGES)));
    }
}
