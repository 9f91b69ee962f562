//! The data of NocoDB and its conversion. No type here has a field for a token's secret.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::{Cell, Expiry, ListedToken, Status};
use crate::sources::{MaxLife, cells};
use crate::time;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    pub list: Vec<T>,
    page_info: Option<PageInfo>,
}

/// Only the total is reliable: a page of more than 1000 rows reports a size of 1000.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    total_rows: Option<usize>,
}

impl<T> Page<T> {
    pub fn total(&self) -> Option<usize> {
        self.page_info.as_ref()?.total_rows
    }
}

/// A number up to version 0.301, a text in later ones.
fn id<'de, D: Deserializer<'de>>(value: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(i64),
        Text(String),
    }
    Ok(match Id::deserialize(value)? {
        Id::Number(number) => number.to_string(),
        Id::Text(text) => text,
    })
}

/// SQLite stores a boolean as a number.
fn flag<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Number(i64),
    }
    let flag: Option<Flag> = Option::deserialize(value)?;
    Ok(flag.map(|flag| match flag {
        Flag::Bool(flag) => flag,
        Flag::Number(number) => number != 0,
    }))
}

/// Fields of later versions are absent in earlier ones.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Token {
    #[serde(deserialize_with = "id")]
    pub id: String,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    pub fk_user_id: Cell<String>,
    /// The mail address of that user; null if the user no longer exists.
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    pub created_by: Cell<String>,
    pub base_id: Option<String>,
    pub fk_workspace_id: Option<String>,
    pub fk_sso_client_id: Option<String>,
    /// The title of that client; known only from the database.
    #[serde(skip)]
    pub single_sign_on: Option<String>,
    pub created_at: Option<String>,
    pub expiry: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub enabled: Option<bool>,
    #[serde(default, deserialize_with = "cells::null_as_empty")]
    pub last_used_at: Cell<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct User {
    pub id: String,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub roles: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub blocked: Option<bool>,
    #[serde(default, deserialize_with = "flag")]
    pub is_deleted: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CurrentUser {
    pub id: Option<String>,
    roles: Option<Roles>,
}

/// `{"super": true}`, or `creator,super` as stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Roles {
    Map(HashMap<String, Option<bool>>),
    Text(String),
}

impl CurrentUser {
    pub fn is_guest(&self) -> bool {
        self.id.is_none()
    }

    /// `None` if NocoDB does not report roles.
    pub fn is_super_admin(&self) -> Option<bool> {
        Some(match self.roles.as_ref()? {
            Roles::Map(roles) => roles.get("super") == Some(&Some(true)),
            Roles::Text(roles) => roles.split(',').any(|role| role.trim() == "super"),
        })
    }
}

/// What NocoDB reports even without a session.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerInfo {
    version: Option<String>,
    pub ee: Option<bool>,
    #[serde(default)]
    oidc_auth_enabled: bool,
    #[serde(default)]
    saml_auth_enabled: bool,
    #[serde(default)]
    google_auth_enabled: bool,
}

impl ServerInfo {
    pub fn has_single_sign_on(&self) -> bool {
        self.oidc_auth_enabled || self.saml_auth_enabled || self.google_auth_enabled
    }

    pub fn name(&self) -> String {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        match self.ee {
            Some(false) => format!("NocoDB {version}, community edition"),
            Some(true) => format!("NocoDB {version}, enterprise edition"),
            None => format!("NocoDB {version}"),
        }
    }

    /// The community edition gives tokens no expiry; the limits of other editions are not known.
    pub fn max_life(&self) -> Option<MaxLife> {
        (self.ee == Some(false)).then(|| MaxLife {
            life: None,
            evidence: format!("{}: API tokens never expire", self.name()),
        })
    }
}

impl Token {
    pub fn user_id(&self) -> Option<&str> {
        match &self.fk_user_id {
            Cell::Value(id) => Some(id),
            _ => None,
        }
    }

    /// `user` is the user of the token, if known. If `are_users_known`, a missing user does not exist.
    pub fn to_listed(&self, user: Option<&User>, are_users_known: bool) -> ListedToken {
        let mut listed = ListedToken {
            name: cells::text(self.description.as_deref()),
            description: cells::text(Some(&self.remarks(user))),
            issuer_id: self.user_id().map(str::to_owned),
            issuer_gone: self.issuer_gone(user, are_users_known),
            account: cells::text(self.fk_workspace_id.as_deref()),
            scope: cells::text(self.base_id.as_deref()),
            created_at: cells::instant_cell(self.created_at.as_deref()),
            expiry: Cell::Value(expiry(self.expiry.as_deref())),
            last_used_at: match &self.last_used_at {
                Cell::Value(text) => cells::instant_cell(Some(text)),
                Cell::Empty => Cell::Empty,
                Cell::Absent => Cell::Absent,
            },
            status: Cell::Value(match self.enabled {
                Some(false) => Status::Disabled,
                Some(true) | None => Status::Active,
            }),
            ..ListedToken::with_id(&self.id)
        };
        let address = match &self.created_by {
            Cell::Value(address) => Some(address),
            _ => user.and_then(|user| user.email.as_ref()),
        };
        // Nothing is reported for a deleted user, so keep what is known.
        if user.is_some() || address.is_some() {
            listed.issuer = cells::address(address.map(String::as_str));
        }
        if let Some(user) = user {
            listed.issuer_name = cells::text(user.display_name.as_deref());
            listed.role = cells::text(user.roles.as_deref());
        }
        listed
    }

    /// The evidence that the user no longer exists.
    fn issuer_gone(&self, user: Option<&User>, are_users_known: bool) -> Cell<String> {
        let id = match &self.fk_user_id {
            Cell::Absent => return Cell::Absent,
            Cell::Empty => {
                let evidence = "it belongs to no user, as tokens of early versions of NocoDB do";
                return Cell::Value(evidence.to_owned());
            }
            Cell::Value(id) => id,
        };
        match (user, &self.created_by) {
            (Some(user), _) if user.is_deleted == Some(true) => {
                Cell::Value(format!("user {id} is marked as deleted in NocoDB"))
            }
            (Some(_), _) | (None, Cell::Value(_)) => Cell::Empty,
            (None, Cell::Absent) if !are_users_known => Cell::Absent,
            (None, _) => Cell::Value(format!("user {id} no longer exists in NocoDB")),
        }
    }

    fn remarks(&self, user: Option<&User>) -> String {
        let mut remarks = Vec::new();
        if self.fk_sso_client_id.is_some() {
            let client = self.single_sign_on.as_ref();
            let client = client.map_or(String::new(), |client| format!(" ({client})"));
            remarks.push(format!("made under single sign-on{client}"));
        }
        if user.is_some_and(|user| user.blocked == Some(true)) {
            remarks.push("its user is blocked".to_owned());
        }
        remarks.join("; ")
    }
}

/// The community edition never sets an expiry.
fn expiry(text: Option<&str>) -> Expiry {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Expiry::Never;
    };
    parse_expiry(text).map_or(Expiry::Unknown, Expiry::At)
}

/// A date means its first instant.
fn parse_expiry(text: &str) -> Option<DateTime<Utc>> {
    time::parse_system_instant(text)
        .or_else(|| time::parse_system_instant(&format!("{text} 00:00:00")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        r#"{"id": "us1", "roles": {"org-level-creator": true, "super": true}}"#,
        Some(true)
    )]
    #[case(r#"{"id": "us1", "roles": {"super": false}}"#, Some(false))]
    #[case(r#"{"id": "us1", "roles": "org-level-creator,super"}"#, Some(true))]
    #[case(r#"{"id": "us1", "roles": "org-level-creator"}"#, Some(false))]
    #[case(r#"{"id": "us1", "roles": null}"#, None)]
    fn roles_have_two_forms_and_may_be_missing(#[case] json: &str, #[case] expected: Option<bool>) {
        let me: CurrentUser = serde_json::from_str(json).unwrap();
        assert_eq!(me.is_super_admin(), expected);
    }

    #[test]
    fn missing_fields_are_absent() {
        let token: Token = serde_json::from_str(r#"{"id": 1}"#).unwrap();
        let listed = token.to_listed(None, true);
        assert_eq!(listed.issuer_gone, Cell::Absent);
        assert_eq!((listed.issuer, listed.role), (Cell::Absent, Cell::Absent));
        let json = r#"{"id": 1, "fk_user_id": "us1"}"#;
        let token: Token = serde_json::from_str(json).unwrap();
        assert_eq!(token.to_listed(None, false).issuer_gone, Cell::Absent);
        assert!(matches!(
            token.to_listed(None, true).issuer_gone,
            Cell::Value(_)
        ));
    }

    #[rstest]
    #[case(None, Expiry::Never)]
    #[case(Some(""), Expiry::Never)]
    #[case(Some("soon"), Expiry::Unknown)]
    fn an_unreadable_expiry_is_unknown(#[case] text: Option<&str>, #[case] expected: Expiry) {
        assert_eq!(expiry(text), expected);
    }
}
