//! Gives tokens new secrets.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::TokenId;
use crate::domain::service::{
    Actor, Credential, CredentialState, Grant, NewSecret, OldSecret, Operation, Problem,
    ProblemKind, Regeneration, StoredSecret,
};
use crate::store::Change;
use crate::text::{MAX_TEXT, one_line};
use crate::time::{format_span, shift};

use super::found::{Found, revoked, stopped};
use super::issue::{Issued, Once, Outcome, first_secret};
use super::record::Record;
use super::{Error, Service, audit};

/// Where nothing limits the life of a token.
const MAX_OVERLAP: TimeDelta = TimeDelta::days(3653);

impl Service {
    /// Gives a token a new secret. The old one works until the overlap is over, but not longer than it would have; what
    /// was exchanged for it ends with it.
    ///
    /// # Errors
    /// `Stale` if the token is not at `version` any more; else if the actor may not, or the policy forbids it.
    pub async fn regenerate(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        how: &Regeneration,
    ) -> Result<Issued, Error> {
        let work = || self.try_regenerate(actor, id, version, how, None);
        self.store.retrying(work).await.and_then(Outcome::issued)
    }

    /// As [`Service::regenerate`]; a request that was answered before gets the same answer.
    ///
    /// # Errors
    /// As for [`Service::regenerate`], and if the key of the request was used for another one.
    pub async fn regenerate_once(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        how: &Regeneration,
        once: Option<&Once<'_>>,
    ) -> Result<Outcome, Error> {
        let work = || self.try_regenerate(actor, id, version, how, once);
        self.store.retrying(work).await
    }

    async fn try_regenerate(
        &self,
        actor: &Actor,
        id: TokenId,
        version: Option<i64>,
        how: &Regeneration,
        once: Option<&Once<'_>>,
    ) -> Result<Outcome, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        // Before the version: the first request has changed it.
        if let Some(again) = Once::claim(once, &mut tx, now).await? {
            return Ok(again);
        }
        let (found, actor) = self
            .lock_for(&mut tx, actor, id, Operation::RegenerateToken, version)
            .await?;
        let actor = &actor;
        self.check_regeneration(actor, &found)?;
        let Found {
            mut credential,
            person,
            account,
            token: known,
            ..
        } = found;
        if credential.expires_at.is_some_and(|at| at <= now) {
            self.take_place(&mut tx, account.as_ref(), &person, now)
                .await?;
        }
        let expires_at = self
            .terms
            .regenerated_expiry(&credential, how.lifetime, now)?;
        self.check_overlap(&credential, how, expires_at, now)?;
        let secret = NewSecret::generate(&self.terms.head(&credential.kind), &credential.public_id);
        let overlap = how.overlap.unwrap_or(self.terms.overlap);
        let overlap = Some(overlap).filter(|_| !how.is_leaked).unwrap_or_default();
        let (ended, valid_until) = replace_secret(&mut credential, &secret, overlap, now);
        credential.expires_at = expires_at;
        tx.save_credential(&credential).await?;
        credential.version += 1;
        let record = Record::of_known(&credential, &person, account.as_ref());
        let token = record.write(&mut tx, &self.policy, now).await?;
        let facts = describe_regeneration(&credential, how, valid_until);
        audit::token(
            &mut tx,
            actor,
            "token.regenerate",
            &credential,
            Some(&facts),
            now,
        )
        .await?;
        let issued = Issued {
            token: token.unwrap_or(known),
            credential,
            secret,
            ended_secret: ended,
        };
        if let Some(once) = once {
            once.settle(&mut tx, &issued).await?;
        }
        self.commit(tx, &[Change::Credential(id)]).await?;
        Ok(Outcome::Made(Box::new(issued)))
    }

    /// An old secret must not work longer than the new one may.
    fn check_overlap(
        &self,
        credential: &Credential,
        how: &Regeneration,
        expires_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<(), Problem> {
        let Some(overlap) = how.overlap else {
            return Ok(());
        };
        if how.is_leaked {
            let detail = "a secret that leaked ends at once, without an overlap";
            return Err(Problem::invalid("/overlap", detail).fix("leave it out"));
        }
        let life = self.terms.life(&credential.kind);
        let longest = life.max.unwrap_or(MAX_OVERLAP);
        let longest = expires_at.map_or(longest, |at| longest.min(at - now));
        if overlap <= longest {
            return Ok(());
        }
        let detail = "the old secret would work longer than the new one may live";
        let fix = format!("give an overlap of at most {}", format_span(longest));
        Err(Problem::invalid("/overlap", detail).fix(fix))
    }

    fn check_regeneration(&self, actor: &Actor, found: &Found) -> Result<(), Problem> {
        let credential = &found.credential;
        match credential.state {
            CredentialState::Active => {}
            CredentialState::Disabled | CredentialState::Locked => {
                return Err(Problem::new(
                    ProblemKind::Conflict,
                    "the token is disabled, so a new secret would not work",
                )
                .fix("enable it first"));
            }
            CredentialState::Revoked => return Err(revoked()),
        }
        if let Some((why, fix)) = stopped(&found.person) {
            let detail = format!("{why}, so a new secret would not work");
            return Err(Problem::new(ProblemKind::Conflict, detail).fix(fix));
        }
        if found.is_self {
            return Ok(());
        }
        actor.may_give(&Grant {
            account: credential.account.as_deref(),
            rank: self.rank(credential.role.as_deref()),
            scopes: &credential.scopes,
            networks: &credential.networks,
        })
    }
}

/// Makes the new secret the current one. Returns the number of an older one that still worked and ends now, and until when
/// the last one works.
fn replace_secret(
    credential: &mut Credential,
    secret: &NewSecret,
    overlap: TimeDelta,
    now: DateTime<Utc>,
) -> (Option<u32>, DateTime<Utc>) {
    let next = StoredSecret {
        number: credential.secret.number.saturating_add(1),
        ..first_secret(secret, now)
    };
    let overlap_end = shift(now, overlap);
    let valid_until = credential
        .expires_at
        .map_or(overlap_end, |at| at.min(overlap_end));
    let still_valid = |old: &OldSecret| now < old.valid_until;
    let ended = credential.old_secret.take().filter(still_valid);
    credential.old_secret = Some(OldSecret {
        secret: std::mem::replace(&mut credential.secret, next),
        valid_until,
    });
    (ended.map(|old| old.secret.number), valid_until)
}

fn describe_regeneration(
    credential: &Credential,
    how: &Regeneration,
    valid_until: DateTime<Utc>,
) -> String {
    let leaked = if how.is_leaked { "leaked; " } else { "" };
    let reason = how.reason.as_deref().map_or(String::new(), |reason| {
        format!("; {}", one_line(reason, MAX_TEXT))
    });
    format!(
        "{leaked}secret {}; the one before ends {}{reason}",
        credential.secret.number,
        audit::instant(valid_until)
    )
}
