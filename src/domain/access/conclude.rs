//! Concludes a person's status from a statement and a lookup by id.

use chrono::{DateTime, Utc};

use super::{PersonUnderReview, Statement, account_statement};
use crate::domain::{DirectoryTerms, Identity, IdentityStatus, Lookup, Person, Reason};

impl PersonUnderReview {
    /// The new identity; `None` if it is unchanged. `lookup` is the result for [`Self::lookup_id`].
    pub fn conclude(
        &self,
        statement: &Statement<'_>,
        lookup: Option<&Lookup>,
        terms: &DirectoryTerms,
        now: DateTime<Utc>,
    ) -> Option<Identity> {
        if self.is_rejected(statement) {
            return None;
        }
        let next = match (statement, lookup) {
            (Statement::Active(person), _) | (Statement::Disabled(person), None) => {
                self.with_account(person, false, now)
            }
            (Statement::OutsideGroups(person), _) => self.outside(person, terms, now),
            (Statement::Missing(None), _) => self.missing(),
            (Statement::OtherAccount(person), Some(Lookup::Gone { .. }))
                if self.is_namesake(person) =>
            {
                self.in_new_account(person, now)
            }
            (
                Statement::Disabled(_) | Statement::Missing(_) | Statement::OtherAccount(_),
                Some(lookup),
            ) => self.with_lookup(statement, lookup, terms, now),
            (Statement::Missing(Some(_)), None) => self.base(),
            (Statement::OtherAccount(_), None) => self.unclear(Reason::BindingUnsafe, None),
            (Statement::Unclear(reason, person), _) => self.unclear(*reason, *person),
            (Statement::Unchanged, _) => match self.candidate() {
                Some(IdentityStatus::OutOfGroup) => self.confirmed_outside(now),
                _ => self.base(),
            },
        };
        (self.known.as_ref() != Some(&next)).then_some(next)
    }

    /// The identity after an operator rejected the statement.
    pub fn reject(&self, statement: &Statement<'_>) -> Identity {
        Identity {
            candidate: statement.lost_status(),
            ..self.unclear(Reason::Rejected, None)
        }
    }

    /// What was known; for a new person, that no directory has reported anything yet.
    fn base(&self) -> Identity {
        self.known.clone().unwrap_or_else(|| Identity {
            email: self.email.clone(),
            account_id: None,
            account_chosen: false,
            name: None,
            status: IdentityStatus::Unknown,
            known_status: IdentityStatus::Unknown,
            reason: Some(Reason::NeverSeen),
            evidence: String::new(),
            checked_by_id: false,
            since: None,
            observed_at: None,
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
        })
    }

    /// [`Self::base`] without a loss that awaits confirmation.
    fn base_without_candidate(&self) -> Identity {
        Identity {
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
            ..self.base()
        }
    }

    fn with_account(&self, person: &Person, checked_by_id: bool, now: DateTime<Utc>) -> Identity {
        let base = self.base_without_candidate();
        let before = (base.known_status == person.status).then_some(base.since);
        // A lookup is made once; its result counts until the directory reports something else.
        let was_checked = !checked_by_id
            && base.checked_by_id
            && (base.reason, base.status) == (person.reason, person.status)
            && (person.id.is_none() || person.id == base.account_id)
            && (person.since.is_none() || person.since == base.since);
        let known = Identity {
            email: self.email.clone(),
            account_id: person.id.clone().or(base.account_id),
            name: person.name.clone().or(base.name),
            status: person.status,
            known_status: person.status,
            reason: person.reason,
            since: person.since.or(before.flatten()).or(Some(now)),
            evidence: person.evidence_for(self.email.key()),
            checked_by_id: checked_by_id || was_checked,
            ..base
        };
        // The directory's sync state records when the same was observed again.
        if was_checked || self.known.as_ref() == Some(&known) {
            return known;
        }
        Identity {
            observed_at: Some(now),
            ..known
        }
    }

    /// The person in a new account, after the old one is gone. Only access is accepted at once: the breaker
    /// counts a loss with the next listing, as for any account.
    fn in_new_account(&self, person: &Person, now: DateTime<Utc>) -> Identity {
        match account_statement(person) {
            Statement::Active(person) => {
                let evidence = format!("{}, in a new account", person.evidence);
                let person = Person {
                    evidence,
                    ..person.clone()
                };
                self.with_account(&person, false, now)
            }
            _ => Identity {
                account_id: person.id.clone(),
                ..self.unclear(Reason::Unconfirmed, None)
            },
        }
    }

    fn outside(&self, person: &Person, terms: &DirectoryTerms, now: DateTime<Utc>) -> Identity {
        if self.status() == Some(IdentityStatus::OutOfGroup) {
            return self.base();
        }
        if self.candidate() == Some(IdentityStatus::OutOfGroup) {
            return self.confirmed_outside(now);
        }
        let groups = terms.allowed_groups.join(", ");
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
        let evidence = base.candidate_evidence.unwrap_or_default();
        let evidence = format!("{evidence}, read twice");
        self.confirmed_loss(IdentityStatus::OutOfGroup, evidence, false, now)
    }

    fn confirmed_loss(
        &self,
        status: IdentityStatus,
        evidence: String,
        checked_by_id: bool,
        now: DateTime<Utc>,
    ) -> Identity {
        Identity {
            status,
            known_status: status,
            reason: None,
            evidence,
            checked_by_id,
            since: Some(now),
            observed_at: Some(now),
            ..self.base_without_candidate()
        }
    }

    /// Missing, and not bound to an account, which proves nothing.
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
        let base = self.base_without_candidate();
        let is_new = base.known_status == IdentityStatus::Unknown;
        Identity {
            status: IdentityStatus::Unknown,
            reason: Some(reason),
            evidence: match person {
                Some(person) if is_new => person.evidence_for(self.email.key()),
                _ => base.evidence,
            },
            account_id: base.account_id.or_else(|| person?.id.clone()),
            name: base.name.or_else(|| person?.name.clone()),
            ..base
        }
    }

    fn with_lookup(
        &self,
        statement: &Statement<'_>,
        lookup: &Lookup,
        terms: &DirectoryTerms,
        now: DateTime<Utc>,
    ) -> Identity {
        match lookup {
            Lookup::Found(person) => match person.status {
                IdentityStatus::Unknown => {
                    let reason = person.reason.unwrap_or(Reason::FieldMissing);
                    self.unclear(reason, Some(person))
                }
                // Their groups are not known, so they may be outside the allowed ones.
                IdentityStatus::Active if !terms.allowed_groups.is_empty() => {
                    self.unclear(Reason::Absent, None)
                }
                _ => self.with_account(person, true, now),
            },
            Lookup::Gone {
                evidence,
                is_certain,
            } => {
                let gone = self.gone(evidence, *is_certain, terms, now);
                let listed = match statement {
                    Statement::Disabled(person) => person.id.clone(),
                    _ => None,
                };
                Identity {
                    account_id: gone.account_id.or(listed),
                    ..gone
                }
            }
            Lookup::OutOfScope { is_lost: false, .. } => self.unclear(Reason::OutsideFilter, None),
            Lookup::OutOfScope { evidence, .. } => self.out_of_scope(evidence, now),
            Lookup::Unclear(_) => match statement {
                Statement::Disabled(person) => self.unclear(Reason::Unconfirmed, Some(person)),
                Statement::OtherAccount(_) => self.unclear(Reason::BindingUnsafe, None),
                _ => self.unclear(Reason::Absent, None),
            },
        }
    }

    /// Lost like membership in the allowed groups: once two syncs have seen it.
    fn out_of_scope(&self, evidence: &str, now: DateTime<Utc>) -> Identity {
        let out = IdentityStatus::OutOfGroup;
        if self.status() == Some(out) {
            return self.base();
        }
        if self.candidate() == Some(out) {
            return self.confirmed_loss(out, format!("{evidence}, read twice"), true, now);
        }
        Identity {
            candidate: Some(out),
            candidate_since: Some(now),
            candidate_evidence: Some(evidence.to_owned()),
            ..self.unclear(Reason::Unconfirmed, None)
        }
    }

    fn gone(
        &self,
        evidence: &str,
        is_certain: bool,
        terms: &DirectoryTerms,
        now: DateTime<Utc>,
    ) -> Identity {
        if is_certain {
            return self.confirmed_loss(IdentityStatus::Deleted, evidence.to_owned(), true, now);
        }
        let base = self.base();
        let first = base
            .candidate_since
            .filter(|_| base.candidate == Some(IdentityStatus::Deleted));
        match first {
            // A candidate in the future comes from a clock that jumped.
            Some(first) if first <= now && now - first >= terms.absence_grace => {
                let first = first.format("%Y-%m-%d %H:%M UTC");
                let evidence = format!("{evidence} twice, first at {first}");
                self.confirmed_loss(IdentityStatus::Deleted, evidence, true, now)
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
