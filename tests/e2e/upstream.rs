//! Requests to other systems: bounded in time and memory, with credentials that are sent nowhere else.

use std::time::Duration;

use lapsed::upstream::ProxyRules;
use lapsed::upstream::http::Client;
use rstest::rstest;
use serde_json::{Value, json};

use crate::stub::{Answer, Stub};

async fn fetch(stub: &Stub) -> Result<Value, String> {
    let base = format!("{}/api", stub.url).parse().unwrap();
    let web = Client::new(&base, None, Duration::from_secs(5), &ProxyRules::default()).unwrap();
    let answer = web.get("tokens").query("limit", "500").json().await;
    answer.map_err(|error| error.to_string())
}

#[rstest]
#[case::status(|| Answer::text(403, "secret"), "answered 403 Forbidden")]
#[case::code(|| Answer::text(401, r#"{"error":"invalid_client","error_description":"secret"}"#), "answered 401 Unauthorized (invalid_client)")]
#[case::redirect(
    || Answer::status(302).with("location", "https://evil.example.org/x"),
    "redirects to https://evil.example.org"
)]
#[case::not_json(|| Answer::text(200, "<html>secret"), "not JSON at line 1, column 1")]
#[case::half(|| Answer::text(200, "{\"items\":[\"secret"), "ends in the middle")]
#[case::trailing(|| Answer::text(200, "{\"items\":[]}\n<html>secret"), "there is more after its end")]
#[case::cut(|| Answer::cut("{\"items\":[\"secret"), "cannot reach")]
#[case::huge(|| Answer::endless(2 << 30), "more than 32 MiB")]
#[case::busy(|| Answer::status(429).with("retry-after", "120"), "asks to wait 120 s")]
#[case::busy_until(
    || Answer::status(503)
        .with("date", "Sat, 21 Nov 2026 08:00:00 GMT")
        .with("retry-after", "Sat, 21 Nov 2026 08:01:30 GMT"),
    "asks to wait 90 s"
)]
#[case::busy_until_unix_time(
    || Answer::status(429)
        .with("date", "Sat, 21 Nov 2026 08:00:00 GMT")
        .with("x-rate-limit-reset", "1795248090"),
    "asks to wait 90 s"
)]
#[case::unavailable(
    || Answer::status(503)
        .with("date", "Sat, 21 Nov 2026 08:00:00 GMT")
        .with("x-rate-limit-reset", "1795248090"),
    "answered 503 Service Unavailable"
)]
#[case::busy_without_end(
    || Answer::status(429).with("x-rate-limit-reset", "soon"),
    "asks to wait 60 s"
)]
#[case::busy_for_years(|| Answer::status(429).with("retry-after", "99999999"), "asks to wait 86400 s")]
#[tokio::test]
async fn a_bad_response_is_an_error_that_does_not_show_it(
    #[case] answer: fn() -> Answer,
    #[case] message: &str,
) {
    let stub = Stub::start(move |_| answer());
    let error = fetch(&stub).await.unwrap_err();
    assert_contains!(error, message);
    assert_lacks!(error, "secret", "limit");
}

#[tokio::test]
async fn a_short_wait_is_followed_by_retries() {
    let stub = Stub::start(|asked| {
        assert_eq!(
            (asked.line().as_str(), asked.query("limit")),
            ("GET /api/tokens", Some("500"))
        );
        Answer::status(429).with("retry-after", "0")
    });
    let error = fetch(&stub).await.unwrap_err();
    assert_contains!(error, "asks to wait 0 s");
    assert_eq!(stub.requests().len(), 4, "one attempt and three retries");
    let stub = Stub::start(|_| Answer::json(&json!({"items": []})));
    assert_eq!(fetch(&stub).await, Ok(json!({"items": []})));
}

#[tokio::test]
async fn a_refused_connection_is_reported() {
    let stub = Stub::start(|_| Answer::status(200));
    let base = stub.url.parse().unwrap();
    drop(stub);
    let web = Client::new(&base, None, Duration::from_secs(5), &ProxyRules::default()).unwrap();
    let error = web
        .get("tokens")
        .json::<Value>()
        .await
        .unwrap_err()
        .to_string();
    assert_contains!(error, "cannot reach GET http://127.0.0.1", "refused");
}
