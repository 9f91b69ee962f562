//! The accounts of the service.

use crate::domain::account_key;
use crate::domain::service::{
    Actor, CredentialState, MAX_TOKEN_LIMIT, Operation, Problem, ProblemKind, ServiceAccount,
};
use crate::store::{Change, Tx};
use crate::text::{self, is_unsafe};

use super::{Error, Service, audit};

const MAX_NAME: usize = 100;

/// Each `Some` replaces what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    pub name: Option<String>,
    /// How many tokens it may have; `None` inside for the limit of the policy, 0 for no limit.
    pub max_tokens: Option<Option<u64>>,
}

impl Service {
    /// # Errors
    /// If there is one of this name, or the actor may not.
    pub async fn add_account(
        &self,
        actor: &Actor,
        name: &str,
        max_tokens: Option<u64>,
    ) -> Result<ServiceAccount, Error> {
        let work = || self.try_add_account(actor, name, max_tokens);
        self.store.retrying(work).await
    }

    async fn try_add_account(
        &self,
        actor: &Actor,
        name: &str,
        max_tokens: Option<u64>,
    ) -> Result<ServiceAccount, Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteService).await?;
        let name = check_name("/name", name)?;
        check_limit(max_tokens)?;
        let now = self.clock.now();
        let account = ServiceAccount {
            key: account_key(&name),
            name,
            max_tokens,
            created_at: now,
        };
        if !tx.insert_service_account(&account).await? {
            return Err(taken("account", &account.name).into());
        }
        let subject = account_subject(&account);
        audit::entry(&mut tx, &actor, "account.add", &subject, None, now).await?;
        self.commit(tx, &[]).await?;
        Ok(account)
    }

    /// A page of accounts after the key `after`.
    ///
    /// # Errors
    /// If the actor may not.
    pub async fn list_accounts(
        &self,
        actor: &Actor,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ServiceAccount>, Error> {
        actor.may(Operation::ReadService)?;
        let mut tx = self.store.begin_short_read().await?;
        Ok(tx.list_service_accounts(after, limit).await?)
    }

    /// The account with how many tokens count towards its limit.
    ///
    /// # Errors
    /// If there is none, or the actor may not.
    pub async fn find_account(
        &self,
        actor: &Actor,
        name: &str,
    ) -> Result<(ServiceAccount, u64), Error> {
        actor.may(Operation::ReadService)?;
        let mut tx = self.store.begin_short_read().await?;
        let account = find_account(&mut tx, name).await?;
        let used = tx
            .count_account_tokens(&account.key, self.clock.now())
            .await?;
        Ok((account, used))
    }

    /// Changes what is given about an account; its tokens and people stay in it.
    ///
    /// # Errors
    /// If there is none, the new name is taken, or the actor may not; nothing is changed then.
    pub async fn change_account(
        &self,
        actor: &Actor,
        name: &str,
        change: &AccountChange,
    ) -> Result<ServiceAccount, Error> {
        let work = || self.try_change_account(actor, name, change);
        self.store.retrying(work).await
    }

    async fn try_change_account(
        &self,
        actor: &Actor,
        name: &str,
        change: &AccountChange,
    ) -> Result<ServiceAccount, Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteService).await?;
        let mut account = lock_account(&mut tx, name).await?;
        if let Some(max_tokens) = change.max_tokens {
            self.set_limit(&mut tx, &actor, &mut account, max_tokens)
                .await?;
        }
        let mut changes = Vec::new();
        if let Some(new) = &change.name {
            account = self.rename(&mut tx, &actor, &account, new).await?;
            changes.push(Change::Everything);
        }
        self.commit(tx, &changes).await?;
        Ok(account)
    }

    async fn set_limit(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        account: &mut ServiceAccount,
        max_tokens: Option<u64>,
    ) -> Result<(), Error> {
        check_limit(max_tokens)?;
        account.max_tokens = max_tokens;
        tx.set_account_limit(&account.key, max_tokens).await?;
        let facts = match max_tokens {
            None => "the limit of the policy".to_owned(),
            Some(0) => "no limit".to_owned(),
            Some(limit) => format!("at most {limit} tokens"),
        };
        let (subject, now) = (account_subject(account), self.clock.now());
        audit::entry(tx, actor, "account.limit", &subject, Some(&facts), now).await
    }

    async fn rename(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        account: &ServiceAccount,
        new: &str,
    ) -> Result<ServiceAccount, Error> {
        let name = check_name("/name", new)?;
        let renamed = ServiceAccount {
            key: account_key(&name),
            name,
            ..account.clone()
        };
        let is_other = renamed.key != account.key;
        if is_other && tx.find_service_account(&renamed.key).await?.is_some() {
            return Err(taken("account", &renamed.name).into());
        }
        let renaming = tx.rename_service_account(&account.key, &renamed).await;
        renaming.map_err(|error| match error {
            // Another account got the name meanwhile.
            error if error.is_taken() => taken("account", &renamed.name).into(),
            error => Error::from(error),
        })?;
        self.refresh_admins(tx).await?;
        let (subject, facts) = (account_subject(account), format!("to {}", renamed.name));
        let now = self.clock.now();
        audit::entry(tx, actor, "account.rename", &subject, Some(&facts), now).await?;
        Ok(renamed)
    }

    /// Removes an account that has no tokens that work.
    ///
    /// # Errors
    /// If there is none, it has tokens, or the actor may not.
    pub async fn remove_account(
        &self,
        actor: &Actor,
        name: &str,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let work = || self.try_remove_account(actor, name, reason);
        self.store.retrying(work).await
    }

    async fn try_remove_account(
        &self,
        actor: &Actor,
        name: &str,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteService).await?;
        let now = self.clock.now();
        let account = lock_account(&mut tx, name).await?;
        let used = tx.count_account_tokens(&account.key, now).await?;
        if used > 0 {
            return Err(Problem::new(
                ProblemKind::Conflict,
                format!("the account {} has {used} tokens", account.name),
            )
            .fix("delete its tokens first")
            .into());
        }
        for mut credential in tx.list_credentials_in(&account.key).await? {
            credential.state = CredentialState::Revoked;
            tx.save_credential(&credential).await?;
        }
        tx.remove_service_account(&account.key).await?;
        self.refresh_admins(&mut tx).await?;
        let subject = account_subject(&account);
        let facts = reason.map(|reason| audit::with_reason(String::new(), Some(reason)));
        audit::entry(
            &mut tx,
            &actor,
            "account.remove",
            &subject,
            facts.as_deref(),
            now,
        )
        .await?;
        self.commit(tx, &[Change::Everything]).await
    }
}

async fn find_account(tx: &mut Tx, name: &str) -> Result<ServiceAccount, Error> {
    let account = tx.find_service_account(&account_key(name)).await?;
    Ok(account.ok_or_else(|| no_account(name))?)
}

/// Also locks its people, so that nobody writes their roles back meanwhile.
async fn lock_account(tx: &mut Tx, name: &str) -> Result<ServiceAccount, Error> {
    let account = tx.lock_service_account(&account_key(name)).await?;
    let account = account.ok_or_else(|| no_account(name))?;
    tx.lock_service_users_in(&account.key).await?;
    Ok(account)
}

fn no_account(name: &str) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!("there is no account {:?}", shown(name)),
    )
    .fix("`lapsed account list` lists them")
}

fn account_subject(account: &ServiceAccount) -> String {
    format!("account/{}", account.name)
}

pub(super) fn check_name(pointer: &'static str, name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let is_valid =
        !name.is_empty() && name.chars().count() <= MAX_NAME && !name.contains(is_unsafe);
    if is_valid {
        return Ok(name.to_owned());
    }
    Err(Problem::invalid(
        pointer,
        format!("a name has 1 to {MAX_NAME} characters, and no control characters"),
    ))
}

fn check_limit(max_tokens: Option<u64>) -> Result<(), Problem> {
    match max_tokens {
        Some(limit) if limit > MAX_TOKEN_LIMIT => Err(Problem::invalid(
            "/max_tokens",
            format!("a limit is at most {MAX_TOKEN_LIMIT}"),
        )
        .fix("write 0 for no limit")),
        _ => Ok(()),
    }
}

pub(super) fn taken(what: &str, name: &str) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        format!("there is already: {what} {:?}", shown(name)),
    )
    .fix("choose another name")
}

pub(super) fn shown(name: &str) -> String {
    text::one_line(name, text::MAX_NAME)
}
