//! Issues tokens. All that are asked for at the same time are issued in one transaction: then one wait for the disk makes
//! all of them durable, and no statement is run for each of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::domain::service::{
    Actor, Credential, NewSecret, NewToken, Problem, ProblemKind, ServiceAccount, ServicePerson,
};
use crate::domain::{Cell, LOCAL_SOURCE, Token};
use crate::engine::{self, new_id};
use crate::store::{Retries, Tx};

use super::found::stopped;
use super::issue::{Issued, Once, Outcome, check_description, check_name, describe, not_in};
use super::limits::Places;
use super::queue::{Waiting, Wanted};
use super::record::Record;
use super::{Error, Service, audit};

/// Tokens that one transaction issues.
const MAX_BATCH: usize = 64;

/// A token that may be issued, unless there is no place for it.
struct Draft<'a> {
    new: &'a NewToken,
    actor: Actor,
    person: &'a ServicePerson,
    account: Option<&'a ServiceAccount>,
}

struct Made<'a> {
    draft: Draft<'a>,
    credential: Credential,
    secret: NewSecret,
}

impl Service {
    /// Issues a token.
    ///
    /// # Errors
    /// If the actor may not, the policy forbids it, or a limit is reached.
    pub async fn issue(&self, actor: &Actor, new: &NewToken) -> Result<Issued, Error> {
        self.check_request(actor, new)?;
        match self.issuing.ask(actor, new).await {
            Some(answer) => answer,
            None => self
                .issue_alone(actor, new, None)
                .await
                .and_then(Outcome::issued),
        }
    }

    /// As [`Service::issue`]; a request that was answered before gets the same answer.
    ///
    /// # Errors
    /// As for [`Service::issue`], and if the key of the request was used for another one.
    pub async fn issue_once(
        &self,
        actor: &Actor,
        new: &NewToken,
        once: Option<&Once<'_>>,
    ) -> Result<Outcome, Error> {
        if once.is_none() {
            let issued = self.issue(actor, new).await?;
            return Ok(Outcome::Made(Box::new(issued)));
        }
        self.check_request(actor, new)?;
        self.issue_alone(actor, new, once).await
    }

    fn check_request(&self, actor: &Actor, new: &NewToken) -> Result<(), Problem> {
        actor.may_issue(self.terms.issuers)?;
        check_name(&new.name)?;
        check_description(new.description.as_deref())
    }

    /// In a transaction of its own: two that are answered with the same key must wait for each other.
    async fn issue_alone(
        &self,
        actor: &Actor,
        new: &NewToken,
        once: Option<&Once<'_>>,
    ) -> Result<Outcome, Error> {
        let wanted = Wanted {
            actor: actor.clone(),
            new: new.clone(),
        };
        self.store.retrying(|| self.try_issue(&wanted, once)).await
    }

    async fn try_issue(&self, wanted: &Wanted, once: Option<&Once<'_>>) -> Result<Outcome, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        if let Some(again) = Once::claim(once, &mut tx, now).await? {
            return Ok(again);
        }
        let mut issued = self.write_new(&mut tx, &[wanted], now).await?;
        let issued = issued.pop().unwrap_or_else(|| Err(Problem::unknown()))?;
        if let Some(once) = once {
            once.settle(&mut tx, &issued).await?;
        }
        self.commit(tx, &[]).await?;
        Ok(Outcome::Made(Box::new(issued)))
    }

    /// Issues what waits until it is stopped, and answers it.
    pub(super) async fn issue_waiting(self: Arc<Self>, stopping: CancellationToken) {
        let receiver = &self.issuing.receiver;
        let receiver = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut receiver) = receiver else {
            return;
        };
        self.issuing.is_running.store(true, Ordering::Release);
        loop {
            let mut batch = Vec::with_capacity(MAX_BATCH);
            let next = receiver.recv_many(&mut batch, MAX_BATCH);
            if stopping.run_until_cancelled(next).await.is_none() {
                break;
            }
            // A request that was given up waits no longer.
            batch.retain(|waiting| !waiting.answer.is_closed());
            self.answer(batch).await;
        }
        self.issuing.is_running.store(false, Ordering::Release);
    }

    /// What cannot be written together is tried one by one: then no request fails for another.
    async fn answer(self: &Arc<Self>, batch: Vec<Waiting>) {
        match self.issue_together(&batch).await {
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    let _ = waiting.answer.send(answer);
                }
            }
            Err(error) => {
                tracing::debug!("tokens are issued one by one: {error}");
                for Waiting { wanted, answer } in batch {
                    let service = Arc::clone(self);
                    drop(tokio::spawn(async move {
                        let Wanted { actor, new } = wanted;
                        let issued = service.issue_alone(&actor, &new, None).await;
                        let _ = answer.send(issued.and_then(Outcome::issued));
                    }));
                }
            }
        }
    }

    /// # Errors
    /// If nothing was written.
    async fn issue_together(&self, batch: &[Waiting]) -> Result<Vec<Result<Issued, Error>>, Error> {
        let wanted: Vec<_> = batch.iter().map(|waiting| &waiting.wanted).collect();
        let mut tx = self.store.begin_short().await?;
        let written = self.write_new(&mut tx, &wanted, self.clock.now()).await?;
        let Err(error) = self.commit(tx, &[]).await else {
            let written = written.into_iter();
            return Ok(written.map(|issued| Ok(issued?)).collect());
        };
        if Retries::default().wait_for_another(&error).await {
            return Err(error);
        }
        // The database may have committed.
        let Error::Store(error) = error else {
            return Err(error);
        };
        let failed = |_| Err(Error::Store(Arc::clone(&error)));
        Ok(written.into_iter().map(failed).collect())
    }

    /// Writes what may be issued; what is refused leaves nothing behind.
    async fn write_new(
        &self,
        tx: &mut Tx,
        wanted: &[&Wanted],
        now: DateTime<Utc>,
    ) -> Result<Vec<Result<Issued, Problem>>, Error> {
        let actors: Vec<_> = wanted.iter().map(|wanted| &wanted.actor).collect();
        let actors = self.read_all_again(tx, &actors).await?;
        let actors = actors.into_iter().map(|actor| {
            let actor = actor?;
            actor.may_issue(self.terms.issuers)?;
            Ok(actor)
        });
        let actors: Vec<Result<Actor, Problem>> = actors.collect();
        let asked = wanted.iter().map(|wanted| &wanted.new).zip(&actors);
        let keys = asked.map(|(new, actor)| Self::issuer_key(actor.as_ref().ok()?, new).ok());
        let people = self.hold_issuers(tx, keys.flatten().collect()).await?;
        let asked = wanted.iter().map(|wanted| &wanted.new).zip(&actors);
        let keys = asked.map(|(new, actor)| {
            let actor = actor.as_ref().ok()?;
            let person = people.get(&Self::issuer_key(actor, new).ok()?)?;
            Self::choose_account(actor, new, person).ok()?
        });
        let accounts = self.hold_accounts(tx, keys.flatten().collect()).await?;
        let mut places = self.count_places(tx, &accounts, &people, now).await?;
        let asked = wanted.iter().map(|wanted| &wanted.new).zip(actors);
        let made = asked.map(|(new, actor)| {
            let draft = Self::draft(new, actor?, &people, &accounts)?;
            self.make(draft, &mut places, now)
        });
        let made: Vec<Result<Made<'_>, Problem>> = made.collect();
        let mut tokens = self.write_made(tx, &made, now).await?;
        let issued = made.into_iter().map(|made| {
            let Made {
                credential, secret, ..
            } = made?;
            Ok(Issued {
                token: tokens
                    .remove(credential.public_id.as_str())
                    .unwrap_or_default(),
                credential,
                secret,
                ended_secret: None,
            })
        });
        Ok(issued.collect())
    }

    /// Where the tokens of people are counted they are locked at once: two transactions that both hold a row could not
    /// lock it.
    async fn hold_issuers(
        &self,
        tx: &mut Tx,
        keys: BTreeSet<String>,
    ) -> Result<HashMap<String, ServicePerson>, Error> {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let people = if self.terms.per_user > 0 {
            tx.lock_service_users(&keys).await?
        } else {
            tx.hold_service_users(&keys).await?
        };
        let people = people.into_iter();
        Ok(people.map(|person| (person.key.clone(), person)).collect())
    }

    fn make<'a>(
        &self,
        draft: Draft<'a>,
        places: &mut Places,
        now: DateTime<Utc>,
    ) -> Result<Made<'a>, Problem> {
        let Draft {
            new,
            ref actor,
            person,
            account,
        } = draft;
        self.check_issuer(person, account)?;
        let (credential, secret) = self.make_credential(actor, new, person, account, now)?;
        let limit = account.map_or(0, |account| self.limit_of(account));
        places.take(
            account.map(|account| (account, limit)),
            person,
            self.terms.per_user,
        )?;
        Ok(Made {
            draft,
            credential,
            secret,
        })
    }

    /// Returns the watched tokens by external id.
    async fn write_made(
        &self,
        tx: &mut Tx,
        made: &[Result<Made<'_>, Problem>],
        now: DateTime<Utc>,
    ) -> Result<HashMap<String, Token>, Error> {
        let made: Vec<_> = made.iter().flatten().collect();
        if made.is_empty() {
            return Ok(HashMap::new());
        }
        let credentials: Vec<_> = made.iter().map(|made| &made.credential).collect();
        tx.insert_credentials(&credentials).await?;
        let texts = made.iter().map(|made| {
            let subject = audit::subject(&made.credential);
            (subject, describe(&made.credential, made.draft.account))
        });
        let texts: Vec<_> = texts.collect();
        let entries = made.iter().zip(&texts).map(|(made, (subject, facts))| {
            let entry = [made.draft.actor.name(), "token.issue", subject.as_str()];
            (new_id(now), entry, Some(facts.as_str()))
        });
        tx.insert_audits(now, &entries.collect::<Vec<_>>()).await?;
        let records = made.iter().map(|made| {
            let Draft {
                new,
                person,
                account,
                ..
            } = &made.draft;
            let record = Record {
                name: Cell::Value(new.name.trim().to_owned()),
                description: new.description.clone().into(),
                is_new: true,
                ..Record::of_known(&made.credential, person, *account)
            };
            record.into_listed()
        });
        let records = records.collect();
        let written = engine::merge_records(tx, &self.policy, LOCAL_SOURCE, records, now).await?;
        let written = written.into_iter();
        Ok(written
            .map(|token| (token.external_id.clone(), token))
            .collect())
    }
}

impl Service {
    fn draft<'a>(
        new: &'a NewToken,
        actor: Actor,
        people: &'a HashMap<String, ServicePerson>,
        accounts: &'a HashMap<String, ServiceAccount>,
    ) -> Result<Draft<'a>, Problem> {
        let key = Self::issuer_key(&actor, new)?;
        let person = people.get(&key).ok_or_else(|| {
            Problem::invalid("/user", format!("there is no user {key}"))
                .fix(format!("add them with: lapsed user add {key}"))
        })?;
        if let Some((why, fix)) = stopped(person) {
            let detail = format!("{why}, so their tokens do not work");
            return Err(Problem::new(ProblemKind::Conflict, detail).fix(fix));
        }
        let account = match Self::choose_account(&actor, new, person)? {
            Some(key) => Some(accounts.get(&key).ok_or_else(|| not_in(person, &key))?),
            None => None,
        };
        Ok(Draft {
            new,
            actor,
            person,
            account,
        })
    }
}
