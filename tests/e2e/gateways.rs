//! The gateways of deploy/: nginx and Caddy before an application, with the daemon beside them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::daemon::{Daemon, free_port};
use crate::waiting::wait_until;
use crate::web::{Answer, Site, secret, send};
use crate::world::{Db, World};

struct Gateway {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An application that answers with the request that it got.
fn start_application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(|| echo(stream.unwrap()));
        }
    });
    port
}

fn echo(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut seen = String::new();
    let mut length = 0;
    loop {
        let start = seen.len();
        if reader.read_line(&mut seen).unwrap_or(0) == 0 {
            return;
        }
        let line = seen[start..].trim().to_lowercase();
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    seen += &String::from_utf8(body).unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        seen.len()
    );
    let _ = reader.get_mut().write_all((head + &seen).as_bytes());
}

/// An example with the ports of this test. Each must have the line that is replaced.
fn example(name: &str, replaced: &[(&str, String)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name);
    let mut text = fs::read_to_string(path).unwrap();
    for (old, new) in replaced {
        assert!(text.contains(old), "{name} lacks {old}");
        text = text.replace(old, new);
    }
    text
}

fn wait_for_port(gateway: Gateway) -> Gateway {
    wait_until("the gateway listens", || {
        TcpStream::connect(("127.0.0.1", gateway.port)).ok()
    });
    gateway
}

fn start_nginx(world: &World, lapsed: u16, application: u16) -> Gateway {
    let port = free_port();
    let log = world.path("access.log");
    let site = example(
        "nginx/lapsed.conf",
        &[
            (":8485", format!(":{lapsed}")),
            (":8080", format!(":{application}")),
            (":8081", format!(":{port}")),
            (
                "/var/log/nginx/lapsed-gateway.log",
                log.display().to_string(),
            ),
        ],
    );
    world.write("site.conf", site);
    let folder = world
        .path("nginx.conf")
        .parent()
        .unwrap()
        .display()
        .to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary
        .map(|kind| format!("{kind}_temp_path {folder}/nginx-{kind};"))
        .concat();
    let main = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n\
         events {{}} http {{ {temporary} include {folder}/site.conf; }}"
    );
    world.write("nginx.conf", main);
    let child = Command::new("/usr/sbin/nginx")
        .args(["-p", &folder, "-c", &format!("{folder}/nginx.conf")])
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx; scripts/test installs it");
    wait_for_port(Gateway { child, port, log })
}

fn start_caddy(world: &World, lapsed: u16, application: u16) -> Gateway {
    let port = free_port();
    let log = world.path("access.log");
    let file = example(
        "caddy/Caddyfile",
        &[
            (":8485", format!(":{lapsed}")),
            (":8080", format!(":{application}")),
            (":8082", format!(":{port}")),
        ],
    );
    world.write("Caddyfile", file);
    let folder = world.path("");
    let child = Command::new("caddy")
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(world.path("Caddyfile"))
        .env("HOME", &folder)
        .env("XDG_DATA_HOME", &folder)
        .env("XDG_CONFIG_HOME", &folder)
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .expect("caddy; scripts/test installs it");
    wait_for_port(Gateway { child, port, log })
}

const FORGED: [(&str, &str); 6] = [
    ("Lapsed-Subject", "forged@example.org"),
    ("Lapsed-Token-Id", "forged"),
    ("Lapsed-Scope", "forged:all"),
    ("Lapsed-Token-Expires", "forged"),
    ("Lapsed_Subject", "forged@example.org"),
    ("lapsed-subject", "forged@example.org"),
];

/// What the application got, after the request line.
fn forwarded(answer: &Answer, name: &str) -> Option<String> {
    let lines = answer.body.lines().map(str::to_lowercase);
    let mut found =
        lines.filter_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    let first = found.next();
    assert_eq!(found.next(), None, "{name} occurs twice: {answer:?}");
    first
}

fn check(start: fn(&World, u16, u16) -> Gateway) {
    let mut site = Site::new(Db::Sqlite);
    site.world
        .set("web.trusted_proxies", "[\"127.0.0.1/32\"]")
        .set("service.allow_never", "true")
        .set("service.headers", "[\"xc-token\"]");
    let limited = site.issue(&["--expires", "7d", "--scope", "app:read"]);
    let elsewhere = site.issue(&["--network", "192.0.2.0/24"]);
    let daemon = Daemon::start(&site.world, "daemon");
    let gateway = start(&site.world, site.port, start_application());
    let ask = |credential: &str, further: &[(&str, &str)]| {
        let mut headers = FORGED.to_vec();
        headers.extend_from_slice(further);
        headers.push(("Authorization", credential));
        send(
            gateway.port,
            "POST /orders?access_token=x",
            &headers,
            "an order",
        )
    };
    let bearer = format!("Bearer {}", secret(&limited));
    let answer = ask(&bearer, &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.body.contains("forged"), "{answer:?}");
    assert!(!answer.body.contains(secret(&limited)), "{answer:?}");
    assert!(answer.body.ends_with("an order"), "{answer:?}");
    let header = |name: &str| forwarded(&answer, name).unwrap();
    assert_eq!(header("lapsed-subject"), "ann@example.org");
    assert_eq!(header("lapsed-scope"), "app:read");
    assert_eq!(header("lapsed-token-id"), limited["id"].as_str().unwrap());
    assert!(header("lapsed-token-expires").ends_with('z'));

    // The gateway adds the address that it sees: what the client writes before it counts for nothing.
    let bearer_elsewhere = format!("Bearer {}", secret(&elsewhere));
    let claim = [("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(ask(&bearer_elsewhere, &claim).status, 401);

    let never = site.issue(&["--expires", "never"]);
    let keys = ["access_key", "secret_key"].map(|key| never[key].as_str().unwrap());
    let basic = format!("Basic {}", STANDARD.encode(keys.join(":")));
    let answer = ask(&basic, &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.body.contains("forged"), "{answer:?}");
    let expires = forwarded(&answer, "lapsed-token-expires");
    assert_eq!(expires.unwrap_or_default().trim(), "", "{answer:?}");

    refuses(ask, &bearer);
    assert_eq!(send(gateway.port, "GET /", &FORGED, "").status, 401);

    let log = wait_until("the gateway logged", || {
        let log = fs::read_to_string(&gateway.log).ok()?;
        log.contains("/orders").then_some(log)
    });
    for part in [keys[0], keys[1], secret(&limited), "access_token"] {
        assert!(!log.contains(part), "{part} is in {log}");
    }
    daemon.stop();
}

fn refuses(ask: impl Fn(&str, &[(&str, &str)]) -> Answer, bearer: &str) {
    assert_eq!(ask("Bearer wrong", &[]).status, 401);
    let two = ask(bearer, &[("xc-token", "other")]);
    assert_eq!(two.status, 401, "two credentials: {two:?}");
}

#[test]
fn nginx_lets_only_valid_tokens_through() {
    check(start_nginx);
}

#[test]
fn caddy_lets_only_valid_tokens_through() {
    check(start_caddy);
}
