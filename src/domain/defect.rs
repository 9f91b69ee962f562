//! Defects: what is wrong with a token, or with what its source allows, by its own facts and our rules,
//! whatever any directory says.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Expiry, ExpiryOrigin, FindingKind, Severity, Status, Token};

/// How tokens should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// The longest life of a token; `None` is any.
    pub max_ttl: Option<TimeDelta>,
    /// Unused for so long is unused; `None` is never.
    pub unused_after: Option<TimeDelta>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// What.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// Since when; `None` where nobody knows.
    pub since: Option<DateTime<Utc>>,
    /// In words that stay the same while it lasts.
    pub evidence: String,
}

/// What is wrong with a token at one instant, and how long that answer holds by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong, each kind once.
    pub defects: Vec<Defect>,
    /// The first instant at which the answer is another although no fact has changed.
    pub next_at: Option<DateTime<Utc>>,
}

/// Sources round: a life is too long when it is so by more than this.
const ROUNDING: TimeDelta = TimeDelta::seconds(60);

impl Rules {
    /// A text that is another when the rules are.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self {
            max_ttl,
            unused_after,
        } = self;
        let seconds = |span: &Option<TimeDelta>| span.map(|span| span.num_seconds());
        format!("1|{:?}|{:?}", seconds(max_ttl), seconds(unused_after))
    }

    /// What is wrong with a token at `now`, and until when.
    #[must_use]
    pub fn verdict(&self, token: &Token, now: DateTime<Utc>) -> Verdict {
        let defects = self.defects(token, now);
        // Time alone changes the answer at no other instants than these two.
        let mut instants = [token.expiry.at(), self.unused_at(token)];
        instants.sort_unstable();
        let next_at = instants
            .into_iter()
            .flatten()
            .find(|at| *at > now && self.defects(token, *at) != defects);
        Verdict { defects, next_at }
    }

    /// What is wrong with a token at `now`: nothing where it does not work.
    #[must_use]
    pub fn defects(&self, token: &Token, now: DateTime<Utc>) -> Vec<Defect> {
        if !works(token, now) {
            return Vec::new();
        }
        let found = [
            orphaned(token),
            never_expires(token, now),
            self.too_long(token),
            self.unused(token, now),
        ];
        found.into_iter().flatten().collect()
    }

    /// When a token is to be looked at next, now that it is as it is: at once where what was `known` of
    /// it was judged otherwise, else when time alone changes the answer.
    ///
    /// A look that was due stays due, and one that comes too early stays: to move it on with each use
    /// of the token would cost more than to look in vain now and then.
    #[must_use]
    pub fn judge_at(
        &self,
        known: Option<&Token>,
        token: &Token,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let asked = known.and_then(|known| known.judge_at);
        if asked.is_some_and(|at| at <= now) {
            return asked;
        }
        let before = known.map(|known| self.defects(known, now));
        let Verdict { defects, next_at } = self.verdict(token, now);
        if defects != before.unwrap_or_default() {
            return Some(now);
        }
        [asked, next_at].into_iter().flatten().min()
    }

    /// What is wrong with a source that lets tokens live so long; `None` is for ever.
    #[must_use]
    pub fn source_defect(&self, longest: Option<TimeDelta>, evidence: &str) -> Option<Defect> {
        let excess = match (longest, self.max_ttl) {
            (None, _) => "tokens may live for ever".to_owned(),
            (Some(life), Some(most)) if life > most => {
                format!(
                    "tokens may live {}, max_ttl is {}",
                    spell(life),
                    spell(most)
                )
            }
            (Some(_), _) => return None,
        };
        Some(Defect {
            kind: FindingKind::SourceAllowsUnlimited,
            severity: Severity::Medium,
            since: None,
            evidence: format!("{evidence}: {excess}"),
        })
    }

    fn too_long(&self, token: &Token) -> Option<Defect> {
        let most = self.max_ttl?;
        let ends_at = token.expiry.at()?;
        // A date of ours was given on purpose, whatever the longest life is.
        if token.expiry_origin == Some(ExpiryOrigin::Policy) {
            return None;
        }
        // Where nobody knows when it was made, it is at least as old as our knowledge of it.
        let from = token.life_from.unwrap_or(token.first_seen_at);
        let life = ends_at - from;
        (life > most + ROUNDING).then(|| Defect {
            kind: FindingKind::TooLong,
            severity: Severity::of_token(token.role.as_deref(), Severity::Medium),
            since: Some(from),
            evidence: format!(
                "it lives {} from {} to {}; max_ttl is {}",
                spell(life),
                day(from),
                day(ends_at),
                spell(most)
            ),
        })
    }

    fn unused(&self, token: &Token, now: DateTime<Utc>) -> Option<Defect> {
        let since = self.unused_at(token).filter(|at| *at <= now)?;
        let said = match (token.last_used_at, token.created_at) {
            (Some(used_at), made_at) if made_at.is_none_or(|made_at| made_at <= used_at) => {
                format!("last used on {}", day(used_at))
            }
            (_, Some(made_at)) => format!("never used since it was made on {}", day(made_at)),
            (_, None) => format!(
                "never used since it was first seen on {}",
                day(token.first_seen_at)
            ),
        };
        let allowed = spell(self.unused_after?);
        Some(Defect {
            kind: FindingKind::Unused,
            severity: Severity::of_token(token.role.as_deref(), Severity::Medium),
            since: Some(since),
            evidence: format!("{said}; unused_after is {allowed}"),
        })
    }

    /// When the token has been unused for too long, if nobody uses it; `None` where its source does not
    /// tell of use.
    fn unused_at(&self, token: &Token) -> Option<DateTime<Utc>> {
        let allowed = self.unused_after.filter(|_| token.use_told)?;
        // A token made anew under its old id may still show the last use of the one before.
        let from = token.last_used_at.max(token.created_at);
        from.unwrap_or(token.first_seen_at)
            .checked_add_signed(allowed)
    }
}

/// Whether the token works at its source, which knows nothing of a date that our policy gave it.
fn works(token: &Token, now: DateTime<Utc>) -> bool {
    match token.status_at(now) {
        Status::Active => true,
        Status::Expired => token.expiry_origin == Some(ExpiryOrigin::Policy),
        Status::Disabled | Status::Revoked | Status::Gone => false,
    }
}

fn orphaned(token: &Token) -> Option<Defect> {
    let evidence = token.issuer_gone.clone()?;
    Some(Defect {
        kind: FindingKind::Orphaned,
        severity: Severity::of_token(token.role.as_deref(), Severity::High),
        since: None,
        evidence,
    })
}

/// A date that our policy gave the token was given on purpose: until then nothing is wrong. After it the
/// token still works.
fn never_expires(token: &Token, now: DateTime<Utc>) -> Option<Defect> {
    let (since, evidence) = match (token.expiry, token.expiry_origin) {
        (Expiry::Never, _) => (
            token
                .created_at
                .map_or(token.first_seen_at, |at| at.min(token.first_seen_at)),
            "its source never ends it".to_owned(),
        ),
        (Expiry::At(at), Some(ExpiryOrigin::Policy)) if at <= now => (
            at,
            format!(
                "its source never ends it, and the day that policy_ttl gave it has passed: {}",
                day(at)
            ),
        ),
        (Expiry::At(_) | Expiry::Unknown, _) => return None,
    };
    Some(Defect {
        kind: FindingKind::NeverExpires,
        severity: Severity::of_token(token.role.as_deref(), Severity::Medium),
        since: Some(since),
        evidence,
    })
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// A span as people configure it: `90d`, below two days `36h`, with what is over left out.
fn spell(span: TimeDelta) -> String {
    match span.num_minutes() {
        minutes @ ..180 => format!("{minutes}m"),
        180..2_880 => format!("{}h", span.num_hours()),
        _ if span.num_hours() % 24 == 0 => format!("{}d", span.num_days()),
        _ => format!("{}d {}h", span.num_days(), span.num_hours() % 24),
    }
}
