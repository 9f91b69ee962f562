//! A sweep that only says what it would do: gathers and decides, and writes nothing.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::domain::diff;
use crate::domain::{self, Listed, NewNotice, Token, TokenId};
use crate::sources::Fetched;

use super::sync::Changes;
use super::{Engine, Error, PAGE, Report, SweepOptions};

/// A notice that would be planned, and what it is about.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// The notice.
    pub notice: NewNotice,
    /// The token.
    pub token: Token,
}

impl Engine {
    /// What a sweep would change and plan. `tell` is given every notice that would be planned.
    pub async fn foresee(
        &self,
        options: &SweepOptions,
        mut tell: impl FnMut(Foreseen) + Send,
    ) -> Result<Report, Error> {
        let now = self.now();
        let horizon = self.horizon(now);
        let mut report = Report::default();
        let mut seen = HashSet::new();
        for source in self
            .sources
            .iter()
            .filter(|source| options.takes(&source.name))
        {
            let mut tx = self.store.read().await?;
            let row = tx.source(&source.name).await?.unwrap_or_default();
            drop(tx);
            if row.standing.is_deferred(now) {
                report.sources_deferred += 1;
                continue;
            }
            let mut found = match source.fetch(&row, now).await {
                Ok(Fetched::Unchanged) => continue,
                Ok(Fetched::New(found)) => found,
                Err(Error::Listing(error)) if error.wait().is_some() => {
                    report.sources_deferred += 1;
                    continue;
                }
                Err(error) => {
                    report.problems.push(format!(
                        "source {}: {}",
                        source.name,
                        super::sweep::chain(&error)
                    ));
                    continue;
                }
            };
            report.rows_refused += found.listing.refusals.count;
            let mut tokens = found.tokens();
            loop {
                let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
                let listed: Vec<Listed> = tokens.by_ref().take(page).collect::<Result<_, _>>()?;
                if listed.is_empty() {
                    break;
                }
                let mut tx = self.store.read().await?;
                let terms = source.terms(&self.policy, now);
                let changes = Changes::of_rows(&mut tx, &source.name, listed, terms, now).await?;
                drop(tx);
                changes.count(&mut report);
                let updated = changes.updates.into_iter().map(|update| update.token);
                let fresh: Vec<Token> = changes.new.into_iter().chain(updated).collect();
                seen.extend(fresh.iter().map(|token| token.id));
                let due = fresh
                    .into_iter()
                    .filter(|token| token.due_at.is_some_and(|at| at <= horizon));
                self.foresee_page(due.collect(), horizon, &mut report, &mut tell)
                    .await?;
            }
        }
        self.foresee_known(&seen, horizon, &mut report, &mut tell)
            .await?;
        Ok(report)
    }

    /// The tokens that are due already, but for those that a listing would change.
    async fn foresee_known(
        &self,
        seen: &HashSet<TokenId>,
        horizon: DateTime<Utc>,
        report: &mut Report,
        tell: &mut (impl FnMut(Foreseen) + Send),
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let mut tx = self.store.read().await?;
            let due = tx.peek_due_tokens(horizon, after, PAGE).await?;
            drop(tx);
            let Some(last) = due.last() else {
                return Ok(());
            };
            after = last.due_at.map(|due_at| (due_at, last.id));
            let due = due
                .into_iter()
                .filter(|token| !seen.contains(&token.id))
                .collect();
            self.foresee_page(due, horizon, report, tell).await?;
        }
    }

    async fn foresee_page(
        &self,
        due: Vec<Token>,
        horizon: DateTime<Utc>,
        report: &mut Report,
        tell: &mut (impl FnMut(Foreseen) + Send),
    ) -> Result<(), Error> {
        let now = self.now();
        let mut tx = self.store.read().await?;
        let dead = self.dead(&mut tx, now).await?;
        let ids: Vec<_> = due.iter().map(|token| token.id).collect();
        let lost = tx.lost_access(&ids).await?;
        let told = tx.told_admins(&due).await?;
        for token in due {
            report.tokens_due += 1;
            report.expired += u64::from(diff::is_to_be_marked(&token, now));
            let is_lost = lost.contains(&token.id);
            let recipients = self
                .policy
                .recipients(&token, &told, is_lost, &|a| dead.has(a));
            let planned = domain::plan(&token, &recipients, &self.policy, horizon);
            report.notices_planned += planned.notices.len() as u64;
            for notice in planned.notices {
                tell(Foreseen {
                    notice,
                    token: token.clone(),
                });
            }
        }
        Ok(())
    }
}
