use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::*;
use crate::http::health::{Fault, Readiness};

/// Counts how often it was asked; answers once it is let, and never when `broken`.
#[derive(Default)]
struct Slow {
    asked: AtomicUsize,
    go: Notify,
    broken: bool,
}

#[async_trait]
impl Health for Slow {
    async fn readiness(&self) -> Readiness {
        unreachable!("metrics do not ask for it")
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.go.notified().await;
        if self.broken {
            return Err("gone".into());
        }
        Ok(Snapshot::default())
    }
}

#[tokio::test]
async fn scrapes_at_the_same_time_share_one_count() {
    let slow = Arc::new(Slow::default());
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, KEPT);
    slow.go.notify_one();
    let (one, two, three) = tokio::join!(cache.snapshot(), cache.snapshot(), cache.snapshot());
    assert!(one.is_some() && two.is_some() && three.is_some());
    assert!(cache.snapshot().await.is_some());
    assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_old_count_is_not_shown_again() {
    let slow = Arc::new(Slow::default());
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, Duration::ZERO);
    for _ in 0..3 {
        slow.go.notify_one();
        assert!(cache.snapshot().await.is_some());
    }
    assert_eq!(slow.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_count_outlives_the_scrape_that_gave_up() {
    let slow = Arc::new(Slow::default());
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, KEPT);
    assert!(cache.snapshot().now_or_never().is_none());
    slow.go.notify_one();
    assert!(cache.snapshot().await.is_some());
    assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_store_in_trouble_is_not_asked_at_every_scrape() {
    let slow = Arc::new(Slow {
        broken: true,
        ..Slow::default()
    });
    let cache = Cache::new(Arc::clone(&slow) as Arc<dyn Health>, KEPT);
    slow.go.notify_one();
    assert!(cache.snapshot().await.is_none());
    assert!(cache.snapshot().await.is_none());
    assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
}
