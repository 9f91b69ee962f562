//! Okta's users: how one is found by address, sign-in name or id, and what their status means.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::api::{Api, is_query_unsupported, none_if_not_found};
use crate::directories::account::{AccountBuilder, AccountStatus};
use crate::directories::eq_filter;
use crate::directories::json::{self, Records};
use crate::domain::{Address, IdentityStatus, Person, Reason};
use crate::upstream::Error;
use crate::upstream::http::path_segment;
use crate::upstream::pager::Identified;

pub(super) const USERS: &str = "api/v1/users";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(default, deserialize_with = "json::text")]
    status: Option<String>,
    #[serde(default, deserialize_with = "json::optional")]
    status_changed: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "json::optional")]
    profile: Option<Profile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(default)]
struct Profile {
    #[serde(deserialize_with = "json::text")]
    login: Option<String>,
    #[serde(deserialize_with = "json::text")]
    email: Option<String>,
    #[serde(deserialize_with = "json::text")]
    display_name: Option<String>,
    #[serde(deserialize_with = "json::text")]
    first_name: Option<String>,
    #[serde(deserialize_with = "json::text")]
    last_name: Option<String>,
}

impl Identified for User {
    fn id(&self) -> &str {
        &self.id
    }
}

impl User {
    pub fn has_address(&self, address: &Address) -> bool {
        self.account().has_address(address)
    }

    /// Whether this is the sign-in name, which is unique in an organisation.
    pub fn signs_in_as(&self, address: &Address) -> bool {
        self.account().signs_in_as(address)
    }

    /// The second mailbox is for recovery and often private, so it is left out.
    fn account(&self) -> AccountBuilder {
        let Some(profile) = &self.profile else {
            return AccountBuilder::default();
        };
        AccountBuilder::default()
            .mailboxes(profile.email.as_deref())
            .sign_in_name(profile.login.as_deref())
            .name(profile.display_name.as_deref())
            .full_name([profile.first_name.as_deref(), profile.last_name.as_deref()])
    }

    pub fn into_person(self) -> Person {
        let okta_status = self.status.as_deref();
        let (status, reason) = parse_status(okta_status);
        let status = AccountStatus {
            since: self.status_changed,
            ..AccountStatus::new(status, reason, status_evidence(okta_status))
        };
        self.account().build(self.id, status)
    }
}

/// A lock after wrong passwords, an expired password and a recovery are temporary, and no loss of access.
fn parse_status(okta_status: Option<&str>) -> (IdentityStatus, Option<Reason>) {
    use IdentityStatus::{Active, Disabled, Unknown};
    match okta_status {
        Some("ACTIVE" | "PROVISIONED" | "RECOVERY" | "PASSWORD_EXPIRED" | "LOCKED_OUT") => {
            (Active, None)
        }
        Some("SUSPENDED") => (Disabled, Some(Reason::Suspended)),
        Some("DEPROVISIONED") => (Disabled, Some(Reason::Admin)),
        Some("STAGED") => (Unknown, Some(Reason::NeverActivated)),
        _ => (Unknown, Some(Reason::FieldMissing)),
    }
}

/// Shows a status only if it looks like one.
fn status_evidence(okta_status: Option<&str>) -> String {
    let is_plain = |text: &&str| {
        text.len() <= 40
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_- .".contains(&byte))
    };
    match okta_status {
        Some(text) if is_plain(&text) => format!("status {text}"),
        Some(_) => "a status that is not a word".to_owned(),
        None => "no status".to_owned(),
    }
}

/// All users with an address; `None` if Okta does not support the query, because it refuses it or returns
/// other users.
///
/// A filter reads the primary store, and is case-sensitive. An address in another case is found by the
/// sign-in name in a path, or by `search` for mailboxes. Each query has one clause, because not every server
/// supports more.
pub(super) async fn find_by_address(
    api: &Api,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut found = Vec::new();
    for attribute in ["profile.email", "profile.login"] {
        let Some(users) = find_by_filter(api, attribute, address).await? else {
            return Ok(None);
        };
        found.extend(users);
        // Sign-in names are unique.
        if found.iter().any(|user| user.signs_in_as(address)) {
            break;
        }
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    let mut to_search = vec!["profile.email"];
    if address.as_str().contains('/') {
        to_search.push("profile.login");
    } else {
        match fetch_by_login(api, address).await {
            Err(error) if is_query_unsupported(&error) => return Ok(None),
            user => found.extend(user?),
        }
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    for attribute in to_search {
        let Some(users) = find_by_search(api, attribute, address).await? else {
            return Ok(None);
        };
        found.extend(users);
    }
    Ok(Some(found))
}

/// The user with this sign-in name, deactivated or not. For servers that do not support filters.
pub(super) async fn find_by_login(api: &Api, address: &Address) -> Result<Option<User>, Error> {
    // Okta cannot parse a sign-in name with a slash in a path.
    if address.as_str().contains('/') {
        return Ok(None);
    }
    match fetch_by_login(api, address).await {
        Err(error) if is_query_unsupported(&error) => Ok(None),
        user => user,
    }
}

async fn fetch_by_login(api: &Api, address: &Address) -> Result<Option<User>, Error> {
    let login = path_segment(address.as_str()).unwrap_or_default();
    let (path, shown) = (format!("{USERS}/{login}"), format!("{USERS}/{{login}}"));
    let user = none_if_not_found(api.fetch_shown_as::<User>(&path, &shown).await)?;
    Ok(user.filter(|user| user.has_address(address)))
}

/// Users found by a filter, for the address as given and in lower case.
async fn find_by_filter(
    api: &Api,
    attribute: &str,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut spellings = vec![address.as_str(), address.key()];
    spellings.dedup();
    let mut found = Vec::new();
    for spelling in spellings {
        let filter = eq_filter(attribute, spelling);
        let Some(users) = list_matching(api, ("filter", &filter), address).await? else {
            return Ok(None);
        };
        found.extend(users);
    }
    Ok(Some(found))
}

/// Users found by a search, each read again from the primary store.
async fn find_by_search(
    api: &Api,
    attribute: &str,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let search = eq_filter(attribute, address.as_str());
    let Some(indexed) = list_matching(api, ("search", &search), address).await? else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for stale in indexed {
        let user = none_if_not_found(fetch_by_id(api, &stale.id).await)?;
        found.extend(user.filter(|user| user.id == stale.id && user.has_address(address)));
    }
    Ok(Some(found))
}

/// The user with this id. Okta also finds users by a sign-in name in its place.
pub(super) async fn fetch_by_id(api: &Api, id: &str) -> Result<User, Error> {
    let id = path_segment(id).unwrap_or_default();
    api.fetch(&format!("{USERS}/{id}")).await
}

/// Users found by a query; `None` if it is refused or, because it was ignored, returns users without the
/// address.
async fn list_matching(
    api: &Api,
    query: (&str, &str),
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut found = Vec::new();
    let add_users = |page: Records<User>| {
        found.extend(page.items);
        found.iter().all(|user| user.has_address(address))
    };
    let is_complete = api.for_each_page(USERS, &[query], add_users).await?;
    Ok(is_complete.then_some(found))
}

/// The people of a page.
#[cfg(test)]
pub(in crate::directories) fn read_people(page: serde_json::Value) -> Option<Vec<Person>> {
    let page: Records<User> = serde_json::from_value(page).ok()?;
    Some(page.items.into_iter().map(User::into_person).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn build_person(user: Value) -> Person {
        serde_json::from_value::<User>(user).unwrap().into_person()
    }

    fn ada() -> Value {
        json!({
            "id": "00u1ero7vZFVEIYLWPBN",
            "status": "ACTIVE",
            "statusChanged": "2026-11-01T08:00:00.000Z",
            "type": {"id": "oty1"},
            "profile": {
                "login": "Ada.L@Example.org",
                "email": "ada@example.org",
                "secondEmail": "ada@home.example",
                "firstName": "Ada",
                "lastName": "Lovelace"
            }
        })
    }

    #[rstest]
    #[case(json!("ACTIVE"), IdentityStatus::Active, None, "status ACTIVE")]
    #[case(json!("PROVISIONED"), IdentityStatus::Active, None, "status PROVISIONED")]
    #[case(json!("RECOVERY"), IdentityStatus::Active, None, "status RECOVERY")]
    #[case(json!("PASSWORD_EXPIRED"), IdentityStatus::Active, None, "status PASSWORD_EXPIRED")]
    #[case(json!("LOCKED_OUT"), IdentityStatus::Active, None, "status LOCKED_OUT")]
    #[case(json!("SUSPENDED"), IdentityStatus::Disabled, Some(Reason::Suspended), "status SUSPENDED")]
    #[case(json!("DEPROVISIONED"), IdentityStatus::Disabled, Some(Reason::Admin), "status DEPROVISIONED")]
    #[case(json!("STAGED"), IdentityStatus::Unknown, Some(Reason::NeverActivated), "status STAGED")]
    #[case(json!("FROZEN"), IdentityStatus::Unknown, Some(Reason::FieldMissing), "status FROZEN")]
    #[case(json!("active"), IdentityStatus::Unknown, Some(Reason::FieldMissing), "status active")]
    #[case(json!("On leave-2.0"), IdentityStatus::Unknown, Some(Reason::FieldMissing), "status On leave-2.0")]
    #[case(json!("<b>"), IdentityStatus::Unknown, Some(Reason::FieldMissing), "a status that is not a word")]
    #[case(json!(null), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no status")]
    fn each_status_has_a_meaning_and_is_the_evidence(
        #[case] okta_status: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        let mut user = ada();
        user["status"] = okta_status;
        let person = build_person(user);
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
    }

    #[test]
    fn a_person_has_both_work_addresses_a_name_and_a_date_of_change() {
        let person = build_person(ada());
        assert_eq!(person.id.as_deref(), Some("00u1ero7vZFVEIYLWPBN"));
        let addresses: Vec<&str> = person.addresses().map(Address::as_str).collect();
        assert_eq!(addresses, ["ada@example.org", "Ada.L@Example.org"]);
        assert_eq!(person.name.as_deref(), Some("Ada Lovelace"));
        let since = person.since.map(|at| at.to_rfc3339());
        assert_eq!(since.as_deref(), Some("2026-11-01T08:00:00+00:00"));
        assert_eq!(person.is_member, None);
    }

    #[test]
    fn a_sign_in_name_matches_in_any_case_and_a_mailbox_does_not() {
        let user: User = serde_json::from_value(ada()).unwrap();
        let signs_in_as = |text: &str| user.signs_in_as(&text.parse().unwrap());
        assert!(signs_in_as("ada.l@example.org"));
        assert!(!signs_in_as("ada@example.org"));
    }

    #[test]
    fn a_missing_status_is_unknown() {
        let user = json!({"id": "1", "profile": {"login": "ada@example.org"}});
        let person = build_person(user);
        assert_eq!(person.reason, Some(Reason::FieldMissing));
        assert_eq!((person.name, person.since), (None, None));
    }

    #[test]
    fn a_sign_in_name_that_is_not_an_address_is_left_out() {
        let mut user = ada();
        user["profile"]["login"] = "ada".into();
        user["profile"]["displayName"] = "Countess".into();
        let person = build_person(user.clone());
        assert_eq!(person.addresses().count(), 1);
        assert_eq!(person.name.as_deref(), Some("Countess"));
        user["profile"]["email"] = Value::Null;
        assert_eq!(build_person(user).main, None, "no address is left");
        assert_eq!(
            build_person(json!({"id": "1", "status": "ACTIVE"})).main,
            None
        );
    }

    #[test]
    fn an_account_without_an_address_has_a_status() {
        let user = json!({"id": "1", "status": "DEPROVISIONED", "profile": {"login": "ada"}});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.into_person();
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert_eq!(account.main, None);
    }

    #[test]
    fn addresses_that_differ_in_case_are_one() {
        let mut user = ada();
        user["profile"]["login"] = "ADA@example.org".into();
        assert_eq!(build_person(user).addresses().count(), 1);
    }
}
