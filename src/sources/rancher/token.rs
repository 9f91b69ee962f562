//! A token of either of Rancher's two stores, and what it is to lapsed.

use chrono::{DateTime, TimeDelta, Utc};

use super::api::EXT_PREFIX;
use super::kinds::{Marks, TokenKind};
use super::people::{People, Whereabouts};
use super::shapes::{Ext, Legacy, Principal};
use crate::domain::{Cell, Expiry, Listed, Status};
use crate::sources::cells;

/// The last instant that both databases keep.
const LAST: DateTime<Utc> =
    DateTime::from_timestamp(253_402_300_799, 0).expect("the end of the year 9999");

/// A token of either store.
#[derive(Debug)]
pub struct Row {
    /// Its name, with `ext/` before it for an ext token.
    pub external_id: String,
    name: String,
    label: Option<String>,
    is_derived: Option<bool>,
    /// Whose it is.
    pub user_id: String,
    provider: String,
    principal: Option<Principal>,
    description: Option<String>,
    created_at: Option<DateTime<Utc>>,
    ttl: Option<i64>,
    expires_at: Option<DateTime<Utc>>,
    is_enabled: bool,
    last_used_at: Option<DateTime<Utc>>,
    cluster: Option<String>,
}

impl From<Legacy> for Row {
    fn from(mut token: Legacy) -> Self {
        Self {
            external_id: token.metadata.name.clone(),
            label: token.metadata.kind(),
            is_derived: token.is_derived,
            user_id: token.user_id.unwrap_or_default(),
            provider: token.auth_provider.unwrap_or_default(),
            principal: token.user_principal,
            description: token.description,
            created_at: instant(token.metadata.creation_timestamp.as_deref()),
            ttl: token.ttl,
            expires_at: instant(token.expires_at.as_deref()),
            is_enabled: token.enabled != Some(false),
            last_used_at: instant(token.last_used_at.as_deref()),
            cluster: token.cluster_name,
            name: token.metadata.name,
        }
    }
}

impl From<Ext> for Row {
    fn from(token: Ext) -> Self {
        let Ext {
            mut metadata,
            spec,
            status,
        } = token;
        let provider = spec.user_principal.as_ref();
        Self {
            external_id: format!("{EXT_PREFIX}{}", metadata.name),
            label: spec
                .kind
                .filter(|kind| !kind.is_empty())
                .or(metadata.kind()),
            is_derived: None,
            user_id: spec.user_id.unwrap_or_default(),
            provider: provider
                .and_then(|it| it.provider.clone())
                .unwrap_or_default(),
            principal: spec.user_principal,
            description: spec.description,
            created_at: instant(metadata.creation_timestamp.as_deref()),
            ttl: spec.ttl,
            expires_at: instant(status.expires_at.as_deref()),
            is_enabled: spec.enabled != Some(false),
            last_used_at: instant(status.last_used_at.as_deref()),
            cluster: spec.cluster_name,
            name: metadata.name,
        }
    }
}

fn instant(text: Option<&str>) -> Option<DateTime<Utc>> {
    text.and_then(cells::instant)
}

impl Row {
    /// What it is for.
    pub fn kind(&self, people: &People) -> TokenKind {
        let whose = people.whereabouts(&self.user_id);
        TokenKind::of(Marks {
            name: &self.name,
            label: self.label.as_deref(),
            is_derived: self.is_derived,
            is_of_system: matches!(whose, Whereabouts::Here(person) if person.is_system),
        })
    }

    /// Whether nobody tells if it is a key of a person or of Rancher itself.
    pub fn may_be_of_system(&self, people: &People) -> bool {
        self.kind(people) == TokenKind::ApiKey && !people.tells_of(&self.user_id)
    }

    /// What it is to lapsed; `use_told` says whether this Rancher knows when tokens are used.
    pub fn listed(self, people: &People, use_told: bool) -> Listed {
        let kind = self.kind(people);
        let whose = people.whereabouts(&self.user_id);
        let unsaid = || people.users_told && people.attributes_told;
        let principal = self.principal.as_ref();
        let issuer = people.address(&self.user_id, &self.provider, principal);
        let (expiry, is_computed) = self.expiry();
        let fault = self.fault(people, whose);
        let status = self.status(people, fault.is_some());
        let role = Some(kind.as_str().to_owned()).filter(|_| !self.may_be_of_system(people));
        let description = [self.description.as_deref(), fault.as_deref()];
        let description = description
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty());
        Listed {
            name: cells::text(self.description.as_deref()),
            description: cells::text(Some(&description.collect::<Vec<_>>().join("; "))),
            issuer: cell(issuer, unsaid()),
            issuer_name: match self.issuer_name(whose) {
                Some(name) => cells::text(Some(name)),
                None => cell(None, unsaid()),
            },
            issuer_id: Some(self.user_id.clone()).filter(|id| !id.is_empty()),
            issuer_names: self.issuer_names(whose),
            issuer_gone: gone(&self.user_id, whose),
            role: cell(role, false),
            scope: cells::text(self.cluster.as_deref()),
            created_at: cell(self.created_at, true),
            expiry: Cell::Value(expiry),
            is_computed,
            last_used_at: cell(self.last_used_at, use_told),
            status,
            ..Listed::named(self.external_id)
        }
    }

    /// When it ends, and whether that was worked out. Rancher itself works it out a moment after a token
    /// was made, so an empty date says nothing as long as there is a life.
    fn expiry(&self) -> (Expiry, bool) {
        if let Some(at) = self.expires_at {
            return (Expiry::At(at), false);
        }
        let Some(ttl) = self.ttl else {
            return (Expiry::Unknown, false);
        };
        if ttl <= 0 {
            return (Expiry::Never, false);
        }
        let Some(created_at) = self.created_at else {
            return (Expiry::Unknown, false);
        };
        let life = TimeDelta::try_milliseconds(ttl);
        match life.and_then(|life| created_at.checked_add_signed(life)) {
            Some(at) if at <= LAST => (Expiry::At(at), true),
            _ => (Expiry::Never, false),
        }
    }

    /// Without a fault it works only as far as user and provider are told; else what is known of it stays.
    fn status(&self, people: &People, has_fault: bool) -> Cell<Status> {
        let is_told = people.tells_of(&self.user_id) && people.tells_of_provider(&self.provider);
        if has_fault {
            Cell::Value(Status::Disabled)
        } else {
            cell(is_told.then_some(Status::Active), false)
        }
    }

    /// Why Rancher does not accept it, though it has not expired.
    fn fault(&self, people: &People, whose: Whereabouts<'_>) -> Option<String> {
        if matches!(whose, Whereabouts::Here(person) if !person.is_enabled) {
            return Some("its user is disabled in Rancher".to_owned());
        }
        if !self.is_enabled {
            let by = "disabled by an administrator, or by Rancher when its user's provider no longer confirmed him";
            return Some(by.to_owned());
        }
        let off = people.switched_off.as_ref()?;
        off.contains(&self.provider).then(|| {
            format!(
                "its login provider {} is switched off in Rancher",
                self.provider
            )
        })
    }

    /// What an owner's row may call the issuer beside his id and the name that is shown.
    fn issuer_names(&self, whose: Whereabouts<'_>) -> Vec<String> {
        let username = match whose {
            Whereabouts::Here(person) => person.username.clone(),
            Whereabouts::Deleted | Whereabouts::Untold => None,
        };
        let principal = self.principal.as_ref();
        let login = principal.and_then(|it| it.login_name.clone());
        let names = [username, login].into_iter().flatten();
        names.filter(|name| !name.trim().is_empty()).collect()
    }

    fn issuer_name<'a>(&'a self, whose: Whereabouts<'a>) -> Option<&'a str> {
        let person = match whose {
            Whereabouts::Here(person) => person.name.as_deref(),
            Whereabouts::Deleted | Whereabouts::Untold => None,
        };
        let principal = self.principal.as_ref();
        let display = principal.and_then(|it| it.display_name.as_deref());
        let login = principal.and_then(|it| it.login_name.as_deref());
        let mut names = [person, display, login].into_iter().flatten();
        names.find(|name| !name.trim().is_empty())
    }
}

/// How it is known that a user is there no more.
fn gone(id: &str, whose: Whereabouts<'_>) -> Cell<String> {
    match whose {
        Whereabouts::Untold => Cell::Absent,
        Whereabouts::Deleted => Cell::Value(format!("Rancher has no user {id}")),
        Whereabouts::Here(person) => match cells::text(person.refresh_error.as_deref()) {
            Cell::Value(said) => Cell::Value(format!(
                "the login provider no longer confirms the user: {said}"
            )),
            none => none,
        },
    }
}

/// A value, or none where none was `told`; where nobody tells, what is known stays.
fn cell<T>(value: Option<T>, told: bool) -> Cell<T> {
    match value {
        Some(value) => Cell::Value(value),
        None if told => Cell::Empty,
        None => Cell::Absent,
    }
}
