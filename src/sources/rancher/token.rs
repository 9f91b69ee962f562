//! A token of either of Rancher's two stores, and its conversion.

use chrono::{DateTime, TimeDelta, Utc};

use super::api::EXT_PREFIX;
use super::kinds::{KindHints, TokenKind};
use super::people::{People, UserState};
use super::shapes::{Ext, Legacy, Meta, TokenFields};
use crate::domain::{Cell, Expiry, ListedToken, Status};
use crate::sources::cells;
use crate::time;

#[derive(Debug)]
pub struct TokenRow {
    /// The name, with the prefix `ext/` for an ext token.
    pub external_id: String,
    pub user_id: String,
    label: Option<String>,
    provider: String,
    metadata: Meta,
    fields: TokenFields,
}

impl From<Legacy> for TokenRow {
    fn from(Legacy { metadata, fields }: Legacy) -> Self {
        Self::new(metadata.name.clone(), None, metadata, fields)
    }
}

impl From<Ext> for TokenRow {
    fn from(token: Ext) -> Self {
        let Ext {
            metadata,
            mut spec,
            status,
        } = token;
        let label = spec.kind.take().filter(|kind| !kind.is_empty());
        let provider = spec.user_principal.as_ref();
        let fields = TokenFields {
            auth_provider: provider.and_then(|principal| principal.provider.clone()),
            is_derived: None,
            expires_at: status.expires_at,
            last_used_at: status.last_used_at,
            ..spec
        };
        Self::new(
            format!("{EXT_PREFIX}{}", metadata.name),
            label,
            metadata,
            fields,
        )
    }
}

fn instant(text: Option<&String>) -> Option<DateTime<Utc>> {
    text.and_then(|text| time::parse_system_instant(text))
}

impl TokenRow {
    fn new(
        external_id: String,
        label: Option<String>,
        mut metadata: Meta,
        mut fields: TokenFields,
    ) -> Self {
        Self {
            external_id,
            user_id: fields.user_id.take().unwrap_or_default(),
            label: label.or_else(|| metadata.kind()),
            provider: fields.auth_provider.take().unwrap_or_default(),
            metadata,
            fields,
        }
    }

    pub fn kind(&self, people: &People) -> TokenKind {
        let user = people.user_state(&self.user_id);
        TokenKind::detect(KindHints {
            name: &self.metadata.name,
            label: self.label.as_deref(),
            is_derived: self.fields.is_derived,
            is_system_user: user.person().is_some_and(|person| person.is_system),
        })
    }

    fn created_at(&self) -> Option<DateTime<Utc>> {
        instant(self.metadata.creation_timestamp.as_ref())
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
        let principal = self.fields.user_principal.as_ref();
        let issuer = people.address(&self.user_id, &self.provider, principal);
        let (expiry, is_computed) = self.expiry();
        let refusal_reason = self.refusal_reason(people, user);
        let status = self.status(people, refusal_reason.is_some());
        let role = Some(kind.as_str().to_owned()).filter(|_| !self.may_be_system(people));
        let description = [
            self.fields.description.as_deref(),
            refusal_reason.as_deref(),
        ];
        let description = description
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty());
        ListedToken {
            name: cells::text(self.fields.description.as_deref()),
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
            scope: cells::text(self.fields.cluster_name.as_deref()),
            created_at: self.created_at().into(),
            expiry: Cell::Value(expiry),
            is_computed,
            last_used_at: cell(instant(self.fields.last_used_at.as_ref()), reports_use),
            status,
            ..ListedToken::with_id(self.external_id)
        }
    }

    /// The expiry, and whether it was computed here. Rancher computes the date shortly after a token is created,
    /// so an empty date means nothing if there is a TTL.
    fn expiry(&self) -> (Expiry, bool) {
        if let Some(at) = instant(self.fields.expires_at.as_ref()) {
            return (Expiry::At(at), false);
        }
        let Some(ttl) = self.fields.ttl else {
            return (Expiry::Unknown, false);
        };
        if ttl <= 0 {
            return (Expiry::Never, false);
        }
        let Some(created_at) = self.created_at() else {
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
        if user.person().is_some_and(|person| !person.is_enabled) {
            return Some("its user is disabled in Rancher".to_owned());
        }
        if self.fields.enabled == Some(false) {
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
        let username = user.person().and_then(|person| person.username.clone());
        let principal = self.fields.user_principal.as_ref();
        let login = principal.and_then(|principal| principal.login_name.clone());
        let names = [username, login].into_iter().flatten();
        names.filter(|name| !name.trim().is_empty()).collect()
    }

    fn issuer_name<'a>(&'a self, user: UserState<'a>) -> Option<&'a str> {
        let person = user.person().and_then(|person| person.name.as_deref());
        let principal = self.fields.user_principal.as_ref();
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
    if value.is_some() || is_known {
        value.into()
    } else {
        Cell::Absent
    }
}
