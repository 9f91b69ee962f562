//! A row whose columns are known by name alone, and the values that go into a statement.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::postgres::{PgArguments, PgTypeKind};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, Column, Decode, Row as _, Sqlite, Type, TypeInfo, ValueRef};
use uuid::Uuid;

use super::Row;

/// A value in a row, or one that goes into a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// NULL.
    Null,
    /// A text, or what reads like one: a UUID, a label of an enum.
    Text(String),
    /// A number.
    Integer(i64),
    /// True or false.
    Bool(bool),
    /// An instant; without a time zone it counts as UTC.
    Instant(DateTime<Utc>),
    /// A day.
    Date(NaiveDate),
    /// The date `infinity` of PostgreSQL.
    Forever,
    /// What no column of ours can be, by the name of its type.
    Other(String),
}

/// A row of an operator's query.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a>(pub(super) Row<'a>);

impl Record<'_> {
    /// The names of its columns.
    pub fn columns(&self) -> Vec<String> {
        match self.0 {
            Row::Sqlite(row) => row
                .columns()
                .iter()
                .map(|it| it.name().to_owned())
                .collect(),
            Row::Postgres(row) => row
                .columns()
                .iter()
                .map(|it| it.name().to_owned())
                .collect(),
        }
    }

    /// What stands in the column of this index.
    pub fn scalar(&self, index: usize) -> Scalar {
        let scalar = match self.0 {
            Row::Sqlite(row) => sqlite(row, index),
            Row::Postgres(row) => postgres(row, index),
        };
        scalar.unwrap_or_else(|| Scalar::Other("a value that cannot be read".to_owned()))
    }
}

fn sqlite(row: &sqlx::sqlite::SqliteRow, index: usize) -> Option<Scalar> {
    let value = row.try_get_raw(index).ok()?;
    if value.is_null() {
        return Some(Scalar::Null);
    }
    // Of the value: what a column is declared as binds nobody in SQLite.
    let kind = value.type_info().name().to_owned();
    Some(match kind.as_str() {
        "TEXT" => Scalar::Text(read::<String>(value)?),
        "INTEGER" => Scalar::Integer(read::<i64>(value)?),
        _ => Scalar::Other(kind),
    })
}

fn read<'r, T: Decode<'r, Sqlite>>(value: sqlx::sqlite::SqliteValueRef<'r>) -> Option<T> {
    T::decode(value).ok()
}

fn postgres(row: &sqlx::postgres::PgRow, index: usize) -> Option<Scalar> {
    let value = row.try_get_raw(index).ok()?;
    if value.is_null() {
        return Some(Scalar::Null);
    }
    let info = value.type_info();
    let is_text = <String as Type<sqlx::Postgres>>::compatible(&info)
        || matches!(info.kind(), PgTypeKind::Enum(_));
    // As numbers, because sqlx panics over `infinity`: microseconds and days since 2000.
    let number = || row.try_get_unchecked::<i64, _>(index).ok();
    Some(match info.name() {
        _ if is_text => Scalar::Text(row.try_get_unchecked(index).ok()?),
        "UUID" => Scalar::Text(row.try_get_unchecked::<Uuid, _>(index).ok()?.to_string()),
        "INT2" | "INT4" | "INT8" => Scalar::Integer(number()?),
        "BOOL" => Scalar::Bool(row.try_get_unchecked(index).ok()?),
        "TIMESTAMPTZ" | "TIMESTAMP" => match number()? {
            i64::MAX => Scalar::Forever,
            micros => {
                Scalar::Instant(millennium().checked_add_signed(TimeDelta::microseconds(micros))?)
            }
        },
        "DATE" => match number()? {
            days if days == i64::from(i32::MAX) => Scalar::Forever,
            days => Scalar::Date(
                millennium()
                    .date_naive()
                    .checked_add_signed(TimeDelta::try_days(days)?)?,
            ),
        },
        name => Scalar::Other(name.to_owned()),
    })
}

/// From when PostgreSQL counts.
fn millennium() -> DateTime<Utc> {
    DateTime::from_timestamp(946_684_800, 0).unwrap_or_default()
}

/// The values for SQLite, where an instant is a text as its own `datetime` writes it. A fraction is cut,
/// and a space sorts before a `T`, so that what is compared with it is never taken for older than it is.
pub(super) fn sqlite_arguments(values: &[Scalar]) -> SqliteArguments {
    let mut arguments = SqliteArguments::default();
    for value in values {
        // Only what has no fixed size can fail to be added, and none of these has.
        let _ = match value {
            Scalar::Null | Scalar::Other(_) | Scalar::Forever => {
                arguments.add(Option::<String>::None)
            }
            Scalar::Text(text) => arguments.add(text.clone()),
            Scalar::Integer(number) => arguments.add(*number),
            Scalar::Bool(flag) => arguments.add(*flag),
            Scalar::Instant(at) => arguments.add(at.format("%Y-%m-%d %H:%M:%S").to_string()),
            Scalar::Date(date) => arguments.add(date.to_string()),
        };
    }
    arguments
}

/// The values for PostgreSQL.
pub(super) fn postgres_arguments(values: &[Scalar]) -> PgArguments {
    let mut arguments = PgArguments::default();
    for value in values {
        let _ = match value {
            Scalar::Null | Scalar::Other(_) | Scalar::Forever => {
                arguments.add(Option::<String>::None)
            }
            Scalar::Text(text) => arguments.add(text),
            Scalar::Integer(number) => arguments.add(*number),
            Scalar::Bool(flag) => arguments.add(*flag),
            Scalar::Instant(at) => arguments.add(*at),
            Scalar::Date(date) => arguments.add(*date),
        };
    }
    arguments
}
