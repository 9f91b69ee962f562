//! `lapsed sweep`: one pass and its summary, or what it would do. `lapsed release`: sends the mails of
//! held plans, or discards them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::args::{Release, Sweep};
use super::exit::{Exit, Failure, Result};
use super::monitoring::show_sweep;
use super::output::print_line;
use super::report::{exit_code, print_problems, summary_lines, waiting_line};
use super::setup::{self, Mode};
use super::{Context, audit};
use crate::config::Config;
use crate::domain::revocation::Decision;
use crate::domain::{Step, Topic};
use crate::engine::{DryRun, Report, RevocationPreview, SweepOptions};
use crate::store::{MailPreview, Store};
use crate::text;

/// How many revocations a dry run lists; the others are only counted.
const MAX_LISTED: usize = 50;

pub(super) async fn sweep(context: &Context, args: Sweep) -> Result<Exit> {
    let config = setup::load_config(context)?;
    reject_unknown_names(&config, &args)?;
    if args.dry_run {
        return Box::pin(dry_run(context, &config, args)).await;
    }
    let _log = setup::start_log(context, &config)?;
    let mailer = setup::build_mailer(&config)?;
    let options = SweepOptions {
        by_schedule: false,
        only: args.source,
        accept_shrink: args.accept_shrink,
        actor: audit::actor(),
    };
    let report = setup::with_store(&config, Mode::Normal, async |store| {
        let engine = setup::build_engine(context, &config, store.clone(), mailer)?;
        let engine = Arc::new(engine);
        let stop = context.stop.graceful(config.stop_timeout);
        let report = engine.sweep(&options, stop).await;
        if !stop.is_cancelled() {
            let is_good = exit_code(&report) == Exit::Ok;
            for warning in show_sweep(&config.monitoring, &engine, is_good).await {
                anstream::eprintln!("warning: {}", text::clean_lines(&warning));
            }
        }
        Ok(report)
    })
    .await?;
    print_problems(&report);
    print_summary(&report, &config);
    Ok(exit_code(&report))
}

fn print_summary(report: &Report, config: &Config) {
    let waiting = waiting_line(report, config.policy.zone);
    anstream::print!("{}{waiting}", summary_lines(report));
}

/// Fails on a name that no source or directory has, before anything is swept.
fn reject_unknown_names(config: &Config, args: &Sweep) -> Result<()> {
    let sources = config.sources.iter().map(|source| &source.terms.name);
    let directories = config
        .directories
        .iter()
        .map(|directory| &directory.terms.name);
    let known: Vec<&str> = sources.chain(directories).map(String::as_str).collect();
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

/// Shows what a sweep would do, and changes nothing.
async fn dry_run(context: &Context, config: &Config, args: Sweep) -> Result<Exit> {
    let options = SweepOptions {
        by_schedule: false,
        only: args.source,
        accept_shrink: args.accept_shrink,
        ..SweepOptions::default()
    };
    let DryRun {
        mut report,
        mails,
        revocations,
    } = setup::with_engine(context, config, Mode::DryRun, async |engine| {
        let stop = context.stop.graceful(config.stop_timeout);
        Ok(Box::pin(engine.dry_run(&options, stop)).await?)
    })
    .await?;
    let count = std::mem::take(&mut report.mails_sent);
    print_problems(&report);
    print_summary(&report, config);
    anstream::println!("mails     {count} would be written; nothing was changed or sent");
    for notices in mails.chunk_by(|a, b| a.mail_id == b.mail_id) {
        anstream::println!("{}", mail_line(notices));
    }
    print_revocations(&revocations);
    Ok(exit_code(&report))
}

/// `  ADDRESS: ci-deploy (7d), backup (1d), and 2 more`.
fn mail_line(notices: &[MailPreview]) -> String {
    let recipient = &notices[0].recipient;
    let names: Vec<String> = notices.iter().map(notice_text).collect();
    let more = match notices[0].notices.unsigned_abs() - notices.len() as u64 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("  {recipient}: {}{more}", names.join(", "))
}

fn notice_text(notice: &MailPreview) -> String {
    let step = notice.step.map(|step| Step::from_seconds(step).to_string());
    let about = match (notice.topic, step) {
        (Topic::Expiry, Some(step)) => format!(" ({step})"),
        (Topic::SsoRevoked | Topic::Revoked | Topic::OldSecret | Topic::Unreachable, _) => {
            format!(" ({})", notice.topic)
        }
        (Topic::Expiry | Topic::Summary | Topic::Alert, _) => String::new(),
    };
    format!("{}{about}", text::clean_name(&notice.name))
}

/// Prints which tokens would be revoked because their issuers lost access, and why others would not.
fn print_revocations(revocations: &[RevocationPreview]) {
    if revocations.is_empty() {
        return;
    }
    let revoked = revocations
        .iter()
        .filter(|preview| preview.decision == Decision::Revoke)
        .count();
    anstream::println!(
        "ends      {revoked} would be made at their source, of tokens whose issuers lost access; none was"
    );
    for RevocationPreview {
        token,
        evidence,
        decision,
    } in revocations.iter().take(MAX_LISTED)
    {
        let reason = match decision {
            Decision::Revoke => evidence.clone().unwrap_or_default(),
            Decision::Wait(wait) => format!("waits: {wait}"),
            Decision::Skip(reason) => format!("not revoked: {reason}"),
        };
        let id = text::clean_name(&format!("{}/{}", token.source, token.external_id));
        let name = text::clean_name(token.label());
        anstream::println!("  {id} {name}: {}", text::clean_lines(&reason));
    }
    if revocations.len() > MAX_LISTED {
        anstream::println!("  and {} more", revocations.len() - MAX_LISTED);
    }
}

pub(super) async fn release(context: &Context, args: Release) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    let message = setup::with_store(&config, Mode::Normal, async |store| {
        settle_held_plans(store, args.discard, context.clock.now()).await
    })
    .await?;
    print_line(&message)?;
    Ok(Exit::Ok)
}

/// Releases or discards every held plan and returns the message to print.
pub(super) async fn settle_held_plans(
    store: &Store,
    discard: bool,
    now: DateTime<Utc>,
) -> Result<String> {
    let mut tx = store.begin().await?;
    let plans = tx.list_held_plans().await?;
    let count = tx.settle_held_plans(discard).await?;
    if plans.is_empty() && count == 0 {
        return Ok("nothing is held; nothing was changed".to_owned());
    }
    let notices = if count == 1 {
        "1 notice".to_owned()
    } else {
        format!("{count} notices")
    };
    let action = if discard {
        "plan.discard"
    } else {
        "plan.release"
    };
    for (plan, ..) in &plans {
        audit::record_action(&mut tx, now, action, &plan.to_string(), Some(&notices)).await?;
    }
    tx.commit().await?;
    Ok(if discard {
        format!("discarded {notices}: suppressed, and never sent")
    } else {
        format!("released {notices}: the next sweep sends what is due")
    })
}
