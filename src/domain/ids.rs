//! Ids that are derived from what they name.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UUID namespace of derived ids (RFC 9562 §5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6c61_7073_6564_5f69_6473_0000_0000_0001);

/// Derives an id from the parts of a key; equal keys give equal ids.
pub(crate) fn derived_id(parts: &[&str]) -> Uuid {
    // A part cannot contain the unit separator: control characters are stripped from all input.
    Uuid::new_v5(&NAMESPACE, parts.join("\u{1f}").as_bytes())
}

/// The id of a token, derived from its source and external id.
///
/// It is the same after a second import or on a second replica, and its first eight digits are nearly always
/// a unique prefix.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TokenId(pub Uuid);

impl TokenId {
    pub fn new(source: &str, external_id: &str) -> Self {
        Self(derived_id(&["token", source, external_id]))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
