//! Listings and counts.

use lapsed::domain::{Expiry, FindingKind, NoticeState, Severity, Status, Step, Token, TokenId};
use lapsed::store::{MailRecord, NewFinding, NoticeFilter, TokenFilter, Verdict};
use rstest::rstest;

use super::{
    days, fill_mails, fresh_id, holder, insert, ledger, minutes, now, plan, read, token, warning,
    write,
};
use crate::db::Db;
use Db::{Postgres, Sqlite};

/// One token for each situation.
fn tokens() -> Vec<Token> {
    let with = |id: &str, change: fn(&mut Token)| {
        let mut token = token(id);
        change(&mut token);
        token
    };
    vec![
        token("active"),
        with("over", |token| token.expiry = Expiry::At(now())),
        with("marked", |token| {
            (token.expiry, token.status) = (Expiry::At(days(-1)), Status::Expired);
        }),
        with("marked too early", |token| token.status = Status::Expired),
        with("endless", |token| {
            (token.expiry, token.due_at) = (Expiry::Never, None);
        }),
        with("disabled", |token| token.status = Status::Disabled),
        with("revoked, over", |token| {
            (token.status, token.expiry) = (Status::Revoked, Expiry::At(days(-1)));
        }),
        with("gone", |token| token.status = Status::Gone),
        with("bob's", |token| {
            token.issuer = Some("Bob@Example.org".parse().unwrap());
        }),
        with("editor", |token| {
            (token.role, token.account) = (Some("editor".into()), Some("Acme".into()));
        }),
        with("late", |token| token.expiry = Expiry::At(days(30))),
        Token {
            id: TokenId::new("Vault", "1"),
            source: "Vault".into(),
            ..token("1")
        },
    ]
}

#[rstest]
#[case::all(
    TokenFilter::default(),
    "Vault/1 active bob's disabled editor endless gone late marked|marked too early|over|revoked, over"
)]
#[case::active(TokenFilter { status: Some(Status::Active), ..TokenFilter::default() },
    "Vault/1 active bob's editor endless late marked too early")]
#[case::expired(TokenFilter { status: Some(Status::Expired), ..TokenFilter::default() }, "marked over")]
#[case::disabled(TokenFilter { status: Some(Status::Disabled), ..TokenFilter::default() }, "disabled")]
#[case::revoked(TokenFilter { status: Some(Status::Revoked), ..TokenFilter::default() }, "revoked, over")]
#[case::gone(TokenFilter { status: Some(Status::Gone), ..TokenFilter::default() }, "gone")]
#[case::issuer(TokenFilter { owner_key: Some("bob@example.org".into()), ..TokenFilter::default() }, "bob's")]
#[case::role(TokenFilter { role: Some("editor".into()), ..TokenFilter::default() }, "editor")]
#[case::name(TokenFilter { name: Some("name of late".into()), ..TokenFilter::default() }, "late")]
#[case::account(TokenFilter { account: Some("aCME".into()), ..TokenFilter::default() }, "editor")]
#[case::expiry(TokenFilter { expiry: Some("never".into()), ..TokenFilter::default() }, "endless")]
#[case::finding(TokenFilter { finding: Some(FindingKind::Unused), ..TokenFilter::default() }, "")]
#[case::source(TokenFilter { source: Some("Vault".into()), ..TokenFilter::default() }, "Vault/1")]
#[case::soon(TokenFilter { expires_until: Some(days(7)), ..TokenFilter::default() },
    "Vault/1 active bob's editor marked too early")]
#[case::both(TokenFilter { role: Some("editor".into()), status: Some(Status::Expired), ..TokenFilter::default() }, "")]
#[tokio::test]
async fn tokens_are_listed_by_current_status_in_byte_order(
    #[values(Sqlite, Postgres)] db: Db,
    #[case] filter: TokenFilter,
    #[case] expected: &str,
) {
    let (store, _fresh) = db.store().await;
    insert(&store, &tokens()).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = read!(store, tx => tx.list_tokens(&filter, after.as_ref(), now(), 2));
        let Some(last) = page.last() else { break };
        after = Some(last.token.clone());
        found.extend(
            page.into_iter()
                .map(|view| match view.token.source.as_str() {
                    "Vault" => format!("Vault/{}", view.token.external_id),
                    _ => view.token.external_id,
                }),
        );
    }
    if filter.expires_until.is_some() {
        // These are in order of expiry.
        found.sort_unstable();
    }
    assert_eq!(found.join(" "), expected.replace('|', " "));
}

#[rstest]
#[tokio::test]
async fn a_token_has_the_kinds_of_its_open_findings(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let kinds = [
        FindingKind::Unused,
        FindingKind::NeverExpires,
        FindingKind::SsoRevoked,
    ];
    let findings = kinds.map(|kind| NewFinding {
        id: fresh_id(),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind,
        severity: Severity::Medium,
        since: now(),
        evidence: String::new(),
        directory: None,
    });
    let all = TokenFilter::default();
    assert!(
        read!(store, tx => tx.list_tokens(&all, None, now(), 10))[0]
            .findings
            .is_empty()
    );
    write!(store, tx => tx.insert_findings(&findings));
    write!(store, tx => tx.resolve_findings(&[findings[1].id], now()));
    let listed = read!(store, tx => tx.list_tokens(&all, None, now(), 10));
    assert_eq!(listed[0].token, token);
    assert_eq!(
        listed[0].findings,
        [FindingKind::SsoRevoked, FindingKind::Unused]
    );
    for (kind, count) in [(FindingKind::Unused, 1), (FindingKind::NeverExpires, 0)] {
        let of_kind = TokenFilter {
            finding: Some(kind),
            ..TokenFilter::default()
        };
        let listed = read!(store, tx => tx.list_tokens(&of_kind, None, now(), 10));
        assert_eq!(listed.len(), count, "{kind}");
    }
}

#[rstest]
#[tokio::test]
async fn notices_are_listed_by_recipient_state_and_token_in_pages(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens = ["1", "2", "3"].map(token);
    insert(&store, &tokens).await;
    for (nth, token) in (0..).zip(&tokens) {
        let notices =
            ["ada@example.org", "bob@example.org"].map(|to| warning(token, "7d", to, now()));
        write!(store, tx => tx.insert_notices(&notices, None, minutes(nth)));
    }
    write!(store, tx => tx.cancel_notices(tokens[2].id, None, "the token is gone"));
    fill_mails(&store, now()).await;
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 10));
    let sent: Vec<_> = mails
        .iter()
        .filter(|mail| mail.recipient.key() == "ada@example.org")
        .map(|mail| MailRecord {
            id: mail.id,
            verdict: Verdict::Sent,
            reason: None,
        })
        .collect();
    write!(store, tx => tx.record_mails(&sent, holder, now()));
    let all = ledger(&store).await;
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted_by_key(|row| std::cmp::Reverse((row.planned_at, row.id))));
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = read!(store, tx => tx.list_notices(&NoticeFilter::default(), after, 4));
        let Some(last) = page.last() else { break };
        after = Some((last.planned_at, last.id));
        paged.extend(page.into_iter().map(|row| row.id));
    }
    assert_eq!(paged, all.iter().map(|row| row.id).collect::<Vec<_>>());
    for (filter, count) in [
        (
            NoticeFilter {
                recipient_key: Some("ada@example.org".into()),
                ..NoticeFilter::default()
            },
            3,
        ),
        (
            NoticeFilter {
                state: Some(NoticeState::Sent),
                ..NoticeFilter::default()
            },
            2,
        ),
        (
            NoticeFilter {
                state: Some(NoticeState::Planned),
                ..NoticeFilter::default()
            },
            2,
        ),
        (
            NoticeFilter {
                state: Some(NoticeState::Cancelled),
                ..NoticeFilter::default()
            },
            2,
        ),
        (
            NoticeFilter {
                state: Some(NoticeState::Failed),
                ..NoticeFilter::default()
            },
            0,
        ),
        (
            NoticeFilter {
                token: Some(tokens[0].id),
                ..NoticeFilter::default()
            },
            2,
        ),
        (
            NoticeFilter {
                token: Some(tokens[0].id),
                state: Some(NoticeState::Sent),
                ..NoticeFilter::default()
            },
            1,
        ),
        (
            NoticeFilter {
                since: Some(days(400)),
                ..NoticeFilter::default()
            },
            0,
        ),
    ] {
        assert_eq!(
            read!(store, tx => tx.list_notices(&filter, None, 10)).len(),
            count,
            "{filter:?}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn expiring_tokens_come_by_expiry_in_pages(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut expected: Vec<_> = tokens()
        .into_iter()
        .filter(|token| {
            token
                .expiry
                .at()
                .is_some_and(|at| at > now() && at <= days(30))
        })
        .filter(|token| matches!(token.status, Status::Active | Status::Expired))
        .collect();
    expected.sort_by_key(|token| (token.expiry.at(), token.id));
    assert_eq!(expected.len(), 6);
    insert(&store, &tokens()).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = read!(store, tx => tx.list_expiring_tokens(now(), days(30), after.as_ref(), 2));
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        found.extend(page);
    }
    assert_eq!(found, expected);
}

#[rstest]
#[tokio::test]
async fn counts_show_the_current_state_and_what_is_owed(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let empty = read!(store, tx => tx.load_counts(now()));
    assert!(empty.tokens.is_empty() && empty.oldest_due_at.is_none());
    insert(&store, &tokens()).await;
    let token = token("active");
    let held = fresh_id();
    write!(store, tx => tx.open_plan(held, minutes(-30)));
    let late = warning(&token, "7d", "ada@example.org", days(-3));
    let future = warning(&token, "1d", "ada@example.org", days(6));
    write!(store, tx => tx.insert_notices(&[late], Some(held), minutes(-30)));
    write!(store, tx => tx.close_plan(held, 1, true));
    plan(&store, &[future]).await;
    let counts = read!(store, tx => tx.load_counts(now()));
    let row = |state: &str, source: &str, count| (state.to_owned(), source.to_owned(), count);
    let expected = [
        row("active", "Vault", 1),
        row("active", "exports", 6),
        row("disabled", "exports", 1),
        row("expired", "exports", 2),
        row("gone", "exports", 1),
        row("revoked", "exports", 1),
    ];
    assert_eq!(counts.tokens, expected);
    let week = Some(7 * 86400);
    let planned = |step, count| ("planned".to_owned(), step, count);
    assert_eq!(counts.notices, [planned(Some(86400), 1), planned(week, 1)]);
    // A held notice is owed, too; it has waited since it was planned, not since `send_at`.
    assert_eq!(counts.oldest_due_at, Some(minutes(-30)));
    assert_eq!((counts.plans_held, counts.directories_held), (1, 0));
    write!(store, tx => tx.settle_held_plans(true));
    let counts = read!(store, tx => tx.load_counts(now()));
    assert_eq!(
        counts.oldest_due_at, None,
        "a notice that is not due does not count"
    );
    assert_eq!(counts.plans_held, 0);
    let waiting = warning(
        &token,
        Step::ZERO.to_string().as_str(),
        "ada@example.org",
        minutes(-5),
    );
    plan(&store, std::slice::from_ref(&waiting)).await;
    fill_mails(&store, now()).await;
    assert_eq!(
        read!(store, tx => tx.load_counts(now())).oldest_due_at,
        Some(now())
    );
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 10));
    let sent = [MailRecord {
        id: mails[0].id,
        verdict: Verdict::Sent,
        reason: None,
    }];
    write!(store, tx => tx.record_mails(&sent, holder, now()));
    assert_eq!(
        read!(store, tx => tx.load_counts(now())).oldest_due_at,
        None
    );
}

#[rstest]
#[tokio::test]
async fn all_notices_about_some_tokens_are_listed_the_earliest_first(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let tokens = ["1", "2", "3"].map(token);
    insert(&store, &tokens).await;
    let notices = [
        warning(&tokens[0], "1d", "ada@example.org", days(6)),
        warning(&tokens[1], "7d", "bob@example.org", now()),
        warning(&tokens[1], "7d", "ada@example.org", now()),
        warning(&tokens[2], "7d", "ada@example.org", now()),
    ];
    plan(&store, &notices).await;
    let ids = [tokens[1].id, tokens[0].id];
    let found = read!(store, tx => tx.list_notices_of_tokens(&ids));
    let found: Vec<_> = found.into_iter().map(|row| row.id).collect();
    assert_eq!(found, [notices[2].id, notices[1].id, notices[0].id]);
    assert!(read!(store, tx => tx.list_notices_of_tokens(&[])).is_empty());
}
