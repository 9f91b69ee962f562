//! What helps an operator at a shell: `check --as`, completion, examples from the program, `-v`, time zones.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};
use rstest::rstest;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A world whose folder every user may enter.
fn open_world(db: Db) -> World {
    let world = World::new(db);
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    world
}

#[test]
fn check_as_a_user_finds_what_that_user_cannot_open() {
    let world = open_world(Sqlite);
    world.import(&[format!("t-1,ci-deploy,ada@example.org,{}", in_days(5))]);
    let checked = world.run(&["check", "--as", "nobody"]);
    if is_root() {
        checked.exits(78).says("FAIL store").says("chown");
        world.run(&["check"]).exits(0).says("This looked as root");
    } else {
        checked.exits(2).says("only root can check as another user");
    }
}

/// The folder of a unit with `DynamicUser=yes`, where systemd lets only the service in.
#[test]
fn check_as_a_user_does_not_judge_the_private_folder_of_a_service() {
    if !is_root() {
        return;
    }
    let mut world = open_world(Sqlite);
    let (private, state) = (world.path("private"), world.path("state"));
    fs::create_dir_all(private.join("lapsed")).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("private/lapsed", &state).unwrap();
    world.set(
        "store.url",
        &format!("\"sqlite://{}/lapsed.db\"", state.display()),
    );
    world.run(&["migrate"]).exits(0);
    let checked = world.run(&["check", "--as", "nobody"]);
    checked.says("warn store: not looked at");
    world.run(&["check"]).exits(0).says("ok   store");
}

#[test]
fn check_as_a_user_reads_credentials_as_root() {
    if !is_root() {
        return;
    }
    let mut world = open_world(Postgres);
    world.run(&["migrate"]).exits(0);
    world.write("hook", "https://hc.example.org/s3cret\n");
    fs::set_permissions(world.path("hook"), fs::Permissions::from_mode(0o600)).unwrap();
    world.set("schedule.heartbeat", "{ url = { credential = \"hook\" } }");
    let mailbox = world.path("as-nobody");
    fs::create_dir(&mailbox).unwrap();
    fs::set_permissions(&mailbox, fs::Permissions::from_mode(0o777)).unwrap();
    world.set("mail.directory", "\"as-nobody\"");
    world
        .run(&["check", "--as", "nobody"])
        .exits(0)
        .says("ok   store");
    world.set("schedule.heartbeat", "{ url = { file = \"hook\" } }");
    let refused = world.run(&["check", "--as", "nobody"]);
    refused.exits(78).says("no permission to read it");
}

#[test]
fn an_unknown_user_is_named() {
    if is_root() {
        let checked = World::new(Sqlite);
        let checked = checked.run(&["check", "--as", "nosuchuser"]);
        checked
            .exits(2)
            .says("there is no user \"nosuchuser\"")
            .says("DynamicUser");
    }
}

/// What a shell would offer for the last of these words.
fn complete(world: &World, words: &[&str]) -> Vec<String> {
    let mut command = world.command(&[]);
    command.env("LAPSED_COMPLETE", "fish").env("COMPLETE", "");
    let output = command
        .arg("--")
        .arg("lapsed")
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let first = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
    let words = text.lines().map(first);
    words.filter(|word| !word.starts_with('-')).collect()
}

#[test]
fn a_shell_completes_names_from_the_configuration() {
    let mut world = World::new(Sqlite);
    world.write("tokens.csv", "external_id,name,issuer_email,expires_at\n");
    world.write("people.csv", "email,status\n");
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"");
    world.table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"");
    let config = world.path("lapsed.toml").display().to_string();
    let with_config = |words: &[&str]| {
        let words = [&["--config", config.as_str()], words].concat();
        complete(&world, &words)
    };
    assert_eq!(with_config(&["token", "list", "--source", ""]), ["exports"]);
    assert_eq!(with_config(&["source", "check", ""]), ["exports"]);
    assert_eq!(with_config(&["directory", "sync", "h"]), ["hr"]);
    assert_eq!(
        with_config(&["sweep", "--accept-shrink", ""]),
        ["exports", "hr"]
    );
    assert_eq!(
        with_config(&["finding", "list", "--kind", "sso"]),
        ["sso_revoked"]
    );
    assert_eq!(
        with_config(&["send-test", ""]),
        Vec::<String>::new(),
        "no file names"
    );
}

#[test]
fn a_shell_completes_findings_and_sources_from_the_store() {
    let world = World::new(Sqlite);
    world.import(&["t-1,ci-deploy,ada@example.org,never"]);
    world.sweep();
    let finding = world.list(&["finding", "list"])[0]["id"].clone();
    let config = world.path("lapsed.toml").display().to_string();
    let words = ["--config", &config, "finding", "acknowledge", ""];
    assert_eq!(complete(&world, &words), [finding.as_str().unwrap()]);

    let import = ["import", "tokens.csv", "--source", "old"];
    world.run(&import).exits(0);
    let words = ["--config", &config, "source", "forget", ""];
    assert_eq!(complete(&world, &words), ["old"], "not the built-in one");
}

#[test]
fn the_example_configuration_and_the_templates_come_from_the_program() {
    let mut world = World::new(Sqlite);
    let example = world.run(&["config", "example"]);
    example.exits(0);
    assert!(example.stdout.contains("# max_per_sweep = 1000"));
    world.write("example.toml", &example.stdout);
    world
        .run(&["--config", "example.toml", "preview", "expiring"])
        .exits(0);

    world
        .run(&["config", "templates", "--out", "words"])
        .exits(0)
        .says("files to words");
    world.set("mail.templates", "\"words\"");
    world.run(&["check"]).exits(0).says("overridden from");
    world
        .run(&["config", "templates", "--out", "words"])
        .exits(1)
        .says("exists");
}

#[test]
fn help_is_a_command() {
    let world = World::new(Sqlite);
    world
        .run(&["help", "token", "list"])
        .exits(0)
        .says("--expires-within");
    world.run(&["help"]).exits(0).says("Watch:");
}

#[test]
fn verbose_shows_what_a_sweep_does() {
    let mut world = World::new(Sqlite);
    world.write(
        "tokens.csv",
        format!(
            "external_id,name,issuer_email,expires_at\nt-1,ci,ada@example.org,{}\n",
            in_days(5)
        ),
    );
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"");
    let quiet = world.run(&["sweep", "--dry-run"]);
    assert!(!quiet.stderr.contains("exports: read"), "{}", quiet.stderr);
    let swept = world.run(&["-v", "sweep"]);
    swept
        .exits(0)
        .says("exports: read")
        .says("plan: ended")
        .says("was sent");
    assert!(!swept.stderr.contains('@'), "{}", swept.stderr);
}

#[rstest]
fn times_are_shown_in_the_zone_of_the_schedule(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.import(&["t-1,ci-deploy,ada@example.org,2030-07-01T09:00:00Z"]);
    world.set("schedule.timezone", "\"Europe/Berlin\"");
    let shown = world.run(&["token", "show", "local/t-1"]);
    shown.exits(0).says("2030-07-01 11:00 CEST (09:00Z, in ");
    let listed = world.list(&["token", "list"]);
    assert_eq!(listed[0]["expires_at"], "2030-07-01T09:00:00Z");
}

#[test]
fn a_mistyped_command_cannot_control_the_terminal() {
    let world = World::new(Sqlite);
    let ran = world.run(&["nonsense\u{1b}]0;title\u{7}\u{202e}gnp.exe"]);
    ran.exits(2).says("nonsense");
    for character in ['\u{1b}', '\u{7}', '\u{202e}'] {
        assert!(!ran.stderr.contains(character), "{:?}", ran.stderr);
    }
    world
        .run(&["swep"])
        .exits(2)
        .says("similar subcommand exists: 'sweep'");
}
