//! The users of Rancher: their addresses, and who is disabled or deleted.

use std::collections::{BTreeMap, HashMap, HashSet};

use reqwest::StatusCode;

use super::api::{Api, MANAGEMENT, NOT_READABLE, is_name};
use super::responses::{Attribute, Collection, Extra, Meta, Principal, Provider, User};
use crate::domain::{Address, Cell};
use crate::sources::{Error, cells};
use crate::upstream::none_if_status;
use crate::upstream::pager::Identified;

/// Users missing in the list are looked up one by one, up to this number: they are new or deleted.
const MAX_LOOKUPS: usize = 200;

/// The provider of users with a password in Rancher.
const LOCAL_PROVIDER: &str = "local";

/// The indexes of [`Person::addresses`].
const EMAIL: usize = 0;
const USERNAME: usize = 1;
const PRINCIPAL: usize = 2;

/// Longer messages of providers are truncated.
const MAX_ERROR_LENGTH: usize = 300;

#[derive(Debug, Default)]
pub struct People {
    /// `None` for users who were looked up and not found.
    known: HashMap<String, Option<Person>>,
    lookups: usize,
    pub can_list_users: bool,
    /// Whether the attributes of users could be listed.
    pub can_list_attributes: bool,
    /// `None` if that is not known.
    pub disabled_providers: Option<HashSet<String>>,
    configured: BTreeMap<String, Address>,
}

#[derive(Debug)]
pub struct Person {
    pub name: Option<String>,
    /// The login name of a user with a password in Rancher.
    pub username: Option<String>,
    /// An error if that cannot be read.
    pub is_enabled: Result<bool, String>,
    pub is_system: bool,
    /// The message of the provider when it permanently refused the user.
    pub refresh_error: Option<String>,
    /// Addresses with their providers: those in `email`, in `username`, and in the id of a principal.
    addresses: [Vec<(String, Address)>; 3],
}

impl People {
    pub async fn fetch(api: &Api, configured: BTreeMap<String, Address>) -> Result<Self, Error> {
        let mut people = Self {
            configured,
            ..Self::default()
        };
        let users = format!("{MANAGEMENT}/users");
        people.can_list_users = api
            .for_each(&users, |user| people.known.extend([build_person(&user)]))
            .await?;
        let attributes = format!("{MANAGEMENT}/userattributes");
        people.can_list_attributes = api
            .for_each(&attributes, |attribute| people.add_attribute(attribute))
            .await?;
        let providers = api.get::<Collection<Provider>>("v3/authConfigs").await;
        people.disabled_providers = none_if_status(providers, &NOT_READABLE)?
            .as_ref()
            .map(disabled_providers);
        Ok(people)
    }

    /// Adds an attribute to its user. Attributes outlive users, so a missing user is not created.
    fn add_attribute(&mut self, attribute: Attribute) {
        let Some(Some(person)) = self.known.get_mut(attribute.id()) else {
            return;
        };
        let error = attribute.metadata.get().and_then(Meta::refresh_error);
        person.refresh_error = error.map(|text| text.chars().take(MAX_ERROR_LENGTH).collect());
        for (provider, extra) in attribute.extra.into_option().unwrap_or_default() {
            let Some(Extra { email, username }) = extra.into_option() else {
                continue;
            };
            for (field, texts) in [(EMAIL, email), (USERNAME, username)] {
                if let Some(address) = texts.0.first().and_then(|text| text.parse().ok()) {
                    person.addresses[field].push((provider.clone(), address));
                }
            }
        }
    }

    /// Looks up a user who is not in the list.
    pub async fn look_up(&mut self, api: &Api, id: &str) -> Result<(), Error> {
        let is_settled = self.known.contains_key(id);
        if !self.can_list_users || is_settled || self.lookups >= MAX_LOOKUPS || !is_name(id) {
            return Ok(());
        }
        self.lookups += 1;
        match api.get::<User>(&format!("{MANAGEMENT}/users/{id}")).await {
            // Nothing is known about a user who cannot be read.
            Ok(user) if user.id() != id => {}
            Ok(user) => self.known.extend([build_person(&user)]),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                self.known.insert(id.to_owned(), None);
            }
            // With the right to list but not to get, deleted users cannot be recognised.
            Err(error) if error.status() == Some(StatusCode::FORBIDDEN) => {
                self.lookups = MAX_LOOKUPS;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub fn person(&self, id: &str) -> Option<&Person> {
        self.known.get(id)?.as_ref()
    }

    pub fn issuer_gone(&self, id: &str) -> Cell<String> {
        let person = match self.known.get(id) {
            Some(Some(person)) => person,
            Some(None) => return Cell::Value(format!("Rancher has no user {id}")),
            None => return Cell::Absent,
        };
        match cells::text(person.refresh_error.as_deref()) {
            Cell::Value(message) => Cell::Value(format!(
                "the login provider no longer confirms the user: {message}"
            )),
            none => none,
        }
    }

    /// Whether it is known that a user exists or not. An invalid id belongs to no user.
    pub fn is_known(&self, id: &str) -> bool {
        self.known.contains_key(id) || self.can_list_users && !is_name(id)
    }

    /// Whether it is known if a provider is disabled. The local one never is.
    pub fn is_provider_known(&self, id: &str) -> bool {
        self.disabled_providers.is_some() || id.is_empty() || id == LOCAL_PROVIDER
    }

    /// The address of a user, for a token created through this provider: the provider's mail attribute, the login
    /// name, the provider's user name, the id at the provider, the configured address, and finally an address
    /// from another provider.
    pub fn address(&self, id: &str, provider: &str, login: Option<&Principal>) -> Option<Address> {
        let person = self.person(id);
        let address_from = |field: usize, provider: Option<&str>| {
            let mut addresses = person?.addresses[field].iter();
            let (_, address) =
                addresses.find(|(from, _)| provider.is_none_or(|provider| provider == from))?;
            Some(address.clone())
        };
        let own = Some(provider);
        let login_name = || login?.login_name.text()?.parse().ok();
        let principal = || Some(parse_principal(&login?.id()?)?.1);
        address_from(EMAIL, own)
            .or_else(login_name)
            .or_else(|| address_from(USERNAME, own))
            .or_else(principal)
            .or_else(|| address_from(PRINCIPAL, own))
            .or_else(|| self.configured.get(id).cloned())
            .or_else(|| (0..3).find_map(|field| address_from(field, None)))
    }

    /// Whether there are other people who could have tokens.
    pub fn has_others(&self, id: &str) -> bool {
        self.known.iter().any(|(other, person)| match person {
            Some(person) => other != id && person.is_enabled == Ok(true) && !person.is_system,
            None => false,
        })
    }
}

fn disabled_providers(providers: &Collection<Provider>) -> HashSet<String> {
    let off = providers
        .data
        .iter()
        .filter(|provider| provider.enabled.is(false));
    let ids = off.filter_map(|provider| provider.id.id());
    ids.filter(|id| id != LOCAL_PROVIDER).collect()
}

fn build_person(user: &User) -> (String, Option<Person>) {
    let principals = &user.principal_ids.0;
    let username = user.username.text();
    let by_principal = principals.iter().filter_map(|id| parse_principal(id));
    let person = Person {
        name: user.display_name.text().or(username.clone()),
        username,
        is_enabled: user.enabled.flag().map(|flag| flag != Some(false)),
        is_system: principals.iter().any(|id| id.starts_with("system://")),
        refresh_error: None,
        addresses: [Vec::new(), Vec::new(), by_principal.collect()],
    };
    (user.id().to_owned(), Some(person))
}

/// Provider and address of `okta_user://ada@example.org`.
fn parse_principal(id: &str) -> Option<(String, Address)> {
    let (scheme, name) = id.split_once("://")?;
    let provider = scheme.strip_suffix("_user")?;
    Some((provider.to_owned(), name.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::ListedToken;
    use crate::sources::fields::{Item, generated};

    fn people(user: Value, attribute: Value) -> People {
        let (id, person) = build_person(&serde_json::from_value(user).unwrap());
        let configured = [("u-1".to_owned(), "map@example.org".parse().unwrap())].into();
        let mut people = People {
            known: [(id, person)].into(),
            configured,
            ..People::default()
        };
        people.add_attribute(serde_json::from_value(attribute).unwrap());
        people
    }

    fn user(principal: &str) -> Value {
        json!({"metadata": {"name": "u-1"}, "principalIds": ["local://u-1", principal]})
    }

    fn attribute(extra: &Value) -> Value {
        json!({"metadata": {"name": "u-1"}, "UserName": "x", "ExtraByProvider": extra})
    }

    fn login(name: &str, id: &str) -> Principal {
        serde_json::from_value(json!({"loginName": name, "metadata": {"name": id}})).unwrap()
    }

    #[test]
    fn the_address_comes_from_the_most_specific_place() {
        let sources = [
            (
                "mail@example.org",
                "login@example.org",
                "name@example.org",
                "id@example.org",
            ),
            (
                "",
                "login@example.org",
                "name@example.org",
                "id@example.org",
            ),
            ("", "ada", "name@example.org", "id@example.org"),
            ("", "ada", "ada", "id@example.org"),
            ("", "ada", "ada", "CN=ada,DC=example"),
        ];
        let found = sources.map(|(mail, by, name, id)| {
            let extra = json!({"okta": {"email": [mail], "username": [name]}});
            let people = people(user("okta_user://x"), attribute(&extra));
            let login = login(by, &format!("okta_user://{id}"));
            let address = people.address("u-1", "okta", Some(&login));
            address.unwrap().to_string()
        });
        let expected = ["mail", "login", "name", "id", "map"];
        assert_eq!(found, expected.map(|who| format!("{who}@example.org")));
    }

    #[test]
    fn a_configured_address_precedes_that_of_another_provider() {
        let extra = json!({"okta": {"email": ["mail@example.org"]}, "github": null});
        let mut people = people(user("okta_user://id@example.org"), attribute(&extra));
        let address = |people: &People| people.address("u-1", "local", None).unwrap().to_string();
        assert_eq!(address(&people), "map@example.org");
        people.configured.clear();
        assert_eq!(address(&people), "mail@example.org");
        assert_eq!(people.address("u-2", "local", None), None);
    }

    #[test]
    fn an_odd_user_or_attribute_changes_no_other() {
        let read = |users: &str, attributes: &str| {
            let users: Vec<Item<User>> = serde_json::from_str(users).unwrap();
            let users = users.into_iter().filter_map(Item::into_option);
            let mut people = People::default();
            people.known.extend(users.map(|user| build_person(&user)));
            let attributes: Vec<Item<Attribute>> = serde_json::from_str(attributes).unwrap();
            for attribute in attributes.into_iter().filter_map(Item::into_option) {
                people.add_attribute(attribute);
            }
            let listed = ["u-1", "u-2", "u-3"].map(|id| ListedToken {
                issuer: people.address(id, "okta", None).into(),
                issuer_gone: people.issuer_gone(id),
                ..ListedToken::with_id(id)
            });
            listed.to_vec()
        };
        let user = |id: i64| {
            json!({
                "metadata": {"name": format!("u-{id}")}, "displayName": "Ada", "username": "ada",
                "principalIds": ["local://x", format!("github_user://ada{id}@example.org")], "enabled": true,
            })
        };
        let attribute = |id: i64| {
            let annotations = json!({"cattle.io/provider-refresh-error": "gone"});
            let extra =
                json!({"okta": {"email": [format!("ada{id}@example.org")], "username": ["ada"]}});
            json!({
                "metadata": {"name": format!("u-{id}"), "annotations": annotations}, "ExtraByProvider": extra,
            })
        };
        let users: Vec<_> = (1..4).map(user).collect();
        let attributes: Vec<_> = (1..4).map(attribute).collect();
        let (all_users, all_attributes) = (json!(users).to_string(), json!(attributes).to_string());
        generated::assert_only_the_odd_record_changes(&users, |text| read(text, &all_attributes));
        generated::assert_only_the_odd_record_changes(&attributes, |text| read(&all_users, text));
    }

    #[test]
    fn system_users_and_disabled_users_are_not_others() {
        let system = json!({"metadata": {"name": "u-1"}, "principalIds": ["system://local"]});
        assert!(!people(system, attribute(&json!(null))).has_others("u-2"));
        let off = json!({"metadata": {"name": "u-1"}, "enabled": false});
        assert!(!people(off, attribute(&json!(null))).has_others("u-2"));
        let both = people(user("okta_user://x"), attribute(&json!({})));
        assert!(both.has_others("u-2") && !both.has_others("u-1"));
    }
}
