//! `lapsed sweep`: one pass and its summary.

use std::fmt::Write as _;

use tokio_util::sync::CancellationToken;

use super::args::Sweep;
use super::exit::{Exit, Failure};
use super::{Context, actor, dry_run, setup};
use crate::config::Config;
use crate::engine::{Report, SweepOptions};

pub(super) async fn sweep(context: &Context, args: Sweep) -> anyhow::Result<Exit> {
    let config = setup::load_config(context)?;
    reject_unknown_names(&config, &args)?;
    if args.dry_run {
        return dry_run::sweep(context, &config, &args).await;
    }
    let _log = setup::start_log(context, &config)?;
    let mailer = setup::build_mailer(&config)?;
    let store = setup::open_store(&config).await?;
    let engine = setup::build_engine(context, &config, store, mailer)?;
    let options = SweepOptions {
        by_schedule: false,
        only: args.source,
        accept_shrink: args.accept_shrink,
        actor: actor::name(),
    };
    let stop = CancellationToken::new();
    let report = tokio::select! {
        report = engine.sweep(&options, &stop) => report,
        () = cancel_on_signal(&stop) => unreachable!("it only cancels"),
    };
    engine.store.close().await;
    print_problems(&report);
    anstream::print!("{}", summary_lines(&report));
    Ok(exit_code(&report))
}

/// Prints to standard error what failed and what was deferred.
pub(super) fn print_problems(report: &Report) {
    for error in report.errors.iter().chain(&report.problems) {
        anstream::eprintln!("failed: {}", crate::text::clean_lines(error));
    }
    for wait in &report.waits {
        anstream::eprintln!("deferred: {}", crate::text::clean_lines(wait));
    }
}

/// Cancels `stop` at the first SIGINT or SIGTERM; never returns.
pub(super) async fn cancel_on_signal(stop: &CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (interrupt, terminate) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    if let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }
    std::future::pending::<()>().await;
}

/// Fails on a name that no source or directory has, before anything is swept.
fn reject_unknown_names(config: &Config, args: &Sweep) -> anyhow::Result<()> {
    let sources = config
        .sources
        .iter()
        .map(|source| source.terms.name.as_str());
    let known: Vec<&str> = sources
        .chain(
            config
                .directories
                .iter()
                .map(|directory| directory.terms.name.as_str()),
        )
        .collect();
    for name in args.source.iter().chain(&args.accept_shrink) {
        if !known.contains(&name.as_str()) {
            let error = anyhow::anyhow!("there is no source or directory {name:?}");
            let hint = match known.as_slice() {
                [] => "the configuration has no [[source]] and no [[directory]]".to_owned(),
                known => format!("the configuration has {}", known.join(", ")),
            };
            return Err(Failure::usage(error).hint(hint).into());
        }
    }
    Ok(())
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

fn token_counts(r: &Report) -> [(u64, &'static str); 8] {
    [
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
    ]
}

/// One line for each kind of thing that happened, for people.
pub(super) fn summary_lines(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |label: &str, parts: &[(u64, &str)]| {
        let shown: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !shown.is_empty() {
            let _ = writeln!(text, "{label:<9} {}", shown.join(", "));
        }
    };
    let r = report;
    line("tokens", &token_counts(r));
    line("rows", &[(r.rows_refused, "refused")]);
    line(
        "sources",
        &[(
            r.sources_deferred,
            "deferred: `lapsed source list` and `directory list` tell for how long",
        )],
    );
    line("people", &[(r.people_changed, "changed")]);
    line(
        "findings",
        &[
            (r.findings_opened, "opened"),
            (r.findings_resolved, "resolved"),
        ],
    );
    line(
        "notices",
        &[
            (r.notices_planned, "planned"),
            (r.notices_failed, "with nobody left to tell"),
        ],
    );
    line(
        "mails",
        &[
            (r.mails_sent, "sent"),
            (r.mails_deferred, "deferred"),
            (r.mails_unknown, "in doubt"),
            (r.mails_failed, "failed"),
            (r.mails_held, "held: see `lapsed release --help`"),
            (
                r.mails_still_held,
                "still held: see `lapsed release --help`",
            ),
        ],
    );
    line("purged", &[(r.purged, "rows")]);
    if r.lease_held {
        text.push_str("another sweep is at work; this one only helped to deliver\n");
    }
    if r.relay_down {
        text.push_str("the mail server could not be used; the mails wait for the next sweep\n");
    }
    if report.is_quiet() {
        text.push_str("nothing was due\n");
    }
    text
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
