//! Sources, and how it goes with them.

use crate::domain::Standing;

use super::{Result, Tx, on};

/// What is known of a source.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub struct SourceRow {
    /// Its configured name.
    pub name: String,
    /// Its configured kind.
    pub kind: String,
    /// Of the last good listing.
    pub fingerprint: Option<String>,
    /// How many tokens the last good listing held, or, after one that was not whole, are known to be there.
    pub tokens: i64,
    /// How it goes.
    #[sqlx(flatten)]
    pub standing: Standing,
    /// The longest life that it allows, in seconds; `None`, where the evidence tells of one, is for ever.
    pub longest_life: Option<i64>,
    /// Where that stands; `None` when the source does not tell.
    pub life_evidence: Option<String>,
}

impl Tx {
    /// What is known of a source.
    pub async fn source(&mut self, name: &str) -> Result<Option<SourceRow>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT * FROM source WHERE name = $1")
            .bind(name).fetch_optional(c).await)?,
        )
    }

    /// Every source that was ever synchronised.
    pub async fn sources(&mut self) -> Result<Vec<SourceRow>> {
        Ok(
            on!(self, c: Db => sqlx::query_as("SELECT * FROM source ORDER BY name").fetch_all(c).await)?,
        )
    }

    /// How many tokens of a source are there, as far as is known. This reads them all.
    pub async fn count_present(&mut self, source: &str) -> Result<i64> {
        let (count,): (i64,) = on!(self, c: Db => sqlx::query_as(
            "SELECT COUNT(*) FROM token WHERE source = $1 AND status IN ('active', 'expired', 'disabled')")
            .bind(source).fetch_one(c).await)?;
        Ok(count)
    }

    /// The names of sources that were synchronised once and are not among these. Sources that tokens are
    /// only imported into never were.
    pub async fn sources_other_than(
        &mut self,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let names = self.sources().await?.into_iter().map(|row| row.name);
        Ok(names.filter(|name| !is_known(name)).collect())
    }

    /// Writes what is known of a source.
    pub async fn put_source(&mut self, row: &SourceRow) -> Result<()> {
        let standing = &row.standing;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO source (name, kind, fingerprint, tokens, last_sync_at, last_good_sync_at, error,
                                 failures, failing_since, deferred_until, longest_life, life_evidence)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, fingerprint = excluded.fingerprint,
                tokens = excluded.tokens, last_sync_at = excluded.last_sync_at,
                last_good_sync_at = excluded.last_good_sync_at, error = excluded.error,
                failures = excluded.failures, failing_since = excluded.failing_since,
                deferred_until = excluded.deferred_until, longest_life = excluded.longest_life,
                life_evidence = excluded.life_evidence")
            .bind(&row.name).bind(&row.kind).bind(&row.fingerprint).bind(row.tokens)
            .bind(standing.last_sync_at).bind(standing.last_good_sync_at).bind(&standing.error)
            .bind(standing.failures).bind(standing.failing_since).bind(standing.deferred_until)
            .bind(row.longest_life).bind(&row.life_evidence)
            .execute(c).await.map(drop))?;
        Ok(())
    }
}
