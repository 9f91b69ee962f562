//! How a person's status follows from listings and lookups.

use proptest::prelude::*;
use rstest::rstest;

use super::{TimeDelta, address, at};
use crate::domain::access::{
    Binding, BreakerTally, HeldChange, Observation, PersonUnderReview, Statement,
};
use crate::domain::{DirectoryTerms, Identity, IdentityStatus, Lookup, Person, Reason, Severity};

const NOW: &str = "2026-11-22T12:00:00Z";

fn person(id: &str, status: IdentityStatus) -> Person {
    Person {
        id: (!id.is_empty()).then(|| id.to_owned()),
        main: Some(address("ada@example.org")),
        others: Vec::new(),
        sign_in_name: None,
        fallbacks: Vec::new(),
        name: Some("Ada".to_owned()),
        status,
        reason: match status {
            IdentityStatus::Disabled => Some(Reason::Admin),
            IdentityStatus::Unknown => Some(Reason::FieldMissing),
            _ => None,
        },
        since: None,
        evidence: format!("status {status}"),
        is_member: None,
    }
}

fn outside() -> Person {
    Person {
        is_member: Some(false),
        ..person("a", IdentityStatus::Active)
    }
}

fn review_of(known: Option<Identity>, observation: Observation) -> PersonUnderReview {
    PersonUnderReview {
        email: address("ada@example.org"),
        known,
        observation,
    }
}

fn bound(id: &str) -> Binding<'_> {
    let is_chosen = false;
    Binding { id, is_chosen }
}

fn one(person: Person) -> Observation {
    Observation::One(Box::new(person))
}

fn gone() -> Lookup {
    Lookup::Gone {
        evidence: "404 for its id".to_owned(),
        is_certain: false,
    }
}

fn found(status: IdentityStatus) -> Lookup {
    Lookup::Found(Box::new(person("a", status)))
}

/// The identity after this observation and lookup, at this minute after noon.
fn after(
    known: Option<Identity>,
    observation: Observation,
    lookup: Option<&Lookup>,
    minute: i64,
) -> Identity {
    let review = review_of(known.clone(), observation);
    let statement = review.statement();
    assert_eq!(
        review.lookup_id(&statement).is_some(),
        lookup.is_some(),
        "a lookup is requested exactly if one is given: {statement:?}"
    );
    let now = at(NOW) + TimeDelta::minutes(minute);
    let next = review.conclude(&statement, lookup, &DirectoryTerms::default(), now);
    next.or(known).unwrap()
}

/// A person who was seen active in the account `a`.
fn active() -> Identity {
    after(None, one(person("a", IdentityStatus::Active)), None, 0)
}

fn statuses(identity: &Identity) -> (IdentityStatus, Option<Reason>, IdentityStatus) {
    (identity.status, identity.reason, identity.known_status)
}

#[test]
fn a_disabled_account_counts_once_a_lookup_confirms_it() {
    let off = || one(person("a", IdentityStatus::Disabled));
    let accepted = after(
        Some(active()),
        off(),
        Some(&found(IdentityStatus::Disabled)),
        1,
    );
    let disabled = IdentityStatus::Disabled;
    assert_eq!(
        statuses(&accepted),
        (disabled, Some(Reason::Admin), disabled)
    );
    assert_eq!(accepted.evidence, "status disabled");
    assert!(accepted.checked_by_id);
    // It is not looked up again, and nothing changes.
    let again = after(Some(accepted.clone()), off(), None, 2);
    assert_eq!(again, accepted);

    let lagging = after(
        Some(active()),
        off(),
        Some(&found(IdentityStatus::Active)),
        1,
    );
    assert_eq!(lagging.status, IdentityStatus::Active);
    let unclear = Lookup::Unclear("403".to_owned());
    let unclear = after(Some(active()), off(), Some(&unclear), 1);
    assert_eq!(
        statuses(&unclear),
        (
            IdentityStatus::Unknown,
            Some(Reason::Unconfirmed),
            IdentityStatus::Active
        )
    );
}

#[test]
fn the_wording_of_evidence_does_not_decide_whether_it_was_checked() {
    let off = || one(person("a", IdentityStatus::Disabled));
    let disabled = Some(&found(IdentityStatus::Disabled));
    let checked = after(Some(active()), off(), disabled, 1);
    let unchecked = Identity {
        evidence: format!("{}, checked by id", checked.evidence),
        checked_by_id: false,
        ..checked.clone()
    };
    let again = after(Some(unchecked), off(), None, 2);
    assert!(!again.checked_by_id);
    assert_ne!(again.observed_at, checked.observed_at, "it is new evidence");
    // A directory may use the same words.
    let named = Person {
        evidence: "locked, checked by id".into(),
        ..person("", IdentityStatus::Disabled)
    };
    let named = after(None, one(named), None, 1);
    assert!(!named.checked_by_id);
}

#[test]
fn a_look_up_counts_until_the_directory_reports_another_fact() {
    let off = person("a", IdentityStatus::Disabled);
    let disabled = Some(&found(IdentityStatus::Disabled));
    let checked = after(Some(active()), one(off.clone()), disabled, 1);
    let again = |person: Person| after(Some(checked.clone()), one(person), None, 2);
    let reworded = Person {
        evidence: "the account is disabled".to_owned(),
        ..off.clone()
    };
    assert!(again(reworded).checked_by_id);
    let later = Person {
        since: Some(at(NOW)),
        ..off.clone()
    };
    assert!(!again(later).checked_by_id);
    let reason = Person {
        reason: Some(Reason::Suspended),
        ..off
    };
    assert!(!again(reason).checked_by_id);
}

#[test]
fn an_account_without_an_id_is_accepted_at_once() {
    let known = after(None, one(person("", IdentityStatus::Active)), None, 0);
    let off = after(
        Some(known.clone()),
        one(person("", IdentityStatus::Deleted)),
        None,
        1,
    );
    assert_eq!(off.status, IdentityStatus::Deleted);
    let missing = after(Some(known), Observation::Missing, None, 1);
    assert_eq!(
        statuses(&missing),
        (
            IdentityStatus::Unknown,
            Some(Reason::Absent),
            IdentityStatus::Active
        )
    );
}

#[test]
fn a_deletion_takes_two_lookups_with_the_grace_between_them() {
    let first = after(Some(active()), Observation::Missing, Some(&gone()), 10);
    assert_eq!(
        statuses(&first),
        (
            IdentityStatus::Unknown,
            Some(Reason::Absent),
            IdentityStatus::Active
        )
    );
    let early = after(Some(first.clone()), Observation::Missing, Some(&gone()), 39);
    assert_eq!(early, first);
    let late = after(Some(first.clone()), Observation::Missing, Some(&gone()), 40);
    assert_eq!(late.status, IdentityStatus::Deleted);
    assert_eq!(late.since, Some(at(NOW) + TimeDelta::minutes(40)));
    assert_eq!(
        late.evidence,
        "404 for its id twice, first at 2026-11-22 12:10 UTC"
    );
    assert!(late.checked_by_id);
    assert_eq!(
        after(Some(late.clone()), Observation::Missing, None, 90),
        late
    );
    // A listing of changes does not mention a missing person again.
    let unmentioned = after(Some(first), Observation::Unmentioned, Some(&gone()), 40);
    assert_eq!(unmentioned.status, IdentityStatus::Deleted);
}

#[test]
fn a_clock_that_jumped_proves_no_deletion() {
    let first = after(Some(active()), Observation::Missing, Some(&gone()), 600);
    let back = after(Some(first), Observation::Missing, Some(&gone()), 10);
    assert_eq!(back.status, IdentityStatus::Unknown);
    assert_eq!(back.candidate_since, Some(at(NOW) + TimeDelta::minutes(10)));
}

#[test]
fn a_recycle_bin_proves_a_deletion_and_a_missing_entry_does_not() {
    let in_bin = Lookup::Gone {
        evidence: "it is among the deleted items".to_owned(),
        is_certain: true,
    };
    let deleted = after(Some(active()), Observation::Missing, Some(&in_bin), 1);
    assert_eq!(deleted.status, IdentityStatus::Deleted);
    let there = found(IdentityStatus::Active);
    let still = after(Some(active()), Observation::Missing, Some(&there), 1);
    assert_eq!(still.status, IdentityStatus::Active);
    let unclear = Lookup::Unclear("403".to_owned());
    let unclear = after(Some(active()), Observation::Missing, Some(&unclear), 1);
    assert_eq!(unclear.status, IdentityStatus::Unknown);
}

#[test]
fn a_person_who_was_never_seen_stays_unknown_while_missing() {
    let mut known = None;
    for minute in 0..5 {
        known = Some(after(known, Observation::Missing, None, minute * 60));
    }
    let never = known.unwrap();
    assert_eq!(
        statuses(&never),
        (
            IdentityStatus::Unknown,
            Some(Reason::NeverSeen),
            IdentityStatus::Unknown
        )
    );
    assert_eq!(never.observed_at, None);
}

#[test]
fn a_person_is_out_of_group_after_two_listings() {
    let first = after(Some(active()), one(outside()), None, 1);
    assert_eq!(
        statuses(&first),
        (
            IdentityStatus::Unknown,
            Some(Reason::Unconfirmed),
            IdentityStatus::Active
        )
    );
    for second in [one(outside()), Observation::Unmentioned] {
        let out = after(Some(first.clone()), second, None, 2);
        assert_eq!(out.status, IdentityStatus::OutOfGroup);
        assert_eq!(out.since, Some(at(NOW) + TimeDelta::minutes(2)));
        let back = after(Some(out), one(person("a", IdentityStatus::Active)), None, 3);
        assert_eq!(back.status, IdentityStatus::Active);
    }
    let back = after(
        Some(first),
        one(person("a", IdentityStatus::Active)),
        None,
        2,
    );
    assert_eq!(
        (back.status, back.candidate),
        (IdentityStatus::Active, None)
    );
}

#[test]
fn a_person_who_is_back_is_active_at_once() {
    let off = one(person("a", IdentityStatus::Disabled));
    let off = after(
        Some(active()),
        off,
        Some(&found(IdentityStatus::Disabled)),
        1,
    );
    let back = after(Some(off), one(person("a", IdentityStatus::Active)), None, 2);
    assert_eq!(
        statuses(&back),
        (IdentityStatus::Active, None, IdentityStatus::Active)
    );
}

#[test]
fn a_reassigned_address_says_nothing_about_its_previous_owner() {
    let bea = Person {
        name: Some("Bea".to_owned()),
        ..person("b", IdentityStatus::Active)
    };
    let first = after(Some(active()), one(bea.clone()), Some(&gone()), 10);
    assert_eq!(statuses(&first).0, IdentityStatus::Unknown);
    let second = after(Some(first), one(bea.clone()), Some(&gone()), 50);
    assert_eq!(
        second.status,
        IdentityStatus::Deleted,
        "Ada is gone, although another account has her address"
    );
    let later = after(Some(second.clone()), one(bea.clone()), None, 60);
    assert_eq!(later, second);
    // Ada may still be there, under another address.
    let there = found(IdentityStatus::Active);
    let moved = after(Some(active()), one(bea.clone()), Some(&there), 10);
    assert_eq!(moved.account_id.as_deref(), Some("a"));
    assert_eq!(moved.status, IdentityStatus::Active);
    let unclear = Lookup::Unclear("403".to_owned());
    let unclear = after(Some(active()), one(bea), Some(&unclear), 10);
    assert_eq!(unclear.reason, Some(Reason::BindingUnsafe));
}

#[test]
fn a_person_with_a_recreated_account_is_the_same_person() {
    let recreated = person("b", IdentityStatus::Active);
    let moved = after(Some(active()), one(recreated.clone()), Some(&gone()), 10);
    assert_eq!(
        (moved.status, moved.account_id.as_deref()),
        (IdentityStatus::Active, Some("b"))
    );
    let gone_once = after(Some(active()), Observation::Missing, Some(&gone()), 0);
    let deleted = after(Some(gone_once), Observation::Missing, Some(&gone()), 60);
    assert_eq!(deleted.status, IdentityStatus::Deleted);
    let back = after(Some(deleted), one(recreated), None, 70);
    assert_eq!(
        (back.status, back.account_id.as_deref()),
        (IdentityStatus::Active, Some("b"))
    );
}

#[test]
fn the_breaker_counts_a_recreated_account_without_access() {
    for recreated in [
        person("b", IdentityStatus::Disabled),
        Person {
            id: Some("b".to_owned()),
            ..outside()
        },
    ] {
        let moved = after(Some(active()), one(recreated.clone()), Some(&gone()), 10);
        let unconfirmed = (
            IdentityStatus::Unknown,
            Some(Reason::Unconfirmed),
            IdentityStatus::Active,
        );
        assert_eq!(statuses(&moved), unconfirmed);
        assert_eq!(moved.account_id.as_deref(), Some("b"));
        let mut tally = BreakerTally::default();
        count(&mut tally, 0, &review_of(Some(moved), one(recreated)));
        assert_eq!(tally.losses, 1);
    }
}

#[test]
fn an_account_that_an_operator_chose_counts_unless_only_another_works() {
    let (on, off) = (IdentityStatus::Active, IdentityStatus::Disabled);
    let observe = |binding, accounts: &[(&str, IdentityStatus)]| {
        let accounts = accounts.iter().map(|(id, status)| person(id, *status));
        let accounts = accounts.collect();
        Observation::from_accounts("ada@example.org", binding, accounts, Observation::Missing)
    };
    let chosen = Some(Binding {
        id: "b",
        is_chosen: true,
    });
    for other in [on, off] {
        assert_eq!(
            observe(chosen, &[("a", other), ("b", on)]),
            one(person("b", on))
        );
    }
    assert_eq!(
        observe(chosen, &[("a", on), ("b", off)]),
        Observation::Several
    );
}

#[test]
fn several_accounts_without_a_sign_in_name_are_ambiguous_while_one_works() {
    let (on, off) = (IdentityStatus::Active, IdentityStatus::Disabled);
    let observe = |bound, accounts: &[(&str, IdentityStatus)]| {
        let accounts = accounts.iter().map(|(id, status)| person(id, *status));
        Observation::from_accounts(
            "ada@example.org",
            bound,
            accounts.collect(),
            Observation::Missing,
        )
    };
    assert_eq!(observe(None, &[]), Observation::Missing);
    assert_eq!(observe(None, &[("a", off)]), one(person("a", off)));
    assert_eq!(observe(None, &[("a", on), ("b", on)]), Observation::Several);
    assert_eq!(
        observe(Some(bound("c")), &[("a", on), ("b", on)]),
        Observation::Several
    );
    // Which account was seen first does not matter.
    assert_eq!(
        observe(Some(bound("b")), &[("a", off), ("b", on)]),
        Observation::Several
    );
    assert_eq!(
        observe(Some(bound("b")), &[("a", on), ("b", on)]),
        Observation::Several
    );
    assert_eq!(
        observe(Some(bound("b")), &[("a", on), ("b", off)]),
        Observation::Several
    );
    assert_eq!(
        observe(Some(bound("b")), &[("a", off), ("b", off)]),
        one(person("b", off))
    );
}

#[test]
fn an_account_that_has_the_mailbox_beside_another_address_counts_as_one_of_several() {
    let (on, off) = (IdentityStatus::Active, IdentityStatus::Disabled);
    // The address of a person who left is now an additional address of a colleague.
    let mut colleague = person("a", on);
    colleague.main = Some(address("bea@example.org"));
    colleague.others = vec![address("ada@example.org")];
    let accounts = vec![person("b", off), colleague];
    let observation = Observation::from_accounts(
        "ada@example.org",
        Some(bound("b")),
        accounts,
        Observation::Missing,
    );
    assert_eq!(observation, one(person("b", off)));
    // A second account whose sign-in name is another address still has the mailbox.
    let mut second = person("a", on);
    second.others = vec![address("ada.admin@example.org")];
    second.sign_in_name = second.others.first().cloned();
    let accounts = vec![person("b", off), second];
    let observation = Observation::from_accounts(
        "ada@example.org",
        Some(bound("b")),
        accounts,
        Observation::Missing,
    );
    assert_eq!(observation, Observation::Several);
    let ambiguous = after(Some(active()), Observation::Several, None, 1);
    assert_eq!(
        statuses(&ambiguous),
        (
            IdentityStatus::Unknown,
            Some(Reason::Ambiguous),
            IdentityStatus::Active
        )
    );
}

/// `a` has the address beside its main one, `b` as its mailbox.
#[rstest]
#[case::on(IdentityStatus::Active)]
#[case::off(IdentityStatus::Disabled)]
fn the_account_with_the_mailbox_counts_though_another_was_seen_first(
    #[case] status: IdentityStatus,
    #[values(None, Some("a"), Some("b"))] seen_first: Option<&str>,
    #[values(None, Some("ada@example.org"))] sign_in_name: Option<&str>,
) {
    let colleague = Person {
        main: Some(address("bea@example.org")),
        others: vec![address("ada@example.org")],
        ..person("a", IdentityStatus::Active)
    };
    let own = Person {
        sign_in_name: sign_in_name.map(address),
        ..person("b", status)
    };
    let observe = |binding| {
        let accounts = vec![colleague.clone(), own.clone()];
        Observation::from_accounts("ada@example.org", binding, accounts, Observation::Missing)
    };
    assert_eq!(observe(seen_first.map(bound)), one(own.clone()));
    let chosen = Binding {
        id: "a",
        is_chosen: true,
    };
    assert_eq!(observe(Some(chosen)), one(colleague.clone()));
}

#[test]
fn an_account_that_no_longer_has_the_address_stays_bound() {
    let married = Person {
        main: Some(address("married@example.org")),
        ..person("a", IdentityStatus::Active)
    };
    let other = person("b", IdentityStatus::Disabled);
    let observation = Observation::from_accounts(
        "ada@example.org",
        Some(bound("a")),
        vec![married.clone(), other],
        Observation::Missing,
    );
    assert_eq!(observation, one(married));
}

#[rstest]
#[case::further_mailboxes(false)]
#[case::fallbacks(true)]
fn a_second_account_with_the_same_further_address_keeps_access(#[case] is_fallback: bool) {
    let account = |id: &str, status| {
        let further = vec![address("ada@example.org")];
        let (others, fallbacks) = if is_fallback {
            (Vec::new(), further)
        } else {
            (further, Vec::new())
        };
        Person {
            main: Some(address(&format!("{id}@home.example"))),
            others,
            fallbacks,
            ..person(id, status)
        }
    };
    let (on, off) = (IdentityStatus::Active, IdentityStatus::Disabled);
    let observe = |first, second| {
        let accounts = vec![account("a", first), account("b", second)];
        let binding = Some(bound("a"));
        Observation::from_accounts("ada@example.org", binding, accounts, Observation::Missing)
    };
    assert_eq!(observe(off, on), Observation::Several);
    assert_eq!(observe(off, off), one(account("a", off)));
    assert_eq!(observe(on, off), one(account("a", on)));
}

#[rstest]
#[case::on(IdentityStatus::Active, None, IdentityStatus::Active, Some("a"))]
#[case::on_beside_one_that_is_off(
    IdentityStatus::Active,
    None,
    IdentityStatus::Disabled,
    Some("a")
)]
#[case::off_beside_one_that_is_on(IdentityStatus::Disabled, None, IdentityStatus::Active, None)]
#[case::outside_beside_one_that_is_on(
    IdentityStatus::Active,
    Some(false),
    IdentityStatus::Active,
    None
)]
#[case::all_off(IdentityStatus::Disabled, None, IdentityStatus::Disabled, Some("a"))]
fn of_two_accounts_with_one_mailbox_the_sign_in_name_decides(
    #[case] status: IdentityStatus,
    #[case] is_member: Option<bool>,
    #[case] other: IdentityStatus,
    #[case] counted: Option<&str>,
) {
    let named = Person {
        sign_in_name: Some(address("Ada@example.org")),
        is_member,
        ..person("a", status)
    };
    let second = Person {
        sign_in_name: Some(address("ada.admin@example.org")),
        ..person("b", other)
    };
    for accounts in [
        vec![named.clone(), second.clone()],
        vec![second.clone(), named.clone()],
    ] {
        let key = "ada@example.org";
        let observe = |binding| {
            let accounts = accounts.clone();
            Observation::from_accounts(key, binding, accounts, Observation::Missing)
        };
        let observation = observe(None);
        let expected = counted.map_or(Observation::Several, |_| one(named.clone()));
        assert_eq!(observation, expected);
        for first_seen in ["a", "b"] {
            assert_eq!(observe(Some(bound(first_seen))), expected, "{first_seen}");
        }
        let next = review_of(None, observation);
        let is_lost = next.statement().lost_status().is_some();
        assert_eq!(is_lost, status.is_lost() && other.is_lost());
    }
}

#[test]
fn two_accounts_that_are_both_off_are_a_loss() {
    let (on, off) = (IdentityStatus::Active, IdentityStatus::Disabled);
    let observe = |first, second| {
        let accounts = vec![person("a", first), person("b", second)];
        Observation::from_accounts("ada@example.org", None, accounts, Observation::Missing)
    };
    assert_eq!(observe(off, off), one(person("a", off)));
    assert_eq!(observe(off, on), Observation::Several);
}

#[test]
fn a_rejected_loss_stays_rejected_until_the_statement_changes() {
    let off = || one(person("a", IdentityStatus::Disabled));
    let review = review_of(Some(active()), off());
    let rejected = review.reject(&review.statement());
    assert_eq!(
        statuses(&rejected),
        (
            IdentityStatus::Unknown,
            Some(Reason::Rejected),
            IdentityStatus::Active
        )
    );
    assert_eq!(after(Some(rejected.clone()), off(), None, 1), rejected);
    assert_eq!(
        after(Some(rejected.clone()), Observation::Unmentioned, None, 1),
        rejected
    );
    let outsider = review_of(Some(active()), one(outside()));
    let rejected_outside = outsider.reject(&outsider.statement());
    for _ in 0..2 {
        let same = after(
            Some(rejected_outside.clone()),
            Observation::Unmentioned,
            None,
            1,
        );
        assert_eq!(same, rejected_outside);
    }
    let mut tally = BreakerTally::default();
    let again = review_of(Some(rejected.clone()), off());
    tally.count(&again, &again.statement(), &HeldChange::default());
    assert_eq!(tally.losses, 0, "a decision is not requested twice");
    // A deletion is another statement, which the breaker counts.
    let missing = review_of(Some(rejected.clone()), Observation::Missing);
    tally.count(&missing, &missing.statement(), &HeldChange::default());
    assert_eq!(tally.losses, 1);
    let back = after(
        Some(rejected),
        one(person("a", IdentityStatus::Active)),
        None,
        2,
    );
    assert_eq!(
        statuses(&back),
        (IdentityStatus::Active, None, IdentityStatus::Active)
    );
}

/// Counts the review as that of another person.
fn count(tally: &mut BreakerTally, number: usize, review: &PersonUnderReview) {
    let email = address(&format!("p{number}@example.org"));
    let review = PersonUnderReview {
        email,
        ..review.clone()
    };
    tally.count(&review, &review.statement(), &HeldChange::default());
}

fn tally(known: usize, lost: usize) -> BreakerTally {
    let mut tally = BreakerTally::default();
    for number in 0..known {
        let observation = if number < lost {
            one(person("a", IdentityStatus::Disabled))
        } else {
            one(person("a", IdentityStatus::Active))
        };
        let review = review_of(Some(active()), observation);
        count(&mut tally, number, &review);
    }
    tally
}

#[rstest]
#[case(10, 3, false)]
#[case(10, 4, true)]
#[case(4, 1, false)]
#[case(4, 3, false)]
#[case(40, 4, false)]
#[case(40, 5, true)]
#[case(100, 10, false)]
#[case(100, 11, true)]
fn the_breaker_trips_above_a_tenth_and_above_three(
    #[case] known: usize,
    #[case] lost: usize,
    #[case] trips: bool,
) {
    assert_eq!(
        tally(known, lost)
            .trip_reason(&DirectoryTerms::default())
            .is_some(),
        trips
    );
}

#[rstest]
#[case::outside_the_filter(
    Lookup::OutOfScope { evidence: "not in the filter".to_owned(), is_lost: false },
    Reason::OutsideFilter
)]
#[case::groups_are_not_known(found(IdentityStatus::Active), Reason::Absent)]
#[case::no_answer(Lookup::Unclear("403".to_owned()), Reason::Absent)]
fn the_breaker_counts_a_missing_person_once(#[case] lookup: Lookup, #[case] reason: Reason) {
    let losses = |known: &Identity, observation: Observation| {
        let mut tally = BreakerTally::default();
        count(&mut tally, 0, &review_of(Some(known.clone()), observation));
        tally.losses
    };
    let terms = DirectoryTerms {
        allowed_groups: vec!["ops".to_owned()],
        ..DirectoryTerms::default()
    };
    assert_eq!(losses(&active(), Observation::Missing), 1);
    let review = review_of(Some(active()), Observation::Missing);
    let next = review.conclude(&review.statement(), Some(&lookup), &terms, at(NOW));
    let next = next.unwrap();
    let expected = (
        IdentityStatus::Unknown,
        Some(reason),
        IdentityStatus::Active,
    );
    assert_eq!(statuses(&next), expected);
    assert_eq!(losses(&next, Observation::Missing), 0);
    // Another loss counts.
    let off = one(person("a", IdentityStatus::Disabled));
    assert_eq!(losses(&next, off), 1);
}

#[test]
fn the_breaker_counts_an_address_of_another_account_once() {
    let bea = || {
        one(Person {
            name: Some("Bea".to_owned()),
            ..person("b", IdentityStatus::Active)
        })
    };
    let unclear = Lookup::Unclear("403".to_owned());
    let kept = after(Some(active()), bea(), Some(&unclear), 1);
    assert_eq!(kept.reason, Some(Reason::BindingUnsafe));
    for (known, losses) in [(active(), 1), (kept, 0)] {
        let mut tally = BreakerTally::default();
        count(&mut tally, 0, &review_of(Some(known), bea()));
        assert_eq!(tally.losses, losses);
    }
}

#[test]
fn a_misconfigured_group_trips_the_breaker_at_the_first_listing() {
    let mut tally = BreakerTally::default();
    for number in 0..4 {
        let review = review_of(None, one(outside()));
        count(&mut tally, number, &review);
    }
    let reason = tally.trip_reason(&DirectoryTerms::default()).unwrap();
    assert_eq!(reason, "4 of 4 active people would lose access at once");
}

fn any_status() -> impl Strategy<Value = IdentityStatus> {
    proptest::sample::select(IdentityStatus::ALL)
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let account = (
        any_status(),
        proptest::sample::select(vec!["", "a", "b"]),
        any::<Option<bool>>(),
    );
    let account = account.prop_map(|(status, id, is_member)| {
        // The status of an account is without regard to groups.
        let status = if status == IdentityStatus::OutOfGroup {
            IdentityStatus::Active
        } else {
            status
        };
        one(Person {
            is_member,
            ..person(id, status)
        })
    });
    prop_oneof![
        4 => account,
        1 => Just(Observation::Several),
        2 => Just(Observation::Missing),
        1 => Just(Observation::Unmentioned),
    ]
}

fn any_lookup() -> impl Strategy<Value = Lookup> {
    prop_oneof![
        any_status().prop_map(|status| match status {
            IdentityStatus::OutOfGroup | IdentityStatus::Deleted => found(IdentityStatus::Active),
            status => found(status),
        }),
        any::<bool>().prop_map(|is_certain| Lookup::Gone {
            evidence: "404 for its id".to_owned(),
            is_certain,
        }),
        Just(Lookup::Unclear("403".to_owned())),
    ]
}

proptest! {
    /// For any observations in any order: a loss needs a positive statement, twice or confirmed by id if there
    /// are ids, and an unclear observation keeps the known status.
    #[test]
    fn an_unclear_observation_never_causes_a_loss(steps in proptest::collection::vec((any_observation(), any_lookup()), 1..12)) {
        let mut known: Option<Identity> = None;
        for (minute, (observation, lookup)) in steps.into_iter().enumerate() {
            let review = review_of(known.clone(), observation);
            let statement = review.statement();
            let lookup = review.lookup_id(&statement).map(|_| lookup);
            let now = at(NOW) + TimeDelta::hours(i64::try_from(minute).unwrap());
            let next = review.conclude(&statement, lookup.as_ref(), &DirectoryTerms::default(), now).or(known.clone()).unwrap();
            let before = known.as_ref().map(|known| known.status);
            if next.status.is_lost() && before != Some(next.status) {
                let by_lookup = matches!(&lookup,
                    Some(Lookup::Found(person)) if person.status == next.status)
                    || matches!(lookup, Some(Lookup::Gone { .. })) && next.status == IdentityStatus::Deleted;
                let was_outside = next.status == IdentityStatus::OutOfGroup
                    && known.as_ref().is_some_and(|known| known.candidate == Some(IdentityStatus::OutOfGroup));
                let is_justified = match &statement {
                    // If the lookup shows another loss, that is accepted.
                    Statement::Disabled(person) => by_lookup || person.id.is_none() && person.status == next.status,
                    // The recreated account can be outside the groups like the old one.
                    Statement::OtherAccount(person) => person.status == next.status || by_lookup || was_outside,
                    Statement::Missing(Some(_)) => by_lookup,
                    Statement::OutsideGroups(_) | Statement::Unchanged => was_outside,
                    _ => false,
                };
                prop_assert!(is_justified, "{statement:?} {lookup:?} made {next:?}");
            }
            if let (IdentityStatus::Unknown, Some(known)) = (next.status, &known) {
                prop_assert_eq!(next.known_status, known.known_status);
            }
            if next.status != IdentityStatus::Unknown {
                prop_assert_eq!(next.status, next.known_status);
            }
            known = Some(next);
        }
    }

    /// Never more than a tenth, or three, of the people lose access in one listing.
    #[test]
    fn the_breaker_lets_no_mass_change_through(known in 0_usize..200, share in 0.0_f64..=1.0) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a part of a small number")]
        let lost = (known as f64 * share) as usize;
        let tally = tally(known, lost);
        prop_assert_eq!((tally.active, tally.losses), (known, lost));
        let passes = tally.trip_reason(&DirectoryTerms::default()).is_none();
        prop_assert_eq!(passes, lost <= 3 || lost * 10 <= known);
    }
}

#[rstest]
#[case(IdentityStatus::Disabled, Some(Reason::Admin), None, Severity::High)]
#[case(IdentityStatus::Disabled, Some(Reason::Archived), None, Severity::High)]
#[case(
    IdentityStatus::Disabled,
    Some(Reason::Suspended),
    None,
    Severity::Medium
)]
#[case(
    IdentityStatus::Disabled,
    Some(Reason::Expired),
    None,
    Severity::Medium
)]
#[case(IdentityStatus::Deleted, None, None, Severity::High)]
#[case(IdentityStatus::OutOfGroup, None, None, Severity::Medium)]
#[case(
    IdentityStatus::Deleted,
    None,
    Some("Cluster-Admin"),
    Severity::Critical
)]
#[case(IdentityStatus::OutOfGroup, None, Some("owner"), Severity::High)]
#[case(IdentityStatus::Deleted, None, Some("badminton"), Severity::High)]
fn the_severity_of_a_loss_depends_on_its_kind_and_the_role(
    #[case] status: IdentityStatus,
    #[case] reason: Option<Reason>,
    #[case] role: Option<&str>,
    #[case] severity: Severity,
) {
    assert_eq!(Severity::of_loss(status, reason, role), severity);
}
