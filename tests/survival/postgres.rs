//! PostgreSQL: the server that all stories share, a database in it for each, and servers that a
//! story may stop.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A database of its own; dropped with this.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Makes an empty one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = shared().to_owned();
        let name = format!(
            "survival_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        query(
            &server,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        );
        Self { server, name }
    }

    /// Where it is.
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

/// A server of one story's own.
pub struct Server {
    folder: TempDir,
    /// Where it is.
    pub url: String,
}

impl Server {
    /// Starts one.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = control("start", &folder.path().join("postgres"));
        Self { folder, url }
    }

    /// Stops it without a checkpoint, as a power cut does.
    pub fn crash(&self) {
        control("crash", &self.folder.path().join("postgres"));
    }

    /// Starts it again where it was.
    pub fn start_again(&self) {
        control("start", &self.folder.path().join("postgres"));
    }

    /// Stops and starts it as an operator does.
    pub fn restart(&self) {
        control("restart", &self.folder.path().join("postgres"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = tool("stop", &self.folder.path().join("postgres")).status();
    }
}

/// The first column of the first row.
pub fn query(url: &str, sql: &str) -> String {
    let output = psql(url, sql).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sql}: {said}");
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

/// The server that `LAPSED_TEST_POSTGRES` names, else one that ends with this process.
fn shared() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("LAPSED_TEST_POSTGRES").unwrap_or_else(|_| start_for_this_process())
    })
}

/// Starts a server that a process of its own stops once this one has ended, however that comes.
fn start_for_this_process() -> String {
    let folder = tempfile::tempdir().unwrap().keep();
    let url = control("start", &folder.join("postgres"));
    let script = "(tail --pid=\"$1\" -f /dev/null; \"$2\" stop \"$3/postgres\"; rm -rf \"$3\") &";
    let started = Command::new("setsid")
        .args(["sh", "-c", script, "sh", &std::process::id().to_string()])
        .arg(program())
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(started.unwrap().success());
    url
}

fn control(verb: &str, folder: &Path) -> String {
    let output = tool(verb, folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "postgres {verb}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn tool(verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg(verb).arg(folder).stdin(Stdio::null());
    command
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/postgres")
}
