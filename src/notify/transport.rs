//! The seam to the engine: a worker opens a connection, sends mail after mail over it, closes it.

use super::{
    fault::{Fault, Outcome, Stage},
    message::Rendered,
    outbox::Outbox,
    smtp::{Relay, Session},
};

/// Where mails go. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub enum Transport {
    /// To a relay.
    Smtp(Box<Relay>),
    /// Into a folder.
    File(Outbox),
}

/// What a worker holds.
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
    /// Opens a connection.
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
    /// Sends a mail. A server that ends a connection between two mails, as many do after some
    /// number of them, is connected to once more.
    pub async fn send(&mut self, mail: &Rendered) -> Outcome {
        match &mut self.kind {
            Kind::File(outbox) => outbox.send(mail).await,
            Kind::Smtp { relay, session } => {
                let outcome = session.send(mail).await;
                if session.is_usable() || session.sent() == 0 || !ended_between(&outcome) {
                    return outcome;
                }
                match relay.connect().await {
                    Ok(fresh) => **session = fresh,
                    Err(_) => return outcome,
                }
                session.send(mail).await
            }
        }
    }

    /// Whether another mail can be sent over it; if not, close it and open another.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match &self.kind {
            Kind::Smtp { session, .. } => session.is_usable(),
            Kind::File(_) => true,
        }
    }

    /// Closes it, with QUIT where there is somebody to say it to.
    pub async fn close(self) {
        match self.kind {
            Kind::Smtp { session, .. } => session.quit().await,
            Kind::File(_) => {}
        }
    }
}

/// Whether the connection was over before any of the mail was handed on.
fn ended_between(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::ServerFault(fault) | Outcome::Deferred(fault) => {
            fault.stage == Stage::Mail && matches!(fault.code, None | Some(421))
        }
        Outcome::Sent { .. } | Outcome::Refused { .. } | Outcome::Unknown(_) => false,
    }
}
