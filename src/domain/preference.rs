//! How a person wants to be notified.

use chrono::NaiveTime;
use chrono_tz::Tz;

use super::string_enum::string_enum;
use super::{Address, Step};

string_enum! {
    /// Where a notice is delivered.
    Channel {
        Mail = "mail",
        /// In the person's account at the token service.
        Account = "account",
    }
}

/// Each `None` is as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    pub address: Address,
    /// Widest first; empty for no warnings.
    pub steps: Option<Vec<Step>>,
    /// `Account`: no mails.
    pub channel: Option<Channel>,
    pub language: Option<String>,
    pub timezone: Option<Tz>,
    /// When their mails of the day are sent.
    pub digest_at: Option<NaiveTime>,
    /// Changes with each change; 0 if the person has not set anything.
    pub version: i64,
}

impl Preference {
    pub fn none(address: Address) -> Self {
        Self {
            address,
            steps: None,
            channel: None,
            language: None,
            timezone: None,
            digest_at: None,
            version: 0,
        }
    }
}
