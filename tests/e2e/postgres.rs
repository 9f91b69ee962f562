//! PostgreSQL: databases of the shared server, and servers that a test may stop.

#[path = "../support/postgres.rs"]
mod shared;

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

impl Drop for Server {
    fn drop(&mut self) {
        // A panic here would hide the failure of the test that uses the server.
        let _ = tool_command("stop", &self.folder.path().join("postgres")).status();
    }
}
