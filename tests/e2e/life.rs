//! The life of tokens: who is notified of what, exactly once, in all cases.

use rstest::rstest;

use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const ADA: &str = "ci,ci-deploy,ada@example.org,2026-12-01T00:00:00Z";

#[rstest]
fn issuer_and_admin_are_notified_once_per_step_and_the_token_expires(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    world.at("2026-11-20 00:00:00").import(&[ADA]);
    world.sweep().says("nothing was due");
    for (day, time_left) in [("2026-11-24", "7 days"), ("2026-11-30", "24 hours")] {
        world.at(&format!("{day} 00:00:00"));
        for _ in 0..2 {
            world.sweep();
        }
        let mails = world.mails();
        let expected = ["ada", "boss"].map(|who| {
            format!("{who}@example.org: Token ci-deploy expires in {time_left} (Tue 1 Dec 2026)")
        });
        assert_eq!(mails, expected);
    }
    world.at("2026-12-01 00:00:00");
    assert_eq!(world.tokens(), ["ci expired"], "expired, swept or not");
    world.sweep().says("1 expired");
    world.sweep().says("nothing was due");
    assert!(world.mails().is_empty());
}

#[rstest]
fn sources_and_accounts_have_their_own_steps(#[values(Sqlite, Postgres)] db: Db) {
    let source = "[[source]]\nname = \"vendor\"\nkind = \"file\"\npath = \"vendor.csv\"\n";
    let mut world = World::new(db);
    world
        .set("notify.admins", "[]")
        .table(&format!("{source}steps = [\"90d\", \"30d\"]"))
        .table("[[account]]\nname = \"ACME\"\nsteps = [\"14d\"]\nadmins = [\"boss@acme.example\"]")
        .table("[[account]]\nname = \"Amce\"\nadmins = [\"typo@acme.example\"]");
    world.write(
        "vendor.csv",
        "external_id,name,issuer_email,account,expires_at\n\
         1,key,ada@example.org,,2026-12-31T00:00:00Z\n\
         2,tenant,ada@example.org,Acme,2026-12-31T00:00:00Z\n",
    );
    world.at("2026-11-20 00:00:00").sweep();
    let expected = ["ada@example.org: Token key expires in 41 days (Thu 31 Dec 2026)"];
    assert_eq!(world.mails(), expected);
    let forecast: Vec<String> = world
        .list(&["forecast", "--days", "40"])
        .iter()
        .map(|row| format!("{} {}", row["token_name"], row["step"]))
        .collect();
    assert_eq!(forecast, [r#""key" "30d""#, r#""tenant" "14d""#]);
    world.run(&["explain", "vendor/2"]).exits(0).says("14d");
    world
        .run(&["check"])
        .says("account `Amce`")
        .says("did you mean `Acme`?");

    world.at("2026-12-01 00:00:00").sweep();
    let expected = ["ada@example.org: Token key expires in 30 days (Thu 31 Dec 2026)"];
    assert_eq!(world.mails(), expected);
    world.at("2026-12-17 00:00:00").sweep();
    let subject = "Token tenant expires in 14 days (Thu 31 Dec 2026)";
    let expected = ["ada@example.org", "boss@acme.example"].map(|who| format!("{who}: {subject}"));
    assert_eq!(world.mails(), expected);

    // Steps that are added later replace those by which the tokens were planned.
    world.replace_tables(&format!("{source}steps = [\"10d\"]"));
    world.at("2026-12-21 00:00:00").sweep();
    assert_eq!(world.mails().len(), 1, "one digest of both");
}

#[rstest]
fn tokens_that_ended_long_ago_and_are_still_listed_are_left_alone(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    world
        .table("[[source]]\nname = \"old\"\nkind = \"file\"\npath = \"old.csv\"\n")
        .at("2026-11-24 00:00:00");
    let ended: String = (0..30)
        .map(|n| format!("{n},old,ada@example.org,2024-01-01\n"))
        .collect();
    let header = "external_id,name,issuer_email,expires_at\n";
    let listed = |live: &str| format!("{header}{ended}{live}");
    let counts = |world: &World| {
        let source = &world.list(&["source", "list"])[0];
        assert_eq!(source["tokens"].as_u64(), Some(world.tokens().len() as u64));
        world.tokens()
    };
    world.write(
        "old.csv",
        listed("ci,ci-deploy,ada@example.org,2026-12-01\n"),
    );
    world.sweep().says("1 new");
    assert_eq!(counts(&world), ["ci active"]);
    world.mails();
    // A new file is read again.
    world.write("old.csv", listed("ci,ci,ada@example.org,2026-12-01\n"));
    world.sweep().says("tokens    1 changed");
    world.write("old.csv", listed("ci,ci,ada@example.org,2026-12-01\n"));
    world.sweep().says("nothing was due");
    assert_eq!(counts(&world), ["ci active"]);

    world.at("2026-12-01 00:00:00").sweep().says("1 expired");
    for day in ["2028-04-01", "2028-04-02"] {
        world.at(&format!("{day} 00:00:00"));
        world.write("old.csv", listed("ci,ci,ada@example.org,2026-12-01\n"));
        world.sweep();
        assert_eq!(counts(&world), ["ci expired"]);
    }
    assert!(!world.notices().is_empty(), "its ledger is kept");

    // Its end is long past when it leaves.
    world.write("old.csv", listed("new,new,ada@example.org,2030-12-01\n"));
    world.sweep().says("1 new");
    assert_eq!(counts(&world), ["new active"]);
    assert!(world.notices().is_empty());
    world.write("old.csv", listed("ci,ci,ada@example.org,2026-12-01\n"));
    world.sweep().says("tokens    1 gone");
}

#[rstest]
fn an_expiry_that_moves_and_returns_is_not_warned_about_twice(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    let until = |day: &str| format!("ci,ci-deploy,ada@example.org,2026-{day}T00:00:00Z");
    world.at("2026-11-24 00:00:00").import(&[&until("12-01")]);
    world.sweep();
    assert_eq!(world.mails().len(), 2);

    world.import(&[&until("12-20")]);
    world.sweep();
    assert!(
        world.mails().is_empty(),
        "a later expiry is owed nothing yet"
    );

    world.at("2026-11-26 00:00:00").import(&[&until("12-01")]);
    world.sweep();
    assert!(world.mails().is_empty(), "that warning was sent already");

    world.at("2026-11-30 00:00:00").sweep();
    assert_eq!(world.mails().len(), 2, "the next step comes");
}

#[rstest]
fn a_renewal_cancels_unsent_notices_and_its_reversal_restores_them(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    let until = |day: &str| format!("ci,ci-deploy,ada@example.org,2026-{day}T00:00:00Z");
    // Within merge_ahead of the step: planned, and not yet to be sent.
    world.at("2026-11-23 23:30:00").import(&[&until("12-01")]);
    world.sweep().says("2 planned");
    assert!(world.mails().is_empty());

    world.import(&[&until("12-20")]);
    let cancelled = [
        "cancelled 7d ada@example.org ci-deploy",
        "cancelled 7d boss@example.org ci-deploy",
    ];
    assert_eq!(world.notices(), cancelled);
    world.at("2026-11-24 00:00:00").sweep();
    assert!(world.mails().is_empty());

    world.import(&[&until("12-01")]);
    world.sweep();
    assert_eq!(world.mails().len(), 2);
}

#[rstest]
fn a_disabled_revoked_or_gone_token_is_not_warned_about(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"");
    let list = |world: &World, rows: &[&str]| {
        let text = format!(
            "external_id,name,issuer_email,expires_at,status\n{}\n",
            rows.join("\n")
        );
        world.write("exports.csv", text);
    };
    let (a, b, c) = (
        "a,A,ada@example.org,2026-12-01,active",
        "b,B,ada@example.org,2026-12-01,active",
        "c,C,ada@example.org,2026-12-01,active",
    );
    list(&world, &[a, b, c]);
    world.at("2026-11-23 23:30:00").sweep().says("3 new");
    assert_eq!(world.notices().len(), 6, "planned");

    list(
        &world,
        &[
            "a,A,ada@example.org,2026-12-01,disabled",
            "b,B,ada@example.org,2026-12-01,revoked",
        ],
    );
    world.at("2026-11-24 00:00:00").sweep().says("1 gone");
    assert_eq!(world.tokens(), ["a disabled", "b revoked", "c gone"]);
    assert!(
        world
            .notices()
            .iter()
            .all(|notice| notice.starts_with("cancelled"))
    );
    assert!(world.mails().is_empty());

    list(&world, &[a, b, c]);
    world.sweep();
    assert_eq!(world.tokens(), ["a active", "b active", "c active"]);
    let mails = world.mails();
    assert_eq!(
        mails.len(),
        2,
        "one mail each about all that came back: {mails:?}"
    );

    list(&world, &[a, b]);
    world.at("2026-12-02 00:00:00").sweep();
    assert_eq!(
        world.tokens(),
        ["a expired", "b expired", "c expired"],
        "leaving the listing after expiry changes nothing"
    );
}

#[rstest]
fn a_listing_that_shrank_by_half_changes_nothing_until_accepted(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"");
    let list = |world: &World, count: usize| {
        let rows: Vec<_> = (0..count)
            .map(|n| format!("{n:02},t{n},,2027-01-01"))
            .collect();
        let text = format!(
            "external_id,name,issuer_email,expires_at\n{}\n",
            rows.join("\n")
        );
        world.write("exports.csv", text);
    };
    list(&world, 30);
    world.at("2026-11-24 00:00:00").sweep().says("30 new");
    list(&world, 15);
    for _ in 0..2 {
        world
            .run(&["sweep"])
            .exits(1)
            .says("--accept-shrink exports");
        assert!(world.tokens().iter().all(|token| token.ends_with("active")));
    }
    world.write(
        "exports.csv",
        "external_id,name,issuer_email,expires_at\n\"half a row",
    );
    world.run(&["sweep", "--accept-shrink", "exports"]).exits(1);
    assert!(
        world.tokens().iter().all(|token| token.ends_with("active")),
        "a listing that cannot be read to its end changes nothing"
    );
    list(&world, 15);
    world
        .run(&["sweep", "--accept-shrink", "exports"])
        .exits(0)
        .says("15 gone");
    world.sweep().says("nothing was due");
}

#[rstest]
fn a_token_first_seen_expired_is_marked_without_a_mail(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.at("2026-12-01 00:00:01").import(&[ADA]);
    world.sweep();
    assert_eq!(world.tokens(), ["ci expired"]);
    assert!(world.mails().is_empty());
    assert!(world.notices().is_empty());
}

#[rstest]
fn a_warning_delayed_by_an_outage_is_sent_once_with_the_reason(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.at("2026-11-20 00:00:00").import(&[ADA]);
    world.at("2026-12-03 00:00:00");
    for _ in 0..2 {
        world.sweep();
    }
    let mails = world.take_mails();
    assert_eq!(mails.len(), 2);
    for mail in &mails {
        assert_contains!(mail.subject, "ci-deploy expired");
        assert_contains!(mail.text, "late");
    }
    assert_eq!(world.tokens(), ["ci expired"]);
    let sent = world.notices();
    let expected = [
        "sent 1d ada@example.org ci-deploy",
        "sent 1d boss@example.org ci-deploy",
    ];
    assert_eq!(sent, expected);
}

#[rstest]
fn issuers_get_merged_mails_and_admins_one_mail_a_day(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world
        .set("notify.admin_digest", "\"09:00\"")
        .set("notify.merge_ahead", "\"6h\"");
    world.at("2026-11-20 00:00:00").import(&[
        "a,A,ada@example.org,2026-12-01T12:00:00Z",
        "b,B,ada@example.org,2026-12-01T17:00:00Z",
        "c,C,ada@example.org,2026-12-01T21:00:00Z",
        "d,D,bob@example.org,2026-12-02T08:00:00Z",
        "e,E,bob@example.org,2026-12-02T10:00:00Z",
    ]);
    world.set("schedule.sweep", "\"0 * * * *\"");
    let mut seen = Vec::new();
    for hour in 24 * 23 + 20..=24 * 25 + 10 {
        let clock = format!("2026-11-{} {:02}:00:00", hour / 24, hour % 24);
        world.at(&clock).sweep();
        seen.extend(
            world
                .mails()
                .iter()
                .map(|mail| format!("{} {mail}", &clock[8..13])),
        );
    }
    assert_eq!(
        seen,
        [
            // The last sweep before nine sends all steps up to the next nine o'clock.
            "24 08 boss@example.org: 4 tokens expire within 8 days, first A on Tue 1 Dec 2026",
            "24 11 ada@example.org: 2 tokens expire within 8 days, first A on Tue 1 Dec 2026",
            "24 20 ada@example.org: Token C expires in 7 days (Tue 1 Dec 2026)",
            "25 07 bob@example.org: 2 tokens expire within 8 days, first D on Wed 2 Dec 2026",
            "25 08 boss@example.org: Token E expires in 7 days (Wed 2 Dec 2026)",
        ]
    );
}

#[rstest]
fn a_flood_is_held_and_alerted_once_until_released_or_discarded(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    world.set("notify.max_per_sweep", "5");
    let rows = |from: usize, day: &str| -> Vec<String> {
        (from..from + 9)
            .map(|n| format!("{n},t{n},user{n}@example.org,2026-12-{day}T00:00:00Z"))
            .collect()
    };
    let import = |world: &World, rows: Vec<String>| {
        world.import(&rows);
    };
    world.at("2026-11-24 00:00:00");
    import(&world, rows(10, "01"));
    world.run(&["sweep"]).exits(1).says("held");
    assert_eq!(world.mails(), ["boss@example.org: 10 mails are held"]);
    world.run(&["sweep"]).exits(1).says("still held");
    assert!(world.mails().is_empty(), "alerted once");
    assert_eq!(
        world.list(&["notice", "list", "--state", "planned"])[0]["reason"],
        "held"
    );

    world.run(&["release"]).exits(0);
    world.sweep();
    assert_eq!(world.mails().len(), 10);
    world.sweep();
    assert!(world.mails().is_empty());

    world.at("2026-11-25 00:00:00");
    import(&world, rows(30, "02"));
    world.run(&["sweep"]).exits(1).says("held");
    assert_eq!(world.mails(), ["boss@example.org: 10 mails are held"]);
    world.run(&["release", "--discard"]).exits(0);
    world.sweep();
    assert!(world.mails().is_empty());
    let suppressed = world.list(&["notice", "list", "--state", "suppressed"]);
    assert_eq!(suppressed.len(), 18);
}

#[rstest]
fn a_notice_without_a_recipient_fails(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.set("notify.admins", "[]");
    world
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,,2026-12-01"]);
    world.run(&["sweep"]).exits(1).says("nobody left to tell");
    let failed = world.list(&["notice", "list", "--state", "failed"]);
    assert_eq!(failed.len(), 1);
    let reason = failed[0]["reason"].as_str().unwrap();
    assert_contains!(reason, "no administrator");
    world.sweep().says("nothing was due");
}

#[rstest]
fn a_clock_that_jumps_a_day_ahead_and_back_loses_and_repeats_nothing(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db);
    world.at("2026-11-29 12:00:00").import(&[
        ADA,
        "soon,soon,ada@example.org,2026-11-30T06:00:00Z",
        "later,later,bob@example.org,2026-12-07T18:00:00Z",
    ]);
    world.sweep();
    let first = world.mails();
    assert_eq!(first.len(), 2, "{first:?}");

    world.at("2026-11-30 12:00:00").sweep().says("1 expired");
    let ahead = world.mails();
    assert_eq!(ahead.len(), 2, "the 1d step of ci-deploy: {ahead:?}");

    world
        .at("2026-11-29 12:05:00")
        .sweep()
        .says("1 no longer expired")
        .says("the clock went back: the last sweep was at 2026-11-30 12:00Z, and it is 2026-11-29 12:05Z now");
    assert_eq!(world.tokens(), ["ci active", "later active", "soon active"]);
    assert!(
        world.mails().is_empty(),
        "mails sent early are not repeated"
    );

    let behind = world.at("2026-11-30 06:00:00").sweep();
    behind.says("1 expired");
    assert!(!behind.stdout.contains("went back"), "{}", behind.stdout);
    assert!(world.mails().is_empty());
    world.at("2026-11-30 18:00:00").sweep();
    assert_eq!(world.mails().len(), 2, "the 7d step of later");
    let notices = world.notices();
    assert!(
        notices.iter().all(|notice| notice.starts_with("sent")),
        "{notices:?}"
    );
}

#[rstest]
fn a_plain_date_is_the_same_day_in_every_zone(
    #[values(Sqlite, Postgres)] db: Db,
    #[values("America/Los_Angeles", "Pacific/Auckland")] zone: &str,
) {
    let mut world = World::new(db);
    world.set("schedule.timezone", &format!("{zone:?}"));
    world.at("2026-11-28 00:00:00");
    world.import(&["ci,ci-deploy,ada@example.org,2026-12-05"]);
    for format in ["csv", "json"] {
        let token = &world.list(&["token", "list"])[0];
        assert_eq!(token["expires_at"], "2026-12-05T00:00:00Z");
        assert_eq!(token["expires_on"], "2026-12-05");
        // What lapsed lists is imported with its plain dates.
        let listed = world.run(&["token", "list", "--format", format]).stdout;
        let file = format!("listed.{format}");
        world.write(&file, listed).run(&["import", &file]).exits(0);
    }
    let days = "2026-12-05 (in 7 days)";
    world.run(&["token", "list"]).exits(0).says(days);
    world.run(&["explain", "ci-deploy"]).exits(0).says(days);
    let forecast = world.list(&["forecast", "--days", "30"]);
    assert_eq!(forecast[0]["expires_on"], "2026-12-05");
    for (day, left) in [("2026-11-28", "7 days"), ("2026-12-04", "1 day")] {
        world.at(&format!("{day} 00:00:00")).sweep();
        let mails = world.take_mails();
        assert_eq!(mails.len(), 2);
        for mail in mails {
            let subject = format!("Token ci-deploy expires in {left} (Sat 5 Dec 2026)");
            assert_eq!(mail.subject, subject);
            for part in [mail.text, mail.html] {
                assert_contains!(part, "Sat 5 Dec 2026");
                assert_lacks!(part, "4 Dec", "6 Dec", "UTC", ":00");
            }
        }
    }
}

#[rstest]
fn a_warning_says_that_its_source_has_another_date(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.at("2026-11-20 00:00:00");
    world.import(&["ci,ci-deploy,ada@example.org,2026-12-01T00:00:00Z"]);
    let rows = "ci,ci-deploy,ada@example.org,soon\nnew,new,svc-deploy,2026-12-01T00:00:00Z\n";
    let header = "external_id,name,issuer_email,expires_at\n";
    world.write("tokens.csv", format!("{header}{rows}"));
    world.run(&["import", "tokens.csv"]).exits(1);
    world.at("2026-11-24 00:00:00").sweep();
    let mails = world.take_mails();
    let to = |address: &str| {
        let mails = mails.iter().filter(|mail| mail.to == address);
        let parts = mails.flat_map(|mail| [&mail.text, &mail.html]);
        let words = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect::<String>()
    };
    let outdated =
        "says an expiry that could not be read; this date is the last one that lapsed could read";
    assert_contains!(to("ada@example.org"), outdated);
    let issuer = "its source names an issuer that could not be read (";
    assert_contains!(
        to("boss@example.org"),
        outdated,
        issuer,
        "is not a mail address"
    );
    world.at("2026-12-02 00:00:00").sweep();
    assert_eq!(world.tokens(), ["ci active", "new expired"]);
}
