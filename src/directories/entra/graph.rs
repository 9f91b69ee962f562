//! Requests to Microsoft Graph, its responses, and the people made from them.

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::sign_in::Application;
use crate::directories::account::{AccountBuilder, AccountStatus, id_key};
use crate::directories::json::{self, Flag, Records};
use crate::domain::Person;
use crate::upstream::Error;
use crate::upstream::http::{self, Request};
use crate::upstream::pager::{Identified, Next, Pager};
use crate::upstream::session::Session;

const NAME: &str = "Microsoft Graph";

/// The requested properties. `accountEnabled` is not in the default set.
pub(super) const SELECT: &str = "id,userPrincipalName,mail,proxyAddresses,otherMails,displayName,accountEnabled,\
     externalUserState";

/// The largest page that Graph allows.
pub(super) const PAGE_SIZE: &str = "999";

#[derive(Debug)]
pub(super) struct Graph(pub Session<Application>);

impl Graph {
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Request<'_> {
        self.0.web.get(path).queries(query)
    }

    /// A request for a link from a response.
    pub fn follow(&self, link: &str) -> Result<Request<'_>, http::Error> {
        self.0.web.follow(link)
    }

    pub async fn fetch<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, Error> {
        self.0.fetch(request).await
    }

    /// Reads a list page by page to its end.
    ///
    /// # Errors
    /// When a page is missing, repeats, or is on another server.
    pub async fn for_each_item<T: DeserializeOwned + Identified>(
        &self,
        first: Request<'_>,
        mut each: impl FnMut(T) + Send,
    ) -> Result<ListEnd, Error> {
        let mut without_id = 0;
        let mut pager = Pager::<String>::default();
        let mut page: Page<T> = self.fetch(first).await?;
        loop {
            let content = pager.content(&page.value.items);
            without_id += page.value.without_id;
            let advanced = pager.advance(content, page.next);
            advanced.map_err(|endless| invalid_response(&endless.to_string()))?;
            page.value.items.into_iter().for_each(&mut each);
            let Next::At(link) = pager.next() else {
                // Reject a link now that could not be followed later.
                page.delta
                    .as_deref()
                    .map(|link| self.follow(link))
                    .transpose()?;
                return Ok(ListEnd {
                    delta: page.delta,
                    without_id,
                });
            };
            page = self.fetch(self.follow(link)?).await?;
        }
    }
}

/// What is known once a list is read.
pub(super) struct ListEnd {
    /// The link to later changes, which only a delta query has.
    pub delta: Option<String>,
    pub without_id: u64,
}

pub(super) fn invalid_response(reason: &str) -> Error {
    Error::content(NAME, reason)
}

/// Adds advice to a refusal.
pub(super) fn explain_refusal(error: Error, what: &str, permission: &str) -> Error {
    let denied = format!("Graph does not let the application {what} (403)");
    let rejected = "Graph rejects the access token (401)";
    let cloud_advice = "set cloud to the tenant's cloud, and correct url";
    error.explain(&[
        (
            StatusCode::FORBIDDEN,
            &denied,
            &permission_advice(permission),
        ),
        (StatusCode::UNAUTHORIZED, rejected, cloud_advice),
    ])
}

pub(super) fn permission_advice(permission: &str) -> String {
    format!(
        "add the application permission {permission} of Microsoft Graph to the application (App registrations, \
         API permissions) and grant admin consent"
    )
}

#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub(super) struct Page<T> {
    pub value: Records<T>,
    #[serde(rename = "@odata.nextLink")]
    pub next: Option<String>,
    /// On the last page of a delta query.
    #[serde(rename = "@odata.deltaLink")]
    pub delta: Option<String>,
}

/// A user. In a delta query all fields but `id` may be missing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_field_names,
    reason = "the API names it userPrincipalName"
)]
pub(super) struct User {
    /// Opaque, though Graph's own ids are GUIDs.
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(default, deserialize_with = "json::text")]
    user_principal_name: Option<String>,
    #[serde(default, deserialize_with = "json::text")]
    mail: Option<String>,
    #[serde(default, deserialize_with = "json::list")]
    proxy_addresses: Vec<String>,
    /// Often private ones, which other accounts may have as their own.
    #[serde(default, deserialize_with = "json::list")]
    other_mails: Vec<String>,
    #[serde(default, deserialize_with = "json::text")]
    display_name: Option<String>,
    #[serde(default)]
    pub account_enabled: Flag,
    #[serde(rename = "externalUserState", default, deserialize_with = "json::text")]
    guest_state: Option<String>,
    /// Only in a delta query.
    #[serde(rename = "@removed")]
    pub removed: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Item {
    #[serde(deserialize_with = "json::required_text")]
    pub id: String,
    #[serde(rename = "@odata.type", default, deserialize_with = "json::text")]
    kind: Option<String>,
    #[serde(rename = "displayName", default, deserialize_with = "json::text")]
    pub name: Option<String>,
}

impl Identified for Item {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for User {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Item {
    /// Whether it is a user, and not a group, device or service principal.
    pub fn is_user(&self) -> bool {
        let kind = self.kind.as_deref();
        kind.is_none_or(|kind| {
            kind.trim_start_matches('#')
                .eq_ignore_ascii_case("microsoft.graph.user")
        })
    }

    pub fn id_key(&self) -> Uuid {
        id_key(&self.id)
    }
}

impl User {
    pub fn id_key(&self) -> Uuid {
        id_key(&self.id)
    }

    pub fn into_person(self) -> Person {
        let mut status = AccountStatus::from_flag("accountEnabled", &self.account_enabled);
        // A guest who has not accepted the invitation has a working account.
        if self.guest_state.as_deref() == Some("PendingAcceptance") {
            status.evidence += ", externalUserState=PendingAcceptance";
        }
        let proxies = self.proxy_addresses.iter();
        AccountBuilder::default()
            .mailboxes(self.mail.as_deref())
            .proxy_addresses(proxies.map(String::as_str))
            .sign_in_name(self.user_principal_name.as_deref())
            .name(self.display_name.as_deref())
            .fallbacks(self.other_mails.iter().map(String::as_str))
            .build(self.id, status)
    }
}

/// The people of a page.
#[cfg(test)]
pub(in crate::directories) fn read_people(page: serde_json::Value) -> Option<Vec<Person>> {
    let page: Page<User> = serde_json::from_value(page).ok()?;
    let users = page.value.items.into_iter();
    Some(users.map(User::into_person).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Address, IdentityStatus, Reason};

    const ID: &str = "87d349ed-44d7-43e1-9a83-5f2406dee5bd";

    fn build_person(fields: &Value) -> Person {
        let mut user = json!({"id": ID, "mail": "bob@example.org", "accountEnabled": true});
        for (name, value) in fields.as_object().unwrap() {
            user[name] = value.clone();
        }
        let user: User = serde_json::from_value(user).unwrap();
        user.into_person()
    }

    #[rstest]
    #[case(json!({}), IdentityStatus::Active, None, "accountEnabled=true")]
    #[case(
        json!({"accountEnabled": false}),
        IdentityStatus::Disabled, Some(Reason::Admin), "accountEnabled=false"
    )]
    #[case(
        json!({"accountEnabled": null}),
        IdentityStatus::Unknown, Some(Reason::FieldMissing), "no field accountEnabled"
    )]
    #[case::a_guest(
        json!({"externalUserState": "PendingAcceptance"}),
        IdentityStatus::Active, None, "accountEnabled=true, externalUserState=PendingAcceptance"
    )]
    #[case::a_guest_who_accepted(
        json!({"externalUserState": "Accepted"}),
        IdentityStatus::Active, None, "accountEnabled=true"
    )]
    #[case::a_disabled_guest(
        json!({"externalUserState": "PendingAcceptance", "accountEnabled": false}),
        IdentityStatus::Disabled, Some(Reason::Admin),
        "accountEnabled=false, externalUserState=PendingAcceptance"
    )]
    fn the_status_is_the_value_of_account_enabled(
        #[case] fields: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        let person = build_person(&fields);
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
        assert_eq!(person.id.as_deref(), Some(ID));
    }

    #[test]
    fn a_missing_account_enabled_is_unknown() {
        let user: User =
            serde_json::from_value(json!({"id": ID, "mail": "bob@example.org"})).unwrap();
        let person = user.into_person();
        assert_eq!(person.status, IdentityStatus::Unknown);
        assert_eq!(person.reason, Some(Reason::FieldMissing));
    }

    #[rstest]
    #[case(json!({"userPrincipalName": "bob@contoso.example"}), &["bob@example.org", "bob@contoso.example"])]
    #[case(json!({"userPrincipalName": "BOB@example.org"}), &["bob@example.org"])]
    #[case(json!({"mail": null, "userPrincipalName": "bob@contoso.example"}), &["bob@contoso.example"])]
    #[case::a_guest(
        json!({"mail": null, "userPrincipalName": "bob_b_partner.example#EXT#@contoso.example"}),
        &["bob_b@partner.example"]
    )]
    #[case::a_guest_with_a_strange_name(
        json!({"userPrincipalName": "bob#EXT#@contoso.example"}),
        &["bob@example.org"]
    )]
    #[case::more(
        json!({"proxyAddresses": ["SMTP:bob@example.org", "smtp:robert@example.org", "x500:/o=Ex/cn=bob", "sip:b@sip.example", "odd"]}),
        &["bob@example.org", "robert@example.org"]
    )]
    fn addresses_are_listed_once_and_the_mailbox_first(
        #[case] fields: Value,
        #[case] addresses: &[&str],
    ) {
        let person = build_person(&fields);
        let found: Vec<&str> = person.addresses().map(Address::as_str).collect();
        assert_eq!(found, addresses);
    }

    #[test]
    fn a_person_without_an_address_is_not_listed() {
        assert_eq!(build_person(&json!({"mail": null})).main, None);
        assert_eq!(build_person(&json!({"mail": "no address"})).main, None);
    }

    #[test]
    fn an_account_without_an_address_has_a_status() {
        let user = json!({"id": ID, "userPrincipalName": null, "accountEnabled": false});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.into_person();
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert_eq!(account.main, None);
    }

    #[test]
    fn a_flag_may_be_a_text_and_another_value_is_unknown() {
        let off = build_person(&json!({"accountEnabled": "False"}));
        assert_eq!(off.status, IdentityStatus::Disabled);
        assert_eq!(off.evidence, "accountEnabled=\"False\"");
        let odd = build_person(&json!({"accountEnabled": ["false"]}));
        assert_eq!(odd.reason, Some(Reason::FieldMissing));
    }

    #[rstest]
    #[case(json!({"id": ID, "@odata.type": "#microsoft.graph.user"}), true)]
    #[case(json!({"id": ID}), true)]
    #[case(json!({"id": ID, "@odata.type": "#microsoft.graph.group"}), false)]
    #[case(json!({"id": ID, "@odata.type": "#microsoft.graph.servicePrincipal"}), false)]
    fn members_that_are_not_users_do_not_count(#[case] item: Value, #[case] is_user: bool) {
        let item: Item = serde_json::from_value(item).unwrap();
        assert_eq!(item.is_user(), is_user);
    }
}
