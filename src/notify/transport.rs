//! The interface to the engine: a worker opens a connection, sends mails over it and closes it.

use super::fault::{Fault, Outcome, Stage};
use super::message::Rendered;
use super::outbox::Outbox;
use super::smtp::{Relay, Session};

#[derive(Debug)]
pub enum Transport {
    Smtp(Box<Relay>),
    File(Outbox),
}

/// A connection held by one worker.
#[derive(Debug)]
pub struct Connection<'a> {
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    Smtp {
        relay: &'a Relay,
        session: Box<Session>,
    },
    File(&'a Outbox),
}

impl Transport {
    pub async fn open(&self) -> Result<Connection<'_>, Fault> {
        let kind = match self {
            Self::Smtp(relay) => Kind::Smtp {
                relay,
                session: Box::new(relay.connect().await?),
            },
            Self::File(outbox) => Kind::File(outbox),
        };
        Ok(Connection { kind })
    }
}

impl Connection<'_> {
    /// Sends a mail. If the server closed the connection after an earlier mail, as many do after a number
    /// of mails, reconnects once.
    pub async fn send(&mut self, mail: &Rendered) -> Outcome {
        match &mut self.kind {
            Kind::File(outbox) => outbox.send(mail).await,
            Kind::Smtp { relay, session } => {
                let outcome = session.send(mail).await;
                if session.is_usable() || session.sent() == 0 || !closed_between_mails(&outcome) {
                    return outcome;
                }
                match relay.connect().await {
                    Ok(new) => **session = new,
                    Err(_) => return outcome,
                }
                session.send(mail).await
            }
        }
    }

    /// If false, close the connection and open another.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match &self.kind {
            Kind::Smtp { session, .. } => session.is_usable(),
            Kind::File(_) => true,
        }
    }

    pub async fn close(self) {
        match self.kind {
            Kind::Smtp { session, .. } => session.quit().await,
            Kind::File(_) => {}
        }
    }
}

/// Whether the connection ended before any part of the mail was sent.
fn closed_between_mails(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::ServerFault(fault) | Outcome::Deferred(fault) => {
            fault.stage == Stage::Mail && matches!(fault.code, None | Some(421))
        }
        Outcome::Sent { .. } | Outcome::Refused { .. } | Outcome::Unknown(_) => false,
    }
}
