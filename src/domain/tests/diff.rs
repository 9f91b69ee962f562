//! What a listing changes.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{address, at, bare, policy, step, token};
use crate::domain::diff::{NoticeEffect, Pair, Update, first_seen, left_listing, pair_up, update};
use crate::domain::{Cell, Expiry, ExpiryOrigin, Listed, Status, Step, Terms, Token};

fn now() -> DateTime<Utc> {
    at("2026-11-22T00:00:00Z")
}

/// The token as a sweep has left it: planned for seven days.
fn known() -> Token {
    Token {
        planned_step: Some(step("7d")),
        due_at: Some(at("2026-11-27T09:00:00Z")),
        ..token()
    }
}

fn expiring(text: &str) -> Listed {
    Listed {
        expiry: Cell::Value(Expiry::At(at(text))),
        ..bare()
    }
}

fn with_status(status: Status) -> Listed {
    Listed {
        status: Cell::Value(status),
        ..bare()
    }
}

fn updated(known: &Token, listed: Listed) -> Update {
    update(known, listed, Terms::from(&policy()), now()).unwrap()
}

#[test]
fn a_new_token_is_due_when_the_policy_says() {
    let listed = Listed {
        issuer: Cell::Value(address("ada@example.org")),
        created_at: Cell::Value(at("2026-08-30T12:00:00Z")),
        ..expiring("2026-11-28T12:00:00Z")
    };
    let token = first_seen("exports", listed, Terms::from(&policy()), now());
    assert_eq!((token.status, token.planned_step), (Status::Active, None));
    assert_eq!(token.due_at, Some(at("2026-11-21T09:00:00Z")));
    assert_eq!(
        (token.first_seen_at, token.life_from),
        (now(), token.created_at)
    );
    assert_eq!(token.expiry_origin, Some(ExpiryOrigin::Source));
    assert!(!token.use_told);
}

#[test]
fn a_token_first_seen_expired_is_marked_and_never_due() {
    for expires_at in ["2026-11-22T00:00:00Z", "2020-01-01T00:00:00Z"] {
        let token = first_seen(
            "exports",
            expiring(expires_at),
            Terms::from(&policy()),
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
fn a_bare_listing_leaves_all_unknown_and_an_empty_cell_clears() {
    let token = first_seen("exports", bare(), Terms::from(&policy()), now());
    assert_eq!((token.expiry, token.expiry_origin), (Expiry::Unknown, None));
    assert_eq!((token.life_from, token.due_at), (None, None));
    let cleared = updated(
        &known(),
        Listed {
            account: Cell::Empty,
            ..bare()
        },
    );
    assert_eq!(cleared.token.account, None);
    assert_eq!(cleared.notices, NoticeEffect::Keep);
    assert!(!cleared.needs_judging);
}

#[test]
fn the_same_again_changes_nothing() {
    let same = Listed {
        name: Cell::Value("ci".into()),
        issuer: Cell::Value(address("ADA@example.org")),
        issuer_name: Cell::Empty,
        account: Cell::Value("acme".into()),
        created_at: Cell::Value(at("2026-08-30T12:00:00Z")),
        status: Cell::Value(Status::Active),
        ..expiring("2026-11-28T12:00:00Z")
    };
    assert_eq!(
        update(&known(), same.clone(), Terms::from(&policy()), now()),
        None
    );
    assert_eq!(
        update(&known(), bare(), Terms::from(&policy()), now()),
        None
    );
    // Sources round.
    for rounded in ["2026-11-28T12:00:59Z", "2026-11-28T11:59:01Z"] {
        assert_eq!(
            update(&known(), expiring(rounded), Terms::from(&policy()), now()),
            None,
            "{rounded}"
        );
    }
    // Our own mark is no news to the source.
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
            Terms::from(&policy()),
            at("2026-12-01T00:00:00Z")
        ),
        None
    );
}

#[test]
fn a_changed_expiry_is_a_new_generation_that_lives_from_now() {
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
            Listed {
                expiry: Cell::Value(expiry),
                ..bare()
            },
        );
        assert_eq!((update.token.expiry, update.token.due_at), (expiry, None));
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
    }
}

#[test]
fn a_date_of_ours_that_appears_or_moves_is_no_new_life() {
    let policy = policy();
    let endless = Listed {
        expiry: Cell::Value(Expiry::Never),
        ..bare()
    };
    let under = |known: &Token, days| {
        let terms = Terms {
            policy_ttl: Some(TimeDelta::days(days)),
            ..Terms::from(&policy)
        };
        update(known, endless.clone(), terms, now()).unwrap()
    };
    let made = known().created_at;
    let mut known = Token {
        expiry: Expiry::Never,
        planned_step: None,
        due_at: None,
        ..known()
    };
    // Six days from now, five days from now.
    for days in [90, 89] {
        let update = under(&known, days);
        known = update.token;
        assert_eq!(known.expiry_origin, Some(ExpiryOrigin::Policy));
        assert_eq!((known.life_from, known.planned_step), (made, None));
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
        assert!(policy.open_steps(&known).any(|open| open == step("7d")));
    }
    let unknown = Token {
        created_at: None,
        life_from: None,
        ..known.clone()
    };
    assert_eq!(under(&unknown, 120).token.life_from, None);
    // What the source states counts from when it was seen.
    let stated = updated(&known, expiring("2027-02-28T12:00:00Z")).token;
    assert_eq!(stated.life_from, Some(now()));
}

/// What a listing that was asked for at `asked_at` changes about a token that was ended at noon.
fn of_ended(listed: Listed, asked_at: &str) -> Option<Update> {
    let ended = Token {
        status: Status::Revoked,
        revoked_at: Some(at("2026-11-21T12:00:00Z")),
        due_at: None,
        ..known()
    };
    let policy = policy();
    let terms = Terms {
        asked_at: Some(at(asked_at)),
        ..Terms::from(&policy)
    };
    update(&ended, listed, terms, at("2026-11-21T12:00:30Z"))
}

#[test]
fn what_was_asked_for_before_a_token_was_ended_says_nothing_of_it() {
    let active = Listed {
        status: Cell::Value(Status::Active),
        ..expiring("2027-02-28T12:00:00Z")
    };
    for asked_at in ["2026-11-21T11:59:59Z", "2026-11-21T12:00:00Z"] {
        assert_eq!(of_ended(active.clone(), asked_at), None);
        assert_eq!(of_ended(expiring("2027-02-28T12:00:00Z"), asked_at), None);
    }
    let later = of_ended(active, "2026-11-21T12:00:01Z").unwrap().token;
    assert_eq!((later.status, later.revoked_at), (Status::Active, None));
}

#[test]
fn what_is_listed_after_a_token_was_ended_is_another() {
    let after = "2026-11-21T12:00:01Z";
    let other = of_ended(expiring("2027-02-28T12:00:00Z"), after).unwrap();
    assert_eq!(other.notices, NoticeEffect::NewGeneration);
    let token = other.token;
    assert_eq!((token.status, token.revoked_at), (Status::Active, None));
    assert_eq!(token.first_seen_at, at("2026-11-21T12:00:30Z"));
    assert_eq!((token.issuer, token.created_at), (None, None));
    assert!(token.due_at.is_some());

    // One that was ended by its date, by a clock that is a little ahead of ours, is the same one.
    for ended_at in ["2026-11-21T12:00:00Z", "2026-11-21T12:00:40Z"] {
        assert_eq!(of_ended(expiring(ended_at), after), None);
    }
    let still = Listed {
        status: Cell::Value(Status::Revoked),
        ..expiring("2026-11-28T12:00:00Z")
    };
    assert_eq!(of_ended(still, after), None);
}

#[test]
fn another_secret_is_a_new_generation_even_where_it_ends_at_the_same_instant() {
    let listed = |text: &str, version| Listed {
        version: Some(version),
        ..expiring(text)
    };
    let policy = policy();
    let is_news =
        |known: &Token, listed| update(known, listed, Terms::from(&policy), now()).is_some();
    let (first, other) = ("2026-11-28T12:00:00Z", "2027-02-28T12:00:00Z");
    let mut known = known();
    assert!(
        !is_news(&known, listed(first, 1)),
        "what was known is the first"
    );
    let mut seen = vec![known.expiry];
    // There and back again: each is none of those before.
    for (version, text) in [(2, first), (3, other), (4, first), (1003, first)] {
        let update = updated(&known, listed(text, version));
        assert_eq!(update.notices, NoticeEffect::NewGeneration);
        assert_eq!(update.token.planned_step, None);
        let expires_at = update.token.expiry.at().unwrap();
        assert_eq!(expires_at.timestamp_millis(), at(text).timestamp_millis());
        assert!(!seen.contains(&update.token.expiry));
        seen.push(update.token.expiry);
        // Only another end is another life.
        let is_other_life = update.token.life_from != known.life_from;
        assert_eq!(is_other_life, version == 3, "{version}");
        known = update.token;
        assert!(!is_news(&known, listed(text, version)));
        assert!(
            !is_news(&known, expiring(text)),
            "who no longer counts says nothing new"
        );
        assert!(
            !is_news(
                &known,
                Listed {
                    version: Some(9),
                    ..bare()
                }
            ),
            "nor who tells no end"
        );
    }
}

#[test]
fn a_date_of_ours_begins_a_new_generation_with_another_secret_too() {
    let policy = policy();
    let terms = Terms {
        policy_ttl: Some(TimeDelta::days(30)),
        ..Terms::from(&policy)
    };
    let listed = |version| Listed {
        version: Some(version),
        expiry: Cell::Value(Expiry::Never),
        ..bare()
    };
    let token = first_seen("devtron", listed(1), terms, now());
    let update = update(&token, listed(2), terms, now()).unwrap();
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
fn an_expiry_moved_into_the_past_is_marked_and_nobody_is_told() {
    let update = updated(&known(), expiring("2026-11-20T00:00:00Z"));
    assert_eq!(
        (update.token.status, update.token.due_at),
        (Status::Expired, None)
    );
    assert_eq!(update.token.planned_step, Some(Step::ZERO));
    assert_eq!(update.notices, NoticeEffect::Cancel);
}

#[test]
fn a_status_that_owes_nobody_anything_cancels() {
    for status in [Status::Disabled, Status::Revoked] {
        let off = updated(&known(), with_status(status));
        assert_eq!((off.token.status, off.token.due_at), (status, None));
        assert_eq!(off.notices, NoticeEffect::Cancel);
        assert!(off.needs_judging);
        assert_eq!(
            update(
                &off.token,
                with_status(status),
                Terms::from(&policy()),
                now()
            ),
            None
        );
        // Renewed while off, it stays so.
        let renewed = updated(&off.token, expiring("2027-02-28T12:00:00Z"));
        assert_eq!(
            (renewed.token.due_at, renewed.notices),
            (None, NoticeEffect::Cancel)
        );
        // On again: its cancelled warnings are owed again, and its steps are looked at anew.
        let on = updated(
            &off.token,
            Listed {
                status: Cell::Empty,
                ..bare()
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
fn a_token_switched_on_after_its_expiry_is_marked_and_nobody_is_told() {
    let off = Token {
        status: Status::Disabled,
        due_at: None,
        ..known()
    };
    let later = at("2026-12-01T00:00:00Z");
    let on = update(
        &off,
        with_status(Status::Active),
        Terms::from(&policy()),
        later,
    )
    .unwrap();
    assert_eq!((on.token.status, on.token.due_at), (Status::Expired, None));
    assert_eq!(on.notices, NoticeEffect::Cancel);
}

#[test]
fn what_leaves_a_listing_is_gone_before_its_expiry_and_expired_after() {
    let gone = left_listing(&known(), now()).unwrap();
    assert_eq!((gone.token.status, gone.token.due_at), (Status::Gone, None));
    assert_eq!(gone.notices, NoticeEffect::Cancel);
    assert!(gone.needs_judging);
    assert_eq!(left_listing(&gone.token, now()), None);
    let expiry = at("2026-11-28T12:00:00Z");
    assert_eq!(left_listing(&known(), expiry), None);
    assert!(left_listing(&known(), expiry - TimeDelta::seconds(1)).is_some());
    let endless = Token {
        expiry: Expiry::Never,
        due_at: None,
        ..token()
    };
    assert_eq!(
        left_listing(&endless, now()).unwrap().token.status,
        Status::Gone
    );
    let revoked = Token {
        status: Status::Revoked,
        ..known()
    };
    assert_eq!(left_listing(&revoked, now()), None);
    let off = Token {
        status: Status::Disabled,
        due_at: None,
        ..known()
    };
    assert_eq!(
        left_listing(&off, now()).unwrap().token.status,
        Status::Gone
    );
    let over = left_listing(&off, expiry).unwrap();
    assert_eq!(
        (over.token.status, over.token.due_at),
        (Status::Expired, None)
    );
    assert_eq!(left_listing(&over.token, expiry), None);
}

#[test]
fn a_token_that_leaves_after_a_date_of_ours_did_not_end_by_itself() {
    let later = at("2026-12-24T12:00:00Z");
    for status in [Status::Active, Status::Expired, Status::Disabled] {
        let known = Token {
            status,
            expiry_origin: Some(ExpiryOrigin::Policy),
            ..known()
        };
        let gone = left_listing(&known, later).unwrap().token;
        assert_eq!((gone.status, gone.judge_at), (Status::Gone, Some(later)));
        assert_eq!(left_listing(&gone, later), None);
    }
}

#[test]
fn a_token_that_is_back_is_looked_at_anew() {
    let gone = left_listing(&known(), now()).unwrap().token;
    let back = updated(&gone, bare());
    assert_eq!(
        (back.token.status, back.token.planned_step),
        (Status::Active, None)
    );
    assert_eq!(back.notices, NoticeEffect::NewGeneration);
    assert!(back.token.due_at.is_some());
}

#[test]
fn a_life_counts_from_what_the_source_says_until_the_expiry_moves() {
    let unknown = Token {
        created_at: None,
        life_from: None,
        ..known()
    };
    let told = Listed {
        created_at: Cell::Value(at("2026-11-01T00:00:00Z")),
        ..bare()
    };
    assert_eq!(
        updated(&unknown, told.clone()).token.life_from,
        Some(at("2026-11-01T00:00:00Z"))
    );
    let moved = Token {
        life_from: Some(at("2026-11-10T00:00:00Z")),
        ..known()
    };
    assert_eq!(
        updated(&moved, told).token.life_from,
        Some(at("2026-11-10T00:00:00Z"))
    );
}

proptest! {
    /// Pages of any size on both sides give the pairs that whole listings give.
    #[test]
    fn pages_pair_up_as_the_whole_does(
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
                    Some(id) => right.push_back(Listed { external_id: id, ..bare() }),
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
