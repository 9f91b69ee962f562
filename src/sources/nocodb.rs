//! The source `nocodb`: the API tokens of NocoDB.
//!
//! NocoDB lists tokens only to people, so lapsed signs in as a super admin. Tokens created under single sign-on
//! are not listed to a super admin, but NocoDB's own database has all of them.

mod rest;
mod rows;
mod tables;

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

pub use self::rest::Login;
use self::rest::{RestApi, SUPER_ADMIN_ADVICE};
use self::tables::Tables;
use super::{
    CheckReport, Error, Fetched, LastListing, Listing, MaxLife, Right, Source, deletion_outcome,
};
use crate::upstream::ProxyRules;
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

impl Config {
    /// Fails if HTTP cannot be set up or the database's URL is invalid.
    pub fn build(&self, timeout: Duration, proxies: &ProxyRules) -> Result<NocoDbSource, Error> {
        let mut source = NocoDbSource {
            url: self.url.clone(),
            rest: None,
            tables: None,
        };
        if let Some(login) = &self.login {
            let client = Client::new(&self.url, None, timeout, proxies)?;
            source.rest = Some(RestApi::new(client, login.clone()));
        }
        if let Some(url) = &self.database {
            source.tables = Some(Tables(Database::new(url, timeout)?));
        }
        Ok(source)
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
        // Through REST even if the database is read: a token that is deleted only there stays in NocoDB's cache,
        // and still works.
        let rest = self.rest()?;
        let is_listed = self.has_token(external_id).await;
        if !is_listed.map_err(Error::not_attempted)? {
            return Err(Error::NoSuchToken(external_id.to_owned()));
        }
        // NocoDB answers 500 if the token did not exist.
        let deleted = rest.delete_token(external_id).await;
        deletion_outcome(deleted, self.has_token(external_id).await)?;
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
        let what = "NocoDB's database is only read, and its tokens are revoked through REST";
        let fix = "set `email` and `password` of a super admin";
        self.rest.as_ref().ok_or_else(|| Error::rights(what, fix))
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
        let mut rights = vec![Right::new(
            "list the tokens of all users",
            snapshot.super_admin_id.is_some(),
            format!("{unknown}; {SUPER_ADMIN_ADVICE}"),
        )];
        if snapshot.server.has_single_sign_on() {
            let fix = "NocoDB does not list them to users with a password; set `database` to NocoDB's own database";
            rights.push(Right::missing("list tokens made under single sign-on", fix));
        }
        let lists_users = snapshot.users.is_some();
        rights.push(Right::new(
            "list the users",
            lists_users,
            SUPER_ADMIN_ADVICE,
        ));
        rights.push(Right::granted("revoke tokens"));
        let count = snapshot.tokens.len() as u64;
        Ok(CheckReport {
            summary: format!("{}, {}", snapshot.server.name(), format_count(count)),
            rights,
            ..CheckReport::default()
        })
    }

    async fn check_tables(&self, tables: &Tables) -> Result<CheckReport, Error> {
        let count = tables.listing().await?.count;
        let admin = match self.rest() {
            Ok(rest) => rest.fetch_super_admin_id().await.map(drop),
            Err(missing) => Err(missing),
        };
        let revoke = "revoke tokens";
        Ok(CheckReport {
            summary: format!("database {}, {}", tables.place(), format_count(count)),
            rights: vec![
                Right::granted("list the tokens of all users"),
                Right::granted("list tokens made under single sign-on"),
                match admin {
                    Ok(()) => Right::granted(revoke),
                    Err(missing) => Right::missing(revoke, missing.to_string()),
                },
            ],
            ..CheckReport::default()
        })
    }
}

fn format_count(count: u64) -> String {
    match count {
        1 => "1 token".to_owned(),
        _ => format!("{count} tokens"),
    }
}
