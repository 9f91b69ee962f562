//! PostgreSQL for tests: one server for all, and a database for each test.
//!
//! `LAPSED_TEST_POSTGRES` is the URL of a superuser on a throw-away server. Without it, the first test that needs a
//! server starts one, which ends with this process. No test is ever skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A database on the shared server; deleted when dropped.
pub struct Database {
    name: String,
}

impl Database {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lapsed_test_{}_{nth}", std::process::id());
        let template = "TEMPLATE template0 ENCODING 'UTF8'";
        let sql = format!("CREATE DATABASE {name} {template} {}", locale());
        query(shared_url(), &sql);
        Self { name }
    }

    pub fn url(&self) -> String {
        let mut url = url::Url::parse(shared_url()).unwrap();
        url.set_path(&self.name);
        url.into()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let _ = psql(shared_url(), &sql).status();
    }
}

/// Not in byte order, as on most servers. The server of `scripts/test-postgres-18` is built without ICU.
fn locale() -> &'static str {
    static LOCALE: OnceLock<&str> = OnceLock::new();
    LOCALE.get_or_init(|| {
        let sql = "SELECT 1 FROM pg_collation WHERE collname = 'en-US-x-icu'";
        match query(shared_url(), sql).as_str() {
            "" => "",
            _ => "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
        }
    })
}

/// The first column of the first row.
pub fn query(url: &str, sql: &str) -> String {
    output_of(&mut psql(url, sql))
}

fn psql(url: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    command.args(["--command", sql, url]).stdin(Stdio::null());
    command
}

fn shared_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        let url = std::env::var("LAPSED_TEST_POSTGRES").unwrap_or_default();
        if url.is_empty() {
            start_for_this_process()
        } else {
            url
        }
    })
}

/// Starts a server, and before it a process that stops it once this process has ended, for whatever reason.
fn start_for_this_process() -> String {
    let folder = tempfile::tempdir().unwrap().keep();
    let script = "(tail --pid=\"$1\" -f /dev/null; \"$2\" stop \"$3/postgres\"; rm -rf \"$3\") &";
    let watching = Command::new("setsid")
        .args(["sh", "-c", script, "sh", &std::process::id().to_string()])
        .args([&tool(), &folder])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(watching.unwrap().success());
    run_tool("start", &folder.join("postgres"))
}

/// Runs `tests/tools/postgres VERB FOLDER`.
pub fn run_tool(verb: &str, folder: &Path) -> String {
    output_of(&mut tool_command(verb, folder))
}

pub fn tool_command(verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(tool());
    command.arg(verb).arg(folder).stdin(Stdio::null());
    command
}

fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/postgres")
}

fn output_of(command: &mut Command) -> String {
    let output = command.output().expect("postgresql is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
