//! Who is to blame for a refusal: an address, the server, or the size of a mail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::TcpListener;

use rstest::rstest;
use serde_json::json;

use crate::daemon::Daemon;
use crate::mailserver::MailServer;
use crate::waiting::wait_until;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

/// Each issuer is owed a warning seven days before 2026-12-01, the administrator one mail about all.
fn world_of(db: Db, server: &MailServer, issuers: &[String]) -> World {
    let mut world = World::new(db);
    world.use_mail_server(server).at("2026-11-24 00:00:00");
    let rows: Vec<String> = issuers
        .iter()
        .enumerate()
        .map(|(n, issuer)| format!("{n},t{n},{issuer},2026-12-01"))
        .collect();
    world.import(&rows);
    world
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}@example.org")).collect()
}

fn states(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs
        .iter()
        .map(|(state, count)| ((*state).to_owned(), *count))
        .collect()
}

#[rstest]
#[case::relay_denied("--reject-rcpt . --rcpt-refusal 554_5.7.1_Relay_access_denied")]
#[case::not_accepted("--reject-rcpt . --rcpt-refusal 550_5.4.1_no")]
#[case::no_enhanced_code("--reject-rcpt . --rcpt-refusal 550_no")]
#[case::quota("--final-refusal 550_5.4.5_daily_limit_exceeded")]
#[case::send_as("--final-refusal 554_5.2.252_SendAsDenied")]
#[case::size("--final-refusal 552_5.3.4_too_big")]
#[case::unknown_to_all("--reject-rcpt .")]
fn a_refusal_that_meets_everyone_only_delays(
    #[case] refusal: &str,
    #[values(1, 12)] issuers: usize,
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut server = MailServer::start(refusal);
    let mut world = world_of(db, &server, &users(issuers));
    // The administrator's mail about many tokens is split if it is too large.
    world.run(&["sweep"]).exits(75).says("deferred");
    let owed = 2 * issuers;
    assert_eq!(world.states(), states(&[("planned", owed)]));
    assert!(world.list(&["address", "list"]).is_empty());
    server.stop();
    server.start_again("");
    world.at("2026-11-24 01:00:00").sweep();
    assert_eq!(world.states(), states(&[("sent", owed)]));
    world.at("2026-11-30 00:00:00").sweep();
    assert_eq!(world.states(), states(&[("sent", 2 * owed)]));
}

#[rstest]
fn a_domain_that_is_refused_as_a_whole_has_no_dead_address(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--reject-rcpt @lost.example$");
    let mut issuers = users(3);
    issuers.extend((0..3).map(|n| format!("user{n}@lost.example")));
    let mut world = world_of(db, &server, &issuers);
    world.sweep().says("4 sent, 3 deferred");
    assert!(world.list(&["address", "list"]).is_empty());
    server.stop();
    server.start_again("");
    world.at("2026-11-24 01:00:00").sweep();
    assert_eq!(world.states(), states(&[("sent", 12)]));
}

#[rstest]
fn an_address_beyond_ascii_needs_a_server_with_smtputf8(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--no-smtputf8");
    let issuers = ["jörg@example.org", "ada@müller.example"].map(str::to_owned);
    let mut world = world_of(db, &server, &issuers);
    for time in ["2026-11-24 00:00:00", "2026-11-24 12:00:00"] {
        world.at(time).sweep().says("1 deferred");
        assert!(world.list(&["address", "list"]).is_empty());
    }
    let sent = server.mails();
    let recipients: BTreeSet<&str> = sent.iter().map(|mail| mail.to.as_str()).collect();
    let ada = "ada@xn--mller-kva.example";
    assert_eq!(recipients, BTreeSet::from([ada, "boss@example.org"]));
    // Another server takes the mail.
    server.stop();
    server.start_again("");
    world.at("2026-11-24 13:00:00").sweep().says("1 sent");
    let mails = server.mails();
    let to_issuer = mails.iter().find(|mail| mail.to == "jörg@example.org");
    assert_contains!(to_issuer.unwrap().raw, "To: jörg@example.org\r\n");
    let to_boss = mails.iter().find(|mail| mail.to == "boss@example.org");
    assert_contains!(to_boss.unwrap().text, "ada@müller.example");
    assert_eq!(server.summary()["violations"], json!({}));
}

#[rstest]
fn an_address_that_no_server_takes_is_reported_with_the_reason(#[values(Sqlite, Postgres)] db: Db) {
    let server = MailServer::start("--no-smtputf8");
    let mut world = world_of(db, &server, &["jörg@example.org".to_owned()]);
    world.sweep().says("1 sent, 1 deferred");
    world.at("2026-11-24 12:00:00").sweep();
    world
        .at("2026-11-25 01:00:00")
        .run(&["sweep"])
        .exits(1)
        .says("1 failed");
    let dead = world.list(&["address", "list"]);
    assert_eq!(dead[0]["address"], "jörg@example.org");
    assert_contains!(
        dead[0]["reason"].as_str().unwrap(),
        "does not offer SMTPUTF8"
    );
    world.at("2026-11-30 00:00:00").sweep();
    let mails = server.mails();
    let last = mails.last().unwrap();
    assert_eq!(last.to, "boss@example.org");
    let reason =
        "mail to jörg@example.org is refused (RCPT: 5.6.7 the mail server does not offer SMTPUTF8";
    assert_contains!(last.text.replace('\n', " "), reason);
}

#[rstest]
fn a_dead_address_is_reported_to_administrators_alone(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--reject-rcpt ^gone@");
    let mut issuers = users(2);
    issuers.push("gone@example.org".to_owned());
    let mut world = world_of(db, &server, &issuers);
    world.run(&["sweep"]).exits(1).says("1 failed");
    let dead = world.list(&["address", "list"]);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["address"], "gone@example.org");
    let day = |key: &str| dead[0][key].as_str().unwrap()[..10].to_owned();
    assert_eq!([day("since"), day("until")], ["2026-11-24", "2026-12-24"]);
    assert_eq!(
        world.list(&["notice", "list", "--state", "failed"]).len(),
        1
    );
    world.at("2026-11-30 00:00:00").sweep();
    let mails = server.mails();
    let about_address = |mail: &&crate::world::Mail| {
        mail.text.contains("gone@example.org") && mail.text.contains("550 5.1.1")
    };
    let recipients: Vec<_> = mails
        .iter()
        .filter(about_address)
        .map(|mail| mail.to.as_str())
        .collect();
    assert_eq!(recipients, ["boss@example.org"]);

    // It works again: the step that is due now is owed, the earlier one is not.
    server.stop();
    server.start_again("");
    world
        .run(&["address", "clear", "gone@example.org"])
        .exits(0)
        .says("1 notice planned");
    assert!(world.list(&["address", "list"]).is_empty());
    world.sweep().says("1 sent");
    let last = server.mails().pop().unwrap();
    assert_eq!(last.to, "gone@example.org");
    world
        .run(&["address", "clear", "gone@example.org"])
        .exits(1)
        .says("was not refused");
}

#[rstest]
fn failed_notices_are_owed_again_if_they_still_apply(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--reject-rcpt . --rcpt-refusal 554_5.7.1_denied");
    let mut world = world_of(db, &server, &users(3));
    world.set("delivery.give_up", "\"1h\"");
    world.run(&["sweep"]).exits(75);
    world.at("2026-11-24 02:00:00");
    world.run(&["sweep"]).exits(1).says("4 failed");
    assert_eq!(world.states(), states(&[("failed", 6)]));
    server.stop();
    server.start_again("");
    world.sweep().says("nothing was due");
    world.run(&["notice", "retry"]).exits(2);
    // One token was renewed meanwhile.
    world.import(&["0,t0,user0@example.org,2027-12-01"]);
    world
        .run(&["notice", "retry", "--state", "failed"])
        .exits(0)
        .says("4 notices owed again")
        .says("2 notices skipped");
    world.sweep().says("3 sent");
    world
        .run(&["notice", "retry", "--state", "failed"])
        .exits(0)
        .says("0 notices owed again");
    let id = world.list(&["notice", "list", "--state", "sent"])[0]["id"].clone();
    world
        .run(&["notice", "retry", id.as_str().unwrap()])
        .exits(1)
        .says("no failed notice matches");
}

/// Exchange Online counts the connections that send, and refuses a mail of another with 432.
#[rstest]
fn all_mails_go_over_the_connections_that_may_send(#[values("data", "final")] stage: &str) {
    let arguments =
        format!("--max-senders 3 --max-senders-at {stage} --delay-ms 20 --delay-at final");
    let mut server = MailServer::start(&arguments);
    let mut world = world_of(Sqlite, &server, &users(60));
    world.set("smtp.connections", "8");
    let swept = world.sweep();
    swept.says("61 sent").says("set [smtp] connections = 3");
    assert!(!swept.stdout.contains("deferred"), "{}", swept.stdout);
    let summary = server.stop();
    assert_eq!(summary["duplicates_total"], 0);
    assert_ne!(summary["faults"]["max-senders"], json!(null));
}

#[rstest]
fn all_mails_go_over_the_connections_that_the_server_allows(
    #[values(3, 1)] limit: usize,
    #[values(4, 8)] connections: usize,
) {
    let arguments = format!("--max-conns {limit} --delay-ms 20 --delay-at final");
    let mut server = MailServer::start(&arguments);
    let advice = format!("set [smtp] connections = {limit}");
    let mut world = world_of(Sqlite, &server, &users(60));
    world.set("smtp.connections", &connections.to_string());
    world.sweep().says("61 sent").says(&advice);
    world.at("2026-11-30 00:00:00");
    // The size is remembered for a day only, so it is found again, and then known.
    world.sweep().says("61 sent").says(&advice);
    world.import(&["x,x,user1@example.org,2026-12-01"]);
    let output = world.at("2026-11-30 01:00:00").sweep();
    output.says("sent");
    assert!(!output.stderr.contains("connections"), "{}", output.stderr);
    let summary = server.stop();
    assert_eq!(summary["duplicates_total"], 0);
    assert_eq!(summary["violations"], json!({}));
}

#[rstest]
fn a_mail_that_is_too_large_is_split(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--size-limit 12000");
    let mut world = World::new(db);
    world
        .use_mail_server(&server)
        // Only the server's reply shows that a mail is too large.
        .without_dry_runs()
        .set("notify.admins", "[]")
        .at("2026-11-24 00:00:00");
    let rows: Vec<String> = (0..60)
        .map(|n| format!("{n},token-{n:02},ada@example.org,2026-12-01"))
        .collect();
    world.import(&rows);
    world.sweep().says("sent");
    assert_eq!(world.states(), states(&[("sent", 60)]));
    let mails = server.mails();
    assert!(mails.len() > 1);
    for n in 0..60 {
        let name = format!("token-{n:02}");
        let listing = mails.iter().filter(|mail| mail.text.contains(&name));
        assert_eq!(listing.count(), 1, "{name}");
    }
    assert!(server.stop()["faults"]["size"].as_u64() >= Some(1));
}

#[rstest]
fn stops_while_nothing_can_be_sent_cost_no_mail(#[values(Sqlite, Postgres)] db: Db) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut server = MailServer::start("");
    let mut world = world_of(db, &server, &users(4));
    world.set("smtp.url", &format!("\"smtp://127.0.0.1:{port}?tls=none\""));
    for stop in 0..6 {
        let daemon = Daemon::start(&world, "daemon");
        // It is connected and waits for the greeting.
        let (mut connection, _) = silent.accept().unwrap();
        if stop % 2 == 0 {
            daemon.stop();
        } else {
            daemon.signal("-KILL");
        }
        let _ = connection.read(&mut [0; 1]);
        world.at(&format!("2026-11-24 0{}:00:00", stop + 1));
    }
    let notices = world.list(&["notice", "list"]);
    assert!(
        notices.iter().all(|notice| notice["state"] == "planned"),
        "{notices:?}"
    );
    world.use_mail_server(&server);
    wait_until("everything is sent", || {
        world.run(&["sweep"]);
        (world.states() == states(&[("sent", 8)])).then_some(())
    });
    assert_eq!(server.stop()["duplicates_total"], 0);
}

#[rstest]
#[case::login(
    "--auth u:p --require-auth",
    "?tls=none",
    "530",
    "the server wants a login"
)]
#[case::relay_denied(
    "--reject-rcpt . --rcpt-refusal 554_5.7.1_Relay_access_denied",
    "?tls=none",
    "554 5.7.1",
    "whether it relays"
)]
#[case::busy("--tempfail-rcpt .", "?tls=none", "450", "but a mail would wait")]
fn check_goes_as_far_as_the_recipient(
    #[case] arguments: &str,
    #[case] query: &str,
    #[case] code: &str,
    #[case] advice: &str,
) {
    let mut server = MailServer::start(arguments);
    let mut world = World::new(Sqlite);
    let url = format!("\"smtp://127.0.0.1:{}{query}\"", server.port);
    world.use_mail_server(&server).set("smtp.url", &url);
    world.run(&["migrate"]).exits(0);
    world.run(&["check"]).says(code).says(advice);
    let summary = server.stop();
    assert_eq!(summary["accepted"], 0);
    assert_eq!(summary["violations"], json!({}));
}

#[test]
fn the_wrong_scheme_for_a_port_is_named() {
    let plain = MailServer::start("");
    let mut world = World::new(Sqlite);
    let url = format!("\"smtps://127.0.0.1:{}\"", plain.port);
    world.use_mail_server(&plain).set("smtp.url", &url);
    world.run(&["migrate"]).exits(0);
    world
        .run(&["check"])
        .exits(75)
        .says("write smtp:// instead of smtps://");
    let encrypted = MailServer::encrypted("--implicit-tls", false);
    let url = format!("\"smtp://127.0.0.1:{}\"", encrypted.port);
    world.set("smtp.url", &url);
    world
        .run(&["check"])
        .exits(75)
        .says("write smtps:// instead of smtp://");
}
