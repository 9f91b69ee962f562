//! The rules of the documents that the profiles imitate, in their order.

use base64::Engine as _;
use chrono::TimeDelta;
use lapsed::domain::service::{KindTerms, Profile, Terms};
use rstest::rstest;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{Api, bearer, named, operator};
use crate::db::Db::{self, Postgres, Sqlite};
use crate::world;

async fn people(api: &Api) {
    api.user("ada@example.org", Some(("acme", "administrator")))
        .await;
    api.user("uma@example.org", Some(("acme", "user"))).await;
    api.user("eve@example.org", Some(("acme", "engineer")))
        .await;
    api.user("sue@example.org", None).await;
}

/// "Create, use, or delete a permanent API token" of Gcore.
#[rstest]
#[tokio::test]
async fn gcore(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::start(db, Terms::from(Profile::Gcore)).await;
    people(&api).await;
    let (uma, _) = api.token("uma@example.org").await;
    let (ada, _) = api.token("ada@example.org").await;

    // A standard token is valid for 1 hour, and one to refresh it for 24 hours.
    let grant = |body: &'static str| form(&api, &uma, body);
    let pair = grant("grant_type=client_credentials").await;
    let (access, refresh) = (text(&pair, "access_token"), text(&pair, "refresh_token"));
    assert_eq!(pair["expires_in"], 3600);
    api.advance(TimeDelta::minutes(59));
    assert!(api.works(&access).await);
    api.advance(TimeDelta::minutes(1));
    assert!(!api.works(&access).await);
    let again = form(
        &api,
        &uma,
        &format!("grant_type=refresh_token&refresh_token={refresh}"),
    )
    .await;
    assert!(api.works(&text(&again, "access_token")).await);

    // A name; an optional description; a role equal to or lower than their own; never, or a date.
    let create = async |body: Value| api.post(&uma, "/api/v1/tokens", body).await;
    create(json!({})).await.is(422);
    let never = create(json!({"name": "never", "role": "viewer", "never": true}))
        .await
        .is(201);
    assert_eq!(
        (&never.body["role"], &never.body["expires_at"]),
        (&json!("viewer"), &Value::Null)
    );
    let higher = json!({"name": "x", "role": "administrator"});
    assert_eq!(
        create(higher).await.is(403).body["errors"][0]["pointer"],
        "/role"
    );
    let dated = json!({
        "name": "dated", "description": "for the cache", "expires_at": "2027-03-01T00:00:00Z"
    });
    let dated = create(dated).await.is(201);
    assert_eq!(dated.body["expires_at"], "2027-03-01T00:00:00Z");
    assert_eq!(dated.body["description"], "for the cache");

    // It is shown once, and not stored.
    let (token, secret) = (
        dated.text("token").to_owned(),
        dated.text("secret_key").to_owned(),
    );
    let path = format!("/api/v1/tokens/{}", dated.text("id"));
    let shown = api.get(&uma, &path).await.is(200);
    assert!(!shown.body.to_string().contains(&secret));

    // It is used after APIKey, as id$secret.
    let id = dated.text("external_id").to_owned();
    assert_eq!(
        api.verify(&format!("Authorization: APIKey {id}${secret}"))
            .await,
        200
    );
    assert_eq!(
        api.verify(&format!("Authorization: APIKey {id}$x{secret}"))
            .await,
        401
    );

    // The list has who issued it, the role, the last use, the expiry and the status, and three filters.
    let row = &shown.body;
    for column in ["issuer", "role", "last_used_at", "expires_at", "status"] {
        assert!(row.get(column).is_some(), "{column}");
    }
    let list = async |query: &str| api.names(&ada, query).await;
    assert_eq!(
        list("issued_by=uma@example.org").await,
        ["ci", "dated", "never"]
    );
    assert_eq!(list("role=viewer").await, ["never"]);
    assert_eq!(list("status=expired").await, [""; 0]);
    assert_eq!(list("status=active").await, ["ci", "ci", "dated", "never"]);

    // Administrators see and delete every token of the account, others their own.
    assert_eq!(api.names(&uma, "").await, ["ci", "dated", "never"]);
    let (_, of_ada) = api.token("ada@example.org").await;
    let of_ada = format!("/api/v1/tokens/{of_ada}");
    api.change(&uma, "DELETE", &of_ada, Value::Null)
        .await
        .is(404);
    let of_uma = format!("/api/v1/tokens/{}", never.text("id"));
    api.change(&ada, "DELETE", &of_uma, Value::Null)
        .await
        .is(204);
    assert!(!api.works(never.text("token")).await);
    api.get(&ada, &of_uma).await.is(404);
    assert_eq!(list("status=deleted").await, ["never"]);

    // The section is marked if a token expires in 7 days or less.
    let attention = async || api.get(&uma, "/api/v1/tokens/summary").await.is(200).body;
    assert_eq!(attention().await["attention"], false);
    let until_march = "2027-02-22T00:00:00Z"
        .parse::<chrono::DateTime<chrono::Utc>>()
        .unwrap();
    api.advance(until_march - api.clock.now() - TimeDelta::seconds(1));
    assert_eq!(attention().await["attention"], false);
    api.advance(TimeDelta::seconds(1));
    assert_eq!(attention().await["attention"], true);
    assert!(api.works(&token).await);

    // Its issuer and the administrators are notified 7 days and 1 day before, by mail and in the account.
    let outbox = tempfile::tempdir().unwrap();
    let mut engine = world::engine(&api.store, outbox.path());
    engine.clock = api.clock.clone();
    engine.settings.admin_role = Some("administrator".to_owned());
    let eve = api.token("eve@example.org").await.0;
    for steps in [json!(["7d"]), json!(["1d", "7d"])] {
        world::sweep(&engine).await;
        for (person, expected) in [(&uma, &steps), (&ada, &steps), (&eve, &json!([]))] {
            let notices = api.get(person, "/api/v1/notices").await.is(200);
            let items = notices.body["items"].as_array().unwrap().iter();
            let of_it = items.filter(|item| item["token_name"] == "dated");
            let found: Vec<&Value> = of_it.map(|item| &item["step"]).collect();
            assert_eq!(&json!(found), expected);
        }
        api.advance(TimeDelta::days(6));
    }
    let mails = std::fs::read_dir(outbox.path()).unwrap();
    let mails: Vec<String> = mails
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .filter(|mail| mail.contains("dated"))
        .collect();
    let count = |person: &str| {
        let to = format!("To: {person}@example.org");
        mails.iter().filter(|mail| mail.contains(&to)).count()
    };
    assert_eq!(["uma", "ada", "eve"].map(count), [2, 2, 0]);
    assert!(!api.works(&token).await);

    // A provider that takes away access leaves the tokens active, unless the operator wants it otherwise.
    assert!(!Terms::from(Profile::Gcore).follow_directories);
    assert_eq!(list("status=expired").await, ["dated"]);

    // 50 tokens in an account.
    let mut made = 0;
    let last = loop {
        match create(named("one of many")).await {
            answer if answer.status == 201 => made += 1,
            answer => break answer.is(409),
        }
    };
    assert_eq!(
        (&last.body["limit"], &last.body["used"]),
        (&json!(50), &json!(50))
    );
    // Beside two of the administrator, one of the user and one of the engineer.
    assert_eq!(made, 46);
    api.store.close().await;
}

fn text(body: &Value, name: &str) -> String {
    body[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name}: {body}"))
        .to_owned()
}

/// A call of the token endpoint.
async fn form(api: &Api, token: &str, body: &str) -> Value {
    post_form(api, "/oauth2/token", token, body).await
}

pub async fn post_form(api: &Api, path: &str, token: &str, body: &str) -> Value {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: lapsed\r\nConnection: close\r\n{}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}",
        bearer(token)
    );
    let mut stream = tokio::net::TcpStream::connect(api.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// "API Tokens" and "API Keys" of Rancher.
#[rstest]
#[tokio::test]
async fn rancher(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::start(db, Terms::from(Profile::Rancher)).await;
    people(&api).await;
    let (uma, _) = api.token("uma@example.org").await;
    let create = async |body: Value| api.post(&uma, "/api/v1/tokens", body).await;

    // A kubeconfig token expires after 16 hours, and cannot live longer; the other families do not expire.
    let config = create(json!({"name": "k", "kind": "kubeconfig"}))
        .await
        .is(201);
    assert_eq!(config.body["expires_at"], "2026-11-22T01:00:00Z");
    let longer = json!({"name": "k", "kind": "kubeconfig", "expires_in": "17h"});
    let longer = create(longer).await.is(422);
    assert_eq!(longer.body["max"], "16h");
    assert_eq!(longer.body["latest"], "2026-11-22T01:00:00Z");
    let mut endless = Vec::new();
    for kind in [
        "kubectl-shell",
        "agent",
        "compose-token",
        "helm-token",
        "pipeline",
        "telemetry",
        "drain-node",
    ] {
        let made = create(json!({"name": kind, "kind": kind})).await.is(201);
        assert_eq!(made.body["expires_at"], Value::Null, "{kind}");
        endless.push(made);
    }
    let agent = &endless[1];
    create(json!({"name": "x", "kind": "unheard-of"}))
        .await
        .is(422);

    // A key has a description, an expiry and a scope; endpoint, access key, secret key and bearer token are shown once.
    let key = json!({
        "name": "key", "description": "for the cluster", "expires_in": "30d", "scopes": ["cluster-a:*"]
    });
    let key = create(key).await.is(201);
    assert_eq!(key.body["endpoint"], "https://tokens.example.org");
    let (access, secret) = (key.text("access_key"), key.text("secret_key"));
    assert_eq!(key.text("token"), format!("{access}_{secret}"));
    let user_and_password = format!("{access}:{secret}");
    let basic = base64::engine::general_purpose::STANDARD.encode(&user_and_password);
    assert_eq!(
        api.verify(&format!("Authorization: Basic {basic}")).await,
        200
    );
    assert_eq!(api.verify(&bearer(&user_and_password)).await, 200);
    assert_eq!(api.verify(&bearer(key.text("token"))).await, 200);
    for (scope, status) in [("cluster-a:get", 200), ("cluster-b:get", 403)] {
        let path = format!("/api/v1/verify?scope={scope}");
        api.get(key.text("token"), &path).await.is(status);
    }

    // Tokens of a deactivated user do not work. A change of anything else invalidates nothing.
    let service = &api.service;
    let set = async |is_enabled| {
        service
            .set_user_enabled(&operator(), "uma@example.org", is_enabled, None)
            .await
            .unwrap();
    };
    set(false).await;
    assert!(!api.works(&uma).await && !api.works(key.text("token")).await);
    set(true).await;
    assert!(api.works(&uma).await && api.works(key.text("token")).await);
    api.user("uma@example.org", Some(("acme", "engineer")))
        .await;
    assert!(api.works(key.text("token")).await);

    // A key that is deleted does not work, nor does one that has expired.
    let path = format!("/api/v1/tokens/{}", key.text("id"));
    api.change(&uma, "DELETE", &path, Value::Null).await.is(204);
    assert!(!api.works(key.text("token")).await);
    api.advance(TimeDelta::hours(16));
    assert!(!api.works(config.text("token")).await && api.works(agent.text("token")).await);

    // An administrator sets the life of kubeconfig tokens, or that none are generated.
    let of_kubeconfig = |ttl: i64, can_issue: bool| Terms {
        kinds: vec![KindTerms {
            name: "kubeconfig".to_owned(),
            ttl: Some(TimeDelta::minutes(ttl)),
            can_issue,
        }],
        ..Terms::from(Profile::Rancher)
    };
    for (can_issue, status) in [(true, 201), (false, 403)] {
        let api = Api::start(db, of_kubeconfig(480, can_issue)).await;
        people(&api).await;
        let (uma, _) = api.token("uma@example.org").await;
        let body = json!({"name": "k", "kind": "kubeconfig"});
        let made = api.post(&uma, "/api/v1/tokens", body).await.is(status);
        if can_issue {
            assert_eq!(made.body["expires_at"], "2026-11-21T17:00:00Z");
        }
        api.store.close().await;
    }

    // No token lives longer than the maximum, if there is one.
    let strict = Terms {
        max_ttl: Some(TimeDelta::days(90)),
        allow_never: false,
        ..Terms::from(Profile::Rancher)
    };
    let api = Api::start(db, strict).await;
    people(&api).await;
    let new = lapsed::domain::service::NewToken {
        lifetime: lapsed::domain::service::Lifetime::For(TimeDelta::days(1)),
        ..crate::managing::new_token("uma@example.org")
    };
    let uma = api.service.issue(&operator(), &new).await.unwrap();
    let uma = uma.secret.token.expose_secret();
    for body in [
        json!({"name": "x", "expires_in": "91d"}),
        json!({"name": "x", "never": true}),
    ] {
        let refused = api.post(uma, "/api/v1/tokens", body).await.is(422);
        assert_eq!(refused.body["max"], "90d");
    }
    api.store.close().await;
}

/// "API Tokens" of Devtron.
#[rstest]
#[tokio::test]
async fn devtron(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::start(db, Terms::from(Profile::Devtron)).await;
    people(&api).await;
    let (sue, _) = api.token("sue@example.org").await;
    let ada = api.token_of_former_super_admin("ada@example.org").await;

    // Only super admins generate tokens and see them.
    api.refuses_token("uma@example.org").await;
    api.post(&ada, "/api/v1/tokens", named("x")).await.is(403);
    let create = async |body: Value| api.post(&sue, "/api/v1/tokens", body).await;
    create(named("default")).await.is(201);
    assert_eq!(api.names(&ada, "q=default").await, [""; 0]);
    assert_eq!(api.names(&sue, "q=default").await, ["default"]);

    // 7, 30, 60 and 90 days, a custom date, and no expiration.
    let policy = api.get(&sue, "/api/v1/policy").await.is(200);
    assert_eq!(policy.body["presets"], json!(["7d", "30d", "60d", "90d"]));
    for (body, expires_at) in [
        (
            json!({"name": "7", "expires_in": "7d"}),
            json!("2026-11-28T09:00:00Z"),
        ),
        (
            json!({"name": "30", "description": "for Postman", "expires_in": "30d"}),
            json!("2026-12-21T09:00:00Z"),
        ),
        (
            json!({"name": "60", "expires_in": "60d"}),
            json!("2027-01-20T09:00:00Z"),
        ),
        (
            json!({"name": "90", "expires_in": "90d"}),
            json!("2027-02-19T09:00:00Z"),
        ),
        (
            json!({"name": "custom", "expires_at": "2026-12-24T00:00:00Z"}),
            json!("2026-12-24T00:00:00Z"),
        ),
        (json!({"name": "none", "never": true}), Value::Null),
    ] {
        assert_eq!(create(body).await.is(201).body["expires_at"], expires_at);
    }

    // Super admin permission, or specific permissions for four kinds of resources.
    let scopes = policy.body["scopes"].as_array().unwrap().iter();
    let scopes: Vec<&Value> = scopes.map(|scope| &scope["description"]).collect();
    assert_eq!(
        json!(scopes),
        json!([
            "Devtron Apps",
            "Helm Apps",
            "Kubernetes Resources",
            "Chart Groups"
        ])
    );
    let all = create(named("all")).await.is(201);
    api.get(all.text("token"), "/api/v1/policy").await.is(200);
    let some = json!({"name": "some", "scopes": ["devtron-apps:*"], "expires_in": "30d"});
    let some = create(some).await.is(201);
    let token = some.text("token");
    api.get(token, "/api/v1/policy").await.is(403);
    api.get(token, "/api/v1/verify?scope=devtron-apps:create")
        .await
        .is(200);
    api.get(token, "/api/v1/verify?scope=helm-apps:create")
        .await
        .is(403);

    // An update changes the permissions, and the token stays.
    let path = format!("/api/v1/tokens/{}", some.text("id"));
    let scopes = json!({"scopes": ["helm-apps:*"]});
    api.change(&sue, "PATCH", &path, scopes).await.is(200);
    api.get(token, "/api/v1/verify?scope=helm-apps:create")
        .await
        .is(200);
    api.get(token, "/api/v1/verify?scope=devtron-apps:create")
        .await
        .is(403);

    // A regenerated one has a new expiration date, and scripts need its new secret.
    let regenerate = format!("{path}/regenerate");
    let body = json!({"expires_in": "60d", "overlap": "0s"});
    let again = api.change(&sue, "POST", &regenerate, body).await.is(200);
    assert_eq!(again.body["expires_at"], "2027-01-20T09:00:00Z");
    assert_eq!(again.body["id"], some.body["id"]);
    assert!(!api.works(token).await && api.works(again.text("token")).await);

    // A deleted one has no access.
    api.change(&sue, "DELETE", &path, Value::Null).await.is(204);
    assert!(!api.works(again.text("token")).await);
    api.store.close().await;
}

/// "API tokens" of NocoDB.
#[rstest]
#[tokio::test]
async fn nocodb(#[values(Sqlite, Postgres)] db: Db) {
    let terms = Terms::from(Profile::NocoDb);
    assert_eq!(
        terms.session_ttl,
        TimeDelta::hours(10),
        "until they log out, or for 10 hours"
    );
    let api = Api::start(db, terms).await;
    people(&api).await;
    // It does not expire, and a user has one.
    let (uma, id) = api.token("uma@example.org").await;
    let path = format!("/api/v1/tokens/{id}");
    assert_eq!(
        api.get(&uma, &path).await.is(200).body["expires_at"],
        Value::Null
    );
    let second = api
        .post(&uma, "/api/v1/tokens", named("second"))
        .await
        .is(409);
    assert_eq!(
        (&second.body["limit"], &second.body["used"]),
        (&json!(1), &json!(1))
    );
    api.token("eve@example.org").await;
    // It is in the list, but cannot be copied from there a second time.
    let listed = api.get(&uma, "/api/v1/tokens").await.is(200);
    let secret = uma.rsplit('_').next().unwrap();
    assert_eq!(listed.body["items"][0]["id"], json!(id));
    assert!(!listed.body.to_string().contains(secret));
    // It is sent as xc-token; xc-auth is deprecated there, and unknown here.
    assert_eq!(api.verify(&format!("xc-auth: {uma}")).await, 401);
    assert_eq!(api.verify(&format!("xc-token: {uma}")).await, 200);
    api.advance(TimeDelta::days(5000));
    assert_eq!(api.verify(&format!("xc-token: {uma}")).await, 200);
    // It can be deleted at any time; then services that use it stop, and there is room for another.
    api.change(&uma, "DELETE", &path, Value::Null).await.is(204);
    assert_eq!(api.verify(&format!("xc-token: {uma}")).await, 401);
    let (other, _) = api.token("uma@example.org").await;
    assert_eq!(api.verify(&format!("xc-token: {other}")).await, 200);
    api.store.close().await;
}
