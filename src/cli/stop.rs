//! Ends a command at a stop signal, as `lapsed run` ends.

use std::process::exit;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure, Result};
use crate::lifecycle::{Error, Signals};

/// How long a command gets to return after a signal to stop, before the process exits.
const EXIT_DELAY: Duration = Duration::from_secs(1);

/// The stop of the running command.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    token: CancellationToken,
    timeout: Arc<OnceLock<Duration>>,
}

impl Stop {
    /// For a command that finishes work in progress: it gets `timeout` for that after the first signal. Any other command
    /// ends at the first signal.
    pub(super) fn graceful(&self, timeout: Duration) -> &CancellationToken {
        self.timeout.get_or_init(|| timeout);
        &self.token
    }
}

/// Does the work of a command unless a signal ends it.
pub(super) async fn end_on_signal(
    stop: &Stop,
    work: impl Future<Output = Result<Exit>>,
) -> Result<Exit> {
    let signals = Signals::listen().map_err(Failure::failed)?;
    let (overdue_in, overdue) = oneshot::channel();
    // A task of its own, because a command may block its thread, such as in a read of standard input.
    tokio::spawn(watch(stop.clone(), signals, overdue_in));
    tokio::select! {
        result = work => result,
        Ok(error) = overdue => Err(Failure::failed(error).into()),
    }
}

async fn watch(stop: Stop, mut signals: Signals, overdue: oneshot::Sender<Error>) {
    signals.wait().await;
    stop.token.cancel();
    let running = "the command".to_owned();
    let error = match stop.timeout.get().copied() {
        None => Error::Interrupted,
        Some(after) => tokio::select! {
            () = tokio::time::sleep(after) => Error::Overdue { after, running },
            () = signals.wait() => Error::Forced { running },
        },
    };
    let _ = overdue.send(error);
    tokio::time::sleep(EXIT_DELAY).await;
    exit(i32::from(Exit::Failed as u8));
}
