//! Counts of people by status, and which issuers the directories cover.

use lapsed::domain::{Expiry, ExpiryOrigin, Identity, IdentityStatus, Reason, Status, Token};
use lapsed::store::{IdentityCount, IdentityRow, IssuerIdentity};
use rstest::rstest;

use super::{address, days, insert, now, read, token, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};

fn identity(
    directory: &str,
    name: &str,
    status: IdentityStatus,
    reason: Option<Reason>,
) -> IdentityRow {
    let identity = Identity {
        email: address(&format!("{name}@example.org")),
        account_id: Some("id".into()),
        name: None,
        status,
        known_status: IdentityStatus::Active,
        reason,
        evidence: String::new(),
        account_chosen: false,
        checked_by_id: false,
        since: None,
        observed_at: None,
        candidate: None,
        candidate_since: None,
        candidate_evidence: None,
    };
    IdentityRow {
        directory: directory.into(),
        identity,
    }
}

fn issued_token(id: &str, issuer: Option<&str>, expiry: Expiry) -> Token {
    Token {
        issuer: issuer.map(|name| address(&format!("{name}@example.org"))),
        expiry,
        ..token(id)
    }
}

#[rstest]
#[tokio::test]
async fn only_issuers_of_working_tokens_are_listed(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let disabled = Token {
        status: Status::Disabled,
        ..issued_token("1", Some("off"), Expiry::Never)
    };
    let past_our_policy = Token {
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..issued_token("2", Some("late"), Expiry::At(days(-1)))
    };
    insert(
        &store,
        &[
            disabled,
            past_our_policy,
            issued_token("3", Some("over"), Expiry::At(now())),
            issued_token("4", Some("ada"), Expiry::At(now())),
            issued_token("5", Some("ada"), Expiry::Never),
            issued_token("6", Some("bob"), Expiry::At(days(1))),
            issued_token("7", None, Expiry::Never),
            issued_token("8", None, Expiry::At(days(-1))),
        ],
    )
    .await;
    let (active, unknown) = (IdentityStatus::Active, IdentityStatus::Unknown);
    let rows = [
        identity("hr", "ada", active, None),
        identity("it", "ada", unknown, Some(Reason::Absent)),
        identity("left", "bob", active, None),
        identity("hr", "over", active, None),
    ];
    write!(store, tx => tx.save_identities(&rows));
    let names = ["hr", "it"].map(str::to_owned);
    let issuers = read!(store, tx => tx.list_issuer_identities(&names, now()));
    let row = |name: &str, directory: Option<&str>, status, reason| IssuerIdentity {
        email_key: format!("{name}@example.org"),
        directory: directory.map(str::to_owned),
        status,
        reason,
    };
    assert_eq!(
        issuers,
        [
            row("ada", Some("hr"), Some(active), None),
            row("ada", Some("it"), Some(unknown), Some(Reason::Absent)),
            row("bob", None, None, None),
            row("late", None, None, None),
        ]
    );
    assert!(
        read!(store, tx => tx.list_issuer_identities(&[], now()))
            .iter()
            .all(|row| row.directory.is_none() && row.status.is_none()),
        "without directories nothing is known"
    );
    assert_eq!(read!(store, tx => tx.count_tokens_without_issuer(now())), 1);
}

#[rstest]
#[tokio::test]
async fn people_are_counted_by_the_status_that_is_shown(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let rows = [
        identity("hr", "a", IdentityStatus::Active, None),
        identity("hr", "b", IdentityStatus::Active, None),
        identity("hr", "c", IdentityStatus::Disabled, Some(Reason::Admin)),
        identity("it", "a", IdentityStatus::Disabled, Some(Reason::Admin)),
        identity("it", "b", IdentityStatus::Unknown, Some(Reason::Absent)),
    ];
    write!(store, tx => tx.save_identities(&rows));
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
    let fresh = read!(store, tx => tx.count_identities(&[]));
    let [active_hr, disabled_hr] = of_hr.clone();
    assert_eq!(
        fresh,
        [
            active_hr,
            disabled_hr,
            row("it", disabled, None, 1),
            absent.clone()
        ]
    );
    let stale = read!(store, tx => tx.count_identities(&["it".to_owned()]));
    let [active_hr, disabled_hr] = of_hr;
    assert_eq!(
        stale,
        [
            active_hr,
            disabled_hr,
            absent,
            row("it", unknown, Some("stale"), 1)
        ]
    );
}
