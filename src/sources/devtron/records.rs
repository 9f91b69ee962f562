//! Reads what only Devtron's database has: issuer, creation, last use and version of a token.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::responses::Token;
use crate::domain::{Cell, ListedToken};
use crate::sources::{Error, cells};
use crate::upstream::database::Database;

/// The built-in users `system` and `admin`.
const BUILT_IN: [i64; 2] = [1, 2];

/// Selects no secret: neither `api_token.token` nor `users.access_token`. Each use of a token updates the
/// `updated_on` of its account's latest audit row.
macro_rules! token_query {
    ($version:literal) => {
        concat!(
            "SELECT t.id::bigint AS id, t.name::text AS name, ",
            $version,
            " AS version,
                CASE WHEN t.created_on BETWEEN '1970-01-02' AND '9999-12-31' THEN t.created_on::timestamptz END AS created_at,
                t.created_by::bigint AS created_by, c.id::bigint AS issuer_id, c.email_id::text AS issuer,
                c.active AS issuer_active,
                CASE WHEN a.updated_on BETWEEN '1970-01-02' AND '9999-12-31' THEN a.updated_on::timestamptz END AS last_used_at,
                a.id IS NOT NULL AS was_used
             FROM api_token t
             LEFT JOIN users c ON c.id = t.created_by
             LEFT JOIN LATERAL (SELECT id, updated_on FROM user_audit WHERE user_id = t.user_id
                                ORDER BY id DESC LIMIT 1) a ON true"
        )
    };
}

/// Whether the column `version` exists, readable or not.
const HAS_VERSION: &str = "SELECT EXISTS (SELECT 1 FROM pg_attribute
    WHERE attrelid = to_regclass('api_token') AND attname = 'version' AND NOT attisdropped)";

#[derive(Debug, FromRow)]
pub(super) struct TokenRecord {
    id: i64,
    name: Option<String>,
    version: Option<i64>,
    created_at: Option<DateTime<Utc>>,
    created_by: Option<i64>,
    issuer_id: Option<i64>,
    issuer: Option<String>,
    issuer_active: Option<bool>,
    last_used_at: Option<DateTime<Utc>>,
    was_used: bool,
}

#[derive(Debug)]
pub(super) struct TokenRecords {
    pub by_id: BTreeMap<i64, TokenRecord>,
    /// Whether the version of the secret is readable; `None` if Devtron has no versions.
    pub versions: Option<bool>,
}

pub(super) async fn load(database: &Database, tokens: &[Token]) -> Result<TokenRecords, Error> {
    let listed = tokens.iter().filter_map(|token| Some((token.id()?, token)));
    let listed: HashMap<i64, &Token> = listed.collect();
    let mut transaction = database.begin_read().await?;
    let columns = transaction.table_columns("api_token").await?;
    let is_readable = columns.contains("version");
    // Devtron has versions since 0.7.
    let mut exists = is_readable;
    if !is_readable {
        transaction
            .for_each_row(HAS_VERSION, |(has_version,): (bool,)| {
                exists = has_version;
                Ok(())
            })
            .await?;
    }
    let query = if is_readable {
        token_query!("t.version::bigint")
    } else {
        token_query!("NULL::bigint")
    };
    let mut by_id = BTreeMap::new();
    transaction
        .for_each_row(query, |record: TokenRecord| {
            // Compares the name, too, because another Devtron has tokens with the same ids.
            if let Some(token) = listed.get(&record.id)
                && token.name() == record.name.as_deref()
            {
                by_id.insert(record.id, record);
            }
            Ok(())
        })
        .await?;
    transaction.close().await;
    Ok(TokenRecords {
        by_id,
        versions: exists.then_some(is_readable),
    })
}

impl TokenRecord {
    pub fn add_to(&self, listed: &mut ListedToken) {
        listed.issuer = cells::address(self.issuer.as_deref());
        if listed.issuer == Cell::Empty {
            // `admin`, or the token that created it.
            listed.issuer_name = cells::text(self.issuer.as_deref());
        }
        listed.issuer_id = self.created_by.map(|id| id.to_string());
        listed.issuer_gone = self.issuer_gone();
        listed.created_at = self.created_at.into();
        listed.last_used_at = match self.last_used_at {
            // It was used, but not recorded when.
            None if self.was_used => Cell::Absent,
            at => at.into(),
        };
        let version = self.version.and_then(|version| u32::try_from(version).ok());
        listed.secret_version = version.map(|version| version.max(1));
    }

    /// The evidence that the issuer has left.
    fn issuer_gone(&self) -> Cell<String> {
        let Some(id) = self.created_by.filter(|id| !BUILT_IN.contains(id)) else {
            return Cell::Empty;
        };
        if self.issuer_id.is_none() {
            return Cell::Value(format!("Devtron has no user {id}"));
        }
        match self.issuer_active {
            Some(false) => Cell::Value(format!("Devtron lists the user {id} as inactive")),
            Some(true) | None => Cell::Empty,
        }
    }
}
