//! Erases what is known of a person: a pseudonym replaces their address in every column that can hold it.

use std::time::Instant;

use chrono::DateTime;
use sqlx::QueryBuilder;

use super::notices::unsent;
use super::open::LOCK_TIMEOUT;
use super::people::push_owned_by;
use super::{CHUNK_ROWS, Change, Pools, Result, Store, Tx, on};
use crate::domain::{Address, IdentityStatus, Status, Token, TokenId};

/// How many rows changed, how many unsent notices to the person were cancelled, and how many tokens of the token
/// service were revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    pub rows: u64,
    pub cancelled: u64,
    pub revoked: u64,
}

/// The columns that can hold an address, by table.
pub const TEXT_COLUMNS: &[(&str, &[&str])] = &[
    ("meta", &["key", "value"]),
    (
        "source",
        &[
            "fingerprint",
            "error",
            "max_life_evidence",
            "readable_columns",
        ],
    ),
    ("source_admin", &["account", "address"]),
    (
        "token",
        &[
            "external_id",
            "name",
            "description",
            "issuer",
            "issuer_key",
            "co_owners",
            "issuer_name",
            "issuer_gone",
            "account",
            "role",
            "scope",
            "unreadable",
        ],
    ),
    ("token_owner", &["owner_key"]),
    ("mail", &["recipient", "recipient_key", "reason"]),
    (
        "notice",
        &[
            "subject",
            "recipient",
            "recipient_key",
            "reason",
            "title",
            "detail",
        ],
    ),
    ("address", &["key", "reason"]),
    (
        "directory",
        &["error", "groups", "cursor", "gaps", "held", "held_changes"],
    ),
    (
        "identity",
        &[
            "email_key",
            "email",
            "account_id",
            "name",
            "evidence",
            "candidate_evidence",
        ],
    ),
    ("finding", &["evidence"]),
    ("run", &["outcome", "report"]),
    ("service_account", &["key", "name"]),
    ("service_user", &["key", "address", "name", "owners"]),
    ("service_role", &["user_key", "account_key", "role"]),
    ("credential", &["issuer_key", "account_key", "role"]),
    ("sign_in_link", &["user_key"]),
    ("change", &["key"]),
    ("preference", &["address_key", "address"]),
    ("audit", &["actor", "subject", "reason"]),
];

impl Tx {
    /// Whether a mail to the person is being delivered, or may have arrived and is sent again.
    pub async fn has_mail_in_flight(&mut self, key: &str) -> Result<bool> {
        let first: Option<(i32,)> = on!(self, c: Db => sqlx::query_as(
            "SELECT 1 FROM mail WHERE recipient_key = $1 AND state IN ('claimed', 'sending', 'unknown') LIMIT 1")
            .bind(key).fetch_optional(c).await)?;
        Ok(first.is_some())
    }

    /// Sources that name the person in a text of a token, with its status, or as an administrator, which counts as
    /// active.
    pub async fn list_sources_naming(&mut self, person: &Address) -> Result<Vec<(String, Status)>> {
        let of_token = TEXT_COLUMNS.iter().find(|(table, _)| *table == "token");
        let columns = of_token.map_or(String::new(), |(_, columns)| columns.join(", "));
        let position = self.position();
        let mut rows: Vec<(String, Status, String)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(format!(
                "SELECT source, status, text FROM (
                    SELECT source, status, CONCAT_WS(' ', {columns}) AS text FROM token
                    UNION ALL SELECT source, 'active', CONCAT_WS(' ', account, address) FROM source_admin) AS named
                 WHERE {position}(LOWER(text), "));
            query.push_bind(person.common_part()).push(") > 0");
            query.build_query_as().fetch_all(c).await
        })?;
        rows.retain(|(_, _, text)| person.is_in(text));
        let sources = rows.into_iter().map(|(source, status, _)| (source, status));
        Ok(sources.collect())
    }

    /// Directories with the person's status there, and the last clear one.
    pub async fn list_statuses_of(
        &mut self,
        key: &str,
    ) -> Result<Vec<(String, IdentityStatus, IdentityStatus)>> {
        on!(self, c: Db => sqlx::query_as("SELECT directory, status, known_status FROM identity WHERE email_key = $1")
            .bind(key).fetch_all(c).await)
    }

    /// Cancels what is unsent to the person, deletes what directories and mail servers reported about them, and
    /// replaces their address everywhere else.
    pub async fn erase_person(&mut self, person: &Address, pseudonym: &str) -> Result<Erased> {
        self.refuse_newer_schema().await?;
        let key = person.key();
        let reason = "the recipient was erased";
        let cancelled = on!(self, c: Db => sqlx::query(concat!(
            "UPDATE notice SET state = 'cancelled', held = FALSE, reason = $2 WHERE recipient_key = $1 AND ", unsent!()))
            .bind(key).bind(reason).execute(c).await.map(|done| done.rows_affected()))?;
        on!(self, c: Db => sqlx::query(
            "UPDATE mail SET state = 'cancelled', reason = $2 WHERE recipient_key = $1 AND state IN ('open', 'waiting')")
            .bind(key).bind(reason).execute(c).await.map(drop))?;
        let mut rows = 0;
        for sql in [
            "DELETE FROM identity WHERE email_key = $1",
            "DELETE FROM address WHERE key = $1",
            "DELETE FROM source_admin WHERE LOWER(address) = $1",
            "DELETE FROM preference WHERE address_key = $1",
        ] {
            rows += on!(self, c: Db => sqlx::query(sql).bind(key).execute(c).await.map(|done| done.rows_affected()))?;
        }
        let (ended, revoked) = self.end_service_user(person).await?;
        rows += ended;
        rows += self.remove_owner(person).await?;
        // Without an address no one is mailed, and no directory is asked.
        rows += on!(self, c: Db => sqlx::query(
            "UPDATE token SET issuer = NULL, issuer_key = NULL, issuer_name = $2 WHERE issuer_key = $1")
            .bind(key).bind(pseudonym).execute(c).await.map(|done| done.rows_affected()))?;
        for (table, columns) in TEXT_COLUMNS {
            for column in *columns {
                rows += self
                    .replace_in_column(table, column, person, pseudonym)
                    .await?;
            }
        }
        Ok(Erased {
            rows,
            cancelled,
            revoked,
        })
    }

    /// Revokes the tokens of a user of the service and removes them, also as an owner of machine users. Returns how many
    /// rows changed, and how many tokens are revoked.
    async fn end_service_user(&mut self, person: &Address) -> Result<(u64, u64)> {
        let key = person.key();
        let mut rows = 0;
        let owned: Vec<String> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT key FROM service_user WHERE owners IS NOT NULL ORDER BY key").fetch_all(c).await)?;
        let owned: Vec<_> = owned.iter().map(String::as_str).collect();
        for mut machine in self.find_service_users(&owned).await? {
            let before = machine.owners.len();
            machine.owners.retain(|owner| owner.key() != key);
            if machine.owners.len() < before {
                self.save_service_user(&machine).await?;
                rows += 1;
            }
        }
        if self.find_service_user(key).await?.is_none() {
            return Ok((rows, 0));
        }
        let ending: Vec<TokenId> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT id FROM credential WHERE issuer_key = $1 AND state <> 'revoked' ORDER BY id")
            .bind(key).fetch_all(c).await)?;
        let revoked = on!(self, c: Db => sqlx::query(
            "UPDATE token SET status = 'revoked', due_at = NULL, judge_at = $2
             WHERE status <> 'revoked' AND id IN (SELECT id FROM credential WHERE issuer_key = $1)")
            .bind(key).bind(DateTime::UNIX_EPOCH).execute(c).await.map(|done| done.rows_affected()))?;
        for sql in [
            concat!("UPDATE notice SET state = 'cancelled', held = FALSE, reason = 'the token was revoked'
             WHERE topic = 'expiry' AND token_id IN (SELECT id FROM credential WHERE issuer_key = $1) AND ", unsent!()),
            "DELETE FROM token_address WHERE token_id IN (SELECT id FROM credential WHERE issuer_key = $1)",
            "UPDATE credential SET state = 'revoked', version = version + 1 WHERE issuer_key = $1 AND state <> 'revoked'",
        ] {
            rows += on!(self, c: Db => sqlx::query(sql).bind(key).execute(c).await.map(|done| done.rows_affected()))?;
        }
        self.remove_service_user(key).await?;
        // By id: the key of the person is erased from the feed, too, and with it what a restored store must end again.
        let ended: Vec<Change> = ending.into_iter().map(Change::Credential).collect();
        self.record_changes(&ended).await?;
        self.record_change(&Change::Everything).await?;
        Ok((rows + 1, revoked))
    }

    /// Leaves tokens to their other owners; returns how many.
    async fn remove_owner(&mut self, person: &Address) -> Result<u64> {
        let tokens: Vec<Token> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new("SELECT * FROM token t WHERE t.co_owners IS NOT NULL AND ");
            push_owned_by(&mut query, person.key());
            query.build_query_as().fetch_all(c).await
        })?;
        for token in &tokens {
            let mut owners = token.owners().filter(|owner| *owner != person).cloned();
            let token = Token {
                issuer: owners.next(),
                co_owners: owners.collect(),
                ..token.clone()
            };
            on!(self, c: Db => sqlx::query(
                "UPDATE token SET issuer = $2, issuer_key = $3, issuer_name = CASE WHEN issuer_key = $3 THEN issuer_name END
                 WHERE id = $1")
                .bind(token.id).bind(token.issuer.as_ref().map(Address::as_str))
                .bind(token.issuer.as_ref().map(Address::key)).execute(c).await.map(drop))?;
            self.replace_co_owners(&token).await?;
        }
        Ok(tokens.len() as u64)
    }

    async fn replace_in_column(
        &mut self,
        table: &str,
        column: &str,
        person: &Address,
        pseudonym: &str,
    ) -> Result<u64> {
        // A table without ids has few rows, and their texts will do.
        let (key, condition) = match table {
            "token" | "mail" | "notice" | "finding" | "run" | "audit" | "credential" => (
                self.by_database("HEX(id)", "id::text"),
                self.by_database("id = UNHEX(v.column1)", "id = v.column1::uuid")
                    .to_owned(),
            ),
            _ => (column, format!("{column} = v.column1")),
        };
        let position = self.position();
        let lock = self.by_database("", " FOR UPDATE");
        let mut texts: Vec<(String, String)> = on!(self, c: Db => {
            let mut query = QueryBuilder::<Db>::new(format!(
                "SELECT {key}, {column} FROM {table} WHERE {position}(LOWER({column}), "));
            query.push_bind(person.common_part()).push(") > 0").push(lock);
            query.build_query_as().fetch_all(c).await
        })?;
        texts.retain(|(_, text)| person.is_in(text));
        let mut rows = 0;
        for chunk in texts.chunks(CHUNK_ROWS) {
            rows += on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(format!(
                    "UPDATE {table} SET {column} = v.column2 FROM ("));
                query.push_values(chunk, |mut row, (key, text)| {
                    row.push_bind(key).push_bind(person.replace_in(text, pseudonym));
                });
                query.push(format!(") AS v WHERE {table}.{condition}"));
                query.build().execute(c).await.map(|done| done.rows_affected())
            })?;
        }
        Ok(rows)
    }

    /// The function that finds a text in a text.
    fn position(&self) -> &'static str {
        self.by_database("INSTR", "STRPOS")
    }
}

impl Store {
    /// Empties SQLite's write-ahead log, which holds earlier versions of pages. Returns `false` if readers of the store
    /// prevent that for too long.
    pub async fn empty_log(&self) -> Result<bool> {
        let Pools::Sqlite { write, .. } = &self.0 else {
            return Ok(true);
        };
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(write)
                .await?;
            if busy == 0 || Instant::now() >= deadline {
                return Ok(busy == 0);
            }
            tokio::time::sleep(super::open::OPEN_RETRY_INTERVAL).await;
        }
    }
}
