//! A credential as the cache holds it: one piece of memory, a quarter of the size of a [`Credential`].

use std::borrow::Cow;
use std::mem::size_of;
use std::sync::Arc;

use chrono::serde::{ts_microseconds, ts_microseconds_option};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::TokenId;
use crate::domain::service::{
    Credential, CredentialState, Digest, Kind, OldSecret, Parent, PublicId, StoredSecret,
};

/// What the allocator adds to each piece of memory.
const OVERHEAD: usize = 16;

/// [`Facts`] in the format of postcard.
#[derive(Clone)]
pub(super) struct Packed(Arc<[u8]>);

#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    public_id: &'a str,
    kind: &'a str,
    issuer: &'a str,
    account: Option<&'a str>,
    role: Option<&'a str>,
    #[serde(borrow)]
    scopes: Cow<'a, str>,
    #[serde(borrow)]
    networks: Cow<'a, str>,
    #[serde(with = "ts_microseconds")]
    created_at: DateTime<Utc>,
    #[serde(with = "ts_microseconds_option")]
    not_before: Option<DateTime<Utc>>,
    #[serde(with = "ts_microseconds_option")]
    expires_at: Option<DateTime<Utc>>,
    state: CredentialState,
    secret: SecretFacts<'a>,
    old_secret: Option<OldSecretFacts<'a>>,
    parent: Option<(Uuid, u32)>,
    version: i64,
}

#[derive(Serialize, Deserialize)]
struct SecretFacts<'a> {
    number: u32,
    digest: &'a [u8],
    #[serde(with = "ts_microseconds")]
    created_at: DateTime<Utc>,
    #[serde(with = "ts_microseconds_option")]
    last_used_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, Deserialize)]
struct OldSecretFacts<'a> {
    #[serde(borrow)]
    secret: SecretFacts<'a>,
    #[serde(with = "ts_microseconds")]
    valid_until: DateTime<Utc>,
}

impl Packed {
    /// `None` never happens: all facts have a form in the format.
    pub fn new(credential: &Credential) -> Option<Self> {
        let old_secret = credential.old_secret.as_ref();
        let facts = Facts {
            public_id: credential.public_id.as_str(),
            kind: credential.kind.as_str(),
            issuer: &credential.issuer,
            account: credential.account.as_deref(),
            role: credential.role.as_deref(),
            scopes: credential.scopes.to_string().into(),
            networks: credential.networks.to_string().into(),
            created_at: credential.created_at,
            not_before: credential.not_before,
            expires_at: credential.expires_at,
            state: credential.state,
            secret: SecretFacts::new(&credential.secret),
            old_secret: old_secret.map(|old| OldSecretFacts {
                secret: SecretFacts::new(&old.secret),
                valid_until: old.valid_until,
            }),
            parent: credential.parent.map(|parent| (parent.id.0, parent.secret)),
            version: credential.version,
        };
        let bytes = postcard::to_allocvec(&facts).ok()?;
        Some(Self(bytes.into()))
    }

    /// `None` never happens: what was packed is a credential.
    pub fn unpack(&self, id: TokenId) -> Option<Credential> {
        let facts: Facts = postcard::from_bytes(&self.0).ok()?;
        let old_secret = match facts.old_secret {
            Some(old) => Some(OldSecret {
                secret: old.secret.unpack()?,
                valid_until: old.valid_until,
            }),
            None => None,
        };
        Some(Credential {
            id,
            public_id: PublicId::parse(facts.public_id)?,
            kind: Kind::parse(facts.kind),
            issuer: facts.issuer.to_owned(),
            account: facts.account.map(str::to_owned),
            role: facts.role.map(str::to_owned),
            scopes: facts.scopes.parse().ok()?,
            networks: facts.networks.parse().ok()?,
            created_at: facts.created_at,
            not_before: facts.not_before,
            expires_at: facts.expires_at,
            state: facts.state,
            secret: facts.secret.unpack()?,
            old_secret,
            parent: facts.parent.map(|(id, secret)| Parent {
                id: TokenId(id),
                secret,
            }),
            version: facts.version,
        })
    }

    /// In bytes, with what it refers to.
    pub fn size(&self) -> usize {
        // The counts of an `Arc` are two words.
        size_of::<Self>() + 2 * size_of::<usize>() + OVERHEAD + self.0.len()
    }
}

impl<'a> SecretFacts<'a> {
    fn new(secret: &'a StoredSecret) -> Self {
        Self {
            number: secret.number,
            digest: secret.digest.as_bytes(),
            created_at: secret.created_at,
            last_used_at: secret.last_used_at,
        }
    }

    fn unpack(self) -> Option<StoredSecret> {
        Some(StoredSecret {
            number: self.number,
            digest: Digest::from_stored(self.digest)?,
            created_at: self.created_at,
            last_used_at: self.last_used_at,
        })
    }
}
