//! One directory by itself: synchronised now, looked at without a trace, or made to bind somebody anew.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{Survey, WatchedDirectory};
use crate::domain::{Address, IdentityStatus, Reason};
use crate::engine::{Engine, Error, Report, SweepOptions, judge, sweep::note};
use crate::store::IdentityRow;

/// What came of synchronising one directory.
#[derive(Debug, Default)]
pub struct SyncedDirectory {
    /// What was changed, and what went wrong.
    pub report: Report,
    /// How many people it told of; `None` where nothing has changed there, or it told nothing.
    pub told: Option<u64>,
    /// How many issuers of tokens are among them.
    pub issuers: u64,
}

/// What came of unbinding a person from an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unbound {
    /// The next reading binds them anew.
    Done,
    /// Another sweep is at work.
    Busy,
    /// Nothing is known of them there.
    Nobody,
    /// There is nothing to do, and why.
    Needless(String),
}

impl Engine {
    /// Synchronises one directory, and does nothing else. It is done under the sweep's lease, and is no
    /// sweep: nobody is judged, and no run is written down.
    pub async fn sync_directory_alone(
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
            Err(error) => note(&mut synced.report, None, &error),
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
        let row = self.store.read().await?.directory(&watched.name).await?;
        let row = row.unwrap_or_default();
        if row.standing.is_deferred(self.now()) {
            synced.report.sources_deferred += 1;
            return Ok(());
        }
        let answer = self.ask_directory(watched, row, options).await;
        if let Ok(survey) = &answer.survey {
            (synced.told, synced.issuers) = (survey.told, survey.issuers);
        }
        self.take_answer(answer, options, &mut synced.report).await
    }

    /// Asks a directory and tells what a sync would believe. Nothing is written. `Err` of an instant: it
    /// wants to be left alone until then.
    pub async fn foresee_directory(
        &self,
        watched: &WatchedDirectory,
        accept_shrink: bool,
    ) -> Result<Result<Survey, DateTime<Utc>>, Error> {
        let row = self.store.read().await?.directory(&watched.name).await?;
        let row = row.unwrap_or_default();
        let deferred = row.standing.deferred_until;
        if let Some(until) = deferred.filter(|_| row.standing.is_deferred(self.now())) {
            return Ok(Err(until));
        }
        match self.survey(watched, &row, accept_shrink).await {
            Ok(survey) => Ok(Ok(survey)),
            Err(error) => match error.wait() {
                Some(wait) => Ok(Err(self.now() + wait)),
                None => Err(error),
            },
        }
    }

    /// Has the next reading of a directory bind a person to the account that has the address by then. The
    /// directory is read whole for it. `asked_by` stands in the audit trail.
    ///
    /// # Errors
    /// When the store fails, or `stop` was called for.
    pub async fn unbind(
        &self,
        (directory, email): (&str, &Address),
        asked_by: &str,
        stop: &CancellationToken,
    ) -> Result<Unbound, Error> {
        let work = self.unbind_now(directory, email, asked_by);
        let done = self.under_sweep_lease(stop, work).await?;
        Ok(done.unwrap_or(Unbound::Busy))
    }

    /// Forgets a directory and all that it said; tells of how many people that is. `asked_by` stands in the
    /// audit trail.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_directory(&self, directory: &str, asked_by: &str) -> Result<u64, Error> {
        let mut tx = self.store.begin().await?;
        let people = tx.drop_directory(directory).await?;
        let now = self.now();
        judge::ask(&mut tx, now).await?;
        let reason = format!("{people} people");
        let entry = [asked_by, "directory.forget", directory];
        tx.audit(Self::new_id(now), now, entry, Some(&reason))
            .await?;
        tx.commit().await?;
        Ok(people)
    }

    async fn unbind_now(
        &self,
        directory: &str,
        email: &Address,
        asked_by: &str,
    ) -> Result<Unbound, Error> {
        let mut tx = self.store.begin().await?;
        let Some(row) = tx.identity(directory, email.key()).await? else {
            return Ok(Unbound::Nobody);
        };
        let mut identity = row.identity()?;
        let is_unsafe = identity.reason == Some(Reason::BindingUnsafe);
        let is_deleted = identity.known_status == IdentityStatus::Deleted
            || identity.candidate == Some(IdentityStatus::Deleted);
        if identity.account_id.is_none() {
            let why =
                "they are bound to no account, so the next reading takes whoever has the address";
            return Ok(Unbound::Needless(why.to_owned()));
        }
        if !is_unsafe && !is_deleted {
            return Ok(Unbound::Needless(format!(
                "their account there is {}; only who is deleted, or whose address has gone over to another \
                 account, is bound anew",
                identity.status
            )));
        }
        identity.account_id = None;
        identity.candidate = None;
        identity.candidate_since = None;
        identity.candidate_evidence = None;
        tx.put_identities(&[IdentityRow::new(directory, identity)])
            .await?;
        // Changes alone might not tell of the account.
        tx.have_read_whole(directory).await?;
        let now = self.now();
        let subject = format!("{directory}/{email}");
        let entry = [asked_by, "identity.rebind", subject.as_str()];
        tx.audit(Self::new_id(now), now, entry, None).await?;
        tx.commit().await?;
        Ok(Unbound::Done)
    }
}
