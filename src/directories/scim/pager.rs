//! Reads a list page by page, and accepts it only with proof that it is complete: by index (RFC 7644
//! §3.4.2.4) as many resources as `totalResults`, by cursor (RFC 9865 §2) a page without a next cursor.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use super::responses::{Page, Resource};
use super::session::{Provider, Session, explain_refusal, is_query_unsupported};
use crate::upstream::Error;
use crate::upstream::http;
use crate::upstream::pager::{self as upstream, Next};

#[derive(Debug, Clone)]
pub struct ListQuery {
    pub path: &'static str,
    /// The requested fields; `None` requests all.
    pub attributes: Option<&'static str>,
    pub filter: Option<String>,
}

#[derive(Debug)]
pub enum Fault {
    /// The request failed.
    Http(http::Error),
    /// The response is inconsistent.
    Invalid(Error),
}

impl Fault {
    /// Adds advice to a refusal.
    pub fn into_error(self, path: &str) -> Error {
        match self {
            Self::Http(error) => explain_refusal(error, path),
            Self::Invalid(error) => error,
        }
    }

    /// Whether the server does not support the query, so that another one may work: it refuses the filter, or
    /// its response does not fit the query.
    pub fn means_query_unsupported(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::Http(http::Error::Malformed { .. }) => true,
            Self::Http(error) => error.status().is_some_and(|status| {
                let is_refusal = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
                is_refusal && status != StatusCode::UNAUTHORIZED
            }),
        }
    }
}

#[derive(Debug)]
pub struct Pager<'a> {
    session: &'a Session,
    provider: Provider,
    query: ListQuery,
    pager: upstream::Pager<Position>,
    /// `totalResults` of the first page.
    total: Option<u64>,
    received: u64,
    ids: HashSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Position {
    /// Starts at 1.
    Index(u64),
    Cursor(String),
}

impl<'a> Pager<'a> {
    pub fn new(session: &'a Session, provider: Provider, query: ListQuery) -> Self {
        Self {
            session,
            provider,
            query,
            pager: upstream::Pager::default(),
            total: None,
            received: 0,
            ids: HashSet::new(),
        }
    }

    /// The number of resources, if the server reports it.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    pub fn is_done(&self) -> bool {
        self.pager.is_done()
    }

    pub fn selects_fields(&self) -> bool {
        self.query.attributes.is_some()
    }

    /// The new resources of the next page; `None` after the last.
    pub async fn next_page<T: DeserializeOwned + Resource>(
        &mut self,
    ) -> Result<Option<Vec<T>>, Fault> {
        if self.is_done() {
            return Ok(None);
        }
        let page = match self.fetch_page().await {
            Err(error) if self.can_retry_with_all_fields(&error) => {
                self.query.attributes = None;
                self.fetch_page().await
            }
            response => response,
        };
        let page: Page<T> = page.map_err(|error| self.to_fault(error))?;
        self.accept_page(page).map(Some)
    }

    pub async fn collect_rest<T: DeserializeOwned + Resource>(&mut self) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }

    async fn fetch_page<T: DeserializeOwned>(&self) -> Result<Page<T>, http::Error> {
        let mut request = self.session.get(self.query.path);
        if let Some(attributes) = self.query.attributes {
            request = request.query("attributes", attributes);
        }
        if let Some(filter) = &self.query.filter {
            request = request.query("filter", filter);
        }
        if let Some(page) = self.provider.page {
            request = request.query("count", &page.to_string());
        }
        request = match self.pager.next() {
            Next::First if self.provider.uses_cursors => request.query("cursor", ""),
            Next::First | Next::End => request,
            Next::At(Position::Index(index)) => request.query("startIndex", &index.to_string()),
            Next::At(Position::Cursor(cursor)) => request.query("cursor", cursor),
        };
        request.json().await
    }

    fn is_at_cursor(&self) -> bool {
        matches!(self.pager.next(), Next::At(Position::Cursor(_)))
    }

    fn can_retry_with_all_fields(&self, error: &http::Error) -> bool {
        self.pager.is_first() && self.selects_fields() && is_query_unsupported(error)
    }

    fn to_fault(&self, error: http::Error) -> Fault {
        if self.is_at_cursor() && is_query_unsupported(&error) {
            return self.invalid_response(
                "the server rejects a cursor that it issued; the next sync starts over",
            );
        }
        Fault::Http(error)
    }

    /// Checks and counts a page, and sets where the next one is.
    fn accept_page<T: Resource>(&mut self, page: Page<T>) -> Result<Vec<T>, Fault> {
        let cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
        let is_first = self.pager.is_first();
        // A server may use cursors without announcing them.
        let uses_cursors =
            cursor.is_some() || self.is_at_cursor() || (is_first && self.provider.uses_cursors);
        let is_list = page.total_results.is_some() || (uses_cursors && page.resources.is_some());
        if !is_list {
            return Err(self.not_a_list());
        }
        if is_first {
            self.total = page.total_results;
        } else if page
            .total_results
            .is_some_and(|total| self.total.is_some_and(|first| first != total))
        {
            return Err(self.invalid_response(
                "its pages report different totals; the list changed while it was read",
            ));
        }
        let mut resources = page.resources.unwrap_or_default();
        let is_empty = resources.is_empty();
        self.received += resources.len() as u64;
        resources.retain(|resource| self.ids.insert(resource.id().to_owned()));
        let has_more = self.total.is_some_and(|total| self.received < total) && !is_empty;
        let next = match cursor {
            Some(cursor) => Some(Position::Cursor(cursor)),
            None => (!uses_cursors && has_more).then_some(Position::Index(self.received + 1)),
        };
        let advanced = self.pager.advance(resources.is_empty(), next);
        advanced.map_err(|endless| self.invalid_response(&endless.to_string()))?;
        if self.is_done() {
            self.ensure_complete()?;
        }
        Ok(resources)
    }

    /// A resource on two pages has taken the place of another one, so duplicates do not count.
    fn ensure_complete(&self) -> Result<(), Fault> {
        let distinct = self.ids.len() as u64;
        let twice = if distinct < self.received {
            ", some of them twice"
        } else {
            ""
        };
        match self.total {
            Some(total) if total != self.received || total != distinct => {
                Err(self.invalid_response(&format!(
                    "it reports {total} resources but listed {distinct}{twice}; the list changed while \
                     it was read, or the server leaves some out of its pages"
                )))
            }
            _ => Ok(()),
        }
    }

    fn not_a_list(&self) -> Fault {
        Fault::Http(http::Error::Malformed {
            place: self.session.place(self.query.path),
            reason: "totalResults is missing".to_owned(),
        })
    }

    fn invalid_response(&self, reason: &str) -> Fault {
        Fault::Invalid(self.session.invalid_response(self.query.path, reason))
    }
}
