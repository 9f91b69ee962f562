//! A warning time before expiry.

use std::{fmt, str::FromStr, time::Duration};

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, de};

/// How long before the expiry a warning is due; whole seconds, `0d` is at the expiry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(TimeDelta);

/// Why a text is not a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time before expiry; write it as 7d, 36h or 90m, at most 3650d")]
pub struct InvalidStep(String);

/// Ten years: a step wider than any token's sensible life is a slip of the pen.
const WIDEST: Duration = Duration::from_hours(3650 * 24);

impl Step {
    /// At the expiry itself.
    pub const ZERO: Self = Self(TimeDelta::zero());

    /// A step of so many seconds, as the store keeps it.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(TimeDelta::seconds(
            seconds.clamp(0, WIDEST.as_secs().cast_signed()),
        ))
    }

    /// Its width in seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.num_seconds()
    }

    /// Its width.
    #[must_use]
    pub fn width(self) -> TimeDelta {
        self.0
    }
}

impl FromStr for Step {
    type Err = InvalidStep;

    fn from_str(text: &str) -> Result<Self, InvalidStep> {
        let invalid = || InvalidStep(text.chars().take(40).collect());
        let width = humantime::parse_duration(text.trim()).map_err(|_| invalid())?;
        if width > WIDEST || width.subsec_nanos() != 0 {
            return Err(invalid());
        }
        Ok(Self::from_seconds(width.as_secs().cast_signed()))
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
    fn a_step_is_shown_in_its_largest_whole_unit() {
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
    fn a_step_without_a_unit_or_beyond_ten_years_is_refused() {
        for bad in ["7", "", "-1d", "d", "4000d", "10ms"] {
            assert!(bad.parse::<Step>().is_err(), "{bad}");
        }
    }
}
