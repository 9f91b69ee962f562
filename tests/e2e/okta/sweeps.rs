//! Sweeps over an organisation.

use rstest::rstest;

use super::org::{JWK, Okta, user};
use super::{ADA, BOB, EVE};
use crate::listed::{assert_no_findings, assert_only_finding, findings, status};
use crate::world::{Db, World};

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
    let own = okta.keys_of(&world);
    world.table(&format!(
        "[[directory]]\nname = \"okta\"\nabsence_grace = \"0s\"\n{own}{keys}"
    ));
    world.import(&[
        "a,A,Ada@Example.org,",
        "b,B,bob@example.org,",
        "e,E,eve@example.org,",
    ]);
    world
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
    world.import(&rows);
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
    world.sweep();
    assert_no_findings(&world);
    okta.org().set(ADA, "SUSPENDED");
    okta.org().set(BOB, "DEPROVISIONED");
    for _ in 0..3 {
        world.sweep();
    }
    let found = findings(&world);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_contains!(found[0], "status SUSPENDED");
    assert_contains!(found[1], "status DEPROVISIONED");
    assert_eq!(status(&world, "eve@example.org"), "active");
}

#[test]
fn without_filters_deactivated_people_among_many_are_found_by_id() {
    let (okta, world) = many();
    okta.org().refused = vec!["filter"];
    world.sweep();
    assert_no_findings(&world);
    okta.org().set(&format!("{:020}", 7), "DEPROVISIONED");
    for _ in 0..3 {
        world.sweep();
    }
    assert_only_finding(&world, "T7", "status DEPROVISIONED");
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
    world.sweep();
}
