//! Sweeps over a tenant: people who leave are flagged, people who return are cleared.

use rstest::rstest;
use serde_json::json;

use super::tenant::{self, SECRET, Tenant, user};
use super::{DELTA, USERS};
use crate::listed::{assert_no_findings, assert_only_finding, status};
use crate::stub::{Answer, Stub};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

/// A world of ten users, `user1@example.org` and so on, each with a token of theirs.
fn world_with(db: Db, stub: &Stub, keys: &str) -> World {
    let mut world = World::new(db);
    let own = tenant::keys(stub);
    world.write("entra-secret", SECRET);
    world.table(&format!(
        "[[directory]]\nname = \"entra\"\nabsence_grace = \"0s\"\n{own}{keys}"
    ));
    let tokens = (1..=10).map(|n| format!("{n},t{n},user{n}@example.org,"));
    let tokens: Vec<String> = tokens.collect();
    world.at("2026-11-22 06:00:00");
    world.import(&tokens);
    world
}

fn world(db: Db, stub: &Stub) -> World {
    world_with(db, stub, "client_secret = { file = \"entra-secret\" }")
}

#[rstest]
fn a_deleted_person_is_flagged_until_restored(#[values(Sqlite, Postgres)] db: Db) {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let world = world(db, &stub);
    world.sweep();
    tenant.delete(3);
    world.sweep();
    assert_only_finding(&world, "t3", "it is in the deleted items");
    assert_eq!(status(&world, "user3@example.org"), "deleted");
    tenant.restore(3);
    world.sweep().says("1 resolved");
    assert_eq!(status(&world, "user3@example.org"), "active");
}

#[test]
fn only_changes_are_read_once_the_listing_is_old_enough() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let mut world = world(Db::Sqlite, &stub);
    world.sweep();
    world.at("2026-11-22 06:15:00").sweep();
    stub.take_request_lines();

    world.at("2026-11-22 06:30:00").sweep();
    let lines = stub.take_request_lines();
    assert!(lines.contains(&format!("GET {DELTA}")), "{lines:?}");
    assert!(!lines.contains(&format!("GET {USERS}")), "{lines:?}");

    tenant.enable(2, false);
    world.at("2026-11-22 06:45:00").sweep();
    assert_only_finding(&world, "t2", "accountEnabled=false");
    // Another account may have the mailbox of an issuer who lost access.
    let lines = stub.take_request_lines();
    assert!(lines.contains(&format!("GET {USERS}")), "{lines:?}");

    tenant.delete(3);
    world.at("2026-11-22 07:00:00").sweep();
    assert_eq!(status(&world, "user3@example.org"), "deleted");
    stub.take_request_lines();

    tenant.enable(2, true).restore(3);
    for clock in [
        "2026-11-22 07:15:00",
        "2026-11-22 07:30:00",
        "2026-11-22 07:45:00",
    ] {
        world.at(clock).sweep();
    }
    assert_no_findings(&world);
    let last = stub.take_request_lines();
    assert_eq!(last.last(), Some(&format!("GET {DELTA}")), "{last:?}");
}

#[test]
fn an_address_that_moved_to_another_account_flags_no_one() {
    let tenant = Tenant::new(10);
    let stub = tenant.start();
    let world = world(Db::Sqlite, &stub);
    world.sweep();
    let renamed = user(5, "married@example.org");
    let mut other = user(50, "user5@example.org");
    other["accountEnabled"] = json!(false);
    tenant.user(&renamed).user(&other);
    for _ in 0..3 {
        world.sweep();
    }
    assert_no_findings(&world);
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
