//! A mail server that is busy, drops connections, stalls, refuses, or cannot be trusted.

use chrono::{DateTime, Utc};
use rstest::rstest;
use serde_json::{Value, json};

use crate::mailserver::MailServer;
use crate::world::{Db, World, in_days};
use Db::{Postgres, Sqlite};

const NOW: &str = "2026-11-24 00:00:00";

fn now() -> DateTime<Utc> {
    "2026-11-24T00:00:00Z".parse().unwrap()
}

/// Each issuer is owed one warning, administrators none.
fn world_with_due_warnings(db: Db, server: &MailServer, issuers: usize) -> World {
    let mut world = World::new(db);
    world
        .use_mail_server(server)
        .set("notify.admins", "[]")
        .at(NOW);
    let rows: Vec<String> = (0..issuers)
        .map(|n| format!("{n},t{n},user{n}@example.org,2026-12-01"))
        .collect();
    world.import(&rows);
    world
}

/// Every issuer got a mail, with further copies only after a lost reply and under the same Message-ID, and the SMTP
/// sessions were correct.
fn assert_all_arrived(summary: &Value, issuers: usize) {
    assert_eq!(summary["unique_recipients"], issuers, "{summary:#}");
    assert_eq!(summary["unique_message_ids"], issuers, "{summary:#}");
    assert_eq!(summary["duplicates_inexcusable"], 0, "{summary:#}");
    assert_eq!(summary["violations"], json!({}), "{summary:#}");
}

#[rstest]
#[case::busy_at_connect("--p-421-connect .4")]
#[case::gone_at_connect("--p-drop-connect .4")]
#[case::busy_at_mail("--p-451-mail .4")]
#[case::mailbox_busy("--p-450-rcpt .2 --p-451-rcpt .2 --p-452-rcpt .2")]
#[case::greylisted("--greylist 2")]
#[case::busy_at_data("--p-451-data .4")]
#[case::refused_for_now("--p-451-final .2 --p-452-final .2 --p-421-final .1")]
#[case::cut_in_the_text("--p-drop-data .3 --drop-mode mix")]
#[case::cut_before_taking_it("--p-drop-before .3 --drop-mode mix --max-faults-per-key 3")]
#[case::cut_after_taking_it("--p-drop-after .3 --drop-mode mix --max-faults-per-key 3")]
#[case::twenty_to_a_connection("--max-msgs-per-conn 20")]
#[case::few_connections("--max-conns 2")]
#[case::slow_rate("--rate-limit 20")]
fn deferred_and_interrupted_mails_arrive_in_the_end(#[case] faults: &str) {
    let mut server = MailServer::start(faults);
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 30);
    world.sweep_until_settled(now());
    assert_eq!(world.states(), [("sent".to_owned(), 30)].into());
    assert_all_arrived(&server.stop(), 30);
}

#[rstest]
#[case::at_rcpt("--p-stall .3 --stall-s 30", 0)]
#[case::at_the_end("--p-stall-final .3 --stall-s 30", 1)]
fn a_stalled_connection_is_dropped_and_the_mail_is_tried_again(
    #[case] faults: &str,
    #[case] copies: u64,
) {
    let mut server = MailServer::start(&format!("{faults} --max-faults-per-key 1"));
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 8);
    world
        .set("smtp.timeout", "\"1s\"")
        .set("smtp.final_timeout", "\"1s\"");
    world.sweep_until_settled(now());
    let summary = server.stop();
    assert_eq!(summary["unique_recipients"], 8);
    assert_eq!(summary["unique_message_ids"], 8);
    assert!(
        summary["duplicates_total"].as_u64().unwrap() <= 8 * copies,
        "{summary:#}"
    );
}

#[rstest]
fn with_all_faults_at_once_every_issuer_gets_the_mail(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start(
        "--p-450-rcpt .2 --p-drop-before .1 --p-drop-after .1 --p-421-connect .1 --p-550-rcpt .05 --drop-mode mix --max-faults-per-key 4",
    );
    let mut world = world_with_due_warnings(db, &server, 150);
    world.sweep_until_settled(now());
    let states = world.states();
    let failed = states.get("failed").copied().unwrap_or(0);
    assert!(failed > 0, "the seed has dead mailboxes: {states:?}");
    let summary = server.stop();
    assert_eq!(states.get("sent"), Some(&(150 - failed)));
    assert_all_arrived(&summary, 150 - failed);
}

#[test]
fn a_mail_without_a_final_reply_fails_after_five_copies_with_one_message_id() {
    let mut server = MailServer::start("--p-drop-after 1");
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 1);
    world.sweep_until_settled(now());
    let failed = world.list(&["notice", "list", "--state", "failed"]);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["attempts"], 5);
    let summary = server.stop();
    assert_eq!(
        (&summary["accepted"], &summary["unique_message_ids"]),
        (&json!(5), &json!(1))
    );
}

#[rstest]
fn if_every_recipient_is_refused_the_server_is_blamed(#[values(Sqlite, Postgres)] db: Db) {
    let mut server = MailServer::start("--reject-rcpt .");
    let mut world = world_with_due_warnings(db, &server, 30);
    world
        .run(&["sweep"])
        .exits(75)
        .says("the mail server could not be used");
    assert_eq!(
        world.states(),
        [("planned".to_owned(), 30)].into(),
        "no address is blamed"
    );
    server.stop();
    server.start_again("");
    world.sweep_until_settled(now() + chrono::TimeDelta::minutes(1));
    assert_eq!(world.states(), [("sent".to_owned(), 30)].into());
    assert_all_arrived(&server.stop(), 30);
}

#[test]
fn a_few_refusals_among_many_are_blamed_on_the_addresses() {
    let mut server = MailServer::start("--reject-rcpt ^user[0-4]@");
    let world = world_with_due_warnings(Db::Sqlite, &server, 30);
    world.run(&["sweep"]).exits(1);
    assert_eq!(world.states().get("sent"), Some(&25));
    assert!(world.states().contains_key("failed"));
    assert_all_arrived(&server.stop(), 25);
}

#[test]
fn refused_content_falls_back_after_give_up_without_marking_the_address_dead() {
    let mut server = MailServer::start("--p-554-final 1 --max-faults-per-key 2 --fault-first 2");
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 1);
    world.set("delivery.give_up", "\"1h\"");
    world.run(&["sweep"]).exits(75);
    world.set("notify.admins", "[\"boss@example.org\"]");
    world.at("2026-11-24 01:00:01").run(&["sweep"]).exits(1);
    let failed = world.list(&["notice", "list", "--state", "failed"]);
    assert_contains!(failed[0]["reason"].as_str().unwrap(), "554");
    assert!(world.list(&["address", "list"]).is_empty());
    // The address still gets mail, and the administrator is notified instead.
    world.import(&["next,next,user0@example.org,2026-12-01"]);
    world.sweep_until_settled(now() + chrono::TimeDelta::hours(2));
    let mails = server.mails();
    let recipients: Vec<_> = mails.iter().map(|mail| mail.to.as_str()).collect();
    assert!(recipients.contains(&"user0@example.org"), "{recipients:?}");
    assert!(recipients.contains(&"boss@example.org"), "{recipients:?}");
    server.stop();
}

#[test]
fn an_unreachable_server_defers_everything_and_nothing_is_lost() {
    let mut server = MailServer::start("");
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 30);
    server.stop();
    world.run(&["sweep"]).exits(75);
    assert_eq!(world.states(), [("planned".to_owned(), 30)].into());
    server.start_again("");
    world.sweep_until_settled(now() + chrono::TimeDelta::minutes(1));
    assert_all_arrived(&server.stop(), 30);
}

#[test]
fn after_give_up_a_mail_fails_with_the_reason() {
    let server = MailServer::start("--tempfail-rcpt user1@");
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 3);
    world.set("delivery.give_up", "\"1h\"");
    world.sweep().says("1 deferred");
    world
        .at("2026-11-24 01:00:01")
        .run(&["sweep"])
        .exits(1)
        .says("1 failed");
    let failed = world.list(&["notice", "list", "--state", "failed"]);
    let reason = failed[0]["reason"].as_str().unwrap();
    assert_contains!(reason, "given up", "450");
}

#[test]
fn a_login_that_the_server_defers_is_not_tried_again_at_once() {
    let mut server = MailServer::start("--auth lapsed:secret --require-auth --p-454-auth 1");
    let mut world = world_with_due_warnings(Sqlite, &server, 5);
    let url = format!("\"smtp://lapsed@127.0.0.1:{}?tls=none\"", server.port);
    world
        .set("smtp.url", &url)
        .set("smtp.password", "\"secret\"")
        .set("smtp.connections", "1");
    world.run(&["sweep"]).exits(75).says("454");
    let summary = server.stop();
    assert_eq!(summary["faults"], json!({"454-auth": 1}), "{summary:#}");
}

#[test]
fn connections_are_closed_after_the_configured_number_of_mails() {
    let mut server = MailServer::start("--max-msgs-per-conn 20");
    let mut world = world_with_due_warnings(Db::Sqlite, &server, 50);
    world
        .set("smtp.messages_per_connection", "20")
        .set("smtp.connections", "1");
    world.sweep();
    let summary = server.stop();
    assert_all_arrived(&summary, 50);
    assert_eq!(
        summary["messages_per_connection"],
        json!({"10": 1, "20": 2})
    );
    assert!(
        summary["replies"].get("421").is_none(),
        "the server never had to close one"
    );
}

/// In real time, because certificates are valid in real time.
fn world_in_real_time(server: &MailServer, url: &str) -> World {
    let mut world = World::new(Db::Sqlite);
    let url = format!("\"{}\"", url.replace("PORT", &server.port.to_string()));
    world
        .set("mail.transport", "\"smtp\"")
        .set("smtp.url", &url)
        .set("notify.admins", "[]");
    world.import(&[&format!("ci,ci-deploy,ada@example.org,{}", in_days(5))]);
    world
}

#[rstest]
#[case::stripped(
    "--starttls --strip-starttls",
    "smtp://localhost:PORT",
    "does not offer STARTTLS"
)]
#[case::unknown_authority("--starttls", "smtp://localhost:PORT", "smtp.ca_file")]
#[case::unknown_authority_at_once("--implicit-tls", "smtps://localhost:PORT", "smtp.ca_file")]
fn an_untrusted_server_gets_no_mail(
    #[case] faults: &str,
    #[case] url: &str,
    #[case] expected: &str,
) {
    let mut server = MailServer::encrypted(faults, false);
    let world = world_in_real_time(&server, url);
    world.run(&["sweep"]).exits(75).says(expected);
    assert_eq!(world.states(), [("planned".to_owned(), 1)].into());
    world.run(&["check"]).exits(75).says(expected);
    assert_eq!(server.stop()["accepted"], 0);
}

#[test]
fn an_expired_certificate_is_not_trusted() {
    let mut server = MailServer::encrypted("--starttls", true);
    let mut world = world_in_real_time(&server, "smtp://localhost:PORT");
    world.set("smtp.ca_file", &format!("{:?}", server.authority()));
    world.run(&["sweep"]).exits(75).says("expired");
    assert_eq!(server.stop()["accepted"], 0);
}

#[test]
fn the_configured_authority_is_trusted_and_the_password_needs_tls() {
    let mut server = MailServer::encrypted(
        "--starttls --auth lapsed:s3cret --require-auth --auth-only-tls",
        false,
    );
    let mut world = world_in_real_time(&server, "smtp://localhost:PORT");
    world.set("smtp.ca_file", &format!("{:?}", server.authority()));
    world.set(
        "smtp.url",
        &format!("\"smtp://lapsed@localhost:{}\"", server.port),
    );
    world.set("smtp.password", "\"wrong\"");
    world.run(&["sweep"]).exits(75).says("535");
    assert_eq!(world.states(), [("planned".to_owned(), 1)].into());
    world.run(&["check"]).says("535");
    world.set("smtp.password", "\"s3cret\"");
    // The back-off after the wrong password is a second of real time.
    crate::waiting::wait_until("the mail is sent", || {
        world.sweep();
        (world.states().get("sent") == Some(&1)).then_some(())
    });
    let summary = server.stop();
    assert_eq!(summary["violations"], json!({}), "{summary:#}");
    assert_eq!(summary["accepted"], 1);
}
