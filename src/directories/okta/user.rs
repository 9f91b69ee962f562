//! Okta's users, and what their status means.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::directories::account::{AccountBuilder, AccountStatus};
use crate::domain::{Address, IdentityStatus, Person, Reason};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub id: String,
    status: Option<String>,
    status_changed: Option<DateTime<Utc>>,
    profile: Option<Profile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    login: Option<String>,
    email: Option<String>,
    display_name: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
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
