//! Deliver: claim under a lease, send outside any transaction, record in another.
//!
//! ```text
//! claim ──► ready ──► worker ──► outcome ──► judge ──► record ──► the worker's next
//! (lease)  (rendered) (a connection)                  (one statement for all that came in)
//! ```
//!
//! One task writes. It records every outcome that has come in and the start of every next mail in
//! one transaction, so the more workers there are, the more mails share a commit; and a worker gets
//! its next mail only when its last one is on disk. So a crash leaves at most one mail a connection
//! in doubt.

mod chain;
mod claim;
mod compose;
mod pass;
mod record;
mod verdict;
mod worker;
mod workers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::notify::fault::Outcome;
use crate::notify::message::Writer;
use crate::notify::template::Templates;
use crate::notify::transport::Transport;

use super::{Engine, Error, Report};

/// Everything it takes to write and send a mail.
pub struct Post {
    /// Puts letters into messages.
    pub writer: Writer,
    /// Takes messages away.
    pub transport: Transport,
    templates: RwLock<Arc<Templates>>,
    /// What became of attempts since the program started.
    pub outcomes: Outcomes,
}

/// Counts of attempts by outcome.
#[derive(Debug, Default)]
pub struct Outcomes {
    sent: AtomicU64,
    deferred: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    server_fault: AtomicU64,
}

impl Post {
    /// Puts the parts together.
    #[must_use]
    pub fn new(writer: Writer, transport: Transport, templates: Templates) -> Self {
        Self {
            writer,
            transport,
            templates: RwLock::new(Arc::new(templates)),
            outcomes: Outcomes::default(),
        }
    }

    /// The templates in force.
    #[must_use]
    pub fn templates(&self) -> Arc<Templates> {
        Arc::clone(
            &self
                .templates
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Puts other templates in force; mails already rendered keep their words.
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

    /// The counts by name, in a fixed order.
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
    /// When the first of the mails that wait is due.
    pub async fn next_mail_at(&self) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(self.store.read().await?.next_mail_at().await?)
    }

    /// Sends every mail whose time has come, once.
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
