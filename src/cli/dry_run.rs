//! `lapsed sweep --dry-run`: shows what a sweep would do, and changes nothing.

use std::collections::BTreeMap;

use super::args::Sweep;
use super::exit::{Exit, Result};
use super::setup::{self, Mode};
use super::{Context, report};
use crate::config::Config;
use crate::domain::Address;
use crate::domain::revocation::Decision;
use crate::engine::{PlannedNotice, RevocationPreview, SweepOptions};
use crate::text;

/// How many mails and tokens are listed; the others are only counted.
const MAX_LISTED: usize = 50;

pub(super) async fn sweep(context: &Context, config: &Config, args: &Sweep) -> Result<Exit> {
    let options = SweepOptions {
        by_schedule: false,
        only: args.source.clone(),
        accept_shrink: args.accept_shrink.clone(),
        ..SweepOptions::default()
    };
    let mut mails: BTreeMap<Address, Vec<String>> = BTreeMap::new();
    let on_planned = |planned: PlannedNotice| {
        let about = mails.entry(planned.notice.recipient.clone()).or_default();
        // Three tokens per mail are listed; the others are only counted.
        about.push(if about.len() < 3 {
            notice_text(&planned)
        } else {
            String::new()
        });
    };
    let (summary, revocations) =
        setup::with_engine(context, config, Mode::DryRun, async |engine| {
            let summary = engine.preview_sweep(&options, on_planned).await?;
            Ok((summary, engine.response().preview(&options).await?))
        })
        .await?;
    report::print_problems(&summary);
    anstream::print!("{}", report::summary_lines(&summary));
    anstream::println!(
        "mails     {} would be written; nothing was changed or sent",
        mails.len()
    );
    for (to, about) in mails.iter().take(MAX_LISTED) {
        let named: Vec<&str> = about
            .iter()
            .filter(|line| !line.is_empty())
            .map(String::as_str)
            .collect();
        let more = about.len() - named.len();
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        anstream::println!("  {to}: {}{more}", named.join(", "));
    }
    if mails.len() > MAX_LISTED {
        anstream::println!(
            "  and {} more; `lapsed forecast` lists them all",
            mails.len() - MAX_LISTED
        );
    }
    print_revocations(&revocations);
    let limit = config.policy.max_per_sweep;
    if limit > 0 && mails.len() as u64 > limit {
        anstream::println!(
            "That is more than [notify] max_per_sweep = {limit}: all of it would be held."
        );
    }
    Ok(report::exit_code(&summary))
}

/// Prints which tokens would be revoked because their issuers lost access, and why others would not.
fn print_revocations(revocations: &[RevocationPreview]) {
    if revocations.is_empty() {
        return;
    }
    let is_revoked = |preview: &&RevocationPreview| preview.decision == Decision::Revoke;
    let revoked = revocations.iter().filter(is_revoked).count();
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
        let id = format!("{}/{}", token.source, token.external_id);
        let (id, name) = (text::clean_name(&id), text::clean_name(token.label()));
        anstream::println!("  {id} {name}: {}", text::clean_lines(&reason));
    }
    if revocations.len() > MAX_LISTED {
        anstream::println!("  and {} more", revocations.len() - MAX_LISTED);
    }
}

fn notice_text(planned: &PlannedNotice) -> String {
    let PlannedNotice { notice, token } = planned;
    let step = notice
        .step
        .map(|step| format!(" ({step})"))
        .unwrap_or_default();
    format!("{}{step}", text::clean_name(token.label()))
}
