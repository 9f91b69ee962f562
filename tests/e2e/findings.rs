//! Findings by the rules: opened, summarised once a week, resolved.

use rstest::rstest;

use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const COLUMNS: &str =
    "external_id,name,issuer_email,expires_at,created_at,last_used_at,role,status\n";

/// Monday, 23 November 2026.
const MONDAY: &str = "2026-11-23 09:00:00";

fn world_of_rules(db: Db) -> World {
    let mut world = World::new(db);
    world
        .set("policy.max_ttl", "\"90d\"")
        .set("policy.unused_after", "\"90d\"")
        .table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"");
    world
}

fn listing(world: &World, rows: &[&str]) {
    world.write("tokens.csv", format!("{COLUMNS}{}\n", rows.join("\n")));
}

/// `name kind severity state` of each finding, in order.
fn findings(world: &World, more: &[&str]) -> Vec<String> {
    let listed = world.list(&[&["finding", "list"], more].concat());
    let mut lines: Vec<String> = listed
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            format!(
                "{} {} {} {}",
                text("token_name"),
                text("kind"),
                text("severity"),
                text("state")
            )
        })
        .collect();
    lines.sort();
    lines
}

const CLEAN: &str = "a,clean,ada@example.org,2027-01-15,2026-11-01,2026-11-19,read,active";
const ENDLESS: &str = "b,endless,ada@example.org,never,2026-11-01,2026-11-19,admin,active";
const LONG: &str = "c,long,ada@example.org,2027-10-01,2026-11-01,2026-11-19,read,active";
const IDLE: &str = "d,idle,ada@example.org,,2026-03-01,2026-06-01,read,active";
const OFF: &str = "e,off,ada@example.org,never,2024-01-01,,admin,disabled";

#[rstest]
fn a_finding_opens_once_and_resolves_by_itself(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_rules(db);
    world.at("2026-11-20 10:00:00");
    listing(&world, &[CLEAN, ENDLESS, LONG, IDLE, OFF]);
    world.sweep().says("3 opened");
    let open = [
        "endless never_expires high open",
        "idle unused medium open",
        "long too_long medium open",
    ];
    assert_eq!(findings(&world, &[]), open);
    world
        .run(&["token", "list"])
        .exits(0)
        .says("never_expires")
        .says("too_long");
    world
        .run(&["token", "show", "exports/d"])
        .exits(0)
        .says("last used on 2026-06-01; unused_after is 90d");
    assert!(
        world.mails().is_empty(),
        "findings wait for the weekly mail"
    );

    // The same listing finds nothing new; later, an unused token is found by time alone.
    world.sweep().says("nothing was due");
    assert_eq!(findings(&world, &["--all"]), open);
    listing(
        &world,
        &[
            CLEAN,
            ENDLESS,
            LONG,
            IDLE,
            OFF,
            "f,fresh,ada@example.org,,2026-11-01,,read,active",
        ],
    );
    world.sweep();
    assert_eq!(findings(&world, &[]), open);
    world.at("2027-01-29 23:50:00").run(&["sweep"]);
    let expected = ["idle unused medium open"];
    assert_eq!(findings(&world, &["--kind", "unused"]), expected);
    world.at("2027-01-30 00:00:00").run(&["sweep"]);
    let expected = ["fresh unused medium open", "idle unused medium open"];
    assert_eq!(findings(&world, &["--kind", "unused"]), expected);

    // Used, given an expiry, disabled: the findings no longer hold.
    world.at("2027-01-30 01:00:00");
    listing(
        &world,
        &[
            CLEAN,
            "b,endless,ada@example.org,2027-03-01,2026-11-01,2026-11-19,admin,active",
            "c,long,ada@example.org,2027-10-01,2026-11-01,2026-11-19,read,disabled",
            IDLE,
            OFF,
            "f,fresh,ada@example.org,,2026-11-01,2027-01-29,read,active",
        ],
    );
    world.run(&["sweep"]).says("3 resolved");
    assert_eq!(
        findings(&world, &[]),
        [
            "exports unknown_expiry medium open",
            "idle unused medium open"
        ]
    );
}

#[rstest]
fn changed_rules_apply_to_every_token(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_rules(db);
    world.at("2026-11-20 10:00:00");
    listing(&world, &[CLEAN, ENDLESS, LONG, IDLE]);
    world.sweep();
    world
        .set("policy.max_ttl", "\"60d\"")
        .set("policy.unused_after", "\"off\"");
    world.sweep().says("1 opened").says("1 resolved");
    let open = [
        "clean too_long medium open",
        "endless never_expires high open",
        "long too_long medium open",
    ];
    assert_eq!(findings(&world, &[]), open);
    let long = world.list(&["finding", "list", "--kind", "too_long"]);
    for finding in &long {
        let evidence = finding["evidence"].as_str().unwrap();
        assert!(evidence.ends_with("max_ttl is 60d"), "{evidence}");
    }
    world.sweep().says("nothing was due");
}

#[rstest]
fn a_policy_expiry_delays_the_finding_of_a_token_without_expiry(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    world.table(
        "[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"\npolicy_ttl = \"30d\"",
    );
    world.at("2026-11-20 10:00:00");
    listing(&world, &[ENDLESS]);
    world.sweep();
    assert!(findings(&world, &[]).is_empty());
    world
        .at("2026-12-01 00:00:00")
        .run(&["sweep"])
        .says("1 opened");
    assert_eq!(findings(&world, &[]), ["endless never_expires high open"]);
    world.sweep().says("nothing was due");
    listing(&world, &[CLEAN]);
    world.sweep().says("1 resolved");
    let tokens = world.list(&["token", "list", "--status", "gone"]);
    assert_eq!(
        tokens[0]["external_id"], "b",
        "it did not expire at its source"
    );
}

#[rstest]
fn findings_of_a_clock_that_was_ahead_are_resolved(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_rules(db);
    world.at("2026-11-20 10:00:00");
    listing(
        &world,
        &["f,fresh,ada@example.org,,2026-11-01,,read,active"],
    );
    world.sweep();
    world.at("2028-11-20 10:00:00").run(&["sweep"]);
    let unused = ["fresh unused medium open"];
    assert_eq!(findings(&world, &["--kind", "unused"]), unused);
    world
        .at("2026-11-20 10:01:00")
        .run(&["sweep"])
        .says("1 resolved");
    world.run(&["sweep"]).says("nothing was due");
    world.at("2027-01-30 00:00:00").run(&["sweep"]);
    let unused = ["fresh unused medium open"];
    assert_eq!(findings(&world, &["--kind", "unused"]), unused);
}

#[rstest]
fn the_summary_comes_once_a_week_and_missed_ones_come_as_one(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_rules(db);
    world.set(
        "notify.admins",
        "[\"boss@example.org\", \"vice@example.org\"]",
    );
    world.at("2026-11-20 10:00:00");
    listing(&world, &[CLEAN, ENDLESS, LONG, IDLE]);
    world.sweep();
    world.at("2026-11-23 08:59:00").sweep();
    assert!(world.mails().is_empty(), "not before its time");

    world.at(MONDAY).sweep();
    let mails = world.take_mails();
    let mut to: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
    to.sort_unstable();
    let expected = ["boss@example.org", "vice@example.org"];
    assert_eq!(to, expected, "but no issuer");
    let subject = "3 open findings: 1 never expiring, 1 too long, 1 unused";
    assert_eq!(mails[0].subject, subject);
    for text in [
        "endless high, since Sun 1 Nov 2026",
        "it has no expiry at its source",
        "it lives 334d from 2026-11-01 to 2027-10-01; max_ttl is 90d",
        "exports 1",
        "lapsed finding list --kind unused",
        "lapsed finding acknowledge ID --until 2027-02-21",
    ] {
        assert!(
            mails[0].text.contains(text),
            "{text:?} in\n{}",
            mails[0].text
        );
    }
    let notices = world.list(&["notice", "list"]);
    assert_eq!(notices[0]["topic"], "summary");
    assert_eq!(notices[0]["token_name"], "3 open findings");
    world.at("2026-11-23 09:01:00").sweep();
    assert!(world.mails().is_empty(), "once");

    // Three missed weeks make one mail; without open findings there is none.
    world.at("2026-12-16 15:00:00").sweep();
    let summaries = |world: &World| {
        let mut mails = world.take_mails();
        mails.retain(|mail| mail.text.contains("lapsed finding list --kind"));
        mails.len()
    };
    assert_eq!(summaries(&world), 2);
    world.at("2026-12-20 15:00:00");
    listing(&world, &[CLEAN]);
    world.run(&["sweep", "--accept-shrink", "exports"]).exits(0);
    let _ = world.take_mails();
    world.at("2026-12-21 09:00:00").sweep();
    assert_eq!(summaries(&world), 0);
}

#[test]
fn the_summary_has_a_schedule_or_is_off() {
    let mut world = world_of_rules(Db::Sqlite);
    world
        .set("notify.summary", "\"30 7 1 * *\"")
        .set("schedule.timezone", "\"Europe/Berlin\"");
    world.at("2026-11-20 10:00:00");
    listing(&world, &[ENDLESS]);
    world.sweep();
    world.at("2026-12-01 06:29:00").sweep();
    assert!(world.mails().is_empty());
    world.at("2026-12-01 06:30:00").sweep();
    assert_eq!(world.mails().len(), 1);
    world.set("notify.summary", "\"off\"");
    world.at("2027-01-05 06:30:00").sweep();
    assert!(world.mails().is_empty());
    world.set("notify.summary", "\"weekly\"");
    world.run(&["check"]).exits(78).says("notify.summary");
}

#[rstest]
fn an_acknowledged_finding_is_silent_until_the_given_day(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_rules(db);
    world.at("2026-11-20 10:00:00");
    listing(&world, &[CLEAN, ENDLESS, IDLE]);
    world.sweep();
    let id = world.list(&["finding", "list", "--kind", "never_expires"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let accept = |world: &World, id: &str, until: &str, reason: &str| {
        let arguments = [
            "finding",
            "acknowledge",
            id,
            "--until",
            until,
            "--reason",
            reason,
        ];
        world.run(&arguments)
    };
    accept(&world, &id[..8], "2026-12-01", "why")
        .exits(1)
        .says("give more digits");
    accept(&world, "ffff", "2026-12-01", "why")
        .exits(1)
        .says("no finding's id begins with ffff");
    accept(&world, &id, "2026-11-20", "why")
        .exits(2)
        .says("has passed already");
    accept(&world, &id, "soon", "why")
        .exits(2)
        .says("write a day as");
    accept(&world, &id, "2026-12-01", " ")
        .exits(2)
        .says("write a reason");
    accept(&world, &id[..30], "2026-12-01", "the vendor\nreplaces it")
        .exits(0)
        .says("acknowledged until 2026-12-01T00:00:00Z");

    assert_eq!(findings(&world, &[]), ["idle unused medium open"]);
    let expected = [
        "endless never_expires high acknowledged",
        "idle unused medium open",
    ];
    assert_eq!(findings(&world, &["--all"]), expected);
    world.sweep().says("nothing was due");
    world.at(MONDAY).sweep();
    let mails = world.take_mails();
    assert_eq!(mails[0].subject, "1 open finding: 1 unused");
    assert!(!mails[0].text.contains("endless"));

    // It opens again by itself, even without a sweep, and is in the next summary.
    world.at("2026-12-01 00:00:00");
    let both = ["endless never_expires high open", "idle unused medium open"];
    assert_eq!(findings(&world, &[]), both);
    world.at("2026-12-07 09:00:00").sweep();
    assert!(
        world
            .mails()
            .iter()
            .any(|mail| mail.contains("2 open findings"))
    );

    accept(&world, &id, "2027-06-01", "once more").exits(0);
    listing(&world, &[CLEAN, IDLE]);
    world.sweep().says("1 resolved");
    accept(&world, &id, "2027-06-01", "too late")
        .exits(1)
        .says("is resolved");
}

#[test]
fn the_summary_shares_a_mail_with_other_due_notices() {
    let mut world = world_of_rules(Db::Sqlite);
    world.at("2026-11-22 10:00:00");
    listing(
        &world,
        &[
            ENDLESS,
            "z,ends,ada@example.org,2026-11-30T10:00:00Z,2026-09-30,2026-11-19,read,active",
        ],
    );
    world.sweep();
    let _ = world.take_mails();
    world.at(MONDAY).sweep();
    let mails = world.take_mails();
    let to_boss: Vec<_> = mails
        .iter()
        .filter(|mail| mail.to == "boss@example.org")
        .collect();
    assert_eq!(to_boss.len(), 1, "one mail for all that is due");
    for text in [
        "ends",
        "Findings: 1 open finding",
        "lapsed finding list --kind never_expires",
    ] {
        assert!(
            to_boss[0].text.contains(text),
            "{text:?} in\n{}",
            to_boss[0].text
        );
    }
}
