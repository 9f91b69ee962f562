//! Who asks, as they are in the transaction that is about to write: between the check of a caller's token and that
//! transaction, the token may have ended, or its person may have lost a role.

use std::collections::BTreeSet;

use crate::domain::service::{Access, Actor, Operation, Problem, ProblemKind, judge_again};
use crate::store::Tx;

use super::cache::Holding;
use super::reader::Snapshot;
use super::{Error, Service};

impl Service {
    /// Opens a transaction for somebody who may do this.
    pub(super) async fn begin_for(
        &self,
        actor: &Actor,
        operation: Operation,
    ) -> Result<(Tx, Actor), Error> {
        actor.may(operation)?;
        let mut tx = self.store.begin_short().await?;
        let actor = self.read_again(&mut tx, actor).await?;
        actor.may(operation)?;
        Ok((tx, actor))
    }

    /// The actor with what the store says of them now.
    ///
    /// # Errors
    /// If the token of a caller is no longer valid.
    pub(super) async fn read_again(&self, tx: &mut Tx, actor: &Actor) -> Result<Actor, Error> {
        let read = self.read_all_again(tx, &[actor]).await?.pop();
        Ok(read.unwrap_or_else(|| Err(ended()))?)
    }

    /// As [`Service::read_again`], for each of these.
    pub(super) async fn read_all_again(
        &self,
        tx: &mut Tx,
        actors: &[&Actor],
    ) -> Result<Vec<Result<Actor, Problem>>, Error> {
        let ids = actors.iter().filter_map(|actor| match actor {
            Actor::Caller(access) => Some(access.credential.id),
            Actor::Operator(_) => None,
        });
        let ids: BTreeSet<_> = ids.collect();
        if ids.is_empty() {
            return Ok(actors.iter().map(|actor| Ok((*actor).clone())).collect());
        }
        let ids: Vec<_> = ids.into_iter().collect();
        let snapshot = Snapshot::load(tx, self.cache.epoch(), &ids).await?;
        let read_again = |actor: &&Actor| match actor {
            Actor::Operator(_) => Ok((*actor).clone()),
            Actor::Caller(access) => {
                let access = self.judge_again(access, &snapshot)?;
                Ok(Actor::Caller(access.into()))
            }
        };
        Ok(actors.iter().map(read_again).collect())
    }

    pub(super) async fn read_access_again(
        &self,
        tx: &mut Tx,
        access: &Access,
    ) -> Result<Access, Error> {
        let id = access.credential.id;
        let snapshot = Snapshot::load(tx, self.cache.epoch(), &[id]).await?;
        Ok(self.judge_again(access, &snapshot)?)
    }

    fn judge_again(&self, access: &Access, snapshot: &Snapshot) -> Result<Access, Problem> {
        let (chain, person) = snapshot.find(access.credential.id).ok_or_else(ended)?;
        let Holding { chain, person } = Holding::new(chain, person);
        let now = self.clock.now();
        judge_again(access, &chain, &person, &self.terms.roles, now).map_err(|_| ended())
    }
}

fn ended() -> Problem {
    Problem::new(
        ProblemKind::Unauthorized,
        "the token that asks is no longer valid",
    )
}
