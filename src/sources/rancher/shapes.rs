//! What Rancher answers, as far as lapsed reads it. Lists of tokens hold live secrets: there is no field
//! for one here, so they are dropped while an answer is read.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

/// A page of a Kubernetes list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Page<T> {
    /// Where the list goes on.
    pub metadata: PageMeta,
    /// `null` where Go had none; left out it is no list.
    #[serde(deserialize_with = "Option::deserialize")]
    pub items: Option<Vec<T>>,
}

/// About a page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PageMeta {
    /// What the next page is asked for with; empty on the last.
    #[serde(rename = "continue")]
    pub next: Option<String>,
    /// How many come after this page, where the server says.
    pub remaining_item_count: Option<u64>,
}

fn none_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// About an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Its name; unique among its kind.
    pub name: String,
    /// RFC 3339.
    pub creation_timestamp: Option<String>,
    /// Set once it is being deleted.
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
    /// The label for the kind of a token.
    pub fn kind(&mut self) -> Option<String> {
        self.labels.as_mut()?.kind.take()
    }

    /// What Rancher (2.15 and later) wrote down when the provider refused for good.
    pub fn refresh_error(&mut self) -> Option<String> {
        self.annotations.as_mut()?.refresh_error.take()
    }
}

/// An object of which nothing but its being there matters.
#[derive(Debug, Deserialize)]
pub struct Object {
    /// About it.
    pub metadata: Meta,
}

/// A token of `management.cattle.io`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Legacy {
    pub metadata: Meta,
    pub user_id: Option<String>,
    pub auth_provider: Option<String>,
    pub is_derived: Option<bool>,
    pub description: Option<String>,
    pub user_principal: Option<Principal>,
    /// Milliseconds.
    pub ttl: Option<i64>,
    /// Empty when it never expires, or when nobody has worked it out yet.
    pub expires_at: Option<String>,
    pub enabled: Option<bool>,
    pub last_used_at: Option<String>,
    pub cluster_name: Option<String>,
}

/// A token of `ext.cattle.io`.
#[derive(Debug, Deserialize)]
pub struct Ext {
    pub metadata: Meta,
    pub spec: ExtSpec,
    #[serde(default)]
    pub status: ExtStatus,
}

/// What was asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtSpec {
    #[serde(rename = "userID")]
    pub user_id: Option<String>,
    pub user_principal: Option<Principal>,
    pub kind: Option<String>,
    pub description: Option<String>,
    /// Milliseconds; negative is for ever.
    pub ttl: Option<i64>,
    pub enabled: Option<bool>,
    pub cluster_name: Option<String>,
}

/// What came of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtStatus {
    /// In the zone of the server.
    pub expires_at: Option<String>,
    pub last_used_at: Option<String>,
}

/// Who a user is at a provider.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// `okta_user://ada@example.org`, in ext tokens.
    name: Option<String>,
    /// The same, in legacy ones.
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
    /// `okta_user://ada@example.org`.
    pub fn id(&self) -> Option<&str> {
        let inner = self.metadata.as_ref().and_then(|meta| meta.name.as_deref());
        self.name.as_deref().or(inner)
    }
}

/// A user; mail addresses are elsewhere.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub metadata: Meta,
    pub display_name: Option<String>,
    /// Of local accounts alone.
    pub username: Option<String>,
    pub principal_ids: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// What providers said of a user of the same name.
#[derive(Debug, Deserialize)]
pub struct Attribute {
    pub metadata: Meta,
    /// Fields of this object have no JSON names, so Go's own.
    #[serde(rename = "ExtraByProvider")]
    pub extra: Option<HashMap<String, Option<Extra>>>,
}

/// What one provider said.
#[derive(Debug, Deserialize)]
pub struct Extra {
    pub email: Option<Vec<String>>,
    pub username: Option<Vec<String>>,
}

/// A collection of Rancher's own API.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub struct Collection<T> {
    #[serde(deserialize_with = "none_is_empty")]
    pub data: Vec<T>,
}

/// A provider of logins.
#[derive(Debug, Deserialize)]
pub struct Provider {
    pub id: String,
    pub enabled: Option<bool>,
}

/// A setting; all are texts.
#[derive(Debug, Deserialize)]
pub struct Setting {
    value: Option<String>,
    default: Option<String>,
}

impl Setting {
    /// What counts: its value, or else its default.
    pub fn effective(self) -> Option<String> {
        let is_set = |text: &String| !text.trim().is_empty();
        self.value
            .filter(is_set)
            .or(self.default)
            .filter(is_set)
            .map(|text| text.trim().to_owned())
    }
}

/// What runs there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    pub version: String,
}

/// The answer to whether the caller may do something.
#[derive(Debug, Deserialize)]
pub struct Review {
    pub status: ReviewStatus,
}

/// See [`Review`].
#[derive(Debug, Deserialize)]
pub struct ReviewStatus {
    pub allowed: bool,
}
