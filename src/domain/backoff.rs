//! The delay before the next attempt.

use chrono::TimeDelta;
use uuid::Uuid;

/// Exponential back-off between these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub min: TimeDelta,
    pub max: TimeDelta,
}

impl Backoff {
    /// The delay after the `attempt`-th failure (from 1): `min`, doubled up to `max`, less up to a fifth
    /// of it, so that attempts that failed together are not repeated together.
    ///
    /// The jitter is derived from the id and the attempt, so the result is reproducible.
    #[must_use]
    pub fn delay_after(self, attempt: u32, id: Uuid) -> TimeDelta {
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
    fn the_delay_doubles_up_to_its_maximum() {
        let backoff = Backoff {
            min: TimeDelta::minutes(1),
            max: TimeDelta::hours(6),
        };
        let id = Uuid::from_u128(0x0193_5f2e_8a4b_7c11_9d3e_5a6b_7c8d_9e0f);
        let mut last = TimeDelta::zero();
        for attempt in 1..=9 {
            let delay = backoff.delay_after(attempt, id);
            let full = TimeDelta::minutes(1 << (attempt - 1));
            assert!(delay <= full && delay >= full * 4 / 5, "{attempt}: {delay}");
            assert!(delay > last);
            last = delay;
        }
        let long = backoff.delay_after(u32::MAX, id);
        assert!(long <= TimeDelta::hours(6) && long > TimeDelta::minutes(280));
    }
}
