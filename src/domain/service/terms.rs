//! The policy of the token service, and the expiry that a token gets by it.

mod profile;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Credential, Kind, Lifetime, Problem, ProblemKind, Roles};
use crate::domain::string_enum::string_enum;
use crate::time::{format_span, shift};

pub use profile::Profile;

/// The largest limit of tokens of an account or a user.
pub const MAX_TOKEN_LIMIT: u64 = 1_000_000_000;
/// From here on an expiry counts as never, as it does at every source.
const NEVER_FROM: DateTime<Utc> =
    DateTime::from_timestamp(7_258_118_400, 0).expect("the year 2200");

string_enum! {
    /// Who may issue tokens with a token of their own.
    WhoIssues {
        Everyone = "everyone",
        /// Of the account.
        Administrators = "administrators",
        /// Super admins, who alone see and manage tokens then.
        Super = "super",
    }
}

/// The policy for tokens that lapsed issues. It binds new tokens and new secrets; nothing that exists is shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// `[a-z0-9]{1,16}`
    pub prefix: String,
    /// Further request headers that carry a whole token, in lower case.
    pub headers: Vec<String>,
    pub roles: Roles,
    /// `None`: as long as a caller asks for.
    pub max_ttl: Option<TimeDelta>,
    /// Of tokens that no one chose a life for; `None` is never, which `allow_never` permits then.
    pub default_ttl: Option<TimeDelta>,
    pub allow_never: bool,
    /// The lives that forms offer, shortest first.
    pub presets: Vec<TimeDelta>,
    /// Tokens at a time in an account without a limit of its own; 0: no limit.
    pub per_account: u64,
    /// 0: no limit.
    pub per_user: u64,
    pub issuers: WhoIssues,
    /// How long a replaced secret works beside the new one.
    pub overlap: TimeDelta,
    pub access_ttl: TimeDelta,
    pub refresh_ttl: TimeDelta,
    pub session_ttl: TimeDelta,
    /// Whether the tokens of people who lost access at a directory stop.
    pub follow_directories: bool,
    pub leak_reports: bool,
    /// Whose leak reports are answered with a verdict.
    pub leak_keys: Vec<LeakKey>,
    pub kinds: Vec<KindTerms>,
    pub scopes: Vec<ScopeInfo>,
}

/// A public key (ECDSA, P-256) of a scanner that reports leaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeakKey {
    /// As the scanner names it.
    pub id: String,
    /// Uncompressed.
    pub point: Vec<u8>,
}

/// A kind of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindTerms {
    pub name: String,
    /// The default and the longest life of its tokens; `None` is never, beside which a life may be chosen.
    pub ttl: Option<TimeDelta>,
    /// Whether new tokens of this kind may be issued.
    pub can_issue: bool,
}

/// A scope that forms offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeInfo {
    pub name: String,
    pub description: Option<String>,
}

/// How long tokens of one kind may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// `None` is never.
    pub default: Option<TimeDelta>,
    /// `None`: no limit.
    pub max: Option<TimeDelta>,
    pub allows_never: bool,
}

impl Terms {
    /// The prefix of a new token with the letter of its kind.
    pub fn head(&self, kind: &Kind) -> String {
        format!("{}{}", self.prefix, kind.letter())
    }

    /// How long tokens of this kind may live; a kind that is no longer configured has the terms of `api`.
    pub fn life(&self, kind: &Kind) -> Life {
        let named = self.kinds.iter().find(|named| named.name == kind.as_str());
        match named.map(|named| named.ttl) {
            Some(Some(ttl)) => Life {
                default: Some(ttl),
                max: Some(ttl),
                allows_never: false,
            },
            Some(None) => Life {
                default: None,
                max: self.max_ttl,
                allows_never: true,
            },
            None => Life {
                default: self.default_ttl,
                max: self.max_ttl,
                allows_never: self.allow_never,
            },
        }
    }

    /// The same for a kind of which a new token is wanted.
    ///
    /// # Errors
    /// If no token of this kind may be issued.
    pub fn kind(&self, kind: &Kind) -> Result<Life, Problem> {
        let name = kind.as_str();
        if kind.is_internal() {
            let detail = format!("tokens of kind {name} are made by lapsed itself");
            return Err(Problem::invalid("/kind", detail).fix(self.kinds_text()));
        }
        match self.kinds.iter().find(|named| named.name == name) {
            Some(named) if !named.can_issue => {
                let detail = format!("no tokens of kind {name} are issued");
                let refused = Problem::new(ProblemKind::Forbidden, detail);
                Err(Problem {
                    pointer: Some("/kind"),
                    ..refused.fix(self.kinds_text())
                })
            }
            None if *kind != Kind::Api => {
                let name: String = name.chars().take(60).collect();
                let detail = format!("there is no kind {name:?}");
                Err(Problem::invalid("/kind", detail).fix(self.kinds_text()))
            }
            _ => Ok(self.life(kind)),
        }
    }

    /// The expiry of a new token, `None` for never. `start` is now, or its `not_before` if that is later.
    ///
    /// # Errors
    /// If the policy forbids it; the problem names the maximum and the latest expiry.
    pub fn expiry(
        &self,
        kind: &Kind,
        lifetime: Lifetime,
        start: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Problem> {
        self.kind(kind)?.expiry(lifetime, start)
    }

    /// The expiry of a regenerated token. Its default is the former length of life.
    ///
    /// # Errors
    /// The same as those of [`Terms::expiry`].
    pub fn regenerated_expiry(
        &self,
        credential: &Credential,
        lifetime: Lifetime,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Problem> {
        let life = self.life(&credential.kind);
        let start = later(now, credential.not_before);
        match lifetime {
            Lifetime::Default => {
                let former_start = later(credential.secret.created_at, credential.not_before);
                let former = credential.expires_at.map(|at| at - former_start);
                life.expiry_after(former, start)
            }
            lifetime => life.expiry(lifetime, start),
        }
    }

    /// A life of the built-in policy, which must not exceed what the operator allows.
    pub fn capped(&self, ttl: Option<TimeDelta>) -> Option<TimeDelta> {
        match (ttl, self.max_ttl) {
            (None, max) if !self.allow_never => max,
            (Some(ttl), Some(max)) => Some(ttl.min(max)),
            _ => ttl,
        }
    }

    fn kinds_text(&self) -> String {
        let can_issue = |kind: &&KindTerms| kind.can_issue;
        let kinds = self.kinds.iter().filter(can_issue);
        let kinds: Vec<&str> = kinds.map(|kind| kind.name.as_str()).collect();
        format!(
            "the kinds are {}",
            [&["api"], kinds.as_slice()].concat().join(", ")
        )
    }
}

impl Life {
    /// The longest life and the latest expiry of a token that works from `start` on.
    pub fn latest(&self, start: DateTime<Utc>) -> Option<(String, DateTime<Utc>)> {
        self.max.map(|max| (format_span(max), shift(start, max)))
    }

    fn expiry(
        &self,
        lifetime: Lifetime,
        start: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Problem> {
        match lifetime {
            Lifetime::Default => self.expiry_after(self.default, start),
            Lifetime::For(ttl) => self.expiry_after(Some(ttl), start),
            Lifetime::Never => self.expiry_after(None, start),
            Lifetime::Until(at) => {
                let asked = format!("a life until {}", text_of(at));
                self.expiry_at(at, start, "/expires_at", &asked)
            }
        }
    }

    fn expiry_after(
        &self,
        ttl: Option<TimeDelta>,
        start: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Problem> {
        match ttl {
            Some(ttl) => {
                let asked = format!("a life of {}", format_span(ttl));
                self.expiry_at(shift(start, ttl), start, "/expires_in", &asked)
            }
            None if self.allows_never => Ok(None),
            None => Err(self.refuse_never("/never", start)),
        }
    }

    /// `asked` is what the caller asked for, in words.
    fn expiry_at(
        &self,
        at: DateTime<Utc>,
        start: DateTime<Utc>,
        pointer: &'static str,
        asked: &str,
    ) -> Result<Option<DateTime<Utc>>, Problem> {
        if at <= start {
            let detail = format!("{asked} ends before the token works");
            let fix = format!("give an expiry after {}", text_of(start));
            return Err(Problem::invalid(pointer, detail).fix(fix));
        }
        if at >= NEVER_FROM {
            let is_allowed = self.allows_never;
            let refusal = || self.refuse_never(pointer, start);
            return is_allowed.then_some(None).ok_or_else(refusal);
        }
        match self.latest(start) {
            Some((max, latest)) if at > latest => {
                let detail = format!("{asked} is longer than the maximum of {max}");
                Err(Problem {
                    latest: Some((max, latest)),
                    ..Problem::invalid(pointer, detail).fix(latest_text(latest))
                })
            }
            _ => Ok(Some(at)),
        }
    }

    fn refuse_never(&self, pointer: &'static str, start: DateTime<Utc>) -> Problem {
        let latest = self.latest(start);
        let (detail, fix) = match &latest {
            Some((max, latest)) => (
                format!("a token that never expires is not allowed; the maximum is {max}"),
                latest_text(*latest),
            ),
            None => (
                "a token that never expires is not allowed, nor one that expires after 2199".into(),
                "give an earlier expiry".into(),
            ),
        };
        Problem {
            latest,
            ..Problem::invalid(pointer, detail).fix(fix)
        }
    }
}

fn later(at: DateTime<Utc>, not_before: Option<DateTime<Utc>>) -> DateTime<Utc> {
    not_before.map_or(at, |not_before| not_before.max(at))
}

fn latest_text(latest: DateTime<Utc>) -> String {
    format!("the latest expiry is {}", text_of(latest))
}

fn text_of(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
