//! Devtron: its API tokens, by its REST API and, where that is configured, its database.
//!
//! The API lists all tokens, most often with their secrets, which nothing here has a place for. It tells
//! neither who issued a token nor when, and calls the first use the last. The database knows better; it
//! adds to the list, and never takes from it.

mod answers;
mod issuance;
mod permissions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::database::Database;
use super::gather::Gathering;
use super::{Checked, Common, Error, Fetched, Last, Listing, Right, Source};
use crate::domain;
use crate::web::{self, Request, Web};
use answers::{Answer, Token};
use issuance::Issuances;
use permissions::Permissions;

/// The list of tokens.
const TOKENS: &str = "orchestrator/api-token";

/// Which token does.
const WANTED: &str = "generate an API token with super admin permission and write it as token";

/// So many requests for the permissions of tokens are under way at a time.
const SIDE_BY_SIDE: usize = 4;

/// After so many of them without an answer, no more are made: the listing has no time to wait for all.
const UNANSWERED: u32 = 4;

/// How a source of this kind is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where Devtron is, without `/dashboard`.
    pub url: Url,
    /// An API token of a super admin.
    pub token: SecretString,
    /// Its PostgreSQL.
    pub database: Option<SecretString>,
}

impl Config {
    /// The source.
    ///
    /// # Errors
    /// When the token holds what no header can, or the database is named by no URL.
    pub fn build(&self, common: &Common) -> Result<Devtron, Error> {
        let token = self.token.expose_secret().trim();
        let database = self.database.as_ref();
        let database = database.map(|url| Database::new(url, common.timeout));
        Ok(Devtron {
            web: Web::new(&self.url, None, common.timeout)?,
            url: self.url.clone(),
            token: web::secret_header("the token", token)?,
            own_identity: own_identity(token),
            database: database.transpose()?,
        })
    }
}

/// The machine account of a token. The token is a JWT; who holds it may read that, and need not verify it.
fn own_identity(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        email: String,
    }
    let claims = token.split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('='));
    let claims: Claims = serde_json::from_slice(&claims.ok()?).ok()?;
    Some(claims.email)
}

/// The API tokens of a Devtron.
pub struct Devtron {
    web: Web,
    url: Url,
    token: HeaderValue,
    own_identity: Option<String>,
    database: Option<Database>,
}

impl Devtron {
    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = self.web.request(method, path);
        request.header("token", self.token.clone())
    }

    async fn tokens(&self) -> Result<Vec<Token>, Error> {
        let answer = self.request(Method::GET, TOKENS);
        let answer: Answer<Vec<Token>> = answer.json().await.map_err(refused)?;
        // Where there is none, that is null.
        Ok(answer.result(TOKENS)?.unwrap_or_default())
    }

    /// What each machine account may do, as far as that can be seen.
    async fn permissions(&self, tokens: &[Token]) -> Result<BTreeMap<i64, Permissions>, Error> {
        let accounts: Vec<i64> = tokens.iter().filter_map(|token| token.user_id).collect();
        let unanswered = AtomicU32::new(0);
        let unanswered = &unanswered;
        let asked = stream::iter(accounts).map(|account| async move {
            if unanswered.load(Ordering::Relaxed) >= UNANSWERED {
                return Ok(None);
            }
            let found = self.permissions_of(account, unanswered).await?;
            Ok(found.map(|permissions| (account, permissions)))
        });
        let found = asked.buffer_unordered(SIDE_BY_SIDE);
        found
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    /// They are a help for people: a token without them is a token, whatever is in the way.
    async fn permissions_of(
        &self,
        account: i64,
        unanswered: &AtomicU32,
    ) -> Result<Option<Permissions>, Error> {
        let path = format!("orchestrator/user/{account}");
        let answer = self.request(Method::GET, &path).json().await;
        match answer {
            Ok(answer) => Ok(Answer::result(answer, &path).ok().flatten()),
            Err(error) if error.wait().is_some() => Err(error.into()),
            Err(error) => {
                use web::Error::{TimedOut, Unreachable};
                if matches!(error, TimedOut { .. } | Unreachable { .. }) {
                    unanswered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None)
            }
        }
    }

    async fn issuance(&self, tokens: &[Token]) -> Result<Option<Issuances>, Error> {
        let Some(database) = &self.database else {
            return Ok(None);
        };
        let known = issuance::read(database, tokens).await?;
        if known.by_id.is_empty() && !tokens.is_empty() {
            return Err(Error::Content {
                place: database.place().to_owned(),
                reason: "it knows none of the tokens that Devtron lists; let database name the one of this \
                         Devtron"
                    .to_owned(),
            });
        }
        Ok(Some(known))
    }

    fn is_by(&self, token: &Token) -> Option<bool> {
        let identity = self.own_identity.as_deref()?;
        Some(token.is_of(identity))
    }
}

#[async_trait]
impl Source for Devtron {
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error> {
        let tokens = self.tokens().await?;
        let permissions = self.permissions(&tokens).await?;
        // After the list, so that the database knows every token of it.
        let issuance = self.issuance(&tokens).await?;
        let mut gathering = Gathering::default();
        for token in &tokens {
            let may = token.user_id.and_then(|account| permissions.get(&account));
            let mut listed = token.listed(may);
            match &issuance {
                None => token.address_in_description(&mut listed),
                Some(known) => {
                    if let Some(row) = known.by_id.get(&token.id) {
                        row.add_to(&mut listed);
                    }
                }
            }
            gathering.push(&listed)?;
        }
        Ok(gathering.finish()?.unless_known(last))
    }

    async fn check(&self) -> Result<Checked, Error> {
        let tokens = self.tokens().await?;
        let seen = self.permissions(&tokens).await?.len();
        let known = self.issuance(&tokens).await?;
        let right = |what: &str, is_there: bool, mend: &str| Right {
            what: what.to_owned(),
            missing: (!is_there).then(|| mend.to_owned()),
        };
        let versions = known.as_ref().and_then(|known| known.versions);
        let versions = versions.map(|is_visible| {
            right(
                "tell a token that was made again from the one before",
                is_visible,
                "GRANT SELECT (version) ON api_token to the role of database",
            )
        });
        let is_known = tokens.iter().any(|token| self.is_by(token) == Some(true));
        Ok(Checked {
            summary: format!("Devtron: {} tokens", tokens.len()),
            rights: [
                right("list all tokens", true, WANTED),
                right(
                    "see what they may do",
                    seen > 0 || tokens.is_empty(),
                    WANTED,
                ),
                right(
                    "know who issued them, when, and when they were used",
                    known.is_some(),
                    "set database, with a role that may read the columns that docs/sources/devtron.md \
                     names; or say by owners whose they are",
                ),
                right("end tokens", true, WANTED),
                right("tell its own token from the others", is_known, WANTED),
            ]
            .into_iter()
            .chain(versions)
            .collect(),
        })
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let unknown = || Error::NoSuchToken(external_id.to_owned());
        let id: i64 = external_id.parse().map_err(|_| unknown())?;
        let tokens = self.tokens().await.map_err(Error::not_asked)?;
        let token = tokens.iter().find(|token| token.id == id);
        match self.is_by(token.ok_or_else(unknown)?) {
            Some(false) => {}
            Some(true) => return Err(Error::OwnToken),
            None => {
                return Err(Error::Rights {
                    what:
                        "it cannot be told which token is the one by which lapsed sees the source"
                            .to_owned(),
                    mend: WANTED.to_owned(),
                });
            }
        }
        let ordered = self.request(Method::DELETE, &format!("{TOKENS}/{id}"));
        let ordered = ordered.done().await;
        // Whatever was said, what counts is whether it is there.
        let tokens = self.tokens().await.map_err(Error::unseen)?;
        if !tokens.iter().any(|token| token.id == id) {
            return Ok(());
        }
        ordered.map_err(refused)?;
        Err(Error::StillThere)
    }

    /// By its name, which no two of its tokens share: the token holds no number.
    fn is_own(&self, token: &domain::Token) -> bool {
        let identity = self.own_identity.as_deref();
        identity.is_some_and(|identity| answers::is_account(&token.name, identity))
    }

    fn page_of(&self, external_id: &str) -> Option<String> {
        let id: i64 = external_id.parse().ok()?;
        let base = self.url.as_str().trim_end_matches('/');
        Some(format!(
            "{base}/dashboard/global-config/auth/api-token/edit/{id}"
        ))
    }
}

/// An error, in words that say what to add where the credentials do not do.
fn refused(error: web::Error) -> Error {
    let what = match error.status() {
        Some(StatusCode::UNAUTHORIZED) => {
            "Devtron does not accept the token; it may have expired, or been regenerated or deleted"
        }
        Some(StatusCode::FORBIDDEN) => {
            "Devtron forbids this to the token, which is no super admin's"
        }
        _ => return error.into(),
    };
    Error::Rights {
        what: what.to_owned(),
        mend: WANTED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_machine_account_is_read_from_the_token() {
        let claims = r#"{"email":"API-TOKEN:lapsed","version":"3","iss":"apiTokenIssuer"}"#;
        let token = format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(own_identity(&token).as_deref(), Some("API-TOKEN:lapsed"));
        for bad in ["", "no-jwt", "a.b.c", "e30.e30.x"] {
            assert_eq!(own_identity(bad), None, "{bad}");
        }
    }
}
