//! The users of an account at Gcore.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use serde::Deserialize;

use super::responses::{ADMINISTRATORS, Account, Group};
use super::{Gcore, explain_refusal, is_denied};
use crate::domain::Cell;
use crate::sources::{AccountAdmin, Error, cells};
use crate::upstream::pager::{Next, Pager};

/// The number of users per page.
const PAGE_SIZE: usize = 50;

#[derive(Debug, Deserialize)]
pub(super) struct User {
    id: i64,
    email: Option<String>,
    is_active: Option<bool>,
    deleted: Option<bool>,
    sso_auth: Option<bool>,
    auth_types: Option<Vec<String>>,
    groups: Option<Vec<Group>>,
    /// The account, of which a reseller sees several.
    client: Option<serde_json::Number>,
}

/// With a limit, Gcore sends pages; without one, an array.
#[derive(Deserialize)]
#[serde(untagged)]
enum Page {
    All(Vec<User>),
    Some {
        count: Option<usize>,
        results: Vec<User>,
    },
}

impl User {
    pub fn is_admin(&self) -> bool {
        let mut groups = self.groups.iter().flatten();
        groups.any(|group| group.id == Some(ADMINISTRATORS))
    }

    /// Why the user counts as having left; `None` if they have not.
    pub fn leave_reason(&self) -> Option<&'static str> {
        if self.deleted == Some(true) {
            Some("deleted")
        } else if self.is_active == Some(false) {
            Some("inactive")
        } else {
            None
        }
    }

    /// Marks users of single sign-on, because Gcore does not notice when someone loses access there.
    pub fn sign_in_note(&self) -> &'static str {
        let types = self.auth_types.as_deref().unwrap_or_default();
        let by_sso = types.iter().filter(|kind| *kind == "sso").count();
        if by_sso > 0 && by_sso == types.len() {
            " (SSO only)"
        } else if by_sso > 0 || self.sso_auth == Some(true) {
            " (SSO)"
        } else {
            ""
        }
    }

    fn belongs_to(&self, account: &Account) -> bool {
        match &self.client {
            Some(client) => client.as_i64() == Some(account.id),
            None => account.is_own,
        }
    }
}

/// The users by id; `None` if Gcore has no such user.
#[derive(Debug)]
pub(super) struct People(BTreeMap<i64, Option<User>>);

impl People {
    /// All users of the account and the issuers of its tokens; `None` if the credentials may not list users.
    pub async fn fetch(gcore: &Gcore, issuers: BTreeSet<i64>) -> Result<Option<Self>, Error> {
        let Some(mut found) = fetch_users(gcore).await? else {
            return Ok(None);
        };
        for id in issuers {
            if found.contains_key(&id) {
                continue;
            }
            match gcore.get(&format!("iam/users/{id}")).json::<User>().await {
                Ok(user) => drop(found.insert(id, Some(user))),
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                    found.insert(id, None);
                }
                // A user of another account, about whom nothing is known.
                Err(error) if is_denied(&error) => {}
                Err(error) => return Err(explain_refusal(error)),
            }
        }
        Ok(Some(Self(found)))
    }

    pub fn count(&self) -> usize {
        self.0.values().flatten().count()
    }

    /// Empty if Gcore has no such user, absent if nothing is known.
    pub fn find(&self, id: i64) -> Cell<&User> {
        match self.0.get(&id) {
            Some(Some(user)) => Cell::Value(user),
            Some(None) => Cell::Empty,
            None => Cell::Absent,
        }
    }

    pub fn admins(&self, account: &Account) -> Vec<AccountAdmin> {
        let users = self.0.values().flatten();
        let admins = users.filter(|user| user.is_admin() && user.leave_reason().is_none());
        let admins = admins.filter(|user| user.belongs_to(account));
        let addresses: BTreeSet<_> = admins
            .filter_map(|user| cells::address(user.email.as_deref()).into_option())
            .collect();
        let admin = |address| AccountAdmin {
            account: account.name(),
            address,
        };
        addresses.into_iter().map(admin).collect()
    }
}

/// Reads all pages and merges them by id, because pages may shift while they are read.
async fn fetch_users(gcore: &Gcore) -> Result<Option<BTreeMap<i64, Option<User>>>, Error> {
    let mut found = BTreeMap::new();
    let mut pager = Pager::default();
    let limit = PAGE_SIZE.to_string();
    loop {
        let offset = match pager.next() {
            Next::First => 0,
            Next::At(offset) => *offset,
            Next::End => return Ok(Some(found)),
        };
        let request = gcore.get("iam/users").query("limit", &limit);
        let page = request.query("offset", &offset.to_string()).json().await;
        let (users, count) = match page {
            Ok(Page::All(users)) => (users, Some(0)),
            Ok(Page::Some { count, results }) => (results, count),
            Err(error) if is_denied(&error) => return Ok(None),
            Err(error) => return Err(explain_refusal(error)),
        };
        let (read, before) = (offset + users.len(), found.len());
        let is_last = count.map_or(users.is_empty(), |count| read >= count);
        found.extend(users.into_iter().map(|user| (user.id, Some(user))));
        let place = "GET /iam/users";
        if found.len() == before && !is_last {
            let reason = format!("the list ends after {before} users although it should go on");
            return Err(Error::content(place, reason));
        }
        let advanced = pager.advance(found.len() == before, (!is_last).then_some(read));
        advanced.map_err(|endless| Error::content(place, endless.to_string()))?;
    }
}
