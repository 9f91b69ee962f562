//! `lapsed source forget` and `lapsed source rename`.

use crate::cli::args::{SourceForget, SourceRename};
use crate::cli::exit::{Exit, Failure, Result};
use crate::cli::output::print_line;
use crate::cli::setup::{self, Mode};
use crate::cli::upstream::Kind;
use crate::cli::{Context, audit, report};
use crate::config::Config;
use crate::domain::{LOCAL_SOURCE, Name};
use crate::engine::{self, Engine, OperatorNote};
use crate::notify::wording::quantity;
use crate::store::SourceRow;

pub(super) async fn forget(
    context: &Context,
    config: &Config,
    args: &SourceForget,
) -> Result<Exit> {
    let name = args.name.as_str();
    refuse_local(name)?;
    setup::with_idle_engine(context, config, Mode::Normal, async |engine| {
        let row = find_stored(engine, name).await?;
        let is_reserved = row.is_some_and(|row| row.renamed_to.is_some());
        if config.has_source(name) && !is_reserved {
            let error = anyhow::anyhow!("the source {name} is in the configuration");
            let hint = "remove its [[source]] first; otherwise the next sweep reads it again";
            return Err(Failure::failed(error).hint(hint).into());
        }
        let actor = audit::actor();
        let note = OperatorNote {
            by: &actor,
            reason: args.reason.as_deref(),
        };
        let stop = context.stop.graceful(config.stop_timeout);
        let Some(removed) = engine.under_sweep_lease(stop, engine.removal().forget_source(name, note)).await? else {
            return Ok(report::print_busy());
        };
        print_line(&if is_reserved {
            format!("the name {name} is free again")
        } else {
            format!(
                "the source {name} was removed with {}, and {} cancelled; the ledger keeps what was sent",
                quantity(removed.tokens, "token"),
                quantity(removed.cancelled, "unsent notice")
            )
        })?;
        Ok(Exit::Ok)
    })
    .await
}

pub(super) async fn rename(
    context: &Context,
    config: &Config,
    args: &SourceRename,
) -> Result<Exit> {
    let SourceRename { old, new, reason } = args;
    refuse_local(old)?;
    refuse_local(new)?;
    if let Err(error) = new.parse::<Name>() {
        let unusable = anyhow::anyhow!("{new:?} cannot be the name of a source");
        return Err(Failure::usage(unusable).hint(format!("it {error}")).into());
    }
    if old == new {
        return Err(
            Failure::usage(anyhow::anyhow!("the old and the new name are the same")).into(),
        );
    }
    setup::with_idle_engine(context, config, Mode::Normal, async |engine| {
        engine::ensure_not_renamed(old, find_stored(engine, old).await?.as_ref())
            .map_err(|error| renamed_failure(old, &error))?;
        let actor = audit::actor();
        let note = OperatorNote {
            by: &actor,
            reason: reason.as_deref(),
        };
        let stop = context.stop.graceful(config.stop_timeout);
        let renamed = engine.under_sweep_lease(stop, engine.removal().rename_source(old, new, note)).await;
        let renamed = renamed.map_err(|error| match error {
            engine::Error::NameTaken(_) => Failure::failed(error).hint(format!(
                "to drop what was read under {new}: take its [[source]] out, run `lapsed source forget {new}`, and \
                 rename again"
            )),
            error => Failure::failed(error),
        })?;
        if renamed.is_none() {
            return Ok(report::print_busy());
        }
        let next = if config.has_source(new) {
            String::new()
        } else {
            format!("\nWrite the new name into its [[source]]: name = \"{new}\".")
        };
        print_line(&format!(
            "the source {old} is now {new}; its tokens keep their ids and their history{next}"
        ))?;
        Ok(Exit::Ok)
    })
    .await
}

/// Fails if the store knows that the source was renamed.
pub(super) async fn ensure_not_renamed(config: &Config, name: &str) -> Result<()> {
    let row = setup::with_store(config, Mode::DryRun, async |store| {
        Ok(store.begin_read().await?.find_source(name).await?)
    })
    .await?;
    engine::ensure_not_renamed(name, row.as_ref())
        .map_err(|error| renamed_failure(name, &error))?;
    Ok(())
}

fn renamed_failure(name: &str, error: &engine::Error) -> Failure {
    Failure::failed(anyhow::anyhow!("source {name}: {error}"))
}

/// The row of a source that the store knows; `None` if it only has tokens.
async fn find_stored(engine: &Engine, name: &str) -> Result<Option<SourceRow>> {
    let mut tx = engine.store.begin_read().await?;
    let known = tx.list_source_names().await?;
    if !known.iter().any(|known| known == name) {
        let known = known.iter().map(String::as_str);
        return Err(Kind::Source.unknown_name_error(name, known, "store"));
    }
    Ok(tx.find_source(name).await?)
}

fn refuse_local(name: &str) -> Result<()> {
    if name == LOCAL_SOURCE {
        let error = anyhow::anyhow!("{LOCAL_SOURCE} is the built-in source");
        let hint = "`lapsed token remove` removes single tokens that were imported into it";
        return Err(Failure::failed(error).hint(hint).into());
    }
    Ok(())
}
