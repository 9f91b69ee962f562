//! `lapsed sweep --dry-run`: it leaves no trace and holds up no one. `World::run` compares its figures with those of
//! each sweep.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rstest::rstest;

use crate::mailserver::MailServer;
use crate::stopping::terminate;
use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

#[rstest]
fn a_dry_run_that_waits_for_a_source_holds_up_no_sweep(#[values(Sqlite, Postgres)] db: Db) {
    let source = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = source.local_addr().unwrap().port();
    let mut server = MailServer::start("");
    let mut world = World::new(db);
    world.use_mail_server(&server).set("notify.admins", "[]");
    let rows: Vec<String> = (0..50)
        .map(|n| format!("{n},t{n},user{n}@example.org,{}", in_days(1)))
        .collect();
    world.import(&rows);
    world
        .set("delivery.stop_timeout", "\"10m\"")
        .table(&format!(
            "[[source]]\nname = \"slow\"\nkind = \"rancher\"\nurl = \"http://127.0.0.1:{port}\"\n\
         token = {{ env = \"RANCHER_TOKEN\" }}\ntimeout = \"10m\"\n\
         [[source]]\nname = \"quick\"\nkind = \"file\"\npath = \"tokens.csv\"\n"
        ));
    let scratch = world.path("scratch");
    fs::create_dir(&scratch).unwrap();
    world
        .env("RANCHER_TOKEN", "token-abc:secret")
        .env("TMPDIR", scratch.to_str().unwrap());
    let mut dry_run = world.start("dry-run", &["sweep", "--dry-run"]);
    let _connection = source.accept().unwrap();
    let folders: Vec<_> = fs::read_dir(&scratch)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    let mode = folders[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    world.run(&["sweep", "--source", "quick"]).exits(0);
    assert_eq!(dry_run.try_wait().unwrap(), None);
    assert_eq!(server.stop()["accepted"], 50);

    terminate(&dry_run);
    assert_eq!(dry_run.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
}

#[rstest]
fn a_dry_run_reads_directories_and_lists_alerts(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"\n");
    world.table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"\n");
    world.write("people.csv", "email,status\nada@example.org,disabled\n");
    let dry_run = world.run(&["sweep", "--dry-run"]);
    dry_run.exits(1).says("people    1 changed");
    dry_run.says("  boss@example.org: ");
    assert!(world.notices().is_empty(), "it leaves no trace");
    let swept = world.run(&["sweep"]);
    swept.exits(1).says("people    1 changed");
    let mails = world.take_mails();
    for mail in &mails {
        let recipient = mail.headline();
        let recipient = recipient.split(':').next().unwrap();
        dry_run.says(&format!("  {recipient}: "));
    }
}
