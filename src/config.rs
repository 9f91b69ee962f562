//! Loads the configuration: finds the file, merges the environment into it, checks every value and
//! reports all problems at once.

mod daemon;
mod database;
mod directories;
mod error;
mod field;
mod layers;
mod mail;
mod policy;
mod secret;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod warnings;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::{Issuers, Policy};
use crate::engine::Settings;
use crate::notify::message::MailIdentity;
use crate::notify::smtp::SmtpSettings;

pub use daemon::{Http, Log, Store};
pub use directories::DirectoryConfig;
pub use error::Error;
pub use mail::{Mail, Transport};
pub use sources::SourceConfig;

use field::Context;
use layers::Merged;
use policy::Notify;
use table::Table;

/// Every section as the part of the program that uses it wants it.
#[derive(Debug, Clone)]
pub struct Config {
    /// `None` if the environment alone configures lapsed.
    pub file: Option<PathBuf>,
    pub store: Store,
    pub policy: Policy,
    pub settings: Settings,
    pub mail_identity: MailIdentity,
    pub mail: Mail,
    /// Always set if `mail.transport` is SMTP.
    pub smtp: Option<SmtpSettings>,
    /// How long a stop waits for mails that are being sent.
    pub stop_timeout: Duration,
    pub http: Http,
    pub log: Log,
    pub sources: Vec<SourceConfig>,
    pub directories: Vec<DirectoryConfig>,
    /// Which issuers the directories cover, and under which address.
    pub issuers: Issuers,
}

/// Searched in this order if neither `--config` nor `LAPSED_CONFIG` is given.
const DEFAULT_PATHS: &[&str] = &["lapsed.toml", "/etc/lapsed/lapsed.toml"];

/// A larger file is the wrong file.
const MAX_FILE_OCTETS: u64 = 4 * 1024 * 1024;

impl Config {
    #[must_use]
    pub fn directory_terms(&self) -> Vec<&crate::domain::DirectoryTerms> {
        self.directories
            .iter()
            .map(|directory| &directory.terms)
            .collect()
    }

    /// Loads the configuration from `cli_path`, else `$LAPSED_CONFIG`, else `./lapsed.toml`, else
    /// `/etc/lapsed/lapsed.toml`. Variables `LAPSED__SECTION__KEY` override the file and also work
    /// without one. Relative paths are resolved against the folder of the file, or the working
    /// directory if there is no file.
    ///
    /// # Errors
    /// [`Error::Invalid`] lists every problem, not only the first.
    pub fn load(cli_path: Option<&Path>, env: &HashMap<String, String>) -> Result<Self, Error> {
        let found = find(cli_path, env, DEFAULT_PATHS.iter().map(Path::new))?;
        if found.is_none() && !env.keys().any(|name| name.starts_with(layers::PREFIX)) {
            let looked_at = DEFAULT_PATHS.iter().map(PathBuf::from).collect();
            return Err(Error::NotFound { looked_at });
        }
        let file = found
            .as_ref()
            .map(|(path, bytes)| (path.as_path(), bytes.as_slice()));
        Self::parse(file, env)
    }

    fn parse(file: Option<(&Path, &[u8])>, env: &HashMap<String, String>) -> Result<Self, Error> {
        let Merged {
            values,
            places,
            problems,
        } = layers::merge(file, env).map_err(|problem| Error::Invalid(vec![problem]))?;
        let path = file.map(|(path, _)| path);
        let context = Context {
            env,
            base: folder(path),
            places,
            problems: RefCell::new(problems),
        };
        let config = Self::from_root(Table::root(&context, values), path);
        let mut problems = context.problems.into_inner();
        problems.sort_unstable();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Error::Invalid(problems)),
        }
    }

    fn from_root(mut root: Table, file: Option<&Path>) -> Option<Self> {
        let mail = Mail::from_table(root.section("mail"));
        let mut smtp_table = root.section("smtp");
        let (sweep, zone) = daemon::schedule(root.section("schedule"));
        let Notify {
            mut policy,
            summary,
            mail_identity,
        } = policy::notify(root.section("notify"), zone);
        let store = Store::from_table(root.section("store"));
        policy.accounts = policy::accounts(root.sections("account"));
        let from = mail_identity.as_ref().map(|identity| &identity.from);
        let smtp = mail::smtp(&mut smtp_table, mail.transport, from);
        let delivery = root.section("delivery");
        let (delivery, stop_timeout) = daemon::delivery(delivery, &mut smtp_table);
        smtp_table.finish();
        let (rules, response) = policy::rules(root.section("policy"));
        policy.rules = rules;
        let retention = daemon::retention(root.section("retention"));
        let http = Http::from_table(root.section("http"));
        let log = Log::from_table(root.section("log"));
        let issuers = policy::issuers(root.section("issuers"));
        let sources = SourceConfig::from_tables(root.sections("source"), zone);
        let directories = DirectoryConfig::from_tables(root.sections("directory"), zone);
        root.finish();
        Some(Self {
            file: file.map(Path::to_owned),
            store,
            policy,
            settings: Settings {
                sweep: sweep?,
                summary,
                delivery,
                retention,
                response,
            },
            mail_identity: mail_identity?,
            mail,
            smtp,
            stop_timeout,
            http,
            log,
            sources,
            directories,
            issuers,
        })
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
        let bytes = read_file(path).map_err(|error| unreadable(path, error))?;
        return Ok(Some((path.to_owned(), bytes)));
    }
    for path in paths {
        match read_file(path) {
            Ok(bytes) => return Ok(Some((path.to_owned(), bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, error)),
        }
    }
    Ok(None)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_OCTETS + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_OCTETS {
        return Err(io::Error::other(
            "it is larger than 4 MiB; is it the right file?",
        ));
    }
    Ok(bytes)
}

/// Absolute, so that it stays the same when the working directory changes.
fn folder(file: Option<&Path>) -> PathBuf {
    let folder = match file.and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}
