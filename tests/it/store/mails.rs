//! Mails on their way.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use lapsed::domain::{
    Expiry, Ground, NewNotice, Occurrence, Recipient, Status, Token, TokenId, Topic,
};
use lapsed::store::{ClaimedMail, Holder, Recorded, Rest, Store, Verdict};
use rstest::rstest;
use uuid::Uuid;

use super::{
    address, at, days, fate, fresh_id, gather, holder, insert, ledger, minutes, now, plan, read,
    token, warning, write,
};
use crate::db::Db;

async fn claim(store: &Store, holder: Holder, now: DateTime<Utc>) -> Vec<ClaimedMail> {
    write!(store, tx => tx.claim_mails(holder, now, days(30), 1000))
}

async fn record(store: &Store, holder: Holder, id: Uuid, verdict: Verdict) -> u64 {
    let records = [Recorded {
        id,
        verdict,
        reason: Some(format!("{verdict:?}")),
    }];
    write!(store, tx => tx.record(&records, holder, now()))
}

/// One token with one notice in one open mail.
async fn one_mail(store: &Store) -> NewNotice {
    let token = token("1");
    insert(store, std::slice::from_ref(&token)).await;
    let notice = warning(&token, "7d", "Ada@Example.org", now());
    plan(store, std::slice::from_ref(&notice)).await;
    gather(store, now()).await;
    notice
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_workers_at_once_never_share_a_mail(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    let notices: Vec<_> = (0..400)
        .map(|nth| warning(&token, "7d", &format!("p{nth}@a.example"), now()))
        .collect();
    plan(&store, &notices).await;
    assert_eq!(gather(&store, now()).await, 400);
    let workers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (holder, mut mine) = (holder(minutes(1)), Vec::new());
            loop {
                let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 7));
                assert!(mails.len() <= 7, "{} mails", mails.len());
                if mails.is_empty() {
                    return mine;
                }
                mine.extend(mails.into_iter().map(|mail| mail.id));
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
async fn a_mail_is_claimed_when_its_time_has_come_the_longest_waiting_first(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
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
    gather(&store, now()).await;
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
    record(&store, holder, mails[0].id, Verdict::Again(minutes(10))).await;
    record(&store, holder, mails[1].id, Verdict::Doubtful(minutes(5))).await;
    assert_eq!(read!(store, tx => tx.next_mail_at()), Some(minutes(5)));
    assert!(claim(&store, holder, minutes(4)).await.is_empty());
    let first = write!(store, tx => tx.claim_mails(holder, minutes(60), days(1), 1));
    assert_eq!(first[0].id, mails[1].id);
    assert_eq!((first[0].attempts, first[0].unknowns), (1, 1));
    let second = claim(&store, holder, minutes(60)).await;
    assert_eq!(
        (second[0].id, second[0].attempts, second[0].unknowns),
        (mails[0].id, 1, 0)
    );
    assert_eq!(read!(store, tx => tx.next_mail_at()), None);
}

#[rstest]
#[tokio::test]
async fn a_next_attempt_that_a_jumped_clock_set_is_due_now(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    one_mail(&store).await;
    let holder = holder(minutes(1));
    let mails = claim(&store, holder, now()).await;
    record(&store, holder, mails[0].id, Verdict::Again(days(400))).await;
    assert_eq!(claim(&store, holder, now()).await.len(), 1);
}

#[rstest]
#[case::sent(Verdict::Sent, "sent: Sent", 1, Some(now()))]
#[case::again(
    Verdict::Again(minutes(5)),
    "planned: Again(2026-11-21T09:05:00.250Z)",
    1,
    None
)]
#[case::doubtful(
    Verdict::Doubtful(minutes(5)),
    "unknown: Doubtful(2026-11-21T09:05:00.250Z)",
    1,
    None
)]
#[case::failed(Verdict::Failed, "failed: Failed", 1, None)]
#[case::cancelled(Verdict::Cancelled, "cancelled: Cancelled", 0, None)]
#[case::untouched(Verdict::Untouched, "planned: Untouched", 0, None)]
#[case::sending(Verdict::Sending, "sending: Sending", 0, None)]
#[tokio::test]
async fn a_notice_shares_the_fate_of_its_mail(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
    #[case] verdict: Verdict,
    #[case] state: &str,
    #[case] attempts: i64,
    #[case] sent_at: Option<DateTime<Utc>>,
) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let holder = holder(minutes(1));
    let mails = claim(&store, holder, now()).await;
    assert_eq!(mails[0].recipient.as_str(), "Ada@Example.org");
    assert_eq!(fate(&store, &notice).await, "planned");
    assert_eq!(record(&store, holder, mails[0].id, verdict).await, 1);
    assert_eq!(fate(&store, &notice).await, state);
    let row = ledger(&store).await.remove(0);
    assert_eq!(
        (row.attempts, row.sent_at, row.mail_id),
        (attempts, sent_at, Some(mails[0].id))
    );
}

#[rstest]
#[tokio::test]
async fn many_outcomes_are_written_at_once_whatever_comes_first(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    let notices: Vec<_> = (0..1500)
        .map(|nth| warning(&token, "7d", &format!("p{nth}@a.example"), now()))
        .collect();
    plan(&store, &notices).await;
    while gather(&store, now()).await > 0 {}
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 5000));
    let verdicts = [
        Verdict::Untouched,
        Verdict::Sent,
        Verdict::Again(minutes(5)),
        Verdict::Sending,
        Verdict::Failed,
    ];
    let records: Vec<_> = mails
        .iter()
        .zip(verdicts.iter().cycle())
        .map(|(mail, verdict)| Recorded {
            id: mail.id,
            verdict: *verdict,
            reason: None,
        })
        .collect();
    assert_eq!(
        write!(store, tx => tx.record(&records, holder, now())),
        1500
    );
    assert_eq!(write!(store, tx => tx.record(&[], holder, now())), 0);
    let rows = ledger(&store).await;
    for (state, count) in [
        ("sent", 300),
        ("failed", 300),
        ("sending", 300),
        ("planned", 600),
    ] {
        assert_eq!(
            rows.iter().filter(|row| row.state == state).count(),
            count,
            "{state}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn whoever_lost_a_mail_writes_nothing_about_it(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let (first, second) = (holder(minutes(1)), holder(minutes(10)));
    let id = claim(&store, first, now()).await[0].id;
    assert!(write!(store, tx => tx.lapsed_mails(minutes(1), days(1))).is_empty());
    assert_eq!(
        record(&store, first, id, Verdict::Untouched).await,
        1,
        "nobody else wants it"
    );
    assert_eq!(claim(&store, second, minutes(1)).await.len(), 1);
    assert_eq!(
        record(&store, first, id, Verdict::Sent).await,
        0,
        "it is another's"
    );
    assert_eq!(record(&store, second, id, Verdict::Sent).await, 1);
    assert_eq!(
        record(&store, second, id, Verdict::Failed).await,
        0,
        "it is done"
    );
    assert_eq!(fate(&store, &notice).await, "sent: Sent");
}

#[rstest]
#[case::over(minutes(-1), true)]
#[case::running(minutes(1), false)]
#[case::set_by_a_clock_that_jumped(days(2), true)]
#[tokio::test]
async fn a_lease_that_is_over_or_too_long_has_lapsed(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
    #[case] until: DateTime<Utc>,
    #[case] lapsed: bool,
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
    gather(&store, now()).await;
    let holder = holder(until);
    let mails = claim(&store, holder, now()).await;
    record(&store, holder, mails[0].id, Verdict::Sending).await;
    let doubtful = write!(store, tx => tx.lapsed_mails(now(), days(1)));
    let expected: Vec<_> = mails[..1]
        .iter()
        .filter(|_| lapsed)
        .map(|mail| mail.id)
        .collect();
    assert_eq!(
        doubtful.iter().map(|mail| mail.id).collect::<Vec<_>>(),
        expected
    );
    // The one that was only claimed is free at once.
    let free = claim(&store, super::holder(days(1)), now()).await;
    assert_eq!(
        free.iter().map(|mail| mail.id).collect::<Vec<_>>(),
        if lapsed { vec![mails[1].id] } else { vec![] }
    );
}

#[rstest]
#[tokio::test]
async fn renewing_holds_on_to_what_is_in_hand_and_to_nothing_else(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    one_mail(&store).await;
    let mine = holder(minutes(1));
    let id = claim(&store, mine, now()).await[0].id;
    assert_eq!(write!(store, tx => tx.renew_mails(holder(minutes(9)))), 0);
    assert_eq!(
        write!(store, tx => tx.renew_mails(Holder { until: minutes(5), ..mine })),
        1
    );
    write!(store, tx => tx.lapsed_mails(minutes(4), days(1)));
    assert_eq!(record(&store, mine, id, Verdict::Sent).await, 1);
    assert_eq!(write!(store, tx => tx.renew_mails(mine)), 0);
}

#[rstest]
#[tokio::test]
async fn a_mail_left_while_sending_is_in_doubt_once(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let gone = holder(minutes(1));
    let id = claim(&store, gone, now()).await[0].id;
    record(&store, gone, id, Verdict::Sending).await;
    let doubtful = write!(store, tx => tx.lapsed_mails(minutes(2), days(1)));
    assert_eq!(doubtful[0].first_tried_at, Some(now()));
    for _ in 0..2 {
        write!(store, tx => tx.doubt(&doubtful[0], Verdict::Doubtful(minutes(7)), "the sender went away"));
    }
    assert_eq!(fate(&store, &notice).await, "unknown: the sender went away");
    let again = claim(&store, holder(minutes(9)), minutes(7)).await;
    assert_eq!(
        (again[0].id, again[0].attempts, again[0].unknowns),
        (id, 1, 1)
    );
    assert_eq!(again[0].first_tried_at, Some(now()));
}

#[rstest]
#[tokio::test]
async fn giving_up_a_mail_left_in_doubt_is_final(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let gone = holder(minutes(1));
    let id = claim(&store, gone, now()).await[0].id;
    record(&store, gone, id, Verdict::Sending).await;
    let doubtful = write!(store, tx => tx.lapsed_mails(minutes(2), days(1)));
    write!(store, tx => tx.doubt(&doubtful[0], Verdict::Failed, "in doubt too often"));
    assert_eq!(fate(&store, &notice).await, "failed: in doubt too often");
    assert!(claim(&store, holder(days(1)), days(9)).await.is_empty());
}

/// The states of a mail's notices after it was claimed and settled.
async fn settled(store: &Store, when: DateTime<Utc>) -> Vec<String> {
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
async fn of_several_steps_only_the_tightest_due_is_said(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let notices = ["7d", "3d", "1d"].map(|step| {
        let send_at = if step == "1d" { days(6) } else { now() };
        warning(&token, step, "ada@example.org", send_at)
    });
    plan(&store, &notices).await;
    gather(&store, now()).await;
    assert_eq!(
        settled(&store, now()).await,
        ["Some(1) planned", "Some(3) planned", "Some(7) suppressed"]
    );
}

#[rstest]
#[tokio::test]
async fn a_wider_step_left_in_an_older_mail_gives_way_to_a_tighter_one_elsewhere(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    plan(&store, &[warning(&token, "7d", "ada@example.org", now())]).await;
    gather(&store, now()).await;
    let mine = holder(minutes(1));
    let id = claim(&store, mine, now()).await[0].id;
    record(&store, mine, id, Verdict::Again(minutes(5))).await;
    // Due, and in no mail yet; to another it is not due.
    plan(
        &store,
        &[warning(&token, "1d", "ada@example.org", minutes(4))],
    )
    .await;
    assert_eq!(
        settled(&store, minutes(5)).await,
        ["Some(1) planned", "Some(7) suppressed"]
    );
    let contents = read!(store, tx => tx.contents(&[id], 100));
    assert!(contents[0].rows.is_empty(), "nothing is left to say in it");
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
async fn a_claimed_mail_says_nothing_that_no_longer_holds(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
    #[case] change: fn(&mut Token),
    #[case] state: &str,
) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let mut token = token("1");
    change(&mut token);
    write!(store, tx => tx.update_token(&token, now()));
    assert_eq!(settled(&store, now()).await, [format!("Some(7) {state}")]);
    assert!(fate(&store, &notice).await.starts_with(state));
}

#[rstest]
#[tokio::test]
async fn a_digest_lists_the_most_urgent_and_counts_the_rest(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let mut notices = Vec::new();
    for nth in 0..250 {
        let source = if nth % 2 == 0 { "exports" } else { "vault" };
        let id = format!("{nth:03}");
        let token = Token {
            id: TokenId::of(source, &id),
            source: source.into(),
            // A minute apart; the first hundred end on the first day, the rest on the next.
            expiry: Expiry::At(at("2026-11-28T22:20:00Z") + chrono::TimeDelta::minutes(nth)),
            ..token(&id)
        };
        insert(&store, std::slice::from_ref(&token)).await;
        notices.push(warning(&token, "7d", "ops@example.org", now()));
    }
    plan(&store, &notices).await;
    gather(&store, now()).await;
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let other = fresh_id();
    let contents = read!(store, tx => tx.contents(&[other, id], 60));
    assert!(contents[0].rows.is_empty() && contents[0].rest.is_empty());
    let listed: Vec<_> = contents[1]
        .rows
        .iter()
        .map(|row| row.token.as_ref().unwrap().external_id.clone())
        .collect();
    assert_eq!(
        listed,
        (0..60).map(|nth| format!("{nth:03}")).collect::<Vec<_>>()
    );
    let rest = |source: &str, day: &str, count| Rest {
        source: source.into(),
        topic: Topic::Expiry,
        day: Some(day.to_owned()),
        count,
    };
    assert_eq!(
        contents[1].rest,
        [
            rest("exports", "2026-11-28", 20),
            rest("vault", "2026-11-28", 20),
            rest("exports", "2026-11-29", 75),
            rest("vault", "2026-11-29", 75),
        ]
    );
    let whole = read!(store, tx => tx.contents(&[id], 250));
    assert_eq!((whole[0].rows.len(), whole[0].rest.len()), (250, 0));
}

#[rstest]
#[tokio::test]
async fn findings_beyond_those_listed_are_counted_too(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut notices = Vec::new();
    for nth in 0..5 {
        let token = token(&nth.to_string());
        insert(&store, std::slice::from_ref(&token)).await;
        let occurrence = Occurrence {
            topic: Topic::SsoRevoked,
            generation: now(),
            step: None,
        };
        let admin = Recipient {
            address: address("ops@example.org"),
            ground: Ground::Admin,
        };
        notices.push(NewNotice::about(&token, occurrence, &admin, now()));
    }
    plan(&store, &notices).await;
    gather(&store, now()).await;
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let content = read!(store, tx => tx.contents(&[id], 3)).remove(0);
    assert_eq!(content.rows.len(), 3);
    let counted: i64 = content.rest.iter().map(|rest| rest.count).sum();
    assert_eq!(counted, 2, "{:?}", content.rest);
}

#[rstest]
#[tokio::test]
async fn a_notice_is_shown_with_its_token_its_finding_and_the_dead_mailbox(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
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
    };
    write!(store, tx => tx.open_findings(std::slice::from_ref(&finding)));
    write!(store, tx => tx.bury_address(&address("ada@example.ORG"), "550 5.1.1 no such user", now()));
    let ops = Recipient {
        address: address("ops@example.org"),
        ground: Ground::Admin,
    };
    let alert = NewNotice {
        title: Some("3 mails are held".into()),
        detail: Some("look".into()),
        ..NewNotice::about_subject(
            "plan",
            Occurrence {
                topic: Topic::Alert,
                generation: now(),
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
    gather(&store, now()).await;
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let content = read!(store, tx => tx.contents(&[id], 100)).remove(0);
    let [alert, warning] = &content.rows[..] else {
        panic!("{content:?}")
    };
    assert_eq!(
        (alert.topic, alert.title.as_deref(), alert.detail.as_deref()),
        (Topic::Alert, Some("3 mails are held"), Some("look"))
    );
    assert_eq!(
        (alert.subject.as_deref(), alert.ground),
        (Some("plan"), Ground::Admin)
    );
    assert!(alert.token.is_none());
    assert_eq!(
        (warning.topic, warning.step, warning.send_at),
        (Topic::Expiry, Some(super::step("7d")), now())
    );
    assert_eq!(warning.token.as_ref(), Some(&token));
    assert_eq!(warning.evidence.as_deref(), Some("disabled at hr"));
    assert_eq!(warning.evidence_since, Some(days(-1)));
    assert_eq!(
        warning.issuer_dead.as_deref(),
        Some("550 5.1.1 no such user")
    );
    write!(store, tx => tx.resolve_finding(finding.id, now()));
    let content = read!(store, tx => tx.contents(&[id], 100)).remove(0);
    assert_eq!(content.rows[1].evidence, None);
}

#[rstest]
#[tokio::test]
async fn a_mailbox_is_dead_until_it_is_due_for_another_try(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    write!(store, tx => tx.bury_address(&address("Ada@Example.org"), "550 5.1.1", days(-40)));
    assert!(read!(store, tx => tx.dead_addresses(days(-30))).is_empty());
    write!(store, tx => tx.bury_address(&address("ada@example.org"), "550 5.1.2", days(-3)));
    assert_eq!(
        read!(store, tx => tx.dead_addresses(days(-30))),
        [("ada@example.org".to_owned(), "550 5.1.2".to_owned())]
    );
}

#[rstest]
#[tokio::test]
async fn the_notices_of_a_mail_come_in_pages_without_what_was_taken_out(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens: Vec<_> = (0..5).map(|nth| token(&nth.to_string())).collect();
    insert(&store, &tokens).await;
    let mut notices: Vec<_> = tokens
        .iter()
        .map(|token| warning(token, "7d", "ada@example.org", now()))
        .collect();
    plan(&store, &notices).await;
    gather(&store, now()).await;
    write!(store, tx => tx.cancel_notices(tokens[0].id, None, "the token is gone"));
    notices.remove(0);
    notices.sort_by_key(|notice| notice.id);
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    let (mut found, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let page = read!(store, tx => tx.notices_in(id, after, 2));
        let Some(last) = page.last() else { break };
        after = last.id;
        found.extend(page);
    }
    assert_eq!(found.len(), notices.len());
    for (found, notice) in found.iter().zip(&notices) {
        assert_eq!(
            (found.id, found.token_id, found.step),
            (notice.id, notice.token_id, notice.step)
        );
        assert_eq!(
            (found.generation, found.topic, found.send_at),
            (notice.generation, notice.topic, notice.send_at)
        );
    }
}

#[rstest]
#[tokio::test]
async fn what_may_have_arrived_never_revives(#[values(Db::Sqlite, Db::Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = one_mail(&store).await;
    let mine = holder(minutes(1));
    let id = claim(&store, mine, now()).await[0].id;
    record(&store, mine, id, Verdict::Doubtful(minutes(5))).await;
    let token = token("1");
    let renewed = Token {
        expiry: Expiry::At(days(97)),
        ..token.clone()
    };
    write!(store, tx => tx.update_token(&renewed, now()));
    let cancelled = write!(store, tx => tx.cancel_notices(token.id, Some(days(97)), "renewed"));
    assert_eq!(cancelled, 0, "it may have been taken");
    assert_eq!(settled(&store, minutes(5)).await, ["Some(7) suppressed"]);
    write!(store, tx => tx.cancel_notices(token.id, Some(days(7)), "and back"));
    assert_eq!(plan(&store, std::slice::from_ref(&notice)).await, 0);
    assert_eq!(
        fate(&store, &notice).await,
        "suppressed: the token has changed"
    );
}

#[rstest]
#[tokio::test]
async fn what_rides_along_leaves_a_mail_that_does_not_go(
    #[values(Db::Sqlite, Db::Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let occurrence = Occurrence {
        topic: Topic::Unreachable,
        generation: now(),
        step: None,
    };
    let to = Recipient {
        address: address("ops@example.org"),
        ground: Ground::Admin,
    };
    let rider = NewNotice::about_subject("ada@example.org", occurrence, &to, super::far());
    let warned = warning(&token, "7d", "ops@example.org", now());
    plan(&store, &[rider.clone(), warned.clone()]).await;
    assert_eq!(gather(&store, now()).await, 2);
    let id = claim(&store, holder(days(1)), now()).await[0].id;
    write!(store, tx => tx.release_riders(&[fresh_id(), id]));
    let rows = ledger(&store).await;
    let mail_of = |notice: &NewNotice| {
        let row = rows.iter().find(|row| row.id == notice.id).unwrap();
        row.mail_id
    };
    assert_eq!((mail_of(&rider), mail_of(&warned)), (None, Some(id)));
}
