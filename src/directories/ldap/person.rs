//! Builds people from entries. A lock-out after wrong passwords or an expired password is not a loss of access,
//! because the person has not left.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::flavor::Flavor;
use crate::directories::account::{AccountBuilder, AccountStatus};
use crate::domain::{Person, Reason};
use crate::upstream::ldap::Entry;

/// The account of an entry. Group membership is not set.
pub fn build_person(entry: &Entry, id: String, rules: &StatusRules) -> Person {
    let mut account = AccountBuilder::default().mailboxes(entry.texts("mail"));
    if rules.flavor == Flavor::ActiveDirectory {
        account = account
            .proxy_addresses(entry.texts("proxyAddresses"))
            .sign_in_name(entry.text("userPrincipalName"));
    }
    account
        .name(entry.text("displayName"))
        .name(entry.text("cn"))
        .build(id, rules.status(entry))
}

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
        let names = match self.flavor {
            Flavor::OpenLdap => ["pwdAccountLockedTime", "pwdEndTime"],
            Flavor::Ds389 => ["nsAccountLock", "krbPrincipalExpiration"],
            Flavor::ActiveDirectory => ["userAccountControl", "accountExpires"],
        };
        let shadow = self.counts_shadow_expire.then_some("shadowExpire");
        let is_unreadable = |name: &&str| entry.has(name) && entry.text(name).is_none();
        if let Some(name) = names.into_iter().chain(shadow).find(is_unreadable) {
            return AccountStatus::unknown(format!("{name} is not a text"));
        }
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
        self.posix_account_end(entry, "pwdEndTime")
            .unwrap_or_else(|| {
                AccountStatus::active(match lock {
                    Some(_) => format!("{}, a temporary lock-out", name_and_value(entry, LOCKED)),
                    None => format!("its entry has no {LOCKED}"),
                })
            })
    }

    fn ds389(&self, entry: &Entry) -> AccountStatus {
        const LOCK: &str = "nsAccountLock";
        let lock = entry.text(LOCK);
        if lock.is_some_and(|lock| lock.eq_ignore_ascii_case("true")) {
            return AccountStatus::disabled(name_and_value(entry, LOCK));
        }
        self.posix_account_end(entry, "krbPrincipalExpiration")
            .unwrap_or_else(|| {
                AccountStatus::active(match lock {
                    Some(_) => name_and_value(entry, LOCK),
                    None => format!("its entry has no {LOCK}"),
                })
            })
    }

    fn active_directory(&self, entry: &Entry) -> AccountStatus {
        const CONTROL: &str = "userAccountControl";
        const EXPIRES: &str = "accountExpires";
        let flags = entry
            .text(CONTROL)
            .and_then(|text| text.parse::<i64>().ok());
        let Some(flags) = flags else {
            return AccountStatus::unknown("its entry shows no userAccountControl");
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

    /// The status if the date in `name`, or in `shadowExpire` if that counts, is in the past or invalid.
    fn posix_account_end(&self, entry: &Entry, name: &str) -> Option<AccountStatus> {
        let parse = |text: &str| parse_generalized(text).map(End::At);
        let shadow = self.counts_shadow_expire.then_some("shadowExpire");
        self.account_end(entry, name, parse)
            .or_else(|| self.account_end(entry, shadow?, parse_shadow))
    }

    /// The status of an account whose end date is in the past or invalid.
    fn account_end(
        &self,
        entry: &Entry,
        name: &str,
        parse: impl Fn(&str) -> Option<End>,
    ) -> Option<AccountStatus> {
        match parse(entry.text(name)?) {
            None => {
                let value = name_and_value(entry, name);
                Some(AccountStatus::unknown(format!(
                    "{value}, which is not a time"
                )))
            }
            Some(End::At(at)) if at <= self.now => {
                let (value, day) = (name_and_value(entry, name), at.format("%Y-%m-%dT%H:%M:%SZ"));
                Some(AccountStatus {
                    reason: Some(Reason::Expired),
                    since: Some(at),
                    ..AccountStatus::disabled(format!("{value} ({day})"))
                })
            }
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

/// `accountExpires` of an account that does not expire (MS-ADA1 §2.1), besides 0.
const NEVER: i64 = i64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    At(DateTime<Utc>),
}

/// `accountExpires`: steps of 100 ns since 1601, and two values for never.
fn parse_filetime(text: &str) -> Option<End> {
    /// Seconds from 1601 to 1970.
    const EPOCH_SECONDS: i64 = 11_644_473_600;
    const STEPS: i64 = 10_000_000;
    let steps: i64 = text.parse().ok().filter(|steps| *steps >= 0)?;
    if matches!(steps, 0 | NEVER) {
        return Some(End::Never);
    }
    let seconds = steps / STEPS - EPOCH_SECONDS;
    // A time beyond the calendar is never.
    let at = DateTime::from_timestamp(seconds, 0);
    Some(at.map_or(End::Never, End::At))
}

/// Days since 1970 (shadow(5)); 0 and less mean never.
fn parse_shadow(text: &str) -> Option<End> {
    let days: i64 = text.parse().ok()?;
    let Ok(days @ 1..) = u64::try_from(days) else {
        return Some(End::Never);
    };
    let day = NaiveDate::default().checked_add_days(Days::new(days));
    let at = day.map(|day| day.and_time(NaiveTime::MIN).and_utc());
    Some(at.map_or(End::Never, End::At))
}

/// `GeneralizedTime` (RFC 4517 §3.3.13): `20261121213224Z`, `202611212132+0100`, `20261121213224.123Z`.
fn parse_generalized(text: &str) -> Option<DateTime<Utc>> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (whole, rest) = text.split_at(digits);
    if !matches!(whole.len(), 10 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize| -> Option<u32> {
        match whole.get(from..to) {
            Some(digits) => digits.parse().ok(),
            None => Some(0),
        }
    };
    let year = whole.get(..4)?.parse().ok()?;
    let day = NaiveDate::from_ymd_opt(year, part(4, 6)?, part(6, 8)?)?;
    // chrono has no leap second (60): use the one before it.
    let at = day.and_hms_opt(part(8, 10)?, part(10, 12)?, part(12, 14)?.min(59))?;
    // Fractions do not matter here.
    let zone = rest.trim_start_matches(|c: char| matches!(c, '.' | ',') || c.is_ascii_digit());
    Some((at - offset(zone)?).and_utc())
}

/// `Z`, `+01` or `-0130`.
fn offset(zone: &str) -> Option<TimeDelta> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("Z", "") => return Some(TimeDelta::zero()),
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let minutes: i64 = digits.get(2..4).unwrap_or("0").parse().ok()?;
    Some(TimeDelta::minutes(sign * (hours * 60 + minutes)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::{Address, IdentityStatus};

    fn person(flavor: Flavor, attributes: &[(&str, &str)]) -> Person {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let rules = StatusRules {
            flavor,
            counts_shadow_expire: false,
            now: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        build_person(&Entry::new("uid=ada", &attributes), "id".to_owned(), &rules)
    }

    #[test]
    fn valid_addresses_are_listed_once_and_the_main_one_first() {
        let ada = [
            ("mail", "Ada@example.org"),
            ("proxyAddresses", "smtp:ada.l@example.org"),
            ("proxyAddresses", "X500:/o=Example/cn=ada"),
            ("proxyAddresses", "SMTP:lovelace@example.org"),
            ("proxyAddresses", "sip:ada@sip.example.org"),
            ("proxyAddresses", "smtp:not one"),
            ("userPrincipalName", "ada@EXAMPLE.org"),
            ("userAccountControl", "512"),
            ("accountExpires", "0"),
            ("cn", "ada"),
            ("displayName", " Ada Lovelace "),
        ];
        let found = person(Flavor::ActiveDirectory, &ada);
        let addresses: Vec<&str> = found.addresses().map(Address::as_str).collect();
        assert_eq!(
            addresses,
            [
                "Ada@example.org",
                "lovelace@example.org",
                "ada.l@example.org"
            ]
        );
        assert_eq!(found.name.as_deref(), Some("Ada Lovelace"));
        assert_eq!(found.status, IdentityStatus::Active);
        assert_eq!(found.id.as_deref(), Some("id"));

        let found = person(Flavor::OpenLdap, &ada);
        assert_eq!(
            found.addresses().count(),
            1,
            "the others are attributes of Active Directory"
        );
    }

    #[test]
    fn a_person_without_an_address_is_not_listed() {
        assert_eq!(person(Flavor::OpenLdap, &[("cn", "Ada")]).main, None);
        assert_eq!(person(Flavor::OpenLdap, &[("mail", "ada")]).main, None);
        let principal = [("userPrincipalName", "ada@corp.example.org")];
        assert!(person(Flavor::ActiveDirectory, &principal).main.is_some());
        assert!(person(Flavor::Ds389, &principal).main.is_none());
    }

    #[test]
    fn a_name_comes_from_the_first_attribute_that_has_one() {
        let name = |attributes: &[(&str, &str)]| {
            let attributes = [&[("mail", "ada@example.org")], attributes].concat();
            person(Flavor::OpenLdap, &attributes).name
        };
        assert_eq!(name(&[("cn", "Ada L")]).as_deref(), Some("Ada L"));
        assert_eq!(name(&[]), None);
    }

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

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn active_directory_counts_from_1601() {
        let expired = End::At(at("2026-11-20T21:33:29Z"));
        assert_eq!(parse_filetime("134396840090000000"), Some(expired));
        assert_eq!(parse_filetime("0"), Some(End::Never));
        assert_eq!(parse_filetime("9223372036854775807"), Some(End::Never));
        assert_eq!(
            parse_filetime("9223372036854775806"),
            Some(End::At(at("+30828-09-14T02:48:05Z")))
        );
        assert_eq!(parse_filetime("-1"), None);
        assert_eq!(parse_filetime("soon"), None);
    }

    #[test]
    fn shadow_counts_days() {
        assert_eq!(
            parse_shadow("20000"),
            Some(End::At(at("2024-10-04T00:00:00Z")))
        );
        assert_eq!(parse_shadow("-1"), Some(End::Never));
        assert_eq!(parse_shadow("0"), Some(End::Never));
        assert_eq!(parse_shadow("9223372036854775807"), Some(End::Never));
        assert_eq!(parse_shadow("x"), None);
    }

    #[test]
    fn generalized_times_may_have_a_zone_and_lack_parts() {
        for (text, is) in [
            ("20261121213224Z", "2026-11-21T21:32:24Z"),
            ("20261121213224.123456Z", "2026-11-21T21:32:24Z"),
            ("202611212132Z", "2026-11-21T21:32:00Z"),
            ("2026112121Z", "2026-11-21T21:00:00Z"),
            ("20261121213224+0130", "2026-11-21T20:02:24Z"),
            ("20261121213224-02", "2026-11-21T23:32:24Z"),
            ("20261121235960Z", "2026-11-21T23:59:59Z"),
            ("20261121213224.5+0100", "2026-11-21T20:32:24Z"),
        ] {
            assert_eq!(parse_generalized(text), Some(at(is)), "{text}");
        }
        for text in [
            "",
            "Z",
            "20261121213224",
            "20261321213224Z",
            "2026112121322Z",
            "20261121213224+1",
            "20261121213224ZZ",
            "20261121213224+é1",
            "tomorrow",
        ] {
            assert_eq!(parse_generalized(text), None, "{text}");
        }
    }
}
