//! Notices before they are sent, open mails and plans.

use lapsed::domain::{Basis, NewNotice, Occurrence, Recipient, Token, Topic};
use lapsed::store::{MailRecord, Verdict};
use rstest::rstest;
use uuid::Uuid;

use super::{
    address, days, fill_mails, fresh_id, holder, insert, ledger, max_instant, minutes, now, plan,
    read, state_of, token, warning, write,
};
use crate::db::Db;
use Db::{Postgres, Sqlite};

#[rstest]
#[tokio::test]
async fn a_notice_is_planned_once_regardless_of_address_spelling(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let notices: Vec<_> = ["7d", "1d"]
        .map(|step| warning(&token, step, "ada@example.org", now()))
        .to_vec();
    assert_eq!(plan(&store, &notices).await, 2);
    assert_eq!(plan(&store, &notices).await, 0);
    assert_eq!(
        plan(&store, &[warning(&token, "7d", "ADA@example.ORG", days(1))]).await,
        0
    );
    let rows = ledger(&store).await;
    assert_eq!(rows.len(), 2);
    let row = rows.iter().find(|row| row.step == Some(7 * 86400)).unwrap();
    assert_eq!(
        (row.token_id, row.token_name.as_deref()),
        (Some(token.id), Some("name of 1"))
    );
    assert_eq!(
        (row.topic.as_str(), row.state.as_str()),
        ("expiry", "planned")
    );
    let bases = fresh.texts("SELECT DISTINCT basis FROM notice").await;
    assert_eq!(bases, ["issuer"]);
    assert_eq!(
        (row.send_at, row.planned_at, row.generation),
        (now(), now(), days(7))
    );
    assert_eq!(
        (row.attempts, row.sent_at, row.mail_id, row.reason.clone()),
        (0, None, None, None)
    );
}

#[rstest]
#[tokio::test]
async fn more_notices_than_fit_one_statement_are_all_planned(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    let notices: Vec<_> = (0..2100)
        .map(|nth| warning(&token, "7d", &format!("p{nth}@example.org"), now()))
        .collect();
    assert_eq!(plan(&store, &notices).await, 2100);
    assert_eq!(fill_mails(&store, now()).await, 1000);
    assert_eq!(fill_mails(&store, now()).await, 1000);
    assert_eq!(fill_mails(&store, now()).await, 100);
    assert_eq!(fill_mails(&store, now()).await, 0);
}

#[rstest]
#[tokio::test]
async fn a_cancelled_notice_is_owed_again_when_the_expiry_returns(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let (a, b) = (
        warning(&token, "7d", "ada@example.org", now()),
        warning(&token, "1d", "ada@example.org", days(6)),
    );
    plan(&store, &[a.clone(), b.clone()]).await;
    assert_eq!(fill_mails(&store, now()).await, 1);
    assert_eq!(
        write!(store, tx => tx.cancel_notices(token.id, Some(days(97).into()), "the expiry changed")),
        2
    );
    assert_eq!(state_of(&store, &a).await, "cancelled: the expiry changed");
    assert_eq!(
        write!(store, tx => tx.cancel_notices(token.id, Some(days(7).into()), "the expiry changed")),
        0
    );
    assert_eq!(state_of(&store, &a).await, "planned");
    assert_eq!(state_of(&store, &b).await, "planned");
    // It has left its former mail, and is put into one again.
    assert_eq!(fill_mails(&store, now()).await, 1);
}

#[rstest]
#[tokio::test]
async fn planning_revives_only_cancelled_notices(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let to = [
        "cancelled@a.example",
        "suppressed@a.example",
        "sent@a.example",
        "failed@a.example",
    ];
    let notices = to.map(|to| warning(&token, "7d", to, now()));
    let [cancelled, suppressed, sent, failed] = &notices;
    plan(&store, &[sent.clone(), failed.clone()]).await;
    fill_mails(&store, now()).await;
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 10));
    let records: Vec<_> = mails
        .iter()
        .map(|mail| MailRecord {
            id: mail.id,
            verdict: if mail.recipient == sent.recipient {
                Verdict::Sent
            } else {
                Verdict::Failed
            },
            reason: None,
        })
        .collect();
    assert_eq!(
        write!(store, tx => tx.record_mails(&records, holder, now())),
        2
    );
    plan(&store, &[cancelled.clone(), suppressed.clone()]).await;
    write!(store, tx => tx.suppress_notices(token.id, &suppressed.recipient, "the issuer lost access"));
    assert_eq!(
        write!(store, tx => tx.cancel_notices(token.id, None, "the token is gone")),
        1
    );
    let states = [
        "cancelled: the token is gone",
        "suppressed: the issuer lost access",
        "sent",
        "failed",
    ];
    for (notice, state) in notices.iter().zip(states) {
        assert_eq!(state_of(&store, notice).await, state);
    }
    let rescheduled = notices.clone().map(|notice| NewNotice {
        send_at: minutes(5),
        ..notice
    });
    assert_eq!(plan(&store, &rescheduled).await, 1);
    let states = [
        "planned",
        "suppressed: the issuer lost access",
        "sent",
        "failed",
    ];
    for (notice, state) in notices.iter().zip(states) {
        assert_eq!(state_of(&store, notice).await, state);
    }
    assert_eq!(
        fill_mails(&store, minutes(4)).await,
        0,
        "it is due at its new time"
    );
    assert_eq!(fill_mails(&store, minutes(5)).await, 1);
}

#[rstest]
#[tokio::test]
async fn a_notice_whose_mail_is_being_sent_is_not_cancelled(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let notice = warning(&token, "7d", "ada@example.org", now());
    plan(&store, std::slice::from_ref(&notice)).await;
    fill_mails(&store, now()).await;
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 10));
    let sending = [MailRecord {
        id: mails[0].id,
        verdict: Verdict::Sending,
        reason: None,
    }];
    write!(store, tx => tx.record_mails(&sending, holder, now()));
    assert_eq!(
        write!(store, tx => tx.cancel_notices(token.id, None, "the token is gone")),
        0
    );
    write!(store, tx => tx.suppress_notices(token.id, &notice.recipient, "no"));
    assert_eq!(state_of(&store, &notice).await, "sending");
    // Once deferred, it can be cancelled.
    let retry = [MailRecord {
        id: mails[0].id,
        verdict: Verdict::Retry(minutes(5)),
        reason: Some("451".into()),
    }];
    write!(store, tx => tx.record_mails(&retry, holder, now()));
    assert_eq!(state_of(&store, &notice).await, "planned: 451");
    assert_eq!(
        write!(store, tx => tx.cancel_notices(token.id, None, "the token is gone")),
        1
    );
}

#[rstest]
#[tokio::test]
async fn only_the_named_topic_is_cancelled(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
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
    let finding = NewNotice::for_token(&token, occurrence, &admin, now());
    let expiry = warning(&token, "7d", "ops@example.org", now());
    plan(&store, &[finding.clone(), expiry.clone()]).await;
    write!(store, tx => tx.cancel_notices(token.id, None, "the token is gone"));
    assert_eq!(state_of(&store, &finding).await, "planned");
    write!(store, tx => tx.cancel_notices_of_topic(token.id, Topic::SsoRevoked, "the finding is resolved"));
    let expected = "cancelled: the finding is resolved";
    assert_eq!(state_of(&store, &finding).await, expected);
    let expected = "cancelled: the token is gone";
    assert_eq!(state_of(&store, &expiry).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_notice_without_recipient_is_recorded_as_failed_once(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let notice = warning(&token("1"), "7d", "none@lapsed.invalid", now());
    assert!(write!(store, tx => tx.insert_failed_notice(&notice, "no recipient", now())));
    assert!(!write!(store, tx => tx.insert_failed_notice(&notice, "no recipient", now())));
    assert_eq!(state_of(&store, &notice).await, "failed: no recipient");
    assert_eq!(fill_mails(&store, days(1)).await, 0);
}

#[rstest]
#[tokio::test]
async fn all_due_notices_to_one_person_go_into_one_mail(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens = ["1", "2", "3", "4"].map(token);
    insert(&store, &tokens).await;
    let notices = [
        warning(&tokens[0], "7d", "ada@example.org", now()),
        warning(&tokens[1], "7d", "Ada@Example.ORG", minutes(60)),
        warning(&tokens[2], "7d", "ada@example.org", minutes(61)),
        warning(&tokens[3], "7d", "ada@example.org", max_instant()),
        warning(&tokens[0], "7d", "bob@example.org", minutes(30)),
        warning(&tokens[3], "7d", "bob@example.org", max_instant()),
    ];
    plan(&store, &notices).await;
    let due = write!(store, tx => tx.find_due_recipients(now(), 10));
    assert_eq!(due, [address("ada@example.org")]);
    let mut tx = store.begin().await.unwrap();
    let first = tx
        .open_mails(&[(fresh_id(), due[0].clone())], None, now())
        .await
        .unwrap();
    let open = tx
        .open_mails(&[(fresh_id(), address("ADA@example.org"))], None, now())
        .await
        .unwrap();
    assert_eq!(
        open[0].id, first[0].id,
        "the same person has only one open mail"
    );
    assert_eq!(tx.fill_mails(&open, minutes(60)).await.unwrap(), 3);
    assert_eq!(tx.fill_mails(&open, minutes(60)).await.unwrap(), 0);
    tx.commit().await.unwrap();
    let rows = ledger(&store).await;
    let mail_of = |notice: &NewNotice| rows.iter().find(|row| row.id == notice.id).unwrap().mail_id;
    assert!(mail_of(&notices[0]).is_some());
    assert_eq!(mail_of(&notices[0]), mail_of(&notices[1]));
    assert_eq!(mail_of(&notices[0]), mail_of(&notices[3]));
    for later in [2, 4, 5] {
        assert_eq!(mail_of(&notices[later]), None, "{later}");
    }
}

#[rstest]
#[tokio::test]
async fn a_claimed_mail_accepts_no_more_notices(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens = ["1", "2"].map(token);
    insert(&store, &tokens).await;
    plan(
        &store,
        &[warning(&tokens[0], "7d", "ada@example.org", now())],
    )
    .await;
    fill_mails(&store, now()).await;
    let holder = holder(minutes(1));
    let first = write!(store, tx => tx.claim_mails(holder, now(), days(1), 10));
    plan(
        &store,
        &[warning(&tokens[1], "7d", "ada@example.org", now())],
    )
    .await;
    let fresh = write!(store, tx => tx.open_mails(&[(fresh_id(), address("ada@example.org"))], None, now()));
    assert_ne!(fresh[0].id, first[0].id, "a second mail is opened");
    assert_eq!(fill_mails(&store, now()).await, 1);
    let returned = [MailRecord {
        id: first[0].id,
        verdict: Verdict::Returned,
        reason: None,
    }];
    write!(store, tx => tx.record_mails(&returned, holder, now()));
    assert_eq!(
        read!(store, tx => tx.load_mail_notices(first[0].id, Uuid::nil(), 10)).len(),
        1
    );
    assert_eq!(
        write!(store, tx => tx.claim_mails(holder, now(), days(1), 10)).len(),
        2
    );
}

/// While one process puts notices into an open mail, another must not claim that mail and send it
/// without them: they would count as sent.
#[tokio::test]
async fn a_mail_that_is_being_filled_is_not_claimed() {
    let (store, _fresh) = Db::Postgres.store().await;
    let tokens = ["1", "2"].map(token);
    insert(&store, &tokens).await;
    plan(
        &store,
        &[warning(&tokens[0], "7d", "ada@example.org", now())],
    )
    .await;
    fill_mails(&store, now()).await;
    plan(
        &store,
        &[warning(&tokens[1], "7d", "ada@example.org", now())],
    )
    .await;
    let mut filling = store.begin().await.unwrap();
    let open = filling
        .open_mails(&[(fresh_id(), address("ada@example.org"))], None, now())
        .await
        .unwrap();
    assert_eq!(filling.fill_mails(&open, now()).await.unwrap(), 1);
    let holder = holder(minutes(1));
    assert!(write!(store, tx => tx.claim_mails(holder, now(), days(1), 10)).is_empty());
    filling.commit().await.unwrap();
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 10));
    assert_eq!(
        read!(store, tx => tx.load_mail_notices(mails[0].id, Uuid::nil(), 10)).len(),
        2
    );
}

#[rstest]
#[tokio::test]
async fn an_open_plan_is_reused_until_it_is_closed(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert_eq!(read!(store, tx => tx.find_unfinished_plan()), None);
    let (first, second) = (fresh_id(), fresh_id());
    assert_eq!(write!(store, tx => tx.open_plan(first, now())), first);
    assert_eq!(write!(store, tx => tx.open_plan(second, now())), first);
    assert_eq!(read!(store, tx => tx.find_unfinished_plan()), Some(first));
    write!(store, tx => tx.close_plan(first, 3, false));
    assert_eq!(read!(store, tx => tx.find_unfinished_plan()), None);
    assert_eq!(write!(store, tx => tx.open_plan(second, now())), second);
}

#[rstest]
#[case::released(false, "planned", 2)]
#[case::discarded(true, "suppressed: discarded by an operator", 0)]
#[tokio::test]
async fn a_held_plan_waits_until_an_operator_settles_it(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] discard: bool,
    #[case] state: &str,
    #[case] filled: u64,
) {
    let (store, _fresh) = db.store().await;
    let tokens = ["1", "2", "3"].map(token);
    insert(&store, &tokens).await;
    let held = fresh_id();
    write!(store, tx => tx.open_plan(held, now()));
    let notices = [
        warning(&tokens[0], "7d", "ada@example.org", now()),
        warning(&tokens[1], "7d", "ADA@example.org", now()),
        warning(&tokens[0], "7d", "bob@example.org", days(1)),
    ];
    assert_eq!(
        write!(store, tx => tx.insert_notices(&notices, Some(held), now())),
        3
    );
    let other = warning(&tokens[2], "7d", "eve@example.org", now());
    plan(&store, std::slice::from_ref(&other)).await;
    assert_eq!(read!(store, tx => tx.count_planned_recipients(held)), 2);
    write!(store, tx => tx.close_plan(held, 2, true));
    assert_eq!(read!(store, tx => tx.list_held_plans()), [(held, now(), 2)]);
    assert_eq!(state_of(&store, &notices[0]).await, "planned: held");
    assert_eq!(
        fill_mails(&store, now()).await,
        1,
        "other notices are not held"
    );
    assert_eq!(write!(store, tx => tx.settle_held_plans(discard)), 3);
    assert!(read!(store, tx => tx.list_held_plans()).is_empty());
    assert_eq!(state_of(&store, &notices[0]).await, state);
    assert_eq!(fill_mails(&store, now()).await, filled);
    assert_eq!(write!(store, tx => tx.settle_held_plans(discard)), 0);
    // A discarded notice stays discarded when it is planned again.
    assert_eq!(plan(&store, &notices).await, 0);
}

#[rstest]
#[tokio::test]
async fn a_renewal_cancels_held_notices(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let held = fresh_id();
    write!(store, tx => tx.open_plan(held, now()));
    let notice = warning(&token, "7d", "ada@example.org", now());
    write!(store, tx => tx.insert_notices(std::slice::from_ref(&notice), Some(held), now()));
    write!(store, tx => tx.close_plan(held, 1, true));
    assert_eq!(
        write!(store, tx => tx.cancel_notices(token.id, Some(days(97).into()), "the expiry changed")),
        1
    );
    assert_eq!(write!(store, tx => tx.settle_held_plans(false)), 0);
    let expected = "cancelled: the expiry changed";
    assert_eq!(state_of(&store, &notice).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_new_secret_with_the_same_expiry_has_notices_of_its_own(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let secret = |secret_version| Token {
        secret_version,
        ..token("1")
    };
    let (first, second) = (secret(1), secret(2));
    insert(&store, std::slice::from_ref(&first)).await;
    let [old, new] = [&first, &second].map(|token| warning(token, "7d", "ada@example.org", now()));
    assert_eq!(plan(&store, &[old.clone(), new.clone()]).await, 2);
    let cancel = async |current: &Token| write!(store, tx => tx.cancel_notices(first.id, current.generation(), "a new secret"));
    assert_eq!(cancel(&second).await, 1);
    assert_eq!(state_of(&store, &old).await, "cancelled: a new secret");
    assert_eq!(state_of(&store, &new).await, "planned");
    assert_eq!(cancel(&first).await, 1, "and back");
    assert_eq!(state_of(&store, &old).await, "planned");
    assert_eq!(state_of(&store, &new).await, "cancelled: a new secret");
    let rows = ledger(&store).await;
    let row = rows.iter().find(|row| row.id == new.id).unwrap();
    assert_eq!((row.generation, row.secret_version), (days(7), 2));
    // A notice in a mail that is about to be sent is compared, too.
    assert_eq!(fill_mails(&store, now()).await, 1);
    write!(store, tx => tx.update_token(&second));
    let mails = write!(store, tx => tx.claim_mails(holder(minutes(1)), now(), days(1), 10));
    let ids: Vec<_> = mails.iter().map(|mail| mail.id).collect();
    write!(store, tx => tx.settle_claimed(&ids, now()));
    let expected = "cancelled: the token has changed";
    assert_eq!(state_of(&store, &old).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_notice_is_held_by_its_plan_and_not_by_its_reason(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let [held, other] = ["ada@example.org", "bob@example.org"]
        .map(|recipient| warning(&token, "7d", recipient, now()));
    plan(&store, std::slice::from_ref(&other)).await;
    let mut tx = store.begin().await.unwrap();
    let plan_id = tx.open_plan(fresh_id(), now()).await.unwrap();
    let notices = std::slice::from_ref(&held);
    tx.insert_notices(notices, Some(plan_id), now())
        .await
        .unwrap();
    tx.close_plan(plan_id, 1, true).await.unwrap();
    tx.commit().await.unwrap();
    let named = "UPDATE notice SET reason = CASE WHEN held THEN 'waits' ELSE 'held' END";
    fresh.execute(named).await.unwrap();
    let held_ids = async || {
        let rows = ledger(&store).await.into_iter();
        rows.filter(|row| row.held)
            .map(|row| row.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(held_ids().await, [held.id]);
    assert_eq!(state_of(&store, &held).await, "planned: held");
    assert_eq!(fill_mails(&store, now()).await, 1, "only the other one");
    // A cancelled notice is not held any more, nor when it is planned again.
    write!(store, tx => tx.cancel_notices(token.id, None, "the token is gone"));
    assert!(held_ids().await.is_empty());
    write!(store, tx => tx.cancel_notices(token.id, token.generation(), "it is back"));
    assert_eq!(state_of(&store, &held).await, "planned");
    assert_eq!(write!(store, tx => tx.settle_held_plans(true)), 0);
}
