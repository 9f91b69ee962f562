//! Leases, settings, runs, the audit trail, and purging.

use chrono::{DateTime, Utc};
use lapsed::domain::{Basis, FindingKind, NewNotice, Occurrence, Recipient, Severity, Topic};
use lapsed::store::{
    AuditFilter, Holder, MailRecord, NewFinding, PurgeCutoffs, RunRow, Store, Verdict,
};
use rstest::rstest;

use super::{
    address, days, fill_mails, fresh_id, holder, insert, minutes, now, plan, read, token, warning,
    write,
};
use crate::db::Db;
use Db::{Postgres, Sqlite};

async fn take(store: &Store, holder: Holder, now: DateTime<Utc>) -> bool {
    write!(store, tx => tx.take_lease("sweep", holder, now, now + chrono::TimeDelta::minutes(1)))
}

#[rstest]
#[tokio::test]
async fn a_lease_is_taken_renewed_released_and_lapses(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (first, second) = (holder(minutes(1)), holder(minutes(2)));
    assert!(take(&store, first, now()).await);
    assert!(!take(&store, second, now()).await);
    assert!(
        take(
            &store,
            Holder {
                until: minutes(2),
                ..first
            },
            minutes(1)
        )
        .await,
        "renewed"
    );
    assert!(!take(&store, second, minutes(1)).await);
    assert!(
        take(
            &store,
            Holder {
                until: minutes(3),
                ..second
            },
            minutes(2)
        )
        .await,
        "it has lapsed"
    );
    assert!(
        !take(&store, first, minutes(2)).await,
        "the first holder has lost it"
    );
    // A holder that lost it cannot release it.
    write!(store, tx => tx.release_lease("sweep", first.id));
    assert!(!take(&store, first, minutes(2)).await);
    write!(store, tx => tx.release_lease("sweep", second.id));
    assert!(
        take(
            &store,
            Holder {
                until: minutes(3),
                ..first
            },
            minutes(2)
        )
        .await
    );
    let other = write!(store, tx => tx.take_lease("other", second, now(), minutes(1)));
    assert!(other, "leases are separate by name");
}

#[rstest]
#[tokio::test]
async fn a_lease_taken_by_a_jumped_clock_counts_as_lapsed(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert!(take(&store, holder(days(1)), days(1)).await);
    assert!(take(&store, holder(minutes(1)), now()).await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_many_concurrent_takers_gets_a_lease(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { take(&store, holder(minutes(1)), now()).await })
        })
        .collect();
    let mut taken = 0;
    for taker in takers {
        taken += usize::from(taker.await.unwrap());
    }
    assert_eq!(taken, 1);
}

#[rstest]
#[tokio::test]
async fn a_setting_is_replaced(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert_eq!(read!(store, tx => tx.find_setting("k")), None);
    for value in ["yes", "", "no"] {
        write!(store, tx => tx.set_setting("k", value));
        assert_eq!(
            read!(store, tx => tx.find_setting("k")).as_deref(),
            Some(value)
        );
    }
    assert_eq!(read!(store, tx => tx.find_setting("K")), None);
}

async fn insert_run(store: &Store, started_at: DateTime<Utc>, outcome: &str) {
    let run = RunRow {
        started_at,
        ended_at: Some(started_at),
        outcome: Some(outcome.into()),
    };
    write!(store, tx => tx.insert_run(fresh_id(), &run, "{}"));
}

#[rstest]
#[tokio::test]
async fn the_last_run_and_the_last_successful_one_are_found(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert!(read!(store, tx => tx.find_last_run(false)).is_none());
    insert_run(&store, minutes(-2), "ok").await;
    insert_run(&store, minutes(-3), "ok").await;
    insert_run(&store, minutes(-1), "degraded").await;
    let last = read!(store, tx => tx.find_last_run(false)).unwrap();
    assert_eq!(
        (last.started_at, last.outcome.as_deref()),
        (minutes(-1), Some("degraded"))
    );
    assert_eq!(last.ended_at, Some(minutes(-1)));
    assert_eq!(
        read!(store, tx => tx.find_last_run(true))
            .unwrap()
            .started_at,
        minutes(-2)
    );
}

#[rstest]
#[tokio::test]
async fn the_audit_trail_records_who_did_what_and_why(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    write!(store, tx => tx.insert_audit(fresh_id(), now(), ["ada", "release", "plan"], Some("it is right")));
    write!(store, tx => tx.insert_audit(fresh_id(), now(), ["bob", "import", "local"], None));
    let rows = fresh
        .texts(
            "SELECT actor || ' ' || action || ' ' || subject || ' ' || COALESCE(reason, '-') FROM audit ORDER BY actor",
        )
        .await;
    assert_eq!(rows, ["ada release plan it is right", "bob import local -"]);
}

/// A notice without a token.
fn alert(nth: i64) -> NewNotice {
    let occurrence = Occurrence {
        topic: Topic::Alert,
        generation: minutes(nth).into(),
        step: None,
    };
    let to = Recipient {
        address: address(&format!("ops{nth}@example.org")),
        basis: Basis::Admin,
    };
    NewNotice::for_subject("plan", occurrence, &to, now())
}

async fn send_all(store: &Store) {
    while fill_mails(store, days(1)).await > 0 {}
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, days(1), days(30), 100));
    let sent: Vec<_> = mails
        .iter()
        .map(|mail| MailRecord {
            id: mail.id,
            verdict: Verdict::Sent,
            reason: None,
        })
        .collect();
    write!(store, tx => tx.record_mails(&sent, holder, now()));
}

#[rstest]
#[tokio::test]
async fn old_rows_are_purged_unless_they_belong_to_a_token(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    for (nth, resolved_at) in [(0, Some(days(-10))), (1, Some(now())), (2, None)] {
        let finding = NewFinding {
            id: fresh_id(),
            token_id: Some(token.id),
            source: token.source.clone(),
            kind: FindingKind::SsoRevoked,
            severity: Severity::High,
            since: days(-20 - nth),
            evidence: String::new(),
            directory: None,
        };
        write!(store, tx => tx.insert_findings(std::slice::from_ref(&finding)));
        if let Some(resolved_at) = resolved_at {
            write!(store, tx => tx.resolve_findings(&[finding.id], resolved_at));
        }
    }
    insert_run(&store, days(-10), "ok").await;
    insert_run(&store, now(), "ok").await;
    write!(store, tx => tx.insert_audit(fresh_id(), days(-10), ["a", "b", "c"], None));
    write!(store, tx => tx.insert_audit(fresh_id(), now(), ["a", "b", "c"], None));
    plan(
        &store,
        &[
            alert(1),
            alert(2),
            warning(&token, "7d", "ada@example.org", now()),
        ],
    )
    .await;
    send_all(&store).await;
    let cutoffs = |from| PurgeCutoffs {
        runs: from,
        audit: from,
        findings: from,
        notices: from,
    };
    assert_eq!(
        write!(store, tx => tx.purge(&cutoffs(days(-5)), 10)),
        3,
        "a run, an audit entry, a finding"
    );
    assert_eq!(write!(store, tx => tx.purge(&cutoffs(days(-5)), 10)), 0);
    // A day later, one of each kind at a time: run, entry, finding, alert and the alert's mail.
    assert_eq!(write!(store, tx => tx.purge(&cutoffs(days(1)), 1)), 5);
    assert_eq!(write!(store, tx => tx.purge(&cutoffs(days(1)), 10)), 2);
    for (table, left) in [
        ("run", 0),
        ("audit", 0),
        ("finding", 1),
        ("notice", 1),
        ("mail", 1),
    ] {
        let found = fresh.texts(&format!("SELECT 'row' FROM {table}")).await;
        assert_eq!(found.len(), left, "{table}");
    }
}

#[rstest]
#[tokio::test]
async fn a_setting_is_deleted_only_if_unchanged(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    write!(store, tx => tx.set_setting("k", "old"));
    write!(store, tx => tx.set_setting("k", "new"));
    write!(store, tx => tx.delete_setting("k", "old"));
    assert_eq!(
        read!(store, tx => tx.find_setting("k")).as_deref(),
        Some("new")
    );
    write!(store, tx => tx.delete_setting("k", "new"));
    assert_eq!(read!(store, tx => tx.find_setting("k")), None);
}

#[rstest]
#[tokio::test]
async fn the_audit_trail_is_read_backwards_in_pages(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    for count in 0..5 {
        // Two entries per instant.
        let at = minutes(count / 2);
        let subject = format!("exports/{}", count % 2);
        let entry = ["grace", "token.revoke", subject.as_str()];
        let reason = (count == 4).then_some("leaked");
        write!(store, tx => tx.insert_audit(fresh_id(), at, entry, reason));
    }
    let all = AuditFilter::default();
    let first = read!(store, tx => tx.list_audit(&all, None, 3));
    assert_eq!(first[0].reason.as_deref(), Some("leaked"));
    let second = read!(store, tx => tx.list_audit(&all, first.last(), 3));
    let times: Vec<_> = first.iter().chain(&second).map(|entry| entry.at).collect();
    assert_eq!(
        times,
        [minutes(2), minutes(1), minutes(1), minutes(0), minutes(0)]
    );
    let begins = |text: &str| Some(text.to_owned());
    let filters = [
        (
            AuditFilter {
                since: Some(minutes(1)),
                ..AuditFilter::default()
            },
            3,
        ),
        (
            AuditFilter {
                until: Some(minutes(0)),
                ..AuditFilter::default()
            },
            2,
        ),
        (
            AuditFilter {
                actor: begins("gra"),
                ..AuditFilter::default()
            },
            5,
        ),
        (
            AuditFilter {
                actor: begins("race"),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                action: begins("token."),
                ..AuditFilter::default()
            },
            5,
        ),
        (
            AuditFilter {
                action: begins("token%"),
                ..AuditFilter::default()
            },
            0,
        ),
        (
            AuditFilter {
                subject: begins("exports/1"),
                ..AuditFilter::default()
            },
            2,
        ),
    ];
    for (filter, count) in filters {
        let found = read!(store, tx => tx.list_audit(&filter, None, 9));
        assert_eq!(found.len(), count, "{filter:?}");
    }
    let ids: std::collections::BTreeSet<_> =
        first.iter().chain(&second).map(|entry| entry.id).collect();
    assert_eq!(ids.len(), 5, "no duplicates");
    let last = read!(store, tx => tx.find_last_audit("exports/1")).unwrap();
    assert_eq!((last.at, last.actor.as_str()), (minutes(1), "grace"));
    assert!(read!(store, tx => tx.find_last_audit("exports/2")).is_none());
}
