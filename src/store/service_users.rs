//! The users of the token service with their roles.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _};

use crate::domain::service::ServicePerson;
use crate::domain::{Address, LOCAL_SOURCE};

use super::columns::{decode_addresses, encode_addresses, impl_from_row, push_list};
use super::people::lost_statuses;
use super::{CHUNK_ROWS, Change, Result, Tx, locking, on};

/// A user with one of their roles.
struct UserRow {
    person: ServicePerson,
    account_key: Option<String>,
    role: Option<String>,
}

impl_from_row!(UserRow, row => {
    let owners = decode_addresses(row.try_get("owners")?);
    Ok(Self {
        person: ServicePerson {
            key: row.try_get("key")?,
            address: row.try_get("address")?,
            name: row.try_get("name")?,
            is_super: row.try_get("is_super")?,
            is_sso: row.try_get("is_sso")?,
            owners: owners.map_err(|_| sqlx::Error::Decode("a user has an invalid owner".into()))?,
            created_at: row.try_get("created_at")?,
            disabled_at: row.try_get("disabled_at")?,
            lost_access_at: row.try_get("lost_access_at")?,
            roles: BTreeMap::new(),
            version: row.try_get("version")?,
        },
        account_key: row.try_get("account_key")?,
        role: row.try_get("role")?,
    })
});

const SELECT_USERS: &str = "SELECT u.*, r.account_key, r.role FROM service_user u LEFT JOIN service_role r ON r.user_key = u.key WHERE u.key ";

/// The rows of a user follow one another.
fn collect_people(rows: Vec<UserRow>) -> Vec<ServicePerson> {
    let mut people: Vec<ServicePerson> = Vec::new();
    for row in rows {
        if people.last().is_none_or(|last| last.key != row.person.key) {
            people.push(row.person);
        }
        if let (Some(person), Some(account), Some(role)) =
            (people.last_mut(), row.account_key, row.role)
        {
            person.roles.insert(account, role);
        }
    }
    people
}

impl Tx {
    pub async fn find_service_user(&mut self, key: &str) -> Result<Option<ServicePerson>> {
        Ok(self.find_service_users(&[key]).await?.pop())
    }

    /// In order of their keys.
    pub async fn find_service_users(&mut self, keys: &[&str]) -> Result<Vec<ServicePerson>> {
        let mut rows: Vec<UserRow> = Vec::new();
        for chunk in keys.chunks(CHUNK_ROWS) {
            rows.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(SELECT_USERS);
                query.push("IN (");
                push_list(&mut query, chunk.iter().copied());
                query.push(") ORDER BY u.key");
                query.build_query_as::<UserRow>().persistent(chunk.len() == 1).fetch_all(c).await
            })?);
        }
        Ok(collect_people(rows))
    }

    /// Loads a user and locks them until the transaction ends.
    pub async fn lock_service_user(&mut self, key: &str) -> Result<Option<ServicePerson>> {
        Ok(self.lock_service_users(&[key]).await?.pop())
    }

    /// Loads users in order of their keys, and locks them until the transaction ends.
    pub async fn lock_service_users(&mut self, keys: &[&str]) -> Result<Vec<ServicePerson>> {
        let lock = self.by_database("", " FOR UPDATE");
        self.load_locked_users(keys, lock).await
    }

    /// Loads users in order of their keys, who cannot be changed until the transaction ends; others may hold them, too.
    pub async fn hold_service_users(&mut self, keys: &[&str]) -> Result<Vec<ServicePerson>> {
        let lock = self.by_database("", " FOR SHARE");
        self.load_locked_users(keys, lock).await
    }

    async fn load_locked_users(
        &mut self,
        keys: &[&str],
        lock: &'static str,
    ) -> Result<Vec<ServicePerson>> {
        for chunk in keys.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT key FROM service_user WHERE key IN (");
                push_list(&mut query, chunk.iter().copied());
                query.push(") ORDER BY key").push(lock);
                query.build().persistent(chunk.len() == 1).fetch_all(c).await.map(drop)
            })?;
        }
        self.find_service_users(keys).await
    }

    /// Locks everybody with a role in an account until the transaction ends.
    pub async fn lock_service_users_in(&mut self, account: &str) -> Result<()> {
        let sql = locking!(
            self,
            "SELECT key FROM service_user WHERE key IN (SELECT user_key FROM service_role WHERE account_key = $1)
             ORDER BY key"
        );
        on!(self, c: Db => sqlx::query(sql).bind(account).fetch_all(c).await.map(drop))
    }

    /// Adds a user unless there is one with this key, so that they can be locked. Returns whether they are new.
    pub async fn reserve_service_user(&mut self, person: &ServicePerson) -> Result<bool> {
        let added = on!(self, c: Db => sqlx::query(
            "INSERT INTO service_user (key, address, name, is_super, is_sso, owners, created_at, version)
             VALUES ($1, $2, $3, FALSE, FALSE, NULL, $4, 0) ON CONFLICT (key) DO NOTHING")
            .bind(&person.key).bind(person.address.as_ref().map(Address::as_str)).bind(&person.name)
            .bind(person.created_at).execute(c).await.map(|done| done.rows_affected()))?;
        Ok(added > 0)
    }

    /// A page of users after the key `after`: all, or those of an account.
    pub async fn list_service_users(
        &mut self,
        account: Option<&str>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ServicePerson>> {
        let rows: Vec<UserRow> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(SELECT_USERS);
            match account {
                Some(account) => query.push("IN (SELECT user_key FROM service_role WHERE account_key = ")
                    .push_bind(account).push(" AND user_key > ").push_bind(after.unwrap_or(""))
                    .push(" ORDER BY user_key LIMIT "),
                None => query.push("IN (SELECT key FROM service_user WHERE key > ")
                    .push_bind(after.unwrap_or("")).push(" ORDER BY key LIMIT "),
            };
            query.push_bind(limit).push(") ORDER BY u.key");
            query.build_query_as().fetch_all(c).await
        })?;
        Ok(collect_people(rows))
    }

    /// Writes a user, new or known, with all their roles; the version counts up. Returns the new version.
    pub async fn save_service_user(&mut self, person: &ServicePerson) -> Result<i64> {
        let version: i64 = on!(self, c: Db => sqlx::query_scalar(
            "INSERT INTO service_user (key, address, name, is_super, is_sso, owners, created_at, disabled_at,
                                       lost_access_at, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1)
             ON CONFLICT (key) DO UPDATE SET address = excluded.address, name = excluded.name,
                is_super = excluded.is_super, is_sso = excluded.is_sso, owners = excluded.owners,
                disabled_at = excluded.disabled_at, lost_access_at = excluded.lost_access_at,
                version = service_user.version + 1
             RETURNING version")
            .bind(&person.key).bind(person.address.as_ref().map(Address::as_str)).bind(&person.name)
            .bind(person.is_super).bind(person.is_sso).bind(encode_addresses(&person.owners)).bind(person.created_at)
            .bind(person.disabled_at).bind(person.lost_access_at).fetch_one(c).await)?;
        self.delete_roles_of(&person.key).await?;
        let roles: Vec<_> = person.roles.iter().collect();
        for chunk in roles.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO service_role (user_key, account_key, role) ");
                query.push_values(chunk, |mut row, (account, role)| {
                    row.push_bind(&person.key).push_bind(*account).push_bind(*role);
                });
                query.build().execute(c).await.map(drop)
            })?;
        }
        self.record_change(&Change::User(person.key.clone()))
            .await?;
        Ok(version)
    }

    /// Deletes a user with their roles; their tokens have ended before.
    pub async fn remove_service_user(&mut self, key: &str) -> Result<()> {
        self.delete_roles_of(key).await?;
        on!(self, c: Db => sqlx::query("DELETE FROM service_user WHERE key = $1")
            .bind(key).execute(c).await.map(drop))?;
        self.record_change(&Change::User(key.to_owned())).await
    }

    async fn delete_roles_of(&mut self, user: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM service_role WHERE user_key = $1")
            .bind(user).execute(c).await.map(drop))
    }

    /// Makes those who have this role the administrators of their accounts, as another source reports its own.
    pub async fn refresh_service_admins(&mut self, role: &str) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM source_admin WHERE source = $1")
            .bind(LOCAL_SOURCE).execute(c).await.map(drop))?;
        on!(self, c: Db => sqlx::query(
            "INSERT INTO source_admin (source, account, address)
             SELECT $1, r.account_key, u.address FROM service_role r JOIN service_user u ON u.key = r.user_key
             WHERE r.role = $2 AND u.address IS NOT NULL AND u.disabled_at IS NULL AND u.lost_access_at IS NULL
             ON CONFLICT DO NOTHING")
            .bind(LOCAL_SOURCE).bind(role).execute(c).await.map(drop))
    }

    /// Sets or clears since when a directory reports that a user lost access. Returns whether that changed anything.
    pub async fn set_lost_access(
        &mut self,
        key: &str,
        since: Option<DateTime<Utc>>,
    ) -> Result<bool> {
        let changed = on!(self, c: Db => sqlx::query(
            "UPDATE service_user SET lost_access_at = $2, version = version + 1
             WHERE key = $1 AND (lost_access_at IS NULL) <> ($2 IS NULL)")
            .bind(key).bind(since).execute(c).await.map(|done| done.rows_affected()))?;
        if changed > 0 {
            self.record_change(&Change::User(key.to_owned())).await?;
        }
        Ok(changed > 0)
    }
    /// Users in SSO without access at one of these directories whose tokens still work, each with the evidence.
    pub async fn find_users_to_stop(
        &mut self,
        directories: &[String],
    ) -> Result<Vec<(String, String)>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(concat!(
                "SELECT u.key, MIN(i.directory || ' says ' || i.evidence) FROM identity i JOIN service_user u ON u.key = i.email_key
                 WHERE i.status IN ", lost_statuses!(), " AND u.is_sso AND u.address IS NOT NULL AND u.lost_access_at IS NULL
                   AND i.directory IN ("));
            push_list(&mut query, directories);
            query.push(") GROUP BY u.key ORDER BY u.key");
            query.build_query_as().fetch_all(c).await
        })
    }

    /// Users whose tokens were stopped, and whom one of these directories reports as active and none without access.
    pub async fn find_users_to_restore(
        &mut self,
        directories: &[String],
    ) -> Result<Vec<(String, String)>> {
        on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(concat!(
                "SELECT u.key, MIN(i.directory || ' says ' || i.evidence) FROM service_user u JOIN identity i ON i.email_key = u.key
                 WHERE u.lost_access_at IS NOT NULL AND i.status = 'active'
                   AND NOT EXISTS (SELECT 1 FROM identity o WHERE o.email_key = u.key AND o.status IN ", lost_statuses!(), ")
                   AND i.directory IN ("));
            push_list(&mut query, directories);
            query.push(") GROUP BY u.key ORDER BY u.key");
            query.build_query_as().fetch_all(c).await
        })
    }

    pub async fn list_stopped_users(&mut self) -> Result<Vec<String>> {
        on!(self, c: Db => sqlx::query_scalar(
            "SELECT key FROM service_user WHERE lost_access_at IS NOT NULL ORDER BY key").fetch_all(c).await)
    }
    /// The people whose tokens work and who have this role in an account: the account's key and their address, in order.
    pub async fn list_service_admins(&mut self, role: &str) -> Result<Vec<(String, String)>> {
        let mut admins: Vec<(String, String)> = on!(self, c: Db => sqlx::query_as(
            "SELECT r.account_key, u.address FROM service_role r JOIN service_user u ON u.key = r.user_key
             WHERE r.role = $1 AND u.address IS NOT NULL AND u.disabled_at IS NULL AND u.lost_access_at IS NULL")
            .bind(role).fetch_all(c).await)?;
        admins.sort_unstable();
        Ok(admins)
    }
}
