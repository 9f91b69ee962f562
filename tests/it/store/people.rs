//! Identities, directories and findings.

use lapsed::domain::{Expiry, FindingKind, IdentityStatus, Severity, Standing, Status, Token};
use lapsed::store::{
    DirectoryRow, FindingFilter, HoldVerdict, IdentityFilter, IdentityRow, NewFinding, Store,
};
use rstest::rstest;
use uuid::Uuid;

use super::{address, days, fresh_id, insert, now, read, token, write};
use crate::db::Db;

/// The directories whose word counts.
fn fresh() -> Vec<String> {
    ["hr", "apps", "ldap", "okta"].map(str::to_owned).into()
}

fn identity(directory: &str, email: &str, status: IdentityStatus) -> IdentityRow {
    IdentityRow {
        directory: directory.into(),
        email_key: email.to_lowercase(),
        email: email.into(),
        status,
        known_status: status,
        reason: None,
        name: None,
        evidence: format!("{status} at {directory}"),
        since: Some(days(-1)),
        observed_at: Some(now()),
        account_id: None,
        candidate: None,
        candidate_since: None,
        candidate_evidence: None,
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
    }
}

async fn say(store: &Store, rows: &[IdentityRow]) {
    write!(store, tx => tx.put_identities(rows));
}

#[rstest]
#[tokio::test]
async fn a_statement_replaces_the_one_before(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let before = IdentityRow {
        name: Some("Ada".into()),
        reason: Some("r".into()),
        ..identity("hr", "Ada@example.org", IdentityStatus::Active)
    };
    say(&store, std::slice::from_ref(&before)).await;
    assert_eq!(
        read!(store, tx => tx.identities_of("hr")),
        std::slice::from_ref(&before)
    );
    let after = IdentityRow {
        email: "ADA@example.org".into(),
        status: IdentityStatus::Unknown,
        reason: Some("not in the listing".into()),
        since: None,
        observed_at: Some(days(1)),
        name: None,
        account_id: Some("a-1".into()),
        candidate: Some("deleted".into()),
        candidate_since: Some(days(1)),
        candidate_evidence: Some("404".into()),
        evidence: "none".into(),
        ..before
    };
    say(&store, std::slice::from_ref(&after)).await;
    assert_eq!(read!(store, tx => tx.identities_of("hr")), [after]);
    assert!(read!(store, tx => tx.identities_of("other")).is_empty());
}

#[rstest]
#[tokio::test]
async fn people_come_in_the_programs_order_with_their_tokens(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
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
    say(&store, &rows).await;
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
    let of_hr: Vec<_> = read!(store, tx => tx.identities_of("hr"))
        .into_iter()
        .map(|row| row.email_key)
        .collect();
    assert_eq!(of_hr, emails);
    let every = IdentityFilter::default();
    let all = read!(store, tx => tx.list_identities(&every, None, now(), 10));
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted_by_key(|(row, _)| (row.directory.clone(), row.email_key.clone())));
    let of_ada =
        read!(store, tx => tx.list_identities(&person("ada@example.org"), None, now(), 10));
    let shown: Vec<_> = of_ada
        .iter()
        .map(|(row, tokens)| (row.directory.as_str(), *tokens))
        .collect();
    assert_eq!(shown, [("hr", 1), ("ldap", 1)]);
    assert!(
        read!(store, tx => tx.list_identities(&person("nobody@example.org"), None, now(), 10))
            .is_empty()
    );
}

#[rstest]
#[tokio::test]
async fn a_directory_is_kept_with_what_it_waits_for(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert_eq!(read!(store, tx => tx.directory("hr")), None);
    let held = DirectoryRow {
        name: "hr".into(),
        kind: "file".into(),
        standing: Standing {
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
        asked: Some("a".into()),
        held: Some("too many".into()),
        held_at: Some(now()),
        held_turns: Some("g".into()),
        verdict: Some("released".into()),
    };
    write!(store, tx => tx.put_directory(&held));
    assert_eq!(read!(store, tx => tx.directory("hr")), Some(held));
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
    write!(store, tx => tx.put_directory(&clear));
    write!(store, tx => tx.put_directory(&other));
    assert_eq!(read!(store, tx => tx.directories()), [other, clear]);
}

#[rstest]
#[case::disabled(IdentityStatus::Disabled, true)]
#[case::deleted(IdentityStatus::Deleted, true)]
#[case::out_of_group(IdentityStatus::OutOfGroup, true)]
#[case::active(IdentityStatus::Active, false)]
#[case::unknown(IdentityStatus::Unknown, false)]
#[tokio::test]
async fn only_a_positive_statement_finds_a_token(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
    #[case] status: IdentityStatus,
    #[case] found: bool,
) {
    let (store, _fresh) = db.store().await;
    insert(&store, &[token("1")]).await;
    // What was known before does not count: nothing that is unknown may flag a token.
    say(
        &store,
        &[IdentityRow {
            known_status: IdentityStatus::Disabled,
            ..identity("hr", "ADA@example.org", status)
        }],
    )
    .await;
    let outlived = read!(store, tx => tx.outlived_tokens(now(), &fresh(), Uuid::nil(), 10));
    assert_eq!(!outlived.is_empty(), found);
}

#[rstest]
#[tokio::test]
async fn a_token_that_works_and_is_not_found_yet_is_found_once(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let (mut works, ends_now) = (
        token("works"),
        Token {
            expiry: Expiry::At(now()),
            ..token("ends now")
        },
    );
    // A mark that a clock which jumped has left does not hide it.
    works.status = Status::Expired;
    let endless = Token {
        expiry: Expiry::Never,
        due_at: None,
        ..token("endless")
    };
    let another = Token {
        issuer: Some(address("bob@example.org")),
        ..token("another's")
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
    say(
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
    let first = read!(store, tx => tx.outlived_tokens(now(), &fresh(), Uuid::nil(), 1));
    let second = read!(store, tx => tx.outlived_tokens(now(), &fresh(), first[0].token.id.0, 10));
    let found: Vec<_> = first
        .iter()
        .chain(&second)
        .map(|found| found.token.clone())
        .collect();
    assert_eq!(found, expected);
    assert_eq!(first[0].identity.directory, "hr");
    write!(store, tx => tx.open_findings(&[finding(&works)]));
    let left = read!(store, tx => tx.outlived_tokens(now(), &fresh(), Uuid::nil(), 10));
    assert_eq!(left.len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_finding_is_open_once_and_can_come_again(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
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
    write!(store, tx => tx.open_findings(&[first.clone(), finding(&tokens[1])]));
    write!(store, tx => tx.open_findings(&[finding(&tokens[0])]));
    let ids = tokens.clone().map(|token| token.id);
    assert_eq!(read!(store, tx => tx.lost_access(&ids)), ids.into());
    write!(store, tx => tx.resolve_finding(first.id, now()));
    assert_eq!(read!(store, tx => tx.lost_access(&ids)), [ids[1]].into());
    let later = NewFinding {
        since: now(),
        ..finding(&tokens[0])
    };
    write!(store, tx => tx.open_findings(std::slice::from_ref(&later)));
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
        (later.id, now(), Some(tokens[0].id.0))
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
    let of_one = read!(store, tx => tx.findings_of(tokens[0].id, now()));
    assert_eq!(names(of_one), ["name of 1 open", "name of 1 resolved"]);
}

#[rstest]
#[tokio::test]
async fn a_finding_stands_while_its_ground_does(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let ada = token("1");
    insert(&store, std::slice::from_ref(&ada)).await;
    let open = finding(&ada);
    write!(store, tx => tx.open_findings(std::slice::from_ref(&open)));
    let lost = identity("hr", "ada@example.org", IdentityStatus::Disabled);
    let groundless = vec![(open.id, ada.id)];
    let cases: Vec<(&str, Token, Vec<IdentityRow>, bool)> = vec![
        ("he is out", ada.clone(), vec![lost.clone()], false),
        (
            "nothing is known now, he was out",
            ada.clone(),
            vec![IdentityRow {
                status: IdentityStatus::Unknown,
                ..lost.clone()
            }],
            false,
        ),
        (
            "nothing is known now, he was in",
            ada.clone(),
            vec![IdentityRow {
                status: IdentityStatus::Unknown,
                known_status: IdentityStatus::Active,
                ..lost.clone()
            }],
            true,
        ),
        (
            "he is back",
            ada.clone(),
            vec![identity("hr", "ada@example.org", IdentityStatus::Active)],
            true,
        ),
        ("out again", ada.clone(), vec![lost], false),
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
            "another's",
            Token {
                issuer: Some(address("bob@example.org")),
                ..ada.clone()
            },
            vec![],
            true,
        ),
        (
            "nobody's",
            Token {
                issuer: None,
                ..ada.clone()
            },
            vec![],
            true,
        ),
    ];
    for (case, token, said, is_groundless) in cases {
        say(&store, &said).await;
        write!(store, tx => tx.update_token(&token, now()));
        let found = read!(store, tx => tx.groundless_findings(now(), 10));
        assert_eq!(
            found,
            if is_groundless {
                groundless.clone()
            } else {
                vec![]
            },
            "{case}"
        );
    }
}

fn person(email_key: &str) -> IdentityFilter {
    IdentityFilter {
        email_key: Some(email_key.to_owned()),
        ..IdentityFilter::default()
    }
}

#[rstest]
#[tokio::test]
async fn only_a_directory_that_is_held_is_released(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let free = DirectoryRow {
        name: "hr".into(),
        kind: "file".into(),
        ..DirectoryRow::default()
    };
    write!(store, tx => tx.put_directory(&free));
    assert!(!write!(store, tx => tx.settle_directory("hr", HoldVerdict::Released)));
    assert!(!write!(store, tx => tx.settle_directory("none", HoldVerdict::Rejected)));
    let held = DirectoryRow {
        held: Some("too many".into()),
        ..free
    };
    write!(store, tx => tx.put_directory(&held));
    assert!(write!(store, tx => tx.settle_directory("hr", HoldVerdict::Released)));
    assert!(
        read!(store, tx => tx.directory("hr"))
            .unwrap()
            .verdict
            .is_some()
    );
}
