//! Several daemons on one PostgreSQL, and a PostgreSQL that stops and comes back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::Daemon;
use crate::mailserver::MailServer;
use crate::postgres;
use crate::waiting::wait_until;
use crate::world::{Db, World, in_days, mails_in};

fn import_due_tokens(world: &World, issuers: usize) {
    let day = in_days(5);
    let rows: Vec<String> = (0..issuers)
        .map(|n| format!("{n},t{n},user{n}@example.org,{day}"))
        .collect();
    world.import(&rows);
}

fn is_settled(world: &World) -> bool {
    let states = world.states();
    !states.is_empty()
        && !["planned", "sending", "unknown"]
            .iter()
            .any(|state| states.contains_key(*state))
}

#[test]
fn two_daemons_share_the_work_without_avoidable_duplicates() {
    let faults = "--p-450-rcpt .2 --p-drop-before .1 --p-drop-after .1 --p-421-connect .1 --p-421-final .05 \
        --drop-mode mix --max-faults-per-key 4 --max-msgs-per-conn 20 --delay-ms 20:60";
    let mut server = MailServer::start(faults);
    let mut world = World::new(Db::Postgres);
    // Long enough that neither lease lapses on a busy machine.
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .set("delivery.lease", "\"20s\"");
    import_due_tokens(&world, 200);
    // Everything is planned before either daemon starts.
    server.stop();
    world.run(&["sweep"]).exits(75);
    server.start_again(faults);
    let first = Daemon::start(&world, "first");
    // Clocks of two machines differ.
    world.at("-5s");
    let second = Daemon::start(&world, "second");
    world.at("+0s");
    wait_until("everything is settled", || is_settled(&world).then_some(()));
    for daemon in [&first, &second] {
        assert!(
            daemon.log().contains(" sent"),
            "both sent mails: {}",
            daemon.log()
        );
    }
    first.stop();
    second.stop();
    assert_eq!(world.states(), [("sent".to_owned(), 200)].into());
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 200, "{summary:#}");
    assert_eq!(summary["unique_message_ids"], 200, "{summary:#}");
    assert_eq!(summary["duplicates_inexcusable"], 0, "{summary:#}");
    assert_eq!(summary["violations"], json!({}), "{summary:#}");
}

fn open_drift(world: &World) -> Vec<serde_json::Value> {
    // The leader may be one of the daemons.
    world.run(&["sweep"]);
    world.list(&["finding", "list", "--kind", "replica_drift"])
}

#[test]
fn replicas_with_different_configurations_are_reported() {
    let mut world = World::new(Db::Postgres);
    let first = Daemon::start(&world, "first");
    world.set("notify.steps", "[\"14d\"]");
    let second = Daemon::start(&world, "second");
    let drift = wait_until("the drift is found", || open_drift(&world).pop());
    let replicas = world.list(&["replica", "list"]);
    assert_eq!(replicas.len(), 2, "{replicas:?}");
    for replica in &replicas {
        assert_eq!(replica["state"], "live", "{replica}");
        let configuration = replica["configuration"].as_str().unwrap();
        let host = replica["host"].as_str().unwrap();
        let evidence = drift["evidence"].as_str().unwrap();
        assert!(evidence.contains(configuration), "{evidence}");
        assert!(evidence.contains(host), "{evidence}");
    }
    assert_eq!(drift["token_name"], "replicas");
    world
        .run(&["check"])
        .says("live replicas have different configurations");
    second.stop();
    wait_until("the drift is resolved", || {
        open_drift(&world).is_empty().then_some(())
    });
    assert_eq!(world.list(&["replica", "list"]).len(), 1, "it deregisters");
    first.stop();
    assert_eq!(world.list(&["replica", "list"]).len(), 0);
}

#[test]
fn a_daemon_takes_over_the_mails_of_one_that_died() {
    let mut server = MailServer::start("--delay-ms 30:60");
    let mut world = World::new(Db::Postgres);
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .set("delivery.lease", "\"2s\"");
    import_due_tokens(&world, 120);
    let first = Daemon::start(&world, "first");
    let second = Daemon::start(&world, "second");
    wait_until("some mails are sent", || {
        (server.summary()["accepted"].as_u64() >= Some(20)).then_some(())
    });
    drop(first);
    wait_until("everything is settled", || is_settled(&world).then_some(()));
    second.stop();
    assert_eq!(world.states(), [("sent".to_owned(), 120)].into());
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 120);
    assert_eq!(summary["unique_message_ids"], 120);
    assert!(
        summary["duplicates_total"].as_u64().unwrap() <= 4,
        "{summary:#}"
    );
}

#[test]
fn a_daemon_goes_on_while_a_newer_replica_migrates_and_ends_when_it_must() {
    let mut world = World::new(Db::Postgres);
    // Twenty times as fast.
    world
        .set("delivery.lease", "\"5m\"")
        .set("notify.admins", "[]")
        .at("2026-11-24 00:00:30 x20");
    world.import(&["first,first,ada@example.org,2026-12-01"]);
    let mut daemon = Daemon::start(&world, "daemon");
    let is_written = |count: usize| {
        wait_until("the mail is written", || {
            (mails_in(&world.path("outbox")).len() == count).then_some(())
        });
    };
    is_written(1);
    let url = world.store_url();
    let tables = "mail notice token plan source finding identity directory run lease meta audit";
    for table in tables.split(' ') {
        postgres::query(&url, &format!("ALTER TABLE {table} ADD COLUMN added TEXT"));
    }
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'of the future', TRUE, '', 0)";
    postgres::query(
        &url,
        &format!("INSERT INTO meta (key, value) VALUES ('schema_min', '1'); {newer}"),
    );
    world.run(&["migrate"]).exits(0).says("may still use");
    world.run(&["check"]).exits(0).says("of a newer lapsed");
    world.import(&["second,second,ben@example.org,2026-12-01"]);
    is_written(2);
    postgres::query(
        &url,
        "UPDATE meta SET value = '9999' WHERE key = 'schema_min'",
    );
    let status = daemon.wait();
    assert_eq!(status.code(), Some(78), "{}", daemon.log());
    assert_contains!(
        daemon.log(),
        "it was used by a newer lapsed; run that version"
    );
}

/// A server of its own, and a world on it in which mails are being sent to `issuers` people.
fn world_on(database: &postgres::Server, server: &MailServer, issuers: usize) -> World {
    let mut world = World::new(Db::Sqlite);
    world.set("store.url", &format!("{:?}", database.url));
    world.use_mail_server(server).set("notify.admins", "[]");
    import_due_tokens(&world, issuers);
    world
}

fn wait_until_accepted(server: &MailServer, at_least: u64) {
    wait_until("mails are sent", || {
        (server.summary()["accepted"].as_u64() >= Some(at_least)).then_some(())
    });
}

#[test]
fn no_mail_is_sent_twice_although_the_database_is_away_longer_than_any_lease() {
    let database = postgres::Server::start();
    // The mail server hangs up on those that wait for the database.
    let mut server = MailServer::start("--delay-ms 20:60 --idle-s 5");
    let world = world_on(&database, &server, 150);
    let first = Daemon::start(&world, "first");
    let second = Daemon::start(&world, "second");
    wait_until_accepted(&server, 20);
    database.crash();
    let away = Instant::now();
    wait_until(
        "the leases are over, and any fixed patience of half a minute",
        || (away.elapsed() > Duration::from_secs(35)).then_some(()),
    );
    database.start_again();
    wait_until("everything is settled", || is_settled(&world).then_some(()));
    for daemon in [&first, &second] {
        let waits = daemon.log().matches("cannot be recorded yet").count();
        assert_eq!(waits, 0, "no line for each try: {}", daemon.log());
    }
    first.stop();
    second.stop();
    assert_eq!(world.states(), [("sent".to_owned(), 150)].into());
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 150);
    assert_eq!(summary["duplicates_total"], 0, "{summary:#}");
}

#[test]
fn a_daemon_that_is_stopped_while_the_database_is_away_records_what_it_sent() {
    let database = postgres::Server::start();
    let mut server = MailServer::start("--delay-ms 20:60");
    let world = world_on(&database, &server, 150);
    let mut daemon = Daemon::start(&world, "daemon");
    wait_until_accepted(&server, 20);
    database.crash();
    daemon.signal("-TERM");
    wait_until("it stops", || {
        daemon.log().contains("stopping").then_some(())
    });
    database.start_again();
    assert_eq!(daemon.wait().code(), Some(0), "{}", daemon.log());
    let sent = server.summary()["accepted"].as_u64().unwrap();
    let states = world.states();
    assert_eq!(
        states.get("sent").copied(),
        usize::try_from(sent).ok(),
        "{states:?}"
    );
    assert_eq!(
        states.get("sent").unwrap() + states["planned"],
        150,
        "{states:?}"
    );
    assert_eq!(server.stop()["duplicates_total"], 0);
}

#[test]
fn a_daemon_that_is_stopped_does_not_wait_for_a_database_for_ever() {
    let database = postgres::Server::start();
    let server = MailServer::start("--delay-ms 20:60");
    let mut world = world_on(&database, &server, 150);
    world.set("delivery.stop_timeout", "\"2s\"");
    let mut daemon = Daemon::start(&world, "daemon");
    wait_until_accepted(&server, 20);
    database.crash();
    daemon.signal("-TERM");
    assert_eq!(daemon.wait().code(), Some(1), "{}", daemon.log());
    assert_contains!(daemon.log(), "forced to stop after 2s");
}

#[test]
fn a_sweep_records_what_it_sent_before_the_database_went_away() {
    let database = postgres::Server::start();
    let mut server = MailServer::start("--delay-ms 20:60");
    let world = world_on(&database, &server, 150);
    let mut sweep = world.start("sweep", &["sweep"]);
    wait_until_accepted(&server, 20);
    database.crash();
    database.start_again();
    let code = sweep.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 75)), "{code:?}");
    wait_until("everything is settled", || {
        world.run(&["sweep"]);
        is_settled(&world).then_some(())
    });
    assert_eq!(world.states(), [("sent".to_owned(), 150)].into());
    assert_eq!(server.stop()["duplicates_total"], 0);
}

#[test]
fn a_suspended_daemon_does_not_send_mails_that_were_taken_over() {
    let mut server = MailServer::start("--delay-ms 20:40");
    let mut world = World::new(Db::Postgres);
    world.use_mail_server(&server).set("notify.admins", "[]");
    import_due_tokens(&world, 100);
    let first = Daemon::start(&world, "first");
    wait_until("some mails are sent", || {
        (server.summary()["accepted"].as_u64() >= Some(10)).then_some(())
    });
    first.signal("-STOP");
    wait_until("everything is settled", || {
        world.run(&["sweep"]);
        is_settled(&world).then_some(())
    });
    first.signal("-CONT");
    // It completes its pass and stops.
    first.stop();
    assert_eq!(world.states(), [("sent".to_owned(), 100)].into());
    let summary = server.stop();
    assert_eq!(summary["unique_message_ids"], 100);
    let copies = summary["duplicates_total"].as_u64().unwrap();
    assert!(copies <= 4, "only what was in flight: {copies}");
}

#[test]
fn a_suspended_daemon_with_a_rate_sends_no_mail_that_was_taken_over() {
    let mut server = MailServer::start("");
    let mut world = World::new(Db::Postgres);
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .set("smtp.connections", "16")
        .set("smtp.mails_per_second", "5");
    import_due_tokens(&world, 60);
    let first = Daemon::start(&world, "first");
    wait_until("some mails are sent", || {
        (server.summary()["accepted"].as_u64() >= Some(3)).then_some(())
    });
    first.signal("-STOP");
    world.set("smtp.mails_per_second", "0");
    wait_until("everything is settled", || {
        world.run(&["sweep"]);
        is_settled(&world).then_some(())
    });
    first.signal("-CONT");
    first.stop();
    assert_eq!(world.states(), [("sent".to_owned(), 60)].into());
    let summary = server.stop();
    assert_eq!(summary["unique_message_ids"], 60);
    let copies = summary["duplicates_total"].as_u64().unwrap();
    // At most the mail whose text was being sent.
    assert!(copies <= 1, "{copies} copies");
}

#[test]
fn a_daemon_survives_an_outage_of_its_database() {
    let database = postgres::Server::start();
    let mut server = MailServer::start("--delay-ms 20:60");
    let mut world = World::new(Db::Sqlite);
    world.set("store.url", &format!("{:?}", database.url));
    world
        .use_mail_server(&server)
        .set("notify.admins", "[]")
        .set("delivery.lease", "\"10s\"");
    import_due_tokens(&world, 200);
    let daemon = Daemon::start(&world, "daemon");
    let accepted = |server: &MailServer, at_least: u64| {
        wait_until("mails are sent", || {
            (server.summary()["accepted"].as_u64() >= Some(at_least)).then_some(())
        });
    };
    accepted(&server, 20);
    database.restart();
    accepted(&server, 80);
    database.crash();
    database.start_again();
    wait_until("everything has arrived", || {
        (server.summary()["unique_recipients"] == 200).then_some(())
    });
    wait_until("everything is settled", || is_settled(&world).then_some(()));
    daemon.stop();
    assert_eq!(world.states(), [("sent".to_owned(), 200)].into());
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 200);
    assert_eq!(summary["unique_message_ids"], 200);
    let copies = summary["duplicates_total"].as_u64().unwrap();
    assert!(
        copies <= 2 * 4,
        "at most one unrecorded mail per connection: {copies}"
    );
}
