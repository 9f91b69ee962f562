//! What a new token may be, and what it is made of.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::service::{
    Actor, Credential, CredentialState, Grant, Kind, NewSecret, NewToken, Problem, ProblemKind,
    PublicId, Rank, ServiceAccount, ServicePerson, StoredSecret, WhoIssues, who_issues,
};
use crate::domain::{LOCAL_SOURCE, Token, TokenId, account_key};
use crate::store::Tx;
use crate::text::is_unsafe;
use crate::time::shift;

use super::audit;
use super::idempotency::Repeatable;
use super::{Error, Service};

/// A token with a secret that is shown once.
#[derive(Debug, Clone)]
pub struct Issued {
    pub credential: Credential,
    pub token: Token,
    pub secret: NewSecret,
    /// The number of an older secret that was still in its overlap and has ended now.
    pub ended_secret: Option<u32>,
}

/// A request that may be repeated, and how its answer is written.
pub struct Once<'a> {
    pub request: &'a Repeatable,
    pub answer: &'a (dyn Fn(&Issued) -> SecretString + Sync),
}

impl Once<'_> {
    /// What was answered before; `None` if the request is new.
    pub(super) async fn claim(
        once: Option<&Self>,
        tx: &mut Tx,
        now: DateTime<Utc>,
    ) -> Result<Option<Outcome>, Error> {
        match once {
            Some(once) => Ok(once.request.claim(tx, now).await?.map(Outcome::Again)),
            None => Ok(None),
        }
    }

    pub(super) async fn settle(&self, tx: &mut Tx, issued: &Issued) -> Result<(), Error> {
        let Credential { id, secret, .. } = &issued.credential;
        let answer = (self.answer)(issued);
        let answer = answer.expose_secret();
        self.request.settle(tx, *id, secret.number, answer).await
    }
}

#[derive(Debug)]
pub enum Outcome {
    Made(Box<Issued>),
    /// The answer that was given before.
    Again(SecretString),
}

impl Outcome {
    /// Of a request that cannot be repeated.
    pub(super) fn issued(self) -> Result<Issued, Error> {
        match self {
            Self::Made(issued) => Ok(*issued),
            Self::Again(_) => Err(Problem::unknown().into()),
        }
    }
}

const MAX_NAME: usize = 100;
const MAX_DESCRIPTION: usize = 1000;

impl Service {
    /// Records in the background that the new secret of this token was handed over.
    pub fn note_shown(&self, id: TokenId) {
        self.shown.note(id, &self.store, &self.clock);
    }

    /// Fails if the actor may not, or the policy forbids it.
    pub(super) fn make_credential(
        &self,
        actor: &Actor,
        new: &NewToken,
        person: &ServicePerson,
        account: Option<&ServiceAccount>,
        now: DateTime<Utc>,
    ) -> Result<(Credential, NewSecret), Problem> {
        let role = self.choose_role(actor, new, person, account)?;
        actor.may_give(&Grant {
            account: account.map(|account| account.key.as_str()),
            rank: self.rank(role.as_deref()),
            scopes: &new.scopes,
            networks: &new.networks,
        })?;
        new.networks.check_count()?;
        let from = new.not_before.map_or(now, |at| at.max(now));
        let expires_at = self.terms.expiry(&new.kind, new.lifetime, from)?;
        check_not_before(new.not_before, expires_at, now)?;
        let public_id = PublicId::generate();
        let secret = NewSecret::generate(&self.terms.head(&new.kind), &public_id);
        let credential = Credential {
            id: TokenId::new(LOCAL_SOURCE, public_id.as_str()),
            kind: new.kind.clone(),
            issuer: person.key.clone(),
            account: account.map(|account| account.key.clone()),
            role,
            scopes: new.scopes.clone(),
            networks: new.networks.clone(),
            created_at: now,
            not_before: new.not_before,
            expires_at,
            state: CredentialState::Active,
            secret: first_secret(&secret, now),
            old_secret: None,
            parent: None,
            version: 1,
            public_id,
        };
        Ok((credential, secret))
    }

    /// Whose token it will be, by their key.
    pub(super) fn issuer_key(actor: &Actor, new: &NewToken) -> Result<String, Problem> {
        let own = match actor {
            Actor::Caller(access) => Some(access.person.key.as_str()),
            Actor::Operator(_) => None,
        };
        let asked = new.user.as_deref().map(account_key);
        match (asked, own) {
            (Some(asked), Some(own)) if asked != own && !actor.is_super() => Err(Problem {
                pointer: Some("/user"),
                ..Problem::new(
                    ProblemKind::Forbidden,
                    "only a super admin may issue a token for another person",
                )
            }),
            (Some(asked), _) => Ok(asked),
            (None, Some(own)) => Ok(own.to_owned()),
            (None, None) => Err(
                Problem::invalid("/user", "a token needs a person who owns it")
                    .fix("name a user with --user; `lapsed user list` lists them"),
            ),
        }
    }

    /// Without an account in the request, the one of the credential that asks, else the person's only one.
    pub(super) fn choose_account(
        actor: &Actor,
        new: &NewToken,
        person: &ServicePerson,
    ) -> Result<Option<String>, Problem> {
        let of_caller = match actor {
            Actor::Caller(access) if !access.is_super => access.credential.account.clone(),
            _ => None,
        };
        let asked = new.account.as_deref().map(account_key);
        if let Actor::Caller(access) = actor
            && !access.is_super
            && asked.is_some()
            && asked != access.credential.account
        {
            // Before anything is looked up: the answer is the same whether or not there is such an account.
            return Err(Problem {
                pointer: Some("/account"),
                ..Problem::new(
                    ProblemKind::Forbidden,
                    "a token can have only the account of the token that asks",
                )
            });
        }
        let mut only = person.roles.keys();
        let key = match (asked, of_caller, only.next(), only.next()) {
            (Some(key), ..) | (None, Some(key), ..) => key,
            (None, None, Some(key), None) if !person.is_super => key.clone(),
            _ if person.is_super => return Ok(None),
            (None, None, None, _) => {
                return Err(Problem::invalid(
                    "/account",
                    format!("{} is in no account", person.key),
                )
                .fix("give them a role in one: lapsed user role"));
            }
            (None, None, Some(_), _) => {
                let accounts: Vec<&str> = person.roles.keys().map(String::as_str).collect();
                return Err(Problem::invalid(
                    "/account",
                    format!("{} is in several accounts", person.key),
                )
                .fix(format!("name one of them: {}", accounts.join(", "))));
            }
        };
        if person.is_super || person.roles.contains_key(&key) {
            return Ok(Some(key));
        }
        Err(not_in(person, &key))
    }

    /// The one who gets a token must be one who may issue, also at the command line.
    pub(super) fn check_issuer(
        &self,
        person: &ServicePerson,
        account: Option<&ServiceAccount>,
    ) -> Result<(), Problem> {
        let is_admin = || {
            let role = account.and_then(|account| person.roles.get(&account.key));
            role.is_some_and(|role| self.terms.roles.rank_or_lowest(role).is_highest())
        };
        let is_allowed = match self.terms.issuers {
            WhoIssues::Everyone => true,
            WhoIssues::Administrators => person.is_super || is_admin(),
            WhoIssues::Super => person.is_super,
        };
        if is_allowed || person.is_machine() {
            return Ok(());
        }
        Err(who_issues(self.terms.issuers))
    }

    /// Without a role in the request, the effective one of the caller.
    fn choose_role(
        &self,
        actor: &Actor,
        new: &NewToken,
        person: &ServicePerson,
        account: Option<&ServiceAccount>,
    ) -> Result<Option<String>, Problem> {
        let roles = &self.terms.roles;
        let Some(account) = account else {
            return match &new.role {
                Some(role) => Ok(Some(self.known_role(role)?)),
                None => Ok(None),
            };
        };
        let of_person = if person.is_super {
            Rank::HIGHEST
        } else {
            roles.rank_or_lowest(person.roles.get(&account.key).map_or("", String::as_str))
        };
        let limit = match actor {
            Actor::Caller(access) if !access.is_super => {
                access.rank.map_or(of_person, |rank| rank.and(of_person))
            }
            _ => of_person,
        };
        let Some(role) = &new.role else {
            return Ok(Some(roles.name(limit).to_owned()));
        };
        let role = self.known_role(role)?;
        if limit.may_give(roles.rank_or_lowest(&role)) {
            return Ok(Some(role));
        }
        let allowed: Vec<&str> = roles
            .iter()
            .filter(|role| limit.may_give(roles.rank_or_lowest(role)))
            .collect();
        Err(Problem {
            pointer: Some("/role"),
            ..Problem::new(
                ProblemKind::Forbidden,
                format!(
                    "a token can have at most the role of its issuer, {}",
                    roles.name(limit)
                ),
            )
            .fix(format!("choose one of: {}", allowed.join(", ")))
        })
    }

    pub(super) fn known_role(&self, role: &str) -> Result<String, Problem> {
        let roles = &self.terms.roles;
        if roles.rank(role).is_some() {
            return Ok(role.to_owned());
        }
        let known: Vec<&str> = roles.iter().collect();
        Err(
            Problem::invalid("/role", format!("there is no role {role:?}"))
                .fix(format!("choose one of: {}", known.join(", "))),
        )
    }

    /// No role is all rights.
    pub(super) fn rank(&self, role: Option<&str>) -> Rank {
        role.map_or(Rank::HIGHEST, |role| self.terms.roles.rank_or_lowest(role))
    }
}

pub(super) fn not_in(person: &ServicePerson, account: &str) -> Problem {
    Problem::invalid(
        "/account",
        format!("{} is in no account {account:?}", person.key),
    )
    .fix("name an account that they have a role in")
}

pub(super) fn first_secret(secret: &NewSecret, now: DateTime<Utc>) -> StoredSecret {
    StoredSecret {
        number: 1,
        digest: secret.digest,
        created_at: now,
        last_used_at: None,
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let length = name.trim().chars().count();
    if length == 0 {
        return Err(Problem::invalid("/name", "a token needs a name")
            .fix("name what uses it, such as ci-deploy"));
    }
    if length > MAX_NAME || name.contains(is_unsafe) {
        return Err(Problem::invalid(
            "/name",
            format!("a name has at most {MAX_NAME} characters, and no control characters"),
        ));
    }
    Ok(())
}

pub(super) fn check_description(description: Option<&str>) -> Result<(), Problem> {
    let Some(text) = description else {
        return Ok(());
    };
    let is_unsafe = text.chars().any(|c| c != '\n' && is_unsafe(c));
    if text.chars().count() > MAX_DESCRIPTION || is_unsafe {
        return Err(Problem::invalid(
            "/description",
            format!(
                "a description has at most {MAX_DESCRIPTION} characters, and no control characters"
            ),
        ));
    }
    Ok(())
}

/// A token that begins to work later than in ten years is a mistake.
const MAX_WAIT: TimeDelta = TimeDelta::days(3653);

/// A begin may be the present day, or by a clock that differs.
const MAX_PAST: TimeDelta = TimeDelta::days(1);

fn check_not_before(
    not_before: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), Problem> {
    if not_before.is_some_and(|from| from < shift(now, -MAX_PAST)) {
        let detail = "the token would begin to work in the past";
        return Err(Problem::invalid("/not_before", detail).fix("leave it out to begin now"));
    }
    if not_before.is_some_and(|from| shift(now, MAX_WAIT) < from) {
        let detail = "the token would begin to work in more than ten years";
        return Err(Problem::invalid("/not_before", detail).fix("choose an earlier begin"));
    }
    match (not_before, expires_at) {
        (Some(from), Some(until)) if until <= from => Err(Problem::invalid(
            "/not_before",
            "the token would expire before it begins to be valid",
        )
        .fix("choose an earlier begin or a later expiry")),
        _ => Ok(()),
    }
}

pub(super) fn describe(credential: &Credential, account: Option<&ServiceAccount>) -> String {
    let account = account.map_or("no account", |account| account.name.as_str());
    let role = credential.role.as_deref().unwrap_or("no role");
    let expires = match credential.expires_at {
        Some(at) => format!("expires {}", audit::instant(at)),
        None => "never expires".to_owned(),
    };
    let kind = match &credential.kind {
        Kind::Api => String::new(),
        kind => format!(", kind {}", kind.as_str()),
    };
    format!(
        "for {} in {account}, {role}{kind}, {expires}",
        credential.issuer
    )
}
