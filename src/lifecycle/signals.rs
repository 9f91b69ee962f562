//! The signals that the daemon obeys: SIGTERM and SIGINT end it, SIGHUP makes it load again.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{Error, never};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: finish what is in hand and end; the second one: end at once.
    Stop,
    /// SIGHUP: load again what can be loaded again.
    Reload,
}

/// The signals that have come, in order.
#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Listens from now on. A signal that comes before somebody asks for it is kept.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, Error> {
        let kinds = [
            (SignalKind::terminate(), Signal::Stop),
            (SignalKind::interrupt(), Signal::Stop),
            (SignalKind::hangup(), Signal::Reload),
        ];
        let (sender, signals) = mpsc::channel(8);
        for (kind, asks) in kinds {
            let mut signal = signal(kind).map_err(Error::Signals)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signal.recv().await.is_some() && sender.send(asks).await.is_ok() {}
            });
        }
        Ok(Self(signals))
    }

    /// The next one; waits for ever when none can come any more.
    pub(super) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => never().await,
        }
    }
}

/// Signals that do not come from the system.
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
    async fn term_and_int_ask_for_the_end_and_hup_for_a_reload() {
        let mut signals = Signals::listen().unwrap();
        let me = std::process::id().to_string();
        for (name, asks) in [
            ("-HUP", Signal::Reload),
            ("-TERM", Signal::Stop),
            ("-INT", Signal::Stop),
        ] {
            let sent = Command::new("kill").args([name, &me]).status().unwrap();
            assert!(sent.success());
            assert_eq!(signals.next().await, asks, "{name}");
        }
    }
}
