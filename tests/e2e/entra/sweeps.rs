//! Sweeps over a tenant: people who leave are flagged, people who return are cleared.

use rstest::rstest;
use serde_json::{Value, json};

use super::tenant::{ACCESS, CLIENT, SECRET, TENANT, Tenant, user};
use super::{DELTA, USERS};
use crate::bad_responses::{
    BAD_RESPONSES, LEAKED_SECRET, assert_not_leaked, daemon_log_after_sweep,
};
use crate::stub::{Answer, Stub};
use crate::world::{Db, World};

/// A world of ten users, `user1@example.org` and so on, each with a token of theirs.
fn world_with(db: Db, stub: &Stub, keys: &str) -> World {
    let mut world = World::new(db);
    let url = &stub.url;
    world.write("entra-secret", SECRET);
    world.table(&format!(
        "[[directory]]\nname = \"entra\"\nkind = \"entra\"\ntenant = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\n\
         url = \"{url}\"\nabsence_grace = \"0s\"\n{keys}"
    ));
    let tokens: Vec<String> = (1..=10)
        .map(|n| format!("{n},t{n},user{n}@example.org,"))
        .collect();
    world.at("2026-11-22 06:00:00");
    world.import(&tokens.iter().map(String::as_str).collect::<Vec<_>>());
    world
}

fn world(db: Db, stub: &Stub) -> World {
    world_with(db, stub, "client_secret = { file = \"entra-secret\" }")
}

/// A group with all users.
const IN_GROUPS: &str =
    "client_secret = { file = \"entra-secret\" }\nallowed_groups = [\"cdn admins\"]";

/// The open findings as `token: evidence`, in order.
fn findings(world: &World) -> Vec<String> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = world.list(&["finding", "list"]);
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            assert_eq!(row["kind"], "sso_revoked");
            format!("{}: {}", text(row, "token_name"), text(row, "evidence"))
        })
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_only_finding(world: &World, token: &str, evidence: &str) {
    let lines = findings(world);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&format!("{token}: ")), "{lines:?}");
    assert!(lines[0].contains(evidence), "{lines:?}");
}

fn status(world: &World, number: u32) -> String {
    let email = format!("user{number}@example.org");
    let ran = world.run(&["identity", "show", &email, "--format", "json"]);
    let shown: Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    shown["directories"][0]["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_disabled_person_is_flagged_until_enabled_again(#[case] db: Db) {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let world = world(db, &stub);
    world.run(&["sweep"]).exits(0);
    assert!(findings(&world).is_empty());
    assert_eq!(status(&world, 2), "active");

    tenant.enable(2, false);
    world.run(&["sweep"]).exits(0).says("1 opened");
    assert_only_finding(&world, "t2", "entra says accountEnabled=false");
    assert_only_finding(&world, "t2", "checked by id");
    assert_eq!(status(&world, 2), "disabled");

    tenant.enable(2, true);
    world.run(&["sweep"]).exits(0).says("1 resolved");
    assert_eq!(findings(&world), Vec::<String>::new());
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_deleted_person_is_flagged_until_restored(#[case] db: Db) {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let world = world(db, &stub);
    world.run(&["sweep"]).exits(0);
    tenant.delete(3);
    world.run(&["sweep"]).exits(0);
    assert_only_finding(&world, "t3", "it is in the deleted items");
    assert_eq!(status(&world, 3), "deleted");
    tenant.restore(3);
    world.run(&["sweep"]).exits(0).says("1 resolved");
    assert_eq!(status(&world, 3), "active");
}

#[test]
fn a_purged_person_is_flagged_after_a_second_look_up() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let mut world = world(Db::Sqlite, &stub);
    world.run(&["sweep"]).exits(0);
    tenant.delete(3).purge(3);
    world.at("2026-11-22 06:01:00").run(&["sweep"]).exits(0);
    assert_eq!(
        findings(&world),
        Vec::<String>::new(),
        "one 404 is no proof"
    );
    assert_eq!(status(&world, 3), "unknown");
    world.at("2026-11-22 06:02:00").run(&["sweep"]).exits(0);
    assert_only_finding(&world, "t3", "404 for its id, and not in the deleted items");
}

#[rstest]
#[case::sqlite(Db::Sqlite)]
#[case::postgres(Db::Postgres)]
fn a_person_who_leaves_the_allowed_group_is_flagged_until_back(#[case] db: Db) {
    let tenant = Tenant::new(10);
    tenant.group(100, "cdn admins", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let stub = tenant.start();
    let world = world_with(db, &stub, IN_GROUPS);
    world.run(&["sweep"]).exits(0);
    tenant.group(100, "cdn admins", &[1, 2, 3, 5, 6, 7, 8, 9, 10]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), Vec::<String>::new(), "read once");
    world.run(&["sweep"]).exits(0);
    assert_only_finding(
        &world,
        "t4",
        "membership in none of the allowed groups (cdn admins)",
    );
    assert_eq!(status(&world, 4), "out_of_group");
    tenant.group(100, "cdn admins", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    world.run(&["sweep"]).exits(0).says("1 resolved");
    assert_eq!(status(&world, 4), "active");
}

#[test]
fn an_emptied_or_renamed_group_flags_no_one() {
    let tenant = Tenant::new(10);
    tenant.group(100, "cdn admins", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let stub = tenant.start();
    let world = world_with(Db::Sqlite, &stub, IN_GROUPS);
    world.run(&["sweep"]).exits(0);
    tenant.group(100, "cdn admins", &[]);
    for _ in 0..3 {
        world.run(&["sweep"]).exits(1).says("entra is held");
    }
    tenant.group(100, "renamed", &[1]);
    let ran = world.run(&["sweep"]);
    ran.exits(1)
        .says("there is no group \"cdn admins\" of allowed_groups");
    assert_eq!(findings(&world), Vec::<String>::new());
}

#[test]
fn only_changes_are_read_once_the_listing_is_old_enough() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let mut world = world(Db::Sqlite, &stub);
    world.run(&["sweep"]).exits(0);
    world.at("2026-11-22 06:15:00").run(&["sweep"]).exits(0);
    stub.take_request_lines();

    tenant.enable(2, false);
    world.at("2026-11-22 06:30:00").run(&["sweep"]).exits(0);
    assert_only_finding(&world, "t2", "accountEnabled=false");
    let lines = stub.take_request_lines();
    assert!(lines.contains(&format!("GET {DELTA}")), "{lines:?}");
    assert!(!lines.contains(&format!("GET {USERS}")), "{lines:?}");

    tenant.delete(3);
    world.at("2026-11-22 06:45:00").run(&["sweep"]).exits(0);
    assert_eq!(status(&world, 3), "deleted");
    assert!(!stub.take_request_lines().contains(&format!("GET {USERS}")));

    tenant.enable(2, true).restore(3);
    for clock in [
        "2026-11-22 07:00:00",
        "2026-11-22 07:15:00",
        "2026-11-22 07:30:00",
    ] {
        world.at(clock).run(&["sweep"]).exits(0);
    }
    assert_eq!(findings(&world), Vec::<String>::new());
    let last = stub.take_request_lines();
    assert_eq!(last.last(), Some(&format!("GET {DELTA}")), "{last:?}");
}

#[test]
fn an_address_that_moved_to_another_account_flags_no_one() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let world = world(Db::Sqlite, &stub);
    world.run(&["sweep"]).exits(0);
    let renamed = user(5, "married@example.org");
    let mut other = user(50, "user5@example.org");
    other["accountEnabled"] = json!(false);
    tenant.user(&renamed).user(&other);
    for _ in 0..3 {
        world.run(&["sweep"]).exits(0);
    }
    assert_eq!(findings(&world), Vec::<String>::new());
}

#[test]
fn failures_flag_no_one_and_show_no_secret() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let mut world = world(Db::Sqlite, &stub);
    world.run(&["sweep"]).exits(0);
    let mut output = String::new();
    let mut fails = |world: &World, words: &str| {
        let ran = world.run(&["sweep"]);
        ran.exits(1).says(words);
        output += &ran.stderr;
        assert_eq!(findings(world), Vec::<String>::new());
    };
    for trap in BAD_RESPONSES {
        tenant.override_response(USERS, trap.answer);
        fails(&world, trap.expected_text);
    }
    tenant.override_response(USERS, || Answer::text(403, LEAKED_SECRET));
    fails(&world, "add the application permission User.Read.All");
    tenant.override_response(USERS, || Answer::json(&json!({"value": []})));
    fails(&world, "lists no users");
    tenant.state().overrides.clear();
    tenant.state().hidden.insert("accountEnabled");
    fails(&world, "none of them has accountEnabled");
    tenant.state().hidden.clear();
    let token = format!("/{TENANT}/oauth2/v2.0/token");
    tenant.override_response(&token, || {
        let text = json!({"error": "invalid_client", "error_codes": [7_000_222], "error_description": LEAKED_SECRET});
        Answer::text(401, &text.to_string())
    });
    fails(&world, "AADSTS7000222); the secret has expired");
    tenant.state().overrides.clear();
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), Vec::<String>::new());

    world.set("log.level", "\"trace\"");
    output += &daemon_log_after_sweep(world.at("2026-11-22 06:20:57"));
    std::fs::remove_file(world.path("entra-secret")).unwrap();
    assert_not_leaked(&[LEAKED_SECRET, SECRET, ACCESS], &world, &output);
    assert!(!output.contains("user3@example.org"), "{output}");
}

#[test]
fn a_requested_wait_defers_the_directory_without_a_failure() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let mut world = world(Db::Sqlite, &stub);
    tenant.override_response(USERS, || Answer::status(429).with("retry-after", "600"));
    world.run(&["sweep"]).exits(0);
    stub.take_request_lines();
    world.at("2026-11-22 06:09:00").run(&["sweep"]).exits(0);
    assert_eq!(stub.take_request_lines(), Vec::<String>::new());
    tenant.state().overrides.clear();
    world.at("2026-11-22 06:11:00").run(&["sweep"]).exits(0);
    assert_eq!(status(&world, 1), "active");
}

#[test]
fn a_check_signs_in_with_a_certificate_and_reports_what_is_missing() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let world = world_with(Db::Sqlite, &stub, "certificate = \"entra.pem\"");
    let pem = include_bytes!("../../data/assertion/rsa.pem");
    world.write("entra.pem", pem);
    world
        .run(&["check"])
        .says("Microsoft Entra ID, tenant contoso.example");
    let bin = "/v1.0/directory/deletedItems/microsoft.graph.user";
    tenant.override_response(bin, || Answer::status(403));
    world
        .run(&["check"])
        .says("add the application permission User.Read.All");
    world.write("entra.pem", "no key");
    world.run(&["check"]).says("it has no private key");
}
