//! Okta: the users of an organisation with their status, by the Users API and the Groups API.
//!
//! Users are read from the primary store. `search` reads an index that lags, so users found by it are read
//! again by id; `q` leaves out deactivated users and is never used.
//! References: <https://developer.okta.com/docs/api/openapi/okta-management/management/tag/User/>, `…/Group/`.

mod check;
mod find;
mod groups;
mod link;
mod session;
mod user;

use async_trait::async_trait;
use secrecy::SecretString;
use url::Url;

use super::collector::PersonCollector;
use super::{Common, Directory, Extent, Lookup, PeopleListing, PeopleQuery, PersonSink};
use crate::domain::Address;
use crate::sources::{CheckReport, Error, Fetched};
use session::{Session, explain_refusal, is_not_found};
use user::User;

/// For up to this many people there is one query each; for more, all users are listed.
const MAX_ADDRESS_QUERIES: usize = 50;

const USERS: &str = "api/v1/users";

/// The largest page of users (<https://developer.okta.com/docs/api/#pagination>).
const PAGE_SIZE: usize = 200;

/// `[[directory]] kind = "okta"`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The organisation: `https://acme.okta.com`, without `-admin`.
    pub url: Url,
    /// The id of the service app.
    pub client_id: String,
    /// Its private key: PEM (PKCS #8 or PKCS #1), or a JWK.
    pub private_key: SecretString,
    /// Okta's id of the key; `None` means the `kid` of a JWK.
    pub key_id: Option<String>,
}

impl Config {
    /// # Errors
    /// When the private key cannot be read, or is of a kind that Okta does not accept.
    pub fn build(&self, common: &Common) -> Result<Okta, Error> {
        Ok(Okta {
            session: Session::new(self, common)?,
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

/// The users of an organisation at Okta.
#[derive(Debug)]
pub struct Okta {
    session: Session,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for Okta {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let allowed_groups = groups::fetch(&self.session, &self.allowed_groups).await?;
        let mut collector = PersonCollector::new(&allowed_groups, sink);
        let is_few = query.people.len() <= MAX_ADDRESS_QUERIES;
        let extent = if is_few
            && self
                .collect_by_address(query.people, &mut collector)
                .await?
        {
            Extent::Requested
        } else {
            self.collect_all(&mut collector).await?;
            if is_few {
                self.collect_by_login(query.people, &mut collector).await?;
            }
            Extent::Everybody
        };
        if collector.count() == 0 && !query.people.is_empty() {
            self.ensure_can_view_users().await?;
        }
        Ok(Fetched::New(PeopleListing {
            extent,
            groups: allowed_groups.groups,
            ..PeopleListing::default()
        }))
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        let found = match find::fetch_by_id(&self.session, id).await {
            Ok(found) => found,
            Err(error) if error.status() == Some(reqwest::StatusCode::FORBIDDEN) => {
                let reason = "Okta does not let the app read this user";
                return Ok(Lookup::Unclear(reason.to_owned()));
            }
            Err(error) if is_not_found(&error) => {
                return Ok(Lookup::Gone {
                    evidence: format!("404 ({}) for its id", session::NOT_FOUND),
                    is_certain: false,
                });
            }
            Err(error) => return Err(explain_refusal(error)),
        };
        // Okta also finds users by a sign-in name in place of an id.
        if found.id != id {
            let reason = "Okta returned another user";
            return Ok(Lookup::Unclear(reason.to_owned()));
        }
        Ok(Lookup::Found(Box::new(found.into_person())))
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        check::check(&self.session, &self.allowed_groups).await
    }
}

impl Okta {
    /// Looks up each person by address. Returns `false` if Okta does not support such queries; some people may
    /// have been collected by then.
    async fn collect_by_address(
        &self,
        people: &[Address],
        collector: &mut PersonCollector<'_, '_>,
    ) -> Result<bool, Error> {
        for address in people {
            let Some(found) = find::find_by_address(&self.session, address).await? else {
                return Ok(false);
            };
            for user in found {
                collector.add(user.into_person());
            }
        }
        Ok(true)
    }

    /// Looks up each person by sign-in name, because without filters the list lacks deactivated users.
    async fn collect_by_login(
        &self,
        people: &[Address],
        collector: &mut PersonCollector<'_, '_>,
    ) -> Result<(), Error> {
        // Okta cannot parse a sign-in name with a slash in a path.
        for address in people
            .iter()
            .filter(|address| !address.as_str().contains('/'))
        {
            if let Some(user) = find::find_by_login(&self.session, address).await? {
                collector.add(user.into_person());
            }
        }
        Ok(())
    }

    /// Lists all users. The plain list leaves out deactivated users; a filter lists them. Both read the
    /// primary store. A user who is deactivated between the two requests is reported as active until the next
    /// listing. If the filter is refused, deactivated users are missing here and looked up by id.
    async fn collect_all(&self, collector: &mut PersonCollector<'_, '_>) -> Result<(), Error> {
        let deactivated = ("filter", "status eq \"DEPROVISIONED\"".to_owned());
        for query in [vec![], vec![deactivated]] {
            let mut pager = self.session.pager(USERS, query);
            loop {
                match pager.next_page::<User>().await {
                    Ok(Some(page)) => page
                        .into_iter()
                        .for_each(|user| collector.add(user.into_person())),
                    Ok(None) => break,
                    Err(error) if pager.is_query_refused(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// An app without an admin role gets 200 with an empty list, but every organisation has users.
    async fn ensure_can_view_users(&self) -> Result<(), Error> {
        let page = self
            .session
            .fetch_first::<User>(USERS)
            .await
            .map_err(explain_refusal)?;
        if page.is_empty() {
            return Err(check::missing_role("see any user"));
        }
        Ok(())
    }
}
