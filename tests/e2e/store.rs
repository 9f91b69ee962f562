//! A store that is full, read-only, damaged or missing: a clear message, the right exit code, and after the
//! fix every mail is sent once.

use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rstest::rstest;
use serde_json::json;

use crate::mailserver::MailServer;
use crate::postgres::query;
use crate::world::{Db, World, nsenter_command};
use Db::{Postgres, Sqlite};

/// A small disk in a mount namespace that processes can enter.
struct Disk {
    keeper: Child,
    folder: PathBuf,
}

impl Disk {
    fn mount(folder: PathBuf, size: &str) -> Self {
        fs::create_dir(&folder).unwrap();
        let script =
            "mount -t tmpfs -o \"size=$2\" tmpfs \"$1\" && echo mounted && exec sleep infinity";
        let mut keeper = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(&folder)
            .arg(size)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "mounted\n");
        Self { keeper, folder }
    }

    fn remount(&self, options: &str) {
        let folder = self.folder.to_str().unwrap();
        self.run(&["mount", "-o", &format!("remount,{options}"), folder]);
    }

    fn fill(&self) {
        self.run(&["sh", "-c", "cat /dev/zero > filler 2> /dev/null || true"]);
    }

    /// Runs a command in the disk's folder.
    fn run(&self, command: &[&str]) {
        let mut entered = nsenter_command(self.keeper.id(), &self.folder);
        assert!(
            entered.args(command).status().unwrap().success(),
            "{command:?}"
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A world whose store is on a small disk.
fn world_on(size: &str, server: &MailServer) -> (World, Disk) {
    let mut world = World::new(Db::Sqlite);
    let disk = Disk::mount(world.path("disk"), size);
    world.use_mounts_of(disk.keeper.id());
    world.set("store.url", "\"sqlite:disk/lapsed.db\"");
    world
        .use_mail_server(server)
        .set("notify.admins", "[]")
        .at("2026-11-24 00:00:00");
    (world, disk)
}

fn import_thirty(world: &World) {
    let rows: Vec<String> = (0..30)
        .map(|n| format!("{n},t{n},user{n}@example.org,2026-12-01"))
        .collect();
    world.import(&rows);
}

/// Each of the thirty issuers received one mail.
fn assert_sent_once(server: &mut MailServer) {
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 30, "{summary:#}");
    assert_eq!(summary["duplicates_total"], 0, "{summary:#}");
    assert_eq!(summary["violations"], json!({}));
}

#[test]
fn a_full_disk_sends_nothing_and_loses_nothing() {
    let mut server = MailServer::start("");
    let (mut world, disk) = world_on("4m", &server);
    import_thirty(&world);
    disk.fill();
    world
        .run(&["sweep"])
        .exits(75)
        .says("that the disk has free space");
    assert_eq!(
        server.summary()["accepted"],
        0,
        "a mail that cannot be recorded is not sent"
    );

    // The disk may also fill up during the sweep.
    for kilobytes in [40, 80, 160, 320] {
        disk.run(&["truncate", "--size", &format!("-{kilobytes}K"), "filler"]);
        let ran = world.run(&["sweep"]);
        assert!(matches!(ran.code, Some(0 | 1 | 75)), "{ran:?}");
    }
    disk.run(&["rm", "filler"]);
    world.at("2026-11-24 00:10:00");
    world.sweep();
    world.sweep().says("nothing was due");
    assert_sent_once(&mut server);
}

#[test]
fn an_import_that_fills_the_disk_reports_it_and_can_be_repeated() {
    let server = MailServer::start("");
    let (world, disk) = world_on("2m", &server);
    let rows: Vec<String> = (0..20_000)
        .map(|n| format!("{n},t{n},,2027-01-01\n"))
        .collect();
    let rows = rows.concat();
    world.write(
        "tokens.csv",
        format!("external_id,name,issuer_email,expires_at\n{rows}"),
    );
    world.run(&["import", "tokens.csv"]).exits(75).says("full");
    disk.remount("size=64m");
    world.run(&["import", "tokens.csv"]).exits(0);
    assert_eq!(world.tokens().len(), 20_000);
    world
        .run(&["import", "tokens.csv"])
        .exits(0)
        .says("20000 unchanged");
}

#[test]
fn a_read_only_store_sends_nothing_and_loses_nothing() {
    let mut server = MailServer::start("");
    let (mut world, disk) = world_on("8m", &server);
    import_thirty(&world);
    disk.remount("ro");
    let ran = world.run(&["sweep"]);
    assert!(matches!(ran.code, Some(1 | 75)), "{ran:?}");
    ran.says("may write there");
    assert_eq!(server.summary()["accepted"], 0);
    let ran = world.run(&["check"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");

    disk.remount("rw");
    world.at("2026-11-24 00:10:00");
    world.sweep();
    assert_sent_once(&mut server);
}

#[test]
fn a_damaged_store_is_reported_and_nothing_is_sent() {
    let mut server = MailServer::start("");
    let mut world = World::new(Db::Sqlite);
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .at("2026-11-24 00:00:00");
    import_thirty(&world);
    world.run(&["backup", "copy.db"]).exits(0);
    let mut file = fs::File::options()
        .write(true)
        .open(world.path("lapsed.db"))
        .unwrap();
    let length = file.metadata().unwrap().len();
    // Overwrite everything but the first page, which holds the schema.
    for page in 1..length / 4096 {
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xA5; 4096]).unwrap();
    }
    drop(file);
    world.run(&["sweep"]).exits(1).says("malformed");
    assert_eq!(server.summary()["accepted"], 0);
    let checked = world.run(&["check"]);
    checked.exits(1).says("malformed");
    let checked = world.run(&["check", "--integrity"]);
    checked.exits(1).says("restore a backup");

    for name in ["lapsed.db-wal", "lapsed.db-shm"] {
        let _ = fs::remove_file(world.path(name));
    }
    fs::rename(world.path("copy.db"), world.path("lapsed.db")).unwrap();
    world.sweep();
    assert_sent_once(&mut server);
}

#[rstest]
#[case::text(b"this is not a database but a letter to a friend, and it is long enough\n".as_slice())]
#[case::half_a_database(b"SQLite format 3\0half of one".as_slice())]
fn a_file_that_is_not_a_store_is_unchanged(#[case] content: &[u8]) {
    let world = World::new(Db::Sqlite);
    world.write("lapsed.db", content);
    let ran = world.run(&["sweep"]);
    ran.exits(1).says("not a database");
    assert_eq!(fs::read(world.path("lapsed.db")).unwrap(), content);
    world.run(&["token", "list"]).exits(1);
    world.run(&["check"]).says("not a database");
}

#[rstest]
fn a_store_of_a_newer_version_is_not_used(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'of the future', TRUE, '', 0)";
    match db {
        Db::Sqlite => {
            let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
            let done = Command::new("python3")
                .args(["-c", script])
                .arg(world.path("lapsed.db"))
                .arg(newer)
                .status();
            assert!(done.unwrap().success());
        }
        Db::Postgres => {
            query(&world.store_url(), newer);
        }
    }
    world.run(&["sweep"]).exits(78).says("newer");
    world.run(&["run"]).exits(78).says("newer");
    assert!(world.mails().is_empty());
}

#[test]
fn a_missing_store_that_may_not_be_created_is_a_configuration_error() {
    let mut world = World::new(Db::Sqlite);
    world.set("store.create", "false");
    for command in [
        ["sweep"].as_slice(),
        &["run"],
        &["token", "list"],
        &["sweep", "--dry-run"],
    ] {
        world.run(command).exits(78).says("lapsed.db");
    }
    assert!(!world.path("lapsed.db").exists());
}

#[test]
fn an_unreachable_database_server_is_a_temporary_failure() {
    let mut world = World::new(Db::Sqlite);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    world.set(
        "store.url",
        &format!("\"postgres://user:s3cret@127.0.0.1:{port}/lapsed\""),
    );
    let ran = world.run(&["sweep"]);
    ran.exits(75).says("127.0.0.1");
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
}

#[test]
fn a_damaged_page_that_no_command_reads_is_found_by_check() {
    let world = World::new(Sqlite);
    world.import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    let whole = "every page was read and is whole";
    world.run(&["check", "--integrity"]).exits(0).says(whole);
    // A row of an index that does not belong to the table.
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA writable_schema = ON'); \
                  c.execute(\"DELETE FROM sqlite_schema WHERE name = 'audit_at'\"); c.commit()";
    let done = Command::new("python3")
        .args(["-c", script])
        .arg(world.path("lapsed.db"))
        .status();
    assert!(done.unwrap().success());
    world.run(&["token", "list"]).exits(0);
    for command in [["check"].as_slice(), &["check", "--integrity"]] {
        world.run(command).exits(1).says("the file is damaged");
    }
}

#[test]
fn the_integrity_of_postgres_is_checked_by_its_own_tool() {
    let world = World::new(Postgres);
    world.run(&["migrate"]).exits(0);
    world
        .run(&["check", "--integrity"])
        .exits(0)
        .says("pg_amcheck");
}

#[rstest]
fn a_sweep_after_an_outage_says_how_many_mails_wait(#[values(Sqlite, Postgres)] db: Db) {
    let server = MailServer::start("");
    let mut world = World::new(db);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    world
        .use_mail_server(&server)
        .set("smtp.url", &format!("\"smtp://127.0.0.1:{port}?tls=none\""))
        .set("delivery.retry_min", "\"4h\"")
        .set("delivery.retry_max", "\"4h\"")
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    world.run(&["sweep"]).exits(75);
    world.use_mail_server(&server);
    let second = world.run(&["sweep"]);
    second
        .exits(0)
        .says("2 mails wait for another attempt, the first until 2026-11-24 0");
    assert!(!second.stdout.contains("nothing was due"), "{second:?}");
    world.at("2026-11-25 00:00:00");
    let third = world.sweep();
    assert!(!third.stdout.contains("wait for"), "{third:?}");
    world.sweep().says("nothing was due");
}
