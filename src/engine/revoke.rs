//! Revoke: ends a token where it lives, on somebody's word, and tells those whom it concerns.
//!
//! The attempt is written down before the source is asked and the outcome after, so that whatever
//! happens in between leaves a trace; a second try takes up where the first was cut off.

use chrono::TimeDelta;

use crate::domain::{ExpiryOrigin, NewNotice, Occurrence, Recipient, Status, Token, Topic};
use crate::sources;
use crate::store::{AuditRow, Tx};

use super::{Engine, Error, LISTING_TIMEOUT, Watched, judge};

/// What is written down before the source is asked.
pub(super) const ATTEMPT: &str = "token.revoke";
/// What is written down when the token has ended.
pub(super) const DONE: &str = "token.revoked";
/// What is written down when it has not.
pub(super) const FAILED: &str = "token.revoke_failed";
/// What is written down when nobody knows whether it has.
pub(super) const IN_DOUBT: &str = "token.revoke_unknown";

/// Somebody's word that a token is to end.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The token.
    pub token: &'a Token,
    /// Who says so.
    pub by: &'a str,
    /// Why.
    pub reason: Option<&'a str>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Unsent notices that were taken back.
    pub cancelled: u64,
    /// Who is told.
    pub told: Vec<Recipient>,
}

/// Why lapsed does not even try.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The source is not configured.
    #[error("the token's source {0} is not in the configuration, so lapsed cannot reach it")]
    UnknownSource(String),
    /// The configuration does not allow it.
    #[error("lapsed may not end tokens of the source {0}")]
    NotAllowed(String),
    /// Without it lapsed would see nothing.
    #[error("{}", sources::Error::OwnToken)]
    OwnToken,
    /// There is nothing left to end.
    #[error("the token is {0}: there is nothing left to end")]
    NotActive(Status),
}

impl Engine {
    /// The source of a token that may be ended there.
    ///
    /// # Errors
    /// Why it may not.
    pub fn may_revoke(&self, token: &Token) -> Result<&Watched, Refused> {
        let found = self.sources.iter().find(|it| it.name == token.source);
        let watched = found.ok_or_else(|| Refused::UnknownSource(token.source.clone()))?;
        if !watched.allow_revoke {
            return Err(Refused::NotAllowed(token.source.clone()));
        }
        if watched.source.is_own(token) {
            return Err(Refused::OwnToken);
        }
        let status = token.status_at(self.now());
        // One that is past a date of our own still works where it lives.
        let is_ours = token.expiry_origin == Some(ExpiryOrigin::Policy);
        match status {
            // Whoever enables a disabled one again brings it back to life.
            Status::Active | Status::Disabled => Ok(watched),
            Status::Expired if is_ours => Ok(watched),
            Status::Expired | Status::Revoked | Status::Gone => Err(Refused::NotActive(status)),
        }
    }

    /// Ends a token at its source, settles what was owed about it, and tells its issuer and the
    /// administrators.
    pub async fn revoke(&self, order: Order<'_>) -> Result<Revoked, Error> {
        let watched = self.may_revoke(order.token)?;
        let was_in_doubt = self.begin(order).await?;
        let asked = watched.source.revoke(&order.token.external_id);
        let ended = match tokio::time::timeout(LISTING_TIMEOUT, asked).await {
            // What the attempt before this one came to was not known: now it is.
            Ok(Err(sources::Error::NoSuchToken(_))) if was_in_doubt => Ok(()),
            Ok(ended) => ended.map_err(Error::Listing),
            Err(_) => Err(Error::NoAnswer),
        };
        match ended {
            Ok(()) => self.settle_revoked(order).await,
            Err(error) => {
                let said = super::sweep::chain(&error);
                let outcome = if is_in_doubt(&error, was_in_doubt) {
                    IN_DOUBT
                } else {
                    FAILED
                };
                let mut tx = self.store.begin().await?;
                self.write_down(&mut tx, order, outcome, Some(&said))
                    .await?;
                tx.commit().await?;
                Err(error)
            }
        }
    }

    /// Writes the attempt down. Tells whether it is unknown what the one before came to.
    async fn begin(&self, order: Order<'_>) -> Result<bool, Error> {
        let mut tx = self.store.begin().await?;
        // Somebody else may have ended it since it was looked up.
        let known = tx.locked_token(order.token.id).await?;
        if let Some(status @ Status::Revoked) = known.map(|token| token.status) {
            return Err(Refused::NotActive(status).into());
        }
        let last = self
            .write_down(&mut tx, order, ATTEMPT, order.reason)
            .await?;
        tx.commit().await?;
        Ok(last.is_some_and(|entry| [ATTEMPT, IN_DOUBT].contains(&entry.action.as_str())))
    }

    /// Writes down that a token has ended, settles what was owed about it, and tells those whom it concerns.
    pub(super) async fn settle_revoked(&self, order: Order<'_>) -> Result<Revoked, Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        // A sync may have learned more of it meanwhile.
        let known = tx.locked_token(order.token.id).await?;
        let is_ended =
            |token: &Token| token.status == Status::Revoked && token.revoked_at.is_some();
        if known.as_ref().is_some_and(is_ended) {
            // Two were at it: the other has told everybody.
            return Ok(Revoked::default());
        }
        let token = Token {
            status: Status::Revoked,
            due_at: None,
            judge_at: Some(now),
            revoked_at: Some(now),
            ..known.unwrap_or_else(|| order.token.clone())
        };
        tx.update_token(&token, now).await?;
        let reason = "the token is revoked";
        let cancelled = tx.cancel_notices(token.id, None, reason).await?;
        tx.cancel_topic(token.id, Topic::SsoRevoked, reason).await?;
        judge::ask(&mut tx, now).await?;
        let told = self.concerned(&mut tx, &token).await?;
        let occurrence = Occurrence {
            topic: Topic::Revoked,
            generation: now,
            step: None,
        };
        let notices: Vec<NewNotice> = told
            .iter()
            .map(|recipient| NewNotice {
                title: Some(order.by.to_owned()),
                detail: order.reason.map(str::to_owned),
                ..NewNotice::about(&token, occurrence, recipient, now)
            })
            .collect();
        tx.insert_notices(&notices, None, now).await?;
        self.write_down(&mut tx, order, DONE, order.reason).await?;
        tx.commit().await?;
        Ok(Revoked { cancelled, told })
    }

    /// Whom the end of a token concerns.
    pub async fn concerned(&self, tx: &mut Tx, token: &Token) -> Result<Vec<Recipient>, Error> {
        let dead = self.dead(tx, self.now()).await?;
        let is_lost = !tx.lost_access(&[token.id]).await?.is_empty();
        let admins = tx.told_admins(std::slice::from_ref(token)).await?;
        let is_dead = |address: &_| dead.has(address);
        Ok(self.policy.recipients(token, &admins, is_lost, &is_dead))
    }

    /// Adds to the trail, and gives the entry about the token before this one. What comes later stands
    /// later in it, even by a clock that stands still or went back.
    async fn write_down(
        &self,
        tx: &mut Tx,
        order: Order<'_>,
        action: &str,
        reason: Option<&str>,
    ) -> Result<Option<AuditRow>, Error> {
        let subject = subject(order.token);
        let last = tx.last_audit_of(&subject).await?;
        let now = self.now();
        let after = last.as_ref().map(|it| it.at + TimeDelta::microseconds(1));
        let at = after.map_or(now, |after| after.max(now));
        let entry = [order.by, action, &subject];
        tx.audit(Self::new_id(at), at, entry, reason).await?;
        Ok(last)
    }
}

/// Whether the token may have ended all the same; by an order before this one, where nobody has looked
/// since.
fn is_in_doubt(error: &Error, was_in_doubt: bool) -> bool {
    match error {
        Error::Listing(sources::Error::NotAsked(_)) => was_in_doubt,
        Error::Listing(error) => error.is_in_doubt(),
        error => matches!(error, Error::NoAnswer),
    }
}

/// What the trail calls a token: something that the command line takes, too.
pub(super) fn subject(token: &Token) -> String {
    format!("{}/{}", token.source, token.external_id)
}
