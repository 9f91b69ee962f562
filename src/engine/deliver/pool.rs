//! The connections of a pass: what each is doing, and which of them the server refuses.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::notify::fault::Fault;

use super::worker::{Job, MailLease, Ready};

pub(super) struct Pool {
    slots: Vec<Slot>,
    idle: Vec<usize>,
    /// Whether mails wait for a rate, so that a start is recorded only when a worker says so.
    is_paced: bool,
    /// Connections that the server refused, until it is known whether others work.
    turned_away: Vec<TurnedAway>,
    /// How many connections got a mail at least once, and how many of them the server refused.
    used: usize,
    retired: usize,
    /// The most connections that were open at once.
    most_connected: usize,
}

#[derive(Default)]
struct Slot {
    is_connected: bool,
    flight: Option<Flight>,
}

/// A mail that a worker has.
struct Flight {
    mail: Uuid,
    lease: MailLease,
    permit: Option<oneshot::Sender<()>>,
    is_started: bool,
}

pub(super) struct TurnedAway {
    worker: usize,
    pub ready: Ready,
    pub fault: Fault,
    pub is_started: bool,
}

/// What the refused connections mean.
pub(super) enum Refused {
    /// Others work, so the server limits their number. The mails go by the others.
    Surplus(Vec<TurnedAway>),
    All(Vec<TurnedAway>),
}

impl Pool {
    pub fn new(size: usize, is_paced: bool) -> Self {
        Self {
            slots: std::iter::repeat_with(Slot::default).take(size).collect(),
            idle: (0..size).rev().collect(),
            is_paced,
            turned_away: Vec::new(),
            used: 0,
            retired: 0,
            most_connected: 0,
        }
    }

    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// How many connections the server takes, if it refused others.
    pub fn limit(&self) -> Option<usize> {
        let remaining = self.used - self.retired;
        (self.retired > 0).then(|| self.most_connected.min(remaining))
    }

    pub fn take_idle(&mut self) -> Option<usize> {
        self.idle.pop()
    }

    pub fn is_in_use(&self) -> bool {
        !self.turned_away.is_empty() || self.slots.iter().any(|slot| slot.flight.is_some())
    }

    /// Whether the text of a mail may be on its way.
    pub fn is_sending(&self) -> bool {
        let mut flights = self.slots.iter().filter_map(|slot| slot.flight.as_ref());
        flights.any(|flight| flight.permit.is_none())
    }

    /// The job of a worker. It is started at once over an open connection.
    pub fn assign(&mut self, worker: usize, ready: Ready, lease_until: Duration) -> Job {
        self.used = self.used.max(worker + 1);
        let slot = &mut self.slots[worker];
        let (permit_in, permit) = oneshot::channel();
        let lease = MailLease::new(lease_until);
        let is_started = slot.is_connected && !self.is_paced;
        slot.flight = Some(Flight {
            mail: ready.mail.id,
            lease: lease.clone(),
            permit: Some(permit_in),
            is_started,
        });
        Job {
            ready,
            is_started,
            permit,
            lease,
        }
    }

    /// A worker is about to send its mail, whose id this returns.
    pub fn start(&mut self, worker: usize) -> Option<Uuid> {
        self.slots[worker].is_connected = true;
        let connected = self.slots.iter().filter(|slot| slot.is_connected).count();
        self.most_connected = self.most_connected.max(connected);
        let flight = self.slots[worker].flight.as_mut()?;
        flight.is_started = true;
        Some(flight.mail)
    }

    /// Permits the text of all mails whose start is now recorded, but not of those in `lost`.
    pub fn permit(&mut self, lost: &HashSet<Uuid>, lease_until: Duration) {
        let flights = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.flight.as_mut());
        for flight in flights.filter(|flight| flight.is_started) {
            let Some(permit) = flight.permit.take() else {
                continue;
            };
            if !lost.contains(&flight.mail) {
                flight.lease.extend(lease_until);
                // Fails if the attempt has ended meanwhile.
                let _ = permit.send(());
            }
        }
    }

    pub fn extend_leases(&self, renewed: &HashSet<Uuid>, until: Duration) {
        let flights = self.slots.iter().filter_map(|slot| slot.flight.as_ref());
        for flight in flights.filter(|flight| renewed.contains(&flight.mail)) {
            flight.lease.extend(until);
        }
    }

    pub fn release(&mut self, worker: usize, is_connected: bool) {
        self.slots[worker] = Slot {
            is_connected,
            flight: None,
        };
        self.idle.push(worker);
    }

    pub fn turn_away(&mut self, worker: usize, ready: Ready, fault: Fault) {
        let slot = std::mem::take(&mut self.slots[worker]);
        self.turned_away.push(TurnedAway {
            worker,
            ready,
            fault,
            is_started: slot.flight.is_some_and(|flight| flight.is_started),
        });
    }

    /// Decides about refused connections, unless that depends on others that are still being opened.
    pub fn judge_refused(&mut self) -> Option<Refused> {
        if self.turned_away.is_empty() {
            return None;
        }
        let refused = std::mem::take(&mut self.turned_away);
        if self.slots.iter().any(|slot| slot.is_connected) {
            self.retired += refused.len();
            return Some(Refused::Surplus(refused));
        }
        if self.slots.iter().any(|slot| slot.flight.is_some()) {
            self.turned_away = refused;
            return None;
        }
        self.idle.extend(refused.iter().map(|one| one.worker));
        Some(Refused::All(refused))
    }
}
