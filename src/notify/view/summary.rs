//! The open findings by kind: the most urgent in full, the others counted, with advice for each kind.

use chrono::TimeDelta;
use serde::Serialize;

use crate::domain::FindingKind;
use crate::notify::letter::{Letter, OpenFinding, SummaryEntry};
use crate::notify::wording;
use crate::text;
use crate::time::shift;

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
    advice: &'static str,
    /// How many at each source: `rancher 3, exports 2`.
    sources: String,
    groups: Vec<Group>,
    /// `3 more`, if not all are listed.
    more: Option<String>,
    command: String,
}

/// How many are open: `12 open findings`.
pub(super) fn total(summary: &SummaryEntry) -> String {
    let count: i64 = summary.counts.iter().map(|open| open.count).sum();
    wording::quantity(count, "open finding")
}

impl Summary {
    pub fn new(summary: &SummaryEntry, letter: &Letter, limit: usize) -> Self {
        let listed = summary.findings.len().min(limit);
        let shown = &summary.findings[..listed];
        let total = total(summary);
        let mut counts = Vec::new();
        let mut kinds = Vec::new();
        for kind in FindingKind::ALL.iter().copied() {
            let count = count_of_kind(summary, kind);
            if count > 0 {
                let [_, short_title, _] = texts(kind);
                counts.push(format!("{} {short_title}", wording::thousands(count)));
                kinds.push(Part::new(kind, summary, shown, letter));
            }
        }
        let until = shift(letter.now, PROPOSED_ACKNOWLEDGEMENT).format("%Y-%m-%d");
        Self {
            headline: headline(&total, &counts),
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
fn headline(total: &str, counts: &[String]) -> String {
    for kinds in (1..=counts.len()).rev() {
        let mut parts = counts[..kinds].to_vec();
        if kinds < counts.len() {
            parts.push(wording::quantity(counts.len() - kinds, "more kind"));
        }
        let headline = format!("{total}: {}", parts.join(", "));
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
        letter: &Letter,
    ) -> Self {
        let all = count_of_kind(summary, kind);
        let is_detailed = shown.len() <= MAX_DETAILED;
        let mut groups: Vec<Group> = Vec::new();
        let mut listed = 0;
        for finding in shown.iter().filter(|finding| finding.kind == kind) {
            listed += 1;
            let title = text::one_line(&finding.source, text::MAX_NAME);
            let row = row(finding, letter, is_detailed);
            match groups.iter_mut().find(|group| group.title == title) {
                Some(group) => group.rows.push(row),
                None => groups.push(Group {
                    title,
                    note: None,
                    rows: vec![row],
                }),
            }
        }
        let noun = match kind {
            FindingKind::SourceAllowsUnlimited | FindingKind::Unconfigured => "source",
            FindingKind::ReplicaDrift | FindingKind::UnknownExpiry => "finding",
            _ => "token",
        };
        let [title, _, advice] = texts(kind);
        Self {
            title: format!("{title}: {}", wording::quantity(all, noun)),
            advice,
            sources: source_counts(kind, summary),
            groups,
            more: (all > listed).then(|| format!("{} more", wording::thousands(all - listed))),
            command: format!("lapsed finding list --kind {kind}"),
        }
    }
}

fn source_counts(kind: FindingKind, summary: &SummaryEntry) -> String {
    let mut counts: Vec<_> = summary.counts.iter().collect();
    counts.retain(|open| open.kind == kind);
    counts.sort_by_key(|open| -open.count);
    let mut parts: Vec<String> = counts
        .iter()
        .take(MAX_SOURCES)
        .map(|open| {
            let source = text::one_line(&open.source, text::MAX_SUBJECT_NAME);
            format!("{source} {}", wording::thousands(open.count))
        })
        .collect();
    let others = counts.len().saturating_sub(MAX_SOURCES);
    if others > 0 {
        let rest: i64 = counts.iter().skip(MAX_SOURCES).map(|open| open.count).sum();
        let others = wording::quantity(others, "more source");
        parts.push(format!("{others} {}", wording::thousands(rest)));
    }
    parts.join(", ")
}

fn row(finding: &OpenFinding, letter: &Letter, is_detailed: bool) -> Row {
    let severity = finding.severity;
    let (tail, lines) = if is_detailed {
        let since = wording::day(finding.since, letter.zone);
        let evidence = text::isolated_line(&finding.evidence, text::MAX_TEXT);
        let lines = vec![
            evidence,
            about_token(finding, letter),
            format!("finding {}", finding.id),
        ];
        let lines = lines.into_iter().filter(|line| !line.is_empty()).collect();
        (format!("{severity}, since {since}"), lines)
    } else {
        (severity.to_string(), Vec::new())
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
fn about_token(finding: &OpenFinding, letter: &Letter) -> String {
    let mut parts = Vec::new();
    if let Some(issuer) = &finding.issuer {
        parts.push(format!("issued by {}", issuer.readable()));
    }
    if let Some(account) = &finding.account {
        parts.push(format!(
            "account {}",
            text::isolated_line(account, text::MAX_SUBJECT_NAME)
        ));
    }
    if let Some(used_at) = finding.last_used_at {
        parts.push(format!("last used {}", wording::ago(letter.now - used_at)));
    }
    parts.join(", ")
}

/// The title of a kind, its short form for the subject, and the advice.
#[expect(clippy::too_many_lines, reason = "one table")]
fn texts(kind: FindingKind) -> [&'static str; 3] {
    match kind {
        FindingKind::SsoRevoked => [
            "Issuer lost access",
            "without access",
            "Find out what still uses them, replace them with tokens of a person who has access, and revoke the \
             old ones at their source.",
        ],
        FindingKind::Orphaned => [
            "Issuer is gone from the source",
            "orphaned",
            "No one is responsible for them. Replace those in use with tokens of a current user, and delete the \
             old ones at their source.",
        ],
        FindingKind::NeverExpires => [
            "Never expiring",
            "never expiring",
            "Replace them with tokens that expire. If that is not possible, set policy_ttl for their source: it gives \
             them a date for a manual check.",
        ],
        FindingKind::TooLong => [
            "Too long a life",
            "too long",
            "Replace them with tokens that live no longer than max_ttl in the configuration.",
        ],
        FindingKind::Unused => [
            "Unused",
            "unused",
            "Ask their issuers whether they are needed. Delete the others at their source.",
        ],
        FindingKind::SourceAllowsUnlimited => [
            "Source allows too long a life",
            "about sources",
            "Change the named setting, so that new tokens cannot live this long.",
        ],
        FindingKind::Unconfigured => [
            "Source is no longer configured",
            "no longer configured",
            "Put its [[source]] back; or keep its history under a new name with `lapsed source rename`; or remove its \
             tokens with `lapsed source forget`.",
        ],
        FindingKind::ReplicaDrift => [
            "Replicas have different configurations",
            "about replicas",
            "Give all of them the same configuration, and restart them; `lapsed replica list` shows each.",
        ],
        FindingKind::Unreadable => [
            "Cells that cannot be read",
            "with unreadable cells",
            "lapsed keeps the last value that it could read. Correct the cell at the source, or say how to read it: \
             timezone, date_format, never or columns of the [[source]].",
        ],
        FindingKind::OldSecretInUse => [
            "Old secret still in use",
            "with an old secret in use",
            "Put the new secret where the old one is used: `lapsed token show` lists the addresses. The old one ends soon.",
        ],
        FindingKind::NewPlace => [
            "Used from a new network",
            "used from a new network",
            "Ask the issuer whether they know the address. If not, regenerate the token with --leaked.",
        ],
        FindingKind::UnknownExpiry => [
            "No known expiry",
            "without a known expiry",
            "No one is warned before such tokens expire. Let the source list expires_at, or set policy_ttl for it: it \
             gives them a date for a manual check.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_as_many_kinds_as_fit() {
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
        let parts = source_counts(FindingKind::Unused, &summary);
        assert!(parts.starts_with("s00 100, s01 99, "), "{parts}");
        assert!(parts.ends_with("s07 93, 4 more sources 362"), "{parts}");
        assert_eq!(total(&summary), "1,134 open findings");
    }
}
