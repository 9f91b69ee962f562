//! In place of a token that does not exist: it is read and compared as a stored one is, so that the time says nothing.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::TokenId;
use crate::domain::service::{
    Credential, CredentialState, Digest, Kind, Presented, ServicePerson, StoredSecret,
};

use super::cache::Holding;

const INSTANT: &str = "2020-01-01T00:00:00+00:00";
const KEY: &str = "nobody@example.org";
const ACCOUNT: &str = "nowhere";
const ROLE: &str = "none";
/// No secret is known that has it.
const DIGEST: [u8; 32] = [0; 32];

/// What a row with the presented id would be read as.
pub(super) fn decoy(id: TokenId, presented: &Presented) -> Option<Holding> {
    let text = |text: &str| black_box(text).to_owned();
    let instant = || black_box(INSTANT).parse::<DateTime<Utc>>().ok();
    let digest: String = DIGEST.iter().map(|byte| format!("{byte:02x}")).collect();
    black_box(&digest);
    let credential = Credential {
        id,
        public_id: presented.id.clone(),
        kind: Kind::parse(black_box("api")),
        issuer: text(KEY),
        account: Some(text(ACCOUNT)),
        role: Some(text(ROLE)),
        scopes: black_box("").parse().ok()?,
        networks: black_box("").parse().ok()?,
        created_at: instant()?,
        not_before: None,
        expires_at: instant(),
        state: CredentialState::Active,
        secret: StoredSecret {
            number: 1,
            digest: Digest::from_stored(&DIGEST)?,
            created_at: instant()?,
            last_used_at: instant(),
        },
        old_secret: None,
        parent: None,
        version: 1,
    };
    let person = ServicePerson {
        key: text(KEY),
        address: black_box(KEY).parse().ok(),
        name: Some(text(KEY)),
        is_super: false,
        is_sso: false,
        owners: Vec::new(),
        created_at: instant()?,
        disabled_at: None,
        lost_access_at: None,
        roles: BTreeMap::from([(text(ACCOUNT), text(ROLE))]),
        version: 1,
    };
    Some(Holding::new(vec![credential], Arc::new(person)))
}
