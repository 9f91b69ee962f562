//! What lapsed reaches, beside what the machine can do: reference SQL, smtp-source, a cron script.
//!
//! `scripts/bench` builds it, starts the servers and runs every part; `docs/performance.md` tells how
//! to read it. A part prints its figures as it goes; only ratios within one run mean anything.

mod data;
mod deliver;
mod directory;
mod process;
mod sink;
mod sources;
mod sweep;
mod table;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use data::Place;

/// What the script asks for.
pub struct Options {
    /// Without the stores of 10 million tokens.
    pub quick: bool,
    /// Only parts whose name begins so.
    pub only: Option<String>,
    /// Where stores and files are made.
    pub dir: PathBuf,
    /// A PostgreSQL to make databases in; without one only SQLite is measured.
    pub postgres: Option<String>,
    /// A Python that has psycopg and jinja2, for the cron script.
    pub python: String,
}

impl Options {
    fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok();
        Self {
            quick: var("LAPSED_BENCH_QUICK").is_some(),
            only: var("LAPSED_BENCH_ONLY"),
            dir: var("LAPSED_BENCH_DIR").map_or_else(|| "target/bench".into(), PathBuf::from),
            postgres: var("LAPSED_BENCH_POSTGRES"),
            python: var("LAPSED_BENCH_PYTHON").unwrap_or_else(|| "/usr/bin/python3".into()),
        }
    }

    fn takes(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only))
    }

    /// Where stores are made: on both databases.
    pub fn places(&self) -> Vec<Place> {
        let sqlite = Place::Sqlite(self.dir.clone());
        let postgres = self.postgres.clone().map(Place::Postgres);
        std::iter::once(sqlite).chain(postgres).collect()
    }
}

/// The time of the first sweep in every made-up store: 2026-01-01 00:00 UTC.
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
    if std::env::var_os("RUST_LOG").is_some() {
        // `RUST_LOG=sqlx::query=debug` tells what each statement takes.
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .init();
    }
    let options = Options::from_env();
    std::fs::create_dir_all(&options.dir)?;
    runtime.block_on(async {
        if options.takes("sweep") {
            sweep::run(&options).await?;
        }
        if options.takes("deliver") {
            deliver::run(&options).await?;
        }
        if options.takes("memory") {
            process::memory(&options).await?;
        }
        if options.takes("import") {
            process::import(&options).await?;
        }
        if options.takes("table") {
            table::run_all(&options).await?;
        }
        if options.takes("sources") {
            sources::run(&options).await?;
        }
        if options.takes("directory") {
            directory::run(&options).await?;
        }
        Ok(())
    })
}

/// The middle one of several measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one line of the results, told from whatever else comes by `#`.
pub fn say(text: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    println!("# {text}  [load {load}]");
}
