//! Identities, directories and findings of lost access.

use lapsed::domain::{
    Expiry, FindingKind, Identity, IdentityStatus, Reason, Severity, Status, SyncState, Token,
};
use lapsed::store::{
    Decision, DirectoryRow, FindingFilter, IdentityFilter, IdentityRow, NewFinding, Store,
};
use rstest::rstest;
use uuid::Uuid;

use super::{address, days, fresh_id, insert, now, read, token, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};

/// The directories with a recent sync.
fn fresh_directories() -> Vec<String> {
    ["hr", "apps", "ldap", "okta"].map(str::to_owned).into()
}

fn identity(directory: &str, email: &str, status: IdentityStatus) -> IdentityRow {
    let identity = Identity {
        email: address(email),
        status,
        known_status: status,
        reason: None,
        name: None,
        evidence: format!("{status} at {directory}"),
        account_chosen: false,
        checked_by_id: false,
        since: Some(days(-1)),
        observed_at: Some(now()),
        account_id: None,
        candidate: None,
        candidate_since: None,
        candidate_evidence: None,
    };
    row(directory, identity)
}

fn row(directory: &str, identity: Identity) -> IdentityRow {
    IdentityRow {
        directory: directory.into(),
        identity,
    }
}

fn finding(token: &Token) -> NewFinding {
    NewFinding {
        id: fresh_id(),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind: FindingKind::SsoRevoked,
        severity: Severity::High,
        since: days(-1),
        evidence: "disabled".into(),
        directory: None,
    }
}

async fn save(store: &Store, rows: &[IdentityRow]) {
    write!(store, tx => tx.save_identities(rows));
}

#[rstest]
#[tokio::test]
async fn an_identity_is_replaced(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let before = Identity {
        name: Some("Ada".into()),
        reason: Some(Reason::Suspended),
        account_chosen: false,
        checked_by_id: true,
        ..identity("hr", "Ada@example.org", IdentityStatus::Active).identity
    };
    save(&store, &[row("hr", before.clone())]).await;
    assert_eq!(
        read!(store, tx => tx.load_identities("hr")),
        std::slice::from_ref(&before)
    );
    let after = Identity {
        email: address("ADA@example.org"),
        status: IdentityStatus::Unknown,
        reason: Some(Reason::Absent),
        since: None,
        observed_at: Some(days(1)),
        name: None,
        account_id: Some("a-1".into()),
        candidate: Some(IdentityStatus::Deleted),
        candidate_since: Some(days(1)),
        candidate_evidence: Some("404".into()),
        evidence: "none".into(),
        account_chosen: false,
        checked_by_id: false,
        ..before
    };
    save(&store, &[row("hr", after.clone())]).await;
    assert_eq!(read!(store, tx => tx.load_identities("hr")), [after]);
    assert!(read!(store, tx => tx.load_identities("other")).is_empty());
}

#[rstest]
#[tokio::test]
async fn people_come_in_byte_order_with_their_token_counts(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut emails = [
        "ada@example.org",
        "a.b@example.org",
        "a_b@example.org",
        "a-b@example.org",
        "ab@example.org",
    ];
    let mut rows = emails
        .map(|email| identity("hr", email, IdentityStatus::Active))
        .to_vec();
    rows.push(identity(
        "ldap",
        "ada@example.org",
        IdentityStatus::Disabled,
    ));
    save(&store, &rows).await;
    let gone = Token {
        status: Status::Gone,
        ..token("2")
    };
    let revoked = Token {
        status: Status::Revoked,
        ..token("3")
    };
    let disabled = Token {
        status: Status::Disabled,
        ..token("4")
    };
    insert(
        &store,
        &[
            token("1"),
            gone,
            revoked,
            disabled,
            Token {
                issuer: None,
                ..token("5")
            },
        ],
    )
    .await;
    emails.sort_unstable();
    let of_hr: Vec<_> = read!(store, tx => tx.load_identities("hr"))
        .into_iter()
        .map(|identity| identity.email.key().to_owned())
        .collect();
    assert_eq!(of_hr, emails);
    let every = IdentityFilter::default();
    let all = read!(store, tx => tx.list_identities(&every, None, now(), 10));
    assert_eq!(all.len(), 6);
    assert!(
        all.is_sorted_by_key(|(row, _)| (
            row.directory.clone(),
            row.identity.email.key().to_owned()
        ))
    );
    let of_ada = read!(store, tx => tx.list_identities(&filter_by_email("ada@example.org"), None, now(), 10));
    let shown: Vec<_> = of_ada
        .iter()
        .map(|(row, tokens)| (row.directory.as_str(), *tokens))
        .collect();
    assert_eq!(shown, [("hr", 1), ("ldap", 1)]);
    assert!(
        read!(store, tx => tx.list_identities(&filter_by_email("none@example.org"), None, now(), 10))
            .is_empty()
    );
}

#[rstest]
#[tokio::test]
async fn a_directory_is_saved_with_its_held_changes(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert_eq!(read!(store, tx => tx.find_directory("hr")), None);
    let held = DirectoryRow {
        name: "hr".into(),
        kind: "file".into(),
        sync_state: SyncState {
            last_sync_at: Some(now()),
            last_good_sync_at: Some(days(-1)),
            error: Some("e".into()),
            failures: 2,
            failing_since: Some(days(-2)),
            deferred_until: Some(days(1)),
        },
        people: 7,
        groups: Some("{}".into()),
        cursor: Some("f".into()),
        query_digest: Some("a".into()),
        gaps: Some("1 record of a person has no id".to_owned()),
        held: Some("too many".into()),
        held_at: Some(now()),
        held_changes: Some("g".into()),
        decision: Some("released".into()),
    };
    write!(store, tx => tx.save_directory(&held));
    assert_eq!(read!(store, tx => tx.find_directory("hr")), Some(held));
    let clear = DirectoryRow {
        name: "hr".into(),
        kind: "ldap".into(),
        ..DirectoryRow::default()
    };
    let other = DirectoryRow {
        name: "Apps".into(),
        kind: "file".into(),
        ..DirectoryRow::default()
    };
    write!(store, tx => tx.save_directory(&clear));
    write!(store, tx => tx.save_directory(&other));
    assert_eq!(read!(store, tx => tx.list_directories()), [other, clear]);
}

#[rstest]
#[case::disabled(IdentityStatus::Disabled, true)]
#[case::deleted(IdentityStatus::Deleted, true)]
#[case::out_of_group(IdentityStatus::OutOfGroup, true)]
#[case::active(IdentityStatus::Active, false)]
#[case::unknown(IdentityStatus::Unknown, false)]
#[tokio::test]
async fn only_a_clear_loss_finds_a_token(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] status: IdentityStatus,
    #[case] found: bool,
) {
    let (store, _fresh) = db.store().await;
    insert(&store, &[token("1")]).await;
    // The last known status does not count: an unknown status must never flag a token.
    save(
        &store,
        &[row(
            "hr",
            Identity {
                known_status: IdentityStatus::Disabled,
                ..identity("hr", "ADA@example.org", status).identity
            },
        )],
    )
    .await;
    let outlived =
        read!(store, tx => tx.find_outlived_tokens(now(), &fresh_directories(), Uuid::nil(), 10));
    assert_eq!(!outlived.is_empty(), found);
}

#[rstest]
#[tokio::test]
async fn a_working_token_is_found_once(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (mut works, ends_now) = (
        token("works"),
        Token {
            expiry: Expiry::At(now()),
            ..token("ends now")
        },
    );
    // A mark set while the clock was ahead does not hide it.
    works.status = Status::Expired;
    let endless = Token {
        expiry: Expiry::Never,
        due_at: None,
        ..token("endless")
    };
    let another = Token {
        issuer: Some(address("bob@example.org")),
        ..token("another issuer")
    };
    let off = Token {
        status: Status::Disabled,
        ..token("off")
    };
    insert(
        &store,
        &[works.clone(), endless.clone(), ends_now, another, off],
    )
    .await;
    save(
        &store,
        &[
            identity("ldap", "ada@example.org", IdentityStatus::Deleted),
            identity("hr", "ada@example.org", IdentityStatus::Disabled),
            identity("apps", "ada@example.org", IdentityStatus::Active),
        ],
    )
    .await;
    let mut expected = [works.clone(), endless];
    expected.sort_by_key(|token| token.id);
    let first =
        read!(store, tx => tx.find_outlived_tokens(now(), &fresh_directories(), Uuid::nil(), 1));
    let second = read!(store, tx => tx.find_outlived_tokens(now(), &fresh_directories(), first[0].token.id.0, 10));
    let found: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|found| found.token.clone())
        .collect();
    assert_eq!(found, expected);
    assert_eq!(first[0].losses[0].directory, "hr");
    write!(store, tx => tx.insert_findings(&[finding(&works)]));
    let left =
        read!(store, tx => tx.find_outlived_tokens(now(), &fresh_directories(), Uuid::nil(), 10));
    assert_eq!(left.len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_finding_is_open_once_and_can_be_opened_again(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens = [
        token("1"),
        Token {
            name: String::new(),
            ..token("2")
        },
    ];
    insert(&store, &tokens).await;
    let first = finding(&tokens[0]);
    write!(store, tx => tx.insert_findings(&[first.clone(), finding(&tokens[1])]));
    write!(store, tx => tx.insert_findings(&[finding(&tokens[0])]));
    let ids = tokens.clone().map(|token| token.id);
    assert_eq!(read!(store, tx => tx.find_lost_access(&ids)), ids.into());
    write!(store, tx => tx.resolve_findings(&[first.id], now()));
    assert_eq!(
        read!(store, tx => tx.find_lost_access(&ids)),
        [ids[1]].into()
    );
    let later = NewFinding {
        since: now(),
        ..finding(&tokens[0])
    };
    write!(store, tx => tx.insert_findings(std::slice::from_ref(&later)));
    let kind = Some(FindingKind::SsoRevoked);
    let names = |rows: Vec<lapsed::store::FindingRow>| {
        rows.into_iter()
            .map(|row| format!("{} {}", row.token_name, row.state))
            .collect::<Vec<_>>()
    };
    let open =
        read!(store, tx => tx.list_findings(FindingFilter { kind, all: false }, None, now(), 10));
    assert_eq!(
        (open[0].id, open[0].since, open[0].token_id),
        (later.id, now(), Some(tokens[0].id))
    );
    assert_eq!(
        (open[0].kind.as_str(), open[0].severity.as_str()),
        ("sso_revoked", "high")
    );
    assert_eq!(names(open), ["name of 1 open", "2 open"]);
    assert_eq!(
        read!(store, tx => tx.list_findings(FindingFilter { kind, all: true }, None, now(), 10))
            .len(),
        3
    );
    assert_eq!(
        read!(store, tx => tx.list_findings(FindingFilter { kind: None, all: true }, None, now(), 10)).len(),
        3
    );
    assert!(
        read!(store, tx => tx.list_findings(FindingFilter { kind: Some(FindingKind::Unused), all: true }, None, now(), 10)).is_empty()
    );
    let of_one = read!(store, tx => tx.list_findings_of_token(tokens[0].id, now()));
    assert_eq!(names(of_one), ["name of 1 open", "name of 1 resolved"]);
}

#[rstest]
#[tokio::test]
async fn a_finding_is_obsolete_once_it_no_longer_holds(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let ada = token("1");
    insert(&store, std::slice::from_ref(&ada)).await;
    let open = finding(&ada);
    write!(store, tx => tx.insert_findings(std::slice::from_ref(&open)));
    let lost = identity("hr", "ada@example.org", IdentityStatus::Disabled);
    let obsolete = vec![(open.id, ada.id)];
    let cases: Vec<(&str, Token, Vec<IdentityRow>, bool)> = vec![
        ("lost access", ada.clone(), vec![lost.clone()], false),
        (
            "unknown now, lost access before",
            ada.clone(),
            vec![row(
                "hr",
                Identity {
                    status: IdentityStatus::Unknown,
                    ..lost.identity.clone()
                },
            )],
            false,
        ),
        (
            "unknown now, had access before",
            ada.clone(),
            vec![row(
                "hr",
                Identity {
                    status: IdentityStatus::Unknown,
                    known_status: IdentityStatus::Active,
                    ..lost.identity.clone()
                },
            )],
            true,
        ),
        (
            "access is back",
            ada.clone(),
            vec![identity("hr", "ada@example.org", IdentityStatus::Active)],
            true,
        ),
        ("lost access again", ada.clone(), vec![lost], false),
        (
            "expired",
            Token {
                expiry: Expiry::At(now()),
                ..ada.clone()
            },
            vec![],
            true,
        ),
        (
            "endless",
            Token {
                expiry: Expiry::Never,
                ..ada.clone()
            },
            vec![],
            false,
        ),
        (
            "disabled",
            Token {
                status: Status::Disabled,
                ..ada.clone()
            },
            vec![],
            true,
        ),
        (
            "another issuer",
            Token {
                issuer: Some(address("bob@example.org")),
                ..ada.clone()
            },
            vec![],
            true,
        ),
        (
            "no issuer",
            Token {
                issuer: None,
                ..ada.clone()
            },
            vec![],
            true,
        ),
    ];
    for (case, token, identities, is_obsolete) in cases {
        save(&store, &identities).await;
        write!(store, tx => tx.update_token(&token));
        let found = read!(store, tx => tx.find_obsolete_findings(now(), 10));
        assert_eq!(
            found,
            if is_obsolete {
                obsolete.clone()
            } else {
                vec![]
            },
            "{case}"
        );
    }
}

fn filter_by_email(email_key: &str) -> IdentityFilter {
    IdentityFilter {
        email_key: Some(email_key.to_owned()),
        ..IdentityFilter::default()
    }
}

#[rstest]
#[tokio::test]
async fn only_held_changes_can_be_decided(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let free = DirectoryRow {
        name: "hr".into(),
        kind: "file".into(),
        ..DirectoryRow::default()
    };
    write!(store, tx => tx.save_directory(&free));
    assert!(!write!(store, tx => tx.decide_held_changes("hr", Decision::Released)));
    assert!(!write!(store, tx => tx.decide_held_changes("none", Decision::Rejected)));
    let held = DirectoryRow {
        held: Some("too many".into()),
        ..free
    };
    write!(store, tx => tx.save_directory(&held));
    assert!(write!(store, tx => tx.decide_held_changes("hr", Decision::Released)));
    assert!(
        read!(store, tx => tx.find_directory("hr"))
            .unwrap()
            .decision
            .is_some()
    );
}
