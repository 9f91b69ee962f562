//! A token of either of Rancher's two stores, and its conversion.

use chrono::{DateTime, TimeDelta, Utc};

use super::api::EXT_PREFIX;
use super::kinds::{KindHints, TokenKind};
use super::people::{People, UserState};
use super::shapes::{Ext, Legacy, Principal};
use crate::domain::{Cell, Expiry, ListedToken, Status};
use crate::sources::cells;
use crate::time;

#[derive(Debug)]
pub struct TokenRow {
    /// The name, with the prefix `ext/` for an ext token.
    pub external_id: String,
    name: String,
    label: Option<String>,
    is_derived: Option<bool>,
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

impl From<Legacy> for TokenRow {
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

impl From<Ext> for TokenRow {
    fn from(token: Ext) -> Self {
        let Ext {
            mut metadata,
            spec,
            status,
        } = token;
        let principal = spec.user_principal.as_ref();
        Self {
            external_id: format!("{EXT_PREFIX}{}", metadata.name),
            label: spec
                .kind
                .filter(|kind| !kind.is_empty())
                .or(metadata.kind()),
            is_derived: None,
            user_id: spec.user_id.unwrap_or_default(),
            provider: principal
                .and_then(|principal| principal.provider.clone())
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
    text.and_then(time::parse_system_instant)
}

impl TokenRow {
    pub fn kind(&self, people: &People) -> TokenKind {
        let user = people.user_state(&self.user_id);
        TokenKind::detect(KindHints {
            name: &self.name,
            label: self.label.as_deref(),
            is_derived: self.is_derived,
            is_system_user: matches!(user, UserState::Present(person) if person.is_system),
        })
    }

    /// Whether it is not known if this is a key of a person or of Rancher itself.
    pub fn may_be_system(&self, people: &People) -> bool {
        self.kind(people) == TokenKind::ApiKey && !people.is_known(&self.user_id)
    }

    /// `reports_use`: whether this version of Rancher records when tokens are used.
    pub fn into_listed(self, people: &People, reports_use: bool) -> ListedToken {
        let kind = self.kind(people);
        let user = people.user_state(&self.user_id);
        let are_people_known = people.can_list_users && people.can_list_attributes;
        let principal = self.principal.as_ref();
        let issuer = people.address(&self.user_id, &self.provider, principal);
        let (expiry, is_computed) = self.expiry();
        let refusal_reason = self.refusal_reason(people, user);
        let status = self.status(people, refusal_reason.is_some());
        let role = Some(kind.as_str().to_owned()).filter(|_| !self.may_be_system(people));
        let description = [self.description.as_deref(), refusal_reason.as_deref()];
        let description = description
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty());
        ListedToken {
            name: cells::text(self.description.as_deref()),
            description: cells::text(Some(&description.collect::<Vec<_>>().join("; "))),
            issuer: cell(issuer, are_people_known),
            issuer_name: match self.issuer_name(user) {
                Some(name) => cells::text(Some(name)),
                None => cell(None, are_people_known),
            },
            issuer_id: Some(self.user_id.clone()).filter(|id| !id.is_empty()),
            issuer_names: self.issuer_names(user),
            issuer_gone: issuer_gone(&self.user_id, user),
            role: cell(role, false),
            scope: cells::text(self.cluster.as_deref()),
            created_at: cell(self.created_at, true),
            expiry: Cell::Value(expiry),
            is_computed,
            last_used_at: cell(self.last_used_at, reports_use),
            status,
            ..ListedToken::with_id(self.external_id)
        }
    }

    /// The expiry, and whether it was computed here. Rancher computes the date shortly after a token is created,
    /// so an empty date means nothing if there is a TTL.
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
            Some(at) if at <= time::MAX_INSTANT => (Expiry::At(at), true),
            _ => (Expiry::Never, false),
        }
    }

    /// A token counts as active only if the states of its user and provider are known.
    fn status(&self, people: &People, is_refused: bool) -> Cell<Status> {
        let is_known = people.is_known(&self.user_id) && people.is_provider_known(&self.provider);
        if is_refused {
            Cell::Value(Status::Disabled)
        } else {
            cell(is_known.then_some(Status::Active), false)
        }
    }

    /// Why Rancher does not accept the token although it has not expired.
    fn refusal_reason(&self, people: &People, user: UserState<'_>) -> Option<String> {
        if matches!(user, UserState::Present(person) if !person.is_enabled) {
            return Some("its user is disabled in Rancher".to_owned());
        }
        if !self.is_enabled {
            let reason = "disabled by an administrator, or by Rancher because the provider no longer confirms its user";
            return Some(reason.to_owned());
        }
        let disabled = people.disabled_providers.as_ref()?;
        disabled.contains(&self.provider).then(|| {
            format!(
                "its login provider {} is disabled in Rancher",
                self.provider
            )
        })
    }

    /// Further names of the issuer that the owners file may use.
    fn issuer_names(&self, user: UserState<'_>) -> Vec<String> {
        let username = match user {
            UserState::Present(person) => person.username.clone(),
            UserState::Deleted | UserState::Unknown => None,
        };
        let principal = self.principal.as_ref();
        let login = principal.and_then(|principal| principal.login_name.clone());
        let names = [username, login].into_iter().flatten();
        names.filter(|name| !name.trim().is_empty()).collect()
    }

    fn issuer_name<'a>(&'a self, user: UserState<'a>) -> Option<&'a str> {
        let person = match user {
            UserState::Present(person) => person.name.as_deref(),
            UserState::Deleted | UserState::Unknown => None,
        };
        let principal = self.principal.as_ref();
        let display = principal.and_then(|principal| principal.display_name.as_deref());
        let login = principal.and_then(|principal| principal.login_name.as_deref());
        let mut names = [person, display, login].into_iter().flatten();
        names.find(|name| !name.trim().is_empty())
    }
}

/// The evidence that the user is gone.
fn issuer_gone(id: &str, user: UserState<'_>) -> Cell<String> {
    match user {
        UserState::Unknown => Cell::Absent,
        UserState::Deleted => Cell::Value(format!("Rancher has no user {id}")),
        UserState::Present(person) => match cells::text(person.refresh_error.as_deref()) {
            Cell::Value(message) => Cell::Value(format!(
                "the login provider no longer confirms the user: {message}"
            )),
            none => none,
        },
    }
}

/// Without a value the cell is empty if that `is_known`, otherwise absent.
fn cell<T>(value: Option<T>, is_known: bool) -> Cell<T> {
    match value {
        Some(value) => Cell::Value(value),
        None if is_known => Cell::Empty,
        None => Cell::Absent,
    }
}
