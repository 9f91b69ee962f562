//! The token service at the command line: accounts, users, tokens and their policy.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use rstest::rstest;
use serde_json::Value;

use crate::world::{Db, RunResult, World};
use Db::{Postgres, Sqlite};

/// The account acme with its administrator Ada and the viewer Bob.
fn service_world(db: Db) -> World {
    let mut world = World::new(db);
    world
        .set("service.enabled", "true")
        .at("2026-11-30 12:00:00");
    world.run(&["account", "add", "Acme"]).exits(0);
    for (user, role) in [
        ("Ada@example.org", "administrator"),
        ("bob@example.org", "viewer"),
    ] {
        let add = ["user", "add", user, "--account", "acme", "--role", role];
        world.run(&add).exits(0);
    }
    world
}

/// Issues a token for Ada, and returns its JSON.
fn issue(world: &World, arguments: &[&str]) -> Value {
    let issue = [
        "token",
        "issue",
        "--name",
        "ci",
        "--user",
        "ada@example.org",
    ];
    let ran = world.run(&[&issue, arguments, &["--format", "json"]].concat());
    serde_json::from_str(&ran.exits(0).stdout).unwrap()
}

fn text<'a>(token: &'a Value, key: &str) -> &'a str {
    token[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {token}"))
}

fn verify_with(world: &World, token: &str, arguments: &[&str]) -> RunResult {
    let mut command = world.command(&[&["token", "verify"], arguments].concat());
    command.stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{token}").unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

fn verify(world: &World, token: &str) -> RunResult {
    verify_with(world, token, &[])
}

/// What a token may be used for.
fn facts(world: &World, token: &str) -> Value {
    let verified = verify_with(world, token, &["--format", "json"]);
    serde_json::from_str(&verified.exits(0).stdout).unwrap()
}

/// The reason in the latest entry of the audit trail with this action.
fn reason_of(world: &World, action: &str) -> String {
    let entries = world.list(&["audit", "list"]);
    let entry = entries.iter().find(|entry| entry["action"] == action);
    let entry = entry.unwrap_or_else(|| panic!("{action}: {entries:?}"));
    text(entry, "reason").to_owned()
}

fn show(world: &World, id: &str) -> Value {
    let shown = world.run(&["token", "show", id, "--format", "json"]);
    serde_json::from_str(&shown.exits(0).stdout).unwrap()
}

#[rstest]
fn a_token_is_issued_verified_and_watched(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = service_world(db);
    world.set("web.base_url", "\"https://tokens.example.org/\"");
    let issued = issue(&world, &["--expires", "7d", "--network", "10.0.0.0/8"]);
    let (token, id) = (text(&issued, "token"), text(&issued, "external_id"));
    assert_eq!(text(&issued, "access_key"), format!("lapsed_{id}"));
    assert_eq!(
        token,
        format!("lapsed_{id}_{}", text(&issued, "secret_key"))
    );
    assert_eq!(text(&issued, "endpoint"), "https://tokens.example.org");
    assert!(text(&issued, "expires_at").starts_with("2026-12-07T12:00:00"));
    assert_eq!(text(&issued, "account"), "Acme");
    assert_eq!(text(&issued, "issuer").to_lowercase(), "ada@example.org");

    verify(&world, token)
        .exits(1)
        .says("may not be used from this address");
    let verified = verify_with(
        &world,
        token,
        &["--address", "10.1.2.3", "--format", "json"],
    );
    let verified: Value = serde_json::from_str(&verified.exits(0).stdout).unwrap();
    assert_eq!(text(&verified, "role"), "administrator");
    assert_eq!(text(&verified, "scope"), "*");
    assert_eq!(verified["networks"], serde_json::json!(["10.0.0.0/8"]));
    let pair = format!(
        "{}:{}",
        text(&issued, "access_key"),
        text(&issued, "secret_key")
    );
    verify_with(&world, &pair, &["--address", "10.1.2.3"])
        .exits(0)
        .says("The token works");

    let listed = world.list(&["token", "list", "--source", "local", "--kind", "api"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["kind"], "api");
    assert!(world.list(&["token", "list", "--kind", "robot"]).is_empty());
    let shown = show(&world, id);
    assert_eq!(shown["secrets"].as_array().unwrap().len(), 1);
    assert_eq!(shown["refused_uses"]["count"], 0);

    let bobs = [
        "token",
        "issue",
        "--name",
        "bobs",
        "--user",
        "bob@example.org",
    ];
    world
        .run(&[&bobs[..], &["--expires", "7d"]].concat())
        .exits(0);
    // A step as wide as the token's life is skipped, so the first warning is that of a day before.
    world.at("2026-12-06 13:00:00");
    world.sweep();
    // The administrator of an account is notified about all its tokens.
    let notices = world.notices().join("\n").to_lowercase();
    for (recipient, name) in [
        ("ada@example.org", "ci"),
        ("ada@example.org", "bobs"),
        ("bob@example.org", "bobs"),
    ] {
        let notice = format!("{recipient} {name}");
        assert!(notices.contains(&notice), "{notice}: {notices}");
    }
    assert!(!notices.contains("bob@example.org ci"), "{notices}");
}

#[rstest]
fn a_secret_is_shown_once_and_never_stored(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issue = [
        "token",
        "issue",
        "--name",
        "ci",
        "--user",
        "ada@example.org",
    ];
    let ran = world.run(&issue);
    ran.exits(0)
        .says("it is shown once and cannot be read again");
    let line = ran
        .stdout
        .lines()
        .find(|line| line.trim().starts_with("secret key"));
    let secret = line.unwrap().split_whitespace().last().unwrap();
    assert_eq!(secret.len(), 49);
    let lists = [
        world.run(&["token", "list", "--format", "csv"]),
        world.run(&["token", "show", "ci", "--format", "json"]),
        world.run(&["audit", "list", "--format", "json"]),
    ];
    for ran in lists {
        assert!(
            !ran.exits(0).stdout.contains(&secret[..43]),
            "{}",
            ran.stdout
        );
    }
    if db == Sqlite {
        for file in fs::read_dir(world.path("")).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap_or_default();
            let found = bytes
                .windows(43)
                .any(|part| part == &secret.as_bytes()[..43]);
            assert!(!found);
        }
    }
}

#[rstest]
fn a_token_is_disabled_enabled_updated_and_deleted(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issued = issue(&world, &[]);
    let (token, id) = (text(&issued, "token"), text(&issued, "external_id"));

    world
        .run(&["token", "disable", id, "--reason", "suspicious"])
        .exits(0)
        .says("token enable");
    verify(&world, token).exits(1).says("it is disabled");
    world
        .run(&["token", "enable", id])
        .exits(0)
        .says("works again");
    verify(&world, token).exits(0);

    let update = [
        "token", "update", id, "--name", "deploy", "--role", "viewer",
    ];
    let update = [&update[..], &["--scope", "app:read", "--scope", "user:*"]].concat();
    world.run(&update).exits(0).says("deploy");
    assert_eq!(facts(&world, token)["scope"], "app:read user:*");
    assert_eq!(facts(&world, token)["role"], "viewer");
    verify_with(&world, token, &["--scope", "user:read"]).exits(0);
    verify_with(&world, token, &["--scope", "app:write"])
        .exits(1)
        .says("lacks the scope");
    world
        .run(&["token", "update", id, "--scope", "", "--role", ""])
        .exits(0);
    assert_eq!(facts(&world, token)["scope"], "*");
    assert_eq!(facts(&world, token)["role"], "administrator");
    world.run(&["token", "update", id]).exits(2);

    world
        .run(&["token", "delete", id, "--reason", "replaced"])
        .exits(0)
        .says("is revoked");
    verify(&world, token).exits(1).says("it is revoked");
    let revoked = world.list(&["token", "list", "--status", "revoked"]);
    assert_eq!(text(&revoked[0], "external_id"), id);
    world.run(&["token", "enable", id]).exits(1);
    let actions = world.list(&["audit", "list"]);
    let actions: Vec<&str> = actions.iter().map(|entry| text(entry, "action")).collect();
    for action in [
        "token.issue",
        "token.disable",
        "token.enable",
        "token.update",
        "token.delete",
    ] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
}

#[rstest]
fn a_regenerated_token_has_two_secrets_for_a_while(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = service_world(db);
    let issued = issue(&world, &["--expires", "30d"]);
    let (old, id) = (text(&issued, "token"), text(&issued, "external_id"));
    world.at("2026-12-10 12:00:00");
    let regenerate = ["token", "regenerate", id];
    let json = ["--overlap", "1h", "--format", "json"];
    let ran = world.run(&[&regenerate[..], &json].concat());
    let new: Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    assert_eq!(text(&new, "external_id"), id);
    assert_eq!(text(&new, "access_key"), text(&issued, "access_key"));
    assert_ne!(text(&new, "token"), old);
    assert!(text(&new, "expires_at").starts_with("2027-01-09T12:00:00"));
    verify(&world, old).exits(0);
    let new = text(&new, "token");
    assert_eq!(facts(&world, new)["secret"], 2);
    let secrets = show(&world, id)["secrets"].clone();
    let valid_until = text(&secrets[1], "valid_until");
    assert!(valid_until.starts_with("2026-12-10T13:00:00"), "{secrets}");

    world.at("2026-12-10 13:05:00");
    verify(&world, old).exits(1).says("the overlap is over");
    verify(&world, new).exits(0);

    let leaked = [&regenerate[..], &["--leaked", "--reason", "committed"]].concat();
    world.run(&leaked).exits(0).says("it is shown once");
    world.at("2026-12-10 13:05:30");
    verify(&world, new).exits(1).says("the overlap is over");
}

#[rstest]
fn a_disabled_user_stops_their_tokens(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issued = issue(&world, &[]);
    let token = text(&issued, "token");
    world
        .run(&["user", "disable", "ada@example.org", "--reason", "on leave"])
        .exits(0)
        .says("user enable");
    verify(&world, token).exits(1).says("its user is disabled");
    let users = world.list(&["user", "list"]);
    let status = |user: &Value| format!("{} {}", text(user, "user"), text(user, "status"));
    let users: Vec<String> = users.iter().map(status).collect();
    assert_eq!(
        users,
        ["ada@example.org disabled", "bob@example.org active"]
    );

    let enable = ["user", "enable", "Ada@Example.org", "--reason", "back"];
    world.run(&enable).exits(0);
    verify(&world, token).exits(0);
    // The name and the zone of a person invalidate nothing; their role counts at once.
    let set = [
        "user",
        "set",
        "ada@example.org",
        "--name",
        "Ada L",
        "--timezone",
        "Europe/London",
    ];
    world.run(&set).exits(0);
    world
        .run(&["user", "role", "ada@example.org", "viewer"])
        .exits(0)
        .says("viewer in acme");
    assert_eq!(facts(&world, token)["role"], "viewer");
    world
        .run(&["user", "role", "ada@example.org", ""])
        .exits(0)
        .says("no role");
    verify(&world, token)
        .exits(1)
        .says("no longer in its account");

    world
        .run(&[
            "user",
            "remove",
            "ada@example.org",
            "--yes",
            "--reason",
            "left",
        ])
        .exits(0)
        .says("1 token revoked");
    verify(&world, token).exits(1);
    let reasons = [
        ("user.disable", "administrator in acme; disabled: on leave"),
        ("user.enable", "administrator in acme: back"),
        ("user.remove", "1 tokens ended: left"),
    ];
    for (action, reason) in reasons {
        assert_eq!(reason_of(&world, action), reason);
    }
    world
        .run(&["user", "show", "ada@example.org"])
        .exits(1)
        .says("user list");
}

#[rstest]
fn the_policy_binds_new_tokens_and_names_its_limits(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = service_world(db);
    let issue_as = |world: &World, arguments: &[&str]| {
        let issue = [
            "token",
            "issue",
            "--name",
            "ci",
            "--user",
            "bob@example.org",
        ];
        world.run(&[&issue, arguments].concat())
    };
    issue_as(&world, &["--expires", "366d"])
        .exits(1)
        .says("longer than the maximum of 365d")
        .says("2027-11-30T12:00:00Z");
    issue_as(&world, &["--expires", "never"])
        .exits(1)
        .says("the maximum is 365d");
    issue_as(&world, &["--kind", "robot"])
        .exits(1)
        .says("the kinds are api");
    issue_as(&world, &["--kind", "session"])
        .exits(1)
        .says("made by lapsed itself");
    issue_as(&world, &["--role", "administrator"]).exits(1);
    issue_as(&world, &["--role", "emperor"]).exits(1);
    issue_as(&world, &["--expires", "soon"])
        .exits(2)
        .says("a span such as 30d");
    issue_as(&world, &["--scope", "everything"])
        .exits(2)
        .says("resource:action");
    issue_as(&world, &["--network", "10.0.0.0/99"])
        .exits(2)
        .says("10.0.0.0/8");
    issue_as(&world, &["--account", "other"]).exits(1);
    assert!(world.list(&["token", "list"]).is_empty());

    world
        .run(&["account", "limit", "ACME", "1"])
        .exits(0)
        .says("has 0 of 1 tokens");
    issue_as(&world, &["--expires", "90d"]).exits(0);
    issue_as(&world, &[]).exits(1).says("1");
    let accounts = world.list(&["account", "list"]);
    assert_eq!(
        (&accounts[0]["tokens"], &accounts[0]["limit"]),
        (&1.into(), &1.into())
    );
    world
        .run(&["account", "limit", "acme", "default"])
        .exits(0)
        .says("has 1 of 50 tokens");
    issue_as(&world, &[]).exits(0);

    world
        .run(&["policy", "check"])
        .exits(0)
        .says("complies with the policy");
    world
        .set("service.max_ttl", "\"30d\"")
        .set("service.per_account", "1");
    let departures = world.list(&["policy", "check"]);
    let kinds: Vec<&str> = departures
        .iter()
        .map(|row| text(row, "departure"))
        .collect();
    assert_eq!(kinds, ["too_long", "over_limit"], "{departures:?}");
    let tokens = world.list(&["token", "list"]);
    assert!(tokens.iter().all(|token| token["status"] == "active"));
}

#[rstest]
fn accounts_are_renamed_and_removed(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issued = issue(&world, &[]);
    let token = text(&issued, "token");
    world.run(&["account", "add", "ACME"]).exits(1);
    world
        .run(&["account", "rename", "acme", "Acme Corp"])
        .exits(0);
    assert_eq!(facts(&world, token)["account"], "acme corp");
    let shown = world.run(&["account", "show", "acme corp", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown.exits(0).stdout).unwrap();
    assert_eq!(shown["users"].as_array().unwrap().len(), 2);
    assert_eq!(shown["tokens"], 1);
    world
        .run(&["account", "remove", "acme corp"])
        .exits(1)
        .says("has 1 token");
    let id = text(&issued, "external_id");
    world.run(&["token", "delete", id, "--yes"]).exits(0);
    world
        .run(&["account", "remove", "acme corp", "--reason", "closed"])
        .exits(0);
    assert_eq!(reason_of(&world, "account.remove"), "closed");
    world
        .run(&["account", "show", "acme corp"])
        .exits(1)
        .says("account list");
}

#[rstest]
fn a_machine_user_has_owners(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    world
        .run(&["user", "add", "build-farm"])
        .exits(2)
        .says("--service");
    let add = [
        "user",
        "add",
        "build-farm",
        "--service",
        "--account",
        "acme",
    ];
    world
        .run(&[&add[..], &["--owner", "ada@example.org"]].concat())
        .exits(0);
    let issue = [
        "token",
        "issue",
        "--name",
        "farm",
        "--user",
        "build-farm",
        "--format",
        "json",
    ];
    let issued: Value = serde_json::from_str(&world.run(&issue).exits(0).stdout).unwrap();
    assert_eq!(text(&issued, "issuer").to_lowercase(), "ada@example.org");
    assert_eq!(
        facts(&world, text(&issued, "token"))["issuer"],
        "build-farm"
    );
    // Whoever leaves takes only their own tokens along.
    world.run(&["user", "disable", "ada@example.org"]).exits(0);
    verify(&world, text(&issued, "token")).exits(0);
    let set = ["user", "set", "build-farm", "--owner", "bob@example.org"];
    world.run(&set).exits(0);
    let shown = show(&world, text(&issued, "external_id"));
    assert_eq!(shown["issuer"], "bob@example.org");
}

#[rstest]
fn a_person_chooses_how_they_are_notified(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let preference = |arguments: &[&str]| world.run(&[&["preference"], arguments].concat());
    for (key, value) in [
        ("steps", "30d,7d"),
        ("channel", "account"),
        ("timezone", "Europe/London"),
        ("language", "en"),
        ("digest_at", "08:30"),
    ] {
        preference(&["set", "ada@example.org", key, value]).exits(0);
    }
    let ran = preference(&["get", "ada@example.org", "--format", "json"]);
    let set: Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    assert_eq!(set["steps"], serde_json::json!(["30d", "7d"]));
    assert_eq!(
        (text(&set, "channel"), text(&set, "digest_at")),
        ("account", "08:30")
    );
    // Nothing was used this week.
    preference(&["set", "ada@example.org", "steps", ""])
        .exits(0)
        .says("steps of ada@example.org is none");
    preference(&["set", "ada@example.org", "channel", "default"]).exits(0);
    preference(&["get", "ada@example.org"])
        .exits(0)
        .says("as configured");
    preference(&["set", "ada@example.org", "channel", "pigeon"])
        .exits(2)
        .says("mail or account");
    preference(&["set", "ada@example.org", "step", "7d"])
        .exits(2)
        .says("steps");
}

#[test]
fn without_the_service_its_commands_say_what_to_write() {
    let mut world = World::new(Sqlite);
    let commands: [&[&str]; 5] = [
        &["account", "add", "acme"],
        &["user", "list"],
        &[
            "token",
            "issue",
            "--name",
            "ci",
            "--user",
            "ada@example.org",
        ],
        &["policy", "check"],
        &["preference", "get", "ada@example.org"],
    ];
    for command in commands {
        world
            .run(command)
            .exits(78)
            .says("enabled = true in [service]");
    }
    world
        .set("service.enabled", "true")
        .set("service.prefix", "\"Acme\"");
    world.run(&["user", "list"]).exits(78).says("a-z and 0-9");
}

#[test]
fn what_is_no_token_is_refused() {
    let world = service_world(Sqlite);
    let issued = issue(&world, &[]);
    let token = text(&issued, "token");
    for wrong in [
        "",
        "secret",
        &token[1..],
        &format!("{token}x"),
        "\u{0}\u{0}",
    ] {
        verify(&world, wrong)
            .exits(1)
            .says("not a token of this service");
    }
    let id = text(&issued, "external_id");
    world
        .run(&["token", "show", text(&issued, "access_key")])
        .exits(0)
        .says(id);
    world.run(&["token", "disable", "ci"]).exits(2);
    world.run(&["token", "disable", "lpAAAAAAAAAA"]).exits(1);
}

#[rstest]
fn an_operator_resumes_the_service(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    world
        .run(&["service", "resume"])
        .exits(0)
        .says("verified again; 0 tokens revoked");
    let since = ["service", "resume", "--revoke-changed-since", "2026-11-29"];
    world.run(&since).exits(1).says("remembers nothing");
}

#[test]
fn check_reports_a_restored_store() {
    let world = service_world(Sqlite);
    let issued = issue(&world, &[]);
    let quiet = world.run(&["check"]);
    assert!(!quiet.stdout.contains("warn service"), "{}", quiet.stdout);
    // What the daemon remembers: a change that this store does not have.
    let mark = world.path("lapsed.db.mark");
    fs::write(
        &mark,
        "\n900 1795251600 credential 00000000-0000-0000-0000-000000000000\t\n",
    )
    .unwrap();
    world
        .run(&["check"])
        .exits(0)
        .says("warn service")
        .says("lapsed service resume");
    world.run(&["service", "resume"]).exits(0);
    let decided = world.run(&["check"]);
    assert!(
        !decided.stdout.contains("warn service"),
        "{}",
        decided.stdout
    );
    verify(&world, text(&issued, "token")).exits(0);
}

/// The rows of the service are in the source `local`, which `import` fills, too.
#[rstest]
fn import_changes_no_token_that_lapsed_issued(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issued = issue(&world, &[]);
    let (token, id) = (text(&issued, "token"), text(&issued, "external_id"));
    let rows = format!("external_id,name,status\n{id},stolen,revoked\nlpAAAAAAAAAA,other,active\n");
    world.write("tokens.csv", rows);
    let imported = world.run(&["import", "tokens.csv"]);
    imported
        .exits(1)
        .says("lapsed itself issued this token")
        .says("tokens.csv:2")
        .says("1 new");
    verify(&world, token).exits(0);
    assert_eq!(text(&show(&world, id), "name"), "ci");
    // One that was imported has no secret.
    let forged = token.replace(id, "lpAAAAAAAAAA");
    verify(&world, &forged).exits(1);
    world
        .run(&["token", "disable", "local/lpAAAAAAAAAA"])
        .exits(1);
}

#[rstest]
fn a_token_that_lapsed_issued_is_deleted_and_not_removed(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issued = issue(&world, &[]);
    let id = text(&issued, "external_id");
    world
        .run(&["token", "remove", &format!("local/{id}")])
        .exits(1)
        .says("keeps it for the audit trail")
        .says(&format!("lapsed token delete {id}"));
    verify(&world, text(&issued, "token")).exits(0);
}

#[rstest]
fn erasing_a_user_says_that_their_tokens_ended(#[values(Sqlite, Postgres)] db: Db) {
    let world = service_world(db);
    let issued = issue(&world, &[]);
    world
        .run(&["identity", "erase", "ada@example.org"])
        .exits(0)
        .says("1 token of the token service revoked");
    verify(&world, text(&issued, "token")).exits(1);
    let shown = show(&world, text(&issued, "external_id"));
    assert_eq!(shown["status"], "revoked");
}

#[rstest]
fn an_enabled_token_that_still_does_not_work_is_said_not_to(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = service_world(db);
    let issued = issue(&world, &["--expires", "2d"]);
    let id = text(&issued, "external_id");
    world.run(&["token", "disable", id]).exits(0);
    world.run(&["user", "disable", "ada@example.org"]).exits(0);
    world
        .run(&["token", "enable", id])
        .exits(1)
        .says("does not work: the user ada@example.org is disabled")
        .says("lapsed user enable ada@example.org");
    world
        .run(&["user", "enable", "ada@example.org"])
        .exits(0)
        .says("their tokens work again");
    verify(&world, text(&issued, "token")).exits(0);
    world.at("2026-12-03 12:00:00");
    world
        .run(&["token", "enable", id])
        .exits(1)
        .says("is enabled, but it has expired")
        .says(&format!("lapsed token regenerate {id}"));
}
