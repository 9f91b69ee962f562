//! Previews a sweep: gathers and decides, but writes nothing.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use crate::domain::{self, AccountAdmins, NewNotice, Schedule, Token, TokenId};
use crate::sources::{AccountAdmin, Fetched};

use super::common::{Error, PAGE_SIZE, Report, horizon};
use super::merge::{Changes, Walk};
use super::notices::Audience;
use super::sync::{SyncSources, refused_rows_problem};
use super::upstream::{Preview as UpstreamPreview, SweepOptions, WatchedSource};

#[derive(Debug, Clone)]
pub struct PlannedNotice {
    pub notice: NewNotice,
    pub token: Token,
}

#[derive(Default)]
struct Preview {
    report: Report,
    horizon: DateTime<Utc>,
    listed_ids: HashSet<TokenId>,
    admins: AccountAdmins,
    /// Sources that reported administrators: those replace the stored ones.
    reporting_sources: HashSet<String>,
}

impl Preview {
    fn add_problem(&mut self, source: &WatchedSource, problem: &str) {
        let problem = format!("source {}: {problem}", source.terms.name);
        self.report.problems.push(problem);
    }
}

pub(super) struct DryRun<'a> {
    pub sync: SyncSources<'a>,
    pub sweep: &'a Schedule,
}

impl DryRun<'_> {
    /// Returns what a sweep would change, and passes every notice that it would plan to `on_notice`.
    pub async fn run(
        &self,
        options: &SweepOptions,
        mut on_notice: impl FnMut(PlannedNotice) + Send,
    ) -> Result<Report, Error> {
        let mut preview = Preview {
            horizon: horizon(self.sweep, self.sync.clock.now()),
            ..Preview::default()
        };
        for source in self.sync.sources {
            if !options.includes(&source.terms.name) {
                continue;
            }
            match self
                .preview_listing(source, options, &mut preview, &mut on_notice)
                .await
            {
                Ok(()) => {}
                Err(Error::Store(error)) => return Err(error.into()),
                Err(error) => preview.add_problem(source, &error.chain()),
            }
        }
        self.preview_known(&mut preview, &mut on_notice).await?;
        Ok(preview.report)
    }

    /// Previews the changes of a listing and the notices for them.
    async fn preview_listing(
        &self,
        source: &WatchedSource,
        options: &SweepOptions,
        preview: &mut Preview,
        on_notice: &mut (impl FnMut(PlannedNotice) + Send),
    ) -> Result<(), Error> {
        let accept_shrink = options.accepts_shrink(&source.terms.name);
        let mut found = match self.sync.fetch_for_preview(source, accept_shrink).await? {
            UpstreamPreview::Listed(Fetched::New(found)) => found,
            UpstreamPreview::Listed(Fetched::Unchanged) => return Ok(()),
            UpstreamPreview::Deferred(_) => {
                preview.report.sources_deferred += 1;
                return Ok(());
            }
        };
        let refusals = &found.listing.refusals;
        preview.report.rows_refused += refusals.count;
        if let Some(problem) = refused_rows_problem(refusals) {
            preview.add_problem(source, &problem);
        }
        if let Some(admins) = found.listing.admins.take() {
            preview.reporting_sources.insert(source.terms.name.clone());
            for AccountAdmin { account, address } in admins {
                preview.admins.add(&source.terms.name, &account, address);
            }
        }
        let is_complete = found.is_complete();
        let now = found.asked_at;
        let rules = source.merge_rules(self.sync.policy, now);
        let mut walk = Walk::new(&source.terms.name, found.tokens());
        while !walk.is_done() {
            let mut tx = self.sync.store.begin_read().await?;
            let pairs = walk.next_pairs(&mut tx).await?;
            drop(tx);
            let changes = Changes::from_pairs(&source.terms.name, pairs, is_complete, rules, now);
            changes.count(&mut preview.report);
            let updated = changes.updates.into_iter().map(|update| update.token);
            let affected: Vec<Token> = changes.new.into_iter().chain(updated).collect();
            preview
                .listed_ids
                .extend(affected.iter().map(|token| token.id));
            let due = affected
                .into_iter()
                .filter(|token| token.due_at.is_some_and(|at| at <= preview.horizon))
                .collect();
            self.preview_page(due, preview, on_notice).await?;
        }
        Ok(())
    }

    /// Previews the known tokens that are due and that no listing would change.
    async fn preview_known(
        &self,
        preview: &mut Preview,
        on_notice: &mut (impl FnMut(PlannedNotice) + Send),
    ) -> Result<(), Error> {
        let mut after = None;
        loop {
            let mut tx = self.sync.store.begin_read().await?;
            let due = tx
                .load_due_tokens(preview.horizon, after, PAGE_SIZE)
                .await?;
            drop(tx);
            let Some(last) = due.last() else {
                return Ok(());
            };
            after = last.due_at.map(|due_at| (due_at, last.id));
            let due = due
                .into_iter()
                .filter(|token| !preview.listed_ids.contains(&token.id))
                .collect();
            self.preview_page(due, preview, on_notice).await?;
        }
    }

    async fn preview_page(
        &self,
        due: Vec<Token>,
        preview: &mut Preview,
        on_notice: &mut (impl FnMut(PlannedNotice) + Send),
    ) -> Result<(), Error> {
        let now = self.sync.clock.now();
        let mut tx = self.sync.store.begin_read().await?;
        let audience = Audience::load(&mut tx, &due, now).await?;
        let Preview {
            report,
            admins,
            reporting_sources,
            horizon,
            ..
        } = preview;
        for token in due {
            report.tokens_due += 1;
            report.expired += u64::from(token.needs_expiry_mark(now));
            let is_listed = reporting_sources.contains(&token.source);
            let admins = if is_listed {
                &*admins
            } else {
                &audience.admins
            };
            let recipients = audience.recipients_with(self.sync.policy, admins, &token);
            let planned = domain::plan(&token, &recipients, self.sync.policy, *horizon);
            report.notices_planned += planned.notices.len() as u64;
            for notice in planned.notices {
                on_notice(PlannedNotice {
                    notice,
                    token: token.clone(),
                });
            }
        }
        Ok(())
    }
}
