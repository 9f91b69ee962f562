//! Whole processes: the peak memory of a sweep, and the rate of an import.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lapsed::clock::Clock;

use super::data::{self, Shape};
use super::deliver::Sink;
use super::{Options, print_result};

/// The resources that a process used.
pub struct Used {
    pub mib: f64,
    pub seconds: f64,
}

pub fn run(options: &Options, arguments: &[&str]) -> anyhow::Result<Used> {
    let program = std::env::var("LAPSED_BENCH_PROGRAM")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_lapsed").into());
    let log = std::fs::File::create(options.dir.join("lapsed.log"))?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(log.try_clone()?)
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut kib = 0.0_f64;
    let ended = loop {
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let now = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
            kib = kib.max(now.unwrap_or(0.0));
        }
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    anyhow::ensure!(
        ended.success(),
        "lapsed ended with {ended}: {}",
        std::fs::read_to_string(options.dir.join("lapsed.log"))?
    );
    Ok(Used {
        mib: kib / 1024.0,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// A configuration for the generated installation.
pub fn config(dir: &Path, url: &str, port: u16, accounts: u64) -> anyhow::Result<PathBuf> {
    let mut text = format!(
        "[store]\nurl = \"{url}\"\n[notify]\nfrom = \"tokens@example.com\"\nadmins = []\nadmin_digest = \"off\"\nmerge_ahead = \"0s\"\n\
         max_per_sweep = 0\n[smtp]\nurl = \"smtp://127.0.0.1:{port}?tls=none\"\nconnections = 16\n[http]\nlisten = \"off\"\n"
    );
    for (name, account) in data::policy(accounts).accounts {
        let admins: Vec<_> = account
            .admins
            .iter()
            .map(|admin| format!("\"{admin}\""))
            .collect();
        writeln!(
            text,
            "[[account]]\nname = \"{name}\"\nadmins = [{}]",
            admins.join(", ")
        )?;
    }
    let path = dir.join("lapsed.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Measures the memory of a sweep over a million tokens, with few and with many notices due.
pub async fn memory(options: &Options) -> anyhow::Result<()> {
    let sink = Sink::postfix()?;
    for place in options.places() {
        for (due, days) in [("5 thousand", 1640), ("270 thousand", 30)] {
            // The program uses the system clock.
            let start = Clock::system().now().timestamp();
            let shape = Shape {
                tokens: 1_000_000,
                days,
                accounts: 1000,
                start,
            };
            let url = place
                .generate("bench_memory", shape, &data::policy(0))
                .await?;
            let path = config(&options.dir, &url, sink.port, shape.accounts)?;
            let used = run(options, &["--config", &path.display().to_string(), "sweep"])?;
            let log = std::fs::read_to_string(options.dir.join("lapsed.log"))?;
            let summary = log
                .lines()
                .filter(|line| line.starts_with("notices") || line.starts_with("mails"));
            print_result(&format!(
                "{} sweep, {due} notices due: {:.1} MiB at most, {:.1} s ({})",
                place.name(),
                used.mib,
                used.seconds,
                summary.collect::<Vec<_>>().join("; ")
            ));
            place.clear("bench_memory").await?;
        }
    }
    Ok(())
}

/// Measures the import of a million rows into an empty store.
pub async fn import(options: &Options) -> anyhow::Result<()> {
    let rows: u32 = if options.quick { 100_000 } else { 1_000_000 };
    let csv = options.dir.join("import.csv");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&csv)?);
    writeln!(
        out,
        "external_id,name,issuer_email,expires_at,account,role,created_at"
    )?;
    for i in 0..rows {
        let spread = u64::from(i).wrapping_mul(2_654_435_761) % 3_000_000;
        let (day, account) = (1 + spread % 28, spread % 20_000);
        writeln!(
            out,
            "token-{i},ci-deploy-{i}-{spread},user{}@corp{account}.example.com,20{}-{:02}-{day:02}T10:00:00Z,account-{account},deploy,2025-01-{day:02}T00:00:00Z",
            account * 5 + spread % 5,
            40 + spread % 30,
            1 + spread % 12,
        )?;
    }
    out.flush()?;
    for place in options.places() {
        place.clear("bench_import").await?;
        let path = config(&options.dir, &place.url("bench_import"), 9, 0)?;
        for what in ["new", "the same again"] {
            let used = run(
                options,
                &[
                    "--config",
                    &path.display().to_string(),
                    "import",
                    &csv.display().to_string(),
                ],
            )?;
            print_result(&format!(
                "{} import of {rows} rows, {what}: {:.0} rows/s, {:.1} MiB at most",
                place.name(),
                f64::from(rows) / used.seconds,
                used.mib
            ));
        }
        place.clear("bench_import").await?;
    }
    Ok(())
}
