//! One token in words: what it is, and what its last use means.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    domain::{Expiry, Token},
    notify::{letter::Letter, plain, wording},
};

/// Which token.
#[derive(Serialize)]
pub(super) struct TokenFacts {
    /// Its name, or its external id where it has none.
    pub name: String,
    /// The same, for a subject.
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
    pub fn of(token: &Token, letter: &Letter) -> Self {
        let text = |text: &Option<String>| {
            let shown = plain::isolated(plain::line(text.as_deref()?, plain::TEXT));
            (!shown.is_empty()).then_some(shown)
        };
        Self {
            name: plain::label(&token.name, &token.external_id, plain::NAME),
            short_name: short_name(token),
            source: plain::line(&token.source, plain::NAME),
            account: text(&token.account),
            role: text(&token.role),
            scope: text(&token.scope),
            description: text(&token.description),
            issuer: issuer(token),
            id: token.id.to_string(),
            expiry: match token.expiry {
                Expiry::Never => "never".to_owned(),
                Expiry::Unknown => "unknown".to_owned(),
                Expiry::At(at) => wording::exact(at, letter.zone),
            },
        }
    }
}

/// A name for a subject.
pub(super) fn short_name(token: &Token) -> String {
    plain::label(&token.name, &token.external_id, plain::NAME_IN_SUBJECT)
}

fn issuer(token: &Token) -> Option<String> {
    let address = plain::line(token.issuer.as_ref()?.as_str(), 254);
    let name = token.issuer_name.as_deref().unwrap_or_default();
    let name = plain::isolated(plain::line(name, plain::NAME_IN_SUBJECT));
    Some(if name.is_empty() || name.contains('@') {
        address
    } else {
        format!("{name} <{address}>")
    })
}

/// What is going on with a token, for what its last use means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    Expiring,
    Expired,
    Revoked,
    /// Past or near a date that only our policy gives it: it does not end by itself.
    Overdue,
}

/// The last use of a token, and what it means.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Use {
    /// Whether anything is known of it.
    pub known: bool,
    /// `4 minutes ago`, `never`, `not told by its source`.
    pub when: String,
    /// `used 4 minutes ago: replace it now`, `never used: let it lapse`.
    pub phrase: String,
    /// `used 4m ago`, for long lists; empty where nothing is known.
    pub short: String,
}

impl Use {
    pub fn of(token: &Token, told: bool, now: DateTime<Utc>, situation: Situation) -> Self {
        const DAY: i64 = 86_400;
        let Some(used_at) = token.last_used_at else {
            return if told {
                Self::never(situation)
            } else {
                Self::unknown()
            };
        };
        let age = now - used_at;
        let ago = wording::ago(age);
        let (verb, advice) = match (age.num_seconds(), situation) {
            (..172_800, Situation::Revoked) => ("used", "find out by whom"),
            (..172_800, _) => ("used", "replace it now"),
            (..2_592_000, Situation::Expiring | Situation::Overdue) => {
                ("last used", "replace it in time")
            }
            (..2_592_000, Situation::Expired) => ("last used", "replace it"),
            (..2_592_000, Situation::Revoked) => ("last used", "find out by whom"),
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

    fn never(situation: Situation) -> Self {
        let advice = match situation {
            Situation::Expiring => "let it lapse",
            Situation::Expired => "nothing should miss it",
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
            when: "not told by its source".to_owned(),
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
    #[case(Some(60), Situation::Revoked, "used 1 hour ago: find out by whom")]
    #[case(Some(-10), Situation::Expired, "used just now: replace it now")]
    #[case(None, Situation::Expiring, "never used: let it lapse")]
    #[case(None, Situation::Revoked, "never used: revoke it now")]
    #[case(None, Situation::Overdue, "never used: delete it")]
    #[case(Some(3 * 1_440), Situation::Overdue, "last used 3 days ago: replace it in time")]
    fn the_last_use_says_what_it_means(
        #[case] minutes: Option<i64>,
        #[case] situation: Situation,
        #[case] said: &str,
    ) {
        let now = sample::now();
        let mut token = sample::token("ci-deploy");
        token.last_used_at = minutes.map(|minutes| now - TimeDelta::minutes(minutes));
        assert_eq!(Use::of(&token, true, now, situation).phrase, said);
    }

    #[test]
    fn a_source_that_does_not_tell_of_use_says_neither_used_nor_unused() {
        let mut token = sample::token("ci-deploy");
        token.last_used_at = None;
        let last_use = Use::of(&token, false, sample::now(), Situation::Expiring);
        assert!(!last_use.known);
        assert!(!last_use.phrase.contains("never"));
    }
}
