//! The check of the source: whether the queries run, which columns they return, and which permissions the role
//! has but does not need.

use std::fs::OpenOptions;
use std::path::Path;

use chrono::DateTime;

use crate::sources::{CheckReport, Error, RefusedRows, Right};
use crate::upstream::database::{ReadTransaction, Scalar};

use super::people::People;
use super::statement::Statement;
use super::{ControlFlow, Dialect, SqlSource};

/// How many rows are checked.
const MAX_ROWS: u64 = 100;

/// Counts the tables that the role could change.
const COUNT_WRITABLE_TABLES: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
       AND has_schema_privilege(n.oid, 'USAGE')
       AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')";

impl SqlSource {
    pub(super) async fn probe(&self) -> Result<CheckReport, Error> {
        let mut reading = self.begin_read().await?;
        let kind = match self.dialect {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
        };
        let columns = self.describe_columns(&mut reading).await?;
        let mut parts = vec![format!("{kind}, {columns}")];
        if self.is_incremental() {
            parts
                .push("the query returns only changes, so no token is ever marked gone".to_owned());
        }
        if let Some(query) = &self.people {
            let people = People::load(&mut reading, query, &mut RefusedRows::default()).await?;
            parts.push(format!("{} people", people.count()));
        }
        let mut rights = Vec::new();
        for (name, statement) in [
            ("mark_expired", &self.mark_expired),
            ("revoke", &self.revoke),
        ] {
            if let Some(statement) = statement {
                rights.push(check_statement(&mut reading, name, statement).await?);
            }
        }
        if rights.is_empty()
            && let Some(warning) = self.excess_permissions(&mut reading).await?
        {
            parts.push(warning);
        }
        reading.close().await;
        Ok(CheckReport {
            summary: parts.join("; "),
            rights,
        })
    }

    /// Which columns the query returns and which not, and how many of the first rows are valid.
    async fn describe_columns(&self, reading: &mut ReadTransaction<'_>) -> Result<String, Error> {
        let values = self.query_values(DateTime::UNIX_EPOCH);
        let columns = self.token_columns(reading, &values).await?;
        let (mut seen, mut refused, mut first) = (0, 0, None);
        reading
            .for_each_record(&self.query.text, &values, |record| {
                seen += 1;
                if let Err(reason) = columns.token(record) {
                    refused += 1;
                    first.get_or_insert(format!("row {seen}: {reason}"));
                }
                Ok(if seen < MAX_ROWS {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })
            .await?;
        let names = columns.names().join(", ");
        let missing = match columns.missing_columns() {
            missing if missing.is_empty() => String::new(),
            missing => format!(" (without {})", missing.join(", ")),
        };
        let refused = first.map_or(String::new(), |first| {
            format!(", {refused} refused, the first: {first}")
        });
        Ok(format!(
            "columns {names}{missing}; {seen} rows checked{refused}"
        ))
    }

    /// A warning if the credentials permit writes although none are configured.
    async fn excess_permissions(
        &self,
        reading: &mut ReadTransaction<'_>,
    ) -> Result<Option<String>, Error> {
        if self.database.is_sqlite() {
            let file = Path::new(self.database.place());
            let is_writable = OpenOptions::new().append(true).open(file).is_ok();
            return Ok(is_writable.then(|| {
                "the user that runs lapsed can write the file, which is not needed".to_owned()
            }));
        }
        let mut tables = 0;
        reading
            .for_each_record(COUNT_WRITABLE_TABLES, &[], |record| {
                if let Scalar::Integer(count) = record.scalar(0) {
                    tables = count;
                }
                Ok(ControlFlow::Break(()))
            })
            .await?;
        Ok((tables > 0).then(|| {
            format!(
                "the role can write to {tables} table{}, which is not needed: give lapsed a role that has \
                 only SELECT",
                if tables == 1 { "" } else { "s" }
            )
        }))
    }
}

/// Plans a statement that writes, without running it.
async fn check_statement(
    reading: &mut ReadTransaction<'_>,
    name: &str,
    statement: &Statement,
) -> Result<Right, Error> {
    let values: Vec<_> = statement
        .names
        .iter()
        .map(|index| match super::write::TOKEN_PARAMETERS[*index] {
            "expires_at" => Scalar::Instant(DateTime::UNIX_EPOCH),
            _ => Scalar::Text("1".to_owned()),
        })
        .collect();
    let planned = reading.explain(&statement.text, &values).await;
    let what = format!("run {name}");
    Ok(match planned {
        Ok(()) => Right::granted(&what),
        Err(error) => Right::missing(&what, error.to_string()),
    })
}
