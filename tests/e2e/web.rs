//! The web listener of the daemon.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::daemon::{Daemon, free_port, get};
use crate::waiting::wait_until;
use crate::world::{Db, World};
use Db::{Postgres, Sqlite};

/// The daemon with the token service, and a port of its own for the API.
pub struct Site {
    pub world: World,
    pub port: u16,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Site {
    pub fn new(db: Db) -> Self {
        let mut world = World::new(db);
        let port = free_port();
        world
            .set("service.enabled", "true")
            .set("web.listen", &format!("\"127.0.0.1:{port}\""));
        world.run(&["migrate"]).exits(0);
        world.run(&["account", "add", "acme"]).exits(0);
        let ann = ["user", "add", "ann@example.org", "--account", "acme"];
        world.run(&ann).exits(0);
        Self { world, port }
    }

    /// Issues a token for Ann, and returns its JSON with the secret.
    pub fn issue(&self, options: &[&str]) -> Value {
        let arguments = [
            "token",
            "issue",
            "--name",
            "ci",
            "--user",
            "ann@example.org",
        ];
        let arguments = [&arguments[..], options, &["--format", "json"]].concat();
        let issued = self.world.run(&arguments);
        issued.exits(0);
        serde_json::from_str(&issued.stdout).unwrap()
    }
}

/// The whole token.
pub fn secret(issued: &Value) -> &str {
    issued["token"].as_str().unwrap()
}

/// Sends a request with a header for each pair.
pub fn send(port: u16, request: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let answer = try_send(port, request, headers, body).unwrap();
    answer.unwrap_or_else(|| panic!("no whole answer to {request}"))
}

/// As [`send`] to a server that may end meanwhile. `None` if the answer is not whole.
pub fn try_send(
    port: u16,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Option<Answer>> {
    let mut head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(read_answer(&text))
}

/// `None` if it is not whole.
pub fn read_answer(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let is_whole = length.is_none_or(|length| length.parse() == Ok(body.len()));
    is_whole.then(|| Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        body: body.to_owned(),
        head,
    })
}

/// The status of `/api/v1/verify` for a token.
pub fn verifies(port: u16, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    send(
        port,
        "GET /api/v1/verify",
        &[("Authorization", &bearer)],
        "",
    )
    .status
}

#[rstest::rstest]
fn the_daemon_verifies_counts_and_logs_no_secret(#[values(Sqlite, Postgres)] db: Db) {
    let mut site = Site::new(db);
    let pages = free_port();
    site.world
        .set("http.listen", &format!("\"127.0.0.1:{pages}\""))
        .set("log.level", "\"debug\"");
    let issued = site.issue(&[]);
    let token = secret(&issued);
    let daemon = Daemon::start(&site.world, "daemon");
    assert_eq!(verifies(site.port, token), 200);
    assert_eq!(verifies(site.port, &token[1..]), 401);
    let key = issued["access_key"].as_str().unwrap();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("token={token}");
    let basic = format!("Bearer {key}:{}", issued["secret_key"].as_str().unwrap());
    let asked = [form[0], ("Authorization", &basic)];
    send(site.port, "POST /oauth2/introspect", &asked, &body);
    send(
        site.port,
        &format!("GET /api/v1/{token}?key={token}"),
        &[],
        "",
    );
    let revoked = send(site.port, "POST /oauth2/revoke", &form, &body);
    assert_eq!(revoked.status, 200, "{revoked:?}");
    assert!(revoked.head.contains("x-request-id: "), "{revoked:?}");
    assert_eq!(verifies(site.port, token), 401);
    let (_, metrics) = get(pages, "/metrics");
    for line in [
        "lapsed_verifications_total{outcome=\"valid\"}",
        "lapsed_web_requests_total{route=\"/api/v1/verify\",status=\"200\"} 1",
        "lapsed_change_feed_age_seconds",
        "lapsed_verification_cache_hits_total",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    let log = {
        daemon.signal("-TERM");
        wait_until("the daemon stopped", || {
            daemon.log().contains("stopped").then_some(())
        });
        daemon.log()
    };
    assert!(log.contains("/oauth2/introspect"), "{log}");
    let secret_key = issued["secret_key"].as_str().unwrap();
    for part in [secret_key, &secret_key[..20], &secret_key[20..40]] {
        assert!(!log.contains(part), "{log}");
    }
}

/// A certificate for `localhost` in `tls.pem`, and its key in `tls.key`.
fn make_certificate(world: &World, common_name: &str) {
    let status = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={common_name}"),
        ])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(world.path("tls.key"))
        .arg("-out")
        .arg(world.path("tls.pem"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The common name of the certificate that the server presents.
fn presented(port: u16) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(["-servername", "localhost"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let subject = text.lines().find(|line| line.starts_with("subject="));
    subject.unwrap_or_default().replace(' ', "")
}

#[test]
fn a_certificate_is_reloaded_and_a_bad_one_keeps_the_old() {
    let mut site = Site::new(Sqlite);
    make_certificate(&site.world, "first");
    let key = site.world.path("tls.key");
    site.world
        .set("web.tls_certificate", "\"tls.pem\"")
        .set("web.tls_key", &format!("{{ file = {key:?} }}"));
    let mut daemon = Daemon::start(&site.world, "daemon");
    assert_eq!(presented(site.port), "subject=CN=first");
    make_certificate(&site.world, "second");
    daemon.signal("-HUP");
    daemon.wait_for("READY=1");
    assert_eq!(presented(site.port), "subject=CN=second");
    fs::write(site.world.path("tls.pem"), "no certificate").unwrap();
    daemon.signal("-HUP");
    daemon.wait_for("READY=1");
    assert_eq!(presented(site.port), "subject=CN=second");
    let log = daemon.log();
    assert!(
        log.contains("cannot reload; the previous settings stay"),
        "{log}"
    );
    assert!(log.contains("tls.pem"), "{log}");
    daemon.stop();
}

#[test]
fn check_looks_at_the_certificate_and_names_the_trusted_proxies() {
    let mut site = Site::new(Sqlite);
    let check = |site: &Site| site.world.run(&["check"]);
    check(&site)
        .exits(0)
        .says("ok   web: 127.0.0.1:")
        .says("without TLS; no proxy is trusted");
    make_certificate(&site.world, "first");
    let key = site.world.path("tls.key");
    site.world
        .set("web.tls_certificate", "\"tls.pem\"")
        .set("web.tls_key", &format!("{{ file = {key:?} }}"))
        .set("web.trusted_proxies", "[\"10.0.0.0/8\"]");
    // It is valid for two days.
    site.world
        .run(&["check"])
        .exits(0)
        .says("warn web: the certificate in");
    site.world
        .set("web.base_url", "\"https://tokens.example.org\"");
    check(&site)
        .exits(0)
        .says("is not for tokens.example.org, the host of [web] base_url");
    let first_key = fs::read(&key).unwrap();
    make_certificate(&site.world, "second");
    fs::write(&key, first_key).unwrap();
    check(&site)
        .exits(78)
        .says("is it the key of that certificate?")
        .says("to fix it: set [web] tls_certificate");
    fs::write(site.world.path("tls.pem"), "").unwrap();
    check(&site)
        .exits(78)
        .says("has no certificate in PEM form");
}
