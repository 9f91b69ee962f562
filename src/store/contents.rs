//! The contents of mails: their notices with the tokens concerned.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{Basis, Step, Token, TokenId, Topic};

use super::mails::parse_stored;
use super::{CHUNK_ROWS, Result, Tx, UnlistedTokens, on};

/// The notices of a mail with their tokens, at most as many as a digest lists.
#[derive(Debug, Clone, Default)]
pub struct MailContent {
    /// Most urgent first.
    pub rows: Vec<ContentRow>,
    /// Tokens beyond those in `rows`, by source and day.
    pub unlisted: Vec<UnlistedTokens>,
}

#[derive(Debug, Clone)]
pub struct ContentRow {
    pub topic: Topic,
    /// For topic expiry only.
    pub step: Option<Step>,
    /// Why this person receives it.
    pub basis: Basis,
    pub send_at: DateTime<Utc>,
    /// For alerts the subject line; for a revoked token who revoked it.
    pub title: Option<String>,
    /// For alerts the text; for a revoked token the reason; for an unreachable address the server's reply.
    pub detail: Option<String>,
    /// The unreachable address.
    pub subject: Option<String>,
    pub token: Option<Token>,
    /// What the directory reports about the issuer, while the finding is open.
    pub evidence: Option<String>,
    pub evidence_since: Option<DateTime<Utc>>,
    /// The finding behind `evidence`.
    pub finding_id: Option<Uuid>,
    /// When the token is to be revoked because of it.
    pub revoke_at: Option<DateTime<Utc>>,
    /// The server's reply that marked the issuer's address as dead.
    pub issuer_dead: Option<String>,
}

#[derive(FromRow)]
struct NoticeTokenRow {
    mail_id: Uuid,
    topic: String,
    step: Option<i64>,
    basis: String,
    send_at: DateTime<Utc>,
    title: Option<String>,
    detail: Option<String>,
    subject: Option<String>,
    token_id: Option<Uuid>,
    evidence: Option<String>,
    evidence_since: Option<DateTime<Utc>>,
    finding_id: Option<Uuid>,
    revoke_at: Option<DateTime<Utc>>,
    issuer_dead: Option<String>,
}

impl Tx {
    /// The contents of claimed mails, in the order of `ids`, with at most `max_rows` rows each.
    pub async fn load_mail_contents(
        &mut self,
        ids: &[Uuid],
        max_rows: i64,
    ) -> Result<Vec<MailContent>> {
        let mut found: HashMap<Uuid, MailContent> = HashMap::new();
        for ids in ids.chunks(CHUNK_ROWS) {
            let rows = self.load_notice_rows(ids, max_rows).await?;
            let token_ids: Vec<_> = rows
                .iter()
                .filter_map(|row| row.token_id)
                .map(TokenId)
                .collect();
            let tokens = self.load_tokens(&token_ids).await?;
            let tokens: HashMap<Uuid, Token> = tokens
                .into_iter()
                .map(|token| (token.id.0, token))
                .collect();
            for row in rows {
                let token = row.token_id.and_then(|id| tokens.get(&id)).cloned();
                let mail_id = row.mail_id;
                found
                    .entry(mail_id)
                    .or_default()
                    .rows
                    .push(row.with_token(token)?);
            }
        }
        let mut contents = Vec::with_capacity(ids.len());
        for id in ids {
            let mut content = found.remove(id).unwrap_or_default();
            if content.rows.len() >= usize::try_from(max_rows).unwrap_or(usize::MAX) {
                content.unlisted = self.count_unlisted_tokens(*id, &content).await?;
            }
            contents.push(content);
        }
        Ok(contents)
    }

    async fn load_notice_rows(
        &mut self,
        ids: &[Uuid],
        max_rows: i64,
    ) -> Result<Vec<NoticeTokenRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT * FROM (
                    SELECT n.mail_id, n.topic, n.step, n.basis, n.send_at, n.title, n.detail, n.subject, n.token_id,
                           f.evidence, f.since AS evidence_since, f.id AS finding_id, f.revoke_at, a.reason AS issuer_dead,
                           ROW_NUMBER() OVER (PARTITION BY n.mail_id
                               ORDER BY CASE n.topic WHEN 'alert' THEN 0 WHEN 'summary' THEN 0 WHEN 'sso_revoked' THEN 1
                                        WHEN 'revoked' THEN 2 ELSE 3 END,
                                        n.generation, n.id) AS place
                    FROM notice n
                    LEFT JOIN token t ON t.id = n.token_id
                    LEFT JOIN finding f ON f.token_id = n.token_id AND f.kind = 'sso_revoked' AND f.state <> 'resolved'
                    LEFT JOIN address a ON a.key = t.issuer_key
                    WHERE n.state = 'planned' AND n.mail_id IN (");
            let mut list = query.separated(", ");
            for id in ids { list.push_bind(*id); }
            query.push(")) AS numbered WHERE place <= ").push_bind(max_rows).push(" ORDER BY mail_id, place");
            query.build_query_as().fetch_all(c).await
        })?)
    }

    async fn count_unlisted_tokens(
        &mut self,
        mail: Uuid,
        content: &MailContent,
    ) -> Result<Vec<UnlistedTokens>> {
        // Cast to text, an instant begins with its day in both databases: ten characters.
        let mut all: Vec<UnlistedTokens> = on!(self, c: Db => sqlx::query_as(
            "SELECT n.topic, t.source, SUBSTR(CAST(t.expires_at AS TEXT), 1, 10) AS day, COUNT(*) AS count
             FROM notice n JOIN token t ON t.id = n.token_id
             WHERE n.mail_id = $1 AND n.state = 'planned'
             GROUP BY n.topic, t.source, SUBSTR(CAST(t.expires_at AS TEXT), 1, 10)
             ORDER BY 3, 2, 1")
            .bind(mail).fetch_all(c).await)?;
        for row in &content.rows {
            let Some(token) = &row.token else { continue };
            let day = token
                .expiry
                .at()
                .map(|at| at.format("%Y-%m-%d").to_string());
            let mut of_topic = all.iter_mut().filter(|tokens| tokens.topic == row.topic);
            if let Some(tokens) =
                of_topic.find(|tokens| tokens.source == token.source && tokens.day == day)
            {
                tokens.count -= 1;
            }
        }
        all.retain(|tokens| tokens.count > 0);
        Ok(all)
    }
}

impl NoticeTokenRow {
    fn with_token(self, token: Option<Token>) -> Result<ContentRow> {
        Ok(ContentRow {
            topic: parse_stored(&self.topic, "a notice's topic")?,
            step: self.step.map(Step::from_seconds),
            basis: parse_stored(&self.basis, "a notice's basis")?,
            send_at: self.send_at,
            title: self.title,
            detail: self.detail,
            subject: self.subject,
            token,
            evidence: self.evidence,
            evidence_since: self.evidence_since,
            finding_id: self.finding_id,
            revoke_at: self.revoke_at,
            issuer_dead: self.issuer_dead,
        })
    }
}
