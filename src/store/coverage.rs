//! How many people are what, and which issuers somebody watches over.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::{IdentityStatus, Reason};

use super::mails::parsed;
use super::people::push_names;
use super::{Result, Tx, on};

/// What one directory says of one issuer of working tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSaid {
    /// The issuer's address as it is compared.
    pub email_key: String,
    /// The directory with what it says; `None` where none has said anything.
    pub said: Option<(String, IdentityStatus, Option<Reason>)>,
}

/// People of one directory by what is known of them.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct IdentityCount {
    /// The directory.
    pub directory: String,
    /// What is believed.
    #[sqlx(try_from = "String")]
    pub status: IdentityStatus,
    /// Why it is unknown.
    pub reason: Option<String>,
    /// How many.
    pub count: i64,
}

#[derive(FromRow)]
struct SaidRow {
    email_key: String,
    directory: Option<String>,
    status: Option<String>,
    reason: Option<String>,
}

/// The token still works at its source: a date of ours ends nothing there. What follows is the time.
macro_rules! works {
    () => {
        "t.status IN ('active', 'expired')
         AND (t.expires_at IS NULL OR t.expiry_origin = 'policy' OR t.expires_at > "
    };
}

impl Tx {
    /// What these directories say of each issuer of working tokens, in order of address. This costs what
    /// there are issuers: each step looks up the next, and then one token of theirs that works.
    pub async fn issuers_said(
        &mut self,
        directories: &[String],
        now: DateTime<Utc>,
    ) -> Result<Vec<IssuerSaid>> {
        let rows: Vec<SaidRow> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "WITH RECURSIVE issuer (key) AS (
                     SELECT MIN(issuer_key) FROM token WHERE issuer_key IS NOT NULL
                     UNION ALL
                     SELECT (SELECT MIN(t.issuer_key) FROM token t WHERE t.issuer_key > issuer.key)
                     FROM issuer WHERE issuer.key IS NOT NULL)
                 SELECT issuer.key AS email_key, i.directory, i.status, i.reason
                 FROM issuer LEFT JOIN identity i ON i.email_key = issuer.key AND i.directory IN (");
            push_names(&mut query, directories);
            query.push(concat!(") WHERE EXISTS (SELECT 1 FROM token t WHERE t.issuer_key = issuer.key AND ", works!()))
                .push_bind(now).push(")) ORDER BY issuer.key, i.directory");
            query.build_query_as().fetch_all(c).await
        })?;
        rows.into_iter().map(IssuerSaid::try_from).collect()
    }

    /// How many working tokens name no issuer's address.
    pub async fn count_without_issuer(&mut self, now: DateTime<Utc>) -> Result<i64> {
        let (count,): (i64,) = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(concat!(
                "SELECT COUNT(*) FROM token t WHERE t.issuer_key IS NULL AND ", works!()));
            query.push_bind(now).push(")");
            query.build_query_as().fetch_one(c).await
        })?;
        Ok(count)
    }

    /// How many people are what, at each directory; those of the directories in `stale` who were known are
    /// unknown.
    pub async fn identity_counts(&mut self, stale: &[String]) -> Result<Vec<IdentityCount>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT directory, status, reason, COUNT(*) AS count FROM (
                     SELECT directory, CASE WHEN is_stale THEN 'unknown' ELSE status END AS status,
                            CASE WHEN is_stale THEN 'stale' WHEN status = 'unknown' THEN reason END AS reason
                     FROM (SELECT directory, status, reason, status <> 'unknown' AND directory IN (");
            push_names(&mut query, stale);
            query.push(") AS is_stale FROM identity) AS said) AS seen
                 GROUP BY directory, status, reason ORDER BY directory, status, reason");
            query.build_query_as().fetch_all(c).await
        })?)
    }
}

impl TryFrom<SaidRow> for IssuerSaid {
    type Error = super::Error;

    fn try_from(row: SaidRow) -> Result<Self> {
        let reason = row.reason.map(|word| parsed(&word, "an identity's reason"));
        let reason = reason.transpose()?;
        let status = row.status.map(|word| parsed(&word, "an identity's status"));
        let status = status.transpose()?;
        Ok(Self {
            email_key: row.email_key,
            said: row
                .directory
                .zip(status)
                .map(|(directory, status)| (directory, status, reason)),
        })
    }
}
