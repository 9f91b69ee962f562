//! Heartbeats and the metrics file: what monitoring systems see of a sweep.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rstest::rstest;

use crate::stub::{Answer, Stub};
use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

fn watched(db: Db, url: &str) -> World {
    let mut world = World::new(db);
    world.import(&[format!("t-1,ci-deploy,ada@example.org,{}", in_days(5))]);
    world.set(
        "schedule.heartbeat",
        &format!("{{ url = \"{url}/ping/s3cret?status=up\" }}"),
    );
    world.set("schedule.textfile", "\"lapsed.prom\"");
    world
}

#[rstest]
fn a_good_sweep_sends_a_heartbeat_and_writes_the_metrics(#[values(Sqlite, Postgres)] db: Db) {
    let stub = Stub::start(|_| Answer::text(200, "OK"));
    let world = watched(db, &stub.url);
    world.sweep().exits(0);
    let requests = stub.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].line(), "GET /ping/s3cret");
    assert_eq!(requests[0].query("status"), Some("up"));
    let file = world.path("lapsed.prom");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("lapsed_tokens{source=\"local\",status=\"active\"} 1"),
        "{text}"
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(
        mode & 0o777,
        0o644,
        "node_exporter reads it as another user"
    );
}

#[test]
fn a_failed_sweep_sends_no_heartbeat_but_writes_the_metrics() {
    let stub = Stub::start(|_| Answer::text(200, "OK"));
    let mut world = watched(Sqlite, &stub.url);
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"missing.csv\"");
    world.run(&["sweep"]).exits(1);
    assert!(stub.requests().is_empty());
    let text = fs::read_to_string(world.path("lapsed.prom")).unwrap();
    assert!(
        text.contains("lapsed_source_failing{source=\"exports\"} 1"),
        "{text}"
    );
}

#[test]
fn a_failed_heartbeat_is_a_warning_without_its_key() {
    let stub = Stub::start(|_| Answer::status(404));
    let world = watched(Sqlite, &stub.url);
    let swept = world.sweep();
    swept.exits(0).says("warning: the heartbeat was not sent");
    swept.says("404");
    assert!(!swept.stderr.contains("s3cret"), "{}", swept.stderr);
}

#[test]
fn a_dry_run_sends_no_heartbeat() {
    let stub = Stub::start(|_| Answer::text(200, "OK"));
    let world = watched(Sqlite, &stub.url);
    world.run(&["sweep", "--dry-run"]).exits(0);
    assert!(stub.requests().is_empty());
    assert!(!world.path("lapsed.prom").exists());
}

#[test]
fn a_heartbeat_in_clear_text_to_another_host_is_refused() {
    let world = watched(Sqlite, "http://uptime.example.org");
    let refused = world.run(&["token", "list"]);
    refused
        .exits(78)
        .says("schedule.heartbeat.url")
        .says("allow_plaintext = true");
    assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
}

#[test]
fn check_looks_at_heartbeat_and_metrics_file_without_a_request() {
    let stub = Stub::start(|_| Answer::text(200, "OK"));
    let mut world = watched(Sqlite, &stub.url);
    let server = format!("ok   heartbeat: a request to {}", stub.url);
    let checked = world.run(&["check"]);
    checked
        .exits(0)
        .says(&server)
        .says("ok   textfile: metrics are written to");
    assert!(!checked.stdout.contains("s3cret"), "{}", checked.stdout);
    assert!(stub.requests().is_empty());
    world.set("schedule.textfile", "\"missing/lapsed.prom\"");
    world
        .run(&["check"])
        .exits(78)
        .says("FAIL textfile: cannot write to");
}
