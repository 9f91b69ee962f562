//! A credential as the cache holds it: a third of the size of a [`Credential`].

use std::mem::size_of;

use chrono::{DateTime, Utc};

use crate::domain::TokenId;
use crate::domain::service::{
    Credential, CredentialState, Kind, Networks, OldSecret, Parent, PublicId, Scopes, StoredSecret,
};

/// What the allocator adds to each piece of memory.
const OVERHEAD: usize = 16;

pub(super) struct Packed {
    /// Public id, kind, issuer, account and role, one after another: one piece of memory instead of five.
    texts: Box<str>,
    /// Where each of them but the last ends.
    ends: [u16; 4],
    has_account: bool,
    has_role: bool,
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
    /// `None` for texts that are longer than any that is accepted.
    pub fn new(credential: &Credential) -> Option<Self> {
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
        let pieces = [
            public_id.as_str(),
            kind.as_str(),
            issuer.as_str(),
            account.as_deref().unwrap_or_default(),
        ];
        let mut end = 0;
        let ends = pieces.map(|piece| {
            end += piece.len();
            u16::try_from(end).ok()
        });
        let texts = [&pieces[..], &[role.as_deref().unwrap_or_default()]].concat();
        let [Some(a), Some(b), Some(c), Some(d)] = ends else {
            return None;
        };
        Some(Self {
            texts: texts.concat().into(),
            ends: [a, b, c, d],
            has_account: account.is_some(),
            has_role: role.is_some(),
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
        })
    }

    pub fn issuer(&self) -> &str {
        self.pieces()[2]
    }

    fn pieces(&self) -> [&str; 5] {
        let [a, b, c, d] = self.ends.map(usize::from);
        let piece = |from, to| self.texts.get(from..to).unwrap_or_default();
        [
            piece(0, a),
            piece(a, b),
            piece(b, c),
            piece(c, d),
            piece(d, self.texts.len()),
        ]
    }

    pub fn parent(&self) -> Option<Parent> {
        self.rare.as_ref().and_then(|rare| rare.parent)
    }

    /// `None` never happens: the public id was one.
    pub fn unpack(&self, id: TokenId) -> Option<Credential> {
        let rare = self.rare.as_deref();
        let [public_id, kind, issuer, account, role] = self.pieces();
        Some(Credential {
            id,
            public_id: PublicId::parse(public_id)?,
            kind: Kind::parse(kind),
            issuer: issuer.to_owned(),
            account: self.has_account.then(|| account.to_owned()),
            role: self.has_role.then(|| role.to_owned()),
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
        let texts = self.texts.len() + OVERHEAD;
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
