//! The open findings by kind: the most urgent in full, the others counted, with advice for each kind.

use chrono::TimeDelta;
use serde::Serialize;

use crate::domain::FindingKind;
use crate::language::{Language, phrase};
use crate::notify::letter::{OpenFinding, SummaryEntry};
use crate::text;
use crate::time::shift;

use super::mail::Mail;
use super::parts::{Group, Row};

const MAX_SOURCES: usize = 8;
/// Longer lists show one line for each finding, without evidence.
const MAX_DETAILED: usize = 25;
const MAX_SUBJECT: usize = 90;
const PROPOSED_ACKNOWLEDGEMENT: TimeDelta = TimeDelta::days(90);

/// The variables of the template `summary`, and `findings` in `digest`.
#[derive(Serialize)]
pub(super) struct Summary {
    /// `12 open findings: 5 never expiring, 4 unused`.
    headline: String,
    /// How many in all: `12 open findings`.
    total: String,
    kinds: Vec<Part>,
    acknowledge_command: String,
    #[serde(skip)]
    pub listed: usize,
}

#[derive(Serialize)]
struct Part {
    /// The kind and how many are open: `Never expiring: 5 tokens`.
    title: String,
    advice: String,
    /// How many at each source: `rancher 3, exports 2`.
    sources: String,
    groups: Vec<Group>,
    /// `3 more`, if not all are listed.
    more: Option<String>,
    command: String,
}

/// How many are open: `12 open findings`.
pub(super) fn total(summary: &SummaryEntry, language: &Language) -> String {
    let count: i64 = summary.counts.iter().map(|open| open.count).sum();
    phrase!(language, "open-findings", count = count)
}

impl Summary {
    pub fn new(summary: &SummaryEntry, mail: Mail<'_>, limit: usize) -> Self {
        let language = mail.language;
        let listed = summary.findings.len().min(limit);
        let shown = &summary.findings[..listed];
        let total = total(summary, language);
        let mut counts = Vec::new();
        let mut kinds = Vec::new();
        for kind in FindingKind::ALL.iter().copied() {
            let count = count_of_kind(summary, kind);
            if count > 0 {
                let kind_name = kind.as_str();
                counts.push(phrase!(
                    language,
                    "finding-short",
                    kind = kind_name,
                    count = count
                ));
                kinds.push(Part::new(kind, summary, shown, mail));
            }
        }
        let until = shift(mail.now(), PROPOSED_ACKNOWLEDGEMENT).format("%Y-%m-%d");
        Self {
            headline: headline(&total, &counts, language),
            total,
            kinds,
            acknowledge_command: format!(
                "lapsed finding acknowledge ID --until {until} --reason WHY"
            ),
            listed,
        }
    }
}

/// The summary for the subject, with as many kinds as fit.
fn headline(total: &str, counts: &[String], language: &Language) -> String {
    for kinds in (1..=counts.len()).rev() {
        let mut parts = counts[..kinds].to_vec();
        if kinds < counts.len() {
            let count = counts.len() - kinds;
            parts.push(phrase!(language, "more-kinds", count = count));
        }
        let parts = parts.join(", ");
        let headline = phrase!(language, "summary-subject", total = total, kinds = parts);
        if headline.chars().count() <= MAX_SUBJECT {
            return headline;
        }
    }
    total.to_owned()
}

fn count_of_kind(summary: &SummaryEntry, kind: FindingKind) -> i64 {
    let of_kind = summary.counts.iter().filter(|open| open.kind == kind);
    of_kind.map(|open| open.count).sum()
}

impl Part {
    fn new(
        kind: FindingKind,
        summary: &SummaryEntry,
        shown: &[OpenFinding],
        mail: Mail<'_>,
    ) -> Self {
        let language = mail.language;
        let all = count_of_kind(summary, kind);
        let is_detailed = shown.len() <= MAX_DETAILED;
        let mut groups: Vec<Group> = Vec::new();
        let mut listed = 0;
        for finding in shown.iter().filter(|finding| finding.kind == kind) {
            listed += 1;
            let title = text::one_line(&finding.source, text::MAX_NAME);
            let row = row(finding, mail, is_detailed);
            match groups.iter_mut().find(|group| group.title == title) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group {
                    title,
                    note: None,
                    rows: vec![row],
                }),
            }
        }
        let name = kind.as_str();
        let title = phrase!(language, "finding-title", kind = name);
        let count = phrase!(language, "findings-count", kind = name, count = all);
        Self {
            title: phrase!(language, "titled", title = title, count = count),
            advice: phrase!(language, "finding-advice", kind = name),
            sources: source_counts(kind, summary, language),
            groups,
            more: (all > listed).then(|| phrase!(language, "more", count = all - listed)),
            command: format!("lapsed finding list --kind {kind}"),
        }
    }
}

fn source_counts(kind: FindingKind, summary: &SummaryEntry, language: &Language) -> String {
    let mut counts: Vec<_> = summary.counts.iter().collect();
    counts.retain(|open| open.kind == kind);
    counts.sort_by_key(|open| -open.count);
    let mut parts: Vec<String> = counts
        .iter()
        .take(MAX_SOURCES)
        .map(|open| {
            let source = text::one_line(&open.source, text::MAX_SUBJECT_NAME);
            phrase!(
                language,
                "source-count",
                source = source,
                count = open.count
            )
        })
        .collect();
    let others = counts.len().saturating_sub(MAX_SOURCES);
    if others > 0 {
        let rest: i64 = counts.iter().skip(MAX_SOURCES).map(|open| open.count).sum();
        let others = phrase!(language, "more-sources", count = others);
        parts.push(phrase!(
            language,
            "source-count",
            source = others,
            count = rest
        ));
    }
    parts.join(", ")
}

fn row(finding: &OpenFinding, mail: Mail<'_>, is_detailed: bool) -> Row {
    let language = mail.language;
    let severity = phrase!(language, "severity", severity = finding.severity.as_str());
    let (tail, lines) = if is_detailed {
        let day = mail.day(finding.since);
        let evidence = text::isolated_line(&finding.evidence, text::MAX_TEXT);
        let lines = vec![
            evidence,
            about_token(finding, mail),
            phrase!(language, "row-finding", id = finding.id.to_string()),
        ];
        let lines = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let tail = phrase!(
            language,
            "row-finding-since",
            severity = severity,
            day = day
        );
        (tail, lines)
    } else {
        (severity, Vec::new())
    };
    Row {
        clock: None,
        name: text::display_name(&finding.name, &finding.id.to_string(), text::MAX_NAME),
        tail,
        lines,
        page: None,
    }
}

/// Who issued the token, for which account, and when it was last used; empty for a finding about a source.
fn about_token(finding: &OpenFinding, mail: Mail<'_>) -> String {
    let language = mail.language;
    let mut parts = Vec::new();
    if let Some(issuer) = &finding.issuer {
        parts.push(phrase!(language, "row-issuer", name = issuer.readable()));
    }
    if let Some(account) = &finding.account {
        let account = text::isolated_line(account, text::MAX_SUBJECT_NAME);
        parts.push(phrase!(language, "row-account", name = account));
    }
    if let Some(used_at) = finding.last_used_at {
        let ago = language.ago(mail.now() - used_at);
        parts.push(phrase!(language, "row-last-used", ago = ago));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Languages;

    fn english() -> Language {
        Languages::load(None).unwrap().english()
    }

    #[test]
    fn a_subject_names_as_many_kinds_as_fit() {
        let counts = |many: usize| vec!["1,000 never expiring".to_owned(); many];
        assert_eq!(
            headline("1,000 open findings", &counts(1), &english()),
            "1,000 open findings: 1,000 never expiring"
        );
        let long = headline("4,000 open findings", &counts(4), &english());
        assert_eq!(
            long,
            "4,000 open findings: 1,000 never expiring, 1,000 never expiring, 2 more kinds"
        );
        assert!(long.chars().count() <= MAX_SUBJECT);
    }

    #[test]
    fn sources_beyond_the_limit_are_counted() {
        let counts = (0..12).map(|n| crate::notify::letter::OpenCount {
            kind: FindingKind::Unused,
            source: format!("s{n:02}"),
            count: 100 - n,
        });
        let summary = SummaryEntry {
            counts: counts.collect(),
            findings: Vec::new(),
        };
        let parts = source_counts(FindingKind::Unused, &summary, &english());
        assert!(parts.starts_with("s00 100, s01 99, "), "{parts}");
        assert!(parts.ends_with("s07 93, 4 more sources 362"), "{parts}");
        assert_eq!(total(&summary, &english()), "1,134 open findings");
    }
}
