//! Reads tokens of all sources for whoever asks.

use std::collections::HashMap;

use chrono::TimeDelta;

use crate::domain::service::{Actor, Credential, Kind, Operation, Problem, WhoIssues};
use crate::domain::{FindingKind, Token, TokenId};
use crate::store::{PageFilter, PageOrder, Reach, TokenSummary, Tx, Uses};
use crate::time::shift;

use super::found::{foreign, row_of_internal, subject_of};
use super::{Error, Service};

/// Within this time an expiry needs attention.
pub const SOON: TimeDelta = TimeDelta::days(7);

/// A token as a caller sees it.
#[derive(Debug, Clone)]
pub struct TokenItem {
    pub token: Token,
    /// Of a token of the service.
    pub credential: Option<Credential>,
    /// The kinds of its open findings.
    pub findings: Vec<FindingKind>,
}

#[derive(Debug, Clone)]
pub struct Summary {
    pub counts: TokenSummary,
    /// Whether a token of the caller expires soon.
    pub attention: bool,
    /// For an admin, whether one of their account does.
    pub attention_account: Option<bool>,
}

impl Service {
    /// A page of the tokens that the actor may see.
    ///
    /// # Errors
    /// If the actor may not read tokens.
    pub async fn list_tokens(
        &self,
        actor: &Actor,
        filter: &PageFilter,
        order: PageOrder<'_>,
        limit: i64,
    ) -> Result<Vec<TokenItem>, Error> {
        actor.may(Operation::ReadTokens)?;
        let now = self.clock.now();
        let reach = self.reach(actor);
        let mut tx = self.store.begin_short_read().await?;
        let kind = filter.kind.as_deref().map(Kind::parse);
        let ids = if kind.is_some_and(|kind| kind.is_internal()) {
            let after = order.after.map(|key| key.id);
            tx.page_internal_credentials(&reach, filter, after, now, limit)
                .await?
        } else {
            tx.page_tokens(&reach, filter, order, now, limit).await?
        };
        load_items(&mut tx, &ids).await
    }

    /// Reads a token of any source for a call that is about to do `operation` with it. A change of a token of another
    /// source is refused.
    ///
    /// # Errors
    /// `NotFound` if there is none, or the actor may not know of it; else says why the actor may not.
    pub async fn find_for(
        &self,
        actor: &Actor,
        id: TokenId,
        operation: Operation,
    ) -> Result<TokenItem, Error> {
        let mut tx = self.store.begin_short_read().await?;
        if let Some(credential) = tx.find_credentials(&[id]).await?.pop() {
            let found = self
                .load_checked(&mut tx, actor, credential, operation)
                .await?;
            let mut items = load_items(&mut tx, &[found.credential.id]).await?;
            return Ok(items.pop().ok_or_else(Problem::unknown)?);
        }
        let item = load_items(&mut tx, &[id]).await?.pop();
        let Some(item) = item else {
            actor.may(operation)?;
            return Err(Problem::unknown().into());
        };
        actor.may_with(operation, &subject_of(&item.token), self.terms.issuers)?;
        if operation == Operation::ReadToken {
            return Ok(item);
        }
        Err(foreign(&item.token).into())
    }

    /// By hour and address.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn load_uses(&self, id: TokenId) -> Result<Uses, Error> {
        Ok(self.store.begin_short_read().await?.load_uses(id).await?)
    }

    /// Whether the current secret of this token may never have been handed over.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn is_never_shown(&self, id: TokenId) -> Result<bool, Error> {
        let mut tx = self.store.begin_short_read().await?;
        Ok(tx.is_never_shown(id).await?)
    }

    /// # Errors
    /// If the actor may not read tokens.
    pub async fn summarize(&self, actor: &Actor) -> Result<Summary, Error> {
        actor.may(Operation::ReadTokens)?;
        let now = self.clock.now();
        let soon = shift(now, SOON);
        let reach = self.reach(actor);
        let own = own(&reach);
        let mut tx = self.store.begin_short_read().await?;
        let is_admin = reach.is_all || reach.administers.is_some();
        Ok(Summary {
            counts: tx.summarize_tokens(&reach, now, soon).await?,
            attention: tx.has_expiring_token(&own, now, soon).await?,
            attention_account: if is_admin {
                Some(tx.has_expiring_token(&reach, now, soon).await?)
            } else {
                None
            },
        })
    }

    /// Those of these tokens that the actor may see, whatever the scopes of their credential.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn visible_tokens(
        &self,
        actor: &Actor,
        ids: &[TokenId],
    ) -> Result<HashMap<TokenId, Token>, Error> {
        let mut tx = self.store.begin_short_read().await?;
        self.visible_in(&mut tx, actor, ids).await
    }

    pub(super) async fn visible_in(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        ids: &[TokenId],
    ) -> Result<HashMap<TokenId, Token>, Error> {
        let mut visible = HashMap::new();
        for item in load_items(tx, ids).await? {
            let mut subject = subject_of(&item.token);
            if let Some(credential) = &item.credential {
                subject.owners.push(credential.issuer.clone());
                subject.account.clone_from(&credential.account);
            }
            if actor.sees(&subject, self.terms.issuers) {
                visible.insert(item.token.id, item.token);
            }
        }
        Ok(visible)
    }

    pub(super) fn reach(&self, actor: &Actor) -> Reach {
        let Actor::Caller(access) = actor else {
            return Reach {
                is_all: true,
                ..Reach::default()
            };
        };
        Reach {
            is_all: access.is_super,
            administers: access.administers().map(str::to_owned),
            owner: access.person.key.clone(),
            account: access.credential.account.clone(),
            hides_local: self.terms.issuers == WhoIssues::Super,
            own_credential: access.credential.id,
            is_everywhere: access.is_super,
        }
    }
}

/// The same person's own tokens alone.
pub(super) fn own(reach: &Reach) -> Reach {
    Reach {
        is_all: false,
        administers: None,
        ..reach.clone()
    }
}

/// In the order of `ids`.
pub(super) async fn load_items(tx: &mut Tx, ids: &[TokenId]) -> Result<Vec<TokenItem>, Error> {
    let tokens = tx.load_tokens(ids).await?;
    let mut tokens: HashMap<TokenId, Token> =
        tokens.into_iter().map(|token| (token.id, token)).collect();
    let credentials = tx.find_credentials(ids).await?;
    let mut credentials: HashMap<TokenId, Credential> = credentials
        .into_iter()
        .map(|credential| (credential.id, credential))
        .collect();
    let mut findings: HashMap<TokenId, Vec<FindingKind>> = HashMap::new();
    for finding in tx.load_open_findings(ids).await? {
        if let Some(id) = finding.token_id {
            findings.entry(id).or_default().push(finding.kind);
        }
    }
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        let credential = credentials.remove(id);
        let token = match (tokens.remove(id), &credential) {
            (Some(token), _) => token,
            (None, Some(credential)) => {
                let person = tx.find_service_user(&credential.issuer).await?;
                row_of_internal(credential, person.as_ref())
            }
            (None, None) => continue,
        };
        items.push(TokenItem {
            token,
            credential,
            findings: findings.remove(id).unwrap_or_default(),
        });
    }
    Ok(items)
}

impl Service {
    /// A value that is made once and is the same for all replicas.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn setting(&self, key: &str, make: impl FnOnce() -> String) -> Result<String, Error> {
        let known = self
            .store
            .begin_short_read()
            .await?
            .find_setting(key)
            .await?;
        if let Some(value) = known {
            return Ok(value);
        }
        let mut tx = self.store.begin_short().await?;
        tx.insert_setting(key, &make()).await?;
        let value = tx.find_setting(key).await?.unwrap_or_default();
        tx.commit().await?;
        Ok(value)
    }
}
