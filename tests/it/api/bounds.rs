//! What a credential does not reach: other accounts of its person, people and tokens that are hidden from them.

use chrono::TimeDelta;
use lapsed::domain::service::{
    NewToken, NewUser, Profile, Regeneration, RoleChange, Terms, UserChange,
};
use lapsed::domain::{FindingKind, Severity, TokenId};
use lapsed::engine::new_id;
use lapsed::store::NewFinding;
use rstest::rstest;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{Answer, Api, bearer, named, operator};
use crate::db::Db::{self, Postgres, Sqlite};
use crate::managing::new_token;
use crate::world::now;

const BOB: &str = "bob@example.org";

impl Api {
    /// A token in one of the accounts of a user, with these scopes.
    async fn token_in(&self, user: &str, account: &str, scopes: &str) -> (String, String) {
        let new = NewToken {
            account: Some(account.into()),
            scopes: scopes.parse().unwrap(),
            ..new_token(user)
        };
        let issued = self.service.issue(&operator(), &new).await.unwrap();
        let token = issued.secret.token.expose_secret().to_owned();
        (token, issued.credential.id.to_string())
    }

    /// Bob, a user of both accounts, and the administrator Ada of Acme.
    async fn with_bob_in_both(db: Db) -> Self {
        let api = Self::start(db, Terms::default()).await;
        api.user("ada@example.org", Some(("acme", "administrator")))
            .await;
        api.user(BOB, Some(("acme", "user"))).await;
        let there = UserChange {
            roles: vec![RoleChange::Give {
                account: "other".into(),
                role: Some("administrator".into()),
            }],
            ..UserChange::default()
        };
        let operator = operator();
        let changed = api.service.change_user(&operator, BOB, None, &there);
        changed.await.unwrap();
        api
    }

    /// A notice to Bob in his account, about a token or none.
    async fn notice(&self, token: Option<&str>) -> String {
        let id = new_id(now());
        let at = "2026-11-21T09:00:00.000000+00:00";
        let uuid = |id: &str| match self.fresh.db {
            Sqlite => format!("x'{}'", id.replace('-', "")),
            Postgres => format!("'{id}'"),
        };
        let token = token.map_or("NULL".to_owned(), uuid);
        let sql = format!(
            "INSERT INTO notice (id, token_id, topic, generation, channel, recipient, recipient_key, basis, state, send_at,
                planned_at, subject)
             VALUES ({}, {token}, 'alert', '{at}', 'account', '{BOB}', '{BOB}', 'issuer', 'sent', '{at}', '{at}', 'x')",
            uuid(&id.to_string())
        );
        self.fresh.execute(&sql).await.unwrap();
        id.to_string()
    }

    async fn finding(&self, token: &str) -> String {
        let id = new_id(now());
        let mut tx = self.store.begin().await.unwrap();
        tx.insert_findings(&[NewFinding {
            id,
            token_id: Some(TokenId(token.parse().unwrap())),
            source: "local".into(),
            kind: FindingKind::NeverExpires,
            severity: Severity::Medium,
            since: now(),
            evidence: "for the test".into(),
            directory: None,
        }])
        .await
        .unwrap();
        tx.commit().await.unwrap();
        id.to_string()
    }

    async fn ids(&self, token: &str, path: &str) -> Vec<String> {
        let page = self.get(token, path).await.is(200);
        let items = page.body["items"].as_array().unwrap().iter();
        items
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// What an answer says, without what differs in every one.
fn facts(answer: &Answer) -> String {
    let mut body = answer.body.clone();
    let members = body.as_object_mut().unwrap();
    members.remove("request_id");
    members.remove("instance");
    format!("{} {body}", answer.status)
}

#[rstest]
#[tokio::test]
async fn without_a_role_in_their_account_an_administrator_learns_of_nobody(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let api = Api::start(db, Terms::default()).await;
    api.user("ada@example.org", Some(("acme", "administrator")))
        .await;
    api.user(BOB, Some(("other", "user"))).await;
    let machine = NewUser::Machine("ci".into());
    let there = UserChange {
        roles: vec![RoleChange::Give {
            account: "other".into(),
            role: None,
        }],
        ..UserChange::default()
    };
    let operator = operator();
    let added = api.service.add_user(&operator, &machine, &there);
    added.await.unwrap();
    let (ada, _) = api.token("ada@example.org").await;
    for (known, unknown) in [
        (
            json!({"address": BOB}),
            json!({"address": "nobody@example.org"}),
        ),
        (json!({"machine": "ci"}), json!({"machine": "cd"})),
    ] {
        let known = api.post(&ada, "/api/v1/users", known).await.is(422);
        let unknown = api.post(&ada, "/api/v1/users", unknown).await.is(422);
        assert_eq!(facts(&known), facts(&unknown));
        assert_eq!(known.body["errors"][0]["pointer"], "/account");
    }
    for account in ["other", "nowhere"] {
        let ask = async |address: &str| {
            let body = json!({"address": address, "account": account});
            facts(&api.post(&ada, "/api/v1/users", body).await.is(403))
        };
        assert_eq!(ask(BOB).await, ask("nobody@example.org").await);
    }
    let bob = api.service.find_user(&operator, BOB).await.unwrap();
    assert_eq!(bob.version, 1, "nothing was written");
    // Nor by how a name is written.
    for (method, tail) in [
        ("GET", ""),
        ("PATCH", ""),
        ("POST", "/disable"),
        ("POST", "/enable"),
    ] {
        let ask = async |key: &str| {
            let path = format!("/api/v1/users/{key}{tail}");
            let answer = api.change(&ada, method, &path, json!({})).await.is(404);
            facts(&answer).replace(key, "KEY")
        };
        assert_eq!(
            ask("Bob@Example.org").await,
            ask("Nobody@Example.org").await
        );
    }
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_of_one_account_is_not_its_person_in_others(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::with_bob_in_both(db).await;
    let (here, here_id) = api.token_in(BOB, "acme", "").await;
    let (_, there_id) = api.token_in(BOB, "other", "").await;
    let about_here = api.notice(Some(&here_id)).await;
    let about_there = api.notice(Some(&there_id)).await;
    let about_none = api.notice(None).await;
    // Ada makes a new secret of Bob's token, and has it.
    let (ada, _) = api.token("ada@example.org").await;
    let path = format!("/api/v1/tokens/{here_id}/regenerate");
    let made = api.change(&ada, "POST", &path, json!({})).await.is(200);
    let made = made.text("token").to_owned();
    for token in [&here, &made] {
        assert_eq!(
            api.ids(token, "/api/v1/notices").await,
            [about_here.as_str()]
        );
        for hidden in [&about_there, &about_none] {
            let path = format!("/api/v1/notices/{hidden}/read");
            api.post(token, &path, Value::Null).await.is(404);
        }
        let refused = api
            .change(
                token,
                "PATCH",
                "/api/v1/preferences",
                json!({"channel": "account"}),
            )
            .await
            .is(403);
        let detail = refused.text("detail");
        assert!(detail.contains("lapsed preference set"), "{detail}");
    }
    let unread = "SELECT COUNT(*) || '' FROM notice WHERE read_at IS NULL";
    assert_eq!(api.fresh.texts(unread).await, ["3"]);
    let path = format!("/api/v1/notices/{about_here}/read");
    api.post(&made, &path, Value::Null).await.is(204);
    assert_eq!(api.fresh.texts(unread).await, ["2"]);
    // Where they are in one account only, its token is theirs.
    let leave = UserChange {
        roles: vec![RoleChange::Leave {
            account: "other".into(),
        }],
        ..UserChange::default()
    };
    let operator = operator();
    let left = api.service.change_user(&operator, BOB, None, &leave);
    left.await.unwrap();
    assert_eq!(api.ids(&here, "/api/v1/notices?limit=2").await.len(), 2);
    assert_eq!(api.ids(&here, "/api/v1/notices").await.len(), 3);
    api.change(
        &here,
        "PATCH",
        "/api/v1/preferences",
        json!({"channel": "account"}),
    )
    .await
    .is(200);
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn preferences_have_at_most_ten_steps(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::start(db, Terms::default()).await;
    api.user(BOB, Some(("acme", "user"))).await;
    let (bob, _) = api.token(BOB).await;
    let set = async |count: usize| {
        let steps: Vec<String> = (1..=count).map(|days| format!("{days}d")).collect();
        let body = json!({"steps": steps});
        api.change(&bob, "PATCH", "/api/v1/preferences", body).await
    };
    let refused = set(11).await.is(422);
    assert_eq!(refused.body["errors"][0]["pointer"], "/steps");
    set(10).await.is(200);
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn exchanged_tokens_are_listed_as_far_as_they_are_seen(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::with_bob_in_both(db).await;
    let (here, _) = api.token_in(BOB, "acme", "").await;
    let (there, _) = api.token_in(BOB, "other", "").await;
    api.exchange(&here).await;
    api.exchange(&there).await;
    api.user("root@example.org", None).await;
    let (root, _) = api.token("root@example.org").await;
    let count = async |token: &str, query: &str| {
        let path = format!("/api/v1/tokens?kind=refresh&{query}");
        api.ids(token, &path).await.len()
    };
    let (ada, _) = api.token("ada@example.org").await;
    assert_eq!(count(&root, "").await, 2);
    // Bob is an administrator there, and a user here.
    assert_eq!(
        (
            count(&here, "").await,
            count(&there, "").await,
            count(&ada, "").await
        ),
        (1, 1, 1)
    );
    for (query, expected) in [
        ("status=active", 2),
        ("status=expired", 0),
        ("status=disabled", 0),
        ("status=deleted", 0),
        ("source=exports", 0),
        ("source=local", 2),
        ("role=viewer", 0),
        ("q=zzz", 0),
        ("q=REFRESH", 2),
        ("expires_within=1h", 0),
        ("expires_within=2d", 2),
        ("account=acme", 1),
        ("issued_by=bob@example.org", 2),
        ("issued_by=ada@example.org", 0),
    ] {
        assert_eq!(count(&root, query).await, expected, "{query}");
    }
    let unsorted = api
        .get(&root, "/api/v1/tokens?kind=refresh&sort=-expires_at")
        .await
        .is(422);
    assert_eq!(unsorted.body["errors"][0]["pointer"], "?sort");
    // One that is stopped is shown as what it is.
    let access = api.exchange(&here).await;
    let stopped = api
        .post(&access, "/api/v1/tokens/self/disable", Value::Null)
        .await
        .is(200);
    assert_eq!(
        (
            stopped.text("source"),
            stopped.text("name"),
            stopped.text("status")
        ),
        ("local", "access", "disabled")
    );
    assert_eq!(
        api.ids(&root, "/api/v1/tokens?kind=access&status=disabled")
            .await,
        [stopped.text("id")]
    );
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn where_super_admins_alone_see_tokens_others_find_them_nowhere(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let api = Api::start(db, Terms::from(Profile::Devtron)).await;
    api.user("ada@example.org", Some(("acme", "administrator")))
        .await;
    api.user("sue@example.org", None).await;
    let (sue, _) = api.token("sue@example.org").await;
    let ada = api.token_of_former_super_admin("ada@example.org").await;
    api.exchange(&ada).await;
    assert_eq!(api.ids(&sue, "/api/v1/tokens?kind=refresh").await.len(), 1);
    assert_eq!(api.ids(&ada, "/api/v1/tokens?kind=refresh").await, [""; 0]);
    let subjects = async |token: &str| {
        let page = api.get(token, "/api/v1/audit").await.is(200);
        page.body["items"].to_string()
    };
    assert!(subjects(&sue).await.contains("local/"));
    assert!(!subjects(&ada).await.contains("local/"));
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn the_scopes_of_findings_are_enough_for_findings(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::start(db, Terms::default()).await;
    api.user("ada@example.org", Some(("acme", "administrator")))
        .await;
    let (_, id) = api.token("ada@example.org").await;
    let finding = api.finding(&id).await;
    let (reader, _) = api
        .token_in("ada@example.org", "acme", "finding:read")
        .await;
    let (writer, _) = api
        .token_in("ada@example.org", "acme", "finding:write")
        .await;
    assert_eq!(
        api.ids(&reader, "/api/v1/findings").await,
        [finding.as_str()]
    );
    let path = format!("/api/v1/findings/{finding}/acknowledge");
    let body = json!({"until": "2027-01-01T00:00:00Z", "reason": "for the test"});
    api.post(&reader, &path, body.clone()).await.is(403);
    api.get(&writer, "/api/v1/findings").await.is(403);
    api.post(&writer, &path, body).await.is(200);
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_old_secret_promises_no_more_than_its_overlap(#[values(Sqlite, Postgres)] db: Db) {
    let api = Api::start(db, Terms::default()).await;
    api.user(BOB, Some(("acme", "user"))).await;
    api.user("root@example.org", None).await;
    let (root, _) = api.token("root@example.org").await;
    let (old, id) = api.token(BOB).await;
    let before = api.exchange(&old).await;
    let how = Regeneration {
        overlap: Some(TimeDelta::minutes(5)),
        ..Regeneration::default()
    };
    let id = TokenId(id.parse().unwrap());
    let made = api
        .service
        .regenerate(&operator(), id, None, &how)
        .await
        .unwrap();
    let new = made.secret.token.expose_secret();
    let after = api.exchange(&old).await;
    let end = now() + TimeDelta::minutes(5);
    let expires = async |token: &str| {
        let verified = api
            .call("GET", "/api/v1/verify", &[&bearer(token)], &Value::Null)
            .await
            .is(200);
        verified.header("lapsed-token-expires").unwrap().to_owned()
    };
    for token in [&old, &before, &after] {
        assert_eq!(expires(token).await, "2026-11-21T09:05:00Z");
        let form = format!("token={token}");
        assert_eq!(introspect(&api, &root, &form).await["exp"], end.timestamp());
    }
    assert_eq!(expires(new).await, "2026-12-21T09:00:00Z");
    api.advance(TimeDelta::minutes(5));
    for token in [&old, &before, &after] {
        assert!(!api.works(token).await);
    }
    api.post(new, "/api/v1/tokens", named("x")).await.is(201);
    api.store.close().await;
}

async fn introspect(api: &Api, token: &str, form: &str) -> Value {
    super::profiles::post_form(api, "/oauth2/introspect", token, form).await
}
