//! Pages, versions, repeated requests, and tokens of other sources.

use chrono::TimeDelta;
use futures_util::future::join_all;
use lapsed::domain::service::Terms;
use lapsed::domain::{Cell, Expiry, ListedToken};
use lapsed::engine;
use rstest::rstest;
use serde_json::{Value, json};

use super::{Api, bearer, named};
use crate::db::Db::{self, Postgres, Sqlite};
use crate::world;

async fn start(db: Db) -> (Api, String) {
    let api = Api::start(db, Terms::default()).await;
    api.user("uma@example.org", Some(("acme", "user"))).await;
    let (uma, _) = api.token("uma@example.org").await;
    (api, uma)
}

#[rstest]
#[tokio::test]
async fn a_list_is_read_page_by_page_in_every_order(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    for days in [5, 3, 9, 3] {
        let body = json!({"name": format!("in {days}"), "expires_in": format!("{days}d")});
        api.post(&uma, "/api/v1/tokens", body).await.is(201);
        api.advance(TimeDelta::seconds(1));
    }
    for sort in [
        "name",
        "-name",
        "created_at",
        "-created_at",
        "expires_at",
        "-expires_at",
        "last_used_at",
    ] {
        let path = format!("/api/v1/tokens?sort={sort}");
        let whole = api.get(&uma, &path).await.is(200).body["items"].clone();
        let mut pages = Vec::new();
        let mut next = format!("{path}&limit=2");
        loop {
            let page = api.get(&uma, &next).await.is(200);
            pages.extend(page.body["items"].as_array().unwrap().clone());
            let Some(link) = page.header("link") else {
                assert_eq!(page.body["next_cursor"], Value::Null);
                break;
            };
            next = link
                .strip_prefix('<')
                .unwrap()
                .split_once(">; rel=\"next\"")
                .unwrap()
                .0
                .into();
        }
        assert_eq!(Value::Array(pages), whole, "{sort}");
        assert_eq!(whole.as_array().unwrap().len(), 5);
    }
    assert_eq!(api.names(&uma, "expires_within=4d").await, ["in 3", "in 3"]);
    assert_eq!(api.names(&uma, "q=IN%209").await, ["in 9"]);
    // A cursor belongs to its filters and its caller.
    let page = api.get(&uma, "/api/v1/tokens?limit=1").await.is(200);
    let cursor = page.text("next_cursor");
    api.get(
        &uma,
        &format!("/api/v1/tokens?limit=1&q=in&cursor={cursor}"),
    )
    .await
    .is(400);
    api.get(&uma, "/api/v1/tokens?cursor=AAAA").await.is(400);
    api.get(&uma, "/api/v1/tokens?limit=0").await.is(422);
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_change_needs_the_present_version(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    let shown = api.get(&uma, "/api/v1/tokens/self").await.is(200);
    let etag = shown.header("etag").unwrap().to_owned();
    assert!(shown.header("lapsed-token-expires").is_some());
    let change = async |tag: Option<&str>, body: Value| {
        let tag = tag.map(|tag| format!("If-Match: {tag}"));
        let bearer = bearer(&uma);
        let headers: Vec<&str> = [Some(bearer.as_str()), tag.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        api.call("PATCH", "/api/v1/tokens/self", &headers, &body)
            .await
    };
    change(None, named("x")).await.is(428);
    let changed = change(Some(&etag), named("renamed")).await.is(200);
    assert_eq!(changed.text("name"), "renamed");
    // The precondition is checked before the body.
    change(Some(&etag), json!({"nmae": 1})).await.is(412);
    let etag = changed.header("etag").unwrap().to_owned();
    let wrong = change(Some(&etag), json!({"nmae": "x"})).await.is(422);
    assert_eq!(
        wrong.body["errors"][0]["fix"],
        "write name, or leave it out"
    );
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_repeated_request_makes_one_token(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    let send = async |path: &str, key: &str, body: &Value| {
        let headers = [
            bearer(&uma),
            format!("Idempotency-Key: {key}"),
            "If-Match: \"1\"".into(),
        ];
        let headers = headers.each_ref().map(String::as_str);
        api.call("POST", path, &headers, body).await
    };
    let path = "/api/v1/tokens";
    let first = send(path, "a", &named("once")).await.is(201);
    let again = send(path, "a", &named("once")).await.is(201);
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("location"), again.header("location"));
    let location = first.header("location").unwrap().to_owned();
    assert_eq!(location, format!("{path}/{}", first.text("id")));
    send(path, "a", &named("other")).await.is(422);
    assert_eq!(api.names(&uma, "q=once").await, ["once"]);
    // Also where the version is no longer the one that the request names.
    let regenerate = format!("{location}/regenerate");
    let first = send(&regenerate, "b", &json!({})).await.is(200);
    let again = send(&regenerate, "b", &json!({})).await.is(200);
    assert_eq!(first.body, again.body);
    send(&regenerate, "c", &json!({})).await.is(412);
    send(path, "a", &named("once")).await.is(409);
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_secret_says_where_and_how_long_it_works(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    let body = json!({"name": "deploy", "expires_in": "9d"});
    let made = api.post(&uma, "/api/v1/tokens", body).await.is(201);
    assert_eq!(made.text("endpoint"), "https://tokens.example.org");
    let path = format!("/api/v1/tokens/{}", made.text("id"));
    let shown = api.get(&uma, &path).await.is(200);
    assert_eq!(
        shown.body["secrets"][0]["valid_until"],
        made.body["expires_at"]
    );
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_refused_change_of_an_account_changes_nothing(#[values(Sqlite, Postgres)] db: Db) {
    let (api, _) = start(db).await;
    api.user("root@example.org", None).await;
    let (root, _) = api.token("root@example.org").await;
    let path = "/api/v1/accounts/acme";
    let change = async |body: Value| api.change(&root, "PATCH", path, body).await;
    change(json!({"max_tokens": 7, "name": "Other"}))
        .await
        .is(409);
    let shown = api.get(&root, path).await.is(200);
    assert_eq!(shown.body["max_tokens"], Value::Null, "{}", shown.body);
    let changed = change(json!({"max_tokens": 7, "name": "ACME"}))
        .await
        .is(200);
    assert_eq!(
        (changed.text("name"), &changed.body["max_tokens"]),
        ("ACME", &json!(7))
    );
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn of_many_repeats_at_once_one_makes_the_token(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    let ask = async |key: &str| {
        let headers = [bearer(&uma), format!("Idempotency-Key: {key}")];
        let headers = headers.each_ref().map(String::as_str);
        api.call("POST", "/api/v1/tokens", &headers, &named(key))
            .await
    };
    for round in 0..5 {
        let key = format!("key-{round}");
        let answers = join_all((0..30).map(|_| ask(&key))).await;
        let (made, waiting): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 201);
        let first = &made.first().unwrap().body;
        assert!(made.iter().all(|answer| answer.body == *first));
        for answer in waiting {
            assert_eq!(answer.status, 409, "{}", answer.body);
            assert!(answer.text("detail").contains("still being worked on"));
        }
        assert_eq!(ask(&key).await.is(201).body, *first);
        assert_eq!(api.names(&uma, &format!("q={key}")).await, [key.as_str()]);
        assert!(api.works(first["token"].as_str().unwrap()).await);
    }
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_answer_is_given_again_for_an_hour(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    let headers = [bearer(&uma), "Idempotency-Key: key".to_owned()];
    let headers = headers.each_ref().map(String::as_str);
    let ask = async || {
        api.call("POST", "/api/v1/tokens", &headers, &named("once"))
            .await
    };
    let made = ask().await.is(201);
    api.advance(TimeDelta::minutes(59));
    assert_eq!(ask().await.is(201).body, made.body);
    api.advance(TimeDelta::minutes(1));
    let late = ask().await.is(409);
    assert!(
        late.text("detail").contains("already made"),
        "{}",
        late.body
    );
    assert!(
        late.text("detail").contains(made.text("id")),
        "{}",
        late.body
    );
    assert_eq!(api.names(&uma, "q=once").await, ["once"]);
    api.advance(TimeDelta::hours(23));
    let new = ask().await.is(201);
    assert_ne!(new.text("id"), made.text("id"));
    // The answer would be wrong, or help someone who should not have the secret.
    let path = format!("/api/v1/tokens/{}", new.text("id"));
    let leaked = json!({"leaked": true});
    api.change(&uma, "POST", &format!("{path}/regenerate"), leaked)
        .await
        .is(200);
    let refused = ask().await.is(409);
    assert!(!refused.body.to_string().contains(new.text("secret_key")));
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_of_another_source_is_only_shown(#[values(Sqlite, Postgres)] db: Db) {
    let (api, uma) = start(db).await;
    let policy = world::engine(&api.store, api.fresh.folder()).policy;
    let listed = ListedToken {
        name: Cell::Value("elsewhere".into()),
        issuer: Cell::Value("uma@example.org".parse().unwrap()),
        expiry: Cell::Value(Expiry::Never),
        ..ListedToken::with_id("7")
    };
    let mut tx = api.store.begin().await.unwrap();
    let now = api.clock.now();
    let token = engine::merge_record(&mut tx, &policy, "exports", listed, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let path = format!("/api/v1/tokens/{}", token.unwrap().id);
    let shown = api.get(&uma, &path).await.is(200);
    assert_eq!(
        (shown.text("source"), &shown.body["kind"]),
        ("exports", &Value::Null)
    );
    assert_eq!(api.names(&uma, "source=exports").await, ["elsewhere"]);
    for (method, tail) in [
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/regenerate"),
        ("POST", "/disable"),
    ] {
        let path = format!("{path}{tail}");
        let refused = api.change(&uma, method, &path, json!({})).await.is(409);
        assert!(
            refused.text("detail").contains("exports"),
            "{}",
            refused.body
        );
    }
    api.store.close().await;
}
