//! Counts requests by route and status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By route, then by status.
pub type RequestCounts = BTreeMap<Box<str>, BTreeMap<u16, u64>>;

#[derive(Debug, Default)]
pub struct Counts(Mutex<RequestCounts>);

impl Counts {
    pub fn add(&self, route: &str, status: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(by_status) = counts.get_mut(route) {
            *by_status.entry(status).or_default() += 1;
        } else {
            counts.insert(route.into(), BTreeMap::from([(status, 1)]));
        }
    }

    pub fn snapshot(&self) -> RequestCounts {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
