//! Sources that are no longer configured, renamed or removed, and tokens that are removed.

use rstest::rstest;

use crate::mailserver::MailServer;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const HEADER: &str = "external_id,name,issuer_email,expires_at\n";

fn source(name: &str) -> String {
    format!("[[source]]\nname = {name:?}\nkind = \"file\"\npath = \"tokens.csv\"\n")
}

/// A world in which the source `exports` was read the day before the first warning of `soon`.
fn watched_world(db: Db) -> World {
    let mut world = World::new(db);
    world.table(&source("exports"));
    let rows = "soon,Soon,ada@example.org,2026-11-28T09:00:00Z\n\
                late,Late,ada@example.org,2026-12-06T09:00:00Z\n";
    world.write("tokens.csv", format!("{HEADER}{rows}"));
    world.at("2026-11-20 09:00:00").sweep();
    assert_eq!(world.mails(), [""; 0]);
    world
}

fn findings(world: &World) -> Vec<String> {
    let kind = ["finding", "list", "--kind", "unconfigured"];
    let findings = world.list(&kind);
    let text =
        |finding: &serde_json::Value| format!("{} {}", finding["token_name"], finding["severity"]);
    findings.iter().map(text).collect()
}

fn audit(world: &World) -> Vec<String> {
    let text =
        |row: &serde_json::Value| format!("{} {} {}", row["action"], row["subject"], row["reason"]);
    world.list(&["audit", "list"]).iter().map(text).collect()
}

fn id(world: &World, token: &str) -> String {
    let ran = world.run(&["token", "show", token, "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    shown["id"].as_str().unwrap().to_owned()
}

#[rstest]
fn a_source_that_left_the_configuration_has_seven_days_of_grace(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = watched_world(db);
    world.replace_tables("");
    world.run(&["check"]).says("source exports: no [[source]]");
    world.at("2026-11-21 09:00:05").sweep();
    let warned = "ada@example.org: Token Soon expires in 7 days";
    let mails = world.mails();
    assert_contains!(mails[0], warned);
    assert_contains!(mails[1], "boss@example.org: ");
    assert_eq!(findings(&world), ["\"exports\" \"medium\""]);
    let listed = &world.list(&["source", "list"])[0];
    assert_eq!(listed["state"], "unconfigured");
    assert_contains!(listed["error"].as_str().unwrap(), "2026-11-28");
    world.run(&["check"]).says("lapsed source forget exports");
    world.at("2026-11-22 09:00:05").sweep();
    assert!(world.mails().is_empty(), "said once");

    world.at("2026-11-27 09:00:10").sweep();
    assert_eq!(world.mails().len(), 2, "the last day of both");
    assert_eq!(findings(&world), ["\"exports\" \"high\""]);

    world.at("2026-11-29 09:00:05").sweep();
    assert!(world.mails().is_empty(), "the grace is over");
    assert_eq!(world.tokens(), ["late active", "soon expired"]);
    world
        .run(&["explain", "exports/late"])
        .exits(0)
        .says("no more warnings are planned");
    assert_eq!(
        world.list(&["forecast"])[0]["recipients"],
        serde_json::json!([])
    );

    world.table(&source("exports"));
    world.at("2026-11-30 09:00:05").sweep();
    let mails = world.mails();
    assert_contains!(mails[0], "ada@example.org: Token Late expires in 6 days");
    assert!(findings(&world).is_empty());
    assert_eq!(world.list(&["source", "list"])[0]["state"], "ok");
}

#[rstest]
fn names_that_import_fills_never_are_ghosts(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = watched_world(db);
    let import = ["import", "tokens.csv", "--source", "exports"];
    world.run(&import).exits(0);
    world.run(&["import", "tokens.csv"]).exits(0);
    world.replace_tables("");
    world.at("2026-11-20 10:00:00").sweep();
    assert!(findings(&world).is_empty() && world.mails().is_empty());
}

#[rstest]
fn a_renamed_source_keeps_its_tokens_and_its_ledger(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = watched_world(db);
    world.at("2026-11-21 09:00:05").sweep();
    assert_eq!(world.mails().len(), 2);
    let (notices, before) = (world.notices(), id(&world, "exports/soon"));
    let rename = ["source", "rename", "exports", "gitlab", "--reason", "moved"];
    world.run(&rename).exits(0).says("name = \"gitlab\"");
    for command in [&["sweep"][..], &["source", "sync", "exports"]] {
        world.run(command).exits(1).says("renamed to gitlab");
    }
    world
        .run(&["import", "tokens.csv", "--source", "exports"])
        .exits(1)
        .says("renamed to gitlab");

    world.replace_tables(&source("gitlab"));
    world
        .run(&["source", "sync", "exports"])
        .exits(1)
        .says("renamed to gitlab");
    world.at("2026-11-21 09:01:05").sweep();
    assert_eq!(world.mails(), [""; 0], "no one is warned again");
    assert_eq!(world.notices(), notices);
    assert_eq!(world.tokens(), ["late active", "soon active"]);
    assert_eq!(id(&world, "gitlab/soon"), before);
    assert_eq!(world.list(&["source", "list"])[0]["state"], "renamed");

    world
        .run(&["source", "rename", "gitlab", "exports"])
        .exits(0);
    world.run(&rename).exits(0);
    world
        .run(&["source", "forget", "exports"])
        .exits(0)
        .says("free");
    world
        .run(&["import", "tokens.csv", "--source", "exports"])
        .exits(0)
        .says("2 new");
    assert_ne!(id(&world, "exports/soon"), before, "that id is taken");
    assert_eq!(id(&world, "gitlab/soon"), before);
    world
        .run(&["import", "tokens.csv", "--source", "exports"])
        .exits(0)
        .says("2 unchanged");
    world
        .run(&rename)
        .exits(1)
        .says("has a source gitlab already");
    let audit = audit(&world);
    for entry in [
        "\"source.forget\" \"exports\" \"0 tokens\"",
        "\"source.rename\" \"exports\" \"to gitlab: moved\"",
    ] {
        assert!(audit.iter().any(|found| found == entry), "{audit:?}");
    }
}

#[rstest]
fn a_source_is_forgotten_once_it_is_not_configured(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = watched_world(db);
    // The notices wait for the digest.
    world.set("notify.admin_digest", "\"10:00\"");
    world.at("2026-11-21 09:00:05").sweep();
    world
        .run(&["source", "forget", "exports"])
        .exits(1)
        .says("is in the configuration");
    for command in [
        &["source", "forget", "local"][..],
        &["source", "rename", "local", "other"],
        &["source", "rename", "exports", "local"],
    ] {
        world.run(command).exits(1).says("built-in source");
    }
    world
        .run(&["source", "forget", "export"])
        .says("did you mean exports?");
    world.replace_tables("").at("2026-11-21 09:01:05").sweep();
    world.take_mails();
    let sent = world.states()["sent"];
    world
        .run(&["source", "forget", "exports", "--reason", "shut down"])
        .exits(0)
        .says("2 tokens");
    assert!(world.tokens().is_empty() && world.list(&["source", "list"]).is_empty());
    assert_eq!(
        world.states()["sent"],
        sent,
        "the ledger keeps what was sent"
    );
    assert_contains!(world.notices().join("\n"), "exports/soon");
    world.at("2026-11-27 09:00:10").sweep();
    assert!(world.mails().is_empty() && findings(&world).is_empty());
    assert_eq!(
        audit(&world)[0],
        "\"source.forget\" \"exports\" \"2 tokens: shut down\""
    );

    // What was sent is not sent again.
    world.table(&source("exports"));
    world.at("2026-11-21 09:02:05").sweep();
    assert!(world.mails().is_empty());
    assert_eq!(world.tokens().len(), 2);
}

#[rstest]
fn only_a_token_of_no_configured_source_is_removed(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = watched_world(db);
    world
        .run(&["token", "remove", "exports/soon"])
        .exits(1)
        .says("is configured");
    world.run(&["import", "tokens.csv"]).exits(0);
    world.set("notify.admin_digest", "\"10:00\"");
    world.run(&["token", "remove", "Soon"]).exits(2);
    let id = id(&world, "local/soon");
    world
        .run(&["token", "remove", &id, "--reason", "a typing error"])
        .exits(0)
        .says("the ledger keeps what was sent");
    world.run(&["token", "show", &id]).exits(1);
    world.at("2026-11-21 09:00:05").sweep();
    assert_eq!(world.mails().len(), 2, "only the one of exports");
    assert_eq!(
        audit(&world)[0],
        "\"token.remove\" \"local/soon\" \"a typing error\""
    );
}

#[rstest]
fn no_notice_about_a_silent_source_is_owed_again(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--reject-rcpt . --rcpt-refusal 554_5.7.1_denied");
    let mut world = watched_world(db);
    world.write(
        "tokens.csv",
        format!("{HEADER}t,T,ada@example.org,2026-12-20T09:00:00Z\n"),
    );
    world
        .use_mail_server(&server)
        .set("delivery.give_up", "\"1h\"");
    world.set("notify.steps", "[\"30d\"]");
    world.at("2026-11-21 09:00:00").run(&["sweep"]).exits(75);
    world.replace_tables("");
    world.at("2026-11-21 12:00:00").run(&["sweep"]).exits(1);
    server.stop();
    server.start_again("");
    let retry = ["notice", "retry", "--state", "failed"];
    let id = id(&world, "exports/t");
    let failed = || {
        world
            .list(&["notice", "list", "--state", "failed", "--token", &id])
            .len()
    };
    assert_eq!(failed(), 2);
    world.at("2026-11-30 09:00:00").sweep();
    world.run(&retry).exits(0).says("2 notices skipped");
    assert_eq!(
        world.list(&["notice", "list", "--state", "failed"]).len(),
        2
    );
}

#[test]
fn forget_rename_and_remove_need_no_secret_of_another_system() {
    let mut world = watched_world(Sqlite);
    world.replace_tables(
        "[[source]]\nname = \"rancher\"\nkind = \"rancher\"\nurl = \"https://rancher.example.org\"\n\
         token = { env = \"UNSET\" }\n",
    );
    world.run(&["sweep"]).exits(78);
    world.run(&["token", "remove", "exports/late"]).exits(0);
    world
        .run(&["source", "rename", "exports", "gitlab"])
        .exits(0);
    world.run(&["source", "forget", "gitlab"]).exits(0);
    assert_eq!(world.tokens(), [""; 0]);
}

#[test]
fn a_renamed_source_whose_configuration_is_corrected_is_well() {
    let mut world = watched_world(Sqlite);
    world
        .run(&["source", "rename", "exports", "gitlab"])
        .exits(0);
    world
        .at("2026-11-20 09:01:00")
        .run(&["sweep"])
        .exits(1)
        .says("renamed to gitlab");
    world.replace_tables(&source("gitlab"));
    world.at("2026-11-20 09:02:00").sweep();
    let checked = world.run(&["check"]);
    assert!(!checked.stdout.contains("renamed"), "{}", checked.stdout);
}
