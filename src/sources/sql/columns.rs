//! What the columns of a query mean: the same as in a file, by the same names.

use chrono::{DateTime, SecondsFormat};

use crate::domain::Listed;
use crate::sources::Error;
use crate::sources::database::{Record, Scalar};
use crate::sources::rows::{Columns, Value, quote};
use crate::sources::tokens;

use super::{Dialect, content};

/// The columns of a file, and what the source calls the issuer, for a list of owners.
const TOKENS: Columns<13> = {
    let mut names = ["issuer_id"; 13];
    let mut index = 0;
    while index < tokens::COLUMNS.names.len() {
        names[index] = tokens::COLUMNS.names[index];
        index += 1;
    }
    Columns {
        names,
        required: tokens::COLUMNS.required,
    }
};

/// Columns that hold dates.
const DATES: [&str; 3] = ["expires_at", "created_at", "last_used_at"];

/// Which column of a query is which of ours.
pub(super) struct Shape<const N: usize> {
    columns: &'static Columns<N>,
    /// For each column of the query the index of ours.
    known: Vec<usize>,
    dialect: Dialect,
}

impl Shape<13> {
    /// Of a query for tokens.
    pub fn of_tokens(names: &[String], dialect: Dialect) -> Result<Self, Error> {
        Self::of("query", &TOKENS, names, dialect)
    }

    /// Makes a token of a row; the reason says whose and what is wrong where it is none.
    pub fn token(&self, record: Record<'_>) -> Result<Listed, String> {
        self.listed(record).map_err(|reason| {
            let id = self.known.iter().position(|column| *column == 0);
            match id.map(|id| record.scalar(id)) {
                Some(Scalar::Text(id)) => format!("token {}: {reason}", quote(&id)),
                Some(Scalar::Integer(id)) => format!("token {id}: {reason}"),
                _ => reason,
            }
        })
    }

    fn listed(&self, record: Record<'_>) -> Result<Listed, String> {
        let [values @ .., issuer_id] = self.values(record)?;
        let issuer_id = issuer_id.into_text("issuer_id")?.over(None);
        Ok(Listed {
            issuer_id,
            ..tokens::token(values)?
        })
    }

    /// The names of the columns that are not there.
    pub fn missing(&self) -> Vec<&'static str> {
        let missing = |index: &usize| !self.known.contains(index);
        let all = 0..self.columns.names.len();
        all.filter(missing)
            .map(|index| self.columns.names[index])
            .collect()
    }
}

impl<const N: usize> Shape<N> {
    /// Of a query that may have these columns; `place` names it in errors.
    pub fn of(
        place: &str,
        columns: &'static Columns<N>,
        names: &[String],
        dialect: Dialect,
    ) -> Result<Self, Error> {
        let mut known: Vec<usize> = Vec::with_capacity(names.len());
        for name in names {
            let Some(index) = columns.find(name) else {
                return Err(content(place, unknown(columns, name, names)));
            };
            if known.contains(&index) {
                let reason =
                    format!("the column {name} is there twice; name the other differently");
                return Err(content(place, reason));
            }
            known.push(index);
        }
        let is_there = |name: &&str| columns.find(name).is_some_and(|it| known.contains(&it));
        if let Some(missing) = columns.required.iter().find(|name| !is_there(name)) {
            let reason = format!("has no column {missing}; write for example id AS {missing}");
            return Err(content(place, reason));
        }
        Ok(Self {
            columns,
            known,
            dialect,
        })
    }

    /// Whether the query gives this column.
    pub fn has(&self, name: &str) -> bool {
        self.columns
            .find(name)
            .is_some_and(|index| self.known.contains(&index))
    }

    /// The values of a row, in the order of our columns.
    pub fn values(&self, record: Record<'_>) -> Result<[Value; N], String> {
        let mut values = std::array::from_fn(|_| Value::Absent);
        for (at, index) in self.known.iter().enumerate() {
            let name = self.columns.names[*index];
            values[*index] = value(record.scalar(at), name, self.dialect)?;
        }
        Ok(values)
    }
}

/// Says what is wrong with the name of a column. Tables call their key `id`, which is nearer to another
/// name of ours than to the one that is meant.
fn unknown<const N: usize>(columns: &Columns<N>, name: &str, names: &[String]) -> String {
    const KEY: &str = "external_id";
    let is_key = ["id", "uuid", "token_id"].contains(&name.to_lowercase().as_str());
    if is_key && columns.required.contains(&KEY) && !names.iter().any(|it| it == KEY) {
        return format!("{} is not a column; name it: {name} AS {KEY}", quote(name));
    }
    columns.unknown(name)
}

/// A value as a file would hold it, so that both mean the same.
fn value(scalar: Scalar, name: &str, dialect: Dialect) -> Result<Value, String> {
    let text = match scalar {
        Scalar::Null => return Ok(Value::Empty),
        Scalar::Text(text) if dialect == Dialect::Sqlite && DATES.contains(&name) => utc(text),
        Scalar::Text(text) => text,
        Scalar::Integer(number) => number.to_string(),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Instant(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
        Scalar::Date(date) => date.to_string(),
        Scalar::Forever if name == "expires_at" => "never".to_owned(),
        Scalar::Forever => return Err(format!("{name} is infinity; let the query make it null")),
        Scalar::Other(kind) => {
            return Err(format!(
                "{name} is of type {kind}, which is no text, number or date; cast it in the query"
            ));
        }
    };
    Value::text(name, &text)
}

/// A date of SQLite, whose own functions write UTC without saying so.
fn utc(text: String) -> String {
    let zoned = format!("{}Z", text.trim().replacen(' ', "T", 1));
    if DateTime::parse_from_rfc3339(&zoned).is_ok() {
        zoned
    } else {
        text
    }
}
