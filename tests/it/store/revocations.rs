//! Revocations of tokens whose issuers lost access: announced, warned about, due, cancelled.

use lapsed::domain::{
    Basis, FindingKind, Identity, IdentityStatus, NewNotice, Occurrence, Recipient, Severity,
    Token, TokenId, Topic,
};
use lapsed::store::{DueLoss, FindingFilter, IdentityRow, MailRecord, NewFinding, Store, Verdict};
use rstest::rstest;
use uuid::Uuid;

use super::{
    address, days, fill_mails, fresh_id, holder, insert, minutes, now, plan, read, state_of, step,
    token, write,
};
use crate::db::Db;
use Db::{Postgres, Sqlite};

fn finding(token: &Token, kind: FindingKind) -> NewFinding {
    NewFinding {
        id: fresh_id(),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind,
        severity: Severity::High,
        since: days(-1),
        evidence: "disabled".into(),
        directory: None,
    }
}

/// Inserts tokens with one finding each; the second token is from another source.
async fn insert_outlived(store: &Store, count: usize) -> (Vec<Token>, Vec<NewFinding>) {
    let tokens: Vec<Token> = (0..count)
        .map(|nth| {
            let source = if nth == 1 { "other" } else { "exports" };
            let external_id = nth.to_string();
            Token {
                id: TokenId::new(source, &external_id),
                source: source.into(),
                ..token(&external_id)
            }
        })
        .collect();
    insert(store, &tokens).await;
    let findings: Vec<NewFinding> = tokens
        .iter()
        .map(|token| finding(token, FindingKind::SsoRevoked))
        .collect();
    write!(store, tx => tx.insert_findings(&findings));
    (tokens, findings)
}

async fn revoke_times(store: &Store) -> Vec<Option<chrono::DateTime<chrono::Utc>>> {
    let filter = FindingFilter {
        kind: None,
        all: true,
    };
    let mut rows = read!(store, tx => tx.list_findings(filter, None, now(), 100));
    rows.reverse();
    rows.iter().map(|row| row.revoke_at).collect()
}

#[rstest]
#[tokio::test]
async fn a_revocation_stays_until_the_finding_is_acknowledged_or_resolved(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let (_, findings) = insert_outlived(&store, 4).await;
    assert_eq!(revoke_times(&store).await, [None; 4]);
    let all: Vec<_> = findings
        .iter()
        .map(|finding| (finding.id, Some(days(3))))
        .collect();
    write!(store, tx => tx.set_revoke_at(&all, now()));
    assert_eq!(revoke_times(&store).await, [Some(days(3)); 4]);

    assert!(write!(store, tx => tx.acknowledge_finding(findings[0].id, minutes(10))));
    write!(store, tx => tx.resolve_findings(&[findings[1].id], now()));
    write!(store, tx => tx.resolve_findings(&[findings[2].id], now()));
    assert_eq!(
        revoke_times(&store).await,
        [None, None, None, Some(days(3))]
    );
    // A decision made before an acknowledgement is not written after it.
    write!(store, tx => tx.set_revoke_at(&all, minutes(9)));
    assert_eq!(
        revoke_times(&store).await,
        [None, None, None, Some(days(3))]
    );
    write!(store, tx => tx.set_revoke_at(&all, minutes(10)));
    assert_eq!(
        revoke_times(&store).await,
        [Some(days(3)), None, None, Some(days(3))]
    );
    write!(store, tx => tx.set_revoke_at(&[(findings[3].id, None)], now()));
    assert_eq!(
        revoke_times(&store).await,
        [Some(days(3)), None, None, None]
    );
}

#[rstest]
#[tokio::test]
async fn losses_come_by_source_in_pages_and_due_ones_in_order(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (tokens, findings) = insert_outlived(&store, 4).await;
    let unused = finding(&tokens[0], FindingKind::Unused);
    write!(store, tx => tx.insert_findings(std::slice::from_ref(&unused)));
    let exports = ["exports".to_owned()];
    let mut after = Uuid::nil();
    let mut found = Vec::new();
    loop {
        let page = read!(store, tx => tx.list_unresolved_losses(&exports, after, 2));
        let Some(last) = page.last() else { break };
        after = last.id;
        found.extend(page.into_iter().map(|loss| (loss.id, loss.token_id)));
    }
    let expected = [0, 2, 3].map(|nth: usize| (findings[nth].id, tokens[nth].id));
    assert_eq!(found, expected);
    assert!(read!(store, tx => tx.list_unresolved_losses(&[], Uuid::nil(), 9)).is_empty());

    let found = read!(store, tx => tx.find_loss(findings[1].id)).unwrap();
    assert_eq!(
        (found.state.as_str(), found.acknowledged_until),
        ("open", None)
    );
    assert!(
        read!(store, tx => tx.find_loss(unused.id)).is_none(),
        "another kind"
    );
    write!(store, tx => tx.acknowledge_finding(findings[1].id, minutes(5)));
    let found = read!(store, tx => tx.find_loss(findings[1].id)).unwrap();
    assert_eq!(found.acknowledged_until, Some(minutes(5)));

    let some = [
        (findings[3].id, Some(minutes(1))),
        (findings[0].id, Some(minutes(2))),
    ];
    write!(store, tx => tx.set_revoke_at(&some, now()));
    assert!(read!(store, tx => tx.find_due_losses(now())).is_empty());
    let due = |nth: usize| DueLoss {
        id: findings[nth].id,
        source: "exports".to_owned(),
        external_id: nth.to_string(),
    };
    assert_eq!(read!(store, tx => tx.find_due_losses(minutes(1))), [due(3)]);
    assert_eq!(
        read!(store, tx => tx.find_due_losses(minutes(2))),
        [due(0), due(3)]
    );
}

#[rstest]
#[tokio::test]
async fn revocations_are_cancelled_except_for_some_sources(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (_, findings) = insert_outlived(&store, 2).await;
    let names =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert!(!read!(store, tx => tx.has_revocations_except(&[])));
    let all: Vec<_> = findings
        .iter()
        .map(|finding| (finding.id, Some(days(3))))
        .collect();
    write!(store, tx => tx.set_revoke_at(&all, now()));
    let both = names(&["exports", "other"]);
    assert!(!read!(store, tx => tx.has_revocations_except(&both)));
    let exports = names(&["exports"]);
    assert!(read!(store, tx => tx.has_revocations_except(&exports)));
    write!(store, tx => tx.cancel_revocations_except(&exports));
    assert_eq!(revoke_times(&store).await, [Some(days(3)), None]);
    assert!(!read!(store, tx => tx.has_revocations_except(&exports)));
    write!(store, tx => tx.cancel_revocations_except(&[]));
    assert_eq!(revoke_times(&store).await, [None, None]);
}

fn warning(token: &Token, to: &str, end: i64) -> NewNotice {
    let occurrence = Occurrence {
        topic: Topic::SsoRevoked,
        generation: days(end).into(),
        step: Some(step("1d")),
    };
    let recipient = Recipient {
        address: address(to),
        basis: Basis::Admin,
    };
    NewNotice::for_token(token, occurrence, &recipient, now())
}

#[rstest]
#[tokio::test]
async fn a_warning_counts_once_sent_and_only_for_its_revocation(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let (tokens, _) = insert_outlived(&store, 2).await;
    let ids: Vec<TokenId> = tokens.iter().map(|token| token.id).collect();
    let boss = warning(&tokens[0], "boss@example.org", 3);
    // The notice about a new finding is not a warning.
    let opened = NewNotice {
        id: fresh_id(),
        step: None,
        ..boss.clone()
    };
    plan(&store, &[opened]).await;
    assert!(read!(store, tx => tx.load_revocation_warnings(&ids)).is_empty());
    plan(&store, std::slice::from_ref(&boss)).await;
    let dead = warning(&tokens[1], "dead@example.org", 3);
    write!(store, tx => tx.insert_failed_notice(&dead, "no recipient", now()));
    let mut found = read!(store, tx => tx.load_revocation_warnings(&ids));
    found.sort_by_key(|warnings| warnings.token_id != tokens[0].id);
    let states: Vec<_> = found
        .iter()
        .map(|warnings| (warnings.generation, warnings.sent_at, warnings.have_failed))
        .collect();
    assert_eq!(states, [(days(3), None, false), (days(3), None, true)]);

    fill_mails(&store, now()).await;
    let lease = holder(minutes(1));
    let mut tx = store.begin().await.unwrap();
    let mails = tx.claim_mails(lease, now(), days(1), 10).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(mails.len(), 1);
    assert_eq!(state_of(&store, &boss).await, "planned");
    assert_eq!(
        read!(store, tx => tx.load_revocation_warnings(&ids[..1]))[0].sent_at,
        None
    );
    let sent = [MailRecord {
        id: mails[0].id,
        verdict: Verdict::Sent,
        reason: None,
    }];
    assert_eq!(
        write!(store, tx => tx.record_mails(&sent, lease, minutes(2))),
        1
    );
    let found = read!(store, tx => tx.load_revocation_warnings(&ids[..1]));
    assert_eq!(found[0].sent_at, Some(minutes(2)));
}

#[rstest]
#[tokio::test]
async fn only_clear_losses_are_found_and_the_audit_is_filtered_by_actor(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let row = |directory: &str, status| IdentityRow {
        directory: directory.into(),
        identity: Identity {
            email: address("Ada@Example.org"),
            status,
            known_status: IdentityStatus::Disabled,
            reason: None,
            name: None,
            evidence: "disabled".into(),
            account_chosen: false,
            checked_by_id: false,
            since: None,
            observed_at: Some(now()),
            account_id: None,
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
        },
    };
    let rows = [
        row("a", IdentityStatus::Active),
        row("b", IdentityStatus::OutOfGroup),
        row("c", IdentityStatus::Unknown),
        row("d", IdentityStatus::Disabled),
        row("e", IdentityStatus::Deleted),
    ];
    write!(store, tx => tx.save_identities(&rows));
    let found = read!(store, tx => tx.find_lost_identities("ada@example.org"));
    let found: Vec<_> = found.iter().map(|row| row.directory.as_str()).collect();
    assert_eq!(found, ["b", "d", "e"]);
    assert!(read!(store, tx => tx.find_lost_identities("bob@example.org")).is_empty());

    for (nth, actor) in ["policy", "grace", "policy", "policy"]
        .into_iter()
        .enumerate()
    {
        let at = minutes(i64::try_from(nth).unwrap());
        let action = format!("{nth}");
        write!(store, tx => tx.insert_audit(fresh_id(), at, [actor, &action, "exports/1"], None));
    }
    let found = read!(store, tx => tx.list_audit_of_actor("policy", now()));
    let found: Vec<_> = found.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(found, ["2", "3"], "after the instant, in order");
}
