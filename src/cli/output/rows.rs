//! The rows of the output. Their JSON keys, the order and the form are a contract.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::when::Instant;
use crate::domain::{
    Address, ExpiryOrigin, FindingKind, FindingState, IdentityStatus, IssuerMode, NoticeState,
    Reason, Severity, Status, Step, Token, TokenId,
};

/// A token. Lists show only the kinds of its findings.
#[derive(Debug, Clone, Serialize)]
pub struct TokenRow<F = FindingKind> {
    pub id: TokenId,
    pub source: String,
    pub external_id: String,
    pub name: String,
    pub description: Option<String>,
    pub issuer: Option<Address>,
    pub account: Option<String>,
    pub role: Option<String>,
    pub scope: Option<String>,
    pub created_at: Option<Instant>,
    /// `None` if it never expires or the expiry is unknown.
    pub expires_at: Option<Instant>,
    /// `never`, `at` or `unknown`.
    pub expiry: &'static str,
    pub expiry_origin: Option<ExpiryOrigin>,
    pub status: Status,
    pub last_used_at: Option<Instant>,
    /// When a sweep must process it next.
    pub due_at: Option<Instant>,
    pub findings: Vec<F>,
}

impl<F> TokenRow<F> {
    #[must_use]
    pub fn new(token: &Token, findings: Vec<F>, now: DateTime<Utc>) -> Self {
        Self {
            id: token.id,
            source: token.source.clone(),
            external_id: token.external_id.clone(),
            name: token.name.clone(),
            description: token.description.clone(),
            issuer: token.issuer.clone(),
            account: token.account.clone(),
            role: token.role.clone(),
            scope: token.scope.clone(),
            created_at: token.created_at.map(Instant),
            expires_at: token.expiry.at().map(Instant),
            expiry: token.expiry.kind(),
            expiry_origin: token.expiry_origin,
            status: token.status_at(now),
            last_used_at: token.last_used_at.map(Instant),
            due_at: token.due_at.map(Instant),
            findings,
        }
    }

    /// The name, or the external id if the name is empty.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.name.trim().is_empty() {
            &self.external_id
        } else {
            &self.name
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct TokenDetail {
    /// The token with full findings.
    #[serde(flatten)]
    pub token: TokenRow<FindingRow>,
    pub notices: Vec<NoticeRow>,
    /// URL of its page at the source; shown to people only.
    #[serde(skip)]
    pub page: Option<String>,
    /// The administrators of its account, as the source reports them; shown to people only.
    #[serde(skip)]
    pub admins: Vec<Address>,
}

/// A step of a token's current expiry; shown to people only.
#[derive(Debug, Clone, Serialize)]
pub struct StepRow {
    #[serde(serialize_with = "as_text")]
    pub step: Step,
    pub at: Instant,
    /// `sent to 2 people`, `skipped: as wide as the token's life`, `not yet`, …
    pub outcome: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct NoticeRow {
    pub id: Uuid,
    pub token_id: Option<TokenId>,
    pub token_name: Option<String>,
    /// `expiry`, the kind of a finding, …
    pub topic: String,
    /// Only for the topic `expiry`.
    #[serde(serialize_with = "as_optional_text")]
    pub step: Option<Step>,
    pub recipient: Address,
    pub channel: String,
    pub state: NoticeState,
    pub send_at: Instant,
    pub planned_at: Instant,
    /// When the server accepted it.
    pub sent_at: Option<Instant>,
    pub attempts: u32,
    pub message_id: Option<String>,
    /// Why it is in this state, if that is not obvious.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FindingRow {
    pub id: Uuid,
    /// `None` if it is about a source.
    pub token_id: Option<TokenId>,
    /// The name of the token or the source.
    pub token_name: String,
    pub kind: FindingKind,
    pub severity: Severity,
    pub since: Instant,
    pub evidence: String,
    pub state: FindingState,
    /// When the policy revokes its token.
    pub revoke_at: Option<Instant>,
}

/// A person's status at one directory.
#[derive(Debug, Clone, Serialize)]
pub struct IdentityRow {
    pub email: Address,
    pub directory: String,
    pub status: IdentityStatus,
    /// Why it is unknown, or how access was lost.
    pub reason: Option<Reason>,
    /// The evidence of the last clear statement.
    pub evidence: Option<String>,
    pub observed_at: Option<Instant>,
    pub since: Option<Instant>,
    /// The number of working tokens that this person issued.
    pub tokens: u64,
    /// The status in the last clear statement.
    pub known_status: IdentityStatus,
    /// A loss of access that awaits confirmation or was rejected by an operator.
    pub candidate: Option<IdentityStatus>,
    pub candidate_since: Option<Instant>,
    pub candidate_evidence: Option<String>,
}

/// The status that counts if directories differ.
#[derive(Debug, Clone, Serialize)]
pub struct WorstStatus {
    pub directory: String,
    pub status: IdentityStatus,
    /// Why it is unknown, or how access was lost.
    pub reason: Option<Reason>,
    pub evidence: Option<String>,
    pub observed_at: Option<Instant>,
    pub since: Option<Instant>,
}

impl WorstStatus {
    /// A loss ranks before access, and access before unknown.
    #[must_use]
    pub fn from_rows(rows: &[IdentityRow]) -> Option<Self> {
        let rank = |row: &&IdentityRow| match row.status {
            status if status.is_lost() => 0,
            IdentityStatus::Active => 1,
            _ => 2,
        };
        rows.iter().min_by_key(rank).map(|row| Self {
            directory: row.directory.clone(),
            status: row.status,
            reason: row.reason,
            evidence: row.evidence.clone(),
            observed_at: row.observed_at,
            since: row.since,
        })
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct IdentityDetail {
    pub email: Address,
    /// The name, as a directory reports it.
    pub name: Option<String>,
    /// The mode from `[issuers] modes`.
    pub mode: IssuerMode,
    /// The address that directories know.
    pub address: String,
    #[serde(flatten)]
    pub worst: Option<WorstStatus>,
    pub directories: Vec<IdentityRow>,
    pub tokens: Vec<TokenRow>,
    /// For each of `directories`, when a loss that awaits confirmation is accepted; shown to people only.
    #[serde(skip)]
    pub confirmations: Vec<Option<String>>,
}

/// The number of issuers of working tokens with one kind of coverage.
#[derive(Debug, Clone, Serialize)]
pub struct CoverageRow {
    /// `active`, `lost`, `unknown`, `not_covered`; `no_issuer` counts tokens.
    pub cover: &'static str,
    /// Why access is unknown or not covered.
    pub reason: Option<&'static str>,
    pub count: u64,
    /// The command that lists them.
    pub command: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct CoveredRow {
    pub email: String,
    /// `active`, `lost`, `unknown`, `not_covered`.
    pub cover: &'static str,
    /// Why access is unknown or not covered.
    pub reason: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct DirectoryRow {
    pub name: String,
    pub kind: String,
    /// The number of people in the last complete listing, or of people known from it.
    pub people: u64,
    pub observed_at: Option<Instant>,
    /// The change that waits for an operator.
    pub held: Option<String>,
    pub error: Option<String>,
    /// `ok`, `held`, `failing` or `never`.
    pub state: &'static str,
    /// Whether its data is fresh.
    pub fresh: bool,
    /// Until when its data is fresh without another sync.
    pub fresh_until: Option<Instant>,
    pub failing_since: Option<Instant>,
    /// Until when it asked us to wait.
    pub deferred_until: Option<Instant>,
    /// When the daemon syncs it next; shown to people only.
    #[serde(skip)]
    pub next: Option<Instant>,
}

/// What a sync would change about one person.
#[derive(Debug, Clone, Serialize)]
pub struct StatusChangeRow {
    /// `new`, `changed`, `held` or `forgotten`.
    pub change: &'static str,
    pub email: String,
    pub before: Option<IdentityStatus>,
    pub after: Option<IdentityStatus>,
    /// Why it would be unknown, or how access was lost.
    pub reason: Option<String>,
    pub evidence: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct SourceRow {
    pub name: String,
    pub kind: String,
    pub last_sync_at: Option<Instant>,
    pub last_good_sync_at: Option<Instant>,
    /// The number of tokens in the last complete listing, or of known tokens.
    pub tokens: u64,
    /// `ok`, `failing` or `never`.
    pub state: &'static str,
    /// Why the last sync failed, or what was wrong with its listing.
    pub error: Option<String>,
    /// Until when it asked us to wait.
    pub deferred_until: Option<Instant>,
    /// When the daemon syncs it next; shown to people only.
    #[serde(skip)]
    pub next: Option<Instant>,
}

/// What a sync would change about one token.
#[derive(Debug, Clone, Serialize)]
pub struct DifferenceRow {
    /// `new`, `changed` or `gone`.
    pub change: &'static str,
    pub id: TokenId,
    pub external_id: String,
    pub name: String,
    pub issuer: Option<Address>,
    pub status: Status,
    pub expires_at: Option<Instant>,
    pub fields: Vec<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AuditRow {
    pub at: Instant,
    pub actor: String,
    /// Such as `token.revoke`.
    pub action: String,
    pub subject: String,
    pub reason: Option<String>,
}

/// A warning that will be sent if nothing changes, or the expiry of a token without further warnings.
#[derive(Debug, Clone, Serialize)]
pub struct ForecastRow {
    /// When the warning is sent or the token expires.
    pub at: Instant,
    pub token_id: TokenId,
    pub token_name: String,
    pub source: String,
    pub expires_at: Instant,
    /// `None` for the expiry itself.
    #[serde(serialize_with = "as_optional_text")]
    pub step: Option<Step>,
    pub recipients: Vec<Address>,
}

fn as_text<S: Serializer>(step: &Step, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(step)
}

#[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
fn as_optional_text<S: Serializer>(step: &Option<Step>, serializer: S) -> Result<S::Ok, S::Error> {
    match step {
        Some(step) => serializer.collect_str(step),
        None => serializer.serialize_none(),
    }
}
