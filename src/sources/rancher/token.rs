//! A token of either of Rancher's two stores, its kind and its conversion.

use chrono::{DateTime, TimeDelta, Utc};

use super::api::EXT_PREFIX;
use super::people::{People, Person};
use super::responses::{Ext, Legacy, Meta, TokenFields};
use crate::domain::{Cell, Expiry, ListedToken, Status, diff, string_enum};
use crate::sources::cells;
use crate::time;

// Rancher creates most tokens itself, for example for login sessions, about which there should be no notices.
string_enum! {
    TokenKind {
        ApiKey = "api_key",
        /// In a downloaded kubeconfig file.
        Kubeconfig = "kubeconfig",
        Session = "session",
        /// Installs a cluster's agent.
        Agent = "agent",
        /// Used by `kubectl` in the browser.
        Shell = "shell",
        Compose = "compose",
        Helm = "helm",
        Pipeline = "pipeline",
        Telemetry = "telemetry",
        Drain = "drain",
        /// Belongs to a user that Rancher created for itself.
        System = "system",
    }
}

/// The prefixes of names of Rancher's own tokens; its manual lists them as tokens that never expire.
const NAME_PREFIXES: [(&str, TokenKind); 7] = [
    ("kubeconfig-", TokenKind::Kubeconfig),
    ("kubectl-shell-", TokenKind::Shell),
    ("agent-", TokenKind::Agent),
    ("compose-token-", TokenKind::Compose),
    ("helm-token-", TokenKind::Helm),
    ("telemetry-", TokenKind::Telemetry),
    ("drain-node-", TokenKind::Drain),
];

impl TokenKind {
    pub fn default_kinds() -> Vec<Self> {
        let kinds = Self::ALL.iter().copied();
        kinds.filter(|kind| *kind != Self::Session).collect()
    }

    /// Decides by the label, then by the name, then by the way of creation and the user. A login is not derived: it
    /// was not created with another token.
    fn detect(
        name: &str,
        label: Option<&str>,
        is_derived: Option<bool>,
        is_system_user: bool,
    ) -> Self {
        match label {
            Some("session") => return Self::Session,
            Some("kubeconfig") => return Self::Kubeconfig,
            _ => {}
        }
        let mut prefixes = NAME_PREFIXES.iter();
        match prefixes.find(|(prefix, _)| name.starts_with(prefix)) {
            Some((_, kind)) => *kind,
            None if name.contains("-pipeline") => Self::Pipeline,
            None if is_derived == Some(false) => Self::Session,
            None if is_system_user => Self::System,
            None => Self::ApiKey,
        }
    }
}

#[derive(Debug)]
pub struct TokenRow {
    /// The name, with the prefix `ext/` for an ext token.
    pub external_id: String,
    label: Option<String>,
    metadata: Meta,
    pub fields: TokenFields,
}

impl From<Legacy> for TokenRow {
    fn from(Legacy { metadata, fields }: Legacy) -> Self {
        Self {
            external_id: metadata.name.clone(),
            label: metadata.kind().cloned(),
            metadata,
            fields,
        }
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
        let principal = spec.user_principal.as_ref();
        let provider = principal.and_then(|principal| principal.provider.clone());
        Self {
            external_id: format!("{EXT_PREFIX}{}", metadata.name),
            label: label.or_else(|| metadata.kind().cloned()),
            metadata,
            fields: TokenFields {
                auth_provider: provider.unwrap_or_default(),
                expires_at: status.expires_at,
                last_used_at: status.last_used_at,
                ..spec
            },
        }
    }
}

fn instant(text: Option<&String>) -> Option<DateTime<Utc>> {
    text.and_then(|text| time::parse_system_instant(text))
}

impl TokenRow {
    pub fn user_id(&self) -> &str {
        &self.fields.user_id
    }

    pub fn kind(&self, people: &People) -> TokenKind {
        let person = people.person(self.user_id());
        TokenKind::detect(
            &self.metadata.name,
            self.label.as_deref(),
            self.fields.is_derived,
            person.is_some_and(|person| person.is_system),
        )
    }

    fn created_at(&self) -> Option<DateTime<Utc>> {
        instant(self.metadata.creation_timestamp.as_ref())
    }

    /// Whether it is not known if this is a key of a person or of Rancher itself.
    pub fn may_be_system(&self, people: &People) -> bool {
        self.kind(people) == TokenKind::ApiKey && !people.is_known(self.user_id())
    }

    /// `reports_use`: whether this version of Rancher records when tokens are used.
    pub fn into_listed(self, people: &People, reports_use: bool) -> ListedToken {
        let kind = self.kind(people);
        let id = self.user_id();
        let person = people.person(id);
        let are_people_known = people.can_list_users && people.can_list_attributes;
        let principal = self.fields.user_principal.as_ref();
        let issuer = people.address(id, &self.fields.auth_provider, principal);
        let created_at = self.created_at();
        let (expiry, is_computed) = self.expiry();
        let refusal_reason = self.refusal_reason(people, person);
        let status = self.status(people, refusal_reason.is_some());
        let role = if self.may_be_system(people) {
            Cell::Absent
        } else {
            Cell::Value(kind.as_str().to_owned())
        };
        let description: Vec<_> = [&self.fields.description, &refusal_reason]
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .map(String::as_str)
            .collect();
        ListedToken {
            name: cells::text(self.fields.description.as_deref()),
            description: cells::text(Some(&description.join("; "))),
            issuer: cell(issuer, are_people_known),
            issuer_name: match self.issuer_name(person) {
                Some(name) => cells::text(Some(name)),
                None => cell(None, are_people_known),
            },
            issuer_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            issuer_names: self.issuer_names(person),
            issuer_gone: people.issuer_gone(id),
            role,
            scope: cells::text(self.fields.cluster_name.as_deref()),
            created_at: created_at.into(),
            expiry: Cell::Value(expiry),
            is_computed,
            last_used_at: cell(instant(self.fields.last_used_at.as_ref()), reports_use),
            status,
            ..ListedToken::with_id(self.external_id)
        }
    }

    /// The expiry, and whether it is computed. Rancher ends a legacy token by its TTL alone; it fills `expiresAt` once,
    /// shortly after the creation, and only shows it.
    fn expiry(&self) -> (Expiry, bool) {
        let reported = instant(self.fields.expires_at.as_ref()).map(Expiry::At);
        match (reported, self.computed_expiry()) {
            (Some(_), Some(computed)) if self.has_outdated_date() => {
                (computed, computed.at().is_some())
            }
            (Some(reported), _) => (reported, false),
            (None, Some(computed)) => (computed, computed.at().is_some()),
            (None, None) => (Expiry::Unknown, false),
        }
    }

    /// Whether `expiresAt` is not when Rancher ends the token.
    pub fn has_outdated_date(&self) -> bool {
        let reported = instant(self.fields.expires_at.as_ref()).map(Expiry::At);
        let by_ttl = self.computed_expiry().filter(|_| !self.is_ext());
        let both = reported.zip(by_ttl);
        both.is_some_and(|(reported, by_ttl)| !diff::is_same_expiry(reported, by_ttl))
    }

    fn is_ext(&self) -> bool {
        self.external_id.starts_with(EXT_PREFIX)
    }

    /// The expiry by the TTL; `None` if that is unknown.
    fn computed_expiry(&self) -> Option<Expiry> {
        let ttl = self.fields.ttl?;
        if ttl <= 0 {
            return Some(Expiry::Never);
        }
        let created_at = self.created_at()?;
        let life = TimeDelta::try_milliseconds(ttl);
        let at = life.and_then(|life| created_at.checked_add_signed(life));
        Some(match at {
            Some(at) if at <= time::MAX_INSTANT => Expiry::At(at),
            _ => Expiry::Never,
        })
    }

    /// A token counts as active only if the states of its user and provider are known.
    fn status(&self, people: &People, is_refused: bool) -> Cell<Status> {
        if is_refused {
            return Cell::Value(Status::Disabled);
        }
        if people.is_known(self.user_id()) && people.is_provider_known(&self.fields.auth_provider) {
            return Cell::Value(Status::Active);
        }
        Cell::Absent
    }

    /// Why Rancher does not accept the token although it has not expired.
    fn refusal_reason(&self, people: &People, person: Option<&Person>) -> Option<String> {
        if person.is_some_and(|person| !person.is_enabled) {
            return Some("its user is disabled in Rancher".to_owned());
        }
        if self.fields.enabled == Some(false) {
            let reason = "disabled by an administrator, or by Rancher because the provider no longer confirms its user";
            return Some(reason.to_owned());
        }
        let disabled = people.disabled_providers.as_ref()?;
        let provider = disabled.get(&self.fields.auth_provider)?;
        Some(format!(
            "its login provider {provider} is disabled in Rancher"
        ))
    }

    /// Further names of the issuer that the owners file may use.
    fn issuer_names(&self, person: Option<&Person>) -> Vec<String> {
        let username = person.and_then(|person| person.username.clone());
        let principal = self.fields.user_principal.as_ref();
        let login = principal.and_then(|principal| principal.login_name.clone());
        let names = [username, login].into_iter().flatten();
        names.filter(|name| !name.trim().is_empty()).collect()
    }

    fn issuer_name<'a>(&'a self, person: Option<&'a Person>) -> Option<&'a str> {
        let person = person.and_then(|person| person.name.as_deref());
        let principal = self.fields.user_principal.as_ref();
        let display = principal.and_then(|principal| principal.display_name.as_deref());
        let login = principal.and_then(|principal| principal.login_name.as_deref());
        let mut names = [person, display, login].into_iter().flatten();
        names.find(|name| !name.trim().is_empty())
    }
}

/// A cell for a value. Without one, the cell is empty if that `is_known`, otherwise absent.
fn cell<T>(value: Option<T>, is_known: bool) -> Cell<T> {
    if value.is_some() || is_known {
        value.into()
    } else {
        Cell::Absent
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("kubeconfig-u-b4qkh", "kubeconfig")]
    #[case("kubectl-shell-user-vqkqt", "shell")]
    #[case("agent-u-x7k", "agent")]
    #[case("compose-token-abc", "compose")]
    #[case("helm-token-abc", "helm")]
    #[case("u-x7k-pipeline", "pipeline")]
    #[case("p-1-pipeline-2", "pipeline")]
    #[case("telemetry-abc", "telemetry")]
    #[case("drain-node-abc", "drain")]
    #[case("token-7x2kq", "api_key")]
    fn a_kind_follows_from_the_name(#[case] name: &str, #[case] kind: &str) {
        // Sessions are recognised by their creation, but names come first.
        let is_derived = Some(name != "agent-u-x7k");
        let detected = TokenKind::detect(name, None, is_derived, false);
        assert_eq!(detected.as_str(), kind);
    }

    #[rstest]
    #[case(Some("session"), Some(true), false, TokenKind::Session)]
    #[case(Some("kubeconfig"), Some(false), true, TokenKind::Kubeconfig)]
    #[case(None, Some(false), false, TokenKind::Session)]
    #[case(Some(""), Some(true), true, TokenKind::System)]
    #[case(None, None, false, TokenKind::ApiKey)]
    fn the_label_comes_first(
        #[case] label: Option<&str>,
        #[case] is_derived: Option<bool>,
        #[case] is_system_user: bool,
        #[case] kind: TokenKind,
    ) {
        let detected = TokenKind::detect("token-7x2kq", label, is_derived, is_system_user);
        assert_eq!(detected, kind);
    }

    #[test]
    fn only_sessions_are_not_watched_by_default() {
        let kinds = TokenKind::default_kinds();
        assert_eq!(kinds.len(), TokenKind::ALL.len() - 1);
        assert!(!kinds.contains(&TokenKind::Session));
    }
}
