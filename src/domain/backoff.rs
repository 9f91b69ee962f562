//! How long to wait before the next attempt.

use chrono::TimeDelta;
use uuid::Uuid;

/// Bounds of the waiting time between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: TimeDelta,
    /// At most.
    pub max: TimeDelta,
}

impl Backoff {
    /// The wait after the `attempt`-th failure (from 1): `min` doubling to `max`, less up to a fifth
    /// of it, so that what failed together does not come back together.
    ///
    /// The jitter is drawn from the id and the attempt: the same question has the same answer.
    #[must_use]
    pub fn after(self, attempt: u32, id: Uuid) -> TimeDelta {
        let doublings = attempt.saturating_sub(1).min(40);
        let full = self
            .min
            .num_milliseconds()
            .saturating_mul(1_i64 << doublings);
        let full = full.min(self.max.num_milliseconds());
        let seed = id
            .as_u128()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u128::from(attempt));
        let share = i64::try_from((seed >> 7) % 201).unwrap_or(0);
        TimeDelta::milliseconds(full - full.saturating_mul(share) / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_its_bound_and_is_never_longer() {
        let backoff = Backoff {
            min: TimeDelta::minutes(1),
            max: TimeDelta::hours(6),
        };
        let id = Uuid::from_u128(0x0193_5f2e_8a4b_7c11_9d3e_5a6b_7c8d_9e0f);
        let mut last = TimeDelta::zero();
        for attempt in 1..=9 {
            let wait = backoff.after(attempt, id);
            let full = TimeDelta::minutes(1 << (attempt - 1));
            assert!(wait <= full && wait >= full * 4 / 5, "{attempt}: {wait}");
            assert!(wait > last);
            last = wait;
        }
        let long = backoff.after(u32::MAX, id);
        assert!(long <= TimeDelta::hours(6) && long > TimeDelta::minutes(280));
    }
}
