//! What an entry says of its account. A lock-out after bad passwords, or a password that has expired, is
//! no loss of access: the person still works there.

use chrono::{DateTime, Utc};

use super::flavor::Flavor;
use super::time::{End, of_filetime, of_generalized, of_shadow};
use crate::domain::{IdentityStatus, Reason};
use crate::ldap::Entry;

/// `ACCOUNTDISABLE` of userAccountControl (MS-ADTS §2.2.16).
const ACCOUNT_DISABLE: i64 = 0x2;

/// The longest value that is shown as evidence.
const LONGEST: usize = 40;

/// A status with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The status.
    pub status: IdentityStatus,
    /// Why it is disabled, or unknown.
    pub reason: Option<Reason>,
    /// Since when it holds.
    pub since: Option<DateTime<Utc>>,
    /// The attribute with its value.
    pub evidence: String,
}

/// How entries are read.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// By which product's attributes.
    pub flavor: Flavor,
    /// Whether the day in shadowExpire is one from which people have no access.
    pub counts_shadow_expire: bool,
    /// The time.
    pub now: DateTime<Utc>,
}

impl Rules {
    /// What this entry says.
    pub fn status(&self, entry: &Entry) -> Said {
        match self.flavor {
            Flavor::OpenLdap => self.openldap(entry),
            Flavor::Ds389 => self.ds389(entry),
            Flavor::ActiveDirectory => self.active_directory(entry),
        }
    }

    /// draft-behera-ldap-password-policy-11 §5.3.3 and §5.3.10.
    fn openldap(&self, entry: &Entry) -> Said {
        const LOCKED: &str = "pwdAccountLockedTime";
        let lock = entry.text(LOCKED);
        if lock.is_some_and(is_permanent) {
            return disabled(shown(entry, LOCKED));
        }
        if let Some(said) = self.ended(entry, "pwdEndTime", |text| {
            of_generalized(text).map(End::At)
        }) {
            return said;
        }
        if let Some(said) = self.shadow(entry) {
            return said;
        }
        active(match lock {
            Some(_) => format!("{}, a lock-out for a time", shown(entry, LOCKED)),
            None => "its entry has no pwdAccountLockedTime".to_owned(),
        })
    }

    fn ds389(&self, entry: &Entry) -> Said {
        const LOCK: &str = "nsAccountLock";
        let lock = entry.text(LOCK);
        if lock.is_some_and(|lock| lock.eq_ignore_ascii_case("true")) {
            return disabled(shown(entry, LOCK));
        }
        let expires = "krbPrincipalExpiration";
        if let Some(said) = self.ended(entry, expires, |text| of_generalized(text).map(End::At)) {
            return said;
        }
        if let Some(said) = self.shadow(entry) {
            return said;
        }
        active(match lock {
            Some(_) => shown(entry, LOCK),
            None => "its entry has no nsAccountLock".to_owned(),
        })
    }

    fn active_directory(&self, entry: &Entry) -> Said {
        const CONTROL: &str = "userAccountControl";
        const EXPIRES: &str = "accountExpires";
        let flags = entry
            .text(CONTROL)
            .and_then(|text| text.parse::<i64>().ok());
        let Some(flags) = flags else {
            return missing("its entry shows no userAccountControl".to_owned());
        };
        let control = format!("{CONTROL}={flags}");
        if flags & ACCOUNT_DISABLE != 0 {
            return disabled(control);
        }
        if let Some(said) = self.ended(entry, EXPIRES, of_filetime) {
            return said;
        }
        if entry.has(EXPIRES) {
            active(control)
        } else {
            missing(format!("{control}, but its entry shows no accountExpires"))
        }
    }

    fn shadow(&self, entry: &Entry) -> Option<Said> {
        let counts = self.counts_shadow_expire;
        counts
            .then(|| self.ended(entry, "shadowExpire", of_shadow))
            .flatten()
    }

    /// That an account has come to its end, or that its end makes no sense.
    fn ended(
        &self,
        entry: &Entry,
        name: &str,
        parse: impl Fn(&str) -> Option<End>,
    ) -> Option<Said> {
        match parse(entry.text(name)?) {
            None => Some(missing(format!("{}, which is no time", shown(entry, name)))),
            Some(End::At(at)) if at <= self.now => Some(Said {
                status: IdentityStatus::Disabled,
                reason: Some(Reason::Expired),
                since: Some(at),
                evidence: format!(
                    "{} ({})",
                    shown(entry, name),
                    at.format("%Y-%m-%dT%H:%M:%SZ")
                ),
            }),
            Some(End::At(_) | End::Never) => None,
        }
    }
}

/// Whether only an administrator ends this lock: `000001010000Z`, the year 0.
fn is_permanent(lock: &str) -> bool {
    lock.starts_with("0000")
}

/// `userAccountControl=514`.
fn shown(entry: &Entry, name: &str) -> String {
    let value = entry.text(name).unwrap_or_default();
    let value: String = value.chars().take(LONGEST).collect();
    format!("{name}={value}")
}

fn active(evidence: String) -> Said {
    Said {
        status: IdentityStatus::Active,
        reason: None,
        since: None,
        evidence,
    }
}

fn disabled(evidence: String) -> Said {
    Said {
        status: IdentityStatus::Disabled,
        reason: Some(Reason::Admin),
        since: None,
        evidence,
    }
}

fn missing(evidence: String) -> Said {
    Said {
        status: IdentityStatus::Unknown,
        reason: Some(Reason::FieldMissing),
        since: None,
        evidence,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `status reason since evidence` of an entry with these attributes on 2026-11-22.
    fn said(flavor: Flavor, counts_shadow_expire: bool, attributes: &[(&str, &str)]) -> String {
        let rules = Rules {
            flavor,
            counts_shadow_expire,
            now: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let said = rules.status(&Entry::new("uid=ada", &attributes));
        let reason = said.reason.map(|reason| format!(" {reason}"));
        let since = said.since.map(|since| format!(" since {since:?}"));
        format!(
            "{}{}{}: {}",
            said.status,
            reason.unwrap_or_default(),
            since.unwrap_or_default(),
            said.evidence
        )
    }

    #[rstest]
    #[case(&[], "active: its entry has no pwdAccountLockedTime")]
    #[case(&[("pwdAccountLockedTime", "000001010000Z")], "disabled admin: pwdAccountLockedTime=000001010000Z")]
    #[case(&[("pwdAccountLockedTime", "00000101000000Z")], "disabled admin: pwdAccountLockedTime=00000101000000Z")]
    #[case(&[("pwdAccountLockedTime", "20261121213224Z")], "active: pwdAccountLockedTime=20261121213224Z, a lock-out for a time")]
    #[case(&[("pwdEndTime", "20261121213224Z")], "disabled expired since 2026-11-21T21:32:24Z: pwdEndTime=20261121213224Z (2026-11-21T21:32:24Z)")]
    #[case(&[("pwdEndTime", "20261123213224Z")], "active: its entry has no pwdAccountLockedTime")]
    #[case(&[("pwdEndTime", "soon")], "unknown field_missing: pwdEndTime=soon, which is no time")]
    #[case(&[("pwdAccountLockedTime", "000001010000Z"), ("pwdEndTime", "20261121213224Z")], "disabled admin: pwdAccountLockedTime=000001010000Z")]
    #[case(&[("shadowExpire", "20000")], "active: its entry has no pwdAccountLockedTime")]
    #[case(&[("nsAccountLock", "true")], "active: its entry has no pwdAccountLockedTime")]
    fn in_openldap(#[case] attributes: &[(&str, &str)], #[case] is: &str) {
        assert_eq!(said(Flavor::OpenLdap, false, attributes), is);
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
    fn shadow_expire_counts_where_it_is_said_to(#[case] days: &str, #[case] is: &str) {
        assert_eq!(said(Flavor::OpenLdap, true, &[("shadowExpire", days)]), is);
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
        assert_eq!(said(Flavor::Ds389, false, attributes), is);
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
        "unknown field_missing: accountExpires=x, which is no time"
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
        assert_eq!(said(Flavor::ActiveDirectory, false, &attributes), is);
    }

    #[test]
    fn what_a_reader_of_active_directory_does_not_see_is_unknown() {
        let said = |attributes: &[(&str, &str)]| said(Flavor::ActiveDirectory, false, attributes);
        assert_eq!(
            said(&[]),
            "unknown field_missing: its entry shows no userAccountControl"
        );
        assert_eq!(
            said(&[("userAccountControl", "512")]),
            "unknown field_missing: userAccountControl=512, but its entry shows no accountExpires"
        );
        // A statement is one without the rest, too.
        assert_eq!(
            said(&[("userAccountControl", "514")]),
            "disabled admin: userAccountControl=514"
        );
    }

    #[test]
    fn evidence_is_short() {
        let long = "1".repeat(1000);
        let said = said(Flavor::OpenLdap, false, &[("pwdEndTime", &long)]);
        assert!(said.len() < 120, "{said}");
    }
}
