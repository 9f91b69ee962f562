//! The limits of the web listener: connections, heads and bodies.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::daemon::Daemon;
use crate::waiting::wait_until;
use crate::web::{Answer, Site, read_answer, secret, send};
use crate::world::Db::Sqlite;

const MIB: usize = 1024 * 1024;

fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).unwrap()
}

/// Asks on a connection that stays open.
fn verify_on(stream: &mut TcpStream, token: &str) -> io::Result<String> {
    let request = format!(
        "GET /api/v1/verify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[test]
fn a_thousand_connections_of_one_trusted_proxy_are_served_at_once() {
    let mut site = Site::new(Sqlite);
    site.world.set("web.trusted_proxies", "[\"127.0.0.1/32\"]");
    let issued = site.issue(&[]);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut connections: Vec<_> = (0..1000).map(|_| connect(site.port)).collect();
    // Twice on each: none was closed for another.
    for _ in 0..2 {
        for connection in &mut connections {
            let head = verify_on(connection, secret(&issued)).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
    }
    drop(connections);
    daemon.stop();
}

#[test]
fn another_client_has_64_connections_and_makes_room_for_itself() {
    let mut site = Site::new(Sqlite);
    site.world.set("web.trusted_proxies", "[\"192.0.2.0/24\"]");
    let issued = site.issue(&[]);
    let daemon = Daemon::start(&site.world, "daemon");
    let mut connections: Vec<_> = (0..64).map(|_| connect(site.port)).collect();
    for connection in &mut connections {
        verify_on(connection, secret(&issued)).unwrap();
    }
    assert!(!connections.iter_mut().any(is_closed));
    let mut further = wait_until("a further connection is served", || {
        let mut further = connect(site.port);
        verify_on(&mut further, secret(&issued)).ok()?;
        Some(further)
    });
    let closed = wait_until("another is closed", || {
        connections.iter_mut().position(is_closed)
    });
    assert_eq!(closed, 0, "the one that is idle longest");
    assert!(!is_closed(&mut further));
    drop(connections);
    daemon.stop();
}

/// Reads until the server closes.
fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // The server may close before it has read everything.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[track_caller]
fn is_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(
        answer.head.contains("application/problem+json"),
        "{answer:?}"
    );
}

#[test]
fn heads_and_bodies_are_limited_in_time_and_size() {
    let site = Site::new(Sqlite);
    let issued = site.issue(&[]);
    let bearer = format!("Bearer {}", secret(&issued));
    let daemon = Daemon::start(&site.world, "daemon");
    let json = ("Content-Type", "application/json");
    let asks = [("Authorization", bearer.as_str()), json];

    let mut slow_head = connect(site.port);
    slow_head
        .write_all(b"GET /api/v1/verify HTTP/1.1\r\nHost: lo")
        .unwrap();
    let mut slow_body = connect(site.port);
    let head = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\
         Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{{\"name\""
    );
    slow_body.write_all(head.as_bytes()).unwrap();

    let body = |length: usize| format!("{{\"name\": 1, \"x\": \"{}\"}}", "x".repeat(length - 20));
    assert_eq!(body(MIB).len(), MIB);
    let largest = send(site.port, "POST /api/v1/tokens", &asks, &body(MIB));
    is_problem(&largest, 422);
    let too_large = send(site.port, "POST /api/v1/tokens", &asks, &body(MIB + 1));
    is_problem(&too_large, 413);
    // Without a length, it is counted.
    let mut chunked = connect(site.port);
    let head = format!(
        "POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        MIB + 1,
        body(MIB + 1)
    );
    let _ = chunked.write_all(head.as_bytes());
    is_problem(&read_answer(&read_all(&mut chunked)).unwrap(), 413);

    for headers in [
        format!("X: {}\r\n", "x".repeat(200_000)),
        "X: x\r\n".repeat(200),
    ] {
        let mut stream = connect(site.port);
        let head = format!("GET /api/v1/verify HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes());
        let text = read_all(&mut stream);
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    }

    let head = read_all(&mut slow_head);
    assert!(
        head.is_empty() || head.starts_with("HTTP/1.1 408 "),
        "{head}"
    );
    is_problem(&read_answer(&read_all(&mut slow_body)).unwrap(), 408);
    daemon.stop();
}
