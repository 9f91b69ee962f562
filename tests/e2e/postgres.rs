//! PostgreSQL: databases of the shared server, and servers that a test may stop.

#[path = "../support/postgres.rs"]
mod shared;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub use shared::{Database, query};
use shared::{run_tool, tool_command};

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
        self.run_tool("crash");
    }

    pub fn start_again(&self) {
        self.run_tool("start");
    }

    pub fn restart(&self) {
        self.run_tool("restart");
    }

    fn run_tool(&self, verb: &str) {
        run_tool(verb, &self.folder.path().join("postgres"));
    }
}

/// Lets no one write to a table, until it is dropped.
pub struct TableLock(Child);

impl TableLock {
    pub fn take(url: &str, table: &str) -> Self {
        let mut child = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lock =
            format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n");
        child
            .stdin
            .as_mut()
            .unwrap()
            .write_all(lock.as_bytes())
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "locked");
        Self(child)
    }
}

impl Drop for TableLock {
    fn drop(&mut self) {
        // At the end of its input it ends, and with it the transaction.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A panic here would hide the failure of the test that uses the server.
        let _ = tool_command("stop", &self.folder.path().join("postgres")).status();
    }
}
