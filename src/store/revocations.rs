//! The response to lost access: findings whose tokens may be revoked, the warnings sent before, and the
//! current evidence.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{FindingState, TokenId};

use super::columns::push_list;
use super::people::lost_statuses;
use super::{AuditRow, CHUNK_ROWS, IdentityRow, Result, Tx, on};

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct LossRow {
    pub id: Uuid,
    pub token_id: TokenId,
    /// As stored, whether or not the acknowledgement has ended.
    pub state: FindingState,
    pub acknowledged_until: Option<DateTime<Utc>>,
    pub revoke_at: Option<DateTime<Utc>>,
}

impl LossRow {
    /// The state at `now`: a finding whose acknowledgement has ended is open.
    pub fn state_at(&self, now: DateTime<Utc>) -> FindingState {
        let is_over = self.acknowledged_until.is_none_or(|until| until <= now);
        match self.state {
            FindingState::Acknowledged if is_over => FindingState::Open,
            state => state,
        }
    }
}

/// A finding whose token is due for revocation.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DueLoss {
    pub id: Uuid,
    pub source: String,
    pub external_id: String,
}

/// The warnings about one planned revocation of one token.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct RevocationWarnings {
    pub token_id: TokenId,
    /// Identifies the revocation: its earliest time if a warning arrives in time.
    pub generation: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    pub have_failed: bool,
}

const SELECT_LOSS: &str = "SELECT id, token_id, state, acknowledged_until, revoke_at FROM finding WHERE kind = 'sso_revoked' AND ";

impl Tx {
    /// A page of unresolved findings of lost access at these sources, in order of id.
    pub async fn list_unresolved_losses(
        &mut self,
        sources: &[String],
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<LossRow>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(SELECT_LOSS);
            query.push("state <> 'resolved' AND source IN (");
            push_list(&mut query, sources);
            query.push(") AND id > ").push_bind(after).push(" ORDER BY id LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })
    }

    /// A finding of lost access, resolved or not.
    pub async fn find_loss(&mut self, id: Uuid) -> Result<Option<LossRow>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(SELECT_LOSS);
            query.push("id = ").push_bind(id);
            query.build_query_as().fetch_optional(c).await
        })
    }

    /// Findings whose tokens are due for revocation at `now`, oldest first.
    pub async fn find_due_losses(&mut self, now: DateTime<Utc>) -> Result<Vec<DueLoss>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT f.id, t.source, t.external_id FROM finding f JOIN token t ON t.id = f.token_id
             WHERE f.revoke_at <= $1 AND f.state <> 'resolved' ORDER BY f.id")
            .bind(now).fetch_all(c).await)
    }

    /// Sets when the tokens of findings are to be revoked, except for findings acknowledged at `now`.
    pub async fn set_revoke_at(
        &mut self,
        revocations: &[(Uuid, Option<DateTime<Utc>>)],
        now: DateTime<Utc>,
    ) -> Result<()> {
        for (id, revoke_at) in revocations {
            on!(self, c: Db => sqlx::query(
                "UPDATE finding SET revoke_at = $2 WHERE id = $1 AND state <> 'resolved'
                   AND ($2 IS NULL OR state = 'open' OR acknowledged_until <= $3)")
                .bind(id).bind(*revoke_at).bind(now).execute(c).await.map(drop))?;
        }
        Ok(())
    }

    /// Whether a revocation is announced for a token of any other source.
    pub async fn has_revocations_except(&mut self, sources: &[String]) -> Result<bool> {
        let first: Option<(i32,)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT 1 FROM finding WHERE revoke_at IS NOT NULL");
            for source in sources { query.push(" AND source <> ").push_bind(source); }
            query.push(" LIMIT 1");
            query.build_query_as().fetch_optional(c).await
        })?;
        Ok(first.is_some())
    }

    /// Cancels the announced revocations of tokens of all other sources.
    pub async fn cancel_revocations_except(&mut self, sources: &[String]) -> Result<()> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("UPDATE finding SET revoke_at = NULL WHERE revoke_at IS NOT NULL");
            for source in sources { query.push(" AND source <> ").push_bind(source); }
            query.build().execute(c).await.map(drop)
        })
    }

    pub async fn load_revocation_warnings(
        &mut self,
        tokens: &[TokenId],
    ) -> Result<Vec<RevocationWarnings>> {
        let mut warnings = Vec::new();
        for chunk in tokens.chunks(CHUNK_ROWS) {
            warnings.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT token_id, generation, MIN(CASE WHEN state = 'sent' THEN sent_at END) AS sent_at,
                            MIN(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) = 1 AS have_failed
                     FROM ledger WHERE topic = 'sso_revoked' AND step IS NOT NULL AND token_id IN (");
                push_list(&mut query, chunk);
                query.push(") GROUP BY token_id, generation");
                query.build_query_as::<RevocationWarnings>().fetch_all(c).await
            })?);
        }
        Ok(warnings)
    }

    /// The identities at which this person has lost access.
    pub async fn find_lost_identities(&mut self, email_key: &str) -> Result<Vec<IdentityRow>> {
        on!(self, c: Db => sqlx::query_as(concat!(
            "SELECT * FROM identity WHERE email_key = $1 AND status IN ", lost_statuses!(), " ORDER BY directory"))
            .bind(email_key).fetch_all(c).await)
    }

    /// Audit entries of one actor after `since`, oldest first.
    pub async fn list_audit_of_actor(
        &mut self,
        actor: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<AuditRow>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM audit WHERE at > $1 AND actor = $2 ORDER BY at, id")
            .bind(since).bind(actor).fetch_all(c).await)
    }
}
