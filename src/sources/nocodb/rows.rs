//! The data of NocoDB and its conversion. No type here has a field for a token's secret.

use std::collections::HashMap;

use serde::Deserialize;

use crate::domain::{Cell, Expiry, ListedToken, Status, column};
use crate::sources::fields::{Field, FieldReader, Item};
use crate::sources::{MaxLife, cells};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    pub list: Vec<Item<T>>,
    #[serde(default)]
    page_info: Item<PageInfo>,
}

/// Only the total is reliable: a page of more than 1000 rows reports a size of 1000.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageInfo {
    total_rows: Field,
}

impl<T> Page<T> {
    pub fn total(&self) -> Option<usize> {
        let total = self.page_info.get()?.total_rows.integer().ok()?;
        usize::try_from(total?).ok()
    }
}

/// Fields of later versions are absent in earlier ones.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Token {
    /// A number up to version 0.301, a text in later ones.
    pub id: Field,
    pub description: Field,
    pub fk_user_id: Field,
    /// The mail address of that user; null if the user no longer exists.
    pub created_by: Field,
    pub base_id: Field,
    pub fk_workspace_id: Field,
    pub fk_sso_client_id: Field,
    /// The title of that client; known only from the database.
    #[serde(skip)]
    pub single_sign_on: Option<String>,
    pub created_at: Field,
    pub expiry: Field,
    /// SQLite stores it as a number.
    pub enabled: Field,
    pub last_used_at: Field,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub id: Field,
    pub email: Field,
    pub display_name: Field,
    pub roles: Field,
    pub blocked: Field,
    pub is_deleted: Field,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CurrentUser {
    #[serde(default)]
    id: Field,
    roles: Option<Roles>,
}

/// `{"super": true}`, or `creator,super` as stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Roles {
    Map(HashMap<String, Field>),
    Other(Field),
}

impl CurrentUser {
    pub fn id(&self) -> Option<String> {
        self.id.id()
    }

    /// `None` if NocoDB does not report roles.
    pub fn is_super_admin(&self) -> Option<bool> {
        Some(match self.roles.as_ref()? {
            Roles::Map(roles) => roles.get("super").is_some_and(|flag| flag.is(true)),
            Roles::Other(roles) => {
                let roles = roles.text()?;
                roles.split(',').any(|role| role.trim() == "super")
            }
        })
    }
}

/// What NocoDB reports even without a session.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServerInfo {
    version: Field,
    ee: Field,
    oidc_auth_enabled: Field,
    saml_auth_enabled: Field,
    google_auth_enabled: Field,
}

impl ServerInfo {
    pub fn has_single_sign_on(&self) -> bool {
        [
            &self.oidc_auth_enabled,
            &self.saml_auth_enabled,
            &self.google_auth_enabled,
        ]
        .into_iter()
        .any(|is_enabled| is_enabled.is(true))
    }

    /// Whether it is the enterprise edition, if it says so.
    pub fn is_enterprise(&self) -> Option<bool> {
        self.ee.flag().ok()?
    }

    pub fn name(&self) -> String {
        let version = self.version.text();
        let version = version.as_deref().unwrap_or("of unknown version");
        match self.is_enterprise() {
            Some(false) => format!("NocoDB {version}, community edition"),
            Some(true) => format!("NocoDB {version}, enterprise edition"),
            None => format!("NocoDB {version}"),
        }
    }

    /// The community edition gives tokens no expiry; the limits of other editions are not known.
    pub fn max_life(&self) -> Option<MaxLife> {
        (self.is_enterprise() == Some(false)).then(|| MaxLife {
            life: None,
            evidence: format!("{}: API tokens never expire", self.name()),
        })
    }
}

impl Token {
    pub fn id(&self) -> String {
        self.id.id().unwrap_or_default()
    }

    pub fn user_id(&self) -> Option<String> {
        self.fk_user_id.id()
    }

    /// `user` is the user of the token, if known. If `are_users_known`, a missing user does not exist.
    pub fn to_listed(&self, user: Option<&User>, are_users_known: bool) -> ListedToken {
        let mut fields = FieldReader::default();
        let mut listed = ListedToken {
            name: fields.text("name", &self.description),
            description: cells::text(Some(&self.remarks(user))),
            issuer_id: self.user_id(),
            issuer_gone: self.issuer_gone(user, are_users_known),
            account: fields.text("account", &self.fk_workspace_id),
            scope: fields.text("scope", &self.base_id),
            created_at: fields.instant(column::CREATED_AT, &self.created_at),
            expiry: self.expiry(&mut fields),
            last_used_at: match &self.last_used_at {
                Field::Absent => Cell::Absent,
                at => fields.instant(column::LAST_USED_AT, at),
            },
            status: self.status(&mut fields),
            ..ListedToken::with_id(self.id())
        };
        let by_user = user.map_or(&Field::Absent, |user| &user.email);
        let address = match &self.created_by {
            Field::Absent | Field::Null => by_user,
            address => address,
        };
        // Nothing is reported for a deleted user, so keep what is known.
        if user.is_some() || *address != Field::Absent {
            listed.issuer = fields.address(address);
        }
        if let Some(user) = user {
            listed.issuer_name = fields.text("issuer_name", &user.display_name);
            listed.role = fields.text("role", &user.roles);
        }
        fields.finish(listed)
    }

    /// The community edition never sets an expiry.
    fn expiry(&self, fields: &mut FieldReader) -> Cell<Expiry> {
        match &self.expiry {
            Field::Absent | Field::Null => Cell::Value(Expiry::Never),
            Field::Text(text) if text.trim().is_empty() => Cell::Value(Expiry::Never),
            date => fields.expiry(date),
        }
    }

    fn status(&self, fields: &mut FieldReader) -> Cell<Status> {
        match fields.flag(column::STATUS, &self.enabled) {
            Some(false) => Cell::Value(Status::Disabled),
            None if !fields.is_readable(column::STATUS) => Cell::Absent,
            Some(true) | None => Cell::Value(Status::Active),
        }
    }

    /// The evidence that the user no longer exists.
    fn issuer_gone(&self, user: Option<&User>, are_users_known: bool) -> Cell<String> {
        if self.fk_user_id == Field::Null {
            let evidence = "it belongs to no user, as tokens of early versions of NocoDB do";
            return Cell::Value(evidence.to_owned());
        }
        let Some(id) = self.user_id() else {
            return Cell::Absent;
        };
        let is_unknown = match user {
            Some(user) => user.is_deleted.flag().is_err(),
            None => self.created_by == Field::Absent && !are_users_known,
        };
        match (user, &self.created_by) {
            _ if is_unknown => Cell::Absent,
            (Some(user), _) if user.is_deleted.is(true) => {
                Cell::Value(format!("user {id} is marked as deleted in NocoDB"))
            }
            (None, Field::Absent | Field::Null) => {
                Cell::Value(format!("user {id} no longer exists in NocoDB"))
            }
            _ => Cell::Empty,
        }
    }

    fn remarks(&self, user: Option<&User>) -> String {
        let mut remarks = Vec::new();
        if self.fk_sso_client_id.text().is_some() {
            let client = self.single_sign_on.as_ref();
            let client = client.map_or(String::new(), |client| format!(" ({client})"));
            remarks.push(format!("made under single sign-on{client}"));
        }
        if user.is_some_and(|user| user.blocked.is(true)) {
            remarks.push("its user is blocked".to_owned());
        }
        remarks.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::sources::RefusedRows;
    use crate::sources::fields::{generated, with_ids};

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

    fn list(tokens: &str, users: &str) -> Vec<ListedToken> {
        let users: Vec<Item<User>> = serde_json::from_str(users).unwrap();
        let users = users.into_iter().filter_map(Item::into_option);
        let users: HashMap<_, _> = users
            .filter_map(|user| Some((user.id.id()?, user)))
            .collect();
        let page = format!("{{\"list\": {tokens}, \"pageInfo\": {{\"totalRows\": 3}}}}");
        let page: Page<Token> = serde_json::from_str(&page).unwrap();
        let has_id = |token: &Token| token.id.id().is_some();
        let tokens = with_ids(page.list, "tokens", has_id, &mut RefusedRows::default());
        let to_listed = |token: &Token| {
            let user = token.user_id().and_then(|id| users.get(&id));
            token.to_listed(user, true)
        };
        tokens.iter().map(to_listed).collect()
    }

    #[test]
    fn an_odd_token_or_user_changes_no_other() {
        let token = |id: i64| {
            json!({
                "id": id, "description": format!("ci {id}"), "fk_user_id": format!("us{id}"),
                "base_id": null, "fk_workspace_id": "w1", "fk_sso_client_id": null, "enabled": 1,
                "created_at": "2026-08-30 10:15:02+00:00", "expiry": "2026-12-05",
                "last_used_at": "2026-11-20T08:01:44Z",
            })
        };
        let user = |id: i64| {
            json!({
                "id": format!("us{id}"), "email": "ada@example.org", "display_name": "Ada",
                "roles": "org-level-creator", "blocked": false, "is_deleted": 0,
            })
        };
        let tokens: Vec<_> = (3..6).map(token).collect();
        let users: Vec<_> = (3..6).map(user).collect();
        let (all_tokens, all_users) = (json!(tokens).to_string(), json!(users).to_string());
        generated::assert_only_the_odd_record_changes(&tokens, |text| list(text, &all_users));
        generated::assert_only_the_odd_record_changes(&users, |text| list(&all_tokens, text));
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
    #[case(r#"{"id": 1}"#, Some(Expiry::Never))]
    #[case(r#"{"id": 1, "expiry": ""}"#, Some(Expiry::Never))]
    #[case(r#"{"id": 1, "expiry": "soon"}"#, None)]
    #[case(r#"{"id": 1, "expiry": {}}"#, None)]
    #[case(r#"{"id": 1, "expiry": "1970-01-01 00:00:00"}"#, None)]
    #[case(r#"{"id": 1, "expiry": "9999-12-31"}"#, Some(Expiry::Never))]
    fn an_expiry_is_read_or_recorded_as_unreadable(
        #[case] json: &str,
        #[case] expected: Option<Expiry>,
    ) {
        let token: Token = serde_json::from_str(json).unwrap();
        let listed = token.to_listed(None, true);
        assert_eq!(listed.expiry, expected.map_or(Cell::Absent, Cell::Value));
        assert_eq!(
            listed.unreadable.contains_key("expires_at"),
            expected.is_none()
        );
    }
}
