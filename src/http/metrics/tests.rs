use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio::sync::Notify;

use super::*;
use crate::domain::{MailCounts, Step};
use crate::http::health::{Fault, Readiness};

#[expect(clippy::too_many_lines, reason = "sample values")]
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
        mails: MailCounts {
            sent: 12,
            deferred: 2,
            refused: 1,
            unknown: 0,
            server_fault: 4,
        },
        last_sweep_duration: Some(Duration::from_millis(125)),
        last_sweep_at: Some(at),
        last_success_at: None,
        plans_held: 1,
        directories_held: 0,
        replicas: [("0.0.1".to_owned(), 2)].into(),
        replica_configurations: 2,
        is_leader: true,
        lease_holder_changes: 5,
        sources: [
            (
                "exports".to_owned(),
                SourceHealth {
                    last_sync_at: Some(at + TimeDelta::hours(1)),
                    last_good_sync_at: Some(at),
                    is_failing: true,
                    tokens: 43,
                },
            ),
            ("new".to_owned(), SourceHealth::default()),
        ]
        .into(),
        directories: [
            (
                "hr".to_owned(),
                DirectoryHealth {
                    last_good_sync_at: Some(at),
                    failures: 4,
                    is_held: true,
                    is_fresh: true,
                    people: 120,
                },
            ),
            ("new".to_owned(), DirectoryHealth::default()),
        ]
        .into(),
        identities: [
            (("hr".to_owned(), IdentityStatus::Active, None), 118),
            (
                (
                    "hr".to_owned(),
                    IdentityStatus::Unknown,
                    Some(Reason::Stale),
                ),
                2,
            ),
        ]
        .into(),
        service: Some(ServiceHealth {
            verifications: [("valid", 7), ("expired", 1)].into(),
            cache_hits: 6,
            feed_age: Some(Duration::from_millis(250)),
            lost_uses: 0,
            requests: [("/api/v1/verify".into(), [(200, 7), (401, 1)].into())].into(),
        }),
    }
}

#[test]
fn all_numbers_of_the_snapshot_are_shown() {
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
        r#"lapsed_replicas{version="0.0.1"} 2"#,
        concat!(
            r#"lapsed_replicas{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#""} 0"#
        ),
        "lapsed_replica_configurations 2",
        "lapsed_replica_is_leader 1",
        "lapsed_lease_holder_changes_total 5",
        r#"lapsed_source_failing{source="exports"} 1"#,
        r#"lapsed_source_tokens{source="exports"} 43"#,
        r#"lapsed_source_last_sync_timestamp_seconds{source="exports"} 1764003600.25"#,
        r#"lapsed_source_last_good_sync_timestamp_seconds{source="exports"} 1764000000.25"#,
        r#"lapsed_source_failing{source="new"} 0"#,
        r#"lapsed_source_last_good_sync_timestamp_seconds{source="new"} 0"#,
        r#"lapsed_directory_last_good_sync_timestamp_seconds{directory="hr"} 1764000000.25"#,
        r#"lapsed_directory_last_good_sync_timestamp_seconds{directory="new"} 0"#,
        r#"lapsed_directory_failures{directory="hr"} 4"#,
        r#"lapsed_directory_held{directory="hr"} 1"#,
        r#"lapsed_directory_held{directory="new"} 0"#,
        r#"lapsed_directory_fresh{directory="hr"} 1"#,
        r#"lapsed_directory_people{directory="hr"} 120"#,
        r#"lapsed_identities{directory="hr",reason="none",status="active"} 118"#,
        r#"lapsed_identities{directory="hr",reason="stale",status="unknown"} 2"#,
        r#"lapsed_identities{directory="new",reason="none",status="disabled"} 0"#,
        r#"lapsed_verifications_total{outcome="valid"} 7"#,
        r#"lapsed_verifications_total{outcome="expired"} 1"#,
        "lapsed_verification_cache_hits_total 6",
        "lapsed_change_feed_age_seconds 0.25",
        r#"lapsed_web_requests_total{route="/api/v1/verify",status="401"} 1"#,
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
fn series_for_alerts_exist_from_the_start() {
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
fn a_source_name_is_escaped_in_its_label() {
    let text = render(&sample()).unwrap();
    let line = r#"lapsed_tokens{source="odd \"one\"\\\n",status="active"} 1"#;
    assert!(text.lines().any(|shown| shown == line), "{text}");
}

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

    fn stalled_work(&self) -> Option<&'static str> {
        None
    }

    async fn snapshot(&self) -> std::result::Result<Snapshot, Fault> {
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
