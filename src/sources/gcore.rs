//! Gcore: the permanent API tokens of one account, and who administers it.
//!
//! The list is a plain array without pages, and never holds a secret. Filters are left alone: some are
//! documented the wrong way round, and what is filtered cannot be told from what is gone.

mod answers;
mod people;

use async_trait::async_trait;
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::gather::Gathering;
use super::{Checked, Common, Error, Fetched, Last, Listing, Right, Source};
use crate::domain::{self, Cell};
use crate::web::{self, Request, Web};
use answers::{Account, Token};
use people::People;

/// Where everybody's API is.
pub const PUBLIC_URL: &str = "https://api.gcore.com";

/// Where people see to their tokens; there is no page for a single one.
const TOKEN_PAGE: &str = "https://accounts.gcore.com/profile/api-tokens";

/// Which token does.
const WANTED: &str =
    "create a permanent API token with the role Administrators and write it as token, as id_secret";

/// How a source of this kind is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API is.
    pub url: Url,
    /// A permanent API token: `id_secret`, or `id$secret` where it is an old one.
    pub token: SecretString,
    /// The account; `None` is the token's own.
    pub client_id: Option<i64>,
}

impl Config {
    /// The source.
    ///
    /// # Errors
    /// When the token holds what no header can.
    pub fn build(&self, common: &Common) -> Result<Gcore, Error> {
        let token = self.token.expose_secret().trim();
        let authorization = web::secret_header("the token", &format!("APIKey {token}"))?;
        Ok(Gcore {
            web: Web::new(&self.url, None, common.timeout)?,
            authorization,
            own_id: own_id(token),
            client_id: self.client_id,
        })
    }
}

/// What Gcore calls a token: the number before its secret.
fn own_id(token: &str) -> Option<i64> {
    let (id, _) = token.split_once(['_', '$'])?;
    id.parse().ok()
}

/// The tokens of an account at Gcore.
#[derive(Debug)]
pub struct Gcore {
    web: Web,
    authorization: HeaderValue,
    own_id: Option<i64>,
    client_id: Option<i64>,
}

/// All that can be seen at one time.
#[derive(Debug)]
struct View {
    account: Account,
    tokens: Vec<Token>,
    /// `None` where the credentials may not see them.
    people: Option<People>,
}

impl Gcore {
    fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    fn request(&self, method: Method, path: &str) -> Request<'_> {
        let request = self.web.request(method, path);
        request.header("authorization", self.authorization.clone())
    }

    /// A view that holds all, as far as that can be told.
    async fn look(&self) -> Result<View, Error> {
        let account = self.account().await?;
        let (_, tokens) = self.tokens(account.id).await?;
        let issuers = tokens.iter().filter_map(Token::issuer_id).collect();
        let people = People::of(self, issuers).await?;
        let view = View {
            account,
            tokens,
            people,
        };
        if view.is_narrowed(self.own_id) {
            let mend = WANTED.to_owned();
            return Err(Error::Narrowed { mend });
        }
        Ok(view)
    }

    /// The account of the token, or the one that is configured; then its name may stay unknown.
    async fn account(&self) -> Result<Account, Error> {
        let own = self.get("iam/clients/me").json::<Account>().await;
        match (self.client_id, own) {
            (None, own) => own.map_err(refused),
            (Some(id), Ok(own)) if own.id == id => Ok(own),
            (Some(id), Ok(own)) => Ok(Account::foreign(id, own.current_user)),
            (Some(id), Err(error)) if is_denied(&error) => Ok(Account::foreign(id, None)),
            (Some(_), Err(error)) => Err(refused(error)),
        }
    }

    /// The list, and where it is: in the second version of the API or, on servers that do not have it, in
    /// the first.
    async fn tokens(&self, account: i64) -> Result<(String, Vec<Token>), Error> {
        let path = format!("iam/v2/clients/{account}/tokens");
        match self.get(&path).json().await {
            Ok(tokens) => return Ok((path, tokens)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {}
            Err(error) => return Err(refused(error)),
        }
        let path = format!("iam/clients/{account}/tokens");
        match self.get(&path).json().await {
            Ok(tokens) => Ok((path, tokens)),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Err(Error::Rights {
                what: format!("Gcore knows no list of tokens of the account {account}"),
                mend: "correct client_id and url, or leave them out".to_owned(),
            }),
            Err(error) => Err(refused(error)),
        }
    }
}

#[async_trait]
impl Source for Gcore {
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error> {
        let view = self.look().await?;
        let account = view.account.name();
        let mut gathering = Gathering::default();
        for token in &view.tokens {
            gathering.push(&token.listed(&account, view.people.as_ref()))?;
        }
        let admins = |people: People| people.admins(&view.account);
        let listing = Listing {
            admins: view.people.map(admins),
            ..gathering.finish()?
        };
        Ok(listing.unless_known(last))
    }

    async fn check(&self) -> Result<Checked, Error> {
        let view = self.look().await?;
        let people = view.people.as_ref().map_or(0, People::count);
        Ok(Checked {
            summary: format!(
                "Gcore, account {}: {} tokens, {people} users",
                view.account.name(),
                view.tokens.len()
            ),
            rights: view.rights(self.own_id),
        })
    }

    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let unknown = || Error::NoSuchToken(external_id.to_owned());
        let id: i64 = external_id.parse().map_err(|_| unknown())?;
        let own_id = self.own_id.ok_or_else(|| Error::Rights {
            what: "it cannot be told which token is the one by which lapsed sees the source"
                .to_owned(),
            mend: "write token with its number before it, as Gcore shows it: id_secret".to_owned(),
        })?;
        if id == own_id {
            return Err(Error::OwnToken);
        }
        let account = self.account().await.map_err(Error::not_asked)?.id;
        let is_there =
            |tokens: &[Token]| tokens.iter().any(|token| token.id == id && token.lives());
        let listed = self.tokens(account).await;
        let (path, tokens) = listed.map_err(Error::not_asked)?;
        if !is_there(&tokens) {
            return Err(unknown());
        }
        let ordered = self.request(Method::DELETE, &format!("{path}/{id}"));
        let ordered = ordered.done().await;
        // Whatever was said, what counts is whether it is there.
        let (_, tokens) = self.tokens(account).await.map_err(Error::unseen)?;
        if !is_there(&tokens) {
            return Ok(());
        }
        ordered.map_err(refused)?;
        Err(Error::StillThere)
    }

    fn is_own(&self, token: &domain::Token) -> bool {
        let id = token.external_id.parse().ok();
        id.is_some() && id == self.own_id
    }

    fn page_of(&self, _: &str) -> Option<String> {
        Some(TOKEN_PAGE.to_owned())
    }
}

impl View {
    /// Whether the credentials are those of an administrator, where that can be told: by the role of the
    /// own token, or by its user's groups, because no token may do more than its user.
    fn is_admin(&self, own_id: Option<i64>) -> Option<bool> {
        let own = self.own(own_id);
        if let Some(is_admin) = own.and_then(Token::is_admin) {
            return Some(is_admin);
        }
        let user = self.caller(own_id)?;
        match self.people.as_ref()?.find(user) {
            Cell::Value(user) if !user.is_admin() => Some(false),
            _ => None,
        }
    }

    fn own(&self, own_id: Option<i64>) -> Option<&Token> {
        self.tokens.iter().find(|token| Some(token.id) == own_id)
    }

    /// The user who issued the own token.
    fn caller(&self, own_id: Option<i64>) -> Option<i64> {
        let own = self.own(own_id);
        own.and_then(Token::issuer_id).or(self.account.current_user)
    }

    /// Whether the list holds only what the caller's own user has issued.
    fn is_of_one(&self, own_id: Option<i64>) -> bool {
        let caller = self.caller(own_id);
        caller.is_some() && self.tokens.iter().all(|token| token.issuer_id() == caller)
    }

    fn is_narrowed(&self, own_id: Option<i64>) -> bool {
        self.is_admin(own_id) == Some(false) && self.is_of_one(own_id)
    }

    fn rights(&self, own_id: Option<i64>) -> Vec<Right> {
        // Where it can be told that the view is narrow, there is none.
        let is_wide = self.is_admin(own_id).is_some() || !self.is_of_one(own_id);
        let right = |what: &str, is_there: bool, mend: &str| Right {
            what: what.to_owned(),
            missing: (!is_there).then(|| mend.to_owned()),
        };
        vec![
            right("list the tokens of all users", is_wide, WANTED),
            right(
                "list the users, to know administrators and who has left",
                self.people.is_some(),
                WANTED,
            ),
            right(
                "end the tokens of all users",
                self.is_admin(own_id) == Some(true),
                WANTED,
            ),
            right(
                "tell its own token from the others",
                self.own(own_id).is_some(),
                "write token as Gcore shows it, with its number before it: id_secret; \
                 and leave client_id out unless the token is of another account",
            ),
        ]
    }
}

/// Whether it is not for these credentials.
fn is_denied(error: &web::Error) -> bool {
    matches!(
        error.status(),
        Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
    )
}

/// An error, in words that say what to add where the credentials do not do.
fn refused(error: web::Error) -> Error {
    let what = match error.status() {
        Some(StatusCode::UNAUTHORIZED) => "Gcore does not accept the token",
        Some(StatusCode::FORBIDDEN) => "Gcore forbids this to the token",
        _ => return error.into(),
    };
    Error::Rights {
        what: what.to_owned(),
        mend: WANTED.to_owned(),
    }
}
