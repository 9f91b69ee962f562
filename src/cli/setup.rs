//! Putting the parts together: from a configuration to a store and an engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::config::{Config, DirectoryKind, SourceKind};
use crate::directories::file::FileDirectory;
use crate::domain::{Backoff, Policy};
use crate::engine::{self, Engine, GuardedDirectory, LastPurge, Named, Post, Settings};
use crate::sources::file::FileSource;
use crate::store::{self, Access, Store};

use super::Context;
use super::exit::Failure;

/// Loads the configuration that the command line and the environment name.
pub(super) fn config(context: &Context) -> anyhow::Result<Config> {
    let env: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Ok(Config::load(context.global.config.as_deref(), &env).map_err(Failure::config)?)
}

/// Opens the store as a command that may write does.
pub(super) async fn store(config: &Config) -> anyhow::Result<Store> {
    let access = if config.store.create {
        Access::Create
    } else {
        Access::Migrate
    };
    store_with(config, access).await
}

/// Opens the store with this access; an error ends the program with the code it deserves.
pub(super) async fn store_with(config: &Config, access: Access) -> anyhow::Result<Store> {
    let url = config.store.url.expose_secret();
    Store::open(url, access)
        .await
        .map_err(|error| store_failure(error).into())
}

/// The end that an error of the store makes of a command.
pub(super) fn store_failure(error: store::Error) -> Failure {
    match &error {
        store::Error::Url(_)
        | store::Error::Missing(_)
        | store::Error::Newer { .. }
        | store::Error::Older => Failure::config(error),
        store::Error::Open { .. } => Failure::unreachable(error).hint(
            "check [store] url, that the folder or server is there, and that this user may use it",
        ),
        error_kind if error_kind.is_transient() => Failure::unreachable(error),
        _ => Failure::failed(error),
    }
}

/// The end that an error of the engine makes of a command.
pub(super) fn engine_failure(error: engine::Error) -> Failure {
    match error {
        engine::Error::Store(error) => store_failure(error),
        error => Failure::failed(error),
    }
}

/// The engine of this configuration.
pub(super) fn engine(context: &Context, config: &Config, store: Store, post: Arc<Post>) -> Engine {
    let sources = config.sources.iter().map(|source| match &source.kind {
        SourceKind::File(file) => Named {
            name: source.name.clone(),
            kind: "file",
            it: Box::new(FileSource::new(source.name.clone(), file.path.clone())) as Box<_>,
        },
    });
    let directories = config
        .directories
        .iter()
        .map(|directory| match &directory.kind {
            DirectoryKind::File(file) => Named {
                name: directory.name.clone(),
                kind: "file",
                it: GuardedDirectory {
                    directory: Box::new(FileDirectory::new(
                        directory.name.clone(),
                        file.path.clone(),
                    )),
                    breaker_share: directory.breaker_share,
                    breaker_min: directory.breaker_min,
                },
            },
        });
    Engine {
        store,
        clock: context.clock.clone(),
        policy: policy(config),
        settings: settings(config),
        post,
        sources: sources.collect(),
        directories: directories.collect(),
        holder: engine::new_id(context.clock.now()),
        last_purge: LastPurge::default(),
        on_progress: Box::new(|| ()),
    }
}

/// When and whom to warn.
pub(super) fn policy(config: &Config) -> Policy {
    let notify = &config.notify;
    let accounts: BTreeMap<_, _> = config
        .accounts
        .iter()
        .map(|account| (account.name.clone(), account.admins.clone()))
        .collect();
    Policy {
        steps: notify.steps.clone(),
        merge_ahead: notify.merge_ahead,
        admin_digest: notify.admin_digest,
        zone: config.schedule.timezone,
        admins: notify.admins.clone(),
        accounts,
        max_per_sweep: notify.max_per_sweep,
    }
}

fn settings(config: &Config) -> Settings {
    let Config {
        delivery,
        retention,
        smtp,
        ..
    } = config;
    Settings {
        sweep: config.schedule.sweep.clone(),
        lease: delivery.lease,
        backoff: Backoff {
            min: delivery.retry_min,
            max: delivery.retry_max,
        },
        give_up: delivery.give_up,
        connections: smtp
            .as_ref()
            .map_or(4, |smtp| usize::from(smtp.connections)),
        messages_per_connection: smtp
            .as_ref()
            .and_then(|smtp| smtp.messages_per_connection)
            .unwrap_or(0),
        mails_per_second: smtp.as_ref().and_then(|smtp| smtp.mails_per_second),
        gone_tokens: retention.gone_tokens,
        notices: retention.notices,
        findings: retention.findings,
        runs: retention.runs,
        audit: retention.audit,
    }
}
