//! Okta: the users of an organisation with their status, by its Users API and Groups API.
//!
//! Users are asked for where they are stored first. `search` reads a copy that lags, so it only ever
//! names users who are then read by their id; `q` leaves out deactivated ones and is never used.
//! Sources: <https://developer.okta.com/docs/api/openapi/okta-management/management/tag/User/>, `…/Group/`.

mod api;
mod check;
mod find;
mod groups;
mod key;
mod link;
mod user;

use std::collections::HashSet;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use super::{Asked, Common, Directory, Extent, LookedUp, Pulled, Tell};
use crate::domain::Address;
use crate::sources::{Checked, Error, Fetched};
use api::{Api, is_missing, refused};
use groups::Members;
use user::User;

/// So many people are asked for one by one; more, and everybody is listed.
const FEW: usize = 50;

/// The list of users.
const USERS: &str = "api/v1/users";

/// So many users are on one page (<https://developer.okta.com/docs/api/#pagination>).
const PAGE: usize = 200;

/// How a directory of this kind is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The organisation: `https://acme.okta.com`, without `-admin`.
    pub url: Url,
    /// The id of the service app.
    pub client_id: String,
    /// Its private key: PEM (PKCS #8 or PKCS #1), or a JWK.
    pub private_key: SecretString,
    /// What Okta calls the key; `None` is the `kid` of a JWK.
    pub key_id: Option<String>,
}

impl Config {
    /// The directory.
    ///
    /// # Errors
    /// When the private key is none, or none of a kind that Okta takes.
    pub fn build(&self, common: &Common) -> Result<Okta, Error> {
        Ok(Okta {
            api: Api::new(self, common)?,
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

/// The users of an organisation at Okta.
#[derive(Debug)]
pub struct Okta {
    api: Api,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for Okta {
    async fn pull(&self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error> {
        let members = groups::members(&self.api, &self.allowed_groups).await?;
        let mut telling = Telling {
            members: &members,
            told: HashSet::new(),
            tell,
        };
        let is_few = asked.people.len() <= FEW;
        let extent = if is_few && self.ask_for(asked.people, &mut telling).await? {
            Extent::Asked
        } else {
            self.list(&mut telling).await?;
            if is_few {
                self.ask_by_login(asked.people, &mut telling).await?;
            }
            Extent::Everybody
        };
        if telling.told.is_empty() && !asked.people.is_empty() {
            self.can_see_users().await?;
        }
        Ok(Fetched::New(Pulled {
            extent,
            groups: members.groups,
            ..Pulled::default()
        }))
    }

    async fn look_up(&self, id: &str) -> Result<LookedUp, Error> {
        let found = match find::by_id(&self.api, id).await {
            Ok(found) => found,
            Err(error) if error.status() == Some(reqwest::StatusCode::FORBIDDEN) => {
                let said = "Okta does not let the app read this user";
                return Ok(LookedUp::Unclear(said.to_owned()));
            }
            Err(error) if is_missing(&error) => {
                return Ok(LookedUp::Gone {
                    evidence: format!("404 ({}) for its id", api::NOT_FOUND),
                    is_certain: false,
                });
            }
            Err(error) => return Err(refused(error)),
        };
        // A sign-in name in the place of an id would be found as well.
        if found.id != id {
            let said = "Okta answered with another user";
            return Ok(LookedUp::Unclear(said.to_owned()));
        }
        Ok(LookedUp::Found(Box::new(found.account(None))))
    }

    async fn check(&self) -> Result<Checked, Error> {
        check::check(&self.api, &self.allowed_groups).await
    }
}

impl Okta {
    /// These people, one by one; whether Okta can be asked so. Where it cannot, some may have been told of.
    async fn ask_for(
        &self,
        people: &[Address],
        telling: &mut Telling<'_, '_, '_>,
    ) -> Result<bool, Error> {
        for address in people {
            let Some(found) = find::by_address(&self.api, address).await? else {
                return Ok(false);
            };
            for user in found {
                telling.add(user);
            }
        }
        Ok(true)
    }

    /// Deactivated users among few: where no filter is taken, they were not listed.
    async fn ask_by_login(
        &self,
        people: &[Address],
        telling: &mut Telling<'_, '_, '_>,
    ) -> Result<(), Error> {
        // Okta cannot take a sign-in name with a slash apart.
        let people = people.iter().filter(|it| !it.as_str().contains('/'));
        for address in people {
            if let Some(user) = find::by_login_alone(&self.api, address).await? {
                telling.add(user);
            }
        }
        Ok(())
    }

    /// Everybody. The plain list leaves out deactivated users; a filter lists them, and both are of the
    /// primary store. Who is deactivated between the two is told of as he was before, and next time as he is.
    /// Where the filter is refused, deactivated users are absent, and their state is seen by their ids.
    async fn list(&self, telling: &mut Telling<'_, '_, '_>) -> Result<(), Error> {
        let deactivated = ("filter", "status eq \"DEPROVISIONED\"".to_owned());
        for query in [vec![], vec![deactivated]] {
            let mut pages = self.api.list(USERS, query);
            loop {
                match pages.next::<User>().await {
                    Ok(Some(page)) => page.into_iter().for_each(|user| telling.add(user)),
                    Ok(None) => break,
                    Err(error) if pages.is_refused(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// An app without a role for them sees an empty list of users, with 200. Every organisation has one.
    async fn can_see_users(&self) -> Result<(), Error> {
        let page = self.api.first::<User>(USERS).await.map_err(refused)?;
        if page.is_empty() {
            return Err(check::lacks_role("see any user"));
        }
        Ok(())
    }
}

/// People on their way out, each once.
struct Telling<'m, 't, 'f> {
    members: &'m Members,
    told: HashSet<String>,
    tell: &'t mut Tell<'f>,
}

impl Telling<'_, '_, '_> {
    fn add(&mut self, user: User) {
        let is_member = self.members.has(&user.id);
        if self.told.insert(user.id.clone())
            && let Some(person) = user.person(is_member)
        {
            (self.tell)(person);
        }
    }
}
