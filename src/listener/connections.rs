//! The open connections. When there are too many, the one that has waited longest for a request makes room.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::network::client_key;

/// A connection has this long to send its request before it can be closed for another.
const MIN_WAIT: Duration = Duration::from_millis(20);

/// How many of the connections one client may have, so that it leaves some to others.
#[derive(Debug, Clone)]
pub struct Share {
    pub max: usize,
    /// These may have as many as there are, because they stand for many clients.
    pub exempt: Vec<IpNet>,
}

#[derive(Clone)]
pub(super) struct Connections {
    permits: Arc<Semaphore>,
    share: Option<Arc<Share>>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next_key: u64,
    /// Connections that are idle or have sent a part of a head, the longest waiting first.
    waiting: BTreeMap<u64, Waiting>,
    /// How many connections each client has that may have a share only.
    by_client: HashMap<IpAddr, usize>,
}

struct Waiting {
    since: Instant,
    client: Option<IpAddr>,
    close: CancellationToken,
}

pub(super) struct Connection {
    connections: Connections,
    key: Mutex<Option<u64>>,
    /// `None` for one that may have all connections.
    client: Option<IpAddr>,
    /// Cancelled when the connection is to make room.
    pub close: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub fn new(limit: usize, share: Option<Share>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            share: share.map(Arc::new),
            open: Arc::default(),
        }
    }

    /// Admits a connection, and closes others for it. Waits if all have a request in progress. `None` if all that this
    /// client may have are its own and have a request in progress.
    pub async fn admit(&self, address: IpAddr) -> Option<Connection> {
        let client = self.limited_client(address);
        if !self.has_share_left(client) {
            return None;
        }
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                break permit;
            }
            lock(&self.open).close_longest_waiting(None, Instant::now());
            let acquire = Arc::clone(&self.permits).acquire_owned();
            if let Ok(Ok(permit)) = timeout(MIN_WAIT / 4, acquire).await {
                break permit;
            }
        };
        if let Some(client) = client {
            *lock(&self.open).by_client.entry(client).or_default() += 1;
        }
        let connection = Connection {
            connections: self.clone(),
            key: Mutex::default(),
            client,
            close: CancellationToken::new(),
            _permit: permit,
        };
        connection.wait();
        Some(connection)
    }

    /// The client whose connections count, if there is a limit for it.
    fn limited_client(&self, address: IpAddr) -> Option<IpAddr> {
        let exempt = &self.share.as_ref()?.exempt;
        let is_exempt = exempt.iter().any(|network| network.contains(&address));
        (!is_exempt).then(|| client_key(address))
    }

    /// Closes the client's own longest waiting connection if it has all that it may have.
    fn has_share_left(&self, client: Option<IpAddr>) -> bool {
        let (Some(share), Some(client)) = (&self.share, client) else {
            return true;
        };
        let mut open = lock(&self.open);
        let count = open.by_client.get(&client).copied().unwrap_or_default();
        count < share.max || open.close_longest_waiting(Some(client), Instant::now())
    }
}

impl Open {
    /// Of this client, if one is given. `false` if all that wait have only begun to.
    fn close_longest_waiting(&mut self, client: Option<IpAddr>, now: Instant) -> bool {
        let is_candidate = |waiting: &Waiting| client.is_none() || waiting.client == client;
        let mut candidates = self.waiting.iter().filter(|(_, it)| is_candidate(it));
        let longest = candidates.next();
        let is_due = |waiting: &Waiting| now.duration_since(waiting.since) >= MIN_WAIT;
        let Some((&key, _)) = longest.filter(|(_, it)| is_due(it)) else {
            return false;
        };
        if let Some(waiting) = self.waiting.remove(&key) {
            waiting.close.cancel();
        }
        true
    }
}

impl Connection {
    /// A request has arrived, so the connection is not closed for another.
    pub fn begin(&self) {
        if let Some(key) = lock(&self.key).take() {
            lock(&self.connections.open).waiting.remove(&key);
        }
    }

    /// The connection waits for a request.
    pub fn wait(&self) {
        let mut open = lock(&self.connections.open);
        let key = open.next_key;
        open.next_key += 1;
        let waiting = Waiting {
            since: Instant::now(),
            client: self.client,
            close: self.close.clone(),
        };
        open.waiting.insert(key, waiting);
        *lock(&self.key) = Some(key);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.begin();
        let Some(client) = self.client else { return };
        let mut open = lock(&self.connections.open);
        if let Some(count) = open.by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                open.by_client.remove(&client);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn shared() -> Connections {
        let share = Share {
            max: 2,
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
        };
        Connections::new(5, Some(share))
    }

    async fn busy(connections: &Connections, text: &str) -> Option<Connection> {
        let connection = connections.admit(address(text)).await?;
        connection.begin();
        Some(connection)
    }

    #[tokio::test]
    async fn a_client_has_its_share_and_a_proxy_all() {
        let connections = shared();
        let client = "2001:db8::1";
        let mut open = vec![busy(&connections, client).await.unwrap()];
        // Another address of the same site.
        open.push(busy(&connections, "2001:db8::2").await.unwrap());
        assert!(busy(&connections, client).await.is_none());
        for _ in 0..3 {
            open.push(busy(&connections, "10.1.2.3").await.unwrap());
        }
        drop(open);
        assert!(lock(&connections.open).by_client.is_empty());
        assert!(busy(&connections, client).await.is_some());
    }

    #[tokio::test]
    async fn a_client_that_has_its_share_makes_room_for_itself() {
        let connections = shared();
        let other = connections.admit(address("192.0.2.9")).await.unwrap();
        let first = connections.admit(address("192.0.2.1")).await.unwrap();
        let second = busy(&connections, "192.0.2.1").await.unwrap();
        let client = Some(address("192.0.2.1"));
        let later = Instant::now() + MIN_WAIT;
        let mut open = lock(&connections.open);
        assert!(open.close_longest_waiting(client, later));
        assert!(!open.close_longest_waiting(client, later), "none waits");
        drop(open);
        let closed = [&other, &first, &second].map(|it| it.close.is_cancelled());
        assert_eq!(closed, [false, true, false]);
    }
}
