//! Logs without secrets, dry runs without traces, concurrent sweeps, and reports of typing errors.

use std::collections::BTreeMap;
use std::fs;

use rstest::rstest;

use crate::daemon::Daemon;
use crate::mailserver::MailServer;
use crate::waiting::wait_until;
use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

const SECRETS: [&str; 2] = ["s3cret-of-smtp", "czNjcmV0LW9mLXNtdHA"];

/// Asserts that the log contains no secret, plain or encoded, and none of these people.
fn assert_log_is_private(log: &str, people: &[&str]) {
    for private in SECRETS.iter().chain(people) {
        let line = log
            .lines()
            .find(|line| line.to_lowercase().contains(&private.to_lowercase()));
        assert_eq!(line, None, "{private} is in the log");
    }
}

#[rstest]
fn no_log_at_any_level_holds_a_secret_or_an_address(#[values(Sqlite, Postgres)] db: Db) {
    let server = MailServer::encrypted(
        &format!(
            "--starttls --auth lapsed:{} --require-auth --auth-only-tls --reject-rcpt ^dead --tempfail-rcpt ^busy \
             --p-drop-after .3",
            SECRETS[0]
        ),
        false,
    );
    let mut world = World::new(db);
    world
        .use_mail_server(&server)
        .set("smtp.ca_file", &format!("{:?}", server.authority()));
    world.set(
        "smtp.url",
        &format!("\"smtp://lapsed@localhost:{}\"", server.port),
    );
    world.set("smtp.password", &format!("{:?}", SECRETS[0]));
    world.set("log.level", "\"trace\"").env("RUST_LOG", "trace");
    world.table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"");
    world.write(
        "people.csv",
        "email,status,name\nleaver@example.org,deleted,Lea Ver\nada@example.org,active,Ada\n",
    );
    let day = in_days(5);
    let people = [
        "ada@example.org",
        "dead@example.org",
        "busy@example.org",
        "leaver@example.org",
        "boss@example.org",
    ];
    let rows: Vec<String> = people
        .iter()
        .enumerate()
        .map(|(n, who)| format!("{n},t{n},{who},{day}"))
        .collect();
    let text = format!(
        "external_id,name,issuer_email,expires_at\n{}\nbad,bad,not an address,x\n",
        rows.join("\n")
    );
    world.write("tokens.csv", text);
    let mut log = world.run(&["import", "tokens.csv"]).stderr;
    for command in ["sweep", "sweep", "check"] {
        log += &world.run(&[command]).stderr;
    }
    let daemon = Daemon::start(&world, "daemon");
    wait_until("it has swept", || {
        daemon.log().contains("sweep:").then_some(())
    });
    log += &daemon.log();
    daemon.stop();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is verbose"
    );
    assert_log_is_private(&log, &people);
    assert_log_is_private(&log, &["Lea Ver"]);
}

/// The files in the folder, with content, except the configuration.
fn read_files(world: &World) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(world.path(""))
        .unwrap()
        .map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .filter(|(name, _)| name != "lapsed.toml")
        .collect()
}

#[test]
fn a_dry_run_shows_what_would_be_done_and_changes_nothing() {
    let mut world = World::new(Db::Sqlite);
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"");
    world.write(
        "exports.csv",
        "external_id,name,issuer_email,expires_at\nci,ci-deploy,ada@example.org,2026-12-01\n",
    );
    world.at("2026-11-24 00:00:00");
    let before = read_files(&world);
    let ran = world.run(&["sweep", "--dry-run"]);
    ran.exits(0)
        .says("1 new")
        .says("2 planned")
        .says("ci-deploy");
    assert_eq!(read_files(&world), before, "no store was created");
    assert!(!world.path("outbox").exists());

    world.sweep().says("2 sent");
    world.take_mails();
    let before = read_files(&world);
    world.write(
        "exports.csv",
        "external_id,name,issuer_email,expires_at\nci,ci-deploy,ada@example.org,2026-11-30\n",
    );
    world
        .run(&["sweep", "--dry-run"])
        .exits(0)
        .says("1 changed");
    world
        .run(&["sweep", "--dry-run"])
        .exits(0)
        .says("1 changed");
    let mut after = read_files(&world);
    after.insert("exports.csv".to_owned(), before["exports.csv"].clone());
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    assert!(after == before, "a file was changed");
    assert!(world.mails().is_empty());
}

#[rstest]
fn a_dry_run_beside_a_daemon_does_not_disturb_it(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world
        .set("delivery.lease", "\"1m\"")
        .at("2026-11-24 00:00:30 x20");
    let daemon = Daemon::start(&world, "daemon");
    world.import(&["ci,ci-deploy,ada@example.org,2026-12-01T00:00:00Z"]);
    wait_until("the mails are written", || {
        world.run(&["sweep", "--dry-run"]).exits(0);
        (world.path("outbox").read_dir().map_or(0, Iterator::count) == 2).then_some(())
    });
    assert!(!daemon.log().contains("another sweep"), "{}", daemon.log());
    daemon.stop();
    assert_eq!(world.mails().len(), 2);
}

#[rstest]
fn concurrent_sweeps_share_the_work_and_send_each_mail_once(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--delay-ms 5:20");
    let mut world = World::new(db);
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .at("2026-11-24 00:00:00");
    world.set("delivery.lease", "\"30s\"");
    let rows: Vec<String> = (0..60)
        .map(|n| format!("{n},t{n},user{n}@example.org,2026-12-01"))
        .collect();
    world.import(&rows);
    let mut sweeps: Vec<_> = (0..4)
        .map(|n| world.start(&format!("sweep{n}"), &["sweep"]))
        .collect();
    for (n, sweep) in sweeps.iter_mut().enumerate() {
        let code = sweep.wait().unwrap().code();
        let log = fs::read_to_string(world.path(&format!("sweep{n}.log"))).unwrap();
        assert!(matches!(code, Some(0 | 75)), "{code:?}: {log}");
        assert_eq!(code == Some(75), log.contains("another sweep"), "{log}");
    }
    world.sweep_until_settled("2026-11-24T00:01:00Z".parse().unwrap());
    assert_eq!(world.states(), [("sent".to_owned(), 60)].into());
    assert_eq!(server.stop()["duplicates_total"], 0);
}

#[test]
fn typing_errors_are_reported_with_place_and_exit_code() {
    let mut world = World::new(Db::Sqlite);
    world.run(&["swep"]).exits(2).says("sweep");
    world
        .run(&["sweep", "--source", "nothing"])
        .exits(2)
        .says("nothing");
    world
        .run(&["token", "list", "--status", "dead"])
        .exits(2)
        .says("expired");
    world.set("notify.stepps", "[\"7d\"]");
    for command in ["sweep", "run", "check"] {
        world
            .run(&[command])
            .exits(78)
            .says("stepps")
            .says("steps")
            .says("lapsed.toml:");
    }
    assert!(!world.path("lapsed.db").exists());
}
