//! Bad input: nothing that a caller sends makes lapsed fail.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use secrecy::ExposeSecret as _;

use super::fixture::{Answer, Api, bearer};
use crate::domain::service::NewSecret;
use crate::web::state::Settings;

const REQUESTS: usize = 10_000;
/// In place of an id: something that is there.
const TARGET: &str = "TARGET";

/// One request, and what it is made of.
#[derive(Debug, Clone)]
struct Garbage {
    method: &'static str,
    path: usize,
    id: String,
    query: String,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,60}",
        "[a-z_]{1,12}(=|:|%)[ -~]{0,20}",
        Just("%00%ff%".to_owned()),
        Just("\u{feff}{\"name\":\"\u{0}\"}".to_owned()),
        Just("9".repeat(400)),
    ]
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-1e999".to_owned()),
        Just("9223372036854775808".to_owned()),
        Just("\"\\u0000\"".to_owned()),
        Just("\"9999-12-31T23:59:59Z\"".to_owned()),
        Just("\"-262143-01-01T00:00:00Z\"".to_owned()),
        Just("\"99999999999999d\"".to_owned()),
        "\"[a-z:*@. ]{0,30}\"",
        Just(format!("\"{}\"", "x".repeat(70_000))),
    ];
    let member = prop_oneof![
        Just("name"),
        Just("description"),
        Just("account"),
        Just("role"),
        Just("scopes"),
        Just("kind"),
        Just("expires_in"),
        Just("expires_at"),
        Just("never"),
        Just("networks"),
        Just("not_before"),
        Just("overlap"),
        Just("steps"),
        Just("address"),
        Just("nmae"),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let pair = (member.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(pair, 0..6).prop_map(|pairs| {
                let pairs = pairs.iter();
                let pairs: Vec<_> = pairs
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

fn form() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("token"),
        Just("grant_type"),
        Just("client_id"),
        Just("client_secret"),
        Just("refresh_token"),
        Just("scope"),
        Just("client_address"),
    ];
    let value = prop_oneof![
        Just("client_credentials".to_owned()),
        Just("refresh_token".to_owned()),
        Just("TOKEN".to_owned()),
        "[ -~]{0,40}",
        Just("%00".to_owned()),
    ];
    proptest::collection::vec((name, value), 0..5).prop_map(|pairs| {
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("&")
    })
}

fn garbage() -> impl Strategy<Value = Garbage> {
    let method = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("PATCH"),
        Just("DELETE"),
        Just("HEAD"),
        Just("OPTIONS"),
    ];
    let content_type = prop_oneof![
        4 => Just("application/json"),
        3 => Just("application/x-www-form-urlencoded"),
        1 => Just("application/merge-patch+json"),
        1 => Just("text/plain; charset=\u{fffd}"),
    ];
    let header = prop_oneof![
        "[ -~]{0,80}".prop_map(|value| ("authorization", value)),
        prop_oneof![
            Just("Bearer "),
            Just("Basic "),
            Just("APIKey "),
            Just("Digest ")
        ]
        .prop_flat_map(|scheme| {
            "[ -~]{0,80}".prop_map(move |value| ("authorization", format!("{scheme}{value}")))
        }),
        "[ -~]{0,40}".prop_map(|value| ("xc-token", value)),
        "[ -~]{0,40}".prop_map(|value| ("if-match", value)),
        "[ -~]{0,300}".prop_map(|value| ("idempotency-key", value)),
        "[0-9a-f.:, ]{0,40}".prop_map(|value| ("x-forwarded-for", value)),
        "[ -~]{0,40}".prop_map(|value| ("x-request-id", value)),
        Just(("if-match", "\"1\"".to_owned())),
        Just(("if-match", "*".to_owned())),
    ];
    let body = prop_oneof![
        4 => json().prop_map(String::into_bytes),
        2 => form().prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => Just(b"[".repeat(10_000)),
    ];
    (
        (method, any::<prop::sample::Index>()),
        (prop_oneof![Just(TARGET.to_owned()), text()], text()),
        content_type,
        proptest::collection::vec(header, 0..3),
        body,
    )
        .prop_map(
            |((method, path), (id, query), content_type, headers, body)| Garbage {
                method,
                path: path.index(1000),
                id,
                query,
                content_type,
                headers,
                body,
            },
        )
}

const VICTIM: &str = "victim@example.org";
const ACCOUNT: &str = "acme";

/// What requests may change and end.
struct Target {
    token: String,
}

impl Target {
    async fn new(api: &Api) -> Self {
        let issued = api.issue(VICTIM, |_| {}).await;
        Self {
            token: issued.id.to_string(),
        }
    }
}

/// The characters that a request line may have.
fn plain(text: &str) -> String {
    let is_plain = |letter: &char| letter.is_ascii_graphic() && !"#?".contains(*letter);
    text.chars().filter(is_plain).collect()
}

async fn send(
    api: &Api,
    garbage: &Garbage,
    paths: &[String],
    target: &Target,
    token: Option<&NewSecret>,
) -> Answer {
    let path = &paths[garbage.path % paths.len()];
    let id = plain(&garbage.id).replace('/', "%2f");
    let filled: Vec<_> = path
        .split('/')
        .map(|part| match part {
            part if !part.starts_with('{') => part,
            "{key}" if id == TARGET => VICTIM,
            "{name}" if id == TARGET => ACCOUNT,
            _ if id == TARGET => &target.token,
            _ => &id,
        })
        .collect();
    let target = format!("{}?{}", filled.join("/"), plain(&garbage.query));
    let mut headers = garbage.headers.clone();
    headers.push(("content-type", garbage.content_type.to_owned()));
    let mut body = garbage.body.clone();
    if let Some(token) = token {
        headers.retain(|(name, _)| !["authorization", "xc-token"].contains(name));
        headers.push(bearer(token));
        let secret = token.token.expose_secret();
        if let Ok(text) = std::str::from_utf8(&body) {
            body = text
                .replace("token=TOKEN&", &format!("client_secret={secret}&"))
                .into_bytes();
        }
    }
    let answer = api.send(garbage.method, &target, &headers, &body).await;
    assert!(
        (200..500).contains(&answer.status),
        "{} {target} {headers:?} {:?}: {answer:?}",
        garbage.method,
        String::from_utf8_lossy(&body),
    );
    // What is no HTTP gets a bare 400 before lapsed sees it.
    let is_http = answer.header("cache-control").is_some();
    assert!(is_http || answer.status == 400, "{answer:?}");
    if is_http && answer.status >= 400 && garbage.method != "HEAD" {
        let kind = answer.header("content-type").unwrap_or_default();
        let expected = if target.starts_with("/oauth2/") {
            "application/json"
        } else {
            "application/problem+json"
        };
        assert_eq!(kind, expected, "{target}: {answer:?}");
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_input_makes_the_api_fail() {
    let api = Api::open(Settings::default()).await;
    let document = api.get("/api/openapi.json", &[]).await.json();
    let paths = document["paths"].as_object().unwrap().keys();
    let paths: Vec<String> = paths.cloned().collect();
    let root = api.issue("root@example.org", |it| it.account = None).await;
    let mut runner = TestRunner::deterministic();
    let strategy = garbage();
    let mut target = Target::new(&api).await;
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for number in 0..REQUESTS {
        let garbage = strategy.new_tree(&mut runner).unwrap().current();
        let token = (number % 4 != 0).then_some(&root.secret);
        let answer = send(&api, &garbage, &paths, &target, token).await;
        assert!(!answer.text.contains(root.secret.secret_key.expose_secret()));
        if token.is_some() && garbage.id == TARGET && garbage.method != "GET" {
            *statuses.entry(answer.status).or_default() += 1;
        }
        if answer.status == 204 {
            target = Target::new(&api).await;
        }
    }
    // What does something is reached, with bodies that are right and wrong.
    for status in [200, 204, 412, 415, 422, 428] {
        let count = statuses.get(&status).copied().unwrap_or_default();
        assert!(count >= 10, "{status}: {statuses:?}");
    }
    assert_eq!(
        api.get("/api/v1/verify", &[bearer(&root.secret)])
            .await
            .status,
        200
    );
    api.close().await;
}
