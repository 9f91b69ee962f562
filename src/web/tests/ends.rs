//! Tokens that end over the API: by their holder, and because they leaked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::fixture::{Answer, Api, Header, bearer, form};
use crate::domain::service::{LeakKey, NewSecret, OldSecret, PublicId, StoredSecret, Terms};
use crate::web::state::Settings;

const VERIFY: &str = "/api/v1/verify";

async fn is_valid(api: &Api, secret: &NewSecret) -> bool {
    api.get(VERIFY, &[bearer(secret)]).await.status == 200
}

#[tokio::test]
async fn to_have_a_token_is_enough_to_end_it() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await;
    let other = api.issue("ann@example.org", |_| ()).await;
    let grant = [bearer(&token.secret), form()];
    let derived = api
        .send(
            "POST",
            "/oauth2/token",
            &grant,
            b"grant_type=client_credentials",
        )
        .await
        .json();
    let access = derived["access_token"].as_str().unwrap();
    let access = [("authorization", format!("Bearer {access}"))];
    assert_eq!(api.get(VERIFY, &access).await.status, 200);

    let revoke = async |text: &str| {
        let body = format!("token={text}&token_type_hint=whatever");
        api.send("POST", "/oauth2/revoke", &[form()], body.as_bytes())
            .await
    };
    let unknown = NewSecret::generate("lapsed", &PublicId::generate());
    let wrong = NewSecret::generate("lapsed", &token.public_id);
    for text in [
        unknown.token.expose_secret(),
        wrong.token.expose_secret(),
        "x",
    ] {
        assert_eq!(revoke(text).await.status, 200);
    }
    assert!(is_valid(&api, &token.secret).await);
    for _ in 0..2 {
        let answer = revoke(token.secret.token.expose_secret()).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, ""),
            "{answer:?}"
        );
        assert!(!is_valid(&api, &token.secret).await);
    }
    assert_eq!(api.get(VERIFY, &access).await.status, 401);
    assert!(is_valid(&api, &other.secret).await);
    api.close().await;
}

struct Scanner(EcdsaKeyPair);

impl Scanner {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
    }

    fn sign(&self, key: &str, body: &str) -> [Header; 2] {
        let signature = self.0.sign(&SystemRandom::new(), body.as_bytes()).unwrap();
        [
            ("github-public-key-identifier", key.to_owned()),
            ("github-public-key-signature", STANDARD.encode(signature)),
        ]
    }
}

async fn report(api: &Api, body: &str, headers: &[Header]) -> Answer {
    let json = ("content-type", "application/json".to_owned());
    let headers = [headers, &[json]].concat();
    api.send("POST", "/api/v1/leaks", &headers, body.as_bytes())
        .await
}

#[tokio::test]
async fn a_reported_token_ends_and_only_known_reporters_get_a_verdict() {
    let scanner = Scanner::new();
    let key = LeakKey {
        id: "scanner".to_owned(),
        point: scanner.0.public_key().as_ref().to_vec(),
    };
    let terms = Terms {
        leak_reports: true,
        leak_keys: vec![key],
        ..Terms::default()
    };
    let api = Api::with_terms(terms).await;
    let first = api.issue("ann@example.org", |_| ()).await.secret;
    let second = api.issue("ann@example.org", |_| ()).await.secret;
    let unknown = NewSecret::generate("lapsed", &PublicId::generate());
    let text = |secret: &NewSecret| Value::from(secret.token.expose_secret());

    let body = json!([text(&first), "not a token"]).to_string();
    let answer = report(&api, &body, &[]).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (202, ""),
        "{answer:?}"
    );
    assert!(!is_valid(&api, &first).await);

    let found = json!({"token": text(&second), "type": "lapsed", "url": "https://example.org", "source": "commit"});
    let body = json!([found, text(&unknown)]).to_string();
    let forged = report(&api, &body, &scanner.sign("scanner", "another body")).await;
    assert_eq!(forged.status, 403, "{forged:?}");
    assert!(is_valid(&api, &second).await);
    let signed = report(&api, &body, &scanner.sign("scanner", &body)).await;
    assert_eq!(signed.status, 200, "{signed:?}");
    let verdicts = signed.json();
    assert_eq!(verdicts[0]["label"], "true_positive", "{verdicts}");
    assert_eq!(verdicts[1]["label"], "false_positive", "{verdicts}");
    assert!(!is_valid(&api, &second).await);

    let by_another = Scanner::new().sign("another", &body);
    assert_eq!(report(&api, &body, &by_another).await.status, 202);
    let many = json!(vec!["x"; 101]).to_string();
    assert_eq!(report(&api, &many, &[]).await.status, 422);
    let large = json!(["x".repeat(64_000)]).to_string();
    assert_eq!(report(&api, &large, &[]).await.status, 413);
    for body in ["{}", "[1]", "[{}]"] {
        let answer = report(&api, body, &[]).await;
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
    }
    report(&api, "[]", &[]).await;
    let limited = report(&api, "[]", &[]).await;
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.header("retry-after").is_some());
    api.close().await;
}

#[tokio::test]
async fn a_replaced_secret_ends_nothing() {
    let terms = Terms {
        leak_reports: true,
        ..Terms::default()
    };
    let api = Api::with_terms(terms).await;
    let mut old = None;
    let new = api
        .issue("ann@example.org", |credential| {
            let replaced = NewSecret::generate("lapsed", &credential.public_id);
            credential.secret.number = 2;
            credential.old_secret = Some(OldSecret {
                secret: StoredSecret {
                    number: 1,
                    digest: replaced.digest,
                    ..credential.secret.clone()
                },
                valid_until: credential.created_at,
            });
            old = Some(replaced);
        })
        .await
        .secret;
    let old = old.unwrap();
    assert!(!is_valid(&api, &old).await);
    let body = format!("token={}", old.token.expose_secret());
    let revoked = api
        .send("POST", "/oauth2/revoke", &[form()], body.as_bytes())
        .await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    let body = json!([old.token.expose_secret()]).to_string();
    assert_eq!(report(&api, &body, &[]).await.status, 202);
    assert!(is_valid(&api, &new).await);
    api.close().await;
}

#[tokio::test]
async fn leak_reports_are_off_by_default() {
    let api = Api::open(Settings::default()).await;
    let token = api.issue("ann@example.org", |_| ()).await.secret;
    let body = json!([token.token.expose_secret()]).to_string();
    assert_eq!(report(&api, &body, &[]).await.status, 404);
    assert!(is_valid(&api, &token).await);
    api.close().await;
}
