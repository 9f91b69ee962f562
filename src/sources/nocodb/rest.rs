//! The list by NocoDB's REST interface, as the signed-in user sees it.

use std::collections::{HashMap, HashSet};

use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use super::Login;
use super::rows::{About, Identified, Me, Page, Token, User};
use super::session::Session;
use crate::sources::gather::Gathering;
use crate::sources::{Error, Listing};
use crate::web::Web;

/// Rows in a page. Without a limit NocoDB shows ten, and its pages are in no order, so that one that
/// holds all is best.
const LIMIT: usize = 10_000;

/// Where NocoDB's tokens are.
const TOKENS: &str = "api/v1/tokens";

/// How to see everything.
pub(super) const SUPER_ADMIN: &str =
    "give lapsed a super admin of NocoDB, or let `database` name NocoDB's own database";

/// NocoDB as a signed-in user sees it.
#[derive(Debug)]
pub(super) struct Rest {
    session: Session,
}

/// All tokens, and what is needed to understand them.
pub(super) struct View {
    pub tokens: Vec<Token>,
    /// `None` where NocoDB does not list them all.
    pub users: Option<HashMap<String, User>>,
    pub about: About,
    /// The signed-in user; `None` where NocoDB does not tell that he is a super admin.
    pub me: Option<String>,
}

/// The rows of all pages.
struct Rows<T> {
    /// Each id once.
    unique: Vec<T>,
    /// How many came.
    read: usize,
    pages: usize,
    /// How many NocoDB says there are.
    total: usize,
}

impl<T> Rows<T> {
    /// Whether rows may have slipped from one page to another that was read before.
    fn have_moved(&self) -> bool {
        self.pages > 1 && self.unique.len() < self.total
    }
}

impl Rest {
    pub fn new(web: Web, login: Login) -> Self {
        Self {
            session: Session::new(web, login),
        }
    }

    /// Every token, or an error: a view of one's own tokens alone is none.
    pub async fn view(&self) -> Result<View, Error> {
        let me = self.super_admin().await?;
        let tokens = self.rows::<Token>(TOKENS).await?;
        if tokens.read < tokens.total {
            let Rows { read, total, .. } = tokens;
            return Err(narrowed(&format!(
                "it shows {read} of {total}; {SUPER_ADMIN}"
            )));
        }
        if tokens.have_moved() {
            return Err(Error::Content {
                place: "the list of tokens".to_owned(),
                reason: "it changed from page to page; the next sync reads it again".to_owned(),
            });
        }
        // After the tokens: whoever made one of them is there, if he is there at all.
        let users = optional(self.rows::<User>("api/v1/users").await)?;
        let users = users.filter(|users| users.read >= users.total && !users.have_moved());
        let view = View {
            tokens: tokens.unique,
            users: users.map(|users| by_id(users.unique)),
            about: self.about().await?,
            me,
        };
        if view.is_narrowed() {
            return Err(narrowed(
                "the enterprise edition shows nobody the tokens of others; \
                 let `database` name NocoDB's own database",
            ));
        }
        Ok(view)
    }

    /// The id of the signed-in user, where NocoDB tells that he is a super admin. He who is none sees his
    /// own tokens alone.
    pub async fn super_admin(&self) -> Result<Option<String>, Error> {
        let mut me = self.me().await?;
        if me.as_ref().is_some_and(Me::is_stranger) {
            // A session that has ended is no error here: NocoDB takes who brings it for a guest.
            self.session.forget();
            me = self.me().await?;
        }
        match me.and_then(|me| Some((me.is_super_admin()?, me.id?))) {
            Some((false, _)) => Err(narrowed(SUPER_ADMIN)),
            Some((true, id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }

    async fn me(&self) -> Result<Option<Me>, Error> {
        optional(self.session.get("api/v1/auth/user/me", &[]).await)
    }

    /// Orders the end of a token.
    pub async fn end(&self, id: &str) -> Result<(), Error> {
        self.session.delete(&format!("{TOKENS}/{id}")).await
    }

    /// Makes NocoDB forget what it remembers of tokens. Versions up to the spring of 2026 accept a deleted
    /// one from their cache for days, because they look for it there by another key.
    pub async fn empty_cache(&self) -> Result<(), Error> {
        let emptied = optional(self.session.delete("api/v1/db/meta/cache").await);
        emptied.map(drop).map_err(|error| Error::Rights {
            what: format!("the token is deleted, but NocoDB may remember and accept it; {error}"),
            mend: "restart NocoDB".to_owned(),
        })
    }

    /// What NocoDB says of itself.
    pub async fn about(&self) -> Result<About, Error> {
        let about = self.session.get("api/v1/db/meta/nocodb/info", &[]).await;
        Ok(optional(about)?.unwrap_or_default())
    }

    /// All rows of a list. They are counted by themselves: of what a page says of itself only the count of
    /// all rows is right, and an offset that is not below it is an error.
    async fn rows<T: DeserializeOwned + Identified>(&self, path: &str) -> Result<Rows<T>, Error> {
        let limit = LIMIT.to_string();
        let mut ids = HashSet::new();
        let mut found = Rows {
            unique: Vec::new(),
            read: 0,
            pages: 0,
            total: 0,
        };
        loop {
            let offset = found.read.to_string();
            let query = [("limit", limit.as_str()), ("offset", offset.as_str())];
            let page: Page<T> = self.session.get(path, &query).await?;
            let (count, known) = (page.list.len(), ids.len());
            found.pages += 1;
            found.read += count;
            found.total = page.total().unwrap_or(found.total);
            let is_told = page.total().is_some();
            let new = page.list.into_iter().filter(|row| ids.insert(row.id()));
            found.unique.extend(new);
            let is_last = is_told && found.read >= found.total;
            if is_last || count == 0 || ids.len() == known {
                return Ok(found);
            }
        }
    }
}

impl View {
    /// Whether the tokens of others are hidden, as in the enterprise edition: it has other users, and
    /// none of them has a token.
    fn is_narrowed(&self) -> bool {
        let (Some(me), Some(users)) = (&self.me, &self.users) else {
            return false;
        };
        let has_others = users.len() > 1;
        let is_foreign = |token: &Token| token.user_id().is_some_and(|id| id != me);
        self.about.ee == Some(true) && has_others && !self.tokens.iter().any(is_foreign)
    }

    pub fn has(&self, id: &str) -> bool {
        self.tokens.iter().any(|token| token.id() == id)
    }

    /// As a listing.
    pub fn listing(&self) -> Result<Listing, Error> {
        let mut gathering = Gathering::default();
        for token in &self.tokens {
            let users = self.users.as_ref();
            let user = users.and_then(|users| users.get(token.user_id()?));
            gathering.push(&token.listed(user, users.is_some()))?;
        }
        Ok(Listing {
            longest_life: self.about.longest_life(),
            ..gathering.finish()?
        })
    }
}

fn by_id(users: Vec<User>) -> HashMap<String, User> {
    let pair = |user: User| (user.id.clone(), user);
    users.into_iter().map(pair).collect()
}

fn narrowed(mend: &str) -> Error {
    Error::Narrowed {
        mend: mend.to_owned(),
    }
}

/// What a version or an edition may lack, or keep to itself.
fn optional<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    const LACKS: [StatusCode; 2] = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Web(error)) if error.status().is_some_and(|it| LACKS.contains(&it)) => Ok(None),
        Err(error) => Err(error),
    }
}
