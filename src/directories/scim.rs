//! The directory `scim`: an identity provider that tells of its people by SCIM 2.0 (RFC 7643, RFC 7644,
//! RFC 9865 for pages by cursor). lapsed only reads.

mod api;
mod check;
mod groups;
mod pages;
mod person;
mod shapes;

use std::path::PathBuf;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::SecretString;
use url::Url;

use super::{Asked, Common, Directory, Extent, LookedUp, Pulled, Tell};
use crate::domain::Address;
use crate::sources::{Checked, Error, Fetched};
use crate::web::Web;
use api::{Api, Provider, equals, refused, resource};
use groups::Allowed;
use pages::{Pages, Query};
use shapes::{Flag, User};

const USERS: &str = "Users";

/// What is read of a user.
const FIELDS: &str = "id,userName,active,emails,displayName,name";

/// The same, where only users tell of their groups.
const FIELDS_AND_GROUPS: &str = "id,userName,active,emails,displayName,name,groups";

/// The most people who are asked for one by one.
const FEW: usize = 50;

/// `[[directory]] kind = "scim"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// What `/Users` is below, as far as its version: `https://idp.example.org/scim/v2`.
    pub url: Url,
    /// A bearer token that may read.
    pub token: SecretString,
    /// A private authority's certificates, PEM.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// The directory.
    ///
    /// # Errors
    /// When the CA file cannot be read, or the token holds what no header can.
    pub fn build(&self, common: &Common) -> Result<Scim, Error> {
        let web = Web::new(&self.url, self.ca_file.as_deref(), common.timeout)?;
        Ok(Scim {
            api: Api::new(web, &self.url, &self.token)?,
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

/// The people of a SCIM server.
#[derive(Debug)]
pub struct Scim {
    api: Api,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for Scim {
    async fn pull(&self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error> {
        let provider = self.api.provider().await?;
        let mut allowed = Allowed::read(&self.api, provider, &self.allowed_groups).await?;
        let few = self.few(provider, &mut allowed, asked.people).await?;
        let extent = if let Some(users) = few {
            tell_all(&users, &mut allowed, tell);
            Extent::Asked
        } else {
            self.everybody(provider, &mut allowed, tell).await?;
            Extent::Everybody
        };
        Ok(Fetched::New(Pulled {
            extent,
            groups: allowed.finish()?,
            ..Pulled::default()
        }))
    }

    async fn look_up(&self, id: &str) -> Result<LookedUp, Error> {
        let unclear = |why: &str| Ok(LookedUp::Unclear(why.to_owned()));
        match self.api.one::<User>(USERS, id).await {
            Ok(user) if user.id != id => {
                let path = resource(USERS, id);
                Err(self
                    .api
                    .unsound(&path, "it told of another user than was asked for"))
            }
            Ok(user) => Ok(LookedUp::Found(Box::new(user.account(None)))),
            Err(error) => match error.status() {
                Some(StatusCode::NOT_FOUND) => Ok(LookedUp::Gone {
                    evidence: "404 for its id".to_owned(),
                    is_certain: false,
                }),
                // Microsoft's own SCIM API says so of ids that it does not know, and of bad questions.
                Some(StatusCode::BAD_REQUEST) => unclear("400 for its id"),
                Some(StatusCode::FORBIDDEN) => unclear("403 for its id"),
                _ => Err(refused(error, USERS)),
            },
        }
    }

    async fn check(&self) -> Result<Checked, Error> {
        check::check(&self.api, &self.allowed_groups).await
    }
}

impl Scim {
    /// Those asked for, each by a filter; `None` where the whole list has to be read, because they are too
    /// many, or filters do not do here.
    async fn few(
        &self,
        provider: Provider,
        allowed: &mut Allowed,
        people: &[Address],
    ) -> Result<Option<Vec<User>>, Error> {
        let is_few = (1..=FEW).contains(&people.len());
        if !is_few || !provider.has_filter || matches!(allowed, Allowed::Told(_)) {
            return Ok(None);
        }
        let mut users: Vec<User> = Vec::new();
        for address in people {
            let Some(found) = self.find(provider, address).await? else {
                return Ok(None);
            };
            for user in found {
                if users.iter().all(|known| known.id != user.id) {
                    users.push(user);
                }
            }
        }
        if users.is_empty() {
            // A filter that finds nobody at all proves less than a list without them.
            return Ok(None);
        }
        let is_silent = users.iter().any(|user| user.active == Flag::Untold);
        for user in &users {
            allowed.enrol(user);
        }
        Ok((!is_silent && !allowed.is_in_doubt()).then_some(users))
    }

    /// Whoever has this address, by what they sign in with or else by a mailbox; `None` where filters do
    /// not do.
    async fn find(
        &self,
        provider: Provider,
        address: &Address,
    ) -> Result<Option<Vec<User>>, Error> {
        let name = address.as_str();
        let signs_in = |user: &User| {
            let is_same = |it: &String| it.eq_ignore_ascii_case(name);
            user.sign_in.as_ref().is_some_and(is_same)
        };
        let by_name = self
            .filtered(provider, equals("userName", name), signs_in)
            .await?;
        if by_name.as_ref().is_some_and(Vec::is_empty) {
            let has = |user: &User| user.addresses().contains(address);
            return self
                .filtered(provider, equals("emails.value", name), has)
                .await;
        }
        Ok(by_name)
    }

    /// The users that a filter lets through; `None` where the server does not know the filter or, as some
    /// do, ignores it and answers with others.
    async fn filtered(
        &self,
        provider: Provider,
        filter: String,
        is_meant: impl Fn(&User) -> bool,
    ) -> Result<Option<Vec<User>>, Error> {
        let query = Query {
            path: USERS,
            attributes: Some(FIELDS),
            filter: Some(filter),
        };
        let mut pages = Pages::new(&self.api, provider, query);
        let mut users = Vec::new();
        loop {
            match pages.next::<User>().await {
                Ok(None) => return Ok(Some(users)),
                Ok(Some(page)) if page.iter().all(&is_meant) => users.extend(page),
                Ok(Some(_)) => return Ok(None),
                Err(fault) if fault.is_of_the_question() => return Ok(None),
                Err(fault) => return Err(fault.into_error(USERS)),
            }
        }
    }

    /// The whole list.
    async fn everybody(
        &self,
        provider: Provider,
        allowed: &mut Allowed,
        tell: &mut Tell<'_>,
    ) -> Result<(), Error> {
        let failed = |fault: pages::Fault| fault.into_error(USERS);
        let mut pages = users(&self.api, provider, matches!(allowed, Allowed::Told(_)));
        let mut page = pages.next::<User>().await.map_err(failed)?;
        let is_silent = |users: &Vec<User>| users.iter().all(|user| user.active == Flag::Untold);
        if pages.is_partial() && page.as_ref().is_some_and(is_silent) {
            // It may not know how to be asked for some fields alone.
            pages = Pages::new(&self.api, provider, everything());
            page = pages.next().await.map_err(failed)?;
        }
        while let Some(users) = page {
            tell_all(&users, allowed, tell);
            page = pages.next().await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The list of users.
fn users(api: &Api, provider: Provider, with_groups: bool) -> Pages<'_> {
    let fields = if with_groups {
        FIELDS_AND_GROUPS
    } else {
        FIELDS
    };
    let query = Query {
        attributes: Some(fields),
        ..everything()
    };
    Pages::new(api, provider, query)
}

fn everything() -> Query {
    Query {
        path: USERS,
        attributes: None,
        filter: None,
    }
}

fn tell_all(users: &[User], allowed: &mut Allowed, tell: &mut Tell<'_>) {
    for user in users {
        let is_member = allowed.enrol(user);
        if let Some(person) = user.person(is_member) {
            tell(person);
        }
    }
}
