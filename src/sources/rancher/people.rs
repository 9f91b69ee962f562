//! The people of a Rancher: who has which mailbox, who is switched off, who is there no more.

use std::collections::{BTreeMap, HashMap, HashSet};

use reqwest::StatusCode;

use super::api::{Api, MANAGEMENT, is_name, readable, status};
use super::shapes::{Attribute, Collection, Extra, Principal, Provider, User};
use crate::domain::Address;
use crate::sources::Error;

/// So many users that no list shows are looked for one by one: they came after the list was read, or
/// are deleted.
const LOOKUPS: usize = 200;

/// The provider of users whom Rancher itself knows by their passwords.
const LOCAL: &str = "local";

/// No more is kept of what a provider said.
const ERROR_LENGTH: usize = 300;

/// Everybody, as far as Rancher lets it be seen.
#[derive(Debug, Default)]
pub struct People {
    known: HashMap<String, Person>,
    deleted: HashSet<String>,
    lookups: usize,
    /// Whether users may be listed.
    pub users_told: bool,
    /// Whether their attributes may be listed.
    pub attributes_told: bool,
    /// The providers that are switched off, where that is told.
    pub switched_off: Option<HashSet<String>>,
    /// By user id, as it is configured.
    configured: BTreeMap<String, Address>,
}

/// One of them.
#[derive(Debug, Default)]
pub struct Person {
    /// What people call him.
    pub name: Option<String>,
    /// What he logs in by, where he has a password of Rancher.
    pub username: Option<String>,
    /// Whether his tokens work.
    pub is_enabled: bool,
    /// Whether Rancher made him for itself.
    pub is_system: bool,
    /// What his provider said when it refused for good.
    pub refresh_error: Option<String>,
    /// Mail addresses, each with the provider that says so, by where they stand: in `email`, in
    /// `username`, in the id of a principal.
    addresses: [Vec<(String, Address)>; 3],
}

/// What is known of a user.
#[derive(Debug, Clone, Copy)]
pub enum Whereabouts<'a> {
    /// He is there.
    Here(&'a Person),
    /// He is not, and was looked for.
    Deleted,
    /// Nobody says.
    Untold,
}

impl People {
    /// Reads everybody.
    pub async fn read(api: &Api, configured: BTreeMap<String, Address>) -> Result<Self, Error> {
        let mut people = Self {
            configured,
            ..Self::default()
        };
        people.users_told = people.read_users(api).await?;
        people.attributes_told = people.read_attributes(api).await?;
        let providers = api.get::<Collection<Provider>>("v3/authConfigs").await;
        people.switched_off = readable(providers, &HIDDEN)?.map(switched_off);
        Ok(people)
    }

    async fn read_users(&mut self, api: &Api) -> Result<bool, Error> {
        let mut pages = api.list(&format!("{MANAGEMENT}/users"));
        while let Some(page) = readable(pages.next::<User>().await, &HIDDEN).transpose() {
            let Some(users) = page? else {
                return Ok(true);
            };
            for user in users {
                let (id, person) = person(user);
                self.known.insert(id, person);
            }
        }
        self.known.clear();
        Ok(false)
    }

    async fn read_attributes(&mut self, api: &Api) -> Result<bool, Error> {
        let mut pages = api.list(&format!("{MANAGEMENT}/userattributes"));
        while let Some(page) = readable(pages.next::<Attribute>().await, &HIDDEN).transpose() {
            let Some(attributes) = page? else {
                return Ok(true);
            };
            for attribute in attributes {
                self.describe(attribute);
            }
        }
        Ok(false)
    }

    /// Adds what an attribute says of its user. Attributes outlive users, so they make none.
    fn describe(&mut self, mut attribute: Attribute) {
        let Some(person) = self.known.get_mut(&attribute.metadata.name) else {
            return;
        };
        let error = attribute.metadata.refresh_error();
        person.refresh_error = error.map(|text| text.chars().take(ERROR_LENGTH).collect());
        let providers = attribute.extra.unwrap_or_default().into_iter();
        for (provider, extra) in providers {
            let Some(Extra { email, username }) = extra else {
                continue;
            };
            for (place, texts) in [email, username].into_iter().enumerate() {
                let address = texts.and_then(|texts| texts.first()?.trim().parse().ok());
                person.addresses[place].extend(address.map(|address| (provider.clone(), address)));
            }
        }
    }

    /// Looks for a user whom no list has shown.
    pub async fn find(&mut self, api: &Api, id: &str) -> Result<(), Error> {
        let is_settled = self.known.contains_key(id) || self.deleted.contains(id);
        if !self.users_told || is_settled || self.lookups >= LOOKUPS || !is_name(id) {
            return Ok(());
        }
        self.lookups += 1;
        match api.get(&format!("{MANAGEMENT}/users/{id}")).await {
            Ok(user) => self.known.extend([person(user)]),
            Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => {
                self.deleted.insert(id.to_owned());
            }
            // Who may list but not get learns nothing of those who are gone.
            Err(error) if status(&error) == Some(StatusCode::FORBIDDEN) => self.lookups = LOOKUPS,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What is known of a user.
    pub fn whereabouts(&self, id: &str) -> Whereabouts<'_> {
        match self.known.get(id) {
            Some(person) => Whereabouts::Here(person),
            None if self.deleted.contains(id) => Whereabouts::Deleted,
            None => Whereabouts::Untold,
        }
    }

    /// Whether it is known who a user is, or that he is nobody. What can be no id will never be told.
    pub fn tells_of(&self, id: &str) -> bool {
        let is_settled = !matches!(self.whereabouts(id), Whereabouts::Untold);
        is_settled || self.users_told && !is_name(id)
    }

    /// Whether it is known if a provider is switched off. The local one never is.
    pub fn tells_of_provider(&self, id: &str) -> bool {
        self.switched_off.is_some() || id.is_empty() || id == LOCAL
    }

    /// The mailbox of a user, for a token that he made by this provider: what the provider sent for mail,
    /// the name he logged in by, the name the provider sent, his id at the provider, what is configured,
    /// and at last whatever another provider said of him.
    pub fn address(&self, id: &str, provider: &str, login: Option<&Principal>) -> Option<Address> {
        let person = self.known.get(id);
        let said = |place: usize, by: Option<&str>| {
            let addresses = person.map_or(&[][..], |person| &person.addresses[place]);
            let mut fitting = addresses
                .iter()
                .filter(|(one, _)| by.is_none_or(|by| by == one));
            fitting.next().map(|(_, address)| address.clone())
        };
        let by = Some(provider);
        let login_name = || login?.login_name.as_deref()?.trim().parse().ok();
        let principal = || {
            login?
                .id()
                .and_then(of_principal)
                .map(|(_, address)| address)
        };
        said(0, by)
            .or_else(login_name)
            .or_else(|| said(1, by))
            .or_else(principal)
            .or_else(|| said(2, by))
            .or_else(|| self.configured.get(id).cloned())
            .or_else(|| (0..3).find_map(|place| said(place, None)))
    }

    /// Whether there are people beside this one who could have tokens of their own.
    pub fn has_others(&self, id: &str) -> bool {
        let mut people = self.known.iter();
        people.any(|(other, person)| other != id && person.is_enabled && !person.is_system)
    }
}

/// Answers that hide something.
const HIDDEN: [StatusCode; 2] = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];

fn switched_off(providers: Collection<Provider>) -> HashSet<String> {
    let off = providers
        .data
        .into_iter()
        .filter(|provider| provider.enabled == Some(false) && provider.id != LOCAL);
    off.map(|provider| provider.id).collect()
}

fn person(user: User) -> (String, Person) {
    let principals = user.principal_ids.unwrap_or_default();
    let is_said = |name: &String| !name.trim().is_empty();
    let username = user.username.filter(is_said);
    let person = Person {
        name: user.display_name.filter(is_said).or(username.clone()),
        username,
        is_enabled: user.enabled != Some(false),
        is_system: principals.iter().any(|id| id.starts_with("system://")),
        refresh_error: None,
        addresses: [
            Vec::new(),
            Vec::new(),
            principals
                .iter()
                .filter_map(|id| of_principal(id))
                .collect(),
        ],
    };
    (user.metadata.name, person)
}

/// Provider and mail address of `okta_user://ada@example.org`.
fn of_principal(id: &str) -> Option<(String, Address)> {
    let (scheme, name) = id.split_once("://")?;
    let provider = scheme.strip_suffix("_user")?;
    Some((provider.to_owned(), name.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn people(user: Value, attribute: Value) -> People {
        let (id, person) = person(serde_json::from_value(user).unwrap());
        let configured = [("u-1".to_owned(), "map@example.org".parse().unwrap())].into();
        let mut people = People {
            known: [(id, person)].into(),
            configured,
            ..People::default()
        };
        people.describe(serde_json::from_value(attribute).unwrap());
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
    fn the_closest_word_of_the_provider_is_the_mailbox() {
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
    fn what_another_provider_says_comes_after_what_is_configured() {
        let extra = json!({"okta": {"email": ["mail@example.org"]}, "github": null});
        let mut people = people(user("okta_user://id@example.org"), attribute(&extra));
        let address = |people: &People| people.address("u-1", "local", None).unwrap().to_string();
        assert_eq!(address(&people), "map@example.org");
        people.configured.clear();
        assert_eq!(address(&people), "mail@example.org");
        assert_eq!(people.address("u-2", "local", None), None);
    }

    #[test]
    fn users_of_rancher_itself_and_those_switched_off_are_nobody() {
        let system = json!({"metadata": {"name": "u-1"}, "principalIds": ["system://local"]});
        assert!(!people(system, attribute(&json!(null))).has_others("u-2"));
        let off = json!({"metadata": {"name": "u-1"}, "enabled": false});
        assert!(!people(off, attribute(&json!(null))).has_others("u-2"));
        let both = people(user("okta_user://x"), attribute(&json!({})));
        assert!(both.has_others("u-2") && !both.has_others("u-1"));
    }
}
