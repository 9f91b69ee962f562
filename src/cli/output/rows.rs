//! The rows that programs read: JSON keys, their order and their form are a contract.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::when::Instant;
use crate::domain::{
    Address, ExpiryOrigin, FindingKind, FindingState, IdentityStatus, IssuerMode, NoticeState,
    Severity, Status, Step, Token, TokenId,
};

/// A token. Its findings are kinds in a listing, and told in full where it is shown alone.
#[derive(Debug, Clone, Serialize)]
pub struct TokenRow<F = FindingKind> {
    /// Derived from source and external id.
    pub id: TokenId,
    /// The name of the source.
    pub source: String,
    /// What the source calls it.
    pub external_id: String,
    /// What people call it; may be empty.
    pub name: String,
    /// A description, if there is one.
    pub description: Option<String>,
    /// The issuer's mailbox.
    pub issuer: Option<Address>,
    /// The tenant it belongs to.
    pub account: Option<String>,
    /// What it may do.
    pub role: Option<String>,
    /// Where it may do it.
    pub scope: Option<String>,
    /// When it was issued.
    pub created_at: Option<Instant>,
    /// When it ends, if that is known and ever.
    pub expires_at: Option<Instant>,
    /// `never`, `at` or `unknown`.
    pub expiry: &'static str,
    /// Who says so.
    pub expiry_origin: Option<ExpiryOrigin>,
    /// What it is now, swept or not.
    pub status: Status,
    /// When it was last used.
    pub last_used_at: Option<Instant>,
    /// When something must next be done about it.
    pub due_at: Option<Instant>,
    /// What is wrong with it now.
    pub findings: Vec<F>,
}

impl<F> TokenRow<F> {
    /// The token as it is at `now`, with its open findings.
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

    /// Its name, or its external id where it has none.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.name.trim().is_empty() {
            &self.external_id
        } else {
            &self.name
        }
    }
}

/// All that is known of one token.
#[derive(Debug, Clone, Serialize)]
pub struct TokenDetail {
    /// The token, its findings in full.
    #[serde(flatten)]
    pub token: TokenRow<FindingRow>,
    /// Its notices.
    pub notices: Vec<NoticeRow>,
    /// Its page at its source; shown to people only.
    #[serde(skip)]
    pub page: Option<String>,
    /// The administrators of its account whom its source tells of; shown to people only.
    #[serde(skip)]
    pub admins: Vec<Address>,
}

/// A step of one token's present expiry; shown to people only.
#[derive(Debug, Clone, Serialize)]
pub struct StepRow {
    /// How long before the expiry.
    #[serde(serialize_with = "as_text")]
    pub step: Step,
    /// When it is, or was, due.
    pub at: Instant,
    /// What became of it: `sent to 2`, `skipped: wider than the token's life`, `to come`.
    pub outcome: String,
}

/// A notice.
#[derive(Debug, Clone, Serialize)]
pub struct NoticeRow {
    /// Hash of its key.
    pub id: Uuid,
    /// The token it is about, if it is about one.
    pub token_id: Option<TokenId>,
    /// What people call that token.
    pub token_name: Option<String>,
    /// What it is about: `expiry`, the kind of a finding, …
    pub topic: String,
    /// For expiry, the step.
    #[serde(serialize_with = "as_optional_text")]
    pub step: Option<Step>,
    /// Who is owed it.
    pub recipient: Address,
    /// How it is sent.
    pub channel: String,
    /// What has become of it.
    pub state: NoticeState,
    /// When it is to go.
    pub send_at: Instant,
    /// When it was planned.
    pub planned_at: Instant,
    /// When the server took it.
    pub sent_at: Option<Instant>,
    /// How often it was tried.
    pub attempts: u32,
    /// The Message-ID of its mail.
    pub message_id: Option<String>,
    /// Why it is in this state, where that needs words.
    pub reason: Option<String>,
}

/// A finding.
#[derive(Debug, Clone, Serialize)]
pub struct FindingRow {
    /// Its id.
    pub id: Uuid,
    /// The token; null where it is about a source.
    pub token_id: Option<TokenId>,
    /// What people call that token, or the source.
    pub token_name: String,
    /// What is wrong.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// Since when.
    pub since: Instant,
    /// On what evidence, in words.
    pub evidence: String,
    /// What has become of it.
    pub state: FindingState,
    /// When its token is to be ended by the policy; null where it is not.
    pub revoke_at: Option<Instant>,
}

/// A person's status at one directory.
#[derive(Debug, Clone, Serialize)]
pub struct IdentityRow {
    /// The person's mailbox.
    pub email: Address,
    /// The name of the directory.
    pub directory: String,
    /// What is believed.
    pub status: IdentityStatus,
    /// Why it is unknown, or how access was lost.
    pub reason: Option<String>,
    /// The directory's own words, for what it last said clearly.
    pub evidence: Option<String>,
    /// When it said so.
    pub observed_at: Option<Instant>,
    /// Since when that holds.
    pub since: Option<Instant>,
    /// How many working tokens this person has issued.
    pub tokens: u64,
    /// What it last said clearly.
    pub known_status: IdentityStatus,
    /// A loss that awaits its confirmation, or that an operator refused.
    pub candidate: Option<IdentityStatus>,
    /// Since when it does.
    pub candidate_since: Option<Instant>,
    /// In whose words.
    pub candidate_evidence: Option<String>,
}

/// What counts where directories differ.
#[derive(Debug, Clone, Serialize)]
pub struct WorstStatus {
    /// The name of the directory.
    pub directory: String,
    /// What is believed.
    pub status: IdentityStatus,
    /// Why it is unknown, or how access was lost.
    pub reason: Option<String>,
    /// The directory's own words.
    pub evidence: Option<String>,
    /// When it said so.
    pub observed_at: Option<Instant>,
    /// Since when that holds.
    pub since: Option<Instant>,
}

impl WorstStatus {
    /// A loss goes before access, and access before not knowing.
    #[must_use]
    pub fn of(rows: &[IdentityRow]) -> Option<Self> {
        let rank = |row: &&IdentityRow| match row.status {
            status if status.is_lost() => 0,
            IdentityStatus::Active => 1,
            _ => 2,
        };
        rows.iter().min_by_key(rank).map(|row| Self {
            directory: row.directory.clone(),
            status: row.status,
            reason: row.reason.clone(),
            evidence: row.evidence.clone(),
            observed_at: row.observed_at,
            since: row.since,
        })
    }
}

/// All that is known of one person.
#[derive(Debug, Clone, Serialize)]
pub struct IdentityDetail {
    /// The person's mailbox.
    pub email: Address,
    /// Their name, as a directory gives it.
    pub name: Option<String>,
    /// How the person is looked upon as an issuer.
    pub mode: IssuerMode,
    /// The address by which directories know them.
    pub address: String,
    /// The worst that any directory says.
    #[serde(flatten)]
    pub worst: Option<WorstStatus>,
    /// What each directory says.
    pub directories: Vec<IdentityRow>,
    /// The tokens the person has issued, whatever became of them.
    pub tokens: Vec<TokenRow>,
    /// For each of `directories`, when a loss that awaits its confirmation is believed; shown to people only.
    #[serde(skip)]
    pub believed: Vec<Option<String>>,
}

/// How many issuers of working tokens are of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct CoverageRow {
    /// `active`, `lost`, `unknown`, `not_covered`; `no_issuer` counts tokens.
    pub cover: &'static str,
    /// Why they are unknown or not covered.
    pub reason: Option<&'static str>,
    /// How many.
    pub count: u64,
    /// What lists them.
    pub command: String,
}

/// An issuer of working tokens.
#[derive(Debug, Clone, Serialize)]
pub struct CoveredRow {
    /// The issuer's address as it is compared.
    pub email: String,
    /// `active`, `lost`, `unknown`, `not_covered`.
    pub cover: &'static str,
    /// Why they are unknown or not covered.
    pub reason: Option<&'static str>,
}

/// A directory.
#[derive(Debug, Clone, Serialize)]
pub struct DirectoryRow {
    /// Its name.
    pub name: String,
    /// Of what kind it is.
    pub kind: String,
    /// How many people it last told of, where it told of everybody; else how many are known from it.
    pub people: u64,
    /// When it was last read well.
    pub observed_at: Option<Instant>,
    /// What waits for an operator, if something does.
    pub held: Option<String>,
    /// Why the last reading failed, if it did.
    pub error: Option<String>,
    /// `ok`, `held`, `failing` or `never`.
    pub state: &'static str,
    /// Whether its word holds.
    pub fresh: bool,
    /// Up to when it does, unless it is read again.
    pub fresh_until: Option<Instant>,
    /// Since when readings fail.
    pub failing_since: Option<Instant>,
    /// Until when it asked to be left alone.
    pub deferred_until: Option<Instant>,
    /// When the daemon asks it next; shown to people only.
    #[serde(skip)]
    pub next: Option<Instant>,
}

/// What a sync would believe of one person.
#[derive(Debug, Clone, Serialize)]
pub struct TurnRow {
    /// `new`, `changed`, `held` or `forgotten`.
    pub change: &'static str,
    /// The person's address.
    pub email: String,
    /// What was believed before.
    pub before: Option<IdentityStatus>,
    /// What would be.
    pub after: Option<IdentityStatus>,
    /// Why it would be unknown, or how access was lost.
    pub reason: Option<String>,
    /// On what evidence.
    pub evidence: Option<String>,
}

/// A source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// Of what kind it is.
    pub kind: String,
    /// When it was last asked.
    pub last_sync_at: Option<Instant>,
    /// When it was last listed well.
    pub last_good_sync_at: Option<Instant>,
    /// How many tokens the last good listing held, or are known where none was whole.
    pub tokens: u64,
    /// `ok`, `failing` or `never`.
    pub state: &'static str,
    /// Why the last sync failed, or what was wrong with what it brought.
    pub error: Option<String>,
    /// Until when it asked to be left alone.
    pub deferred_until: Option<Instant>,
    /// When the daemon asks it next; shown to people only.
    #[serde(skip)]
    pub next: Option<Instant>,
}

/// What a sync would do to one token.
#[derive(Debug, Clone, Serialize)]
pub struct DifferenceRow {
    /// `new`, `changed` or `gone`.
    pub change: &'static str,
    /// The token's id.
    pub id: TokenId,
    /// What the source calls it.
    pub external_id: String,
    /// What people call it.
    pub name: String,
    /// Its issuer, as it would be.
    pub issuer: Option<Address>,
    /// What it would be.
    pub status: Status,
    /// When it would end, if that is known and ever.
    pub expires_at: Option<Instant>,
    /// Which facts would change.
    pub fields: Vec<&'static str>,
}

/// An entry of the audit trail.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRow {
    /// When.
    pub at: Instant,
    /// Who.
    pub actor: String,
    /// What: `token.revoke`.
    pub action: String,
    /// To what.
    pub subject: String,
    /// Why, or what came of it.
    pub reason: Option<String>,
}

/// A warning that will be sent if nothing changes; or, for a token of which nobody will be warned
/// any more, its expiry.
#[derive(Debug, Clone, Serialize)]
pub struct ForecastRow {
    /// When it will go, or when the token expires.
    pub at: Instant,
    /// The token.
    pub token_id: TokenId,
    /// What people call it.
    pub token_name: String,
    /// The name of the source.
    pub source: String,
    /// When it ends.
    pub expires_at: Instant,
    /// The step; none where this is the expiry itself.
    #[serde(serialize_with = "as_optional_text")]
    pub step: Option<Step>,
    /// Who will be told.
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
