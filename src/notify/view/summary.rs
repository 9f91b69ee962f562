//! All that is open: by kind, the most urgent in full, the rest counted, with what to do about each kind.

use chrono::TimeDelta;
use serde::Serialize;

use crate::{
    domain::FindingKind,
    notify::{
        letter::{Letter, OpenFinding, SummaryEntry},
        plain, wording,
    },
};

/// The most lines of counts to a kind.
const SOURCES: usize = 8;
/// Up to so many findings are listed with their evidence; longer lists have a line each.
const RICH: usize = 25;
/// The longest subject that people read whole.
const SUBJECT: usize = 90;
/// So long an acknowledgement is proposed for.
const PROPOSED: TimeDelta = TimeDelta::days(90);

/// What the template `summary` sees, and `digest` under `findings`.
#[derive(Serialize)]
pub(super) struct Summary {
    /// `12 open findings: 5 never expire, 4 unused`.
    headline: String,
    /// `12 open findings`.
    total: String,
    kinds: Vec<Part>,
    /// The command that accepts one for a time.
    acknowledge_command: String,
    #[serde(skip)]
    pub listed: usize,
}

/// All of one kind.
#[derive(Serialize)]
struct Part {
    /// `Never expire: 5 tokens`.
    title: String,
    /// What it means and what to do about it.
    advice: &'static str,
    /// `rancher 3, exports 2`.
    sources: String,
    groups: Vec<Group>,
    /// `3 more`, where not all are listed.
    more: Option<String>,
    /// The command that shows all of them.
    command: String,
}

/// Those of one source.
#[derive(Serialize)]
struct Group {
    title: String,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// What follows the name on its line.
    tail: String,
    /// What stands under it.
    lines: Vec<String>,
}

/// `12 open findings`.
pub(super) fn total(summary: &SummaryEntry) -> String {
    let count = summary.counts.iter().map(|open| open.count).sum();
    wording::number(count, "open finding")
}

impl Summary {
    pub fn of(summary: &SummaryEntry, letter: &Letter, limit: usize) -> Self {
        let listed = summary.findings.len().min(limit);
        let shown = &summary.findings[..listed];
        let total = total(summary);
        let kinds: Vec<_> = FindingKind::ALL
            .iter()
            .filter(|kind| count(summary, **kind) > 0)
            .collect();
        let counts: Vec<String> = kinds
            .iter()
            .map(|kind| {
                let many = wording::thousands(count(summary, **kind));
                format!("{many} {}", word(**kind))
            })
            .collect();
        let until = (letter.now + PROPOSED).format("%Y-%m-%d");
        Self {
            headline: headline(&total, &counts),
            total,
            kinds: kinds
                .into_iter()
                .map(|kind| Part::of(*kind, summary, shown, letter))
                .collect(),
            acknowledge_command: format!(
                "lapsed finding acknowledge ID --until {until} --reason WHY"
            ),
            listed,
        }
    }
}

/// For a subject, with as many kinds as leave it readable.
fn headline(total: &str, counts: &[String]) -> String {
    let with = |kinds: usize| {
        let others = counts.len() - kinds;
        let mut said = counts[..kinds].to_vec();
        if others > 0 {
            said.push(wording::counted(others, "more kind"));
        }
        format!("{total}: {}", said.join(", "))
    };
    (1..=counts.len())
        .rev()
        .map(with)
        .find(|headline| headline.chars().count() <= SUBJECT)
        .unwrap_or_else(|| total.to_owned())
}

fn count(summary: &SummaryEntry, kind: FindingKind) -> i64 {
    let of_kind = summary.counts.iter().filter(|open| open.kind == kind);
    of_kind.map(|open| open.count).sum()
}

impl Part {
    fn of(
        kind: FindingKind,
        summary: &SummaryEntry,
        shown: &[OpenFinding],
        letter: &Letter,
    ) -> Self {
        let all = count(summary, kind);
        let rich = shown.len() <= RICH;
        let mut groups: Vec<Group> = Vec::new();
        let mut listed = 0;
        for finding in shown.iter().filter(|finding| finding.kind == kind) {
            listed += 1;
            let title = plain::line(&finding.source, plain::NAME);
            let row = row(finding, letter, rich);
            match groups.iter_mut().find(|group| group.title == title) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group {
                    title,
                    rows: vec![row],
                }),
            }
        }
        let noun = match kind {
            FindingKind::SourceAllowsUnlimited => "source",
            FindingKind::SsoRevoked
            | FindingKind::Orphaned
            | FindingKind::NeverExpires
            | FindingKind::TooLong
            | FindingKind::Unused => "token",
        };
        Self {
            title: format!("{}: {}", title(kind), wording::number(all, noun)),
            advice: advice(kind),
            sources: sources(kind, summary),
            groups,
            more: (all > listed).then(|| format!("{} more", wording::thousands(all - listed))),
            command: format!("lapsed finding list --kind {kind}"),
        }
    }
}

fn sources(kind: FindingKind, summary: &SummaryEntry) -> String {
    let mut counts: Vec<_> = summary
        .counts
        .iter()
        .filter(|open| open.kind == kind)
        .collect();
    counts.sort_by_key(|open| -open.count);
    let mut said: Vec<String> = counts
        .iter()
        .take(SOURCES)
        .map(|open| {
            let source = plain::line(&open.source, plain::NAME_IN_SUBJECT);
            format!("{source} {}", wording::thousands(open.count))
        })
        .collect();
    let others = counts.len().saturating_sub(SOURCES);
    if others > 0 {
        let rest = counts.iter().skip(SOURCES).map(|open| open.count).sum();
        let others = wording::counted(others, "more source");
        said.push(format!("{others} {}", wording::thousands(rest)));
    }
    said.join(", ")
}

fn row(finding: &OpenFinding, letter: &Letter, rich: bool) -> Row {
    let since = wording::day(finding.since, letter.zone);
    let evidence = plain::isolated(plain::line(&finding.evidence, plain::TEXT));
    Row {
        name: plain::label(&finding.name, &finding.id.to_string(), plain::NAME),
        tail: if rich {
            format!("{}, since {since}", finding.severity)
        } else {
            finding.severity.to_string()
        },
        lines: if rich {
            vec![evidence, format!("finding {}", finding.id)]
        } else {
            Vec::new()
        },
    }
}

/// The kind in a row of counts.
fn word(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::SsoRevoked => "without access",
        FindingKind::Orphaned => "orphaned",
        FindingKind::NeverExpires => "never expiring",
        FindingKind::TooLong => "too long",
        FindingKind::Unused => "unused",
        FindingKind::SourceAllowsUnlimited => "about sources",
    }
}

fn title(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::SsoRevoked => "Issuer lost access",
        FindingKind::Orphaned => "Issuer is gone from the source",
        FindingKind::NeverExpires => "Never expiring",
        FindingKind::TooLong => "Living too long",
        FindingKind::Unused => "Unused",
        FindingKind::SourceAllowsUnlimited => "Allowing too long a life",
    }
}

/// What to do about it.
fn advice(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::SsoRevoked => {
            "Find out what still uses them, give that a token of somebody who has access, and revoke the old \
             ones at their source."
        }
        FindingKind::Orphaned => {
            "Nobody answers for them. Give what uses them a token of somebody who is there, and delete the \
             old ones at their source."
        }
        FindingKind::NeverExpires => {
            "Replace them by tokens with an end. Where that cannot be, policy_ttl of their source gives them \
             a date for a check by hand."
        }
        FindingKind::TooLong => {
            "Replace them by tokens that live no longer than max_ttl in the configuration."
        }
        FindingKind::Unused => {
            "Ask their issuers whether they are needed. Delete at their source what is not."
        }
        FindingKind::SourceAllowsUnlimited => {
            "Change the setting that is named, so that no new token can live so long."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_as_many_kinds_as_can_be_read() {
        let counts = |many: usize| vec!["1,000 never expiring".to_owned(); many];
        assert_eq!(
            headline("1,000 open findings", &counts(1)),
            "1,000 open findings: 1,000 never expiring"
        );
        let long = headline("4,000 open findings", &counts(4));
        assert_eq!(
            long,
            "4,000 open findings: 1,000 never expiring, 1,000 never expiring, 2 more kinds"
        );
        assert!(long.chars().count() <= SUBJECT);
    }

    #[test]
    fn of_many_sources_the_rest_is_counted() {
        let counts = (0..12).map(|n| crate::notify::letter::OpenCount {
            kind: FindingKind::Unused,
            source: format!("s{n:02}"),
            count: 100 - n,
        });
        let summary = SummaryEntry {
            counts: counts.collect(),
            findings: Vec::new(),
        };
        let said = sources(FindingKind::Unused, &summary);
        assert!(said.starts_with("s00 100, s01 99, "), "{said}");
        assert!(said.ends_with("s07 93, 4 more sources 362"), "{said}");
        assert_eq!(total(&summary), "1,134 open findings");
    }
}
