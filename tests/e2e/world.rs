//! The world of one test: a folder, a store, a configuration, a clock and the program.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use chrono::{DateTime, TimeDelta, Utc};
use mail_parser::MessageParser;
use serde_json::Value;
use tempfile::TempDir;

use crate::mailserver::MailServer;
use crate::postgres::Database;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Db {
    Sqlite,
    Postgres,
}

pub struct World {
    folder: TempDir,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    /// Tables that may occur more than once.
    tables: String,
    /// `2026-11-24 00:00:00` in UTC, or `+1d` for a day ahead of the real time.
    clock: Option<String>,
    environment: Vec<(String, String)>,
    dry_runs: bool,
    /// The process whose mount namespace the program joins.
    mounts_of: Option<u32>,
    // Dropped last, when the program has ended.
    database: Option<Database>,
}

/// The result of one run of the program.
#[derive(Debug)]
pub struct RunResult {
    /// `None` if it was killed.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A received mail with decoded parts.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub raw: String,
}

impl World {
    /// A world that writes mails to files, with one administrator and no digest.
    pub fn new(db: Db) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = (db == Db::Postgres).then(Database::new);
        let url = database
            .as_ref()
            .map_or("sqlite:lapsed.db".to_owned(), Database::url);
        let mut world = Self {
            folder,
            settings: BTreeMap::new(),
            tables: String::new(),
            clock: None,
            environment: Vec::new(),
            dry_runs: true,
            mounts_of: None,
            database,
        };
        world
            .set("store.url", &format!("{url:?}"))
            .set("notify.from", "\"API tokens <tokens@lapsed.example>\"")
            .set("notify.admins", "[\"boss@example.org\"]")
            .set("notify.admin_digest", "\"off\"")
            .set("mail.transport", "\"file\"")
            .set("http.listen", "\"off\"")
            .set("delivery.lease", "\"1s\"")
            .set("delivery.retry_min", "\"1s\"")
            .set("delivery.retry_max", "\"1s\"");
        world
    }

    /// Sets the configuration key `section.key` to a TOML value.
    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        let (section, key) = key.split_once('.').unwrap();
        let section = self.settings.entry(section.to_owned()).or_default();
        section.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a configuration table that may occur more than once.
    pub fn table(&mut self, text: &str) -> &mut Self {
        self.tables.push_str(text);
        self.tables.push('\n');
        self
    }

    /// Replaces all tables added with [`World::table`].
    pub fn replace_tables(&mut self, text: &str) -> &mut Self {
        self.tables.clear();
        self.table(text)
    }

    /// Sends mails to this server from now on.
    pub fn use_mail_server(&mut self, server: &MailServer) -> &mut Self {
        let url = format!("\"smtp://127.0.0.1:{}?tls=none\"", server.port);
        self.set("mail.transport", "\"smtp\"").set("smtp.url", &url)
    }

    /// Sets the clock to an instant in UTC (`2026-11-24 00:00:00`) or an offset (`+1d`).
    pub fn at(&mut self, clock: &str) -> &mut Self {
        self.clock = Some(clock.to_owned());
        self
    }

    /// Sets an environment variable of the program.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the program in the mount namespace of this process.
    pub fn use_mounts_of(&mut self, process: u32) -> &mut Self {
        self.mounts_of = Some(process);
        self
    }

    pub fn store_url(&self) -> String {
        self.settings["store"]["url"].trim_matches('"').to_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file atomically, by a rename, so that it is a new file.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let temporary = self.path(&format!(".{name}.new"));
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path(name)).unwrap();
        self
    }

    /// Imports rows of `external_id,name,issuer_email,expires_at`.
    pub fn import<T: AsRef<str>>(&self, rows: &[T]) -> &Self {
        // Without a date, the source would have the finding that most of its expiries are not known.
        let with_expiry = |row: &T| match row.as_ref() {
            row if row.ends_with(',') => format!("{row}2199-12-31"),
            row => row.to_owned(),
        };
        let rows: Vec<_> = rows.iter().map(with_expiry).collect();
        let rows = rows.join("\n");
        self.write(
            "tokens.csv",
            format!("external_id,name,issuer_email,expires_at\n{rows}\n"),
        );
        self.run(&["import", "tokens.csv"]).exits(0);
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        // Do not rewrite it needlessly: another run of the program may be reading it.
        if fs::read_to_string(self.path("lapsed.toml")).ok() != Some(self.config()) {
            self.write("lapsed.toml", self.config());
        }
        let program = env!("CARGO_BIN_EXE_lapsed");
        let mut command = match self.mounts_of {
            None => Command::new(program),
            Some(process) => {
                let mut command = nsenter_command(process, self.folder.path());
                command.arg(program);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TZ", "UTC")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if let Some(clock) = &self.clock {
            let absolute = clock.starts_with(|first: char| first.is_ascii_digit());
            let clock = if absolute {
                format!("@{clock}")
            } else {
                clock.clone()
            };
            command
                .env("LD_PRELOAD", faketime_library())
                .env("FAKETIME", clock)
                // File times and time-outs use the real time.
                .env("NO_FAKE_STAT", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    /// Runs the program. Before a sweep of an SQLite store at a fixed time, a dry run must predict what the sweep does.
    /// (`tests/it` compares the two on both databases.)
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> RunResult {
        let is_predictable = arguments.first() == Some(&"sweep")
            && self.database.is_none()
            && !arguments.contains(&"--dry-run")
            && self.dry_runs
            && self.clock.as_ref().is_some_and(|clock| clock.len() == 19);
        if !is_predictable {
            return self.command(arguments).output().unwrap().into();
        }
        let dry_run = [arguments, &["--dry-run"]].concat();
        let predicted: RunResult = self.command(&dry_run).output().unwrap().into();
        let swept: RunResult = self.command(arguments).output().unwrap().into();
        swept.is_predicted_by(&predicted);
        swept
    }

    /// Sweeps are not preceded by dry runs: the test counts requests, or the world changes with each.
    pub fn without_dry_runs(&mut self) -> &mut Self {
        self.dry_runs = false;
        self
    }

    /// Sweeps without a problem.
    #[track_caller]
    pub fn sweep(&self) -> RunResult {
        let ran = self.run(&["sweep"]);
        ran.exits(0);
        ran
    }

    /// Starts the program; its log goes to `NAME.log`.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Child {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        self.command(arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// The JSON rows of a list command.
    pub fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let ran = self.run(&[arguments, &["--format", "json"]].concat());
        let rows = serde_json::from_str(&ran.exits(0).stdout);
        rows.unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// Every notice as `state step recipient name`, sorted.
    pub fn notices(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .list(&["notice", "list"])
            .iter()
            .map(|notice| {
                let text = |key: &str| notice[key].as_str().unwrap_or("-").to_owned();
                let what = match notice["step"].as_str() {
                    Some(step) => step.to_owned(),
                    None => text("topic"),
                };
                format!(
                    "{} {what} {} {}",
                    text("state"),
                    text("recipient"),
                    text("token_name")
                )
            })
            .collect();
        lines.sort();
        lines
    }

    /// The number of notices in each state.
    pub fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for notice in self.list(&["notice", "list"]) {
            *states
                .entry(notice["state"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
        states
    }

    /// Every token as `external_id status`, in the order of `token list`.
    pub fn tokens(&self) -> Vec<String> {
        self.list(&["token", "list"])
            .iter()
            .map(|token| {
                let text = |key: &str| token[key].as_str().unwrap().to_owned();
                format!("{} {}", text("external_id"), text("status"))
            })
            .collect()
    }

    /// Removes the mails from the folder and returns them as `recipient: subject`, sorted.
    pub fn mails(&self) -> Vec<String> {
        let mut mails: Vec<String> = self.take_mails().iter().map(Mail::headline).collect();
        mails.sort();
        mails
    }

    /// Removes the mails from the folder and returns them.
    pub fn take_mails(&self) -> Vec<Mail> {
        let folder = self.path("outbox");
        let mails = mails_in(&folder);
        let _ = fs::remove_dir_all(folder);
        mails
    }

    /// Sweeps repeatedly, each time ten seconds later, until no notice is pending.
    pub fn sweep_until_settled(&mut self, from: DateTime<Utc>) {
        for round in 0..200 {
            let clock = from + TimeDelta::seconds(10 * round);
            self.at(&clock.format("%Y-%m-%d %H:%M:%S").to_string());
            self.run(&["sweep"]);
            let states = self.states();
            if !["planned", "sending", "unknown"]
                .iter()
                .any(|state| states.contains_key(*state))
            {
                return;
            }
        }
        panic!("not settled: {:?}", self.states());
    }

    fn config(&self) -> String {
        let mut text = String::new();
        for (section, keys) in &self.settings {
            writeln!(text, "[{section}]").unwrap();
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        text + &self.tables
    }
}

impl RunResult {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that a dry run had the figures of this sweep, as far as they do not depend on replies that only a sweep
    /// gets.
    #[track_caller]
    fn is_predicted_by(&self, dry_run: &Self) {
        let says = |text: &str| self.stdout.contains(text) || self.stderr.contains(text);
        let is_down = says("the mail server could not be used");
        if !is_down && !matches!(self.code, Some(0 | 1)) {
            return;
        }
        let has_replied = ["another sweep", "could not be revoked", "could not mark"];
        if has_replied.iter().any(|text| says(text)) {
            return;
        }
        let mut labels = vec!["tokens", "rows", "sources", "people", "findings", "purged"];
        let failures = ["deferred", "in doubt", "failed"];
        if !is_down && failures.iter().all(|unit| self.count("mails", unit) == 0) {
            labels.push("notices");
            let (written, sent) = (
                dry_run.count("mails", "would be written"),
                self.count("mails", "sent"),
            );
            assert_eq!(written, sent, "{dry_run:?}\n{self:?}");
        }
        for label in labels {
            let (predicted, line) = (dry_run.summary_line(label), self.summary_line(label));
            assert_eq!(predicted, line, "{dry_run:?}\n{self:?}");
        }
    }

    /// The summary line with this label; empty without one.
    fn summary_line(&self, label: &str) -> &str {
        let mut lines = self.stdout.lines();
        lines.find(|line| line.starts_with(label)).unwrap_or("")
    }

    /// The number before `unit` in the summary lines with this label.
    fn count(&self, label: &str, unit: &str) -> u64 {
        let lines = self
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix(label));
        let mut parts = lines.flat_map(|line| line.split([',', ';']));
        let number = parts.find_map(|part| part.trim().strip_suffix(unit));
        number.map_or(0, |number| number.trim().parse().unwrap())
    }

    /// Asserts that standard output or standard error contains this text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "{text:?} is not in:\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

impl From<Output> for RunResult {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Mail {
    /// `recipient: subject`.
    pub fn headline(&self) -> String {
        format!("{}: {}", self.to, self.subject)
    }
}

/// A command in the mount namespace of this process and in this folder.
pub fn nsenter_command(process: u32, folder: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args([
            "--target",
            &process.to_string(),
            "--mount",
            "--user",
            "--preserve-credentials",
        ])
        .arg(format!("--wdns={}", folder.display()))
        .arg("--");
    command
}

/// The mails in a folder, by file name.
pub fn mails_in(folder: &Path) -> Vec<Mail> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("eml")));
    files.sort();
    files
        .iter()
        .map(|file| parse_mail(&fs::read(file).unwrap()))
        .collect()
}

fn parse_mail(raw: &[u8]) -> Mail {
    let parsed = MessageParser::default().parse(raw).unwrap();
    let to = parsed
        .to()
        .unwrap()
        .first()
        .unwrap()
        .address()
        .unwrap()
        .to_owned();
    Mail {
        to,
        subject: parsed.subject().unwrap().to_owned(),
        text: parsed.body_text(0).unwrap().replace("\r\n", "\n"),
        html: parsed.body_html(0).unwrap().into_owned(),
        raw: String::from_utf8(raw.to_vec()).unwrap(),
    }
}

/// The date this many days from now, for tests in real time.
pub fn in_days(days: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "these tests run in real time")]
    let then = Utc::now() + TimeDelta::days(days);
    then.format("%Y-%m-%d").to_string()
}

/// The path of libfaketime, which replaces the clock of the program.
fn faketime_library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let asked = Command::new("faketime")
            .args(["-f", "+0", "printenv", "LD_PRELOAD"])
            .output();
        let output = asked.expect("faketime is installed");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}
