//! The API over the network, on an SQLite store.

mod document;
mod ends;
mod fixture;
mod garbage;

use axum::Router;
use axum::routing::get;
use chrono::TimeDelta;
use hyper_util::service::TowerToHyperService;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::domain::service::{Credential, CredentialState, Kind, NewSecret, PublicId};

use super::state::Settings;
use fixture::{Answer, Api, bearer};

const VERIFY: &str = "/api/v1/verify";

#[tokio::test]
async fn a_valid_token_is_described_to_the_gateway() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    let answer = api.get(VERIFY, &[bearer(&token.secret)]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("lapsed-subject"), Some("ann@example.org"));
    assert_eq!(
        answer.header("lapsed-token-id"),
        Some(token.id.to_string().as_str())
    );
    assert_eq!(answer.header("lapsed-scope"), Some("*"));
    assert_eq!(answer.header("lapsed-token-expires"), None);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Authorization"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    let scoped = api
        .issue("ann@example.org", |credential| {
            credential.scopes = "app:read lib:*".parse().unwrap();
            credential.expires_at = Some(credential.created_at + TimeDelta::days(1));
        })
        .await;
    let sent = [bearer(&scoped.secret)];
    let answer = api.get(&format!("{VERIFY}?scope=app:read"), &sent).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("lapsed-scope"), Some("app:read lib:*"));
    assert!(
        answer
            .header("lapsed-token-expires")
            .unwrap()
            .ends_with('Z')
    );
    let answer = api
        .get(&format!("{VERIFY}?scope=lib:write%20app:write"), &sent)
        .await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let challenge = r#"Bearer realm="lapsed", error="insufficient_scope", scope="app:write""#;
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    // A pattern demands all that it covers.
    for (scope, status) in [
        ("lib:*", 200),
        ("lib:a", 200),
        ("app:*", 403),
        ("*:read", 403),
        ("*:*", 403),
        ("lib2:a", 403),
    ] {
        let path = format!("{VERIFY}?scope={scope}");
        let answer = api.get(&path, &sent).await;
        assert_eq!(answer.status, status, "{scope}: {answer:?}");
        let unlimited = api.get(&path, &[bearer(&token.secret)]).await;
        assert_eq!(unlimited.status, 200, "{scope}: {unlimited:?}");
    }
    api.close().await;
}

#[tokio::test]
async fn what_is_no_scope_is_a_bad_request() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    for query in [
        "scope=",
        "scope=a",
        "scope=a:b&scope=c:d",
        "scop=a:b",
        "scope=%00:a",
    ] {
        let sent = [bearer(&token.secret)];
        let answer = api.get(&format!("{VERIFY}?{query}"), &sent).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
    api.close().await;
}

/// Nothing in the answer may tell one reason from another.
#[tokio::test]
async fn every_refused_token_gets_the_same_bytes() {
    let api = Api::open(Settings::default()).await;
    let ann = "ann@example.org";
    let good = api.issue(ann, |_| ()).await;
    let expired = |credential: &mut Credential| {
        credential.expires_at = Some(credential.created_at);
    };
    let refused = [
        NewSecret::generate("lapsed", &PublicId::generate()),
        NewSecret::generate("lapsed", &good.public_id),
        api.issue(ann, expired).await.secret,
        api.issue(ann, |it| it.state = CredentialState::Revoked)
            .await
            .secret,
        api.issue(ann, |it| it.state = CredentialState::Disabled)
            .await
            .secret,
        api.issue(ann, |it| it.networks = "192.0.2.0/24".parse().unwrap())
            .await
            .secret,
        api.issue(ann, |it| {
            it.not_before = Some(it.created_at + TimeDelta::days(1));
        })
        .await
        .secret,
        api.issue("gone@example.org", |_| ()).await.secret,
        api.issue(ann, |it| it.kind = Kind::Session).await.secret,
        api.issue(ann, |it| it.kind = Kind::Refresh).await.secret,
    ];
    api.disable("gone@example.org").await;
    let mut answers = Vec::new();
    for secret in &refused {
        let answer = api.get(VERIFY, &[bearer(secret)]).await;
        assert_eq!(answer.status, 401);
        answers.push(answer.without_date());
    }
    let other_text = [("authorization", "Bearer no-token-at-all".to_owned())];
    answers.push(api.get(VERIFY, &other_text).await.without_date());
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    assert!(answers[0].contains("invalid_token"), "{}", answers[0]);
    assert_eq!(api.get(VERIFY, &[bearer(&good.secret)]).await.status, 200);
    api.close().await;
}

#[tokio::test]
async fn a_gateway_gets_only_the_agreed_statuses() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    let sent = bearer(&token.secret);
    let none = api.get(VERIFY, &[]).await;
    assert_eq!(none.status, 401);
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"lapsed\"")
    );
    let two = api
        .get(VERIFY, &[sent.clone(), ("xc-token", sent.1.clone())])
        .await;
    assert_eq!(two.status, 400, "{two:?}");
    let token = token.secret.token.expose_secret();
    let in_query = api.get(&format!("{VERIFY}?key={token}"), &[sent]).await;
    assert_eq!(in_query.status, 400, "{in_query:?}");
    assert!(!in_query.text.contains(token));
    // Refusals are not limited here: the gateway asks for all its clients.
    for _ in 0..30 {
        let refused = api
            .get(VERIFY, &[("authorization", "Bearer x".to_owned())])
            .await;
        assert_eq!(refused.status, 401);
    }
    api.close().await;
}

#[tokio::test]
async fn the_address_behind_a_trusted_proxy_is_the_clients() {
    let settings = Settings {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..Settings::default()
    };
    let api = Api::open(settings).await;
    let inside = |it: &mut Credential| {
        it.networks = "192.0.2.0/24".parse().unwrap();
    };
    let token = api.issue("ann@example.org", inside).await;
    let from = |list: &str| [bearer(&token.secret), ("x-forwarded-for", list.to_owned())];
    assert_eq!(api.get(VERIFY, &from("192.0.2.1")).await.status, 200);
    assert_eq!(
        api.get(VERIFY, &from("192.0.2.1, 198.51.100.1"))
            .await
            .status,
        401
    );
    assert_eq!(api.get(VERIFY, &[bearer(&token.secret)]).await.status, 401);
    api.close().await;
}

#[tokio::test]
async fn without_tls_only_trusted_proxies_are_served() {
    let settings = |proxy: &str| Settings {
        trusted_proxies: vec![proxy.parse().unwrap()],
        only_proxies: true,
        ..Settings::default()
    };
    let api = Api::open(settings("192.0.2.0/24")).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    let answer = api.get(VERIFY, &[bearer(&token.secret)]).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(api.get("/api/openapi.json", &[]).await.status, 403);
    api.close().await;
    let api = Api::open(settings("127.0.0.1/32")).await;
    assert_eq!(api.get("/api/openapi.json", &[]).await.status, 200);
    api.close().await;
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let api = Api::open(Settings::default()).await;
    let missing = api.get("/api/v1/nothing", &[]).await;
    assert_eq!(missing.problem(404)["type"], "urn:lapsed:problem:not-found");
    assert_eq!(missing.json()["instance"], "/api/v1/nothing");
    let id = missing.header("x-request-id").unwrap();
    assert_eq!(missing.json()["request_id"], id);
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
        let answer = api.send(method, VERIFY, &[], b"").await;
        answer.problem(405);
        let allowed = answer.header("allow").unwrap();
        assert!(allowed.contains("GET"), "{answer:?}");
    }
    let preflight = [("origin", "https://example.org".to_owned())];
    let answer = api.send("OPTIONS", VERIFY, &preflight, b"").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let head = api.send("HEAD", "/api/v1/nothing", &[], b"").await;
    assert_eq!((head.status, head.text.as_str()), (404, ""));
    api.close().await;
}

#[tokio::test]
async fn a_panic_is_a_problem_and_ends_nothing() {
    let panic = async || -> &'static str { panic!("on purpose") };
    let routes = Router::new()
        .route("/api/v1/panic", get(panic))
        .route("/panic", get(panic));
    let api = Api::with_routes(Settings::default(), |_| TowerToHyperService::new(routes)).await;
    let answer = api.get("/api/v1/panic", &[]).await;
    assert_eq!(answer.problem(500)["type"], "urn:lapsed:problem:internal");
    let page = api.get("/panic", &[]).await;
    assert_eq!(page.status, 500, "{page:?}");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    api.close().await;
}

#[tokio::test]
async fn an_address_that_fails_often_waits() {
    let api = Api::open(Settings::default()).await;
    let admin = api.issue("root@example.org", |it| it.account = None).await;
    let wrong = ("authorization", "Bearer wrong".to_owned());
    let form = b"token=x";
    let ask = async |credential: (&'static str, String)| {
        let headers = [credential, fixture::form()];
        api.send("POST", "/oauth2/introspect", &headers, form).await
    };
    for left in (0..10).rev() {
        let answer = ask(wrong.clone()).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let expected = format!("\"failures\";r={left};t=6");
        assert_eq!(answer.header("ratelimit"), Some(expected.as_str()));
    }
    let answer = ask(wrong).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(
        answer
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    let valid = ask(bearer(&admin.secret)).await;
    assert_eq!(
        valid.status, 200,
        "a valid token is not delayed by others: {valid:?}"
    );
    api.close().await;
}

#[tokio::test]
async fn introspection_tells_only_those_who_may_know() {
    let api = Api::open(Settings::default()).await;
    let subject = api
        .issue("ann@example.org", |it| {
            it.scopes = "app:read".parse().unwrap();
        })
        .await;
    let dead = api
        .issue("ann@example.org", |it| it.state = CredentialState::Revoked)
        .await;
    let root = api.issue("root@example.org", |it| it.account = None).await;
    let introspect = |it: &mut Credential| {
        it.scopes = "token:introspect".parse().unwrap();
    };
    let resource = api.issue("ann@example.org", introspect).await;
    let elsewhere = api
        .issue("eve@example.org", |it| {
            introspect(it);
            it.account = Some("other".to_owned());
        })
        .await;
    let inactive = json!({"active": false});

    let answer = api.introspect(&root.secret, &subject.secret).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let facts = answer.json();
    assert_eq!(facts["active"], true, "{facts}");
    assert_eq!(facts["scope"], "app:read");
    assert_eq!(facts["username"], "ann@example.org");
    assert_eq!(facts["client_id"], subject.id.to_string());
    assert_eq!(facts["lapsed"]["account"], "acme");
    let answer = api.introspect(&resource.secret, &subject.secret).await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");

    assert_eq!(
        api.introspect(&elsewhere.secret, &subject.secret)
            .await
            .json(),
        inactive
    );
    assert_eq!(
        api.introspect(&resource.secret, &dead.secret).await.json(),
        inactive
    );
    let unknown = NewSecret::generate("lapsed", &PublicId::generate());
    assert_eq!(
        api.introspect(&root.secret, &unknown).await.json(),
        inactive
    );
    let explained = api.introspect(&root.secret, &dead.secret).await.json();
    assert_eq!(
        explained,
        json!({"active": false, "lapsed": {"reason": "revoked"}})
    );
    api.close().await;
}

#[tokio::test]
async fn introspection_says_why_it_refuses() {
    let api = Api::open(Settings::default()).await;
    let subject = api.issue("ann@example.org", |_| ()).await;
    let root = api.issue("root@example.org", |it| it.account = None).await;
    let engineer = api.issue("ann@example.org", |_| ()).await;
    let answer = api.introspect(&engineer.secret, &subject.secret).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(answer.json()["error"], "insufficient_scope");
    let headers = [
        bearer(&root.secret),
        ("content-type", "application/json".to_owned()),
    ];
    let answer = api
        .send("POST", "/oauth2/introspect", &headers, b"{}")
        .await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (415, &json!("invalid_request"))
    );
    api.close().await;
}

async fn grant(api: &Api, headers: &[(&'static str, String)], body: &str) -> fixture::Answer {
    let headers = [headers, &[fixture::form()]].concat();
    api.send("POST", "/oauth2/token", &headers, body.as_bytes())
        .await
}

fn use_it(text: &Value) -> (&'static str, String) {
    (
        "authorization",
        format!("Bearer {}", text.as_str().unwrap()),
    )
}

#[tokio::test]
async fn a_token_is_exchanged_for_short_lived_ones() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    let given = grant(
        &api,
        &[bearer(&token.secret)],
        "grant_type=client_credentials",
    )
    .await;
    assert_eq!(given.status, 200, "{given:?}");
    let given = given.json();
    assert_eq!(
        (&given["token_type"], &given["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    assert_eq!(
        api.get(VERIFY, &[use_it(&given["access_token"])])
            .await
            .status,
        200
    );
    assert_eq!(
        api.get(VERIFY, &[use_it(&given["refresh_token"])])
            .await
            .status,
        401
    );

    let refresh = given["refresh_token"].as_str().unwrap();
    let body = format!("grant_type=refresh_token&refresh_token={refresh}");
    let renewed = grant(&api, &[], &body).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    assert_eq!(renewed.json().get("refresh_token"), None);
    assert_eq!(
        api.get(VERIFY, &[use_it(&renewed.json()["access_token"])])
            .await
            .status,
        200
    );
    let other = api.issue("ann@example.org", |_| ()).await;
    let answer = grant(&api, &[bearer(&other.secret)], &body).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!("invalid_grant"))
    );
    api.close().await;
}

#[tokio::test]
async fn an_exchange_is_refused_as_oauth_says() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    let given = grant(
        &api,
        &[bearer(&token.secret)],
        "grant_type=client_credentials",
    )
    .await;
    let given = given.json();
    let pair = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        token.secret.access_key,
        token.secret.secret_key.expose_secret()
    );
    assert_eq!(grant(&api, &[], &pair).await.status, 200);
    for (headers, body, status, code) in [
        (
            vec![],
            "grant_type=client_credentials",
            401,
            "invalid_client",
        ),
        (vec![], "grant_type=password", 400, "unsupported_grant_type"),
        (
            vec![],
            "grant_type=refresh_token&refresh_token=x",
            400,
            "invalid_grant",
        ),
        (vec![], "grant_type=refresh_token", 400, "invalid_request"),
        (vec![], "", 400, "invalid_request"),
        (
            vec![bearer(&token.secret)],
            pair.as_str(),
            400,
            "invalid_request",
        ),
        (
            vec![use_it(&given["access_token"])],
            "grant_type=client_credentials",
            400,
            "unauthorized_client",
        ),
    ] {
        let answer = grant(&api, &headers, body).await;
        let found = (
            answer.status,
            answer.json()["error"].as_str().unwrap().to_owned(),
        );
        assert_eq!(found, (status, code.to_owned()), "{body}: {answer:?}");
    }
    api.close().await;
}

#[tokio::test]
async fn clients_find_the_endpoints() {
    let settings = Settings {
        base_url: Some("https://tokens.example.org/".parse().unwrap()),
        ..Settings::default()
    };
    let api = Api::open(settings).await;
    let server = api
        .get("/.well-known/oauth-authorization-server", &[])
        .await
        .json();
    assert_eq!(server["issuer"], "https://tokens.example.org");
    assert_eq!(
        server["token_endpoint"],
        "https://tokens.example.org/oauth2/token"
    );
    assert_eq!(server["response_types_supported"], json!([]));
    let resource = api
        .get("/.well-known/oauth-protected-resource", &[])
        .await
        .json();
    assert_eq!(
        resource["authorization_servers"],
        json!(["https://tokens.example.org"])
    );
    api.close().await;
}

#[tokio::test]
async fn the_document_describes_every_operation() {
    let api = Api::open(Settings::default()).await;
    let document = api.get("/api/openapi.json", &[]).await.json();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1"),
        "{}",
        document["openapi"]
    );
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["responses"]["4XX"].is_object(), "{name}");
            assert!(operation["responses"]["5XX"].is_object(), "{name}");
            assert!(operation["summary"].is_string(), "{name} has no summary");
            let answer = api
                .send(&method.to_uppercase(), &fill(path), &[], b"")
                .await;
            let is_routed = ![404, 405].contains(&answer.status);
            let needs_no_token = operation["security"] == json!([{}]);
            assert!(is_routed || needs_no_token, "{name}: {answer:?}");
        }
    }
    api.close().await;
}

/// A path with some id for each parameter.
fn fill(path: &str) -> String {
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |filled, part| {
        let part = if part.starts_with('{') { "x" } else { part };
        filled + "/" + part
    })
}

#[tokio::test]
async fn tls_serves_and_promises_to_go_on() {
    let api = Api::open_tls(Settings::default()).await;
    let answer = api.get("/api/openapi.json", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("strict-transport-security"),
        Some("max-age=31536000")
    );
    let server = api
        .get("/.well-known/oauth-authorization-server", &[])
        .await
        .json();
    assert!(
        server["issuer"]
            .as_str()
            .unwrap()
            .starts_with("https://localhost"),
        "{server}"
    );
    let plain: Answer = api.get_without_tls("/api/openapi.json").await;
    assert_ne!(plain.status, 200);
    api.close().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let api = Api::open(Settings::default()).await;
    let root = api.issue("root@example.org", |it| it.account = None).await;
    let headers = [bearer(&root.secret), fixture::form()];
    let body = vec![b'a'; super::body::MAX_BODY_BYTES + 1];
    let answer = api
        .send("POST", "/oauth2/introspect", &headers, &body)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (413, &json!("invalid_request"))
    );
    api.close().await;
}
