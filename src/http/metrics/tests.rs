use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::*;
use crate::http::health::{Fault, Mails, Readiness};

fn sample() -> Snapshot {
    let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_764_000_000_250);
    let week: Step = "7d".parse().unwrap();
    Snapshot {
        tokens: [
            ((Status::Active, "exports".to_owned()), 41),
            ((Status::Expired, "exports".to_owned()), 2),
            ((Status::Active, "odd \"one\"\\\n".to_owned()), 1),
        ]
        .into(),
        findings_open: [(FindingKind::SsoRevoked, 3)].into(),
        notices: [
            ((NoticeState::Sent, Some(week)), 12),
            ((NoticeState::Failed, None), 1),
        ]
        .into(),
        oldest_due_unsent: Duration::from_millis(1_500),
        mails: Mails {
            sent: 12,
            deferred: 2,
            refused: 1,
            unknown: 0,
            server_fault: 4,
        },
        last_sweep_took: Some(Duration::from_millis(125)),
        last_sweep_at: Some(at),
        last_success_at: None,
        plans_held: 1,
        directories_held: 0,
    }
}

#[test]
fn every_number_of_the_snapshot_is_shown() {
    let text = render(&sample()).unwrap();
    for line in [
        r#"lapsed_tokens{source="exports",status="active"} 41"#,
        r#"lapsed_tokens{source="exports",status="expired"} 2"#,
        r#"lapsed_findings_open{kind="sso_revoked"} 3"#,
        r#"lapsed_notices{state="sent",step="7d"} 12"#,
        r#"lapsed_notices{state="failed",step="none"} 1"#,
        "lapsed_oldest_due_unsent_seconds 1.5",
        r#"lapsed_mails_total{outcome="sent"} 12"#,
        r#"lapsed_mails_total{outcome="server_fault"} 4"#,
        "lapsed_sweep_duration_seconds 0.125",
        "lapsed_last_sweep_timestamp_seconds 1764000000.25",
        "lapsed_last_sweep_success_timestamp_seconds 0",
        "lapsed_plans_held 1",
        "lapsed_directories_held 0",
        concat!(
            r#"lapsed_build_info{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#""} 1"#
        ),
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line}\nin\n{text}"
        );
    }
}

#[test]
fn what_an_alert_watches_is_there_before_it_happens() {
    let text = render(&Snapshot::default()).unwrap();
    for line in [
        r#"lapsed_findings_open{kind="sso_revoked"} 0"#,
        r#"lapsed_notices{state="failed",step="none"} 0"#,
        r#"lapsed_mails_total{outcome="refused"} 0"#,
        "lapsed_plans_held 0",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line}\nin\n{text}"
        );
    }
}

#[test]
fn a_source_name_cannot_break_out_of_its_label() {
    let text = render(&sample()).unwrap();
    let line = r#"lapsed_tokens{source="odd \"one\"\\\n",status="active"} 1"#;
    assert!(text.lines().any(|shown| shown == line), "{text}");
}

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
        Ok(sample())
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
