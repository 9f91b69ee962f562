//! Notices that a person reads in their account.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{NewNotice, Step, TokenId, Topic};
use crate::time::MAX_INSTANT;

use super::{CHUNK_ROWS, Result, Tx, on};

#[derive(Debug, Clone, FromRow)]
pub struct AccountNotice {
    pub id: Uuid,
    pub token_id: Option<TokenId>,
    /// The token's name, or the subject of a notice without a token.
    pub token_name: Option<String>,
    pub topic: Topic,
    /// In seconds; for expiry only.
    pub step: Option<i64>,
    pub read_at: Option<DateTime<Utc>>,
    pub planned_at: DateTime<Utc>,
}

impl Tx {
    /// Inserts notices into accounts; those that are there already stay as they are.
    pub async fn insert_account_notices(
        &mut self,
        notices: &[NewNotice],
        now: DateTime<Utc>,
    ) -> Result<()> {
        for chunk in notices.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO notice (id, token_id, subject, generation, secret_version, topic, step, recipient,
                        recipient_key, basis, send_at, title, detail, planned_at, state, channel) ");
                query.push_values(chunk, |mut row, notice| {
                    row.push_bind(notice.id).push_bind(notice.token_id).push_bind(&notice.subject)
                        .push_bind(notice.generation.at)
                        .push_bind(i64::from(notice.generation.secret_version))
                        .push_bind(notice.topic.as_str()).push_bind(notice.step.map(Step::seconds))
                        .push_bind(notice.recipient.as_str()).push_bind(notice.recipient.key())
                        .push_bind(notice.basis.as_str()).push_bind(notice.send_at)
                        .push_bind(&notice.title).push_bind(&notice.detail).push_bind(now)
                        .push("'sent'").push("'account'");
                });
                query.push(" ON CONFLICT (id) DO NOTHING");
                query.build().persistent(false).execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// A page of a person's notices before `before`, newest first.
    pub async fn list_account_notices(
        &mut self,
        recipient_key: &str,
        is_unread: bool,
        before: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<AccountNotice>> {
        let (at, id) = before.unwrap_or((MAX_INSTANT, Uuid::max()));
        on!(self, c: Db => sqlx::query_as(
            "SELECT n.id, n.token_id, n.topic, n.step, n.read_at, n.planned_at,
                COALESCE(NULLIF(t.name, ''), t.external_id, n.title, n.subject) AS token_name
             FROM notice n LEFT JOIN token t ON t.id = n.token_id
             WHERE n.channel = 'account' AND n.recipient_key = $1 AND (n.read_at IS NULL OR NOT $2)
               AND n.state = 'sent' AND n.planned_at <= $3 AND (n.planned_at, n.id) < ($3, $4)
             ORDER BY n.planned_at DESC, n.id DESC LIMIT $5")
            .bind(recipient_key).bind(is_unread).bind(at).bind(id).bind(limit).fetch_all(c).await)
    }

    /// How many notices a person has not read, up to `limit`.
    pub async fn count_unread_notices(&mut self, recipient_key: &str, limit: i64) -> Result<i64> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 FROM notice WHERE channel = 'account' AND recipient_key = $1
                AND read_at IS NULL AND state = 'sent' LIMIT $2) AS counted")
            .bind(recipient_key).bind(limit).fetch_one(c).await)
    }

    /// `None` if the person has no such notice, else the token that it is about. When it was first read stays.
    pub async fn mark_notice_read(
        &mut self,
        recipient_key: &str,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<Option<TokenId>>> {
        on!(self, c: Db => sqlx::query_scalar(
            "UPDATE notice SET read_at = COALESCE(read_at, $3)
             WHERE id = $2 AND channel = 'account' AND recipient_key = $1 RETURNING token_id")
            .bind(recipient_key).bind(id).bind(now).fetch_optional(c).await)
    }
}
