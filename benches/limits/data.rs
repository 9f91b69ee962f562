//! Made-up stores: tokens as a large installation has them, made by the database itself.
//!
//! Half of the tokens never expire, 45 % expire evenly over some days, 5 % have expired. Five people
//! to an account, of whom one to three administer it: 2.6 notices for a token that comes due.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::TimeDelta;
use lapsed::clock::Clock;
use lapsed::domain::{Address, Backoff, Policy, Schedule, Step};
use lapsed::engine::{self, Engine, LastPurge, Post, Settings};
use lapsed::notify::message::{Stationery, Writer};
use lapsed::notify::smtp::{Relay, SmtpSettings, Tls};
use lapsed::notify::template::Templates;
use lapsed::notify::transport::Transport;
use lapsed::notify::view;
use lapsed::store::{Access, Store};
use sqlx::{Connection as _, PgConnection, Postgres, QueryBuilder, Sqlite, SqliteConnection};

/// 2026-01-01 00:00 UTC in seconds.
pub const START: i64 = 1_767_225_600;

/// Where stores are made.
#[derive(Clone, Debug)]
pub enum Place {
    /// In files in this folder.
    Sqlite(PathBuf),
    /// In databases of this server.
    Postgres(String),
}

/// How a store is filled.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many tokens.
    pub tokens: u64,
    /// Over how many days those that expire do so.
    pub days: u64,
    /// How many accounts.
    pub accounts: u64,
    /// The time of the first sweep, in seconds.
    pub start: i64,
}

impl Shape {
    /// The usual one: 0.3 % of the tokens cross a step in a day.
    pub fn of(tokens: u64) -> Self {
        Self {
            tokens,
            days: 300,
            accounts: tokens / 50,
            start: START,
        }
    }
}

/// A connection that runs statements as they are.
pub enum Raw {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    Postgres(PgConnection),
}

impl Raw {
    /// Connects to a store by its URL.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(if url.starts_with("sqlite:") {
            Self::Sqlite(SqliteConnection::connect(url).await?)
        } else {
            Self::Postgres(PgConnection::connect(url).await?)
        })
    }

    /// Runs statements that end with `;` and a line's end; tells the rows the last one touched.
    pub async fn run(&mut self, sql: &str) -> anyhow::Result<u64> {
        let mut rows = 0;
        for one in sql
            .split(";\n")
            .map(str::trim)
            .filter(|one| !one.is_empty())
        {
            rows = match self {
                Self::Sqlite(c) => QueryBuilder::<Sqlite>::new(one)
                    .build()
                    .execute(c)
                    .await?
                    .rows_affected(),
                Self::Postgres(c) => QueryBuilder::<Postgres>::new(one)
                    .build()
                    .persistent(false)
                    .execute(c)
                    .await?
                    .rows_affected(),
            };
        }
        Ok(rows)
    }

    /// The first column of every row.
    pub async fn texts(&mut self, sql: &str) -> anyhow::Result<Vec<String>> {
        let rows: Vec<(String,)> = match self {
            Self::Sqlite(c) => {
                QueryBuilder::<Sqlite>::new(sql)
                    .build_query_as()
                    .fetch_all(c)
                    .await?
            }
            Self::Postgres(c) => {
                QueryBuilder::<Postgres>::new(sql)
                    .build_query_as()
                    .fetch_all(c)
                    .await?
            }
        };
        Ok(rows.into_iter().map(|(text,)| text).collect())
    }
}

impl Place {
    /// What it is called in results.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// The URL of the store `name`.
    pub fn url(&self, name: &str) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite://{}/{name}.db", dir.display()),
            Self::Postgres(url) => url
                .rfind('/')
                .map_or_else(String::new, |at| format!("{}/{name}", &url[..at])),
        }
    }

    /// Makes an empty place for the store `name`; what was there is dropped.
    pub async fn clear(&self, name: &str) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(dir) => {
                for end in ["db", "db-wal", "db-shm"] {
                    let _ = std::fs::remove_file(dir.join(format!("{name}.{end}")));
                }
            }
            Self::Postgres(url) => {
                let mut raw = Raw::connect(url).await?;
                raw.run(&format!(
                    "DROP DATABASE IF EXISTS {name};\nCREATE DATABASE {name};\n"
                ))
                .await?;
            }
        }
        Ok(())
    }

    /// Makes and fills the store `name`; gives its URL.
    pub async fn make(&self, name: &str, shape: Shape, policy: &Policy) -> anyhow::Result<String> {
        self.clear(name).await?;
        let url = self.url(name);
        let store = Store::open(&url, Access::Create).await?;
        let mut tx = store.begin().await?;
        tx.put_meta("plan.policy", &policy.fingerprint()).await?;
        tx.put_meta("judge.rules", &policy.rules.fingerprint())
            .await?;
        tx.commit().await?;
        store.close().await;
        let mut raw = Raw::connect(&url).await?;
        let list = match &mut raw {
            Raw::Sqlite(_) => {
                "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'token' AND sql IS NOT NULL"
            }
            Raw::Postgres(_) => {
                "SELECT indexdef FROM pg_indexes WHERE tablename = 'token' AND indexdef NOT LIKE '%UNIQUE%'"
            }
        };
        if let Raw::Sqlite(_) = raw {
            raw.run("PRAGMA journal_mode = OFF;\nPRAGMA synchronous = OFF;\nPRAGMA cache_size = -2000000;\n").await?;
        }
        let indexes = raw.texts(list).await?;
        for index in &indexes {
            let name = index
                .split("INDEX ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .unwrap_or_default();
            raw.run(&format!("DROP INDEX {name}")).await?;
        }
        raw.run(&filling(&raw, shape)).await?;
        for index in &indexes {
            raw.run(index).await?;
        }
        raw.run(if let Raw::Sqlite(_) = raw {
            "ANALYZE"
        } else {
            "VACUUM ANALYZE"
        })
        .await?;
        if let Raw::Postgres(_) = raw {
            raw.run("CHECKPOINT").await?;
        }
        Ok(url)
    }
}

/// One statement that makes all tokens. The numbers are spread by multiplication, so that both
/// databases make the same tokens; their ids are in no order.
fn filling(
    raw: &Raw,
    Shape {
        tokens,
        days,
        accounts,
        start,
    }: Shape,
) -> String {
    type At = fn(&str) -> String;
    let (series, at, id, yes): (String, At, _, _) = match raw {
        Raw::Sqlite(_) => (
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {tokens})"
            ),
            |s: &str| format!("strftime('%Y-%m-%dT%H:%M:%S+00:00', {s}, 'unixepoch')"),
            "randomblob(16)",
            "1",
        ),
        Raw::Postgres(_) => (
            format!("WITH n AS (SELECT generate_series(1::bigint, {tokens}) AS i)"),
            |s: &str| format!("to_timestamp({s})"),
            "md5(i::text)::uuid",
            "TRUE",
        ),
    };
    let spread = format!("{days} * 86400");
    let expires = format!(
        "CASE WHEN r < 500 THEN NULL WHEN r < 950 THEN {start} + 1 + x % ({spread}) ELSE {start} - 1 - x % (300 * 86400) END"
    );
    let (created, expires_at) = (at(&format!("{start} - 400 * 86400 + y % 8640000")), at("e"));
    let due_at = at(&format!("CASE WHEN e > {start} THEN e - 7 * 86400 END"));
    format!(
        "INSERT INTO token (id, source, external_id, name, issuer, issuer_key, account, role, created_at, expiry, expires_at,
            expiry_origin, status, use_told, first_seen_at, life_from, due_at)
         {series},
         r AS (SELECT i, (i * 2654435761) % 4294967296 % 1000 AS r, (i * 2246822519) % 4294967296 AS x,
                      (i * 3266489917) % 4294967296 AS y, (i * 668265263) % 4294967296 % {accounts} AS a FROM n),
         t AS (SELECT i, y, a, a * 5 + y % 5 AS u, {expires} AS e FROM r)
         SELECT {id}, 'bench', 'token-' || (100000000 + i), 'ci-deploy-' || i || '-' || y,
            'user' || u || '@corp' || a || '.example.com', 'user' || u || '@corp' || a || '.example.com',
            'account-' || a, 'deploy', {created}, CASE WHEN e IS NULL THEN 'never' ELSE 'at' END, {expires_at},
            CASE WHEN e IS NULL THEN NULL ELSE 'source' END, CASE WHEN e <= {start} THEN 'expired' ELSE 'active' END,
            {yes}, {created}, {created}, {due_at}
         FROM t"
    )
}

/// The policy of every bench: each step's mail at its own time, to the issuer and his account's
/// administrators.
pub fn policy(accounts: u64) -> Policy {
    let admins = |account: u64| -> Vec<Address> {
        let spread = account.wrapping_mul(2_654_435_761) >> 8;
        let count = 1 + (spread & 1) + (spread >> 1 & 1);
        let admin = |n: u64| format!("user{}@corp{account}.example.com", account * 5 + n);
        (0..count)
            .map(|n| admin(n).parse().expect("a plain address"))
            .collect()
    };
    Policy {
        steps: vec![Step::from_seconds(7 * 86_400), Step::from_seconds(86_400)],
        merge_ahead: TimeDelta::zero(),
        admin_digest: None,
        zone: chrono_tz::UTC,
        admins: Vec::new(),
        accounts: (0..accounts)
            .map(|a| (format!("account-{a}"), admins(a)))
            .collect::<BTreeMap<_, _>>(),
        max_per_sweep: 0,
        rules: lapsed::domain::Rules::default(),
    }
}

/// An engine over this store that sends to this port of 127.0.0.1.
pub async fn engine(
    url: &str,
    clock: Clock,
    policy: Policy,
    (port, connections): (u16, usize),
) -> anyhow::Result<Engine> {
    let relay = Relay::new(SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::None,
        user: None,
        password: None,
        ca_file: None,
        hello_name: Some("bench.example.com".to_owned()),
        timeout: std::time::Duration::from_secs(30),
        final_timeout: std::time::Duration::from_mins(1),
        pipelining: true,
        envelope_from: "tokens@example.com".parse()?,
    })?;
    let writer = Writer::new(Stationery {
        from: "API tokens <tokens@example.com>".parse()?,
        reply_to: None,
        place: view::Place { base_url: None },
    });
    Ok(Engine {
        store: Store::open(url, Access::Migrate).await?,
        policy,
        settings: settings(connections)?,
        post: Arc::new(Post::new(
            writer,
            Transport::Smtp(Box::new(relay)),
            Templates::load(None)?,
        )),
        sources: Vec::new(),
        directories: Vec::new(),
        issuers: lapsed::domain::Issuers::default(),
        holder: engine::new_id(clock.now()),
        last_purge: LastPurge::default(),
        on_progress: Box::new(|| ()),
        clock,
    })
}

fn settings(connections: usize) -> anyhow::Result<Settings> {
    let days = TimeDelta::days;
    Ok(Settings {
        response: None,
        sweep: Schedule::new("* * * * *", chrono_tz::UTC)?,
        summary: None,
        lease: TimeDelta::seconds(30),
        backoff: Backoff {
            min: TimeDelta::minutes(1),
            max: TimeDelta::hours(6),
        },
        give_up: days(5),
        connections,
        messages_per_connection: 0,
        mails_per_second: None,
        gone_tokens: days(400),
        notices: days(400),
        findings: days(400),
        runs: days(90),
        audit: days(1095),
    })
}
