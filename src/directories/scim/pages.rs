//! A list, page by page, that counts as whole only when its own end mark was seen.
//!
//! By index (RFC 7644 §3.4.2.4) that is as many resources as every page says there are; by cursor
//! (RFC 9865 §2) a page without a next one.

use std::collections::HashSet;

use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use super::api::{Api, Provider, is_not_understood, refused};
use super::shapes::{Page, Resource};
use crate::sources::Error;
use crate::web;

/// No list has more pages; a server that always has another is broken.
const MOST_PAGES: usize = 100_000;

/// What is listed.
#[derive(Debug, Clone)]
pub struct Query {
    /// `Users` or `Groups`.
    pub path: &'static str,
    /// The fields that are wanted; a server that does not know this word is asked for all.
    pub attributes: Option<&'static str>,
    /// Which ones.
    pub filter: Option<String>,
}

/// Why a page could not be had.
#[derive(Debug)]
pub enum Fault {
    /// The server did not answer, or refused.
    Web(web::Error),
    /// What it answered does not fit together.
    Unsound(Error),
}

impl Fault {
    /// The same, with what to do about a refusal.
    pub fn into_error(self, path: &str) -> Error {
        match self {
            Self::Web(error) => refused(error, path),
            Self::Unsound(error) => error,
        }
    }

    /// Whether it is the question that the server does not take, and another may do: a filter that it does
    /// not know, an answer that does not fit it.
    pub fn is_of_the_question(&self) -> bool {
        match self {
            Self::Unsound(_) | Self::Web(web::Error::Malformed { .. }) => true,
            Self::Web(error) => error.status().is_some_and(|status| {
                let is_ours = status.is_client_error() || status == StatusCode::NOT_IMPLEMENTED;
                is_ours && status != StatusCode::UNAUTHORIZED
            }),
        }
    }
}

/// A list under way.
#[derive(Debug)]
pub struct Pages<'a> {
    api: &'a Api,
    provider: Provider,
    query: Query,
    next: Next,
    /// What the first page said.
    total: Option<u64>,
    received: u64,
    /// Whose were received, each once.
    ids: HashSet<String>,
    count: usize,
    cursors: HashSet<String>,
}

#[derive(Debug, Clone)]
enum Next {
    First,
    /// From 1.
    Index(u64),
    Cursor(String),
    End,
}

impl<'a> Pages<'a> {
    /// A list of which nothing has been read yet.
    pub fn new(api: &'a Api, provider: Provider, query: Query) -> Self {
        Self {
            api,
            provider,
            query,
            next: Next::First,
            total: None,
            received: 0,
            ids: HashSet::new(),
            count: 0,
            cursors: HashSet::new(),
        }
    }

    /// How many there are, as far as the server says.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Whether the last page has been read.
    pub fn is_done(&self) -> bool {
        matches!(self.next, Next::End)
    }

    /// Whether only some fields were asked for.
    pub fn is_partial(&self) -> bool {
        self.query.attributes.is_some()
    }

    /// What is new on the next page; `None` after the last one.
    pub async fn next<T: DeserializeOwned + Resource>(&mut self) -> Result<Option<Vec<T>>, Fault> {
        if self.is_done() {
            return Ok(None);
        }
        self.count += 1;
        if self.count > MOST_PAGES {
            return Err(self.unsound("the list does not come to an end"));
        }
        let page = match self.ask().await {
            Err(error) if self.may_ask_for_all(&error) => {
                self.query.attributes = None;
                self.ask().await
            }
            answer => answer,
        };
        let page: Page<T> = page.map_err(|error| self.fault(error))?;
        self.count_in(page).map(Some)
    }

    /// The rest, in one piece.
    pub async fn rest<T: DeserializeOwned + Resource>(&mut self) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }

    async fn ask<T: DeserializeOwned>(&self) -> Result<Page<T>, web::Error> {
        let mut request = self.api.get(self.query.path);
        if let Some(attributes) = self.query.attributes {
            request = request.query("attributes", attributes);
        }
        if let Some(filter) = &self.query.filter {
            request = request.query("filter", filter);
        }
        if let Some(page) = self.provider.page {
            request = request.query("count", &page.to_string());
        }
        request = match &self.next {
            Next::First if self.provider.is_by_cursor => request.query("cursor", ""),
            Next::First | Next::End => request,
            Next::Index(index) => request.query("startIndex", &index.to_string()),
            Next::Cursor(cursor) => request.query("cursor", cursor),
        };
        request.json().await
    }

    fn may_ask_for_all(&self, error: &web::Error) -> bool {
        matches!(self.next, Next::First) && self.is_partial() && is_not_understood(error)
    }

    fn fault(&self, error: web::Error) -> Fault {
        let is_cursor = matches!(self.next, Next::Cursor(_));
        if is_cursor && is_not_understood(&error) {
            return self.unsound(
                "the server no longer takes the cursor that it gave; the next sweep begins anew",
            );
        }
        Fault::Web(error)
    }

    /// Takes note of a page, and of where the next one is.
    fn count_in<T: Resource>(&mut self, page: Page<T>) -> Result<Vec<T>, Fault> {
        let cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
        let is_first = matches!(self.next, Next::First);
        // A server that says nothing of its pages may part them by cursors all the same.
        let is_by_cursor = cursor.is_some()
            || matches!(self.next, Next::Cursor(_))
            || (is_first && self.provider.is_by_cursor);
        let is_list = page.total_results.is_some() || (is_by_cursor && page.resources.is_some());
        if !is_list {
            return Err(self.no_list());
        }
        if is_first {
            self.total = page.total_results;
        } else if page
            .total_results
            .is_some_and(|total| self.total.is_some_and(|it| it != total))
        {
            return Err(self.unsound(
                "its pages disagree about how many there are; the list changed while it was read",
            ));
        }
        let mut resources = page.resources.unwrap_or_default();
        let is_empty = resources.is_empty();
        self.received += resources.len() as u64;
        resources.retain(|it| self.ids.insert(it.id().to_owned()));
        self.next = match (is_by_cursor, cursor) {
            (true, Some(cursor)) if self.cursors.insert(cursor.clone()) => Next::Cursor(cursor),
            (true, Some(_)) => return Err(self.unsound("it gave the same cursor a second time")),
            (false, _) if self.total.is_some_and(|total| self.received < total) && !is_empty => {
                Next::Index(self.received + 1)
            }
            (true, None) | (false, _) => Next::End,
        };
        if self.is_done() {
            self.is_whole()?;
        }
        Ok(resources)
    }

    /// Whether as many came as there are. What stands on two pages stands in the place of something else,
    /// which stood on neither.
    fn is_whole(&self) -> Result<(), Fault> {
        let distinct = self.ids.len() as u64;
        let twice = if distinct < self.received {
            ", some of them twice"
        } else {
            ""
        };
        match self.total {
            Some(total) if total != self.received || total != distinct => {
                Err(self.unsound(&format!(
                    "of {total} that there are said to be, {distinct} were listed{twice}; the list changed while \
                     it was read, or the server leaves some out of its pages"
                )))
            }
            _ => Ok(()),
        }
    }

    fn no_list(&self) -> Fault {
        Fault::Web(web::Error::Malformed {
            place: self.api.place(self.query.path),
            reason: "totalResults is missing".to_owned(),
        })
    }

    fn unsound(&self, reason: &str) -> Fault {
        Fault::Unsound(self.api.unsound(self.query.path, reason))
    }
}
