//! Rows whose columns are known only by name, and the values of statements.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use sqlx::postgres::{PgArguments, PgRow, PgTypeKind};
use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{Arguments, Column, Decode, Row as _, Sqlite, Type, TypeInfo, ValueRef};
use uuid::Uuid;

#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Sqlite(&'a SqliteRow),
    Postgres(&'a PgRow),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    /// Also a UUID or the label of an enum.
    Text(String),
    Integer(i64),
    Bool(bool),
    Real(f64),
    Instant(DateTime<Utc>),
    /// An instant without a time zone.
    Local(NaiveDateTime),
    Date(NaiveDate),
    /// The name of a type that lapsed does not read.
    Other(String),
}

#[derive(Clone, Copy)]
pub(crate) struct Record<'a>(pub(super) Row<'a>);

impl Record<'_> {
    pub fn columns(&self) -> Vec<String> {
        fn names(columns: &[impl Column]) -> Vec<String> {
            columns
                .iter()
                .map(|column| column.name().to_owned())
                .collect()
        }
        match self.0 {
            Row::Sqlite(row) => names(row.columns()),
            Row::Postgres(row) => names(row.columns()),
        }
    }

    pub fn scalar(&self, index: usize) -> Scalar {
        let scalar = match self.0 {
            Row::Sqlite(row) => sqlite_scalar(row, index),
            Row::Postgres(row) => postgres_scalar(row, index),
        };
        scalar.unwrap_or_else(|| Scalar::Other("a value that cannot be read".to_owned()))
    }
}

fn sqlite_scalar(row: &SqliteRow, index: usize) -> Option<Scalar> {
    let value = row.try_get_raw(index).ok()?;
    if value.is_null() {
        return Some(Scalar::Null);
    }
    // The type of the value, because SQLite does not enforce the declared one.
    let kind = value.type_info().name().to_owned();
    Some(match kind.as_str() {
        "TEXT" => Scalar::Text(decode::<String>(value)?),
        "INTEGER" => Scalar::Integer(decode::<i64>(value)?),
        "REAL" => Scalar::Real(decode::<f64>(value)?),
        _ => Scalar::Other(kind),
    })
}

fn decode<'r, T: Decode<'r, Sqlite>>(value: SqliteValueRef<'r>) -> Option<T> {
    T::decode(value).ok()
}

fn postgres_scalar(row: &PgRow, index: usize) -> Option<Scalar> {
    let value = row.try_get_raw(index).ok()?;
    if value.is_null() {
        return Some(Scalar::Null);
    }
    let info = value.type_info();
    let is_text = <String as Type<sqlx::Postgres>>::compatible(&info)
        || matches!(info.kind(), PgTypeKind::Enum(_));
    // As numbers (microseconds or days since 2000), because sqlx panics on `infinity`.
    let number = || row.try_get_unchecked::<i64, _>(index).ok();
    Some(match info.name() {
        _ if is_text => Scalar::Text(row.try_get_unchecked(index).ok()?),
        "UUID" => Scalar::Text(row.try_get_unchecked::<Uuid, _>(index).ok()?.to_string()),
        "INT2" | "INT4" | "INT8" => Scalar::Integer(number()?),
        "BOOL" => Scalar::Bool(row.try_get_unchecked(index).ok()?),
        "FLOAT8" => Scalar::Real(row.try_get_unchecked(index).ok()?),
        kind @ ("TIMESTAMPTZ" | "TIMESTAMP") => match number()? {
            i64::MAX => infinity(),
            i64::MIN => minus_infinity(),
            micros => {
                let at = postgres_epoch().checked_add_signed(TimeDelta::microseconds(micros))?;
                if kind == "TIMESTAMP" {
                    Scalar::Local(at.naive_utc())
                } else {
                    Scalar::Instant(at)
                }
            }
        },
        "DATE" => match number()? {
            days if days == i64::from(i32::MAX) => infinity(),
            days if days == i64::from(i32::MIN) => minus_infinity(),
            days => Scalar::Date(
                postgres_epoch()
                    .date_naive()
                    .checked_add_signed(TimeDelta::try_days(days)?)?,
            ),
        },
        name => Scalar::Other(name.to_owned()),
    })
}

fn infinity() -> Scalar {
    Scalar::Text("infinity".to_owned())
}

fn minus_infinity() -> Scalar {
    Scalar::Text("-infinity".to_owned())
}

/// PostgreSQL counts from 2000.
fn postgres_epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(946_684_800, 0).unwrap_or_default()
}

/// In SQLite an instant is a text in the format of its `datetime`. Without a fraction, and with a space, which
/// sorts before a `T`, a compared value never seems older than it is.
pub(super) fn sqlite_arguments(values: &[Scalar]) -> SqliteArguments {
    let mut arguments = SqliteArguments::default();
    for value in values {
        // Adding these types cannot fail.
        let _ = match value {
            Scalar::Null | Scalar::Other(_) => arguments.add(Option::<String>::None),
            Scalar::Text(text) => arguments.add(text.clone()),
            Scalar::Integer(number) => arguments.add(*number),
            Scalar::Bool(flag) => arguments.add(*flag),
            Scalar::Instant(at) => arguments.add(at.format("%Y-%m-%d %H:%M:%S").to_string()),
            Scalar::Date(date) => arguments.add(date.to_string()),
            Scalar::Local(at) => arguments.add(at.to_string()),
            Scalar::Real(number) => arguments.add(*number),
        };
    }
    arguments
}

pub(super) fn postgres_arguments(values: &[Scalar]) -> PgArguments {
    let mut arguments = PgArguments::default();
    for value in values {
        let _ = match value {
            Scalar::Null | Scalar::Other(_) => arguments.add(Option::<String>::None),
            Scalar::Text(text) => arguments.add(text),
            Scalar::Integer(number) => arguments.add(*number),
            Scalar::Bool(flag) => arguments.add(*flag),
            Scalar::Instant(at) => arguments.add(*at),
            Scalar::Date(date) => arguments.add(*date),
            Scalar::Local(at) => arguments.add(*at),
            Scalar::Real(number) => arguments.add(*number),
        };
    }
    arguments
}
