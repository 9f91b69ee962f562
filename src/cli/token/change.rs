//! `lapsed token update`, `disable`, `enable` and `delete`, for tokens that lapsed issues.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use chrono::{DateTime, Utc};

use super::issue::{join_networks, join_scopes};
use crate::cli::args::{TokenChanges, TokenDelete, TokenEnd, TokenUpdate};
use crate::cli::exit::{Exit, Failure, Result};
use crate::cli::output::print_line;
use crate::cli::service::{operator, with_service};
use crate::cli::setup::Mode;
use crate::cli::{Context, query};
use crate::config::Config;
use crate::domain::service::TokenChange;
use crate::domain::{LOCAL_SOURCE, Token, TokenId, TokenRef};
use crate::service::Service;
use crate::service::found::{Found, row_of_internal, stopped};

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
        let found = service
            .set_enabled(&operator(), token.id, None, is_enabled, reason)
            .await?;
        let label = query::label(&token);
        if !is_enabled {
            print_line(&format!(
                "{label} is disabled; `lapsed token enable` lets it work again"
            ))?;
            return Ok(Exit::Ok);
        }
        check_works(&found, service.now())?;
        print_line(&format!("{label} works again"))?;
        Ok(Exit::Ok)
    })
    .await
}

/// An enabled token may still be stopped by something else.
fn check_works(found: &Found, now: DateTime<Utc>) -> Result<()> {
    let Found {
        credential, person, ..
    } = found;
    let label = query::label(&found.token);
    if credential.expires_at.is_some_and(|at| at <= now) {
        let error = anyhow::anyhow!("{label} is enabled, but it has expired");
        let hint = format!(
            "`lapsed token regenerate {}` gives it a new secret and a new life",
            credential.public_id
        );
        return Err(Failure::failed(error).hint(hint).into());
    }
    match stopped(person) {
        Some((why, fix)) => {
            let error = anyhow::anyhow!("{label} is enabled, but does not work: {why}");
            Err(Failure::failed(error).hint(fix).into())
        }
        None => Ok(()),
    }
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

/// A token by reference; one of an internal kind has no row, and is found by its external id.
async fn find(service: &Service, reference: &TokenRef) -> Result<Token> {
    let mut tx = service.store().begin_read().await?;
    if let TokenRef::External(source, external_id) = reference
        && source == LOCAL_SOURCE
    {
        let id = TokenId::new(source, external_id);
        let credential = tx.find_credentials(&[id]).await?.pop();
        if let Some(credential) = credential.filter(|it| it.kind.is_internal()) {
            let person = tx.find_service_user(&credential.issuer).await?;
            return Ok(row_of_internal(&credential, person.as_ref()));
        }
    }
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
