//! The source `gcore`: the permanent API tokens of one account, and its administrators.
//!
//! The list is a plain array without pages, and never contains a secret. No filters are used: some are documented
//! the wrong way round, and a filtered token would look like a deleted one.

mod responses;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::ListingBuilder;
use super::fields::{self, Item};
use super::{
    CheckReport, Error, Fetched, LastListing, Listing, RefusedRows, Right, Source,
    UNKNOWN_OWN_TOKEN, deletion_outcome,
};
use crate::domain::{self, Cell};
use crate::upstream::ProxyRules;
use crate::upstream::http::{self, Client, Request};
use crate::upstream::pager::{Content, Pager};
use responses::{Account, People, Token, User, UserPage};

pub const PUBLIC_URL: &str = "https://api.gcore.com";

/// Gcore has no page for a single token.
const TOKEN_PAGE: &str = "https://accounts.gcore.com/profile/api-tokens";

const PAGE_SIZE: &str = "50";

const TOKEN_ADVICE: &str =
    "create a permanent API token with the role Administrators and write it as token, as id_secret";

#[derive(Debug, Clone)]
pub struct Config {
    pub url: Url,
    /// A permanent API token: `id_secret`, or `id$secret` for an old one.
    pub token: SecretString,
    /// The account; `None` means that of the token.
    pub client_id: Option<i64>,
}

impl Config {
    /// Fails if the token cannot be sent in a header.
    pub fn build(&self, timeout: Duration, proxies: &ProxyRules) -> Result<Gcore, Error> {
        let token = self.token.expose_secret().trim();
        let authorization = http::secret_header("the token", &format!("APIKey {token}"))?;
        Ok(Gcore {
            client: Client::new(&self.url, None, timeout, proxies)?,
            authorization,
            own_id: own_id(token),
            client_id: self.client_id,
        })
    }
}

/// The number before the secret is the id.
fn own_id(token: &str) -> Option<i64> {
    let (id, _) = token.split_once(['_', '$'])?;
    id.parse().ok()
}

#[derive(Debug)]
pub struct Gcore {
    client: Client,
    authorization: HeaderValue,
    own_id: Option<i64>,
    client_id: Option<i64>,
}

/// Everything that is visible to the credentials.
#[derive(Debug)]
struct Snapshot {
    account: Account,
    tokens: Vec<Token>,
    refusals: RefusedRows,
    /// `None` if the credentials may not list them.
    people: Option<People>,
    /// The id of the token in the configuration, if it is whole.
    own_id: Option<i64>,
}

impl Gcore {
    fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = self.client.request(method, path);
        request.header("authorization", self.authorization.clone())
    }

    /// Fails if the credentials evidently see only the tokens of their own user.
    async fn fetch_snapshot(&self) -> Result<Snapshot, Error> {
        let account = self.fetch_account().await?;
        let (path, tokens) = self.fetch_tokens(account.id).await?;
        let mut refusals = RefusedRows::default();
        let has_id = |token: &Token| token.id().is_some();
        let tokens = fields::with_ids(tokens, &path, has_id, &mut refusals);
        let issuers = tokens.iter().filter_map(Token::issuer_id).collect();
        let people = self.fetch_people(issuers).await?;
        let snapshot = Snapshot {
            account,
            tokens,
            refusals,
            people,
            own_id: self.own_id,
        };
        if snapshot.is_admin() == Some(false) && snapshot.has_one_issuer() {
            let fix = TOKEN_ADVICE.to_owned();
            return Err(Error::OwnTokensOnly { fix });
        }
        Ok(snapshot)
    }

    /// The configured account, whose name may be unknown, or that of the token.
    async fn fetch_account(&self) -> Result<Account, Error> {
        let own = self.get("iam/clients/me").json::<Account>().await;
        match (self.client_id, own) {
            (None, own) => own.map_err(explain_refusal),
            (Some(id), Ok(own)) if own.id == id => Ok(own),
            (Some(id), Ok(own)) => Ok(Account::foreign(id, Some(own))),
            (Some(id), Err(error)) if is_denied(&error) => Ok(Account::foreign(id, None)),
            (Some(_), Err(error)) => Err(explain_refusal(error)),
        }
    }

    /// All users of the account and the issuers of its tokens; `None` if the credentials may not list users.
    async fn fetch_people(&self, issuers: BTreeSet<i64>) -> Result<Option<People>, Error> {
        let Some(mut users) = self.fetch_users().await? else {
            return Ok(None);
        };
        for id in issuers {
            if users.contains_key(&id) {
                continue;
            }
            let user = self.get(&format!("iam/users/{id}"));
            match user.json::<Item<User>>().await {
                // Nothing is known about a user who cannot be read.
                Ok(user) => users.extend(user.into_option().map(|user| (id, Some(user)))),
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                    users.insert(id, None);
                }
                // A user of another account, about whom nothing is known.
                Err(error) if is_denied(&error) => {}
                Err(error) => return Err(explain_refusal(error)),
            }
        }
        Ok(Some(People(users)))
    }

    /// Reads all pages and merges them by id, because pages may shift while they are read.
    async fn fetch_users(&self) -> Result<Option<BTreeMap<i64, Option<User>>>, Error> {
        let mut users = BTreeMap::new();
        let mut read = 0;
        let mut pager = Pager::default();
        while !pager.is_done() {
            let request = self.get("iam/users").query("limit", PAGE_SIZE);
            let page = request.query("offset", &read.to_string()).json().await;
            let (page, count) = match page {
                Ok(UserPage::All(users)) => (users, Some(0)),
                Ok(UserPage::Some { count, results }) => {
                    let count = count.integer().ok().flatten();
                    (results, count.and_then(|count| usize::try_from(count).ok()))
                }
                Err(error) if is_denied(&error) => return Ok(None),
                Err(error) => return Err(explain_refusal(error)),
            };
            let before = users.len();
            let received = page.len();
            read += received;
            let is_last = match count {
                Some(count) => read >= count,
                None => page.is_empty(),
            };
            let page = page.into_iter().filter_map(Item::into_option);
            users.extend(page.filter_map(|user| Some((user.id()?, Some(user)))));
            if received == 0 && !is_last {
                let reason = format!("the list ends after {before} users although it should go on");
                return Err(Error::content("GET /iam/users", reason));
            }
            pager
                .advance(
                    Content::new(received, users.len() - before),
                    (!is_last).then_some(read),
                )
                .map_err(|endless| Error::content("GET /iam/users", endless.to_string()))?;
        }
        Ok(Some(users))
    }

    /// The tokens and the path of their list, which is in version 2 of the API, or on older servers in version 1.
    async fn fetch_tokens(&self, account: i64) -> Result<(String, Vec<Item<Token>>), Error> {
        for version in ["v2/", ""] {
            let path = format!("iam/{version}clients/{account}/tokens");
            match self.get(&path).json().await {
                Ok(tokens) => return Ok((path, tokens)),
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {}
                Err(error) => return Err(explain_refusal(error)),
            }
        }
        let what = format!("Gcore has no list of tokens of the account {account}");
        Err(Error::rights(what, "correct or remove client_id and url"))
    }
}

#[async_trait]
impl Source for Gcore {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let snapshot = self.fetch_snapshot().await?;
        let account = snapshot.account.name();
        let people = snapshot.people.as_ref();
        let mut builder = ListingBuilder::default();
        for token in &snapshot.tokens {
            builder.push(&token.to_listed(&account, people))?;
        }
        let listing = Listing {
            admins: people.map(|people| people.admins(&snapshot.account)),
            refusals: snapshot.refusals,
            ..builder.finish()?
        };
        Ok(listing.compare_with(last))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let snapshot = self.fetch_snapshot().await?;
        let people = snapshot.people.as_ref().map_or(0, People::count);
        Ok(CheckReport {
            summary: format!(
                "Gcore, account {}: {} tokens, {people} users",
                snapshot.account.name(),
                snapshot.tokens.len()
            ),
            rights: snapshot.rights(),
            ..CheckReport::default()
        })
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let unknown = || Error::NoSuchToken(external_id.to_owned());
        let id: i64 = external_id.parse().map_err(|_| unknown())?;
        match self.own_id {
            Some(own_id) if own_id == id => return Err(Error::OwnToken),
            Some(_) => {}
            None => {
                let fix = "write token as Gcore shows it, including the id: id_secret";
                return Err(Error::rights(UNKNOWN_OWN_TOKEN, fix));
            }
        }
        let account = self.fetch_account().await.map_err(Error::not_attempted)?.id;
        let is_there = |tokens: &[Item<Token>]| {
            let mut tokens = tokens.iter().filter_map(Item::get);
            tokens.any(|token| token.id() == Some(id) && token.is_live())
        };
        let listed = self.fetch_tokens(account).await;
        let (path, tokens) = listed.map_err(Error::not_attempted)?;
        if !is_there(&tokens) {
            return Err(unknown());
        }
        let request = self.request(Method::DELETE, &format!("{path}/{id}"));
        let response = request.send_ignoring_body().await.map_err(explain_refusal);
        let listed = self.fetch_tokens(account).await;
        deletion_outcome(response, listed.map(|(_, tokens)| is_there(&tokens)))
    }

    fn is_own(&self, token: &domain::Token) -> bool {
        let id = token.external_id.parse().ok();
        id.is_some() && id == self.own_id
    }

    fn token_page(&self, _: &str) -> Option<String> {
        Some(TOKEN_PAGE.to_owned())
    }
}

impl Snapshot {
    /// Whether the credentials are those of an administrator, by the role of the own token or by the groups of its
    /// user, because a token cannot exceed its user. `None` if that is not known.
    fn is_admin(&self) -> Option<bool> {
        let own = self.own_token();
        if let Some(is_admin) = own.and_then(Token::is_admin) {
            return Some(is_admin);
        }
        let user = self.caller()?;
        match self.people.as_ref()?.find(user) {
            Cell::Value(user) if !user.is_admin() => Some(false),
            _ => None,
        }
    }

    fn own_token(&self) -> Option<&Token> {
        self.tokens
            .iter()
            .find(|token| token.id().is_some() && token.id() == self.own_id)
    }

    /// The user of the credentials.
    fn caller(&self) -> Option<i64> {
        let own = self.own_token();
        own.and_then(Token::issuer_id)
            .or_else(|| self.account.current_user())
    }

    fn has_one_issuer(&self) -> bool {
        let caller = self.caller();
        caller.is_some() && self.tokens.iter().all(|token| token.issuer_id() == caller)
    }

    fn rights(&self) -> Vec<Right> {
        // If the list evidently lacked tokens, there would be no snapshot.
        let is_complete = self.is_admin().is_some() || !self.has_one_issuer();
        let is_admin = self.is_admin() == Some(true);
        vec![
            Right::new("list the tokens of all users", is_complete, TOKEN_ADVICE),
            Right::new(
                "list the users, to find administrators and users who have left",
                self.people.is_some(),
                TOKEN_ADVICE,
            ),
            Right::new("revoke the tokens of all users", is_admin, TOKEN_ADVICE),
            Right::new(
                "recognise its own token",
                self.own_token().is_some(),
                "write token as Gcore shows it, including the id: id_secret; \
                 and remove client_id unless the token belongs to another account",
            ),
        ]
    }
}

/// Gcore answers 403 or 404 if the credentials do not permit something.
fn is_denied(error: &http::Error) -> bool {
    matches!(
        error.status(),
        Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
    )
}

fn explain_refusal(error: http::Error) -> Error {
    let refused = "Gcore does not accept the token";
    let denied = "Gcore does not permit this with the token";
    Error::from(error).explain(&[
        (StatusCode::UNAUTHORIZED, refused, TOKEN_ADVICE),
        (StatusCode::FORBIDDEN, denied, TOKEN_ADVICE),
    ])
}
