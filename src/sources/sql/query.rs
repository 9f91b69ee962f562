//! The query that returns the tokens, and the columns of queries, which have the names of those of a file.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::ListedToken;
use crate::sources::cells::{Value, quote};
use crate::sources::rows::Columns;
use crate::sources::{Error, file};
use crate::time;
use crate::upstream::database::{ReadTransaction, Record, Scalar};

use super::statement::{Dialect, Statement};

/// The columns of a file, and the issuer's id at the source, for an owners file.
const TOKEN_COLUMNS: Columns<13> = {
    let mut names = ["issuer_id"; 13];
    let mut index = 0;
    while index < file::COLUMNS.names.len() {
        names[index] = file::COLUMNS.names[index];
        index += 1;
    }
    Columns {
        names,
        required: file::COLUMNS.required,
        export: &[],
    }
};

const DATE_COLUMNS: [&str; 3] = ["expires_at", "created_at", "last_used_at"];

pub(super) struct TokenQuery {
    pub statement: Statement,
    pub dialect: Dialect,
}

impl TokenQuery {
    pub fn is_incremental(&self) -> bool {
        !self.statement.names.is_empty()
    }

    /// Calls `each` with the number of each row, from 1, and its token or why it is refused.
    pub async fn for_each_token(
        &self,
        transaction: &mut ReadTransaction<'_>,
        since: DateTime<Utc>,
        mut each: impl FnMut(u64, Result<ListedToken, String>) -> Result<ControlFlow<()>, Error> + Send,
    ) -> Result<ColumnMap<13>, Error> {
        let values = self.values(since);
        let mut columns = None;
        let mut line = 0;
        transaction
            .for_each_record(&self.statement.text, &values, |record| {
                line += 1;
                let columns = match &mut columns {
                    Some(columns) => columns,
                    None => columns.insert(self.map_columns(&record.columns())?),
                };
                each(line, columns.token(record))
            })
            .await?;
        if let Some(columns) = columns {
            return Ok(columns);
        }
        // The columns must be valid even without rows.
        let names = transaction.query_columns(&self.statement.text, &values);
        self.map_columns(&names.await?)
    }

    pub async fn find_token(
        &self,
        transaction: &mut ReadTransaction<'_>,
        external_id: &str,
    ) -> Result<Option<ListedToken>, Error> {
        let number = self.statement.names.len() + 1;
        let sign = self.dialect.placeholder_sign();
        let query = format!(
            "SELECT * FROM (\n{}\n) AS listed WHERE CAST(listed.external_id AS TEXT) = {sign}{number}",
            self.statement.text
        );
        let mut found = None;
        let mut values = self.values(DateTime::UNIX_EPOCH);
        values.push(Scalar::Text(external_id.to_owned()));
        transaction
            .for_each_record(&query, &values, |record| {
                let token = self.map_columns(&record.columns())?.token(record);
                found = Some(token.map_err(|reason| Error::content("query", reason))?);
                Ok(ControlFlow::Break(()))
            })
            .await?;
        Ok(found)
    }

    fn values(&self, since: DateTime<Utc>) -> Vec<Scalar> {
        let names = self.statement.names.iter();
        names.map(|_| Scalar::Instant(since)).collect()
    }

    fn map_columns(&self, names: &[String]) -> Result<ColumnMap<13>, Error> {
        ColumnMap::new("query", &TOKEN_COLUMNS, names, self.dialect)
    }
}

pub(super) struct ColumnMap<const N: usize> {
    columns: &'static Columns<N>,
    /// The index in `columns` of each column of the query.
    indexes: Vec<usize>,
    dialect: Dialect,
}

impl ColumnMap<13> {
    /// The reason of a refusal names the token.
    fn token(&self, record: Record<'_>) -> Result<ListedToken, String> {
        self.values(record)
            .and_then(|values| file::parse_token(self.columns, values))
            .map_err(|reason| {
                let id = self.indexes.iter().position(|column| *column == 0);
                match id.map(|id| record.scalar(id)) {
                    Some(Scalar::Text(id)) => format!("token {}: {reason}", quote(&id)),
                    Some(Scalar::Integer(id)) => format!("token {id}: {reason}"),
                    _ => reason,
                }
            })
    }

    /// Describes which columns the query returns and which not.
    pub fn describe(&self) -> String {
        let names = self.columns.names;
        let returned: Vec<_> = self.indexes.iter().map(|index| names[*index]).collect();
        let missing: Vec<_> = names.into_iter().filter(|name| !self.has(name)).collect();
        let mut text = format!("columns {}", returned.join(", "));
        if !missing.is_empty() {
            let _ = write!(text, " (without {})", missing.join(", "));
        }
        text
    }
}

impl<const N: usize> ColumnMap<N> {
    /// `key` names the query in errors.
    pub fn new(
        key: &str,
        columns: &'static Columns<N>,
        names: &[String],
        dialect: Dialect,
    ) -> Result<Self, Error> {
        let mut indexes: Vec<usize> = Vec::with_capacity(names.len());
        for name in names {
            let Some(index) = columns.find(name) else {
                return Err(Error::content(key, explain_unknown(columns, name, names)));
            };
            if indexes.contains(&index) {
                let reason = format!("the column {name} occurs twice; rename one");
                return Err(Error::content(key, reason));
            }
            indexes.push(index);
        }
        let map = Self {
            columns,
            indexes,
            dialect,
        };
        if let Some(missing) = columns.required.iter().find(|name| !map.has(name)) {
            let reason = format!("has no column {missing}; write for example id AS {missing}");
            return Err(Error::content(key, reason));
        }
        Ok(map)
    }

    pub fn has(&self, name: &str) -> bool {
        self.columns
            .find(name)
            .is_some_and(|index| self.indexes.contains(&index))
    }

    /// The values of a row, in the order of `columns`.
    pub fn values(&self, record: Record<'_>) -> Result<[Value; N], String> {
        let mut values = std::array::from_fn(|_| Value::Absent);
        for (position, index) in self.indexes.iter().enumerate() {
            let name = self.columns.names[*index];
            values[*index] = to_value(record.scalar(position), name, self.dialect)?;
        }
        Ok(values)
    }
}

/// The message for an unknown column. Tables often name their key `id`, which is more similar to another column
/// than to `external_id`.
fn explain_unknown<const N: usize>(columns: &Columns<N>, name: &str, names: &[String]) -> String {
    const KEY: &str = "external_id";
    let is_key = ["id", "uuid", "token_id"].contains(&name.to_lowercase().as_str());
    if is_key && columns.required.contains(&KEY) && !names.iter().any(|name| name == KEY) {
        return format!("{} is not a column; name it: {name} AS {KEY}", quote(name));
    }
    columns.explain_unknown(name)
}

/// Converts a value to the form that it has in a file.
fn to_value(scalar: Scalar, name: &str, dialect: Dialect) -> Result<Value, String> {
    let text = match scalar {
        Scalar::Null => return Ok(Value::Empty),
        Scalar::Text(text) if dialect == Dialect::Sqlite && DATE_COLUMNS.contains(&name) => {
            // SQLite's functions write UTC without a zone.
            time::add_utc(text.trim()).unwrap_or(text)
        }
        Scalar::Text(text) => text,
        Scalar::Integer(number) => number.to_string(),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Instant(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
        Scalar::Date(date) => date.to_string(),
        Scalar::Infinity if name == "expires_at" => "never".to_owned(),
        Scalar::Infinity => {
            return Err(format!(
                "{name} is infinity; convert it to null in the query"
            ));
        }
        Scalar::Other(kind) => {
            return Err(format!(
                "{name} is of type {kind}, not a text, number or date; cast it in the query"
            ));
        }
    };
    Value::text(name, &text)
}
