//! What a sweep or sync did: its summary, its problems and its exit code.

use std::fmt::Write as _;

use chrono_tz::Tz;

use super::exit::Exit;
use super::output::when::format_instant;
use crate::engine::Report;
use crate::text;

/// Prints to standard error what failed and what was deferred.
pub(super) fn print_problems(report: &Report) {
    for error in report.errors.iter().chain(&report.problems) {
        anstream::eprintln!("failed: {}", text::clean_lines(error));
    }
    for wait in &report.waits {
        anstream::eprintln!("deferred: {}", text::clean_lines(wait));
    }
}

/// Says that a sweep holds the lease.
pub(super) fn print_busy() -> Exit {
    anstream::eprintln!("another sweep is running; nothing was done, try again in a moment");
    Exit::TempFail
}

pub(super) fn exit_code(report: &Report) -> Exit {
    let failed = if report.is_failure() {
        Exit::Failed
    } else {
        Exit::Ok
    };
    let deferred = if report.is_deferral() {
        Exit::TempFail
    } else {
        Exit::Ok
    };
    failed.worst(deferred)
}

/// One line for each kind of thing that happened, for people.
pub(super) fn summary_lines(report: &Report) -> String {
    let mut text = String::new();
    for (label, counts) in summary_counts(report) {
        let shown: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !shown.is_empty() {
            let _ = writeln!(text, "{label:<9} {}", shown.join(", "));
        }
    }
    if report.lease_held {
        text.push_str("another sweep is at work; this one only helped to deliver\n");
    }
    if report.relay_down {
        text.push_str("the mail server could not be used; the mails wait for the next sweep\n");
    }
    if report.is_quiet() {
        text.push_str("nothing was due\n");
    }
    if let Some((last, now)) = report.clock_went_back {
        let _ = writeln!(
            text,
            "the clock went back: the last sweep was at {}, and it is {} now; no mail that was sent is sent \
             again; set the clock if it is wrong",
            format_instant(last, Tz::UTC),
            format_instant(now, Tz::UTC)
        );
    }
    text
}

/// How many deferred mails wait, and until when; empty without one.
pub(super) fn waiting_line(report: &Report, zone: Tz) -> String {
    let Some(next_at) = report.next_attempt_at else {
        return String::new();
    };
    let waiting = match report.mails_waiting {
        1 => "1 mail waits".to_owned(),
        count => format!("{count} mails wait"),
    };
    format!(
        "{waiting} for another attempt, the first until {}: see `lapsed notice list --state planned`\n",
        format_instant(next_at, zone)
    )
}

/// The lines of the summary: labels, and what is counted. The words are a contract.
fn summary_counts(r: &Report) -> [(&'static str, Vec<(u64, &'static str)>); 8] {
    let tokens = vec![
        (r.tokens_new, "new"),
        (r.tokens_changed, "changed"),
        (r.tokens_gone, "gone"),
        (r.expired, "expired"),
        (r.unexpired, "no longer expired"),
        (r.expiries_reported, "made known to their source as expired"),
        (r.revoked, "ended: their issuers lost access"),
        (
            r.revocations_waiting,
            "to be ended for that, waiting: see `lapsed sweep --dry-run`",
        ),
    ];
    let sources = vec![(
        r.sources_deferred,
        "deferred: `lapsed source list` and `directory list` tell for how long",
    )];
    let findings = vec![
        (r.findings_opened, "opened"),
        (r.findings_resolved, "resolved"),
    ];
    let notices = vec![
        (r.notices_planned, "planned"),
        (r.notices_failed, "with nobody left to tell"),
    ];
    let mails = vec![
        (r.mails_sent, "sent"),
        (r.mails_deferred, "deferred"),
        (r.mails_unknown, "in doubt"),
        (r.mails_failed, "failed"),
        (r.mails_held, "held: see `lapsed release --help`"),
        (
            r.mails_still_held,
            "still held: see `lapsed release --help`",
        ),
    ];
    [
        ("tokens", tokens),
        ("rows", vec![(r.rows_refused, "refused")]),
        ("sources", sources),
        ("people", vec![(r.people_changed, "changed")]),
        ("findings", findings),
        ("notices", notices),
        ("mails", mails),
        ("purged", vec![(r.purged, "rows")]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_with_nothing_due_says_so_and_exits_0() {
        let report = Report::default();
        assert_eq!(summary_lines(&report), "nothing was due\n");
        assert_eq!(exit_code(&report), Exit::Ok);
    }

    #[test]
    fn a_summary_lists_only_what_happened() {
        let report = Report {
            tokens_new: 3,
            expired: 1,
            notices_planned: 4,
            mails_sent: 2,
            mails_deferred: 1,
            sources_deferred: 1,
            ..Report::default()
        };
        insta::assert_snapshot!(summary_lines(&report), @"
        tokens    3 new, 1 expired
        sources   1 deferred: `lapsed source list` and `directory list` tell for how long
        notices   4 planned
        mails     2 sent, 1 deferred
        ");
        assert_eq!(
            exit_code(&report),
            Exit::Ok,
            "a single deferral is not a failure"
        );
    }

    #[test]
    fn a_failure_outranks_a_deferral_in_the_exit_code() {
        let down = Report {
            relay_down: true,
            ..Report::default()
        };
        assert_eq!(exit_code(&down), Exit::TempFail);
        let both = Report {
            mails_failed: 1,
            ..down
        };
        assert_eq!(exit_code(&both), Exit::Failed);
        let store = Report {
            store_down: true,
            waits: vec!["sync: away".to_owned()],
            ..Report::default()
        };
        assert_eq!(exit_code(&store), Exit::TempFail);
    }
}
