//! A SCIM server with 100,000 people, of whom 10,000 issued three tokens each: the cost of reading all of them, and
//! of judging after a change.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lapsed::clock::Clock;
use lapsed::directories::{Directory, PeopleListing, PeopleQuery, PersonSink};
use lapsed::domain::DirectoryTerms;
use lapsed::engine::{Engine, SweepOptions, WatchedDirectory};
use lapsed::sources::{CheckReport, Error, Fetched};
use lapsed::upstream::ProxyRules;
use lapsed::upstream::http::Client;
use tokio_util::sync::CancellationToken;

use super::data::{self, Place};
use super::process;
use super::{Options, median, print_result};

const PEOPLE: u64 = 100_000;
const ISSUERS: u64 = 10_000;
const TOKENS: u64 = 3 * ISSUERS;
const PAGE_SIZE: u64 = 500;

/// Syncs on both databases: the first time, the same again, and with people disabled since.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let disabled = Arc::new(AtomicU64::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&disabled));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    for place in options.places() {
        disabled.store(0, Ordering::Relaxed);
        place.clear("bench_directory").await?;
        let config = config(options, &place, &url)?;
        let args = ["--config", &config, "sweep"];
        for (what, lost) in [
            ("with all tokens new", 0),
            ("the same again", 0),
            ("1 disabled", 1),
            ("99 more disabled", 100),
            ("the same again", 100),
        ] {
            disabled.store(lost, Ordering::Relaxed);
            let parsed = download(&url).await?;
            let ran = process::run(options, &args)?;
            print_result(&format!(
                "{} sweep over {PEOPLE} people, {ISSUERS} of them issuers of {TOKENS} tokens, {what}: {:.2} s, \
                 {:.1} MiB at most; {:.2} of the time of downloading and parsing the pages ({parsed:.2} s)",
                place.name(),
                ran.seconds,
                ran.mib,
                ran.seconds / parsed,
            ));
        }
        judge(&place).await?;
        place.clear("bench_directory").await?;
    }
    server.abort();
    Ok(())
}

/// Compares sweeps that judge who lost access with sweeps that do not. The directory
/// reports that nothing has changed.
async fn judge(place: &Place) -> anyhow::Result<()> {
    struct Silent;

    #[async_trait]
    impl Directory for Silent {
        async fn list_people(
            &self,
            _: &PeopleQuery<'_>,
            _: &mut PersonSink<'_>,
        ) -> Result<Fetched<PeopleListing>, Error> {
            Ok(Fetched::Unchanged)
        }

        async fn check(&self) -> Result<CheckReport, Error> {
            Ok(CheckReport::default())
        }

        fn stores_everyone(&self) -> bool {
            true
        }
    }

    let url = place.url("bench_directory");
    let clock = Clock::system();
    let mut engine = data::engine(&url, clock, data::policy(0), (9, 1)).await?;
    engine.directories = vec![WatchedDirectory {
        terms: DirectoryTerms {
            name: "corp".to_owned(),
            kind: "silent",
            ..DirectoryTerms::default()
        },
        directory: Arc::new(Silent),
    }];
    let quiet = median_sweep(&engine, false).await?;
    let judging = median_sweep(&engine, true).await?;
    print_result(&format!(
        "{} a sweep with nothing changed takes {:.2} ms, one that judges anew 100 people out of {ISSUERS} {:.2} ms",
        place.name(),
        quiet * 1e3,
        judging * 1e3,
    ));
    Ok(())
}

/// The median of eleven sweeps, in seconds.
async fn median_sweep(engine: &Engine, judge: bool) -> anyhow::Result<f64> {
    let stop = CancellationToken::new();
    let mut durations = Vec::new();
    for number in 0..11 {
        if judge {
            let mut tx = engine.store.begin().await?;
            tx.set_setting("judge.pending", &format!("bench {number}"))
                .await?;
            tx.commit().await?;
        }
        let started = Instant::now();
        let report = engine.sweep(&SweepOptions::default(), &stop).await;
        durations.push(started.elapsed().as_secs_f64());
        anyhow::ensure!(report.findings_opened == 0, "{report:?}");
    }
    Ok(median(durations))
}

fn config(options: &Options, place: &Place, url: &str) -> anyhow::Result<String> {
    let mut csv = "external_id,name,issuer_email,expires_at\n".to_owned();
    for n in 0..TOKENS {
        let _ = writeln!(
            csv,
            "t-{n},token {n},user{}@example.org,2099-01-01",
            n % ISSUERS
        );
    }
    std::fs::write(options.dir.join("tokens.csv"), csv)?;
    let text = format!(
        "[store]\nurl = \"{}\"\n[notify]\nfrom = \"tokens@example.com\"\nadmins = [\"boss@example.com\"]\n[mail]\ntransport = \"file\"\n\
         [http]\nlisten = \"off\"\n[[source]]\nname = \"tokens\"\nkind = \"file\"\npath = \"tokens.csv\"\n\
         [[directory]]\nname = \"corp\"\nkind = \"scim\"\nurl = \"{url}/scim/v2\"\ntoken = \"s3cr3t\"\n",
        place.url("bench_directory")
    );
    let path: PathBuf = options.dir.join("lapsed.toml");
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// Reads all pages one after the other; returns the seconds.
async fn download(url: &str) -> anyhow::Result<f64> {
    let started = Instant::now();
    let web = Client::new(
        &format!("{url}/scim/v2").parse()?,
        None,
        Duration::from_secs(30),
        &ProxyRules::default(),
    )?;
    for from in (1..=PEOPLE).step_by(usize::try_from(PAGE_SIZE)?) {
        let request = web.get("Users").query("startIndex", &from.to_string());
        let _: serde_json::Value = request.json().await?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// The answers of a SCIM server without filters.
async fn answer(State(disabled): State<Arc<AtomicU64>>, request: Request) -> Response {
    let disabled = disabled.load(Ordering::Relaxed);
    let path = request.uri().path();
    if path.ends_with("/ServiceProviderConfig") {
        return "{\"filter\":{\"supported\":false}}".into_response();
    }
    if let Some(id) = path.strip_prefix("/scim/v2/Users/") {
        let number = id.rsplit('-').next().and_then(|number| number.parse().ok());
        let Some(number) = number.filter(|number| *number < PEOPLE) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let mut out = String::new();
        user(&mut out, number, disabled);
        return out.into_response();
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let mut query = url::form_urlencoded::parse(query);
    let from = query.find(|(name, _)| name == "startIndex");
    let from: u64 = from.and_then(|(_, from)| from.parse().ok()).unwrap_or(1);
    let to = PEOPLE.min(from - 1 + PAGE_SIZE);
    let mut out = format!(
        "{{\"schemas\":[\"urn:ietf:params:scim:api:messages:2.0:ListResponse\"],\"totalResults\":{PEOPLE},\
         \"startIndex\":{from},\"itemsPerPage\":{PAGE_SIZE},\"Resources\":["
    );
    for n in from - 1..to {
        if n >= from {
            out.push(',');
        }
        user(&mut out, n, disabled);
    }
    out.push_str("]}");
    out.into_response()
}

/// A user as identity providers write one: a third of a kilobyte.
fn user(out: &mut String, n: u64, disabled: u64) {
    let _ = write!(
        out,
        "{{\"schemas\":[\"urn:ietf:params:scim:schemas:core:2.0:User\"],\"id\":\"5f0c2a31-0000-4000-8000-{n:012}\",\
         \"externalId\":\"e-{n}\",\"userName\":\"user{n}@example.org\",\"displayName\":\"User {n}\",\"active\":{},\
         \"emails\":[{{\"value\":\"user{n}@example.org\",\"type\":\"work\",\"primary\":true}}],\
         \"meta\":{{\"resourceType\":\"User\",\"created\":\"2025-01-01T00:00:00Z\",\"lastModified\":\"2026-01-01T00:00:00Z\"}}}}",
        n >= disabled,
    );
}
