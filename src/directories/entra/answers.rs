//! What Graph answers, and what becomes of it.

use serde::Deserialize;
use uuid::Uuid;

use crate::directories::id::key;
use crate::domain::{Address, IdentityStatus, Person, Reason};

/// The properties that are asked for. `accountEnabled` is not among those that come unasked.
pub(super) const SELECT: &str =
    "id,userPrincipalName,mail,proxyAddresses,displayName,accountEnabled,externalUserState";

/// What stands between the two parts of a guest's sign-in name.
const GUEST: &str = "#ext#";

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub value: Vec<T>,
    #[serde(rename = "@odata.nextLink")]
    pub next: Option<String>,
    /// On the last page of a round of changes.
    #[serde(rename = "@odata.deltaLink")]
    pub delta: Option<String>,
}

/// A user. In a round of changes all but `id` may be missing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    /// Opaque, though Graph's own are GUIDs.
    pub id: String,
    #[serde(rename = "userPrincipalName")]
    sign_in: Option<String>,
    mail: Option<String>,
    proxy_addresses: Option<Vec<String>>,
    display_name: Option<String>,
    pub account_enabled: Option<bool>,
    #[serde(rename = "externalUserState")]
    guest_state: Option<String>,
    /// Only in a round of changes: why it is no longer there.
    #[serde(rename = "@removed")]
    pub removed: Option<serde::de::IgnoredAny>,
}

/// Anything in the directory.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    pub id: String,
    #[serde(rename = "@odata.type")]
    kind: Option<String>,
    #[serde(rename = "displayName")]
    pub name: Option<String>,
}

impl Item {
    /// Whether it is a user, and no group, device or program.
    pub fn is_user(&self) -> bool {
        let kind = self.kind.as_deref();
        kind.is_none_or(|kind| {
            kind.trim_start_matches('#')
                .eq_ignore_ascii_case("microsoft.graph.user")
        })
    }

    /// See [`key`].
    pub fn key(&self) -> Uuid {
        key(&self.id)
    }
}

impl User {
    /// See [`key`].
    pub fn key(&self) -> Uuid {
        key(&self.id)
    }

    /// The person; `None` for somebody without any address, whom no token can name.
    pub fn person(self, is_member: Option<bool>) -> Option<Person> {
        let account = self.account(is_member);
        (!account.addresses.is_empty()).then_some(account)
    }

    /// The account, with an address or without.
    pub fn account(self, is_member: Option<bool>) -> Person {
        let addresses = self.addresses();
        let (status, reason, said) = match self.account_enabled {
            Some(true) => (IdentityStatus::Active, None, "accountEnabled=true"),
            Some(false) => {
                let reason = Some(Reason::Admin);
                (IdentityStatus::Disabled, reason, "accountEnabled=false")
            }
            None => {
                let reason = Some(Reason::FieldMissing);
                let said = "nothing of accountEnabled";
                (IdentityStatus::Unknown, reason, said)
            }
        };
        // A guest who has not accepted an invitation has an account that works.
        let is_pending = self.guest_state.as_deref() == Some("PendingAcceptance");
        let guest = if is_pending {
            ", externalUserState=PendingAcceptance"
        } else {
            ""
        };
        Person {
            id: Some(self.id),
            addresses,
            name: self.display_name.filter(|name| !name.trim().is_empty()),
            status,
            reason,
            since: None,
            evidence: format!("{said}{guest}"),
            is_member,
        }
    }

    /// The mailbox, the sign-in name, and all other addresses that mail for the account may have.
    fn addresses(&self) -> Vec<Address> {
        let sign_in = self.sign_in.as_deref().and_then(sign_in);
        let proxies = self.proxy_addresses.iter().flatten();
        // `SMTP:` marks the main one of them, `x500:` and `sip:` are no mailboxes.
        let proxies = proxies.filter_map(|proxy| {
            let (scheme, address) = proxy.split_once(':')?;
            let is_mail = scheme.eq_ignore_ascii_case("smtp");
            is_mail.then_some(address).and_then(|it| it.parse().ok())
        });
        let mail = self.mail.as_deref().and_then(|mail| mail.parse().ok());
        let mut addresses: Vec<Address> = Vec::new();
        for address in mail.into_iter().chain(sign_in).chain(proxies) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// The address that a sign-in name is. A guest's, `bob_example.org#EXT#@contoso.onmicrosoft.com`, is none
/// by itself; the address is in it, and no domain has a `_`.
fn sign_in(name: &str) -> Option<Address> {
    let end = name.to_ascii_lowercase().find(GUEST);
    let Some(end) = end else {
        return name.parse().ok();
    };
    let (local, domain) = name[..end].rsplit_once('_')?;
    format!("{local}@{domain}").parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "87d349ed-44d7-43e1-9a83-5f2406dee5bd";

    fn person(fields: &Value) -> Option<Person> {
        let mut user = json!({"id": ID, "mail": "bob@example.org", "accountEnabled": true});
        for (name, value) in fields.as_object().unwrap() {
            user[name] = value.clone();
        }
        let user: User = serde_json::from_value(user).unwrap();
        user.person(None)
    }

    #[rstest]
    #[case(json!({}), IdentityStatus::Active, None, "accountEnabled=true")]
    #[case(
        json!({"accountEnabled": false}),
        IdentityStatus::Disabled, Some(Reason::Admin), "accountEnabled=false"
    )]
    #[case(
        json!({"accountEnabled": null}),
        IdentityStatus::Unknown, Some(Reason::FieldMissing), "nothing of accountEnabled"
    )]
    #[case::a_guest(
        json!({"externalUserState": "PendingAcceptance"}),
        IdentityStatus::Active, None, "accountEnabled=true, externalUserState=PendingAcceptance"
    )]
    #[case::a_guest_who_is_there(
        json!({"externalUserState": "Accepted"}),
        IdentityStatus::Active, None, "accountEnabled=true"
    )]
    #[case::a_guest_who_may_not(
        json!({"externalUserState": "PendingAcceptance", "accountEnabled": false}),
        IdentityStatus::Disabled, Some(Reason::Admin),
        "accountEnabled=false, externalUserState=PendingAcceptance"
    )]
    fn the_status_is_what_account_enabled_says(
        #[case] fields: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        let person = person(&fields).unwrap();
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
        assert_eq!(person.id.as_deref(), Some(ID));
    }

    #[test]
    fn a_field_that_was_not_selected_is_no_word_about_the_account() {
        let user: User =
            serde_json::from_value(json!({"id": ID, "mail": "bob@example.org"})).unwrap();
        let person = user.person(Some(true)).unwrap();
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
    fn every_address_is_told_once_and_the_mailbox_first(
        #[case] fields: Value,
        #[case] addresses: &[&str],
    ) {
        let person = person(&fields).unwrap();
        let told: Vec<&str> = person.addresses.iter().map(Address::as_str).collect();
        assert_eq!(told, addresses);
    }

    #[test]
    fn somebody_without_an_address_is_not_told_of() {
        assert_eq!(person(&json!({"mail": null})), None);
        assert_eq!(person(&json!({"mail": "no address"})), None);
    }

    #[test]
    fn an_account_without_an_address_still_says_whether_it_works() {
        let user = json!({"id": ID, "userPrincipalName": null, "accountEnabled": false});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.account(None);
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert!(account.addresses.is_empty());
    }

    #[test]
    fn a_flag_that_is_none_is_no_answer() {
        let odd = json!({"id": ID, "accountEnabled": "false"});
        assert!(serde_json::from_value::<User>(odd).is_err());
    }

    #[rstest]
    #[case(json!({"id": ID, "@odata.type": "#microsoft.graph.user"}), true)]
    #[case(json!({"id": ID}), true)]
    #[case(json!({"id": ID, "@odata.type": "#microsoft.graph.group"}), false)]
    #[case(json!({"id": ID, "@odata.type": "#microsoft.graph.servicePrincipal"}), false)]
    fn members_that_are_no_people_do_not_count(#[case] item: Value, #[case] is_user: bool) {
        let item: Item = serde_json::from_value(item).unwrap();
        assert_eq!(item.is_user(), is_user);
    }
}
