//! The watched row of a token of the service: written in the transaction that changes its credential, as if a listing of
//! this one token had reported it, so that warnings and findings need no case of their own.

use chrono::{DateTime, Utc};

use crate::domain::service::{Credential, CredentialState, ServiceAccount, ServicePerson};
use crate::domain::{Address, Cell, Expiry, LOCAL_SOURCE, ListedToken, Policy, Status, Token};
use crate::engine;
use crate::store::Tx;

use super::Error;

/// A token as its row is to be.
pub(super) struct Record<'a> {
    pub credential: &'a Credential,
    pub person: &'a ServicePerson,
    pub account: Option<&'a ServiceAccount>,
    pub name: Cell<String>,
    pub description: Cell<String>,
    pub is_new: bool,
}

impl<'a> Record<'a> {
    /// Of a token that is there: the name and the description stay.
    pub fn of_known(
        credential: &'a Credential,
        person: &'a ServicePerson,
        account: Option<&'a ServiceAccount>,
    ) -> Self {
        Self {
            credential,
            person,
            account,
            name: Cell::Absent,
            description: Cell::Absent,
            is_new: false,
        }
    }

    /// Writes the row. Returns it if anything changed.
    pub async fn write(
        self,
        tx: &mut Tx,
        policy: &Policy,
        now: DateTime<Utc>,
    ) -> Result<Option<Token>, Error> {
        let listed = self.into_listed();
        Ok(engine::merge_record(tx, policy, LOCAL_SOURCE, listed, now).await?)
    }

    pub fn into_listed(self) -> ListedToken {
        let Self {
            credential, person, ..
        } = self;
        let mut owners = owners(person).cloned();
        let scopes = &credential.scopes;
        ListedToken {
            name: self.name,
            description: self.description,
            issuer: owners.next().into(),
            co_owners: owners.collect(),
            issuer_name: issuer_name(person).into(),
            issuer_gone: Cell::Absent,
            account: self.account.map(|account| account.name.clone()).into(),
            role: credential.role.clone().into(),
            scope: (!scopes.is_unlimited()).then(|| scopes.to_string()).into(),
            created_at: Cell::Value(credential.created_at),
            expiry: Cell::Value(credential.expires_at.map_or(Expiry::Never, Expiry::At)),
            // Uses are written on their own; a new token has the column, so that it counts as never used.
            last_used_at: if self.is_new {
                Cell::Empty
            } else {
                Cell::Absent
            },
            status: Cell::Value(match credential.state {
                CredentialState::Active => Status::Active,
                CredentialState::Disabled | CredentialState::Locked => Status::Disabled,
                CredentialState::Revoked => Status::Revoked,
            }),
            secret_version: Some(credential.secret.number),
            ..ListedToken::with_id(credential.public_id.as_str())
        }
    }
}

/// Who is notified: the person, or the owners of a machine user.
fn owners(person: &ServicePerson) -> impl Iterator<Item = &Address> {
    person.address.iter().chain(&person.owners)
}

fn issuer_name(person: &ServicePerson) -> Option<String> {
    let machine = person.is_machine().then(|| person.key.clone());
    person.name.clone().or(machine)
}
