//! Records which new secrets were handed over. A token without this record has a secret that nobody may have seen.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::domain::TokenId;
use crate::store::{self, Store};

/// Secrets that were handed over and are not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    ids: Vec<TokenId>,
    /// Whether a task records them.
    is_running: bool,
}

impl Shown {
    /// Records in the background. All that come meanwhile are recorded in one transaction. Must be called in a runtime.
    pub fn note(self: &Arc<Self>, id: TokenId, store: &Store, clock: &Clock) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.ids.push(id);
        if !std::mem::replace(&mut waiting.is_running, true) {
            let work = record_all(Arc::clone(self), store.clone(), clock.clone());
            drop(tokio::spawn(work));
        }
    }

    fn take(&self) -> Option<Vec<TokenId>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_running = !waiting.ids.is_empty();
        waiting.is_running.then(|| std::mem::take(&mut waiting.ids))
    }
}

async fn record_all(shown: Arc<Shown>, store: Store, clock: Clock) {
    while let Some(mut ids) = shown.take() {
        // In the order in which uses are written, so that neither waits for the other.
        ids.sort_unstable();
        if let Err(error) = record(&store, &ids, clock.now()).await {
            tracing::warn!("it is not recorded which new secrets were shown: {error}");
        }
    }
}

async fn record(store: &Store, ids: &[TokenId], now: DateTime<Utc>) -> store::Result<()> {
    let mut tx = store.begin_short().await?;
    for id in ids {
        tx.mark_shown(*id, now).await?;
    }
    tx.commit().await
}
