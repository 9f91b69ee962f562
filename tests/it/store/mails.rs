//! Mails in delivery.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{
    Basis, Expiry, NewNotice, Occurrence, Recipient, Status, Token, TokenId, Topic,
};
use lapsed::store::{
    ClaimedMail, Holder, MailRecord, RefusedAddress, Store, UnlistedTokens, Verdict,
};
use rstest::rstest;
use uuid::Uuid;

use super::{
    address, at, days, fill_mails, fresh_id, holder, insert, ledger, minutes, now, plan, read,
    state_of, token, warning, write,
};
use crate::db::Db;
use Db::{Postgres, Sqlite};

async fn claim(store: &Store, holder: Holder, now: DateTime<Utc>) -> Vec<ClaimedMail> {
    write!(store, tx => tx.claim_mails(holder, now, days(30), 1000))
}

async fn record(store: &Store, holder: Holder, id: Uuid, verdict: Verdict) -> u64 {
    let records = [MailRecord {
        id,
        verdict,
        reason: Some(format!("{verdict:?}")),
    }];
    write!(store, tx => tx.record_mails(&records, holder, now()))
}

/// Creates one token with one notice in one open mail.
async fn one_mail(store: &Store) -> NewNotice {
    let token = token("1");
    insert(store, std::slice::from_ref(&token)).await;
    let notice = warning(&token, "7d", "Ada@Example.org", now());
    plan(store, std::slice::from_ref(&notice)).await;
    fill_mails(store, now()).await;
    notice
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_concurrent_workers_never_claim_the_same_mail(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    let notices: Vec<_> = (0..400)
        .map(|nth| warning(&token, "7d", &format!("p{nth}@a.example"), now()))
        .collect();
    plan(&store, &notices).await;
    assert_eq!(fill_mails(&store, now()).await, 400);
    let workers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (holder, mut claimed) = (holder(minutes(1)), Vec::new());
            loop {
                let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 7));
                assert!(mails.len() <= 7, "{} mails", mails.len());
                if mails.is_empty() {
                    return claimed;
                }
                claimed.extend(mails.into_iter().map(|mail| mail.id));
            }
        })
    });
    let mut all = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 400);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 400);
}

#[rstest]
#[tokio::test]
async fn due_mails_are_claimed_the_longest_waiting_first(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    plan(
        &store,
        &[
            warning(&token, "7d", "a@a.example", now()),
            warning(&token, "7d", "b@a.example", now()),
        ],
    )
    .await;
    fill_mails(&store, now()).await;
    let holder = holder(minutes(1));
    assert!(claim(&store, holder, minutes(-1)).await.is_empty());
    let mails = claim(&store, holder, now()).await;
    assert_eq!(mails.len(), 2);
    assert_eq!(
        (
            mails[0].attempts,
            mails[0].unknowns,
            mails[0].first_tried_at
        ),
        (0, 0, None)
    );
    record(&store, holder, mails[0].id, Verdict::Retry(minutes(10))).await;
    record(&store, holder, mails[1].id, Verdict::Unknown(minutes(5))).await;
    assert_eq!(read!(store, tx => tx.find_next_mail_at()), Some(minutes(5)));
    assert!(claim(&store, holder, minutes(4)).await.is_empty());
    let first = write!(store, tx => tx.claim_mails(holder, minutes(60), days(1), 1));
    assert_eq!(first[0].id, mails[1].id);
    assert_eq!((first[0].attempts, first[0].unknowns), (1, 1));
    let second = claim(&store, holder, minutes(60)).await;
    assert_eq!(
        (second[0].id, second[0].attempts, second[0].unknowns),
        (mails[0].id, 1, 0)
    );
    assert_eq!(read!(store, tx => tx.find_next_mail_at()), None);
}

#[rstest]
#[tokio::test]
async fn a_next_attempt_set_by_a_jumped_clock_is_due_now(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    one_mail(&store).await;
    let holder = holder(minutes(1));
    let mails = claim(&store, holder, now()).await;
    record(&store, holder, mails[0].id, Verdict::Retry(days(400))).await;
    assert_eq!(claim(&store, holder, now()).await.len(), 1);
}

#[rstest]
#[case::sent(Verdict::Sent, "sent: Sent", 1, Some(now()))]
#[case::retry(
    Verdict::Retry(minutes(5)),
    "planned: Retry(2026-11-21T09:05:00.250Z)",
    1,
    None
)]
#[case::unknown(
    Verdict::Unknown(minutes(5)),
    "unknown: Unknown(2026-11-21T09:05:00.250Z)",
    1,
    None
)]
#[case::failed(Verdict::Failed, "failed: Failed", 1, None)]
#[case::cancelled(Verdict::Cancelled, "cancelled: Cancelled", 0, None)]
#[case::returned(Verdict::Returned, "planned: Returned", 0, None)]
#[case::sending(Verdict::Sending, "sending: Sending", 0, None)]
#[tokio::test]
async fn a_notice_shares_the_state_of_its_mail(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] verdict: Verdict,
    #[case] state: &str,
    #[case] attempts: u32,
    #[case] sent_at: Option<DateTime<Utc>>,
) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let holder = holder(minutes(1));
    let mails = claim(&store, holder, now()).await;
    assert_eq!(mails[0].recipient.as_str(), "Ada@Example.org");
    assert_eq!(state_of(&store, &notice).await, "planned");
    assert_eq!(record(&store, holder, mails[0].id, verdict).await, 1);
    assert_eq!(state_of(&store, &notice).await, state);
    let row = ledger(&store).await.remove(0);
    assert_eq!(
        (row.attempts, row.sent_at, row.mail_id),
        (attempts, sent_at, Some(mails[0].id))
    );
}

#[rstest]
#[tokio::test]
async fn many_results_are_recorded_at_once_in_any_order(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    let notices: Vec<_> = (0..1500)
        .map(|nth| warning(&token, "7d", &format!("p{nth}@a.example"), now()))
        .collect();
    plan(&store, &notices).await;
    while fill_mails(&store, now()).await > 0 {}
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 5000));
    let verdicts = [
        Verdict::Returned,
        Verdict::Sent,
        Verdict::Retry(minutes(5)),
        Verdict::Sending,
        Verdict::Failed,
    ];
    let records: Vec<_> = mails
        .iter()
        .zip(verdicts.iter().cycle())
        .map(|(mail, verdict)| MailRecord {
            id: mail.id,
            verdict: *verdict,
            reason: None,
        })
        .collect();
    assert_eq!(
        write!(store, tx => tx.record_mails(&records, holder, now())),
        1500
    );
    assert_eq!(write!(store, tx => tx.record_mails(&[], holder, now())), 0);
    let rows = ledger(&store).await;
    for (state, count) in [
        ("sent", 300),
        ("failed", 300),
        ("sending", 300),
        ("planned", 600),
    ] {
        assert_eq!(
            rows.iter()
                .filter(|row| row.state.as_str() == state)
                .count(),
            count,
            "{state}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_holder_that_lost_a_mail_records_nothing(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let (first, second) = (holder(minutes(1)), holder(minutes(10)));
    let id = claim(&store, first, now()).await[0].id;
    assert!(write!(store, tx => tx.reclaim_lapsed_mails(minutes(1), days(1))).is_empty());
    assert_eq!(
        record(&store, first, id, Verdict::Returned).await,
        1,
        "no other holder has claimed it"
    );
    assert_eq!(claim(&store, second, minutes(1)).await.len(), 1);
    assert_eq!(
        record(&store, first, id, Verdict::Sent).await,
        0,
        "another holder has claimed it"
    );
    assert_eq!(record(&store, second, id, Verdict::Sent).await, 1);
    assert_eq!(
        record(&store, second, id, Verdict::Failed).await,
        0,
        "it has been sent"
    );
    assert_eq!(state_of(&store, &notice).await, "sent: Sent");
}

#[rstest]
#[case::ended(minutes(-1), true)]
#[case::running(minutes(1), false)]
#[case::set_by_a_clock_that_jumped(days(2), true)]
#[tokio::test]
async fn a_lease_that_has_ended_or_is_too_long_lapses(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] until: DateTime<Utc>,
    #[case] has_lapsed: bool,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    plan(
        &store,
        &[
            warning(&token, "7d", "a@a.example", now()),
            warning(&token, "7d", "b@a.example", now()),
        ],
    )
    .await;
    fill_mails(&store, now()).await;
    let holder = holder(until);
    let mails = claim(&store, holder, now()).await;
    record(&store, holder, mails[0].id, Verdict::Sending).await;
    let unknown = write!(store, tx => tx.reclaim_lapsed_mails(now(), days(1)));
    let expected: Vec<_> = mails[..1]
        .iter()
        .filter(|_| has_lapsed)
        .map(|mail| mail.id)
        .collect();
    assert_eq!(
        unknown.iter().map(|mail| mail.id).collect::<Vec<_>>(),
        expected
    );
    // The mail that was only claimed can be claimed again at once.
    let free = claim(&store, super::holder(days(1)), now()).await;
    assert_eq!(
        free.iter().map(|mail| mail.id).collect::<Vec<_>>(),
        if has_lapsed {
            vec![mails[1].id]
        } else {
            vec![]
        }
    );
}

#[rstest]
#[tokio::test]
async fn renewing_extends_only_the_holders_own_leases(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    one_mail(&store).await;
    let mine = holder(minutes(1));
    let id = claim(&store, mine, now()).await[0].id;
    assert_eq!(
        write!(store, tx => tx.renew_mail_leases(holder(minutes(9)))).len(),
        0
    );
    assert_eq!(
        write!(store, tx => tx.renew_mail_leases(Holder { until: minutes(5), ..mine })).len(),
        1
    );
    write!(store, tx => tx.reclaim_lapsed_mails(minutes(4), days(1)));
    assert_eq!(record(&store, mine, id, Verdict::Sent).await, 1);
    assert_eq!(write!(store, tx => tx.renew_mail_leases(mine)).len(), 0);
}

#[rstest]
#[tokio::test]
async fn a_mail_abandoned_while_sending_counts_as_unknown_once(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let dead = holder(minutes(1));
    let id = claim(&store, dead, now()).await[0].id;
    record(&store, dead, id, Verdict::Sending).await;
    let unknown = write!(store, tx => tx.reclaim_lapsed_mails(minutes(2), days(1)));
    assert_eq!(unknown[0].first_tried_at, Some(now()));
    for _ in 0..2 {
        write!(store, tx => tx.settle_lapsed_mail(&unknown[0], Verdict::Unknown(minutes(7)), "the sender died"));
    }
    assert_eq!(state_of(&store, &notice).await, "unknown: the sender died");
    let again = claim(&store, holder(minutes(9)), minutes(7)).await;
    assert_eq!(
        (again[0].id, again[0].attempts, again[0].unknowns),
        (id, 1, 1)
    );
    assert_eq!(again[0].first_tried_at, Some(now()));
}

#[rstest]
#[case::it_can_start_now(Verdict::Sending, "sending", (0, 0))]
#[case::it_was_not_sent(Verdict::Returned, "waiting", (0, 0))]
#[case::it_was_sent(Verdict::Sent, "sent", (1, 0))]
#[case::it_was_refused(Verdict::Retry(minutes(9)), "waiting", (1, 0))]
#[case::the_reply_was_lost(Verdict::Unknown(minutes(9)), "unknown", (1, 1))]
#[tokio::test]
async fn a_holder_takes_back_a_mail_that_another_marked_unknown(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] verdict: Verdict,
    #[case] state: &str,
    #[case] (attempts, unknowns): (i64, i64),
) {
    let (store, fresh) = db.store().await;
    one_mail(&store).await;
    let away = holder(minutes(1));
    let id = claim(&store, away, now()).await[0].id;
    record(&store, away, id, Verdict::Sending).await;
    let lapsed = write!(store, tx => tx.reclaim_lapsed_mails(minutes(2), days(1)));
    write!(store, tx => tx.settle_lapsed_mail(&lapsed[0], Verdict::Unknown(minutes(7)), "the sender died"));
    // Twice, as after a commit whose answer was lost.
    for _ in 0..2 {
        record(&store, away, id, verdict).await;
        let row = "SELECT state || ' ' || attempts || ' ' || unknowns FROM mail";
        assert_eq!(
            fresh.texts(row).await,
            [format!("{state} {attempts} {unknowns}")]
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_mail_is_due_until_it_is_claimed_and_again_when_its_lease_is_over(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    assert_eq!(read!(store, tx => tx.find_oldest_due_mail()), None);
    one_mail(&store).await;
    assert_eq!(read!(store, tx => tx.find_oldest_due_mail()), Some(now()));
    let mine = holder(minutes(5));
    let id = claim(&store, mine, now()).await[0].id;
    assert_eq!(
        read!(store, tx => tx.find_oldest_due_mail()),
        Some(minutes(5))
    );
    record(&store, mine, id, Verdict::Retry(minutes(9))).await;
    assert_eq!(
        read!(store, tx => tx.find_oldest_due_mail()),
        Some(minutes(9))
    );
    let other = holder(minutes(99));
    claim(&store, other, minutes(9)).await;
    record(&store, other, id, Verdict::Sent).await;
    assert_eq!(read!(store, tx => tx.find_oldest_due_mail()), None);
}

#[rstest]
#[tokio::test]
async fn giving_up_an_unknown_mail_is_final(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let dead = holder(minutes(1));
    let id = claim(&store, dead, now()).await[0].id;
    record(&store, dead, id, Verdict::Sending).await;
    let unknown = write!(store, tx => tx.reclaim_lapsed_mails(minutes(2), days(1)));
    write!(store, tx => tx.settle_lapsed_mail(&unknown[0], Verdict::Failed, "unknown too often"));
    assert_eq!(state_of(&store, &notice).await, "failed: unknown too often");
    assert!(claim(&store, holder(days(1)), days(9)).await.is_empty());
}

/// The states of a mail's notices after it was claimed and settled.
async fn states_after_settling(store: &Store, when: DateTime<Utc>) -> Vec<String> {
    let ids: Vec<_> = claim(store, holder(days(1)), when)
        .await
        .into_iter()
        .map(|mail| mail.id)
        .collect();
    write!(store, tx => tx.settle_claimed(&ids, when));
    let mut rows = ledger(store).await;
    rows.sort_by_key(|row| (row.step, row.id));
    rows.into_iter()
        .map(|row| format!("{:?} {}", row.step.map(|step| step / 86400), row.state))
        .collect()
}

#[rstest]
#[tokio::test]
async fn of_several_due_steps_only_the_tightest_is_sent(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let notices = ["7d", "3d", "1d"].map(|step| {
        let send_at = if step == "1d" { days(6) } else { now() };
        warning(&token, step, "ada@example.org", send_at)
    });
    plan(&store, &notices).await;
    fill_mails(&store, now()).await;
    let expected = ["Some(1) planned", "Some(3) planned", "Some(7) suppressed"];
    assert_eq!(states_after_settling(&store, now()).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_tighter_due_step_suppresses_a_wider_one_in_an_older_mail(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    plan(&store, &[warning(&token, "7d", "ada@example.org", now())]).await;
    fill_mails(&store, now()).await;
    let mine = holder(minutes(1));
    let id = claim(&store, mine, now()).await[0].id;
    record(&store, mine, id, Verdict::Retry(minutes(5))).await;
    // Due, and not in a mail yet.
    plan(
        &store,
        &[warning(&token, "1d", "ada@example.org", minutes(4))],
    )
    .await;
    let expected = ["Some(1) planned", "Some(7) suppressed"];
    assert_eq!(states_after_settling(&store, minutes(5)).await, expected);
    let contents = read!(store, tx => tx.load_mail_contents(&[id], 100));
    assert!(contents[0].rows.is_empty(), "it has no notices left");
}

#[rstest]
#[case::renewed(|token: &mut Token| token.expiry = Expiry::At(days(97)), "cancelled")]
#[case::endless(|token: &mut Token| token.expiry = Expiry::Never, "cancelled")]
#[case::disabled(|token: &mut Token| token.status = Status::Disabled, "cancelled")]
#[case::revoked(|token: &mut Token| token.status = Status::Revoked, "cancelled")]
#[case::gone(|token: &mut Token| token.status = Status::Gone, "cancelled")]
#[case::expired(|token: &mut Token| token.status = Status::Expired, "planned")]
#[case::renamed(|token: &mut Token| token.name = "another".into(), "planned")]
#[tokio::test]
async fn a_claimed_mail_loses_notices_that_no_longer_apply(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] change: fn(&mut Token),
    #[case] state: &str,
) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let mut token = token("1");
    change(&mut token);
    write!(store, tx => tx.update_token(&token));
    assert_eq!(
        states_after_settling(&store, now()).await,
        [format!("Some(7) {state}")]
    );
    assert!(state_of(&store, &notice).await.starts_with(state));
}

#[rstest]
#[tokio::test]
async fn a_digest_lists_the_most_urgent_and_counts_the_others(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut notices = Vec::new();
    for nth in 0..250 {
        let source = if nth % 2 == 0 { "exports" } else { "vault" };
        let id = format!("{nth:03}");
        let token = Token {
            id: TokenId::new(source, &id),
            source: source.into(),
            // A minute apart; the first hundred expire on the first day, the others on the next.
            expiry: Expiry::At(at("2026-11-28T22:20:00Z") + chrono::TimeDelta::minutes(nth)),
            ..token(&id)
        };
        insert(&store, std::slice::from_ref(&token)).await;
        notices.push(warning(&token, "7d", "ops@example.org", now()));
    }
    plan(&store, &notices).await;
    fill_mails(&store, now()).await;
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let other = fresh_id();
    let contents = read!(store, tx => tx.load_mail_contents(&[other, id], 60));
    assert!(contents[0].rows.is_empty() && contents[0].unlisted.is_empty());
    let listed: Vec<_> = contents[1]
        .rows
        .iter()
        .map(|row| row.token.as_ref().unwrap().external_id.clone())
        .collect();
    assert_eq!(
        listed,
        (0..60).map(|nth| format!("{nth:03}")).collect::<Vec<_>>()
    );
    let unlisted = |source: &str, latest: &str, count| UnlistedTokens {
        source: source.into(),
        topic: Topic::Expiry,
        day: Some(latest[..10].to_owned()),
        expiry_day: None,
        latest: Some(at(latest)),
        count,
    };
    assert_eq!(
        contents[1].unlisted,
        [
            unlisted("exports", "2026-11-28T23:58:00Z", 20),
            unlisted("vault", "2026-11-28T23:59:00Z", 20),
            unlisted("exports", "2026-11-29T02:28:00Z", 75),
            unlisted("vault", "2026-11-29T02:29:00Z", 75),
        ]
    );
    let all = read!(store, tx => tx.load_mail_contents(&[id], 250));
    assert_eq!((all[0].rows.len(), all[0].unlisted.len()), (250, 0));
}

#[rstest]
#[tokio::test]
async fn findings_that_are_not_listed_are_counted(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut notices = Vec::new();
    for nth in 0..5 {
        let token = token(&nth.to_string());
        insert(&store, std::slice::from_ref(&token)).await;
        let occurrence = Occurrence {
            topic: Topic::SsoRevoked,
            generation: now().into(),
            step: None,
        };
        let admin = Recipient {
            address: address("ops@example.org"),
            basis: Basis::Admin,
        };
        notices.push(NewNotice::for_token(&token, occurrence, &admin, now()));
    }
    plan(&store, &notices).await;
    fill_mails(&store, now()).await;
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let content = read!(store, tx => tx.load_mail_contents(&[id], 3)).remove(0);
    assert_eq!(content.rows.len(), 3);
    let counted: i64 = content.unlisted.iter().map(|tokens| tokens.count).sum();
    assert_eq!(counted, 2, "{:?}", content.unlisted);
}

#[rstest]
#[tokio::test]
async fn a_notice_has_its_token_its_finding_and_the_dead_address(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let finding = lapsed::store::NewFinding {
        id: fresh_id(),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind: lapsed::domain::FindingKind::SsoRevoked,
        severity: lapsed::domain::Severity::High,
        since: days(-1),
        evidence: "disabled at hr".into(),
        directory: None,
    };
    write!(store, tx => tx.insert_findings(std::slice::from_ref(&finding)));
    refuse(&store, "ada@example.ORG", "5.1.1 no such user", now()).await;
    let ops = Recipient {
        address: address("ops@example.org"),
        basis: Basis::Admin,
    };
    let alert = NewNotice {
        title: Some("3 mails are held".into()),
        detail: Some("look".into()),
        ..NewNotice::for_subject(
            "plan",
            Occurrence {
                topic: Topic::Alert,
                generation: now().into(),
                step: None,
            },
            &ops,
            now(),
        )
    };
    plan(
        &store,
        &[warning(&token, "7d", "ops@example.org", now()), alert],
    )
    .await;
    fill_mails(&store, now()).await;
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let content = read!(store, tx => tx.load_mail_contents(&[id], 100)).remove(0);
    let [alert, warning] = &content.rows[..] else {
        panic!("{content:?}")
    };
    assert_eq!(
        (alert.topic, alert.title.as_deref(), alert.detail.as_deref()),
        (Topic::Alert, Some("3 mails are held"), Some("look"))
    );
    assert_eq!(
        (alert.subject.as_deref(), alert.basis),
        (Some("plan"), Basis::Admin)
    );
    assert!(alert.token.is_none());
    assert_eq!(
        (warning.topic, warning.step, warning.send_at),
        (Topic::Expiry, Some(super::step("7d").seconds()), now())
    );
    assert_eq!(warning.token.as_ref(), Some(&token));
    assert_eq!(warning.evidence.as_deref(), Some("disabled at hr"));
    assert_eq!(warning.evidence_since, Some(days(-1)));
    assert_eq!(warning.issuer_dead.as_deref(), Some("5.1.1 no such user"));
    write!(store, tx => tx.resolve_findings(&[finding.id], now()));
    let content = read!(store, tx => tx.load_mail_contents(&[id], 100)).remove(0);
    assert_eq!(content.rows[1].evidence, None);
}

/// Records a refusal in a pass of its own.
async fn refuse(store: &Store, to: &str, reply: &str, at: DateTime<Utc>) {
    let (code, _) = reply.split_once(' ').unwrap_or((reply, ""));
    let refused = RefusedAddress {
        address: address(to),
        code: code.to_owned(),
        is_doubtful: code != "5.1.1",
        reason: reply.to_owned(),
    };
    write!(store, tx => tx.record_address_refusal(&refused, at, at - TimeDelta::days(30), at));
}

async fn mark_dead(store: &Store, domains: &[&str], at: DateTime<Utc>) -> Vec<String> {
    let dead = write!(store, tx => tx.mark_dead_addresses(domains, at, at));
    dead.into_iter().map(|address| address.key).collect()
}

#[rstest]
#[tokio::test]
async fn an_address_is_dead_until_it_may_be_tried_again(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    refuse(&store, "Ada@Example.org", "5.1.1", days(-40)).await;
    assert_eq!(
        mark_dead(&store, &["example.org"], days(-40)).await,
        ["ada@example.org"]
    );
    assert!(read!(store, tx => tx.load_dead_addresses(days(-30))).is_empty());
    // It is refused again, so the count starts again.
    refuse(&store, "ada@example.org", "5.1.1", days(-3)).await;
    assert!(
        mark_dead(&store, &["example.net"], days(-3))
            .await
            .is_empty()
    );
    assert_eq!(
        mark_dead(&store, &["example.org"], days(-3)).await,
        ["ada@example.org"]
    );
    assert_eq!(
        read!(store, tx => tx.load_dead_addresses(days(-30))),
        [("ada@example.org".to_owned(), "5.1.1".to_owned())]
    );
    write!(store, tx => tx.clear_addresses(&["ada@example.org".to_owned()]));
    assert!(read!(store, tx => tx.list_addresses()).is_empty());
}

#[rstest]
#[tokio::test]
async fn a_doubtful_address_is_dead_after_three_passes_over_a_day(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    for hour in [0, 1, 2, 23] {
        let at = now() + TimeDelta::hours(hour);
        refuse(&store, "ada@example.org", "5.2.1 disabled", at).await;
        assert!(
            mark_dead(&store, &["example.org"], at).await.is_empty(),
            "{hour}"
        );
    }
    // Another code starts a new count.
    let at = now() + TimeDelta::hours(24);
    refuse(&store, "ada@example.org", "5.1.2 no such domain", at).await;
    assert!(mark_dead(&store, &["example.org"], at).await.is_empty());
    for hour in [30, 47] {
        let at = now() + TimeDelta::hours(hour);
        refuse(&store, "ada@example.org", "5.1.2 no such domain", at).await;
        assert!(
            mark_dead(&store, &["example.org"], at).await.is_empty(),
            "{hour}"
        );
    }
    let at = now() + TimeDelta::hours(48);
    refuse(&store, "ada@example.org", "5.1.2 no such domain", at).await;
    assert_eq!(mark_dead(&store, &[], at).await, ["ada@example.org"]);
}

#[rstest]
#[tokio::test]
async fn the_notices_of_a_mail_come_in_pages_without_cancelled_ones(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..5).map(|nth| token(&nth.to_string())).collect();
    insert(&store, &tokens).await;
    let mut notices: Vec<_> = tokens
        .iter()
        .map(|token| warning(token, "7d", "ada@example.org", now()))
        .collect();
    plan(&store, &notices).await;
    fill_mails(&store, now()).await;
    write!(store, tx => tx.cancel_notices(tokens[0].id, None, "the token is gone"));
    notices.remove(0);
    notices.sort_by_key(|notice| notice.id);
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let (mut found, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let page = read!(store, tx => tx.load_mail_notices(id, after, 2));
        let Some(last) = page.last() else { break };
        after = last.id;
        found.extend(page);
    }
    assert_eq!(found.len(), notices.len());
    for (found, notice) in found.iter().zip(&notices) {
        let occurrence = found.occurrence();
        assert_eq!(
            (found.id, found.token_id, occurrence.step),
            (notice.id, notice.token_id, notice.step)
        );
        assert_eq!(
            (occurrence.generation, occurrence.topic),
            (notice.generation, notice.topic)
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_notice_that_may_have_arrived_is_never_revived(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let mine = holder(minutes(1));
    let id = claim(&store, mine, now()).await[0].id;
    record(&store, mine, id, Verdict::Unknown(minutes(5))).await;
    let token = token("1");
    let renewed = Token {
        expiry: Expiry::At(days(97)),
        ..token.clone()
    };
    write!(store, tx => tx.update_token(&renewed));
    let cancelled =
        write!(store, tx => tx.cancel_notices(token.id, Some(days(97).into()), "renewed"));
    assert_eq!(cancelled, 0, "it may have been accepted");
    let expected = ["Some(7) suppressed"];
    assert_eq!(states_after_settling(&store, minutes(5)).await, expected);
    write!(store, tx => tx.cancel_notices(token.id, Some(days(7).into()), "changed back"));
    assert_eq!(plan(&store, std::slice::from_ref(&notice)).await, 0);
    let expected = "suppressed: the token has changed";
    assert_eq!(state_of(&store, &notice).await, expected);
}

#[rstest]
#[tokio::test]
async fn unreachable_notices_leave_a_mail_that_is_not_sent(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let occurrence = Occurrence {
        topic: Topic::Unreachable,
        generation: now().into(),
        step: None,
    };
    let to = Recipient {
        address: address("ops@example.org"),
        basis: Basis::Admin,
    };
    let unreachable =
        NewNotice::for_subject("ada@example.org", occurrence, &to, super::max_instant());
    let expiry = warning(&token, "7d", "ops@example.org", now());
    plan(&store, &[unreachable.clone(), expiry.clone()]).await;
    assert_eq!(fill_mails(&store, now()).await, 2);
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    write!(store, tx => tx.detach_unreachable_notices(&[fresh_id(), id]));
    let rows = ledger(&store).await;
    let mail_of = |notice: &NewNotice| {
        let row = rows.iter().find(|row| row.id == notice.id).unwrap();
        row.mail_id
    };
    assert_eq!((mail_of(&unreachable), mail_of(&expiry)), (None, Some(id)));
}
