//! The one place that asks what time it is.
//!
//! Everything below `engine` takes `now` as an argument, so a decision never mixes two clocks and
//! any moment can be replayed in a test.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// A source of the current time, cut to microseconds so that both databases keep it unchanged.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(Arc<Mutex<DateTime<Utc>>>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Kind::Manual(Arc::new(Mutex::new(start.trunc_subsecs(6)))))
    }

    /// The current time in UTC.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Kind::System => Utc::now().trunc_subsecs(6),
            Kind::Manual(at) => *at.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock; the clock of the machine cannot be moved.
    pub fn advance(&self, by: TimeDelta) {
        if let Kind::Manual(at) = &self.0 {
            *at.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }
}
