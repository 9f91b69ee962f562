//! What a presented token is judged by: its credential, those that it was exchanged for, and their issuer.

use std::collections::BTreeMap;

use sqlx::Row as _;

use crate::domain::TokenId;
use crate::domain::service::{Credential, ServicePerson};

use super::cluster::SHORT_LIMIT;
use super::columns::{decode_addresses, impl_from_row};
use super::session::Session;
use super::{CHUNK_ROWS, Pools, Result, Store, Tx, guarded};

/// An access token, its refresh token, the token that it was exchanged for.
pub const MAX_CHAIN: usize = 3;

/// A credential with the person who issued it.
struct Issued(Credential, ServicePerson);

impl_from_row!(Issued, row => {
    let invalid = |what: &str| sqlx::Error::Decode(format!("a user has invalid {what}").into());
    let roles: Option<&str> = row.try_get("roles")?;
    let roles = roles.map_or_else(|| Ok(BTreeMap::new()), serde_json::from_str);
    let owners = decode_addresses(row.try_get("owners")?);
    let person = ServicePerson {
        key: row.try_get("issuer_key")?,
        address: row.try_get("address")?,
        name: row.try_get("name")?,
        is_super: row.try_get("is_super")?,
        is_sso: row.try_get("is_sso")?,
        owners: owners.map_err(|_| invalid("owners"))?,
        created_at: row.try_get("user_created_at")?,
        disabled_at: row.try_get("disabled_at")?,
        lost_access_at: row.try_get("lost_access_at")?,
        roles: roles.map_err(|_| invalid("roles"))?,
        version: row.try_get("user_version")?,
    };
    Ok(Self(sqlx::FromRow::from_row(row)?, person))
});

/// SQL: the credentials with these ids, and those that they were exchanged for. It is one statement whatever it finds,
/// so that no transaction is needed for one state of the store. In place of an id that does not exist, it reads the
/// next one, so that the time does not say whether an id exists.
macro_rules! issued {
    ($ids:literal, $roles:literal) => {
        concat!(
            "WITH own AS MATERIALIZED (
                SELECT c.* FROM ",
            $ids,
            " w JOIN credential c ON c.id = COALESCE(
                    (SELECT x.id FROM credential x WHERE x.id >= w.id ORDER BY x.id LIMIT 1),
                    (SELECT x.id FROM credential x ORDER BY x.id LIMIT 1)
                )
             ), parents AS MATERIALIZED (
                SELECT p.* FROM own o JOIN credential p ON p.id = o.parent
             )
             SELECT k.*, u.address, u.name, u.is_super, u.is_sso, u.owners, u.created_at AS user_created_at, u.disabled_at,
                u.lost_access_at, u.version AS user_version,
                (SELECT ",
            $roles,
            " FROM service_role r WHERE r.user_key = u.key) AS roles
             FROM (
                SELECT * FROM own
                UNION ALL
                SELECT * FROM parents
                UNION ALL
                SELECT g.* FROM parents o JOIN credential g ON g.id = o.parent
             ) k JOIN service_user u ON u.key = k.issuer_key"
        )
    };
}

const OF_SQLITE: &str = issued!(
    "(SELECT unhex(value) AS id FROM json_each($1))",
    "json_group_object(r.account_key, r.role)"
);
const OF_POSTGRES: &str = issued!(
    "(SELECT UNNEST($1) AS id)",
    "CAST(json_object_agg(r.account_key, r.role) AS TEXT)"
);

impl Store {
    /// These credentials with those that they were exchanged for, up to [`MAX_CHAIN`] in all, and who issued them. One
    /// that does not exist is replaced by another.
    pub async fn find_issued(&self, ids: &[TokenId]) -> Result<Vec<(Credential, ServicePerson)>> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK_ROWS) {
            found.extend(self.find_issued_chunk(chunk).await?);
        }
        Ok(pairs(found))
    }

    async fn find_issued_chunk(&self, ids: &[TokenId]) -> Result<Vec<Issued>> {
        match &self.0 {
            Pools::Sqlite { read, .. } => {
                let query = sqlx::query_as(OF_SQLITE).bind(json_list(ids));
                Ok(query.fetch_all(read).await?)
            }
            Pools::Postgres { cluster, pool } => {
                let mut session = Session::open(cluster, pool, SHORT_LIMIT).await?;
                match find_in_session(&mut session, ids).await {
                    // A connection that turns out to be lost is replaced once.
                    Err(error) if error.is_loss() => {
                        session = Session::open(cluster, pool, SHORT_LIMIT).await?;
                        find_in_session(&mut session, ids).await
                    }
                    found => found,
                }
            }
        }
    }
}

impl Tx {
    /// As [`Store::find_issued`].
    pub async fn find_issued(
        &mut self,
        ids: &[TokenId],
    ) -> Result<Vec<(Credential, ServicePerson)>> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK_ROWS) {
            found.extend(match self {
                Self::Sqlite(tx) => {
                    let query = sqlx::query_as(OF_SQLITE).bind(json_list(chunk));
                    query.fetch_all(&mut **tx).await?
                }
                Self::Postgres(session) => find_in_session(session, chunk).await?,
            });
        }
        Ok(pairs(found))
    }
}

async fn find_in_session(session: &mut Session, ids: &[TokenId]) -> Result<Vec<Issued>> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let query = sqlx::query_as(OF_POSTGRES).bind(ids);
    guarded!(session, c => query.fetch_all(c).await)
}

/// One parameter however many ids, so that the statement is prepared once.
fn json_list(ids: &[TokenId]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| id.0.simple().to_string()).collect();
    serde_json::json!(ids).to_string()
}

fn pairs(found: Vec<Issued>) -> Vec<(Credential, ServicePerson)> {
    found
        .into_iter()
        .map(|Issued(credential, person)| (credential, person))
        .collect()
}
