//! How many people are what, and which issuers somebody watches over.

use lapsed::domain::{Expiry, ExpiryOrigin, IdentityStatus, Reason, Status, Token};
use lapsed::store::{IdentityCount, IdentityRow, IssuerSaid};
use rstest::rstest;

use super::{address, days, insert, now, read, token, write};
use crate::db::Db;

fn said(
    directory: &str,
    name: &str,
    status: IdentityStatus,
    reason: Option<Reason>,
) -> IdentityRow {
    IdentityRow {
        directory: directory.into(),
        email_key: format!("{name}@example.org"),
        email: format!("{name}@example.org"),
        account_id: Some("id".into()),
        name: None,
        status,
        known_status: IdentityStatus::Active,
        reason: reason.map(|reason| reason.to_string()),
        evidence: String::new(),
        since: None,
        observed_at: None,
        candidate: None,
        candidate_since: None,
        candidate_evidence: None,
    }
}

fn of(id: &str, issuer: Option<&str>, expiry: Expiry) -> Token {
    Token {
        issuer: issuer.map(|name| address(&format!("{name}@example.org"))),
        expiry,
        ..token(id)
    }
}

#[rstest]
#[tokio::test]
async fn only_issuers_of_tokens_that_work_are_told_of(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let disabled = Token {
        status: Status::Disabled,
        ..of("1", Some("off"), Expiry::Never)
    };
    let past_a_date_of_ours = Token {
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..of("2", Some("late"), Expiry::At(days(-1)))
    };
    insert(
        &store,
        &[
            disabled,
            past_a_date_of_ours,
            of("3", Some("over"), Expiry::At(now())),
            of("4", Some("ada"), Expiry::At(now())),
            of("5", Some("ada"), Expiry::Never),
            of("6", Some("bob"), Expiry::At(days(1))),
            of("7", None, Expiry::Never),
            of("8", None, Expiry::At(days(-1))),
        ],
    )
    .await;
    let (active, unknown) = (IdentityStatus::Active, IdentityStatus::Unknown);
    let rows = [
        said("hr", "ada", active, None),
        said("it", "ada", unknown, Some(Reason::Absent)),
        said("left", "bob", active, None),
        said("hr", "over", active, None),
    ];
    write!(store, tx => tx.put_identities(&rows));
    let names = ["hr", "it"].map(str::to_owned);
    let told = read!(store, tx => tx.issuers_said(&names, now()));
    let row = |name: &str, said: Option<(&str, IdentityStatus, Option<Reason>)>| IssuerSaid {
        email_key: format!("{name}@example.org"),
        said: said.map(|(directory, status, reason)| (directory.to_owned(), status, reason)),
    };
    assert_eq!(
        told,
        [
            row("ada", Some(("hr", active, None))),
            row("ada", Some(("it", unknown, Some(Reason::Absent)))),
            row("bob", None),
            row("late", None),
        ]
    );
    assert!(
        read!(store, tx => tx.issuers_said(&[], now()))
            .iter()
            .all(|row| row.said.is_none()),
        "no directories are none"
    );
    assert_eq!(read!(store, tx => tx.count_without_issuer(now())), 1);
}

#[rstest]
#[tokio::test]
async fn people_are_counted_as_they_are_shown(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let rows = [
        said("hr", "a", IdentityStatus::Active, None),
        said("hr", "b", IdentityStatus::Active, None),
        said("hr", "c", IdentityStatus::Disabled, Some(Reason::Admin)),
        said("it", "a", IdentityStatus::Disabled, Some(Reason::Admin)),
        said("it", "b", IdentityStatus::Unknown, Some(Reason::Absent)),
    ];
    write!(store, tx => tx.put_identities(&rows));
    let row = |directory: &str, status, reason: Option<&str>, count| IdentityCount {
        directory: directory.to_owned(),
        status,
        reason: reason.map(str::to_owned),
        count,
    };
    let (active, disabled) = (IdentityStatus::Active, IdentityStatus::Disabled);
    let unknown = IdentityStatus::Unknown;
    let absent = row("it", unknown, Some("absent"), 1);
    let of_hr = [row("hr", active, None, 2), row("hr", disabled, None, 1)];
    let fresh = read!(store, tx => tx.identity_counts(&[]));
    let [two, one] = of_hr.clone();
    assert_eq!(
        fresh,
        [two, one, row("it", disabled, None, 1), absent.clone()]
    );
    let stale = read!(store, tx => tx.identity_counts(&["it".to_owned()]));
    let [two, one] = of_hr;
    assert_eq!(
        stale,
        [two, one, absent, row("it", unknown, Some("stale"), 1)]
    );
}
