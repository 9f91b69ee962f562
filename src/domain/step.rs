//! A warning time before an expiry.

use std::fmt;
use std::str::FromStr;

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, de};

/// Ten years: a wider step is most likely a typing error.
const MAX_WIDTH: TimeDelta = TimeDelta::days(3650);

/// How long before the expiry a warning is due, in whole seconds; `0d` is at the expiry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(TimeDelta);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time before expiry; write it as 7d, 36h or 90m, at most 3650d")]
pub struct InvalidStep(String);

impl Step {
    /// Of one list: everybody's steps are compared with every token.
    pub const MAX_COUNT: usize = 10;

    pub const ZERO: Self = Self(TimeDelta::zero());

    pub fn from_seconds(seconds: i64) -> Self {
        Self(TimeDelta::seconds(
            seconds.clamp(0, MAX_WIDTH.num_seconds()),
        ))
    }

    pub fn seconds(self) -> i64 {
        self.0.num_seconds()
    }

    pub fn width(self) -> TimeDelta {
        self.0
    }
}

impl FromStr for Step {
    type Err = InvalidStep;

    fn from_str(text: &str) -> Result<Self, InvalidStep> {
        let invalid = || InvalidStep(text.chars().take(40).collect());
        let width = humantime::parse_duration(text.trim()).map_err(|_| invalid())?;
        let width = TimeDelta::from_std(width).map_err(|_| invalid())?;
        if width > MAX_WIDTH || width.subsec_nanos() != 0 {
            return Err(invalid());
        }
        Ok(Self(width))
    }
}

/// The shortest exact form: `7d`, `36h`, `90m`, `45s`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
        match units.into_iter().find(|(size, _)| seconds % size == 0) {
            Some((size, unit)) => write!(f, "{}{unit}", seconds / size),
            None => write!(f, "{seconds}s"),
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_displayed_in_its_largest_whole_unit() {
        for (text, shown) in [
            ("7d", "7d"),
            ("24h", "1d"),
            ("36h", "36h"),
            ("90m", "90m"),
            ("0d", "0d"),
            ("1w", "7d"),
        ] {
            assert_eq!(text.parse::<Step>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_step_without_a_unit_or_beyond_ten_years_is_rejected() {
        for bad in ["7", "", "-1d", "d", "4000d", "10ms"] {
            assert!(bad.parse::<Step>().is_err(), "{bad}");
        }
    }
}
