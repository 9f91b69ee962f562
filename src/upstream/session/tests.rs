use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request as HttpRequest, Response};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::upstream::ProxyRules;

/// A server that grants the access tokens 1, 2, …, and accepts those for which `accepts` is true.
#[derive(Clone)]
struct Server {
    granted: Arc<Mutex<usize>>,
    accepts: Arc<dyn Fn(usize) -> bool + Send + Sync>,
    expires_in: Option<u64>,
}

impl Server {
    fn new(
        expires_in: Option<u64>,
        accepts: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            granted: Arc::default(),
            accepts: Arc::new(accepts),
            expires_in,
        }
    }

    fn granted(&self) -> usize {
        *self.granted.lock().unwrap()
    }

    fn answer(&self, request: &HttpRequest<Body>) -> Response<Body> {
        let (status, body) = if request.uri().path() == "/token" {
            let mut granted = self.granted.lock().unwrap();
            *granted += 1;
            let mut grant = serde_json::json!({"access_token": format!("{granted}")});
            if let Some(seconds) = self.expires_in {
                grant["expires_in"] = seconds.into();
            }
            (200, grant.to_string())
        } else {
            let bearer = request.headers()["authorization"].to_str().unwrap();
            let number = bearer.strip_prefix("Bearer ").unwrap().parse().unwrap();
            if (self.accepts)(number) {
                (200, number.to_string())
            } else {
                (401, String::new())
            }
        };
        let response = Response::builder().status(status);
        response.body(Body::from(body)).unwrap()
    }

    async fn start(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        let router = Router::new()
            .fallback(async move |request: axum::extract::Request| server.answer(&request));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(
            &url.parse().unwrap(),
            None,
            Duration::from_secs(20),
            &ProxyRules::default(),
        )
        .unwrap()
    }
}

/// Signs in at the server itself.
#[derive(Debug)]
struct App(Client);

impl SignIn for App {
    async fn sign_in(&self) -> Result<Grant, Error> {
        let form = [("grant_type", "client_credentials")];
        Ok(request_access_token(&self.0, "token", &form).await?)
    }
}

async fn start(server: &Server) -> Session<App> {
    let web = server.start().await;
    Session::new(web.clone(), App(web))
}

async fn ask(session: &Session<impl SignIn>) -> Result<Value, Error> {
    session.fetch(session.web.get("people")).await
}

#[tokio::test]
async fn one_access_token_serves_many_requests() {
    let server = Server::new(Some(300), |_| true);
    let session = start(&server).await;
    for _ in 0..3 {
        assert_eq!(ask(&session).await.unwrap(), 1);
    }
    assert_eq!(server.granted(), 1);
}

#[tokio::test]
async fn access_tokens_of_one_minute_or_unknown_lifetime_are_kept() {
    for expires_in in [Some(60), None] {
        let server = Server::new(expires_in, |_| true);
        let session = start(&server).await;
        for _ in 0..3 {
            assert_eq!(ask(&session).await.unwrap(), 1, "{expires_in:?}");
        }
    }
}

#[tokio::test]
async fn an_expired_access_token_is_not_sent() {
    let server = Server::new(Some(0), |_| true);
    let session = start(&server).await;
    assert_eq!(ask(&session).await.unwrap(), 1);
    assert_eq!(ask(&session).await.unwrap(), 2);
}

#[tokio::test]
async fn a_rejected_access_token_is_renewed_once() {
    let server = Server::new(Some(300), |number| number == 2);
    let session = start(&server).await;
    assert_eq!(ask(&session).await.unwrap(), 2, "the second is accepted");
    assert_eq!(ask(&session).await.unwrap(), 2, "and kept");
    assert_eq!(server.granted(), 2);
}

#[tokio::test]
async fn a_rejected_new_access_token_is_an_error() {
    let server = Server::new(Some(300), |_| false);
    let session = start(&server).await;
    let error = ask(&session).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED), "{error:?}");
    assert_eq!(server.granted(), 2);
}

#[tokio::test]
async fn a_refused_sign_in_keeps_its_own_error() {
    struct Refused;
    impl SignIn for Refused {
        async fn sign_in(&self) -> Result<Grant, Error> {
            Err(Error::rights("no access token", "correct client_id"))
        }
    }
    let server = Server::new(Some(300), |_| true);
    let session = Session::new(server.start().await, Refused);
    let error = ask(&session).await.unwrap_err().to_string();
    assert_eq!(error, "no access token; correct client_id");
    assert_eq!(server.granted(), 0);
}

#[tokio::test]
async fn a_refused_sign_in_does_not_have_the_status_of_the_request() {
    struct Missing(Client);
    impl SignIn for Missing {
        async fn sign_in(&self) -> Result<Grant, Error> {
            Err(self
                .0
                .get("people")
                .json::<Value>()
                .await
                .unwrap_err()
                .into())
        }
    }
    for status in [400, 403, 404, 500, 501] {
        let router = Router::new().fallback(async move || {
            Response::builder()
                .status(status)
                .body(Body::empty())
                .unwrap()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let web = Client::new(
            &url.parse().unwrap(),
            None,
            Duration::from_secs(20),
            &ProxyRules::default(),
        )
        .unwrap();
        let session = Session::new(web.clone(), Missing(web));
        let error = ask(&session).await.unwrap_err();
        assert_eq!((error.status(), error.code()), (None, None), "{status}");
        assert!(
            error.to_string().contains(&format!("answered {status}")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn debug_output_does_not_show_an_access_token() {
    let server = Server::new(Some(300), |_| true);
    let session = start(&server).await;
    ask(&session).await.unwrap();
    let shown = format!("{session:?}");
    assert!(
        shown.contains("Sensitive") && !shown.contains("Bearer"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_credential_is_renewed_after_the_time_that_its_grant_says() {
    struct Counter(Duration, Mutex<u32>);
    impl SignIn for Counter {
        async fn sign_in(&self) -> Result<Grant, Error> {
            let mut count = self.1.lock().unwrap();
            *count += 1;
            Ok(Grant {
                header: count.to_string().parse().unwrap(),
                renew_after: self.0,
            })
        }
    }
    let url = "http://127.0.0.1:1".parse().unwrap();
    let web = Client::new(&url, None, Duration::from_secs(1), &ProxyRules::default()).unwrap();
    for (renew_after, second) in [(Duration::from_hours(9), "1"), (Duration::ZERO, "2")] {
        let session = Session::new(web.clone(), Counter(renew_after, Mutex::new(0)));
        assert_eq!(session.credential().await.unwrap(), "1");
        assert_eq!(session.credential().await.unwrap(), second);
    }
}
