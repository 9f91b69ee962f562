//! Credentials: what lapsed verifies the tokens by that it issued.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use crate::domain::TokenId;
use crate::domain::service::{Credential, Digest, Kind, OldSecret, Parent, StoredSecret};

use super::columns::{impl_from_row, push_list};
use super::{CHUNK_ROWS, Change, Result, Tx, guarded, locking, on};

/// SQL: the names of the kinds for which [`Kind::is_internal`].
macro_rules! internal_kinds {
    () => {
        "('session', 'access', 'refresh', 'feed')"
    };
}
pub(super) use internal_kinds;

/// Of what was exchanged for a token, at a time.
const MAX_DELETED: i64 = 100;

fn encode_digest(digest: &Digest) -> String {
    digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn decode_digest(text: &str) -> Option<Digest> {
    let bytes = text.as_bytes().chunks(2);
    let bytes = bytes.map(|pair| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    Digest::from_stored(&bytes.collect::<Option<Vec<u8>>>()?)
}

impl_from_row!(Credential, row => {
    let id: TokenId = row.try_get("id")?;
    let invalid = |what: &str| sqlx::Error::Decode(format!("credential {id} has {what}").into());
    let number = |number: i64| u32::try_from(number).map_err(|_| invalid("an invalid secret number"));
    let digest = |text: &str| decode_digest(text).ok_or_else(|| invalid("an invalid digest"));
    let old_number: Option<i64> = row.try_get("old_number")?;
    let old_digest: Option<&str> = row.try_get("old_digest")?;
    let old_created_at: Option<DateTime<Utc>> = row.try_get("old_created_at")?;
    let old_valid_until: Option<DateTime<Utc>> = row.try_get("old_valid_until")?;
    let old_secret = match (old_number, old_digest, old_created_at, old_valid_until) {
        (Some(old_number), Some(old_digest), Some(created_at), Some(valid_until)) => Some(OldSecret {
            secret: StoredSecret {
                number: number(old_number)?,
                digest: digest(old_digest)?,
                created_at,
                last_used_at: row.try_get("old_used_at")?,
            },
            valid_until,
        }),
        _ => None,
    };
    Ok(Self {
        id,
        public_id: row.try_get("public_id")?,
        kind: Kind::parse(row.try_get("kind")?),
        issuer: row.try_get("issuer_key")?,
        account: row.try_get("account_key")?,
        role: row.try_get("role")?,
        scopes: row.try_get("scopes")?,
        networks: row.try_get("networks")?,
        created_at: row.try_get("created_at")?,
        not_before: row.try_get("not_before")?,
        expires_at: row.try_get("expires_at")?,
        state: row.try_get("state")?,
        secret: StoredSecret {
            number: number(row.try_get("secret_number")?)?,
            digest: digest(row.try_get("digest")?)?,
            created_at: row.try_get("secret_created_at")?,
            last_used_at: row.try_get("secret_used_at")?,
        },
        old_secret,
        parent: match (row.try_get("parent")?, row.try_get("parent_secret")?) {
            (Some(id), Some(secret)) => Some(Parent { id, secret: number(secret)? }),
            _ => None,
        },
        version: row.try_get("version")?,
    })
});

impl Tx {
    pub async fn insert_credential(&mut self, credential: &Credential) -> Result<()> {
        self.insert_credentials(&[credential]).await
    }

    pub async fn insert_credentials(&mut self, credentials: &[&Credential]) -> Result<()> {
        for chunk in credentials.chunks(CHUNK_ROWS) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "INSERT INTO credential (id, public_id, kind, issuer_key, account_key, role, scopes, networks, created_at,
                        not_before, expires_at, state, digest, secret_number, secret_created_at, secret_used_at, old_digest,
                        old_number, old_created_at, old_used_at, old_valid_until, parent, parent_secret, version) ");
                query.push_values(chunk, |mut row, credential| {
                    let old = credential.old_secret.as_ref();
                    row.push_bind(credential.id).push_bind(credential.public_id.as_str())
                        .push_bind(credential.kind.as_str()).push_bind(&credential.issuer)
                        .push_bind(&credential.account).push_bind(&credential.role)
                        .push_bind(credential.scopes.to_string()).push_bind(credential.networks.to_string())
                        .push_bind(credential.created_at).push_bind(credential.not_before)
                        .push_bind(credential.expires_at).push_bind(credential.state.as_str())
                        .push_bind(encode_digest(&credential.secret.digest))
                        .push_bind(i64::from(credential.secret.number)).push_bind(credential.secret.created_at)
                        .push_bind(credential.secret.last_used_at)
                        .push_bind(old.map(|old| encode_digest(&old.secret.digest)))
                        .push_bind(old.map(|old| i64::from(old.secret.number)))
                        .push_bind(old.map(|old| old.secret.created_at))
                        .push_bind(old.and_then(|old| old.secret.last_used_at))
                        .push_bind(old.map(|old| old.valid_until))
                        .push_bind(credential.parent.map(|parent| parent.id))
                        .push_bind(credential.parent.map(|parent| i64::from(parent.secret)))
                        .push_bind(credential.version);
                });
                query.build().persistent(chunk.len() == 1).execute(c).await.map(drop)
            })?;
        }
        let changes: Vec<_> = credentials
            .iter()
            .map(|credential| Change::Credential(credential.id))
            .collect();
        self.record_changes(&changes).await
    }

    /// Writes what can change; the version counts up. Returns the new version, or `None` if there is no such credential.
    pub async fn save_credential(&mut self, credential: &Credential) -> Result<Option<i64>> {
        let version: Option<i64> = on!(self, c: Db => {
            let old = credential.old_secret.as_ref();
            sqlx::query_scalar(
                "UPDATE credential SET issuer_key = $2, account_key = $3, role = $4, scopes = $5, networks = $6,
                    not_before = $7, expires_at = $8, state = $9, digest = $10,
                    shown_at = CASE WHEN secret_number = $11 THEN shown_at END, secret_number = $11,
                    secret_created_at = $12, secret_used_at = $13, old_digest = $14, old_number = $15,
                    old_created_at = $16, old_used_at = $17, old_valid_until = $18, version = version + 1
                 WHERE id = $1 RETURNING version")
                .bind(credential.id).bind(&credential.issuer).bind(&credential.account).bind(&credential.role)
                .bind(credential.scopes.to_string()).bind(credential.networks.to_string())
                .bind(credential.not_before).bind(credential.expires_at).bind(credential.state.as_str())
                .bind(encode_digest(&credential.secret.digest)).bind(i64::from(credential.secret.number))
                .bind(credential.secret.created_at).bind(credential.secret.last_used_at)
                .bind(old.map(|old| encode_digest(&old.secret.digest)))
                .bind(old.map(|old| i64::from(old.secret.number))).bind(old.map(|old| old.secret.created_at))
                .bind(old.and_then(|old| old.secret.last_used_at)).bind(old.map(|old| old.valid_until))
                .fetch_optional(c).await
        })?;
        if version.is_some() {
            self.record_change(&Change::Credential(credential.id))
                .await?;
        }
        Ok(version)
    }

    pub async fn find_credentials(&mut self, ids: &[TokenId]) -> Result<Vec<Credential>> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK_ROWS) {
            let rows: Vec<Credential> = match self {
                Self::Sqlite(tx) => {
                    let mut query =
                        QueryBuilder::<Sqlite>::new("SELECT * FROM credential WHERE id IN (");
                    push_list(&mut query, chunk);
                    query.push(")");
                    let query = query.build_query_as().persistent(chunk.len() == 1);
                    query.fetch_all(&mut **tx).await?
                }
                Self::Postgres(session) => {
                    let ids: Vec<_> = chunk.iter().map(|id| id.0).collect();
                    let query =
                        sqlx::query_as("SELECT * FROM credential WHERE id = ANY($1)").bind(ids);
                    guarded!(session, c => query.fetch_all(c).await)?
                }
            };
            found.extend(rows);
        }
        Ok(found)
    }

    /// Deletes what was exchanged for a credential, but for the latest `kept`. Returns what was deleted.
    pub async fn delete_oldest_exchanged(
        &mut self,
        parent: TokenId,
        kept: i64,
    ) -> Result<Vec<Change>> {
        let ids: Vec<TokenId> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT id FROM credential WHERE parent = $1 ORDER BY created_at DESC, id LIMIT $2 OFFSET $3")
            .bind(parent).bind(MAX_DELETED).bind(kept).fetch_all(c).await)?;
        let mut changes = Vec::with_capacity(ids.len());
        for id in ids {
            on!(self, c: Db => sqlx::query("DELETE FROM credential WHERE id = $1")
                .bind(id).execute(c).await.map(drop))?;
            let change = Change::Credential(id);
            self.record_change(&change).await?;
            changes.push(change);
        }
        Ok(changes)
    }

    /// Loads a credential and locks it until the transaction ends.
    pub async fn lock_credential(&mut self, id: TokenId) -> Result<Option<Credential>> {
        let sql = locking!(self, "SELECT * FROM credential WHERE id = $1");
        on!(self, c: Db => sqlx::query_as(sql).bind(id).fetch_optional(c).await)
    }

    /// All credentials of a user that are not revoked, the internal ones included, in order of their ids.
    pub async fn list_credentials_of(&mut self, user: &str) -> Result<Vec<Credential>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM credential WHERE issuer_key = $1 AND state <> 'revoked' ORDER BY id")
            .bind(user).fetch_all(c).await)
    }

    /// All credentials in an account that are not revoked, the internal ones included, in order of their ids.
    pub async fn list_credentials_in(&mut self, account: &str) -> Result<Vec<Credential>> {
        on!(self, c: Db => sqlx::query_as(
            "SELECT * FROM credential WHERE account_key = $1 AND state <> 'revoked' ORDER BY id")
            .bind(account).fetch_all(c).await)
    }

    /// How many tokens of an account count in its limit.
    pub async fn count_account_tokens(&mut self, account: &str, now: DateTime<Utc>) -> Result<u64> {
        let counts = self.count_tokens_in(&[account], now).await?;
        Ok(counts.get(account).copied().unwrap_or_default())
    }

    /// How many tokens of a user count in their limit.
    pub async fn count_user_tokens(&mut self, user: &str, now: DateTime<Utc>) -> Result<u64> {
        let counts = self.count_tokens_of(&[user], now).await?;
        Ok(counts.get(user).copied().unwrap_or_default())
    }

    /// How many tokens of each of these accounts count in its limit; accounts without any are left out.
    pub async fn count_tokens_in(
        &mut self,
        accounts: &[&str],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, u64>> {
        self.count_tokens_by("account_key", accounts, now).await
    }

    /// How many tokens of each of these users count in their limit; users without any are left out.
    pub async fn count_tokens_of(
        &mut self,
        users: &[&str],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, u64>> {
        self.count_tokens_by("issuer_key", users, now).await
    }

    async fn count_tokens_by(
        &mut self,
        column: &'static str,
        keys: &[&str],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, u64>> {
        let mut counts = HashMap::new();
        for chunk in keys.chunks(CHUNK_ROWS) {
            let rows: Vec<(String, i64)> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT ");
                query.push(column).push(concat!(
                    ", COUNT(*) FROM credential WHERE state <> 'revoked' AND kind NOT IN ", internal_kinds!(),
                    " AND (expires_at IS NULL OR expires_at > ")).push_bind(now).push(") AND ")
                    .push(column).push(" IN (");
                push_list(&mut query, chunk.iter().copied());
                query.push(") GROUP BY ").push(column);
                query.build_query_as().persistent(chunk.len() == 1).fetch_all(c).await
            })?;
            let rows = rows.into_iter();
            counts.extend(rows.map(|(key, count)| (key, count.unsigned_abs())));
        }
        Ok(counts)
    }

    /// Records that the text of the current secret was handed over.
    pub async fn mark_shown(&mut self, id: TokenId, at: DateTime<Utc>) -> Result<()> {
        on!(self, c: Db => sqlx::query("UPDATE credential SET shown_at = $2 WHERE id = $1")
            .bind(id).bind(at).execute(c).await.map(drop))
    }

    /// Whether nobody may have the current secret: it is not recorded that its text was handed over, and it was never
    /// used.
    pub async fn is_never_shown(&mut self, id: TokenId) -> Result<bool> {
        let found: Option<TokenId> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT id FROM credential WHERE id = $1 AND shown_at IS NULL AND secret_used_at IS NULL")
            .bind(id).fetch_optional(c).await)?;
        Ok(found.is_some())
    }

    /// Which of these tokens belong to machine users.
    pub async fn find_machine_tokens(&mut self, ids: &[TokenId]) -> Result<HashSet<TokenId>> {
        let mut found = HashSet::new();
        for chunk in ids.chunks(CHUNK_ROWS) {
            found.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT c.id FROM credential c JOIN service_user u ON u.key = c.issuer_key
                     WHERE u.address IS NULL AND c.id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_scalar::<TokenId>().fetch_all(c).await
            })?);
        }
        Ok(found)
    }

    /// The external ids of all tokens that lapsed issued.
    pub async fn list_public_ids(&mut self) -> Result<Vec<String>> {
        on!(self, c: Db => sqlx::query_scalar(concat!(
            "SELECT public_id FROM credential WHERE kind NOT IN ", internal_kinds!())).fetch_all(c).await)
    }
}
