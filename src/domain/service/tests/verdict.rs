//! When a token is accepted, and what it may do then.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use crate::domain::TokenId;
use crate::domain::service::{
    Access, Credential, CredentialState, Kind, NewSecret, OldSecret, Parent, Presented, PublicId,
    Refusal, Roles, ServicePerson, StoredSecret, judge, judge_again,
};

fn now() -> DateTime<Utc> {
    "2026-11-30T12:00:00Z".parse().unwrap()
}

const SECOND: TimeDelta = TimeDelta::seconds(1);
const ADDRESS: &str = "10.1.2.3";

/// A token of Ada in the account acme, and what they present.
struct Case {
    credential: Credential,
    parents: Vec<Credential>,
    person: ServicePerson,
    presented: Presented,
    address: IpAddr,
}

fn roles() -> Roles {
    Roles::new(
        ["administrator", "user", "viewer"]
            .map(str::to_owned)
            .to_vec(),
    )
}

fn stored(id: &PublicId, number: u32) -> (StoredSecret, Presented) {
    let secret = NewSecret::generate("lapsed", id);
    let stored = StoredSecret {
        number,
        digest: secret.digest,
        created_at: now() - TimeDelta::days(1),
        last_used_at: None,
    };
    let presented = Presented::parse(secret.token.expose_secret()).unwrap();
    (stored, presented)
}

fn credential() -> (Credential, Presented) {
    let id = PublicId::generate();
    let (secret, presented) = stored(&id, 1);
    let credential = Credential {
        id: TokenId::new("local", id.as_str()),
        public_id: id,
        kind: Kind::Api,
        issuer: "ada@example.org".into(),
        account: Some("acme".into()),
        role: None,
        scopes: "".parse().unwrap(),
        networks: "".parse().unwrap(),
        created_at: now() - TimeDelta::days(1),
        not_before: None,
        expires_at: Some(now() + TimeDelta::days(1)),
        state: CredentialState::Active,
        secret,
        old_secret: None,
        parent: None,
        version: 1,
    };
    (credential, presented)
}

impl Case {
    fn new() -> Self {
        let (credential, presented) = credential();
        let person = ServicePerson {
            key: "ada@example.org".into(),
            address: "ada@example.org".parse().ok(),
            name: None,
            is_super: false,
            is_sso: false,
            owners: vec![],
            created_at: now() - TimeDelta::days(1),
            disabled_at: None,
            lost_access_at: None,
            roles: [("acme".to_owned(), "user".to_owned())].into(),
            version: 1,
        };
        Self {
            credential,
            parents: vec![],
            person,
            presented,
            address: ADDRESS.parse().unwrap(),
        }
    }

    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::new();
        change(&mut case);
        case
    }

    /// Regenerated: the old secret, which is presented, works for an hour more.
    fn regenerated() -> Self {
        let mut case = Self::new();
        let (secret, _) = stored(&case.credential.public_id, 2);
        let old = std::mem::replace(&mut case.credential.secret, secret);
        case.credential.old_secret = Some(OldSecret {
            secret: old,
            valid_until: now() + TimeDelta::hours(1),
        });
        case
    }

    /// Exchanged for a token that was exchanged for another.
    fn exchanged() -> Self {
        let mut case = Self::new();
        case.parents = vec![credential().0, credential().0];
        let parent = |credential: &Credential| Parent {
            id: credential.id,
            secret: credential.secret.number,
        };
        case.parents[0].parent = Some(parent(&case.parents[1]));
        case.credential.parent = Some(parent(&case.parents[0]));
        case
    }

    fn judge(&self) -> Result<Access, Refusal> {
        self.judge_at(now())
    }

    fn judge_at(&self, now: DateTime<Utc>) -> Result<Access, Refusal> {
        let chain = std::iter::once(&self.credential).chain(&self.parents);
        let chain: Vec<_> = chain.cloned().map(Arc::new).collect();
        let person = Arc::new(self.person.clone());
        judge(
            &self.presented,
            &chain,
            &person,
            &roles(),
            self.address,
            now,
        )
    }

    fn refusal(&self) -> Option<Refusal> {
        self.judge().err()
    }

    /// The effective role.
    fn role(&self) -> Option<String> {
        let rank = self.judge().unwrap().rank?;
        Some(roles().name(rank).to_owned())
    }
}

#[test]
fn a_token_is_accepted_until_something_speaks_against_it() {
    assert_eq!(Case::new().judge().unwrap().secret, 1);
    let refusals: Vec<(Refusal, Case)> = vec![
        (
            Refusal::WrongSecret,
            Case::with(|case| case.presented = credential().1),
        ),
        (
            Refusal::Expired,
            Case::with(|case| case.credential.expires_at = Some(now())),
        ),
        (
            Refusal::NotYetValid,
            Case::with(|case| case.credential.not_before = Some(now() + SECOND)),
        ),
        (
            Refusal::Disabled,
            Case::with(|case| case.credential.state = CredentialState::Disabled),
        ),
        (
            Refusal::Revoked,
            Case::with(|case| case.credential.state = CredentialState::Revoked),
        ),
        (
            Refusal::IssuerDisabled,
            Case::with(|case| case.person.disabled_at = Some(now())),
        ),
        (
            Refusal::IssuerDisabled,
            Case::with(|case| case.person.lost_access_at = Some(now())),
        ),
        (
            Refusal::IssuerDisabled,
            Case::with(|case| case.person.roles.clear()),
        ),
        (
            Refusal::WrongNetwork,
            Case::with(|case| case.credential.networks = "192.0.2.0/24".parse().unwrap()),
        ),
    ];
    for (expected, case) in refusals {
        assert_eq!(case.refusal(), Some(expected));
    }
}

#[test]
fn what_begins_and_ends_does_so_at_its_instant() {
    let case = Case::with(|case| {
        case.credential.not_before = Some(now());
        case.credential.expires_at = Some(now() + SECOND);
    });
    assert_eq!(
        case.judge_at(now() - SECOND).err(),
        Some(Refusal::NotYetValid)
    );
    assert_eq!(case.judge_at(now()).err(), None);
    let last = now() + SECOND - TimeDelta::microseconds(1);
    assert_eq!(case.judge_at(last).err(), None);
    assert_eq!(case.judge_at(now() + SECOND).err(), Some(Refusal::Expired));
    let endless = Case::with(|case| case.credential.expires_at = None);
    assert!(endless.judge_at(now() + TimeDelta::days(100_000)).is_ok());
}

#[test]
fn a_replaced_secret_works_until_its_overlap_is_over() {
    let case = Case::regenerated();
    assert_eq!(case.judge().unwrap().secret, 1);
    let end = now() + TimeDelta::hours(1);
    assert!(case.judge_at(end - TimeDelta::microseconds(1)).is_ok());
    assert_eq!(case.judge_at(end).err(), Some(Refusal::Replaced));

    let mut new = Case::regenerated();
    let (secret, presented) = stored(&new.credential.public_id, 2);
    new.credential.secret = secret;
    new.presented = presented;
    assert_eq!(new.judge_at(end).unwrap().secret, 2);

    let mut other = Case::regenerated();
    other.presented = stored(&other.credential.public_id, 3).1;
    assert_eq!(other.refusal(), Some(Refusal::WrongSecret));
}

#[test]
fn a_token_that_was_exchanged_works_only_while_its_parents_do() {
    assert!(Case::exchanged().judge().is_ok());
    for place in [0, 1] {
        for (expected, state, expires_at) in [
            (Refusal::Revoked, CredentialState::Revoked, None),
            (Refusal::Disabled, CredentialState::Disabled, None),
            (Refusal::Expired, CredentialState::Active, Some(now())),
        ] {
            let mut case = Case::exchanged();
            case.parents[place].state = state;
            case.parents[place].expires_at = expires_at;
            assert_eq!(case.refusal(), Some(expected), "{place}");
        }
    }
}

#[test]
fn a_token_that_was_exchanged_ends_with_the_secret_that_was_presented() {
    let mut case = Case::exchanged();
    let root = &mut case.parents[1];
    let (secret, _) = stored(&root.public_id, 2);
    root.old_secret = Some(OldSecret {
        secret: std::mem::replace(&mut root.secret, secret),
        valid_until: now() + SECOND,
    });
    assert!(case.judge().is_ok());
    assert_eq!(case.judge_at(now() + SECOND).err(), Some(Refusal::Replaced));
}

#[test]
fn what_was_accepted_is_judged_again_by_its_secret() {
    let case = Case::regenerated();
    let access = case.judge().unwrap();
    let again = |change: &dyn Fn(&mut Credential)| {
        let mut credential = case.credential.clone();
        change(&mut credential);
        let chain = [Arc::new(credential)];
        let person = Arc::new(case.person.clone());
        judge_again(&access, &chain, &person, &roles(), now()).err()
    };
    assert_eq!(again(&|_| ()), None);
    assert_eq!(
        again(&|it| it.state = CredentialState::Revoked),
        Some(Refusal::Revoked)
    );
    assert_eq!(again(&|it| it.old_secret = None), Some(Refusal::Replaced));
}

#[test]
fn the_effective_role_is_the_lower_of_both() {
    for (token, person, expected) in [
        (None, "administrator", "administrator"),
        (None, "viewer", "viewer"),
        (Some("user"), "administrator", "user"),
        (Some("administrator"), "user", "user"),
        (Some("user"), "user", "user"),
        (Some("retired"), "administrator", "viewer"),
        (Some("user"), "retired", "viewer"),
    ] {
        let case = Case::with(|case| {
            case.credential.role = token.map(str::to_owned);
            case.person.roles = [("acme".to_owned(), person.to_owned())].into();
        });
        assert_eq!(case.role().as_deref(), Some(expected), "{token:?} {person}");
    }
}

#[test]
fn only_a_token_without_account_and_role_has_the_rights_of_a_super_admin() {
    for (is_super, account, role, expected_super, expected_role) in [
        (true, None, None, true, None),
        (true, None, Some("viewer"), false, None),
        (true, Some("acme"), None, false, Some("administrator")),
        (true, Some("acme"), Some("viewer"), false, Some("viewer")),
    ] {
        let case = Case::with(|case| {
            case.person.is_super = is_super;
            case.person.roles.clear();
            case.credential.account = account.map(str::to_owned);
            case.credential.role = role.map(str::to_owned);
        });
        let access = case.judge().unwrap();
        assert_eq!(access.is_super, expected_super, "{account:?} {role:?}");
        assert_eq!(
            case.role().as_deref(),
            expected_role,
            "{account:?} {role:?}"
        );
    }
}

#[test]
fn a_token_outside_all_accounts_needs_a_super_admin() {
    let case = Case::with(|case| case.credential.account = None);
    assert_eq!(case.refusal(), Some(Refusal::IssuerDisabled));
}

#[test]
fn only_a_use_of_the_right_secret_counts_as_refused() {
    for refusal in Refusal::ALL {
        let expected = !matches!(refusal, Refusal::Unknown | Refusal::WrongSecret);
        assert_eq!(refusal.is_of_right_secret(), expected, "{refusal}");
    }
}

proptest! {
    /// Whatever else is so, one fact against a token suffices.
    #[test]
    fn one_reason_is_enough_to_refuse(
        reasons in prop::collection::btree_set(0..8usize, 1..8),
        has_old_secret: bool,
    ) {
        let mut case = if has_old_secret { Case::regenerated() } else { Case::new() };
        for reason in reasons {
            match reason {
                0 => case.credential.state = CredentialState::Disabled,
                1 => case.credential.state = CredentialState::Revoked,
                2 => case.credential.expires_at = Some(now() - SECOND),
                3 => case.credential.not_before = Some(now() + SECOND),
                4 => case.person.disabled_at = Some(now() - SECOND),
                5 => case.person.lost_access_at = Some(now() - SECOND),
                6 => case.credential.networks = "192.0.2.0/24".parse().unwrap(),
                _ => case.presented = credential().1,
            }
        }
        prop_assert!(case.judge().is_err());
    }
}
