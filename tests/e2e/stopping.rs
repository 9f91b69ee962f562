//! Commands that a signal ends while a server does not answer.

use std::net::TcpListener;
use std::process::{Child, Command};

use rstest::rstest;

use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

pub fn terminate(child: &Child) {
    let pid = child.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.unwrap().success());
}

/// A world with a mail server that accepts connections and never answers.
fn world(db: Db) -> (World, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut world = World::new(db);
    world
        .set("mail.transport", "\"smtp\"")
        .set("smtp.url", &format!("\"smtp://127.0.0.1:{port}?tls=none\""))
        .set("smtp.timeout", "\"10m\"")
        .set("delivery.stop_timeout", "\"10m\"");
    (world, server)
}

#[rstest]
fn a_stopped_sweep_ends_although_the_mail_server_hangs(#[values(Sqlite, Postgres)] db: Db) {
    let (world, server) = world(db);
    world.import(&[format!("k-1,ci,ada@example.org,{}", in_days(1))]);
    let mut sweep = world.start("sweep", &["sweep"]);
    let _connection = server.accept().unwrap();
    terminate(&sweep);
    let status = sweep.wait().unwrap();
    let log = std::fs::read_to_string(world.path("sweep.log")).unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    let notices = world.list(&["notice", "list"]);
    assert!(!notices.is_empty());
    for notice in notices {
        assert_eq!(notice["state"], "planned", "{notice}");
    }
}

#[test]
fn a_command_without_work_to_finish_ends_at_the_first_signal() {
    let (world, server) = world(Sqlite);
    let mut command = world.start("send-test", &["send-test", "ada@example.org"]);
    let _connection = server.accept().unwrap();
    terminate(&command);
    let status = command.wait().unwrap();
    let log = std::fs::read_to_string(world.path("send-test.log")).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("stopped by a signal"), "{log}");
}
