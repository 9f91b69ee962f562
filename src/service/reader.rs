//! Reads credentials from the store. Requests that wait at the same time share one read, so that a cold cache is fast.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::TokenId;
use crate::domain::service::{Credential, ServicePerson};
use crate::store::{self, MAX_CHAIN, Store, Tx};

use super::cache::{Cache, Epoch};

/// Requests that one read answers.
const MAX_BATCH: usize = 256;
const MAX_WAITING: usize = 8192;
/// Reads that go on at the same time: the store has connections for other work, too.
const READERS: usize = 2;

/// A credential with those that it was exchanged for, and the person who issued the last.
type Issued = (Vec<Arc<Credential>>, Arc<ServicePerson>);
type Answer = Result<Arc<Snapshot>, Arc<store::Error>>;

pub(super) struct Reader {
    source: Source,
    queue: mpsc::Sender<Waiting>,
    /// Taken by the first [`Reader::run`].
    waiting: Mutex<Option<mpsc::Receiver<Waiting>>>,
    is_running: AtomicBool,
}

#[derive(Clone)]
struct Source {
    store: Store,
    cache: Arc<Cache>,
}

struct Waiting {
    id: TokenId,
    answer: oneshot::Sender<Answer>,
}

/// What one read of the store found.
pub(super) struct Snapshot {
    epoch: Epoch,
    credentials: HashMap<TokenId, Arc<Credential>>,
    people: HashMap<String, Arc<ServicePerson>>,
}

impl Reader {
    pub fn new(store: Store, cache: Arc<Cache>) -> Self {
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        Self {
            source: Source { store, cache },
            queue,
            waiting: Mutex::new(Some(waiting)),
            is_running: AtomicBool::new(false),
        }
    }

    /// Reads the credential with those that it was exchanged for and their issuer.
    pub async fn read(&self, id: TokenId) -> Answer {
        if self.is_running.load(Ordering::Acquire) {
            let (answer, answered) = oneshot::channel();
            if self.queue.send(Waiting { id, answer }).await.is_ok()
                && let Ok(answer) = answered.await
            {
                return answer;
            }
        }
        self.source.read(&[id]).await
    }

    /// Answers all that wait, in shared reads.
    pub async fn run(&self, stopping: CancellationToken) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(waiting) = waiting else {
            return;
        };
        self.is_running.store(true, Ordering::Release);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let readers = (0..READERS).map(|_| {
            let (source, waiting) = (self.source.clone(), Arc::clone(&waiting));
            let stopping = stopping.clone();
            tokio::spawn(async move {
                stopping
                    .run_until_cancelled(source.answer_all(&waiting))
                    .await
            })
        });
        let readers: Vec<_> = readers.collect();
        drop(waiting);
        for reader in readers {
            // After a panic, requests are read one by one.
            if reader.await.is_err() {
                self.is_running.store(false, Ordering::Release);
            }
        }
        self.is_running.store(false, Ordering::Release);
    }
}

impl Source {
    async fn answer_all(&self, waiting: &tokio::sync::Mutex<mpsc::Receiver<Waiting>>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            // While one reader reads, the next collects.
            if waiting.lock().await.recv_many(&mut batch, MAX_BATCH).await == 0 {
                return;
            }
            let ids: HashSet<_> = batch.iter().map(|waiting| waiting.id).collect();
            let ids: Vec<_> = ids.into_iter().collect();
            let answer = self.read(&ids).await;
            for waiting in batch.drain(..) {
                // A request that was given up waits no longer.
                let _ = waiting.answer.send(answer.clone());
            }
        }
    }

    async fn read(&self, ids: &[TokenId]) -> Answer {
        self.read_snapshot(ids)
            .await
            .map(Arc::new)
            .map_err(Arc::new)
    }

    async fn read_snapshot(&self, ids: &[TokenId]) -> store::Result<Snapshot> {
        let epoch = self.cache.epoch();
        Ok(Snapshot::new(epoch, self.store.find_issued(ids).await?))
    }
}

impl Snapshot {
    pub async fn load(tx: &mut Tx, epoch: Epoch, ids: &[TokenId]) -> store::Result<Self> {
        Ok(Self::new(epoch, tx.find_issued(ids).await?))
    }

    fn new(epoch: Epoch, found: Vec<(Credential, ServicePerson)>) -> Self {
        let mut credentials = HashMap::with_capacity(found.len());
        let mut people = HashMap::with_capacity(found.len());
        for (credential, person) in found {
            people
                .entry(person.key.clone())
                .or_insert_with(|| Arc::new(person));
            credentials.insert(credential.id, Arc::new(credential));
        }
        Self {
            epoch,
            credentials,
            people,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The credential and those that it was exchanged for, with the person who issued the last. `None` if one is
    /// missing.
    pub fn find(&self, id: TokenId) -> Option<Issued> {
        let mut chain = vec![Arc::clone(self.credentials.get(&id)?)];
        while let Some(parent) = chain.last().and_then(|last| last.parent) {
            if chain.len() == MAX_CHAIN {
                return None;
            }
            chain.push(Arc::clone(self.credentials.get(&parent.id)?));
        }
        let person = self.people.get(&chain.last()?.issuer)?;
        let person = Arc::clone(person);
        Some((chain, person))
    }

    /// Another credential that the read found: what a token without one is compared with.
    pub fn find_other(&self) -> Option<Issued> {
        self.find(*self.credentials.keys().next()?)
    }
}
