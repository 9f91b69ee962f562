//! Requests by an HTTP proxy.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

use crate::stub::{Answer, Stub};
use crate::world::{Db, World};

/// A proxy that leads every host to one server, and lets no tunnel through.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = target.trim_start_matches("http://").to_owned();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (target, log) = (target.clone(), Arc::clone(&log));
                thread::spawn(move || serve(client.unwrap(), &target, &log));
            }
        });
        Self { port, heads }
    }

    fn take_heads(&self) -> String {
        std::mem::take(&mut *self.heads.lock().unwrap()).join("\n")
    }
}

/// Forwards one request; the connection is not reused.
fn serve(mut client: TcpStream, target: &str, log: &Mutex<Vec<String>>) {
    let mut head = String::new();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    log.lock().unwrap().push(head.clone());
    if head.starts_with("CONNECT ") {
        client
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        return;
    }
    let mut server = TcpStream::connect(target).unwrap();
    let head = head.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    server.write_all(head.as_bytes()).unwrap();
    let _ = io::copy(&mut server, &mut client);
}

fn scim() -> Stub {
    Stub::start(|request| match request.path.as_str() {
        "/Users" => Answer::json(&json!({"totalResults": 1, "Resources": [{
            "id": "1", "userName": "ada@example.org", "active": true,
        }]})),
        _ => Answer::status(404),
    })
}

fn world(url: &str, more: &str) -> World {
    let mut world = World::new(Db::Sqlite);
    world.table(&format!(
        "[[directory]]\nname = 'hr'\nkind = 'scim'\nurl = '{url}'\ntoken = 't'\n{more}"
    ));
    world
}

#[test]
fn a_directory_is_read_by_its_proxy() {
    let stub = scim();
    let proxy = Proxy::start(&stub.url);
    let place = format!("http://127.0.0.1:{}", proxy.port);
    let mut world = world(
        "http://idp.lapsed.invalid/scim",
        &format!(
            "allow_plaintext = true\nproxy = 'http://ada:hush@127.0.0.1:{}'",
            proxy.port
        ),
    );
    stub.intercept(|request, stub| {
        let mut request = request.clone();
        request.path = request.path.replace("/scim", "");
        stub(&request)
    });
    world.env("RUST_LOG", "trace");
    let checked = world.run(&["directory", "check", "hr"]);
    checked.exits(0).says(&format!(", by the proxy {place}"));
    let heads = proxy.take_heads();
    assert!(
        heads.contains("GET http://idp.lapsed.invalid/scim/Users"),
        "{heads}"
    );
    // `ada:hush` in Base64.
    assert!(
        heads
            .to_lowercase()
            .contains("proxy-authorization: basic ywrhomh1c2g="),
        "{heads}"
    );
    let all = world.run(&["check"]);
    all.says(&format!(", by the proxy {place}"));
    for ran in [&checked, &all] {
        for secret in ["hush", "YWRhOmh1c2g="] {
            assert!(
                !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
                "{ran:?}"
            );
        }
    }
}

#[test]
fn the_environment_names_the_proxy_and_the_exceptions() {
    let stub = scim();
    let proxy = Proxy::start(&stub.url);
    let place = format!("http://127.0.0.1:{}", proxy.port);
    let mut world = world("https://idp.lapsed.invalid/scim", "");
    world.env("HTTPS_PROXY", &place);
    let checked = world.run(&["directory", "check", "hr"]);
    checked.exits(1).says(&format!("(by the proxy {place})"));
    assert!(
        proxy
            .take_heads()
            .starts_with("CONNECT idp.lapsed.invalid:443 ")
    );

    world.env("NO_PROXY", ".lapsed.invalid");
    world.run(&["directory", "check", "hr"]).exits(1);
    world.env("NO_PROXY", "").replace_tables(
        "[[directory]]\nname = 'hr'\nkind = 'scim'\nurl = 'https://idp.lapsed.invalid'\ntoken = 't'\n\
         proxy = 'off'",
    );
    world.run(&["directory", "check", "hr"]).exits(1);
    assert_eq!(proxy.take_heads(), "");
}

#[test]
fn this_machine_is_reached_without_the_proxy() {
    let stub = scim();
    let proxy = Proxy::start(&stub.url);
    let mut world = world(&stub.url, "");
    world.env("HTTP_PROXY", &format!("http://127.0.0.1:{}", proxy.port));
    world.run(&["directory", "check", "hr"]).exits(0);
    assert_eq!(proxy.take_heads(), "");
}
