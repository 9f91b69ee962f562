//! The query that returns the tokens, and the columns of queries, which have the names of those of a file.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::ControlFlow;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::ListedToken;
use crate::sources::cells::{CellRules, Value, quote};
use crate::sources::rows::Columns;
use crate::sources::{Error, file};
use crate::upstream::database::{ReadTransaction, Record, Scalar};

use super::statement::{Dialect, Statement};

/// The columns of a file, the issuer's id at the source, for an owners file, and whether the issuer is gone.
const TOKEN_COLUMNS: Columns<14> = {
    let mut names = ["issuer_id"; 14];
    names[13] = "issuer_gone";
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

pub(super) struct TokenQuery {
    pub statement: Statement,
    pub dialect: Dialect,
    pub rules: CellRules,
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
    ) -> Result<ColumnMap<14>, Error> {
        let values = self.values(since);
        let mut columns = None;
        let mut line = 0;
        let mut units = BTreeSet::new();
        transaction
            .for_each_record(&self.statement.text, &values, |record| {
                line += 1;
                let columns = match &mut columns {
                    Some(columns) => columns,
                    None => columns.insert(Self::map_columns(&record.columns())?),
                };
                each(line, columns.token(record, &self.rules, &mut units))
            })
            .await?;
        if let Some(columns) = columns {
            return Ok(ColumnMap { units, ..columns });
        }
        // The columns must be valid even without rows.
        let names = transaction.query_columns(&self.statement.text, &values);
        Self::map_columns(&names.await?)
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
                let columns = Self::map_columns(&record.columns())?;
                let token = columns.token(record, &self.rules, &mut BTreeSet::new());
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

    fn map_columns(names: &[String]) -> Result<ColumnMap<14>, Error> {
        ColumnMap::new("query", &TOKEN_COLUMNS, names)
    }
}

pub(super) struct ColumnMap<const N: usize> {
    columns: &'static Columns<N>,
    /// The index in `columns` of each column of the query.
    indexes: Vec<usize>,
    /// In which units dates were numbers.
    units: BTreeSet<&'static str>,
}

impl ColumnMap<14> {
    /// The reason of a refusal names the token.
    fn token(
        &self,
        record: Record<'_>,
        rules: &CellRules,
        units: &mut BTreeSet<&'static str>,
    ) -> Result<ListedToken, String> {
        let values = self.values(record);
        file::parse_token(self.columns, values, rules, units).map_err(|reason| {
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
        text.push_str(&file::describe_units(&self.units));
        text
    }
}

impl<const N: usize> ColumnMap<N> {
    /// `key` names the query in errors.
    pub fn new(key: &str, columns: &'static Columns<N>, names: &[String]) -> Result<Self, Error> {
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
            units: BTreeSet::new(),
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
    pub fn values(&self, record: Record<'_>) -> [Value; N] {
        let mut values = std::array::from_fn(|_| Value::Absent);
        for (position, index) in self.indexes.iter().enumerate() {
            values[*index] = to_value(record.scalar(position));
        }
        values
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
fn to_value(scalar: Scalar) -> Value {
    let text = match scalar {
        Scalar::Null => return Value::Empty,
        Scalar::Text(text) => text,
        Scalar::Integer(number) => number.to_string(),
        Scalar::Real(number) => return Value::Other(number.to_string(), "a fraction"),
        Scalar::Bool(flag) => flag.to_string(),
        Scalar::Instant(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
        Scalar::Local(at) => at.to_string(),
        Scalar::Date(date) => date.to_string(),
        Scalar::Other(kind) => {
            return Value::Unreadable(format!(
                "is of type {kind}, not a text, number or date; cast it in the query"
            ));
        }
    };
    Value::text(&text)
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, NaiveDateTime};
    use serde_json::Value as Json;

    use super::*;

    /// A valid value of each column, in their order.
    fn row(number: usize) -> [Scalar; 14] {
        let text = |text: &str| Scalar::Text(text.to_owned());
        [
            Scalar::Text(format!("t{number}")),
            text("name"),
            text("ada@example.org"),
            Scalar::Integer(1_796_428_800),
            text("description"),
            text("account"),
            text("role"),
            text("scope"),
            Scalar::Date(NaiveDate::from_ymd_opt(2026, 1, 2).unwrap_or_default()),
            text("2026-11-20 08:01:44"),
            text("Ada"),
            Scalar::Bool(true),
            Scalar::Integer(7),
            Scalar::Null,
        ]
    }

    fn odd(number: usize) -> Scalar {
        let small = i64::try_from(number).unwrap_or_default();
        match number % 12 {
            0 => Scalar::Null,
            1 => Scalar::Text(format!("soon {number}")),
            2 => Scalar::Text("9".repeat(number % 40)),
            3 => Scalar::Integer(i64::MIN),
            4 => Scalar::Integer(i64::MAX - small),
            5 => Scalar::Real(f64::NAN),
            6 => Scalar::Real(1e300),
            7 => Scalar::Bool(number.is_multiple_of(2)),
            8 => Scalar::Instant(DateTime::<Utc>::MAX_UTC),
            9 => Scalar::Local(NaiveDateTime::MIN),
            10 => Scalar::Date(NaiveDate::MAX),
            _ => Scalar::Other("JSONB".to_owned()),
        }
    }

    /// The token as JSON, without what these keys say.
    fn read(row: [Scalar; 14], without: &[&str]) -> Json {
        let rules = CellRules::default();
        let values = row.map(to_value);
        let token = file::parse_token(&TOKEN_COLUMNS, values, &rules, &mut BTreeSet::new());
        let mut json = serde_json::to_value(token.unwrap()).unwrap();
        for key in without {
            json.as_object_mut().unwrap().remove(*key);
        }
        json
    }

    #[test]
    fn one_odd_value_changes_nothing_else() {
        let fields: [&[&str]; 14] = [
            &["external_id"],
            &["name"],
            &["issuer"],
            &["expiry", "expiry_day"],
            &["description"],
            &["account"],
            &["role"],
            &["scope"],
            &["created_at"],
            &["last_used_at"],
            &["issuer_name"],
            &["status"],
            &["issuer_id"],
            &["issuer_gone"],
        ];
        for number in 0..10_000 {
            let column = 1 + number / 12 % 13;
            let mut row_with_odd_value = row(number);
            row_with_odd_value[column] = odd(number);
            let mut without = fields[column].to_vec();
            without.push("unreadable");
            let plain = read(row(number), &without);
            assert_eq!(read(row_with_odd_value, &without), plain, "{number}");
        }
    }
}
