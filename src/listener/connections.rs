//! The open connections. When there are too many, the one that has waited longest for a request makes room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// A connection has this long to send its request before it can be closed for another.
const MIN_WAIT: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Connections that are idle or have sent a part of a head, the longest waiting first.
#[derive(Default)]
struct Waiting {
    next_key: u64,
    by_key: BTreeMap<u64, (Instant, CancellationToken)>,
}

pub(super) struct Connection {
    connections: Connections,
    key: Mutex<Option<u64>>,
    /// Cancelled when the connection is to make room.
    pub close: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub fn new(limit: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            waiting: Arc::default(),
        }
    }

    /// Admits a connection, and closes others for it. Waits if all have a request in progress.
    pub async fn admit(&self) -> Connection {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                break permit;
            }
            self.close_longest_waiting();
            let acquire = Arc::clone(&self.permits).acquire_owned();
            if let Ok(Ok(permit)) = timeout(MIN_WAIT / 4, acquire).await {
                break permit;
            }
        };
        let connection = Connection {
            connections: self.clone(),
            key: Mutex::default(),
            close: CancellationToken::new(),
            _permit: permit,
        };
        connection.wait();
        connection
    }

    fn close_longest_waiting(&self) {
        let mut waiting = lock(&self.waiting);
        let is_due = |since: Instant| since.elapsed() >= MIN_WAIT;
        if let Some(first) = waiting.by_key.first_entry()
            && is_due(first.get().0)
        {
            let (_, close) = first.remove();
            close.cancel();
        }
    }
}

impl Connection {
    /// A request has arrived, so the connection is not closed for another.
    pub fn begin(&self) {
        if let Some(key) = lock(&self.key).take() {
            lock(&self.connections.waiting).by_key.remove(&key);
        }
    }

    /// The connection waits for a request.
    pub fn wait(&self) {
        let mut waiting = lock(&self.connections.waiting);
        let key = waiting.next_key;
        waiting.next_key += 1;
        waiting
            .by_key
            .insert(key, (Instant::now(), self.close.clone()));
        *lock(&self.key) = Some(key);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.begin();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
