//! Putting the parts together: from a configuration to a store and an engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::config::{self, Config};
use crate::directories;
use crate::domain::{Backoff, Policy, Rules};
use crate::engine::{self, Engine, LastPurge, Post, Settings, Watched, WatchedDirectory};
use crate::notify::message::{Stationery, Writer};
use crate::notify::outbox::Outbox;
use crate::notify::smtp::{Relay, SmtpSettings, Tls};
use crate::notify::template::Templates;
use crate::notify::transport::Transport;
use crate::notify::view::Place;
use crate::sources;
use crate::store::{self, Access, Store};
use crate::telemetry::{self, Telemetry};

use super::Context;
use super::exit::Failure;

/// Loads the configuration that the command line and the environment name.
pub(super) fn config(context: &Context) -> anyhow::Result<Config> {
    Ok(load(context).map_err(Failure::config)?)
}

/// The same for commands that can do without one.
pub(super) fn config_if_any(context: &Context) -> anyhow::Result<Option<Config>> {
    match load(context) {
        Ok(config) => Ok(Some(config)),
        Err(config::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(Failure::config(error).into()),
    }
}

fn load(context: &Context) -> Result<Config, config::Error> {
    let env: HashMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Config::load(context.global.config.as_deref(), &env)
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

/// Opens the store for a command that leaves no trace. Where there is none yet, an empty one in a
/// folder that goes when it is dropped stands in: nothing is known, so everything would be new.
pub(super) async fn store_to_look_at(config: &Config) -> anyhow::Result<(Store, Option<TempDir>)> {
    let url = config.store.url.expose_secret();
    match Store::open(url, Access::ReadOnly).await {
        Ok(store) => Ok((store, None)),
        Err(store::Error::Missing(_)) if config.store.create => {
            let folder = tempfile::tempdir()?;
            let url = format!("sqlite://{}", folder.path().join("empty.db").display());
            let store = Store::open(&url, Access::Create)
                .await
                .map_err(store_failure)?;
            Ok((store, Some(folder)))
        }
        Err(error) => Err(store_failure(error).into()),
    }
}

/// Opens the store with this access; an error ends the program with the code it deserves.
pub(super) async fn store_with(config: &Config, access: Access) -> anyhow::Result<Store> {
    let url = config.store.url.expose_secret();
    Store::open(url, access)
        .await
        .map_err(|error| store_failure(error).into())
}

/// What to look at when the store cannot be opened. SQLite tells little of what it lacks.
pub(super) const MEND_ACCESS: &str = "check [store] url, that the folder or server is there, that the disk has room, and that this \
     user may write there";
/// What to do with a store that is damaged, or none.
pub(super) const MEND_DAMAGE: &str =
    "put a backup in its place (`lapsed backup` makes them), or name another file in [store] url";

/// The end that an error of the store makes of a command.
pub(super) fn store_failure(error: store::Error) -> Failure {
    match &error {
        store::Error::Url(_)
        | store::Error::Missing(_)
        | store::Error::Newer { .. }
        | store::Error::Older => Failure::config(error),
        store::Error::Open { .. } if error.is_damage() => Failure::failed(error).hint(MEND_DAMAGE),
        store::Error::Open { .. } => Failure::unreachable(error).hint(MEND_ACCESS),
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
pub(super) fn engine(
    context: &Context,
    config: &Config,
    store: Store,
    post: Arc<Post>,
) -> anyhow::Result<Engine> {
    Ok(Engine {
        store,
        clock: context.clock.clone(),
        policy: policy(config),
        settings: settings(config),
        post,
        sources: sources(config)?,
        directories: directories(config)?,
        issuers: config.issuers.clone(),
        holder: engine::new_id(context.clock.now()),
        last_purge: LastPurge::default(),
        on_progress: Box::new(|| ()),
    })
}

/// A configured source.
pub(super) fn source(config: &config::SourceConfig) -> Result<Watched, sources::Error> {
    let common = sources::Common {
        name: config.name.clone(),
        timeout: config.timeout,
    };
    Ok(Watched {
        name: config.name.clone(),
        kind: config.kind.as_str(),
        source: Arc::from(config.kind.build(&common)?),
        schedule: config.schedule.clone(),
        allow_revoke: config.allow_revoke,
        policy_ttl: config.policy_ttl,
        owners: config.owners.clone(),
    })
}

/// The configured sources.
fn sources(config: &Config) -> anyhow::Result<Vec<Watched>> {
    let built = config.sources.iter().map(|configured| {
        let watched = source(configured);
        watched.with_context(|| format!("cannot set up the source {}", configured.name))
    });
    let built: anyhow::Result<Vec<_>> = built.collect();
    Ok(built.map_err(Failure::config)?)
}

/// A configured directory.
pub(super) fn directory(
    config: &config::DirectoryConfig,
) -> Result<WatchedDirectory, sources::Error> {
    let common = directories::Common {
        name: config.name.clone(),
        timeout: config.timeout,
        allowed_groups: config.allowed_groups.clone(),
    };
    Ok(WatchedDirectory {
        name: config.name.clone(),
        kind: config.kind.as_str(),
        directory: Arc::from(config.kind.build(&common)?),
        schedule: config.schedule.clone(),
        allowed_groups: config.allowed_groups.clone(),
        canaries: config.canaries.clone(),
        absence_grace: config.absence_grace,
        fresh_for: config.fresh_for,
        breaker_share: config.breaker_share,
        breaker_min: config.breaker_min,
    })
}

/// The configured directories.
fn directories(config: &Config) -> anyhow::Result<Vec<WatchedDirectory>> {
    let built = config.directories.iter().map(|configured| {
        let watched = directory(configured);
        watched.with_context(|| format!("cannot set up the directory {}", configured.name))
    });
    let built: anyhow::Result<Vec<_>> = built.collect();
    Ok(built.map_err(Failure::config)?)
}

/// What writes and sends mails.
pub(super) fn post(config: &Config) -> anyhow::Result<Arc<Post>> {
    let templates = templates(config)?;
    Ok(Arc::new(Post::new(
        Writer::new(stationery(config)),
        transport(config)?,
        templates,
    )))
}

/// A stand-in for commands that send nothing and must leave no trace: no folder is made for mails.
pub(super) fn post_for_dry_run(config: &Config) -> anyhow::Result<Arc<Post>> {
    let transport = match &config.smtp {
        Some(_) => transport(config)?,
        None => Transport::File(Outbox::closed()),
    };
    Ok(Arc::new(Post::new(
        Writer::new(stationery(config)),
        transport,
        templates(config)?,
    )))
}

/// The templates, with the overrides of the configuration.
pub(super) fn templates(config: &Config) -> anyhow::Result<Templates> {
    Ok(Templates::load(config.mail.templates.as_deref()).map_err(Failure::config)?)
}

/// How this installation signs its mails.
pub(super) fn stationery(config: &Config) -> Stationery {
    let notify = &config.notify;
    let base_url = notify.base_url.as_ref();
    Stationery {
        from: notify.from.clone(),
        reply_to: notify.reply_to.clone(),
        place: Place {
            base_url: base_url.map(|url| url.as_str().trim_end_matches('/').to_owned()),
        },
    }
}

fn transport(config: &Config) -> anyhow::Result<Transport> {
    if let (config::Transport::Smtp, Some(smtp)) = (config.mail.transport, &config.smtp) {
        let relay = Relay::new(smtp_settings(config, smtp)?).map_err(Failure::config)?;
        Ok(Transport::Smtp(Box::new(relay)))
    } else {
        let folder = &config.mail.directory;
        let outbox = Outbox::open(folder)
            .with_context(|| format!("cannot use {} for mails", folder.display()))
            .map_err(Failure::config)?;
        Ok(Transport::File(outbox))
    }
}

/// Where the relay is and who we are to it.
pub(super) fn smtp_settings(config: &Config, smtp: &config::Smtp) -> anyhow::Result<SmtpSettings> {
    let envelope_from = match &smtp.envelope_from {
        Some(address) => address.as_str().parse().map_err(Failure::config)?,
        None => config.notify.from.email.clone(),
    };
    Ok(SmtpSettings {
        host: smtp.host.clone(),
        port: smtp.port,
        tls: match smtp.tls {
            config::Tls::Implicit => Tls::Implicit,
            config::Tls::Required => Tls::Required,
            config::Tls::Opportunistic => Tls::Opportunistic,
            config::Tls::None => Tls::None,
        },
        user: smtp.user.clone(),
        password: smtp.password.clone(),
        ca_file: smtp.ca_file.clone(),
        hello_name: smtp.hello_name.clone(),
        timeout: smtp.timeout,
        final_timeout: smtp.final_timeout,
        pipelining: smtp.pipelining,
        envelope_from,
    })
}

/// Starts the log of a command that works.
pub(super) fn log(context: &Context, config: &Config) -> anyhow::Result<Telemetry> {
    let format = match config.log.format {
        config::LogFormat::Text => telemetry::Format::Text,
        config::LogFormat::Json => telemetry::Format::Json,
    };
    let rust_log = std::env::var_os("RUST_LOG").and_then(|value| value.into_string().ok());
    let is_level = config.log.level.parse::<tracing::Level>().is_ok();
    let finer = (!is_level && context.global.level().is_none()).then(|| config.log.level.clone());
    let directives = rust_log.or(finer);
    Ok(telemetry::install(level(context, config), format, directives).map_err(Failure::config)?)
}

/// The level of the log: `--verbose` before the configuration.
pub(super) fn level(context: &Context, config: &Config) -> tracing::Level {
    context
        .global
        .level()
        .unwrap_or_else(|| config.log.level.parse().unwrap_or(tracing::Level::INFO))
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
        rules: Rules {
            max_ttl: config.policy.max_ttl,
            unused_after: config.policy.unused_after,
        },
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
        summary: config.notify.summary.clone(),
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
        response: config.policy.response,
    }
}
