//! `lapsed sweep`: one pass, and what it did.

use std::fmt::Write as _;

use tokio_util::sync::CancellationToken;

use super::args::Sweep;
use super::exit::{Exit, Failure};
use super::{Context, actor, dry_run, setup};
use crate::config::Config;
use crate::engine::{Report, SweepOptions};

pub(super) async fn sweep(context: &Context, args: Sweep) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    check_names(&config, &args)?;
    if args.dry_run {
        return dry_run::sweep(context, &config, &args).await;
    }
    let _log = setup::log(context, &config)?;
    let post = setup::post(&config)?;
    let store = setup::store(&config).await?;
    let engine = setup::engine(context, &config, store, post)?;
    let options = SweepOptions {
        by_schedule: false,
        only: args.source,
        accept_shrink: args.accept_shrink,
        asked_by: actor::name(),
    };
    let stop = CancellationToken::new();
    let report = tokio::select! {
        report = engine.sweep(&options, &stop) => report,
        () = until_asked_to_stop(&stop) => unreachable!("it only cancels"),
    };
    engine.store.close().await;
    complain(&report);
    anstream::print!("{}", told(&report));
    Ok(exit(&report))
}

/// Tells what went wrong, on standard error.
pub(super) fn complain(report: &Report) {
    for error in report.errors.iter().chain(&report.problems) {
        anstream::eprintln!("failed: {}", super::output::text::clean_lines(error));
    }
    for wait in &report.waits {
        anstream::eprintln!("put off: {}", super::output::text::clean_lines(wait));
    }
}

/// Cancels `stop` at the first SIGINT or SIGTERM; never returns.
pub(super) async fn until_asked_to_stop(stop: &CancellationToken) {
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

/// A name that nothing has is a slip; nothing is swept for it.
fn check_names(config: &Config, args: &Sweep) -> anyhow::Result<()> {
    let sources = config.sources.iter().map(|source| source.name.as_str());
    let known: Vec<&str> = sources
        .chain(
            config
                .directories
                .iter()
                .map(|directory| directory.name.as_str()),
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

/// What a report ends the program with.
pub(super) fn exit(report: &Report) -> Exit {
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
    failed.or(deferred)
}

/// What became of tokens.
fn of_tokens(r: &Report) -> [(u64, &'static str); 8] {
    [
        (r.tokens_new, "new"),
        (r.tokens_changed, "changed"),
        (r.tokens_gone, "gone"),
        (r.expired, "expired"),
        (r.unexpired, "no longer expired"),
        (r.expired_told, "made known to their source as expired"),
        (r.revoked, "ended: their issuers lost access"),
        (
            r.revocations_waiting,
            "to be ended for that, waiting: see `lapsed sweep --dry-run`",
        ),
    ]
}

/// A report for people: a line for each thing that happened.
pub(super) fn told(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |label: &str, parts: &[(u64, &str)]| {
        let said: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if !said.is_empty() {
            let _ = writeln!(text, "{label:<9} {}", said.join(", "));
        }
    };
    let r = report;
    line("tokens", &of_tokens(r));
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
    fn a_quiet_sweep_says_so_and_ends_well() {
        let report = Report::default();
        assert_eq!(told(&report), "nothing was due\n");
        assert_eq!(exit(&report), Exit::Ok);
    }

    #[test]
    fn a_report_tells_what_happened_and_nothing_else() {
        let report = Report {
            tokens_new: 3,
            expired: 1,
            notices_planned: 4,
            mails_sent: 2,
            mails_deferred: 1,
            sources_deferred: 1,
            ..Report::default()
        };
        insta::assert_snapshot!(told(&report), @"
        tokens    3 new, 1 expired
        sources   1 deferred: `lapsed source list` and `directory list` tell for how long
        notices   4 planned
        mails     2 sent, 1 deferred
        ");
        assert_eq!(exit(&report), Exit::Ok, "a single deferral is no failure");
    }

    #[test]
    fn what_failed_for_good_counts_before_what_may_come_later() {
        let down = Report {
            relay_down: true,
            ..Report::default()
        };
        assert_eq!(exit(&down), Exit::TempFail);
        let both = Report {
            mails_failed: 1,
            ..down
        };
        assert_eq!(exit(&both), Exit::Failed);
        let store = Report {
            store_down: true,
            waits: vec!["sync: away".to_owned()],
            ..Report::default()
        };
        assert_eq!(exit(&store), Exit::TempFail);
    }
}
