//! The source `rancher`: the tokens of all users of a Rancher, of both its stores.

mod api;
mod check;
mod kinds;
mod people;
mod revoke;
mod settings;
mod shapes;
mod sight;
mod token;
mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use url::Url;

use self::api::{Api, EXT, MANAGEMENT, explained, status};
use self::people::People;
use self::settings::Settings;
use self::shapes::{Ext, Legacy};
use self::sight::{Sight, Tally};
use self::token::Row;
use super::file::blocking;
use super::gather::Gathering;
use super::{Checked, Common, Error, Fetched, Last, Listing, Source};
use crate::domain::{Address, Token};
use crate::web::Web;

pub use self::kinds::TokenKind;

/// So often a listing begins anew when its pages went stale under it.
const ATTEMPTS: u32 = 4;

/// A Rancher, and how it is seen.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its site is.
    pub url: Url,
    /// `token-abcde:SECRET`, or `ext/token-abcde:SECRET`.
    pub token: SecretString,
    /// The authorities that its certificate is believed by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The tokens that are watched.
    pub kinds: Vec<TokenKind>,
    /// The mailboxes of users of whom Rancher knows none, by their id.
    pub users: BTreeMap<String, Address>,
}

impl Config {
    /// The source.
    ///
    /// # Errors
    /// When the CA file cannot be read, or the token holds what cannot be sent.
    pub fn build(&self, common: &Common) -> Result<Rancher, Error> {
        let mut url = self.url.clone();
        // People copy the address of the API, too.
        let path = url.path().trim_end_matches('/');
        let path = ["/v3", "/dashboard"]
            .iter()
            .find_map(|end| path.strip_suffix(end))
            .unwrap_or(path)
            .to_owned();
        url.set_path(&path);
        let web = Web::new(&url, self.ca_file.as_deref(), common.timeout)?;
        Ok(Rancher {
            api: Api::new(web, &self.token)?,
            url,
            kinds: self.kinds.clone(),
            users: self.users.clone(),
        })
    }
}

/// A Rancher.
#[derive(Debug)]
pub struct Rancher {
    api: Api,
    url: Url,
    kinds: Vec<TokenKind>,
    users: BTreeMap<String, Address>,
}

#[async_trait]
impl Source for Rancher {
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error> {
        let mut attempts = ATTEMPTS;
        let listing = loop {
            attempts -= 1;
            match self.list().await {
                // The list changed so much that the rest of it is no longer kept.
                Err(error) if status(&error) == Some(StatusCode::GONE) && attempts > 0 => {}
                listing => break listing.map_err(explained)?,
            }
        };
        Ok(listing.unless_known(last))
    }

    async fn check(&self) -> Result<Checked, Error> {
        check::check(&self.api, &self.users)
            .await
            .map_err(explained)
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let revoked = revoke::revoke(&self.api, external_id).await;
        revoked.map_err(explained)
    }

    fn is_own(&self, token: &Token) -> bool {
        token.external_id == self.api.own
    }

    /// Where every user sees his own tokens; Rancher has no page for those of others.
    fn page_of(&self, external_id: &str) -> Option<String> {
        revoke::path(external_id)?;
        let site = self.url.as_str().trim_end_matches('/');
        Some(format!("{site}/dashboard/account"))
    }
}

impl Rancher {
    /// Lists everything once.
    async fn list(&self) -> Result<Listing, Error> {
        let settings = Settings::read(&self.api).await?;
        let people = People::read(&self.api, self.users.clone()).await?;
        let mut listing = Lister {
            rancher: self,
            people,
            gathering: Gathering::default(),
            sight: Sight::default(),
            use_told: true,
            lacks_ext: false,
            is_unsure: false,
        };
        let ext = listing.take::<Ext>(&format!("{EXT}/tokens")).await;
        listing.sight.ext = self.api.ext(ext).await?;
        if listing.sight.ext.is_none() {
            let version = self.api.version().await;
            listing.use_told = version::tells_use(version.as_deref());
            listing.lacks_ext = version::has_ext(version.as_deref());
        }
        let legacy = format!("{MANAGEMENT}/tokens");
        listing.sight.legacy = listing.take::<Legacy>(&legacy).await?;
        let Lister {
            people,
            gathering,
            sight,
            lacks_ext,
            is_unsure,
            ..
        } = listing;
        sight.is_whole(&self.api, &people).await?;
        Ok(Listing {
            is_partial: lacks_ext || is_unsure,
            longest_life: settings.longest_life(),
            ..blocking(move || gathering.finish()).await?
        })
    }
}

/// A listing under way.
struct Lister<'a> {
    rancher: &'a Rancher,
    people: People,
    gathering: Gathering,
    sight: Sight,
    /// Whether this Rancher writes down when tokens are used.
    use_told: bool,
    /// Whether the list of ext tokens is missing from a Rancher that has such.
    lacks_ext: bool,
    /// Whether tokens were left out that may be watched ones of Rancher itself.
    is_unsure: bool,
}

impl Lister<'_> {
    /// Takes in one of the two stores.
    async fn take<T: DeserializeOwned + Into<Row> + Send>(
        &mut self,
        path: &str,
    ) -> Result<Tally, Error> {
        let api = &self.rancher.api;
        let mut tally = Tally::default();
        let mut pages = api.list(path);
        while let Some(page) = pages.next::<T>().await? {
            for row in page {
                let row: Row = row.into();
                tally.add(&row.user_id);
                if row.external_id == api.own {
                    self.sight.caller = Some(row.user_id.clone());
                }
                self.people.find(api, &row.user_id).await?;
                let kinds = &self.rancher.kinds;
                let is_watched = kinds.contains(&row.kind(&self.people));
                if !is_watched && row.may_be_of_system(&self.people) {
                    self.is_unsure |= kinds.contains(&TokenKind::System);
                }
                if is_watched {
                    let token = row.listed(&self.people, self.use_told);
                    self.gathering.push(&token)?;
                }
            }
        }
        Ok(tally)
    }
}
