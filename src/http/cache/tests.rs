use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::*;
use crate::http::health::{Fault, Readiness};

/// Counts its calls; each returns after a notification, with an error if `broken`.
#[derive(Default)]
struct Slow {
    calls: AtomicUsize,
    proceed: Notify,
    broken: bool,
}

#[async_trait]
impl Health for Slow {
    async fn readiness(&self) -> Readiness {
        unreachable!("metrics do not need it")
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.proceed.notified().await;
        if self.broken {
            return Err("gone".into());
        }
        Ok(Snapshot::default())
    }
}

#[tokio::test]
async fn concurrent_scrapes_share_one_count() {
    let slow = Arc::new(Slow::default());
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, MAX_AGE);
    slow.proceed.notify_one();
    let (one, two, three) = tokio::join!(cache.snapshot(), cache.snapshot(), cache.snapshot());
    assert!(one.is_some() && two.is_some() && three.is_some());
    assert!(cache.snapshot().await.is_some());
    assert_eq!(slow.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_expired_count_is_not_reused() {
    let slow = Arc::new(Slow::default());
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, Duration::ZERO);
    for _ in 0..3 {
        slow.proceed.notify_one();
        assert!(cache.snapshot().await.is_some());
    }
    assert_eq!(slow.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_count_continues_after_its_scrape_gave_up() {
    let slow = Arc::new(Slow::default());
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, MAX_AGE);
    assert!(cache.snapshot().now_or_never().is_none());
    slow.proceed.notify_one();
    assert!(cache.snapshot().await.is_some());
    assert_eq!(slow.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failure_is_cached_too() {
    let slow = Arc::new(Slow {
        broken: true,
        ..Slow::default()
    });
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, MAX_AGE);
    slow.proceed.notify_one();
    assert!(cache.snapshot().await.is_none());
    assert!(cache.snapshot().await.is_none());
    assert_eq!(slow.calls.load(Ordering::SeqCst), 1);
}
