//! How many tokens an account and a person may have.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::domain::service::{Problem, ProblemKind, ServiceAccount, ServicePerson};
use crate::store::Tx;

use super::{Error, Service};

/// How many tokens there are of those that have a limit.
pub(super) struct Places {
    accounts: HashMap<String, u64>,
    users: HashMap<String, u64>,
}

impl Service {
    /// Accounts that nobody can remove or rename until the transaction ends. Those with a limit are locked at once: two
    /// transactions that both hold one could not lock it afterwards.
    pub(super) async fn hold_accounts(
        &self,
        tx: &mut Tx,
        keys: BTreeSet<String>,
    ) -> Result<HashMap<String, ServiceAccount>, Error> {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let known = tx.find_service_accounts(&keys).await?;
        let has_limit = |account: &&ServiceAccount| self.limit_of(account) > 0;
        let (limited, free): (Vec<_>, Vec<_>) = known.iter().partition(has_limit);
        let free: Vec<_> = free.iter().map(|account| account.key.as_str()).collect();
        let held = tx.hold_service_accounts(&free).await?;
        // Some may have got their limit just now.
        let (newly_limited, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|account| has_limit(&account));
        let limited = limited.into_iter().chain(&newly_limited);
        let limited: Vec<_> = limited.map(|account| account.key.as_str()).collect();
        let locked = tx.lock_service_accounts(&limited).await?;
        let accounts = held.into_iter().chain(locked);
        Ok(accounts
            .map(|account| (account.key.clone(), account))
            .collect())
    }

    pub(super) async fn count_places(
        &self,
        tx: &mut Tx,
        accounts: &HashMap<String, ServiceAccount>,
        people: &HashMap<String, ServicePerson>,
        now: DateTime<Utc>,
    ) -> Result<Places, Error> {
        let accounts = accounts.values();
        let limited = accounts.filter(|account| self.limit_of(account) > 0);
        let limited: Vec<_> = limited.map(|account| account.key.as_str()).collect();
        let people = people.keys().map(String::as_str);
        let people: Vec<_> = people.filter(|_| self.terms.per_user > 0).collect();
        Ok(Places {
            accounts: tx.count_tokens_in(&limited, now).await?,
            users: tx.count_tokens_of(&people, now).await?,
        })
    }

    /// How many tokens an account may have; 0 for no limit.
    pub(super) fn limit_of(&self, account: &ServiceAccount) -> u64 {
        account.max_tokens.unwrap_or(self.terms.per_account)
    }

    /// Checks the limits of the account and of the person, and locks both until the transaction ends, so that nobody
    /// else takes the same place.
    pub(super) async fn take_place(
        &self,
        tx: &mut Tx,
        account: Option<&ServiceAccount>,
        person: &ServicePerson,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if let Some(account) = account {
            let limit = self.limit_of(account);
            if limit > 0 {
                tx.lock_service_account(&account.key).await?;
                let used = tx.count_account_tokens(&account.key, now).await?;
                let whose = format!("the account {}", account.name);
                check_limit(&whose, limit, used)?;
            }
        }
        if self.terms.per_user > 0 {
            tx.lock_service_user(&person.key).await?;
            let used = tx.count_user_tokens(&person.key, now).await?;
            check_limit(&person.key, self.terms.per_user, used)?;
        }
        Ok(())
    }
}

impl Places {
    /// Takes a place for one more token, if there is one.
    pub fn take(
        &mut self,
        account: Option<(&ServiceAccount, u64)>,
        person: &ServicePerson,
        per_user: u64,
    ) -> Result<(), Problem> {
        let of_account = account.filter(|(_, limit)| *limit > 0);
        if let Some((account, limit)) = of_account {
            let used = self.accounts.get(&account.key).copied().unwrap_or(0);
            check_limit(&format!("the account {}", account.name), limit, used)?;
        }
        if per_user > 0 {
            let used = self.users.entry(person.key.clone()).or_default();
            check_limit(&person.key, per_user, *used)?;
            *used += 1;
        }
        if let Some((account, _)) = of_account {
            *self.accounts.entry(account.key.clone()).or_default() += 1;
        }
        Ok(())
    }
}

fn check_limit(whose: &str, limit: u64, used: u64) -> Result<(), Problem> {
    if used < limit {
        return Ok(());
    }
    Err(Problem {
        limit: Some((limit, used)),
        ..Problem::new(
            ProblemKind::LimitReached,
            format!("{whose} has {used} of at most {limit} tokens"),
        )
        .fix("delete a token that is no longer used, or ask an operator for a higher limit")
    })
}
