//! Loads the configuration: finds the file, merges the environment into it, checks every value and
//! reports all problems at once.

mod database;
mod directories;
mod error;
mod field;
mod fingerprint;
mod layers;
mod mail;
mod reach;
mod reading;
mod secret;
mod sections;
mod service;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod trust;
mod web;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::service::{Rank, Terms};
use crate::domain::{DirectoryTerms, Issuers, Policy};
use crate::engine::Settings;
use crate::network::is_this_host;
use crate::notify::message::MailIdentity;
use crate::notify::smtp::{SmtpSettings, Tls};
use crate::notify::view::Installation;

pub use directories::DirectoryConfig;
pub use error::Error;
pub use mail::{Mail, Transport};
pub use sections::{Heartbeat, Http, Log, Monitoring, Store};
pub use sources::SourceConfig;
pub use web::{ClientAddress, SignIn, Web, WebTls};

use field::{Context, Credentials, Secrets, read_file};
use layers::Merged;
use sections::Notify;
use table::Table;

/// The checked configuration, each section in the form that its user needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// `None` if the environment alone configures lapsed.
    pub file: Option<PathBuf>,
    /// The same for every replica, unless their secrets have not been read.
    pub fingerprint: String,
    pub store: Store,
    pub policy: Policy,
    pub settings: Settings,
    pub mail_identity: MailIdentity,
    pub mail: Mail,
    /// Always set if `mail.transport` is SMTP.
    pub smtp: Option<SmtpSettings>,
    /// How long a stop waits for mails that are being sent.
    pub stop_timeout: Duration,
    pub monitoring: Monitoring,
    pub http: Http,
    pub log: Log,
    pub sources: Vec<SourceConfig>,
    pub directories: Vec<DirectoryConfig>,
    /// Which issuers the directories cover, and under which address.
    pub issuers: Issuers,
    /// `None` if the token service is off.
    pub service: Option<Terms>,
    pub web: Web,
}

/// The variables of the process, without those that are not UTF-8.
pub fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Searched in this order if neither `--config` nor `LAPSED_CONFIG` is given.
const DEFAULT_PATHS: &[&str] = &["lapsed.toml", "/etc/lapsed/lapsed.toml"];
/// A larger file is the wrong file.
const MAX_FILE_KIB: u64 = 4 * 1024;

impl Config {
    pub fn has_source(&self, name: &str) -> bool {
        self.sources.iter().any(|source| source.terms.name == name)
    }

    pub fn directory_terms(&self) -> Vec<&DirectoryTerms> {
        self.directories
            .iter()
            .map(|directory| &directory.terms)
            .collect()
    }

    /// Loads the configuration from `cli_path`, else `$LAPSED_CONFIG`, else `./lapsed.toml`, else
    /// `/etc/lapsed/lapsed.toml`. Variables `LAPSED__SECTION__KEY` override the file and also work
    /// without one. Relative paths are resolved against the folder of the file, or the working
    /// directory if there is no file. A `./lapsed.toml` that another user may have written is an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] lists every problem, not only the first.
    pub fn load(cli_path: Option<&Path>, env: &HashMap<String, String>) -> Result<Self, Error> {
        Self::load_with(cli_path, env, Secrets::Read, &Credentials::default())
    }

    /// The same as another user, which `become_user` makes this process. Credentials are read before, as systemd
    /// does for a service.
    ///
    /// # Errors
    /// Those of [`Config::load`], and [`Error::User`].
    pub fn load_as(
        cli_path: Option<&Path>,
        env: &HashMap<String, String>,
        become_user: impl FnOnce() -> io::Result<()>,
    ) -> Result<Self, Error> {
        let found = find(cli_path, env, DEFAULT_PATHS.iter().map(Path::new))?;
        // The user may be unable to enter the working directory.
        let path = found.map(|(path, _)| std::path::absolute(&path).unwrap_or(path));
        let credentials = Credentials::default();
        // Its errors occur again below.
        let _ = Self::load_with(path.as_deref(), env, Secrets::Read, &credentials);
        become_user().map_err(Error::User)?;
        Self::load_with(path.as_deref(), env, Secrets::Read, &credentials)
    }

    /// The same for commands that use no other system than the store: the other secrets need not exist.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn load_without_secrets(
        cli_path: Option<&Path>,
        env: &HashMap<String, String>,
    ) -> Result<Self, Error> {
        Self::load_with(cli_path, env, Secrets::Leave, &Credentials::default())
    }

    fn load_with(
        cli_path: Option<&Path>,
        env: &HashMap<String, String>,
        secrets: Secrets,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let found = find(cli_path, env, DEFAULT_PATHS.iter().map(Path::new))?;
        if found.is_none() && !env.keys().any(|name| name.starts_with(layers::PREFIX)) {
            let looked_at = DEFAULT_PATHS.iter().map(PathBuf::from).collect();
            return Err(Error::NotFound { looked_at });
        }
        let file = found.as_ref();
        let file = file.map(|(path, bytes)| (path.as_path(), bytes.as_slice()));
        Self::parse(file, env, secrets, credentials)
    }

    fn parse(
        file: Option<(&Path, &[u8])>,
        env: &HashMap<String, String>,
        secrets: Secrets,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let Merged {
            values,
            places,
            problems,
        } = layers::merge(file, env).map_err(|problem| Error::Invalid(vec![problem]))?;
        let path = file.map(|(path, _)| path);
        let context = Context {
            env,
            secrets,
            credentials,
            base: folder(path),
            places,
            problems: RefCell::new(problems),
            counted: RefCell::default(),
        };
        let config = Self::from_root(Table::root(&context, values), path);
        let fingerprint = fingerprint::compute(&context.counted.into_inner());
        let mut problems = context.problems.into_inner();
        problems.sort_unstable();
        match config {
            Some(config) if problems.is_empty() => Ok(Self {
                fingerprint,
                ..config
            }),
            _ => Err(Error::Invalid(problems)),
        }
    }

    fn from_root(mut root: Table, file: Option<&Path>) -> Option<Self> {
        let mail = Mail::from_table(root.section("mail"));
        let mut smtp_table = root.section("smtp");
        let (sweep, zone, monitoring) = sections::schedule(root.section("schedule"));
        let Notify {
            mut policy,
            summary,
            mail_identity,
        } = sections::notify(root.section("notify"), zone);
        let store = Store::from_table(root.section("store"));
        policy.accounts = sections::accounts(root.sections("account"));
        let from = mail_identity.as_ref().map(|identity| &identity.from);
        let smtp = mail::smtp(&mut smtp_table, mail.transport, from);
        let (delivery, stop_timeout) =
            sections::delivery(root.section("delivery"), &mut smtp_table);
        let (rules, response) = sections::rules(root.section("policy"));
        policy.rules = rules;
        let retention = sections::retention(root.section("retention"));
        let http = Http::from_table(root.section("http"));
        let log = Log::from_table(root.section("log"));
        let issuers = sections::issuers(root.section("issuers"));
        let sources = SourceConfig::from_tables(root.sections("source"), zone);
        let named_steps = sources.iter().filter_map(SourceConfig::named_steps);
        policy.source_steps = named_steps.collect();
        let directories = DirectoryConfig::from_tables(root.sections("directory"), zone);
        let service = service::terms(root.section("service"));
        let web = Web::from_table(root.section("web"), service.is_some());
        let (terms, identity) = (service.as_ref(), mail_identity?);
        Some(Self {
            file: file.map(Path::to_owned),
            fingerprint: String::new(),
            store,
            policy,
            settings: Settings {
                sweep: sweep?,
                summary,
                delivery,
                retention,
                response,
                follow_directories: terms.is_some_and(|terms| terms.follow_directories),
                admin_role: terms.map(|terms| terms.roles.name(Rank::HIGHEST).to_owned()),
            },
            mail_identity: MailIdentity {
                installation: Installation {
                    sources: sources.iter().map(SourceConfig::mail_info).collect(),
                    ..identity.installation
                },
                ..identity
            },
            mail,
            smtp,
            stop_timeout,
            monitoring,
            http,
            log,
            sources,
            directories,
            issuers,
            service,
            web,
        })
    }

    /// Valid settings that are probably mistakes. Printed by `lapsed check`; each names the key and what to do.
    pub fn warnings(&self) -> Vec<String> {
        let has_admins = !self.policy.admins.is_empty();
        let revokes = self.settings.response.is_some();
        let may_revoke =
            self.service.is_some() || self.sources.iter().any(|source| source.terms.allow_revoke);
        let writes_files = self.mail.transport == Transport::File;
        let mut warnings: Vec<String> = [
            (!has_admins).then_some(
                "notify.admins is empty: when an issuer cannot be reached and the account has no \
                 admins, no one is notified; add an admin",
            ),
            (self.policy.max_per_sweep == 0).then_some(
                "notify.max_per_sweep is 0: nothing stops a flood of mails after a mistake",
            ),
            (revokes && !may_revoke).then_some(
                "policy.sso_revoked is \"revoke\" and no [[source]] has allow_revoke = true: no token \
                 is revoked; set it for the sources where lapsed may revoke tokens, or set \"flag\"",
            ),
            (revokes && !has_admins).then_some(
                "policy.sso_revoked is \"revoke\" and notify.admins is empty: lapsed does not revoke \
                 a token if it can warn no one before; add an admin",
            ),
            match &self.smtp {
                Some(smtp) if !writes_files => encryption_warning(smtp),
                _ => None,
            },
        ]
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect();
        if writes_files {
            let folder = self.mail.directory.display();
            warnings.push(format!(
                "mail.transport is \"file\": mails are written to {folder} and not sent"
            ));
        }
        if let Some(listen) = self.http.listen.filter(|listen| !listen.ip().is_loopback()) {
            warnings.push(format!(
                "http.listen is {listen}: everyone who can connect to it can read health and metrics"
            ));
        }
        warnings
    }
}

fn encryption_warning(smtp: &SmtpSettings) -> Option<&'static str> {
    let is_local = is_this_host(&smtp.host);
    match smtp.tls {
        Tls::Implicit | Tls::Required => None,
        Tls::None | Tls::Opportunistic if is_local => None,
        Tls::None if smtp.password.is_some() => Some(
            "smtp.url has tls=none and there is a password: it crosses the network unencrypted; use \
             tls=required or smtps://",
        ),
        Tls::None => Some("smtp.url has tls=none: mails cross the network unencrypted"),
        Tls::Opportunistic => Some(
            "smtp.url has tls=opportunistic: an attacker on the network can turn encryption off; use \
             tls=required if the server offers STARTTLS",
        ),
    }
}

/// The named file, which must exist, or the first of `paths` that exists.
fn find<'a>(
    cli_path: Option<&Path>,
    env: &HashMap<String, String>,
    paths: impl Iterator<Item = &'a Path>,
) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let from_env = env.get("LAPSED_CONFIG").filter(|path| !path.is_empty());
    let unreadable = |path: &Path, source| Error::Read {
        path: path.to_owned(),
        source,
    };
    if let Some(path) = cli_path.or(from_env.map(Path::new)) {
        let bytes = read_file(path, MAX_FILE_KIB).map_err(|error| unreadable(path, error))?;
        return Ok(Some((path.to_owned(), bytes)));
    }
    for path in paths {
        if path.is_relative() {
            trust::ensure_trusted(path)?;
        }
        match read_file(path, MAX_FILE_KIB) {
            Ok(bytes) => return Ok(Some((path.to_owned(), bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, error)),
        }
    }
    Ok(None)
}

/// Absolute, so that it stays the same when the working directory changes.
fn folder(file: Option<&Path>) -> PathBuf {
    let folder = match file.and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}
