//! The source `rancher`: the tokens of all users, from both stores of Rancher.

mod api;
mod check;
mod people;
mod responses;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use url::Url;

use self::api::{
    Api, EXT, EXT_PREFIX, MANAGEMENT, ObjectState, Settings, explain_refusal, is_name,
};
use self::check::SeenTokens;
use self::people::People;
use self::responses::{Ext, Legacy};
use self::token::TokenRow;
use super::ListingBuilder;
use super::file::run_blocking;
use super::{CheckReport, Error, Fetched, LastListing, Listing, RefusedRows, Source};
use crate::domain::{Address, Token};
use crate::upstream::ProxyRules;
use crate::upstream::http::Client;
use crate::upstream::pager::Identified;

pub use self::token::TokenKind;

/// How often a listing is tried if its pages become stale while it is read.
const MAX_ATTEMPTS: u32 = 4;

/// How often a token in deletion is looked up before it counts as still existing.
const MAX_DELETION_CHECKS: u32 = 5;

const DELETION_CHECK_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Debug, Clone)]
pub struct Config {
    pub url: Url,
    /// Such as `token-abcde:SECRET`, or for an ext token `ext/token-abcde:SECRET`.
    pub token: SecretString,
    /// Certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub kinds: Vec<TokenKind>,
    /// The addresses of users for whom Rancher has none, by user id.
    pub users: BTreeMap<String, Address>,
}

impl Config {
    /// Fails if the CA file cannot be read, or the token cannot be sent in a header.
    pub fn build(&self, timeout: Duration, proxies: &ProxyRules) -> Result<Rancher, Error> {
        let mut url = self.url.clone();
        // People may copy the address of the API.
        let path = url.path().trim_end_matches('/');
        let path = ["/v3", "/dashboard"]
            .iter()
            .find_map(|end| path.strip_suffix(end))
            .unwrap_or(path)
            .to_owned();
        url.set_path(&path);
        let client = Client::new(&url, self.ca_file.as_deref(), timeout, proxies)?;
        Ok(Rancher {
            api: Api::new(client, &self.token)?,
            url,
            kinds: self.kinds.clone(),
            users: self.users.clone(),
            outdated_dates: AtomicU64::default(),
        })
    }
}

#[derive(Debug)]
pub struct Rancher {
    api: Api,
    url: Url,
    kinds: Vec<TokenKind>,
    users: BTreeMap<String, Address>,
    /// How many tokens of the last listing had an outdated `expiresAt`.
    outdated_dates: AtomicU64,
}

#[async_trait]
impl Source for Rancher {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let mut attempts = MAX_ATTEMPTS;
        let listing = loop {
            attempts -= 1;
            match self.list().await {
                // Kubernetes no longer keeps the version of the list that is being read.
                Err(error) if error.status() == Some(StatusCode::GONE) && attempts > 0 => {}
                listing => break listing.map_err(explain_refusal)?,
            }
        };
        Ok(listing.compare_with(last))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        check::check(&self.api, &self.users)
            .await
            .map_err(explain_refusal)
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        self.delete_token(external_id)
            .await
            .map_err(explain_refusal)
    }

    fn is_own(&self, token: &Token) -> bool {
        token.external_id == self.api.own_id
    }

    /// The page of the user's own tokens; Rancher has no page for those of other users.
    fn token_page(&self, external_id: &str) -> Option<String> {
        token_path(external_id)?;
        let site = self.url.as_str().trim_end_matches('/');
        Some(format!("{site}/dashboard/account"))
    }
}

impl Rancher {
    /// Deletes a token and verifies that it is gone.
    async fn delete_token(&self, external_id: &str) -> Result<(), Error> {
        if external_id == self.api.own_id {
            return Err(Error::OwnToken);
        }
        let unknown = || Error::NoSuchToken(external_id.to_owned());
        let path = token_path(external_id).ok_or_else(unknown)?;
        match self.api.delete(&path).await {
            Ok(()) => self.ensure_deleted(&path).await,
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Err(unknown()),
            Err(error) if is_refusal(&error) => Err(error),
            // It may have been deleted all the same.
            Err(error) => self.ensure_deleted(&path).await.map_err(|_| error),
        }
    }

    async fn ensure_deleted(&self, path: &str) -> Result<(), Error> {
        for _ in 0..MAX_DELETION_CHECKS {
            match self.api.object_state(path).await {
                Ok(ObjectState::Gone) => return Ok(()),
                Ok(ObjectState::Present) => return Err(Error::StillThere),
                Ok(ObjectState::Deleting) => tokio::time::sleep(DELETION_CHECK_INTERVAL).await,
                Err(error) => return Err(error.outcome_unknown()),
            }
        }
        Err(Error::StillThere)
    }

    async fn list(&self) -> Result<Listing, Error> {
        let settings = Settings::fetch(&self.api).await?;
        let people = People::fetch(&self.api, self.users.clone()).await?;
        let mut lister = Lister {
            rancher: self,
            people,
            builder: ListingBuilder::default(),
            reports_use: true,
            is_partial: false,
            refusals: RefusedRows::default(),
        };
        let ext = lister.read_store::<Ext>(EXT).await;
        let ext = self.api.none_if_no_ext_tokens(ext).await?;
        if ext.is_none() {
            let version = self.api.version().await;
            lister.reports_use = api::records_use(version.as_deref());
            lister.is_partial |= api::has_ext_tokens(version.as_deref());
        }
        let legacy = lister.read_store::<Legacy>(MANAGEMENT).await?;
        check::ensure_complete(&self.api, &lister.people, &legacy, ext.as_ref()).await?;
        let Lister {
            builder,
            is_partial,
            refusals,
            ..
        } = lister;
        // Logged again only if it changes.
        let before = self
            .outdated_dates
            .swap(legacy.outdated_dates, Ordering::Relaxed);
        if let Some(note) = legacy.outdated_dates_note()
            && before != legacy.outdated_dates
        {
            tracing::info!("{}: {note}", self.url);
        }
        Ok(Listing {
            is_partial,
            refusals,
            max_life: settings.max_life(),
            ..run_blocking(move || builder.finish()).await?
        })
    }
}

/// The path of a token in the API.
fn token_path(external_id: &str) -> Option<String> {
    let (api, name) = match external_id.strip_prefix(EXT_PREFIX) {
        Some(name) => (EXT, name),
        None => (MANAGEMENT, external_id),
    };
    is_name(name).then(|| format!("{api}/tokens/{name}"))
}

/// Whether Rancher has certainly not carried out the request.
fn is_refusal(error: &Error) -> bool {
    error.wait().is_some()
        || matches!(
            error.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
}

struct Lister<'a> {
    rancher: &'a Rancher,
    people: People,
    builder: ListingBuilder,
    /// Whether this version of Rancher records when tokens are used.
    reports_use: bool,
    /// Whether the list of ext tokens is missing although this version has them, or tokens were skipped that may
    /// be of the kind `system`, which is watched.
    is_partial: bool,
    /// Tokens without a name.
    refusals: RefusedRows,
}

impl Lister<'_> {
    async fn read_store<T: DeserializeOwned + Identified + Into<TokenRow> + Send>(
        &mut self,
        group: &str,
    ) -> Result<SeenTokens, Error> {
        let Rancher { api, kinds, .. } = self.rancher;
        let mut seen = SeenTokens::default();
        let mut pages = api.list(&format!("{group}/tokens"));
        while let Some(page) = pages.next::<T>().await? {
            for row in page {
                let row: TokenRow = row.into();
                seen.add(&row, api);
                self.people.look_up(api, row.user_id()).await?;
                if kinds.contains(&row.kind(&self.people)) {
                    let token = row.into_listed(&self.people, self.reports_use);
                    self.builder.push(&token)?;
                } else if row.may_be_system(&self.people) {
                    self.is_partial |= kinds.contains(&TokenKind::System);
                }
            }
        }
        self.refusals.append(pages.refusals);
        Ok(seen)
    }
}
