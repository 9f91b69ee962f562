//! Mail addresses.

use std::cmp::Ordering;
use std::str::FromStr;
use std::{fmt, hash};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// RFC 5321 §4.5.3.1: a path is at most 256 octets with its brackets.
const MAX_LENGTH: usize = 254;
/// An error quotes this much of an invalid address.
const MAX_QUOTED_LENGTH: usize = 80;

/// A checked mail address, displayed as it was written and compared without regard to case.
///
/// RFC 5321 §2.4 lets a host distinguish local parts by case. In practice none does, and two spellings of one
/// address must not get two mails.
#[derive(Clone)]
pub struct Address {
    text: String,
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mail address; write it as name@example.org")]
pub struct InvalidAddress(String);

impl Address {
    /// How a pseudonym begins that replaces the address of an erased person.
    pub const PSEUDONYM_PREFIX: &str = "erased-";

    /// Parses an address or the pseudonym of an erased person, as the store has them.
    pub fn parse_stored(text: &str) -> Result<Self, InvalidAddress> {
        let random = text.strip_prefix(Self::PSEUDONYM_PREFIX);
        if random.is_some_and(|random| random.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Ok(Self {
                text: text.to_owned(),
                key: text.to_owned(),
            });
        }
        text.parse()
    }

    /// Whether this address occurs in a text, but not within a longer one.
    pub fn is_in(&self, text: &str) -> bool {
        self.starts_in(text).next().is_some()
    }

    /// Replaces this address wherever it [is in](Self::is_in) a text.
    pub fn replace_in(&self, text: &str, with: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut from = 0;
        for at in self.starts_in(text) {
            replaced.push_str(&text[from..at]);
            replaced.push_str(with);
            from = at + self.key.len();
        }
        replaced.push_str(&text[from..]);
        replaced
    }

    fn starts_in(&self, text: &str) -> impl Iterator<Item = usize> {
        let lower = text.to_ascii_lowercase();
        let found = lower.match_indices(&self.key).map(|(at, _)| at);
        let is_whole = |at: &usize| {
            !continues_before(&text[..*at]) && !continues_after(&text[*at + self.key.len()..])
        };
        found.filter(is_whole).collect::<Vec<_>>().into_iter()
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The lower-case form by which addresses are compared and looked up.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The part after the last `@`, in lower case.
    pub fn domain(&self) -> &str {
        self.key.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// A form for logs: enough to recognise a known address, not enough to write to it.
    pub fn masked(&self) -> String {
        let (local, domain) = self.text.split_once('@').unwrap_or_default();
        format!("{local:.1}***@{domain:.1}***")
    }
}

/// Whether the text ends in a character that belongs to the address after it, rather than in an escape such as `\n`.
fn continues_before(text: &str) -> bool {
    let is_local = |c: char| c.is_ascii_alphanumeric() || "._%+-".contains(c);
    let is_escape = ["\\n", "\\r", "\\t"]
        .iter()
        .any(|escape| text.ends_with(escape));
    text.ends_with(is_local) && !is_escape
}

/// Whether the text begins with more of the domain before it. A full stop may end a sentence.
fn continues_after(text: &str) -> bool {
    let is_label = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.starts_with(is_label)
        || text
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(is_label))
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let invalid = || InvalidAddress(text.chars().take(MAX_QUOTED_LENGTH).collect());
        if text.len() > MAX_LENGTH || !text.is_ascii() {
            return Err(invalid());
        }
        lettre::Address::from_str(text).map_err(|_| invalid())?;
        Ok(Self {
            text: text.to_owned(),
            key: text.to_lowercase(),
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
        f.write_str(&self.text)
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
        serializer.serialize_str(&self.text)
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
    fn addresses_are_compared_without_case() {
        let one: Address = "Ada.Lovelace@Example.org".parse().unwrap();
        let two: Address = " ada.lovelace@example.ORG ".parse().unwrap();
        assert_eq!(one, two);
        assert_eq!(one.to_string(), "Ada.Lovelace@Example.org");
    }

    #[test]
    fn a_line_break_or_a_missing_host_is_rejected() {
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
    fn an_address_is_replaced_but_not_within_a_longer_one() {
        let ada: Address = "Ada@example.org".parse().unwrap();
        let replaced = ada.replace_in(
            "<ada@EXAMPLE.org> exports/ada@example.org, ada@example.org. \\nada@example.org",
            "erased-1",
        );
        assert_eq!(
            replaced,
            "<erased-1> exports/erased-1, erased-1. \\nerased-1"
        );
        assert!(ada.is_in("by ADA@example.org."));
        let others = "x-ada@example.org nada@example.org ada@example.org.uk ada@example.organic";
        assert_eq!(ada.replace_in(others, "erased-1"), others);
        assert!(!ada.is_in(others));
    }

    #[test]
    fn only_the_store_has_pseudonyms() {
        assert!("erased-0a1b".parse::<Address>().is_err());
        let stored = Address::parse_stored("erased-0a1b").unwrap();
        assert_eq!((stored.key(), stored.domain()), ("erased-0a1b", ""));
        assert!(Address::parse_stored("erased-x").is_err());
        assert!(Address::parse_stored("erased-x@example.org").is_ok());
    }

    #[test]
    fn debug_output_is_masked() {
        let ada: Address = "ada@example.org".parse().unwrap();
        assert_eq!(format!("{ada:?}"), "a***@e***");
    }
}
