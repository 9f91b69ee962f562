//! Repeats a transaction that lost a race.

use std::error::Error as StdError;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use chrono::TimeDelta;
use uuid::Uuid;

use super::Store;
use crate::domain::Backoff;

const MAX_TRIES: u32 = 5;
const BACKOFF: Backoff = Backoff {
    min: TimeDelta::milliseconds(10),
    max: TimeDelta::milliseconds(500),
};

impl Store {
    /// Runs `work`, which begins and commits one whole transaction. If the transaction lost a race with another, it is
    /// run again, up to five times in all.
    pub async fn retrying<T, E: StdError + 'static, F: Future<Output = Result<T, E>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, E> {
        let mut tries = 1;
        loop {
            match work().await {
                Err(error) if tries < MAX_TRIES && is_retryable(&error) => {
                    tracing::debug!("a transaction is tried again: {error}");
                    let pause = BACKOFF.delay_after(tries, random_id());
                    tokio::time::sleep(pause.to_std().unwrap_or(Duration::ZERO)).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

/// For the jitter.
fn random_id() -> Uuid {
    Uuid::from_u64_pair(0, RandomState::new().hash_one(()))
}

/// The error itself or a cause of it.
fn is_retryable(error: &(dyn StdError + 'static)) -> bool {
    match error.downcast_ref() {
        Some(error) => super::error::is_retryable(error),
        None => error.source().is_some_and(is_retryable),
    }
}
