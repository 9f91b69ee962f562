//! Okta: the users of an organisation with their status, by the Users API and the Groups API.
//!
//! Users are read from the primary store. The index of `search` lags, so users that it finds are read again by
//! id. `q` is not used, because it leaves out deactivated users.
//! References: <https://developer.okta.com/docs/api/openapi/okta-management/management/tag/User/>, `…/Group/`.

mod api;
mod groups;
mod users;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::account::PersonCollector;
use super::assertion::Signer;
use super::json::{Records, without_id_note};
use super::{
    Common, Directory, Extent, Lookup, MAX_ADDRESS_QUERIES, PeopleListing, PeopleQuery, PersonSink,
};
use crate::domain::Address;
use crate::upstream::http::Client;
use crate::upstream::{CheckReport, Error, Fetched, Right};
use api::{
    Api, App, GROUPS_SCOPE, NOT_FOUND, TOKEN_PATH, USERS_SCOPE, explain_refusal, is_not_found,
    missing_role,
};
#[cfg(test)]
pub(super) use users::read_people;
use users::{USERS, User};

#[derive(Debug, Clone)]
pub struct Config {
    /// The organisation: `https://acme.okta.com`, without `-admin`.
    pub url: Url,
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
        let (signer, key_id) = Signer::parse("private_key", self.private_key.expose_secret())?;
        let base = self.url.as_str().trim_end_matches('/');
        let mut scopes = vec![USERS_SCOPE];
        scopes.extend((!common.allowed_groups.is_empty()).then_some(GROUPS_SCOPE));
        let app = App {
            web: Client::new(&self.url, None, common.timeout, &common.proxies)?,
            client_id: self.client_id.clone(),
            signer,
            key_id: self.key_id.clone().or(key_id),
            audience: format!("{base}/{TOKEN_PATH}"),
            scopes,
            clock: common.clock.clone(),
        };
        Ok(Okta {
            api: Api::new(app),
            allowed_groups: common.allowed_groups.clone(),
        })
    }
}

#[derive(Debug)]
pub struct Okta {
    api: Api,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for Okta {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let listing = self.list_users(query.people, sink).await;
        listing.map(Fetched::New).map_err(explain_refusal)
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        match users::fetch_by_id(&self.api, id).await {
            Ok(user) if user.id == id => Ok(Lookup::found(user.into_person())),
            // Okta also finds users by a sign-in name in place of an id.
            Ok(_) => Ok(Lookup::unclear("Okta returned another user")),
            Err(error)
                if error.status() == Some(StatusCode::FORBIDDEN)
                    || matches!(error, Error::Rights { .. }) =>
            {
                Ok(Lookup::unclear("Okta does not let the app read this user"))
            }
            Err(error) if is_not_found(&error) => {
                Ok(Lookup::gone(format!("404 ({NOT_FOUND}) for its id")))
            }
            Err(error) => Err(explain_refusal(error)),
        }
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        self.check_rights().await.map_err(explain_refusal)
    }
}

impl Okta {
    async fn list_users(
        &self,
        people: &[Address],
        sink: &mut PersonSink<'_>,
    ) -> Result<PeopleListing, Error> {
        let allowed_groups = groups::fetch(&self.api, &self.allowed_groups).await?;
        let mut collector = PersonCollector::new(&allowed_groups, sink);
        let is_few = people.len() <= MAX_ADDRESS_QUERIES;
        let extent = if is_few && self.collect_by_address(people, &mut collector).await? {
            Extent::Requested
        } else {
            self.collect_all(&mut collector).await?;
            if is_few {
                self.collect_by_login(people, &mut collector).await?;
            }
            Extent::Everybody
        };
        if collector.count() == 0 && !people.is_empty() {
            self.ensure_can_view_users().await?;
        }
        Ok(PeopleListing {
            extent,
            gaps: without_id_note(collector.without_id),
            groups: allowed_groups.groups,
            ..PeopleListing::default()
        })
    }

    /// Looks up each person by address. Returns `false` if Okta does not support such queries; some people may
    /// have been collected by then.
    async fn collect_by_address(
        &self,
        people: &[Address],
        collector: &mut PersonCollector<'_, '_>,
    ) -> Result<bool, Error> {
        for address in people {
            let Some(found) = users::find_by_address(&self.api, address).await? else {
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
        for address in people {
            if let Some(user) = users::find_by_login(&self.api, address).await? {
                collector.add(user.into_person());
            }
        }
        Ok(())
    }

    /// Lists all users. The plain list leaves out deactivated users; a filter lists them. Both read the
    /// primary store. A user who is deactivated between the two requests is reported as active until the next
    /// listing. If the filter is refused, deactivated users are missing here and looked up by id.
    async fn collect_all(&self, collector: &mut PersonCollector<'_, '_>) -> Result<(), Error> {
        let deactivated = ("filter", "status eq \"DEPROVISIONED\"");
        for query in [&[][..], &[deactivated]] {
            let add_users = |page: Records<User>| {
                collector.without_id += page.without_id;
                for user in page.items {
                    collector.add(user.into_person());
                }
                true
            };
            self.api.for_each_page(USERS, query, add_users).await?;
        }
        Ok(())
    }

    /// An app without an admin role gets 200 with an empty list, but every organisation has users.
    async fn ensure_can_view_users(&self) -> Result<(), Error> {
        let page: Records<User> = self.api.fetch_first(USERS).await?;
        if page.count() == 0 {
            return Err(missing_role("see any user"));
        }
        Ok(())
    }

    async fn check_rights(&self) -> Result<CheckReport, Error> {
        self.api.ensure_scopes().await?;
        self.ensure_can_view_users().await?;
        for name in &self.allowed_groups {
            groups::find_group(&self.api, name).await?;
        }
        let mut report = CheckReport::from("Okta: users can be read".to_owned());
        report.rights = vec![Right::granted("read users, including deactivated ones")];
        let count = self.allowed_groups.len();
        if count > 0 {
            let plural = if count == 1 { "" } else { "s" };
            report.summary += &format!(", {count} allowed group{plural} found");
            let what = "read the allowed groups and their members";
            report.rights.push(Right::granted(what));
        }
        Ok(report)
    }
}
