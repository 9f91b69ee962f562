//! `lapsed token remove`: removes a token whose source is not configured.

use crate::cli::args::TokenRemove;
use crate::cli::exit::{Exit, Failure, Result};
use crate::cli::output::print_line;
use crate::cli::setup::{self, Mode};
use crate::cli::{Context, audit, query};
use crate::config::Config;
use crate::engine::{Engine, OperatorNote};
use crate::notify::wording::quantity;

pub(super) async fn remove(context: &Context, config: &Config, args: TokenRemove) -> Result<Exit> {
    setup::with_idle_engine(context, config, Mode::Normal, async |engine| {
        remove_one(engine, config, &args).await
    })
    .await
}

async fn remove_one(engine: &Engine, config: &Config, args: &TokenRemove) -> Result<Exit> {
    let mut tx = engine.store.begin_read().await?;
    let token = query::find_token(&mut tx, &args.id).await?;
    let is_issued = !tx.find_credentials(&[token.id]).await?.is_empty();
    drop(tx);
    let label = query::label(&token);
    let source = &token.source;
    if is_issued {
        let error =
            anyhow::anyhow!("{label} was issued by lapsed, which keeps it for the audit trail");
        let hint = format!("`lapsed token delete {}` ends it", token.external_id);
        return Err(Failure::failed(error).hint(hint).into());
    }
    if config.has_source(source) {
        let error = anyhow::anyhow!("{label} belongs to the source {source}, which is configured");
        let hint = "its next sync would add the token again; delete it at the source, or use `lapsed token revoke`";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let note = OperatorNote {
        by: &audit::actor(),
        reason: args.reason.as_deref(),
    };
    let removed = engine.removal().remove_token(&token, note).await?;
    print_line(&format!(
        "{label} was removed, and {} cancelled; the ledger keeps what was sent",
        quantity(removed.cancelled, "unsent notice")
    ))?;
    Ok(Exit::Ok)
}
