//! Conversions between the types of `domain`, which knows no database, and columns and rows.

use std::str::FromStr;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Encode, QueryBuilder, Row as _, Type};
use uuid::Uuid;

use crate::domain::service::{CredentialState, Networks, PublicId, Scopes};
use crate::domain::{
    Address, Basis, Channel, Expiry, ExpiryOrigin, FindingKind, FindingState, Identity,
    IdentityStatus, InvalidAddress, NoticeState, Reason, Severity, Status, Step, Token, TokenId,
    Topic, Unreadable,
};

/// Implements `Type` and `Decode`, for types that are stored as text.
macro_rules! impl_decode_from_text {
    ($($type:ty: $parse:path),+ $(,)?) => {$(
        impl<DB: Database> Type<DB> for $type
        where
            String: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                String::type_info()
            }

            fn compatible(info: &DB::TypeInfo) -> bool {
                String::compatible(info)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $type
        where
            &'r str: Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let text = <&str>::decode(value)?;
                // Not the error of the parser, which shows the text: that may be an address.
                $parse(text).map_err(|_| "its value is unknown to lapsed".into())
            }
        }
    )+};
}

impl_decode_from_text!(
    Address: Address::parse_stored,
    Basis: Basis::from_str,
    Channel: Channel::from_str,
    CredentialState: CredentialState::from_str,
    ExpiryOrigin: ExpiryOrigin::from_str,
    FindingKind: FindingKind::from_str,
    FindingState: FindingState::from_str,
    IdentityStatus: IdentityStatus::from_str,
    Networks: Networks::from_str,
    NoticeState: NoticeState::from_str,
    PublicId: parse_public_id,
    Reason: Reason::from_str,
    Scopes: Scopes::from_str,
    Severity: Severity::from_str,
    Status: Status::from_str,
    Topic: Topic::from_str,
);

fn parse_public_id(text: &str) -> Result<PublicId, ()> {
    PublicId::parse(text).ok_or(())
}

impl<DB: Database> Type<DB> for TokenId
where
    Uuid: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        Uuid::type_info()
    }

    fn compatible(info: &DB::TypeInfo) -> bool {
        Uuid::compatible(info)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for TokenId
where
    Uuid: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Uuid::decode(value).map(Self)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for TokenId
where
    Uuid: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

/// Implements `FromRow` for the rows of both databases.
macro_rules! impl_from_row {
    ($type:ty, $row:ident => $body:expr) => {
        impl sqlx::FromRow<'_, sqlx::sqlite::SqliteRow> for $type {
            fn from_row($row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Self> {
                $body
            }
        }

        impl sqlx::FromRow<'_, sqlx::postgres::PgRow> for $type {
            fn from_row($row: &sqlx::postgres::PgRow) -> sqlx::Result<Self> {
                $body
            }
        }
    };
}
pub(super) use impl_from_row;

/// Addresses, one a line; `None` for none.
pub(super) fn encode_addresses(addresses: &[Address]) -> Option<String> {
    let lines: Vec<_> = addresses.iter().map(Address::as_str).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

pub(super) fn decode_addresses(lines: Option<&str>) -> Result<Vec<Address>, InvalidAddress> {
    let lines = lines.unwrap_or_default().lines();
    lines.map(Address::parse_stored).collect()
}

impl_from_row!(Token, row => {
    let id: TokenId = row.try_get("id")?;
    let invalid = |what: &str| sqlx::Error::Decode(format!("token {id} has {what}").into());
    let expiry_kind: &str = row.try_get("expiry")?;
    let expiry = match (expiry_kind, row.try_get("expires_at")?) {
        ("never", None) => Expiry::Never,
        ("unknown", None) => Expiry::Unknown,
        ("at", Some(at)) => Expiry::At(at),
        _ => return Err(invalid("an invalid expiry")),
    };
    let expiry_day: Option<&str> = row.try_get("expiry_day")?;
    let expiry_day = expiry_day.map(str::parse).transpose().map_err(|_| invalid("an invalid expiry day"))?;
    let secret_version: i64 = row.try_get("secret_version")?;
    let planned_step: Option<i64> = row.try_get("planned_step")?;
    Ok(Self {
        id,
        source: row.try_get("source")?,
        external_id: row.try_get("external_id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        issuer: row.try_get("issuer").map_err(|_| invalid("an invalid issuer"))?,
        co_owners: decode_addresses(row.try_get("co_owners")?).map_err(|_| invalid("an invalid owner"))?,
        issuer_name: row.try_get("issuer_name")?,
        issuer_gone: row.try_get("issuer_gone")?,
        account: row.try_get("account")?,
        role: row.try_get("role")?,
        scope: row.try_get("scope")?,
        created_at: row.try_get("created_at")?,
        expiry,
        expiry_day,
        expiry_origin: row.try_get("expiry_origin").map_err(|_| invalid("an unknown expiry origin"))?,
        secret_version: u32::try_from(secret_version).map_err(|_| invalid("an invalid secret version"))?,
        status: row.try_get("status").map_err(|_| invalid("an unknown status"))?,
        last_used_at: row.try_get("last_used_at")?,
        reports_use: row.try_get("reports_use")?,
        first_seen_at: row.try_get("first_seen_at")?,
        life_from: row.try_get("life_from")?,
        planned_step: planned_step.map(Step::from_seconds),
        due_at: row.try_get("due_at")?,
        judge_at: row.try_get("judge_at")?,
        revoked_at: row.try_get("revoked_at")?,
        unlisted_since: row.try_get("unlisted_since")?,
        is_expiry_unreported: row.try_get("expiry_unreported")?,
        unreadable: match row.try_get::<Option<&str>, _>("unreadable")? {
            Some(text) => serde_json::from_str(text).map_err(|_| invalid("invalid unreadable cells"))?,
            None => Unreadable::new(),
        },
    })
});

pub(super) fn encode_unreadable(unreadable: &Unreadable) -> Option<String> {
    let json = serde_json::to_string(unreadable).expect("a map of texts is JSON");
    (!unreadable.is_empty()).then_some(json)
}

/// SQL: a passed expiry has consequences, because the one that its source has now can be read, or could be when it was
/// marked. The argument is the alias of the table, such as `"t."`.
macro_rules! expiry_counts {
    ($alias:literal) => {
        concat!(
            "(",
            $alias,
            "status = 'expired' OR ",
            $alias,
            "unreadable IS NULL OR ",
            $alias,
            "unreadable NOT LIKE '%\"expires_at\":%')"
        )
    };
}
pub(super) use expiry_counts;

impl_from_row!(Identity, row => Ok(Self {
    email: row.try_get("email")?,
    account_id: row.try_get("account_id")?,
    name: row.try_get("name")?,
    status: row.try_get("status")?,
    known_status: row.try_get("known_status")?,
    reason: row.try_get("reason")?,
    evidence: row.try_get("evidence")?,
    account_chosen: row.try_get("account_chosen")?,
    checked_by_id: row.try_get("checked_by_id")?,
    since: row.try_get("since")?,
    observed_at: row.try_get("observed_at")?,
    candidate: row.try_get("candidate")?,
    candidate_since: row.try_get("candidate_since")?,
    candidate_evidence: row.try_get("candidate_evidence")?,
}));

/// Pushes the values of an IN list. An empty list becomes `NULL`, which equals nothing.
pub(super) fn push_list<DB: Database, T>(
    query: &mut QueryBuilder<DB>,
    values: impl IntoIterator<Item = T>,
) where
    T: for<'q> Encode<'q, DB> + Type<DB>,
{
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        query.push("NULL");
    }
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value);
    }
}
