//! Measures lapsed against baselines on the same machine: reference SQL, smtp-source and a cron script.
//!
//! `scripts/bench` builds it, starts the servers and runs every part; `docs/performance.md` explains how
//! to read the results. Only ratios within one run are meaningful.

mod data;
mod deliver;
mod directory;
mod process;
mod service;
mod sink;
mod sources;
mod sweep;
mod table;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use data::Place;

pub struct Options {
    /// Without the stores of 10 million tokens.
    pub quick: bool,
    /// Only parts whose names have this prefix.
    pub only: Option<String>,
    /// The folder for stores and files.
    pub dir: PathBuf,
    /// A PostgreSQL server for databases; without one, only SQLite is measured.
    pub postgres: Option<String>,
    /// A Python with psycopg and jinja2, for the cron script.
    pub python: String,
}

impl Options {
    fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok();
        Self {
            quick: var("LAPSED_BENCH_QUICK").is_some(),
            only: var("LAPSED_BENCH_ONLY"),
            dir: var("LAPSED_BENCH_DIR").map_or_else(
                || concat!(env!("CARGO_TARGET_TMPDIR"), "/bench").into(),
                PathBuf::from,
            ),
            postgres: var("LAPSED_BENCH_POSTGRES"),
            python: var("LAPSED_BENCH_PYTHON").unwrap_or_else(|| "/usr/bin/python3".into()),
        }
    }

    fn includes(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only))
    }

    pub fn places(&self) -> Vec<Place> {
        let sqlite = Place::Sqlite(self.dir.clone());
        let postgres = self.postgres.clone().map(Place::Postgres);
        std::iter::once(sqlite).chain(postgres).collect()
    }
}

/// The time of the first sweep in every generated store: 2026-01-01 00:00 UTC.
fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(data::START, 0).expect("a time of this century")
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let [_, word, port, delay] = arguments.as_slice()
        && word == "sink"
    {
        return runtime.block_on(sink::serve(port.parse()?, delay.parse()?));
    }
    if let [_, word, url, per_account] = arguments.as_slice()
        && word == "service"
    {
        return runtime.block_on(service::serve(url, per_account));
    }
    if std::env::var_os("RUST_LOG").is_some() {
        // `RUST_LOG=sqlx::query=debug` prints the duration of each statement.
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .init();
    }
    let options = Options::from_env();
    std::fs::create_dir_all(&options.dir)?;
    runtime.block_on(async {
        if options.includes("sweep") {
            sweep::run(&options).await?;
        }
        if options.includes("deliver") {
            deliver::run(&options).await?;
        }
        if options.includes("memory") {
            process::memory(&options).await?;
        }
        if options.includes("import") {
            process::import(&options).await?;
        }
        if options.includes("table") {
            table::run(&options).await?;
        }
        if options.includes("sources") {
            sources::run(&options).await?;
        }
        if options.includes("directory") {
            directory::run(&options).await?;
        }
        if options.includes("service") {
            service::run(&options).await?;
        }
        Ok(())
    })
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one line of the results, with the prefix `#`.
pub fn print_result(text: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("# {text}  [load {load}]");
}
