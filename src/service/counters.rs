//! What the service counts for its metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::service::Refusal;

#[derive(Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    valid: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

/// Since the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Verifications that were answered from memory.
    pub hits: u64,
    pub valid: u64,
    pub refused: Vec<(Refusal, u64)>,
    /// Uses that found no room in memory.
    pub lost_uses: u64,
}

impl Counters {
    pub fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, refusal: Option<Refusal>) {
        let counter = match refusal {
            None => &self.valid,
            Some(refusal) => &self.refused[refusal as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Counts {
        let refused = Refusal::ALL.iter().zip(&self.refused);
        Counts {
            hits: self.hits.load(Ordering::Relaxed),
            valid: self.valid.load(Ordering::Relaxed),
            refused: refused
                .map(|(refusal, count)| (*refusal, count.load(Ordering::Relaxed)))
                .collect(),
            lost_uses: 0,
        }
    }
}
