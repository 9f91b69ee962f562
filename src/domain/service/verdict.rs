//! Whether a presented token is valid now, and what it may be used for.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Credential, CredentialState, Presented, Rank, Roles, ServicePerson};
use crate::domain::string_enum::string_enum;

string_enum! {
    /// Why a token is refused. A caller without the right to know cannot tell one from another.
    Refusal {
        /// No token has this id.
        Unknown = "unknown",
        WrongSecret = "wrong_secret",
        /// The secret was replaced, and its overlap is over.
        Replaced = "replaced",
        NotYetValid = "not_yet_valid",
        Expired = "expired",
        Disabled = "disabled",
        Revoked = "revoked",
        /// Its issuer is disabled, lost access, left the account, or is no longer a super admin.
        IssuerDisabled = "issuer_disabled",
        WrongNetwork = "wrong_network",
        /// Its kind is not accepted where it was presented.
        WrongKind = "wrong_kind",
    }
}

impl Refusal {
    /// Whether the secret was right: only such a use is counted, because everybody may know an id.
    pub fn is_of_right_secret(self) -> bool {
        !matches!(self, Self::Unknown | Self::WrongSecret)
    }
}

/// A valid use of a credential.
#[derive(Debug, Clone)]
pub struct Access {
    pub credential: Arc<Credential>,
    pub person: Arc<ServicePerson>,
    /// The number of the secret that was presented.
    pub secret: u32,
    /// The lower of the token's role and that of its issuer now; `None` without a role.
    pub rank: Option<Rank>,
    /// Whether it has all rights of a super admin.
    pub is_super: bool,
    /// When this use ends, at the latest: with the credential, with what it was exchanged for, or with the overlap of the
    /// secret.
    pub ends_at: Option<DateTime<Utc>>,
}

/// `chain` has the credential, then the one that it was exchanged for, and so on.
///
/// # Errors
/// The first reason not to accept the token. Everything that depends on time is compared with `now`.
pub fn judge(
    presented: &Presented,
    chain: &[Arc<Credential>],
    person: &Arc<ServicePerson>,
    roles: &Roles,
    address: IpAddr,
    now: DateTime<Utc>,
) -> Result<Access, Refusal> {
    let credential = chain.first().ok_or(Refusal::Unknown)?;
    let secret = check_secret(presented, credential, now)?;
    let access = judge_known(secret, chain, person, roles, now)?;
    if !credential.networks.allow(address) {
        return Err(Refusal::WrongNetwork);
    }
    Ok(access)
}

/// Judges again what was accepted before, by the number of the secret that was presented then: what is about to be
/// written must not rest on facts that have changed since.
///
/// # Errors
/// As [`judge`]; the network is not compared again.
pub fn judge_again(
    access: &Access,
    chain: &[Arc<Credential>],
    person: &Arc<ServicePerson>,
    roles: &Roles,
    now: DateTime<Utc>,
) -> Result<Access, Refusal> {
    let credential = chain.first().ok_or(Refusal::Unknown)?;
    check_number(access.secret, credential, now)?;
    judge_known(access.secret, chain, person, roles, now)
}

fn judge_known(
    secret: u32,
    chain: &[Arc<Credential>],
    person: &Arc<ServicePerson>,
    roles: &Roles,
    now: DateTime<Utc>,
) -> Result<Access, Refusal> {
    let credential = chain.first().ok_or(Refusal::Unknown)?;
    for link in chain {
        check_state(link, now)?;
    }
    for (link, parent) in chain.iter().zip(&chain[1..]) {
        let number = link.parent.map_or(0, |parent| parent.secret);
        check_number(number, parent, now)?;
    }
    if !person.is_enabled() || !has_standing(credential, person) {
        return Err(Refusal::IssuerDisabled);
    }
    let numbers = chain
        .iter()
        .map(|link| link.parent.map_or(0, |parent| parent.secret));
    let numbers = std::iter::once(secret).chain(numbers);
    let ends = chain
        .iter()
        .zip(numbers)
        .filter_map(|(link, number)| link.end_of(number));
    Ok(Access {
        ends_at: ends.min(),
        rank: rank(credential, person, roles),
        is_super: person.is_super && credential.account.is_none() && credential.role.is_none(),
        credential: Arc::clone(credential),
        person: Arc::clone(person),
        secret,
    })
}

/// Whether the secret with this number can still be used.
fn check_number(number: u32, credential: &Credential, now: DateTime<Utc>) -> Result<(), Refusal> {
    let old = credential.old_secret.as_ref();
    let is_valid = number == credential.secret.number
        || old.is_some_and(|old| number == old.secret.number && now < old.valid_until);
    if is_valid {
        Ok(())
    } else {
        Err(Refusal::Replaced)
    }
}

/// Both secrets are always compared, so that the time says nothing.
fn check_secret(
    presented: &Presented,
    credential: &Credential,
    now: DateTime<Utc>,
) -> Result<u32, Refusal> {
    let current = &credential.secret;
    let is_current = presented.digest.matches(&current.digest);
    let old = credential.old_secret.as_ref();
    let is_old = presented
        .digest
        .matches(&old.map_or(current.digest, |old| old.secret.digest));
    match old {
        _ if is_current => Ok(current.number),
        Some(old) if is_old && now < old.valid_until => Ok(old.secret.number),
        Some(_) if is_old => Err(Refusal::Replaced),
        _ => Err(Refusal::WrongSecret),
    }
}

fn check_state(credential: &Credential, now: DateTime<Utc>) -> Result<(), Refusal> {
    match credential.state {
        CredentialState::Revoked => return Err(Refusal::Revoked),
        CredentialState::Disabled | CredentialState::Locked => return Err(Refusal::Disabled),
        CredentialState::Active => {}
    }
    if credential.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::Expired);
    }
    if credential.not_before.is_some_and(|at| now < at) {
        return Err(Refusal::NotYetValid);
    }
    Ok(())
}

/// Whoever left the account of a token cannot use it any more. Outside all accounts, only super admins have tokens.
fn has_standing(credential: &Credential, person: &ServicePerson) -> bool {
    let account = credential.account.as_ref();
    person.is_super || account.is_some_and(|account| person.roles.contains_key(account))
}

/// A super admin has the highest role in every account.
fn rank(credential: &Credential, person: &ServicePerson, roles: &Roles) -> Option<Rank> {
    let account = credential.account.as_ref()?;
    let of_person = if person.is_super {
        Rank::HIGHEST
    } else {
        roles.rank_or_lowest(person.roles.get(account)?)
    };
    let of_token = credential.role.as_ref();
    Some(of_token.map_or(of_person, |role| of_person.and(roles.rank_or_lowest(role))))
}
