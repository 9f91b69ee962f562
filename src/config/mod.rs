//! The configuration: found, laid over by the environment, checked, and turned into the types that
//! the rest works with. After loading nothing in it is malformed.

mod daemon;
mod database;
mod directories;
mod error;
mod field;
mod issuers;
mod layers;
mod mail;
mod notify;
mod policy;
mod secret;
mod sources;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod warnings;

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use chrono_tz::Tz;

pub use daemon::{Delivery, Http, Log, LogFormat, ScheduleConfig};
pub use directories::DirectoryConfig;
pub use error::{Error, Place, Problem};
pub use mail::{Mail, Smtp, Tls, Transport};
pub use notify::{Account, Notify};
pub use policy::{Policy, Retention};
pub use sources::SourceConfig;
pub use store::Store;

use layers::Merged;
use table::{Context, Table};

/// Everything that an operator decides.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// Where lapsed keeps what it knows.
    pub store: Store,
    /// When lapsed sweeps.
    pub schedule: ScheduleConfig,
    /// Who is told, when, and in whose name.
    pub notify: Notify,
    /// Tenants and their administrators.
    pub accounts: Vec<Account>,
    /// How mails leave.
    pub mail: Mail,
    /// The mail server; there is one whenever mails leave by SMTP.
    pub smtp: Option<Smtp>,
    /// How claims and retries are timed.
    pub delivery: Delivery,
    /// How tokens should be.
    pub policy: Policy,
    /// How long things are kept.
    pub retention: Retention,
    /// Health and metrics.
    pub http: Http,
    /// What is logged.
    pub log: Log,
    /// Where tokens live.
    pub sources: Vec<SourceConfig>,
    /// Who knows the people.
    pub directories: Vec<DirectoryConfig>,
    /// Which issuers those cover, and by which address.
    pub issuers: crate::domain::Issuers,
}

/// Where a file is looked for when none is named.
const PLACES: &[&str] = &["lapsed.toml", "/etc/lapsed/lapsed.toml"];

/// No configuration is larger; what is, is the wrong file.
const LARGEST: u64 = 4 * 1024 * 1024;

impl Config {
    /// Loads the configuration: from `cli_path`, else `$LAPSED_CONFIG`, else `./lapsed.toml`, else
    /// `/etc/lapsed/lapsed.toml`, each laid over by the variables `LAPSED__SECTION__KEY`, which may
    /// also stand alone. Relative paths start from the folder of the file, without one from the
    /// working directory.
    ///
    /// # Errors
    /// [`Error::Invalid`] with everything that is wrong, not only the first.
    pub fn load(cli_path: Option<&Path>, env: &HashMap<String, String>) -> Result<Self, Error> {
        let found = find(cli_path, env, PLACES.iter().map(Path::new))?;
        if found.is_none() && !env.keys().any(|name| name.starts_with(layers::PREFIX)) {
            let looked_at = PLACES.iter().map(PathBuf::from).collect();
            return Err(Error::NotFound { looked_at });
        }
        let file = found
            .as_ref()
            .map(|(path, bytes)| (path.as_path(), bytes.as_slice()));
        Self::parse(file, env)
    }

    /// The configuration in these bytes, which `path` gives a name and a folder.
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
        let config = Self::read(Table::root(&context, values), path);
        let mut problems = context.problems.into_inner();
        problems.sort_unstable();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(Error::Invalid(problems)),
        }
    }

    fn read(mut root: Table, file: Option<&Path>) -> Option<Self> {
        let mail = Mail::read(root.section("mail"));
        let smtp = Smtp::read(root.section("smtp"), mail.transport);
        let schedule = ScheduleConfig::read(root.section("schedule"));
        let zone = schedule
            .as_ref()
            .map_or(Tz::UTC, |schedule| schedule.timezone);
        let notify = Notify::read(root.section("notify"), zone);
        let store = Store::read(root.section("store"));
        let accounts = Account::read_all(root.sections("account"));
        let delivery = Delivery::read(root.section("delivery"));
        let policy = Policy::read(root.section("policy"));
        let retention = Retention::read(root.section("retention"));
        let http = Http::read(root.section("http"));
        let log = Log::read(root.section("log"));
        let issuers = issuers::read(root.section("issuers"));
        let sources = SourceConfig::read_all(root.sections("source"), zone);
        let directories = DirectoryConfig::read_all(root.sections("directory"), zone);
        root.finish();
        Some(Self {
            file: file.map(Path::to_owned),
            store,
            schedule: schedule?,
            notify: notify?,
            accounts,
            mail,
            smtp,
            delivery,
            policy,
            retention,
            http,
            log,
            sources,
            directories,
            issuers,
        })
    }
}

/// The file that is named, which must be there, or the first that is there.
fn find<'a>(
    cli_path: Option<&Path>,
    env: &HashMap<String, String>,
    places: impl Iterator<Item = &'a Path>,
) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let from_env = env.get("LAPSED_CONFIG").filter(|path| !path.is_empty());
    let unreadable = |path: &Path, source| Error::Read {
        path: path.to_owned(),
        source,
    };
    if let Some(path) = cli_path.or(from_env.map(Path::new)) {
        let bytes = read(path).map_err(|error| unreadable(path, error))?;
        return Ok(Some((path.to_owned(), bytes)));
    }
    for path in places {
        match read(path) {
            Ok(bytes) => return Ok(Some((path.to_owned(), bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, error)),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(
            "it is larger than 4 MiB, which no configuration is",
        ));
    }
    Ok(bytes)
}

/// The folder of a file, absolute, so that it stays the same when the working directory changes.
fn folder(file: Option<&Path>) -> PathBuf {
    let folder = match file.and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}
