//! Plans notices that no schedule of steps leads to: alerts to the administrators, notices about lost access, and
//! notices that no one can receive.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::{Address, Basis, NewNotice, Occurrence, Policy, Recipient, Token, Topic};
use crate::store::{self, Tx};

use super::common::{Error, Report};

/// An address that was refused is tried again after this time.
pub(crate) const DEAD_ADDRESS_TTL: TimeDelta = TimeDelta::days(30);

/// Addresses that a mail server refused lately, with its reply.
pub(super) struct DeadAddresses(HashMap<String, String>);

impl DeadAddresses {
    pub async fn load(tx: &mut Tx, now: DateTime<Utc>) -> Result<Self, store::Error> {
        let dead = tx.load_dead_addresses(now - DEAD_ADDRESS_TTL).await?;
        Ok(Self(dead.into_iter().collect()))
    }

    pub fn contains(&self, address: &Address) -> bool {
        self.0.contains_key(address.key())
    }
}

pub(super) struct Alert<'a> {
    /// `plan`, or the name of an upstream. Together with `since` it identifies an occurrence.
    pub subject: &'a str,
    pub since: DateTime<Utc>,
    /// The subject line.
    pub title: String,
    /// What it means and what to do.
    pub text: String,
}

impl Alert<'_> {
    /// Plans a notice to every configured administrator, once per occurrence.
    pub async fn plan(
        &self,
        tx: &mut Tx,
        policy: &Policy,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let occurrence = Occurrence {
            topic: Topic::Alert,
            generation: self.since.into(),
            step: None,
        };
        let notice = |recipient: Recipient| NewNotice {
            title: Some(self.title.clone()),
            detail: Some(self.text.clone()),
            ..NewNotice::for_subject(self.subject, occurrence, &recipient, now)
        };
        let dead = DeadAddresses::load(tx, now).await?;
        let notices: Vec<NewNotice> = reachable_admins(policy, &dead).map(notice).collect();
        if notices.is_empty() {
            tracing::error!("no administrator can be notified: {}", self.title);
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(())
    }
}

/// The configured administrators whose addresses accept mail.
pub(super) fn reachable_admins<'a>(
    policy: &'a Policy,
    dead: &'a DeadAddresses,
) -> impl Iterator<Item = Recipient> + 'a {
    let admins = policy
        .admins
        .iter()
        .filter(move |address| !dead.contains(address));
    admins.map(|address| Recipient {
        address: address.clone(),
        basis: Basis::Admin,
    })
}

/// Plans notices about a token that outlives its issuer's access, to all recipients but the issuer.
pub(super) async fn plan_loss_notices(
    tx: &mut Tx,
    policy: &Policy,
    (token, occurrence): (&Token, Occurrence),
    dead: &DeadAddresses,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let admins = tx.load_account_admins(std::slice::from_ref(token)).await?;
    let recipients = policy.recipients(token, &admins, true, &|address| dead.contains(address));
    let notices: Vec<NewNotice> = recipients
        .iter()
        .map(|recipient| NewNotice::for_token(token, occurrence, recipient, now))
        .collect();
    if notices.is_empty() {
        let undeliverable = Undeliverable::new(token, occurrence, dead, now);
        undeliverable.record(tx, now, report).await?;
    }
    report.notices_planned += tx.insert_notices(&notices, None, now).await?;
    Ok(())
}

/// A notice that no one can receive, and why.
pub(super) struct Undeliverable {
    notice: NewNotice,
    reason: &'static str,
}

impl Undeliverable {
    pub fn new(
        token: &Token,
        occurrence: Occurrence,
        dead: &DeadAddresses,
        now: DateTime<Utc>,
    ) -> Self {
        let (address, reason) = match &token.issuer {
            Some(issuer) if dead.contains(issuer) => (
                issuer.clone(),
                "the issuer's address is refused and there is no administrator to notify",
            ),
            Some(issuer) => (
                issuer.clone(),
                "the issuer lost access and there is no administrator to notify",
            ),
            None => (
                placeholder_address(),
                "the token has no issuer and there is no administrator to notify",
            ),
        };
        let recipient = Recipient {
            address,
            basis: Basis::Issuer,
        };
        Self {
            notice: NewNotice::for_token(token, occurrence, &recipient, now),
            reason,
        }
    }

    /// Stores it as failed, so that it is visible.
    pub async fn record(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let is_new = tx
            .insert_failed_notice(&self.notice, self.reason, now)
            .await?;
        report.notices_failed += u64::from(is_new);
        Ok(())
    }
}

/// A placeholder recipient; RFC 2606 §2 keeps the name from ever resolving.
fn placeholder_address() -> Address {
    "nobody@lapsed.invalid".parse().expect("a literal address")
}
