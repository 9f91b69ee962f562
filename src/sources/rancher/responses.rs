//! The responses of Rancher. Lists of tokens contain valid secrets, which are dropped on reading because no type
//! here has a field for them.

use std::collections::HashMap;

use serde::Deserialize;

use crate::sources::fields::{Field, Item, Items, Texts};
use crate::upstream::pager::Identified;

#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    pub metadata: PageMeta,
    /// Go writes an empty list as `null`; if the field is missing, this is not a list.
    #[serde(deserialize_with = "Option::deserialize")]
    pub items: Option<Vec<Item<T>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageMeta {
    /// The token for the next page; empty on the last.
    #[serde(rename = "continue")]
    pub next: Option<String>,
    /// The number of items after this page, if reported.
    #[serde(default)]
    remaining_item_count: Field,
}

impl PageMeta {
    pub fn remaining(&self) -> Option<u64> {
        let count = self.remaining_item_count.integer().ok()?;
        u64::try_from(count?).ok()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    name: Field,
    pub creation_timestamp: Field,
    /// Set while the object is being deleted.
    deletion_timestamp: Field,
    labels: Item<Labels>,
    annotations: Item<Annotations>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "authn.management.cattle.io/kind")]
    kind: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "cattle.io/provider-refresh-error")]
    refresh_error: Field,
}

impl Meta {
    /// Empty if it cannot be read.
    pub fn name(&self) -> &str {
        match &self.name {
            Field::Text(name) if self.name.id().is_some() => name,
            _ => "",
        }
    }

    pub fn is_being_deleted(&self) -> bool {
        !matches!(self.deletion_timestamp, Field::Absent | Field::Null)
    }

    /// The label with the kind of a token.
    pub fn kind(&self) -> Option<String> {
        self.labels.get()?.kind.text()
    }

    /// Since 2.15, Rancher records when the provider permanently refused a user.
    pub fn refresh_error(&self) -> Option<String> {
        self.annotations.get()?.refresh_error.text()
    }
}

/// Any object, of which only the existence matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    pub metadata: Item<Meta>,
}

/// A legacy token, of the group `management.cattle.io`.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "TokenFields")]
pub struct Legacy {
    pub metadata: Meta,
    pub fields: TokenFields,
}

// Not `serde(flatten)`, which would keep all unknown fields until the end of the object, the secret too.
impl From<TokenFields> for Legacy {
    fn from(mut fields: TokenFields) -> Self {
        let metadata = std::mem::take(&mut fields.metadata).into_option();
        Self {
            metadata: metadata.unwrap_or_default(),
            fields,
        }
    }
}

/// An ext token, of the group `ext.cattle.io`.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "ExtParts")]
pub struct Ext {
    pub metadata: Meta,
    pub spec: TokenFields,
    pub status: TokenFields,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ExtParts {
    metadata: Item<Meta>,
    spec: Item<TokenFields>,
    status: Item<TokenFields>,
}

impl From<ExtParts> for Ext {
    fn from(parts: ExtParts) -> Self {
        Self {
            metadata: parts.metadata.into_option().unwrap_or_default(),
            spec: parts.spec.into_option().unwrap_or_default(),
            status: parts.status.into_option().unwrap_or_default(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TokenFields {
    /// Only in legacy tokens; ext tokens have it beside these fields.
    pub metadata: Item<Meta>,
    #[serde(alias = "userID")]
    pub user_id: Field,
    /// Only legacy tokens have this field.
    pub auth_provider: Field,
    /// Only legacy tokens have this field.
    pub is_derived: Field,
    /// The kind of an ext token. In a legacy token it is the kind of the Kubernetes object, and not used.
    pub kind: Field,
    pub description: Field,
    pub user_principal: Item<Principal>,
    /// In milliseconds; negative means never.
    pub ttl: Field,
    /// In the server's time zone. Empty if the token never expires, or if Rancher has not computed the date yet.
    pub expires_at: Field,
    pub enabled: Field,
    pub last_used_at: Field,
    pub cluster_name: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Principal {
    /// In ext tokens, for example `okta_user://ada@example.org`.
    name: Field,
    /// The name in legacy tokens.
    metadata: Item<PrincipalMeta>,
    pub display_name: Field,
    pub login_name: Field,
    pub provider: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PrincipalMeta {
    name: Field,
}

impl Principal {
    pub fn id(&self) -> Option<String> {
        let inner = || self.metadata.get()?.name.text();
        self.name.text().or_else(inner)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    metadata: Item<Meta>,
    pub display_name: Field,
    pub username: Field,
    pub principal_ids: Texts,
    pub enabled: Field,
}

/// The data of providers about the user of the same name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attribute {
    pub metadata: Item<Meta>,
    /// Go's name of the field, because Rancher gives it no JSON name.
    #[serde(rename = "ExtraByProvider")]
    pub extra: Item<HashMap<String, Item<Extra>>>,
}

fn name_of(metadata: &Item<Meta>) -> &str {
    metadata.get().map_or("", Meta::name)
}

impl Identified for Legacy {
    fn id(&self) -> &str {
        self.metadata.name()
    }
}

impl Identified for Ext {
    fn id(&self) -> &str {
        self.metadata.name()
    }
}

impl Identified for User {
    fn id(&self) -> &str {
        name_of(&self.metadata)
    }
}

impl Identified for Attribute {
    fn id(&self) -> &str {
        name_of(&self.metadata)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Extra {
    pub email: Texts,
    pub username: Texts,
}

/// A collection of Rancher's own API.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Collection<T> {
    pub data: Items<T>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Provider {
    pub id: Field,
    pub enabled: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Setting {
    value: Field,
    default: Field,
}

impl Setting {
    /// The value, otherwise the default.
    pub fn effective(self) -> Option<String> {
        self.value.text().or_else(|| self.default.text())
    }
}
