//! `lapsed sweep --dry-run`: what a sweep would do, without a trace.

use std::collections::BTreeMap;

use super::args::Sweep;
use super::exit::Exit;
use super::output::text;
use super::{Context, setup, sweep};
use crate::config::Config;
use crate::domain::Address;
use crate::domain::response::Decision;
use crate::engine::{Foreseen, Prospect, SweepOptions};

/// Mails that are told one by one; the rest is counted.
const SHOWN: usize = 50;

pub(super) async fn sweep(
    context: &Context,
    config: &Config,
    args: &Sweep,
) -> anyhow::Result<Exit> {
    let (store, scratch) = setup::store_to_look_at(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let options = SweepOptions {
        by_schedule: false,
        only: args.source.clone(),
        accept_shrink: args.accept_shrink.clone(),
        ..SweepOptions::default()
    };
    let mut mails: BTreeMap<Address, Vec<String>> = BTreeMap::new();
    let report = engine
        .foresee(&options, |foreseen| {
            let about = mails.entry(foreseen.notice.recipient.clone()).or_default();
            // A mail's first tokens are enough to know it by.
            about.push(if about.len() < 3 {
                line(&foreseen)
            } else {
                String::new()
            });
        })
        .await
        .map_err(setup::engine_failure)?;
    let ends = engine
        .foresee_ends(&options)
        .await
        .map_err(setup::engine_failure)?;
    engine.store.close().await;
    drop(scratch);
    sweep::complain(&report);
    anstream::print!("{}", sweep::told(&report));
    anstream::println!(
        "mails     {} would be written; nothing was changed or sent",
        mails.len()
    );
    for (to, about) in mails.iter().take(SHOWN) {
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
    if mails.len() > SHOWN {
        anstream::println!(
            "  and {} more; `lapsed forecast` lists them all",
            mails.len() - SHOWN
        );
    }
    print_ends(&ends);
    let limit = config.notify.max_per_sweep;
    if limit > 0 && mails.len() as u64 > limit {
        anstream::println!(
            "That is more than [notify] max_per_sweep = {limit}: all of it would be held."
        );
    }
    Ok(sweep::exit(&report))
}

/// Tells which tokens of people without access would be ended now, and what the others wait for.
fn print_ends(ends: &[Prospect]) {
    if ends.is_empty() {
        return;
    }
    let is_revoked = |it: &&Prospect| it.decision == Decision::Revoke;
    let revoked = ends.iter().filter(is_revoked).count();
    anstream::println!(
        "ends      {revoked} would be made at their source, of tokens whose issuers lost access; none was"
    );
    for Prospect {
        token,
        evidence,
        decision,
    } in ends.iter().take(SHOWN)
    {
        let said = match decision {
            Decision::Revoke => evidence.clone().unwrap_or_default(),
            Decision::Wait(wait) => format!("waits: {wait}"),
            Decision::Never(never) => format!("is left alone: {never}"),
        };
        let id = format!("{}/{}", token.source, token.external_id);
        let (id, name) = (text::name(&id), text::name(token.label()));
        anstream::println!("  {id} {name}: {}", text::clean_lines(&said));
    }
    if ends.len() > SHOWN {
        anstream::println!("  and {} more", ends.len() - SHOWN);
    }
}

fn line(foreseen: &Foreseen) -> String {
    let Foreseen { notice, token } = foreseen;
    let step = notice
        .step
        .map(|step| format!(" ({step})"))
        .unwrap_or_default();
    format!("{}{step}", text::name(token.label()))
}
