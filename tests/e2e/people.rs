//! People who leave: their tokens are flagged, and only on certain evidence.

use rstest::rstest;

use crate::mailserver::MailServer;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const HEADER: &str = "email,status\n";

fn world_of_people(db: Db) -> World {
    let mut world = World::new(db);
    world.table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"");
    world
}

#[rstest]
fn a_leavers_tokens_are_flagged_and_only_the_admin_is_notified_once(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = world_of_people(db);
    world.at("2026-11-20 00:00:00").import(&[
        "a,A,Ada@Example.org,2026-12-01T00:00:00Z",
        "b,B,ada@example.org,",
        "c,C,bob@example.org,2026-12-01T00:00:00Z",
        "d,D,ada@example.org,2026-11-01",
    ]);
    world.write(
        "people.csv",
        format!("{HEADER}ada@example.org,active\nbob@example.org,active\n"),
    );
    world.sweep();
    assert!(world.list(&["finding", "list"]).is_empty());

    world.write(
        "people.csv",
        format!("{HEADER}ADA@example.org,disabled\nbob@example.org,active\n"),
    );
    world.at("2026-11-21 10:00:00").sweep().says("2 opened");
    let findings = world.list(&["finding", "list"]);
    assert_eq!(findings.len(), 2, "of tokens that work");
    for finding in &findings {
        assert_eq!(finding["kind"], "sso_revoked");
        let evidence = finding["evidence"].as_str().unwrap();
        assert_contains!(evidence, "hr", "disabled");
    }
    let mails = world.take_mails();
    assert_eq!(mails.len(), 1, "one digest to the administrator");
    assert_eq!(mails[0].to, "boss@example.org");
    world.sweep().says("nothing was due");

    // Warnings continue, and go to the administrator with the reason.
    world.at("2026-11-24 00:00:00").sweep();
    let mails = world.take_mails();
    let to: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
    assert_eq!(to.len(), 2, "{to:?}");
    assert!(
        to.contains(&"boss@example.org") && to.contains(&"bob@example.org"),
        "{to:?}"
    );
    let boss = mails
        .iter()
        .find(|mail| mail.to == "boss@example.org")
        .unwrap();
    assert_contains!(boss.text, "lost access");

    // A missing person is unknown: that neither opens nor resolves a finding.
    world.write("people.csv", format!("{HEADER}bob@example.org,active\n"));
    world.sweep();
    let ada = &world.list(&["identity", "list"])[0];
    assert_eq!(
        (&ada["email"], &ada["status"]),
        (&"ADA@example.org".into(), &"unknown".into())
    );
    assert_eq!(world.list(&["finding", "list"]).len(), 2);
    world.write("people.csv", format!("{HEADER}ada@example.org,active\n"));
    world.sweep().says("2 resolved");
    assert!(world.list(&["finding", "list"]).is_empty());
    assert_eq!(world.list(&["finding", "list", "--all"]).len(), 2);
    assert!(world.mails().is_empty());
    assert_eq!(
        world
            .list(&["identity", "list", "--status", "unknown"])
            .len(),
        1,
        "bob"
    );
}

#[rstest]
fn a_mass_change_changes_nothing_until_an_operator_releases_it(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db);
    let people = |lost: usize| {
        let row = |n| {
            format!(
                "p{n:02}@example.org,{}\n",
                if n < lost { "disabled" } else { "active" }
            )
        };
        format!("{HEADER}{}", (0..20).map(row).collect::<String>())
    };
    let tokens: Vec<String> = (0..20)
        .map(|n| format!("{n},t{n},p{n:02}@example.org,"))
        .collect();
    world.at("2026-11-20 00:00:00");
    world.import(&tokens);
    world.write("people.csv", people(0)).sweep();

    world.write("people.csv", people(4));
    world
        .at("2026-11-20 01:00:00")
        .run(&["sweep"])
        .exits(1)
        .says("hr is held");
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(
        mails[0].starts_with("boss@example.org: Directory hr is held"),
        "{mails:?}"
    );
    world.at("2026-11-20 02:00:00").run(&["sweep"]).exits(1);
    assert!(world.mails().is_empty(), "notified once");
    assert!(world.list(&["finding", "list"]).is_empty());

    // The release is for that listing, not for later ones.
    world.run(&["directory", "release", "hr"]).exits(0);
    world.write("people.csv", people(9));
    world.run(&["sweep"]).exits(1);
    assert!(world.list(&["finding", "list"]).is_empty());
    world.mails();

    world.run(&["directory", "release", "hr"]).exits(0);
    world.sweep().says("9 opened");
    let mails = world.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    world.sweep().says("nothing was due");

    // Three losses at once do not trip the breaker.
    world
        .write("people.csv", people(12))
        .sweep()
        .says("3 opened");
}

#[rstest]
fn a_broken_people_file_changes_nothing_and_is_reported(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_of_people(db);
    world
        .at("2026-11-20 00:00:00")
        .import(&["a,A,ada@example.org,"]);
    world
        .write("people.csv", format!("{HEADER}ada@example.org,active\n"))
        .sweep();
    for (broken, message) in [
        (
            format!("{HEADER}ada@example.org,disabled\nbob,disabled\n"),
            "people.csv:3: ",
        ),
        (
            "mail,status\nada@example.org,disabled\n".to_owned(),
            "email",
        ),
        (
            format!("{HEADER}ada@example.org,disabled\nADA@example.org,active\n"),
            "people.csv:3: ",
        ),
    ] {
        world
            .write("people.csv", broken)
            .run(&["sweep"])
            .exits(1)
            .says(message);
        assert!(world.list(&["finding", "list"]).is_empty());
    }
    std::fs::remove_file(world.path("people.csv")).unwrap();
    world.run(&["sweep"]).exits(1).says("people.csv");
    assert_eq!(world.list(&["identity", "list"])[0]["status"], "active");
}

#[rstest]
fn a_dead_address_falls_back_down_the_chain_and_is_tried_again_later(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let server = MailServer::start("--reject-rcpt ^ada@");
    let mut world = World::new(db);
    world.use_mail_server(&server);
    let ada = "ci,ci-deploy,ada@example.org,2026-12-01T00:00:00Z";
    world.at("2026-11-24 00:00:00").import(&[ada]);
    world.run(&["sweep"]).exits(1);
    world.sweep();
    let failed = world.list(&["notice", "list", "--state", "failed"]);
    assert_eq!(failed.len(), 1);
    let reason = failed[0]["reason"].as_str().unwrap();
    assert_contains!(reason, "550 5.1.1");
    assert_eq!(server.mails().len(), 1, "the administrator has one notice");

    world.at("2026-11-30 00:00:00").sweep();
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    assert_contains!(mails[1].text, "ada@example.org", "550 5.1.1");
    assert_eq!(
        server.summary()["attempts_per_recipient"]["ada@example.org"],
        1
    );

    // A month later the address may work again.
    world
        .at("2026-12-25 00:00:00")
        .import(&["next,next,ada@example.org,2026-12-31T00:00:00Z"]);
    world.run(&["sweep"]).exits(1);
    assert_eq!(
        server.summary()["attempts_per_recipient"]["ada@example.org"],
        2
    );
}

#[rstest]
fn if_issuer_and_account_are_unreachable_the_next_in_the_chain_is_notified(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let server = MailServer::start("--reject-rcpt ^(ada|acme)@");
    let mut world = World::new(db);
    world.use_mail_server(&server).set("notify.admins", "[]");
    world.table("[[account]]\nname = \"acme\"\nadmins = [\"acme@example.org\"]");
    world.write(
        "tokens.csv",
        "external_id,name,issuer_email,expires_at,account\nci,ci,ada@example.org,2026-12-01,acme\n",
    );
    world
        .at("2026-11-24 00:00:00")
        .run(&["import", "tokens.csv"])
        .exits(0);
    world.run(&["sweep"]).exits(75);
    assert!(server.mails().is_empty());
    assert_eq!(
        world.states().get("planned"),
        Some(&2),
        "both are refused, so the server may be to blame"
    );

    // A new administrator is notified at the next step, with what happened to the others.
    world.set("notify.admins", "[\"boss@example.org\"]");
    world.at("2026-11-30 00:00:00").sweep();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, "boss@example.org");
    assert_contains!(mails[0].text, "ada@example.org");
}
