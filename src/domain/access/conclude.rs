//! What is believed of a person after a pull and a look by id.

use chrono::{DateTime, Utc};

use super::{Case, Claim, Guards, said};
use crate::domain::{Address, Identity, IdentityStatus, LookedUp, Person, Reason};

impl Case {
    /// What is believed of the person now; `None` where nothing is to be written down. `looked` is the
    /// answer to [`Case::look_up`].
    #[must_use]
    pub fn conclude(
        &self,
        claim: &Claim<'_>,
        looked: Option<&LookedUp>,
        guards: &Guards<'_>,
        now: DateTime<Utc>,
    ) -> Option<Identity> {
        if self.is_rejected(claim) {
            return None;
        }
        let next = match (claim, looked) {
            (Claim::Active(person), _) | (Claim::Off(person), None) => {
                self.stated(person, None, now)
            }
            (Claim::Outside(person), _) => self.outside(person, guards, now),
            (Claim::Missing(None), _) => self.missing(),
            (Claim::Stranger(person), Some(LookedUp::Gone { .. })) if self.is_namesake(person) => {
                self.moved(person, now)
            }
            (Claim::Off(_) | Claim::Missing(_) | Claim::Stranger(_), Some(looked)) => {
                self.looked_up(claim, looked, guards, now)
            }
            (Claim::Missing(Some(_)), None) => self.base(),
            (Claim::Stranger(_), None) => self.unclear(Reason::BindingUnsafe, None),
            (Claim::Unclear(reason, person), _) => self.unclear(*reason, *person),
            (Claim::Same, _) => match self.candidate() {
                Some(IdentityStatus::OutOfGroup) => self.confirmed_outside(now),
                _ => self.base(),
            },
        };
        (self.known.as_ref() != Some(&next)).then_some(next)
    }

    /// What refusing the claim makes of the person.
    #[must_use]
    pub fn refuse(&self, claim: &Claim<'_>) -> Identity {
        Identity {
            candidate: claim.lost(),
            candidate_since: None,
            candidate_evidence: None,
            ..self.unclear(Reason::Rejected, None)
        }
    }

    fn base(&self) -> Identity {
        let never_seen = || Identity::never_seen(&self.email);
        self.known.clone().unwrap_or_else(never_seen)
    }

    /// The person as an account says, clearly.
    fn stated(&self, person: &Person, how: Option<&str>, now: DateTime<Utc>) -> Identity {
        let base = self.base();
        let before = (base.known_status == person.status).then_some(base.since);
        let evidence = match how {
            Some(how) => format!("{}, {how}", person.evidence),
            None => person.evidence.clone(),
        };
        // A look by id is made once; what it said stands until the directory says something else.
        let is_checked = base.status == person.status && is_checked(&base.evidence, &evidence);
        Identity {
            email: self.email.clone(),
            account_id: person.id.clone().or(base.account_id),
            name: person.name.clone().or(base.name),
            status: person.status,
            known_status: person.status,
            reason: person.reason,
            since: person.since.or(before.flatten()).or(Some(now)),
            observed_at: if is_checked {
                base.observed_at
            } else {
                Some(now)
            },
            evidence: if is_checked { base.evidence } else { evidence },
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
        }
        .unless_only_seen_again(self.known.as_ref())
    }

    /// The person in a new account, as the old one is gone. Only that it works is believed at once: a loss goes
    /// before the breaker with the next pull, as that of any account.
    fn moved(&self, person: &Person, now: DateTime<Utc>) -> Identity {
        match said(person) {
            Claim::Active(person) => self.stated(person, Some("in a new account"), now),
            _ => Identity {
                account_id: person.id.clone(),
                ..self.unclear(Reason::Unconfirmed, None)
            },
        }
    }

    fn outside(&self, person: &Person, guards: &Guards<'_>, now: DateTime<Utc>) -> Identity {
        if self.status() == Some(IdentityStatus::OutOfGroup) {
            return self.base();
        }
        if self.candidate() == Some(IdentityStatus::OutOfGroup) {
            return self.confirmed_outside(now);
        }
        let groups = guards.allowed_groups.join(", ");
        Identity {
            account_id: person.id.clone(),
            name: person.name.clone(),
            candidate: Some(IdentityStatus::OutOfGroup),
            candidate_since: Some(now),
            candidate_evidence: Some(format!(
                "membership in none of the allowed groups ({groups})"
            )),
            ..self.unclear(Reason::Unconfirmed, None)
        }
    }

    fn confirmed_outside(&self, now: DateTime<Utc>) -> Identity {
        let base = self.base();
        let said = base.candidate_evidence.clone().unwrap_or_default();
        self.lost(
            IdentityStatus::OutOfGroup,
            format!("{said}, read twice"),
            now,
        )
    }

    /// A loss that was a candidate until now.
    fn lost(&self, status: IdentityStatus, evidence: String, now: DateTime<Utc>) -> Identity {
        let base = self.base();
        Identity {
            status,
            known_status: status,
            reason: None,
            evidence,
            since: Some(now),
            observed_at: Some(now),
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
            ..base
        }
    }

    /// Not there, and never bound to an account: nothing follows.
    fn missing(&self) -> Identity {
        let base = self.base();
        let reason = if base.known_status == IdentityStatus::Unknown {
            Reason::NeverSeen
        } else {
            Reason::Absent
        };
        self.unclear(reason, None)
    }

    fn unclear(&self, reason: Reason, person: Option<&Person>) -> Identity {
        let base = self.base();
        let is_new = base.known_status == IdentityStatus::Unknown;
        Identity {
            status: IdentityStatus::Unknown,
            reason: Some(reason),
            evidence: match person {
                Some(person) if is_new => person.evidence.clone(),
                _ => base.evidence,
            },
            account_id: base.account_id.or_else(|| person?.id.clone()),
            name: base.name.or_else(|| person?.name.clone()),
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
            ..base
        }
    }

    /// What follows from a look by id.
    fn looked_up(
        &self,
        claim: &Claim<'_>,
        looked: &LookedUp,
        guards: &Guards<'_>,
        now: DateTime<Utc>,
    ) -> Identity {
        match looked {
            LookedUp::Found(person) => match person.status {
                IdentityStatus::Unknown => {
                    let reason = person.reason.unwrap_or(Reason::FieldMissing);
                    self.unclear(reason, Some(person))
                }
                // Nobody knows their groups, which might have cost them their access.
                IdentityStatus::Active if !guards.allowed_groups.is_empty() => {
                    self.unclear(Reason::Absent, None)
                }
                _ => self.stated(person, Some("checked by id"), now),
            },
            LookedUp::Gone {
                evidence,
                is_certain,
            } => {
                let gone = self.gone(evidence, *is_certain, guards, now);
                let listed = match claim {
                    Claim::Off(person) => person.id.clone(),
                    _ => None,
                };
                Identity {
                    account_id: gone.account_id.or(listed),
                    ..gone
                }
            }
            LookedUp::Unclear(_) => match claim {
                Claim::Off(person) => self.unclear(Reason::Unconfirmed, Some(person)),
                Claim::Stranger(_) => self.unclear(Reason::BindingUnsafe, None),
                _ => self.unclear(Reason::Absent, None),
            },
        }
    }

    fn gone(
        &self,
        evidence: &str,
        is_certain: bool,
        guards: &Guards<'_>,
        now: DateTime<Utc>,
    ) -> Identity {
        if is_certain {
            let evidence = format!("{evidence}, checked by id");
            return self.lost(IdentityStatus::Deleted, evidence, now);
        }
        let base = self.base();
        let first = base
            .candidate_since
            .filter(|_| base.candidate == Some(IdentityStatus::Deleted));
        match first {
            // A candidate in the future was seen by a clock that jumped.
            Some(first) if first <= now && now - first >= guards.absence_grace => {
                let first = first.format("%Y-%m-%d %H:%M UTC");
                let evidence = format!("{evidence}, checked by id twice, first at {first}");
                self.lost(IdentityStatus::Deleted, evidence, now)
            }
            Some(first) if first <= now => base,
            _ => Identity {
                candidate: Some(IdentityStatus::Deleted),
                candidate_since: Some(now),
                candidate_evidence: Some(evidence.to_owned()),
                ..self.unclear(Reason::Absent, None)
            },
        }
    }
}

/// Whether `known` is what a look by id made of this.
fn is_checked(known: &str, said: &str) -> bool {
    known
        .strip_prefix(said)
        .is_some_and(|rest| rest == ", checked by id")
}

impl Identity {
    /// Somebody of whom a directory has said nothing yet.
    fn never_seen(email: &Address) -> Self {
        Self {
            email: email.clone(),
            account_id: None,
            name: None,
            status: IdentityStatus::Unknown,
            known_status: IdentityStatus::Unknown,
            reason: Some(Reason::NeverSeen),
            evidence: String::new(),
            since: None,
            observed_at: None,
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
        }
    }

    /// This, or what was known where nothing but the time is new: when a directory was last read well is
    /// written down once, with the directory.
    fn unless_only_seen_again(self, known: Option<&Self>) -> Self {
        match known {
            Some(known)
                if Self {
                    observed_at: known.observed_at,
                    ..self.clone()
                } == *known =>
            {
                known.clone()
            }
            _ => self,
        }
    }
}
