//! Tokens, sources and account administrators.

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{Expiry, ExpiryOrigin, Status, Step, SyncState, Token, TokenId};
use lapsed::store::SourceRow;
use rstest::rstest;
use uuid::Uuid;

use super::{address, at, days, insert, minutes, now, read, step, token, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};

async fn load(store: &lapsed::store::Store, id: TokenId) -> Token {
    read!(store, tx => tx.load_tokens(&[id])).pop().unwrap()
}

#[rstest]
#[tokio::test]
async fn a_token_is_loaded_as_written(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let full = Token {
        description: Some("zwölf \u{1f511} 'quoted'; DROP TABLE token; --".into()),
        issuer_name: Some("Ada".into()),
        issuer_gone: None,
        account: Some("acme".into()),
        role: Some("editor".into()),
        scope: Some("read".into()),
        created_at: Some(at("1970-01-01T00:00:00Z")),
        expiry: Expiry::At(at("9999-12-31T23:59:59.999999Z")),
        expiry_day: Some("9999-12-31".parse().unwrap()),
        expiry_origin: Some(ExpiryOrigin::Computed),
        secret_version: u32::MAX,
        last_used_at: Some(at("2026-11-21T08:59:59.000001Z")),
        reports_use: true,
        planned_step: Some(Step::ZERO),
        is_expiry_unreported: true,
        unreadable: [("status".to_owned(), "\"?\" is not a status".to_owned())].into(),
        ..token("full")
    };
    let bare = Token {
        name: String::new(),
        issuer: None,
        created_at: None,
        expiry: Expiry::Unknown,
        expiry_origin: None,
        life_from: None,
        due_at: None,
        ..token("bare")
    };
    let endless = Token {
        expiry: Expiry::Never,
        due_at: None,
        ..token("endless")
    };
    insert(&store, &[full.clone(), bare.clone(), endless.clone()]).await;
    for expected in [full, bare, endless] {
        let found = load(&store, expected.id).await;
        assert_eq!(found, expected);
        let spelling = |token: &Token| token.issuer.as_ref().map(ToString::to_string);
        assert_eq!(
            spelling(&found),
            spelling(&expected),
            "the address keeps its spelling"
        );
    }
}

#[rstest]
#[tokio::test]
async fn an_update_writes_all_columns_and_clears_missing_values(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let before = Token {
        account: Some("acme".into()),
        reports_use: false,
        ..token("1")
    };
    insert(&store, std::slice::from_ref(&before)).await;
    for (status, expiry) in [
        (Status::Disabled, Expiry::Never),
        (Status::Revoked, Expiry::Unknown),
        (Status::Active, Expiry::At(days(30))),
    ] {
        let after = Token {
            name: "another".into(),
            description: Some("d".into()),
            issuer: None,
            issuer_name: Some("n".into()),
            issuer_gone: None,
            account: None,
            role: Some("r".into()),
            scope: Some("s".into()),
            created_at: None,
            expiry,
            expiry_origin: Some(ExpiryOrigin::Policy),
            status,
            last_used_at: Some(minutes(-1)),
            reports_use: true,
            life_from: Some(now()),
            planned_step: Some(step("7d")),
            due_at: None,
            is_expiry_unreported: status == Status::Active,
            unreadable: [("expires_at".to_owned(), "is not a date".to_owned())].into(),
            ..before.clone()
        };
        write!(store, tx => tx.update_token(&after));
        assert_eq!(load(&store, after.id).await, after);
    }
}

#[rstest]
#[tokio::test]
async fn source_and_external_id_are_unique(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    insert(&store, &[token("1")]).await;
    let twin = Token {
        id: TokenId::new("elsewhere", "1"),
        ..token("1")
    };
    let mut tx = store.begin().await.unwrap();
    tx.insert_tokens(&[twin]).await.unwrap_err();
}

#[rstest]
#[tokio::test]
async fn tokens_of_a_source_come_in_byte_order_and_in_pages(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut ids = [
        "b",
        "B",
        "a",
        "_",
        "é",
        "z",
        "10",
        "9",
        "a b",
        "A",
        "\u{1f511}",
        "~",
    ]
    .map(str::to_owned)
    .to_vec();
    let tokens: Vec<_> = ids.iter().map(|id| token(id)).collect();
    insert(&store, &tokens).await;
    insert(
        &store,
        &[Token {
            id: TokenId::new("other", "m"),
            source: "other".into(),
            ..token("m")
        }],
    )
    .await;
    ids.sort_unstable();
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = read!(store, tx => tx.load_tokens_of_source("exports", found.last().map(String::as_str), 5));
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|token| token.external_id));
    }
    assert_eq!(found, ids);
}

#[rstest]
#[tokio::test]
async fn more_tokens_than_fit_one_statement_are_handled(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..2500).map(|nth| token(&format!("{nth:05}"))).collect();
    insert(&store, &tokens).await;
    let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(read!(store, tx => tx.load_tokens(&ids)).len(), 2500);
    let rescheduled: Vec<_> = ids
        .iter()
        .map(|id| (*id, Some(days(3)), Some(step("7d"))))
        .collect();
    write!(store, tx => tx.reschedule_tokens(&rescheduled));
    let still_due = write!(store, tx => tx.lock_due_tokens(days(2), None, 10));
    assert!(still_due.is_empty());
    assert_eq!(
        write!(store, tx => tx.lock_due_tokens(days(3), None, 5000)).len(),
        2500
    );
}

#[rstest]
#[tokio::test]
async fn due_tokens_come_by_time_and_id_in_pages_without_duplicates(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    // Fractions of all lengths must sort by time.
    let times = [
        "2026-11-21T09:00:00Z",
        "2026-11-21T09:00:00.5Z",
        "2026-11-21T09:00:00.000001Z",
        "2026-11-21T09:00:00.999Z",
        "2026-11-21T09:00:01Z",
        "2026-11-21T09:00:00.5Z",
    ];
    let mut tokens: Vec<_> = times
        .iter()
        .enumerate()
        .map(|(nth, time)| Token {
            due_at: Some(at(time)),
            ..token(&nth.to_string())
        })
        .collect();
    insert(&store, &tokens).await;
    insert(
        &store,
        &[Token {
            due_at: None,
            ..token("never")
        }],
    )
    .await;
    tokens.sort_by_key(|token| (token.due_at, token.id));
    tokens.retain(|token| token.due_at <= Some(at("2026-11-21T09:00:00.999Z")));
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page =
            write!(store, tx => tx.lock_due_tokens(at("2026-11-21T09:00:00.999Z"), after, 2));
        let Some(last) = page.last() else { break };
        after = last.due_at.map(|due_at| (due_at, last.id));
        found.extend(page);
    }
    assert_eq!(found, tokens);
}

#[rstest]
#[tokio::test]
async fn a_token_rescheduled_to_none_is_no_longer_due(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (first, second) = (
        Token {
            planned_step: Some(step("7d")),
            ..token("1")
        },
        token("2"),
    );
    insert(&store, &[first.clone(), second.clone()]).await;
    write!(store, tx => tx.reschedule_tokens(&[]));
    // NULL first, to catch statements that take their types from the first row.
    write!(store, tx => tx.reschedule_tokens(&[(first.id, None, None), (second.id, Some(days(1)), Some(Step::ZERO))]));
    let first = load(&store, first.id).await;
    assert_eq!((first.due_at, first.planned_step), (None, None));
    let second = load(&store, second.id).await;
    assert_eq!(
        (second.due_at, second.planned_step),
        (Some(days(1)), Some(Step::ZERO))
    );
}

#[rstest]
#[tokio::test]
async fn only_tokens_with_an_expiry_are_rescheduled_for_a_new_policy(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let mut dated: Vec<_> = (0..5).map(|nth| token(&nth.to_string())).collect();
    insert(&store, &dated).await;
    insert(
        &store,
        &[Token {
            expiry: Expiry::Never,
            due_at: None,
            ..token("never")
        }],
    )
    .await;
    dated.sort_by_key(|token| token.id);
    let (mut found, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let page = write!(store, tx => tx.lock_tokens_with_expiry(after, 2));
        let Some(last) = page.last() else { break };
        after = last.id.0;
        found.extend(page);
    }
    assert_eq!(found, dated);
}

#[rstest]
#[tokio::test]
async fn only_active_tokens_past_their_expiry_are_marked(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let expired = Token {
        expiry: Expiry::At(now()),
        ..token("expired")
    };
    let disabled = Token {
        status: Status::Disabled,
        due_at: None,
        ..expired.clone()
    };
    let disabled = Token {
        id: TokenId::new("exports", "off"),
        external_id: "off".into(),
        ..disabled
    };
    insert(&store, &[expired.clone(), disabled.clone(), token("later")]).await;
    assert_eq!(write!(store, tx => tx.mark_expired(now(), 10, &[])), 1);
    assert_eq!(write!(store, tx => tx.mark_expired(now(), 10, &[])), 0);
    assert_eq!(load(&store, expired.id).await.status, Status::Expired);
    assert_eq!(load(&store, disabled.id).await.status, Status::Disabled);
}

#[rstest]
#[tokio::test]
async fn tokens_are_marked_and_unmarked_in_pages(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..5)
        .map(|nth| Token {
            expiry: Expiry::At(now()),
            ..token(&nth.to_string())
        })
        .collect();
    insert(&store, &tokens).await;
    assert_eq!(write!(store, tx => tx.mark_expired(days(1), 3, &[])), 3);
    assert_eq!(write!(store, tx => tx.mark_expired(days(1), 3, &[])), 2);
    // The clock is set back.
    assert_eq!(write!(store, tx => tx.unmark_expired(minutes(-60), 3)), 3);
    assert_eq!(write!(store, tx => tx.unmark_expired(minutes(-60), 3)), 2);
    for token in tokens {
        let found = load(&store, token.id).await;
        assert_eq!(
            (found.status, found.due_at),
            (Status::Active, Some(minutes(-60)))
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_token_first_seen_while_the_clock_was_ahead_is_planned_again(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let marked = Token {
        status: Status::Expired,
        planned_step: Some(Step::ZERO),
        due_at: None,
        ..token("1")
    };
    insert(&store, std::slice::from_ref(&marked)).await;
    assert_eq!(write!(store, tx => tx.unmark_expired(now(), 10)), 1);
    let found = load(&store, marked.id).await;
    assert_eq!(
        (found.status, found.planned_step, found.due_at),
        (Status::Active, None, Some(now()))
    );
}

#[rstest]
#[tokio::test]
async fn ids_are_found_by_their_first_digits(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..50).map(|nth| token(&nth.to_string())).collect();
    insert(&store, &tokens).await;
    let whole = tokens[0].id.0.simple().to_string();
    for length in [8, 31, 32] {
        let found = read!(store, tx => tx.find_tokens_by_prefix(&whole[..length], 2));
        assert_eq!(found, tokens[..1], "{length}");
    }
    let expected = tokens
        .iter()
        .filter(|token| token.id.0.simple().to_string().starts_with(&whole[..1]))
        .count();
    assert_eq!(
        read!(store, tx => tx.find_tokens_by_prefix(&whole[..1], 100)).len(),
        expected
    );
    assert_eq!(
        read!(store, tx => tx.find_tokens_by_prefix(&whole[..1], 1)).len(),
        1
    );
    for none in ["", "xyz", "%", &format!("{whole}0")] {
        assert!(
            read!(store, tx => tx.find_tokens_by_prefix(none, 2)).is_empty(),
            "{none:?}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn sources_are_saved_and_listed_by_name(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert!(read!(store, tx => tx.find_source("b")).is_none());
    for name in ["b", "C", "a"] {
        let row = SourceRow {
            name: name.into(),
            kind: "file".into(),
            sync_state: SyncState {
                error: Some("no".into()),
                ..SyncState::default()
            },
            ..SourceRow::default()
        };
        write!(store, tx => tx.save_source(&row));
    }
    let row = SourceRow {
        name: "b".into(),
        kind: "sql".into(),
        fingerprint: Some("f".into()),
        tokens: 12,
        listed: 14,
        sync_state: SyncState {
            last_sync_at: Some(now()),
            last_good_sync_at: Some(days(-1)),
            error: None,
            failures: 2,
            failing_since: Some(days(-1)),
            deferred_until: Some(days(1)),
        },
        max_life: Some(86_400),
        max_life_evidence: Some("max-ttl is 1d".into()),
        readable_columns: Some("[\"name\"]".into()),
        ..SourceRow::default()
    };
    write!(store, tx => tx.save_source(&row));
    let found = read!(store, tx => tx.find_source("b")).unwrap();
    assert_eq!((found.kind.as_str(), found.tokens), ("sql", 12));
    assert_eq!(found.listed, 14);
    assert_eq!(found.sync_state, row.sync_state);
    assert_eq!(
        (found.max_life, found.max_life_evidence),
        (row.max_life, row.max_life_evidence)
    );
    let names: Vec<_> = read!(store, tx => tx.list_sources())
        .into_iter()
        .map(|row| row.name)
        .collect();
    assert_eq!(names, ["C", "a", "b"]);
}

#[rstest]
#[tokio::test]
async fn only_tokens_gone_for_long_are_purged_with_their_notices(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let tokens = ["long", "lately", "back", "active"].map(token);
    insert(&store, &tokens).await;
    let gone = |token: &Token, since| Token {
        status: Status::Gone,
        due_at: None,
        unlisted_since: Some(since),
        ..token.clone()
    };
    write!(store, tx => tx.update_token(&gone(&tokens[0], days(-400))));
    write!(store, tx => tx.update_token(&gone(&tokens[1], days(-1))));
    write!(store, tx => tx.update_token(&gone(&tokens[2], days(-400))));
    write!(store, tx => tx.update_token(&tokens[2]));
    let notices: Vec<_> = tokens
        .iter()
        .map(|token| super::warning(token, "7d", "ada@example.org", now()))
        .collect();
    super::plan(&store, &notices).await;
    assert_eq!(
        write!(store, tx => tx.purge_ended_tokens(days(-100), &[], &[], 10)),
        1
    );
    let mut left = fresh.texts("SELECT external_id FROM token").await;
    left.sort_unstable();
    assert_eq!(left, ["active", "back", "lately"]);
    assert_eq!(super::ledger(&store).await.len(), 3);
}

#[rstest]
#[tokio::test]
async fn expired_tokens_are_purged_unless_their_source_still_lists_them(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let tokens = ["listed", "left", "partial", "marked", "removed"].map(|source| Token {
        source: source.to_owned(),
        status: Status::Expired,
        expiry: Expiry::At(days(-400)),
        ..token(source)
    });
    insert(&store, &tokens).await;
    for token in &tokens {
        let row = SourceRow {
            name: token.source.clone(),
            kind: "sql".to_owned(),
            listed: i64::from(!["partial", "marked"].contains(&token.source.as_str())),
            ..SourceRow::default()
        };
        write!(store, tx => tx.save_source(&row));
    }
    let left = [tokens[1].id];
    write!(store, tx => tx.set_unlisted_since(&left, days(-1)));
    let configured = ["listed", "left", "partial", "marked"];
    assert_eq!(
        write!(store, tx => tx.purge_ended_tokens(days(-100), &configured, &["marked"], 10)),
        3
    );
    let mut kept = fresh.texts("SELECT external_id FROM token").await;
    kept.sort_unstable();
    assert_eq!(kept, ["listed", "marked"]);
}

#[rstest]
#[tokio::test]
async fn expiry_is_reported_to_a_source_once_and_retried_on_failure(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = ["a", "b", "c"]
        .map(|name| Token {
            expiry: Expiry::At(now()),
            ..token(name)
        })
        .into();
    insert(&store, &tokens).await;
    let source = tokens[0].source.clone();
    set_listed_at(&store, &source, now()).await;
    let to_report = async |at| {
        let mut ids: Vec<_> = write!(store, tx => tx.find_tokens_to_mark_expired(&source, at, 10))
            .into_iter()
            .map(|token| token.external_id)
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(
        write!(store, tx => tx.mark_expired(now(), 2, &["others", &source])),
        2
    );
    assert_eq!(to_report(now()).await.len(), 2);
    assert_eq!(to_report(minutes(-1)).await.len(), 0);
    assert_eq!(
        write!(store, tx => tx.mark_expired(now(), 2, &["others"])),
        1
    );
    let waiting = to_report(now()).await;
    assert_eq!(
        waiting.len(),
        2,
        "the source of the third does not want reports"
    );

    let ids: Vec<_> = waiting.iter().map(|id| TokenId::new(&source, id)).collect();
    write!(store, tx => tx.set_mark_expired_at(&ids[..1], None));
    write!(store, tx => tx.set_mark_expired_at(&ids[1..], Some(minutes(10))));
    assert_eq!(to_report(now()).await.len(), 0);
    assert_eq!(to_report(minutes(10)).await, waiting[1..]);

    // It has been renewed: there is nothing to report.
    let renewed = Token {
        status: Status::Active,
        expiry: Expiry::At(days(30)),
        ..load(&store, ids[1]).await
    };
    write!(store, tx => tx.update_token(&renewed));
    write!(store, tx => tx.mark_expired(days(31), 10, &[]));
    assert_eq!(to_report(days(40)).await.len(), 0);
}

/// Sets when the last good listing of a source was requested.
async fn set_listed_at(store: &lapsed::store::Store, source: &str, at: DateTime<Utc>) {
    let row = SourceRow {
        name: source.to_owned(),
        kind: "sql".to_owned(),
        fingerprint: None,
        tokens: 1,
        listed: 1,
        sync_state: SyncState {
            last_good_sync_at: Some(at),
            ..SyncState::default()
        },
        ..SourceRow::default()
    };
    write!(store, tx => tx.save_source(&row));
}

#[rstest]
#[tokio::test]
async fn expiry_is_not_reported_before_a_later_listing_confirms_it(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let ended = Token {
        expiry: Expiry::At(now()),
        ..token("a")
    };
    insert(&store, std::slice::from_ref(&ended)).await;
    write!(store, tx => tx.mark_expired(now(), 2, &[&ended.source]));
    let to_report = async || {
        let to_report =
            write!(store, tx => tx.find_tokens_to_mark_expired(&ended.source, now(), 10));
        to_report.len()
    };
    assert_eq!(to_report().await, 0, "it was never listed");
    set_listed_at(&store, &ended.source, now() - TimeDelta::microseconds(1)).await;
    assert_eq!(to_report().await, 0);
    set_listed_at(&store, &ended.source, now()).await;
    assert_eq!(to_report().await, 1);
}

#[rstest]
#[tokio::test]
async fn expiry_by_our_own_policy_is_never_reported(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let ours = Token {
        expiry: Expiry::At(now()),
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..token("a")
    };
    insert(&store, std::slice::from_ref(&ours)).await;
    set_listed_at(&store, &ours.source, now()).await;
    let marked = write!(store, tx => tx.mark_expired(now(), 2, &[&ours.source]));
    assert_eq!(marked, 1);
    let to_report = write!(store, tx => tx.find_tokens_to_mark_expired(&ours.source, now(), 10));
    assert_eq!(to_report.len(), 0);
    // Once the source itself sets the expiry, it may be reported.
    let ended = Token {
        expiry_origin: Some(ExpiryOrigin::Source),
        ..load(&store, ours.id).await
    };
    write!(store, tx => tx.update_token(&ended));
    let to_report =
        async || write!(store, tx => tx.find_tokens_to_mark_expired(&ours.source, now(), 10)).len();
    assert_eq!(
        to_report().await,
        0,
        "no report was scheduled when it was marked"
    );
    write!(store, tx => tx.set_mark_expired_at(&[ours.id], Some(now())));
    assert_eq!(to_report().await, 1);
}

fn pair(account: &str, address: &str) -> (String, String) {
    (account.to_owned(), address.to_owned())
}

#[rstest]
#[tokio::test]
async fn reported_admins_replace_those_reported_before(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let before = [
        pair("acme", "Grace@acme.example"),
        pair("acme", "ada@acme.example"),
        pair("zoo", "z@zoo.example"),
    ];
    write!(store, tx => tx.replace_source_admins("exports", &before));
    write!(store, tx => tx.replace_source_admins("another", &[pair("acme", "x@another.example")]));
    assert_eq!(read!(store, tx => tx.load_source_admins("exports")), before);

    let of_acme = Token {
        account: Some("acme".into()),
        ..token("1")
    };
    let without_account = token("2");
    let tokens = [of_acme, without_account];
    let admins = read!(store, tx => tx.load_account_admins(&tokens));
    let mut of_acme = admins.for_token(&tokens[0]).to_vec();
    of_acme.sort();
    assert_eq!(
        of_acme,
        [address("ada@acme.example"), address("grace@acme.example")]
    );
    assert!(admins.for_token(&tokens[1]).is_empty());

    write!(store, tx => tx.replace_source_admins("exports", &[]));
    assert!(read!(store, tx => tx.load_source_admins("exports")).is_empty());
    let admins = read!(store, tx => tx.load_account_admins(&tokens));
    assert!(admins.for_token(&tokens[0]).is_empty());
    assert_eq!(
        read!(store, tx => tx.load_source_admins("another")).len(),
        1
    );
}
