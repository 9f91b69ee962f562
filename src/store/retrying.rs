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
    pub async fn retrying<
        T,
        E: StdError + Send + Sync + 'static,
        F: Future<Output = Result<T, E>>,
    >(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, E> {
        let mut retries = Retries::default();
        loop {
            match work().await {
                Err(error) if retries.wait_for_another(&error).await => {}
                result => return result,
            }
        }
    }
}

/// How often a transaction was tried; for work that cannot be a closure.
#[derive(Default)]
pub struct Retries(u32);

impl Retries {
    /// Whether to try again, after a pause.
    pub async fn wait_for_another(
        &mut self,
        error: &(dyn StdError + Send + Sync + 'static),
    ) -> bool {
        self.0 += 1;
        if self.0 >= MAX_TRIES || !is_retryable(error) {
            return false;
        }
        tracing::debug!("a transaction is tried again: {error}");
        let pause = BACKOFF.delay_after(self.0, random_id());
        tokio::time::sleep(pause.to_std().unwrap_or(Duration::ZERO)).await;
        true
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
