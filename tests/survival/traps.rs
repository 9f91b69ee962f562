//! What goes wrong with systems on the net, whatever their kind, and where their secrets might turn up.

use std::fs;
use std::path::Path;

use crate::daemon::Daemon;
use crate::stub::Answer;
use crate::waiting::wait_until;
use crate::world::World;

/// An answer that is none, and what lapsed says of it.
pub struct Trap {
    pub answer: fn() -> Answer,
    pub words: &'static str,
}

/// A secret that stands in answers that go wrong.
pub const LEAKED: &str = "s3cret-of-an-answer";

/// Answers that no listing can be made of.
pub const TRAPS: [Trap; 8] = [
    Trap {
        answer: || Answer::text(500, &format!("{{\"stack\": \"{LEAKED}\"}}")),
        words: "answered 500",
    },
    Trap {
        answer: || Answer::status(302).with("location", &format!("https://evil.example/{LEAKED}")),
        words: "redirects to https://evil.example; if that is right, write it as url",
    },
    Trap {
        answer: || Answer::text(200, &format!("<html>{LEAKED}")),
        words: "answered with something unexpected",
    },
    Trap {
        answer: || Answer::text(200, &format!("[{{\"id\": 1, \"token\": \"{LEAKED}")),
        words: "answered with something unexpected",
    },
    Trap {
        answer: || Answer::text(200, &format!("{{\"message\": \"{LEAKED}\"}}")),
        words: "answered with something unexpected",
    },
    Trap {
        answer: || Answer::cut(&format!("[{{\"token\": \"{LEAKED}\"")),
        words: "cannot reach",
    },
    Trap {
        answer: || Answer::endless(2 << 30),
        words: "more than 32 MiB",
    },
    Trap {
        answer: || Answer::text(404, LEAKED),
        words: "404",
    },
];

/// The log of a daemon that has swept once, at the loudest. The story has set the clock to shortly before a
/// full minute, which is when it sweeps.
pub fn swept_log(world: &World) -> String {
    let daemon = Daemon::start(world, "daemon");
    wait_until("it has swept", || {
        daemon.log().contains("sweep:").then_some(())
    });
    let log = daemon.log();
    daemon.stop();
    log
}

/// None of these is in anything that a world keeps or has said.
#[track_caller]
pub fn is_nowhere(secrets: &[&str], world: &World, said: &str) {
    let mut files = Vec::new();
    collect(&world.path(""), &mut files);
    assert!(files.iter().any(|(name, _)| name.contains("lapsed.db")));
    files.push(("what was said".to_owned(), said.as_bytes().to_vec()));
    for (name, content) in &files {
        for secret in secrets {
            let is_there = content
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!is_there, "{secret} is in {name}");
        }
    }
}

/// Every file below a folder but the configuration, which is where our own secrets are.
fn collect(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.is_file() && path.file_name().unwrap() != "lapsed.toml" {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}
