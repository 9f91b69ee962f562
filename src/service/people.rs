//! The people of the service.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::domain::service::{
    Actor, Credential, CredentialState, NewUser, Operation, Problem, ProblemKind, Rank, RoleChange,
    Roles, ServicePerson, UserChange,
};
use crate::domain::{Address, TokenId, account_key};
use crate::store::{Change, Tx};

use super::accounts::{check_name, taken};
use super::found::{load_found, save};
use super::reach::{
    check_reach_everywhere, knows, may_add, may_change_user, may_join, no_user, visible,
};
use super::record::Record;
use super::{Error, Service, audit};

impl Service {
    /// Adds a user, or changes what is given about one who is known.
    ///
    /// # Errors
    /// If an account or role is not known, or the actor may not.
    pub async fn add_user(
        &self,
        actor: &Actor,
        user: &NewUser,
        change: &UserChange,
    ) -> Result<ServicePerson, Error> {
        let work = || self.try_add_user(actor, user, change);
        self.store.retrying(work).await
    }

    async fn try_add_user(
        &self,
        actor: &Actor,
        user: &NewUser,
        change: &UserChange,
    ) -> Result<ServicePerson, Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteUsers).await?;
        let actor = &actor;
        let now = self.clock.now();
        may_add(actor, change)?;
        let new = read_user(user, now)?;
        let key = new.key.clone();
        let is_new = tx.reserve_service_user(&new).await?;
        let known = tx.lock_service_user(&key).await?;
        let mut person = known.ok_or_else(|| no_user(&key))?;
        if person.is_machine() != new.is_machine() {
            return Err(taken("user", &key).into());
        }
        if !is_new {
            may_join(actor, &person)?;
        }
        may_change_user(actor, &person, change)?;
        let action = if is_new { "user.add" } else { "user.change" };
        self.apply_to_user(&mut tx, actor, &mut person, change)
            .await?;
        self.save_user(tx, actor, (action, None), person, now).await
    }

    /// Changes what is given about a user.
    ///
    /// # Errors
    /// `Stale` if they are not at `version` any more; else if there is none, or the actor may not.
    pub async fn change_user(
        &self,
        actor: &Actor,
        key: &str,
        version: Option<i64>,
        change: &UserChange,
    ) -> Result<ServicePerson, Error> {
        let work = || self.try_change_user(actor, key, version, change);
        self.store.retrying(work).await
    }

    async fn try_change_user(
        &self,
        actor: &Actor,
        key: &str,
        version: Option<i64>,
        change: &UserChange,
    ) -> Result<ServicePerson, Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteUsers).await?;
        let actor = &actor;
        let now = self.clock.now();
        let mut person = lock_user(&mut tx, actor, key).await?;
        if version.is_some_and(|version| version != person.version) {
            return Err(Problem::new(
                ProblemKind::Stale,
                "the user was changed since they were read",
            )
            .fix("read them again, and repeat the change if it still applies")
            .into());
        }
        may_change_user(actor, &person, change)?;
        if *change == UserChange::default() {
            return Ok(visible(actor, person));
        }
        self.apply_to_user(&mut tx, actor, &mut person, change)
            .await?;
        self.save_user(tx, actor, ("user.change", None), person, now)
            .await
    }

    /// Stops the tokens of a user at the next request, or lets them work again.
    ///
    /// # Errors
    /// If there is none, or the actor may not.
    pub async fn set_user_enabled(
        &self,
        actor: &Actor,
        key: &str,
        is_enabled: bool,
        reason: Option<&str>,
    ) -> Result<ServicePerson, Error> {
        let work = || self.try_set_user_enabled(actor, key, is_enabled, reason);
        self.store.retrying(work).await
    }

    async fn try_set_user_enabled(
        &self,
        actor: &Actor,
        key: &str,
        is_enabled: bool,
        reason: Option<&str>,
    ) -> Result<ServicePerson, Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteUsers).await?;
        let actor = &actor;
        let now = self.clock.now();
        let mut person = lock_user(&mut tx, actor, key).await?;
        // Their tokens in other accounts stop, too.
        check_reach_everywhere(actor, &person)?;
        if person.disabled_at.is_none() == is_enabled {
            return Ok(person);
        }
        person.disabled_at = (!is_enabled).then_some(now);
        let action = if is_enabled {
            "user.enable"
        } else {
            "user.disable"
        };
        self.save_user(tx, actor, (action, reason), person, now)
            .await
    }

    /// Removes a user and ends their tokens. Returns how many.
    ///
    /// # Errors
    /// If there is none, or the actor is no super admin.
    pub async fn remove_user(
        &self,
        actor: &Actor,
        key: &str,
        reason: Option<&str>,
    ) -> Result<usize, Error> {
        let work = || self.try_remove_user(actor, key, reason);
        self.store.retrying(work).await
    }

    async fn try_remove_user(
        &self,
        actor: &Actor,
        key: &str,
        reason: Option<&str>,
    ) -> Result<usize, Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteService).await?;
        let actor = &actor;
        let now = self.clock.now();
        let person = lock_user(&mut tx, actor, key).await?;
        let mut ended = 0;
        for listed in tx.list_credentials_of(&person.key).await? {
            // Locked, so that no change that is made meanwhile is undone.
            let Some(credential) = tx.lock_credential(listed.id).await? else {
                continue;
            };
            if credential.state == CredentialState::Revoked {
                continue;
            }
            let mut found = load_found(&mut tx, actor, credential).await?;
            found.credential.state = CredentialState::Revoked;
            save(&mut tx, &self.policy, &mut found, now).await?;
            if !found.credential.kind.is_internal() {
                ended += 1;
                let why = Some("the user is removed");
                audit::token(&mut tx, actor, "token.delete", &found.credential, why, now).await?;
            }
        }
        tx.remove_service_user(&person.key).await?;
        self.refresh_admins(&mut tx).await?;
        let facts = audit::with_reason(format!("{ended} tokens ended"), reason);
        let subject = user_subject(&person);
        audit::entry(&mut tx, actor, "user.remove", &subject, Some(&facts), now).await?;
        self.commit(tx, &[Change::Everything]).await?;
        Ok(ended)
    }

    /// A page of the users whom the actor may see, after the key `after`.
    ///
    /// # Errors
    /// If the actor may not.
    pub async fn list_users(
        &self,
        actor: &Actor,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ServicePerson>, Error> {
        actor.may(Operation::ReadUsers)?;
        let mut tx = self.store.begin_short_read().await?;
        let people = tx
            .list_service_users(actor.administers(), after, limit)
            .await?;
        Ok(people
            .into_iter()
            .map(|person| visible(actor, person))
            .collect())
    }

    /// # Errors
    /// If there is none, or the actor may not know of them.
    pub async fn find_user(&self, actor: &Actor, key: &str) -> Result<ServicePerson, Error> {
        actor.may(Operation::ReadUsers)?;
        let mut tx = self.store.begin_short_read().await?;
        let person = tx.find_service_user(&account_key(key)).await?;
        let person = person.filter(|person| knows(actor, person));
        Ok(visible(actor, person.ok_or_else(|| no_user(key))?))
    }

    /// The tokens of a user that were used since `since`: those that stop when they are disabled.
    ///
    /// # Errors
    /// If there is none, or the actor may not know of them.
    pub async fn list_used_tokens(
        &self,
        actor: &Actor,
        key: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<crate::domain::Token>, Error> {
        let person = self.find_user(actor, key).await?;
        let mut tx = self.store.begin_short_read().await?;
        let credentials = tx.list_credentials_of(&person.key).await?;
        let own = actor.administers();
        let is_shown = |credential: &Credential| {
            !credential.kind.is_internal()
                && (actor.is_super() || credential.account.as_deref() == own)
        };
        let ids: Vec<TokenId> = credentials
            .iter()
            .filter(|credential| is_shown(credential))
            .map(|credential| credential.id)
            .collect();
        let mut tokens = tx.load_tokens(&ids).await?;
        tokens.retain(|token| token.last_used_at >= Some(since));
        Ok(tokens)
    }

    async fn apply_to_user(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        person: &mut ServicePerson,
        change: &UserChange,
    ) -> Result<(), Error> {
        if let Some(name) = &change.name {
            person.name = match name {
                Some(name) => Some(check_name("/name", name)?),
                None => None,
            };
        }
        person.is_super = change.is_super.unwrap_or(person.is_super);
        person.is_sso = change.is_sso.unwrap_or(person.is_sso);
        if let Some(owners) = &change.owners {
            if !person.is_machine() && !owners.is_empty() {
                return Err(Problem::invalid("/owners", "only a machine user has owners").into());
            }
            person.owners.clone_from(owners);
        }
        if person.is_machine() && person.is_super && !actor.is_super() {
            return Err(Problem::unknown().into());
        }
        for role in &change.roles {
            self.apply_role(tx, &mut person.roles, role).await?;
        }
        Ok(())
    }

    async fn apply_role(
        &self,
        tx: &mut Tx,
        roles: &mut BTreeMap<String, String>,
        change: &RoleChange,
    ) -> Result<(), Error> {
        let key = change.account();
        let RoleChange::Give { account, role } = change else {
            roles.remove(&key);
            return Ok(());
        };
        if tx.hold_service_account(&key).await?.is_none() {
            return Err(
                Problem::invalid("/account", format!("there is no account {account:?}"))
                    .fix(format!("add it with: lapsed account add {account}"))
                    .into(),
            );
        }
        let role = match role {
            Some(role) => self.known_role(role)?,
            None if roles.contains_key(&key) => return Ok(()),
            None => lowest(&self.terms.roles),
        };
        roles.insert(key, role);
        Ok(())
    }

    /// Who is notified about the tokens of an account beside their issuers.
    pub(super) async fn refresh_admins(&self, tx: &mut Tx) -> Result<(), Error> {
        let highest = self.terms.roles.name(Rank::HIGHEST);
        Ok(tx.refresh_service_admins(highest).await?)
    }

    /// Saves a user, and the rows of their tokens if these show what changed.
    async fn save_user(
        &self,
        mut tx: Tx,
        actor: &Actor,
        (action, reason): (&str, Option<&str>),
        mut person: ServicePerson,
        now: DateTime<Utc>,
    ) -> Result<ServicePerson, Error> {
        let before = tx.find_service_user(&person.key).await?;
        person.version = tx.save_service_user(&person).await?;
        self.refresh_admins(&mut tx).await?;
        let is_shown_otherwise = before
            .is_some_and(|before| (&before.name, &before.owners) != (&person.name, &person.owners));
        if is_shown_otherwise {
            for listed in tx.list_credentials_of(&person.key).await? {
                // Locked, so that the row does not fall behind a change that is made meanwhile.
                let Some(credential) = tx.lock_credential(listed.id).await? else {
                    continue;
                };
                if credential.kind.is_internal() {
                    continue;
                }
                let account = match &credential.account {
                    Some(key) => tx.find_service_account(key).await?,
                    None => None,
                };
                let record = Record::of_known(&credential, &person, account.as_ref());
                record.write(&mut tx, &self.policy, now).await?;
            }
        }
        let (subject, facts) = (
            user_subject(&person),
            audit::with_reason(describe(&person), reason),
        );
        audit::entry(&mut tx, actor, action, &subject, Some(&facts), now).await?;
        self.commit(tx, &[Change::User(person.key.clone())]).await?;
        Ok(visible(actor, person))
    }
}

async fn lock_user(tx: &mut Tx, actor: &Actor, key: &str) -> Result<ServicePerson, Error> {
    let person = tx.lock_service_user(&account_key(key)).await?;
    let person = person.filter(|person| knows(actor, person));
    Ok(person.ok_or_else(|| no_user(key))?)
}

/// A machine user must not look like a person: gateways pass the key on.
fn read_user(user: &NewUser, now: DateTime<Utc>) -> Result<ServicePerson, Problem> {
    match user {
        NewUser::Person(address) => Ok(new_person(
            address.key().to_owned(),
            Some(address.clone()),
            now,
        )),
        NewUser::Machine(name) if name.contains('@') => Err(Problem::invalid(
            "/name",
            "the name of a machine user has no @, because it is no address",
        )
        .fix("leave out --service for a person")),
        NewUser::Machine(name) => {
            let name = check_name("/name", name)?;
            let is_separator = |letter: char| letter.is_whitespace() || "/,".contains(letter);
            if name.contains(is_separator) {
                return Err(Problem::invalid(
                    "/name",
                    "the name of a machine user has no blanks, slashes or commas",
                )
                .fix("write it as deploy-bot"));
            }
            let key = account_key(&name);
            Ok(ServicePerson {
                name: Some(name),
                ..new_person(key, None, now)
            })
        }
    }
}

fn new_person(key: String, address: Option<Address>, now: DateTime<Utc>) -> ServicePerson {
    ServicePerson {
        key,
        address,
        name: None,
        is_super: false,
        is_sso: false,
        owners: Vec::new(),
        created_at: now,
        disabled_at: None,
        lost_access_at: None,
        roles: BTreeMap::new(),
        version: 0,
    }
}

fn lowest(roles: &Roles) -> String {
    roles.name(roles.lowest()).to_owned()
}

fn user_subject(person: &ServicePerson) -> String {
    format!("user/{}", person.key)
}

fn describe(person: &ServicePerson) -> String {
    let mut facts: Vec<String> = person
        .roles
        .iter()
        .map(|(account, role)| format!("{role} in {account}"))
        .collect();
    if person.is_super {
        facts.push("super admin".to_owned());
    }
    if person.is_sso {
        facts.push("signs in by SSO".to_owned());
    }
    if person.is_machine() {
        let owners: Vec<String> = person.owners.iter().map(Address::to_string).collect();
        facts.push(format!("machine user of {}", owners.join(", ")));
    }
    if person.disabled_at.is_some() {
        facts.push("disabled".to_owned());
    }
    facts.join("; ")
}
