//! Delivery to a sink, alternating with smtp-source and the cron script.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lapsed::clock::Clock;
use lapsed::engine::SweepOptions;
use tokio_util::sync::CancellationToken;

use super::data::{self, Place, Raw, Shape};
use super::{Options, median, print_result, start};

const ROUNDS: usize = 3;
/// The approximate size of a mail with one notice.
const MAIL_OCTETS: &str = "5800";

/// A mail server that is killed on drop.
pub struct Sink {
    child: Child,
    pub port: u16,
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sink {
    pub fn postfix() -> anyhow::Result<Self> {
        let port = free_port()?;
        let place = format!("127.0.0.1:{port}");
        let mut command = Command::new("smtp-sink");
        command.args(["-u", "nobody", "-h", "mx.example.com", &place, "1024"]);
        Self::start(command, port)
    }

    /// A relay that answers after 10 ms.
    pub fn distant() -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", &port.to_string(), "10"]);
        Self::start(command, port)
    }

    fn start(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a mail sink")?;
        let sink = Self { child, port };
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(sink);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("the mail sink does not listen")
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The mails per second of smtp-source over `sessions` persistent connections.
fn smtp_source(port: u16, sessions: usize, mails: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let status = Command::new("smtp-source")
        .args([
            "-d",
            "-s",
            &sessions.to_string(),
            "-m",
            &mails.to_string(),
            "-l",
            MAIL_OCTETS,
        ])
        .args([
            "-f",
            "tokens@example.com",
            "-t",
            "user1@example.com",
            &format!("127.0.0.1:{port}"),
        ])
        .stdout(Stdio::null())
        .status()
        .context("smtp-source: apt-get install postfix, as \"No configuration\"")?;
    anyhow::ensure!(status.success(), "smtp-source failed");
    Ok(rate(mails, started.elapsed()))
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(mails: usize, elapsed: Duration) -> f64 {
    mails as f64 / elapsed.as_secs_f64()
}

pub async fn run(options: &Options) -> anyhow::Result<()> {
    let shape = Shape::of(1_000_000);
    for place in options.places() {
        let policy = data::policy(shape.accounts);
        let url = place.generate("bench_deliver", shape, &policy).await?;
        let clock = Clock::manual(start());
        let engine = data::engine(&url, clock, policy, (9, 1)).await?;
        engine
            .prepare(&SweepOptions::default(), &CancellationToken::new())
            .await;
        engine.store.close().await;
        let mut raw = Raw::connect(&url).await?;
        let mails = raw.run("UPDATE mail SET state = 'sent'").await?;
        print_result(&format!("{}: {mails} mails are planned", place.name()));
        let cron = Cron::make(options, &place)?;
        let near = Sink::postfix()?;
        let mut counts = vec![5000];
        if !options.quick {
            counts.push(usize::try_from(mails)?.min(27_000));
        }
        for mails in counts {
            for sessions in [1, 4, 16, 64] {
                let round = Round {
                    place: &place,
                    url: &url,
                    port: near.port,
                    mails,
                    sessions,
                };
                let cron = cron.as_ref().filter(|_| mails == 5000);
                round.compare(&mut raw, mails * 4, cron).await?;
            }
        }
        let far = Sink::distant()?;
        for (sessions, mails) in [(1, 100), (16, 1600), (64, 5000)] {
            let round = Round {
                place: &place,
                url: &url,
                port: far.port,
                mails,
                sessions,
            };
            round.compare(&mut raw, mails, None).await?;
        }
        drop(raw);
        place.clear("bench_deliver").await?;
    }
    Ok(())
}

struct Round<'a> {
    place: &'a Place,
    url: &'a str,
    port: u16,
    mails: usize,
    sessions: usize,
}

impl Round<'_> {
    /// Alternates lapsed, smtp-source with `source_mails`, and the cron script if there is one.
    async fn compare(
        &self,
        raw: &mut Raw,
        source_mails: usize,
        cron: Option<&Cron>,
    ) -> anyhow::Result<()> {
        let (mut ours, mut sources, mut crons) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(self.deliver(raw).await?);
            sources.push(smtp_source(self.port, self.sessions, source_mails)?);
            if let Some(cron) = cron {
                crons.push(cron.run(self.port, 2000)?);
            }
        }
        let (ours, source) = (median(ours), median(sources));
        let mut text = format!(
            "{} {} mails, {} connections: {ours:.0}/s, smtp-source {source:.0}/s, ratio {:.2}",
            self.place.name(),
            self.mails,
            self.sessions,
            ours / source
        );
        if !crons.is_empty() {
            let cron = median(crons);
            let _ = write!(text, "; cron script {cron:.0}/s, ratio {:.1}", ours / cron);
        }
        print_result(&text);
        Ok(())
    }

    /// Makes mails due and delivers them; returns the rate from the claim to the last record.
    async fn deliver(&self, raw: &mut Raw) -> anyhow::Result<f64> {
        let mails = self.mails;
        raw.run(&format!(
            "UPDATE mail SET state = 'waiting', holder = NULL, attempts = 0, first_tried_at = NULL, sent_at = NULL
             WHERE id IN (SELECT id FROM mail ORDER BY id LIMIT {mails})"
        ))
        .await?;
        if let Raw::Postgres(_) = raw {
            raw.run("VACUUM mail").await?;
        }
        let clock = Clock::manual(start() + chrono::TimeDelta::seconds(1));
        let engine =
            data::engine(self.url, clock, data::policy(0), (self.port, self.sessions)).await?;
        let started = Instant::now();
        let report = engine.send_due(&CancellationToken::new()).await;
        let elapsed = started.elapsed();
        engine.store.close().await;
        anyhow::ensure!(
            report.mails_sent == mails as u64,
            "sent {} of {mails}: {report:?}",
            report.mails_sent
        );
        Ok(rate(mails, elapsed))
    }
}

/// A script such as people write today.
struct Cron {
    python: String,
    script: &'static str,
    target: String,
}

impl Cron {
    /// Generates a million tokens.
    fn make(options: &Options, place: &Place) -> anyhow::Result<Option<Self>> {
        let (kind, script, target) = match place {
            Place::Sqlite(dir) => (
                "sqlite",
                "benches/baseline/cron_sqlite.py",
                dir.join("cron.db").display().to_string(),
            ),
            Place::Postgres(_) => ("pg", "benches/baseline/cron_pg.py", place.url("bench_cron")),
        };
        if kind == "pg" {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(place.clear("bench_cron"))
            })?;
        }
        let generated = Command::new(&options.python)
            .args(["benches/baseline/gen.py", kind, &target, "1000000"])
            .stdout(Stdio::null())
            .status()?;
        if !generated.success() {
            print_result("no cron script: it needs python3 with psycopg and jinja2");
            return Ok(None);
        }
        Ok(Some(Self {
            python: options.python.clone(),
            script,
            target,
        }))
    }

    /// The mails per second over one persistent connection.
    fn run(&self, port: u16, mails: usize) -> anyhow::Result<f64> {
        let output = Command::new(&self.python)
            .args([
                self.script,
                &self.target,
                &port.to_string(),
                "reuse",
                &mails.to_string(),
            ])
            .output()?;
        let result: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("the cron script printed no result")?;
        result["rate"]
            .as_f64()
            .context("the cron script printed no rate")
    }
}
