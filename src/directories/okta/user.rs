//! Users as Okta tells of them, and what their status means.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::domain::{Address, IdentityStatus, Person, Reason};

/// A user, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    /// It never changes.
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
    /// Whether this is one of the user's addresses.
    pub fn has(&self, address: &Address) -> bool {
        self.addresses().contains(address)
    }

    /// Whether this is the user's sign-in name, which is nobody else's in an organisation.
    pub fn signs_in_as(&self, address: &Address) -> bool {
        let login = self.profile.as_ref().and_then(|it| it.login.as_ref());
        login.and_then(|login| login.parse().ok()).as_ref() == Some(address)
    }

    /// The sign-in name where it is an address, and the main mailbox. The second mailbox is for
    /// recovery, and is most often a private one.
    fn addresses(&self) -> Vec<Address> {
        let profile = self.profile.iter();
        let texts = profile.flat_map(|profile| [&profile.email, &profile.login]);
        let mut addresses: Vec<Address> = Vec::new();
        for address in texts.flatten().filter_map(|text| text.parse().ok()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The person; `None` where no address says who that is.
    pub fn person(self, is_member: Option<bool>) -> Option<Person> {
        let account = self.account(is_member);
        (!account.addresses.is_empty()).then_some(account)
    }

    /// The account, with an address or without.
    pub fn account(self, is_member: Option<bool>) -> Person {
        let addresses = self.addresses();
        let word = self.status.as_deref();
        let (status, reason) = meaning(word);
        Person {
            id: Some(self.id),
            addresses,
            name: self.profile.and_then(Profile::name),
            status,
            reason,
            since: self.status_changed,
            evidence: evidence(word),
            is_member,
        }
    }
}

impl Profile {
    fn name(self) -> Option<String> {
        let is_name = |name: &String| !name.trim().is_empty();
        if let Some(name) = self.display_name.filter(is_name) {
            return Some(name);
        }
        let names = [self.first_name, self.last_name].into_iter().flatten();
        let names: Vec<String> = names.filter(is_name).collect();
        (!names.is_empty()).then(|| names.join(" "))
    }
}

/// What a status says of somebody's access. A lock after wrong passwords, an expired password and a
/// recovery pass, and take nobody's access away.
fn meaning(word: Option<&str>) -> (IdentityStatus, Option<Reason>) {
    use IdentityStatus::{Active, Disabled, Unknown};
    match word {
        Some("ACTIVE" | "PROVISIONED" | "RECOVERY" | "PASSWORD_EXPIRED" | "LOCKED_OUT") => {
            (Active, None)
        }
        Some("SUSPENDED") => (Disabled, Some(Reason::Suspended)),
        Some("DEPROVISIONED") => (Disabled, Some(Reason::Admin)),
        Some("STAGED") => (Unknown, Some(Reason::NeverActivated)),
        _ => (Unknown, Some(Reason::FieldMissing)),
    }
}

/// Okta's word, to follow "says".
fn evidence(word: Option<&str>) -> String {
    let is_plain = |word: &&str| {
        word.len() <= 40
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_- .".contains(&byte))
    };
    match word {
        Some(word) if is_plain(&word) => format!("status {word}"),
        Some(_) => "a status that is no word".to_owned(),
        None => "no status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn person(user: Value) -> Option<Person> {
        serde_json::from_value::<User>(user).unwrap().person(None)
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
    #[case(json!("<b>"), IdentityStatus::Unknown, Some(Reason::FieldMissing), "a status that is no word")]
    #[case(json!(null), IdentityStatus::Unknown, Some(Reason::FieldMissing), "no status")]
    fn each_status_has_its_meaning_and_is_kept_as_evidence(
        #[case] word: Value,
        #[case] status: IdentityStatus,
        #[case] reason: Option<Reason>,
        #[case] evidence: &str,
    ) {
        let mut user = ada();
        user["status"] = word;
        let person = person(user).unwrap();
        assert_eq!((person.status, person.reason), (status, reason));
        assert_eq!(person.evidence, evidence);
    }

    #[test]
    fn a_person_has_both_work_addresses_a_name_and_a_date() {
        let person = person(ada()).unwrap();
        assert_eq!(person.id.as_deref(), Some("00u1ero7vZFVEIYLWPBN"));
        let addresses: Vec<&str> = person.addresses.iter().map(Address::as_str).collect();
        assert_eq!(addresses, ["ada@example.org", "Ada.L@Example.org"]);
        assert_eq!(person.name.as_deref(), Some("Ada Lovelace"));
        let since = person.since.map(|at| at.to_rfc3339());
        assert_eq!(since.as_deref(), Some("2026-11-01T08:00:00+00:00"));
        assert_eq!(person.is_member, None);
    }

    #[test]
    fn a_sign_in_name_is_one_in_any_spelling_and_a_mailbox_is_none() {
        let user: User = serde_json::from_value(ada()).unwrap();
        let signs_in_as = |text: &str| user.signs_in_as(&text.parse().unwrap());
        assert!(signs_in_as("ada.l@example.org"));
        assert!(!signs_in_as("ada@example.org"));
    }

    #[test]
    fn a_field_that_is_missing_is_no_reason_to_lose_somebody() {
        let user = json!({"id": "1", "profile": {"login": "ada@example.org"}});
        let person = person(user).unwrap();
        assert_eq!(person.reason, Some(Reason::FieldMissing));
        assert_eq!((person.name, person.since), (None, None));
    }

    #[test]
    fn a_sign_in_name_that_is_no_address_is_left_out() {
        let mut user = ada();
        user["profile"]["login"] = "ada".into();
        user["profile"]["displayName"] = "Countess".into();
        let told = person(user.clone()).unwrap();
        assert_eq!(told.addresses.len(), 1);
        assert_eq!(told.name.as_deref(), Some("Countess"));
        user["profile"]["email"] = Value::Null;
        assert_eq!(person(user), None, "nobody could say who that is");
        assert_eq!(person(json!({"id": "1", "status": "ACTIVE"})), None);
    }

    #[test]
    fn an_account_without_an_address_still_says_whether_it_works() {
        let user = json!({"id": "1", "status": "DEPROVISIONED", "profile": {"login": "ada"}});
        let user: User = serde_json::from_value(user).unwrap();
        let account = user.account(None);
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert!(account.addresses.is_empty());
    }

    #[test]
    fn two_spellings_of_one_address_are_one() {
        let mut user = ada();
        user["profile"]["login"] = "ADA@example.org".into();
        assert_eq!(person(user).unwrap().addresses.len(), 1);
    }
}
