//! What sweeps make of the people of an organisation.

use rstest::rstest;
use serde_json::{Value, json};

use super::org::{CLIENT, JWK, Okta, user};
use super::{ADA, BOB, EVE};
use crate::stub::Answer;
use crate::world::{Db, World};

type Faulty = Box<dyn Fn() -> Answer + Send>;

const DEVELOPERS: &str = "00g1ero7vZFVEIYLWPB1";

/// Three who are active, each with a token that never ends.
fn staff() -> Okta {
    Okta::of(vec![
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
    let told = |finding: &Value| {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        format!("{} {}", text("token_name"), text("evidence"))
    };
    let mut told: Vec<String> = findings.iter().map(told).collect();
    told.sort();
    told
}

/// What is known of somebody: status and reason.
fn known(world: &World, email: &str) -> String {
    let all = world.list(&["identity", "list"]);
    let one = all.iter().find(|one| one["email"] == email).unwrap();
    let text = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
    format!("{} {}", text("status"), text("reason"))
}

#[test]
fn a_suspended_and_a_deactivated_person_are_found_at_once_and_cleared_when_back() {
    let okta = staff();
    let world = world_of(&okta, "");
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    assert_eq!(known(&world, "bob@example.org"), "active -");

    okta.org().set(ADA, "SUSPENDED");
    okta.org().set(BOB, "DEPROVISIONED");
    okta.org().set(EVE, "LOCKED_OUT");
    world.run(&["sweep"]).exits(0);
    let found = findings(&world);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("A "), "{found:?}");
    assert!(found[0].contains("status SUSPENDED"), "{found:?}");
    assert!(found[1].contains("status DEPROVISIONED"), "{found:?}");
    assert_eq!(known(&world, "eve@example.org"), "active -");

    okta.org().set(ADA, "ACTIVE");
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world).len(), 1);
}

#[test]
fn a_deleted_person_is_found_when_the_absence_is_confirmed() {
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
    assert!(known(&world, "bob@example.org").starts_with("deleted"));
}

#[test]
fn who_left_the_allowed_group_is_found_at_the_second_reading() {
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
    assert!(known(&world, "eve@example.org").starts_with("out_of_group"));

    okta.org().groups = members(&[ADA, BOB, EVE]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    // A group that is not there any more says nothing about anybody.
    okta.org().groups = Vec::new();
    let swept = world.run(&["sweep"]);
    swept.exits(1).says("no group \"Developers\"");
    assert_eq!(findings(&world), [""; 0]);
}

#[test]
fn trouble_at_okta_flags_nobody() {
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
        okta.org().fault = Some(Box::new(move |asked| {
            asked.path.starts_with(path).then(&fault)
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
fn among_many_issuers_the_one_who_was_deactivated_is_found() {
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
#[case::nothing_but_lists(vec!["filter", "search", "q"], vec![])]
fn a_server_that_takes_less_is_swept_all_the_same(
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
    assert_eq!(known(&world, "eve@example.org"), "active -");
}

#[test]
fn among_many_the_deactivated_are_found_by_their_ids_where_no_filter_lists_them() {
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

/// In whose words somebody's status is known.
fn word(world: &World, email: &str) -> String {
    let all = world.list(&["identity", "list"]);
    let one = all.iter().find(|one| one["email"] == email).unwrap();
    one["evidence"].as_str().unwrap_or("-").to_owned()
}

#[test]
fn a_word_that_nobody_knows_flags_nobody() {
    let okta = staff();
    let world = world_of(&okta, "");
    okta.org().set(BOB, "ON_LEAVE");
    okta.org().set(EVE, "STAGED");
    world.run(&["sweep"]).exits(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(findings(&world), [""; 0]);
    assert_eq!(known(&world, "bob@example.org"), "unknown field_missing");
    assert_eq!(known(&world, "eve@example.org"), "unknown never_activated");
    assert_eq!(word(&world, "bob@example.org"), "status ON_LEAVE");
    assert_eq!(word(&world, "eve@example.org"), "status STAGED");
}

#[test]
fn a_check_says_what_the_app_lacks() {
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
fn a_key_that_is_none_is_a_mistake_of_the_configuration() {
    let okta = staff();
    let world = world_of(&okta, "");
    world.write("okta.jwk", "not a key");
    let swept = world.run(&["sweep"]);
    swept.exits(78).says("there is no private key in it");
    assert!(!swept.stderr.contains("not a key"));
    let key = include_str!("../../data/assertion/ec-sec1.pem");
    world.write("okta.jwk", key);
    let swept = world.run(&["sweep"]);
    let mend = "openssl pkcs8 -topk8 -nocrypt -in KEY -out KEY8";
    swept.exits(78).says("SEC1").says(mend);
    world.write("okta.jwk", format!("{{\"keys\": [{JWK}]}}"));
    world.run(&["sweep"]).exits(0);
}
