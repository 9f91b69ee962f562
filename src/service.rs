//! The token service: issues, verifies, regenerates and ends credentials, for the command line and the web listener.
//!
//! [`Service::open`] is enough to work on the store. The daemon also runs [`Service::start`], which reads what others
//! change: only then verifications are answered from memory.

pub mod accounts;
mod actor;
mod audit;
mod cache;
mod counters;
mod error;
mod exchange;
mod feed;
pub mod found;
pub mod idempotency;
pub mod issue;
mod issuing;
mod limits;
mod manage;
mod mark;
pub mod notices;
mod packed;
pub mod pages;
mod people;
pub mod policy_check;
pub mod portal;
pub mod preferences;
mod queue;
mod reach;
mod reader;
mod record;
mod regenerate;
mod resume;
mod run;
pub mod sessions;
mod shown;
pub mod sign_in;
mod uses;
mod verify;
pub mod watching;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::domain::Policy;
use crate::domain::service::{Access, Refusal, Terms};
use crate::store::{self, Store, Tx};

use cache::Cache;
use counters::Counters;
use reader::Reader;
use shown::Shown;
use uses::Uses;

pub use counters::Counts;
pub use error::Error;
#[cfg(feature = "test-support")]
pub use exchange::DerivedToken;
pub use exchange::{Exchanged, Grant};
#[cfg(feature = "test-support")]
pub use feed::Feed;
pub use mark::Mark;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a verification says, if it could be made.
pub type Verdict = std::result::Result<Access, Refusal>;

pub struct Service {
    store: Store,
    clock: Clock,
    terms: Arc<Terms>,
    /// When the watched rows of tokens are due.
    policy: Arc<Policy>,
    cache: Arc<Cache>,
    reader: Reader,
    issuing: queue::Queue,
    uses: Uses,
    shown: Arc<Shown>,
    counters: Counters,
    /// Off while nobody has decided about a store that was restored.
    is_open: Arc<AtomicBool>,
}

impl Service {
    /// Without tasks in the background: every verification reads the store.
    pub fn open(store: Store, clock: Clock, terms: Arc<Terms>, policy: Arc<Policy>) -> Arc<Self> {
        let cache = Arc::new(Cache::new());
        Arc::new(Self {
            reader: Reader::new(store.clone(), Arc::clone(&cache)),
            store,
            clock,
            terms,
            policy,
            cache,
            issuing: queue::Queue::default(),
            uses: Uses::default(),
            shown: Arc::default(),
            counters: Counters::default(),
            is_open: Arc::new(AtomicBool::new(true)),
        })
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Whether tokens are verified: not after a restore, until an operator resumes it.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Commits, and makes the next verification in this process see the `changes`. Every transaction that changes or
    /// ends a credential or a person must end with it; a new one is never in memory.
    pub async fn commit(&self, tx: Tx, changes: &[store::Change]) -> Result<()> {
        let _forgets = Forgets {
            cache: &self.cache,
            changes,
        };
        Ok(tx.commit().await?)
    }

    /// How long ago the change feed was last read completely; `None` before that.
    pub fn feed_age(&self) -> Option<Duration> {
        self.cache.feed_age(self.clock.uptime())
    }

    /// What it verified since it was opened.
    pub fn counts(&self) -> Counts {
        Counts {
            lost_uses: self.uses.lost(),
            ..self.counters.read()
        }
    }
}

/// Makes the cache forget when a commit ends in any way: after an error, or when a request is given up before the
/// answer, the database may have committed.
struct Forgets<'a> {
    cache: &'a Cache,
    changes: &'a [store::Change],
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.cache.forget(self.changes);
    }
}
