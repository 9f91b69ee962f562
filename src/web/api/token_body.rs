//! How a token is shown, and how a request for one is read.

use chrono::{DateTime, NaiveDate, SubsecRound as _, TimeDelta, Utc};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::service::{Credential, Lifetime, Networks, Scopes};
use crate::domain::{Status, TokenId};
use crate::service::issue::Issued;
use crate::service::pages::TokenItem;
use crate::store::Uses;
use crate::web::problem::{ApiError, ApiResult, ProblemItem};

/// A token of any source.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenBody {
    pub id: Uuid,
    pub source: String,
    /// The id at the source; of a token of the service, the one in its text.
    pub external_id: String,
    pub name: String,
    #[schema(required)]
    pub description: Option<String>,
    /// The address of the person who issued it.
    #[schema(required)]
    pub issuer: Option<String>,
    /// The addresses of the other owners.
    pub owners: Vec<String>,
    #[schema(required)]
    pub account: Option<String>,
    #[schema(required)]
    pub role: Option<String>,
    /// The scopes, separated by blanks; null if it is not limited by scope.
    #[schema(required)]
    pub scope: Option<String>,
    /// Null for a token of another source.
    #[schema(required)]
    pub kind: Option<String>,
    /// Where it may be used from; empty for everywhere.
    pub networks: Vec<String>,
    #[schema(required)]
    pub not_before: Option<DateTime<Utc>>,
    #[schema(required)]
    pub created_at: Option<DateTime<Utc>>,
    /// Null if it never expires, or if that is unknown.
    #[schema(required)]
    pub expires_at: Option<DateTime<Utc>>,
    /// The plain date, if the source reports one.
    #[schema(required)]
    pub expires_on: Option<NaiveDate>,
    /// `never`, `at` or `unknown`.
    pub expiry: String,
    #[schema(required)]
    pub expiry_origin: Option<String>,
    /// `active`, `expired`, `disabled`, `revoked` or `gone`.
    pub status: String,
    #[schema(required)]
    pub last_used_at: Option<DateTime<Utc>>,
    #[schema(required)]
    pub due_at: Option<DateTime<Utc>>,
    /// The kinds of its open findings.
    pub findings: Vec<String>,
    /// Where a token of another source is managed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manage_url: Option<String>,
}

/// A token with its secrets and uses.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenDetail {
    #[serde(flatten)]
    pub token: TokenBody,
    pub secrets: Vec<SecretBody>,
    /// By hour, for 30 days.
    #[serde(rename = "use")]
    pub uses: Vec<HourBody>,
    pub addresses: Vec<AddressBody>,
    pub refused_uses: RefusedBody,
    /// Whether the current secret may never have been handed over: regenerate the token if nobody has it.
    pub never_shown: bool,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SecretBody {
    pub number: u32,
    pub created_at: DateTime<Utc>,
    /// Of the current one, the expiry of the token; null if it never expires.
    #[schema(required)]
    pub valid_until: Option<DateTime<Utc>>,
    #[schema(required)]
    pub last_used_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HourBody {
    pub hour: DateTime<Utc>,
    pub ok: i64,
    pub refused: i64,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AddressBody {
    pub address: String,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
}

/// Uses of the right secret that were refused, because the token is expired, disabled and so on.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RefusedBody {
    pub count: i64,
    #[schema(required)]
    pub last_at: Option<DateTime<Utc>>,
    pub addresses: Vec<AddressBody>,
}

/// A new token, or one with a new secret. The secret is shown only here.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct IssuedToken {
    #[serde(flatten)]
    pub facts: TokenBody,
    /// The whole token.
    pub token: String,
    pub access_key: String,
    pub secret_key: String,
    /// Where the API is.
    pub endpoint: String,
    /// The number of an older secret that still worked and has ended now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_secret: Option<u32>,
}

impl TokenBody {
    pub fn new(item: TokenItem, now: DateTime<Utc>) -> Self {
        let TokenItem {
            token,
            credential,
            findings,
        } = item;
        let status = token.status_at(now);
        Self {
            id: token.id.0,
            status: status.to_string(),
            issuer: token.issuer.as_ref().map(ToString::to_string),
            owners: token.co_owners.iter().map(ToString::to_string).collect(),
            kind: credential.as_ref().map(|of| of.kind.as_str().to_owned()),
            networks: credential
                .iter()
                .flat_map(|of| networks(&of.networks))
                .collect(),
            not_before: credential.as_ref().and_then(|of| of.not_before),
            expires_at: token.expiry.at(),
            expires_on: token.expiry_day,
            expiry: token.expiry.kind().to_owned(),
            expiry_origin: token.expiry_origin.map(|origin| origin.to_string()),
            findings: findings.iter().map(ToString::to_string).collect(),
            source: token.source,
            external_id: token.external_id,
            name: token.name,
            description: token.description,
            account: token.account,
            role: token.role,
            scope: token.scope,
            created_at: token.created_at,
            last_used_at: token.last_used_at,
            due_at: token.due_at,
            manage_url: None,
        }
    }
}

impl TokenDetail {
    pub fn new(item: TokenItem, uses: Uses, never_shown: bool, now: DateTime<Utc>) -> Self {
        let secrets = item.credential.as_ref().map(secrets).unwrap_or_default();
        let refused_hours = uses.hours.iter().filter(|hour| hour.refused > 0);
        let count = refused_hours.map(|hour| hour.refused).sum();
        let (refused, accepted): (Vec<_>, Vec<_>) =
            uses.addresses.into_iter().partition(|used| used.is_refused);
        let address = |used: crate::store::AddressUse| AddressBody {
            address: used.address.to_string(),
            first_at: used.first_at,
            last_at: used.last_at,
        };
        Self {
            token: TokenBody::new(item, now),
            secrets,
            uses: uses
                .hours
                .into_iter()
                .map(|hour| HourBody {
                    hour: hour.hour,
                    ok: hour.ok,
                    refused: hour.refused,
                })
                .collect(),
            addresses: accepted.into_iter().map(address).collect(),
            refused_uses: RefusedBody {
                count,
                last_at: refused.iter().map(|used| used.last_at).max(),
                addresses: refused.into_iter().map(address).collect(),
            },
            never_shown,
        }
    }
}

impl IssuedToken {
    pub fn new(issued: &Issued, endpoint: String, now: DateTime<Utc>) -> Self {
        let item = TokenItem {
            token: issued.token.clone(),
            credential: Some(issued.credential.clone()),
            findings: Vec::new(),
        };
        Self {
            facts: TokenBody::new(item, now),
            token: issued.secret.token.expose_secret().to_owned(),
            access_key: issued.secret.access_key.clone(),
            secret_key: issued.secret.secret_key.expose_secret().to_owned(),
            endpoint,
            ended_secret: issued.ended_secret,
        }
    }
}

fn networks(networks: &Networks) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

fn secrets(credential: &Credential) -> Vec<SecretBody> {
    let current = SecretBody {
        number: credential.secret.number,
        created_at: credential.secret.created_at,
        valid_until: credential.expires_at,
        last_used_at: credential.secret.last_used_at,
    };
    let old = credential.old_secret.as_ref().map(|old| SecretBody {
        number: old.secret.number,
        created_at: old.secret.created_at,
        valid_until: Some(old.valid_until),
        last_used_at: old.secret.last_used_at,
    });
    [Some(current), old].into_iter().flatten().collect()
}

/// How long a token is to live, in one of three ways.
#[derive(Debug, Clone, Default)]
pub struct LifetimeFields {
    pub expires_in: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub never: Option<bool>,
}

impl LifetimeFields {
    pub fn read(self) -> ApiResult<Lifetime> {
        let is_never = self.never == Some(true);
        match (self.expires_in, self.expires_at, is_never) {
            (None, None, false) => Ok(Lifetime::Default),
            (None, None, true) => Ok(Lifetime::Never),
            (Some(span), None, false) => Ok(Lifetime::For(read_span("/expires_in", &span)?)),
            (None, Some(at), false) => Ok(Lifetime::Until(at.trunc_subsecs(6))),
            _ => Err(ApiError::invalid(vec![
                ProblemItem::new("/expires_in", "The expiry is given in more than one way").fix(
                    Some("give one of expires_in, expires_at and never".to_owned()),
                ),
            ])),
        }
    }
}

/// Such as `30d` or `16h`.
pub fn read_span(pointer: &str, text: &str) -> ApiResult<TimeDelta> {
    let span = humantime::parse_duration(text.trim()).ok();
    let span = span.and_then(|span| TimeDelta::from_std(span).ok());
    span.ok_or_else(|| {
        ApiError::invalid(vec![
            ProblemItem::new(pointer, "It is not a length of time")
                .fix(Some("write it as 30d or 16h".to_owned())),
        ])
    })
}

pub fn read_scopes(scopes: Option<Vec<String>>) -> ApiResult<Scopes> {
    Scopes::new(scopes.unwrap_or_default())
        .map_err(|error| ApiError::invalid(vec![ProblemItem::new("/scopes", error.to_string())]))
}

pub fn read_networks(networks: Option<Vec<String>>) -> ApiResult<Networks> {
    let networks = networks.unwrap_or_default();
    let mut read = Vec::new();
    for (nth, network) in networks.iter().enumerate() {
        let network = crate::domain::service::parse_network(network.trim()).map_err(|_| {
            ApiError::invalid(vec![
                ProblemItem::new(format!("/networks/{nth}"), "It is not a network")
                    .fix(Some("write it as 192.0.2.0/24 or 2001:db8::/32".to_owned())),
            ])
        })?;
        read.push(network);
    }
    Ok(Networks::new(read))
}

/// The statuses that a list is filtered by.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusFilter {
    Active,
    Expired,
    /// Revoked, or gone from its source.
    Deleted,
    Disabled,
}

impl From<StatusFilter> for Status {
    fn from(filter: StatusFilter) -> Self {
        match filter {
            StatusFilter::Active => Self::Active,
            StatusFilter::Expired => Self::Expired,
            StatusFilter::Deleted => Self::Revoked,
            StatusFilter::Disabled => Self::Disabled,
        }
    }
}

/// The id of a token in a path: a UUID, or `self`.
pub fn read_id(text: &str, own: TokenId) -> ApiResult<TokenId> {
    if text == "self" {
        return Ok(own);
    }
    let id = Uuid::try_parse(text).map_err(|_| ApiError::not_found())?;
    Ok(TokenId(id))
}
