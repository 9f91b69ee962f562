//! What the service writes into the audit trail.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::LOCAL_SOURCE;
use crate::domain::service::{Actor, Credential};
use crate::engine::new_id;
use crate::store::Tx;
use crate::text::{MAX_TEXT, one_line};

use super::Error;

pub(super) async fn token(
    tx: &mut Tx,
    actor: &Actor,
    action: &str,
    credential: &Credential,
    facts: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    entry(tx, actor, action, &subject(credential), facts, now).await
}

pub(super) fn subject(credential: &Credential) -> String {
    format!("{LOCAL_SOURCE}/{}", credential.public_id)
}

pub(super) async fn entry(
    tx: &mut Tx,
    actor: &Actor,
    action: &str,
    subject: &str,
    facts: Option<&str>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let entry = [actor.name(), action, subject];
    Ok(tx.insert_audit(new_id(now), now, entry, facts).await?)
}

/// The facts, and after them why it was done.
pub(super) fn with_reason(facts: String, reason: Option<&str>) -> String {
    match reason.map(|reason| one_line(reason, MAX_TEXT)) {
        Some(reason) if facts.is_empty() => reason,
        Some(reason) => format!("{facts}: {reason}"),
        None => facts,
    }
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
