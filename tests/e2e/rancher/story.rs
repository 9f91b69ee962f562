//! Sweeps over Rancher.

use std::fs;

use rstest::rstest;
use serde_json::{Value, json};

use super::{OWN, Rancher, SECRET, attribute, ext, legacy, user};
use crate::stub::Answer;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

fn world(db: Db, rancher: &Rancher) -> World {
    let mut world = World::new(db);
    let (url, users) = (rancher.url(), "{ \"u-map\" = \"map@example.org\" }");
    world.write("rancher-token", OWN);
    world.table(&format!(
        "[[source]]\nname = \"rancher\"\nkind = \"rancher\"\nurl = \"{url}\"\n\
         token = {{ file = \"rancher-token\" }}\nusers = {users}\n"
    ));
    world.at("2026-11-24 00:00:00");
    world
}

fn token(world: &World, id: &str) -> Value {
    let tokens = world.list(&["token", "list"]);
    let found = tokens.iter().find(|token| token["external_id"] == *id);
    found
        .unwrap_or_else(|| panic!("no {id}: {tokens:?}"))
        .clone()
}

/// A Rancher with tokens of every kind.
fn rancher_with_all_kinds() -> Rancher {
    Rancher::with(|state| {
        state.page = 2;
        let endless = json!({"ttl": 0, "expiresAt": "", "lastUsedAt": null, "description": ""});
        state.legacy.extend([
            legacy("kubeconfig-u-ada", "u-ada", endless),
            legacy("token-off", "u-off", json!({})),
            legacy("token-sess", "u-ada", json!({"isDerived": false})),
            legacy(
                "token-soon",
                "u-map",
                json!({"expiresAt": "", "userPrincipal": {"loginName": "ada"}}),
            ),
        ]);
        state.users.extend([
            user("u-off", json!({"enabled": false})),
            user("u-map", json!({"displayName": "Mary"})),
        ]);
        state.attributes.push(attribute("u-ada", json!({})));
        let old = json!({"spec": {"description": "old"}, "status": {"expiresAt": "2026-11-20T09:00:00Z"}});
        state
            .ext
            .get_or_insert_default()
            .push(ext("token-old", "u-ada", old));
    })
}

#[rstest]
fn rancher_is_synced_and_people_are_notified(#[values(Sqlite, Postgres)] db: Db) {
    let rancher = rancher_with_all_kinds();
    let mut world = world(db, &rancher);
    world
        .run(&["check"])
        .says("Rancher v2.12.1, 6 legacy tokens, 2 ext tokens");
    world.sweep();
    let expected = [
        "ext/token-chjc9 active",
        "ext/token-old expired",
        "kubeconfig-u-ada active",
        "token-7x2kq active",
        "token-lapsd active",
        "token-off disabled",
        "token-soon active",
    ];
    assert_eq!(world.tokens(), expected);
    let soon = token(&world, "token-soon");
    let fields = [
        "issuer",
        "role",
        "scope",
        "expiry",
        "expiry_origin",
        "expires_at",
    ]
    .map(|key| &soon[key]);
    let expected = [
        "map@example.org",
        "api_key",
        "c-m-abc123",
        "at",
        "computed",
        "2026-11-28T10:15:02Z",
    ];
    assert_eq!(fields, expected.map(|text| json!(text)).each_ref());
    let kubeconfig = token(&world, "kubeconfig-u-ada");
    assert_eq!(
        (&kubeconfig["expiry"], &kubeconfig["role"]),
        (&json!("never"), &json!("kubeconfig"))
    );
    let mails = world.mails();
    let to = |who: &str| mails.iter().filter(|mail| mail.starts_with(who)).count();
    // Two tokens expire within a week: each issuer and the administrator are notified.
    assert_eq!(
        (to("ada@"), to("map@"), to("boss@")),
        (1, 1, 1),
        "{mails:?}"
    );

    // A renewed key gets its new expiry, a deleted one is gone.
    {
        let mut state = rancher.state();
        state
            .legacy
            .retain(|token| token["metadata"]["name"] != "token-soon");
        // Rancher goes by the life alone.
        state.legacy[1]["ttl"] = json!(8_380_800_000_i64);
    }
    world.at("2026-11-25 00:00:00").sweep().says("1 gone");
    assert_eq!(token(&world, "token-soon")["status"], "gone");
    let expected = "2026-12-05T10:15:02Z";
    assert_eq!(token(&world, "token-7x2kq")["expires_at"], expected);
}

#[rstest]
#[case::half_a_page(|| Answer::text(200, "{\"metadata\":{},\"items\":[{"), "ends in the middle")]
#[case::broken(|| Answer::status(500), "500")]
#[case::no_rights(|| Answer::status(403), "GlobalRole")]
#[case::expired(|| Answer::status(401), "create a token without a cluster")]
#[case::elsewhere(|| Answer::status(307).with("location", "https://evil.example.org"), "redirects to")]
#[case::two_gigabytes(|| Answer::endless(2 << 30), "more than 32 MiB")]
fn a_listing_that_breaks_off_is_an_error_and_changes_nothing(
    #[case] second_page: fn() -> Answer,
    #[case] expected_text: &str,
) {
    let rancher = rancher_with_all_kinds();
    let mut world = world(Db::Sqlite, &rancher);
    world.sweep();
    let before = world.tokens();
    rancher.state().second_page = Some(second_page);
    world
        .at("2026-11-24 01:00:00")
        .run(&["sweep"])
        .exits(1)
        .says(expected_text);
    assert_eq!(world.tokens(), before);
    rancher.state().second_page = None;
    world.at("2026-11-24 02:00:00").sweep();
    assert_eq!(world.tokens(), before);
}

#[test]
fn a_store_that_is_down_briefly_loses_no_token() {
    let rancher = rancher_with_all_kinds();
    let mut world = world(Db::Sqlite, &rancher);
    world.sweep();
    let before = world.tokens();
    let ext = {
        let mut state = rancher.state();
        state.version = Some("v2.12.1");
        state.ext.take()
    };
    world.at("2026-11-24 01:00:00").sweep();
    assert_eq!(world.tokens(), before);
    world
        .run(&["check"])
        .says("the list of ext tokens is missing");
    rancher.state().ext = ext;
    world.at("2026-11-24 02:00:00").sweep();
    assert_eq!(world.tokens(), before);
}

#[test]
fn facts_about_people_are_kept_if_they_become_unreadable() {
    let rancher = rancher_with_all_kinds();
    rancher
        .state()
        .legacy
        .push(legacy("token-sys", "u-sys", json!({})));
    let system = user("u-sys", json!({"principalIds": ["system://local"]}));
    rancher.state().users.push(system);
    let mut world = world(Db::Sqlite, &rancher);
    world.sweep();
    let before = world.tokens();
    assert!(
        before.contains(&"token-off disabled".to_owned()),
        "{before:?}"
    );
    for hidden in ["/users", "authConfigs"] {
        rancher.state().hidden = vec![hidden];
        world.at("2026-11-24 01:00:00").sweep();
        assert_eq!(world.tokens(), before);
        assert_eq!(token(&world, "token-sys")["role"], "system");
    }
}

#[test]
fn an_owner_is_found_by_every_name_in_rancher() {
    let rancher = Rancher::with(|state| {
        let principal =
            json!({"userPrincipal": {"loginName": "", "metadata": {"name": "local://u-yan"}}});
        let login = json!({"userPrincipal": {"loginName": "grace", "metadata": {"name": "x"}}});
        state.legacy.extend([
            legacy("token-yan", "u-yan", principal.clone()),
            legacy("token-eve", "u-eve", principal),
            legacy("token-grace", "u-grace", login),
        ]);
        let named = |name: &str| json!({"displayName": format!("{name} Y"), "username": name});
        state.users.extend([
            user("u-yan", named("yan")),
            user("u-eve", named("eve")),
            user("u-grace", json!({})),
        ]);
    });
    let mut world = world(Db::Sqlite, &rancher);
    let rows =
        "issuer,email\nyan,yan@example.org\neve Y,eve@example.org\ngrace,grace@example.org\n";
    world.write("owners.csv", rows);
    world.table("owners = \"owners.csv\"");
    world.sweep();
    for who in ["yan", "eve", "grace"] {
        let token = token(&world, &format!("token-{who}"));
        assert_eq!(token["issuer"], format!("{who}@example.org"));
    }
}

#[test]
fn a_listing_of_own_tokens_is_a_failure() {
    let rancher = rancher_with_all_kinds();
    let mut world = world(Db::Sqlite, &rancher);
    world.sweep();
    let before = world.tokens();
    {
        let mut state = rancher.state();
        state.is_narrow = true;
        state.allowed = Some(false);
    }
    let expected_text = "the credentials show only the tokens of their own user";
    world
        .at("2026-11-24 01:00:00")
        .run(&["sweep"])
        .exits(1)
        .says(expected_text)
        .says("GlobalRole");
    world.run(&["check"]).says(expected_text);
    assert_eq!(world.tokens(), before);
}

#[test]
fn a_request_to_wait_is_respected() {
    let rancher = rancher_with_all_kinds();
    rancher.state().second_page = Some(|| Answer::status(429).with("retry-after", "600"));
    let mut world = world(Db::Sqlite, &rancher);
    world.sweep();
    rancher.state().second_page = None;
    rancher.take_request_lines();
    world.at("2026-11-24 00:09:00").sweep();
    assert!(rancher.take_request_lines().is_empty());
    assert!(world.tokens().is_empty());
    world.at("2026-11-24 00:11:00").sweep();
    assert_eq!(world.tokens().len(), 7);
}

#[test]
fn no_secret_of_rancher_is_left_anywhere() {
    let rancher = rancher_with_all_kinds();
    let mut world = world(Db::Sqlite, &rancher);
    world.env("RUST_LOG", "trace").set("log.level", "\"trace\"");
    let mut outputs = Vec::new();
    let mut note = |ran: crate::world::RunResult| {
        outputs.push(ran.stdout);
        outputs.push(ran.stderr);
    };
    note(world.run(&["check"]));
    note(world.run(&["sweep"]));
    rancher.state().second_page =
        Some(|| Answer::text(200, "{\"metadata\":{},\"items\":[{\"token\":\"hush-x\"}]}"));
    note(world.run(&["sweep"]));
    rancher.state().second_page = Some(|| Answer::text(400, "{\"message\":\"hush-y\"}"));
    note(world.run(&["sweep"]));
    for command in [
        &["token", "list"][..],
        &["token", "show", "rancher/token-7x2kq"],
    ] {
        note(world.run(&[command, &["--format", "json"]].concat()));
    }
    for expected_text in ["it has no usable id", "answered 400"] {
        assert!(
            outputs.iter().any(|text| text.contains(expected_text)),
            "{outputs:?}"
        );
    }
    for text in &outputs {
        assert_eq!(text.lines().find(|line| line.contains(SECRET)), None);
    }
    let mails = world.take_mails();
    assert!(!mails.is_empty() && !mails.iter().any(|mail| mail.raw.contains(SECRET)));
    let files = fs::read_dir(world.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<_> = files
        .filter(|path| path.is_file() && !path.ends_with("rancher-token"))
        .collect();
    assert!(
        files.iter().any(|path| path.ends_with("lapsed.db")),
        "{files:?}"
    );
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let is_there = bytes
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes());
        assert!(!is_there, "{}", file.display());
    }
}
