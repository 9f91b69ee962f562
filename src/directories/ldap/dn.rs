//! Names of entries (RFC 4514), to be compared: a group lists its members as somebody once wrote them.

/// A form that is the same for two spellings of one name: case, spaces and ways to escape do not count.
/// All values are taken to be without case, as those that name people and groups are.
pub fn key(dn: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for rdn in split(dn, &[',', ';']) {
        let mut pairs: Vec<String> = split(rdn, &['+']).into_iter().map(pair).collect();
        pairs.sort();
        parts.push(pairs.join("+"));
    }
    parts.join(",")
}

/// Whether it looks like the name of an entry, and not like a plain name.
pub fn is_one(text: &str) -> bool {
    let is_pair = |rdn: &str| {
        let name = rdn.split_once('=').map(|(name, _)| name.trim());
        name.is_some_and(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        })
    };
    split(text, &[',']).into_iter().all(is_pair)
}

/// The last of these names below which an entry is: the nearest.
pub fn nearest<'a>(dn: &str, names: &'a [String]) -> Option<&'a str> {
    let dn = key(dn);
    let above = |name: &&String| {
        let name = key(name);
        dn == name || dn.ends_with(&format!(",{name}"))
    };
    let nearest = names.iter().filter(above).max_by_key(|name| name.len());
    nearest.map(String::as_str)
}

/// Splits at characters that are not escaped.
fn split<'a>(text: &'a str, at: &[char]) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut is_escaped = false;
    for (index, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if at.contains(&c) {
            parts.push(&text[start..index]);
            start = index + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `uid=ada`, of ` UID = Ada `. What is escaped stays apart from what parts a name.
fn pair(text: &str) -> String {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let mut bytes = Vec::new();
    let mut rest = value.trim().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some((code, after)) = hex(rest) {
            bytes.push(code);
            rest = after;
        }
    }
    let value = String::from_utf8_lossy(&bytes).to_lowercase();
    let words: Vec<&str> = value.split_whitespace().collect();
    let value = words.join(" ");
    let value = value.replace('\\', "\\5c").replace(',', "\\2c");
    let value = value.replace('+', "\\2b").replace('=', "\\3d");
    format!("{}={value}", name.trim().to_lowercase())
}

/// The byte that two hexadecimal digits stand for.
fn hex(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.chars().all(|c| c.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    Some((byte, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_have_one_key() {
        for (one, other) in [
            (
                "uid=ada,ou=people,dc=example",
                "UID=Ada, OU=People ,dc = EXAMPLE",
            ),
            ("cn=Love\\, Ada,dc=x", "cn=love\\2C ada,dc=x"),
            ("cn=Love\\, Ada,dc=x", "cn=Love\\,  Ada,dc=x"),
            ("cn=a+uid=b,dc=x", "uid=b+cn=a,dc=x"),
            ("cn=J\\C3\\BCrgen,dc=x", "cn=jürgen,dc=x"),
            ("cn=\\#1 \\\"A\\\",dc=x", "cn=#1 \"A\",dc=x"),
        ] {
            assert_eq!(key(one), key(other));
        }
    }

    #[test]
    fn other_names_have_other_keys() {
        for (one, other) in [
            ("cn=a,cn=b", "cn=a\\,cn\\=b"),
            ("cn=a+cn=b", "cn=a\\+cn\\=b"),
            ("cn=a\\5c2c", "cn=a\\2c"),
            ("cn=a", "cn=b"),
            ("cn=a,dc=x", "cn=a,dc=x,dc=y"),
            ("cn=é", "cn=\\e9"),
        ] {
            assert_ne!(key(one), key(other));
        }
        assert_eq!(key(""), "=");
        assert_eq!(key("cn=a\\"), "cn=a");
    }

    #[test]
    fn a_name_of_an_entry_is_known_by_its_form() {
        assert!(is_one("cn=admins,ou=groups,dc=example,dc=org"));
        assert!(is_one("2.5.4.3=admins"));
        assert!(!is_one("admins"));
        assert!(!is_one("R&D, Berlin = best"));
        assert!(!is_one("a b=c"));
    }

    #[test]
    fn the_nearest_tree_is_found() {
        let names = ["dc=org", "dc=example, dc=ORG", "dc=le,dc=org"].map(str::to_owned);
        assert_eq!(
            nearest("cn=a,dc=example,dc=org", &names),
            Some("dc=example, dc=ORG")
        );
        assert_eq!(nearest("cn=a,dc=sample,dc=org", &names), Some("dc=org"));
        assert_eq!(nearest("dc=com", &names), None);
    }
}
