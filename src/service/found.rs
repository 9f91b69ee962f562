//! Finds a token of the service for whoever asks, with what decides about it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::domain::service::{
    Actor, Credential, CredentialState, Operation, Problem, ProblemKind, ServiceAccount,
    ServicePerson, Subject,
};
use crate::domain::{Expiry, LOCAL_SOURCE, Policy, Status, Token, TokenId, account_key};
use crate::store::Tx;

use super::record::Record;
use super::{Error, Service, audit};

/// A token of the service with what decides about it.
#[derive(Debug, Clone)]
pub struct Found {
    pub credential: Credential,
    pub person: ServicePerson,
    pub account: Option<ServiceAccount>,
    /// The watched row, or what stands for it.
    pub token: Token,
    /// Whether the caller asks with this token.
    pub is_self: bool,
}

impl Found {
    /// What rights depend on.
    pub(super) fn subject(&self) -> Subject {
        let owners = self.person.owners.iter();
        let owners = owners.map(|owner| owner.key().to_owned());
        Subject {
            owners: owners.chain([self.credential.issuer.clone()]).collect(),
            account: self.credential.account.clone(),
            is_local: true,
            is_self: self.is_self,
        }
    }
}

impl Service {
    pub(super) async fn load_checked(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        credential: Credential,
        operation: Operation,
    ) -> Result<Found, Error> {
        let found = load_found(tx, actor, credential).await?;
        actor.may_with(operation, &found.subject(), self.terms.issuers)?;
        Ok(found)
    }

    /// Reads a token of the service for a change, and checks that the actor may make it. It cannot change until the
    /// transaction ends. Also returns the actor as they are now.
    pub(super) async fn lock_for(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        id: TokenId,
        operation: Operation,
        version: Option<i64>,
    ) -> Result<(Found, Actor), Error> {
        let locked = tx.lock_credential(id).await?;
        // After the lock: the token that asks may be this one.
        let actor = self.read_again(tx, actor).await?;
        let Some(credential) = locked else {
            return Err(self.refuse_foreign(tx, &actor, id, operation).await?.into());
        };
        let found = self.load_checked(tx, &actor, credential, operation).await?;
        let is_managed = matches!(operation, Operation::DisableToken | Operation::DeleteToken);
        if found.credential.kind.is_internal() && !is_managed {
            return Err(Problem::new(
                ProblemKind::Conflict,
                format!(
                    "a token of the kind {} can only be disabled or deleted",
                    found.credential.kind.as_str()
                ),
            )
            .into());
        }
        if version.is_some_and(|version| version != found.credential.version) {
            return Err(Problem::new(
                ProblemKind::Stale,
                "the token was changed since it was read",
            )
            .fix("read it again, and repeat the change if it still applies")
            .into());
        }
        Ok((found, actor))
    }

    /// Why a token cannot be changed here: there is none, or it is of another source.
    async fn refuse_foreign(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        id: TokenId,
        operation: Operation,
    ) -> Result<Problem, Error> {
        let Some(token) = tx.load_tokens(&[id]).await?.pop() else {
            actor.may(operation)?;
            return Ok(Problem::unknown());
        };
        actor.may_with(operation, &subject_of(&token), self.terms.issuers)?;
        Ok(foreign(&token))
    }
}

/// What rights depend on, of a watched token of any source.
pub fn subject_of(token: &Token) -> Subject {
    Subject {
        owners: token.owners().map(|owner| owner.key().to_owned()).collect(),
        account: token.account.as_deref().map(account_key),
        is_local: token.source == LOCAL_SOURCE,
        is_self: false,
    }
}

pub(super) fn foreign(token: &Token) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        format!(
            "this token is of the source {}; lapsed only watches it",
            token.source
        ),
    )
    .fix("change it at its source")
}

/// Writes a new state of the credential and its row.
pub(super) async fn save(
    tx: &mut Tx,
    policy: &Policy,
    found: &mut Found,
    now: DateTime<Utc>,
) -> Result<Option<Token>, Error> {
    tx.save_credential(&found.credential).await?;
    found.credential.version += 1;
    if found.credential.kind.is_internal() {
        found.token = row_of_internal(&found.credential, Some(&found.person));
        return Ok(None);
    }
    Record::of_known(&found.credential, &found.person, found.account.as_ref())
        .write(tx, policy, now)
        .await
}

pub(super) async fn load_found(
    tx: &mut Tx,
    actor: &Actor,
    credential: Credential,
) -> Result<Found, Error> {
    let account = match &credential.account {
        Some(key) => tx.find_service_account(key).await?,
        None => None,
    };
    let token = tx.load_tokens(&[credential.id]).await?.pop();
    let person = tx.find_service_user(&credential.issuer).await?;
    let token = token.unwrap_or_else(|| row_of_internal(&credential, person.as_ref()));
    let person = person.unwrap_or_else(|| person_who_is_gone(&credential, &token));
    let is_self = matches!(actor, Actor::Caller(access) if access.credential.id == credential.id);
    Ok(Found {
        credential,
        person,
        account,
        token,
        is_self,
    })
}

/// A credential of an internal kind has no row, because it is not watched.
pub fn row_of_internal(credential: &Credential, person: Option<&ServicePerson>) -> Token {
    let scopes = &credential.scopes;
    Token {
        id: credential.id,
        source: LOCAL_SOURCE.to_owned(),
        external_id: credential.public_id.to_string(),
        name: credential.kind.as_str().to_owned(),
        issuer: person.and_then(|person| person.address.clone()),
        account: credential.account.clone(),
        role: credential.role.clone(),
        scope: (!scopes.is_unlimited()).then(|| scopes.to_string()),
        created_at: Some(credential.created_at),
        expiry: credential.expires_at.map_or(Expiry::Never, Expiry::At),
        status: match credential.state {
            CredentialState::Active => Status::Active,
            CredentialState::Disabled | CredentialState::Locked => Status::Disabled,
            CredentialState::Revoked => Status::Revoked,
        },
        last_used_at: credential.secret.last_used_at,
        reports_use: true,
        first_seen_at: credential.created_at,
        ..Token::default()
    }
}

/// Why the tokens of a user do not work, if they do not, and what to do.
pub fn stopped(person: &ServicePerson) -> Option<(String, String)> {
    let key = &person.key;
    if person.disabled_at.is_some() {
        return Some((
            format!("the user {key} is disabled"),
            format!("enable them with: lapsed user enable {key}"),
        ));
    }
    person.lost_access_at.map(|at| {
        (
            format!(
                "a directory reports that the user {key} lost access at {}",
                audit::instant(at)
            ),
            "they work again once the directory reports the user as active".to_owned(),
        )
    })
}

/// In place of an issuer who was removed: administrators still see their tokens and can end them.
fn person_who_is_gone(credential: &Credential, token: &Token) -> ServicePerson {
    ServicePerson {
        key: credential.issuer.clone(),
        address: token.issuer.clone(),
        name: token.issuer_name.clone(),
        is_super: false,
        is_sso: false,
        owners: token.co_owners.clone(),
        created_at: credential.created_at,
        disabled_at: Some(credential.created_at),
        lost_access_at: None,
        roles: BTreeMap::new(),
        version: 0,
    }
}

pub(super) fn revoked() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "the token is deleted, which is final",
    )
    .fix("issue a new token")
}
