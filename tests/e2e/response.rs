//! The response to lost access: if the policy says so, lapsed revokes the tokens of people who left, after a warning
//! and only while all conditions hold.

use std::fmt::Write as _;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rstest::rstest;
use serde_json::{Value, json};

use crate::gcore::{Gcore, V2, token, user, world as world_of};
use crate::stub::{Answer, Stub};
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

const LEFT: &str = "2026-11-20 10:00:00";

/// An account with these tokens, as (id, user), whose users have access.
fn gcore(tokens: &[(i64, i64)]) -> Gcore {
    let gcore = Gcore::new();
    for (id, issuer) in tokens {
        gcore.token(token(*id, *issuer, json!({})));
        gcore.user(user(*issuer, 2, json!({})));
    }
    gcore
}

/// The policy revokes tokens; everyone had access before [`LEFT`].
fn world(db: Db, stub: &Stub) -> World {
    let mut world = world_of(db, stub);
    world.set("policy.sso_revoked", "\"revoke\"");
    // Otherwise there are extra mails on Mondays.
    world.set("notify.summary", "\"off\"");
    world.table("[[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"");
    write_people(&world, &[]);
    world.at("2026-11-20 00:00:00").sweep();
    world.take_mails();
    world
}

/// Writes the people file; only these are disabled.
fn write_people(world: &World, lost: &[i64]) {
    let rows = (1..=60).map(|id| {
        let status = if lost.contains(&id) {
            "disabled"
        } else {
            "active"
        };
        format!("user{id}@example.org,{status}\n")
    });
    let text = format!("email,status\n{}", rows.collect::<String>());
    world.write("people.csv", text);
}

/// These people leave at [`LEFT`]; sweeps then, and two days later, when the warning is due.
fn leave(world: &mut World, lost: &[i64]) {
    write_people(world, lost);
    world.at(LEFT).sweep();
    world.at("2026-11-22 10:00:00").sweep();
    world.take_mails();
}

/// The revocation requests since the last call.
fn revocations(stub: &Stub) -> Vec<String> {
    let lines = stub.take_request_lines().into_iter();
    lines.filter(|line| line.starts_with("DELETE ")).collect()
}

fn finding(world: &World) -> Value {
    let findings = world.list(&["finding", "list", "--kind", "sso_revoked", "--all"]);
    assert_eq!(findings.len(), 1);
    findings[0].clone()
}

fn status(world: &World, id: &str) -> String {
    let tokens = world.list(&["token", "list", "--source", "gcore"]);
    let token = tokens
        .iter()
        .find(|token| token["external_id"] == id)
        .unwrap();
    token["status"].as_str().unwrap().to_owned()
}

fn actions(world: &World) -> Vec<String> {
    let entries = world.list(&["audit", "list"]);
    let line = |entry: &Value| {
        format!(
            "{} {} {}",
            entry["actor"], entry["action"], entry["subject"]
        )
    };
    entries
        .iter()
        .rev()
        .map(|entry| line(entry).replace('"', ""))
        .collect()
}

#[test]
fn without_the_policy_tokens_are_only_flagged() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world.set("policy.sso_revoked", "\"flag\"");
    write_people(&world, &[9]);
    world.at(LEFT).sweep().says("1 opened");
    let mails = world.take_mails();
    assert!(!mails.is_empty());
    for mail in mails {
        assert_contains!(mail.subject, "still works");
        assert!(!mail.text.contains("ends"), "{}", mail.text);
    }
    assert_eq!(finding(&world)["revoke_at"], Value::Null);
    world.at("2026-11-22 10:00:00").sweep();
    world.at("2026-12-20 10:00:00").sweep();
    assert!(world.take_mails().is_empty());
    assert_eq!(status(&world, "42"), "active");
    assert_eq!(revocations(&stub), Vec::<String>::new());
    let output = world.run(&["sweep", "--dry-run"]).stdout;
    assert!(!output.contains("ends "), "{output}");
}

#[rstest]
fn a_leavers_token_is_revoked_after_three_days_and_a_warning(#[values(Sqlite, Postgres)] db: Db) {
    let gcore = gcore(&[(42, 9), (43, 8)]);
    let stub = gcore.start();
    let mut world = world(db, &stub);
    write_people(&world, &[9]);
    world.at(LEFT).sweep().says("1 opened");
    let found = finding(&world);
    let revoke_at = found["revoke_at"].as_str().unwrap();
    assert!(revoke_at.starts_with("2026-11-23T10:00:0"), "{revoke_at}");
    let stop = format!(
        "lapsed finding acknowledge {} --until",
        found["id"].as_str().unwrap()
    );
    let assert_warned = |world: &World, subject: &str| {
        let mails = world.take_mails();
        let mut to: Vec<_> = mails.iter().map(|mail| mail.to.clone()).collect();
        to.sort();
        assert_eq!(to, ["boss@example.org", "user1@example.org"]);
        for mail in &mails {
            assert_eq!(mail.subject, subject);
            let (text, html) = (mail.text.replace('\n', " "), &mail.html);
            assert_contains!(text, "Mon 23 Nov 2026 at 10:00");
            assert!(text.contains(&stop) && html.contains(&stop), "{text}");
        }
    };
    assert_warned(
        &world,
        "Token token 42 will be revoked in 3 days: its issuer lost access",
    );

    world.at("2026-11-22 09:55:00").sweep();
    assert!(world.take_mails().is_empty());
    world.at("2026-11-22 09:59:30").sweep();
    assert_warned(
        &world,
        "Token token 42 will be revoked in 24 hours: its issuer lost access",
    );
    world.sweep();
    world
        .at("2026-11-23 09:59:00")
        .sweep()
        .says("nothing was due");
    assert!(world.take_mails().is_empty(), "warned once");
    assert_eq!(
        finding(&world)["revoke_at"],
        revoke_at,
        "the date did not move"
    );
    assert!(revocations(&stub).is_empty() && gcore.has(42));

    world
        .at("2026-11-23 10:00:30")
        .sweep()
        .says("1 ended: their issuers lost access");
    assert_eq!(revocations(&stub), [format!("DELETE {V2}/42")]);
    assert_eq!(
        (status(&world, "42"), status(&world, "43")),
        ("revoked".into(), "active".into())
    );
    assert_eq!(finding(&world)["state"], "resolved");
    assert_eq!(finding(&world)["revoke_at"], Value::Null);
    let by = "lapsed (policy)";
    let trail = [
        format!("{by} token.revoke gcore/42"),
        format!("{by} token.revoked gcore/42"),
    ];
    assert_eq!(actions(&world), trail);
    let mails = world.take_mails();
    assert_eq!(
        mails.len(),
        2,
        "only the administrators, not the person who lost access"
    );
    for mail in &mails {
        let expected = "Token token 42 was revoked on Mon 23 Nov 2026";
        assert_eq!(mail.subject, expected);
        let text = mail.text.replace('\n', " ");
        assert_contains!(text, "by lapsed (policy)", "Reason: hr says", "disabled");
    }
    world.at("2026-11-24 10:00:00").sweep();
    assert_eq!(actions(&world), trail);
}

#[test]
fn tokens_of_one_sweep_share_a_mail_and_a_short_countdown_warns_at_once() {
    let gcore = gcore(&[(42, 9), (43, 9), (44, 8)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world.set("policy.revoke_after", "\"6h\"");
    write_people(&world, &[9, 8]);
    world.at(LEFT).sweep().says("3 opened");
    let mails = world.take_mails();
    assert_eq!(mails.len(), 2, "one to each");
    for mail in &mails {
        let expected = "3 tokens of people without access, the first will be revoked in 6 hours";
        assert_eq!(mail.subject, expected);
        assert_eq!(mail.text.matches("token 42").count(), 1, "{}", mail.text);
        for finding in world.list(&["finding", "list", "--kind", "sso_revoked"]) {
            assert_contains!(mail.text, finding["id"].as_str().unwrap());
        }
    }
    world.at("2026-11-20 15:59:00").sweep();
    assert!(world.take_mails().is_empty() && revocations(&stub).is_empty());
    world.at("2026-11-20 16:00:30").sweep().says("3 ended");
    assert_eq!(revocations(&stub).len(), 3);
}

#[test]
fn a_person_who_returns_in_time_keeps_the_token_and_the_countdown_restarts() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    leave(&mut world, &[9]);
    write_people(&world, &[]);
    // The directory shows it only in the sweep in which the token is due.
    world.at("2026-11-23 10:00:30").sweep().says("1 resolved");
    world.at("2026-11-23 11:00:00").sweep();
    write_people(&world, &[9]);
    world.at("2026-11-23 12:00:00").sweep().says("1 opened");
    world.at("2026-11-25 12:00:00").sweep();
    world.at("2026-11-26 11:59:00").sweep();
    assert_eq!(revocations(&stub), Vec::<String>::new());
    world.at("2026-11-26 12:00:30").sweep().says("1 ended");
}

#[test]
fn an_acknowledged_finding_revokes_nothing_and_the_countdown_restarts_after() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    leave(&mut world, &[9]);
    let id = finding(&world)["id"].as_str().unwrap().to_owned();
    let accept = [
        "finding",
        "acknowledge",
        &id,
        "--until",
        "2026-12-01",
        "--reason",
        "leave",
    ];
    world.run(&accept).exits(0);
    assert_eq!(finding(&world)["revoke_at"], Value::Null);
    for day in ["2026-11-23 10:00:30", "2026-11-30 23:59:00"] {
        world.at(day).sweep();
        let output = world.run(&["sweep", "--dry-run"]).stdout;
        assert!(!output.contains("gcore/42"), "{output}");
    }
    world.at("2026-12-01 00:00:30").sweep();
    assert!(world.take_mails().is_empty());
    assert_eq!(finding(&world)["revoke_at"], "2026-12-04T00:00:00Z");
    world.at("2026-12-03 00:00:00").sweep();
    let mails = world.take_mails();
    assert_eq!(mails.len(), 2, "warned again");
    assert_eq!(revocations(&stub), Vec::<String>::new());
    world.at("2026-12-04 00:00:30").sweep().says("1 ended");
}

#[test]
fn an_unreliable_directory_revokes_no_token() {
    let issuers: Vec<(i64, i64)> = (20..30).map(|id| (id, id)).collect();
    let gcore = gcore(&[&[(42, 9)], issuers.as_slice()].concat());
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    leave(&mut world, &[9]);

    // Stale: only the source is synced for a week.
    let only = ["sweep", "--source", "gcore"];
    world
        .at("2026-11-29 10:00:00")
        .run(&only)
        .exits(0)
        .says("1 to be ended for that, waiting");
    let output = world
        .run(&["sweep", "--dry-run", "--source", "gcore"])
        .stdout;
    assert_contains!(
        output,
        "waits: the last good sync of the directory hr is too old"
    );
    // Failing.
    world.write("people.csv", "email,status\nnonsense\n");
    world
        .run(&["sweep"])
        .exits(1)
        .says("1 to be ended for that, waiting");
    world
        .run(&["sweep", "--dry-run"])
        .says("the directory hr cannot be read");
    // Held: too many people lose access at once.
    write_people(&world, &[9, 20, 21, 22, 23, 24, 25, 26, 27]);
    world.run(&["sweep"]).exits(1).says("hr is held");
    world
        .run(&["sweep", "--dry-run"])
        .says("waits: the directory hr is held");
    assert_eq!(revocations(&stub), Vec::<String>::new());
    assert_eq!(status(&world, "42"), "active");
    // Absent from the file.
    let mut without_nine = "email,status\n".to_owned();
    for id in (1..=60).filter(|id| *id != 9) {
        let _ = writeln!(without_nine, "user{id}@example.org,active");
    }
    world.write("people.csv", without_nine);
    world.sweep().says("1 to be ended for that, waiting");
    world
        .run(&["sweep", "--dry-run"])
        .says("no directory reports at the moment");
    assert_eq!(revocations(&stub), Vec::<String>::new());

    write_people(&world, &[9]);
    world.sweep().says("1 ended");
}

#[test]
fn the_daily_limit_holds_and_the_oldest_finding_goes_first() {
    let gcore = gcore(&[(42, 9), (43, 9), (44, 8)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world.set("policy.max_revocations_per_day", "1");
    write_people(&world, &[9]);
    world.at(LEFT).sweep().says("2 opened");
    write_people(&world, &[9, 8]);
    world.at("2026-11-21 10:00:00").sweep().says("1 opened");
    for day in ["2026-11-22 10:00:00", "2026-11-23 09:59:00"] {
        world.at(day).sweep();
    }
    world.take_mails();

    world
        .at("2026-11-23 10:01:00")
        .run(&["sweep"])
        .exits(1)
        .says("max_revocations_per_day = 1");
    assert_eq!(revocations(&stub).len(), 1);
    let alerts = |world: &World| -> usize {
        let mails = world.take_mails();
        let names_limit = |text: &str| {
            text.replace('\n', " ")
                .contains("the daily limit is reached")
        };
        mails
            .iter()
            .filter(|mail| names_limit(&mail.subject) || names_limit(&mail.text))
            .count()
    };
    assert_eq!(alerts(&world), 1, "the administrator is alerted");
    world.at("2026-11-24 09:59:00").run(&["sweep"]).exits(1);
    assert!(revocations(&stub).is_empty());
    world.at("2026-11-24 10:02:00").run(&["sweep"]).exits(1);
    assert_eq!(revocations(&stub).len(), 1);
    assert_eq!(alerts(&world), 0, "alerted once");
    assert!(
        !gcore.has(42) && !gcore.has(43) && gcore.has(44),
        "the oldest first"
    );
    world.at("2026-11-25 10:03:00").sweep();
    assert!(!gcore.has(44));
}

#[test]
fn a_dry_run_lists_due_revocations_and_writes_nothing() {
    let gcore = gcore(&[(42, 9), (43, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world.set("policy.max_revocations_per_day", "1");
    leave(&mut world, &[9]);
    stub.take_request_lines();
    world.at("2026-11-23 10:00:30");
    let before = (world.list(&["finding", "list"]), world.notices());
    let ran = world.run(&["sweep", "--dry-run"]);
    // As the sweep does at the limit.
    ran.exits(1)
        .says("1 would be made at their source")
        .says("hr says");
    ran.says("waits: [policy] max_revocations_per_day = 1 is reached");
    assert_eq!(revocations(&stub), Vec::<String>::new());
    assert_eq!(actions(&world), Vec::<String>::new());
    assert_eq!((world.list(&["finding", "list"]), world.notices()), before);
    assert_eq!(
        (status(&world, "42"), status(&world, "43")),
        ("active".into(), "active".into())
    );
}

#[test]
fn a_source_without_allow_revoke_keeps_its_tokens() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = World::new(Db::Sqlite);
    world.set("policy.sso_revoked", "\"revoke\"");
    // Otherwise there are extra mails on Mondays.
    world.set("notify.summary", "\"off\"");
    world.table(&format!(
        "[[source]]\nname = \"gcore\"\nkind = \"gcore\"\nurl = \"{}\"\ntoken = {{ file = \"token\" }}\n\
         [[directory]]\nname = \"hr\"\nkind = \"file\"\npath = \"people.csv\"",
        stub.url
    ));
    world.write("token", crate::gcore::OWN);
    write_people(&world, &[]);
    world.at("2026-11-20 00:00:00").sweep();
    leave(&mut world, &[9]);
    assert_eq!(finding(&world)["revoke_at"], Value::Null);
    world.at("2026-11-24 10:00:00").sweep();
    assert_eq!(revocations(&stub), Vec::<String>::new());
    world
        .run(&["sweep", "--dry-run"])
        .says("not revoked: lapsed may not revoke tokens of the source gcore");
    world
        .run(&["check"])
        .says("no [[source]] has allow_revoke = true");
}

#[test]
fn a_policy_that_is_set_later_revokes_nothing_without_a_warning() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world.set("policy.sso_revoked", "\"flag\"");
    leave(&mut world, &[9]);
    world.set("policy.sso_revoked", "\"revoke\"");
    world.at("2026-12-10 10:00:00").sweep();
    let mails = world.mails();
    assert_eq!(mails.len(), 2);
    assert_contains!(mails[0], "will be revoked in 24 hours");
    world.at("2026-12-11 09:59:00").sweep();
    assert_eq!(revocations(&stub), Vec::<String>::new());

    // Set back to flag, nothing is scheduled any more; the warning still counts when it is set again.
    world.set("policy.sso_revoked", "\"flag\"");
    world.at("2026-12-11 10:00:30").sweep();
    assert_eq!(finding(&world)["revoke_at"], Value::Null);
    assert_eq!(revocations(&stub), Vec::<String>::new());
    world
        .set("policy.sso_revoked", "\"revoke\"")
        .sweep()
        .says("1 ended");
}

#[test]
fn without_a_sent_warning_no_token_is_revoked() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    world
        .set("mail.transport", "\"smtp\"")
        .set("smtp.url", "\"smtp://127.0.0.1:1?tls=none\"");
    write_people(&world, &[9]);
    for day in [
        LEFT,
        "2026-11-22 10:00:00",
        "2026-11-23 10:00:30",
        "2026-11-24 10:00:00",
    ] {
        world.at(day).run(&["sweep"]).exits(75);
    }
    assert_eq!(revocations(&stub), Vec::<String>::new());
    world.set("mail.transport", "\"file\"");
    world.at("2026-11-24 12:00:00").sweep();
    // The notices of the finding and those of the warning, which now have the same text.
    let mails = world.mails();
    assert_eq!(mails.len(), 4);
    assert!(
        mails
            .iter()
            .all(|mail| mail.contains("will be revoked in 24 hours")),
        "{mails:?}"
    );
    world.at("2026-11-25 11:59:00").sweep();
    assert_eq!(revocations(&stub), Vec::<String>::new());
    world.at("2026-11-25 12:01:00").sweep().says("1 ended");
}

#[test]
fn a_refused_revocation_is_tried_again_in_an_hour() {
    let gcore = gcore(&[(42, 9)]);
    let stub = gcore.start();
    let mut world = world(Db::Sqlite, &stub);
    leave(&mut world, &[9]);
    gcore.replace(&format!("{V2}/42"), || Answer::status(403));
    stub.take_request_lines();
    world
        .at("2026-11-23 10:00:30")
        .run(&["sweep"])
        .exits(1)
        .says("could not be revoked");
    assert_eq!(revocations(&stub).len(), 1);
    world
        .at("2026-11-23 10:59:00")
        .sweep()
        .says("1 to be ended for that, waiting");
    assert!(revocations(&stub).is_empty(), "deferred");
    world.at("2026-11-23 11:01:00").run(&["sweep"]).exits(1);
    assert_eq!(revocations(&stub).len(), 1);
    assert_eq!(status(&world, "42"), "active");
    gcore.restore();
    world.at("2026-11-23 12:02:00").sweep().says("1 ended");
}

#[rstest]
fn a_revocation_interrupted_by_a_kill_is_recorded_later(#[values(Sqlite, Postgres)] db: Db) {
    let gcore = gcore(&[(42, 9)]);
    let (victim, pid) = std::sync::mpsc::channel::<u32>();
    let (pid, inner) = (Mutex::new(pid), gcore.clone());
    let is_killing = Arc::new(AtomicBool::new(true));
    let stub = Stub::start(move |asked| {
        let answer = inner.answer(asked);
        let is_revocation = asked.line() == format!("DELETE {V2}/42");
        if is_revocation && is_killing.swap(false, Ordering::Relaxed) {
            let pid = pid.lock().unwrap().recv().unwrap().to_string();
            let killed = std::process::Command::new("kill")
                .args(["-9", &pid])
                .status();
            assert!(killed.unwrap().success());
        }
        answer
    });
    let mut world = world(db, &stub);
    leave(&mut world, &[9]);
    let mut child = world.at("2026-11-23 10:00:30").start("killed", &["sweep"]);
    victim.send(child.id()).unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "killed");
    assert_eq!(status(&world, "42"), "active");
    assert!(!gcore.has(42));

    // The next listing does not have it any more, so it was revoked.
    world.at("2026-11-23 10:01:30").sweep().says("1 ended");
    assert_eq!(status(&world, "42"), "revoked");
    assert!(revocations(&stub).len() == 1, "not requested twice");
    let mails = world.take_mails();
    assert_eq!(mails.len(), 2, "all recipients are notified");
    let by = "lapsed (policy)";
    assert_eq!(
        actions(&world),
        [
            format!("{by} token.revoke gcore/42"),
            format!("{by} token.revoked gcore/42"),
        ]
    );
    world.at("2026-11-23 10:02:30").sweep();
    assert!(world.take_mails().is_empty());
}
