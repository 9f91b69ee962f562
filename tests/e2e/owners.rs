//! Tokens with several owners.

use rstest::rstest;
use serde_json::{Value, json};

use crate::sql::{Portal, QUERY, source};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const PEOPLE: &str = "[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"\n";

fn write_people(world: &World, statuses: &[(&str, &str)]) {
    let row = |(name, status): &(&str, &str)| format!("{name}@example.org,{status}\n");
    let rows: String = statuses.iter().map(row).collect();
    world.write("people.csv", format!("email,status\n{rows}"));
}

fn recipients(world: &World) -> Vec<String> {
    let mails = world.take_mails().into_iter();
    let mut to: Vec<String> = mails.map(|mail| mail.to).collect();
    to.sort();
    to
}

fn findings(world: &World) -> Vec<Value> {
    world.list(&["finding", "list", "--kind", "sso_revoked"])
}

#[rstest]
fn every_owner_is_warned_and_a_token_is_flagged_when_all_left(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.table(PEOPLE).set("notify.summary", "\"off\"");
    write_people(&world, &[("ada", "active"), ("bob", "active")]);
    world.at("2026-11-24 00:00:00").import(&[
        "ci,ci-deploy,Ada@example.org; bob@example.org; ADA@example.org,2026-12-01T00:00:00Z",
    ]);
    world.sweep();
    let mails = world.take_mails();
    let to = |name: &str| mails.iter().find(|mail| mail.to == name).unwrap();
    assert_eq!(mails.len(), 3, "{mails:?}");
    assert_contains!(
        to("Ada@example.org").text,
        "Co-owners bob@example.org",
        "you issued this token"
    );
    assert_contains!(
        to("bob@example.org").text,
        "Your token",
        "you own this token"
    );
    assert!(
        !to("boss@example.org")
            .text
            .contains("does not get this mail")
    );

    // One leaves: the others are warned of the next step.
    write_people(&world, &[("ada", "disabled"), ("bob", "active")]);
    world.at("2026-11-25 00:00:00").sweep();
    assert!(findings(&world).is_empty());
    world.run(&["explain", "ci-deploy"]).says("access is lost");
    world.at("2026-11-30 00:00:00").sweep();
    assert_eq!(recipients(&world), ["bob@example.org", "boss@example.org"]);

    // Both have left.
    write_people(&world, &[("ada", "disabled"), ("bob", "disabled")]);
    world.at("2026-11-30 01:00:00").sweep().says("1 opened");
    let mails = world.take_mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, "boss@example.org");
    assert_contains!(mails[0].subject, "its owners lost access");
    let evidence = findings(&world)[0]["evidence"].clone();
    assert_contains!(
        evidence.as_str().unwrap(),
        "ada@example.org: hr says",
        "bob@example.org: hr says"
    );

    write_people(&world, &[("ada", "disabled"), ("bob", "active")]);
    world.at("2026-11-30 02:00:00").sweep().says("1 resolved");
    assert!(findings(&world).is_empty());
}

#[rstest]
fn a_new_owner_with_access_resolves_the_loss(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.table(PEOPLE);
    write_people(&world, &[("ada", "disabled"), ("bob", "active")]);
    world
        .at("2026-11-24 00:00:00")
        .import(&["ci,ci-deploy,ada@example.org,"]);
    world.sweep().says("1 opened");
    // Ada stays the issuer while among the owners.
    world.import(&["ci,ci-deploy,\"bob@example.org\nada@example.org\","]);
    world.sweep().says("1 resolved");
    let tokens = world.list(&["token", "list", "--issuer", "BOB@example.org"]);
    assert_eq!(tokens.len(), 1, "every owner's");
    assert_eq!(
        (&tokens[0]["issuer"], &tokens[0]["owners"]),
        (&json!("ada@example.org"), &json!(["bob@example.org"]))
    );
    world
        .run(&["identity", "show", "bob@example.org"])
        .exits(0)
        .says("ci-deploy");
    world.run(&["identity", "coverage"]).says("lost");
    let covered = world.list(&["identity", "coverage", "--of", "active"]);
    assert_eq!(covered[0]["email"], "bob@example.org");
    world.import(&["ci,ci-deploy,ada@example.org,"]);
    world.sweep().says("1 opened");
}

#[rstest]
fn the_policy_revokes_a_token_only_when_every_owner_left(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    let portal = Portal::new(db, &world);
    portal.insert(&["1, 'shared', 'ada@example.org, bob@example.org', NULL"]);
    let keys = format!(
        "allow_revoke = true\nrevoke = \"UPDATE api_token SET state = 'revoked' WHERE id = {}\"\n",
        portal.id()
    );
    world.set("policy.sso_revoked", "\"revoke\"");
    world.table(&(source(&portal.url(), QUERY, &keys) + "\n" + PEOPLE));
    let states = || portal.run("SELECT state FROM api_token");
    write_people(&world, &[("ada", "disabled"), ("bob", "active")]);
    for day in ["2026-11-20", "2026-11-22", "2026-11-23", "2026-11-24"] {
        world.at(&format!("{day} 10:00:00")).sweep();
    }
    assert_eq!(states(), ["active"]);

    write_people(&world, &[("ada", "disabled"), ("bob", "disabled")]);
    world.at("2026-12-01 10:00:00").sweep().says("1 opened");
    world.at("2026-12-03 10:00:00").sweep();
    // Bob is back when the token is due.
    write_people(&world, &[("ada", "disabled"), ("bob", "active")]);
    world.at("2026-12-04 10:00:30").sweep().says("1 resolved");
    assert_eq!(states(), ["active"]);

    write_people(&world, &[("ada", "disabled"), ("bob", "disabled")]);
    world.at("2026-12-10 10:00:00").sweep().says("1 opened");
    // A late warning postpones the revocation.
    for time in ["2026-12-12 10:00:30", "2026-12-13 10:30:00"] {
        world.at(time).sweep();
    }
    assert_eq!(states(), ["revoked"]);
}

#[rstest]
fn rows_that_differ_only_in_the_owner_are_one_token(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.table("[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"tokens.csv\"\n");
    let header = "external_id,name,issuer_email,expires_at";
    world.write(
        "tokens.csv",
        format!("{header}\ns1,s,bob@example.org,2026-12-01\nx,x,,\ns1,s,,2026-12-01\ns1,s,ada@example.org,2026-12-01\n"),
    );
    world.at("2026-11-24 00:00:00").sweep();
    assert_eq!(
        recipients(&world),
        ["ada@example.org", "bob@example.org", "boss@example.org"]
    );
    world.write(
        "tokens.csv",
        format!("{header}\ns1,s,bob@example.org,2026-12-01\ns1,s,ada@example.org,2026-12-01\n"),
    );
    world.sweep();
    assert_eq!(
        world.tokens(),
        ["s1 active", "x gone"],
        "the listing is whole"
    );
    let listed = world.run(&["token", "list", "--status", "active", "--format", "csv"]);
    world.write("copy.csv", &listed.stdout);
    let imported = world.run(&["import", "copy.csv", "--source", "copy"]);
    imported.exits(0).says("1 new");
    let owners = |source: &str| {
        let tokens = world.list(&["token", "list", "--source", source]);
        [tokens[0]["issuer"].clone(), tokens[0]["owners"].clone()]
    };
    assert_eq!(owners("copy"), owners("exports"));
    assert_eq!(
        owners("copy"),
        [json!("bob@example.org"), json!(["ada@example.org"])]
    );

    world.write(
        "tokens.csv",
        format!("{header}\ns1,s,bob@example.org,2026-12-01\ns1,t,ada@example.org,2026-12-01\n"),
    );
    world.run(&["sweep"]).exits(1).says("already in line 2");
}
