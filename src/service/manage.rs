//! Finds, changes, disables and deletes tokens of the service.

use chrono::{DateTime, Utc};

use crate::domain::service::{
    Actor, CredentialState, Grant, Operation, Problem, ProblemKind, ServicePerson, TokenChange,
};
use crate::domain::{Cell, TokenId, account_key};
use crate::engine::plan_revoked_notices;
use crate::store::{Change, Tx};
use crate::text::{MAX_TEXT, one_line};

use super::found::{Found, revoked, save};
use super::issue::{check_description, check_name};
use super::record::Record;
use super::{Error, Service, audit};

impl Service {
    /// Changes what a token is. The secret stays.
    ///
    /// # Errors
    /// `Stale` if it is not at `version` any more; else if the actor may not, or the change is not possible.
    pub async fn update(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        change: &TokenChange,
    ) -> Result<Found, Error> {
        if let Some(name) = &change.name {
            check_name(name)?;
        }
        check_description(change.description.as_ref().and_then(Option::as_deref))?;
        let work = || self.try_update(actor, id, version, change);
        self.store.retrying(work).await
    }

    async fn try_update(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        change: &TokenChange,
    ) -> Result<Found, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        let (mut found, actor) = self
            .lock_for(&mut tx, actor, id, Operation::UpdateToken, version)
            .await?;
        let actor = &actor;
        if found.credential.state == CredentialState::Revoked {
            return Err(revoked().into());
        }
        if *change == TokenChange::default() {
            return Ok(found);
        }
        self.apply(actor, &mut found, change)?;
        if let Some(owner) = &change.owner {
            self.move_to(&mut tx, actor, &mut found, owner, now).await?;
        }
        let Found {
            credential,
            person,
            account,
            ..
        } = &mut found;
        tx.save_credential(credential).await?;
        credential.version += 1;
        let record = Record {
            name: change
                .name
                .as_ref()
                .map_or(Cell::Absent, |name| Cell::Value(name.trim().to_owned())),
            description: change.description.clone().map_or(Cell::Absent, Cell::from),
            ..Record::of_known(credential, person, account.as_ref())
        };
        let token = record.write(&mut tx, &self.policy, now).await?;
        let facts = describe(change);
        audit::token(
            &mut tx,
            actor,
            "token.update",
            credential,
            Some(&facts),
            now,
        )
        .await?;
        self.commit(tx, &[Change::Credential(id)]).await?;
        found.token = token.unwrap_or(found.token);
        Ok(found)
    }

    fn apply(&self, actor: &Actor, found: &mut Found, change: &TokenChange) -> Result<(), Problem> {
        let credential = &mut found.credential;
        let is_more = change.role.is_some() || change.scopes.is_some() || change.networks.is_some();
        if let Some(role) = &change.role {
            credential.role = match role {
                Some(role) => Some(self.known_role(role)?),
                None => None,
            };
        }
        if let Some(scopes) = &change.scopes {
            credential.scopes = scopes.clone();
        }
        if let Some(networks) = &change.networks {
            networks.check_count()?;
            credential.networks = networks.clone();
        }
        if is_more {
            actor.may_give(&Grant {
                account: credential.account.as_deref(),
                rank: self.rank(credential.role.as_deref()),
                scopes: &credential.scopes,
                networks: &credential.networks,
            })?;
        }
        Ok(())
    }

    /// Gives a token to another person in its account.
    async fn move_to(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        found: &mut Found,
        owner: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let account = found.credential.account.as_deref();
        // Whoever knows its secret acts as the new owner.
        if !actor.is_super() {
            return Err(Problem {
                pointer: Some("/owner"),
                ..Problem::new(
                    ProblemKind::Forbidden,
                    "only a super admin may give a token to another person",
                )
            }
            .into());
        }
        let key = account_key(owner);
        let person = tx.find_service_user(&key).await?;
        let is_in = |person: &ServicePerson| {
            person.is_super || account.is_some_and(|account| person.roles.contains_key(account))
        };
        let Some(person) = person.filter(is_in) else {
            let place = found
                .account
                .as_ref()
                .map_or("", |account| account.name.as_str());
            return Err(Problem::invalid(
                "/owner",
                format!("there is no user {key} who may have a token in this account {place:?}"),
            )
            .fix("name a user with a role in the account of the token")
            .into());
        };
        if person.key != found.credential.issuer {
            self.take_place(tx, None, &person, now).await?;
        }
        found.credential.issuer.clone_from(&person.key);
        found.person = person;
        Ok(())
    }

    /// Disables a token, or enables it again. What an administrator disabled, only an administrator enables.
    ///
    /// # Errors
    /// `Stale` if it is not at `version` any more; else if the actor may not, or the token is deleted.
    pub async fn set_enabled(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        is_enabled: bool,
        reason: Option<&str>,
    ) -> Result<Found, Error> {
        let operation = if is_enabled {
            Operation::EnableToken
        } else {
            Operation::DisableToken
        };
        let work = || self.set_state(actor, (id, version), operation, reason);
        self.store.retrying(work).await
    }

    /// Ends a token for good; its row is kept for the audit. Unless its owner did it, the owner and the administrators
    /// are notified.
    ///
    /// # Errors
    /// `Stale` if it is not at `version` any more; else if the actor may not.
    pub async fn delete(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        reason: Option<&str>,
    ) -> Result<Found, Error> {
        let work = || self.set_state(actor, (id, version), Operation::DeleteToken, reason);
        self.store.retrying(work).await
    }

    async fn set_state(
        &self,
        actor: &Actor,
        (id, version): (TokenId, Option<i64>),
        operation: Operation,
        reason: Option<&str>,
    ) -> Result<Found, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        let (mut found, actor) = self
            .lock_for(&mut tx, actor, id, operation, version)
            .await?;
        let Some(state) = next_state(&actor, operation, &found)? else {
            return Ok(found);
        };
        found.credential.state = state;
        if let Some(token) = save(&mut tx, &self.policy, &mut found, now).await? {
            found.token = token;
        }
        let action = match state {
            CredentialState::Active => "token.enable",
            CredentialState::Disabled | CredentialState::Locked => "token.disable",
            CredentialState::Revoked => "token.delete",
        };
        let reason = reason.map(|reason| one_line(reason, MAX_TEXT));
        let is_watched = !found.credential.kind.is_internal();
        if state == CredentialState::Revoked && is_watched && !actor.owns(&found.subject()) {
            let by = actor.name();
            plan_revoked_notices(
                &mut tx,
                &self.policy,
                &found.token,
                by,
                reason.as_deref(),
                now,
            )
            .await?;
        }
        audit::token(
            &mut tx,
            &actor,
            action,
            &found.credential,
            reason.as_deref(),
            now,
        )
        .await?;
        self.commit(tx, &[Change::Credential(id)]).await?;
        Ok(found)
    }
}

/// The state after a change; `None` if nothing changes.
fn next_state(
    actor: &Actor,
    operation: Operation,
    found: &Found,
) -> Result<Option<CredentialState>, Problem> {
    let subject = found.subject();
    let state = found.credential.state;
    let next = match operation {
        Operation::DeleteToken => CredentialState::Revoked,
        Operation::DisableToken if state == CredentialState::Locked => state,
        Operation::DisableToken if actor.owns(&subject) => CredentialState::Disabled,
        Operation::DisableToken => CredentialState::Locked,
        _ => CredentialState::Active,
    };
    if next == state {
        return Ok(None);
    }
    match state {
        CredentialState::Revoked => Err(revoked()),
        CredentialState::Locked if next == CredentialState::Active && !actor.manages(&subject) => {
            Err(Problem::new(
                ProblemKind::Forbidden,
                "an administrator disabled this token",
            )
            .fix("ask an administrator of its account to enable it"))
        }
        _ => Ok(Some(next)),
    }
}

fn describe(change: &TokenChange) -> String {
    let parts = [
        ("name", change.name.is_some()),
        ("description", change.description.is_some()),
        ("role", change.role.is_some()),
        ("scopes", change.scopes.is_some()),
        ("networks", change.networks.is_some()),
        ("owner", change.owner.is_some()),
    ];
    let changed: Vec<&str> = parts
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(name, _)| name)
        .collect();
    format!("changed: {}", changed.join(", "))
}
