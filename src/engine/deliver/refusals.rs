//! What a pass learns about the mail server and about the addresses that it refuses.
//!
//! A refused address is dead at once only if the server accepts at least as many recipients of the same domain as it
//! refuses. Otherwise the server may be at fault, so only refusals over a day count.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::Address;
use crate::engine::notices::DEAD_ADDRESS_TTL;
use crate::store::{self, Tx};
use crate::time::shift;

/// After this many faults in a row the mail server is not used until the next pass.
const MAX_FAULTS_IN_A_ROW: u32 = 3;

#[derive(Default)]
pub(super) struct RelayHealth {
    faults_in_a_row: u32,
    has_accepted: bool,
    has_refused: bool,
    /// The server is not used for the rest of the pass.
    pub is_down: bool,
    pub last_fault: Option<String>,
}

impl RelayHealth {
    /// Records that the server answered for a recipient.
    pub fn record_reply(&mut self) {
        self.faults_in_a_row = 0;
    }

    /// Records that the server accepted a recipient.
    pub fn record_accepted(&mut self) {
        self.record_reply();
        self.has_accepted = true;
    }

    pub fn record_refusal(&mut self, reason: String) {
        self.record_reply();
        self.has_refused = true;
        self.last_fault = Some(reason);
    }

    /// Records that the server failed as a whole.
    pub fn record_fault(&mut self, reason: String) {
        self.faults_in_a_row += 1;
        self.is_down |= self.faults_in_a_row >= MAX_FAULTS_IN_A_ROW;
        self.last_fault = Some(reason);
    }

    /// Whether the server was of no use in this pass.
    pub fn is_unusable(&self) -> bool {
        self.is_down || !self.has_accepted && (self.has_refused || self.faults_in_a_row > 0)
    }
}

pub(super) struct Refusals {
    /// Earlier refusals by address key, and whether the address is dead.
    known: HashMap<String, bool>,
    domains: HashMap<String, Recipients>,
}

/// Recipients of a domain in this pass.
#[derive(Default)]
struct Recipients {
    accepted: u32,
    refused: u32,
}

impl Refusals {
    pub async fn load(tx: &mut Tx, now: DateTime<Utc>) -> Result<Self, store::Error> {
        let dead_after = shift(now, -DEAD_ADDRESS_TTL);
        let known = tx.list_addresses().await?.into_iter();
        Ok(Self {
            known: known
                .map(|address| (address.key, address.dead_since > Some(dead_after)))
                .collect(),
            domains: HashMap::new(),
        })
    }

    /// Returns whether the address was refused before.
    pub fn record_accepted(&mut self, address: &Address) -> bool {
        self.of_domain(address).accepted += 1;
        self.known.remove(address.key()).is_some()
    }

    pub fn record_refused(&mut self, address: &Address) {
        self.of_domain(address).refused += 1;
        self.known.entry(address.key().to_owned()).or_default();
    }

    pub fn is_dead(&self, address: &Address) -> bool {
        self.known
            .get(address.key())
            .is_some_and(|is_dead| *is_dead)
    }

    /// The domains in which a refusal is the address's fault.
    pub fn sound_domains(&self) -> Vec<&str> {
        let is_sound = |recipients: &Recipients| {
            recipients.refused > 0 && recipients.accepted >= recipients.refused
        };
        let domains = self.domains.iter();
        domains
            .filter(|(_, recipients)| is_sound(recipients))
            .map(|(domain, _)| domain.as_str())
            .collect()
    }

    pub fn has_any(&self) -> bool {
        self.domains
            .values()
            .any(|recipients| recipients.refused > 0)
    }

    fn of_domain(&mut self, address: &Address) -> &mut Recipients {
        self.domains.entry(address.domain().to_owned()).or_default()
    }
}
