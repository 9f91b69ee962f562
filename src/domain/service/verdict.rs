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
        /// Its issuer is disabled, lost access, or left the account.
        IssuerDisabled = "issuer_disabled",
        WrongNetwork = "wrong_network",
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
    for link in chain {
        check_state(link, now)?;
    }
    if !person.is_enabled() || !is_in_account(credential, person) {
        return Err(Refusal::IssuerDisabled);
    }
    if !credential.networks.allow(address) {
        return Err(Refusal::WrongNetwork);
    }
    Ok(Access {
        rank: rank(credential, person, roles),
        is_super: person.is_super && credential.account.is_none() && credential.role.is_none(),
        credential: Arc::clone(credential),
        person: Arc::clone(person),
        secret,
    })
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
        CredentialState::Disabled => return Err(Refusal::Disabled),
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

/// Whoever left the account of a token cannot use it any more.
fn is_in_account(credential: &Credential, person: &ServicePerson) -> bool {
    let account = credential.account.as_ref();
    person.is_super || account.is_none_or(|account| person.roles.contains_key(account))
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
