//! What today's policy would change for tokens that exist. It changes none of them: a token keeps what it was issued
//! with, and the policy applies when it is regenerated.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::service::{Actor, Credential, CredentialState, Kind, Operation, ServiceAccount};
use crate::domain::{LOCAL_SOURCE, Token, TokenId};
use crate::store::Tx;

use super::{Error, Service};

const PAGE: i64 = 1000;

/// What of a token the policy would not allow today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    /// Its life is longer than the maximum; it could last until `latest` if it were issued now.
    TooLong {
        max: String,
        latest: DateTime<Utc>,
    },
    Never,
    UnknownRole(String),
    UnknownKind(String),
}

#[derive(Debug, Clone)]
pub struct DepartingToken {
    pub token: Token,
    pub departures: Vec<Departure>,
}

/// An account or a person with more tokens than the policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverLimit {
    pub name: String,
    pub used: u64,
    pub limit: u64,
}

#[derive(Debug, Clone, Default)]
pub struct PolicyCheck {
    /// How many tokens were looked at.
    pub checked: u64,
    pub tokens: Vec<DepartingToken>,
    pub accounts: Vec<OverLimit>,
    pub users: Vec<OverLimit>,
}

impl Service {
    /// # Errors
    /// If the actor is no super admin.
    pub async fn policy_check(&self, actor: &Actor) -> Result<PolicyCheck, Error> {
        actor.may(Operation::ReadService)?;
        let now = self.clock.now();
        let mut tx = self.store.begin_read().await?;
        let mut check = PolicyCheck::default();
        let mut by_account: HashMap<String, u64> = HashMap::new();
        let mut by_user: HashMap<String, u64> = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let tokens = tx
                .load_tokens_of_source(LOCAL_SOURCE, after.as_deref(), PAGE)
                .await?;
            let Some(last) = tokens.last() else { break };
            after = Some(last.external_id.clone());
            let ids: Vec<TokenId> = tokens.iter().map(|token| token.id).collect();
            let credentials = tx.find_credentials(&ids).await?;
            let mut credentials: HashMap<TokenId, Credential> = credentials
                .into_iter()
                .map(|credential| (credential.id, credential))
                .collect();
            for token in tokens {
                let credential = credentials.remove(&token.id);
                let Some(credential) = credential.filter(|credential| counts(credential, now))
                else {
                    continue;
                };
                check.checked += 1;
                let departures = self.departures(&credential, now);
                if let Some(account) = &credential.account {
                    *by_account.entry(account.clone()).or_default() += 1;
                }
                *by_user.entry(credential.issuer).or_default() += 1;
                if !departures.is_empty() {
                    check.tokens.push(DepartingToken { token, departures });
                }
            }
        }
        check.accounts = self.accounts_over_limit(&mut tx, &by_account).await?;
        check.users = over_limit(by_user, self.terms.per_user);
        Ok(check)
    }

    fn departures(&self, credential: &Credential, now: DateTime<Utc>) -> Vec<Departure> {
        let mut departures = Vec::new();
        let life = self.terms.life(&credential.kind);
        match (credential.expires_at, life.latest(now)) {
            (None, _) if !life.allows_never => departures.push(Departure::Never),
            (Some(at), Some((max, latest))) => {
                let begin = credential.secret.created_at;
                let begin = credential.not_before.map_or(begin, |from| from.max(begin));
                if life.max.is_some_and(|max| at - begin > max) {
                    departures.push(Departure::TooLong { max, latest });
                }
            }
            _ => {}
        }
        if let Some(role) = &credential.role
            && self.terms.roles.rank(role).is_none()
        {
            departures.push(Departure::UnknownRole(role.clone()));
        }
        if let Kind::Named(name) = &credential.kind
            && !self.terms.kinds.iter().any(|kind| kind.name == *name)
        {
            departures.push(Departure::UnknownKind(name.clone()));
        }
        departures
    }

    async fn accounts_over_limit(
        &self,
        tx: &mut Tx,
        by_account: &HashMap<String, u64>,
    ) -> Result<Vec<OverLimit>, Error> {
        let mut over = Vec::new();
        for (key, &used) in by_account {
            let account = tx.find_service_account(key).await?;
            let of_account = account.as_ref().and_then(|account| account.max_tokens);
            let limit = of_account.unwrap_or(self.terms.per_account);
            if limit > 0 && used > limit {
                let name = account.map_or(key.clone(), |ServiceAccount { name, .. }| name);
                over.push(OverLimit { name, used, limit });
            }
        }
        over.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(over)
    }
}

fn counts(credential: &Credential, now: DateTime<Utc>) -> bool {
    credential.state != CredentialState::Revoked && credential.expires_at.is_none_or(|at| now < at)
}

fn over_limit(used: HashMap<String, u64>, limit: u64) -> Vec<OverLimit> {
    let over = used.into_iter().filter_map(|(name, used)| {
        (limit > 0 && used > limit).then_some(OverLimit { name, used, limit })
    });
    let mut over: Vec<OverLimit> = over.collect();
    over.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    over
}
