//! Who owns what root's commands make, and stores of another user. These tests run as root, and as another
//! user where they say so.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;

use rstest::rstest;

use crate::daemon::Daemon;
use crate::postgres::query;
use crate::world::{Db, RunResult, World};

/// The user that runs the service.
const SERVICE: u32 = 1000;

const READING: [&[&str]; 8] = [
    &["token", "list"],
    &["token", "show", "abcd"],
    &["explain", "abcd"],
    &["notice", "list"],
    &["finding", "list"],
    &["identity", "list"],
    &["source", "list"],
    &["forecast"],
];

/// A world with the store in a folder of the service, as systemd makes it.
fn world_of_service() -> World {
    let mut world = World::new(Db::Sqlite);
    fs::set_permissions(world.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(world.path("state")).unwrap();
    chown(world.path("state"), Some(SERVICE), Some(SERVICE)).unwrap();
    world
        .set("store.url", "\"sqlite:state/lapsed.db\"")
        .set("mail.directory", "\"state/outbox\"");
    world
}

fn run_as_service(world: &World, arguments: &[&str]) -> RunResult {
    let mut command = world.command(arguments);
    command.uid(SERVICE).gid(SERVICE);
    command.output().unwrap().into()
}

fn owner_and_mode(world: &World, name: &str) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(world.path(name)).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o777)
}

#[test]
fn a_command_that_reads_creates_nothing() {
    let mut world = World::new(Db::Sqlite);
    for command in READING {
        world.run(command).exits(78).says("lapsed migrate");
    }
    assert!(!world.path("lapsed.db").exists());
    assert!(!world.path("outbox").exists());

    world.set("store.url", "\"sqlite:no/such/lapsed.db\"");
    let writing: [&[&str]; 4] = [&["sweep"], &["run"], &["migrate"], &["check"]];
    for command in READING.into_iter().chain(writing) {
        world.run(command).exits(78).says("install -d -m 0700");
    }
    assert!(!world.path("no").exists());
}

#[test]
fn what_root_makes_in_the_folder_of_the_service_belongs_to_the_service() {
    let mut world = world_of_service();
    world
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,ada@example.org,2026-12-01"]);
    world.sweep();
    world.run(&["backup", "state/copy.db"]).exits(0);
    for name in ["state/lapsed.db", "state/copy.db"] {
        let expected = (SERVICE, SERVICE, 0o600);
        assert_eq!(owner_and_mode(&world, name), expected, "{name}");
    }
    assert_eq!(
        owner_and_mode(&world, "state/outbox"),
        (SERVICE, SERVICE, 0o700)
    );
    let mails: Vec<_> = fs::read_dir(world.path("state/outbox")).unwrap().collect();
    assert!(!mails.is_empty());
    for mail in mails {
        assert_eq!(mail.unwrap().metadata().unwrap().uid(), SERVICE);
    }

    // A daemon of root's that is killed leaves its write-ahead log behind.
    drop(Daemon::start(&world, "daemon"));
    for name in ["state/lapsed.db-wal", "state/lapsed.db-shm"] {
        let expected = (SERVICE, SERVICE, 0o600);
        assert_eq!(owner_and_mode(&world, name), expected, "{name}");
    }
    run_as_service(&world, &["token", "list"]).exits(0);
}

#[rstest]
fn a_store_of_another_user_is_a_configuration_error_with_the_fix(
    #[values(0o600, 0o644)] mode: u32,
) {
    let world = world_of_service();
    // As after a restore by root with `mv`.
    fs::File::create(world.path("state/lapsed.db")).unwrap();
    let mode = PermissionsExt::from_mode(mode);
    fs::set_permissions(world.path("state/lapsed.db"), mode).unwrap();
    world.run(&["migrate"]).exits(0);
    let commands: [&[&str]; 4] = [&["sweep"], &["run"], &["token", "list"], &["check"]];
    for command in commands {
        run_as_service(&world, command)
            .exits(78)
            .says("root (uid 0)")
            .says("chown 1000:1000");
    }
    world.run(&["sweep"]).exits(0);
    let (owner, ..) = owner_and_mode(&world, "state/lapsed.db");
    assert_eq!(owner, 0, "an existing file keeps its owner");
}

#[test]
fn a_folder_that_the_user_may_not_enter_is_not_a_missing_store() {
    let mut world = world_of_service();
    fs::create_dir(world.path("private")).unwrap();
    fs::set_permissions(world.path("private"), PermissionsExt::from_mode(0o700)).unwrap();
    world.set("store.url", "\"sqlite:private/lapsed.db\"");
    for command in [["sweep"].as_slice(), &["token", "list"]] {
        run_as_service(&world, command)
            .exits(78)
            .says("may not read and write")
            .says("chown 1000:1000");
    }
}

#[test]
fn a_missing_role_database_or_right_is_a_configuration_error() {
    let mut world = World::new(Db::Postgres);
    let url = world.store_url();
    let role = format!(
        "{}_role",
        url::Url::parse(&url)
            .unwrap()
            .path()
            .trim_start_matches('/')
    );
    let with = |change: &dyn Fn(&mut url::Url)| {
        let mut url = url::Url::parse(&url).unwrap();
        change(&mut url);
        format!("{:?}", url.as_str())
    };
    let as_role = with(&|url| url.set_username(&role).unwrap());
    let cases = [
        (with(&|url| url.set_path("no_such_database")), "createdb"),
        (as_role.clone(), "pg_hba.conf"),
    ];
    for (url, fix) in cases {
        world.set("store.url", &url);
        for command in [["sweep"].as_slice(), &["token", "list"], &["check"]] {
            world.run(command).exits(78).says(fix);
        }
    }
    query(&url, &format!("CREATE ROLE {role} LOGIN"));
    world.set("store.url", &as_role);
    let ran = world.run(&["sweep"]);
    query(&url, &format!("DROP ROLE {role}"));
    ran.exits(78).says("GRANT");
}

#[test]
fn a_configuration_that_another_user_may_write_is_not_used() {
    let world = World::new(Db::Sqlite);
    // Writes lapsed.toml.
    world
        .run(&["token", "list"])
        .exits(78)
        .says("lapsed migrate");
    let owned = |name: &str, owner: u32, mode: u32| {
        chown(world.path(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(world.path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    let refused = "is not used";
    let used = "store at";
    let rows = [
        // Owner and mode of the folder and of the file; what root and the service read.
        ((0, 0o755), (0, 0o644), used, used),
        ((SERVICE, 0o755), (SERVICE, 0o644), refused, used),
        ((0, 0o755), (SERVICE, 0o644), refused, used),
        ((SERVICE, 0o775), (SERVICE, 0o644), refused, used),
        ((0, 0o777), (0, 0o644), refused, refused),
        ((0, 0o755), (0, 0o666), refused, refused),
        ((0, 0o775), (0, 0o644), refused, refused),
        ((SERVICE + 1, 0o755), (0, 0o644), refused, refused),
    ];
    for ((folder, folder_mode), (file, file_mode), by_root, by_service) in rows {
        owned("", folder, folder_mode);
        owned("lapsed.toml", file, file_mode);
        for (ran, expected) in [
            (world.run(&["token", "list"]), by_root),
            (run_as_service(&world, &["token", "list"]), by_service),
        ] {
            ran.exits(78).says(expected);
            if expected == refused {
                ran.says("lapsed.toml").says("--config");
            }
        }
        let named = world.run(&["--config", "lapsed.toml", "token", "list"]);
        named.exits(78).says(used);
    }
}

#[test]
fn commands_that_only_use_the_store_need_no_other_secret() {
    let mut world = World::new(Db::Sqlite);
    world
        .set("mail.transport", "\"smtp\"")
        .set("smtp.url", "\"smtps://lapsed@127.0.0.1:9\"")
        .set("smtp.password", "{ credential = \"smtp-password\" }")
        .table(
            "[[source]]\nname = \"r\"\nkind = \"rancher\"\nurl = \"https://127.0.0.1:9\"\n\
             token = { env = \"NO_SUCH_VARIABLE\" }",
        );
    world.run(&["migrate"]).exits(0);
    let others: [&[&str]; 6] = [
        &["token", "list"],
        &["notice", "list"],
        &["source", "list"],
        &["directory", "list"],
        &["backup", "copy.db"],
        &["preview"],
    ];
    for command in others {
        world.run(command).exits(0);
    }
    let using: [&[&str]; 3] = [&["check"], &["sweep"], &["source", "check", "r"]];
    for command in using {
        world
            .run(command)
            .exits(78)
            .says("NO_SUCH_VARIABLE")
            .says("LoadCredential=smtp-password:");
    }
    // Found beside the configuration.
    world.write("smtp-password", "s3cret\n");
    let ran = world.run(&["check"]);
    assert!(!ran.stderr.contains("smtp-password"), "{}", ran.stderr);
}
