//! `lapsed sweep`: one pass and its summary.

use super::args::Sweep;
use super::exit::{Exit, Failure, Result};
use super::report::{exit_code, print_problems, summary_lines, until_signal};
use super::setup::{self, Mode};
use super::{Context, actor, dry_run};
use crate::config::Config;
use crate::engine::SweepOptions;

pub(super) async fn sweep(context: &Context, args: Sweep) -> Result<Exit> {
    let config = setup::load_config(context)?;
    reject_unknown_names(&config, &args)?;
    if args.dry_run {
        return dry_run::sweep(context, &config, &args).await;
    }
    let _log = setup::start_log(context, &config)?;
    let mailer = setup::build_mailer(&config)?;
    let options = SweepOptions {
        by_schedule: false,
        only: args.source,
        accept_shrink: args.accept_shrink,
        actor: actor::name(),
    };
    let report = setup::with_store(&config, Mode::Write, async |store| {
        let engine = setup::build_engine(context, &config, store.clone(), mailer)?;
        Ok(until_signal(async |stop| engine.sweep(&options, stop).await).await)
    })
    .await?;
    print_problems(&report);
    anstream::print!("{}", summary_lines(&report));
    Ok(exit_code(&report))
}

/// Fails on a name that no source or directory has, before anything is swept.
fn reject_unknown_names(config: &Config, args: &Sweep) -> Result<()> {
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
