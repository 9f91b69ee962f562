//! All methods of a transaction on both databases, to find SQL that means different things on each.

mod coverage;
mod erasure;
mod findings;
mod mails;
mod notices;
mod opening;
mod owners;
mod people;
mod planning;
mod reaching;
mod removal;
mod replicas;
mod revocations;
mod runs;
pub(crate) mod service;
mod tokens;
mod views;

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{
    Address, Basis, Expiry, ExpiryOrigin, NewNotice, Occurrence, Recipient, Step, Token, TokenId,
    Topic,
};
use lapsed::store::{ClaimedMail, Holder, MailRecord, NoticeFilter, NoticeRow, Store, Verdict};
use uuid::Uuid;

/// Runs a query in a write transaction.
macro_rules! write {
    ($store:expr, $tx:ident => $body:expr) => {{
        let mut $tx = $store.begin().await.unwrap();
        let result = $body.await.unwrap();
        $tx.commit().await.unwrap();
        result
    }};
}
/// Runs a query in a read-only transaction.
macro_rules! read {
    ($store:expr, $tx:ident => $body:expr) => {{
        let mut $tx = $store.begin_read().await.unwrap();
        $body.await.unwrap()
    }};
}
use {read, write};

/// A unique id.
fn fresh_id() -> Uuid {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u64_pair(0x0193_5f2e_8a4b_7c11, COUNT.fetch_add(1, Ordering::Relaxed))
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    at("2026-11-21T09:00:00.250Z")
}

fn days(count: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(count)
}

fn minutes(count: i64) -> DateTime<Utc> {
    now() + TimeDelta::minutes(count)
}

/// The `send_at` of notices that go with the next mail, whenever that is.
fn max_instant() -> DateTime<Utc> {
    at("9999-12-31T23:59:59.999999Z")
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn step(text: &str) -> Step {
    text.parse().unwrap()
}

fn holder(until: DateTime<Utc>) -> Holder {
    Holder {
        id: fresh_id(),
        until,
    }
}

/// An active token issued by Ada that expires in seven days.
pub(crate) fn token(external_id: &str) -> Token {
    Token {
        id: TokenId::new("exports", external_id),
        source: "exports".into(),
        external_id: external_id.into(),
        name: format!("name of {external_id}"),
        issuer: Some(address("Ada@Example.org")),
        created_at: Some(days(-83)),
        expiry: Expiry::At(days(7)),
        expiry_origin: Some(ExpiryOrigin::Source),
        secret_version: 1,
        first_seen_at: days(-80),
        life_from: Some(days(-83)),
        due_at: Some(now()),
        ..Token::default()
    }
}

/// A warning about a token's current expiry.
fn warning(token: &Token, width: &str, to: &str, send_at: DateTime<Utc>) -> NewNotice {
    let occurrence = Occurrence {
        topic: Topic::Expiry,
        generation: token.generation().unwrap(),
        step: Some(step(width)),
    };
    let recipient = Recipient {
        address: address(to),
        basis: Basis::Issuer,
    };
    NewNotice::for_token(token, occurrence, &recipient, send_at)
}

async fn insert(store: &Store, tokens: &[Token]) {
    write!(store, tx => tx.insert_tokens(tokens));
}

async fn plan(store: &Store, notices: &[NewNotice]) -> u64 {
    write!(store, tx => tx.insert_notices(notices, None, now()))
}

/// Puts all notices due by `horizon` into mails; returns how many.
async fn fill_mails(store: &Store, horizon: DateTime<Utc>) -> u64 {
    let mut tx = store.begin().await.unwrap();
    let recipients = tx.find_due_recipients(horizon, 1000).await.unwrap();
    let mails: Vec<_> = recipients.into_iter().map(|to| (fresh_id(), to)).collect();
    let open = tx.open_mails(&mails, None, now()).await.unwrap();
    let filled = tx.fill_mails(&open, horizon).await.unwrap();
    tx.commit().await.unwrap();
    filled
}

/// Sends the mails that are due, with this result.
async fn send(store: &Store, verdict: Verdict) {
    fill_mails(store, now()).await;
    let holder = holder(minutes(1));
    let mails = write!(store, tx => tx.claim_mails(holder, now(), days(1), 100));
    for verdict in [Verdict::Sending, verdict] {
        let to_record = |mail: &ClaimedMail| MailRecord {
            id: mail.id,
            verdict,
            reason: Some("250 ok".to_owned()),
        };
        let records: Vec<_> = mails.iter().map(to_record).collect();
        write!(store, tx => tx.record_mails(&records, holder, now()));
    }
}

async fn ledger(store: &Store) -> Vec<NoticeRow> {
    read!(store, tx => tx.list_notices(&NoticeFilter::default(), None, 10_000))
}

/// `state: reason` of a notice.
async fn state_of(store: &Store, notice: &NewNotice) -> String {
    let rows = ledger(store).await;
    let row = rows.iter().find(|row| row.id == notice.id).unwrap();
    match &row.reason {
        Some(reason) => format!("{}: {reason}", row.state),
        None => row.state.to_string(),
    }
}
