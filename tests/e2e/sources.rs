//! Commands on sources: list, check and sync, with their audit entries.

use rstest::rstest;

use crate::daemon::{Daemon, free_port, get};
use crate::stub::{Answer, Stub};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const HEADER: &str = "external_id,name,issuer_email,expires_at\n";

fn world_with_exports(db: Db, keys: &str) -> World {
    let mut world = World::new(db);
    world.table(&format!(
        "[[source]]\nname = \"exports\"\nkind = \"file\"\npath = \"exports.csv\"\n{keys}"
    ));
    world
}

fn rows(count: usize) -> String {
    let row = |n| format!("k{n:02},key {n},ada@example.org,never\n");
    format!("{HEADER}{}", (0..count).map(row).collect::<String>())
}

#[rstest]
fn a_source_is_listed_before_and_after_a_sync_and_a_failure(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_exports(db, "schedule = \"0 * * * *\"");
    world.at("2026-11-20 08:30:00").run(&["migrate"]).exits(0);
    let source = &world.list(&["source", "list"])[0];
    let keys: Vec<&String> = source.as_object().unwrap().keys().collect();
    let expected = [
        "deferred_until",
        "error",
        "kind",
        "last_good_sync_at",
        "last_sync_at",
        "name",
        "state",
        "tokens",
    ];
    assert_eq!(keys, expected);
    assert_eq!(
        (&source["state"], &source["tokens"]),
        (&"never".into(), &0.into())
    );
    assert!(source["last_sync_at"].is_null() && source["deferred_until"].is_null());

    world.write("exports.csv", rows(3));
    world
        .run(&["source", "sync", "exports"])
        .exits(0)
        .says("exports: 3 new");
    world
        .run(&["source", "sync", "exports"])
        .exits(0)
        .says("exports: nothing has changed");
    let source = &world.list(&["source", "list"])[0];
    assert_eq!(
        (&source["state"], &source["tokens"]),
        (&"ok".into(), &3.into())
    );
    let good = source["last_good_sync_at"].clone();
    assert!(
        good.as_str().unwrap().starts_with("2026-11-20T08:30:"),
        "{good}"
    );
    world
        .run(&["source", "list"])
        .exits(0)
        .says("in 30 minutes");

    world.write("exports.csv", "external_id,colour\n");
    world.at("2026-11-20 09:30:00");
    world
        .run(&["source", "sync", "exports"])
        .exits(1)
        .says("failed");
    let source = &world.list(&["source", "list"])[0];
    assert_eq!(source["state"], "failing");
    assert_eq!(source["last_good_sync_at"], good);
    assert_contains!(source["error"].as_str().unwrap(), "exports.csv");
    assert_eq!(
        world.tokens().len(),
        3,
        "nothing is concluded from a failure"
    );
    assert!(world.mails().is_empty(), "a sync plans nothing");
}

#[rstest]
fn a_dry_run_lists_the_differences_and_changes_nothing(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_exports(db, "");
    world.at("2026-11-20 08:30:00");
    world.write("exports.csv", rows(3));
    world
        .run(&["source", "sync", "exports", "--dry-run"])
        .exits(0)
        .says("3 new; nothing was changed");
    world
        .run(&["source", "list"])
        .exits(78)
        .says("there is no store");
    world.run(&["migrate"]).exits(0);
    assert!(world.tokens().is_empty());
    assert_eq!(world.list(&["source", "list"])[0]["state"], "never");

    world.run(&["source", "sync", "exports"]).exits(0);
    let changed =
        "k00,key 0,ada@example.org,2026-12-24\nk01,other,bob@example.org,never\nk03,new,,never\n";
    world.write("exports.csv", format!("{HEADER}{changed}"));
    let arguments = ["source", "sync", "exports", "--dry-run", "--format", "json"];
    let ran = world.run(&arguments);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    let changes: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["change"], row["external_id"], row["fields"]))
        .map(|line| line.replace('"', ""))
        .collect();
    let expected = [
        "changed k00 [expires_at,due_at]",
        "changed k01 [name,issuer]",
        "gone k02 []",
        "new k03 []",
    ];
    assert_eq!(changes, expected);
    assert_eq!(world.tokens(), ["k00 active", "k01 active", "k02 active"]);
    world
        .run(&["source", "sync", "exports"])
        .exits(0)
        .says("exports: 1 new, 2 changed, 1 gone");
    assert!(world.tokens().contains(&"k02 gone".to_owned()));
}

#[rstest]
fn a_shrunken_listing_needs_confirmation_which_is_recorded(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_exports(db, "");
    world.at("2026-11-20 08:30:00").env("USER", "grace");
    world.write("exports.csv", rows(20));
    world.run(&["source", "sync", "exports"]).exits(0);
    world.write("exports.csv", rows(10));
    world
        .run(&["source", "sync", "exports", "--dry-run"])
        .exits(1)
        .says("20");
    world
        .run(&["source", "sync", "exports"])
        .exits(1)
        .says("--accept-shrink");
    assert!(world.list(&["audit", "list"]).is_empty());
    world
        .run(&["source", "sync", "exports", "--accept-shrink"])
        .exits(0)
        .says("10 gone");
    let trail = world.list(&["audit", "list"]);
    assert_eq!(trail.len(), 1, "{trail:?}");
    let keys: Vec<&String> = trail[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["action", "actor", "at", "reason", "subject"]);
    assert_eq!(trail[0]["actor"], "grace");
    assert_eq!(trail[0]["action"], "source.accept_shrink");
    assert_eq!(trail[0]["subject"], "exports");
    assert_eq!(trail[0]["reason"], "10 tokens instead of 20");
}

#[test]
fn an_unknown_name_suggests_the_nearest_one() {
    let world = world_with_exports(Db::Sqlite, "");
    for arguments in [["source", "check", "export"], ["source", "sync", "export"]] {
        world
            .run(&arguments)
            .exits(2)
            .says("there is no source \"export\"")
            .says("did you mean exports?");
    }
}

#[test]
fn a_check_reports_the_result_or_the_obstacle() {
    let world = world_with_exports(Db::Sqlite, "owners = \"owners.csv\"");
    world.write("exports.csv", rows(2));
    world
        .run(&["source", "check", "exports"])
        .exits(1)
        .says("the source exports cannot be read")
        .says("owners.csv");
    world.write("owners.csv", "token,email\n*,ada@example.org\n");
    world
        .run(&["source", "check", "exports"])
        .exits(0)
        .says("exports: ")
        .says("owners.csv has 1 row");
    world.run(&["check"]).exits(0).says("source exports: ");
}

#[rstest]
fn tokens_get_an_expiry_by_policy_and_an_owner_by_file(#[values(Sqlite, Postgres)] db: Db) {
    let keys = "policy_ttl = \"365d\"\nowners = \"owners.csv\"";
    let mut world = world_with_exports(db, keys);
    world.write(
        "exports.csv",
        "external_id,name,issuer_email,expires_at,created_at\n\
         deploy-1,one,,never,2026-01-01\n\
         deploy-2,two,grace@example.org,never,2026-01-01\n\
         other,three,,2026-12-24,2026-01-01\n",
    );
    world.write("owners.csv", "token,email\ndeploy-*,ada@example.org\n");
    world.at("2026-11-20 08:30:00");
    world
        .run(&["source", "sync", "exports"])
        .exits(0)
        .says("3 new");
    let tokens = world.list(&["token", "list"]);
    let lines: Vec<String> = tokens
        .iter()
        .map(|token| {
            format!(
                "{} {} {} {}",
                token["external_id"], token["issuer"], token["expires_at"], token["expiry_origin"]
            )
        })
        .map(|line| line.replace('"', ""))
        .collect();
    let expected = [
        "deploy-1 ada@example.org 2027-01-01T00:00:00Z policy",
        "deploy-2 grace@example.org 2027-01-01T00:00:00Z policy",
        "other null 2026-12-24T00:00:00Z source",
    ];
    assert_eq!(lines, expected);
    world.write("owners.csv", "token,email\ndeploy-1,bob@example.org\n");
    world
        .run(&["source", "sync", "exports"])
        .exits(0)
        .says("exports: 1 changed");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn a_token_is_ended_only_if_allowed_and_confirmed() {
    let mut world = world_with_exports(Db::Sqlite, "");
    world.at("2026-11-20 08:30:00").env("USER", "grace");
    world.write("exports.csv", rows(1));
    world.import(&["elsewhere,E,ada@example.org,never"]);
    world.run(&["source", "sync", "exports"]).exits(0);
    let id = "exports/k00";
    world
        .run(&["token", "revoke", id])
        .exits(2)
        .says("--at-source");
    for arguments in [
        vec!["token", "revoke", id, "--at-source", "--yes"],
        vec!["token", "revoke", id, "--at-source", "--dry-run"],
    ] {
        world
            .run(&arguments)
            .exits(1)
            .says("lapsed may not revoke tokens of the source exports")
            .says("allow_revoke = true");
    }
    world
        .run(&["token", "revoke", "local/elsewhere", "--at-source", "--yes"])
        .exits(1)
        .says("not in the configuration");
    assert!(world.list(&["audit", "list"]).is_empty());

    let mut world = world_with_exports(Db::Sqlite, "allow_revoke = true");
    world.at("2026-11-20 08:30:00").env("USER", "grace");
    world.write("exports.csv", rows(1));
    world.run(&["source", "sync", "exports"]).exits(0);
    world
        .run(&["token", "revoke", id, "--at-source"])
        .exits(2)
        .says("--yes");
    world
        .run(&["token", "revoke", id, "--at-source", "--dry-run"])
        .exits(0)
        .says("would revoke key 0 (exports/k00) at its source and notify ada@example.org, boss@example.org");
    assert!(world.list(&["audit", "list"]).is_empty());
    let reason = ["--reason", "leaked"];
    let revoke = ["token", "revoke", id, "--at-source", "--yes"];
    world
        .run(&[&revoke[..], &reason[..]].concat())
        .exits(1)
        .says("sources of this kind cannot revoke tokens");
    let trail = world.list(&["audit", "list"]);
    let lines: Vec<String> = trail
        .iter()
        .map(|entry| {
            format!(
                "{} {} {} {}",
                entry["actor"], entry["action"], entry["subject"], entry["reason"]
            )
        })
        .map(|line| line.replace('"', ""))
        .collect();
    let expected = [
        "grace token.revoke_failed exports/k00 sources of this kind cannot revoke tokens; revoke it in the system that issued it",
        "grace token.revoke exports/k00 leaked",
    ];
    assert_eq!(lines, expected);
    assert_eq!(world.tokens(), ["k00 active"]);
    assert_eq!(world.list(&["audit", "list", "--limit", "1"]).len(), 1);
}

#[rstest]
fn an_expiry_by_policy_is_described_as_such(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_exports(db, "policy_ttl = \"90d\"");
    world.write(
        "exports.csv",
        "external_id,name,issuer_email,expires_at,created_at\n\
         k1,deploy,ada@example.org,never,2026-09-01\n",
    );
    world.at("2026-11-23 08:30:00");
    world.sweep();
    let mails = world.take_mails();
    assert_eq!(mails.len(), 2, "{mails:?}");
    for mail in &mails {
        let expected = "Token deploy must be replaced within 7 days (Mon 30 Nov 2026)";
        assert_eq!(mail.subject, expected);
        for text in [&mail.text, &mail.html] {
            let text = text.replace('\n', " ");
            assert_contains!(
                text,
                "This date comes from our policy: at exports the token has no expiry"
            );
            assert!(!text.contains("stops working"), "{text}");
        }
    }
    world
        .run(&["token", "show", "exports/k1"])
        .exits(0)
        .says("policy (yours; the token still works after it)");
    world
        .run(&["explain", "exports/k1"])
        .exits(0)
        .says("It still works after that");
    let token = world.run(&["token", "show", "exports/k1", "--format", "json"]);
    let token: serde_json::Value = serde_json::from_str(&token.stdout).unwrap();
    assert_eq!(token["expiry_origin"], "policy");
    assert!(token.get("page").is_none() && token.get("admins").is_none());
}

#[rstest]
fn the_daemon_has_metrics_of_each_source(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = world_with_exports(db, "");
    world.table("[[source]]\nname = \"away\"\nkind = \"file\"\npath = \"away.csv\"");
    world.write("exports.csv", rows(3));
    world.run(&["sweep"]).exits(1).says("away");
    let listed: Vec<String> = world
        .list(&["source", "list"])
        .iter()
        .map(|source| {
            format!(
                "{} {} {}",
                source["name"], source["state"], source["tokens"]
            )
            .replace('"', "")
        })
        .collect();
    assert_eq!(listed, ["away failing 0", "exports ok 3"]);
    let port = free_port();
    world.set("http.listen", &format!("\"127.0.0.1:{port}\""));
    let daemon = Daemon::start(&world, "daemon");
    let (_, metrics) = get(port, "/metrics");
    daemon.stop();
    for line in [
        "lapsed_source_failing{source=\"away\"} 1",
        "lapsed_source_failing{source=\"exports\"} 0",
        "lapsed_source_tokens{source=\"exports\"} 3",
        "lapsed_source_last_good_sync_timestamp_seconds{source=\"away\"} 0",
    ] {
        assert!(
            metrics.lines().any(|shown| shown == line),
            "{line}: {metrics}"
        );
    }
}

#[test]
fn a_discarded_plan_is_recorded() {
    let mut world = World::new(Db::Sqlite);
    world.set("notify.max_per_sweep", "1").env("USER", "grace");
    world.at("2026-11-24 00:00:00");
    world.import(&[
        "a,A,ada@example.org,2026-11-30",
        "b,B,bob@example.org,2026-11-30",
    ]);
    world.run(&["sweep"]).exits(1);
    world.run(&["release", "--discard"]).exits(0);
    let trail = world.list(&["audit", "list"]);
    assert_eq!(trail.len(), 1, "{trail:?}");
    assert_eq!(
        (&trail[0]["actor"], &trail[0]["action"]),
        (&"grace".into(), &"plan.discard".into())
    );
}

#[rstest]
fn a_request_to_wait_is_respected_and_is_no_failure(#[values(Sqlite, Postgres)] db: Db) {
    let busy = Stub::start(|_| Answer::status(429).with("retry-after", "3600"));
    let mut world = World::new(db);
    world.table(&format!(
        "[[source]]\nname = \"clusters\"\nkind = \"rancher\"\nurl = \"{}\"\ntoken = \"token-own:x\"",
        busy.url
    ));
    world.at("2026-11-20 08:30:00");
    let sync = ["source", "sync", "clusters"];
    world
        .run(&[&sync[..], &["--dry-run"]].concat())
        .exits(0)
        .says("clusters asked us to wait until 2026-11-20 09:30Z");
    world.run(&["migrate"]).exits(0);
    assert_eq!(
        world.list(&["source", "list"])[0]["state"],
        "never",
        "no trace"
    );
    busy.take_request_lines();

    world.sweep().says("sources   1 deferred");
    assert!(!busy.take_request_lines().is_empty());
    for arguments in [vec!["sweep"], vec!["sweep", "--dry-run"], sync.to_vec()] {
        world.run(&arguments).exits(0);
    }
    world
        .run(&sync)
        .exits(0)
        .says("it was not contacted, and nothing was changed");
    world
        .run(&["source", "list"])
        .exits(0)
        .says("asked us to wait until 2026-11-20 09:30Z");
    let source = &world.list(&["source", "list"])[0];
    let until = source["deferred_until"].as_str().unwrap();
    assert!(until.starts_with("2026-11-20T09:30:"), "{until}");
    world
        .run(&["source", "check", "clusters"])
        .exits(75)
        .says("clusters asked us to wait until 2026-11-20 09:30Z (in 60 minutes), so it was not contacted");
    world
        .run(&["check"])
        .exits(0)
        .says("source clusters: it asked us to wait until 2026-11-20 09:30Z");
    assert_eq!(
        busy.take_request_lines(),
        Vec::<String>::new(),
        "no request"
    );

    world.at("2026-11-20 09:31:00");
    busy.take_request_lines();
    world.run(&sync).exits(0);
    assert!(!busy.take_request_lines().is_empty(), "its time is over");
}

#[rstest]
fn an_export_can_be_imported_and_is_harmless_in_a_spreadsheet(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db);
    world.at("2026-11-24 00:00:00").write(
        "tokens.csv",
        "external_id,name,issuer_email,expires_at,account\n\
         1,\"=cmd|'/c calc'!A1\",ada@example.org,2027-01-01T10:00:00Z,+acme\n\
         -2,'quoted,,never,@x\n\
         3,plain,ada@example.org,,\n",
    );
    world.run(&["import", "tokens.csv"]).exits(0);
    let export = world.run(&["token", "list", "--format", "csv"]).stdout;
    assert_contains!(export, "'=cmd|");
    for cell in export.lines().flat_map(|line| line.split(',')) {
        let first = cell.trim_start_matches('"').chars().next();
        assert!(!matches!(first, Some('=' | '+' | '-' | '@')), "{cell}");
    }
    for format in ["csv", "json", "jsonl"] {
        let list = ["token", "list", "--format", format];
        let export = world.run(&list).stdout;
        let mut copy = World::new(Sqlite);
        copy.at("2026-11-24 00:00:00").write("export", &export);
        copy.run(&["import", "export"]).exits(0);
        assert_eq!(copy.run(&list).stdout, export);
    }
}

#[test]
fn an_import_names_every_cell_that_it_cannot_read() {
    let mut world = World::new(Sqlite);
    world.at("2026-11-24 00:00:00").write(
        "tokens.csv",
        "KeyID;Team;Owner;Valid until;used\n\
         a;x;ada@example.org;04.12.2026;N/A\n\
         b;x;svc-deploy;soon;2026-11-01\n\
         ;x;no id;;\n",
    );
    let import = [
        "import",
        "tokens.csv",
        "--map",
        "external_id=KeyID",
        "--map",
        "issuer_email=owner",
        "--map",
        "expires_at=Valid until",
        "--map",
        "last_used_at=used",
        "--rejects",
        "refused.csv",
    ];
    let imported = world.run(&[&import[..], &["--date-format", "%d.%m.%Y"]].concat());
    imported
        .exits(1)
        .says("2 new, 0 changed, 0 unchanged, 1 refused");
    for (line, column) in [
        (3, "expires_at \"soon\" is not a date"),
        (3, "issuer_email \"svc-deploy\""),
    ] {
        assert_contains!(
            imported.stderr,
            format!("unreadable: tokens.csv:{line}: {column}")
        );
    }
    assert_eq!(imported.stderr.matches("unreadable:").count(), 2);
    assert_eq!(
        std::fs::read_to_string(world.path("refused.csv")).unwrap(),
        "KeyID;Team;Owner;Valid until;used\n;x;no id;;\n"
    );
    let expiries: Vec<_> = world
        .list(&["token", "list"])
        .iter()
        .map(|token| token["expires_at"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(expiries, [Some("2026-12-04T00:00:00Z".to_owned()), None]);
}
