//! What a listing changes.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{address, at, only_id, policy, step, token};
use crate::domain::diff::{NoticeEffect, Pair, Update, new_token, pair_up, update, update_missing};
use crate::domain::{
    Cell, Expiry, ExpiryOrigin, ListedToken, MergeRules, Status, Step, Token, column,
};

fn now() -> DateTime<Utc> {
    at("2026-11-22T00:00:00Z")
}

/// The token after a sweep that planned its step of seven days.
fn known() -> Token {
    Token {
        planned_step: Some(step("7d")),
        due_at: Some(at("2026-11-27T09:00:00Z")),
        ..token()
    }
}

fn expiring(text: &str) -> ListedToken {
    ListedToken {
        expiry: Cell::Value(Expiry::At(at(text))),
        ..only_id()
    }
}

fn with_status(status: Status) -> ListedToken {
    ListedToken {
        status: Cell::Value(status),
        ..only_id()
    }
}

fn updated(known: &Token, listed: ListedToken) -> Update {
    update(known, listed, MergeRules::from(&policy()), now()).unwrap()
}

/// A listing with these owners in order.
fn owned_by(owners: &[&str]) -> ListedToken {
    let mut owners = owners.iter().map(|owner| address(owner));
    ListedToken {
        issuer: owners.next().into(),
        co_owners: owners.collect(),
        issuer_name: Cell::Value("First".to_owned()),
        ..only_id()
    }
}

#[test]
fn the_known_issuer_stays_while_among_the_owners() {
    let [ada, bob, eve] = ["ada@example.org", "bob@example.org", "eve@example.org"];
    let policy = policy();
    let rules = MergeRules::from(&policy);
    let new = new_token("exports", owned_by(&[bob, eve, ada, bob]), rules, now());
    assert_eq!(new.issuer, Some(address(bob)), "the first");
    assert_eq!(new.co_owners, [address(ada), address(eve)]);
    let known = Token {
        issuer_name: Some("Ada".to_owned()),
        ..known()
    };
    let Update {
        token,
        has_new_co_owners,
        needs_judging,
        ..
    } = updated(&known, owned_by(&[bob, "ADA@example.org", eve]));
    assert_eq!(token.issuer, Some(address(ada)));
    assert_eq!(token.co_owners, [address(bob), address(eve)]);
    assert_eq!(
        token.issuer_name.as_deref(),
        Some("Ada"),
        "the listed one is Bob's"
    );
    assert!(has_new_co_owners && needs_judging);
    let same = owned_by(&[eve, bob, ada]);
    assert_eq!(update(&token, same, rules, now()), None, "in another order");
    assert_eq!(
        update(&token, only_id(), rules, now()),
        None,
        "without the column"
    );

    let left = updated(&token, owned_by(&[eve, bob]));
    assert_eq!(left.token.issuer, Some(address(eve)));
    assert_eq!(left.token.co_owners, [address(bob)]);
    assert_eq!(left.token.issuer_name.as_deref(), Some("First"));
    let none = updated(&token, owned_by(&[]));
    assert_eq!((none.token.issuer, none.token.co_owners), (None, vec![]));
}

#[test]
fn losses_are_judged_again_when_the_owners_can_be_read_or_not() {
    let mut listed = only_id();
    let reason = "\"x\" is not a mail address".to_owned();
    listed.unreadable.insert("issuer_email".to_owned(), reason);
    let Update {
        token,
        needs_judging,
        ..
    } = updated(&known(), listed);
    assert!(needs_judging);
    assert_eq!(token.issuer, known().issuer);
    assert!(updated(&token, only_id()).needs_judging);
}

#[test]
fn a_new_token_is_due_when_the_policy_says() {
    let listed = ListedToken {
        issuer: Cell::Value(address("ada@example.org")),
        created_at: Cell::Value(at("2026-08-30T12:00:00Z")),
        ..expiring("2026-11-28T12:00:00Z")
    };
    let token = new_token("exports", listed, MergeRules::from(&policy()), now());
    assert_eq!((token.status, token.planned_step), (Status::Active, None));
    assert_eq!(token.due_at, Some(at("2026-11-21T09:00:00Z")));
    assert_eq!(
        (token.first_seen_at, token.life_from),
        (now(), token.created_at)
    );
    assert_eq!(token.expiry_origin, Some(ExpiryOrigin::Source));
    assert!(!token.reports_use);
}

#[test]
fn a_token_first_seen_expired_is_marked_and_never_due() {
    for expires_at in ["2026-11-22T00:00:00Z", "2020-01-01T00:00:00Z"] {
        let token = new_token(
            "exports",
            expiring(expires_at),
            MergeRules::from(&policy()),
            now(),
        );
        assert_eq!(
            (token.status, token.planned_step),
            (Status::Expired, Some(Step::ZERO))
        );
        assert_eq!(token.due_at, None);
    }
}

#[test]
fn missing_columns_leave_all_unknown_and_an_empty_cell_clears() {
    let token = new_token("exports", only_id(), MergeRules::from(&policy()), now());
    assert_eq!((token.expiry, token.expiry_origin), (Expiry::Unknown, None));
    assert_eq!((token.life_from, token.due_at), (None, None));
    let cleared = updated(
        &known(),
        ListedToken {
            account: Cell::Empty,
            ..only_id()
        },
    );
    assert_eq!(cleared.token.account, None);
    assert_eq!(cleared.notices, NoticeEffect::Keep);
    assert!(!cleared.needs_judging);
}

#[test]
fn an_unchanged_listing_changes_nothing() {
    let same = ListedToken {
        name: Cell::Value("ci".into()),
        issuer: Cell::Value(address("ADA@example.org")),
        issuer_name: Cell::Empty,
        account: Cell::Value("acme".into()),
        created_at: Cell::Value(at("2026-08-30T12:00:00Z")),
        status: Cell::Value(Status::Active),
        ..expiring("2026-11-28T12:00:00Z")
    };
    assert_eq!(
        update(&known(), same.clone(), MergeRules::from(&policy()), now()),
        None
    );
    assert_eq!(
        update(&known(), only_id(), MergeRules::from(&policy()), now()),
        None
    );
    // Sources round the expiry.
    for rounded in ["2026-11-28T12:00:59Z", "2026-11-28T11:59:01Z"] {
        assert_eq!(
            update(
                &known(),
                expiring(rounded),
                MergeRules::from(&policy()),
                now()
            ),
            None,
            "{rounded}"
        );
    }
    // Our own mark is not a change.
    let marked = Token {
        status: Status::Expired,
        due_at: None,
        planned_step: Some(step("1d")),
        ..token()
    };
    assert_eq!(
        update(
            &marked,
            same,
            MergeRules::from(&policy()),
            at("2026-12-01T00:00:00Z")
        ),
        None
    );
}

#[test]
fn a_changed_expiry_is_a_new_generation_and_a_new_life() {
    for moved in [
        "2026-11-28T12:01:00Z",
        "2026-11-28T11:59:00Z",
        "2027-02-28T12:00:00Z",
    ] {
        let update = updated(&known(), expiring(moved));
        assert_eq!(update.token.expiry, Expiry::At(at(moved)));
        assert_eq!(
            (update.token.planned_step, update.token.life_from),
            (None, Some(now()))
        );
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
        assert!(update.needs_judging && update.token.due_at.is_some());
    }
    for expiry in [Expiry::Never, Expiry::Unknown] {
        let update = updated(
            &known(),
            ListedToken {
                expiry: Cell::Value(expiry),
                ..only_id()
            },
        );
        assert_eq!((update.token.expiry, update.token.due_at), (expiry, None));
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
    }
}

#[test]
fn a_plain_date_stays_with_its_expiry() {
    let on_day = |text| ListedToken {
        expiry_day: Some("2026-12-05".parse().unwrap()),
        ..expiring(text)
    };
    let listed = on_day("2026-12-05T00:00:00Z");
    let day = listed.expiry_day;
    let token = new_token("exports", listed, MergeRules::from(&policy()), now());
    assert_eq!(token.expires().unwrap().day, day);
    let unreadable = ListedToken {
        unreadable: [(column::EXPIRES_AT.to_owned(), String::new())].into(),
        ..only_id()
    };
    assert_eq!(updated(&token, unreadable).token.expiry_day, day);
    // Its source reads the date in another time zone: this is no renewal.
    let moved = updated(&token, on_day("2026-12-05T08:00:00Z"));
    assert_eq!(moved.notices, NoticeEffect::NewGeneration);
    let Token {
        expiry_day,
        life_from,
        ..
    } = moved.token;
    assert_eq!((expiry_day, life_from), (day, token.life_from));
    let instant = updated(&token, expiring("2026-12-05T00:00:00Z"));
    assert_eq!(
        (instant.token.expiry_day, instant.notices),
        (None, NoticeEffect::Keep)
    );
}

#[test]
fn an_expiry_of_our_policy_does_not_start_a_new_life() {
    let policy = policy();
    let endless = ListedToken {
        expiry: Cell::Value(Expiry::Never),
        ..only_id()
    };
    let with_ttl = |known: &Token, days| {
        let rules = MergeRules {
            policy_ttl: Some(TimeDelta::days(days)),
            ..MergeRules::from(&policy)
        };
        update(known, endless.clone(), rules, now()).unwrap()
    };
    let created_at = known().created_at;
    let mut known = Token {
        expiry: Expiry::Never,
        planned_step: None,
        due_at: None,
        ..known()
    };
    // Six days from now, five days from now.
    for days in [90, 89] {
        let update = with_ttl(&known, days);
        known = update.token;
        assert_eq!(known.expiry_origin, Some(ExpiryOrigin::Policy));
        assert_eq!((known.life_from, known.planned_step), (created_at, None));
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
        assert!(
            policy
                .open_steps(&known, known.planned_step)
                .any(|open| open == step("7d"))
        );
    }
    let unknown = Token {
        created_at: None,
        life_from: None,
        ..known.clone()
    };
    assert_eq!(with_ttl(&unknown, 120).token.life_from, None);
    // An expiry of the source starts a new life when it is seen.
    let stated = updated(&known, expiring("2027-02-28T12:00:00Z")).token;
    assert_eq!(stated.life_from, Some(now()));
}

/// What a listing that was requested at `asked_at` changes about a token that was revoked at noon.
fn update_of_revoked(listed: ListedToken, asked_at: &str) -> Option<Update> {
    let revoked = Token {
        status: Status::Revoked,
        revoked_at: Some(at("2026-11-21T12:00:00Z")),
        due_at: None,
        ..known()
    };
    let policy = policy();
    let rules = MergeRules {
        asked_at: Some(at(asked_at)),
        ..MergeRules::from(&policy)
    };
    update(&revoked, listed, rules, at("2026-11-21T12:00:30Z"))
}

#[test]
fn a_listing_requested_before_the_revocation_is_ignored() {
    let active = ListedToken {
        status: Cell::Value(Status::Active),
        ..expiring("2027-02-28T12:00:00Z")
    };
    for asked_at in ["2026-11-21T11:59:59Z", "2026-11-21T12:00:00Z"] {
        assert_eq!(update_of_revoked(active.clone(), asked_at), None);
        assert_eq!(
            update_of_revoked(expiring("2027-02-28T12:00:00Z"), asked_at),
            None
        );
    }
    let later = update_of_revoked(active, "2026-11-21T12:00:01Z")
        .unwrap()
        .token;
    assert_eq!((later.status, later.revoked_at), (Status::Active, None));
}

#[test]
fn what_is_listed_after_a_token_was_ended_is_another() {
    let after = "2026-11-21T12:00:01Z";
    let other = update_of_revoked(expiring("2027-02-28T12:00:00Z"), after).unwrap();
    assert_eq!(other.notices, NoticeEffect::NewGeneration);
    let token = other.token;
    assert_eq!((token.status, token.revoked_at), (Status::Active, None));
    assert_eq!(token.first_seen_at, at("2026-11-21T12:00:30Z"));
    assert_eq!((token.issuer, token.created_at), (None, None));
    assert!(token.due_at.is_some());

    // A token that was revoked by its expiry, by a clock a little ahead of ours, is the same one.
    for ended_at in ["2026-11-21T12:00:00Z", "2026-11-21T12:00:40Z"] {
        assert_eq!(update_of_revoked(expiring(ended_at), after), None);
    }
    let still = ListedToken {
        status: Cell::Value(Status::Revoked),
        ..expiring("2026-11-28T12:00:00Z")
    };
    assert_eq!(update_of_revoked(still, after), None);
}

#[test]
fn another_secret_is_a_new_generation_even_where_it_ends_at_the_same_instant() {
    let listed = |text: &str, version| ListedToken {
        secret_version: Some(version),
        ..expiring(text)
    };
    let policy = policy();
    let is_news =
        |known: &Token, listed| update(known, listed, MergeRules::from(&policy), now()).is_some();
    let (first, other) = ("2026-11-28T12:00:00Z", "2027-02-28T12:00:00Z");
    let mut known = known();
    assert!(
        !is_news(&known, listed(first, 1)),
        "what was known is the first"
    );
    let mut seen = vec![known.generation()];
    // There and back again: each generation differs from all before.
    for (version, text) in [(2, first), (3, other), (4, first), (1003, first)] {
        let update = updated(&known, listed(text, version));
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
        assert_eq!(update.token.planned_step, None);
        assert_eq!(update.token.expiry, Expiry::At(at(text)));
        assert!(!seen.contains(&update.token.generation()));
        seen.push(update.token.generation());
        // Only a moved expiry is a new life.
        let is_new_life = update.token.life_from != known.life_from;
        assert_eq!(is_new_life, version == 3, "{version}");
        known = update.token;
        assert!(!is_news(&known, listed(text, version)));
        assert!(
            !is_news(&known, expiring(text)),
            "a listing without a version changes nothing"
        );
        assert!(
            !is_news(
                &known,
                ListedToken {
                    secret_version: Some(9),
                    ..only_id()
                }
            ),
            "nor does one without an expiry"
        );
    }
}

#[test]
fn an_expiry_of_our_policy_has_a_new_generation_per_secret() {
    let policy = policy();
    let rules = MergeRules {
        policy_ttl: Some(TimeDelta::days(30)),
        ..MergeRules::from(&policy)
    };
    let listed = |version| ListedToken {
        secret_version: Some(version),
        expiry: Cell::Value(Expiry::Never),
        ..only_id()
    };
    let token = new_token("devtron", listed(1), rules, now());
    let update = update(&token, listed(2), rules, now()).unwrap();
    assert_eq!(update.notices, NoticeEffect::NewGeneration);
    assert_eq!(update.token.expiry_origin, Some(ExpiryOrigin::Policy));
}

#[test]
fn a_renewed_token_that_was_marked_is_active_again() {
    let marked = Token {
        status: Status::Expired,
        due_at: None,
        ..known()
    };
    let update = updated(&marked, expiring("2027-02-28T12:00:00Z"));
    assert_eq!(update.token.status, Status::Active);
    assert_eq!(update.token.due_at, Some(at("2027-02-21T09:00:00Z")));
}

#[test]
fn an_expiry_moved_into_the_past_is_marked_without_a_notice() {
    let update = updated(&known(), expiring("2026-11-20T00:00:00Z"));
    assert_eq!(
        (update.token.status, update.token.due_at),
        (Status::Expired, None)
    );
    assert_eq!(update.token.planned_step, Some(Step::ZERO));
    assert_eq!(update.notices, NoticeEffect::Cancel);
}

#[test]
fn a_disabled_or_revoked_token_cancels_its_notices() {
    for status in [Status::Disabled, Status::Revoked] {
        let off = updated(&known(), with_status(status));
        assert_eq!((off.token.status, off.token.due_at), (status, None));
        assert_eq!(off.notices, NoticeEffect::Cancel);
        assert!(off.needs_judging);
        assert_eq!(
            update(
                &off.token,
                with_status(status),
                MergeRules::from(&policy()),
                now()
            ),
            None
        );
        // Renewed while disabled, it stays disabled.
        let renewed = updated(&off.token, expiring("2027-02-28T12:00:00Z"));
        assert_eq!(
            (renewed.token.due_at, renewed.notices),
            (None, NoticeEffect::Cancel)
        );
        // Enabled again: its cancelled notices and its steps are planned again.
        let on = updated(
            &off.token,
            ListedToken {
                status: Cell::Empty,
                ..only_id()
            },
        );
        assert_eq!(
            (on.token.status, on.token.planned_step),
            (Status::Active, None)
        );
        assert_eq!(on.notices, NoticeEffect::NewGeneration);
        assert!(on.token.due_at.is_some_and(|due_at| due_at <= now()));
    }
}

#[test]
fn a_token_enabled_after_its_expiry_is_marked_without_a_notice() {
    let off = Token {
        status: Status::Disabled,
        due_at: None,
        ..known()
    };
    let later = at("2026-12-01T00:00:00Z");
    let on = update(
        &off,
        with_status(Status::Active),
        MergeRules::from(&policy()),
        later,
    )
    .unwrap();
    assert_eq!((on.token.status, on.token.due_at), (Status::Expired, None));
    assert_eq!(on.notices, NoticeEffect::Cancel);
}

#[test]
fn a_missing_token_is_gone_before_its_expiry_and_expired_after() {
    let gone = update_missing(&known(), now()).unwrap();
    assert_eq!((gone.token.status, gone.token.due_at), (Status::Gone, None));
    assert_eq!(gone.notices, NoticeEffect::Cancel);
    assert!(gone.needs_judging);
    assert_eq!(update_missing(&gone.token, now()), None);
    let expiry = at("2026-11-28T12:00:00Z");
    assert_eq!(update_missing(&known(), expiry), None);
    assert!(update_missing(&known(), expiry - TimeDelta::seconds(1)).is_some());
    let endless = Token {
        expiry: Expiry::Never,
        due_at: None,
        ..token()
    };
    assert_eq!(
        update_missing(&endless, now()).unwrap().token.status,
        Status::Gone
    );
    let revoked = Token {
        status: Status::Revoked,
        ..known()
    };
    assert_eq!(update_missing(&revoked, now()), None);
    let off = Token {
        status: Status::Disabled,
        due_at: None,
        ..known()
    };
    assert_eq!(
        update_missing(&off, now()).unwrap().token.status,
        Status::Gone
    );
    let over = update_missing(&off, expiry).unwrap();
    assert_eq!(
        (over.token.status, over.token.due_at),
        (Status::Expired, None)
    );
    assert_eq!(update_missing(&over.token, expiry), None);
}

#[test]
fn a_token_missing_after_an_expiry_of_our_policy_is_gone() {
    let later = at("2026-12-24T12:00:00Z");
    for status in [Status::Active, Status::Expired, Status::Disabled] {
        let known = Token {
            status,
            expiry_origin: Some(ExpiryOrigin::Policy),
            ..known()
        };
        let gone = update_missing(&known, later).unwrap().token;
        assert_eq!((gone.status, gone.judge_at), (Status::Gone, Some(later)));
        assert_eq!(update_missing(&gone, later), None);
    }
}

#[test]
fn a_token_that_is_listed_again_is_planned_again() {
    let gone = update_missing(&known(), now()).unwrap().token;
    let back = updated(&gone, only_id());
    assert_eq!(
        (back.token.status, back.token.planned_step),
        (Status::Active, None)
    );
    assert_eq!(back.notices, NoticeEffect::NewGeneration);
    assert!(back.token.due_at.is_some());
}

#[test]
fn a_life_starts_at_creation_until_the_expiry_moves() {
    let unknown = Token {
        created_at: None,
        life_from: None,
        ..known()
    };
    let with_creation = ListedToken {
        created_at: Cell::Value(at("2026-11-01T00:00:00Z")),
        ..only_id()
    };
    assert_eq!(
        updated(&unknown, with_creation.clone()).token.life_from,
        Some(at("2026-11-01T00:00:00Z"))
    );
    let moved = Token {
        life_from: Some(at("2026-11-10T00:00:00Z")),
        ..known()
    };
    assert_eq!(
        updated(&moved, with_creation).token.life_from,
        Some(at("2026-11-10T00:00:00Z"))
    );
}

proptest! {
    #[test]
    fn pages_of_any_size_give_the_pairs_of_whole_listings(
        known in prop::collection::btree_set(0_u32..60, 0..40),
        listed in prop::collection::btree_set(0_u32..60, 0..40),
        pages in (1_usize..9, 1_usize..9),
    ) {
        let id = |nth: &u32| format!("{nth:02}");
        let (mut here, mut there) = (known.iter().map(id), listed.iter().map(id));
        let (mut left, mut right) = (VecDeque::new(), VecDeque::new());
        let (mut left_done, mut right_done) = (false, false);
        let mut found = Vec::new();
        while !(left_done && left.is_empty() && right_done && right.is_empty()) {
            if left.is_empty() && !left_done {
                left.extend(here.by_ref().take(pages.0).map(|id| Token { external_id: id, ..token() }));
                left_done = left.len() < pages.0;
            }
            while right.len() < pages.1 && !right_done {
                match there.next() {
                    Some(id) => right.push_back(ListedToken { external_id: id, ..only_id() }),
                    None => right_done = true,
                }
            }
            found.extend(pair_up(&mut left, left_done, &mut right, right_done).into_iter().map(|pair| match pair {
                Pair::Both(known, listed) => {
                    assert_eq!(known.external_id, listed.external_id);
                    (known.external_id, true, true)
                }
                Pair::OnlyKnown(known) => (known.external_id, true, false),
                Pair::OnlyListed(listed) => (listed.external_id, false, true),
            }));
        }
        let expected: Vec<_> = known.union(&listed)
            .map(|nth| (id(nth), known.contains(nth), listed.contains(nth)))
            .collect();
        prop_assert_eq!(found, expected);
    }
}

fn unreadable(column: &str) -> ListedToken {
    ListedToken {
        unreadable: [(column.to_owned(), "is not a date".to_owned())].into(),
        ..only_id()
    }
}

#[test]
fn an_unreadable_cell_keeps_what_is_known_and_the_other_cells_count() {
    let listed = ListedToken {
        name: Cell::Value("renamed".into()),
        ..unreadable("expires_at")
    };
    let update = updated(&known(), listed);
    let token = update.token;
    assert_eq!(
        (token.expiry, token.name.as_str()),
        (known().expiry, "renamed")
    );
    assert_eq!(update.notices, NoticeEffect::Keep);
    assert_eq!(token.judge_at, Some(now()));
    // It may be renewed, so it does not expire by the old date.
    let later = now() + TimeDelta::days(30);
    assert_eq!(token.status_at(later), Status::Active);
    assert_eq!(known().status_at(later), Status::Expired);
    assert!(
        !policy()
            .open_steps(&token, None)
            .any(|open| open == Step::ZERO)
    );
    assert!(
        policy()
            .open_steps(&token, None)
            .any(|open| open == step("1d"))
    );
    // Once it can be read again, it expires.
    let readable = updated(&token, expiring("2026-11-28T12:00:00Z")).token;
    assert_eq!(readable.unreadable, [].into());
    assert_eq!(readable.status_at(later), Status::Expired);
}

#[test]
fn a_token_that_is_marked_stays_expired_when_its_date_becomes_unreadable() {
    let marked = Token {
        expiry: Expiry::At(at("2026-11-21T00:00:00Z")),
        status: Status::Expired,
        planned_step: Some(Step::ZERO),
        due_at: None,
        ..known()
    };
    let token = updated(&marked, unreadable("expires_at")).token;
    assert_eq!(token.status_at(now()), Status::Expired);
    assert_eq!(token.due_at, None);
}

#[test]
fn a_missing_token_whose_last_date_could_not_be_read_is_gone() {
    let outdated = Token {
        expiry: Expiry::At(at("2026-11-21T00:00:00Z")),
        ..updated(&known(), unreadable("expires_at")).token
    };
    let gone = update_missing(&outdated, now()).unwrap().token;
    assert_eq!(gone.status, Status::Gone);
}

#[test]
fn an_unreadable_status_is_active_for_a_new_token_and_unchanged_for_a_known_one() {
    let listed = || unreadable("status");
    let rules_policy = policy();
    let rules = MergeRules {
        asked_at: Some(now()),
        ..MergeRules::from(&rules_policy)
    };
    let new = new_token("exports", listed(), rules, now());
    assert_eq!(new.status, Status::Active);
    let revoked = Token {
        status: Status::Revoked,
        revoked_at: Some(at("2026-11-20T00:00:00Z")),
        ..known()
    };
    let token = update(&revoked, listed(), rules, now()).unwrap().token;
    assert_eq!(token.status, Status::Revoked, "it is no other token");
}

#[test]
fn our_policy_gives_a_token_without_a_known_expiry_one() {
    let policy = policy();
    let with_ttl = MergeRules {
        policy_ttl: Some(TimeDelta::days(30)),
        ..MergeRules::from(&policy)
    };
    let unknown = ListedToken {
        expiry: Cell::Value(Expiry::Unknown),
        ..only_id()
    };
    let in_a_month = Expiry::At(now() + TimeDelta::days(30));
    for listed in [unknown, only_id(), unreadable("expires_at")] {
        let token = new_token("exports", listed.clone(), with_ttl, now());
        assert_eq!(token.expiry, in_a_month);
        assert_eq!(token.expiry_origin, Some(ExpiryOrigin::Policy));
        assert!(token.is_expiry_unreported);
        assert_eq!(update(&token, listed, with_ttl, now()), None);
        let never = ListedToken {
            expiry: Cell::Value(Expiry::Never),
            ..only_id()
        };
        let token = update(&token, never, with_ttl, now()).unwrap().token;
        assert_eq!(
            (token.expiry, token.is_expiry_unreported),
            (in_a_month, false)
        );
    }
    let stated = new_token("exports", expiring("2026-12-01T00:00:00Z"), with_ttl, now());
    assert_eq!(
        updated(&stated, unreadable("expires_at")).token.expiry,
        stated.expiry
    );
}

#[test]
fn without_our_policy_a_token_has_the_expiry_of_its_source_again() {
    let policy = policy();
    let rules = |policy_ttl, asked_at| MergeRules {
        policy_ttl,
        asked_at,
        ..MergeRules::from(&policy)
    };
    let with_ttl = rules(Some(TimeDelta::days(30)), Some(now()));
    let token = new_token("exports", only_id(), with_ttl, now());
    assert_eq!(token.expiry_origin, Some(ExpiryOrigin::Policy));
    let without = rules(None, Some(now()));
    let token_again = update(&token, only_id(), without, now()).unwrap().token;
    assert_eq!(
        (token_again.expiry, token_again.expiry_origin),
        (Expiry::Unknown, None)
    );
    // An import does not know the policy of the source.
    assert_eq!(update(&token, only_id(), rules(None, None), now()), None);
}

#[test]
fn evidence_about_all_owners_counts_whoever_is_the_issuer() {
    let with_owners = |gone| ListedToken {
        issuer: Cell::Value(address("bob@example.org")),
        co_owners: vec![address("ada@example.org")],
        issuer_gone: gone,
        ..only_id()
    };
    let gone = with_owners(Cell::Value("both are deleted".to_owned()));
    let orphaned = updated(&known(), gone).token;
    assert_eq!(orphaned.issuer, Some(address("ada@example.org")));
    assert_eq!(orphaned.issuer_gone.as_deref(), Some("both are deleted"));
    let owned = updated(&orphaned, with_owners(Cell::Empty)).token;
    assert_eq!(owned.issuer_gone, None);
}
