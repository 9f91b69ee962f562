//! Role × operation × whose it is × what the caller asks with, over every operation of the document.

use lapsed::domain::service::{NewToken, Terms};
use lapsed::domain::{FindingKind, Severity, TokenId};
use lapsed::engine::new_id;
use lapsed::store::NewFinding;
use rstest::rstest;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{Answer, Api, bearer};
use crate::db::Db::{self, Postgres, Sqlite};
use crate::managing::new_token;
use crate::world::now;

/// What the path names.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Nothing,
    Token,
    User,
    Account,
    Finding,
    Notice,
}

struct Row {
    operation: &'static str,
    of: Of,
    /// For a user, an admin and a super admin: their own, another's in the account, one of another account, and an
    /// unknown one.
    expected: [[u16; 4]; 3],
}

const fn row(operation: &'static str, of: Of, expected: [[u16; 4]; 3]) -> Row {
    Row {
        operation,
        of,
        expected,
    }
}

/// The same whatever it is about.
const fn any(operation: &'static str, [user, admin, top]: [u16; 3]) -> Row {
    row(operation, Of::Nothing, [[user; 4], [admin; 4], [top; 4]])
}

const fn tokens(operation: &'static str, ok: u16) -> Row {
    let expected = [[ok, 404, 404, 404], [ok, ok, 404, 404], [ok, ok, ok, 404]];
    row(operation, Of::Token, expected)
}

const fn users(operation: &'static str) -> Row {
    row(
        operation,
        Of::User,
        [[403; 4], [200, 200, 404, 404], [200, 200, 200, 404]],
    )
}

const fn tops(operation: &'static str, of: Of, ok: u16) -> Row {
    row(operation, of, [[404; 4], [404; 4], [ok, ok, ok, 404]])
}

const ROWS: [Row; 35] = [
    any("GET /api/v1/tokens", [200, 200, 200]),
    any("POST /api/v1/tokens", [201, 201, 201]),
    any("GET /api/v1/tokens/summary", [200, 200, 200]),
    tokens("GET /api/v1/tokens/{id}", 200),
    tokens("PATCH /api/v1/tokens/{id}", 200),
    tokens("DELETE /api/v1/tokens/{id}", 204),
    tokens("POST /api/v1/tokens/{id}/regenerate", 200),
    tokens("POST /api/v1/tokens/{id}/disable", 200),
    tokens("POST /api/v1/tokens/{id}/enable", 200),
    any("GET /api/v1/notices", [200, 200, 200]),
    row(
        "POST /api/v1/notices/{id}/read",
        Of::Notice,
        [[204, 404, 404, 404]; 3],
    ),
    any("GET /api/v1/accounts", [404, 404, 200]),
    any("POST /api/v1/accounts", [404, 404, 201]),
    tops("GET /api/v1/accounts/{name}", Of::Account, 200),
    tops("PATCH /api/v1/accounts/{name}", Of::Account, 200),
    tops("DELETE /api/v1/accounts/{name}", Of::Account, 204),
    any("GET /api/v1/users", [403, 200, 200]),
    any("POST /api/v1/users", [403, 201, 201]),
    users("GET /api/v1/users/{key}"),
    users("PATCH /api/v1/users/{key}"),
    tops("DELETE /api/v1/users/{key}", Of::User, 204),
    users("POST /api/v1/users/{key}/disable"),
    users("POST /api/v1/users/{key}/enable"),
    any("GET /api/v1/preferences", [200, 200, 200]),
    any("PATCH /api/v1/preferences", [200, 200, 200]),
    any("GET /api/v1/findings", [200, 200, 200]),
    row(
        "POST /api/v1/findings/{id}/acknowledge",
        Of::Finding,
        [[403; 4], [200, 200, 404, 404], [200, 200, 200, 404]],
    ),
    any("GET /api/v1/forecast", [200, 200, 200]),
    any("GET /api/v1/audit", [403, 200, 200]),
    any("GET /api/v1/policy", [404, 404, 200]),
    any("GET /api/v1/policy/check", [404, 404, 200]),
    any("GET /api/v1/sources", [404, 404, 200]),
    any("GET /api/v1/directories", [404, 404, 200]),
    any("GET /api/v1/verify", [200, 200, 200]),
    any("GET /api/openapi.json", [200, 200, 200]),
];

/// Credentials are in the body of these, or none are needed, or what they answer depends on the body alone.
const OPEN: [&str; 6] = [
    "GET /.well-known/oauth-authorization-server",
    "GET /.well-known/oauth-protected-resource",
    "POST /api/v1/leaks",
    "POST /oauth2/introspect",
    "POST /oauth2/revoke",
    "POST /oauth2/token",
];

/// Access tokens may not do these.
const NOT_FOR_ACCESS_TOKENS: [&str; 4] = [
    "POST /api/v1/tokens",
    "PATCH /api/v1/tokens/{id}",
    "POST /api/v1/tokens/{id}/regenerate",
    "POST /api/v1/tokens/{id}/enable",
];

/// Need no scope.
const WITHOUT_SCOPE: [&str; 2] = ["GET /api/v1/verify", "GET /api/openapi.json"];

const ALL_SCOPES: &str = "token:read token:write token:regenerate-self user:read user:write finding:read finding:write \
                          audit:read";

/// What the caller asks with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum With {
    Token,
    /// It was exchanged for the token.
    AccessToken,
    /// A token with each scope that lapsed knows.
    AllScopes,
    /// A token with a scope of an application.
    OtherScope,
}

impl Row {
    fn expected(&self, role: usize, whose: usize, with: With) -> u16 {
        let row = self.expected[role];
        let expected = row[whose];
        let regenerates = self.operation.ends_with("/regenerate");
        match with {
            With::AccessToken if NOT_FOR_ACCESS_TOKENS.contains(&self.operation) => 403,
            // Only itself.
            With::AllScopes if regenerates && whose > 0 && expected == 200 => 403,
            With::OtherScope if WITHOUT_SCOPE.contains(&self.operation) => expected,
            // They may not even know of it.
            With::OtherScope if row == [404; 4] => 404,
            With::OtherScope => 403,
            With::Token | With::AccessToken | With::AllScopes => expected,
        }
    }
}

const ROLES: [&str; 3] = ["user", "administrator", "super"];
const WHOSE: [&str; 4] = ["own", "other", "elsewhere", "unknown"];

/// New people for one cell, so that no cell depends on another.
struct Cell {
    api: Api,
    number: usize,
    with: With,
}

impl Cell {
    /// What is answered otherwise than expected.
    async fn try_all(&mut self, row: &Row, role: usize) -> Vec<String> {
        // The same whatever it is about, if the path names nothing.
        let count = if row.of == Of::Nothing {
            1
        } else {
            WHOSE.len()
        };
        let mut wrong = Vec::new();
        for (nth, whose) in WHOSE.iter().enumerate().take(count) {
            let expected = row.expected(role, nth, self.with);
            let answer = self.ask(row, ROLES[role], whose).await;
            if answer.status != expected {
                let (operation, got, body) = (row.operation, answer.status, answer.body);
                wrong.push(format!(
                    "{operation} as {} of {whose}: {got} instead of {expected}: {body}",
                    ROLES[role]
                ));
            }
        }
        wrong
    }

    async fn ask(&mut self, row: &Row, role: &str, whose: &str) -> Answer {
        let (token, id) = self.add(role).await;
        let path = self.path(row, whose, &id).await;
        let (method, _) = row.operation.split_once(' ').unwrap();
        let headers = [bearer(&token), "If-Match: *".to_owned()];
        let headers = headers.each_ref().map(String::as_str);
        let body = self.body(row.operation);
        self.api.call(method, &path, &headers, &body).await
    }

    fn address(&self, who: &str) -> String {
        format!("{who}-{}@example.org", self.number)
    }

    /// What the caller asks with, and the id of their token.
    async fn add(&mut self, role: &str) -> (String, String) {
        self.number += 1;
        let own = self.address("own");
        let place = (role != "super").then_some(("acme", role));
        self.api.user(&own, place).await;
        self.api
            .user(&self.address("other"), Some(("acme", "user")))
            .await;
        self.api
            .user(&self.address("elsewhere"), Some(("other", "user")))
            .await;
        let scopes = match self.with {
            With::Token | With::AccessToken => "",
            With::AllScopes => ALL_SCOPES,
            With::OtherScope => "app:read",
        };
        let new = NewToken {
            scopes: scopes.parse().unwrap(),
            ..new_token(&own)
        };
        let issued = self
            .api
            .service
            .issue(&super::operator(), &new)
            .await
            .unwrap();
        let token = issued.secret.token.expose_secret().to_owned();
        let id = issued.credential.id.to_string();
        match self.with {
            With::AccessToken => (self.api.exchange(&token).await, id),
            _ => (token, id),
        }
    }

    /// The path with what it names; the address of its owner.
    async fn path(&self, row: &Row, whose: &str, own_id: &str) -> String {
        let (_, path) = row.operation.split_once(' ').unwrap();
        let unknown = "00000000-0000-4000-8000-000000000000";
        let owner = self.address(whose);
        let token = match (row.of, whose) {
            (Of::Token | Of::Finding, "own") => own_id.to_owned(),
            (Of::Token | Of::Finding, "other" | "elsewhere") => self.api.token(&owner).await.1,
            _ => unknown.to_owned(),
        };
        match row.of {
            Of::Nothing => path.to_owned(),
            Of::Token => path.replace("{id}", &token),
            Of::User => path.replace("{key}", &owner),
            Of::Account => {
                let name = format!("account-{}", self.number);
                if whose != "unknown" {
                    let operator = super::operator();
                    self.api
                        .service
                        .add_account(&operator, &name, None)
                        .await
                        .unwrap();
                }
                path.replace("{name}", &name)
            }
            Of::Finding | Of::Notice if whose == "unknown" => path.replace("{id}", unknown),
            Of::Finding => path.replace("{id}", &self.finding(&token).await),
            Of::Notice => path.replace("{id}", &self.notice(&owner).await),
        }
    }

    async fn finding(&self, token: &str) -> String {
        let id = new_id(now());
        let mut tx = self.api.store.begin().await.unwrap();
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

    async fn notice(&self, owner: &str) -> String {
        let id = new_id(now());
        let at = "2026-11-21T09:00:00.000000+00:00";
        let sql = format!(
            "INSERT INTO notice (id, topic, generation, channel, recipient, recipient_key, basis, state, send_at,
                planned_at, subject)
             VALUES ('{id}', 'alert', '{at}', 'account', '{owner}', '{owner}', 'issuer', 'sent', '{at}', '{at}', 'x')"
        );
        let sql = match self.api.fresh.db {
            Sqlite => sql.replace(&format!("'{id}'"), &format!("x'{}'", id.simple())),
            Postgres => sql,
        };
        self.api.fresh.execute(&sql).await.unwrap();
        id.to_string()
    }

    fn body(&self, operation: &str) -> Value {
        match operation {
            "POST /api/v1/tokens" if self.with == With::AllScopes => {
                json!({"name": "new", "scopes": ["token:read"]})
            }
            "POST /api/v1/tokens" => json!({"name": "new"}),
            "PATCH /api/v1/tokens/{id}" => json!({"name": "renamed"}),
            "POST /api/v1/accounts" => json!({"name": format!("new-{}", self.number)}),
            "PATCH /api/v1/accounts/{name}" => json!({"max_tokens": 7}),
            "POST /api/v1/users" => {
                json!({"address": self.address("new"), "account": "acme", "role": "user"})
            }
            "PATCH /api/v1/users/{key}" => json!({"name": "Renamed"}),
            "PATCH /api/v1/preferences" => json!({"language": "en"}),
            "POST /api/v1/findings/{id}/acknowledge" => {
                json!({"until": "2027-01-01T00:00:00Z", "reason": "for the test"})
            }
            _ => Value::Null,
        }
    }
}

/// The operations of the document, as `METHOD path`.
async fn operations(api: &Api) -> Vec<String> {
    let document = api
        .call("GET", "/api/openapi.json", &[], &Value::Null)
        .await
        .is(200)
        .body;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let is_method = ["get", "post", "patch", "put", "delete"].contains(&method.as_str());
            if is_method {
                operations.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    operations.sort();
    operations
}

#[tokio::test]
async fn every_operation_has_a_row() {
    let api = Api::start(Sqlite, Terms::default()).await;
    let rows = ROWS.iter().map(|row| row.operation).chain(OPEN);
    let mut rows: Vec<_> = rows.map(str::to_owned).collect();
    rows.sort();
    assert_eq!(operations(&api).await, rows);
    api.store.close().await;
}

#[rstest]
#[tokio::test]
async fn every_operation_has_the_rights_of_its_row(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(With::Token, With::AccessToken, With::AllScopes, With::OtherScope)] with: With,
) {
    let terms = Terms {
        per_account: 0,
        ..Terms::default()
    };
    let api = Api::start(db, terms).await;
    let mut cell = Cell {
        api,
        number: 0,
        with,
    };
    let mut wrong = Vec::new();
    for row in &ROWS {
        for role in 0..ROLES.len() {
            wrong.extend(cell.try_all(row, role).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    cell.api.store.close().await;
}

#[tokio::test]
async fn without_a_valid_token_every_operation_is_closed() {
    let api = Api::start(Sqlite, Terms::default()).await;
    for row in &ROWS {
        if row.operation.ends_with("openapi.json") {
            continue;
        }
        let (method, path) = row.operation.split_once(' ').unwrap();
        for headers in [&[][..], &["Authorization: Bearer lapsed_x_y"]] {
            let answer = api.call(method, path, headers, &Value::Null).await;
            assert!(
                [401, 429].contains(&answer.status),
                "{}: {}",
                row.operation,
                answer.status
            );
        }
    }
    api.store.close().await;
}
