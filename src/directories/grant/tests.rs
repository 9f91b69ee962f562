use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request as Asked, Response};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;

/// A server that grants `token 1`, `token 2` … for so long, and takes those alone.
#[derive(Clone)]
struct Server {
    granted: Arc<Mutex<usize>>,
    taken: Arc<dyn Fn(usize) -> bool + Send + Sync>,
    expires_in: Option<u64>,
}

impl Server {
    fn new(expires_in: Option<u64>, taken: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self {
            granted: Arc::default(),
            taken: Arc::new(taken),
            expires_in,
        }
    }

    fn granted(&self) -> usize {
        *self.granted.lock().unwrap()
    }

    fn answer(&self, asked: &Asked<Body>) -> Response<Body> {
        let (status, body) = if asked.uri().path() == "/token" {
            let mut granted = self.granted.lock().unwrap();
            *granted += 1;
            let mut grant = serde_json::json!({"access_token": format!("{granted}")});
            if let Some(seconds) = self.expires_in {
                grant["expires_in"] = seconds.into();
            }
            (200, grant.to_string())
        } else {
            let bearer = asked.headers()["authorization"].to_str().unwrap();
            let number = bearer.strip_prefix("Bearer ").unwrap().parse().unwrap();
            if (self.taken)(number) {
                (200, number.to_string())
            } else {
                (401, String::new())
            }
        };
        let response = Response::builder().status(status);
        response.body(Body::from(body)).unwrap()
    }

    async fn start(&self) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = self.clone();
        let router = Router::new()
            .fallback(async move |asked: axum::extract::Request| server.answer(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Web::new(&url.parse().unwrap(), None, Duration::from_secs(20)).unwrap()
    }
}

async fn ask(grants: &Grants, web: &Web) -> Result<Value, Failure> {
    let form = || Ok(vec![("grant_type", "client_credentials".to_owned())]);
    grants.ask(web, "token", form, || web.get("people")).await
}

#[tokio::test]
async fn one_access_token_serves_many_requests() {
    let server = Server::new(Some(300), |_| true);
    let (web, grants) = (server.start().await, Grants::default());
    for _ in 0..3 {
        assert_eq!(ask(&grants, &web).await.unwrap(), 1);
    }
    assert_eq!(server.granted(), 1);
}

#[tokio::test]
async fn one_that_lasts_a_minute_is_kept_as_is_one_of_unknown_life() {
    for expires_in in [Some(60), None] {
        let server = Server::new(expires_in, |_| true);
        let (web, grants) = (server.start().await, Grants::default());
        for _ in 0..3 {
            assert_eq!(ask(&grants, &web).await.unwrap(), 1, "{expires_in:?}");
        }
    }
}

#[tokio::test]
async fn one_that_is_over_is_not_sent() {
    let server = Server::new(Some(0), |_| true);
    let (web, grants) = (server.start().await, Grants::default());
    assert_eq!(ask(&grants, &web).await.unwrap(), 1);
    assert_eq!(ask(&grants, &web).await.unwrap(), 2);
}

#[tokio::test]
async fn one_that_is_no_longer_taken_is_renewed_once() {
    let server = Server::new(Some(300), |number| number == 2);
    let (web, grants) = (server.start().await, Grants::default());
    assert_eq!(ask(&grants, &web).await.unwrap(), 2, "the second is taken");
    assert_eq!(ask(&grants, &web).await.unwrap(), 2, "and kept");
    assert_eq!(server.granted(), 2);
}

#[tokio::test]
async fn when_the_new_one_is_not_taken_either_that_is_the_end() {
    let server = Server::new(Some(300), |_| false);
    let (web, grants) = (server.start().await, Grants::default());
    let failure = ask(&grants, &web).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Answer(error) if error.status() == Some(StatusCode::UNAUTHORIZED)),
        "{failure:?}"
    );
    assert_eq!(server.granted(), 2);
}

#[tokio::test]
async fn that_none_was_granted_is_told_apart() {
    let server = Server::new(Some(300), |_| true);
    let (web, grants) = (server.start().await, Grants::default());
    let unsendable = || {
        Err(web::Error::Unsendable {
            what: "the assertion",
        })
    };
    let asked = grants.ask::<Value>(&web, "token", unsendable, || web.get("people"));
    let failure = asked.await.unwrap_err();
    assert!(matches!(failure, Failure::Grant(_)), "{failure:?}");
    assert_eq!(server.granted(), 0);
}

#[tokio::test]
async fn no_debug_output_shows_one() {
    let server = Server::new(Some(300), |_| true);
    let (web, grants) = (server.start().await, Grants::default());
    ask(&grants, &web).await.unwrap();
    let shown = format!("{grants:?}");
    assert!(
        shown.contains("Sensitive") && !shown.contains("Bearer"),
        "{shown}"
    );
}
