//! Findings and the audit trail, as far as a caller may see them.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::service::{Actor, Operation, Problem, ProblemKind};
use crate::domain::{FindingState, Token, TokenId};
use crate::store::{AuditFilter, AuditRow, FindingFilter, FindingRow};
use crate::text::{MAX_TEXT, one_line};

use super::found::subject_of;
use super::{Error, Service, audit};

/// Rows that are read at a time, most of which a caller may not see.
pub(super) const SCAN: i64 = 500;
/// A page is not longer looked for than this.
pub(super) const MAX_SCANS: usize = 20;

/// Rows that a caller may see, and where to go on if there may be more.
#[derive(Debug)]
pub struct Scanned<Row, Key> {
    pub rows: Vec<Row>,
    pub next: Option<Key>,
}

impl Service {
    /// Open findings about tokens that the actor may see, and, for a super admin, about sources; newest first.
    ///
    /// # Errors
    /// If the actor may not.
    pub async fn list_findings(
        &self,
        actor: &Actor,
        filter: FindingFilter,
        mut before: Option<Uuid>,
        limit: usize,
    ) -> Result<Scanned<FindingRow, Uuid>, Error> {
        actor.may(Operation::ReadFindings)?;
        let now = self.clock.now();
        let mut rows = Vec::new();
        for _ in 0..MAX_SCANS {
            let mut tx = self.store.begin_short_read().await?;
            let page = tx.list_findings(filter, before, now, SCAN).await?;
            drop(tx);
            let is_last = page.len() < usize::try_from(SCAN).unwrap_or(usize::MAX);
            let ids: Vec<TokenId> = page.iter().filter_map(|row| row.token_id).collect();
            let visible = self.visible_tokens(actor, &ids).await?;
            for row in page {
                before = Some(row.id);
                let is_visible = match row.token_id {
                    Some(id) => visible.contains_key(&id),
                    None => actor.is_super(),
                };
                if is_visible {
                    rows.push(row);
                }
                if rows.len() == limit {
                    return Ok(Scanned { rows, next: before });
                }
            }
            if is_last {
                return Ok(Scanned { rows, next: None });
            }
        }
        Ok(Scanned { rows, next: before })
    }

    /// Accepts a finding until `until`.
    ///
    /// # Errors
    /// If there is none, it is resolved, or the actor may not.
    pub async fn acknowledge_finding(
        &self,
        actor: &Actor,
        id: Uuid,
        until: DateTime<Utc>,
        reason: &str,
    ) -> Result<FindingRow, Error> {
        let now = self.clock.now();
        let mut row = self.find_finding(actor, id).await?;
        if until <= now {
            return Err(Problem::invalid("/until", "it has passed already")
                .fix("name a future time")
                .into());
        }
        let reason = one_line(reason, MAX_TEXT);
        if reason.is_empty() {
            return Err(Problem::invalid("/reason", "an acknowledgement needs a reason").into());
        }
        let (mut tx, actor) = self.begin_for(actor, Operation::WriteFindings).await?;
        if !tx.acknowledge_finding(id, until).await? {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "the finding is resolved; there is nothing to acknowledge",
            )
            .into());
        }
        let (subject, until) = (format!("finding {id}"), audit::instant(until));
        let facts = format!("until {until}: {reason}");
        audit::entry(
            &mut tx,
            &actor,
            "finding.acknowledge",
            &subject,
            Some(&facts),
            now,
        )
        .await?;
        self.commit(tx, &[]).await?;
        row.state = FindingState::Acknowledged;
        row.revoke_at = None;
        Ok(row)
    }

    /// A finding that the actor may acknowledge.
    ///
    /// # Errors
    /// If there is none, or the actor may not.
    pub async fn find_finding(&self, actor: &Actor, id: Uuid) -> Result<FindingRow, Error> {
        actor.may(Operation::WriteFindings)?;
        let now = self.clock.now();
        let prefix = id.simple().to_string();
        let mut tx = self.store.begin_short_read().await?;
        let row = tx.find_findings_by_prefix(&prefix, now, 1).await?.pop();
        drop(tx);
        let row = row.ok_or_else(Problem::unknown)?;
        let Some(token) = row.token_id else {
            return if actor.is_super() {
                Ok(row)
            } else {
                Err(Problem::unknown().into())
            };
        };
        let token = self.visible_tokens(actor, &[token]).await?.remove(&token);
        let token = token.ok_or_else(Problem::unknown)?;
        if !self.manages(actor, &token) {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "only an administrator of the account may accept a finding",
            )
            .into());
        }
        Ok(row)
    }

    /// The audit trail, newest first; for the admin of an account, what is about its tokens.
    ///
    /// # Errors
    /// If the actor may not.
    pub async fn list_audit(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        mut before: Option<AuditRow>,
        limit: usize,
    ) -> Result<Scanned<AuditRow, AuditRow>, Error> {
        actor.may(Operation::ReadAudit)?;
        let mut rows = Vec::new();
        for _ in 0..MAX_SCANS {
            let mut tx = self.store.begin_short_read().await?;
            let page = tx.list_audit(filter, before.as_ref(), SCAN).await?;
            drop(tx);
            let is_last = page.len() < usize::try_from(SCAN).unwrap_or(usize::MAX);
            let visible = self.visible_subjects(actor, &page).await?;
            for row in page {
                before = Some(row.clone());
                if actor.is_super() || visible.contains(&row.subject) {
                    rows.push(row);
                }
                if rows.len() == limit {
                    return Ok(Scanned { rows, next: before });
                }
            }
            if is_last {
                return Ok(Scanned { rows, next: None });
            }
        }
        Ok(Scanned { rows, next: before })
    }

    /// The subjects of entries about tokens that an admin manages.
    async fn visible_subjects(
        &self,
        actor: &Actor,
        page: &[AuditRow],
    ) -> Result<HashSet<String>, Error> {
        let mut visible = HashSet::new();
        if actor.is_super() {
            return Ok(visible);
        }
        let mut by_source: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in page {
            if let Some((source, external_id)) = row.subject.split_once('/') {
                by_source.entry(source).or_default().push(external_id);
            }
        }
        let mut tx = self.store.begin_short_read().await?;
        for (source, mut ids) in by_source {
            ids.sort_unstable();
            ids.dedup();
            for token in tx.load_tokens_by_external_id(source, &ids).await? {
                if self.manages(actor, &token) {
                    visible.insert(format!("{source}/{}", token.external_id));
                }
            }
        }
        Ok(visible)
    }

    fn manages(&self, actor: &Actor, token: &Token) -> bool {
        let subject = subject_of(token);
        actor.sees(&subject, self.terms.issuers) && actor.manages(&subject)
    }
}
