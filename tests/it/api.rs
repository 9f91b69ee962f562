//! The HTTP API over a real listener, with a manual clock: rights, and the rules of the documents that profiles imitate.

mod bounds;
mod matrix;
mod profiles;
mod walk;

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use lapsed::clock::Clock;
use lapsed::domain::service::{
    Actor, NewToken, NewUser, Presented, ProblemKind, RoleChange, Terms, UserChange,
};
use lapsed::listener::Listener;
use lapsed::service::{Error, Grant, Service};
use lapsed::store::Store;
use lapsed::web::{Settings, Web, serve};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::db::{Db, Fresh};
use crate::world::{self, now};

/// A service with its listener.
struct Api {
    address: SocketAddr,
    service: Arc<Service>,
    store: Store,
    clock: Clock,
    fresh: Fresh,
    _stop: DropGuard,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> &str {
        self.body[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {}", self.body))
    }

    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        self
    }
}

fn operator() -> Actor {
    Actor::Operator("operator".into())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

impl Api {
    /// With the accounts Acme and Other.
    async fn start(db: Db, terms: Terms) -> Self {
        let (store, fresh) = db.store().await;
        let clock = Clock::manual(now());
        let policy = Arc::new(world::engine(&store, fresh.folder()).policy);
        let service = Service::open(store.clone(), clock.clone(), Arc::new(terms), policy);
        for account in ["Acme", "Other"] {
            service
                .add_account(&operator(), account, None)
                .await
                .unwrap();
        }
        let settings = Settings {
            base_url: Some("https://tokens.example.org/".parse().unwrap()),
            ..Settings::default()
        };
        let web = Arc::new(Web::new(Arc::clone(&service), settings));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = Listener {
            tcp,
            tls: None,
            max_connections: 64,
        };
        let stopping = CancellationToken::new();
        tokio::spawn(serve(listener, web, stopping.clone()));
        Self {
            address,
            service,
            store,
            clock,
            fresh,
            _stop: stopping.drop_guard(),
        }
    }

    /// A user with a role in an account, or a super admin without one.
    async fn user(&self, address: &str, place: Option<(&str, &str)>) {
        let roles = place.map(|(account, role)| RoleChange::Give {
            account: account.into(),
            role: Some(role.into()),
        });
        let change = UserChange {
            is_super: place.is_none().then_some(true),
            roles: roles.into_iter().collect(),
            ..UserChange::default()
        };
        let user = NewUser::Person(address.parse().unwrap());
        self.service
            .add_user(&operator(), &user, &change)
            .await
            .unwrap();
    }

    /// A token that the operator issues, and its id.
    async fn token(&self, user: &str) -> (String, String) {
        let new = NewToken {
            user: Some(user.into()),
            ..crate::managing::new_token(user)
        };
        let issued = self.service.issue(&operator(), &new).await.unwrap();
        let token = issued.secret.token.expose_secret().to_owned();
        (token, issued.credential.id.to_string())
    }

    /// The token, in the account "acme", of somebody who is no super admin any more.
    async fn token_of_former_super_admin(&self, user: &str) -> String {
        let set = async |is_super| {
            let change = UserChange {
                is_super: Some(is_super),
                ..UserChange::default()
            };
            let operator = operator();
            let changed = self.service.change_user(&operator, user, None, &change);
            changed.await.unwrap();
        };
        set(true).await;
        let new = NewToken {
            account: Some("acme".into()),
            ..crate::managing::new_token(user)
        };
        let issued = self.service.issue(&operator(), &new).await.unwrap();
        set(false).await;
        issued.secret.token.expose_secret().to_owned()
    }

    /// Not even the operator issues a token for them.
    async fn refuses_token(&self, user: &str) {
        let new = crate::managing::new_token(user);
        let refused = self.service.issue(&operator(), &new).await;
        assert!(
            matches!(&refused, Err(Error::Refused(problem)) if problem.kind == ProblemKind::Forbidden),
            "{refused:?}"
        );
    }

    /// An access token for this token.
    async fn exchange(&self, token: &str) -> String {
        let presented = Presented::parse(token).unwrap();
        let here = self.address.ip();
        let access = self.service.verify(&presented, here).await.unwrap();
        let exchanged = self
            .service
            .exchange(Grant::ClientCredentials, &access.unwrap())
            .await
            .unwrap();
        exchanged.access.secret.token.expose_secret().to_owned()
    }

    async fn call(&self, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: lapsed\r\nConnection: close\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.call("GET", path, &[&bearer(token)], &Value::Null)
            .await
    }

    async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call("POST", path, &[&bearer(token)], &body).await
    }

    /// With the version that the resource has now.
    async fn change(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let headers = [bearer(token), "If-Match: *".to_owned()];
        let headers = headers.each_ref().map(String::as_str);
        self.call(method, path, &headers, &body).await
    }

    async fn verify(&self, header: &str) -> u16 {
        self.call("GET", "/api/v1/verify", &[header], &Value::Null)
            .await
            .status
    }

    async fn works(&self, token: &str) -> bool {
        self.verify(&bearer(token)).await == 200
    }

    async fn names(&self, token: &str, query: &str) -> Vec<String> {
        let page = self
            .get(token, &format!("/api/v1/tokens?sort=name&{query}"))
            .await
            .is(200);
        let items = page.body["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn advance(&self, by: TimeDelta) {
        self.clock.advance(by);
    }
}

fn named(name: &str) -> Value {
    json!({"name": name})
}
