//! What NocoDB writes, and what lapsed makes of it. No shape here has a place for a token's secret.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::{Cell, Expiry, Listed, Status};
use crate::sources::{LongestLife, cells};

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    pub list: Vec<T>,
    page_info: Option<PageInfo>,
}

/// Of all that it says only the count holds: a page of more rows than 1000 calls itself one of 1000.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    total_rows: Option<usize>,
}

impl<T> Page<T> {
    /// How many rows there are on all pages.
    pub fn total(&self) -> Option<usize> {
        self.page_info.as_ref()?.total_rows
    }
}

/// A row with an id.
pub(super) trait Identified {
    fn id(&self) -> String;
}

/// An id: a number up to 0.301, a text in later versions.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Number(i64),
    Text(String),
}

impl Id {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// A truth as SQLite or as PostgreSQL keeps it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Flag {
    Bool(bool),
    Number(i64),
}

impl Flag {
    pub fn is_set(self) -> bool {
        match self {
            Self::Bool(flag) => flag,
            Self::Number(number) => number != 0,
        }
    }
}

/// A token. What only later versions tell is absent in earlier ones.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Token {
    pub id: Id,
    pub description: Option<String>,
    #[serde(default, deserialize_with = "told")]
    pub fk_user_id: Cell<String>,
    /// The mail address of that user; null when there is none any more.
    #[serde(default, deserialize_with = "told")]
    pub created_by: Cell<String>,
    pub base_id: Option<String>,
    pub fk_workspace_id: Option<String>,
    pub fk_sso_client_id: Option<String>,
    /// What that client is called; told by the database alone.
    #[serde(skip)]
    pub single_sign_on: Option<String>,
    pub created_at: Option<String>,
    pub expiry: Option<String>,
    pub enabled: Option<Flag>,
    #[serde(default, deserialize_with = "told")]
    pub last_used_at: Cell<String>,
}

impl Identified for Token {
    fn id(&self) -> String {
        self.id.text()
    }
}

/// A user.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct User {
    pub id: String,
    pub email: Option<String>,
    pub display_name: Option<String>,
    pub roles: Option<String>,
    pub blocked: Option<Flag>,
    pub is_deleted: Option<Flag>,
}

impl Identified for User {
    fn id(&self) -> String {
        self.id.clone()
    }
}

/// Who the session belongs to.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Me {
    pub id: Option<String>,
    roles: Option<Roles>,
}

/// Roles come as `{"super": true}`, and as `creator,super` where they are stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Roles {
    Map(HashMap<String, Option<bool>>),
    Text(String),
}

impl Me {
    /// Whether NocoDB does not know him.
    pub fn is_stranger(&self) -> bool {
        self.id.is_none()
    }

    /// Whether he is a super admin, as far as that is told.
    pub fn is_super_admin(&self) -> Option<bool> {
        Some(match self.roles.as_ref()? {
            Roles::Map(roles) => roles.get("super") == Some(&Some(true)),
            Roles::Text(roles) => roles.split(',').any(|role| role.trim() == "super"),
        })
    }
}

/// What NocoDB says of itself to everybody.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    version: Option<String>,
    pub ee: Option<bool>,
    #[serde(default)]
    oidc_auth_enabled: bool,
    #[serde(default)]
    saml_auth_enabled: bool,
    #[serde(default)]
    google_auth_enabled: bool,
}

impl About {
    /// Whether people can sign in by single sign-on.
    pub fn has_single_sign_on(&self) -> bool {
        self.oidc_auth_enabled || self.saml_auth_enabled || self.google_auth_enabled
    }

    /// `NocoDB 0.301.3, community edition`.
    pub fn name(&self) -> String {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        match self.ee {
            Some(false) => format!("NocoDB {version}, community edition"),
            Some(true) => format!("NocoDB {version}, enterprise edition"),
            None => format!("NocoDB {version}"),
        }
    }

    /// The community edition gives no token an end; what may be chosen elsewhere is not told.
    pub fn longest_life(&self) -> Option<LongestLife> {
        (self.ee == Some(false)).then(|| LongestLife {
            life: None,
            evidence: format!("{}, gives API tokens no end", self.name()),
        })
    }
}

impl Token {
    /// Whose it is.
    pub fn user_id(&self) -> Option<&str> {
        match &self.fk_user_id {
            Cell::Value(id) => Some(id),
            _ => None,
        }
    }

    /// What lapsed makes of it. `user` is he of that id, whom there is if users are known and he exists.
    pub fn listed(&self, user: Option<&User>, are_users_known: bool) -> Listed {
        let mut listed = Listed {
            name: cells::text(self.description.as_deref()),
            description: cells::text(Some(&self.remarks(user))),
            issuer_id: self.user_id().map(str::to_owned),
            issuer_gone: self.issuer_gone(user, are_users_known),
            account: cells::text(self.fk_workspace_id.as_deref()),
            scope: cells::text(self.base_id.as_deref()),
            created_at: cells::at(self.created_at.as_deref()),
            expiry: Cell::Value(expiry(self.expiry.as_deref())),
            last_used_at: match &self.last_used_at {
                Cell::Value(text) => cells::at(Some(text)),
                Cell::Empty => Cell::Empty,
                Cell::Absent => Cell::Absent,
            },
            status: Cell::Value(if self.enabled.is_none_or(Flag::is_set) {
                Status::Active
            } else {
                Status::Disabled
            }),
            ..Listed::named(self.id())
        };
        let address = match &self.created_by {
            Cell::Value(address) => Some(address),
            _ => user.and_then(|user| user.email.as_ref()),
        };
        // Nothing is told of one who is gone; what is known of him stays.
        if user.is_some() || address.is_some() {
            listed.issuer = cells::address(address.map(String::as_str));
        }
        if let Some(user) = user {
            listed.issuer_name = cells::text(user.display_name.as_deref());
            listed.role = cells::text(user.roles.as_deref());
        }
        listed
    }

    /// How it is known that nobody is behind it any more.
    fn issuer_gone(&self, user: Option<&User>, are_users_known: bool) -> Cell<String> {
        let id = match &self.fk_user_id {
            Cell::Absent => return Cell::Absent,
            Cell::Empty => {
                let words = "it belongs to no user, as tokens of early versions of NocoDB do";
                return Cell::Value(words.to_owned());
            }
            Cell::Value(id) => id,
        };
        match (user, &self.created_by) {
            (Some(user), _) if is_set(user.is_deleted) => {
                Cell::Value(format!("user {id} is marked as deleted in NocoDB"))
            }
            (Some(_), _) | (None, Cell::Value(_)) => Cell::Empty,
            (None, Cell::Absent) if !are_users_known => Cell::Absent,
            (None, _) => Cell::Value(format!("user {id} no longer exists in NocoDB")),
        }
    }

    /// What else is worth knowing, in words.
    fn remarks(&self, user: Option<&User>) -> String {
        let mut remarks = Vec::new();
        if self.fk_sso_client_id.is_some() {
            let client = self.single_sign_on.as_deref();
            let client = client.map(|client| format!(" ({client})"));
            remarks.push(format!(
                "made under single sign-on{}",
                client.unwrap_or_default()
            ));
        }
        if user.is_some_and(|user| is_set(user.blocked)) {
            remarks.push("its user is blocked".to_owned());
        }
        remarks.join("; ")
    }
}

fn is_set(flag: Option<Flag>) -> bool {
    flag.is_some_and(Flag::is_set)
}

/// The community edition never fills it in, and ends no token.
fn expiry(text: Option<&str>) -> Expiry {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Expiry::Never;
    };
    instant(text).map_or(Expiry::Unknown, Expiry::At)
}

/// An instant, or the beginning of a day.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    cells::instant(text).or_else(|| cells::instant(&format!("{text} 00:00:00")))
}

/// Tells null from a key that is not there.
fn told<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cell<String>, D::Error> {
    Ok(match Option::deserialize(deserializer)? {
        Some(text) => Cell::Value(text),
        None => Cell::Empty,
    })
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
    fn roles_come_in_two_forms_or_not_at_all(#[case] json: &str, #[case] expected: Option<bool>) {
        let me: Me = serde_json::from_str(json).unwrap();
        assert_eq!(me.is_super_admin(), expected);
    }

    #[test]
    fn what_is_not_told_keeps_what_is_known() {
        let token: Token = serde_json::from_str(r#"{"id": 1}"#).unwrap();
        let listed = token.listed(None, true);
        assert_eq!(listed.issuer_gone, Cell::Absent);
        assert_eq!((listed.issuer, listed.role), (Cell::Absent, Cell::Absent));
        let json = r#"{"id": 1, "fk_user_id": "us1"}"#;
        let token: Token = serde_json::from_str(json).unwrap();
        assert_eq!(token.listed(None, false).issuer_gone, Cell::Absent);
        assert!(matches!(
            token.listed(None, true).issuer_gone,
            Cell::Value(_)
        ));
    }

    #[rstest]
    #[case(None, Expiry::Never)]
    #[case(Some(""), Expiry::Never)]
    #[case(Some("soon"), Expiry::Unknown)]
    fn an_end_that_cannot_be_read_is_unknown(#[case] text: Option<&str>, #[case] expected: Expiry) {
        assert_eq!(expiry(text), expected);
    }
}
