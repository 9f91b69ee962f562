//! Work on a single directory: sync it now, preview a sync, unbind a person, or forget the directory.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Survey, WatchedDirectory};
use crate::domain::{Address, IdentityStatus, Reason};
use crate::engine::sweep::record_error;
use crate::engine::{Engine, Error, Report, SweepOptions, judge};
use crate::store::IdentityRow;

#[derive(Debug, Default)]
pub struct SyncedDirectory {
    pub report: Report,
    /// People listed; `None` if the directory reported no change or the sync failed.
    pub listed: Option<u64>,
    /// Issuers of tokens among them.
    pub issuers: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnbindOutcome {
    /// The next sync binds them again.
    Done,
    /// A sweep is running.
    Busy,
    /// The directory has no such identity.
    NotFound,
    /// With the reason.
    NotNeeded(String),
}

#[derive(Debug)]
pub enum DirectoryPreview {
    Listed(Box<Survey>),
    /// It asked us to wait until then.
    Deferred(DateTime<Utc>),
}

impl Engine {
    /// Syncs one directory under the sweep lease. No token is judged, and no run is stored.
    pub async fn sync_one_directory(
        &self,
        watched: &WatchedDirectory,
        options: &SweepOptions,
        stop: &CancellationToken,
    ) -> SyncedDirectory {
        let mut synced = SyncedDirectory::default();
        let work = self.sync_directory(watched, options, &mut synced);
        match self.under_sweep_lease(stop, work).await {
            Ok(Some(())) => {}
            Ok(None) => synced.report.lease_held = true,
            Err(error) => record_error(&mut synced.report, None, &error),
        }
        synced
    }

    async fn sync_directory(
        &self,
        watched: &WatchedDirectory,
        options: &SweepOptions,
        synced: &mut SyncedDirectory,
    ) -> Result<(), Error> {
        self.forget_uncovered().await?;
        let row = self
            .store
            .begin_read()
            .await?
            .find_directory(&watched.terms.name)
            .await?;
        let row = row.unwrap_or_default();
        if row.sync_state.is_deferred(self.now()) {
            synced.report.sources_deferred += 1;
            return Ok(());
        }
        let answer = self.survey_directory(watched, row, options).await;
        if let Ok(survey) = &answer.survey {
            (synced.listed, synced.issuers) = (survey.listed, survey.issuers);
        }
        self.store_answer(answer, options, &mut synced.report).await
    }

    /// Returns what a sync would change. Writes nothing.
    pub async fn preview_directory(
        &self,
        watched: &WatchedDirectory,
        accept_shrink: bool,
    ) -> Result<DirectoryPreview, Error> {
        let row = self
            .store
            .begin_read()
            .await?
            .find_directory(&watched.terms.name)
            .await?;
        let row = row.unwrap_or_default();
        let deferred = row.sync_state.deferred_until;
        if let Some(until) = deferred.filter(|_| row.sync_state.is_deferred(self.now())) {
            return Ok(DirectoryPreview::Deferred(until));
        }
        match self.survey(watched, &row, accept_shrink).await {
            Ok(survey) => Ok(DirectoryPreview::Listed(Box::new(survey))),
            Err(error) => match error.wait() {
                Some(wait) => Ok(DirectoryPreview::Deferred(self.now() + wait)),
                None => Err(error),
            },
        }
    }

    /// Lets the next sync, which is a full one, bind a person to the account that has their address then. `actor` is for
    /// the audit trail.
    pub async fn unbind_identity(
        &self,
        directory: &str,
        email: &Address,
        actor: &str,
        stop: &CancellationToken,
    ) -> Result<UnbindOutcome, Error> {
        let work = self.unbind_under_lease(directory, email, actor);
        let done = self.under_sweep_lease(stop, work).await?;
        Ok(done.unwrap_or(UnbindOutcome::Busy))
    }

    /// Deletes a directory with all its identities; returns how many. `actor` is for the audit trail.
    pub async fn forget_directory(&self, directory: &str, actor: &str) -> Result<u64, Error> {
        let mut tx = self.store.begin().await?;
        let people = tx.delete_directory(directory).await?;
        let now = self.now();
        judge::request(&mut tx, now).await?;
        let reason = format!("{people} people");
        let entry = [actor, "directory.forget", directory];
        tx.insert_audit(Self::new_id(now), now, entry, Some(&reason))
            .await?;
        tx.commit().await?;
        Ok(people)
    }

    async fn unbind_under_lease(
        &self,
        directory: &str,
        email: &Address,
        actor: &str,
    ) -> Result<UnbindOutcome, Error> {
        let mut tx = self.store.begin().await?;
        let Some(row) = tx.find_identity(directory, email.key()).await? else {
            return Ok(UnbindOutcome::NotFound);
        };
        let mut identity = row.into_identity()?;
        let is_unsafe = identity.reason == Some(Reason::BindingUnsafe);
        let is_deleted = identity.known_status == IdentityStatus::Deleted
            || identity.candidate == Some(IdentityStatus::Deleted);
        if identity.account_id.is_none() {
            let why = "they are bound to no account, so the next sync binds them to the account with their address";
            return Ok(UnbindOutcome::NotNeeded(why.to_owned()));
        }
        if !is_unsafe && !is_deleted {
            return Ok(UnbindOutcome::NotNeeded(format!(
                "their account there is {}; only a person who is deleted, or whose address moved to another \
                 account, can be bound again",
                identity.status
            )));
        }
        identity.account_id = None;
        identity.candidate = None;
        identity.candidate_since = None;
        identity.candidate_evidence = None;
        tx.save_identities(&[IdentityRow::new(directory, identity)])
            .await?;
        // A listing of changes might not contain the account.
        tx.reset_cursor(directory).await?;
        let now = self.now();
        let subject = format!("{directory}/{email}");
        let entry = [actor, "identity.rebind", subject.as_str()];
        tx.insert_audit(Self::new_id(now), now, entry, None).await?;
        tx.commit().await?;
        Ok(UnbindOutcome::Done)
    }
}
