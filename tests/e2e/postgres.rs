//! PostgreSQL: a shared server with a database for each test, and servers that a test may stop.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A database on the shared server; deleted when dropped.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = shared_url().to_owned();
        let name = format!(
            "e2e_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        query(
            &server,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        );
        Self { server, name }
    }

    pub fn url(&self) -> String {
        let mut url = url::Url::parse(&self.server).unwrap();
        url.set_path(&self.name);
        url.into()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = psql(
            &self.server,
            &format!("DROP DATABASE {} WITH (FORCE)", self.name),
        )
        .status();
    }
}

/// A server for one test.
pub struct Server {
    folder: TempDir,
    pub url: String,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = run_tool("start", &folder.path().join("postgres"));
        Self { folder, url }
    }

    /// Stops it without a checkpoint, like a power failure.
    pub fn crash(&self) {
        run_tool("crash", &self.folder.path().join("postgres"));
    }

    pub fn start_again(&self) {
        run_tool("start", &self.folder.path().join("postgres"));
    }

    pub fn restart(&self) {
        run_tool("restart", &self.folder.path().join("postgres"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = tool_command("stop", &self.folder.path().join("postgres")).status();
    }
}

/// The first column of the first row.
pub fn query(url: &str, sql: &str) -> String {
    let output = psql(url, sql).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn psql(url: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--command",
            sql,
            url,
        ])
        .stdin(Stdio::null());
    command
}

/// The server named by `LAPSED_TEST_POSTGRES`, else one that stops with this process.
fn shared_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("LAPSED_TEST_POSTGRES").unwrap_or_else(|_| start_for_this_process())
    })
}

/// Starts a server and a process that stops it once this process has ended, for whatever reason.
fn start_for_this_process() -> String {
    let folder = tempfile::tempdir().unwrap().keep();
    let url = run_tool("start", &folder.join("postgres"));
    let script = "(tail --pid=\"$1\" -f /dev/null; \"$2\" stop \"$3/postgres\"; rm -rf \"$3\") &";
    let started = Command::new("setsid")
        .args(["sh", "-c", script, "sh", &std::process::id().to_string()])
        .arg(tool_path())
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(started.unwrap().success());
    url
}

fn run_tool(verb: &str, folder: &Path) -> String {
    let output = tool_command(verb, folder).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "postgres {verb}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn tool_command(verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(tool_path());
    command.arg(verb).arg(folder).stdin(Stdio::null());
    command
}

fn tool_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/postgres")
}
