//! One tick at the start of every minute.
//!
//! Whether a sweep is due at a tick is decided from the store, with the schedule's own zone:
//! tokio-cron-scheduler fixes the UTC offset when a job is made, so it is wrong after a change to
//! summer time, and it forgets what was missed while the process was down. It also waits for the
//! next tick by the wall clock; when that is set back, no tick comes until the clock has caught up.
//! [`Ticker::watch`] notices missing ticks by the monotonic clock and restarts the scheduler.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::heartbeat::Heartbeat;

/// Second 0 of every minute, in UTC, where no hour is skipped or doubled.
const EVERY_MINUTE: &str = "0 * * * * *";
/// The scheduler is restarted after this time without a tick; a tick is at most half a second late.
const TICK_TIMEOUT: Duration = Duration::from_secs(90);
/// Restarts in a row without a tick before [`Ticker::watch`] fails.
const MAX_RESTARTS: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start the scheduler")]
    Start(#[source] JobSchedulerError),
    #[error("the scheduler gave no tick although it was restarted {MAX_RESTARTS} times")]
    NoTicks,
    #[error("the receiver of the scheduler's ticks is gone")]
    NoReceiver,
}

pub struct Ticker {
    scheduler: JobScheduler,
    pattern: &'static str,
    on_tick: mpsc::Sender<()>,
    heartbeat: Heartbeat,
}

impl Ticker {
    /// Ticks into `on_tick` at the start of every minute until `stopping` is cancelled.
    ///
    /// A tick that finds the channel full is dropped, so with a channel of capacity one at most one tick waits
    /// behind the one that is being handled.
    ///
    /// # Errors
    /// When the scheduler does not start, restarts give no tick, or the receiver is gone.
    pub async fn run(on_tick: mpsc::Sender<()>, stopping: CancellationToken) -> Result<(), Error> {
        let mut ticker = Self::start(EVERY_MINUTE, TICK_TIMEOUT, on_tick).await?;
        let failure = stopping.run_until_cancelled(ticker.watch()).await;
        ticker.end().await;
        match failure {
            // The receiver may have stopped first.
            Some(Error::NoReceiver) if stopping.is_cancelled() => Ok(()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn start(
        pattern: &'static str,
        tick_timeout: Duration,
        on_tick: mpsc::Sender<()>,
    ) -> Result<Self, Error> {
        let heartbeat = Heartbeat::new("the scheduler", tick_timeout);
        let scheduler = start_scheduler(pattern, on_tick.clone(), heartbeat.clone())
            .await
            .map_err(Error::Start)?;
        Ok(Self {
            scheduler,
            pattern,
            on_tick,
            heartbeat,
        })
    }

    /// Restarts the scheduler when ticks are missing; returns only when that does not help.
    async fn watch(&mut self) -> Error {
        let mut attempts = 0;
        loop {
            let since = Instant::now();
            tokio::select! {
                () = self.on_tick.closed() => return Error::NoReceiver,
                () = tokio::time::sleep_until(self.heartbeat.last() + self.heartbeat.timeout()) => {}
            }
            if self.heartbeat.last() > since {
                attempts = 0;
                continue;
            }
            if attempts == MAX_RESTARTS {
                return Error::NoTicks;
            }
            attempts += 1;
            if let Err(error) = self.restart().await {
                return Error::Start(error);
            }
        }
    }

    async fn restart(&mut self) -> Result<(), JobSchedulerError> {
        tracing::warn!(
            silent_s = self.heartbeat.last().elapsed().as_secs(),
            "no tick of the scheduler, perhaps because the clock was set back; restarting it"
        );
        self.end().await;
        self.heartbeat.beat();
        let on_tick = self.on_tick.clone();
        self.scheduler = start_scheduler(self.pattern, on_tick, self.heartbeat.clone()).await?;
        Ok(())
    }

    async fn end(&mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "cannot stop the scheduler");
        }
    }
}

async fn start_scheduler(
    pattern: &str,
    on_tick: mpsc::Sender<()>,
    heartbeat: Heartbeat,
) -> Result<JobScheduler, JobSchedulerError> {
    let job = Job::new(pattern, move |_, _| tick(&on_tick, &heartbeat))?;
    let scheduler = JobScheduler::new().await?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

fn tick(on_tick: &mpsc::Sender<()>, heartbeat: &Heartbeat) {
    heartbeat.beat();
    // Full: the previous tick still waits and serves for both. Closed: see `Ticker::watch`.
    let _ = on_tick.try_send(());
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;
    use crate::clock::Clock;

    const EVERY_SECOND: &str = "* * * * * *";
    const NEW_YEAR: &str = "0 0 0 1 1 *";

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, what).await.expect("in time")
    }

    #[test]
    fn the_next_tick_is_at_the_start_of_the_next_minute() {
        let before = Clock::system().now().timestamp();
        let data = Job::new(EVERY_MINUTE, |_, _| ()).unwrap().job_data();
        let next = i64::try_from(data.unwrap().next_tick).unwrap();
        assert_eq!(next % 60, 0);
        assert!((before..=before + 61).contains(&next), "{before} {next}");
    }

    #[test]
    fn ticks_do_not_queue_up_behind_a_long_sweep() {
        let (on_tick, mut ticks) = mpsc::channel(1);
        let heartbeat = Heartbeat::new("the scheduler", TICK_TIMEOUT);
        for _ in 0..5 {
            tick(&on_tick, &heartbeat);
        }
        assert!(ticks.try_recv().is_ok());
        assert!(ticks.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_scheduler_that_stopped_is_restarted() {
        let (on_tick, mut ticks) = mpsc::channel(1);
        let tick_timeout = Duration::from_millis(1_200);
        let mut ticker = Ticker::start(EVERY_SECOND, tick_timeout, on_tick)
            .await
            .unwrap();
        soon(ticks.recv()).await.unwrap();
        ticker.end().await;
        // At most two more ticks of the stopped scheduler can be under way.
        let heard = async {
            for _ in 0..4 {
                ticks.recv().await.unwrap();
            }
        };
        tokio::select! {
            () = soon(heard) => {}
            error = ticker.watch() => panic!("{error:?}"),
        }
        ticker.end().await;
    }

    #[tokio::test]
    async fn a_scheduler_without_ticks_is_an_error() {
        let (on_tick, _ticks) = mpsc::channel(1);
        let tick_timeout = Duration::from_millis(5);
        let mut ticker = Ticker::start(NEW_YEAR, tick_timeout, on_tick)
            .await
            .unwrap();
        assert!(matches!(soon(ticker.watch()).await, Error::NoTicks));
    }

    #[tokio::test]
    async fn ticks_without_a_receiver_are_an_error() {
        let (on_tick, ticks) = mpsc::channel(1);
        let mut ticker = Ticker::start(EVERY_MINUTE, TICK_TIMEOUT, on_tick)
            .await
            .unwrap();
        drop(ticks);
        assert!(matches!(soon(ticker.watch()).await, Error::NoReceiver));
    }

    #[tokio::test]
    async fn it_ends_when_the_daemon_stops() {
        let (on_tick, _ticks) = mpsc::channel(1);
        let stopping = CancellationToken::new();
        stopping.cancel();
        soon(Ticker::run(on_tick, stopping)).await.unwrap();
    }
}
