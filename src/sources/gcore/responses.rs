//! The responses of Gcore: the account, its tokens and its users.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::domain::{Cell, Expiry, ListedToken, Status, column};
use crate::sources::fields::{Field, FieldReader, Item, Items, Texts};
use crate::sources::{AccountAdmin, cells};

/// The group of administrators, and the role of the same name.
const ADMINISTRATORS: i64 = 1;

#[derive(Debug, Deserialize)]
pub(super) struct Account {
    pub id: i64,
    #[serde(rename = "companyName", default)]
    company_name: Field,
    #[serde(default)]
    name: Field,
    /// The user of the credentials.
    #[serde(rename = "currentUser", default)]
    current_user: Field,
    /// Whether the token belongs to another account.
    #[serde(skip)]
    is_foreign: bool,
}

impl Account {
    /// An account other than that of the token.
    pub fn foreign(id: i64, own: Option<Self>) -> Self {
        Self {
            id,
            company_name: Field::Absent,
            name: Field::Absent,
            current_user: own.map_or(Field::Absent, |own| own.current_user),
            is_foreign: true,
        }
    }

    pub fn current_user(&self) -> Option<i64> {
        self.current_user.integer().ok()?
    }

    /// The company, otherwise the person who registered it, otherwise the id.
    pub fn name(&self) -> String {
        [&self.company_name, &self.name]
            .into_iter()
            .find_map(|name| cells::text(name.text().as_deref()).into_option())
            .unwrap_or(self.id.to_string())
    }
}

/// Gcore shows the secret only when the token is created, never in a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Token {
    id: Field,
    name: Field,
    description: Field,
    /// Null if it never expires.
    exp_date: Field,
    expired: Field,
    deleted: Field,
    created: Field,
    /// Null, empty or missing if the token was never used.
    last_usage: Field,
    client_user: Item<ClientUser>,
}

/// The issuer and the role of a token. A field `deleted` in here says nothing about the user.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientUser {
    role: Item<Group>,
    user_id: Field,
    user_name: Field,
    user_email: Field,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Group {
    id: Field,
    name: Field,
}

impl Group {
    fn is_administrators(&self) -> Option<bool> {
        Some(self.id.integer().ok()?? == ADMINISTRATORS)
    }
}

impl Token {
    /// `None` if it has no usable id.
    pub fn id(&self) -> Option<i64> {
        self.id.integer().ok()?
    }

    pub fn issuer_id(&self) -> Option<i64> {
        self.client_user.get()?.user_id.integer().ok()?
    }

    pub fn is_admin(&self) -> Option<bool> {
        self.client_user.get()?.role.get()?.is_administrators()
    }

    pub fn is_live(&self) -> bool {
        !self.deleted.is(true)
    }

    pub fn to_listed(&self, account: &str, people: Option<&People>) -> ListedToken {
        let mut fields = FieldReader::default();
        if let Item::Odd(what) = self.client_user {
            fields.refuse(column::ISSUER, format!("is {what}"));
        }
        let unknown = ClientUser::default();
        let issuer = self.client_user.get().unwrap_or(&unknown);
        let user = match (self.issuer_id(), people) {
            (Some(id), Some(people)) => people.find(id),
            _ => Cell::Absent,
        };
        let address = match self.client_user {
            Item::Odd(_) => Cell::Absent,
            _ => fields.address(&issuer.user_email),
        };
        let mut name = fields.text("issuer_name", &issuer.user_name);
        if let (Cell::Value(name), Cell::Value(_), Cell::Value(user)) = (&mut name, &address, &user)
        {
            // Only if there is an address: otherwise an owners file may refer to the name.
            name.push_str(user.sign_in_note());
        }
        let role = issuer.role.get().and_then(|role| role.name.text());
        let expiry = match &self.exp_date {
            Field::Null => Cell::Value(Expiry::Never),
            date => fields.expiry(date),
        };
        let token = ListedToken {
            name: fields.text("name", &self.name),
            description: fields.text("description", &self.description),
            issuer: address,
            issuer_name: name,
            issuer_id: self.issuer_id().map(|id| id.to_string()),
            issuer_gone: issuer_gone(self.issuer_id().unwrap_or_default(), &user),
            account: Cell::Value(account.to_owned()),
            role: cells::text(role.as_deref()),
            created_at: fields.instant(column::CREATED_AT, &self.created),
            last_used_at: fields.instant(column::LAST_USED_AT, &self.last_usage),
            status: self.status(expiry, &mut fields),
            expiry,
            ..ListedToken::with_id(self.id.id().unwrap_or_default())
        };
        fields.finish(token)
    }

    /// Gcore deletes expired tokens itself, so an expired token is not revoked.
    fn status(&self, expiry: Cell<Expiry>, fields: &mut FieldReader) -> Cell<Status> {
        let is_expired = fields.flag(column::STATUS, &self.expired) == Some(true);
        let is_deleted = fields.flag(column::STATUS, &self.deleted) == Some(true);
        match (is_expired, expiry) {
            (true, Cell::Value(Expiry::At(_))) => Cell::Value(Status::Active),
            (true, _) => Cell::Value(Status::Disabled),
            (false, _) if !fields.is_readable(column::STATUS) => Cell::Absent,
            (false, _) if is_deleted => Cell::Value(Status::Revoked),
            (false, _) => Cell::Value(Status::Active),
        }
    }
}

fn issuer_gone(id: i64, user: &Cell<&User>) -> Cell<String> {
    match user {
        Cell::Absent => Cell::Absent,
        Cell::Empty => Cell::Value(format!("Gcore has no user {id}")),
        Cell::Value(user) => match user.leave_reason() {
            Ok(Some(reason)) => {
                let note = user.sign_in_note();
                Cell::Value(format!("Gcore lists the user {id}{note} as {reason}"))
            }
            Ok(None) => Cell::Empty,
            Err(_) => Cell::Absent,
        },
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    id: Field,
    email: Field,
    is_active: Field,
    deleted: Field,
    sso_auth: Field,
    auth_types: Texts,
    groups: Items<Group>,
    /// The account, of which a reseller sees several.
    client: Field,
}

/// With a limit, Gcore sends pages; without one, an array.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum UserPage {
    All(Vec<Item<User>>),
    Some {
        #[serde(default)]
        count: Field,
        results: Vec<Item<User>>,
    },
}

impl User {
    pub fn id(&self) -> Option<i64> {
        self.id.integer().ok()?
    }

    pub fn is_admin(&self) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.is_administrators() == Some(true))
    }

    /// Why the user counts as having left; `None` if they have not. An error if that cannot be read.
    pub fn leave_reason(&self) -> Result<Option<&'static str>, String> {
        if self.deleted.is(true) {
            Ok(Some("deleted"))
        } else if self.is_active.is(false) {
            Ok(Some("inactive"))
        } else {
            self.deleted.flag().and(self.is_active.flag()).map(|_| None)
        }
    }

    /// Marks users of single sign-on, because Gcore does not notice when someone loses access there.
    pub fn sign_in_note(&self) -> &'static str {
        let types = &self.auth_types.0;
        let by_sso = types.iter().filter(|kind| *kind == "sso").count();
        if by_sso > 0 && by_sso == types.len() {
            " (SSO only)"
        } else if by_sso > 0 || self.sso_auth.is(true) {
            " (SSO)"
        } else {
            ""
        }
    }

    fn belongs_to(&self, account: &Account) -> bool {
        match self.client.integer() {
            Ok(Some(client)) => client == account.id,
            Ok(None) => !account.is_foreign,
            Err(_) => false,
        }
    }
}

/// The users by id; `None` if Gcore has no such user.
#[derive(Debug)]
pub(super) struct People(pub BTreeMap<i64, Option<User>>);

impl People {
    pub fn count(&self) -> usize {
        self.0.values().flatten().count()
    }

    /// The user; empty if Gcore has no such user, absent if nothing is known.
    pub fn find(&self, id: i64) -> Cell<&User> {
        match self.0.get(&id) {
            Some(Some(user)) => Cell::Value(user),
            Some(None) => Cell::Empty,
            None => Cell::Absent,
        }
    }

    pub fn admins(&self, account: &Account) -> Vec<AccountAdmin> {
        let mut addresses = BTreeSet::new();
        for user in self.0.values().flatten() {
            if user.is_admin() && user.leave_reason() == Ok(None) && user.belongs_to(account) {
                addresses.extend(cells::address(user.email.text().as_deref()).into_option());
            }
        }
        let account = account.name();
        let admin = |address| AccountAdmin {
            account: account.clone(),
            address,
        };
        addresses.into_iter().map(admin).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sources::RefusedRows;
    use crate::sources::fields::{generated, with_ids};

    fn tokens() -> Vec<Value> {
        let token = |id: i64| {
            json!({
                "id": id, "name": format!("ci {id}"), "description": "deploys", "expired": false, "deleted": false,
                "exp_date": "2026-11-28T10:15:02.000Z", "created": "2026-08-30T10:15:02.000Z",
                "last_usage": "2026-11-20T08:01:44.000Z",
                "client_user": {
                    "role": {"id": 1, "name": "Administrators"}, "deleted": false, "client_id": 2,
                    "user_id": id, "user_name": "Ada", "user_email": "ada@example.org",
                },
            })
        };
        (3..6).map(token).collect()
    }

    fn list(tokens: &str, users: &str) -> Vec<ListedToken> {
        let page: UserPage = serde_json::from_str(users).unwrap();
        let (UserPage::All(users) | UserPage::Some { results: users, .. }) = page;
        let users = users.into_iter().filter_map(Item::into_option);
        let people = People(
            users
                .filter_map(|user| Some((user.id()?, Some(user))))
                .collect(),
        );
        let tokens: Vec<Item<Token>> = serde_json::from_str(tokens).unwrap();
        let has_id = |token: &Token| token.id().is_some();
        with_ids(tokens, "tokens", has_id, &mut RefusedRows::default())
            .iter()
            .map(|token| token.to_listed("acme", Some(&people)))
            .collect()
    }

    fn users() -> Vec<Value> {
        let user = |id: i64| {
            json!({
                "id": id, "email": "ada@example.org", "is_active": id != 4, "deleted": false, "sso_auth": false,
                "auth_types": ["password", "sso"], "groups": [{"id": 1, "name": "Administrators"}], "client": 2,
            })
        };
        (3..6).map(user).collect()
    }

    #[test]
    fn an_odd_token_changes_no_other() {
        let users = json!(users()).to_string();
        generated::assert_only_the_odd_record_changes(&tokens(), |text| list(text, &users));
    }

    #[test]
    fn an_odd_user_changes_only_their_tokens() {
        let tokens = json!(tokens()).to_string();
        generated::assert_only_the_odd_record_changes(&users(), |text| list(&tokens, text));
    }

    #[test]
    fn fields_that_cannot_be_read_are_recorded() {
        let token = json!([{
            "id": "7", "exp_date": "soon", "created": {}, "deleted": "perhaps", "name": 5, "client_user": "Ada",
        }]);
        let listed = list(&token.to_string(), "[]").pop().unwrap();
        assert_eq!(listed.external_id, "7");
        assert_eq!(listed.name, Cell::Value("5".to_owned()));
        assert_eq!((listed.expiry, listed.status), (Cell::Absent, Cell::Absent));
        let unreadable: Vec<_> = listed.unreadable.keys().collect();
        let expected = ["created_at", "expires_at", "issuer_email", "status"];
        assert_eq!(unreadable, expected);
    }
}
