//! The status of an account, from the attributes of its entry. A lock-out after wrong passwords or an expired
//! password is not a loss of access, because the person has not left.

use chrono::{DateTime, Utc};

use super::flavor::Flavor;
use super::time::{End, parse_filetime, parse_generalized, parse_shadow};
use crate::directories::account::AccountStatus;
use crate::domain::Reason;
use crate::upstream::ldap::Entry;

/// `ACCOUNTDISABLE` of userAccountControl (MS-ADTS §2.2.16).
const ACCOUNT_DISABLE: i64 = 0x2;

/// Longer values are cut in evidence.
const MAX_VALUE_LENGTH: usize = 40;

#[derive(Debug, Clone, Copy)]
pub struct StatusRules {
    pub flavor: Flavor,
    /// Whether an account has no access from the day in shadowExpire on.
    pub counts_shadow_expire: bool,
    pub now: DateTime<Utc>,
}

impl StatusRules {
    pub fn status(&self, entry: &Entry) -> AccountStatus {
        match self.flavor {
            Flavor::OpenLdap => self.openldap(entry),
            Flavor::Ds389 => self.ds389(entry),
            Flavor::ActiveDirectory => self.active_directory(entry),
        }
    }

    /// draft-behera-ldap-password-policy-11 §5.3.3 and §5.3.10.
    fn openldap(&self, entry: &Entry) -> AccountStatus {
        const LOCKED: &str = "pwdAccountLockedTime";
        let lock = entry.text(LOCKED);
        if lock.is_some_and(is_permanent) {
            return AccountStatus::disabled(name_and_value(entry, LOCKED));
        }
        if let Some(ended) = self.account_end(entry, "pwdEndTime", |text| {
            parse_generalized(text).map(End::At)
        }) {
            return ended;
        }
        if let Some(ended) = self.shadow(entry) {
            return ended;
        }
        AccountStatus::active(match lock {
            Some(_) => format!("{}, a temporary lock-out", name_and_value(entry, LOCKED)),
            None => "its entry has no pwdAccountLockedTime".to_owned(),
        })
    }

    fn ds389(&self, entry: &Entry) -> AccountStatus {
        const LOCK: &str = "nsAccountLock";
        let lock = entry.text(LOCK);
        if lock.is_some_and(|lock| lock.eq_ignore_ascii_case("true")) {
            return AccountStatus::disabled(name_and_value(entry, LOCK));
        }
        let expires = "krbPrincipalExpiration";
        if let Some(ended) =
            self.account_end(entry, expires, |text| parse_generalized(text).map(End::At))
        {
            return ended;
        }
        if let Some(ended) = self.shadow(entry) {
            return ended;
        }
        AccountStatus::active(match lock {
            Some(_) => name_and_value(entry, LOCK),
            None => "its entry has no nsAccountLock".to_owned(),
        })
    }

    fn active_directory(&self, entry: &Entry) -> AccountStatus {
        const CONTROL: &str = "userAccountControl";
        const EXPIRES: &str = "accountExpires";
        let flags = entry
            .text(CONTROL)
            .and_then(|text| text.parse::<i64>().ok());
        let Some(flags) = flags else {
            return AccountStatus::unknown("its entry shows no userAccountControl".to_owned());
        };
        let control = format!("{CONTROL}={flags}");
        if flags & ACCOUNT_DISABLE != 0 {
            return AccountStatus::disabled(control);
        }
        if let Some(ended) = self.account_end(entry, EXPIRES, parse_filetime) {
            return ended;
        }
        if entry.has(EXPIRES) {
            AccountStatus::active(control)
        } else {
            AccountStatus::unknown(format!("{control}, but its entry shows no accountExpires"))
        }
    }

    fn shadow(&self, entry: &Entry) -> Option<AccountStatus> {
        let counts = self.counts_shadow_expire;
        counts
            .then(|| self.account_end(entry, "shadowExpire", parse_shadow))
            .flatten()
    }

    /// The status of an account whose end date is in the past or invalid.
    fn account_end(
        &self,
        entry: &Entry,
        name: &str,
        parse: impl Fn(&str) -> Option<End>,
    ) -> Option<AccountStatus> {
        match parse(entry.text(name)?) {
            None => Some(AccountStatus::unknown(format!(
                "{}, which is not a time",
                name_and_value(entry, name)
            ))),
            Some(End::At(at)) if at <= self.now => Some(AccountStatus {
                reason: Some(Reason::Expired),
                since: Some(at),
                ..AccountStatus::disabled(format!(
                    "{} ({})",
                    name_and_value(entry, name),
                    at.format("%Y-%m-%dT%H:%M:%SZ")
                ))
            }),
            Some(End::At(_) | End::Never) => None,
        }
    }
}

/// Whether only an administrator can remove a lock: `000001010000Z`, the year 0.
fn is_permanent(lock: &str) -> bool {
    lock.starts_with("0000")
}

/// `userAccountControl=514`.
fn name_and_value(entry: &Entry, name: &str) -> String {
    let value = entry.text(name).unwrap_or_default();
    let value: String = value.chars().take(MAX_VALUE_LENGTH).collect();
    format!("{name}={value}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `status reason since evidence` of an entry with these attributes on 2026-11-22.
    fn status_line(
        flavor: Flavor,
        counts_shadow_expire: bool,
        attributes: &[(&str, &str)],
    ) -> String {
        let rules = StatusRules {
            flavor,
            counts_shadow_expire,
            now: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let found = rules.status(&Entry::new("uid=ada", &attributes));
        let reason = found.reason.map(|reason| format!(" {reason}"));
        let since = found.since.map(|since| format!(" since {since:?}"));
        format!(
            "{}{}{}: {}",
            found.status,
            reason.unwrap_or_default(),
            since.unwrap_or_default(),
            found.evidence
        )
    }

    #[rstest]
    #[case(&[], "active: its entry has no pwdAccountLockedTime")]
    #[case(&[("pwdAccountLockedTime", "000001010000Z")], "disabled admin: pwdAccountLockedTime=000001010000Z")]
    #[case(&[("pwdAccountLockedTime", "00000101000000Z")], "disabled admin: pwdAccountLockedTime=00000101000000Z")]
    #[case(&[("pwdAccountLockedTime", "20261121213224Z")], "active: pwdAccountLockedTime=20261121213224Z, a temporary lock-out")]
    #[case(&[("pwdEndTime", "20261121213224Z")], "disabled expired since 2026-11-21T21:32:24Z: pwdEndTime=20261121213224Z (2026-11-21T21:32:24Z)")]
    #[case(&[("pwdEndTime", "20261123213224Z")], "active: its entry has no pwdAccountLockedTime")]
    #[case(&[("pwdEndTime", "soon")], "unknown field_missing: pwdEndTime=soon, which is not a time")]
    #[case(&[("pwdAccountLockedTime", "000001010000Z"), ("pwdEndTime", "20261121213224Z")], "disabled admin: pwdAccountLockedTime=000001010000Z")]
    #[case(&[("shadowExpire", "20000")], "active: its entry has no pwdAccountLockedTime")]
    #[case(&[("nsAccountLock", "true")], "active: its entry has no pwdAccountLockedTime")]
    fn in_openldap(#[case] attributes: &[(&str, &str)], #[case] is: &str) {
        assert_eq!(status_line(Flavor::OpenLdap, false, attributes), is);
    }

    #[rstest]
    #[case(
        "20000",
        "disabled expired since 2024-10-04T00:00:00Z: shadowExpire=20000 (2024-10-04T00:00:00Z)"
    )]
    // The day itself: 2026-11-22.
    #[case(
        "20779",
        "disabled expired since 2026-11-22T00:00:00Z: shadowExpire=20779 (2026-11-22T00:00:00Z)"
    )]
    #[case("20780", "active: its entry has no pwdAccountLockedTime")]
    #[case("-1", "active: its entry has no pwdAccountLockedTime")]
    #[case("0", "active: its entry has no pwdAccountLockedTime")]
    fn shadow_expire_counts_only_if_configured(#[case] days: &str, #[case] is: &str) {
        assert_eq!(
            status_line(Flavor::OpenLdap, true, &[("shadowExpire", days)]),
            is
        );
    }

    #[rstest]
    #[case(&[], "active: its entry has no nsAccountLock")]
    #[case(&[("nsAccountLock", "true")], "disabled admin: nsAccountLock=true")]
    #[case(&[("nsaccountlock", "TRUE")], "disabled admin: nsAccountLock=TRUE")]
    #[case(&[("nsAccountLock", "false")], "active: nsAccountLock=false")]
    #[case(&[("krbPrincipalExpiration", "20261120000000Z")], "disabled expired since 2026-11-20T00:00:00Z: krbPrincipalExpiration=20261120000000Z (2026-11-20T00:00:00Z)")]
    #[case(&[("krbPrincipalExpiration", "20381120000000Z")], "active: its entry has no nsAccountLock")]
    #[case(&[("accountUnlockTime", "20381120000000Z")], "active: its entry has no nsAccountLock")]
    fn in_389ds(#[case] attributes: &[(&str, &str)], #[case] is: &str) {
        assert_eq!(status_line(Flavor::Ds389, false, attributes), is);
    }

    #[rstest]
    #[case("512", "9223372036854775807", "active: userAccountControl=512")]
    #[case("66048", "0", "active: userAccountControl=66048")]
    #[case("514", "0", "disabled admin: userAccountControl=514")]
    #[case(
        "66050",
        "134396840090000000",
        "disabled admin: userAccountControl=66050"
    )]
    #[case(
        "512",
        "134396840090000000",
        "disabled expired since 2026-11-20T21:33:29Z: accountExpires=134396840090000000 (2026-11-20T21:33:29Z)"
    )]
    #[case("512", "137520108000000000", "active: userAccountControl=512")]
    #[case(
        "512",
        "x",
        "unknown field_missing: accountExpires=x, which is not a time"
    )]
    #[case(
        "",
        "0",
        "unknown field_missing: its entry shows no userAccountControl"
    )]
    // LOCKOUT and PASSWORD_EXPIRED.
    #[case("8389136", "0", "active: userAccountControl=8389136")]
    fn in_active_directory(#[case] control: &str, #[case] expires: &str, #[case] is: &str) {
        let attributes = [
            ("userAccountControl", control),
            ("accountExpires", expires),
            ("lockoutTime", "134396840090000000"),
        ];
        assert_eq!(status_line(Flavor::ActiveDirectory, false, &attributes), is);
    }

    #[test]
    fn attributes_hidden_in_active_directory_are_unknown() {
        let line_of =
            |attributes: &[(&str, &str)]| status_line(Flavor::ActiveDirectory, false, attributes);
        assert_eq!(
            line_of(&[]),
            "unknown field_missing: its entry shows no userAccountControl"
        );
        assert_eq!(
            line_of(&[("userAccountControl", "512")]),
            "unknown field_missing: userAccountControl=512, but its entry shows no accountExpires"
        );
        // Disabled is certain without the other attribute.
        assert_eq!(
            line_of(&[("userAccountControl", "514")]),
            "disabled admin: userAccountControl=514"
        );
    }

    #[test]
    fn evidence_is_short() {
        let long = "1".repeat(1000);
        let line = status_line(Flavor::OpenLdap, false, &[("pwdEndTime", &long)]);
        assert!(line.len() < 120, "{line}");
    }
}
