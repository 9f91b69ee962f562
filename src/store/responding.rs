//! What the response to lost access needs: findings whose tokens may be ended, who was warned of that, and
//! what speaks for it now.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::TokenId;

use super::people::push_names;
use super::{AuditRow, CHUNK, IdentityRow, Result, Tx, on};

/// A finding of lost access.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct LossRow {
    /// Its id.
    pub id: Uuid,
    /// The token.
    pub token_id: Uuid,
    /// As it is stored: one whose acknowledgement is over still says so.
    pub state: String,
    /// Until when it was accepted, if ever.
    pub acknowledged_until: Option<DateTime<Utc>>,
    /// When its token is to be ended, as was announced.
    pub revoke_at: Option<DateTime<Utc>>,
}

/// A finding whose token's time is over.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DueLoss {
    /// Its id.
    pub id: Uuid,
    /// The token's source.
    pub source: String,
    /// The token's id there.
    pub external_id: String,
}

/// Warnings of one end of one token.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Warnings {
    /// The token.
    pub token_id: Uuid,
    /// Which end: when it would be if somebody is warned in time.
    pub generation: DateTime<Utc>,
    /// When the first of them was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// Whether all of them have failed.
    pub have_failed: bool,
}

const LOSS: &str = "SELECT id, token_id, state, acknowledged_until, revoke_at FROM finding WHERE kind = 'sso_revoked' AND ";

impl Tx {
    /// Findings of lost access at these sources that are not resolved, in order of id, from after `after`.
    pub async fn standing_losses(
        &mut self,
        sources: &[String],
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<LossRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(LOSS);
            query.push("state <> 'resolved' AND source IN (");
            push_names(&mut query, sources);
            query.push(") AND id > ").push_bind(after).push(" ORDER BY id LIMIT ").push_bind(limit);
            query.build_query_as().fetch_all(c).await
        })?)
    }

    /// One finding of lost access, resolved or not.
    pub async fn loss(&mut self, id: Uuid) -> Result<Option<LossRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(LOSS);
            query.push("id = ").push_bind(id);
            query.build_query_as().fetch_optional(c).await
        })?)
    }

    /// The findings whose tokens' time is over at `now`, the oldest first.
    pub async fn due_losses(&mut self, now: DateTime<Utc>) -> Result<Vec<DueLoss>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT f.id, t.source, t.external_id FROM finding f JOIN token t ON t.id = f.token_id
             WHERE f.revoke_at <= $1 AND f.state <> 'resolved' ORDER BY f.id")
            .bind(now).fetch_all(c).await)?)
    }

    /// Writes down when the tokens of findings are to be ended; one that is acknowledged by now is left alone.
    pub async fn put_revoke_at(
        &mut self,
        ends: &[(Uuid, Option<DateTime<Utc>>)],
        now: DateTime<Utc>,
    ) -> Result<()> {
        for (id, revoke_at) in ends {
            on!(self, c: Db => sqlx::query(
                "UPDATE finding SET revoke_at = $2 WHERE id = $1 AND state <> 'resolved'
                   AND ($2 IS NULL OR state = 'open' OR acknowledged_until <= $3)")
                .bind(id).bind(*revoke_at).bind(now).execute(c).await.map(drop))?;
        }
        Ok(())
    }

    /// Whether an end is announced of a token that is of none of these sources.
    pub async fn is_end_announced_but_of(&mut self, sources: &[String]) -> Result<bool> {
        let found: Option<(i32,)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT 1 FROM finding WHERE revoke_at IS NOT NULL");
            for source in sources { query.push(" AND source <> ").push_bind(source); }
            query.push(" LIMIT 1");
            query.build_query_as().fetch_optional(c).await
        })?;
        Ok(found.is_some())
    }

    /// Takes back the announced ends of tokens that are of none of these sources.
    pub async fn call_off_ends_but_of(&mut self, sources: &[String]) -> Result<()> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("UPDATE finding SET revoke_at = NULL WHERE revoke_at IS NOT NULL");
            for source in sources { query.push(" AND source <> ").push_bind(source); }
            query.build().execute(c).await.map(drop)
        })?;
        Ok(())
    }

    /// What became of the warnings of these tokens' ends.
    pub async fn warnings_of(&mut self, tokens: &[TokenId]) -> Result<Vec<Warnings>> {
        let mut found = Vec::new();
        for tokens in tokens.chunks(CHUNK) {
            found.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT token_id, generation, MIN(CASE WHEN state = 'sent' THEN sent_at END) AS sent_at,
                            MIN(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) = 1 AS have_failed
                     FROM ledger WHERE topic = 'sso_revoked' AND step IS NOT NULL AND token_id IN (");
                let mut list = query.separated(", ");
                for id in tokens { list.push_bind(id.0); }
                query.push(") GROUP BY token_id, generation");
                query.build_query_as::<Warnings>().fetch_all(c).await
            })?);
        }
        Ok(found)
    }

    /// What directories say of a person who lost access there.
    pub async fn losses_of(&mut self, email_key: &str) -> Result<Vec<IdentityRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM identity WHERE email_key = $1 AND status IN ('disabled', 'deleted', 'out_of_group')
             ORDER BY directory")
            .bind(email_key).fetch_all(c).await)?)
    }

    /// What somebody did after `since`, in order.
    pub async fn audit_of_actor(
        &mut self,
        actor: &str,
        since: DateTime<Utc>,
    ) -> Result<Vec<AuditRow>> {
        Ok(on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM audit WHERE at > $1 AND actor = $2 ORDER BY at, id")
            .bind(since).bind(actor).fetch_all(c).await)?)
    }
}
