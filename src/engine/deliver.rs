//! Deliver: claims mails under a lease, sends them outside any transaction, and records the outcome in another.
//!
//! ```text
//! claim ──► ready ──► worker ──► outcome ──► verdict ──► record ──► the worker's next mail
//! (lease)  (rendered) (connection)                      (one statement for all outcomes)
//! ```
//!
//! One task writes. It records all new outcomes and the starts of the next mails in one transaction, so with more
//! workers more mails share a commit. A worker gets its next mail only when its last one is on disk, so a crash
//! leaves at most one mail per connection with an unknown outcome.

mod claim;
mod compose;
mod fallback;
mod pass;
mod record;
mod verdict;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::notify::fault::Outcome;
use crate::notify::message::Writer;
use crate::notify::template::Templates;
use crate::notify::transport::Transport;

use super::{Engine, Error, Report};

pub struct Mailer {
    pub writer: Writer,
    pub transport: Transport,
    templates: RwLock<Arc<Templates>>,
    pub outcomes: Outcomes,
}

/// Delivery attempts since the program started, by outcome.
#[derive(Debug, Default)]
pub struct Outcomes {
    sent: AtomicU64,
    deferred: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    server_fault: AtomicU64,
}

impl Mailer {
    #[must_use]
    pub fn new(writer: Writer, transport: Transport, templates: Templates) -> Self {
        Self {
            writer,
            transport,
            templates: RwLock::new(Arc::new(templates)),
            outcomes: Outcomes::default(),
        }
    }

    #[must_use]
    pub fn templates(&self) -> Arc<Templates> {
        Arc::clone(
            &self
                .templates
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Mails that are rendered already keep their text.
    pub fn replace_templates(&self, templates: Templates) {
        *self
            .templates
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(templates);
    }
}

impl Outcomes {
    fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Sent { .. } => &self.sent,
            Outcome::Deferred(_) => &self.deferred,
            Outcome::Refused { .. } => &self.refused,
            Outcome::Unknown(_) => &self.unknown,
            Outcome::ServerFault(_) => &self.server_fault,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        [
            ("sent", &self.sent),
            ("deferred", &self.deferred),
            ("refused", &self.refused),
            ("unknown", &self.unknown),
            ("server_fault", &self.server_fault),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

impl Engine {
    /// When the next planned mail is due.
    pub async fn next_mail_at(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(self.store.begin_read().await?.find_next_mail_at().await?)
    }

    /// Tries every mail that is due once.
    pub(super) async fn deliver(
        &self,
        stop: &CancellationToken,
        report: &mut Report,
    ) -> Result<(), Error> {
        let is_on_probation = self.recover(report).await?;
        pass::Pass::new(self, is_on_probation)
            .run(stop, report)
            .await
    }
}
