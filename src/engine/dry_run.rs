//! The jobs of a sweep on a private copy of the store, without any effect outside of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::domain::{Token, TokenId};
use crate::files::create_temporary_folder;
use crate::sources::{self, CheckReport, ExpiryAck, Fetched, LastListing, Listing, Source};
use crate::store::{MailPreview, Store};

use super::common::{Delivery, Error, Job, Report, Settings, new_id};
use super::purge::LastPurge;
use super::respond::RevocationPreview;
use super::sweep::Engine;
use super::upstream::{SweepOptions, WatchedDirectory, WatchedSource};

/// What a sweep would do now.
#[derive(Debug, Default)]
pub struct DryRun {
    pub report: Report,
    /// In order of recipient.
    pub mails: Vec<MailPreview>,
    pub revocations: Vec<RevocationPreview>,
}

impl Engine {
    /// Runs the jobs of a sweep on a copy of the store. Reads sources and directories, and leaves no trace.
    pub async fn dry_run(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
    ) -> Result<DryRun, Error> {
        let folder = create_temporary_folder().map_err(Error::Scratch)?;
        let copying = self.store.copy_to_scratch(folder.path());
        let copied = stop.run_until_cancelled(copying).await;
        let copy = copied.ok_or(Error::Stopped)??;
        let engine = self.on_copy(copy);
        let result = engine.run_dry(options, stop).await;
        engine.store.close().await;
        result
    }

    async fn run_dry(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
    ) -> Result<DryRun, Error> {
        let mut dry_run = DryRun::default();
        let report = &mut dry_run.report;
        self.acquire_sweep_lease().await?;
        self.check_clock(report).await;
        self.run_jobs(&[Job::Sync, Job::Judge], options, stop, report)
            .await;
        dry_run.revocations = self.response().preview(options).await?;
        let act = [
            Job::Respond,
            Job::Plan,
            Job::MarkExpired,
            Job::Purge,
            Job::Deliver,
        ];
        self.run_jobs(&act, options, stop, report).await;
        self.count_waiting_mails(report).await?;
        let mut tx = self.store.begin_read().await?;
        dry_run.mails = tx.list_mails_sent_by(self.holder).await?;
        Ok(dry_run)
    }

    /// The same engine on a copy of the store. It sends no mail and changes nothing at a source.
    fn on_copy(&self, copy: Store) -> Self {
        let sources = self.sources.iter().map(|watched| WatchedSource {
            terms: watched.terms.clone(),
            source: Arc::new(ReadOnly(Arc::clone(&watched.source))),
        });
        let directories = self.directories.iter().map(|watched| WatchedDirectory {
            terms: watched.terms.clone(),
            directory: Arc::clone(&watched.directory),
        });
        Self {
            store: copy,
            clock: self.clock.clone(),
            policy: self.policy.clone(),
            settings: Settings {
                delivery: Delivery {
                    mails_per_second: None,
                    ..self.settings.delivery.clone()
                },
                ..self.settings.clone()
            },
            mailer: Arc::new(self.mailer.discarding()),
            sources: sources.collect(),
            directories: directories.collect(),
            issuers: self.issuers.clone(),
            holder: new_id(self.now()),
            last_purge: LastPurge(AtomicI64::new(self.last_purge.0.load(Ordering::Relaxed))),
            is_patient: false,
            on_progress: Box::new(|| ()),
            on_delivery: Box::new(|| ()),
        }
    }
}

/// A source at which nothing is changed; every change counts as done.
struct ReadOnly(Arc<dyn Source>);

#[async_trait]
impl Source for ReadOnly {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, sources::Error> {
        self.0.fetch(last).await
    }

    async fn check(&self) -> Result<CheckReport, sources::Error> {
        self.0.check().await
    }

    async fn revoke(&self, _external_id: &str) -> Result<(), sources::Error> {
        Ok(())
    }

    fn is_own(&self, token: &Token) -> bool {
        self.0.is_own(token)
    }

    fn missing_to_revoke(&self) -> Option<&'static str> {
        self.0.missing_to_revoke()
    }

    fn marks_expired(&self) -> bool {
        self.0.marks_expired()
    }

    async fn mark_expired(&self, tokens: &[Token]) -> ExpiryAck {
        let done: Vec<TokenId> = tokens.iter().map(|token| token.id).collect();
        ExpiryAck {
            done,
            ..ExpiryAck::default()
        }
    }

    fn token_page(&self, external_id: &str) -> Option<String> {
        self.0.token_page(external_id)
    }
}
