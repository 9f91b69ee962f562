//! Bad responses that any HTTP API may send, and checks that secrets leak nowhere.

use std::fs;
use std::path::Path;

use crate::daemon::Daemon;
use crate::stub::Answer;
use crate::waiting::wait_until;
use crate::world::World;

/// A bad response, and a text that lapsed's error must contain.
pub struct BadResponse {
    pub answer: fn() -> Answer,
    pub expected_text: &'static str,
}

/// A secret inside the bad responses.
pub const LEAKED_SECRET: &str = "s3cret-of-an-answer";

pub const BAD_RESPONSES: [BadResponse; 8] = [
    BadResponse {
        answer: || Answer::text(500, &format!("{{\"stack\": \"{LEAKED_SECRET}\"}}")),
        expected_text: "answered 500",
    },
    BadResponse {
        answer: || {
            Answer::status(302).with("location", &format!("https://evil.example/{LEAKED_SECRET}"))
        },
        expected_text: "redirects to https://evil.example; if that is right, write it as url",
    },
    BadResponse {
        answer: || Answer::text(200, &format!("<html>{LEAKED_SECRET}")),
        expected_text: "sent an unexpected response",
    },
    BadResponse {
        answer: || Answer::text(200, &format!("[{{\"id\": 1, \"token\": \"{LEAKED_SECRET}")),
        expected_text: "sent an unexpected response",
    },
    BadResponse {
        answer: || Answer::text(200, &format!("{{\"message\": \"{LEAKED_SECRET}\"}}")),
        expected_text: "sent an unexpected response",
    },
    BadResponse {
        answer: || Answer::cut(&format!("[{{\"token\": \"{LEAKED_SECRET}\"")),
        expected_text: "cannot reach",
    },
    BadResponse {
        answer: || Answer::endless(2 << 30),
        expected_text: "more than 32 MiB",
    },
    BadResponse {
        answer: || Answer::text(404, LEAKED_SECRET),
        expected_text: "404",
    },
];

/// The most verbose log of a daemon that has swept once. The test must set the clock to shortly before
/// a full minute, which is when the daemon sweeps.
pub fn daemon_log_after_sweep(world: &World) -> String {
    let daemon = Daemon::start(world, "daemon");
    wait_until("it has swept", || {
        daemon.log().contains("sweep:").then_some(())
    });
    let log = daemon.log();
    daemon.stop();
    log
}

/// Asserts that no secret is in the output or in any file of the world.
#[track_caller]
pub fn assert_not_leaked(secrets: &[&str], world: &World, output: &str) {
    let mut files = Vec::new();
    collect_files(&world.path(""), &mut files);
    assert!(files.iter().any(|(name, _)| name.contains("lapsed.db")));
    files.push(("the output".to_owned(), output.as_bytes().to_vec()));
    for (name, content) in &files {
        for secret in secrets {
            let is_leaked = content
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!is_leaked, "{secret} is in {name}");
        }
    }
}

/// Every file below a folder except the configuration, which holds our own secrets.
fn collect_files(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.is_file() && path.file_name().unwrap() != "lapsed.toml" {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}
