//! A look at the source without a listing: do the queries run, which columns do they give, and what could
//! the role do that it need not.

use std::fs::OpenOptions;
use std::path::Path;

use chrono::DateTime;

use crate::sources::database::{Reading, Scalar};
use crate::sources::{Checked, Error, Refusals, Right};

use super::columns::Shape;
use super::people::People;
use super::statement::Statement;
use super::{ControlFlow, SqlSource};

/// So many rows are looked at.
const ROWS: u64 = 100;

/// Tables of others that the role could change.
const WRITABLE: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
       AND has_schema_privilege(n.oid, 'USAGE')
       AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')";

impl SqlSource {
    /// Runs the queries for a few rows.
    pub(super) async fn probe(&self) -> Result<Checked, Error> {
        let mut reading = self.read().await?;
        let kind = if self.database.is_sqlite() {
            "SQLite"
        } else {
            "PostgreSQL"
        };
        let mut said = vec![format!("{kind}, {}", self.columns(&mut reading).await?)];
        if self.is_incremental() {
            said.push(
                "only changes are asked for, so that no token is ever marked gone".to_owned(),
            );
        }
        if let Some(query) = &self.people {
            let people = People::read(&mut reading, query, &mut Refusals::default()).await?;
            said.push(format!("{} people", people.count()));
        }
        let mut rights = Vec::new();
        for (name, statement) in [
            ("mark_expired", &self.mark_expired),
            ("revoke", &self.revoke),
        ] {
            if let Some(statement) = statement {
                rights.push(may_run(&mut reading, name, statement).await?);
            }
        }
        if rights.is_empty()
            && let Some(warning) = self.too_much(&mut reading).await?
        {
            said.push(warning);
        }
        reading.close().await;
        Ok(Checked {
            summary: said.join("; "),
            rights,
        })
    }

    /// Which columns there are and which not, and how many of the first rows are sound.
    async fn columns(&self, reading: &mut Reading<'_>) -> Result<String, Error> {
        let values = self.values(DateTime::UNIX_EPOCH);
        let names = reading.columns_of(&self.query.text, &values).await?;
        let shape = Shape::of_tokens(&names, self.dialect)?;
        let (mut seen, mut refused, mut first) = (0, 0, None);
        reading
            .records(&self.query.text, &values, |record| {
                seen += 1;
                if let Err(reason) = shape.token(record) {
                    refused += 1;
                    first.get_or_insert(format!("row {seen}: {reason}"));
                }
                Ok(if seen < ROWS {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })
            .await?;
        let names = names.join(", ");
        let missing = match shape.missing() {
            missing if missing.is_empty() => String::new(),
            missing => format!(" (not {})", missing.join(", ")),
        };
        let refused = first.map_or(String::new(), |first| {
            format!(", {refused} refused, the first: {first}")
        });
        Ok(format!(
            "columns {names}{missing}; {seen} rows looked at{refused}"
        ))
    }

    /// What the credentials could do although nothing is to be written.
    async fn too_much(&self, reading: &mut Reading<'_>) -> Result<Option<String>, Error> {
        if self.database.is_sqlite() {
            let file = Path::new(self.database.place());
            let is_writable = OpenOptions::new().append(true).open(file).is_ok();
            return Ok(is_writable.then(|| {
                "the user that lapsed runs as could write the file, which it need not".to_owned()
            }));
        }
        let mut tables = 0;
        reading
            .records(WRITABLE, &[], |record| {
                if let Scalar::Integer(count) = record.scalar(0) {
                    tables = count;
                }
                Ok(ControlFlow::Break(()))
            })
            .await?;
        Ok((tables > 0).then(|| {
            format!(
                "the role could write to {tables} table{}, which it need not: give lapsed a role with \
                 nothing but SELECT",
                if tables == 1 { "" } else { "s" }
            )
        }))
    }
}

/// Whether a statement that writes would be accepted, by having it planned and not run.
async fn may_run(
    reading: &mut Reading<'_>,
    name: &str,
    statement: &Statement,
) -> Result<Right, Error> {
    let values: Vec<_> = statement
        .names
        .iter()
        .map(|index| match super::write::OF_A_TOKEN[*index] {
            "expires_at" => Scalar::Instant(DateTime::UNIX_EPOCH),
            _ => Scalar::Text("1".to_owned()),
        })
        .collect();
    let planned = reading.explain(&statement.text, &values).await;
    Ok(Right {
        what: format!("run {name}"),
        missing: planned.err().map(|error| error.to_string()),
    })
}
