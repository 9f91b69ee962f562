//! Syncs of a Rancher with 240,000 tokens, compared with downloading and parsing its pages.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lapsed::upstream::ProxyRules;
use lapsed::upstream::http::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::data::Place;
use super::process::{self, Used};
use super::{Options, print_result};

const TOKENS: u64 = 240_000;
const USERS: u64 = 20_000;
const PAGE_SIZE: u64 = 500;
const TOKEN_LIST: &str = "k8s/clusters/local/apis/management.cattle.io/v3/tokens";

/// Only the position of the next page.
#[derive(Deserialize)]
struct PageEnd {
    metadata: Next,
}

#[derive(Deserialize)]
struct Next {
    #[serde(rename = "continue")]
    next: String,
}

/// Syncs on both databases: the first time, the same again, and with a hundredth of the tokens used since.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let last_used_second = Arc::new(AtomicU64::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&last_used_second));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    for place in options.places() {
        last_used_second.store(0, Ordering::Relaxed);
        place.clear("bench_sources").await?;
        let config = config(options, &place, &url)?;
        for what in ["new", "the same again", "a hundredth used since"] {
            if what.ends_with("since") {
                last_used_second.fetch_add(1, Ordering::Relaxed);
            }
            let downloaded = download::<PageEnd>(&url, |page| page.metadata.next.clone()).await?;
            let parsed = download::<serde_json::Value>(&url, next).await?;
            let ran = process::run(options, &["--config", &config, "sweep"])?;
            print_result(&line(&place, what, &ran, parsed, downloaded));
            let log = std::fs::read_to_string(options.dir.join("lapsed.log"))?;
            for line in log.lines().filter(|line| line.starts_with("tokens")) {
                print_result(line);
            }
        }
        place.clear("bench_sources").await?;
    }
    server.abort();
    Ok(())
}

fn next(page: &serde_json::Value) -> String {
    let next = page["metadata"]["continue"].as_str();
    next.unwrap_or_default().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn line(place: &Place, what: &str, ran: &Used, parsed: f64, downloaded: f64) -> String {
    format!(
        "{} sync of {TOKENS} tokens of {USERS} users, {what}: {:.1} s, {:.0} tokens/s, {:.1} MiB at most; \
         {:.2} of the time of downloading and parsing the pages ({parsed:.1} s), {:.2} of that of downloading alone",
        place.name(),
        ran.seconds,
        TOKENS as f64 / ran.seconds,
        ran.mib,
        ran.seconds / parsed,
        ran.seconds / downloaded,
    )
}

fn config(options: &Options, place: &Place, url: &str) -> anyhow::Result<String> {
    let text = format!(
        "[store]\nurl = \"{}\"\n[notify]\nfrom = \"tokens@example.com\"\nadmins = []\n[mail]\ntransport = \"file\"\n\
         [http]\nlisten = \"off\"\n[[source]]\nname = \"rancher\"\nkind = \"rancher\"\nurl = \"{url}\"\ntoken = \"token-0:x\"\n",
        place.url("bench_sources")
    );
    let path: PathBuf = options.dir.join("lapsed.toml");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// Reads all pages of the tokens one after the other; returns the seconds.
async fn download<T: DeserializeOwned>(url: &str, next: fn(&T) -> String) -> anyhow::Result<f64> {
    let started = Instant::now();
    let web = Client::new(
        &url.parse()?,
        None,
        Duration::from_secs(30),
        &ProxyRules::default(),
    )?;
    let mut from = String::new();
    loop {
        let mut request = web.get(TOKEN_LIST).query("limit", "500");
        if !from.is_empty() {
            request = request.query("continue", &from);
        }
        from = next(&request.json().await?);
        if from.is_empty() {
            return Ok(started.elapsed().as_secs_f64());
        }
    }
}

/// The answers of a Rancher before 2.12.
async fn answer(State(last_used_second): State<Arc<AtomicU64>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let mut query = url::form_urlencoded::parse(query);
    let from = query.find(|(name, _)| name == "continue");
    let from = from.and_then(|(_, from)| from.parse().ok()).unwrap_or(0);
    let last_used_second = last_used_second.load(Ordering::Relaxed);
    if path.ends_with("/v3/tokens") {
        return page(from, TOKENS, |out, n| token(out, n, last_used_second)).into_response();
    }
    if path.ends_with("/v3/users") {
        return page(from, USERS, user).into_response();
    }
    if path.ends_with("/v3/userattributes") {
        return page(from, USERS, attribute).into_response();
    }
    match path.as_str() {
        "/rancherversion" => "{\"Version\":\"v2.11.3\"}".into_response(),
        "/v3/authConfigs" => "{\"data\":[{\"id\":\"okta\",\"enabled\":true}]}".into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn page(from: u64, count: u64, mut item: impl FnMut(&mut String, u64)) -> String {
    let to = count.min(from + PAGE_SIZE);
    let next = if to < count {
        to.to_string()
    } else {
        String::new()
    };
    let mut out = format!(
        "{{\"metadata\":{{\"resourceVersion\":\"881234\",\"continue\":\"{next}\"}},\"items\":["
    );
    for n in from..to {
        if n > from {
            out.push(',');
        }
        item(&mut out, n);
    }
    out.push_str("]}");
    out
}

/// A token as Kubernetes writes it, including managed fields: about a kilobyte.
fn token(out: &mut String, n: u64, last_used_second: u64) {
    let owner = n.wrapping_mul(2_654_435_761) % USERS;
    let (month, day) = (1 + n % 12, 1 + n % 28);
    let at = if n.is_multiple_of(100) {
        last_used_second
    } else {
        0
    };
    let _ = write!(
        out,
        "{{\"apiVersion\":\"management.cattle.io/v3\",\"kind\":\"Token\",\"metadata\":{{\"name\":\"token-{n}\",\
         \"uid\":\"5f0c2a31-0000-4000-8000-{n:012}\",\"resourceVersion\":\"{n}\",\"generation\":3,\
         \"creationTimestamp\":\"2025-{month:02}-{day:02}T10:15:02Z\",\
         \"labels\":{{\"authn.management.cattle.io/token-userId\":\"u-{owner}\",\"cattle.io/creator\":\"norman\"}},\
         \"managedFields\":[{{\"manager\":\"rancher\",\"operation\":\"Update\",\"apiVersion\":\"management.cattle.io/v3\",\
         \"fieldsType\":\"FieldsV1\",\"fieldsV1\":{{\"f:authProvider\":{{}},\"f:description\":{{}},\"f:expired\":{{}},\"f:expiresAt\":{{}},\
         \"f:isDerived\":{{}},\"f:lastUpdateTime\":{{}},\"f:metadata\":{{\"f:labels\":{{\".\":{{}}}}}},\"f:token\":{{}},\"f:ttl\":{{}}}}}}]}},\
         \"token\":\"k7b2x9qz5n8m4v6c3w1r0t{n:032}\",\"userId\":\"u-{owner}\",\"authProvider\":\"okta\",\"isDerived\":true,\
         \"description\":\"ci deploy {n}\",\"userPrincipal\":{{\"metadata\":{{\"name\":\"okta_user://user{owner}@example.org\",\
         \"creationTimestamp\":null}},\"displayName\":\"User {owner}\",\"loginName\":\"user{owner}@example.org\",\
         \"principalType\":\"user\",\"provider\":\"okta\",\"me\":true}},\"ttl\":7776000000,\
         \"expiresAt\":\"20{}-{month:02}-{day:02}T10:15:02Z\",\"expired\":false,\"current\":false,\"enabled\":true,\
         \"lastUsedAt\":\"2026-01-01T08:01:{at:02}Z\",\"clusterName\":\"c-m-{:08}\"}}",
        40 + n % 30,
        n % 300,
    );
}

fn user(out: &mut String, n: u64) {
    let _ = write!(
        out,
        "{{\"metadata\":{{\"name\":\"u-{n}\",\"creationTimestamp\":\"2025-01-01T00:00:00Z\"}},\"displayName\":\"User {n}\",\
         \"principalIds\":[\"okta_user://user{n}@example.org\",\"local://u-{n}\"],\"enabled\":true}}"
    );
}

fn attribute(out: &mut String, n: u64) {
    let _ = write!(
        out,
        "{{\"metadata\":{{\"name\":\"u-{n}\"}},\"UserName\":\"u-{n}\",\"LastRefresh\":\"2026-01-01T00:00:00Z\",\
         \"ExtraByProvider\":{{\"okta\":{{\"principalid\":[\"okta_user://user{n}@example.org\"],\"username\":[\"user{n}@example.org\"]}}}}}}"
    );
}
