//! Mail addresses.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::str::FromStr;
use std::{fmt, hash};

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use unicode_normalization::UnicodeNormalization;

use crate::text::is_visible;

/// RFC 5321 §4.5.3.1: a path is at most 256 octets with its brackets.
const MAX_LENGTH: usize = 254;
/// An error quotes this much of an invalid address.
const MAX_QUOTED_LENGTH: usize = 80;

/// What ends the local part of a guest's user name in Entra.
const GUEST_MARK: &str = "#ext#@";

const NO_ADDRESS: &str = "is not a mail address; write it as name@example.org";
const NO_GUEST_ADDRESS: &str =
    "is a guest's user name that does not contain their address; write their address";

/// A checked mail address, compared without regard to case.
///
/// It is displayed as it was written, but a domain beyond ASCII is converted to punycode.
///
/// RFC 5321 §2.4 lets a host distinguish local parts by case. In practice none does, and two spellings of one
/// address must not get two mails.
#[derive(Clone)]
pub struct Address {
    text: String,
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {reason}")]
pub struct InvalidAddress {
    text: String,
    /// What is wrong and what to write.
    pub reason: &'static str,
}

impl InvalidAddress {
    fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.chars().take(MAX_QUOTED_LENGTH).collect(),
            reason,
        }
    }
}

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

    /// Parses a cell of an export with one address: `Name <address>`, `address (name)`, `mailto:`, or a guest's user
    /// name, with quotes, blanks or a separator around it.
    pub fn parse_cell(cell: &str) -> Result<Self, InvalidAddress> {
        let mut text = trim_cell(cell);
        for (open, close) in [('<', '>'), ('(', ')')] {
            let parts = text
                .strip_suffix(close)
                .and_then(|text| text.rsplit_once(open));
            if let Some((outside, inside)) = parts {
                let is_comment = close == ')' && outside.contains('@');
                text = trim_cell(if is_comment { outside } else { inside });
            }
        }
        let link = ["mailto:", "smtp:"]
            .into_iter()
            .find_map(|scheme| strip_prefix_ignoring_case(text, scheme));
        let text = match link {
            Some(link) => {
                percent_decode_str(link.split('?').next().unwrap_or_default()).decode_utf8_lossy()
            }
            None => text.into(),
        };
        match text.to_ascii_lowercase().find(GUEST_MARK) {
            Some(end) => parse_guest(&text[..end])
                .ok_or_else(|| InvalidAddress::new(&text, NO_GUEST_ADDRESS)),
            None => text.parse(),
        }
    }

    /// Whether this address occurs in a text, but not within a longer one.
    pub fn is_in(&self, text: &str) -> bool {
        !self.places_in(text).is_empty()
    }

    /// Replaces this address wherever it [is in](Self::is_in) a text.
    pub fn replace_in(&self, text: &str, with: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut from = 0;
        for (start, end) in self.places_in(text) {
            replaced.push_str(&text[from..start]);
            replaced.push_str(with);
            from = end;
        }
        replaced.push_str(&text[from..]);
        replaced
    }

    /// Where it begins and ends in a text, with its domain in ASCII or in Unicode.
    fn places_in(&self, text: &str) -> Vec<(usize, usize)> {
        let folded = fold(text);
        let unicode = fold(&self.with_domain(|_, _| true));
        let mut places = Vec::new();
        for spelling in [fold(&self.key), unicode] {
            for (start, _) in folded.match_indices(&spelling) {
                let end = start + spelling.len();
                if !continues_before(&text[..start]) && !continues_after(&text[end..]) {
                    places.push((start, end));
                }
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    /// A part of the key that every spelling of the address contains, and in which databases find it without regard to
    /// case.
    pub fn common_part(&self) -> &str {
        let at = self.key.rfind('@').unwrap_or(0);
        let (local, domain) = self.key.split_at(at);
        let start = if local.is_ascii() { 0 } else { at };
        let end = if is_punycode(domain) {
            at + 1
        } else {
            self.key.len()
        };
        &self.key[start..end]
    }

    /// With its domain in Unicode, for people to read. A domain that can be mistaken for another stays as it is.
    pub fn readable(&self) -> Cow<'_, str> {
        self.with_domain(is_unmistakable)
    }

    fn with_domain(&self, shows_unicode: impl Fn(&[char], &[char]) -> bool) -> Cow<'_, str> {
        let text = self.text.as_str();
        let parts = text.rsplit_once('@');
        let Some((local, domain)) = parts.filter(|(_, domain)| is_punycode(domain)) else {
            return text.into();
        };
        let (domain, validity) = Uts46::new().to_user_interface(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::Allow,
            |label, top, _| shows_unicode(label, top),
        );
        match validity {
            Ok(()) => format!("{local}@{domain}").into(),
            Err(_) => text.into(),
        }
    }

    /// Whether a mail to it needs an SMTP server with SMTPUTF8 (RFC 6531).
    pub fn needs_smtputf8(&self) -> bool {
        !self.text.is_ascii()
    }

    /// `None` for a pseudonym.
    pub fn to_lettre(&self) -> Option<lettre::Address> {
        let (local, domain) = self.text.rsplit_once('@')?;
        Some(lettre::Address::new_dangerous(local, domain))
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
    let is_local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let is_escape = ["\\n", "\\r", "\\t"]
        .iter()
        .any(|escape| text.ends_with(escape));
    text.ends_with(is_local) && !is_escape
}

/// Whether the text begins with more of the domain before it. A full stop may end a sentence.
fn continues_after(text: &str) -> bool {
    let is_label = |c: char| c.is_alphanumeric() || c == '-';
    text.starts_with(is_label)
        || text
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(is_label))
}

/// The text in lower case, as far as that does not move its characters.
fn fold(text: &str) -> String {
    let fold = |c: char| {
        let mut lower = c.to_lowercase();
        let first = lower
            .next()
            .filter(|first| first.len_utf8() == c.len_utf8());
        first.filter(|_| lower.next().is_none()).unwrap_or(c)
    };
    text.chars().map(fold).collect()
}

/// Without what exports put around an address.
fn trim_cell(mut text: &str) -> &str {
    loop {
        let trimmed = text
            .trim_matches(|c| !is_visible(c))
            .trim_end_matches([';', ',', '.']);
        let mut quotes = [('"', '"'), ('\'', '\''), ('“', '”')].into_iter();
        let inside =
            quotes.find_map(|(open, close)| trimmed.strip_prefix(open)?.strip_suffix(close));
        let inside = inside.unwrap_or(trimmed);
        if inside.len() == text.len() {
            return text;
        }
        text = inside;
    }
}

/// A guest is `name_home.example#EXT#@tenant.onmicrosoft.com`, and no domain contains a `_`
/// (<https://learn.microsoft.com/entra/external-id/user-properties>).
fn parse_guest(name: &str) -> Option<Address> {
    let (local, domain) = name.rsplit_once('_')?;
    let is_domain = domain.contains('.');
    format!("{local}@{domain}")
        .parse()
        .ok()
        .filter(|_| is_domain)
}

fn is_punycode(domain: &str) -> bool {
    let mut labels = domain.split(['.', '@']);
    labels.any(|label| strip_prefix_ignoring_case(label, "xn--").is_some())
}

/// Whether a label of a domain has one script only: Latin with marks, Chinese, Japanese or Korean, or that of a top-level
/// domain beyond ASCII.
fn is_unmistakable(label: &[char], top: &[char]) -> bool {
    let beyond_ascii = || label.iter().filter(|c| !c.is_ascii());
    // Without letters that look like i, k, l and n.
    let is_latin =
        |c: &char| matches!(c, 'ß'..='ö' | 'ø'..='ſ') && !matches!(c, 'ı' | 'ĸ' | 'ŀ' | 'ŉ');
    let is_cjk = |c: &char| matches!(c, '々' | 'ぁ'..='ヿ' | '一'..='鿿' | '가'..='힣');
    let has_letters = label.iter().any(char::is_ascii_alphabetic);
    beyond_ascii().all(is_latin)
        || !has_letters && (beyond_ascii().all(is_cjk) || top.iter().any(|c| !c.is_ascii()))
}

/// The address with its domain in punycode, if it is valid in RFC 6531 §3.3.
fn check_unicode(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    // A letter with a mark can be written in two ways.
    let local: String = local.nfc().collect();
    let domain = if domain.is_ascii() {
        domain.to_owned()
    } else {
        idna::domain_to_ascii_strict(domain).ok()?
    };
    // Invisible characters would make it look like another.
    let in_ascii = |c: char| {
        let letter = if !c.is_ascii() && is_visible(c) {
            'a'
        } else {
            c
        };
        std::iter::repeat_n(letter, c.len_utf8())
    };
    let in_ascii: String = local.chars().flat_map(in_ascii).collect();
    lettre::Address::new(&in_ascii, &domain)
        .ok()
        .filter(|_| in_ascii.is_ascii())?;
    Some(format!("{local}@{domain}"))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.trim();
        let checked = if text.is_ascii() {
            lettre::Address::from_str(text)
                .ok()
                .map(|_| text.to_owned())
        } else {
            check_unicode(text)
        };
        match checked {
            Some(text) if text.len() <= MAX_LENGTH => Ok(Self {
                key: text.to_lowercase(),
                text,
            }),
            _ => Err(InvalidAddress::new(text, NO_ADDRESS)),
        }
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
    use rstest::rstest;

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

    #[rstest]
    #[case("ada@example.org", "ada@example.org")]
    #[case(" ada@example.org; ", "ada@example.org")]
    #[case("'Ada@Example.org',", "Ada@Example.org")]
    #[case("“ada@example.org”.", "ada@example.org")]
    #[case("\u{feff}<ada@example.org>\u{200b}\u{a0}", "ada@example.org")]
    #[case("Ada Lovelace <ada@example.org>", "ada@example.org")]
    #[case("\"Lovelace, Ada\" <ada@example.org>;", "ada@example.org")]
    #[case("ada@old.example <mailto:ada@example.org>", "ada@example.org")]
    #[case("ada@example.org (Ada Lovelace)", "ada@example.org")]
    #[case("Ada Lovelace (ada@example.org)", "ada@example.org")]
    #[case("mailto:ada@example.org", "ada@example.org")]
    #[case(
        "MailTo:ada%2Bci@example.org?subject=Token&cc=x@example.org",
        "ada+ci@example.org"
    )]
    #[case("SMTP:ada@example.org", "ada@example.org")]
    #[case("o'brien@example.org", "o'brien@example.org")]
    #[case("'o'brien'@example.org", "'o'brien'@example.org")]
    #[case("\"ada l\"@example.org", "\"ada l\"@example.org")]
    #[case("ada_gmail.com#EXT#@tenant.onmicrosoft.com", "ada@gmail.com")]
    #[case(
        "Ada <ada_l_mail.example#ext#@tenant.onmicrosoft.com>",
        "ada_l@mail.example"
    )]
    #[case("ada@müller.example", "ada@xn--mller-kva.example")]
    #[case("jörg@example.org", "jörg@example.org")]
    fn a_cell_has_an_address_with_a_name_or_in_a_link(#[case] cell: &str, #[case] address: &str) {
        assert_eq!(Address::parse_cell(cell).unwrap().as_str(), address);
    }

    #[rstest]
    #[case("svc-deploy", NO_ADDRESS)]
    #[case("CORP\\ada", NO_ADDRESS)]
    #[case("", NO_ADDRESS)]
    #[case("<>", NO_ADDRESS)]
    #[case("mailto:", NO_ADDRESS)]
    #[case("mailto:ada%0D%0ABcc:x@example.org", NO_ADDRESS)]
    #[case("ada@example.org bob@example.org", NO_ADDRESS)]
    #[case("ada@example.org;bob@example.org", NO_ADDRESS)]
    #[case("j\u{200b}org@example.org", NO_ADDRESS)]
    #[case("ada@-müller.example", NO_ADDRESS)]
    #[case("ada#EXT#@tenant.onmicrosoft.com", NO_GUEST_ADDRESS)]
    #[case("svc_local#EXT#@tenant.onmicrosoft.com", NO_GUEST_ADDRESS)]
    #[case("_gmail.com#EXT#@tenant.onmicrosoft.com", NO_GUEST_ADDRESS)]
    fn a_cell_without_one_address_says_why(#[case] cell: &str, #[case] reason: &str) {
        assert_eq!(Address::parse_cell(cell).unwrap_err().reason, reason);
    }

    #[rstest]
    #[case("ada@müller.example", "ADA@XN--MLLER-KVA.example")]
    #[case("ada@müller.example", "ada@MU\u{308}LLER。example")]
    #[case("ada@straße.example", "ada@xn--strae-oqa.example")]
    #[case("Jo\u{308}rg@example.org", "jörg@EXAMPLE.org")]
    #[case("राम्@example.org", "राम्@example.org")]
    fn spellings_of_one_address_are_equal(#[case] one: Address, #[case] other: Address) {
        assert_eq!(one, other);
        assert!(one.domain().is_ascii());
        let (lettre, text) = (one.to_lettre().unwrap(), one.as_str());
        assert_eq!(lettre.to_string(), text);
        assert_eq!(one.needs_smtputf8(), !text.is_ascii());
        assert!(one.key().contains(one.common_part()));
    }

    #[rstest]
    #[case("ada@xn--mller-kva.example", "ada@müller.example")]
    #[case("ada@xn--zckzah.example", "ada@テスト.example")]
    #[case("ada@xn--e1afmkfd.xn--p1ai", "ada@пример.рф")]
    // Cyrillic letters that look like `apple`, and a dotless i.
    #[case("ada@xn--80ak6aa92e.com", "ada@xn--80ak6aa92e.com")]
    #[case("ada@xn--gthub-n4a.com", "ada@xn--gthub-n4a.com")]
    #[case("ada@xn--99999999.example", "ada@xn--99999999.example")]
    #[case("ada@example.org", "ada@example.org")]
    fn mails_show_domains_in_unicode_where_that_is_safe(
        #[case] address: Address,
        #[case] shown: &str,
    ) {
        assert_eq!(address.readable(), shown);
    }

    #[test]
    fn every_spelling_of_an_address_is_replaced() {
        let ada: Address = "Ömer@müller.example".parse().unwrap();
        let text = "ömer@xn--MLLER-kva.example, ÖMER@Müller.example and xömer@müller.example";
        let replaced = ada.replace_in(text, "erased-1");
        assert_eq!(replaced, "erased-1, erased-1 and xömer@müller.example");
        assert_eq!(ada.common_part(), "@");
        let ada: Address = "Ada@müller.example".parse().unwrap();
        assert_eq!(ada.common_part(), "ada@");
        let ada: Address = "Ömer@Example.org".parse().unwrap();
        assert_eq!(ada.common_part(), "@example.org");
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
