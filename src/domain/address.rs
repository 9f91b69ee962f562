//! A mail address: parsed once at the edge, then trusted.

use std::{cmp::Ordering, fmt, hash, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A mail address, shown as it was written and compared without regard to case.
///
/// RFC 5321 §2.4 lets a host tell local parts apart by case, but no host in use does, and two
/// spellings of one person must not get two mails.
#[derive(Clone)]
pub struct Address {
    shown: String,
    key: String,
}

/// Why a text is not a mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mail address; write it as name@example.org")]
pub struct InvalidAddress(String);

impl Address {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The form in which addresses are compared and stored for look-up.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A form for logs: enough to recognise one's own address, not enough to write to it.
    #[must_use]
    pub fn masked(&self) -> String {
        let (local, domain) = self.shown.split_once('@').unwrap_or(("", ""));
        let first = |part: &str| part.chars().next().map(String::from).unwrap_or_default();
        format!("{}***@{}***", first(local), first(domain))
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let shown = text.trim();
        let invalid = || InvalidAddress(shown.chars().take(80).collect());
        // RFC 5321 §4.5.3.1: a path is at most 254 octets without its brackets.
        if shown.len() > 254 || !shown.is_ascii() {
            return Err(invalid());
        }
        lettre::Address::from_str(shown).map_err(|_| invalid())?;
        Ok(Self {
            shown: shown.to_owned(),
            key: shown.to_lowercase(),
        })
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Address {}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl hash::Hash for Address {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Masked, so that an address never reaches a log through `{:?}`.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl<'de> Deserialize<'de> for Address {
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
    fn case_does_not_make_two_people() {
        let one: Address = "Ada.Lovelace@Example.org".parse().unwrap();
        let two: Address = " ada.lovelace@example.ORG ".parse().unwrap();
        assert_eq!(one, two);
        assert_eq!(one.to_string(), "Ada.Lovelace@Example.org");
    }

    #[test]
    fn a_line_break_or_no_host_is_refused() {
        for bad in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "a@b\r\nBcc: x@y.z",
            "a b@example.org",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_does_not_show_it() {
        let ada: Address = "ada@example.org".parse().unwrap();
        assert_eq!(format!("{ada:?}"), "a***@e***");
    }
}
