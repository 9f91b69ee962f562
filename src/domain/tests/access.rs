//! What is believed of a person, row by row, and that nothing is believed on a guess.

use proptest::prelude::*;
use rstest::rstest;

use super::{TimeDelta, address, at};
use crate::domain::access::{Case, Claim, Guards, Hold, Review, Sighting};
use crate::domain::{Identity, IdentityStatus, LookedUp, Person, Reason, Severity};

const NOW: &str = "2026-11-22T12:00:00Z";

const GUARDS: Guards<'static> = Guards {
    absence_grace: TimeDelta::minutes(30),
    breaker_share: 0.1,
    breaker_min: 3,
    allowed_groups: &[],
};

fn person(id: &str, status: IdentityStatus) -> Person {
    Person {
        id: (!id.is_empty()).then(|| id.to_owned()),
        addresses: vec![address("ada@example.org")],
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

fn case(known: Option<Identity>, sighting: Sighting) -> Case {
    Case {
        email: address("ada@example.org"),
        known,
        sighting,
    }
}

fn one(person: Person) -> Sighting {
    Sighting::One(Box::new(person))
}

fn gone() -> LookedUp {
    LookedUp::Gone {
        evidence: "404 for its id".to_owned(),
        is_certain: false,
    }
}

fn found(status: IdentityStatus) -> LookedUp {
    LookedUp::Found(Box::new(person("a", status)))
}

/// What is known after this pull and look, at this minute after noon.
fn after(
    known: Option<Identity>,
    sighting: Sighting,
    looked: Option<&LookedUp>,
    minute: i64,
) -> Identity {
    let case = case(known.clone(), sighting);
    let claim = case.claim();
    assert_eq!(
        case.look_up(&claim).is_some(),
        looked.is_some(),
        "a look by id is asked for just when it is given: {claim:?}"
    );
    let now = at(NOW) + TimeDelta::minutes(minute);
    let next = case.conclude(&claim, looked, &GUARDS, now);
    next.or(known).unwrap()
}

/// Somebody who was seen active in the account `a`.
fn active() -> Identity {
    after(None, one(person("a", IdentityStatus::Active)), None, 0)
}

fn is(identity: &Identity) -> (IdentityStatus, Option<Reason>, IdentityStatus) {
    (identity.status, identity.reason, identity.known_status)
}

#[test]
fn a_disabled_account_counts_once_its_primary_store_says_so() {
    let off = || one(person("a", IdentityStatus::Disabled));
    let believed = after(
        Some(active()),
        off(),
        Some(&found(IdentityStatus::Disabled)),
        1,
    );
    let disabled = IdentityStatus::Disabled;
    assert_eq!(is(&believed), (disabled, Some(Reason::Admin), disabled));
    assert_eq!(believed.evidence, "status disabled, checked by id");
    // It is not looked up again, and nothing is written.
    let again = after(Some(believed.clone()), off(), None, 2);
    assert_eq!(again, believed);

    let lagging = after(
        Some(active()),
        off(),
        Some(&found(IdentityStatus::Active)),
        1,
    );
    assert_eq!(lagging.status, IdentityStatus::Active);
    let unclear = LookedUp::Unclear("403".to_owned());
    let unclear = after(Some(active()), off(), Some(&unclear), 1);
    assert_eq!(
        is(&unclear),
        (
            IdentityStatus::Unknown,
            Some(Reason::Unconfirmed),
            IdentityStatus::Active
        )
    );
}

#[test]
fn a_file_has_no_ids_and_is_believed_at_once() {
    let known = after(None, one(person("", IdentityStatus::Active)), None, 0);
    let off = after(
        Some(known.clone()),
        one(person("", IdentityStatus::Deleted)),
        None,
        1,
    );
    assert_eq!(off.status, IdentityStatus::Deleted);
    let missing = after(Some(known), Sighting::Missing, None, 1);
    assert_eq!(
        is(&missing),
        (
            IdentityStatus::Unknown,
            Some(Reason::Absent),
            IdentityStatus::Active
        )
    );
}

#[test]
fn a_deletion_takes_two_looks_with_the_grace_between_them() {
    let first = after(Some(active()), Sighting::Missing, Some(&gone()), 10);
    assert_eq!(
        is(&first),
        (
            IdentityStatus::Unknown,
            Some(Reason::Absent),
            IdentityStatus::Active
        )
    );
    let early = after(Some(first.clone()), Sighting::Missing, Some(&gone()), 39);
    assert_eq!(early, first);
    let late = after(Some(first.clone()), Sighting::Missing, Some(&gone()), 40);
    assert_eq!(late.status, IdentityStatus::Deleted);
    assert_eq!(late.since, Some(at(NOW) + TimeDelta::minutes(40)));
    assert_eq!(
        late.evidence,
        "404 for its id, checked by id twice, first at 2026-11-22 12:10 UTC"
    );
    assert_eq!(after(Some(late.clone()), Sighting::Missing, None, 90), late);
    // Changes alone do not tell of somebody again who is missing.
    let unmentioned = after(Some(first), Sighting::Unmentioned, Some(&gone()), 40);
    assert_eq!(unmentioned.status, IdentityStatus::Deleted);
}

#[test]
fn a_clock_that_jumped_proves_no_deletion() {
    let first = after(Some(active()), Sighting::Missing, Some(&gone()), 600);
    let back = after(Some(first), Sighting::Missing, Some(&gone()), 10);
    assert_eq!(back.status, IdentityStatus::Unknown);
    assert_eq!(back.candidate_since, Some(at(NOW) + TimeDelta::minutes(10)));
}

#[test]
fn a_recycle_bin_proves_a_deletion_and_a_listing_without_somebody_proves_none() {
    let in_bin = LookedUp::Gone {
        evidence: "it is among the deleted items".to_owned(),
        is_certain: true,
    };
    let deleted = after(Some(active()), Sighting::Missing, Some(&in_bin), 1);
    assert_eq!(deleted.status, IdentityStatus::Deleted);
    let there = found(IdentityStatus::Active);
    let still = after(Some(active()), Sighting::Missing, Some(&there), 1);
    assert_eq!(still.status, IdentityStatus::Active);
    let unclear = LookedUp::Unclear("403".to_owned());
    let unclear = after(Some(active()), Sighting::Missing, Some(&unclear), 1);
    assert_eq!(unclear.status, IdentityStatus::Unknown);
}

#[test]
fn whoever_was_never_seen_is_unknown_however_often_he_is_missing() {
    let mut known = None;
    for minute in 0..5 {
        known = Some(after(known, Sighting::Missing, None, minute * 60));
    }
    let never = known.unwrap();
    assert_eq!(
        is(&never),
        (
            IdentityStatus::Unknown,
            Some(Reason::NeverSeen),
            IdentityStatus::Unknown
        )
    );
    assert_eq!(never.observed_at, None);
}

#[test]
fn a_group_is_left_when_two_readings_say_so() {
    let first = after(Some(active()), one(outside()), None, 1);
    assert_eq!(
        is(&first),
        (
            IdentityStatus::Unknown,
            Some(Reason::Unconfirmed),
            IdentityStatus::Active
        )
    );
    for second in [one(outside()), Sighting::Unmentioned] {
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
fn whoever_comes_back_is_active_at_once() {
    let off = one(person("a", IdentityStatus::Disabled));
    let off = after(
        Some(active()),
        off,
        Some(&found(IdentityStatus::Disabled)),
        1,
    );
    let back = after(Some(off), one(person("a", IdentityStatus::Active)), None, 2);
    assert_eq!(
        is(&back),
        (IdentityStatus::Active, None, IdentityStatus::Active)
    );
}

#[test]
fn an_address_that_was_given_away_says_nothing_of_who_had_it() {
    let bea = Person {
        name: Some("Bea".to_owned()),
        ..person("b", IdentityStatus::Active)
    };
    let first = after(Some(active()), one(bea.clone()), Some(&gone()), 10);
    assert_eq!(is(&first).0, IdentityStatus::Unknown);
    let second = after(Some(first), one(bea.clone()), Some(&gone()), 50);
    assert_eq!(
        second.status,
        IdentityStatus::Deleted,
        "Ada is gone, whoever has her address"
    );
    let later = after(Some(second.clone()), one(bea.clone()), None, 60);
    assert_eq!(later, second);
    // Ada may as well be there still, under another address.
    let there = found(IdentityStatus::Active);
    let moved = after(Some(active()), one(bea.clone()), Some(&there), 10);
    assert_eq!(moved.account_id.as_deref(), Some("a"));
    assert_eq!(moved.status, IdentityStatus::Active);
    let unclear = LookedUp::Unclear("403".to_owned());
    let unclear = after(Some(active()), one(bea), Some(&unclear), 10);
    assert_eq!(unclear.reason, Some(Reason::BindingUnsafe));
}

#[test]
fn whoever_was_made_anew_is_the_same_person() {
    let anew = person("b", IdentityStatus::Active);
    let moved = after(Some(active()), one(anew.clone()), Some(&gone()), 10);
    assert_eq!(
        (moved.status, moved.account_id.as_deref()),
        (IdentityStatus::Active, Some("b"))
    );
    let gone_once = after(Some(active()), Sighting::Missing, Some(&gone()), 0);
    let deleted = after(Some(gone_once), Sighting::Missing, Some(&gone()), 60);
    assert_eq!(deleted.status, IdentityStatus::Deleted);
    let back = after(Some(deleted), one(anew), None, 70);
    assert_eq!(
        (back.status, back.account_id.as_deref()),
        (IdentityStatus::Active, Some("b"))
    );
}

#[test]
fn a_new_account_that_does_not_work_goes_before_the_breaker_like_any() {
    for anew in [
        person("b", IdentityStatus::Disabled),
        Person {
            id: Some("b".to_owned()),
            ..outside()
        },
    ] {
        let moved = after(Some(active()), one(anew.clone()), Some(&gone()), 10);
        let unconfirmed = (
            IdentityStatus::Unknown,
            Some(Reason::Unconfirmed),
            IdentityStatus::Active,
        );
        assert_eq!(is(&moved), unconfirmed);
        assert_eq!(moved.account_id.as_deref(), Some("b"));
        let mut review = Review::default();
        count(&mut review, 0, &case(Some(moved), one(anew)));
        assert_eq!(review.turned.len(), 1);
    }
}

#[test]
fn of_several_accounts_the_bound_one_counts_unless_another_works() {
    let (on, off) = (IdentityStatus::Active, IdentityStatus::Disabled);
    let of = |bound, accounts: &[(&str, IdentityStatus)]| {
        let accounts = accounts.iter().map(|(id, status)| person(id, *status));
        Sighting::of(
            "ada@example.org",
            bound,
            accounts.collect(),
            Sighting::Missing,
        )
    };
    assert_eq!(of(None, &[]), Sighting::Missing);
    assert_eq!(of(None, &[("a", off)]), one(person("a", off)));
    assert_eq!(of(None, &[("a", on), ("b", on)]), Sighting::Several);
    assert_eq!(of(Some("c"), &[("a", on), ("b", on)]), Sighting::Several);
    assert_eq!(
        of(Some("b"), &[("a", off), ("b", on)]),
        one(person("b", on))
    );
    assert_eq!(of(Some("b"), &[("a", on), ("b", off)]), Sighting::Several);
    assert_eq!(
        of(Some("b"), &[("a", off), ("b", off)]),
        one(person("b", off))
    );
    // A leaver's address is kept alive by a colleague, whose own is another.
    let mut colleague = person("a", on);
    colleague.addresses.insert(0, address("bea@example.org"));
    let accounts = vec![person("b", off), colleague];
    let told = Sighting::of("ada@example.org", Some("b"), accounts, Sighting::Missing);
    assert_eq!(told, one(person("b", off)));
    let ambiguous = after(Some(active()), Sighting::Several, None, 1);
    assert_eq!(
        is(&ambiguous),
        (
            IdentityStatus::Unknown,
            Some(Reason::Ambiguous),
            IdentityStatus::Active
        )
    );
}

#[test]
fn what_an_operator_refused_is_refused_until_the_directory_says_something_else() {
    let off = || one(person("a", IdentityStatus::Disabled));
    let asked = case(Some(active()), off());
    let refused = asked.refuse(&asked.claim());
    assert_eq!(
        is(&refused),
        (
            IdentityStatus::Unknown,
            Some(Reason::Rejected),
            IdentityStatus::Active
        )
    );
    assert_eq!(after(Some(refused.clone()), off(), None, 1), refused);
    assert_eq!(
        after(Some(refused.clone()), Sighting::Unmentioned, None, 1),
        refused
    );
    let outsider = case(Some(active()), one(outside()));
    let refused_outside = outsider.refuse(&outsider.claim());
    for _ in 0..2 {
        let same = after(
            Some(refused_outside.clone()),
            Sighting::Unmentioned,
            None,
            1,
        );
        assert_eq!(same, refused_outside);
    }
    let mut review = Review::default();
    let again = case(Some(refused.clone()), off());
    review.count(&again, &again.claim(), &Hold::default());
    assert!(review.turned.is_empty(), "nobody is asked twice");
    // A deletion is another statement, and goes before the breaker like any.
    let missing = case(Some(refused.clone()), Sighting::Missing);
    review.count(&missing, &missing.claim(), &Hold::default());
    assert_eq!(review.turned.len(), 1);
    let back = after(
        Some(refused),
        one(person("a", IdentityStatus::Active)),
        None,
        2,
    );
    assert_eq!(
        is(&back),
        (IdentityStatus::Active, None, IdentityStatus::Active)
    );
}

/// Counts a case as that of another person.
fn count(review: &mut Review, number: usize, case: &Case) {
    let email = address(&format!("p{number}@example.org"));
    let case = Case {
        email,
        ..case.clone()
    };
    review.count(&case, &case.claim(), &Hold::default());
}

fn review(known: usize, lost: usize) -> Review {
    let mut review = Review::default();
    for number in 0..known {
        let sighting = if number < lost {
            one(person("a", IdentityStatus::Disabled))
        } else {
            one(person("a", IdentityStatus::Active))
        };
        let case = case(Some(active()), sighting);
        count(&mut review, number, &case);
    }
    review
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
    assert_eq!(review(known, lost).tripped(&GUARDS).is_some(), trips);
}

#[test]
fn a_group_named_wrongly_trips_it_at_first_sight() {
    let mut review = Review::default();
    for number in 0..4 {
        let case = case(None, one(outside()));
        count(&mut review, number, &case);
    }
    let said = review.tripped(&GUARDS).unwrap();
    assert_eq!(
        said,
        "4 of 4 people known active would lose their access at once"
    );
}

fn any_status() -> impl Strategy<Value = IdentityStatus> {
    proptest::sample::select(IdentityStatus::ALL)
}

fn any_sighting() -> impl Strategy<Value = Sighting> {
    let account = (
        any_status(),
        proptest::sample::select(vec!["", "a", "b"]),
        any::<Option<bool>>(),
    );
    let account = account.prop_map(|(status, id, is_member)| {
        // An account says nothing of groups.
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
        1 => Just(Sighting::Several),
        2 => Just(Sighting::Missing),
        1 => Just(Sighting::Unmentioned),
    ]
}

fn any_look() -> impl Strategy<Value = LookedUp> {
    prop_oneof![
        any_status().prop_map(|status| match status {
            IdentityStatus::OutOfGroup | IdentityStatus::Deleted => found(IdentityStatus::Active),
            status => found(status),
        }),
        any::<bool>().prop_map(|is_certain| LookedUp::Gone {
            evidence: "404 for its id".to_owned(),
            is_certain,
        }),
        Just(LookedUp::Unclear("403".to_owned())),
    ]
}

proptest! {
    /// Whatever a directory says in whatever order: a loss is believed only where there is a positive statement
    /// of it, twice or by id where there are ids; and what is unclear keeps what was known.
    #[test]
    fn unknown_never_flags(steps in proptest::collection::vec((any_sighting(), any_look()), 1..12)) {
        let mut known: Option<Identity> = None;
        for (minute, (sighting, look)) in steps.into_iter().enumerate() {
            let case = case(known.clone(), sighting);
            let claim = case.claim();
            let looked = case.look_up(&claim).map(|_| look);
            let now = at(NOW) + TimeDelta::hours(i64::try_from(minute).unwrap());
            let next = case.conclude(&claim, looked.as_ref(), &GUARDS, now).or(known.clone()).unwrap();
            let before = known.as_ref().map(|it| it.status);
            if next.status.is_lost() && before != Some(next.status) {
                let by_look = matches!(&looked,
                    Some(LookedUp::Found(person)) if person.status == next.status)
                    || matches!(looked, Some(LookedUp::Gone { .. })) && next.status == IdentityStatus::Deleted;
                let was_outside = next.status == IdentityStatus::OutOfGroup
                    && known.as_ref().is_some_and(|it| it.candidate == Some(IdentityStatus::OutOfGroup));
                let by_word = match &claim {
                    // Where the look says another loss, that is what is believed.
                    Claim::Off(person) => by_look || person.id.is_none() && person.status == next.status,
                    // In a new account they are as much outside as they were in the old one.
                    Claim::Stranger(person) => person.status == next.status || by_look || was_outside,
                    Claim::Missing(Some(_)) => by_look,
                    Claim::Outside(_) | Claim::Same => was_outside,
                    _ => false,
                };
                prop_assert!(by_word, "{claim:?} {looked:?} made {next:?}");
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

    /// However many people there are: never more than a tenth or three lose their access in one pull.
    #[test]
    fn the_breaker_lets_no_mass_change_through(known in 0_usize..200, share in 0.0_f64..=1.0) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a part of a small number")]
        let lost = (known as f64 * share) as usize;
        let review = review(known, lost);
        prop_assert_eq!((review.active, review.turned.len()), (known, lost));
        let passes = review.tripped(&GUARDS).is_none();
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
fn a_loss_is_as_bad_as_its_kind_and_the_tokens_role(
    #[case] status: IdentityStatus,
    #[case] reason: Option<Reason>,
    #[case] role: Option<&str>,
    #[case] severity: Severity,
) {
    assert_eq!(Severity::of_loss(status, reason, role), severity);
}
