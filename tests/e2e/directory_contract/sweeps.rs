//! What sweeps conclude from directories of every kind.

use rstest::rstest;

use super::stand_ins::{Api, Of, StandIn};
use super::{Entra, File, Keycloak, Ldap, Okta, Scim, ScimByCursor};
use crate::bad_responses::{
    BAD_RESPONSES, LEAKED_SECRET, assert_not_leaked, daemon_log_after_sweep,
};
use crate::ldap::faulty::{Fault, FaultyLdap};
use crate::ldap::slapd::PASSWORD;
use crate::listed::{assert_no_findings, assert_only_finding, identity, status};
use crate::stub::Answer;
use crate::world::{Db, World};

/// Each of the first `issuers` people has a token `t1`, `t2` and so on, and an unknown person has one; all
/// are active.
fn world_of(db: Db, stand_in: &dyn StandIn, issuers: usize, keys: &str) -> World {
    let mut world = World::new(db);
    configure(&mut world, stand_in, keys);
    let rows = (1..=issuers).map(|n| format!("t{n},t{n},User{n}@example.org,2099-01-01"));
    let stranger = "s,stranger,stranger@example.com,".to_owned();
    let rows: Vec<String> = rows.chain([stranger]).collect();
    world.import(&rows);
    world.sweep();
    assert_no_findings(&world);
    assert_eq!(status(&world, "user2@example.org"), "active");
    world
}

fn configure(world: &mut World, stand_in: &dyn StandIn, keys: &str) {
    let own = stand_in.keys(world);
    world.replace_tables(&format!(
        "[[directory]]\nname = \"idp\"\nabsence_grace = \"0s\"\n{own}\n{keys}"
    ));
}

const IN_GROUP: &str = "allowed_groups = [\"ops\"]";

#[rstest]
fn an_empty_first_listing_fails_the_sweep(
    #[values(File, Scim, ScimByCursor, Keycloak, Entra, Okta, Ldap)] of: Of,
) {
    let stand_in = of.start(0);
    let mut world = World::new(Db::Sqlite);
    configure(&mut world, &*stand_in, "");
    world.import(&["1,t1,user1@example.org,"]);
    for _ in 0..3 {
        world.run(&["sweep"]).exits(1).says("idp");
    }
    assert_no_findings(&world);
}

#[rstest]
#[case::few(Db::Sqlite, 5)]
#[case::many(Db::Postgres, 60)]
fn a_disabled_person_is_flagged_until_active_again(
    #[values(Scim, ScimByCursor, Keycloak, Entra, Okta, Ldap)] of: Of,
    #[case] db: Db,
    #[case] issuers: usize,
) {
    let stand_in = of.start(80);
    let world = world_of(db, &*stand_in, issuers, "");
    stand_in.set_active(2, false);
    world.sweep().says("1 opened");
    assert_only_finding(&world, "t2", "idp says ");
    assert_only_finding(&world, "t2", "checked by id");
    assert_eq!(status(&world, "user2@example.org"), "disabled admin");

    stand_in.set_active(2, true);
    world.sweep().says("1 resolved");
    assert_no_findings(&world);
}

#[rstest]
#[case::few(Db::Sqlite, 5)]
#[case::many(Db::Postgres, 60)]
fn a_deleted_person_is_flagged_after_a_second_look_up(
    #[values(Scim, Keycloak, Entra, Okta, Ldap)] of: Of,
    #[case] db: Db,
    #[case] issuers: usize,
) {
    let stand_in = of.start(80);
    let world = world_of(db, &*stand_in, issuers, "");
    let evidence = match of {
        Ldap => "no entry has its entryUUID",
        Okta => "404 (E0000007) for its id",
        _ => "404 for its id",
    };
    stand_in.delete(4);
    world.sweep();
    assert_no_findings(&world);
    assert!(status(&world, "user4@example.org").starts_with("unknown"));
    world.sweep();
    world.sweep();
    assert_only_finding(&world, "t4", evidence);
    assert!(status(&world, "user4@example.org").starts_with("deleted"));
    let shown = identity(&world, "user4@example.org")["evidence"].to_string();
    assert_contains!(shown, evidence);
}

#[rstest]
#[case::few(Db::Sqlite, 5)]
#[case::many(Db::Postgres, 60)]
fn a_person_who_leaves_the_group_is_flagged_after_two_listings(
    #[values(Scim, Keycloak, Entra, Okta, Ldap)] of: Of,
    #[case] db: Db,
    #[case] issuers: usize,
) {
    let stand_in = of.start(80);
    let all: Vec<usize> = (1..=80).collect();
    stand_in.set_members(&all);
    let mut world = world_of(db, &*stand_in, issuers, IN_GROUP);
    let rest: Vec<usize> = (1..=80).filter(|number| *number != 4).collect();
    stand_in.set_members(&rest);
    world.sweep();
    assert_no_findings(&world);
    world.sweep();
    let evidence = "membership in none of the allowed groups (ops)";
    assert_only_finding(&world, "t4", evidence);
    assert_eq!(status(&world, "user4@example.org"), "out_of_group");
    stand_in.set_members(&all);
    world.sweep().says("1 resolved");
    assert_eq!(status(&world, "user4@example.org"), "active");

    // Neither an emptied group nor a missing one flags anybody.
    stand_in.set_members(&[1]);
    for _ in 0..3 {
        world.run(&["sweep"]).exits(1).says("idp is held");
    }
    configure(&mut world, &*stand_in, "allowed_groups = [\"devops\"]");
    for _ in 0..3 {
        world.run(&["sweep"]).exits(1).says("\"devops\"");
    }
    assert_no_findings(&world);
}

type HttpFault = (String, &'static str, Box<dyn Fn() -> Answer + Send>);

/// Paths with bad responses, and what a sweep then reports.
fn faults(api: &Api<'_>) -> Vec<HttpFault> {
    let users = || api.users.to_owned();
    let mut faults: Vec<HttpFault> = Vec::new();
    for bad in BAD_RESPONSES {
        faults.push((users(), bad.expected_text, Box::new(bad.answer)));
    }
    let no_users = api.no_users.clone();
    faults.push((users(), "idp", Box::new(move || Answer::json(&no_users))));
    for code in [401, 403, 503] {
        for path in ["/".to_owned(), users(), api.groups.to_owned()]
            .into_iter()
            .chain(api.token.clone())
        {
            let answer = move || Answer::text(code, LEAKED_SECRET);
            faults.push((path, "idp", Box::new(answer)));
        }
    }
    faults
}

#[rstest]
fn failures_neither_open_nor_resolve_findings_and_show_no_secret(
    #[values(Scim, ScimByCursor, Keycloak, Entra, Okta)] of: Of,
) {
    let stand_in = of.start(10);
    stand_in.set_members(&(1..=10).collect::<Vec<_>>());
    let mut world = world_of(Db::Sqlite, &*stand_in, 10, IN_GROUP);
    stand_in.set_active(2, false);
    world.sweep().says("1 opened");
    stand_in.set_active(2, true);
    stand_in.set_active(3, false);
    let api = stand_in.api();
    let mut output = String::new();
    for (path, words, answer) in faults(&api) {
        api.stub.intercept(move |request, stub| {
            if request.path.starts_with(&path) {
                answer()
            } else {
                stub(request)
            }
        });
        let ran = world.run(&["sweep"]);
        ran.exits(1).says(words);
        output += &(ran.stdout + &ran.stderr);
        assert_only_finding(&world, "t2", "");
        assert_eq!(status(&world, "user1@example.org"), "active");
    }
    api.stub.stop_intercepting();
    world.sweep().says("1 resolved");
    assert_only_finding(&world, "t3", "idp says ");

    world.set("log.level", "\"trace\"");
    output += &daemon_log_after_sweep(world.at("2026-11-22 06:20:57"));
    for file in ["token", "client-secret", "okta.jwk"] {
        let _ = std::fs::remove_file(world.path(file));
    }
    let secrets = [&[LEAKED_SECRET][..], &stand_in.secrets()].concat();
    assert_not_leaked(&secrets, &world, &output);
    assert!(!output.contains("user3@example.org"), "{output}");
}

/// An LDAP server reports its failures in other ways.
#[test]
fn failures_of_an_ldap_server_flag_no_one_and_show_no_password() {
    let server = FaultyLdap::start(10);
    let mut world = world_of(Db::Sqlite, &server, 10, "");
    let mut output = String::new();
    for (fault, bind_code, words) in [
        (Some(Fault::Code(4)), 0, "LDAP code 4"),
        (Some(Fault::Code(32)), 0, "LDAP code 32"),
        (Some(Fault::Cut), 0, "closed the connection"),
        (None, 49, "LDAP code 49"),
    ] {
        server.break_page(1, fault);
        server.answer_binds(bind_code);
        for _ in 0..3 {
            let ran = world.run(&["sweep"]);
            ran.exits(1).says(words);
            output += &(ran.stdout + &ran.stderr);
        }
        assert_no_findings(&world);
        assert_eq!(status(&world, "user1@example.org"), "active");
    }
    server.break_page(1, None);
    server.answer_binds(0);
    world.sweep();
    world.set("log.level", "\"trace\"");
    output += &daemon_log_after_sweep(world.at("2026-11-22 06:20:57"));
    std::fs::remove_file(world.path("ldap-password")).unwrap();
    assert_not_leaked(&[PASSWORD], &world, &output);
}

#[rstest]
#[case::busy_at_bind(None, 51)]
#[case::stopping_at_bind(None, 52)]
#[case::busy_at_search(Some(Fault::Code(51)), 0)]
#[case::stopping_at_search(Some(Fault::Code(52)), 0)]
fn a_busy_ldap_server_defers_the_directory_without_a_failure(
    #[case] fault: Option<Fault>,
    #[case] bind_code: u8,
) {
    let server = FaultyLdap::start(3);
    let mut world = World::new(Db::Sqlite);
    configure(&mut world, &server, "");
    world
        .at("2026-11-22 06:00:00")
        .import(&["1,t1,user1@example.org,"]);
    world.sweep();
    assert_eq!(status(&world, "user1@example.org"), "active");
    server.break_page(1, fault);
    server.answer_binds(bind_code);
    for hour in 7..=10 {
        world.at(&format!("2026-11-22 {hour:02}:00:00")).sweep();
    }
    let binds = server.count_binds();
    world.at("2026-11-22 10:00:30").sweep();
    assert_eq!(server.count_binds(), binds, "it waits");
    let mails = world.take_mails();
    let is_alert = |subject: &str| subject.contains("cannot be read");
    assert!(mails.iter().all(|mail| !is_alert(&mail.subject)));
    assert_no_findings(&world);
    server.break_page(1, None);
    server.answer_binds(0);
    world.at("2026-11-22 11:00:00").sweep();
    assert!(server.count_binds() > binds);
    assert_eq!(status(&world, "user1@example.org"), "active");
}

#[rstest]
fn a_requested_wait_defers_the_directory_without_a_failure(
    #[values(Scim, Keycloak, Entra, Okta)] of: Of,
) {
    let stand_in = of.start(3);
    let mut world = World::new(Db::Sqlite);
    configure(&mut world, &*stand_in, "");
    world
        .at("2026-11-22 06:00:00")
        .import(&["1,t1,user1@example.org,"]);
    let api = stand_in.api();
    let users = api.users;
    api.stub.intercept(move |request, stub| {
        if request.path == users {
            return Answer::status(429).with("retry-after", "600");
        }
        stub(request)
    });
    world.sweep();
    api.stub.take_request_lines();
    world.at("2026-11-22 06:09:00").sweep();
    assert_eq!(api.stub.take_request_lines(), [""; 0]);
    api.stub.stop_intercepting();
    world.at("2026-11-22 06:11:00").sweep();
    assert_eq!(status(&world, "user1@example.org"), "active");
}
