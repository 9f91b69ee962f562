//! `lapsed token update`, `disable`, `enable` and `delete`, for tokens that lapsed issues.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::issue::{join_networks, join_scopes};
use crate::cli::args::{TokenChanges, TokenDelete, TokenEnd, TokenUpdate};
use crate::cli::exit::{Exit, Result};
use crate::cli::output::print_line;
use crate::cli::service::{operator, with_service};
use crate::cli::setup::Mode;
use crate::cli::{Context, query};
use crate::config::Config;
use crate::domain::service::TokenChange;
use crate::domain::{Token, TokenRef};
use crate::service::Service;

pub(super) async fn update(context: &Context, config: &Config, args: TokenUpdate) -> Result<Exit> {
    let TokenChanges {
        name,
        description,
        role,
        scope,
        network,
        owner,
    } = args.changes;
    let change = TokenChange {
        name,
        description: description.map(|text| text.0),
        role: role.map(|role| role.0),
        scopes: scope.as_deref().map(join_scopes),
        networks: network.as_deref().map(join_networks),
        owner,
    };
    with_service(context, config, Mode::Normal, async |service| {
        let token = find(service, &args.id).await?;
        let found = service.update(&operator(), token.id, None, &change).await?;
        print_line(&format!("{} was updated", query::label(&found.token)))?;
        Ok(Exit::Ok)
    })
    .await
}

pub(super) async fn set_enabled(
    context: &Context,
    config: &Config,
    args: &TokenEnd,
    is_enabled: bool,
) -> Result<Exit> {
    with_service(context, config, Mode::Normal, async |service| {
        let token = find(service, &args.id).await?;
        let reason = args.reason.as_deref();
        service
            .set_enabled(&operator(), token.id, None, is_enabled, reason)
            .await?;
        let label = query::label(&token);
        print_line(&if is_enabled {
            format!("{label} works again")
        } else {
            format!("{label} is disabled; `lapsed token enable` lets it work again")
        })?;
        Ok(Exit::Ok)
    })
    .await
}

pub(super) async fn delete(context: &Context, config: &Config, args: &TokenDelete) -> Result<Exit> {
    with_service(context, config, Mode::Normal, async |service| {
        let token = find(service, &args.end.id).await?;
        let label = query::label(&token);
        let question = format!("Revoke {label}? This cannot be undone.");
        if !args.yes && !confirm(&question)? {
            print_line("nothing was changed")?;
            return Ok(Exit::Ok);
        }
        let reason = args.end.reason.as_deref();
        service.delete(&operator(), token.id, None, reason).await?;
        print_line(&format!(
            "{label} is revoked; it stays in the lists for the audit"
        ))?;
        Ok(Exit::Ok)
    })
    .await
}

async fn find(service: &Service, reference: &TokenRef) -> Result<Token> {
    let mut tx = service.store().begin_read().await?;
    query::find_token(&mut tx, reference).await
}

/// Asks on a terminal; without one, the answer is yes.
pub(in crate::cli) fn confirm(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(true);
    }
    let mut out = anstream::stderr();
    write!(out, "{question}\nType yes to go on: ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
