//! The daemon: start, status, reload and stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, ExitStatus};

use rstest::rstest;
use serde_json::json;

use crate::mailserver::MailServer;
use crate::postgres::TableLock;
use crate::waiting::wait_until;
use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

/// `lapsed run`, with its notifications to the service manager.
pub struct Daemon {
    child: Child,
    notify: UnixDatagram,
    notified: String,
    log: std::path::PathBuf,
}

impl Daemon {
    /// Starts it and waits until it notifies that it is ready.
    pub fn start(world: &World, name: &str) -> Self {
        let socket = world.path(&format!("{name}.notify"));
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_nonblocking(true).unwrap();
        let log = world.path(&format!("{name}.log"));
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = world
            .command(&["run"])
            .env("NOTIFY_SOCKET", socket)
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut daemon = Self {
            child,
            notify,
            notified: String::new(),
            log,
        };
        daemon.wait_for("READY=1");
        daemon
    }

    /// Waits for a notification to the service manager.
    pub fn wait_for(&mut self, what: &str) {
        wait_until(what, || {
            assert_eq!(
                self.child.try_wait().unwrap(),
                None,
                "it ended:\n{}",
                self.log()
            );
            self.has_notified(what).then_some(())
        });
        self.notified.clear();
    }

    fn has_notified(&mut self, what: &str) -> bool {
        let mut datagram = [0; 4096];
        while let Ok(length) = self.notify.recv(&mut datagram) {
            self.notified += str::from_utf8(&datagram[..length]).unwrap();
            self.notified.push('\n');
        }
        self.notified.lines().any(|line| line == what)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Stops it with SIGTERM; it must notify that and exit with 0.
    pub fn stop(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(self.has_notified("STOPPING=1"), "{}", self.notified);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The status and body of a page.
pub fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[rstest]
fn it_becomes_ready_and_makes_up_for_a_missed_sweep(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    let port = free_port();
    world.set("http.listen", &format!("\"127.0.0.1:{port}\""));
    world.at("2026-11-20 00:00:00").import(&[
        "ci,ci-deploy,ada@example.org,2026-12-01T00:00:00Z",
        "old,old,,2026-11-25T00:00:00Z",
    ]);
    world.sweep();
    world.take_mails();
    // No tick for half a minute, so this is the missed sweep.
    world.at("2026-11-26 00:00:10");
    let daemon = Daemon::start(&world, "daemon");
    wait_until("the missed mails are written", || {
        (world.path("outbox").read_dir().map_or(0, Iterator::count) == 2).then_some(())
    });
    assert_eq!(get(port, "/healthz").0, 200);
    wait_until("it is ready", || {
        (get(port, "/readyz").0 == 200).then_some(())
    });
    let (status, metrics) = get(port, "/metrics");
    assert_eq!(status, 200);
    for line in [
        "lapsed_tokens{source=\"local\",status=\"expired\"} 1",
        "lapsed_build_info",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert_contains!(daemon.log(), "1 expired");
    daemon.stop();
    assert_eq!(world.states().get("sending"), None);
}

#[test]
fn it_is_not_ready_while_delivery_hangs_though_sweeps_go_on() {
    let mut server = MailServer::start("");
    let mut world = World::new(Postgres);
    let port = free_port();
    // Twenty times as fast.
    world
        .use_mail_server(&server)
        .set("http.listen", &format!("\"127.0.0.1:{port}\""))
        .set("schedule.sweep", "\"* * * * *\"")
        .set("delivery.lease", "\"5m\"")
        .set("notify.admins", "[]")
        .at("2026-11-24 00:00:30 x20");
    world.import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    server.stop();
    let daemon = Daemon::start(&world, "daemon");
    wait_until("the mail was tried", || {
        daemon
            .log()
            .contains("the mail server could not be used")
            .then_some(())
    });
    // An unreachable mail server is no reason.
    wait_until("it is ready", || {
        (get(port, "/readyz").0 == 200).then_some(())
    });
    // Of the two halves only delivery reads it, because no token is due.
    let lock = TableLock::take(&world.store_url(), "address");
    wait_until("the waiting mail is noticed", || {
        let (status, body) = get(port, "/readyz");
        let reason = "mails are due, and none was sent or tried for too long";
        (status == 503 && body.contains(reason)).then_some(())
    });
    drop(lock);
    server.start_again("");
    wait_until("the mail is sent", || {
        (server.summary()["accepted"] == 1).then_some(())
    });
    wait_until("it is ready", || {
        (get(port, "/readyz").0 == 200).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_sweep_that_the_store_interrupted_is_made_up_for() {
    let server = MailServer::start("");
    let mut world = World::new(Postgres);
    // Twenty times as fast, and a day before the next sweep of the schedule.
    world
        .use_mail_server(&server)
        .set("schedule.sweep", "\"0 6 * * *\"")
        .set("notify.admins", "[]")
        .at("2026-11-24 07:00:10 x20");
    world.import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    let lock = TableLock::take(&world.store_url(), "token");
    let daemon = Daemon::start(&world, "daemon");
    wait_until("the sweep is interrupted", || {
        daemon.log().contains("lock timeout").then_some(())
    });
    drop(lock);
    wait_until("the mail is sent", || {
        (server.summary()["accepted"] == 1).then_some(())
    });
    daemon.stop();
}

#[test]
fn it_marks_and_warns_every_minute() {
    let mut world = World::new(Db::Sqlite);
    // Twenty times as fast.
    world
        .set("delivery.lease", "\"5m\"")
        .set("notify.merge_ahead", "\"0s\"");
    world.at("2026-11-24 00:00:30 x20");
    world.import(&[
        "ci,ci-deploy,,2026-11-24T00:02:00Z",
        "next,next,,2026-12-01T00:04:00Z",
    ]);
    let daemon = Daemon::start(&world, "daemon");
    wait_until("the token is marked", || {
        daemon.log().contains("1 expired").then_some(())
    });
    wait_until("the next warning is sent", || {
        let mails = crate::world::mails_in(&world.path("outbox"));
        mails
            .iter()
            .any(|mail| mail.subject.contains("next expires in 7 days"))
            .then_some(())
    });
    daemon.stop();
}

#[test]
fn it_reloads_templates_on_sighup_and_keeps_the_old_ones_if_broken() {
    let mut world = World::new(Db::Sqlite);
    world
        .set("mail.templates", "\"templates\"")
        .set("delivery.lease", "\"5m\"");
    let subject = world.path("templates/expiring/subject.txt.hbs");
    fs::create_dir_all(subject.parent().unwrap()).unwrap();
    world.at("2026-11-24 00:00:30 x20");
    let mut daemon = Daemon::start(&world, "daemon");

    fs::write(&subject, "Our text about {{token.name}}").unwrap();
    daemon.signal("-HUP");
    daemon.wait_for("RELOADING=1");
    daemon.wait_for("READY=1");
    fs::write(&subject, "Broken {{#if token.nam").unwrap();
    daemon.signal("-HUP");
    wait_until("the reload fails", || {
        daemon.log().contains("cannot reload").then_some(())
    });
    assert_contains!(daemon.log(), "expiring/subject.txt.hbs");

    world.import(&["ci,ci-deploy,ada@example.org,2026-12-01T00:00:00Z"]);
    wait_until("a mail is written", || {
        let mails = crate::world::mails_in(&world.path("outbox"));
        mails
            .iter()
            .any(|mail| mail.subject == "Our text about ci-deploy")
            .then_some(())
    });
    daemon.stop();
    world
        .run(&["run"])
        .exits(78)
        .says("expiring/subject.txt.hbs");
}

#[rstest]
fn a_stop_completes_the_mails_in_progress(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--delay-ms 1500 --delay-at final");
    let mut world = World::new(db);
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .set("smtp.connections", "3");
    let day = in_days(5);
    let rows: Vec<String> = (0..9)
        .map(|n| format!("{n},t{n},user{n}@example.org,{day}"))
        .collect();
    world.import(&rows);
    let daemon = Daemon::start(&world, "daemon");
    wait_until("mails are in progress", || {
        let summary = server.summary();
        (summary["accepted"].as_u64() >= Some(3)).then_some(())
    });
    daemon.stop();
    let sent = server.summary()["accepted"].as_u64().unwrap();
    let states = world.states();
    assert_eq!(
        states.get("sent").copied(),
        usize::try_from(sent).ok(),
        "{states:?}"
    );
    assert_eq!(states.values().sum::<usize>(), 9);
    assert_eq!(
        states.get("sent").unwrap() + states.get("planned").unwrap_or(&0),
        9,
        "{states:?}"
    );

    let daemon = Daemon::start(&world, "daemon");
    wait_until("the others are sent", || {
        (server.summary()["accepted"] == 9).then_some(())
    });
    daemon.stop();
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 9);
    assert_eq!(summary["violations"], json!({}), "{summary:#}");
}
