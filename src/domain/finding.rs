//! Findings: something that is wrong with a token, or with what its source allows. The rules here judge
//! a token by its own facts; findings of lost access come from the directories.

use chrono::{DateTime, TimeDelta, Utc};

use super::string_enum::string_enum;
use super::{Expiry, ExpiryOrigin, IdentityStatus, Reason, Status, Token, column};
use crate::time::shift;

/// Sources round, so a life may exceed `max_ttl` by this much.
const ROUNDING: TimeDelta = TimeDelta::seconds(60);

string_enum! {
    FindingKind {
        /// The issuer lost access at a directory; the token still works.
        SsoRevoked = "sso_revoked",
        /// The issuer no longer exists at the source.
        Orphaned = "orphaned",
        /// The token has no expiry, or outlived the one that our policy set.
        NeverExpires = "never_expires",
        TooLong = "too_long",
        Unused = "unused",
        /// A source allows tokens without an expiry, or with a life longer than `max_ttl`.
        SourceAllowsUnlimited = "source_allows_unlimited",
        /// A sync has read the source, and it is no longer configured.
        Unconfigured = "unconfigured",
        /// Live replicas have different configurations.
        ReplicaDrift = "replica_drift",
        /// The source reports something about the token that cannot be read.
        Unreadable = "unreadable",
        /// Most tokens of a source have no known expiry, or the one that our policy set for such a token has passed.
        UnknownExpiry = "unknown_expiry",
        /// The secret before the last regeneration is still used and ends soon.
        OldSecretInUse = "old_secret_in_use",
        /// A token of the service is used from a network that did not use it before.
        NewPlace = "new_place",
    }
}

string_enum! {
    Severity {
        Medium = "medium",
        High = "high",
        Critical = "critical",
    }
}

/// A role whose name contains one of these words is an administrator's.
const ADMIN_WORDS: &[&str] = &[
    "admin",
    "admins",
    "administrator",
    "administrators",
    "owner",
    "root",
    "super",
    "superadmin",
    "superuser",
    "sysadmin",
];

impl Severity {
    /// The severity for a token with this role: one level higher for an administrator's role.
    pub fn of_token(role: Option<&str>, usual: Self) -> Self {
        let role = role.unwrap_or_default().to_lowercase();
        let is_admin = role
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| ADMIN_WORDS.contains(&word));
        match usual {
            Self::Medium if is_admin => Self::High,
            Self::High if is_admin => Self::Critical,
            Self::Medium | Self::High | Self::Critical => usual,
        }
    }

    /// The severity of a working token whose issuer lost access in this way. A suspended person may be on leave,
    /// and a person in another group may still work for us.
    pub fn of_loss(status: IdentityStatus, reason: Option<Reason>, role: Option<&str>) -> Self {
        let usual = match (status, reason) {
            (IdentityStatus::Disabled, Some(Reason::Suspended | Reason::Expired)) => Self::Medium,
            (IdentityStatus::Disabled | IdentityStatus::Deleted, _) => Self::High,
            _ => Self::Medium,
        };
        Self::of_token(role, usual)
    }
}

string_enum! {
    FindingState {
        Open = "open",
        /// It still applies, and a person accepted it for a time.
        Acknowledged = "acknowledged",
        Resolved = "resolved",
    }
}

/// The rules that tokens should follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// The longest allowed life of a token; `None` allows any.
    pub max_ttl: Option<TimeDelta>,
    /// How long a token may be unused; `None` allows any time.
    pub unused_after: Option<TimeDelta>,
    /// Whether a use from a new network is a finding.
    pub new_place: bool,
}

/// What is wrong with a token or a source by the rules, before it is stored as a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFinding {
    pub kind: FindingKind,
    pub severity: Severity,
    pub since: Option<DateTime<Utc>>,
    /// A text that stays the same while the finding lasts.
    pub evidence: String,
}

/// The findings of a token at one instant, and when they change by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// At most one of each kind.
    pub findings: Vec<RuleFinding>,
    /// What they would follow from cannot be read now: these findings neither open nor resolve.
    pub undecided: Vec<FindingKind>,
    /// The first instant at which the findings change although no fact has changed.
    pub next_at: Option<DateTime<Utc>>,
}

/// Since when a rule is broken, and the evidence.
type Cause = (Option<DateTime<Utc>>, String);

impl Rules {
    /// A text that changes when the rules do.
    pub fn fingerprint(&self) -> String {
        let Self {
            max_ttl,
            unused_after,
            // No token is judged by it.
            new_place: _,
        } = self;
        let seconds = |span: &Option<TimeDelta>| span.map(|span| span.num_seconds());
        format!("1|{:?}|{:?}", seconds(max_ttl), seconds(unused_after))
    }

    pub fn judge(&self, token: &Token, now: DateTime<Utc>) -> Judgement {
        let findings = self.findings(token, now);
        // Time alone changes the findings only at these two instants.
        let mut instants = [token.expiry.at(), self.unused_at(token)];
        instants.sort_unstable();
        let next_at = instants
            .into_iter()
            .flatten()
            .find(|at| *at > now && self.findings(token, *at) != findings);
        Judgement {
            findings,
            undecided: undecided(token),
            next_at,
        }
    }

    /// What is wrong with a token at `now`; empty if it does not work.
    pub fn findings(&self, token: &Token, now: DateTime<Utc>) -> Vec<RuleFinding> {
        if !is_working(token, now) {
            return Vec::new();
        }
        let orphaned = token.issuer_gone.clone().map(|evidence| (None, evidence));
        let (no_expiry, cause) = without_expiry(token, now);
        let causes = [
            (FindingKind::Orphaned, orphaned),
            (no_expiry, cause),
            (FindingKind::TooLong, self.too_long(token)),
            (FindingKind::Unused, self.unused(token, now)),
            (FindingKind::Unreadable, unreadable(token)),
        ];
        let undecided = undecided(token);
        let finding = |(kind, cause): (FindingKind, Option<Cause>)| {
            let (since, evidence) = cause.filter(|_| !undecided.contains(&kind))?;
            let usual = match kind {
                FindingKind::Orphaned => Severity::High,
                _ => Severity::Medium,
            };
            Some(RuleFinding {
                kind,
                severity: Severity::of_token(token.role.as_deref(), usual),
                since,
                evidence,
            })
        };
        causes.into_iter().filter_map(finding).collect()
    }

    /// When a changed token must be judged next: at once if its findings differ from those of the `known` token,
    /// or else when time alone changes them.
    ///
    /// An earlier `judge_at` is kept, even if it is now too early: updating it with each use of the token would
    /// cost more than a judgement without a result.
    pub fn next_judge_at(
        &self,
        known: Option<&Token>,
        token: &Token,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let scheduled = known.and_then(|known| known.judge_at);
        if scheduled.is_some_and(|at| at <= now) {
            return scheduled;
        }
        let before = known.map(|known| self.findings(known, now));
        let Judgement {
            findings, next_at, ..
        } = self.judge(token, now);
        if findings != before.unwrap_or_default() {
            return Some(now);
        }
        [scheduled, next_at].into_iter().flatten().min()
    }

    /// The finding about a source whose tokens may live as long as `longest`; `None` is without limit.
    pub fn source_finding(
        &self,
        longest: Option<TimeDelta>,
        evidence: &str,
    ) -> Option<RuleFinding> {
        let excess = match (longest, self.max_ttl) {
            (None, _) => "tokens may live without an expiry".to_owned(),
            (Some(life), Some(max)) if life > max => {
                let (life, max) = (format_span(life), format_span(max));
                format!("tokens may live {life}, max_ttl is {max}")
            }
            (Some(_), _) => return None,
        };
        Some(RuleFinding {
            kind: FindingKind::SourceAllowsUnlimited,
            severity: Severity::Medium,
            since: None,
            evidence: format!("{evidence}: {excess}"),
        })
    }

    fn too_long(&self, token: &Token) -> Option<Cause> {
        let (max, ends_at) = (self.max_ttl?, token.expiry.at()?);
        // A token without a creation time is at least as old as our knowledge of it.
        let from = token.life_from.unwrap_or(token.first_seen_at);
        let life = ends_at - from;
        // An expiry that our policy set is intended, whatever `max_ttl` is.
        if token.expiry_origin == Some(ExpiryOrigin::Policy) || life <= max + ROUNDING {
            return None;
        }
        let (life, max) = (format_span(life), format_span(max));
        let last = token.expiry_day.map(|day| day.to_string());
        let (first, last) = (
            format_day(from),
            last.unwrap_or_else(|| format_day(ends_at)),
        );
        let evidence = format!("it lives {life} from {first} to {last}; max_ttl is {max}");
        Some((Some(from), evidence))
    }

    fn unused(&self, token: &Token, now: DateTime<Utc>) -> Option<Cause> {
        let since = self.unused_at(token).filter(|at| *at <= now)?;
        let last_use = match (token.last_used_at, token.created_at) {
            (Some(used_at), created_at) if created_at.is_none_or(|at| at <= used_at) => {
                format!("last used on {}", format_day(used_at))
            }
            (_, Some(created_at)) => {
                format!(
                    "never used since it was created on {}",
                    format_day(created_at)
                )
            }
            (_, None) => {
                let seen_on = format_day(token.first_seen_at);
                format!("never used since it was first seen on {seen_on}")
            }
        };
        let allowed = format_span(self.unused_after?);
        Some((
            Some(since),
            format!("{last_use}; unused_after is {allowed}"),
        ))
    }

    /// When the token has been unused for too long; `None` if its source does not report use.
    fn unused_at(&self, token: &Token) -> Option<DateTime<Utc>> {
        let allowed = self.unused_after.filter(|_| token.reports_use)?;
        // A token that was created again under its old id may still show the previous last use.
        let from = token.last_used_at.max(token.created_at);
        Some(shift(from.unwrap_or(token.first_seen_at), allowed))
    }
}

/// Whether the token works at its source, which does not know the expiry that our policy set.
fn is_working(token: &Token, now: DateTime<Utc>) -> bool {
    match token.status_at(now) {
        Status::Active => true,
        Status::Expired => token.expiry_origin == Some(ExpiryOrigin::Policy),
        Status::Disabled | Status::Revoked | Status::Gone => false,
    }
}

/// What is wrong with a token without an expiry. Until an expiry that our policy set, that is nothing. After it, the
/// token still works.
fn without_expiry(token: &Token, now: DateTime<Utc>) -> (FindingKind, Option<Cause>) {
    let (kind, reported) = match token.reported_expiry() {
        Expiry::Unknown => (FindingKind::UnknownExpiry, "its source reports no expiry"),
        Expiry::Never | Expiry::At(_) => {
            (FindingKind::NeverExpires, "it has no expiry at its source")
        }
    };
    let cause = match (token.expiry, token.expiry_origin) {
        (Expiry::Never, _) => {
            let created_at = token.created_at.unwrap_or(token.first_seen_at);
            let since = created_at.min(token.first_seen_at);
            Some((Some(since), reported.to_owned()))
        }
        (Expiry::At(at), Some(ExpiryOrigin::Policy)) if at <= now => {
            let day = format_day(at);
            let evidence = format!("{reported}, and the one that policy_ttl set has passed: {day}");
            Some((Some(at), evidence))
        }
        (Expiry::At(_) | Expiry::Unknown, _) => None,
    };
    (kind, cause)
}

fn unreadable(token: &Token) -> Option<Cause> {
    let cells = token.unreadable.iter();
    let cells: Vec<_> = cells
        .map(|(column, reason)| format!("{column} {reason}"))
        .collect();
    (!cells.is_empty()).then(|| (None, cells.join("; and ")))
}

/// The findings that follow from cells of the token which cannot be read now.
fn undecided(token: &Token) -> Vec<FindingKind> {
    let of_column = |name: &String| match name.as_str() {
        column::EXPIRES_AT => &[
            FindingKind::NeverExpires,
            FindingKind::TooLong,
            FindingKind::UnknownExpiry,
        ][..],
        column::CREATED_AT => &[FindingKind::TooLong, FindingKind::Unused],
        column::LAST_USED_AT => &[FindingKind::Unused],
        column::ISSUER | column::ISSUER_GONE => &[FindingKind::Orphaned],
        _ => &[],
    };
    token
        .unreadable
        .keys()
        .flat_map(of_column)
        .copied()
        .collect()
}

/// The finding about a source most of whose active tokens have no known expiry.
pub fn unknown_expiries(active: i64, unknown: i64) -> Option<RuleFinding> {
    (unknown * 2 > active).then(|| RuleFinding {
        kind: FindingKind::UnknownExpiry,
        severity: Severity::Medium,
        since: None,
        evidence: format!(
            "{unknown} of {active} active tokens have no known expiry, so no one is warned about them"
        ),
    })
}

fn format_day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// A span as in the configuration: `90d`, below two days `36h`, cut to whole units.
fn format_span(span: TimeDelta) -> String {
    match span.num_minutes() {
        minutes @ ..180 => format!("{minutes}m"),
        180..2_880 => format!("{}h", span.num_hours()),
        _ if span.num_hours() % 24 == 0 => format!("{}d", span.num_days()),
        _ => format!("{}d {}h", span.num_days(), span.num_hours() % 24),
    }
}
