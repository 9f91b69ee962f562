//! The people of a source, among whom the issuers of its tokens are looked up.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::domain::{Address, Cell, ListedToken};
use crate::sources::cells::Value;
use crate::sources::rows::Columns;
use crate::sources::{AccountAdmin, Error, RefusedRow, RefusedRows};
use crate::upstream::database::{ReadTransaction, Record};

use super::query::ColumnMap;
use super::statement::Statement;

const COLUMNS: Columns<5> = Columns {
    names: ["email", "account", "role", "name", "status"],
    required: &["email"],
    export: &[],
};

#[derive(Default)]
pub(super) struct People {
    /// The people by the key of their address.
    by_address: HashMap<String, Person>,
    /// The administrators of the accounts, if the query returns account and role.
    admins: Option<Vec<AccountAdmin>>,
    /// Rows were refused, so a person who is missing may exist.
    is_incomplete: bool,
}

struct Person {
    name: Option<String>,
    status: PersonStatus,
}

/// If a person has several rows, the best status counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PersonStatus {
    Deleted,
    Disabled,
    Active,
}

impl People {
    /// Runs the query; fails if it returns no one, which would make every token an orphan.
    pub async fn load(
        transaction: &mut ReadTransaction<'_>,
        query: &Statement,
        refusals: &mut RefusedRows,
    ) -> Result<Self, Error> {
        let map_columns = |names: &[String]| ColumnMap::new("people_query", &COLUMNS, names);
        let mut columns = None;
        let mut people = Self::default();
        let mut line = 0;
        transaction
            .for_each_record(&query.text, &[], |record| {
                line += 1;
                let columns = match &mut columns {
                    Some(columns) => columns,
                    None => columns.insert(map_columns(&record.columns())?),
                };
                if let Err(reason) = people.add(columns, record) {
                    people.is_incomplete = true;
                    let file = "people_query".to_owned();
                    refusals.add(RefusedRow { file, line, reason });
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        if columns.is_none() {
            // The columns must be valid even without rows.
            map_columns(&transaction.query_columns(&query.text, &[]).await?)?;
        }
        if people.by_address.is_empty() {
            let reason =
                "returns no one, so every token would be an orphan; correct it or remove it";
            return Err(Error::content("people_query", reason));
        }
        Ok(people)
    }

    fn add(&mut self, columns: &ColumnMap<5>, record: Record<'_>) -> Result<(), String> {
        let [email, account, role, name, status] = columns.values(record);
        // A person without an address cannot be the issuer of a token.
        let Cell::Value(address) = email.into_address("email")? else {
            return Ok(());
        };
        let status = status
            .parse("status", parse_status)?
            .into_option()
            .unwrap_or(PersonStatus::Active);
        let name = name.into_text("name")?.into_option();
        if columns.has("account") && columns.has("role") {
            self.add_admin(&address, account, role, status == PersonStatus::Active)?;
        }
        let person = Person { name, status };
        self.by_address
            .entry(address.key().to_owned())
            .and_modify(|known| known.status = known.status.max(status))
            .or_insert(person);
        Ok(())
    }

    fn add_admin(
        &mut self,
        address: &Address,
        account: Value,
        role: Value,
        is_active: bool,
    ) -> Result<(), String> {
        let admins = self.admins.get_or_insert_default();
        let role = role.into_text("role")?.into_option().unwrap_or_default();
        let account = account.into_text("account")?.into_option();
        if let Some(account) = account
            && role.eq_ignore_ascii_case("admin")
            && is_active
        {
            let address = address.clone();
            admins.push(AccountAdmin { account, address });
        }
        Ok(())
    }

    /// The administrators of the accounts, unless a refused row may be one of them.
    pub fn into_admins(self) -> Option<Vec<AccountAdmin>> {
        if self.is_incomplete {
            return None;
        }
        self.admins
    }

    /// Sets the name of the issuer and whether they are gone; while another owner is there, they are not. If a row was
    /// refused, it may show that the issuer is active, so no one is reported as gone.
    pub fn describe_issuer(&self, token: &mut ListedToken) {
        let issuer = match &token.issuer {
            Cell::Absent => return,
            Cell::Empty => {
                token.issuer_gone = Cell::Empty;
                return;
            }
            Cell::Value(issuer) => self.by_address.get(issuer.key()),
        };
        let gone = match issuer.map(|person| person.status) {
            None => Some("the issuer is not among the people of the source"),
            Some(PersonStatus::Deleted) => Some("the issuer is deleted at the source"),
            Some(PersonStatus::Disabled) => Some("the issuer is disabled at the source"),
            Some(PersonStatus::Active) => None,
        };
        let others = token.co_owners.iter();
        let mut others = others.filter_map(|owner| self.by_address.get(owner.key()));
        let is_owned = others.any(|person| matches!(person.status, PersonStatus::Active));
        let gone = gone.filter(|_| !is_owned);
        token.issuer_gone = match gone {
            Some(_) if self.is_incomplete => Cell::Absent,
            Some(gone) => Cell::Value(gone.to_owned()),
            None => Cell::Empty,
        };
        if let Some(name) = issuer.and_then(|person| person.name.as_ref())
            && token.issuer_name == Cell::Absent
        {
            token.issuer_name = Cell::Value(name.clone());
        }
    }

    pub fn count(&self) -> usize {
        self.by_address.len()
    }
}

fn parse_status(text: &str) -> Result<PersonStatus, String> {
    match text.to_ascii_lowercase().as_str() {
        "active" => Ok(PersonStatus::Active),
        "disabled" => Ok(PersonStatus::Disabled),
        "deleted" => Ok(PersonStatus::Deleted),
        _ => Err("is not a status; write active, disabled or deleted".to_owned()),
    }
}
