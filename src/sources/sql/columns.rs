//! Maps the columns of a query to those of a file, by name.

use chrono::SecondsFormat;

use crate::domain::ListedToken;
use crate::sources::cells::{Value, quote};
use crate::sources::rows::Columns;
use crate::sources::{Error, file};
use crate::time;
use crate::upstream::database::{Record, Scalar};

use super::Dialect;

/// The columns of a file, and the issuer's id at the source, for an owners file.
pub(super) const TOKEN_COLUMNS: Columns<13> = {
    let mut names = ["issuer_id"; 13];
    let mut index = 0;
    while index < file::COLUMNS.names.len() {
        names[index] = file::COLUMNS.names[index];
        index += 1;
    }
    Columns {
        names,
        required: file::COLUMNS.required,
    }
};

const DATE_COLUMNS: [&str; 3] = ["expires_at", "created_at", "last_used_at"];

pub(super) struct ColumnMap<const N: usize> {
    columns: &'static Columns<N>,
    /// For each column of the query, its index in `columns`.
    known: Vec<usize>,
    dialect: Dialect,
}

impl ColumnMap<13> {
    /// Parses a token. The reason of a refusal names the token.
    pub fn token(&self, record: Record<'_>) -> Result<ListedToken, String> {
        let values = self.values(record);
        let token = values.and_then(|values| file::parse_token(self.columns, values));
        token.map_err(|reason| {
            let id = self.known.iter().position(|column| *column == 0);
            match id.map(|id| record.scalar(id)) {
                Some(Scalar::Text(id)) => format!("token {}: {reason}", quote(&id)),
                Some(Scalar::Integer(id)) => format!("token {id}: {reason}"),
                _ => reason,
            }
        })
    }

    /// The names of the columns that the query returns, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.known
            .iter()
            .map(|index| self.columns.names[*index])
            .collect()
    }

    /// The names of the columns that the query does not return.
    pub fn missing_columns(&self) -> Vec<&'static str> {
        let names = self.columns.names.into_iter();
        names.filter(|name| !self.has(name)).collect()
    }
}

impl<const N: usize> ColumnMap<N> {
    /// `place` names the query in errors.
    pub fn new(
        place: &str,
        columns: &'static Columns<N>,
        names: &[String],
        dialect: Dialect,
    ) -> Result<Self, Error> {
        let mut known: Vec<usize> = Vec::with_capacity(names.len());
        for name in names {
            let Some(index) = columns.find(name) else {
                return Err(Error::content(place, explain_unknown(columns, name, names)));
            };
            if known.contains(&index) {
                let reason = format!("the column {name} occurs twice; rename one");
                return Err(Error::content(place, reason));
            }
            known.push(index);
        }
        let map = Self {
            columns,
            known,
            dialect,
        };
        if let Some(missing) = columns.required.iter().find(|name| !map.has(name)) {
            let reason = format!("has no column {missing}; write for example id AS {missing}");
            return Err(Error::content(place, reason));
        }
        Ok(map)
    }

    /// Whether the query returns this column.
    pub fn has(&self, name: &str) -> bool {
        self.columns
            .find(name)
            .is_some_and(|index| self.known.contains(&index))
    }

    /// The values of a row, in the order of `columns`.
    pub fn values(&self, record: Record<'_>) -> Result<[Value; N], String> {
        let mut values = std::array::from_fn(|_| Value::Absent);
        for (at, index) in self.known.iter().enumerate() {
            let name = self.columns.names[*index];
            values[*index] = to_value(record.scalar(at), name, self.dialect)?;
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
            add_utc(text)
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

/// SQLite's functions write UTC without a zone.
fn add_utc(text: String) -> String {
    time::add_utc(text.trim()).unwrap_or(text)
}
