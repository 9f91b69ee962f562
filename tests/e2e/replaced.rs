//! The file of an SQLite store that is removed, replaced or overwritten while the daemon uses it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rstest::rstest;

use crate::daemon::Daemon;
use crate::mailserver::MailServer;
use crate::waiting::wait_until;
use crate::world::{Db, World, in_days};

fn remove(store: &Path, _backup: &Path) {
    fs::remove_file(store).unwrap();
}

fn replace(store: &Path, backup: &Path) {
    fs::rename(backup, store).unwrap();
}

fn overwrite(store: &Path, backup: &Path) {
    // Keeps the inode.
    fs::copy(backup, store).unwrap();
}

#[rstest]
#[case::removed(remove, "it was removed")]
#[case::replaced(replace, "another file replaced it")]
#[case::overwritten(overwrite, "it was overwritten")]
fn the_daemon_stops_when_its_store_is_another_file(
    #[case] change: fn(&Path, &Path),
    #[case] problem: &str,
) {
    const TOKENS: u64 = 2000;
    let mut server = MailServer::start("");
    let mut world = World::new(Db::Sqlite);
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .set("notify.max_per_sweep", "0")
        .set("smtp.mails_per_second", "20");
    let rows: Vec<String> = (0..TOKENS)
        .map(|n| format!("{n},t{n},user{n}@example.org,{}", in_days(1)))
        .collect();
    world.import(&rows);
    world.run(&["backup", "copy.db"]).exits(0);
    let store = world.path("lapsed.db");
    let mut daemon = Daemon::start(&world, "daemon");
    wait_until("a mail", || {
        (server.summary()["accepted"].as_u64() > Some(0)).then_some(())
    });
    change(&store, &world.path("copy.db"));
    assert_eq!(daemon.wait().code(), Some(78), "{}", daemon.log());
    for expected in [problem, "lapsed.db is not the file that was opened", "-wal"] {
        assert_contains!(daemon.log(), expected);
    }
    assert!(server.stop()["accepted"].as_u64() < Some(TOKENS));

    // The store can be used at once.
    if !store.exists() {
        world.set("store.create", "false");
        world.run(&["sweep"]).exits(78).says("no store");
        fs::copy(world.path("copy.db"), &store).unwrap();
    }
    assert!(world.path("lapsed.db-wal.old").exists());
    assert_eq!(world.tokens().len() as u64, TOKENS);
    world
        .run(&["check", "--integrity"])
        .says("every page was read and is whole");
}

/// SQLite puts the log beside the file, not beside a link to it.
#[test]
fn a_link_to_the_store_is_followed() {
    let mut world = World::new(Db::Sqlite);
    fs::create_dir(world.path("disk")).unwrap();
    let (link, file) = (world.path("store.db"), world.path("disk/real.db"));
    std::os::unix::fs::symlink("disk/real.db", &link).unwrap();
    world.set("store.url", &format!("\"sqlite://{}\"", link.display()));
    world.import(&[format!("t,t,ada@example.org,{}", in_days(1))]);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.run(&["backup", "copy.db"]).exits(0);
    let mut daemon = Daemon::start(&world, "daemon");
    wait_until("READY", || daemon.log().contains("watching").then_some(()));
    replace(&file, &world.path("copy.db"));
    assert_eq!(daemon.wait().code(), Some(78), "{}", daemon.log());
    assert!(world.path("disk/real.db-wal.old").exists());
    assert_eq!(world.tokens().len(), 1);
}
