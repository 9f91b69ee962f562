//! A sweep that only says what it would do: gathers and decides, and writes nothing.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::domain::diff;
use crate::domain::{self, NewNotice, Token, TokenId, ToldAdmins};
use crate::sources::AccountAdmin;

use super::sync::{Changes, Look, Walk, refused};
use super::{Engine, Error, PAGE, Report, SweepOptions, Watched};

/// A notice that would be planned, and what it is about.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// The notice.
    pub notice: NewNotice,
    /// The token.
    pub token: Token,
}

/// What is seen while looking ahead.
#[derive(Default)]
struct Sight {
    report: Report,
    /// Up to when it would be planned.
    horizon: DateTime<Utc>,
    /// The tokens that a listing would change.
    seen: HashSet<TokenId>,
    /// The administrators that the listings tell of.
    admins: ToldAdmins,
    /// The sources that told of them: what was known from them before counts no more.
    telling: HashSet<String>,
}

impl Engine {
    /// What a sweep would change and plan. `tell` is given every notice that would be planned.
    pub async fn foresee(
        &self,
        options: &SweepOptions,
        mut tell: impl FnMut(Foreseen) + Send,
    ) -> Result<Report, Error> {
        let mut sight = Sight {
            horizon: self.horizon(self.now()),
            ..Sight::default()
        };
        let sources = self.sources.iter();
        for source in sources.filter(|source| options.takes(&source.name)) {
            match self
                .foresee_source(source, options, &mut sight, &mut tell)
                .await
            {
                Ok(()) => {}
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => {
                    let said = super::sweep::chain(&error);
                    let problem = format!("source {}: {said}", source.name);
                    sight.report.problems.push(problem);
                }
            }
        }
        self.foresee_known(&mut sight, &mut tell).await?;
        Ok(sight.report)
    }

    /// What a listing would change, and what would be planned for that.
    async fn foresee_source(
        &self,
        source: &Watched,
        options: &SweepOptions,
        sight: &mut Sight,
        tell: &mut (impl FnMut(Foreseen) + Send),
    ) -> Result<(), Error> {
        let accept_shrink = options.accepts_shrink(&source.name);
        let mut found = match self.look_at(source, accept_shrink).await? {
            Look::Found(found) => found,
            Look::Unchanged => return Ok(()),
            Look::Deferred(_) => {
                sight.report.sources_deferred += 1;
                return Ok(());
            }
        };
        let refusals = &found.listing.refusals;
        sight.report.rows_refused += refusals.count;
        let complaint = refused(refusals).map(|said| format!("source {}: {said}", source.name));
        sight.report.problems.extend(complaint);
        if let Some(admins) = found.listing.admins.take() {
            sight.telling.insert(source.name.clone());
            for AccountAdmin { account, address } in admins {
                sight.admins.add(&source.name, &account, address);
            }
        }
        let is_complete = found.is_complete();
        let now = found.asked_at;
        let terms = source.terms(&self.policy, now);
        let mut walk = Walk::new(&source.name, found.tokens());
        while !walk.is_over() {
            let mut tx = self.store.read().await?;
            let pairs = walk.pairs(&mut tx).await?;
            drop(tx);
            let changes = Changes::of(&source.name, pairs, is_complete, terms, now);
            changes.count(&mut sight.report);
            let updated = changes.updates.into_iter().map(|update| update.token);
            let fresh: Vec<Token> = changes.new.into_iter().chain(updated).collect();
            sight.seen.extend(fresh.iter().map(|token| token.id));
            let is_due = |token: &Token| token.due_at.is_some_and(|at| at <= sight.horizon);
            let due = fresh.into_iter().filter(is_due).collect();
            self.foresee_page(due, sight, tell).await?;
        }
        Ok(())
    }

    /// The tokens that are due already, but for those that a listing would change.
    async fn foresee_known(
        &self,
        sight: &mut Sight,
        tell: &mut (impl FnMut(Foreseen) + Send),
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let mut tx = self.store.read().await?;
            let due = tx.peek_due_tokens(sight.horizon, after, PAGE).await?;
            drop(tx);
            let Some(last) = due.last() else {
                return Ok(());
            };
            after = last.due_at.map(|due_at| (due_at, last.id));
            let due = due
                .into_iter()
                .filter(|token| !sight.seen.contains(&token.id))
                .collect();
            self.foresee_page(due, sight, tell).await?;
        }
    }

    async fn foresee_page(
        &self,
        due: Vec<Token>,
        sight: &mut Sight,
        tell: &mut (impl FnMut(Foreseen) + Send),
    ) -> Result<(), Error> {
        let now = self.now();
        let mut tx = self.store.read().await?;
        let dead = self.dead(&mut tx, now).await?;
        let ids: Vec<_> = due.iter().map(|token| token.id).collect();
        let lost = tx.lost_access(&ids).await?;
        let told = tx.told_admins(&due).await?;
        let Sight {
            report,
            admins,
            telling,
            horizon,
            ..
        } = sight;
        for token in due {
            let told = if telling.contains(&token.source) {
                &*admins
            } else {
                &told
            };
            report.tokens_due += 1;
            report.expired += u64::from(diff::is_to_be_marked(&token, now));
            let is_lost = lost.contains(&token.id);
            let recipients = self
                .policy
                .recipients(&token, told, is_lost, &|a| dead.has(a));
            let planned = domain::plan(&token, &recipients, &self.policy, *horizon);
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
