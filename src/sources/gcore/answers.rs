//! What Gcore answers, and what it means.

use serde::Deserialize;

use super::people::{People, User};
use crate::domain::{Cell, Expiry, Listed, Status};
use crate::sources::cells;

/// The group of administrators, and the role of the same name.
pub(super) const ADMINISTRATORS: i64 = 1;

/// An account.
#[derive(Debug, Deserialize)]
pub(super) struct Account {
    pub id: i64,
    #[serde(rename = "companyName")]
    company_name: Option<String>,
    name: Option<String>,
    /// Who asks.
    #[serde(rename = "currentUser")]
    pub current_user: Option<i64>,
    /// Whether it is the token's own.
    #[serde(skip, default = "yes")]
    pub is_own: bool,
}

fn yes() -> bool {
    true
}

impl Account {
    /// One that is not the token's own.
    pub fn foreign(id: i64, current_user: Option<i64>) -> Self {
        Self {
            id,
            company_name: None,
            name: None,
            current_user,
            is_own: false,
        }
    }

    /// What people call it: the company, else who registered it, else its number.
    pub fn name(&self) -> String {
        let names = [self.company_name.as_deref(), self.name.as_deref()];
        let mut names = names.into_iter().map(|name| cells::text(name).over(None));
        names.find_map(|name| name).unwrap_or(self.id.to_string())
    }
}

/// A token. Gcore shows its secret once, when it is made, and never in a list.
#[derive(Debug, Deserialize)]
pub(super) struct Token {
    pub id: i64,
    name: Option<String>,
    description: Option<String>,
    /// Not there is not told; null is never.
    #[serde(default, deserialize_with = "cells::told")]
    exp_date: Cell<String>,
    expired: Option<bool>,
    deleted: Option<bool>,
    created: Option<String>,
    /// Null, empty or not there where it was never used.
    last_usage: Option<String>,
    client_user: Option<ClientUser>,
}

/// Who issued a token, and what it may do. `deleted` in here is no word about the user.
#[derive(Debug, Deserialize)]
struct ClientUser {
    role: Option<Group>,
    user_id: Option<i64>,
    user_name: Option<String>,
    user_email: Option<String>,
}

/// A group of users, or a role.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub id: Option<i64>,
    name: Option<String>,
}

impl Token {
    pub fn issuer_id(&self) -> Option<i64> {
        self.client_user.as_ref()?.user_id
    }

    /// Whether it has the role of an administrator.
    pub fn is_admin(&self) -> Option<bool> {
        let role = self.client_user.as_ref()?.role.as_ref()?;
        Some(role.id? == ADMINISTRATORS)
    }

    /// Whether it has not ended, as far as Gcore says.
    pub fn lives(&self) -> bool {
        self.deleted != Some(true)
    }

    /// The token as lapsed knows it.
    pub fn listed(&self, account: &str, people: Option<&People>) -> Listed {
        let issuer = self.client_user.as_ref();
        let by =
            |field: fn(&ClientUser) -> Option<&String>| issuer.and_then(field).map(String::as_str);
        let found = self.issuer_id().zip(people);
        let user = found.map_or(Cell::Absent, |(id, people)| people.find(id));
        let address = cells::address(by(|issuer| issuer.user_email.as_ref()));
        let mut name = cells::text(by(|issuer| issuer.user_name.as_ref()));
        if let (Cell::Value(name), Cell::Value(_), Cell::Value(user)) = (&mut name, &address, &user)
        {
            // Beside an address only: without one, a list of owners may go by the name.
            name.push_str(user.sign_in());
        }
        let role = issuer.and_then(|issuer| issuer.role.as_ref()?.name.as_deref());
        let expiry = self.expiry();
        Listed {
            name: cells::text(self.name.as_deref()),
            description: cells::text(self.description.as_deref()),
            issuer: address,
            issuer_name: name,
            issuer_id: self.issuer_id().map(|id| id.to_string()),
            issuer_gone: gone(self.issuer_id().unwrap_or_default(), &user),
            account: Cell::Value(account.to_owned()),
            role: cells::text(role),
            created_at: cells::at(self.created.as_deref()),
            last_used_at: cells::at(self.last_usage.as_deref()),
            status: Cell::Value(self.status(expiry)),
            expiry: Cell::Value(expiry),
            ..Listed::named(self.id.to_string())
        }
    }

    fn expiry(&self) -> Expiry {
        match &self.exp_date {
            Cell::Empty => Expiry::Never,
            Cell::Value(text) => cells::instant(text).map_or(Expiry::Unknown, Expiry::At),
            Cell::Absent => Expiry::Unknown,
        }
    }

    /// An expired token is deleted by Gcore itself; it has expired all the same, which follows from its
    /// date.
    fn status(&self, expiry: Expiry) -> Status {
        let is_expired = self.expired == Some(true);
        match (is_expired, expiry) {
            (true, Expiry::At(_)) => Status::Active,
            (true, Expiry::Never | Expiry::Unknown) => Status::Disabled,
            (false, _) if self.lives() => Status::Active,
            (false, _) => Status::Revoked,
        }
    }
}

/// How it is known that the issuer has left.
fn gone(id: i64, user: &Cell<&User>) -> Cell<String> {
    match user {
        Cell::Absent => Cell::Absent,
        Cell::Empty => Cell::Value(format!("Gcore knows no user {id}")),
        Cell::Value(user) => user.left().map_or(Cell::Empty, |how| {
            let sign_in = user.sign_in();
            Cell::Value(format!("Gcore lists the user {id}{sign_in} as {how}"))
        }),
    }
}
