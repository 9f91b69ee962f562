//! The rules about tokens: tables of single facts, and properties of all tokens.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rstest::rstest;

use super::{at, token};
use crate::domain::{
    Expiry, ExpiryOrigin, FindingKind, Rules, Severity, Status, Token, unknown_expiries,
};

fn now() -> DateTime<Utc> {
    at("2026-11-21T12:00:00Z")
}

fn days(days: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(days)
}

fn rules() -> Rules {
    Rules {
        max_ttl: Some(TimeDelta::days(90)),
        unused_after: Some(TimeDelta::days(90)),
        new_place: false,
    }
}

/// Created 40 days ago, used yesterday, expires in a week.
fn clean() -> Token {
    Token {
        created_at: Some(days(-40)),
        life_from: Some(days(-40)),
        first_seen_at: days(-39),
        expiry: Expiry::At(days(7)),
        reports_use: true,
        last_used_at: Some(days(-1)),
        ..token()
    }
}

fn kinds(token: &Token) -> Vec<FindingKind> {
    let findings = rules().findings(token, now());
    findings.into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_token_in_use_that_expires_soon_has_no_finding() {
    assert!(kinds(&clean()).is_empty());
}

#[rstest]
#[case::never(Token { expiry: Expiry::Never, ..clean() }, FindingKind::NeverExpires, "it has no expiry at its source")]
#[case::too_long(
    Token { expiry: Expiry::At(days(51)), ..clean() },
    FindingKind::TooLong,
    "it lives 91d from 2026-10-12 to 2027-01-11; max_ttl is 90d"
)]
#[case::too_long_by_computation(
    Token { expiry: Expiry::At(days(51)), expiry_origin: Some(ExpiryOrigin::Computed), ..clean() },
    FindingKind::TooLong,
    "it lives 91d from 2026-10-12 to 2027-01-11; max_ttl is 90d"
)]
#[case::too_long_at_least(
    Token { expiry: Expiry::At(days(100)), created_at: None, life_from: None, first_seen_at: now(), ..clean() },
    FindingKind::TooLong,
    "it lives 100d from 2026-11-21 to 2027-03-01; max_ttl is 90d"
)]
#[case::unused(
    Token { created_at: None, last_used_at: Some(days(-90)), ..clean() },
    FindingKind::Unused,
    "last used on 2026-08-23; unused_after is 90d"
)]
#[case::never_used(
    Token { created_at: Some(days(-100)), last_used_at: None, ..clean() },
    FindingKind::Unused,
    "never used since it was created on 2026-08-13; unused_after is 90d"
)]
#[case::never_seen_used(
    Token { created_at: None, first_seen_at: days(-100), last_used_at: None, ..clean() },
    FindingKind::Unused,
    "never used since it was first seen on 2026-08-13; unused_after is 90d"
)]
#[case::created_again_and_never_used(
    Token { created_at: Some(days(-100)), last_used_at: Some(days(-200)), ..clean() },
    FindingKind::Unused,
    "never used since it was created on 2026-08-13; unused_after is 90d"
)]
#[case::orphaned(
    Token { issuer_gone: Some("no user u-7xk2p".into()), ..clean() },
    FindingKind::Orphaned,
    "no user u-7xk2p"
)]
fn each_problem_is_found_with_its_evidence(
    #[case] token: Token,
    #[case] kind: FindingKind,
    #[case] evidence: &str,
) {
    let findings = rules().findings(&token, now());
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!((finding.kind, finding.evidence.as_str()), (kind, evidence));
}

#[rstest]
#[case::the_longest_life_allowed(Token { expiry: Expiry::At(days(50)), ..clean() })]
#[case::a_source_that_rounds(Token { expiry: Expiry::At(days(50) + TimeDelta::seconds(60)), ..clean() })]
#[case::a_renewed_life(Token { life_from: Some(days(-1)), expiry: Expiry::At(days(80)), ..clean() })]
#[case::an_unknown_expiry(Token { expiry: Expiry::Unknown, expiry_origin: None, ..clean() })]
#[case::a_source_that_does_not_report_use(Token { reports_use: false, last_used_at: None, created_at: Some(days(-900)), ..clean() })]
#[case::a_recent_use(Token { last_used_at: Some(days(-90) + TimeDelta::seconds(1)), ..clean() })]
#[case::a_use_in_the_future(Token { last_used_at: Some(days(400)), ..clean() })]
#[case::a_long_life_that_our_policy_set(
    Token { expiry: Expiry::At(days(300)), expiry_origin: Some(ExpiryOrigin::Policy), ..clean() }
)]
fn an_allowed_token_has_no_finding(#[case] token: Token) {
    assert_eq!(kinds(&token), []);
}

/// A token that breaks every rule.
fn bad(status: Status, expiry: Expiry) -> Token {
    Token {
        status,
        expiry,
        last_used_at: Some(days(-200)),
        created_at: Some(days(-400)),
        life_from: Some(days(-400)),
        issuer_gone: Some("gone".into()),
        ..clean()
    }
}

#[rstest]
#[case(Status::Disabled, Expiry::Never)]
#[case(Status::Revoked, Expiry::Never)]
#[case(Status::Gone, Expiry::Never)]
#[case(Status::Expired, Expiry::At(days(-1)))]
#[case::not_yet_marked(Status::Active, Expiry::At(now()))]
fn a_token_that_does_not_work_has_no_finding(#[case] status: Status, #[case] expiry: Expiry) {
    assert_eq!(kinds(&bad(status, expiry)), []);
}

#[test]
fn several_problems_are_several_findings() {
    let all = [
        FindingKind::Orphaned,
        FindingKind::TooLong,
        FindingKind::Unused,
    ];
    assert_eq!(kinds(&bad(Status::Active, Expiry::At(days(1)))), all);
}

#[test]
fn an_expiry_of_our_policy_prevents_the_finding_until_it_passes() {
    let token = Token {
        expiry: Expiry::At(days(10)),
        expiry_origin: Some(ExpiryOrigin::Policy),
        ..clean()
    };
    let judgement = rules().judge(&token, now());
    assert_eq!(
        (judgement.findings, judgement.next_at),
        (vec![], Some(days(10)))
    );
    for status in [Status::Active, Status::Expired] {
        let token = Token {
            status,
            ..token.clone()
        };
        let later = rules().judge(&token, days(10));
        assert_eq!(later.findings[0].kind, FindingKind::NeverExpires);
        assert_eq!(later.findings[0].since, Some(days(10)));
        assert!(later.findings[0].evidence.contains("2026-12-01"));
        // The day from which it counts as unused.
        assert_eq!(later.next_at, Some(days(89)));
    }
}

#[test]
fn a_token_becomes_unused_by_time_alone_but_not_after_its_expiry() {
    let endless = Token {
        expiry: Expiry::Unknown,
        expiry_origin: None,
        ..clean()
    };
    assert_eq!(rules().judge(&endless, now()).next_at, Some(days(89)));
    assert_eq!(rules().judge(&clean(), now()).next_at, None);
    let unused = bad(Status::Active, Expiry::At(days(1)));
    assert_eq!(rules().judge(&unused, now()).next_at, Some(days(1)));
}

#[rstest]
#[case(None, Severity::Medium)]
#[case(Some("editor"), Severity::Medium)]
#[case(Some("administer-nothing"), Severity::Medium)]
#[case(Some("Cluster-Admin"), Severity::High)]
#[case(Some("org-level-creator,super"), Severity::High)]
#[case(Some("Administrators"), Severity::High)]
fn an_administrators_token_is_more_severe(#[case] role: Option<&str>, #[case] severity: Severity) {
    let token = Token {
        role: role.map(str::to_owned),
        expiry: Expiry::Never,
        ..clean()
    };
    assert_eq!(rules().findings(&token, now())[0].severity, severity);
}

#[test]
fn without_rules_only_orphaned_and_endless_tokens_are_found() {
    let none = Rules::default();
    let token = bad(Status::Active, Expiry::Never);
    let findings = none.findings(&token, now());
    let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::Orphaned, FindingKind::NeverExpires]);
    assert_ne!(none.fingerprint(), rules().fingerprint());
}

#[rstest]
#[case(None, true)]
#[case(Some(90), false)]
#[case(Some(91), true)]
fn a_source_may_allow_lives_up_to_max_ttl(#[case] allowed: Option<i64>, #[case] is_found: bool) {
    let longest = allowed.map(TimeDelta::days);
    let finding = rules().source_finding(longest, "max-ttl is 0");
    assert_eq!(finding.is_some(), is_found);
    let without_rules = Rules::default().source_finding(longest, "max-ttl is 0");
    assert_eq!(
        without_rules.is_some(),
        allowed.is_none(),
        "any life is allowed"
    );
}

#[test]
fn a_token_is_judged_when_its_findings_may_change() {
    let (rules, clean) = (rules(), clean());
    let endless = Token {
        expiry: Expiry::Never,
        ..clean.clone()
    };
    // A clean token is not judged: it expires before it can be unused.
    assert_eq!(rules.next_judge_at(None, &clean, now()), None);
    assert_eq!(rules.next_judge_at(None, &endless, now()), Some(now()));
    assert_eq!(
        rules.next_judge_at(Some(&clean), &endless, now()),
        Some(now())
    );
    assert_eq!(
        rules.next_judge_at(Some(&endless), &clean, now()),
        Some(now())
    );
    // A new name does not change the findings, and a use does not move `judge_at`.
    let known = Token {
        judge_at: Some(days(80)),
        ..endless.clone()
    };
    let used = Token {
        last_used_at: Some(now()),
        name: "other".into(),
        ..known.clone()
    };
    assert_eq!(
        rules.next_judge_at(Some(&known), &used, now()),
        Some(days(80))
    );
    // A `judge_at` that is due is kept.
    let due = Token {
        judge_at: Some(days(-1)),
        ..clean.clone()
    };
    assert_eq!(
        rules.next_judge_at(Some(&due), &clean, now()),
        Some(days(-1))
    );
}

fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (
        -400_i64..400,
        prop_oneof![Just(0_i64), Just(1), Just(43_200)],
    )
        .prop_map(|(day, seconds)| days(day) + TimeDelta::seconds(seconds))
}

fn tokens() -> impl Strategy<Value = Token> {
    let expiry = prop_oneof![
        Just((Expiry::Never, Some(ExpiryOrigin::Source))),
        Just((Expiry::Unknown, None)),
        (
            instants(),
            proptest::sample::select(ExpiryOrigin::ALL.to_vec())
        )
            .prop_map(|(at, origin)| (Expiry::At(at), Some(origin))),
    ];
    let facts = (
        expiry,
        proptest::option::of(instants()),
        proptest::option::of(instants()),
        any::<bool>(),
        any::<bool>(),
        proptest::sample::select(Status::ALL.to_vec()),
    );
    facts.prop_map(
        |(expiry, created_at, used_at, reports_use, is_gone, status)| Token {
            expiry: expiry.0,
            expiry_origin: expiry.1,
            created_at,
            life_from: created_at,
            last_used_at: used_at,
            reports_use,
            issuer_gone: is_gone.then(|| "gone".to_owned()),
            status,
            ..clean()
        },
    )
}

proptest! {
    /// The findings hold until `next_at`, and change then.
    #[test]
    fn findings_hold_until_next_at(token in tokens(), from in instants(), shares in proptest::collection::vec(0.0_f64..1.0, 8)) {
        let rules = rules();
        let judgement = rules.judge(&token, from);
        let until = judgement.next_at.unwrap_or(from + TimeDelta::days(3_000));
        prop_assert!(until > from);
        for share in shares {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "any instant between")]
            let between = from + TimeDelta::seconds(((until - from).num_seconds() as f64 * share) as i64);
            prop_assert_eq!(&rules.findings(&token, between), &judgement.findings, "at {}", between);
        }
        let last = until - TimeDelta::microseconds(1);
        prop_assert_eq!(&rules.findings(&token, last), &judgement.findings);
        if judgement.next_at.is_some() {
            prop_assert_ne!(&rules.findings(&token, until), &judgement.findings);
        }
    }

    /// A changed token is judged no later than its findings change.
    #[test]
    fn no_change_is_missed(known in tokens(), token in tokens(), judged in instants(), after in 0_i64..300) {
        let rules = rules();
        let now = judged + TimeDelta::days(after);
        let judgement = rules.judge(&known, judged);
        let known = Token { judge_at: judgement.next_at, ..known };
        let judge_at = rules.next_judge_at(Some(&known), &token, now);
        let token = Token { judge_at, ..token };
        for later in [0, 1, 50, 89, 90, 91, 400, 2_000] {
            let at = now + TimeDelta::days(later);
            if rules.findings(&token, at) != judgement.findings {
                prop_assert!(judge_at.is_some_and(|judge_at| judge_at <= at), "not judged by {}: {:?}", at, judge_at);
            }
        }
    }
}

#[test]
fn an_unreadable_cell_is_a_finding_and_decides_no_other() {
    let used_long_ago = Token {
        created_at: Some(days(-120)),
        last_used_at: Some(days(-100)),
        ..clean()
    };
    assert_eq!(kinds(&used_long_ago), [FindingKind::Unused]);
    let reason = "\"yesterday\" is not a date".to_owned();
    let unreadable = Token {
        unreadable: [("last_used_at".to_owned(), reason)].into(),
        ..used_long_ago
    };
    let judgement = rules().judge(&unreadable, now());
    assert_eq!(kinds(&unreadable), [FindingKind::Unreadable]);
    assert_eq!(judgement.undecided, [FindingKind::Unused]);
    assert_eq!(
        judgement.findings[0].evidence,
        "last_used_at \"yesterday\" is not a date"
    );
}

#[test]
fn a_policy_date_of_a_token_without_a_known_expiry_is_a_finding_once_it_has_passed() {
    let token = |ends_at: &str| Token {
        expiry: Expiry::At(at(ends_at)),
        expiry_origin: Some(ExpiryOrigin::Policy),
        is_expiry_unreported: true,
        ..clean()
    };
    assert_eq!(rules().findings(&token("2026-11-23T00:00:00Z"), now()), []);
    let passed = rules().findings(&token("2026-11-20T00:00:00Z"), now());
    assert_eq!(passed[0].kind, FindingKind::UnknownExpiry);
    assert_eq!(
        passed[0].evidence,
        "its source reports no expiry, and the one that policy_ttl set has passed: 2026-11-20"
    );
}

#[rstest]
#[case(5, 3, Some("3 of 5 active tokens have no known expiry"))]
#[case(1, 1, Some("1 of 1 active tokens have"))]
#[case(4, 2, None)]
#[case(0, 0, None)]
fn a_source_without_known_expiries_is_a_finding(
    #[case] active: i64,
    #[case] unknown: i64,
    #[case] evidence: Option<&str>,
) {
    let finding = unknown_expiries(active, unknown);
    assert_eq!(finding.is_some(), evidence.is_some());
    let found = finding.map(|finding| finding.evidence).unwrap_or_default();
    assert!(found.contains(evidence.unwrap_or_default()), "{found}");
}

#[test]
fn a_token_with_an_owner_that_cannot_be_read_is_no_orphan() {
    let orphaned = Token {
        issuer_gone: Some("the issuer is deleted at the source".to_owned()),
        ..clean()
    };
    assert_eq!(kinds(&orphaned), [FindingKind::Orphaned]);
    let reason = "\"svc-team\" is not a mail address".to_owned();
    let unclear = Token {
        unreadable: [("issuer_email".to_owned(), reason)].into(),
        ..orphaned
    };
    assert_eq!(kinds(&unclear), [FindingKind::Unreadable]);
    let undecided = rules().judge(&unclear, now()).undecided;
    assert_eq!(undecided, [FindingKind::Orphaned]);
}
