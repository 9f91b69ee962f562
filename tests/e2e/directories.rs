//! Commands about directories and people: check, sync, release, reject, forget, coverage.

use rstest::rstest;
use serde_json::Value;

use crate::daemon::{Daemon, free_port, get};
use crate::stub::{Answer, Stub};
use crate::waiting::wait_until;
use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

/// With the directory `hr` and these additional keys.
fn world_of_people(db: Db, keys: &str) -> World {
    let mut world = World::new(db);
    world.table(&format!(
        "[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"\n{keys}"
    ));
    world
}

/// Writes a people file of `email,status` rows.
fn write_people(world: &World, rows: &[&str]) {
    world.write("people.csv", format!("email,status\n{}\n", rows.join("\n")));
}

/// Ten people, of whom the first `lost` are disabled.
fn ten_people(lost: usize) -> Vec<String> {
    let status = |n| if n < lost { "disabled" } else { "active" };
    (0..10)
        .map(|n| format!("p{n}@example.org,{}", status(n)))
        .collect()
}

fn write_ten_people(world: &World, lost: usize) {
    let rows = ten_people(lost);
    write_people(world, &rows.iter().map(String::as_str).collect::<Vec<_>>());
}

/// One line per row with the values of these keys.
fn lines(rows: &[Value], keys: &[&str]) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let line = |row: &Value| {
        let parts: Vec<String> = keys.iter().map(|key| text(&row[*key])).collect();
        parts.join(" ")
    };
    rows.iter().map(line).collect()
}

fn identities(world: &World) -> Vec<String> {
    lines(
        &world.list(&["identity", "list"]),
        &["email", "status", "reason"],
    )
}

#[rstest]
fn a_directory_is_synced_and_previewed_by_command(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "");
    world.at("2026-11-20 08:30:30");
    world.import(&["a,A,p0@example.org,", "b,B,nobody@example.org,"]);
    write_ten_people(&world, 0);
    let listed = world.list(&["directory", "list"]);
    assert_eq!(
        lines(&listed, &["name", "kind", "state", "fresh", "people"]),
        ["hr file never false 0"]
    );
    world
        .run(&["directory", "check", "hr"])
        .exits(0)
        .says("hr: CSV, 10 people")
        .says("it has no `canaries`");
    let preview = ["directory", "sync", "hr", "--dry-run"];
    let seen = world.list(&preview);
    assert_eq!(seen.len(), 11);
    let keys = ["change", "email", "before", "after", "reason", "evidence"];
    let expected = [
        "new nobody@example.org - unknown never_seen -",
        "new p0@example.org - active - status \"active\" in people.csv, line 2",
    ];
    assert_eq!(lines(&seen[..2], &keys), expected);
    assert!(
        world.list(&["identity", "list"]).is_empty(),
        "nothing is written"
    );

    world
        .run(&["directory", "sync", "hr"])
        .exits(0)
        .says("hr: 10 people listed, 1 of them issuers of tokens; the status of 11 changed");
    world
        .run(&["directory", "sync", "hr"])
        .exits(0)
        .says("hr: nothing new; no status changed");
    write_ten_people(&world, 1);
    world.run(&["directory", "sync", "hr"]).exits(0);
    assert!(
        world.list(&["finding", "list"]).is_empty(),
        "only a sweep judges"
    );
    world.sweep().says("1 opened");

    std::fs::remove_file(world.path("people.csv")).unwrap();
    for command in ["check", "sync"] {
        world
            .run(&["directory", command, "hr"])
            .exits(1)
            .says("people.csv");
    }
    let listed = world.list(&["directory", "list"]);
    assert_eq!(lines(&listed, &["state", "fresh"]), ["failing true"]);
    for command in ["check", "sync", "release", "reject"] {
        let ran = world.run(&["directory", command, "hx"]);
        ran.exits(2).says("did you mean hr?");
    }
}

#[rstest]
fn a_mass_change_is_held_and_can_be_rejected_or_released(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "");
    world.env("USER", "grace").at("2026-11-20 08:30:30");
    let tokens: Vec<String> = (0..10)
        .map(|n| format!("{n},t{n},p{n}@example.org,"))
        .collect();
    world.import(&tokens);
    write_ten_people(&world, 0);
    world.sweep();
    write_ten_people(&world, 4);
    world.run(&["sweep"]).exits(1).says("hr is held");
    world
        .run(&["check"])
        .exits(0)
        .says("warn directory hr: held: 4 of 10");
    let listed = world.list(&["directory", "list"]);
    assert_eq!(lines(&listed, &["state"]), ["held"]);
    let ran = world.run(&["directory", "sync", "hr", "--dry-run", "--format", "json"]);
    let held: Vec<Value> = serde_json::from_str(&ran.exits(1).stdout).unwrap();
    let keys = ["change", "email", "before", "after", "evidence"];
    let expected = "held p3@example.org active disabled status \"disabled\" in people.csv, line 5";
    assert_eq!(lines(&held, &keys)[3], expected);
    assert_eq!(held.len(), 4);

    // Rejected: they are unknown, and the other rows count.
    world
        .run(&["directory", "reject", "hr"])
        .exits(0)
        .says("None of their tokens is flagged");
    let mut rows = ten_people(4);
    rows[9] = "p9@example.org,disabled".to_owned();
    world.sweep();
    write_people(&world, &rows.iter().map(String::as_str).collect::<Vec<_>>());
    world.sweep().says("1 opened");
    let expected = [
        "p3@example.org unknown rejected",
        "p4@example.org active -",
        "p5@example.org active -",
        "p6@example.org active -",
        "p7@example.org active -",
        "p8@example.org active -",
        "p9@example.org disabled admin",
    ];
    assert_eq!(identities(&world)[3..], expected);
    world
        .run(&["identity", "show", "p3@example.org"])
        .exits(0)
        .says("rejected; last reported active")
        .says("never: an operator rejected it");

    // The next one is held again, and released.
    write_ten_people(&world, 9);
    world.run(&["sweep"]).exits(1).says("hr is held");
    assert_eq!(world.list(&["finding", "list"]).len(), 1);
    world.run(&["directory", "release", "hr"]).exits(0);
    world.run(&["directory", "sync", "hr"]).exits(0);
    world.sweep();
    let lost = world.list(&["identity", "list", "--status", "disabled"]);
    assert_eq!(world.list(&["finding", "list"]).len(), lost.len());
    assert!(lost.len() >= 5, "{lost:?}");
    let trail = lines(
        &world.list(&["audit", "list"]),
        &["actor", "action", "subject"],
    );
    assert!(
        trail.contains(&"grace directory.reject hr".to_owned()),
        "{trail:?}"
    );
    assert!(
        trail.contains(&"grace directory.release hr".to_owned()),
        "{trail:?}"
    );
}

#[rstest]
fn an_uncovered_issuer_is_forgotten_even_if_the_directory_fails(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = world_of_people(db, "");
    world.at("2026-11-20 08:30:30").import(&[
        "a,A,root@example.org,",
        "b,B,ci@bots.example.org,",
        "c,C,eve@bots.example.org,",
        "d,D,ada@example.org,",
    ]);
    write_people(
        &world,
        &[
            "root@example.org,disabled",
            "ci@bots.example.org,disabled",
            "eve@bots.example.org,disabled",
            "ada@example.org,active",
            "lift@bots.example.org,active",
        ],
    );
    world.sweep().says("3 opened");
    world.take_mails();

    // Only the configuration changes, and the file cannot be read.
    world.set(
        "issuers.modes",
        "{ \"Root@example.org\" = \"local\", \"*@bots.example.org\" = \"service\", \"eve@bots.example.org\" = \"sso\" }",
    );
    let file = std::fs::read(world.path("people.csv")).unwrap();
    std::fs::remove_file(world.path("people.csv")).unwrap();
    world.run(&["sweep"]).exits(1).says("2 resolved");
    let expected = [
        "ada@example.org active -",
        "eve@bots.example.org disabled admin",
    ];
    assert_eq!(identities(&world), expected);
    world.write("people.csv", file);
    world.sweep();
    assert_eq!(
        identities(&world).len(),
        2,
        "its rows about them are ignored"
    );
    world
        .run(&["identity", "show", "root@example.org"])
        .exits(0)
        .says("not covered by any directory");
    let shown = world.run(&[
        "identity",
        "show",
        "ci@bots.example.org",
        "--format",
        "json",
    ]);
    let shown: Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    assert_eq!(
        (
            &shown["mode"],
            shown["directories"].as_array().unwrap().len()
        ),
        (&"service".into(), 0)
    );

    // Covered again, with the same file.
    world.set("issuers.modes", "{}");
    world.sweep().says("2 opened");
    assert_eq!(identities(&world).len(), 5);
    assert_eq!(world.list(&["finding", "list"]).len(), 3);
}

#[rstest]
fn an_issuer_is_found_by_the_mapped_address(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "");
    world
        .at("2026-11-20 08:30:30")
        .import(&["a,A,ada@old.example.org,"]);
    write_people(&world, &["Ada@example.org,disabled"]);
    world.sweep();
    assert!(world.list(&["finding", "list"]).is_empty());
    world.set(
        "issuers.addresses",
        "{ \"ADA@old.example.org\" = \"ada@Example.org\" }",
    );
    world.sweep().says("1 opened");
    world
        .run(&["identity", "show", "ada@old.example.org"])
        .exits(0)
        .says("known as  ada@example.org")
        .says("disabled");
    world.set("issuers.addresses", "{}");
    world.sweep();
    let shown = world.run(&[
        "identity",
        "show",
        "ada@old.example.org",
        "--format",
        "json",
    ]);
    let shown: Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    let in_hr = &shown["directories"][0];
    assert_eq!(
        in_hr["status"], "unknown",
        "the file never listed that address"
    );
}

#[rstest]
fn stale_data_flags_no_one_and_shows_as_unknown(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "fresh_for = \"2h\"");
    world.at("2026-11-20 08:30:30").import(&[
        "a,A,ada@example.org,",
        "b,B,bob@example.org,",
        "c,C,who@example.org,",
        "d,D,,",
    ]);
    write_people(
        &world,
        &["ada@example.org,active", "bob@example.org,disabled"],
    );
    world.sweep().says("1 opened");
    let coverage = ["identity", "coverage"];
    let keys = ["cover", "reason", "count"];
    let expected = [
        "active - 1",
        "lost - 1",
        "unknown never_seen 1",
        "no_issuer - 1",
    ];
    assert_eq!(lines(&world.list(&coverage), &keys), expected);
    std::fs::remove_file(world.path("people.csv")).unwrap();
    world.at("2026-11-20 10:31:30");
    world.import(&["e,E,bob@example.org,"]);
    world.run(&["sweep"]).exits(1);
    assert_eq!(
        world.list(&["finding", "list"]).len(),
        1,
        "neither flagged nor cleared"
    );
    let expected = [
        "ada@example.org unknown stale",
        "bob@example.org unknown stale",
        "who@example.org unknown never_seen",
    ];
    assert_eq!(identities(&world), expected);
    let rows = world.list(&coverage);
    let expected = [
        "active - 0",
        "lost - 0",
        "unknown never_seen 1",
        "unknown stale 2",
        "no_issuer - 1",
    ];
    assert_eq!(lines(&rows, &keys), expected);
    let command = rows[3]["command"].as_str().unwrap();
    let command: Vec<&str> = command.split(' ').skip(1).collect();
    let stale = world.list(&command);
    let expected = ["ada@example.org", "bob@example.org"];
    assert_eq!(lines(&stale, &["email"]), expected);
    world
        .run(&["check"])
        .exits(1)
        .says("directory hr: its data is stale")
        .says("3 of 3 issuers of tokens");
    let listed = world.list(&["directory", "list"]);
    assert_eq!(lines(&listed, &["state", "fresh"]), ["failing false"]);

    write_people(
        &world,
        &["ada@example.org,active", "bob@example.org,disabled"],
    );
    world.sweep().says("1 opened");
}

#[rstest]
fn the_daemon_follows_the_schedule_of_a_directory_and_a_sweep_does_not(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = world_of_people(db, "schedule = \"0 0 1 1 *\"");
    world.import(&["a,A,ada@example.org,"]);
    write_people(&world, &["ada@example.org,active"]);
    world.sweep();
    write_people(&world, &["ada@example.org,disabled"]);
    let soon = format!("b,soon,bob@example.org,{}", in_days(3));
    world.import(&[&soon]);
    let port = free_port();
    world.set("http.listen", &format!("\"127.0.0.1:{port}\""));
    let daemon = Daemon::start(&world, "daemon");
    wait_until("the daemon has swept", || {
        world.states().contains_key("sent").then_some(())
    });
    let (_, metrics) = get(port, "/metrics");
    daemon.stop();
    for line in [
        "lapsed_directory_failures{directory=\"hr\"} 0",
        "lapsed_directory_fresh{directory=\"hr\"} 1",
        "lapsed_directory_held{directory=\"hr\"} 0",
        "lapsed_directory_people{directory=\"hr\"} 1",
        "lapsed_identities{directory=\"hr\",reason=\"none\",status=\"active\"} 1",
    ] {
        assert!(
            metrics.lines().any(|shown| shown == line),
            "{line}: {metrics}"
        );
    }
    assert_eq!(identities(&world), ["ada@example.org active -"]);
    world.sweep().says("1 opened");
}

#[rstest]
fn rebinding_needs_a_reason(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "");
    world
        .at("2026-11-20 08:30:30")
        .import(&["a,A,ada@example.org,"]);
    write_people(&world, &["ada@example.org,active"]);
    world.sweep();
    let rebind = |email: &str, directory: &str| {
        world.run(&["identity", "rebind", email, "--directory", directory])
    };
    rebind("ada@example.org", "hr")
        .exits(1)
        .says("bound to no entry");
    rebind("bob@example.org", "hr")
        .exits(1)
        .says("does not know");
    rebind("ada@example.org", "hx")
        .exits(2)
        .says("did you mean hr?");
    assert!(world.list(&["audit", "list"]).is_empty());
}

#[rstest]
fn a_check_reports_whether_a_sync_would_be_accepted(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "canaries = [\"p0@example.org\"]\n");
    world
        .at("2026-11-20 00:00:00")
        .import(&["t,T,p1@example.org,"]);
    write_ten_people(&world, 0);
    world.sweep();
    world.run(&["directory", "check", "hr"]).exits(0);
    write_ten_people(&world, 1);
    world
        .run(&["directory", "check", "hr"])
        .exits(1)
        .says("cannot  be accepted: the canary 1 of 1 is not listed as active");
    let rows: Vec<String> = ten_people(5).into_iter().skip(1).collect();
    let mut rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    rows.push("p0@example.org,active");
    write_people(&world, &rows);
    world
        .run(&["directory", "check", "hr"])
        .exits(1)
        .says("4 of 10 active people would lose access at once");
    let expected = "p1@example.org active -";
    assert_eq!(identities(&world)[1], expected, "nothing was written");

    // A rejection can be withdrawn.
    world.run(&["sweep"]).exits(1);
    world.run(&["directory", "reject", "hr"]).exits(0);
    world.sweep();
    assert_eq!(identities(&world)[1], "p1@example.org unknown rejected");
    world
        .run(&["directory", "release", "hr"])
        .exits(0)
        .says("the rejected statements about 4 people are evaluated again");
    world.run(&["sweep"]).exits(1).says("hr is held");
    world.run(&["directory", "release", "hr"]).exits(0);
    world.sweep().says("1 opened");
    let shown = world.run(&["identity", "show", "p1@example.org", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    assert_eq!(
        (&shown["directory"], &shown["status"], &shown["reason"]),
        (&"hr".into(), &"disabled".into(), &"admin".into())
    );
}

#[rstest]
fn a_removed_directory_is_forgotten_by_command(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db, "");
    world
        .at("2026-11-20 00:00:00")
        .import(&["t,T,p0@example.org,"]);
    write_ten_people(&world, 1);
    world.sweep().says("1 opened");
    world
        .run(&["directory", "forget", "hr"])
        .exits(1)
        .says("remove its [[directory]] first");
    world.replace_tables("");
    world.sweep();
    assert_eq!(
        world.list(&["finding", "list"]).len(),
        1,
        "the loss still counts"
    );
    world
        .run(&["directory", "forget", "hrr"])
        .exits(2)
        .says("did you mean hr? The store has hr");
    world
        .run(&["directory", "forget", "hr"])
        .exits(0)
        .says("about 10 people");
    world.sweep().says("1 resolved");
    assert!(world.list(&["identity", "list"]).is_empty());
    assert!(world.list(&["directory", "list"]).is_empty());
}

#[rstest]
fn a_check_does_not_contact_a_deferred_directory(#[values(Sqlite, Postgres)] db: Db) {
    let busy = Stub::start(|_| Answer::status(429).with("retry-after", "3600"));
    let mut world = World::new(db);
    world.table(&format!(
        "[[directory]]\nname = \"hr\"\nkind = \"scim\"\nurl = \"{}\"\ntoken = \"own\"",
        busy.url
    ));
    world.at("2026-11-20 08:30:00");
    world.sweep();
    assert!(!busy.take_request_lines().is_empty());
    world
        .run(&["check"])
        .exits(0)
        .says("warn directory hr: it asked us to wait until 2026-11-20 09:30Z");
    world
        .run(&["directory", "check", "hr"])
        .exits(75)
        .says("hr asked us to wait until 2026-11-20 09:30Z");
    assert_eq!(busy.take_request_lines(), Vec::<String>::new());
}
