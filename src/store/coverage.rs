//! Counts of people by status, and which issuers the directories cover.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::{IdentityStatus, Reason};

use super::mails::parse_stored;
use super::people::push_names;
use super::{Result, Tx, on};

/// What one directory knows about an issuer of working tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerIdentity {
    pub email_key: String,
    /// Directory, status and reason; `None` when no directory knows the issuer.
    pub identity: Option<(String, IdentityStatus, Option<Reason>)>,
}

/// How many people of one directory have this status.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct IdentityCount {
    pub directory: String,
    #[sqlx(try_from = "String")]
    pub status: IdentityStatus,
    /// Why the status is unknown.
    pub reason: Option<String>,
    pub count: i64,
}

#[derive(FromRow)]
struct IssuerIdentityRow {
    email_key: String,
    directory: Option<String>,
    status: Option<String>,
    reason: Option<String>,
}

/// The token still works at its source, where an expiry by our own policy has no effect. Ends before the
/// parameter for now.
macro_rules! works {
    () => {
        "t.status IN ('active', 'expired')
         AND (t.expires_at IS NULL OR t.expiry_origin = 'policy' OR t.expires_at > "
    };
}

impl Tx {
    /// What these directories know about each issuer of working tokens, in order of address. The cost grows
    /// with the issuers, not the tokens: each step looks up the next issuer, then one working token.
    pub async fn list_issuer_identities(
        &mut self,
        directories: &[String],
        now: DateTime<Utc>,
    ) -> Result<Vec<IssuerIdentity>> {
        let rows: Vec<IssuerIdentityRow> = on!(self, c: Db => {
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
        rows.into_iter().map(IssuerIdentity::try_from).collect()
    }

    /// Counts the working tokens without an issuer's address.
    pub async fn count_tokens_without_issuer(&mut self, now: DateTime<Utc>) -> Result<i64> {
        let (count,): (i64,) = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(concat!(
                "SELECT COUNT(*) FROM token t WHERE t.issuer_key IS NULL AND ", works!()));
            query.push_bind(now).push(")");
            query.build_query_as().fetch_one(c).await
        })?;
        Ok(count)
    }

    /// Counts people by directory and status. At the directories in `stale` every known status counts as
    /// unknown.
    pub async fn count_identities(&mut self, stale: &[String]) -> Result<Vec<IdentityCount>> {
        Ok(on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT directory, status, reason, COUNT(*) AS count FROM (
                     SELECT directory, CASE WHEN is_stale THEN 'unknown' ELSE status END AS status,
                            CASE WHEN is_stale THEN 'stale' WHEN status = 'unknown' THEN reason END AS reason
                     FROM (SELECT directory, status, reason, status <> 'unknown' AND directory IN (");
            push_names(&mut query, stale);
            query.push(") AS is_stale FROM identity) AS known) AS shown
                 GROUP BY directory, status, reason ORDER BY directory, status, reason");
            query.build_query_as().fetch_all(c).await
        })?)
    }
}

impl TryFrom<IssuerIdentityRow> for IssuerIdentity {
    type Error = super::Error;

    fn try_from(row: IssuerIdentityRow) -> Result<Self> {
        let reason = row
            .reason
            .map(|text| parse_stored(&text, "an identity's reason"));
        let reason = reason.transpose()?;
        let status = row
            .status
            .map(|text| parse_stored(&text, "an identity's status"));
        let status = status.transpose()?;
        Ok(Self {
            email_key: row.email_key,
            identity: row
                .directory
                .zip(status)
                .map(|(directory, status)| (directory, status, reason)),
        })
    }
}
