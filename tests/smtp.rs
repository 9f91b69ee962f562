//! The SMTP client against a server that misbehaves on request.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[macro_use]
#[path = "support/assert.rs"]
mod assert;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrono::DateTime;
use lapsed::notify::fault::{AddressRefusal, Fault, Outcome, Stage};
use lapsed::notify::message::Rendered;
use lapsed::notify::smtp::{Relay, Session, SessionSettings, SmtpSettings, Tls};
use lapsed::notify::transport::Transport;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Server {
    fn start(arguments: &str) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), arguments)
    }

    fn in_folder(folder: TempDir, arguments: &str) -> Self {
        let path = |name: &str| folder.path().join(name);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/faultsmtp.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(["--port", "0", "--host", "127.0.0.1"])
            .arg("--port-file")
            .arg(path("port"))
            .arg("--summary")
            .arg(path("summary.json"))
            .arg("--store")
            .arg(path("store"))
            .args(arguments.split_whitespace())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints a line once it listens.
        let mut line = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        BufReader::new(stderr).read_line(&mut line).unwrap();
        assert_contains!(line, "listening");
        let port = fs::read_to_string(path("port"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        Self {
            child,
            folder,
            port,
        }
    }

    fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: Tls::None,
            user: None,
            password: None,
            ca_file: None,
            hello_name: Some("client.example.org".to_owned()),
            session: SessionSettings {
                timeout: Duration::from_secs(20),
                final_timeout: Duration::from_secs(20),
                pipelining: true,
                envelope_from: "bounces@example.org".parse().unwrap(),
            },
        }
    }

    fn relay(&self, change: impl FnOnce(&mut SmtpSettings)) -> Relay {
        let mut settings = self.settings();
        change(&mut settings);
        Relay::new(settings).unwrap()
    }

    /// Stops the server and returns its summary.
    fn summary(mut self) -> Value {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap();
        let text = fs::read(self.folder.path().join("summary.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Stops the server; it saw no protocol violation.
    fn clean_summary(self) -> Value {
        let summary = self.summary();
        assert_eq!(summary["violations"], serde_json::json!({}), "{summary:#}");
        assert_eq!(summary["duplicates_inexcusable"], 0);
        summary
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes an authority and its certificate for 127.0.0.1 as PEM files; returns the path of the authority.
fn write_certificates(folder: &Path, expired: bool) -> PathBuf {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = folder.join("ca.pem");
    fs::write(&ca, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    if expired {
        leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2020, 2, 1);
    }
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(authority, authority_key);
    fs::write(
        folder.join("cert.pem"),
        leaf.signed_by(&key, &issuer).unwrap().pem(),
    )
    .unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    ca
}

/// A server with a certificate, and the path of its authority.
fn start_encrypted(arguments: &str, expired: bool) -> (Server, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let ca = write_certificates(folder.path(), expired);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let arguments = format!(
        "{arguments} --cert {} --key {}",
        path("cert.pem"),
        path("key.pem")
    );
    (Server::in_folder(folder, &arguments), ca)
}

fn mail(n: usize) -> Rendered {
    mail_to(n, &format!("ada{n}@example.org"))
}

fn mail_to(n: usize, to: &str) -> Rendered {
    let bytes = format!(
        "From: tokens@example.org\r\nTo: {to}\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n\
         Message-ID: <lapsed.{n}@example.org>\r\nSubject: x\r\n\r\nhello\r\n.\r\n..dots\r\n"
    );
    Rendered {
        reference: n.to_string(),
        message_id: format!("<lapsed.{n}@example.org>"),
        envelope_to: to.parse().unwrap(),
        written_at: DateTime::UNIX_EPOCH,
        subject: "x".to_owned(),
        bytes: bytes.into_bytes(),
    }
}

fn is_sent(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Sent { .. })
}

async fn send(session: &mut Session, mail: &Rendered) -> Outcome {
    match session.begin(mail).await {
        Ok(()) => session.finish(mail).await,
        Err(outcome) => outcome,
    }
}

async fn send_one(relay: &Relay) -> Outcome {
    let mut session = relay.connect().await.unwrap();
    let outcome = send(&mut session, &mail(1)).await;
    session.quit().await;
    outcome
}

#[rstest]
#[case::pipelined("", true)]
#[case::switched_off("", false)]
#[case::not_offered("--no-pipelining", true)]
#[case::without_extensions("--no-ehlo", true)]
#[tokio::test]
async fn mails_arrive_octet_for_octet_over_one_connection(
    #[case] arguments: &str,
    #[case] pipelining: bool,
) {
    let server = Server::start(arguments);
    let relay = server.relay(|settings| settings.session.pipelining = pipelining);
    let mut session = relay.connect().await.unwrap();
    for n in 0..30 {
        assert!(is_sent(&send(&mut session, &mail(n)).await));
    }
    session.quit().await;
    let store = server.folder.path().join("store/new");
    assert_eq!(
        fs::read(store.join("000000001.eml")).unwrap(),
        mail(0).bytes
    );
    let envelope: Value =
        serde_json::from_slice(&fs::read(store.join("000000001.json")).unwrap()).unwrap();
    assert_eq!(envelope["mail_from"], "bounces@example.org");
    assert_eq!(envelope["rcpt_to"], serde_json::json!(["ada0@example.org"]));
    let summary = server.clean_summary();
    assert_eq!(
        (&summary["accepted"], &summary["connections"]),
        (&30.into(), &1.into())
    );
}

/// Also checks whether the connection can send the next mail.
#[rstest]
#[case("--p-451-mail 1", Stage::Mail, 451, "deferred")]
#[case("--p-450-rcpt 1", Stage::Rcpt, 450, "deferred")]
#[case("--p-451-rcpt 1", Stage::Rcpt, 451, "deferred")]
#[case("--p-452-rcpt 1", Stage::Rcpt, 452, "deferred")]
#[case("--p-550-rcpt 1", Stage::Rcpt, 550, "dead address")]
#[case("--p-451-data 1", Stage::Data, 451, "deferred")]
#[case("--p-451-final 1", Stage::Final, 451, "deferred")]
#[case("--p-452-final 1", Stage::Final, 452, "deferred")]
#[case("--p-554-final 1", Stage::Final, 554, "refused")]
#[case("--p-421-final 1", Stage::Final, 421, "server")]
#[case("--p-drop-before 1", Stage::Final, 0, "unknown")]
#[case("--p-drop-after 1", Stage::Final, 0, "unknown")]
#[case("--p-drop-after 1 --drop-mode rst", Stage::Final, 0, "unknown")]
#[tokio::test]
async fn each_fault_has_its_outcome(
    #[case] arguments: &str,
    #[case] stage: Stage,
    #[case] code: u16,
    #[case] what: &str,
    #[values(true, false)] pipelining: bool,
) {
    let server = Server::start(&format!("{arguments} --max-faults-per-key 1"));
    let relay = server.relay(|settings| settings.session.pipelining = pipelining);
    let mut session = relay.connect().await.unwrap();
    let outcome = send(&mut session, &mail(1)).await;
    let fault = outcome.fault().unwrap();
    assert_eq!(
        (fault.stage, fault.code.unwrap_or_default()),
        (stage, code),
        "{outcome:?}"
    );
    let is = match outcome {
        Outcome::Sent { .. } => "sent",
        Outcome::Deferred(_) => "deferred",
        Outcome::Refused(ref fault) if fault.address_refusal().is_some() => "dead address",
        Outcome::Refused(_) => "refused",
        Outcome::Unknown(_) => "unknown",
        Outcome::ServerFault(_) => "server",
    };
    assert_eq!(is, what);
    let usable = code != 0 && code != 421;
    assert_eq!(session.is_usable(), usable);
    if usable && code != 550 {
        assert!(is_sent(&send(&mut session, &mail(1)).await));
    }
    session.quit().await;
    server.clean_summary();
}

#[tokio::test]
async fn a_dead_address_does_not_block_the_others() {
    let server = Server::start("--reject-rcpt ^gone");
    let mut session = server.relay(|_| {}).connect().await.unwrap();
    let mut sent = 0;
    for n in 0..20 {
        let to = if n % 3 == 0 {
            format!("gone{n}@example.org")
        } else {
            format!("ada{n}@example.org")
        };
        let outcome = send(&mut session, &mail_to(n, &to)).await;
        assert_eq!(is_sent(&outcome), n % 3 != 0, "{outcome:?}");
        sent += usize::from(is_sent(&outcome));
    }
    session.quit().await;
    assert_eq!(server.clean_summary()["accepted"], sent);
}

#[tokio::test]
async fn a_connection_that_breaks_within_the_text_is_not_sent() {
    let server = Server::start("--p-drop-data 1");
    let outcome = send_one(&server.relay(|_| {})).await;
    assert!(
        matches!(outcome, Outcome::Unknown(_) | Outcome::Deferred(_)),
        "{outcome:?}"
    );
    assert_eq!(server.clean_summary()["accepted"], 0);
}

#[rstest]
#[case("--p-421-connect 1", Some(421))]
#[case("--p-drop-connect 1", None)]
#[tokio::test]
async fn a_server_that_refuses_the_connection_is_a_connection_fault(
    #[case] arguments: &str,
    #[case] code: Option<u16>,
) {
    let server = Server::start(arguments);
    let fault = server.relay(|_| {}).connect().await.unwrap_err();
    assert_eq!((fault.stage, fault.code), (Stage::Greeting, code));
    server.clean_summary();
}

#[tokio::test]
async fn an_unreachable_server_is_a_connection_fault() {
    let server = Server::start("");
    let relay = server.relay(|_| {});
    server.clean_summary();
    assert_eq!(relay.connect().await.unwrap_err().stage, Stage::Connect);
}

#[tokio::test]
async fn a_stalled_server_runs_into_the_timeout() {
    let short = |settings: &mut SmtpSettings| {
        settings.session.timeout = Duration::from_millis(300);
        settings.session.final_timeout = Duration::from_millis(300);
    };
    let server = Server::start("--p-stall 1 --stall-s 3600");
    let outcome = send_one(&server.relay(short)).await;
    assert!(matches!(
        outcome,
        Outcome::Deferred(Fault {
            stage: Stage::Rcpt,
            code: None,
            ..
        })
    ));
    let server = Server::start("--p-stall-final 1 --stall-s 3600");
    let outcome = send_one(&server.relay(short)).await;
    assert!(matches!(
        outcome,
        Outcome::Unknown(Fault {
            stage: Stage::Final,
            code: None,
            ..
        })
    ));
    let server = Server::start("--delay-ms 3600000 --delay-at ehlo");
    assert_eq!(
        server.relay(short).connect().await.unwrap_err().stage,
        Stage::Hello
    );
}

#[rstest]
#[case(true)]
#[case(false)]
#[tokio::test]
async fn a_server_with_a_limit_per_connection_gets_all_mails(#[case] pipelining: bool) {
    let server = Server::start("--max-msgs-per-conn 20");
    let relay = server.relay(|settings| settings.session.pipelining = pipelining);
    let transport = Transport::Smtp(Box::new(relay));
    let mut connection = transport.open().await.unwrap();
    for n in 0..50 {
        let outcome = connection.send(&mail(n)).await;
        assert!(is_sent(&outcome), "{n}: {outcome:?}");
    }
    connection.close().await;
    let summary = server.clean_summary();
    assert_eq!(
        (&summary["accepted"], &summary["connections"]),
        (&50.into(), &3.into())
    );
}

#[rstest]
#[case(Tls::Implicit, "--implicit-tls")]
#[case(Tls::Required, "--starttls --require-tls")]
#[case(Tls::Opportunistic, "--starttls --require-tls")]
#[tokio::test]
async fn mails_go_encrypted(#[case] tls: Tls, #[case] arguments: &str) {
    let (server, ca) = start_encrypted(arguments, false);
    let relay = server.relay(|settings| {
        settings.tls = tls;
        settings.ca_file = Some(ca);
    });
    let mut session = relay.connect().await.unwrap();
    assert!(session.is_encrypted());
    for n in 0..3 {
        assert!(is_sent(&send(&mut session, &mail(n)).await));
    }
    session.quit().await;
    assert_eq!(server.clean_summary()["accepted"], 3);
}

#[rstest]
#[case(Tls::Implicit, "--implicit-tls", true)]
#[case(Tls::Required, "--starttls", true)]
#[case(Tls::Implicit, "--implicit-tls", false)]
#[case(Tls::Required, "--starttls", false)]
#[tokio::test]
async fn an_expired_or_untrusted_certificate_is_rejected(
    #[case] tls: Tls,
    #[case] arguments: &str,
    #[case] expired: bool,
) {
    let (server, mut ca) = start_encrypted(arguments, expired);
    let elsewhere = tempfile::tempdir().unwrap();
    if !expired {
        ca = write_certificates(elsewhere.path(), false);
    }
    let relay = server.relay(|settings| {
        settings.tls = tls;
        settings.ca_file = Some(ca);
    });
    let fault = relay.connect().await.unwrap_err();
    assert_eq!(fault.stage, Stage::Tls);
    assert_contains!(fault.text, "certificate");
    assert_eq!(fault.text.contains("xpired"), expired, "{fault}");
    assert_eq!(server.clean_summary()["accepted"], 0);
}

#[tokio::test]
async fn an_unknown_certificate_is_not_trusted_by_the_system() {
    let (server, _) = start_encrypted("--implicit-tls", false);
    let mut settings = server.settings();
    settings.tls = Tls::Implicit;
    // Fails here on a machine without any authority.
    let Ok(relay) = Relay::new(settings) else {
        return;
    };
    assert_eq!(relay.connect().await.unwrap_err().stage, Stage::Tls);
}

#[tokio::test]
async fn missing_starttls_is_an_error_if_required() {
    let (server, ca) = start_encrypted("--starttls --strip-starttls", false);
    let relay = server.relay(|settings| {
        settings.tls = Tls::Required;
        settings.ca_file = Some(ca);
    });
    let fault = relay.connect().await.unwrap_err();
    assert_eq!(fault.stage, Stage::Tls);
    assert_contains!(fault.text, "does not offer STARTTLS");
    assert_eq!(server.clean_summary()["accepted"], 0);
}

#[rstest]
#[case("--starttls --strip-starttls", false)]
#[case("--starttls --p-454-tls 1", false)]
#[case("--starttls", true)]
#[tokio::test]
async fn opportunistic_encryption_uses_what_the_server_offers(
    #[case] arguments: &str,
    #[case] is_encrypted: bool,
) {
    let (server, _) = start_encrypted(arguments, true);
    let relay = server.relay(|settings| settings.tls = Tls::Opportunistic);
    let mut session = relay.connect().await.unwrap();
    assert_eq!(session.is_encrypted(), is_encrypted);
    assert!(is_sent(&send(&mut session, &mail(1)).await));
    session.quit().await;
    server.clean_summary();
}

fn with_password(settings: &mut SmtpSettings, password: &str) {
    settings.user = Some("lapsed".to_owned());
    settings.password = Some(password.to_owned().into());
}

#[rstest]
#[case("PLAIN LOGIN", "")]
#[case("PLAIN", "")]
#[case("LOGIN", "--auth-only-tls")]
#[tokio::test]
async fn lapsed_authenticates_with_a_password(#[case] mechanisms: &str, #[case] more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let ca = write_certificates(folder.path(), false);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let arguments = format!(
        "--starttls --auth lapsed:secret --require-auth {more} --cert {} --key {}",
        path("cert.pem"),
        path("key.pem")
    );
    // The list of mechanisms is one argument with spaces.
    let server = Server::in_folder(
        folder,
        &format!(
            "{arguments} --auth-mechs={}",
            mechanisms.split(' ').next_back().unwrap()
        ),
    );
    let relay = server.relay(|settings| {
        settings.tls = Tls::Required;
        settings.ca_file = Some(ca);
        with_password(settings, "secret");
    });
    assert!(is_sent(&send_one(&relay).await));
    assert_eq!(server.clean_summary()["auth_ok"], 1);
}

#[rstest]
#[case("PLAIN")]
#[case("LOGIN")]
#[tokio::test]
async fn a_wrong_password_is_rejected_and_not_shown_in_the_fault(#[case] mechanism: &str) {
    let (server, ca) = start_encrypted(
        &format!("--starttls --auth lapsed:secret --auth-mechs={mechanism}"),
        false,
    );
    let relay = server.relay(|settings| {
        settings.tls = Tls::Required;
        settings.ca_file = Some(ca);
        with_password(settings, "wr0ng");
    });
    let fault = relay.connect().await.unwrap_err();
    assert_eq!((fault.stage, fault.code), (Stage::Auth, Some(535)));
    assert_lacks!(format!("{fault:?} {relay:?}"), "wr0ng");
    assert_eq!(server.clean_summary()["auth_bad"], 1);
}

#[tokio::test]
async fn a_password_is_not_sent_unencrypted_by_accident() {
    let (server, ca) = start_encrypted("--starttls --strip-starttls --auth lapsed:secret", false);
    let relay = server.relay(|settings| {
        settings.tls = Tls::Opportunistic;
        settings.ca_file = Some(ca);
        with_password(settings, "secret");
    });
    assert_eq!(relay.connect().await.unwrap_err().stage, Stage::Auth);
    let summary = server.clean_summary();
    assert_eq!(
        (&summary["auth_ok"], &summary["auth_bad"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn invalid_settings_are_rejected_before_connecting() {
    let server = Server::start("");
    let error_with = |change: fn(&mut SmtpSettings)| {
        let mut settings = server.settings();
        change(&mut settings);
        Relay::new(settings).unwrap_err().to_string()
    };
    assert!(error_with(|s| s.host = "not a host".into()).contains("not a host"));
    assert!(error_with(|s| s.hello_name = Some("x\r\nRSET".into())).contains("EHLO"));
    assert!(error_with(|s| s.user = Some("ada".into())).contains("password"));
    assert!(
        error_with(|s| {
            s.tls = Tls::Required;
            s.ca_file = Some("/no/such/ca.pem".into());
        })
        .contains("/no/such/ca.pem")
    );
}

/// A server that sends each reply after a line that starts with the expected text.
fn start_scripted(
    script: &'static [(&'static str, &'static str)],
) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for (expected, reply) in script {
            if !expected.is_empty() {
                let line = lines.next().unwrap().unwrap();
                assert!(line.starts_with(expected), "{line} is not {expected}");
            }
            (&stream).write_all(reply.as_bytes()).unwrap();
        }
    });
    (port, server)
}

fn relay_at(port: u16, tls: Tls) -> Relay {
    let server = Server::start("");
    let mut settings = server.settings();
    settings.port = port;
    settings.tls = tls;
    Relay::new(settings).unwrap()
}

#[tokio::test]
async fn data_after_starttls_ends_the_connection() {
    let (port, server) = start_scripted(&[
        ("", "220 x\r\n"),
        ("EHLO", "250-x\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go\r\n250-x\r\n250 AUTH PLAIN\r\n"),
    ]);
    let fault = relay_at(port, Tls::Opportunistic)
        .connect()
        .await
        .unwrap_err();
    assert_eq!(fault.stage, Stage::Tls);
    assert_contains!(fault.text, "after STARTTLS");
    server.join().unwrap();
}

#[tokio::test]
async fn a_server_that_wants_text_for_a_refused_recipient_gets_an_empty_one() {
    let (port, server) = start_scripted(&[
        ("", "220 x\r\n"),
        ("EHLO", "250-x\r\n250 PIPELINING\r\n"),
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "550 5.1.1 <ada1@example.org> unknown\r\n"),
        ("DATA", "354 go on\r\n"),
        (".", "554 5.5.1 no recipients\r\n"),
        ("RSET", "250 ok\r\n"),
        ("MAIL", "250 ok\r\n"),
        ("RCPT", "250 ok\r\n"),
        ("DATA", "354 go on\r\n"),
        ("From", ""),
        ("To", ""),
        ("Date", ""),
        ("Message-ID", ""),
        ("Subject", ""),
        ("", ""),
        ("", "250 taken\r\n"),
    ]);
    let mut session = relay_at(port, Tls::None).connect().await.unwrap();
    let refused = send(&mut session, &mail(1)).await;
    let fault = refused.fault().unwrap();
    assert_eq!(fault.address_refusal(), Some(AddressRefusal::Unknown));
    assert_lacks!(fault, "ada1@");
    assert!(is_sent(&send(&mut session, &mail(2)).await));
    drop(session);
    server.join().unwrap();
}

#[rstest]
#[case::without_a_word("")]
#[case::with_a_reply("421 4.4.2 timed out\r\n")]
#[tokio::test]
async fn no_text_is_sent_to_a_server_that_gave_up_waiting_for_it(#[case] farewell: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut answer = |reply: &str| {
            stream.write_all(reply.as_bytes()).unwrap();
            lines.next().unwrap().unwrap()
        };
        answer("220 x\r\n");
        answer("250 x\r\n");
        answer("250 ok\r\n");
        answer("250 ok\r\n");
        stream.write_all(b"354 go on\r\n").unwrap();
        (stream, lines)
    });
    let mut session = relay_at(port, Tls::None).connect().await.unwrap();
    session.begin(&mail(1)).await.unwrap();
    let (mut stream, mut lines) = server.join().unwrap();
    stream.write_all(farewell.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // So that this program, too, has heard of it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let outcome = session.finish(&mail(1)).await;
    assert_eq!(outcome.fault().unwrap().stage, Stage::Data);
    assert!(
        matches!(outcome, Outcome::Deferred(_) | Outcome::ServerFault(_)),
        "{outcome:?}"
    );
    assert!(!session.is_usable());
    drop(session);
    assert!(lines.next().is_none(), "it got a text");
}

/// A greeting of several lines whose last has no text, and the second AUTH line that Postfix sends with
/// `broken_sasl_auth_clients`.
#[tokio::test]
async fn unusual_greetings_and_extensions_are_understood() {
    let (port, server) = start_scripted(&[
        (
            "",
            "220-This server is protected.\r\n220-Abuse is not tolerated.\r\n220\r\n",
        ),
        (
            "EHLO",
            "250-x\r\n250-AUTH=PLAIN LOGIN\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1000\r\n",
        ),
        ("QUIT", "221\r\n"),
    ]);
    let session = relay_at(port, Tls::None).connect().await.unwrap();
    session.quit().await;
    server.join().unwrap();
}
