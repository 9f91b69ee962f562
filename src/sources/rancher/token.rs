//! A token of either of Rancher's two stores, its kind and its conversion.

use chrono::TimeDelta;

use super::api::EXT_PREFIX;
use super::people::{People, Person};
use super::responses::{Ext, Legacy, Meta, TokenFields};
use crate::domain::{Cell, Expiry, ListedToken, Status, column, diff, string_enum};
use crate::sources::cells;
use crate::sources::fields::{Field, FieldReader, Item};

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
            external_id: metadata.name().to_owned(),
            label: metadata.kind(),
            metadata,
            fields,
        }
    }
}

impl From<Ext> for TokenRow {
    fn from(token: Ext) -> Self {
        let Ext {
            metadata,
            spec,
            status,
        } = token;
        let label = spec.kind.text();
        let principal = spec.user_principal.get();
        let provider = principal.map(|principal| principal.provider.clone());
        Self {
            external_id: format!("{EXT_PREFIX}{}", metadata.name()),
            label: label.or_else(|| metadata.kind()),
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

impl TokenRow {
    pub fn user_id(&self) -> &str {
        match &self.fields.user_id {
            Field::Text(id) => id,
            _ => "",
        }
    }

    /// What is in the place of the owner, if that is no id or no principal.
    fn odd_owner(&self) -> Option<&'static str> {
        match (&self.fields.user_id, &self.fields.user_principal) {
            (Field::Odd(what), _) | (_, Item::Odd(what)) => Some(what),
            _ => None,
        }
    }

    fn provider(&self) -> &str {
        match &self.fields.auth_provider {
            Field::Text(id) => id,
            _ => "",
        }
    }

    pub fn kind(&self, people: &People) -> TokenKind {
        let person = people.person(self.user_id());
        TokenKind::detect(
            self.metadata.name(),
            self.label.as_deref(),
            self.fields.is_derived.flag().ok().flatten(),
            person.is_some_and(|person| person.is_system),
        )
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
        let principal = self.fields.user_principal.get();
        let issuer = people.address(id, self.provider(), principal);
        let mut fields = FieldReader::default();
        let created_at = fields.instant(column::CREATED_AT, &self.metadata.creation_timestamp);
        let (expiry, is_computed) = self.expiry(&mut fields);
        let refusal_reason = self.refusal_reason(people, person);
        let status = self.status(people, person, refusal_reason.is_some(), &mut fields);
        let role = if self.may_be_system(people) {
            Cell::Absent
        } else {
            Cell::Value(kind.as_str().to_owned())
        };
        let description: Vec<_> = [self.fields.description.text(), refusal_reason]
            .into_iter()
            .flatten()
            .collect();
        let last_used_at = match &self.fields.last_used_at {
            Field::Absent | Field::Null => cell(None, reports_use),
            at => match fields.instant(column::LAST_USED_AT, at) {
                Cell::Empty => cell(None, reports_use),
                at => at,
            },
        };
        let token = ListedToken {
            name: fields.text("name", &self.fields.description),
            description: cells::text(Some(&description.join("; "))),
            issuer: match self.odd_owner().filter(|_| issuer.is_none()) {
                Some(what) => {
                    fields.refuse(column::ISSUER, format!("is {what}"));
                    Cell::Absent
                }
                None => cell(issuer, are_people_known),
            },
            issuer_name: match self.issuer_name(person) {
                Some(name) => cells::text(Some(&name)),
                None => cell(None, are_people_known),
            },
            issuer_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            issuer_names: self.issuer_names(person),
            issuer_gone: people.issuer_gone(id),
            role,
            scope: fields.text("scope", &self.fields.cluster_name),
            created_at,
            expiry,
            is_computed,
            last_used_at,
            status,
            ..ListedToken::with_id(self.external_id)
        };
        fields.finish(token)
    }

    /// The expiry, and whether it is computed. Rancher ends a legacy token by its TTL alone; it fills `expiresAt` once,
    /// shortly after the creation, and only shows it.
    fn expiry(&self, fields: &mut FieldReader) -> (Cell<Expiry>, bool) {
        let reported = self.reported_expiry();
        let computed = match self.computed_expiry() {
            Ok(computed) => computed,
            Err(reason) => {
                if reported.is_none() || !self.is_ext() {
                    fields.refuse(column::EXPIRES_AT, reason);
                    return (Cell::Absent, false);
                }
                None
            }
        };
        match (reported, computed) {
            (Some(Cell::Value(reported)), _) if !self.has_outdated_date() => {
                (Cell::Value(reported), false)
            }
            (_, Some(Expiry::At(at))) => {
                let expiry = fields.expiry_at(at);
                (expiry, expiry != Cell::Absent)
            }
            (_, Some(computed)) => (Cell::Value(computed), false),
            (Some(_), None) => (fields.expiry(&self.fields.expires_at), false),
            (None, None) => (Cell::Value(Expiry::Unknown), false),
        }
    }

    /// What `expiresAt` says; `None` if it is empty. Go's zero time is no date.
    fn reported_expiry(&self) -> Option<Cell<Expiry>> {
        let field = &self.fields.expires_at;
        let text = field.text()?;
        if text.starts_with("0001-01-01") {
            return None;
        }
        Some(FieldReader::default().expiry(field))
    }

    /// Whether `expiresAt` is not when Rancher ends the token.
    pub fn has_outdated_date(&self) -> bool {
        let by_ttl = self.computed_expiry().ok().flatten();
        match (self.reported_expiry(), by_ttl) {
            (Some(Cell::Value(reported)), Some(by_ttl)) if !self.is_ext() => {
                !diff::is_same_expiry(reported, by_ttl)
            }
            _ => false,
        }
    }

    fn is_ext(&self) -> bool {
        self.external_id.starts_with(EXT_PREFIX)
    }

    /// The expiry by the TTL; `None` if that is unknown. An error if the TTL cannot be read.
    fn computed_expiry(&self) -> Result<Option<Expiry>, String> {
        let Some(ttl) = self.fields.ttl.integer()? else {
            return Ok(None);
        };
        if ttl <= 0 {
            return Ok(Some(Expiry::Never));
        }
        let mut fields = FieldReader::default();
        let created_at = fields.instant(column::CREATED_AT, &self.metadata.creation_timestamp);
        let Cell::Value(created_at) = created_at else {
            return Ok(None);
        };
        let life = TimeDelta::try_milliseconds(ttl);
        let at = life.and_then(|life| created_at.checked_add_signed(life));
        Ok(Some(match at {
            // What is too early is refused where it is used.
            Some(at) => cells::to_expiry(at).unwrap_or(Expiry::At(at)),
            None => Expiry::Never,
        }))
    }

    /// A token counts as active only if the states of its user and provider are known.
    fn status(
        &self,
        people: &People,
        person: Option<&Person>,
        is_refused: bool,
        fields: &mut FieldReader,
    ) -> Cell<Status> {
        if is_refused {
            return Cell::Value(Status::Disabled);
        }
        fields.flag(column::STATUS, &self.fields.enabled);
        if let Some(Err(reason)) = person.map(|person| &person.is_enabled) {
            fields.refuse(column::STATUS, format!("its user: {reason}"));
        }
        if !fields.is_readable(column::STATUS) {
            return Cell::Absent;
        }
        if people.is_known(self.user_id()) && people.is_provider_known(self.provider()) {
            return Cell::Value(Status::Active);
        }
        Cell::Absent
    }

    /// Why Rancher does not accept the token although it has not expired.
    fn refusal_reason(&self, people: &People, person: Option<&Person>) -> Option<String> {
        if person.is_some_and(|person| person.is_enabled == Ok(false)) {
            return Some("its user is disabled in Rancher".to_owned());
        }
        if self.fields.enabled.is(false) {
            let reason = "disabled by an administrator, or by Rancher because the provider no longer confirms its user";
            return Some(reason.to_owned());
        }
        let disabled = people.disabled_providers.as_ref()?;
        let provider = disabled.get(self.provider())?;
        Some(format!(
            "its login provider {provider} is disabled in Rancher"
        ))
    }

    /// Further names of the issuer that the owners file may use.
    fn issuer_names(&self, person: Option<&Person>) -> Vec<String> {
        let username = person.and_then(|person| person.username.clone());
        let principal = self.fields.user_principal.get();
        let login = principal.and_then(|principal| principal.login_name.text());
        let names = [username, login].into_iter().flatten();
        names.filter(|name| !name.trim().is_empty()).collect()
    }

    fn issuer_name(&self, person: Option<&Person>) -> Option<String> {
        let person = person.and_then(|person| person.name.clone());
        let principal = self.fields.user_principal.get();
        let display = principal.and_then(|principal| principal.display_name.text());
        let login = principal.and_then(|principal| principal.login_name.text());
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
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::sources::RefusedRows;
    use crate::sources::fields::{generated, with_ids};
    use crate::sources::rancher::responses::Page;
    use crate::upstream::pager::Identified;

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

    fn list<T: DeserializeOwned + Into<TokenRow> + Identified>(text: &str) -> Vec<ListedToken> {
        let page = format!("{{\"metadata\": {{}}, \"items\": {text}}}");
        let page: Page<T> = serde_json::from_str(&page).unwrap();
        let has_name = |token: &T| !token.id().is_empty();
        let items = page.items.unwrap();
        let people = People::default();
        with_ids(items, "tokens", has_name, &mut RefusedRows::default())
            .into_iter()
            .map(|token| Into::<TokenRow>::into(token).into_listed(&people, true))
            .collect()
    }

    #[test]
    fn an_odd_token_changes_no_other() {
        let metadata = |id: i64| {
            let labels = json!({"authn.management.cattle.io/kind": ""});
            json!({"name": format!("token-{id}"), "creationTimestamp": "2026-08-30T10:15:02Z", "labels": labels})
        };
        let principal = json!({
            "metadata": {"name": "okta_user://ada@example.org"}, "displayName": "Ada",
            "loginName": "ada@example.org", "provider": "okta",
        });
        let fields = |id: i64| {
            json!({
                "metadata": metadata(id), "userId": "u-ada", "authProvider": "okta", "isDerived": true,
                "description": format!("ci {id}"), "userPrincipal": principal, "ttl": 7_776_000_000_i64,
                "expiresAt": "2026-11-28T10:15:02Z", "enabled": true, "lastUsedAt": "2026-11-20T08:01:44Z",
                "clusterName": "c-m-abc123",
            })
        };
        let legacy: Vec<_> = (3..6).map(fields).collect();
        generated::assert_only_the_odd_record_changes(&legacy, list::<Legacy>);
        let ext = |id: i64| {
            let status = json!({"expiresAt": "2026-12-30T10:00:00+01:00"});
            json!({"metadata": metadata(id), "spec": fields(id), "status": status})
        };
        let ext: Vec<_> = (3..6).map(ext).collect();
        generated::assert_only_the_odd_record_changes(&ext, list::<Ext>);
    }

    #[test]
    fn only_sessions_are_not_watched_by_default() {
        let kinds = TokenKind::default_kinds();
        assert_eq!(kinds.len(), TokenKind::ALL.len() - 1);
        assert!(!kinds.contains(&TokenKind::Session));
    }
}
