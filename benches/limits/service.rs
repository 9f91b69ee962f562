//! The token service: verified requests a second beside a handler that does nothing, how fast tokens are issued, how
//! much memory the tokens in use take, and whether the time of a refusal says why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::Response;
use axum::routing::get;
use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::TokenId;
use lapsed::domain::service::{
    Credential, CredentialState, Kind, NewSecret, Presented, PublicId, ServiceAccount,
    ServicePerson, StoredSecret, Terms,
};
use lapsed::listener::Listener;
use lapsed::service::Service;
use lapsed::store::{Access, Store};
use lapsed::web::{self, Settings, Web};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::data::{Place, Raw, policy};
use super::{Options, median, print_result};

const TOKENS: u64 = 1_000_000;
/// Of these, those that are used.
const USED: u64 = 200_000;
const USED_IN_TURN: usize = 100_000;
const PEOPLE: u64 = 20_000;
const ACCOUNTS: u64 = 4_000;
const STORE: &str = "bench_service";
const ROUNDS: usize = 3;
const ORACLE_ROUNDS: usize = 3_000;
const ISSUERS: usize = 32;

/// Another process that serves until it is dropped: the API and a handler that does nothing.
struct Server {
    child: Child,
    api: u16,
    bare: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(url: &str) -> anyhow::Result<Self> {
        Self::start_limited(url, 0)
    }

    /// Accounts have at most `per_account` tokens; 0 for no limit.
    fn start_limited(url: &str, per_account: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["service", url, &per_account.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let mut ports = line.split_whitespace().map(str::parse);
        let mut port = || {
            ports
                .next()
                .context("the server did not start")?
                .context("no port")
        };
        Ok(Self {
            api: port()?,
            bare: port()?,
            child,
        })
    }

    fn mib(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<f64>()? / 1024.0)
    }
}

/// The other process.
pub async fn serve(url: &str, per_account: &str) -> anyhow::Result<()> {
    let service = open(url, per_account.parse()?).await?;
    let stopping = CancellationToken::new();
    let work = service.start(None, stopping.clone()).await?;
    tokio::spawn(work);
    let settings = Settings {
        trusted_proxies: vec!["127.0.0.0/8".parse()?],
        ..Settings::default()
    };
    let state = Arc::new(Web::new(service, settings));
    let tcp = TcpListener::bind("127.0.0.1:0").await?;
    let bare = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", tcp.local_addr()?.port(), bare.local_addr()?.port());
    let nothing = Router::new().route("/", get(async || Response::new(Body::empty())));
    tokio::spawn(async move { axum::serve(bare, nothing).await });
    let listener = Listener {
        tcp,
        tls: None,
        max_connections: web::MAX_CONNECTIONS,
    };
    web::serve(listener, state, stopping).await?;
    Ok(())
}

async fn open(url: &str, per_account: u64) -> anyhow::Result<Arc<Service>> {
    let store = Store::open(url, Access::Migrate).await?;
    let terms = Terms {
        per_account,
        ..Terms::default()
    };
    let policy = Arc::new(policy(0));
    Ok(Service::open(
        store,
        Clock::system(),
        Arc::new(terms),
        policy,
    ))
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    for place in options.places() {
        let url = place.url(STORE);
        let tokens = generate(&place, &url).await?;
        compare(&place, &url, &options.dir, &tokens)?;
        oracle(&place, &url, &tokens).await?;
        issue(&place, &url, &options.dir, &tokens).await?;
        spread(&place, &url, &options.dir, &tokens).await?;
        place.clear(STORE).await?;
    }
    Ok(())
}

/// A million credentials, of which the texts of those in use are returned.
async fn generate(place: &Place, url: &str) -> anyhow::Result<Vec<String>> {
    place.clear(STORE).await?;
    let store = Store::open(url, Access::Create).await?;
    let now = Clock::system().now();
    let mut tx = store.begin().await?;
    for account in 0..ACCOUNTS {
        tx.insert_service_account(&ServiceAccount {
            key: format!("account-{account}"),
            name: format!("account-{account}"),
            max_tokens: None,
            created_at: now,
        })
        .await?;
    }
    for number in 0..PEOPLE {
        tx.save_service_user(&person(number, now)?).await?;
    }
    tx.commit().await?;
    let mut texts = Vec::new();
    for page in 0..USED / 10_000 {
        let mut tx = store.begin().await?;
        for number in page * 10_000..(page + 1) * 10_000 {
            let (credential, secret) = credential(number, now);
            tx.insert_credential(&credential).await?;
            texts.push(secret.token.expose_secret().to_owned());
        }
        tx.commit().await?;
    }
    store.close().await;
    let mut raw = Raw::connect(url).await?;
    raw.run(&filling_statement(&raw, TOKENS - USED)).await?;
    raw.run(if let Raw::Sqlite(_) = raw {
        "ANALYZE"
    } else {
        "VACUUM ANALYZE"
    })
    .await?;
    Ok(texts)
}

/// Credentials that nobody uses.
fn filling_statement(raw: &Raw, count: u64) -> String {
    let (series, id, at) = match raw {
        Raw::Sqlite(_) => (
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
            ),
            "randomblob(16)",
            "'2026-01-01T00:00:00+00:00'",
        ),
        Raw::Postgres(_) => (
            format!("WITH n AS (SELECT generate_series(1::bigint, {count}) AS i)"),
            "md5(i::text)::uuid",
            "TIMESTAMPTZ '2026-01-01T00:00:00Z'",
        ),
    };
    format!(
        "INSERT INTO credential (id, public_id, kind, issuer_key, account_key, scopes, networks, created_at, state, digest,
            secret_number, secret_created_at, version)
         {series}
         SELECT {id}, 'unused' || i, 'api', 'user' || i % {PEOPLE} || '@example.com', 'account-' || i % {ACCOUNTS}, '', '',
            {at}, 'active', '0000000000000000000000000000000000000000000000000000000000000000', 1, {at}, 1
         FROM n"
    )
}

fn person(number: u64, now: DateTime<Utc>) -> anyhow::Result<ServicePerson> {
    let key = format!("user{number}@example.com");
    let account = format!("account-{}", number % ACCOUNTS);
    Ok(ServicePerson {
        address: Some(key.parse()?),
        key,
        name: None,
        is_super: false,
        is_sso: false,
        owners: Vec::new(),
        created_at: now,
        disabled_at: None,
        lost_access_at: None,
        roles: BTreeMap::from([(account, "engineer".to_owned())]),
        version: 1,
    })
}

fn credential(number: u64, now: DateTime<Utc>) -> (Credential, NewSecret) {
    let public_id = PublicId::generate();
    let secret = NewSecret::generate("lapsed", &public_id);
    let person = number % PEOPLE;
    let credential = Credential {
        id: TokenId::new("local", public_id.as_str()),
        public_id,
        kind: Kind::Api,
        issuer: format!("user{person}@example.com"),
        account: Some(format!("account-{}", person % ACCOUNTS)),
        role: Some("engineer".to_owned()),
        scopes: "".parse().unwrap_or_default(),
        networks: "".parse().unwrap_or_default(),
        created_at: now,
        not_before: None,
        expires_at: Some(now + TimeDelta::days(90)),
        state: CredentialState::Active,
        secret: StoredSecret {
            number: 1,
            digest: secret.digest,
            created_at: now,
            last_used_at: None,
        },
        old_secret: None,
        parent: None,
        version: 1,
    };
    (credential, secret)
}

struct Load {
    per_second: f64,
    /// As wrk writes it.
    p99: String,
}

/// What wrk asks for.
#[derive(Clone, Copy)]
enum Asked {
    Nothing,
    Verification,
    NewToken,
}

impl Asked {
    fn path(self) -> &'static str {
        match self {
            Self::Nothing => "/",
            Self::Verification => VERIFY,
            Self::NewToken => "/api/v1/tokens",
        }
    }

    /// A script for wrk that uses the tokens in this file in turn.
    fn script(self, list: &Path) -> String {
        let (method, body) = match self {
            Self::Nothing | Self::Verification => ("GET", "nil"),
            Self::NewToken => ("POST", "'{\"name\":\"ci-deploy\"}'"),
        };
        let (path, list) = (self.path(), list.display());
        format!(
            "local requests, next = {{}}, 0
             init = function()
               for token in io.lines('{list}') do
                 requests[#requests + 1] = wrk.format('{method}', '{path}',
                   {{ ['Authorization'] = 'Bearer ' .. token, ['X-Forwarded-For'] = '192.0.2.7',
                      ['Content-Type'] = 'application/json' }}, {body})
               end
             end
             request = function()
               next = next % #requests + 1
               return requests[next]
             end
            "
        )
    }
}

/// wrk against this port, over so many connections, for so many seconds.
#[derive(Clone, Copy)]
struct Wrk<'a> {
    dir: &'a Path,
    port: u16,
    asked: Asked,
    connections: usize,
    seconds: u64,
}

impl Wrk<'_> {
    fn spawn(self, tokens: &[String]) -> anyhow::Result<Child> {
        let name = format!("wrk-{}", self.asked.path().replace('/', "-"));
        let list = self.dir.join(format!("{name}.txt"));
        let script = self.dir.join(format!("{name}.lua"));
        std::fs::write(&list, tokens.join("\n"))?;
        std::fs::write(&script, self.asked.script(&list))?;
        Command::new("wrk")
            .args([
                "-t1",
                "--latency",
                &format!("-c{}", self.connections),
                &format!("-d{}s", self.seconds),
                "-s",
            ])
            .arg(&script)
            .arg(format!(
                "http://127.0.0.1:{}{}",
                self.port,
                self.asked.path()
            ))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run wrk; install it (Debian: wrk)")
    }

    /// Uses these tokens in turn.
    fn run(self, tokens: &[String]) -> anyhow::Result<Load> {
        let output = self.spawn(tokens)?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(
            output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
            "wrk: {text}"
        );
        let value = |label: &str| {
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(label));
            line.map(|line| line.trim().to_owned())
                .with_context(|| format!("wrk: {text}"))
        };
        Ok(Load {
            per_second: value("Requests/sec:")?.parse()?,
            p99: value("99%")?,
        })
    }
}

const VERIFY: &str = "/api/v1/verify";

fn compare(place: &Place, url: &str, dir: &Path, tokens: &[String]) -> anyhow::Result<()> {
    let used = &tokens[..USED_IN_TURN];
    let wrk = |port, asked, connections, seconds| Wrk {
        dir,
        port,
        asked,
        connections,
        seconds,
    };
    let (mut bare, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    let mut p99 = String::new();
    for _ in 0..ROUNDS {
        let server = Server::start(url)?;
        let verify = |seconds| wrk(server.api, Asked::Verification, 64, seconds);
        cold.push(verify(3).run(tokens)?.per_second);
        verify(6).run(used)?;
        bare.push(
            wrk(server.bare, Asked::Nothing, 64, 5)
                .run(used)?
                .per_second,
        );
        let load = verify(5).run(used)?;
        warm.push(load.per_second);
        p99 = load.p99;
    }
    let (bare, warm, cold) = (median(bare), median(warm), median(cold));
    print_result(&format!(
        "{} verify: {warm:.0}/s warm ({:.2} of a bare handler's {bare:.0}/s, p99 {p99}), {cold:.0}/s cold ({:.2})",
        place.name(),
        warm / bare,
        cold / bare
    ));
    let server = Server::start(url)?;
    let before = server.mib()?;
    // Until after uses were written.
    wrk(server.api, Asked::Verification, 64, 33).run(tokens)?;
    print_result(&format!(
        "{} memory: {before:.0} MiB at the start, {:.0} MiB with {USED} tokens in use",
        place.name(),
        server.mib()?
    ));
    let load = wrk(server.api, Asked::Verification, 1_000, 5).run(used)?;
    let bare = wrk(server.bare, Asked::Nothing, 1_000, 5).run(used)?;
    print_result(&format!(
        "{} verify over 1,000 connections of one proxy: {:.0}/s ({:.2} of a bare handler's), p99 {}",
        place.name(),
        load.per_second,
        load.per_second / bare.per_second,
        load.p99
    ));
    Ok(())
}

/// Makes the first tokens ones that are refused, each for another reason.
async fn end_tokens(url: &str, tokens: &[String]) -> anyhow::Result<()> {
    let service = open(url, 0).await?;
    let presented = |text: &str| Presented::parse(text);
    let ids: Vec<_> = tokens[..5]
        .iter()
        .map(|token| presented(token).map(|it| TokenId::new("local", it.id.as_str())))
        .collect::<Result<_, _>>()?;
    let mut tx = service.store().begin().await?;
    let found = tx.find_credentials(&ids).await?;
    for (nth, id) in ids.iter().enumerate() {
        let Some(found) = found.iter().find(|it| it.id == *id) else {
            anyhow::bail!("a token is missing");
        };
        let mut changed = found.clone();
        match nth {
            0 => changed.expires_at = Some(found.created_at),
            1 => changed.state = CredentialState::Revoked,
            2 => changed.state = CredentialState::Disabled,
            3 => changed.networks = "198.51.100.0/24".parse()?,
            _ => {}
        }
        tx.save_credential(&changed).await?;
    }
    tx.commit().await?;
    service.store().close().await;
    Ok(())
}

/// The medians of the times of refusals, over one connection, in turn.
async fn oracle(place: &Place, url: &str, tokens: &[String]) -> anyhow::Result<()> {
    end_tokens(url, tokens).await?;
    let unknown = NewSecret::generate("lapsed", &PublicId::generate());
    let (access_key, _) = tokens[4].rsplit_once('_').context("a token has a secret")?;
    let wrong = PublicId::parse(access_key.split_once('_').context("a token has an id")?.1);
    let wrong = NewSecret::generate("lapsed", &wrong.context("a token has an id")?);
    let cases = [
        ("unknown", unknown.token.expose_secret().to_owned()),
        ("wrong", wrong.token.expose_secret().to_owned()),
        ("expired", tokens[0].clone()),
        ("revoked", tokens[1].clone()),
        ("disabled", tokens[2].clone()),
        ("wrong network", tokens[3].clone()),
    ];
    let server = Server::start(url)?;
    let mut stream = TcpStream::connect(("127.0.0.1", server.api))?;
    stream.set_nodelay(true)?;
    let mut times = vec![Vec::with_capacity(ORACLE_ROUNDS); cases.len()];
    for round in 0..ORACLE_ROUNDS + 100 {
        for (nth, (_, token)) in cases.iter().enumerate() {
            let begun = Instant::now();
            refuse(&mut stream, token)?;
            if round >= 100 {
                times[nth].push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let (least, most) = medians
        .iter()
        .fold((f64::MAX, 0.0_f64), |(least, most), &it| {
            (least.min(it), most.max(it))
        });
    let mut text = format!("{} refusals, medians in µs:", place.name());
    for ((name, _), median) in cases.iter().zip(&medians) {
        write!(text, " {name} {median:.1},")?;
    }
    print_result(&format!(
        "{text} {:.1} % apart",
        (most / least - 1.0) * 100.0
    ));
    Ok(())
}

/// Sends one request and reads its refusal.
fn refuse(stream: &mut TcpStream, token: &str) -> anyhow::Result<()> {
    let request = format!(
        "GET {VERIFY} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "the server closed the connection");
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(Ok(0), str::parse)? {
            anyhow::ensure!(head.starts_with("http/1.1 401"), "{head}");
            return Ok(());
        }
    }
}

/// Tokens issued a second over the API, each answered once it is durable.
async fn issue(place: &Place, url: &str, dir: &Path, tokens: &[String]) -> anyhow::Result<()> {
    let mut raw = Raw::connect(url).await?;
    for (limit, what) in [(0, "no limit"), (1_000_000, "a limit of each account")] {
        let server = Server::start_limited(url, limit)?;
        let before = count_credentials(&mut raw).await?;
        let load = Wrk {
            dir,
            port: server.api,
            asked: Asked::NewToken,
            connections: ISSUERS,
            seconds: 5,
        }
        .run(&tokens[2_000..])?;
        let stored = count_credentials(&mut raw).await? - before;
        anyhow::ensure!(
            f64::from(stored) >= load.per_second * 5.0,
            "only {stored} tokens are stored"
        );
        print_result(&format!(
            "{} issue, {what}: {:.0}/s over {ISSUERS} connections, p99 {}",
            place.name(),
            load.per_second,
            load.p99
        ));
    }
    Ok(())
}

async fn count_credentials(raw: &mut Raw) -> anyhow::Result<u32> {
    let counted = raw
        .texts("SELECT CAST(COUNT(*) AS TEXT) FROM credential")
        .await?;
    Ok(counted.first().context("no count")?.parse()?)
}

/// The worst delay until another process, which has other work to do, refuses what this one has revoked.
async fn spread(place: &Place, url: &str, dir: &Path, tokens: &[String]) -> anyhow::Result<()> {
    let server = Server::start(url)?;
    let service = open(url, 0).await?;
    let mut worst = Duration::ZERO;
    let work = Wrk {
        dir,
        port: server.api,
        asked: Asked::Verification,
        connections: 64,
        seconds: 300,
    };
    let mut work = work.spawn(&tokens[USED_IN_TURN..])?;
    for token in &tokens[1_000..1_200] {
        let presented = Presented::parse(token)?;
        let id = TokenId::new("local", presented.id.as_str());
        for _ in 0..3 {
            anyhow::ensure!(status(server.api, token)? == 200, "a token was refused");
        }
        let mut tx = service.store().begin().await?;
        let mut found = tx.find_credentials(&[id]).await?;
        let credential = found.pop().context("a token is missing")?;
        let revoked = Credential {
            state: CredentialState::Revoked,
            ..credential
        };
        tx.save_credential(&revoked).await?;
        tx.commit().await?;
        let revoked_at = Instant::now();
        while status(server.api, token)? == 200 {
            worst = worst.max(revoked_at.elapsed());
        }
    }
    work.kill()?;
    work.wait()?;
    print_result(&format!(
        "{} revocations: another process accepted one of 200 for {} ms at most, while it verified",
        place.name(),
        worst.as_millis()
    ));
    service.store().close().await;
    Ok(())
}

fn status(port: u16, token: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let request = format!(
        "GET {VERIFY} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).context("no answer")?.parse()?)
}
