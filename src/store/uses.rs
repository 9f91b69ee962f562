//! Uses of the tokens of the service: by hour, by secret, and from which addresses.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, QueryBuilder};

use crate::domain::{FindingKind, TokenId};

use super::columns::push_list;
use super::{CHUNK_ROWS, OpenFinding, Result, Tx, on};

/// Addresses that are kept for each token, of those that used it and of those that were refused.
const KEPT_ADDRESSES: i64 = 5;

/// What happened to a token in one hour since it was last written; at most one for each token and hour.
#[derive(Debug, Clone)]
pub struct UseRow {
    pub token_id: TokenId,
    /// The beginning of the hour.
    pub hour: DateTime<Utc>,
    pub ok: u32,
    /// With the right secret.
    pub refused: u32,
    /// The numbers of the accepted secrets, with the last use of each.
    pub secrets: Vec<(u32, DateTime<Utc>)>,
    pub addresses: Vec<AddressUse>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressUse {
    pub address: IpAddr,
    pub is_refused: bool,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct HourOfUse {
    pub hour: DateTime<Utc>,
    pub ok: i64,
    pub refused: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// In order; hours without a use are left out.
    pub hours: Vec<HourOfUse>,
    /// The latest first.
    pub addresses: Vec<AddressUse>,
}

type AddressRow = (bool, String, DateTime<Utc>, DateTime<Utc>);

impl Tx {
    /// Adds to what is stored. Uses of credentials that no longer exist are left out.
    pub async fn add_uses(&mut self, uses: &[UseRow]) -> Result<()> {
        for chunk in uses.chunks(CHUNK_ROWS) {
            let known = self.lock_used_credentials(chunk).await?;
            let chunk: Vec<_> = chunk
                .iter()
                .filter(|row| known.contains(&row.token_id))
                .collect();
            if chunk.is_empty() {
                continue;
            }
            self.add_hours(&chunk).await?;
            self.add_addresses(&chunk).await?;
            // An UPDATE applies one row a token. Between two writes, a token may have had several secrets.
            let most = chunk.iter().map(|row| row.secrets.len()).max();
            for nth in 0..most.unwrap_or_default() {
                let secrets: Vec<_> = chunk
                    .iter()
                    .filter_map(|row| {
                        row.secrets
                            .get(nth)
                            .map(|(number, at)| (row.token_id, *number, *at))
                    })
                    .collect();
                self.set_secrets_used(&secrets).await?;
            }
            let last_uses = chunk.iter().filter_map(|row| {
                let last = row.secrets.iter().map(|(_, at)| *at).max()?;
                Some((row.token_id, last))
            });
            self.set_tokens_used(&last_uses.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// In order of their ids, so that two processes do not wait for each other.
    async fn lock_used_credentials(&mut self, uses: &[UseRow]) -> Result<Vec<TokenId>> {
        let lock = self.by_database("", " FOR UPDATE");
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT id FROM credential WHERE id IN (");
            push_list(&mut query, uses.iter().map(|row| row.token_id));
            query.push(") ORDER BY id").push(lock);
            query.build_query_scalar().fetch_all(c).await
        })
    }

    async fn add_hours(&mut self, uses: &[&UseRow]) -> Result<()> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("INSERT INTO token_use (token_id, hour, ok, refused) ");
            query.push_values(uses, |mut row, used| {
                row.push_bind(used.token_id).push_bind(used.hour).push_bind(i64::from(used.ok))
                    .push_bind(i64::from(used.refused));
            });
            query.push(" ON CONFLICT (token_id, hour) DO UPDATE SET ok = token_use.ok + excluded.ok,
                refused = token_use.refused + excluded.refused");
            query.build().persistent(false).execute(c).await.map(drop)
        })
    }

    async fn add_addresses(&mut self, uses: &[&UseRow]) -> Result<()> {
        let rows: Vec<_> = uses
            .iter()
            .flat_map(|row| row.addresses.iter().map(|used| (row.token_id, used)))
            .collect();
        for chunk in rows.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO token_address (token_id, is_refused, address, first_at, last_at) ");
                query.push_values(chunk, |mut row, (token, used)| {
                    row.push_bind(*token).push_bind(used.is_refused).push_bind(used.address.to_string())
                        .push_bind(used.first_at).push_bind(used.last_at);
                });
                query.push(" ON CONFLICT (token_id, is_refused, address) DO UPDATE SET
                    last_at = CASE WHEN excluded.last_at > token_address.last_at
                                   THEN excluded.last_at ELSE token_address.last_at END");
                query.build().persistent(false).execute(c).await.map(drop)
            })?;
        }
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "DELETE FROM token_address WHERE (token_id, is_refused, address) IN (
                    SELECT token_id, is_refused, address FROM (
                        SELECT token_id, is_refused, address, ROW_NUMBER() OVER (
                            PARTITION BY token_id, is_refused ORDER BY last_at DESC, address) AS nth
                        FROM token_address WHERE token_id IN (");
            push_list(&mut query, uses.iter().map(|row| row.token_id));
            query.push(")) AS numbered WHERE nth > ").push_bind(KEPT_ADDRESSES).push(")");
            query.build().persistent(false).execute(c).await.map(drop)
        })
    }

    async fn set_secrets_used(&mut self, uses: &[(TokenId, u32, DateTime<Utc>)]) -> Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(
                "UPDATE credential SET
                    secret_used_at = CASE WHEN v.column2 = secret_number AND (secret_used_at IS NULL OR secret_used_at < v.column3)
                        THEN v.column3 ELSE secret_used_at END,
                    old_used_at = CASE WHEN v.column2 = old_number AND (old_used_at IS NULL OR old_used_at < v.column3)
                        THEN v.column3 ELSE old_used_at END
                 FROM (");
            query.push_values(uses, |mut row, (token, number, at)| {
                row.push_bind(*token).push_bind(i64::from(*number)).push_bind(*at);
            });
            query.push(") AS v WHERE credential.id = v.column1");
            query.build().persistent(false).execute(c).await.map(drop)
        })
    }

    async fn set_tokens_used(&mut self, uses: &[(TokenId, DateTime<Utc>)]) -> Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("UPDATE token SET last_used_at = v.column2 FROM (");
            query.push_values(uses, |mut row, (token, at)| {
                row.push_bind(*token).push_bind(*at);
            });
            query.push(") AS v WHERE token.id = v.column1 AND (token.last_used_at IS NULL OR token.last_used_at < v.column2)");
            query.build().persistent(false).execute(c).await.map(drop)
        })
    }

    pub async fn load_uses(&mut self, token: TokenId) -> Result<Uses> {
        let hours = on!(self, c: Db => sqlx::query_as(
            "SELECT hour, ok, refused FROM token_use WHERE token_id = $1 ORDER BY hour")
            .bind(token).fetch_all(c).await)?;
        let rows: Vec<AddressRow> = on!(self, c: Db => sqlx::query_as(
            "SELECT is_refused, address, first_at, last_at FROM token_address WHERE token_id = $1
             ORDER BY last_at DESC, address")
            .bind(token).fetch_all(c).await)?;
        let address = |(is_refused, address, first_at, last_at): AddressRow| {
            let address = address.parse().ok()?;
            Some(AddressUse {
                address,
                is_refused,
                first_at,
                last_at,
            })
        };
        Ok(Uses {
            hours,
            addresses: rows.into_iter().filter_map(address).collect(),
        })
    }
    /// Tokens that work, whose old secret ends in (`now`, `until`] and was used since it was replaced; with the instants
    /// of the replacement and of the end.
    pub async fn find_old_secrets_in_use(
        &mut self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<(TokenId, DateTime<Utc>, DateTime<Utc>)>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, secret_created_at, old_valid_until FROM credential
             WHERE old_valid_until > $1 AND old_valid_until <= $2 AND old_used_at > secret_created_at
               AND state = 'active' ORDER BY id")
            .bind(now).bind(until).fetch_all(c).await)
    }

    /// The tokens that were used from an address for the first time since `since`.
    pub async fn find_tokens_at_new_addresses(
        &mut self,
        since: DateTime<Utc>,
    ) -> Result<Vec<TokenId>> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT DISTINCT token_id FROM token_address WHERE first_at >= $1 AND NOT is_refused ORDER BY token_id")
            .bind(since).fetch_all(c).await)
    }
    /// Findings of one kind about tokens that are not resolved.
    pub async fn load_open_findings_of_kind(
        &mut self,
        kind: FindingKind,
    ) -> Result<Vec<OpenFinding>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT id, token_id, kind, severity, since, evidence FROM finding
             WHERE kind = $1 AND token_id IS NOT NULL AND state <> 'resolved'")
            .bind(kind.as_str()).fetch_all(c).await)
    }
}
