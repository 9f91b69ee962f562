//! What only the database of Devtron knows: who issued a token and when, when it was last used, and the
//! how many-th secret it has.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use super::answers::Token;
use crate::domain::{Cell, Listed};
use crate::sources::database::Database;
use crate::sources::{Error, cells};

/// The built-in users, `system` and `admin`, which never leave.
const BUILT_IN: [i64; 2] = [1, 2];

/// Names no secret: neither `api_token.token` nor `users.access_token`. Each use of a token moves the
/// `updated_on` of its account's latest audit row. `$version` is filled in.
macro_rules! issuances {
    ($version:literal) => {
        concat!(
            "SELECT t.id::bigint AS id, t.name::text AS name, ",
            $version,
            " AS version,
                NULLIF(NULLIF(t.created_on::timestamptz, 'infinity'), '-infinity') AS created_at,
                t.created_by::bigint AS created_by, c.id::bigint AS issuer_id, c.email_id::text AS issuer,
                c.active AS issuer_active,
                NULLIF(NULLIF(a.updated_on::timestamptz, 'infinity'), '-infinity') AS last_used_at,
                a.id IS NOT NULL AS was_used
             FROM api_token t
             LEFT JOIN users c ON c.id = t.created_by
             LEFT JOIN LATERAL (SELECT id, updated_on FROM user_audit WHERE user_id = t.user_id
                                ORDER BY id DESC LIMIT 1) a ON true"
        )
    };
}

/// A token in the database.
#[derive(Debug, FromRow)]
pub(super) struct Issuance {
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

/// Whether there is a version, whoever may read it.
const HAS_VERSION: &str = "SELECT EXISTS (SELECT 1 FROM pg_attribute
    WHERE attrelid = to_regclass('api_token') AND attname = 'version' AND NOT attisdropped)";

/// What the database knows.
#[derive(Debug)]
pub(super) struct Issuances {
    /// By the number of the token.
    pub by_id: BTreeMap<i64, Issuance>,
    /// Whether the how many-th secret may be seen; `None` where nobody counts them.
    pub versions: Option<bool>,
}

/// Reads of the tokens that are listed.
pub(super) async fn read(database: &Database, tokens: &[Token]) -> Result<Issuances, Error> {
    let listed: HashMap<i64, &Token> = tokens.iter().map(|token| (token.id, token)).collect();
    let mut reading = database.read().await?;
    let is_visible = reading.columns("api_token").await?.contains("version");
    // Before Devtron 0.7 there was none.
    let mut exists = is_visible;
    if !is_visible {
        let take = |(found,): (bool,)| {
            exists = found;
            Ok(())
        };
        reading.rows(HAS_VERSION, take).await?;
    }
    let query = if is_visible {
        issuances!("t.version::bigint")
    } else {
        issuances!("NULL::bigint")
    };
    let mut by_id = BTreeMap::new();
    let take = |row: Issuance| {
        if listed.get(&row.id).is_some_and(|token| row.is_of(token)) {
            by_id.insert(row.id, row);
        }
        Ok(())
    };
    reading.rows(query, take).await?;
    reading.close().await;
    Ok(Issuances {
        by_id,
        versions: exists.then_some(is_visible),
    })
}

impl Issuance {
    /// Whether it is about this token and not about that of another Devtron with the same number.
    fn is_of(&self, token: &Token) -> bool {
        self.id == token.id && self.name == token.name
    }

    /// Adds what is known.
    pub fn add_to(&self, listed: &mut Listed) {
        let instant = |at: Option<DateTime<Utc>>| at.map_or(Cell::Empty, Cell::Value);
        listed.issuer = cells::address(self.issuer.as_deref());
        if listed.issuer == Cell::Empty {
            // `admin`, or the token by which it was made.
            listed.issuer_name = cells::text(self.issuer.as_deref());
        }
        listed.issuer_id = self.created_by.map(|id| id.to_string());
        listed.issuer_gone = self.gone();
        listed.created_at = instant(self.created_at);
        listed.last_used_at = match self.last_used_at {
            // It was used, and nobody wrote down when.
            None if self.was_used => Cell::Absent,
            at => instant(at),
        };
        listed.version = self.version.and_then(|version| u32::try_from(version).ok());
    }

    /// How it is known that the issuer has left.
    fn gone(&self) -> Cell<String> {
        let Some(id) = self.created_by.filter(|id| !BUILT_IN.contains(id)) else {
            return Cell::Empty;
        };
        if self.issuer_id.is_none() {
            return Cell::Value(format!("Devtron knows no user {id}"));
        }
        match self.issuer_active {
            Some(false) => Cell::Value(format!("Devtron lists the user {id} as inactive")),
            Some(true) | None => Cell::Empty,
        }
    }
}
