//! Signals: SIGTERM and SIGINT stop the daemon, SIGHUP reloads it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Error, pending_forever};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish work in progress and exit; a second one: exit at once.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The received signals, in order.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Starts listening; signals are queued until they are read.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> Result<Self, Error> {
        let kinds = [
            (SignalKind::terminate(), Signal::Stop),
            (SignalKind::interrupt(), Signal::Stop),
            (SignalKind::hangup(), Signal::Reload),
        ];
        let (sender, signals) = mpsc::channel(8);
        for (kind, request) in kinds {
            let mut signal = signal(kind).map_err(Error::Signals)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signal.recv().await.is_some() && sender.send(request).await.is_ok() {}
            });
        }
        Ok(Self(signals))
    }

    /// The next signal; never returns when none can arrive any more.
    pub(super) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => pending_forever().await,
        }
    }
}

impl From<mpsc::Receiver<Signal>> for Signals {
    fn from(signals: mpsc::Receiver<Signal>) -> Self {
        Self(signals)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn term_and_int_stop_and_hup_reloads() {
        let mut signals = Signals::listen().unwrap();
        let pid = std::process::id().to_string();
        for (name, request) in [
            ("-HUP", Signal::Reload),
            ("-TERM", Signal::Stop),
            ("-INT", Signal::Stop),
        ] {
            let sent = Command::new("kill").args([name, &pid]).status().unwrap();
            assert!(sent.success());
            assert_eq!(signals.next().await, request, "{name}");
        }
    }
}
