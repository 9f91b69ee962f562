//! How many tokens an account and a person may have.

use chrono::{DateTime, Utc};

use crate::domain::service::{Problem, ProblemKind, ServiceAccount, ServicePerson};
use crate::store::Tx;

use super::{Error, Service};

impl Service {
    /// Loads an account that nobody can remove or rename until the transaction ends. With a limit it is locked at once:
    /// two transactions that both hold it could not lock it afterwards.
    pub(super) async fn hold_account(
        &self,
        tx: &mut Tx,
        key: &str,
    ) -> Result<Option<ServiceAccount>, Error> {
        let known = tx.find_service_account(key).await?;
        Ok(match known {
            Some(account) if self.limit_of(&account) > 0 => tx.lock_service_account(key).await?,
            Some(_) => tx.hold_service_account(key).await?,
            None => None,
        })
    }

    /// How many tokens an account may have; 0 for no limit.
    fn limit_of(&self, account: &ServiceAccount) -> u64 {
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
