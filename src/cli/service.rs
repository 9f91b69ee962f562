//! Opens the token service for commands, and `lapsed service`.

use super::Context;
use super::args::ServiceCommand;
use super::audit;
use super::exit::{Exit, Failure, Result};
use super::output::print_line;
use super::setup::{self, Mode};
use crate::config::Config;
use crate::domain::service::{Actor, ServicePerson};
use crate::notify::wording::quantity;
use crate::service::Service;

/// Rows per page.
const PAGE_SIZE: i64 = 1000;

/// Opens the store with the token service, and closes it after the work.
///
/// # Errors
/// If the service is off.
pub(super) async fn with_service<T>(
    context: &Context,
    config: &Config,
    mode: Mode,
    work: impl AsyncFnOnce(&Service) -> Result<T>,
) -> Result<T> {
    let off = || {
        let error = anyhow::anyhow!("the token service is off");
        let hint = "write enabled = true in [service]; `lapsed config example` shows its keys";
        Failure::config(error).hint(hint)
    };
    if config.service.is_none() {
        return Err(off().into());
    }
    setup::with_store(config, mode, async |store| {
        let service = setup::build_service(context, config, store.clone());
        work(&*service.ok_or_else(off)?).await
    })
    .await
}

pub(super) async fn service(context: &Context, command: ServiceCommand) -> Result<Exit> {
    let ServiceCommand::Resume(args) = command;
    let config = setup::load_store_config(context)?;
    let resumed = with_service(context, &config, Mode::Normal, async |service| {
        let mark = setup::find_mark(service.store());
        let since = args.revoke_changed_since;
        let resumed = service.resume(&operator(), since, mark.as_ref()).await?;
        Ok(resumed)
    })
    .await?;
    let revoked = quantity(resumed.revoked as u64, "token");
    print_line(&format!("tokens are verified again; {revoked} revoked"))?;
    Ok(Exit::Ok)
}

/// The operator, as whom a command acts.
pub(super) fn operator() -> Actor {
    Actor::Operator(audit::actor())
}

/// The first `limit` users.
pub(super) async fn load_users(service: &Service, limit: usize) -> Result<Vec<ServicePerson>> {
    let mut users: Vec<ServicePerson> = Vec::new();
    while users.len() < limit {
        let after = users.last().map(|user| user.key.clone());
        let page = service
            .list_users(&operator(), after.as_deref(), PAGE_SIZE)
            .await?;
        if page.is_empty() {
            break;
        }
        users.extend(page);
    }
    users.truncate(limit);
    Ok(users)
}
