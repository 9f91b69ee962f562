//! The responses of Gcore: the account, its tokens and its users.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::domain::{Cell, Expiry, ListedToken, Status};
use crate::sources::{AccountAdmin, cells};
use crate::time;

/// The group of administrators, and the role of the same name.
const ADMINISTRATORS: i64 = 1;

#[derive(Debug, Deserialize)]
pub(super) struct Account {
    pub id: i64,
    #[serde(rename = "companyName")]
    company_name: Option<String>,
    name: Option<String>,
    /// The user of the credentials.
    #[serde(rename = "currentUser")]
    pub current_user: Option<i64>,
    /// Whether the token belongs to another account.
    #[serde(skip)]
    is_foreign: bool,
}

impl Account {
    /// An account other than that of the token.
    pub fn foreign(id: i64, current_user: Option<i64>) -> Self {
        Self {
            id,
            company_name: None,
            name: None,
            current_user,
            is_foreign: true,
        }
    }

    /// The company, otherwise the person who registered it, otherwise the id.
    pub fn name(&self) -> String {
        [&self.company_name, &self.name]
            .into_iter()
            .find_map(|name| cells::text(name.as_deref()).into_option())
            .unwrap_or(self.id.to_string())
    }
}

/// Gcore shows the secret only when the token is created, never in a list.
#[derive(Debug, Deserialize)]
pub(super) struct Token {
    pub id: i64,
    name: Option<String>,
    description: Option<String>,
    /// Null if it never expires.
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    exp_date: Cell<String>,
    expired: Option<bool>,
    deleted: Option<bool>,
    created: Option<String>,
    /// Null, empty or missing if the token was never used.
    last_usage: Option<String>,
    client_user: Option<ClientUser>,
}

/// The issuer and the role of a token. A field `deleted` in here says nothing about the user.
#[derive(Debug, Deserialize)]
struct ClientUser {
    role: Option<Group>,
    user_id: Option<i64>,
    user_name: Option<String>,
    user_email: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Group {
    id: Option<i64>,
    name: Option<String>,
}

impl Token {
    pub fn issuer_id(&self) -> Option<i64> {
        self.client_user.as_ref()?.user_id
    }

    pub fn is_admin(&self) -> Option<bool> {
        let role = self.client_user.as_ref()?.role.as_ref()?;
        Some(role.id? == ADMINISTRATORS)
    }

    pub fn is_live(&self) -> bool {
        self.deleted != Some(true)
    }

    pub fn to_listed(&self, account: &str, people: Option<&People>) -> ListedToken {
        let issuer = self.client_user.as_ref();
        let user = match (self.issuer_id(), people) {
            (Some(id), Some(people)) => people.find(id),
            _ => Cell::Absent,
        };
        let address = cells::address(issuer.and_then(|issuer| issuer.user_email.as_deref()));
        let mut name = cells::text(issuer.and_then(|issuer| issuer.user_name.as_deref()));
        if let (Cell::Value(name), Cell::Value(_), Cell::Value(user)) = (&mut name, &address, &user)
        {
            // Only if there is an address: otherwise an owners file may refer to the name.
            name.push_str(user.sign_in_note());
        }
        let role = issuer.and_then(|issuer| issuer.role.as_ref()?.name.as_deref());
        let expiry = self.expiry();
        ListedToken {
            name: cells::text(self.name.as_deref()),
            description: cells::text(self.description.as_deref()),
            issuer: address,
            issuer_name: name,
            issuer_id: self.issuer_id().map(|id| id.to_string()),
            issuer_gone: issuer_gone(self.issuer_id().unwrap_or_default(), &user),
            account: Cell::Value(account.to_owned()),
            role: cells::text(role),
            created_at: cells::instant_cell(self.created.as_deref()),
            last_used_at: cells::instant_cell(self.last_usage.as_deref()),
            status: Cell::Value(self.status(expiry)),
            expiry: Cell::Value(expiry),
            ..ListedToken::with_id(self.id.to_string())
        }
    }

    fn expiry(&self) -> Expiry {
        match &self.exp_date {
            Cell::Empty => Expiry::Never,
            Cell::Value(text) => {
                time::parse_system_instant(text).map_or(Expiry::Unknown, Expiry::At)
            }
            Cell::Absent => Expiry::Unknown,
        }
    }

    /// Gcore deletes expired tokens itself, so an expired token is not revoked.
    fn status(&self, expiry: Expiry) -> Status {
        let is_expired = self.expired == Some(true);
        match (is_expired, expiry) {
            (true, Expiry::At(_)) => Status::Active,
            (true, Expiry::Never | Expiry::Unknown) => Status::Disabled,
            (false, _) if self.is_live() => Status::Active,
            (false, _) => Status::Revoked,
        }
    }
}

fn issuer_gone(id: i64, user: &Cell<&User>) -> Cell<String> {
    match user {
        Cell::Absent => Cell::Absent,
        Cell::Empty => Cell::Value(format!("Gcore has no user {id}")),
        Cell::Value(user) => match user.leave_reason() {
            Some(reason) => {
                let note = user.sign_in_note();
                Cell::Value(format!("Gcore lists the user {id}{note} as {reason}"))
            }
            None => Cell::Empty,
        },
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub id: i64,
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
pub(super) enum UserPage {
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
            None => !account.is_foreign,
        }
    }
}

/// The users by id; `None` if Gcore has no such user.
#[derive(Debug)]
pub(super) struct People(pub BTreeMap<i64, Option<User>>);

impl People {
    pub fn count(&self) -> usize {
        self.0.values().flatten().count()
    }

    /// The user; empty if Gcore has no such user, absent if nothing is known.
    pub fn find(&self, id: i64) -> Cell<&User> {
        match self.0.get(&id) {
            Some(Some(user)) => Cell::Value(user),
            Some(None) => Cell::Empty,
            None => Cell::Absent,
        }
    }

    pub fn admins(&self, account: &Account) -> Vec<AccountAdmin> {
        let mut addresses = BTreeSet::new();
        for user in self.0.values().flatten() {
            if user.is_admin() && user.leave_reason().is_none() && user.belongs_to(account) {
                addresses.extend(cells::address(user.email.as_deref()).into_option());
            }
        }
        let account = account.name();
        let admin = |address| AccountAdmin {
            account: account.clone(),
            address,
        };
        addresses.into_iter().map(admin).collect()
    }
}
