//! Reads a list page by page, and accepts it only with proof that it is complete: by index (RFC 7644 §3.4.2.4) as
//! many resources as `totalResults`, by cursor (RFC 9865 §2) a page without a next cursor.
//!
//! A list that does not add up is read once more, with other steps between the pages. If only few resources are
//! missing then, it counts with a note: otherwise one broken account would make a server useless.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::api::{Api, ListQuery, Provider, QUERY_UNSUPPORTED, none_if_query_unsupported};
use super::resources::{Page, Resource};
use crate::directories::is_few;
use crate::upstream::Error;
use crate::upstream::http;
use crate::upstream::pager::{Content, Next, Pager};

/// The page size that is requested of servers that report no maximum. Some servers accept no more.
const PAGE_SIZE: u64 = 100;

#[derive(Debug)]
pub(super) struct Pages<'a> {
    api: &'a Api,
    provider: Provider,
    query: ListQuery,
    /// `count` of the requests; `None` leaves it to the server.
    page_size: Option<u64>,
    /// Ids of all resources that were passed on.
    passed_on: HashSet<String>,
    reading: Reading,
    is_second_reading: bool,
    /// The most resources on one page.
    largest_page: u64,
    /// Why resources are missing from a list that counts nevertheless.
    pub shortfall: Option<String>,
}

/// One reading of the list from its beginning.
#[derive(Debug, Default)]
struct Reading {
    pager: Pager<Position>,
    /// `totalResults` of the first page.
    total: Option<u64>,
    /// Resources on the pages, repeated ones included.
    received: u64,
    without_id: u64,
    ids: HashSet<String>,
    /// The first page that falls short or overlaps an earlier one.
    fault: Option<String>,
    pages: u64,
    uses_cursors: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Position {
    /// Starts at 1.
    Index(u64),
    Cursor(String),
}

impl Reading {
    fn distinct(&self) -> u64 {
        self.ids.len() as u64 + self.without_id
    }

    fn is_at_cursor(&self) -> bool {
        matches!(self.pager.next(), Next::At(Position::Cursor(_)))
    }

    /// `startIndex` of the next page.
    fn start(&self) -> u64 {
        match self.pager.next() {
            Next::At(Position::Index(index)) => *index,
            _ => 1,
        }
    }
}

/// Resources found by a filter; `None` if the server does not support the filter or, as some do, ignores it and
/// returns others, or if it leaves some out.
pub(super) async fn find<T: Resource>(
    api: &Api,
    provider: Provider,
    query: ListQuery,
    is_match: impl Fn(&T) -> bool,
) -> Result<Option<Vec<T>>, Error> {
    let path = query.path;
    let mut pages = Pages::new(api, provider, query);
    let mut found = Vec::new();
    loop {
        match none_if_query_unsupported(pages.next().await, path)? {
            Some(None) => return Ok(pages.lack().is_none().then_some(found)),
            Some(Some(page)) if page.iter().all(&is_match) => found.extend(page),
            _ => return Ok(None),
        }
    }
}

impl<'a> Pages<'a> {
    pub fn new(api: &'a Api, provider: Provider, query: ListQuery) -> Self {
        let by_index = (!provider.uses_cursors).then_some(PAGE_SIZE);
        Self {
            api,
            provider,
            query,
            page_size: provider.page.or(by_index),
            passed_on: HashSet::new(),
            reading: Reading::default(),
            is_second_reading: false,
            largest_page: 0,
            shortfall: None,
        }
    }

    pub fn total(&self) -> Option<u64> {
        self.reading.total
    }

    pub fn without_id(&self) -> u64 {
        self.reading.without_id
    }

    /// Why resources are missing from the list.
    pub fn lack(&self) -> Option<String> {
        let without_id = self.without_id();
        let note = || format!("{without_id} of its records have no id");
        self.shortfall
            .clone()
            .or_else(|| (without_id > 0).then(note))
    }

    pub fn is_done(&self) -> bool {
        self.reading.pager.is_done()
    }

    pub fn selects_fields(&self) -> bool {
        self.query.attributes.is_some()
    }

    /// Whether only the server's `totalResults` says that its one page is the whole list. Some servers count just the
    /// page.
    pub fn is_one_page(&self) -> bool {
        self.is_done() && self.reading.pages == 1 && !self.reading.uses_cursors
    }

    /// Whether the largest page is as long as pages typically are.
    pub fn is_page_full(&self) -> bool {
        let count = self.largest_page;
        let is_round = count >= 10 && (count.is_multiple_of(5) || count.is_power_of_two());
        is_round || self.page_size.is_some_and(|size| count >= size)
    }

    /// The new resources of the next page; `None` after the last.
    pub async fn next<T: Resource>(&mut self) -> Result<Option<Vec<T>>, Error> {
        loop {
            if self.is_done() {
                return Ok(None);
            }
            let page = match self.request_page().await {
                // Some servers refuse a page beyond the end instead of sending an empty one.
                Err(error) if self.is_beyond_end() && error.status().is_some() => Page::default(),
                page => page?,
            };
            if let Some(taken) = self.take(page) {
                return taken.map(Some);
            }
        }
    }

    /// The new resources of a page; `None` if the list must be read again from its beginning.
    fn take<T: Resource>(&mut self, page: Page<T>) -> Option<Result<Vec<T>, Error>> {
        let accepted = self.accept_page(page);
        if accepted.is_err() && !self.is_second_reading {
            self.is_second_reading = true;
            self.reading = Reading::default();
            return None;
        }
        Some(accepted)
    }

    fn is_beyond_end(&self) -> bool {
        let total = self.reading.total;
        total.is_some_and(|total| !self.is_done() && self.reading.start() > total.max(1))
    }

    async fn request_page<T: DeserializeOwned>(&mut self) -> Result<Page<T>, Error> {
        loop {
            let error = match self.fetch_page().await {
                Err(error) if error.has_status(&QUERY_UNSUPPORTED) => error,
                response => return response,
            };
            if self.reading.is_at_cursor() {
                return Err(self.invalid_response(
                    "the server rejects a cursor that it issued; the next sync starts over",
                ));
            }
            // It may refuse the selection of fields, or the page size.
            let is_first = self.reading.pager.is_first();
            if is_first && self.query.attributes.take().is_some() {
                continue;
            }
            let is_size_refused = is_first && self.query.filter.is_none();
            if !is_size_refused || self.page_size.take().is_none() {
                return Err(error);
            }
        }
    }

    async fn fetch_page<T: DeserializeOwned>(&self) -> Result<Page<T>, Error> {
        let mut request = self.api.get(self.query.path);
        if let Some(attributes) = self.query.attributes {
            request = request.query("attributes", attributes);
        }
        if let Some(filter) = &self.query.filter {
            request = request.query("filter", filter);
        }
        if let Some(size) = self.page_size {
            request = request.query("count", &size.to_string());
        }
        request = match self.reading.pager.next() {
            Next::First if self.provider.uses_cursors => request.query("cursor", ""),
            Next::At(Position::Cursor(cursor)) => request.query("cursor", cursor),
            _ => request.query("startIndex", &self.reading.start().to_string()),
        };
        Ok(request.json().await?)
    }

    /// Checks and counts a page, and sets where the next one is.
    fn accept_page<T: Resource>(&mut self, page: Page<T>) -> Result<Vec<T>, Error> {
        let cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
        let is_first = self.reading.pager.is_first();
        // A server may use cursors without announcing them.
        let uses_cursors = cursor.is_some()
            || self.reading.is_at_cursor()
            || (is_first && self.provider.uses_cursors);
        let is_list = self.is_beyond_end()
            || page.total_results.is_some()
            || (uses_cursors && page.resources.is_some());
        if !is_list {
            return Err(Error::Http(http::Error::Malformed {
                place: self.api.place(self.query.path),
                reason: "totalResults is missing".to_owned(),
            }));
        }
        if is_first {
            self.reading.total = page.total_results;
        }
        let totals = page.total_results.zip(self.reading.total);
        if totals.is_some_and(|(total, first)| total != first) {
            return Err(self.invalid_response(
                "its pages report different totals; the list changed while it was read",
            ));
        }
        let records = page.resources.unwrap_or_default();
        let count = records.count() as u64;
        let mut resources = records.items;
        let sent = resources.len();
        let reading = &mut self.reading;
        resources.retain(|resource| reading.ids.insert(resource.id().to_owned()));
        reading.received += count;
        reading.without_id += records.without_id;
        reading.uses_cursors |= uses_cursors;
        reading.pages += 1;
        self.largest_page = self.largest_page.max(count);
        let repeated = sent - resources.len();
        self.note_fault(count, repeated as u64, uses_cursors);
        let content = Content::new(sent, resources.len());
        let next = match cursor {
            Some(cursor) => Some(Position::Cursor(cursor)),
            None if uses_cursors => None,
            None => self.next_index(count, page.size, content),
        };
        let advanced = self.reading.pager.advance(content, next);
        advanced.map_err(|endless| self.invalid_response(&endless.to_string()))?;
        if self.is_done() {
            self.ensure_complete()?;
        }
        resources.retain(|resource| self.passed_on.insert(resource.id().to_owned()));
        Ok(resources)
    }

    /// `startIndex` of the page after one with `count` resources; `None` after the last.
    ///
    /// The first reading takes the step that can leave nothing out. The second takes the server at its word, because
    /// some servers count resources that they do not show, or serve whole pages only.
    fn next_index(
        &self,
        count: u64,
        items_per_page: Option<u64>,
        content: Content,
    ) -> Option<Position> {
        let reading = &self.reading;
        let (start, total) = (reading.start(), reading.total?);
        let is_plausible = |items: &u64| {
            (count..=self.page_size.unwrap_or(count)).contains(items) && self.is_second_reading
        };
        let step = match items_per_page.filter(is_plausible) {
            Some(items) => items,
            None if count > 0 && !self.is_second_reading => count,
            None => count.max(self.largest_page),
        };
        let step = if step > 0 { step } else { self.page_size? };
        let next = start.saturating_add(step);
        // Pages that overlap push the last resources beyond the total.
        let is_beyond = next > total && (count == 0 || content == Content::Repeated);
        (reading.distinct() < total && !is_beyond).then_some(Position::Index(next))
    }

    fn note_fault(&mut self, count: u64, repeated: u64, uses_cursors: bool) {
        let start = self.reading.start();
        let number = self.reading.pages;
        let page = if uses_cursors {
            format!("page {number}")
        } else {
            format!("page {number} (startIndex {start})")
        };
        let left = self
            .reading
            .total
            .map(|total| total.saturating_sub(start - 1));
        let expected = self.largest_page.min(left.unwrap_or(0));
        let fault = if repeated > 0 {
            format!("{page} repeats {repeated} of earlier pages")
        } else if count < expected && !uses_cursors {
            format!("{page} has {count} of {expected}")
        } else {
            return;
        };
        self.reading.fault.get_or_insert(fault);
    }

    /// A resource on two pages may have taken the place of another one, so duplicates do not count.
    fn ensure_complete(&mut self) -> Result<(), Error> {
        let distinct = self.reading.distinct();
        let Some(total) = self.reading.total.filter(|total| *total != distinct) else {
            return Ok(());
        };
        let twice = if distinct < self.reading.received {
            ", some of them twice"
        } else {
            ""
        };
        let fault = self.reading.fault.as_ref();
        let fault = fault.map_or_else(String::new, |fault| format!("; {fault}"));
        let lack = format!("it reports {total} resources but listed {distinct}{twice}{fault}");
        if self.is_second_reading
            && is_few(total.saturating_sub(distinct), total)
            && distinct < total
        {
            self.shortfall = Some(lack);
            return Ok(());
        }
        Err(self.invalid_response(&format!(
            "{lack}; the list changed while it was read, or the server leaves some out of its pages"
        )))
    }

    fn invalid_response(&self, reason: &str) -> Error {
        self.api.invalid_response(self.query.path, reason)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use serde_json::json;

    use super::*;
    use crate::directories::scim::resources::User;
    use crate::upstream::ProxyRules;
    use crate::upstream::http::Client;

    /// `totalResults`, `itemsPerPage`, the first and the number of users, and the number of the next cursor.
    type Sketch = (Option<u64>, Option<u64>, usize, usize, Option<u8>);

    fn draw(&(total, items, first, count, cursor): &Sketch) -> Page<User> {
        let users = (first..first + count).map(|number| json!({"id": number % 9}));
        let page = json!({
            "totalResults": total, "itemsPerPage": items, "Resources": users.collect::<Vec<_>>(),
            "nextCursor": cursor
        });
        serde_json::from_value(page).unwrap()
    }

    fn ends(api: &Api, provider: Provider, sketches: &[Sketch]) -> bool {
        let query = ListQuery {
            path: "Users",
            attributes: None,
            filter: None,
        };
        let mut pages = Pages::new(api, provider, query);
        sketches.iter().cycle().take(2000).any(|sketch| {
            let page = if pages.is_beyond_end() {
                Page::default()
            } else {
                draw(sketch)
            };
            pages
                .take(page)
                .is_some_and(|taken| taken.is_err() || pages.is_done())
        })
    }

    #[test]
    fn every_list_ends_whatever_pages_a_server_sends() {
        let url = "https://idp.example.org/scim/v2".parse().unwrap();
        let proxies = ProxyRules::default();
        let client = Client::new(&url, None, Duration::from_secs(1), &proxies).unwrap();
        let api = Api::new(client, &url, &"token".into()).unwrap();
        let config = ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(10_000)
        };
        let total = prop_oneof![Just(None), (0..12_u64).prop_map(Some), Just(Some(u64::MAX))];
        let cursor = prop_oneof![3 => Just(None), 1 => (0..9_u8).prop_map(Some)];
        let sketch = (
            total,
            prop::option::of(0..200_u64),
            0..9_usize,
            0..5_usize,
            cursor,
        );
        let case = (
            prop::collection::vec(sketch, 1..6),
            any::<bool>(),
            prop::option::of(1..5_u64),
        );
        let ran = TestRunner::new(config).run(&case, |(sketches, uses_cursors, page)| {
            let provider = Provider {
                supports_filters: true,
                uses_cursors,
                page,
            };
            prop_assert!(ends(&api, provider, &sketches));
            Ok(())
        });
        ran.unwrap();
    }
}
