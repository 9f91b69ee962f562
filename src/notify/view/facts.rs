//! Describes one token and what its last use means.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::{Expiry, Token};
use crate::notify::letter::Letter;
use crate::notify::wording;
use crate::text;

#[derive(Serialize)]
pub(super) struct TokenFacts {
    /// The name, or the external id if there is none.
    pub name: String,
    /// Shorter, for the subject.
    pub short_name: String,
    pub source: String,
    pub account: Option<String>,
    pub role: Option<String>,
    pub scope: Option<String>,
    pub description: Option<String>,
    /// `Ada Lovelace <ada@example.org>`.
    pub issuer: Option<String>,
    pub id: String,
    /// `Sat 28 Nov 2026 at 09:00 UTC`, `never` or `unknown`.
    pub expiry: String,
}

impl TokenFacts {
    pub fn new(token: &Token, letter: &Letter) -> Self {
        let text = |text: &Option<String>| {
            let shown = text::isolated_line(text.as_deref()?, text::MAX_TEXT);
            (!shown.is_empty()).then_some(shown)
        };
        Self {
            name: text::display_name(&token.name, &token.external_id, text::MAX_NAME),
            short_name: short_name(token),
            source: text::one_line(&token.source, text::MAX_NAME),
            account: text(&token.account),
            role: text(&token.role),
            scope: text(&token.scope),
            description: text(&token.description),
            issuer: format_issuer(token),
            id: token.id.to_string(),
            expiry: match token.expiry {
                Expiry::Never => "never".to_owned(),
                Expiry::Unknown => "unknown".to_owned(),
                Expiry::At(at) => wording::date_time(at, letter.zone),
            },
        }
    }
}

pub(super) fn short_name(token: &Token) -> String {
    text::display_name(&token.name, &token.external_id, text::MAX_SUBJECT_NAME)
}

fn format_issuer(token: &Token) -> Option<String> {
    let address = text::one_line(token.issuer.as_ref()?.as_str(), 254);
    let name = token.issuer_name.as_deref().unwrap_or_default();
    let name = text::isolated_line(name, text::MAX_SUBJECT_NAME);
    Some(if name.is_empty() || name.contains('@') {
        address
    } else {
        format!("{name} <{address}>")
    })
}

/// Decides the advice about the last use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    Expiring,
    Expired,
    Revoked,
    /// At a date of the policy; the token does not expire by itself.
    Overdue,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct LastUse {
    /// Whether the source reports it.
    pub known: bool,
    /// `4 minutes ago`, `never`, `not reported by its source`.
    pub when: String,
    /// `used 4 minutes ago: replace it now`, `never used: let it expire`.
    pub phrase: String,
    /// `used 4m ago`, for long lists; empty if unknown.
    pub short: String,
}

impl LastUse {
    pub fn new(token: &Token, now: DateTime<Utc>, situation: Situation) -> Self {
        const DAY: i64 = 86_400;
        let Some(used_at) = token.last_used_at else {
            return if token.reports_use {
                Self::never_used(situation)
            } else {
                Self::unknown()
            };
        };
        let age = now - used_at;
        let ago = wording::ago(age);
        let (verb, advice) = match (age.num_seconds(), situation) {
            (..172_800, Situation::Revoked) => ("used", "find out who uses it"),
            (..172_800, _) => ("used", "replace it now"),
            (..2_592_000, Situation::Expiring | Situation::Overdue) => {
                ("last used", "replace it in time")
            }
            (..2_592_000, Situation::Expired) => ("last used", "replace it"),
            (..2_592_000, Situation::Revoked) => ("last used", "find out who uses it"),
            (..7_776_000, _) => ("last used", "ask whether it is still needed"),
            (_, _) => ("last used", "probably no longer needed"),
        };
        let seconds = age.num_seconds().max(0);
        let short = match seconds {
            0..3_600 => format!("used {}m ago", seconds / 60),
            3_600..172_800 => format!("used {}h ago", seconds / 3_600),
            _ => format!("used {}d ago", seconds / DAY),
        };
        Self {
            known: true,
            phrase: format!("{verb} {ago}: {advice}"),
            when: ago,
            short,
        }
    }

    fn never_used(situation: Situation) -> Self {
        let advice = match situation {
            Situation::Expiring => "let it expire",
            Situation::Expired => "nothing needs it",
            Situation::Revoked => "revoke it now",
            Situation::Overdue => "delete it",
        };
        Self {
            known: true,
            when: "never".to_owned(),
            phrase: format!("never used: {advice}"),
            short: "unused".to_owned(),
        }
    }

    fn unknown() -> Self {
        Self {
            known: false,
            when: "not reported by its source".to_owned(),
            phrase: String::new(),
            short: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rstest::rstest;

    use super::*;
    use crate::notify::sample;

    #[rstest]
    #[case(Some(4), Situation::Expiring, "used 4 minutes ago: replace it now")]
    #[case(Some(3 * 1_440), Situation::Expiring, "last used 3 days ago: replace it in time")]
    #[case(Some(45 * 1_440), Situation::Expiring, "last used 6 weeks ago: ask whether it is still needed")]
    #[case(Some(150 * 1_440), Situation::Expiring, "last used 5 months ago: probably no longer needed")]
    #[case(Some(60), Situation::Revoked, "used 1 hour ago: find out who uses it")]
    #[case(Some(-10), Situation::Expired, "used just now: replace it now")]
    #[case(None, Situation::Expiring, "never used: let it expire")]
    #[case(None, Situation::Revoked, "never used: revoke it now")]
    #[case(None, Situation::Overdue, "never used: delete it")]
    #[case(Some(3 * 1_440), Situation::Overdue, "last used 3 days ago: replace it in time")]
    fn the_last_use_comes_with_advice(
        #[case] minutes: Option<i64>,
        #[case] situation: Situation,
        #[case] expected: &str,
    ) {
        let now = sample::now();
        let mut token = sample::token("ci-deploy");
        token.last_used_at = minutes.map(|minutes| now - TimeDelta::minutes(minutes));
        assert_eq!(LastUse::new(&token, now, situation).phrase, expected);
    }

    #[test]
    fn a_token_is_not_called_unused_if_its_source_does_not_report_use() {
        let mut token = sample::token("ci-deploy");
        token.last_used_at = None;
        token.reports_use = false;
        let last_use = LastUse::new(&token, sample::now(), Situation::Expiring);
        assert!(!last_use.known);
        assert!(!last_use.phrase.contains("never"));
    }
}
