//! The only place that reads the current time. All layers below `engine` take `now` as an argument, so a
//! decision never mixes two clocks, and a test can use any time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};

/// The current time, cut to microseconds so that both databases store it unchanged.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(Arc<Mutex<DateTime<Utc>>>),
}

impl Clock {
    pub fn system() -> Self {
        Self(Kind::System)
    }

    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Kind::System => Utc::now().trunc_subsecs(6),
            Kind::Manual(at) => *at.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The time since the machine started. It is never set back, and it goes on while the machine sleeps or this
    /// process is stopped.
    pub fn uptime(&self) -> Duration {
        match &self.0 {
            Kind::System => clock_gettime(ClockId::Boottime)
                .try_into()
                .unwrap_or_default(),
            Kind::Manual(_) => (self.now() - DateTime::UNIX_EPOCH)
                .to_std()
                .unwrap_or_default(),
        }
    }
}

#[cfg_attr(
    not(feature = "test-support"),
    expect(dead_code, reason = "only tests move a clock")
)]
impl Clock {
    /// A clock that only [`Clock::advance`] moves.
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Kind::Manual(Arc::new(Mutex::new(start.trunc_subsecs(6)))))
    }

    /// Moves a manual clock; does nothing to the system clock.
    pub fn advance(&self, by: TimeDelta) {
        if let Kind::Manual(at) = &self.0 {
            *at.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }
}
