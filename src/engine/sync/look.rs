//! A source as a sync would find it, for those who only look.

use chrono::{DateTime, Utc};

use super::{Found, Watched, not_shrunk};
use crate::engine::{Engine, Error};
use crate::sources::Fetched;

/// What a source shows.
pub(in crate::engine) enum Look {
    /// A listing that a sync would believe.
    Found(Box<Found>),
    /// Nothing has changed since it was last listed.
    Unchanged,
    /// It wants to be left alone until then.
    Deferred(DateTime<Utc>),
}

impl Engine {
    /// Lists a source. Nothing is written.
    pub(in crate::engine) async fn look_at(
        &self,
        watched: &Watched,
        accept_shrink: bool,
    ) -> Result<Look, Error> {
        let mut tx = self.store.read().await?;
        let row = tx.source(&watched.name).await?.unwrap_or_default();
        drop(tx);
        let asked_at = self.now();
        if let Some(until) = row.standing.deferred_until.filter(|it| asked_at < *it) {
            return Ok(Look::Deferred(until));
        }
        match watched.fetch(&row, asked_at).await {
            Ok(Fetched::Unchanged) => Ok(Look::Unchanged),
            Ok(Fetched::New(found)) => {
                if !accept_shrink {
                    not_shrunk(&watched.name, &found.listing, row.tokens)?;
                }
                Ok(Look::Found(Box::new(found)))
            }
            Err(error) => match error.wait() {
                Some(wait) => Ok(Look::Deferred(self.now() + wait)),
                None => Err(error),
            },
        }
    }
}
