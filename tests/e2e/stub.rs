//! A stub HTTP server with canned responses, which records its requests.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::oneshot;

#[derive(Debug, Clone)]
pub struct StubRequest {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl StubRequest {
    /// `GET /iam/users`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Answer {
    pub fn json(value: &Value) -> Self {
        Self::text(200, &value.to_string())
    }

    pub fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Body::from(text.to_owned()),
        }
    }

    pub fn status(status: u16) -> Self {
        Self::text(status, "")
    }

    pub fn with(mut self, header: &str, value: &str) -> Self {
        self.headers.push((header.to_owned(), value.to_owned()));
        self
    }

    /// Sends a text and breaks the connection.
    pub fn cut(text: &str) -> Self {
        let beginning = Ok(Bytes::from(text.to_owned()));
        let end = Err(std::io::Error::other("cut off"));
        Self {
            body: Body::from_stream(stream::iter([beginning, end])),
            ..Self::status(200)
        }
    }

    /// Sends this many meaningless bytes.
    pub fn endless(bytes: usize) -> Self {
        const CHUNK: usize = 64 * 1024;
        let chunk = Bytes::from(vec![b' '; CHUNK]);
        let chunks = stream::repeat(chunk).take(bytes.div_ceil(CHUNK));
        Self {
            body: Body::from_stream(chunks.map(Ok::<_, std::io::Error>)),
            ..Self::status(200)
        }
    }
}

/// Answers a request in place of a stub, which is the second argument.
type Intercept = dyn FnMut(&StubRequest, &dyn Fn(&StubRequest) -> Answer) -> Answer + Send;

/// A server on a port of its own, until it is dropped.
pub struct Stub {
    pub url: String,
    intercept: Arc<Mutex<Option<Box<Intercept>>>>,
    requests: Arc<Mutex<Vec<StubRequest>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Stub {
    pub fn start(answer: impl Fn(&StubRequest) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<StubRequest>>>::default();
        let (stop, stopped) = oneshot::channel();
        let intercept = Arc::<Mutex<Option<Box<Intercept>>>>::default();
        let first = Arc::clone(&intercept);
        let answer = move |request: &StubRequest| match &mut *first.lock().unwrap() {
            Some(intercept) => intercept(request, &answer),
            None => answer(request),
        };
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        let router = Router::new().fallback(async move |request: Request| {
            let request = read(request).await;
            log.lock().unwrap().push(request.clone());
            respond(answer(&request))
        });
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self {
            url,
            intercept,
            requests,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// From now on, `answer` responds; it may pass a request on to the stub.
    pub fn intercept(
        &self,
        answer: impl FnMut(&StubRequest, &dyn Fn(&StubRequest) -> Answer) -> Answer + Send + 'static,
    ) {
        *self.intercept.lock().unwrap() = Some(Box::new(answer));
    }

    /// The stub answers every request itself again.
    pub fn stop_intercepting(&self) {
        *self.intercept.lock().unwrap() = None;
    }

    pub fn requests(&self) -> Vec<StubRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// Drains the recorded requests and returns their lines.
    pub fn take_request_lines(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        requests.iter().map(StubRequest::line).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a stub has failed");
        }
    }
}

async fn read(request: Request) -> StubRequest {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let query = parts.uri.query().unwrap_or_default();
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    StubRequest {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: parts.headers.iter().map(header).collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn respond(answer: Answer) -> Response {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body).unwrap()
}
