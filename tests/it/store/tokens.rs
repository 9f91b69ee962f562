//! Tokens and sources.

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{Expiry, ExpiryOrigin, Standing, Status, Step, Token, TokenId};
use lapsed::store::SourceRow;
use rstest::rstest;
use uuid::Uuid;

use super::{at, days, insert, minutes, now, read, step, token, write};
use crate::db::Db;

async fn one(store: &lapsed::store::Store, id: TokenId) -> Token {
    read!(store, tx => tx.tokens_by_id(&[id])).pop().unwrap()
}

#[rstest]
#[tokio::test]
async fn a_token_comes_back_as_it_was_written(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
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
        expiry_origin: Some(ExpiryOrigin::Computed),
        last_used_at: Some(at("2026-11-21T08:59:59.000001Z")),
        use_told: true,
        planned_step: Some(Step::ZERO),
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
        let found = one(&store, expected.id).await;
        assert_eq!(found, expected);
        let shown = |token: &Token| token.issuer.as_ref().map(ToString::to_string);
        assert_eq!(
            shown(&found),
            shown(&expected),
            "the spelling of the address is kept"
        );
    }
}

#[rstest]
#[tokio::test]
async fn an_update_writes_every_fact_and_clears_what_is_gone(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let before = Token {
        account: Some("acme".into()),
        use_told: false,
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
            use_told: true,
            life_from: Some(now()),
            planned_step: Some(step("7d")),
            due_at: None,
            ..before.clone()
        };
        write!(store, tx => tx.update_token(&after, now()));
        assert_eq!(one(&store, after.id).await, after);
    }
}

#[rstest]
#[tokio::test]
async fn one_identity_is_one_token(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    insert(&store, &[token("1")]).await;
    let twin = Token {
        id: TokenId::of("elsewhere", "1"),
        ..token("1")
    };
    let mut tx = store.begin().await.unwrap();
    tx.insert_tokens(&[twin]).await.unwrap_err();
}

#[rstest]
#[tokio::test]
async fn tokens_of_a_source_come_in_the_programs_order_and_in_pages(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
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
            id: TokenId::of("other", "m"),
            source: "other".into(),
            ..token("m")
        }],
    )
    .await;
    ids.sort_unstable();
    let mut found: Vec<String> = Vec::new();
    loop {
        let page = read!(store, tx => tx.tokens_of("exports", found.last().map(String::as_str), 5));
        if page.is_empty() {
            break;
        }
        found.extend(page.into_iter().map(|token| token.external_id));
    }
    assert_eq!(found, ids);
}

#[rstest]
#[tokio::test]
async fn more_tokens_than_fit_a_statement_are_written_read_and_moved(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..2500).map(|nth| token(&format!("{nth:05}"))).collect();
    insert(&store, &tokens).await;
    let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    assert_eq!(read!(store, tx => tx.tokens_by_id(&ids)).len(), 2500);
    let moved: Vec<_> = ids
        .iter()
        .map(|id| (*id, Some(days(3)), Some(step("7d"))))
        .collect();
    write!(store, tx => tx.reschedule(&moved));
    let still_due = write!(store, tx => tx.due_tokens(days(2), None, 10));
    assert!(still_due.is_empty());
    assert_eq!(
        write!(store, tx => tx.due_tokens(days(3), None, 5000)).len(),
        2500
    );
}

#[rstest]
#[tokio::test]
async fn due_tokens_come_by_time_then_id_in_pages_and_none_twice(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    // Fractions of every length: they must sort as time does.
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
        let page = write!(store, tx => tx.due_tokens(at("2026-11-21T09:00:00.999Z"), after, 2));
        let Some(last) = page.last() else { break };
        after = last.due_at.map(|due_at| (due_at, last.id));
        found.extend(page);
    }
    assert_eq!(found, tokens);
    // Those who only look see the same, and may do so in a transaction that only reads.
    let seen = read!(store, tx => tx.peek_due_tokens(at("2026-11-21T09:00:00.999Z"), None, 9));
    assert_eq!(seen, tokens);
}

#[rstest]
#[tokio::test]
async fn rescheduling_to_nothing_takes_a_token_out_of_what_is_due(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let (first, second) = (
        Token {
            planned_step: Some(step("7d")),
            ..token("1")
        },
        token("2"),
    );
    insert(&store, &[first.clone(), second.clone()]).await;
    write!(store, tx => tx.reschedule(&[]));
    // Null first, so that a statement which takes its types from the first row is found out.
    write!(store, tx => tx.reschedule(&[(first.id, None, None), (second.id, Some(days(1)), Some(Step::ZERO))]));
    let first = one(&store, first.id).await;
    assert_eq!((first.due_at, first.planned_step), (None, None));
    let second = one(&store, second.id).await;
    assert_eq!(
        (second.due_at, second.planned_step),
        (Some(days(1)), Some(Step::ZERO))
    );
}

#[rstest]
#[tokio::test]
async fn only_tokens_with_an_expiry_are_rescheduled_under_a_new_policy(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
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
        let page = write!(store, tx => tx.tokens_with_expiry(after, 2));
        let Some(last) = page.last() else { break };
        after = last.id.0;
        found.extend(page);
    }
    assert_eq!(found, dated);
}

#[rstest]
#[tokio::test]
async fn only_active_tokens_whose_time_has_come_are_marked(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let over = Token {
        expiry: Expiry::At(now()),
        ..token("over")
    };
    let disabled = Token {
        status: Status::Disabled,
        due_at: None,
        ..over.clone()
    };
    let disabled = Token {
        id: TokenId::of("exports", "off"),
        external_id: "off".into(),
        ..disabled
    };
    insert(&store, &[over.clone(), disabled.clone(), token("later")]).await;
    assert_eq!(write!(store, tx => tx.mark_expired(now(), 10, &[])), 1);
    assert_eq!(write!(store, tx => tx.mark_expired(now(), 10, &[])), 0);
    assert_eq!(one(&store, over.id).await.status, Status::Expired);
    assert_eq!(one(&store, disabled.id).await.status, Status::Disabled);
}

#[rstest]
#[tokio::test]
async fn marks_are_made_and_taken_back_in_pages(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
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
    // The clock comes back.
    assert_eq!(write!(store, tx => tx.unmark_expired(minutes(-60), 3)), 3);
    assert_eq!(write!(store, tx => tx.unmark_expired(minutes(-60), 3)), 2);
    for token in tokens {
        let found = one(&store, token.id).await;
        assert_eq!(
            (found.status, found.due_at),
            (Status::Active, Some(minutes(-60)))
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_token_first_seen_under_a_clock_that_jumped_is_planned_anew(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let seen = Token {
        status: Status::Expired,
        planned_step: Some(Step::ZERO),
        due_at: None,
        ..token("1")
    };
    insert(&store, std::slice::from_ref(&seen)).await;
    assert_eq!(write!(store, tx => tx.unmark_expired(now(), 10)), 1);
    let found = one(&store, seen.id).await;
    assert_eq!(
        (found.status, found.planned_step, found.due_at),
        (Status::Active, None, Some(now()))
    );
}

#[rstest]
#[tokio::test]
async fn ids_are_found_by_their_first_digits(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..50).map(|nth| token(&nth.to_string())).collect();
    insert(&store, &tokens).await;
    let whole = tokens[0].id.0.simple().to_string();
    for length in [8, 31, 32] {
        let found = read!(store, tx => tx.tokens_matching(&whole[..length], 2));
        assert_eq!(found, tokens[..1], "{length}");
    }
    let expected = tokens
        .iter()
        .filter(|token| token.id.0.simple().to_string().starts_with(&whole[..1]))
        .count();
    assert_eq!(
        read!(store, tx => tx.tokens_matching(&whole[..1], 100)).len(),
        expected
    );
    assert_eq!(
        read!(store, tx => tx.tokens_matching(&whole[..1], 1)).len(),
        1
    );
    for none in ["", "xyz", "%", &format!("{whole}0")] {
        assert!(
            read!(store, tx => tx.tokens_matching(none, 2)).is_empty(),
            "{none:?}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn sources_are_kept_and_listed_by_name(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert!(read!(store, tx => tx.source("b")).is_none());
    for name in ["b", "C", "a"] {
        let row = SourceRow {
            name: name.into(),
            kind: "file".into(),
            standing: Standing {
                error: Some("no".into()),
                ..Standing::default()
            },
            ..SourceRow::default()
        };
        write!(store, tx => tx.put_source(&row));
    }
    let row = SourceRow {
        name: "b".into(),
        kind: "sql".into(),
        fingerprint: Some("f".into()),
        tokens: 12,
        standing: Standing {
            last_sync_at: Some(now()),
            last_good_sync_at: Some(days(-1)),
            error: None,
            failures: 2,
            failing_since: Some(days(-1)),
            deferred_until: Some(days(1)),
        },
        longest_life: Some(86_400),
        life_evidence: Some("max-ttl is 1d".into()),
    };
    write!(store, tx => tx.put_source(&row));
    let found = read!(store, tx => tx.source("b")).unwrap();
    assert_eq!((found.kind.as_str(), found.tokens), ("sql", 12));
    assert_eq!(found.standing, row.standing);
    assert_eq!(
        (found.longest_life, found.life_evidence),
        (row.longest_life, row.life_evidence)
    );
    let names: Vec<_> = read!(store, tx => tx.sources())
        .into_iter()
        .map(|row| row.name)
        .collect();
    assert_eq!(names, ["C", "a", "b"]);
}

#[rstest]
#[tokio::test]
async fn only_what_has_been_gone_for_long_is_purged_with_all_about_it(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let tokens = ["long", "lately", "back", "there"].map(token);
    insert(&store, &tokens).await;
    let gone = |token: &Token| Token {
        status: Status::Gone,
        due_at: None,
        ..token.clone()
    };
    write!(store, tx => tx.update_token(&gone(&tokens[0]), days(-400)));
    write!(store, tx => tx.update_token(&gone(&tokens[1]), days(-1)));
    write!(store, tx => tx.update_token(&gone(&tokens[2]), days(-400)));
    write!(store, tx => tx.update_token(&tokens[2], days(-300)));
    let notices: Vec<_> = tokens
        .iter()
        .map(|token| super::warning(token, "7d", "ada@example.org", now()))
        .collect();
    super::plan(&store, &notices).await;
    assert_eq!(write!(store, tx => tx.purge_ended(days(-100), 10)), 1);
    let mut left = fresh.texts("SELECT external_id FROM token").await;
    left.sort_unstable();
    assert_eq!(left, ["back", "lately", "there"]);
    assert_eq!(super::ledger(&store).await.len(), 3);
}

#[rstest]
#[tokio::test]
async fn a_source_that_wants_to_hear_of_expiry_is_told_once_and_again_what_it_did_not_take(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
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
    listed_at(&store, &source, now()).await;
    let untold = async |at| {
        let mut ids: Vec<_> = write!(store, tx => tx.untold_tokens(&source, at, 10))
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
    assert_eq!(untold(now()).await.len(), 2);
    assert_eq!(untold(minutes(-1)).await.len(), 0);
    assert_eq!(
        write!(store, tx => tx.mark_expired(now(), 2, &["others"])),
        1
    );
    let waiting = untold(now()).await;
    assert_eq!(waiting.len(), 2, "nobody wanted to hear of the third");

    let ids: Vec<_> = waiting.iter().map(|id| TokenId::of(&source, id)).collect();
    write!(store, tx => tx.tell_at(&ids[..1], None));
    write!(store, tx => tx.tell_at(&ids[1..], Some(minutes(10))));
    assert_eq!(untold(now()).await.len(), 0);
    assert_eq!(untold(minutes(10)).await, waiting[1..]);

    // It turns out to live: there is nothing to tell.
    let renewed = Token {
        status: Status::Active,
        expiry: Expiry::At(days(30)),
        ..one(&store, ids[1]).await
    };
    write!(store, tx => tx.update_token(&renewed, now()));
    write!(store, tx => tx.mark_expired(days(31), 10, &[]));
    assert_eq!(untold(days(40)).await.len(), 0);
}

/// Writes down when the last good listing of a source was asked for.
async fn listed_at(store: &lapsed::store::Store, source: &str, at: DateTime<Utc>) {
    let row = SourceRow {
        name: source.to_owned(),
        kind: "sql".to_owned(),
        fingerprint: None,
        tokens: 1,
        standing: Standing {
            last_good_sync_at: Some(at),
            ..Standing::default()
        },
        longest_life: None,
        life_evidence: None,
    };
    write!(store, tx => tx.put_source(&row));
}

#[rstest]
#[tokio::test]
async fn a_source_is_told_of_no_token_that_it_may_have_renewed_since_it_was_listed(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let ended = Token {
        expiry: Expiry::At(now()),
        ..token("a")
    };
    insert(&store, std::slice::from_ref(&ended)).await;
    write!(store, tx => tx.mark_expired(now(), 2, &[&ended.source]));
    let untold = async || {
        let untold = write!(store, tx => tx.untold_tokens(&ended.source, now(), 10));
        untold.len()
    };
    assert_eq!(untold().await, 0, "it was never listed");
    listed_at(&store, &ended.source, now() - TimeDelta::microseconds(1)).await;
    assert_eq!(untold().await, 0);
    listed_at(&store, &ended.source, now()).await;
    assert_eq!(untold().await, 1);
}

#[rstest]
#[tokio::test]
async fn a_source_is_never_told_of_a_date_of_our_own_policy(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let ours = Token {
        expiry: Expiry::At(now()),
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..token("a")
    };
    insert(&store, std::slice::from_ref(&ours)).await;
    listed_at(&store, &ours.source, now()).await;
    let marked = write!(store, tx => tx.mark_expired(now(), 2, &[&ours.source]));
    assert_eq!(marked, 1);
    let untold = write!(store, tx => tx.untold_tokens(&ours.source, now(), 10));
    assert_eq!(untold.len(), 0);
    // It turns out to have ended there, too: now the source may hear of it.
    let ended = Token {
        expiry_origin: Some(ExpiryOrigin::Source),
        ..one(&store, ours.id).await
    };
    write!(store, tx => tx.update_token(&ended, now()));
    let untold = async || write!(store, tx => tx.untold_tokens(&ours.source, now(), 10)).len();
    assert_eq!(untold().await, 0, "nothing was noted when it was marked");
    write!(store, tx => tx.tell_at(&[ours.id], Some(now())));
    assert_eq!(untold().await, 1);
}
