//! What the parts of a mail have in common.

use chrono::{DateTime, Utc};

use super::installation::Installation;
use crate::domain::When;
use crate::language::Language;
use crate::notify::letter::Letter;

/// A letter and the language in which it is written.
#[derive(Clone, Copy)]
pub(super) struct Mail<'a> {
    pub letter: &'a Letter,
    pub language: &'a Language,
    pub installation: &'a Installation,
}

impl Mail<'_> {
    pub fn now(&self) -> DateTime<Utc> {
        self.letter.now
    }

    /// `Sat 28 Nov 2026`, in the recipient's zone; a plain date as the source wrote it.
    pub fn day(&self, when: impl Into<When>) -> String {
        self.language.day(when, self.letter.zone)
    }

    /// `Sat 28 Nov 2026 at 10:00 CET (09:00 UTC)`; without the time for a plain date.
    pub fn date_time(&self, when: impl Into<When>) -> String {
        self.language.date_time(when, self.letter.zone)
    }
}
