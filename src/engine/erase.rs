//! Erases what is known of a person, by order of an operator.

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::{Address, IdentityStatus, ListedToken, Policy, Status, SyncState};
use crate::sources::Fetched;
use crate::store::{Erased, SourceRow};

use super::common::{EraseRefusal, Error, new_id};
use super::leased::{LeasedStore, page};
use super::removal::OperatorNote;
use super::upstream::{self, Preview, WatchedDirectory, WatchedSource};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// What the ledger and the audit trail have instead of the address.
    pub pseudonym: String,
    pub cancelled: u64,
    /// Tokens of the token service.
    pub revoked: u64,
}

pub struct Erase<'a> {
    pub(super) store: LeasedStore<'a>,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
    pub(super) sources: &'a [WatchedSource],
    pub(super) directories: &'a [WatchedDirectory],
}

impl Erase<'_> {
    pub async fn run(&self, person: &Address, note: OperatorNote<'_>) -> Result<Erasure, Error> {
        self.ensure_not_named(person).await?;
        let now = self.clock.now();
        let id = new_id(now).simple().to_string();
        // The second half is random; the first has the time.
        let pseudonym = format!("{}{}", Address::PSEUDONYM_PREFIX, &id[16..]);
        let (cancelled, revoked) = page!(self.store, tx => {
            let Erased { rows, cancelled, revoked } = tx.erase_person(person, &pseudonym).await?;
            if tx.has_mail_in_flight(person.key()).await?
                || tx.has_mail_in_flight(&pseudonym).await?
            {
                return Err(EraseRefusal::MailInFlight.into());
            }
            if rows == 0 {
                return Err(EraseRefusal::Unknown.into());
            }
            let reason = note
                .reason
                .map(|reason| person.replace_in(reason, &pseudonym));
            let entry = [note.by, "identity.erase", pseudonym.as_str()];
            tx.insert_audit(new_id(now), now, entry, reason.as_deref())
                .await?;
            Ok((cancelled, revoked))
        })?;
        Ok(Erasure {
            pseudonym,
            cancelled,
            revoked,
        })
    }

    /// Empties the log of the store, which has earlier versions of the erased rows. Returns `false` if they are still
    /// there; the person is erased all the same.
    pub async fn empty_log(&self, stop: &CancellationToken) -> bool {
        let emptied = tokio::select! {
            emptied = self.store.empty_log() => emptied,
            () = stop.cancelled() => Ok(false),
        };
        emptied.unwrap_or_else(|error| {
            tracing::warn!(
                "the store's log was not emptied: {}",
                Error::from(error).chain()
            );
            false
        })
    }

    async fn ensure_not_named(&self, person: &Address) -> Result<(), Error> {
        let policy = self.policy;
        let of_accounts = policy.accounts.values().flat_map(|account| &account.admins);
        if of_accounts
            .chain(&policy.admins)
            .any(|admin| admin == person)
        {
            return Err(still_named("the configuration"));
        }
        let mut tx = self.store.begin_read().await?;
        let naming = tx.list_sources_naming(person).await?;
        let statuses = tx.list_statuses_of(person.key()).await?;
        drop(tx);
        for watched in self.sources {
            let name = watched.terms.name.as_str();
            let statuses = naming.iter().filter(|(source, _)| source == name);
            let statuses: Vec<Status> = statuses.map(|(_, status)| *status).collect();
            let is_listed = |status: &Status| matches!(status, Status::Active | Status::Disabled);
            if statuses.iter().any(is_listed) {
                return Err(still_named(&format!("the source {name}")));
            }
            // An expired or revoked token may be listed or not; a token that is gone is not.
            if statuses.iter().any(|status| *status != Status::Gone) {
                self.ensure_unlisted(watched, person).await?;
            }
        }
        self.ensure_unknown_to_directories(&statuses)
    }

    /// Fails if a configured directory has an entry for the person, as far as its last clear statement says.
    fn ensure_unknown_to_directories(
        &self,
        statuses: &[(String, IdentityStatus, IdentityStatus)],
    ) -> Result<(), Error> {
        for (name, status, known_status) in statuses {
            let mut configured = self.directories.iter();
            let last = match status {
                IdentityStatus::Unknown => known_status,
                status => status,
            };
            if configured.any(|watched| watched.terms.name == *name)
                && !matches!(last, IdentityStatus::Deleted | IdentityStatus::Unknown)
            {
                return Err(still_named(&format!("the directory {name}")));
            }
        }
        Ok(())
    }

    /// Lists a source, and fails if a row names the person.
    async fn ensure_unlisted(
        &self,
        watched: &WatchedSource,
        person: &Address,
    ) -> Result<(), Error> {
        let name = &watched.terms.name;
        let unreadable = |reason: String| EraseRefusal::Unreadable {
            name: name.clone(),
            reason,
        };
        let row = SourceRow::default();
        let fetch = watched.fetch(&row, self.clock.now());
        let preview = upstream::preview(&SyncState::default(), self.clock, fetch).await;
        let mut found = match preview.map_err(|error| unreadable(error.chain()))? {
            Preview::Listed(Fetched::New(found)) => found,
            Preview::Listed(Fetched::Unchanged) => return Ok(()),
            Preview::Deferred(_) => {
                return Err(unreadable("it asked us to wait".to_owned()).into());
            }
        };
        for token in found.tokens() {
            let token = token.map_err(|error| unreadable(error.to_string()))?;
            if is_named_in(&token, person) {
                return Err(still_named(&format!("the source {name}")));
            }
        }
        Ok(())
    }
}

/// Whether any text of the row has the address.
fn is_named_in(token: &ListedToken, person: &Address) -> bool {
    person.is_in(&serde_json::to_string(token).unwrap_or_default())
}

fn still_named(place: &str) -> Error {
    EraseRefusal::StillNamed(place.to_owned()).into()
}
