//! A credential as the cache holds it: half the size of a [`Credential`].

use std::mem::size_of;

use chrono::{DateTime, Utc};

use crate::domain::TokenId;
use crate::domain::service::{
    Credential, CredentialState, Kind, Networks, OldSecret, Parent, PublicId, Scopes, StoredSecret,
};

/// What the allocator adds to each piece of memory.
const OVERHEAD: usize = 16;

pub(super) struct Packed {
    public_id: Box<str>,
    kind: Kind,
    issuer: Box<str>,
    account: Option<Box<str>>,
    role: Option<Box<str>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    state: CredentialState,
    secret: StoredSecret,
    version: i64,
    /// What most tokens do not have.
    rare: Option<Box<Rare>>,
}

struct Rare {
    scopes: Scopes,
    networks: Networks,
    not_before: Option<DateTime<Utc>>,
    old_secret: Option<OldSecret>,
    parent: Option<Parent>,
}

impl Packed {
    pub fn new(credential: &Credential) -> Self {
        let Credential {
            id: _,
            public_id,
            kind,
            issuer,
            account,
            role,
            scopes,
            networks,
            created_at,
            not_before,
            expires_at,
            state,
            secret,
            old_secret,
            parent,
            version,
        } = credential;
        let is_plain = scopes.is_unlimited()
            && networks.is_unlimited()
            && not_before.is_none()
            && old_secret.is_none()
            && parent.is_none();
        Self {
            public_id: public_id.as_str().into(),
            kind: kind.clone(),
            issuer: issuer.as_str().into(),
            account: account.as_deref().map(Into::into),
            role: role.as_deref().map(Into::into),
            created_at: *created_at,
            expires_at: *expires_at,
            state: *state,
            secret: secret.clone(),
            version: *version,
            rare: (!is_plain).then(|| {
                Box::new(Rare {
                    scopes: scopes.clone(),
                    networks: networks.clone(),
                    not_before: *not_before,
                    old_secret: old_secret.clone(),
                    parent: *parent,
                })
            }),
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn parent(&self) -> Option<Parent> {
        self.rare.as_ref().and_then(|rare| rare.parent)
    }

    /// `None` never happens: the public id was one.
    pub fn unpack(&self, id: TokenId) -> Option<Credential> {
        let rare = self.rare.as_deref();
        Some(Credential {
            id,
            public_id: PublicId::parse(&self.public_id)?,
            kind: self.kind.clone(),
            issuer: self.issuer.to_string(),
            account: self.account.as_deref().map(str::to_owned),
            role: self.role.as_deref().map(str::to_owned),
            scopes: rare.map(|rare| rare.scopes.clone()).unwrap_or_default(),
            networks: rare.map(|rare| rare.networks.clone()).unwrap_or_default(),
            created_at: self.created_at,
            not_before: rare.and_then(|rare| rare.not_before),
            expires_at: self.expires_at,
            state: self.state,
            secret: self.secret.clone(),
            old_secret: rare.and_then(|rare| rare.old_secret.clone()),
            parent: self.parent(),
            version: self.version,
        })
    }

    /// In bytes, with what it refers to.
    pub fn size(&self) -> usize {
        let text = |text: &str| text.len() + OVERHEAD;
        let texts = [Some(&self.public_id), Some(&self.issuer)]
            .into_iter()
            .chain([self.account.as_ref(), self.role.as_ref()]);
        let texts: usize = texts.flatten().map(|it| text(it)).sum();
        let rare = self.rare.as_deref().map_or(0, Rare::size);
        // The counts of the `Arc` around it are two words.
        size_of::<Self>() + 2 * size_of::<usize>() + OVERHEAD + texts + rare
    }
}

impl Rare {
    fn size(&self) -> usize {
        let scopes: usize = self.scopes.iter().map(|it| it.len() + OVERHEAD + 24).sum();
        let networks = self.networks.iter().count() * 18;
        size_of::<Self>() + OVERHEAD + scopes + networks
    }
}
