//! The source `devtron`: API tokens from Devtron's REST API and, if configured, its database.
//!
//! The API lists all tokens, usually with their secrets, for which no type here has a field. It does not report
//! who issued a token and when, and reports the first use as the last. The database adds these facts to the list.

mod records;
mod responses;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::{StreamExt, stream};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::ListingBuilder;
use super::fields::{self, Item};
use super::{
    CheckReport, Error, Fetched, LastListing, Listing, RefusedRows, Right, Source,
    UNKNOWN_OWN_TOKEN, deletion_outcome,
};
use crate::domain;
use crate::upstream::ProxyRules;
use crate::upstream::database::Database;
use crate::upstream::http::{self, Client, Request};
use records::TokenRecords;
use responses::{Permissions, Response, Token};

const TOKENS_PATH: &str = "orchestrator/api-token";

const TOKEN_ADVICE: &str =
    "generate an API token with super admin permission and write it as token";

const MAX_CONCURRENT_REQUESTS: usize = 4;

/// After this many requests without a response, no further permissions are requested. Their cells stay absent, so
/// the store keeps the known values.
const MAX_UNANSWERED: u32 = 4;

#[derive(Debug, Clone)]
pub struct Config {
    /// The address of Devtron without `/dashboard`.
    pub url: Url,
    /// An API token of a super admin.
    pub token: SecretString,
    pub database: Option<SecretString>,
}

impl Config {
    /// Fails if the token cannot be sent in a header, or the URL of the database is invalid.
    pub fn build(&self, timeout: Duration, proxies: &ProxyRules) -> Result<Devtron, Error> {
        let token = self.token.expose_secret().trim();
        let database = match &self.database {
            Some(url) => Some(Database::new(url, timeout)?),
            None => None,
        };
        Ok(Devtron {
            client: Client::new(&self.url, None, timeout, proxies)?,
            url: self.url.clone(),
            token: http::secret_header("the token", token)?,
            own_identity: own_identity(token),
            database,
        })
    }
}

/// The machine account in the token, which is a JWT. Its signature does not matter here.
fn own_identity(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        email: String,
    }
    let encoded = token.split('.').nth(1)?.trim_end_matches('=');
    let json = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let claims: Claims = serde_json::from_slice(&json).ok()?;
    Some(claims.email)
}

pub struct Devtron {
    client: Client,
    url: Url,
    token: HeaderValue,
    own_identity: Option<String>,
    database: Option<Database>,
}

impl Devtron {
    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = self.client.request(method, path);
        request.header("token", self.token.clone())
    }

    /// The tokens that have an id, and the others.
    async fn fetch_tokens(&self) -> Result<(Vec<Token>, RefusedRows), Error> {
        let request = self.request(Method::GET, TOKENS_PATH);
        let response: Response<Vec<Item<Token>>> = request.json().await.map_err(explain_refusal)?;
        // The result is null if there are no tokens.
        let items = response.result(TOKENS_PATH)?.unwrap_or_default();
        let mut refusals = RefusedRows::default();
        let has_id = |token: &Token| token.id().is_some();
        let tokens = fields::with_ids(items, TOKENS_PATH, has_id, &mut refusals);
        Ok((tokens, refusals))
    }

    /// Fetches the visible permissions of the machine accounts, by account. They are only informative, so failures
    /// are ignored, except a request to wait.
    async fn fetch_permissions(
        &self,
        tokens: &[Token],
    ) -> Result<BTreeMap<i64, Permissions>, Error> {
        let accounts: Vec<i64> = tokens.iter().filter_map(Token::account).collect();
        let unanswered = AtomicU32::new(0);
        // Accounts are taken one by one, so this stops further requests and not those that are in flight.
        let accounts = accounts
            .into_iter()
            .take_while(|_| unanswered.load(Ordering::Relaxed) < MAX_UNANSWERED);
        let requests = stream::iter(accounts).map(|account| async move {
            let path = format!("orchestrator/user/{account}");
            let response = self.request(Method::GET, &path).json::<Response<_>>().await;
            (account, response.map(|response| response.result(&path)))
        });
        let mut responses = requests.buffer_unordered(MAX_CONCURRENT_REQUESTS);
        let mut by_account = BTreeMap::new();
        while let Some((account, response)) = responses.next().await {
            match response {
                Ok(Ok(Some(permissions))) => {
                    by_account.insert(account, permissions);
                }
                Err(error) if error.wait().is_some() => return Err(error.into()),
                Err(http::Error::TimedOut { .. } | http::Error::Unreachable { .. }) => {
                    unanswered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(by_account)
    }

    async fn read_records(&self, tokens: &[Token]) -> Result<Option<TokenRecords>, Error> {
        let Some(database) = &self.database else {
            return Ok(None);
        };
        let records = records::load(database, tokens).await?;
        if records.by_id.is_empty() && !tokens.is_empty() {
            let reason = "it has none of the tokens that Devtron lists; set database to the one of this Devtron";
            return Err(Error::content(database.place(), reason));
        }
        Ok(Some(records))
    }

    fn is_own_token(&self, token: &Token) -> Option<bool> {
        let identity = self.own_identity.as_deref()?;
        Some(token.has_account(identity))
    }
}

#[async_trait]
impl Source for Devtron {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let (tokens, refusals) = self.fetch_tokens().await?;
        let permissions = self.fetch_permissions(&tokens).await?;
        // After the list, so that the database has every listed token.
        let records = self.read_records(&tokens).await?;
        let mut builder = ListingBuilder::default();
        for token in &tokens {
            let account = token.account();
            let permissions = account.and_then(|account| permissions.get(&account));
            let mut listed = token.to_listed(permissions);
            if let Some(records) = &records {
                let id = token.id();
                if let Some(record) = id.and_then(|id| records.by_id.get(&id)) {
                    record.add_to(&mut listed);
                }
            } else {
                token.set_issuer_from_description(&mut listed);
            }
            builder.push(&listed)?;
        }
        let listing = Listing {
            refusals,
            ..builder.finish()?
        };
        Ok(listing.compare_with(last))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let (tokens, _) = self.fetch_tokens().await?;
        let permissions = self.fetch_permissions(&tokens).await?;
        let records = self.read_records(&tokens).await?;
        let sees_permissions = !permissions.is_empty() || tokens.is_empty();
        let sees_own_token = tokens
            .iter()
            .any(|token| self.is_own_token(token) == Some(true));
        let database_advice = "set database, with a role that may read the columns listed in docs/sources/devtron.md, \
                               or list the owners in an owners file";
        let mut rights = vec![
            Right::granted("list all tokens"),
            Right::new(
                "see the permissions of tokens",
                sees_permissions,
                TOKEN_ADVICE,
            ),
            Right::new(
                "see who issued tokens and when, and when they were used",
                records.is_some(),
                database_advice,
            ),
            Right::granted("revoke tokens"),
            Right::new("recognise its own token", sees_own_token, TOKEN_ADVICE),
        ];
        if let Some(is_visible) = records.and_then(|records| records.versions) {
            let fix = "GRANT SELECT (version) ON api_token to the role of database";
            rights.push(Right::new("recognise a regenerated token", is_visible, fix));
        }
        Ok(CheckReport {
            summary: format!("Devtron: {} tokens", tokens.len()),
            rights,
            ..CheckReport::default()
        })
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let unknown = || Error::NoSuchToken(external_id.to_owned());
        let id: i64 = external_id.parse().map_err(|_| unknown())?;
        let (tokens, _) = self.fetch_tokens().await.map_err(Error::not_attempted)?;
        let token = tokens.iter().find(|token| token.id() == Some(id));
        match self.is_own_token(token.ok_or_else(unknown)?) {
            Some(false) => {}
            Some(true) => return Err(Error::OwnToken),
            None => return Err(Error::rights(UNKNOWN_OWN_TOKEN, TOKEN_ADVICE)),
        }
        let request = self.request(Method::DELETE, &format!("{TOKENS_PATH}/{id}"));
        let response = request.send_ignoring_body().await.map_err(explain_refusal);
        let is_listed = |(tokens, _): (Vec<Token>, RefusedRows)| {
            tokens.iter().any(|token| token.id() == Some(id))
        };
        deletion_outcome(response, self.fetch_tokens().await.map(is_listed))
    }

    /// Compared by name, which is unique, because the token does not contain its id.
    fn is_own(&self, token: &domain::Token) -> bool {
        let identity = self.own_identity.as_deref();
        identity.is_some_and(|identity| responses::is_account(&token.name, identity))
    }

    fn token_page(&self, external_id: &str) -> Option<String> {
        let id: i64 = external_id.parse().ok()?;
        let base = self.url.as_str().trim_end_matches('/');
        Some(format!(
            "{base}/dashboard/global-config/auth/api-token/edit/{id}"
        ))
    }
}

fn explain_refusal(error: http::Error) -> Error {
    let refused =
        "Devtron does not accept the token; it may have expired, or been regenerated or deleted";
    let denied = "Devtron does not permit this with the token, which has no super admin permission";
    Error::from(error).explain(&[
        (StatusCode::UNAUTHORIZED, refused, TOKEN_ADVICE),
        (StatusCode::FORBIDDEN, denied, TOKEN_ADVICE),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_account_is_read_from_the_token() {
        let claims = r#"{"email":"API-TOKEN:lapsed","version":"3","iss":"apiTokenIssuer"}"#;
        let token = format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(own_identity(&token).as_deref(), Some("API-TOKEN:lapsed"));
        for bad in ["", "no-jwt", "a.b.c", "e30.e30.x"] {
            assert_eq!(own_identity(bad), None, "{bad}");
        }
    }
}
