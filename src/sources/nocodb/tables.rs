//! Lists tokens from NocoDB's own database, which also has those created under single sign-on.
//!
//! The query names every column, so that a role needs access only to those. No column with secrets is among
//! them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::rows::{Token, User};
use crate::sources::fields::Field;
use crate::sources::{Error, Listing, ListingBuilder, RefusedRow, RefusedRows};
use crate::upstream::database::{Database, ReadTransaction, Record, Scalar};

const TABLES: [(&str, &str); 3] = [
    ("t", "nc_api_tokens"),
    ("u", "nc_users_v2"),
    ("s", "nc_sso_client"),
];

const REQUIRED: [&str; 7] = [
    "t.id",
    "t.description",
    "t.fk_user_id",
    "t.created_at",
    "t.expiry",
    "u.id",
    "u.email",
];

/// The columns that are read if they exist.
const OPTIONAL: [&str; 13] = [
    "t.enabled",
    "t.last_used_at",
    "t.base_id",
    "t.fk_workspace_id",
    "t.fk_sso_client_id",
    "u.display_name",
    "u.roles",
    "u.blocked",
    "u.is_deleted",
    "s.id",
    "s.title",
    "s.enabled",
    "s.deleted",
];

pub(super) struct Tables(pub Database);

impl Tables {
    pub fn place(&self) -> &str {
        self.0.place()
    }

    pub async fn listing(&self) -> Result<Listing, Error> {
        let mut builder = ListingBuilder::default();
        let mut refusals = RefusedRows::default();
        let mut line = 0;
        self.for_each_token(None, |token, user| {
            line += 1;
            if token.id.id().is_none() {
                refusals.add(RefusedRow {
                    file: "nc_api_tokens".to_owned(),
                    line,
                    reason: "it has no usable id".to_owned(),
                });
                return Ok(());
            }
            builder.push(&token.to_listed(user.as_ref(), true))
        })
        .await?;
        Ok(Listing {
            refusals,
            ..builder.finish()?
        })
    }

    pub async fn has_token(&self, id: &str) -> Result<bool, Error> {
        let mut found = false;
        self.for_each_token(Some(id), |_, _| {
            found = true;
            Ok(())
        })
        .await?;
        Ok(found)
    }

    async fn for_each_token(
        &self,
        id: Option<&str>,
        mut each: impl FnMut(Token, Option<User>) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let mut transaction = self.0.begin_read().await?;
        let columns = self.readable_columns(&mut transaction).await?;
        let mut query = columns.query();
        let mut values = Vec::new();
        if let Some(id) = id {
            query.push_str(" WHERE CAST(t.id AS text) = $1");
            values.push(Scalar::Text(id.to_owned()));
        }
        transaction
            .for_each_record(&query, &values, |record| {
                let row = Row {
                    record,
                    columns: &columns,
                };
                each(row.token(), row.user())?;
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        transaction.close().await;
        Ok(())
    }

    /// The columns that exist and that the role may read.
    async fn readable_columns(
        &self,
        transaction: &mut ReadTransaction<'_>,
    ) -> Result<Columns, Error> {
        let mut readable = BTreeSet::new();
        for (alias, table) in TABLES {
            let names = transaction.table_columns(table).await?.into_iter();
            readable.extend(names.map(|name| format!("{alias}.{name}")));
        }
        if let Some(missing) = REQUIRED.iter().find(|column| !readable.contains(**column)) {
            return Err(self.missing_column(missing));
        }
        let mut columns: Vec<_> = REQUIRED.into_iter().chain(OPTIONAL).collect();
        columns.retain(|column| readable.contains(*column));
        if !columns.contains(&"s.id") || !columns.contains(&"t.fk_sso_client_id") {
            columns.retain(|column| !column.starts_with("s."));
        }
        Ok(Columns(columns))
    }

    fn missing_column(&self, column: &str) -> Error {
        let (alias, name) = column.split_once('.').unwrap_or_default();
        let table = TABLES.iter().find(|(known, _)| *known == alias);
        let table = table.map_or(alias, |(_, table)| table);
        Error::rights(
            format!("cannot read {table}.{name} at {}", self.place()),
            "set `database` to NocoDB's own database, and grant the role the rights listed in \
             docs/sources/nocodb.md",
        )
    }
}

/// The selected columns, in order.
struct Columns(Vec<&'static str>);

impl Columns {
    fn query(&self) -> String {
        let client = if self.0.contains(&"s.id") {
            " LEFT JOIN nc_sso_client s ON s.id = t.fk_sso_client_id"
        } else {
            ""
        };
        format!(
            "SELECT {} FROM nc_api_tokens t LEFT JOIN nc_users_v2 u ON u.id = t.fk_user_id{client}",
            self.0.join(", ")
        )
    }
}

/// A token with its user and its single sign-on client.
struct Row<'a> {
    record: Record<'a>,
    columns: &'a Columns,
}

impl Row<'_> {
    fn token(&self) -> Token {
        Token {
            id: self.field("t.id"),
            description: self.field("t.description"),
            fk_user_id: self.field("t.fk_user_id"),
            created_by: Field::Absent,
            base_id: self.field("t.base_id"),
            fk_workspace_id: self.field("t.fk_workspace_id"),
            fk_sso_client_id: self.field("t.fk_sso_client_id"),
            single_sign_on: self.client(),
            created_at: self.field("t.created_at"),
            expiry: self.field("t.expiry"),
            enabled: self.field("t.enabled"),
            last_used_at: self.field("t.last_used_at"),
        }
    }

    /// `None` if there is no such user.
    fn user(&self) -> Option<User> {
        self.field("u.id").id()?;
        Some(User {
            id: self.field("u.id"),
            email: self.field("u.email"),
            display_name: self.field("u.display_name"),
            roles: self.field("u.roles"),
            blocked: self.field("u.blocked"),
            is_deleted: self.field("u.is_deleted"),
        })
    }

    /// The client's title, and whether it is still in use.
    fn client(&self) -> Option<String> {
        let title = self.field("s.title").text()?;
        let is_off = self.field("s.enabled").is(false);
        let is_deleted = self.field("s.deleted").is(true);
        Some(match (is_deleted, is_off) {
            (true, _) => format!("{title}, since deleted"),
            (false, true) => format!("{title}, since disabled"),
            (false, false) => title,
        })
    }

    /// In some versions ids are numbers, and in SQLite times are texts.
    fn field(&self, column: &str) -> Field {
        let Some(position) = self.position(column) else {
            return Field::Absent;
        };
        match self.record.scalar(position) {
            Scalar::Null => Field::Null,
            Scalar::Text(text) => Field::Text(text),
            Scalar::Integer(number) => Field::Number(number.into()),
            Scalar::Bool(flag) => Field::Flag(flag),
            Scalar::Instant(at) => Field::Text(at.to_rfc3339()),
            Scalar::Date(day) => Field::Text(day.to_string()),
            Scalar::Local(at) => Field::Text(at.to_string()),
            Scalar::Real(number) => Field::from_real(number),
            Scalar::Other(_) => Field::Odd("a value of another type"),
        }
    }

    fn position(&self, column: &str) -> Option<usize> {
        self.columns.0.iter().position(|name| *name == column)
    }
}
