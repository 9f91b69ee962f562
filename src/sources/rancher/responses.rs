//! The responses of Rancher. Lists of tokens contain valid secrets, which are dropped on reading because no type
//! here has a field for them.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

use crate::upstream::pager::Identified;

#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    pub metadata: PageMeta,
    /// Go writes an empty list as `null`; if the field is missing, this is not a list.
    #[serde(deserialize_with = "Option::deserialize")]
    pub items: Option<Vec<T>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageMeta {
    /// The token for the next page; empty on the last.
    #[serde(rename = "continue")]
    pub next: Option<String>,
    /// The number of items after this page, if reported.
    pub remaining_item_count: Option<u64>,
}

fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    pub name: String,
    pub creation_timestamp: Option<String>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<Annotations>,
}

#[derive(Debug, Deserialize)]
struct Labels {
    #[serde(rename = "authn.management.cattle.io/kind")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    #[serde(rename = "cattle.io/provider-refresh-error")]
    refresh_error: Option<String>,
}

impl Meta {
    /// The label with the kind of a token.
    pub fn kind(&self) -> Option<&String> {
        self.labels.as_ref()?.kind.as_ref()
    }

    /// Since 2.15, Rancher records when the provider permanently refused a user.
    pub fn refresh_error(&self) -> Option<&String> {
        self.annotations.as_ref()?.refresh_error.as_ref()
    }
}

/// Any object, of which only the existence matters.
#[derive(Debug, Deserialize)]
pub struct Object {
    pub metadata: Meta,
}

/// A legacy token, of the group `management.cattle.io`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "TokenFields")]
pub struct Legacy {
    pub metadata: Meta,
    pub fields: TokenFields,
}

// Not `serde(flatten)`, which would keep all unknown fields until the end of the object, the secret too.
impl TryFrom<TokenFields> for Legacy {
    type Error = &'static str;

    fn try_from(mut fields: TokenFields) -> Result<Self, Self::Error> {
        let metadata = fields.metadata.take().ok_or("missing field `metadata`")?;
        Ok(Self { metadata, fields })
    }
}

/// An ext token, of the group `ext.cattle.io`.
#[derive(Debug, Deserialize)]
pub struct Ext {
    pub metadata: Meta,
    pub spec: TokenFields,
    #[serde(default)]
    pub status: TokenFields,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenFields {
    /// Only in legacy tokens; ext tokens have it beside these fields.
    pub metadata: Option<Meta>,
    #[serde(alias = "userID", default, deserialize_with = "null_as_default")]
    pub user_id: String,
    /// Only legacy tokens have this field.
    #[serde(default, deserialize_with = "null_as_default")]
    pub auth_provider: String,
    /// Only legacy tokens have this field.
    pub is_derived: Option<bool>,
    /// The kind of an ext token. In a legacy token it is the kind of the Kubernetes object, and not used.
    pub kind: Option<String>,
    pub description: Option<String>,
    pub user_principal: Option<Principal>,
    /// In milliseconds; negative means never.
    pub ttl: Option<i64>,
    /// In the server's time zone. Empty if the token never expires, or if Rancher has not computed the date yet.
    pub expires_at: Option<String>,
    pub enabled: Option<bool>,
    pub last_used_at: Option<String>,
    pub cluster_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// In ext tokens, for example `okta_user://ada@example.org`.
    name: Option<String>,
    /// The name in legacy tokens.
    metadata: Option<PrincipalMeta>,
    pub display_name: Option<String>,
    pub login_name: Option<String>,
    pub provider: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PrincipalMeta {
    name: Option<String>,
}

impl Principal {
    pub fn id(&self) -> Option<&str> {
        let inner = self.metadata.as_ref().and_then(|meta| meta.name.as_deref());
        self.name.as_deref().or(inner)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub metadata: Meta,
    pub display_name: Option<String>,
    pub username: Option<String>,
    pub principal_ids: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// The data of providers about the user of the same name.
#[derive(Debug, Deserialize)]
pub struct Attribute {
    pub metadata: Meta,
    /// Go's name of the field, because Rancher gives it no JSON name.
    #[serde(rename = "ExtraByProvider")]
    pub extra: Option<HashMap<String, Option<Extra>>>,
}

impl Identified for Legacy {
    fn id(&self) -> &str {
        &self.metadata.name
    }
}

impl Identified for Ext {
    fn id(&self) -> &str {
        &self.metadata.name
    }
}

impl Identified for User {
    fn id(&self) -> &str {
        &self.metadata.name
    }
}

impl Identified for Attribute {
    fn id(&self) -> &str {
        &self.metadata.name
    }
}

#[derive(Debug, Deserialize)]
pub struct Extra {
    pub email: Option<Vec<String>>,
    pub username: Option<Vec<String>>,
}

/// A collection of Rancher's own API.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Collection<T> {
    #[serde(deserialize_with = "null_as_default")]
    pub data: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub struct Provider {
    pub id: String,
    pub enabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub struct Setting {
    value: Option<String>,
    default: Option<String>,
}

impl Setting {
    /// The value, otherwise the default.
    pub fn effective(self) -> Option<String> {
        let is_set = |text: &String| !text.trim().is_empty();
        self.value
            .filter(is_set)
            .or(self.default)
            .filter(is_set)
            .map(|text| text.trim().to_owned())
    }
}
