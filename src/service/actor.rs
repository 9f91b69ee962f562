//! Who asks, as they are in the transaction that is about to write: between the check of a caller's token and that
//! transaction, the token may have ended, or its person may have lost a role.

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
        match actor {
            Actor::Operator(_) => Ok(actor.clone()),
            Actor::Caller(access) => {
                let access = self.read_access_again(tx, access).await?;
                Ok(Actor::Caller(access.into()))
            }
        }
    }

    pub(super) async fn read_access_again(
        &self,
        tx: &mut Tx,
        access: &Access,
    ) -> Result<Access, Error> {
        let id = access.credential.id;
        let snapshot = Snapshot::load(tx, self.cache.epoch(), &[id]).await?;
        let (chain, person) = snapshot.find(id).ok_or_else(ended)?;
        let Holding { chain, person } = Holding::new(chain, person);
        let now = self.clock.now();
        let access = judge_again(access, &chain, &person, &self.terms.roles, now);
        Ok(access.map_err(|_| ended())?)
    }
}

fn ended() -> Problem {
    Problem::new(
        ProblemKind::Unauthorized,
        "the token that asks is no longer valid",
    )
}
