//! The source `nocodb`: the API tokens of a NocoDB.
//!
//! NocoDB lists them only to people, so lapsed signs in as a super admin. What people make under single
//! sign-on is hidden from him; NocoDB's own database, where lapsed may read it, has everything.

mod rest;
mod rows;
mod session;
mod tables;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use self::rest::{Rest, SUPER_ADMIN};
use self::tables::Tables;
use super::database::Database;
use super::{Checked, Common, Error, Fetched, Last, Listing, LongestLife, Right, Source};
use crate::web::Web;

/// Where a NocoDB is, and who lapsed is there.
#[derive(Debug, Clone)]
pub struct Config {
    /// What people open in their browsers.
    pub url: Url,
    /// A super admin; `None` where the database alone is read.
    pub login: Option<Login>,
    /// NocoDB's own database, SQLite or PostgreSQL. Where there is one, it is what is listed.
    pub database: Option<SecretString>,
}

/// Who signs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// His mail address.
    pub email: String,
    /// His password.
    pub password: SecretString,
}

impl Config {
    /// The source.
    ///
    /// # Errors
    /// When HTTP cannot be set up, or the database's URL is none.
    pub fn build(&self, common: &Common) -> Result<NocoDbSource, Error> {
        let rest = match self.login.clone() {
            Some(login) => {
                let web = Web::new(&self.url, None, common.timeout)?;
                Some(Rest::new(web, login))
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

/// The API tokens of a NocoDB.
pub struct NocoDbSource {
    url: Url,
    rest: Option<Rest>,
    tables: Option<Tables>,
}

#[async_trait]
impl Source for NocoDbSource {
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error> {
        let listing = match &self.tables {
            Some(tables) => Listing {
                longest_life: self.longest_life().await,
                ..tables.listing().await?
            },
            None => self.rest()?.view().await?.listing()?,
        };
        Ok(listing.unless_known(last))
    }

    async fn check(&self) -> Result<Checked, Error> {
        match &self.tables {
            Some(tables) => self.check_tables(tables).await,
            None => self.check_rest().await,
        }
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        // The database knows of no cache: what is deleted there alone works on.
        let rest = self.rest()?;
        if !self.has(external_id).await.map_err(Error::not_asked)? {
            return Err(Error::NoSuchToken(external_id.to_owned()));
        }
        // NocoDB answers 500 when the token was gone before. What counts is what the list shows then.
        let ended = rest.end(external_id).await;
        if self.has(external_id).await.map_err(Error::unseen)? {
            return Err(ended.err().unwrap_or(Error::StillThere));
        }
        rest.empty_cache().await
    }

    /// NocoDB has one page for all tokens of a user.
    fn page_of(&self, _: &str) -> Option<String> {
        let mut page = self.url.clone();
        page.path_segments_mut().ok()?.pop_if_empty().push("");
        page.set_fragment(Some("/account/tokens"));
        Some(page.into())
    }
}

impl NocoDbSource {
    fn rest(&self) -> Result<&Rest, Error> {
        self.rest.as_ref().ok_or_else(|| Error::Rights {
            what: "NocoDB's database is only read, and its tokens end through REST".to_owned(),
            mend: "set `email` and `password` of a super admin".to_owned(),
        })
    }

    /// Whether there is a token of this id.
    async fn has(&self, id: &str) -> Result<bool, Error> {
        match &self.tables {
            Some(tables) => tables.has(id).await,
            None => Ok(self.rest()?.view().await?.has(id)),
        }
    }

    /// What REST says of the edition, as long as it answers: the listing does not depend on it.
    async fn longest_life(&self) -> Option<LongestLife> {
        let about = self.rest.as_ref()?.about().await.ok()?;
        about.longest_life()
    }

    async fn check_rest(&self) -> Result<Checked, Error> {
        let view = self.rest()?.view().await?;
        let told = "NocoDB does not tell whether its user is a super admin";
        let missing = view.me.is_none().then(|| format!("{told}; {SUPER_ADMIN}"));
        let mut rights = vec![right("list the tokens of all users", missing)];
        if view.about.has_single_sign_on() {
            let missing =
                "a password shows none of them; let `database` name NocoDB's own database";
            let what = "list tokens made under single sign-on";
            rights.push(right(what, Some(missing.to_owned())));
        }
        let missing = view.users.is_none().then(|| SUPER_ADMIN.to_owned());
        rights.push(right("list the users", missing));
        rights.push(right("end tokens", None));
        let count = view.tokens.len() as u64;
        Ok(Checked {
            summary: format!("{}, {}", view.about.name(), counted(count)),
            rights,
        })
    }

    async fn check_tables(&self, tables: &Tables) -> Result<Checked, Error> {
        let count = tables.listing().await?.count;
        let missing = match self.rest() {
            Ok(rest) => rest.super_admin().await.err(),
            Err(missing) => Some(missing),
        };
        Ok(Checked {
            summary: format!("database {}, {}", tables.place(), counted(count)),
            rights: vec![
                right("list the tokens of all users", None),
                right("list tokens made under single sign-on", None),
                right("end tokens", missing.map(|missing| missing.to_string())),
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

fn counted(count: u64) -> String {
    match count {
        1 => "1 token".to_owned(),
        _ => format!("{count} tokens"),
    }
}
