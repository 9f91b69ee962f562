use std::net::SocketAddr;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::listener::SHUTDOWN_TIMEOUT;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

struct Fixed {
    readiness: Readiness,
    stalled_work: Option<&'static str>,
    has_numbers: bool,
}

impl Default for Fixed {
    fn default() -> Self {
        let readiness = Readiness {
            store_fault: None,
            last_sweep: Some(LastSweep {
                ended_at: at(1_764_000_000),
                succeeded: true,
            }),
            fresh_since: at(1_763_999_000),
            mail_due_at: None,
            mail_tried_at: at(1_764_000_000),
            delivering_since: at(1_763_999_000),
        };
        Self {
            readiness,
            stalled_work: None,
            has_numbers: true,
        }
    }
}

#[async_trait]
impl Health for Fixed {
    async fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn stalled_work(&self) -> Option<&'static str> {
        self.stalled_work
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        if self.has_numbers {
            Ok(Snapshot::default())
        } else {
            Err("password=hunter2 was refused".into())
        }
    }
}

/// A served port.
struct Port {
    address: SocketAddr,
    stopping: CancellationToken,
    served: JoinHandle<io::Result<()>>,
}

impl Port {
    async fn open(health: impl Health) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let served = tokio::spawn(serve(listener, Arc::new(health), stopping.clone()));
        Self {
            address,
            stopping,
            served,
        }
    }

    async fn send(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn request(&self, method: &str, path: &str) -> String {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: lapsed\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn stop(self) {
        self.stopping.cancel();
        self.served.await.unwrap().unwrap();
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn each_page_answers_only_get_and_head() {
    let port = Port::open(Fixed::default()).await;
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        let get = port.request("GET", path).await;
        assert_eq!(status(&get), 200, "{path}: {get}");
        assert!(get.contains("cache-control: no-store\r\n"), "{get}");
        let head = port.request("HEAD", path).await;
        assert_eq!(status(&head), 200, "{path}: {head}");
        assert_eq!(body(&head), "");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(
                status(&port.request(method, path).await),
                405,
                "{method} {path}"
            );
        }
    }
    for path in ["/metrics/", "/healthz/x", "//", "/favicon.ico"] {
        assert_eq!(status(&port.request("GET", path).await), 404, "{path}");
    }
    assert_eq!(body(&port.request("GET", "/healthz").await), "ok");
    port.stop().await;
}

#[tokio::test]
async fn a_ready_daemon_reports_it_in_json() {
    let port = Port::open(Fixed::default()).await;
    let answer = port.request("GET", "/readyz").await;
    assert!(answer.contains("content-type: application/json\r\n"));
    insta::assert_snapshot!(body(&answer), @r#"{"ready":true,"store":"ok","last_sweep":{"ended_at":"2025-11-24T16:00:00Z","succeeded":true},"reason":null}"#);
    port.stop().await;
}

#[tokio::test]
async fn a_daemon_without_its_store_is_not_ready_and_reports_why() {
    let mut health = Fixed::default();
    health.readiness.store_fault = Some("cannot connect".to_owned());
    let port = Port::open(health).await;
    let answer = port.request("GET", "/readyz").await;
    assert_eq!(status(&answer), 503);
    insta::assert_snapshot!(body(&answer), @r#"{"ready":false,"store":"cannot connect","last_sweep":{"ended_at":"2025-11-24T16:00:00Z","succeeded":true},"reason":"the store does not answer"}"#);
    assert_eq!(status(&port.request("GET", "/healthz").await), 200);
    port.stop().await;
}

#[tokio::test]
async fn a_daemon_whose_work_has_stalled_is_to_be_restarted() {
    let health = Fixed {
        stalled_work: Some("the delivery"),
        ..Fixed::default()
    };
    let port = Port::open(health).await;
    let answer = port.request("GET", "/healthz").await;
    assert_eq!(status(&answer), 503);
    assert_eq!(body(&answer), "the delivery has stalled\n");
    port.stop().await;
}

/// A store that never answers.
struct Stuck;

#[async_trait]
impl Health for Stuck {
    async fn readiness(&self) -> Readiness {
        std::future::pending().await
    }

    fn stalled_work(&self) -> Option<&'static str> {
        None
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_hanging_store_is_reported_before_the_probe_times_out() {
    let port = Port::open(Stuck).await;
    let answer = port.request("GET", "/readyz").await;
    assert_eq!(status(&answer), 503);
    insta::assert_snapshot!(body(&answer), @r#"{"ready":false,"store":"no answer in time","last_sweep":null,"reason":"the store does not answer"}"#);
    port.stop().await;
}

#[tokio::test]
async fn the_reason_for_missing_metrics_is_not_shown() {
    let port = Port::open(Fixed {
        has_numbers: false,
        ..Fixed::default()
    })
    .await;
    let answer = port.request("GET", "/metrics").await;
    assert_eq!(status(&answer), 503);
    assert!(!answer.contains("hunter2"));
    port.stop().await;
}

#[tokio::test]
async fn metrics_have_the_content_type_of_prometheus() {
    let port = Port::open(Fixed::default()).await;
    let answer = port.request("GET", "/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"));
    assert!(body(&answer).contains("# TYPE lapsed_mails_total counter\n"));
    port.stop().await;
}

#[tokio::test]
async fn an_oversized_head_and_a_body_are_refused() {
    let port = Port::open(Fixed::default()).await;
    let many = "x-more: 1\r\n".repeat(200);
    let answer = port.send(&format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
    assert_eq!(status(&answer), 431);
    let answer = port
        .send("POST / HTTP/1.1\r\nhost: lapsed\r\ncontent-length: 1000000000\r\n\r\n")
        .await;
    assert_eq!(status(&answer), 405, "without waiting for the body");
    port.stop().await;
}

#[tokio::test]
async fn a_silent_caller_does_not_block_the_stop() {
    let port = Port::open(Fixed::default()).await;
    let mut silent = TcpStream::connect(port.address).await.unwrap();
    let mut slow = TcpStream::connect(port.address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    assert_eq!(status(&port.request("GET", "/").await), 200);
    let stopped = tokio::time::timeout(SHUTDOWN_TIMEOUT * 3, port.stop()).await;
    assert!(stopped.is_ok());
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn idle_and_slow_callers_make_room_for_others() {
    let port = Port::open(Fixed::default()).await;
    let mut callers = Vec::new();
    for nth in 0..200 {
        let mut caller = TcpStream::connect(port.address).await.unwrap();
        if nth < MAX_CONNECTIONS {
            caller
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: lapsed\r\n\r\n")
                .await
                .unwrap();
            assert!(caller.read(&mut [0; 1024]).await.unwrap() > 0);
        } else {
            caller.write_all(b"GET / HT").await.unwrap();
        }
        callers.push(caller);
    }
    assert_eq!(status(&port.request("GET", "/healthz").await), 200);
    assert_eq!(
        callers[0].read(&mut [0; 1024]).await.unwrap_or(0),
        0,
        "it made room"
    );
    port.stop().await;
}
