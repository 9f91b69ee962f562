//! The program is killed at random moments: nothing is lost, and a mail is sent twice only if its outcome was
//! unknown.

use std::thread;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;

use crate::mailserver::MailServer;
use crate::world::{Db, World};

const CONNECTIONS: u64 = 4;

/// `kill -9` comes after 5 to 400 ms.
fn moments(seed: u64) -> impl Iterator<Item = Duration> {
    // Numerical Recipes' generator; its upper bits are good enough for moments.
    std::iter::successors(Some(seed), |last| {
        Some(
            last.wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        )
    })
    .skip(1)
    .map(|random| Duration::from_millis(5 + (random >> 33) % 396))
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name);
    value.map_or(otherwise, |text| text.parse().unwrap())
}

#[rstest]
#[case::sqlite(Db::Sqlite, 1)]
#[case::postgres(Db::Postgres, 2)]
fn killed_at_any_moment_nothing_is_lost(#[case] db: Db, #[case] seed: u64) {
    let kills = from_env("LAPSED_KILLS", 20);
    let notices = from_env("LAPSED_NOTICES", 300);
    // Slow enough for the kills to find mails in flight.
    let mut server = MailServer::start("--delay-ms 5:60");
    let mut world = World::new(db);
    world
        .use_mail_server(&server)
        .set("notify.max_per_sweep", "0");
    world.set("smtp.connections", &CONNECTIONS.to_string());
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"");
    let rows: Vec<String> = (0..notices)
        .map(|n| format!("{n:05},t{n},user{n}@example.org,2026-12-01\n"))
        .collect();
    let rows = rows.concat();
    world.write(
        "exports.csv",
        format!("external_id,name,issuer_email,expires_at\n{rows}"),
    );

    let mut clock: DateTime<Utc> = "2026-11-24T00:00:00Z".parse().unwrap();
    let mut killed = 0;
    let mut log = String::new();
    for moment in moments(seed).take(usize::try_from(kills).unwrap()) {
        clock += TimeDelta::seconds(3);
        world.at(&clock.format("%Y-%m-%d %H:%M:%S").to_string());
        let mut program = world.start("sweep", &["sweep"]);
        thread::sleep(moment);
        program.kill().unwrap();
        killed += u64::from(program.wait().unwrap().code().is_none());
        log += &std::fs::read_to_string(world.path("sweep.log")).unwrap();
    }
    world.sweep_until_settled(clock + TimeDelta::seconds(10));

    let states = world.states();
    let owed = usize::try_from(2 * notices).unwrap();
    assert_eq!(states, [("sent".to_owned(), owed)].into(), "{log}");
    let summary = server.stop();
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(count("unique_recipients"), notices + 1, "{summary:#}");
    let copies = count("duplicates_total");
    assert!(
        copies <= killed * CONNECTIONS,
        "{copies} copies after {killed} kills"
    );
    // A copy has the Message-ID of the original.
    let to_issuers = summary["per_message_id"].as_object().unwrap().len() as u64;
    let to_boss = count("unique_message_ids") - notices;
    assert!(
        to_boss >= 1 && to_issuers == notices + to_boss,
        "{summary:#}"
    );
    for (violation, times) in summary["violations"].as_object().unwrap() {
        assert_eq!(violation, "no QUIT before close", "{summary:#}");
        assert!(
            times.as_u64().unwrap() <= killed * CONNECTIONS,
            "{summary:#}"
        );
    }
    println!("{killed} kills hit, {copies} copies of {notices} mails");
}
