//! Builds the store and the engine from the configuration.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::directories;
use crate::engine::{self, Engine, LastPurge, Mailer, WatchedDirectory, WatchedSource};
use crate::files::create_temporary_folder;
use crate::notify::message::Writer;
use crate::notify::smtp::Relay;
use crate::notify::template::Templates;
use crate::notify::transport::Outbox;
use crate::notify::transport::Transport;
use crate::service::{Mark, Service};
use crate::sources;
use crate::store::{self, Access, Store};
use crate::telemetry::{self, Telemetry};

use super::args::GlobalOptions;
use super::exit::{Failure, Result};
use super::stop::Stop;

#[derive(Debug, Clone)]
pub(super) struct Context {
    pub global: GlobalOptions,
    pub clock: Clock,
    pub stop: Stop,
}

type Load = fn(Option<&Path>, &HashMap<String, String>) -> Result<Config, config::Error>;

/// Loads the configuration that the command line or the environment names, with every secret in it.
pub(super) fn load_config(context: &Context) -> Result<Config> {
    Ok(load_with(context, Config::load)?)
}

/// The same as another user, which `become_user` makes this process.
pub(super) fn load_config_as(
    context: &Context,
    become_user: impl FnOnce() -> io::Result<()>,
) -> Result<Config> {
    let path = context.global.config.as_deref();
    Ok(Config::load_as(path, &config::environment(), become_user)?)
}

/// The same for commands that use no other system than the store: the other secrets need not exist.
pub(super) fn load_store_config(context: &Context) -> Result<Config> {
    Ok(load_with(context, Config::load_without_secrets)?)
}

/// The same for commands that work without a configuration.
pub(super) fn load_store_config_if_any(context: &Context) -> Result<Option<Config>> {
    match load_with(context, Config::load_without_secrets) {
        Ok(config) => Ok(Some(config)),
        Err(config::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn load_with(context: &Context, load: Load) -> Result<Config, config::Error> {
    load(context.global.config.as_deref(), &config::environment())
}

/// How a command opens the store.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    /// Creates or migrates it if needed.
    Normal,
    /// Opens it read-only; it must exist with the present schema.
    Read,
    /// Opens it read-only; without one, uses an empty temporary store.
    DryRun,
    /// Opens it read-only with the schema version that it has.
    AsIs,
    /// Opens it for moving it to another place.
    Move,
}

impl Mode {
    pub(super) fn new(is_dry_run: bool) -> Self {
        if is_dry_run {
            Self::DryRun
        } else {
            Self::Normal
        }
    }
}

/// Opens the store, does the work, and closes the store even if the work failed. A store that was replaced
/// or moved meanwhile is the error to report.
pub(super) async fn with_store<T>(
    config: &Config,
    mode: Mode,
    work: impl AsyncFnOnce(&Store) -> Result<T>,
) -> Result<T> {
    telemetry::collect_warnings();
    let (store, _scratch) = match mode {
        Mode::Normal => (open_store(config).await?, None),
        Mode::DryRun => open_store_for_dry_run(config).await?,
        Mode::Read => (open_existing(config, Access::ReadOnly).await?, None),
        Mode::AsIs => (open_existing(config, Access::AsIs).await?, None),
        Mode::Move => (open_existing(config, Access::Move).await?, None),
    };
    let result = work(&store).await;
    if let Err(error) = store.check_file() {
        store.leave_open();
        return Err(error.into());
    }
    let moved = match mode {
        Mode::Normal => store.check_usable().await,
        Mode::Read | Mode::DryRun | Mode::AsIs | Mode::Move => Ok(()),
    };
    store.close().await;
    moved?;
    result
}

/// The same with an engine that sends nothing.
pub(super) async fn with_engine<T>(
    context: &Context,
    config: &Config,
    mode: Mode,
    work: impl AsyncFnOnce(&Engine) -> Result<T>,
) -> Result<T> {
    let mailer = build_mailer_with(config, Transport::Discard)?;
    with_store(config, mode, async |store| {
        work(&build_engine(context, config, store.clone(), mailer)?).await
    })
    .await
}

async fn open_existing(config: &Config, access: Access) -> store::Result<Store> {
    Store::open(config.store.url.expose_secret(), access).await
}

/// Opens the store of a command that may write.
async fn open_store(config: &Config) -> store::Result<Store> {
    let access = if config.store.create {
        Access::Create
    } else {
        Access::Migrate
    };
    Store::open(config.store.url.expose_secret(), access).await
}

/// If there is no store yet, an empty one in a temporary folder, which is deleted when the returned
/// guard is dropped.
async fn open_store_for_dry_run(config: &Config) -> Result<(Store, Option<TempDir>)> {
    let url = config.store.url.expose_secret();
    match Store::open(url, Access::ReadOnly).await {
        Err(store::Error::Missing(_)) if config.store.create => {
            let folder = create_temporary_folder()?;
            let url = format!("sqlite://{}", folder.path().join("empty.db").display());
            let store = Store::open(&url, Access::Create).await?;
            Ok((store, Some(folder)))
        }
        opened => Ok((opened?, None)),
    }
}

pub(super) fn build_engine(
    context: &Context,
    config: &Config,
    store: Store,
    mailer: Arc<Mailer>,
) -> Result<Engine> {
    Ok(Engine {
        sources: build_sources(config)?,
        directories: build_directories(config, &context.clock)?,
        ..build_idle_engine(context, config, store, mailer)
    })
}

/// The token service; `None` if it is off.
pub(super) fn build_service(
    context: &Context,
    config: &Config,
    store: Store,
) -> Option<Arc<Service>> {
    let terms = Arc::new(config.service.clone()?);
    let policy = Arc::new(config.policy.clone());
    Some(Service::open(store, context.clock.clone(), terms, policy))
}

/// The file that shows whether the store was restored.
pub(super) fn find_mark(store: &Store) -> Option<Mark> {
    let folder = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    Mark::find(store, folder.as_deref())
}

/// An engine that watches nothing.
fn build_idle_engine(
    context: &Context,
    config: &Config,
    store: Store,
    mailer: Arc<Mailer>,
) -> Engine {
    Engine {
        store,
        clock: context.clock.clone(),
        policy: config.policy.clone(),
        settings: config.settings.clone(),
        mailer,
        sources: Vec::new(),
        directories: Vec::new(),
        issuers: config.issuers.clone(),
        holder: engine::new_id(context.clock.now()),
        last_purge: LastPurge::default(),
        is_patient: false,
        on_progress: Box::new(|| ()),
        on_delivery: Box::new(|| ()),
    }
}

/// The same with an engine that watches nothing either, and so needs no secret of another system.
pub(super) async fn with_idle_engine<T>(
    context: &Context,
    config: &Config,
    mode: Mode,
    work: impl AsyncFnOnce(&Engine) -> Result<T>,
) -> Result<T> {
    let mailer = build_mailer_with(config, Transport::Discard)?;
    with_store(config, mode, async |store| {
        work(&build_idle_engine(context, config, store.clone(), mailer)).await
    })
    .await
}

pub(super) fn build_source(config: &config::SourceConfig) -> Result<WatchedSource, sources::Error> {
    Ok(WatchedSource {
        terms: config.terms.clone(),
        source: Arc::from(config.kind.build(config.timeout, &config.proxies)?),
    })
}

fn build_sources(config: &Config) -> Result<Vec<WatchedSource>> {
    let mut sources = Vec::new();
    for configured in &config.sources {
        let watched = build_source(configured)
            .with_context(|| format!("cannot set up the source {}", configured.terms.name))
            .map_err(Failure::config)?;
        sources.push(watched);
    }
    Ok(sources)
}

pub(super) fn build_directory(
    config: &config::DirectoryConfig,
    clock: &Clock,
) -> Result<WatchedDirectory, sources::Error> {
    let common = directories::Common {
        timeout: config.timeout,
        allowed_groups: config.terms.allowed_groups.clone(),
        clock: clock.clone(),
        proxies: config.proxies.clone(),
    };
    Ok(WatchedDirectory {
        terms: config.terms.clone(),
        directory: Arc::from(config.kind.build(&common)?),
    })
}

fn build_directories(config: &Config, clock: &Clock) -> Result<Vec<WatchedDirectory>> {
    let mut directories = Vec::new();
    for configured in &config.directories {
        let watched = build_directory(configured, clock)
            .with_context(|| format!("cannot set up the directory {}", configured.terms.name))
            .map_err(Failure::config)?;
        directories.push(watched);
    }
    Ok(directories)
}

pub(super) fn build_mailer(config: &Config) -> Result<Arc<Mailer>> {
    build_mailer_with(config, build_transport(config)?)
}

fn build_mailer_with(config: &Config, transport: Transport) -> Result<Arc<Mailer>> {
    let writer = Writer::new(config.mail_identity.clone());
    let templates = load_templates(config)?;
    Ok(Arc::new(Mailer::new(writer, transport, templates)))
}

pub(super) fn load_templates(config: &Config) -> Result<Templates> {
    let templates = Templates::load(config.mail.templates.as_deref()).map_err(Failure::config)?;
    if let Some(language) = &config.mail_identity.installation.language {
        let found = templates.languages().require(language);
        let named = |error| Failure::config(anyhow::anyhow!("notify.language: {error}"));
        found.map_err(named)?;
    }
    Ok(templates)
}

fn build_transport(config: &Config) -> Result<Transport> {
    if let (config::Transport::Smtp, Some(smtp)) = (config.mail.transport, &config.smtp) {
        let relay = Relay::new(smtp.clone()).map_err(Failure::config)?;
        Ok(Transport::Smtp(Box::new(relay)))
    } else {
        let folder = &config.mail.directory;
        let outbox = Outbox::open(folder)
            .with_context(|| format!("cannot use {} for mails", folder.display()))
            .map_err(Failure::config)?;
        Ok(Transport::File(outbox))
    }
}

pub(super) fn start_log(context: &Context, config: &Config) -> Result<Telemetry> {
    let rust_log = std::env::var_os("RUST_LOG").and_then(|value| value.into_string().ok());
    let is_level = config.log.level.parse::<tracing::Level>().is_ok();
    let finer =
        (!is_level && context.global.log_level().is_none()).then(|| config.log.level.clone());
    let directives = rust_log.or(finer);
    Ok(
        telemetry::install(log_level(context, config), config.log.format, directives)
            .map_err(Failure::config)?,
    )
}

/// The log level; `--verbose` overrides the configuration.
pub(super) fn log_level(context: &Context, config: &Config) -> tracing::Level {
    context
        .global
        .log_level()
        .unwrap_or_else(|| config.log.level.parse().unwrap_or(tracing::Level::INFO))
}
