//! An operator decides what a restored store means for its tokens.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::domain::TokenId;
use crate::domain::service::{Actor, CredentialState, Problem, ProblemKind};
use crate::store::{Change, Tx};

use super::mark::{Mark, RESUMED};
use super::{Error, Result, Service};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    pub revoked: usize,
}

impl Service {
    /// Verifies tokens again. Those that this machine saw change since `since`, themselves or their issuer, are revoked
    /// before: the restored store may have forgotten that they were.
    pub async fn resume(
        &self,
        actor: &Actor,
        since: Option<DateTime<Utc>>,
        mark: Option<&Mark>,
    ) -> Result<Resumed> {
        let changes = match since {
            Some(since) => find_changes(mark, since)?,
            None => Vec::new(),
        };
        let mut tx = self.store().begin().await?;
        let ids = find_tokens(&mut tx, changes).await?;
        tx.commit().await?;
        for id in &ids {
            self.delete(
                actor,
                *id,
                None,
                Some("changed before the store was restored"),
            )
            .await?;
        }
        let mut tx = self.store().begin().await?;
        let decided_at = self.now().timestamp_micros().to_string();
        tx.set_setting(RESUMED, &decided_at).await?;
        self.commit(tx, &[Change::Everything]).await?;
        if let Some(mark) = mark {
            mark.replace(&[])
                .map_err(|error| Error::Mark(mark.error(error)))?;
        }
        Ok(Resumed { revoked: ids.len() })
    }
}

/// What this machine saw since then.
fn find_changes(mark: Option<&Mark>, since: DateTime<Utc>) -> Result<Vec<Change>> {
    let seen = match mark {
        Some(mark) => mark.read().map_err(|error| mark.error(error))?,
        None => Vec::new(),
    };
    match seen.first() {
        Some(first) if first.at <= since => {}
        first => {
            let from = first.map_or("nothing".to_owned(), |first| {
                format!("changes since {}", first.at)
            });
            let detail = format!("this machine remembers {from}, not since {since}");
            let fix = "revoke what may have been revoked by hand, and resume without a time";
            return Err(Problem::new(ProblemKind::Invalid, detail).fix(fix).into());
        }
    }
    let since = seen.into_iter().filter(|seen| seen.at >= since);
    Ok(since.map(|seen| seen.change).collect())
}

/// The tokens that the changes concern and that work.
async fn find_tokens(tx: &mut Tx, changes: Vec<Change>) -> Result<BTreeSet<TokenId>> {
    let mut ids = BTreeSet::new();
    let mut named = BTreeSet::new();
    for change in changes {
        match change {
            Change::Credential(id) => drop(named.insert(id)),
            Change::User(key) => {
                let theirs = tx.list_credentials_of(&key).await?;
                ids.extend(theirs.iter().map(|it| it.id));
            }
            Change::Everything => {}
        }
    }
    let named: Vec<_> = named.into_iter().collect();
    let found = tx.find_credentials(&named).await?;
    let works = |state| state != CredentialState::Revoked;
    ids.extend(found.iter().filter(|it| works(it.state)).map(|it| it.id));
    Ok(ids)
}
