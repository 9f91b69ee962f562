//! The source `nocodb`: the API tokens of NocoDB.
//!
//! NocoDB lists tokens only to people, so lapsed signs in as a super admin. Tokens created under single sign-on
//! are not listed to a super admin, but NocoDB's own database has all of them.

mod rest;
mod rows;
mod session;
mod tables;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use self::rest::{RestApi, SUPER_ADMIN_ADVICE};
use self::tables::Tables;
use super::{CheckReport, Common, Error, Fetched, LastListing, Listing, MaxLife, Right, Source};
use crate::upstream::database::Database;
use crate::upstream::http::Client;

#[derive(Debug, Clone)]
pub struct Config {
    /// The address that people open in their browsers.
    pub url: Url,
    /// A super admin; `None` if only the database is read.
    pub login: Option<Login>,
    /// NocoDB's own database, SQLite or PostgreSQL. If set, tokens are listed from it.
    pub database: Option<SecretString>,
}

#[derive(Debug, Clone)]
pub struct Login {
    pub email: String,
    pub password: SecretString,
}

impl Config {
    /// # Errors
    /// If HTTP cannot be set up or the database's URL is invalid.
    pub fn build(&self, common: &Common) -> Result<NocoDbSource, Error> {
        let rest = match self.login.clone() {
            Some(login) => {
                let web = Client::new(&self.url, None, common.timeout)?;
                Some(RestApi::new(web, login))
            }
            None => None,
        };
        let tables = match &self.database {
            Some(url) => Some(Tables::new(Database::new(url, common.timeout)?)),
            None => None,
        };
        Ok(NocoDbSource {
            url: self.url.clone(),
            rest,
            tables,
        })
    }
}

pub struct NocoDbSource {
    url: Url,
    rest: Option<RestApi>,
    tables: Option<Tables>,
}

#[async_trait]
impl Source for NocoDbSource {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let listing = match &self.tables {
            Some(tables) => Listing {
                max_life: self.max_life().await,
                ..tables.listing().await?
            },
            None => self.rest()?.fetch_snapshot().await?.listing()?,
        };
        Ok(listing.compare_with(last))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        match &self.tables {
            Some(tables) => self.check_tables(tables).await,
            None => self.check_rest().await,
        }
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        // NocoDB's cache is not in the database: a token deleted only there works on.
        let rest = self.rest()?;
        if !self
            .has_token(external_id)
            .await
            .map_err(Error::not_attempted)?
        {
            return Err(Error::NoSuchToken(external_id.to_owned()));
        }
        // NocoDB answers 500 if the token did not exist, so the list decides.
        let deleted = rest.delete_token(external_id).await;
        if self
            .has_token(external_id)
            .await
            .map_err(Error::outcome_unknown)?
        {
            return Err(deleted.err().unwrap_or(Error::StillThere));
        }
        rest.clear_cache().await
    }

    /// NocoDB shows all tokens of a user on one page.
    fn token_page(&self, _: &str) -> Option<String> {
        let mut page = self.url.clone();
        page.path_segments_mut().ok()?.pop_if_empty().push("");
        page.set_fragment(Some("/account/tokens"));
        Some(page.into())
    }
}

impl NocoDbSource {
    fn rest(&self) -> Result<&RestApi, Error> {
        self.rest.as_ref().ok_or_else(|| Error::Rights {
            what: "NocoDB's database is only read, and its tokens are revoked through REST"
                .to_owned(),
            fix: "set `email` and `password` of a super admin".to_owned(),
        })
    }

    async fn has_token(&self, id: &str) -> Result<bool, Error> {
        match &self.tables {
            Some(tables) => tables.has_token(id).await,
            None => Ok(self.rest()?.fetch_snapshot().await?.has_token(id)),
        }
    }

    /// Asks REST about the edition. The listing does not depend on the answer.
    async fn max_life(&self) -> Option<MaxLife> {
        let server = self.rest.as_ref()?.fetch_server_info().await.ok()?;
        server.max_life()
    }

    async fn check_rest(&self) -> Result<CheckReport, Error> {
        let snapshot = self.rest()?.fetch_snapshot().await?;
        let unknown = "NocoDB does not report whether the user is a super admin";
        let missing = snapshot
            .super_admin_id
            .is_none()
            .then(|| format!("{unknown}; {SUPER_ADMIN_ADVICE}"));
        let mut rights = vec![right("list the tokens of all users", missing)];
        if snapshot.server.has_single_sign_on() {
            let missing = "NocoDB does not list them to users with a password; set `database` to NocoDB's own database";
            let what = "list tokens made under single sign-on";
            rights.push(right(what, Some(missing.to_owned())));
        }
        let missing = snapshot
            .users
            .is_none()
            .then(|| SUPER_ADMIN_ADVICE.to_owned());
        rights.push(right("list the users", missing));
        rights.push(right("revoke tokens", None));
        let count = snapshot.tokens.len() as u64;
        Ok(CheckReport {
            summary: format!("{}, {}", snapshot.server.name(), format_count(count)),
            rights,
        })
    }

    async fn check_tables(&self, tables: &Tables) -> Result<CheckReport, Error> {
        let count = tables.listing().await?.count;
        let missing = match self.rest() {
            Ok(rest) => rest.fetch_super_admin_id().await.err(),
            Err(missing) => Some(missing),
        };
        Ok(CheckReport {
            summary: format!("database {}, {}", tables.place(), format_count(count)),
            rights: vec![
                right("list the tokens of all users", None),
                right("list tokens made under single sign-on", None),
                right("revoke tokens", missing.map(|missing| missing.to_string())),
            ],
        })
    }
}

fn right(what: &str, missing: Option<String>) -> Right {
    Right {
        what: what.to_owned(),
        missing,
    }
}

fn format_count(count: u64) -> String {
    match count {
        1 => "1 token".to_owned(),
        _ => format!("{count} tokens"),
    }
}
