//! Findings: listing, counting, acknowledging, and judging tokens.

use lapsed::domain::{FindingKind, FindingState, Severity, Status, Token};
use lapsed::store::{FindingCount, FindingFilter, FindingRow, NewFinding, Store, TokenFilter};
use rstest::rstest;
use uuid::Uuid;

use super::{days, fresh_id, insert, minutes, now, read, token, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};
use lapsed::domain::TokenId;

fn finding(token: &Token, kind: FindingKind, severity: Severity) -> NewFinding {
    NewFinding {
        id: fresh_id(),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind,
        severity,
        since: days(-1),
        evidence: "seen".into(),
        directory: None,
    }
}

fn source_finding(source: &str) -> NewFinding {
    NewFinding {
        id: fresh_id(),
        token_id: None,
        source: source.into(),
        kind: FindingKind::SourceAllowsUnlimited,
        severity: Severity::Medium,
        since: days(-1),
        evidence: "max-ttl is 0".into(),
        directory: None,
    }
}

async fn list(store: &Store, all: bool, minute: i64) -> Vec<String> {
    let filter = FindingFilter { kind: None, all };
    let rows = read!(store, tx => tx.list_findings(filter, None, minutes(minute), 100));
    rows.iter().map(line).collect()
}

fn line(row: &FindingRow) -> String {
    format!("{} {} {}", row.token_name, row.kind, row.state)
}

#[rstest]
#[tokio::test]
async fn an_acknowledged_finding_is_open_again_after_its_time_in_all_views(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let unused = finding(&token, FindingKind::Unused, Severity::Medium);
    let never = finding(&token, FindingKind::NeverExpires, Severity::Medium);
    write!(store, tx => tx.insert_findings(&[unused.clone(), never.clone()]));
    assert!(write!(store, tx => tx.acknowledge_finding(unused.id, minutes(10))));
    for (minute, open, count) in [
        (9, vec![FindingKind::NeverExpires], 1),
        (10, vec![FindingKind::NeverExpires, FindingKind::Unused], 2),
    ] {
        let at = minutes(minute);
        assert_eq!(list(&store, false, minute).await.len(), count);
        let listed = read!(store, tx => tx.list_tokens(&TokenFilter::default(), None, at, 10));
        assert_eq!(listed[0].findings, open, "at {minute}");
        let counts = read!(store, tx => tx.load_counts(at)).findings;
        assert_eq!(counts.len(), count);
        assert_eq!(
            read!(store, tx => tx.count_open_findings(at, &[].into())).len(),
            count
        );
        assert_eq!(
            read!(store, tx => tx.list_urgent_findings(at, &[].into(), 10)).len(),
            count
        );
        let state = if count == 1 {
            FindingState::Acknowledged
        } else {
            FindingState::Open
        };
        let of_one = read!(store, tx => tx.list_findings_of_token(token.id, at));
        assert!(
            of_one
                .iter()
                .any(|row| row.id == unused.id && row.state == state)
        );
    }
    // It still exists, and is not opened a second time.
    let again = finding(&token, FindingKind::Unused, Severity::Medium);
    write!(store, tx => tx.insert_findings(&[again]));
    assert_eq!(list(&store, true, 0).await.len(), 2);
    assert_eq!(
        read!(store, tx => tx.load_open_findings(&[token.id])).len(),
        2
    );
    write!(store, tx => tx.resolve_findings(&[unused.id, never.id], now()));
    assert!(list(&store, false, 60).await.is_empty());
    assert!(!write!(store, tx => tx.acknowledge_finding(unused.id, days(9))));
}

#[rstest]
#[tokio::test]
async fn a_source_has_at_most_one_open_finding_of_each_kind(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let first = source_finding("rancher");
    write!(store, tx => tx.insert_findings(&[first.clone(), source_finding("rancher"), source_finding("shop")]));
    let mut rows = list(&store, false, 0).await;
    rows.sort();
    let expected = [
        "rancher source_allows_unlimited open",
        "shop source_allows_unlimited open",
    ];
    assert_eq!(rows, expected);
    let open = read!(store, tx => tx.load_open_source_findings("rancher"));
    assert_eq!(
        (open.len(), open[0].id, open[0].token_id),
        (1, first.id, None)
    );
    write!(store, tx => tx.resolve_findings(&[first.id], now()));
    write!(store, tx => tx.insert_findings(&[source_finding("rancher")]));
    assert_eq!(
        list(&store, true, 0).await.len(),
        3,
        "it can be opened again"
    );
}

#[rstest]
#[tokio::test]
async fn the_most_urgent_findings_come_first_and_all_are_counted(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens = [
        token("1"),
        token("2"),
        Token {
            source: "shop".into(),
            id: TokenId::new("shop", "3"),
            ..token("3")
        },
    ];
    insert(&store, &tokens).await;
    let older = NewFinding {
        since: days(-50),
        ..finding(&tokens[1], FindingKind::Unused, Severity::Medium)
    };
    write!(store, tx => tx.insert_findings(&[
        finding(&tokens[0], FindingKind::Unused, Severity::Medium),
        older,
        finding(&tokens[2], FindingKind::Unused, Severity::High),
        finding(&tokens[0], FindingKind::Orphaned, Severity::Critical),
    ]));
    let urgent = read!(store, tx => tx.list_urgent_findings(now(), &[].into(), 3));
    let urgent: Vec<_> = urgent
        .iter()
        .map(|row| (row.token_name.as_str(), row.severity.as_str()))
        .collect();
    let expected = [
        ("name of 1", "critical"),
        ("name of 3", "high"),
        ("name of 2", "medium"),
    ];
    assert_eq!(urgent, expected);
    let counts = read!(store, tx => tx.count_open_findings(now(), &[].into()));
    let count = |kind, source: &str, count| FindingCount {
        kind,
        source: source.into(),
        count,
    };
    assert_eq!(
        counts,
        [
            count(FindingKind::Orphaned, "exports", 1),
            count(FindingKind::Unused, "exports", 2),
            count(FindingKind::Unused, "shop", 1),
        ]
    );
    let exports = ["exports".to_owned()].into();
    let counts = read!(store, tx => tx.count_open_findings(now(), &exports));
    assert_eq!(counts, [count(FindingKind::Unused, "shop", 1)]);
    let urgent = read!(store, tx => tx.list_urgent_findings(now(), &exports, 3));
    assert_eq!(urgent.len(), 1);
    assert_eq!(urgent[0].source, "shop");
}

#[rstest]
#[tokio::test]
async fn a_finding_is_found_by_the_first_digits_of_its_id(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let ids = [
        0x0193_a000_0000_7000_8000_0000_0000_0001,
        0x0193_b000_0000_7000_8000_0000_0000_0001,
    ];
    let kinds = [FindingKind::Unused, FindingKind::TooLong];
    let findings: Vec<_> = ids
        .into_iter()
        .zip(kinds)
        .map(|(id, kind)| NewFinding {
            id: Uuid::from_u128(id),
            ..finding(&token, kind, Severity::Medium)
        })
        .collect();
    write!(store, tx => tx.insert_findings(&findings));
    for (prefix, count) in [("0193", 2), ("0193b", 1), ("0194", 0), ("", 0), ("x", 0)] {
        let found = read!(store, tx => tx.find_findings_by_prefix(prefix, now(), 10));
        assert_eq!(found.len(), count, "{prefix}");
    }
}

#[rstest]
#[tokio::test]
async fn a_token_is_judged_when_due_and_then_rescheduled(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let at = |external_id: &str, judge_at| Token {
        judge_at,
        ..token(external_id)
    };
    let tokens = [
        at("1", Some(minutes(2))),
        at("2", Some(minutes(1))),
        at("3", Some(minutes(3))),
        at("4", None),
    ];
    insert(&store, &tokens).await;
    assert!(!read!(store, tx => tx.has_tokens_to_judge(now())));
    assert!(read!(store, tx => tx.has_tokens_to_judge(minutes(1))));
    let ids = |found: Vec<Token>| {
        found
            .into_iter()
            .map(|token| token.external_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(write!(store, tx => tx.lock_tokens_to_judge(minutes(2), 10))),
        ["2", "1"]
    );
    assert_eq!(
        ids(write!(store, tx => tx.lock_tokens_to_judge(minutes(9), 1))),
        ["2"]
    );
    write!(store, tx => tx.set_judge_at(&[(tokens[0].id, None), (tokens[1].id, Some(days(1)))]));
    assert_eq!(
        ids(write!(store, tx => tx.lock_tokens_to_judge(minutes(9), 10))),
        ["3"]
    );
    let known = read!(store, tx => tx.load_tokens(&[tokens[1].id]));
    assert_eq!(known[0].judge_at, Some(days(1)));
    // An update writes `judge_at`, too.
    let other = Token {
        judge_at: Some(minutes(5)),
        name: "other".into(),
        ..tokens[3].clone()
    };
    write!(store, tx => tx.update_token(&other));
    assert_eq!(
        ids(write!(store, tx => tx.lock_tokens_to_judge(minutes(9), 10))),
        ["3", "4"]
    );
    let mut all = ids(write!(store, tx => tx.lock_all_tokens(Uuid::nil(), 10)));
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4"]);
}

#[rstest]
#[tokio::test]
async fn removing_an_expired_mark_makes_the_token_due_for_judging(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let marked = Token {
        status: Status::Expired,
        due_at: None,
        ..token("1")
    };
    insert(&store, std::slice::from_ref(&marked)).await;
    write!(store, tx => tx.unmark_expired(now(), 10));
    assert!(read!(store, tx => tx.has_tokens_to_judge(now())));
}

#[rstest]
#[tokio::test]
async fn open_findings_exclude_lost_access_and_can_be_updated(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens = [token("1"), token("2")];
    insert(&store, &tokens).await;
    let unused = finding(&tokens[0], FindingKind::Unused, Severity::Medium);
    write!(store, tx => tx.insert_findings(&[
        unused.clone(),
        finding(&tokens[0], FindingKind::SsoRevoked, Severity::High),
        finding(&tokens[1], FindingKind::Unused, Severity::Medium),
    ]));
    write!(store, tx => tx.update_finding(unused.id, Severity::High, "by another rule", Some(unused.since)));
    let open = read!(store, tx => tx.load_open_findings(&[tokens[0].id]));
    assert_eq!(open.len(), 1);
    assert_eq!(
        (
            open[0].id,
            open[0].token_id,
            open[0].severity,
            open[0].evidence.as_str()
        ),
        (
            unused.id,
            Some(tokens[0].id),
            Severity::High,
            "by another rule"
        )
    );
    let row = &read!(store, tx => tx.find_findings_by_prefix(&unused.id.simple().to_string(), now(), 1))
        [0];
    assert_eq!(
        (row.since, row.state.as_str()),
        (days(-1), "open"),
        "`since` is unchanged"
    );
}

#[rstest]
#[tokio::test]
async fn an_existing_setting_is_not_overwritten(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    write!(store, tx => tx.insert_setting("a", "1"));
    write!(store, tx => tx.insert_setting("a", "2"));
    write!(store, tx => tx.set_setting("b", "3"));
    let settings = read!(store, tx => tx.load_settings(&["a", "b", "c"]));
    assert_eq!(
        (
            settings.len(),
            settings["a"].as_str(),
            settings["b"].as_str()
        ),
        (2, "1", "3")
    );
}

#[rstest]
#[tokio::test]
async fn a_loss_belongs_to_its_directory_whatever_the_evidence_says(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let loss = NewFinding {
        evidence: "ldap says disabled".into(),
        directory: Some("hr".into()),
        ..finding(&token, FindingKind::SsoRevoked, Severity::High)
    };
    write!(store, tx => tx.insert_findings(std::slice::from_ref(&loss)));
    for evidence in ["okta says disabled", ""] {
        let of = async |directory: &str| read!(store, tx => tx.find_open_losses("ada@example.org", directory));
        assert_eq!(of("hr").await, [(loss.id, token.id)]);
        assert!(of("ldap").await.is_empty() && of("okta").await.is_empty());
        write!(store, tx => tx.update_finding(loss.id, Severity::High, evidence, None));
    }
}
