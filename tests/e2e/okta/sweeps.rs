//! Sweeps over an organisation.

use rstest::rstest;
use serde_json::{Value, json};

use super::org::{CLIENT, JWK, Okta, user};
use super::{ADA, BOB, EVE};
use crate::stub::Answer;
use crate::world::{Db, World};

type Faulty = Box<dyn Fn() -> Answer + Send>;

const DEVELOPERS: &str = "00g1ero7vZFVEIYLWPB1";

/// Three active people, each with a token that never expires.
fn staff() -> Okta {
    Okta::with_users(vec![
        user(ADA, "ada@example.org", "ACTIVE"),
        user(BOB, "bob@example.org", "ACTIVE"),
        user(EVE, "eve@example.org", "ACTIVE"),
    ])
}

fn world_of(okta: &Okta, keys: &str) -> World {
    let mut world = World::new(Db::Sqlite);
    world.write("okta.jwk", JWK);
    let url = &okta.stub.url;
    world.table(&format!(
        "[[directory]]\nname = \"okta\"\nkind = \"okta\"\nurl = \"{url}\"\nclient_id = \"{CLIENT}\"\n\
         private_key = {{ file = \"okta.jwk\" }}\nabsence_grace = \"0s\"\n{keys}"
    ));
    world.import(&[
        "a,A,Ada@Example.org,",
        "b,B,bob@example.org,",
        "e,E,eve@example.org,",
    ]);
    world
}

/// The findings as `token evidence`, in order.
fn findings(world: &World) -> Vec<String> {
    let findings = world.list(&["finding", "list", "--kind", "sso_revoked"]);
    let lines = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        format!("{} {}", text("token_name"), text("evidence"))
    };
    let mut lines: Vec<String> = findings.iter().map(lines).collect();
    lines.sort();
    lines
}

fn status_and_reason(world: &World, email: &str) -> String {
    let all = world.list(&["identity", "list"]);
    let one = all.iter().find(|one| one["email"] == email).unwrap();
    let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
    format!("{} {}", text("status"), text("reason"))
}

#[test]
fn suspended_and_deactivated_people_are_flagged_until_active_again() {
    let okta = staff();
    let world = world_of(&okta, "");
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    assert_eq!(status_and_reason(&world, "bob@example.org"), "active -");

    okta.org().set(ADA, "SUSPENDED");
    okta.org().set(BOB, "DEPROVISIONED");
    okta.org().set(EVE, "LOCKED_OUT");
    world.run(&["sweep"]).exits(0);
    let found = findings(&world);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("A "), "{found:?}");
    assert!(found[0].contains("status SUSPENDED"), "{found:?}");
    assert!(found[1].contains("status DEPROVISIONED"), "{found:?}");
    assert_eq!(status_and_reason(&world, "eve@example.org"), "active -");

    okta.org().set(ADA, "ACTIVE");
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world).len(), 1);
}

#[test]
fn a_deleted_person_is_flagged_once_the_absence_is_confirmed() {
    let okta = staff();
    let world = world_of(&okta, "");
    world.run(&["sweep"]).exits(0);
    okta.org().delete(BOB);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0], "once is no proof");
    world.run(&["sweep"]).exits(0);
    world.run(&["sweep"]).exits(0);
    let found = findings(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("404 (E0000007) for its id"), "{found:?}");
    assert!(status_and_reason(&world, "bob@example.org").starts_with("deleted"));
}

#[test]
fn a_person_who_left_the_allowed_group_is_flagged_at_the_second_listing() {
    let okta = staff();
    let members = |ids: &[&str]| {
        let ids = ids.iter().map(ToString::to_string).collect();
        vec![(DEVELOPERS.to_owned(), "Developers".to_owned(), ids)]
    };
    okta.org().groups = members(&[ADA, BOB, EVE]);
    let world = world_of(&okta, "allowed_groups = [\"Developers\"]");
    world.run(&["sweep"]).exits(0);
    okta.org().groups = members(&[ADA, BOB]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0], "once is no proof");
    world.run(&["sweep"]).exits(0);
    let found = findings(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("Developers"), "{found:?}");
    assert!(status_and_reason(&world, "eve@example.org").starts_with("out_of_group"));

    okta.org().groups = members(&[ADA, BOB, EVE]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    // A group that no longer exists proves nothing.
    okta.org().groups = Vec::new();
    let swept = world.run(&["sweep"]);
    swept.exits(1).says("no group \"Developers\"");
    assert_eq!(findings(&world), [""; 0]);
}

#[test]
fn failures_flag_no_one() {
    let okta = staff();
    let world = world_of(&okta, "canaries = [\"ada@example.org\"]");
    world.run(&["sweep"]).exits(0);
    let code = |status, body: &'static str| move || Answer::text(status, body);
    let faults: [(&str, Faulty); 5] = [
        ("/", Box::new(code(503, "<html>"))),
        (
            "/oauth2/",
            Box::new(code(401, r#"{"error":"invalid_client"}"#)),
        ),
        ("/api/", Box::new(code(403, r#"{"errorCode":"E0000006"}"#))),
        ("/api/", Box::new(code(404, "<html>"))),
        ("/api/v1/users", Box::new(|| Answer::json(&json!([])))),
    ];
    for (path, fault) in faults {
        okta.org().fault = Some(Box::new(move |request| {
            request.path.starts_with(path).then(&fault)
        }));
        for _ in 0..3 {
            world.run(&["sweep"]).exits(1);
        }
        assert_eq!(findings(&world), [""; 0], "{path}");
    }
    okta.org().fault = None;
    okta.org().is_reader = false;
    world
        .run(&["sweep"])
        .exits(1)
        .says("Read-only Administrator");
    okta.org().is_reader = true;
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
}

#[test]
fn a_deactivated_person_among_many_issuers_is_flagged() {
    let (okta, world) = many();
    world.run(&["sweep"]).exits(0);
    okta.org().set(&format!("{:020}", 7), "DEPROVISIONED");
    world.run(&["sweep"]).exits(0);
    let found = findings(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("T7 "), "{found:?}");
    assert!(found[0].contains("status DEPROVISIONED"), "{found:?}");
}

/// Sixty more, each with a token.
fn many() -> (Okta, World) {
    let okta = staff();
    for number in 0..60 {
        let login = format!("u{number}@example.org");
        let one = user(&format!("{number:020}"), &login, "ACTIVE");
        okta.org().users.push(one);
    }
    okta.org().page = 20;
    let world = world_of(&okta, "");
    let rows: Vec<String> = (0..60)
        .map(|number| format!("t{number},T{number},u{number}@example.org,"))
        .collect();
    world.import(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    (okta, world)
}

#[rstest]
#[case::filters_refused(vec!["filter"], vec![])]
#[case::filters_ignored(vec![], vec!["filter"])]
#[case::searches_refused(vec!["search"], vec![])]
#[case::only_lists(vec!["filter", "search", "q"], vec![])]
fn a_server_that_supports_less_is_swept_with_the_same_result(
    #[case] refused: Vec<&'static str>,
    #[case] ignored: Vec<&'static str>,
) {
    let okta = staff();
    let members = [ADA, BOB, EVE].map(str::to_owned).to_vec();
    okta.org().groups = vec![(DEVELOPERS.to_owned(), "Developers".to_owned(), members)];
    okta.org().refused = refused;
    okta.org().ignored = ignored;
    let world = world_of(&okta, "allowed_groups = [\"Developers\"]");
    world.import(&[
        "a,A,Ada@Example.org,",
        "b,B,bob@example.org,",
        "e,E,eve@example.org,",
        "s,S,stranger@example.org,",
    ]);
    world.run(&["check"]).exits(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    okta.org().set(ADA, "SUSPENDED");
    okta.org().set(BOB, "DEPROVISIONED");
    for _ in 0..3 {
        world.run(&["sweep"]).exits(0);
    }
    let found = findings(&world);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("status SUSPENDED"), "{found:?}");
    assert!(found[1].contains("status DEPROVISIONED"), "{found:?}");
    assert_eq!(status_and_reason(&world, "eve@example.org"), "active -");
}

#[test]
fn without_filters_deactivated_people_among_many_are_found_by_id() {
    let (okta, world) = many();
    okta.org().refused = vec!["filter"];
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    okta.org().set(&format!("{:020}", 7), "DEPROVISIONED");
    for _ in 0..3 {
        world.run(&["sweep"]).exits(0);
    }
    let found = findings(&world);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("T7 "), "{found:?}");
    assert!(found[0].contains("status DEPROVISIONED"), "{found:?}");
}

fn evidence(world: &World, email: &str) -> String {
    let all = world.list(&["identity", "list"]);
    let one = all.iter().find(|one| one["email"] == email).unwrap();
    one["evidence"].as_str().unwrap_or("-").to_owned()
}

#[test]
fn an_unknown_status_flags_no_one() {
    let okta = staff();
    let world = world_of(&okta, "");
    okta.org().set(BOB, "ON_LEAVE");
    okta.org().set(EVE, "STAGED");
    world.run(&["sweep"]).exits(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    assert_eq!(
        status_and_reason(&world, "bob@example.org"),
        "unknown field_missing"
    );
    assert_eq!(
        status_and_reason(&world, "eve@example.org"),
        "unknown never_activated"
    );
    assert_eq!(evidence(&world, "bob@example.org"), "status ON_LEAVE");
    assert_eq!(evidence(&world, "eve@example.org"), "status STAGED");
}

#[test]
fn a_check_reports_what_the_app_lacks() {
    let okta = staff();
    let world = world_of(&okta, "allowed_groups = [\"Developers\"]");
    okta.org().groups = vec![(DEVELOPERS.to_owned(), "Developers".to_owned(), vec![])];
    world
        .run(&["check"])
        .says("Okta: users can be read, 1 allowed group found");
    okta.org().scopes = vec!["okta.users.read"];
    let checked = world.run(&["check"]);
    checked
        .exits(1)
        .says("Okta does not grant the app okta.groups.read");
    for secret in ["k-rsa", "BEGIN", "access-"] {
        assert!(!checked.stdout.contains(secret) && !checked.stderr.contains(secret));
    }
}

#[test]
fn an_unusable_key_is_a_configuration_error() {
    let okta = staff();
    let world = world_of(&okta, "");
    world.write("okta.jwk", "not a key");
    let swept = world.run(&["sweep"]);
    swept.exits(78).says("it has no private key");
    assert!(!swept.stderr.contains("not a key"));
    let key = include_str!("../../data/assertion/ec-sec1.pem");
    world.write("okta.jwk", key);
    let swept = world.run(&["sweep"]);
    let fix = "openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY8";
    swept.exits(78).says("SEC1").says(fix);
    world.write("okta.jwk", format!("{{\"keys\": [{JWK}]}}"));
    world.run(&["sweep"]).exits(0);
}
