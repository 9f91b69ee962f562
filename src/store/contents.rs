//! What mails say: their notices with the tokens they are about.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::domain::{Ground, Step, Token, TokenId, Topic};

use super::mails::parsed;
use super::{CHUNK, Rest, Result, Tx, on};

/// What a mail says: its notices with their tokens, at most as many as a digest lists.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// Most urgent first.
    pub rows: Vec<ContentRow>,
    /// Tokens beyond those, by source and day.
    pub rest: Vec<Rest>,
}

/// One notice in a mail.
#[derive(Debug, Clone)]
pub struct ContentRow {
    /// What it is about.
    pub topic: Topic,
    /// For expiry, the step.
    pub step: Option<Step>,
    /// Why this person gets it.
    pub ground: Ground,
    /// When it was to go.
    pub send_at: DateTime<Utc>,
    /// For alerts the subject line; for a revoked token who ended it.
    pub title: Option<String>,
    /// For alerts the text; for a revoked token why; for an unreachable address what was said of it.
    pub detail: Option<String>,
    /// What else it is about: the unreachable address.
    pub subject: Option<String>,
    /// The token.
    pub token: Option<Token>,
    /// What the directory said of the issuer, while the finding is open.
    pub evidence: Option<String>,
    /// Since when.
    pub evidence_since: Option<DateTime<Utc>>,
    /// The finding that says so.
    pub finding_id: Option<Uuid>,
    /// When the token is to be ended for it.
    pub revoke_at: Option<DateTime<Utc>>,
    /// What a server said of the issuer's dead mailbox.
    pub issuer_dead: Option<String>,
}

#[derive(FromRow)]
struct NoticeTokenRow {
    mail_id: Uuid,
    topic: String,
    step: Option<i64>,
    ground: String,
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
    /// What claimed mails say, in the order of `ids`; at most `shown` tokens each.
    pub async fn contents(&mut self, ids: &[Uuid], shown: i64) -> Result<Vec<Content>> {
        let mut found: HashMap<Uuid, Content> = HashMap::new();
        for ids in ids.chunks(CHUNK) {
            let rows = self.notices_of(ids, shown).await?;
            let token_ids: Vec<_> = rows
                .iter()
                .filter_map(|row| row.token_id)
                .map(TokenId)
                .collect();
            let tokens = self.tokens_by_id(&token_ids).await?;
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
                    .push(row.with(token)?);
            }
        }
        let mut contents = Vec::with_capacity(ids.len());
        for id in ids {
            let mut content = found.remove(id).unwrap_or_default();
            if content.rows.len() >= usize::try_from(shown).unwrap_or(usize::MAX) {
                content.rest = self.rest_of(*id, &content).await?;
            }
            contents.push(content);
        }
        Ok(contents)
    }

    async fn notices_of(&mut self, ids: &[Uuid], shown: i64) -> Result<Vec<NoticeTokenRow>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT * FROM (
                    SELECT n.mail_id, n.topic, n.step, n.ground, n.send_at, n.title, n.detail, n.subject, n.token_id,
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
            query.push(")) AS numbered WHERE place <= ").push_bind(shown).push(" ORDER BY mail_id, place");
            query.build_query_as().fetch_all(c).await
        })?)
    }

    /// The tokens of a mail beyond those in `content`, by source and day.
    async fn rest_of(&mut self, mail: Uuid, content: &Content) -> Result<Vec<Rest>> {
        // Both databases write an instant as text with the day in its first ten characters.
        let mut all: Vec<Rest> = on!(self, c: Db => sqlx::query_as(
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
            let mut same = all.iter_mut().filter(|rest| rest.topic == row.topic);
            if let Some(rest) = same.find(|rest| rest.source == token.source && rest.day == day) {
                rest.count -= 1;
            }
        }
        all.retain(|rest| rest.count > 0);
        Ok(all)
    }
}

impl NoticeTokenRow {
    fn with(self, token: Option<Token>) -> Result<ContentRow> {
        Ok(ContentRow {
            topic: parsed(&self.topic, "a notice's topic")?,
            step: self.step.map(Step::from_seconds),
            ground: parsed(&self.ground, "a notice's ground")?,
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
