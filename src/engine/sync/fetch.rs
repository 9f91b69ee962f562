//! Lists a source together with its owners file.

use chrono::{DateTime, Utc};

use crate::domain::{ListedToken, MergeRules, Policy};
use crate::engine::common::Error;
use crate::engine::error::LISTING_TIMEOUT;
use crate::engine::upstream::WatchedSource;
use crate::sources::file::run_blocking;
use crate::sources::owners::OwnersFile;
use crate::sources::{self, CheckReport, Fetched, LastListing, Listing, Right};
use crate::store::SourceRow;

/// A listing, with the owners file of the source.
pub(in crate::engine) struct FetchedTokens {
    pub listing: Listing,
    pub asked_at: DateTime<Utc>,
    pub owners: Option<OwnersFile>,
}

impl FetchedTokens {
    /// Whether a token that it lacks is gone.
    pub fn is_complete(&self) -> bool {
        self.listing.refusals.count == 0 && !self.listing.is_partial
    }

    /// Takes the tokens out, with the owners applied.
    pub fn tokens(
        &mut self,
    ) -> impl Iterator<Item = Result<ListedToken, sources::Error>> + Send + use<> {
        let owners = self.owners.clone();
        let tokens = std::mem::take(&mut self.listing.tokens);
        tokens.map(move |token| {
            token.map(|mut token| {
                if let Some(owners) = &owners {
                    owners.assign_owner(&mut token);
                }
                token
            })
        })
    }
}

impl WatchedSource {
    /// Checks that it can be listed, that it allows revocation if that is configured, and that its owners file can be
    /// read.
    pub async fn check(&self) -> Result<CheckReport, sources::Error> {
        let mut checked = self.source.check().await?;
        if self.terms.allow_revoke
            && let Some(missing) = self.source.missing_to_revoke()
        {
            checked.rights.push(Right {
                what: "revoke tokens, for allow_revoke".to_owned(),
                missing: Some(missing.to_owned()),
            });
        }
        if let Some(path) = self.terms.owners.clone() {
            let shown = path.display().to_string();
            let owners = run_blocking(move || OwnersFile::load(&path)).await?;
            let rows = match owners.count_rows() {
                1 => "1 row".to_owned(),
                rows => format!("{rows} rows"),
            };
            checked.summary = format!("{}; {shown} has {rows}", checked.summary);
        }
        Ok(checked)
    }

    pub(in crate::engine) fn merge_rules<'a>(
        &self,
        policy: &'a Policy,
        asked_at: DateTime<Utc>,
    ) -> MergeRules<'a> {
        MergeRules {
            policy,
            policy_ttl: self.terms.policy_ttl,
            asked_at: Some(asked_at),
        }
    }

    /// Lists the source and reads its owners file.
    pub(in crate::engine) async fn fetch(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<FetchedTokens>, Error> {
        let fetch = self.fetch_with_owners(row, asked_at);
        let found = tokio::time::timeout(LISTING_TIMEOUT, fetch).await;
        found.unwrap_or(Err(Error::TimedOut))
    }

    async fn fetch_with_owners(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<FetchedTokens>, Error> {
        let owners = match self.terms.owners.clone() {
            Some(path) => Some(run_blocking(move || OwnersFile::load(&path)).await?),
            None => None,
        };
        // The source's fingerprint counts only if our part is the same.
        let ours = self.fingerprint("", owners.as_ref());
        let theirs = row.fingerprint.as_deref();
        let last = LastListing {
            fingerprint: theirs
                .and_then(|all| all.strip_suffix(&ours))
                .map(str::to_owned),
            asked_at: row.sync_state.last_good_sync_at,
        };
        Ok(match self.source.fetch(&last).await? {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::New(listing) => Fetched::New(FetchedTokens {
                listing,
                asked_at,
                owners,
            }),
        })
    }

    /// The fingerprint of a listing, the owners file and the policy life.
    pub(super) fn fingerprint(&self, listing: &str, owners: Option<&OwnersFile>) -> String {
        let owners = owners.map_or("", |owners| owners.fingerprint.as_str());
        let ttl = self.terms.policy_ttl.map_or(0, |ttl| ttl.num_seconds());
        if owners.is_empty() && ttl == 0 {
            return listing.to_owned();
        }
        format!("{listing}|{owners}|{ttl}")
    }
}
