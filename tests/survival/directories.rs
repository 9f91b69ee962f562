//! The operator's hands on directories and people: looked at, synchronised, decided on, left out, counted.

use rstest::rstest;
use serde_json::Value;

use crate::daemon::{Daemon, free_port, get};
use crate::waiting::wait_until;
use crate::world::{Db, World, in_days};

/// A world with the directory `hr`, which has these keys, too.
fn world_of_people(db: Db, keys: &str) -> World {
    let mut world = World::new(db);
    world.table(&format!(
        "[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"\n{keys}"
    ));
    world
}

/// A people file of `email,status` rows.
fn people(world: &World, rows: &[&str]) {
    world.write("people.csv", format!("email,status\n{}\n", rows.join("\n")));
}

/// Ten people, the first so many of whom are disabled.
fn ten(lost: usize) -> Vec<String> {
    let status = |n| if n < lost { "disabled" } else { "active" };
    (0..10)
        .map(|n| format!("p{n}@example.org,{}", status(n)))
        .collect()
}

fn write_ten(world: &World, lost: usize) {
    let rows = ten(lost);
    people(world, &rows.iter().map(String::as_str).collect::<Vec<_>>());
}

/// What these keys of each row say, in a line for each.
fn told(rows: &[Value], keys: &[&str]) -> Vec<String> {
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
    told(
        &world.list(&["identity", "list"]),
        &["email", "status", "reason"],
    )
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_directory_is_read_by_hand_and_looked_at_without_a_trace(#[case] db: Db) {
    let mut world = world_of_people(db, "");
    world.at("2026-11-20 08:30:30");
    world.import(&["a,A,p0@example.org,", "b,B,nobody@example.org,"]);
    write_ten(&world, 0);
    let listed = world.list(&["directory", "list"]);
    assert_eq!(
        told(&listed, &["name", "kind", "state", "fresh", "people"]),
        ["hr file never false 0"]
    );
    world
        .run(&["directory", "check", "hr"])
        .exits(0)
        .says("hr: CSV, 10 people")
        .says("it has no `canaries`");
    let look = ["directory", "sync", "hr", "--dry-run"];
    let seen = world.list(&look);
    assert_eq!(seen.len(), 11);
    let keys = ["change", "email", "before", "after", "reason", "evidence"];
    assert_eq!(
        told(&seen[..2], &keys),
        [
            "new nobody@example.org - unknown never_seen -",
            "new p0@example.org - active - status \"active\" in people.csv, line 2"
        ]
    );
    assert!(world.list(&["identity", "list"]).is_empty(), "no trace");

    world
        .run(&["directory", "sync", "hr"])
        .exits(0)
        .says("hr: told of 10 people, 1 of them issuers of tokens; the status of 11 changed");
    world
        .run(&["directory", "sync", "hr"])
        .exits(0)
        .says("hr: nothing new; no status changed");
    write_ten(&world, 1);
    world.run(&["directory", "sync", "hr"]).exits(0);
    assert!(
        world.list(&["finding", "list"]).is_empty(),
        "judging is what sweeps do"
    );
    world.run(&["sweep"]).exits(0).says("1 opened");

    std::fs::remove_file(world.path("people.csv")).unwrap();
    for command in ["check", "sync"] {
        world
            .run(&["directory", command, "hr"])
            .exits(1)
            .says("people.csv");
    }
    let listed = world.list(&["directory", "list"]);
    assert_eq!(told(&listed, &["state", "fresh"]), ["failing true"]);
    for command in ["check", "sync", "release", "reject"] {
        let ran = world.run(&["directory", command, "hx"]);
        ran.exits(2).says("did you mean hr?");
    }
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_mass_change_is_looked_at_refused_and_the_next_one_let_through(#[case] db: Db) {
    let mut world = world_of_people(db, "");
    world.env("USER", "grace").at("2026-11-20 08:30:30");
    let tokens: Vec<String> = (0..10)
        .map(|n| format!("{n},t{n},p{n}@example.org,"))
        .collect();
    world.import(&tokens.iter().map(String::as_str).collect::<Vec<_>>());
    write_ten(&world, 0);
    world.run(&["sweep"]).exits(0);
    write_ten(&world, 4);
    world.run(&["sweep"]).exits(1).says("hr is held");
    world
        .run(&["check"])
        .exits(0)
        .says("warn directory hr: held: 4 of 10");
    let listed = world.list(&["directory", "list"]);
    assert_eq!(told(&listed, &["state"]), ["held"]);
    let ran = world.run(&["directory", "sync", "hr", "--dry-run", "--format", "json"]);
    let held: Vec<Value> = serde_json::from_str(&ran.exits(1).stdout).unwrap();
    let keys = ["change", "email", "before", "after", "evidence"];
    assert_eq!(
        told(&held, &keys)[3],
        "held p3@example.org active disabled status \"disabled\" in people.csv, line 5"
    );
    assert_eq!(held.len(), 4);

    // Refused: they are unknown, and what else the file says counts.
    world
        .run(&["directory", "reject", "hr"])
        .exits(0)
        .says("no token of theirs is flagged");
    let mut rows = ten(4);
    rows[9] = "p9@example.org,disabled".to_owned();
    world.run(&["sweep"]).exits(0);
    people(&world, &rows.iter().map(String::as_str).collect::<Vec<_>>());
    world.run(&["sweep"]).exits(0).says("1 opened");
    assert_eq!(
        identities(&world)[3..],
        [
            "p3@example.org unknown rejected",
            "p4@example.org active -",
            "p5@example.org active -",
            "p6@example.org active -",
            "p7@example.org active -",
            "p8@example.org active -",
            "p9@example.org disabled admin"
        ]
    );
    world
        .run(&["identity", "show", "p3@example.org"])
        .exits(0)
        .says("rejected; it last said active")
        .says("never: an operator refused it");

    // Another one is held again, and let through.
    write_ten(&world, 9);
    world.run(&["sweep"]).exits(1).says("hr is held");
    assert_eq!(world.list(&["finding", "list"]).len(), 1);
    world.run(&["directory", "release", "hr"]).exits(0);
    world.run(&["directory", "sync", "hr"]).exits(0);
    world.run(&["sweep"]).exits(0);
    let lost = world.list(&["identity", "list", "--status", "disabled"]);
    assert_eq!(world.list(&["finding", "list"]).len(), lost.len());
    assert!(lost.len() >= 5, "{lost:?}");
    let trail = told(
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
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn whom_no_directory_covers_is_forgotten_at_the_next_sweep_whatever_the_directory_does(
    #[case] db: Db,
) {
    let mut world = world_of_people(db, "");
    world.at("2026-11-20 08:30:30").import(&[
        "a,A,root@example.org,",
        "b,B,ci@bots.example.org,",
        "c,C,eve@bots.example.org,",
        "d,D,ada@example.org,",
    ]);
    people(
        &world,
        &[
            "root@example.org,disabled",
            "ci@bots.example.org,disabled",
            "eve@bots.example.org,disabled",
            "ada@example.org,active",
            "lift@bots.example.org,active",
        ],
    );
    world.run(&["sweep"]).exits(0).says("3 opened");
    world.take_mails();

    // Nothing changed but the configuration; the file cannot even be read.
    world.set(
        "issuers.modes",
        "{ \"Root@example.org\" = \"local\", \"*@bots.example.org\" = \"service\", \"eve@bots.example.org\" = \"sso\" }",
    );
    let file = std::fs::read(world.path("people.csv")).unwrap();
    std::fs::remove_file(world.path("people.csv")).unwrap();
    world.run(&["sweep"]).exits(1).says("2 resolved");
    assert_eq!(
        identities(&world),
        [
            "ada@example.org active -",
            "eve@bots.example.org disabled admin"
        ]
    );
    world.write("people.csv", file);
    world.run(&["sweep"]).exits(0);
    assert_eq!(
        identities(&world).len(),
        2,
        "what it lists of them is passed over"
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

    // People again, the file as it was.
    world.set("issuers.modes", "{}");
    world.run(&["sweep"]).exits(0).says("2 opened");
    assert_eq!(identities(&world).len(), 5);
    assert_eq!(world.list(&["finding", "list"]).len(), 3);
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn an_issuer_is_known_by_the_address_that_directories_have(#[case] db: Db) {
    let mut world = world_of_people(db, "");
    world
        .at("2026-11-20 08:30:30")
        .import(&["a,A,ada@old.example.org,"]);
    people(&world, &["Ada@example.org,disabled"]);
    world.run(&["sweep"]).exits(0);
    assert!(world.list(&["finding", "list"]).is_empty());
    world.set(
        "issuers.addresses",
        "{ \"ADA@old.example.org\" = \"ada@Example.org\" }",
    );
    world.run(&["sweep"]).exits(0).says("1 opened");
    world
        .run(&["identity", "show", "ada@old.example.org"])
        .exits(0)
        .says("known as  ada@example.org")
        .says("disabled");
    world.set("issuers.addresses", "{}");
    world.run(&["sweep"]).exits(0);
    let shown = world.run(&[
        "identity",
        "show",
        "ada@old.example.org",
        "--format",
        "json",
    ]);
    let shown: Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    let of_hr = &shown["directories"][0];
    assert_eq!(
        of_hr["status"], "unknown",
        "the file never listed that address"
    );
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_word_that_is_too_old_flags_nobody_and_shows_as_unknown(#[case] db: Db) {
    let mut world = world_of_people(db, "fresh_for = \"2h\"");
    world.at("2026-11-20 08:30:30").import(&[
        "a,A,ada@example.org,",
        "b,B,bob@example.org,",
        "c,C,who@example.org,",
        "d,D,,",
    ]);
    people(
        &world,
        &["ada@example.org,active", "bob@example.org,disabled"],
    );
    world.run(&["sweep"]).exits(0).says("1 opened");
    let coverage = ["identity", "coverage"];
    let keys = ["cover", "reason", "count"];
    assert_eq!(
        told(&world.list(&coverage), &keys),
        [
            "active - 1",
            "lost - 1",
            "unknown never_seen 1",
            "no_issuer - 1"
        ]
    );
    std::fs::remove_file(world.path("people.csv")).unwrap();
    world.at("2026-11-20 10:31:30");
    world.import(&["e,E,bob@example.org,"]);
    world.run(&["sweep"]).exits(1);
    assert_eq!(
        world.list(&["finding", "list"]).len(),
        1,
        "neither flagged nor cleared"
    );
    assert_eq!(
        identities(&world),
        [
            "ada@example.org unknown stale",
            "bob@example.org unknown stale",
            "who@example.org unknown never_seen"
        ]
    );
    let rows = world.list(&coverage);
    assert_eq!(
        told(&rows, &keys),
        [
            "active - 0",
            "lost - 0",
            "unknown never_seen 1",
            "unknown stale 2",
            "no_issuer - 1"
        ]
    );
    let command = rows[3]["command"].as_str().unwrap();
    let command: Vec<&str> = command.split(' ').skip(1).collect();
    let of_stale = world.list(&command);
    assert_eq!(
        told(&of_stale, &["email"]),
        ["ada@example.org", "bob@example.org"]
    );
    world
        .run(&["check"])
        .exits(1)
        .says("directory hr: its word holds no longer")
        .says("3 of 3 issuers of tokens");
    let listed = world.list(&["directory", "list"]);
    assert_eq!(told(&listed, &["state", "fresh"]), ["failing false"]);

    people(
        &world,
        &["ada@example.org,active", "bob@example.org,disabled"],
    );
    world.run(&["sweep"]).exits(0).says("1 opened");
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn the_daemon_keeps_to_a_directorys_schedule_and_a_sweep_does_not(#[case] db: Db) {
    let mut world = world_of_people(db, "schedule = \"0 0 1 1 *\"");
    world.import(&["a,A,ada@example.org,"]);
    people(&world, &["ada@example.org,active"]);
    world.run(&["sweep"]).exits(0);
    people(&world, &["ada@example.org,disabled"]);
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
    world.run(&["sweep"]).exits(0).says("1 opened");
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn nobody_is_bound_anew_without_a_reason(#[case] db: Db) {
    let mut world = world_of_people(db, "");
    world
        .at("2026-11-20 08:30:30")
        .import(&["a,A,ada@example.org,"]);
    people(&world, &["ada@example.org,active"]);
    world.run(&["sweep"]).exits(0);
    let rebind = |email: &str, directory: &str| {
        world.run(&["identity", "rebind", email, "--directory", directory])
    };
    rebind("ada@example.org", "hr")
        .exits(1)
        .says("bound to no account");
    rebind("bob@example.org", "hr")
        .exits(1)
        .says("knows nobody by");
    rebind("ada@example.org", "hx")
        .exits(2)
        .says("did you mean hr?");
    assert!(world.list(&["audit", "list"]).is_empty());
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_check_tells_whether_a_reading_would_be_believed(#[case] db: Db) {
    let mut world = world_of_people(db, "canaries = [\"p0@example.org\"]\n");
    world
        .at("2026-11-20 00:00:00")
        .import(&["t,T,p1@example.org,"]);
    write_ten(&world, 0);
    world.run(&["sweep"]).exits(0);
    world.run(&["directory", "check", "hr"]).exits(0);
    write_ten(&world, 1);
    world
        .run(&["directory", "check", "hr"])
        .exits(1)
        .says("cannot  be believed: the canary 1 of 1 is not told of as active");
    let rows: Vec<String> = ten(5).into_iter().skip(1).collect();
    let mut rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    rows.push("p0@example.org,active");
    people(&world, &rows);
    world
        .run(&["directory", "check", "hr"])
        .exits(1)
        .says("4 of 10 people known active would lose their access at once");
    assert_eq!(
        identities(&world)[1],
        "p1@example.org active -",
        "nothing was taken in"
    );

    // A refusal can be taken back.
    world.run(&["sweep"]).exits(1);
    world.run(&["directory", "reject", "hr"]).exits(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(identities(&world)[1], "p1@example.org unknown rejected");
    world
        .run(&["directory", "release", "hr"])
        .exits(0)
        .says("what was refused of 4 people is weighed anew");
    world.run(&["sweep"]).exits(1).says("hr is held");
    world.run(&["directory", "release", "hr"]).exits(0);
    world.run(&["sweep"]).exits(0).says("1 opened");
    let shown = world.run(&["identity", "show", "p1@example.org", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    assert_eq!(
        (&shown["directory"], &shown["status"], &shown["reason"]),
        (&"hr".into(), &"disabled".into(), &"admin".into())
    );
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_directory_that_is_taken_away_is_forgotten_when_somebody_says_so(#[case] db: Db) {
    let mut world = world_of_people(db, "");
    world
        .at("2026-11-20 00:00:00")
        .import(&["t,T,p0@example.org,"]);
    write_ten(&world, 1);
    world.run(&["sweep"]).exits(0).says("1 opened");
    world
        .run(&["directory", "forget", "hr"])
        .exits(1)
        .says("take its [[directory]] out first");
    world.table_alone("");
    world.run(&["sweep"]).exits(0);
    assert_eq!(
        world.list(&["finding", "list"]).len(),
        1,
        "nobody said that they are back"
    );
    world
        .run(&["directory", "forget", "hrr"])
        .exits(2)
        .says("hr");
    world
        .run(&["directory", "forget", "hr"])
        .exits(0)
        .says("of 10 people");
    world.run(&["sweep"]).exits(0).says("1 resolved");
    assert!(world.list(&["identity", "list"]).is_empty());
    assert!(world.list(&["directory", "list"]).is_empty());
}
