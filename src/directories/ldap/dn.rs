//! Comparison of distinguished names (RFC 4514): groups list members in any spelling.

/// Removes differences in case, spaces and escapes. All values are compared regardless of case, as those in
/// names of people and groups are.
pub fn normalize(dn: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for rdn in split(dn, &[',', ';']) {
        let mut pairs: Vec<String> = split(rdn, &['+']).into_iter().map(normalize_pair).collect();
        pairs.sort();
        parts.push(pairs.join("+"));
    }
    parts.join(",")
}

/// Whether a text looks like a DN and not like a plain name.
pub fn is_dn(text: &str) -> bool {
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

/// The longest of `bases` that an entry is below.
pub fn nearest_base<'a>(dn: &str, bases: &'a [String]) -> Option<&'a str> {
    let dn = normalize(dn);
    let is_above = |base: &&String| {
        let base = normalize(base);
        dn == base || dn.ends_with(&format!(",{base}"))
    };
    let nearest = bases.iter().filter(is_above).max_by_key(|base| base.len());
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

/// Turns ` UID = Ada ` into `uid=ada`. Escaped separators stay distinct from real ones.
fn normalize_pair(text: &str) -> String {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let mut bytes = Vec::new();
    let mut rest = value.trim().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some((code, after)) = parse_hex_byte(rest) {
            bytes.push(code);
            rest = after;
        }
    }
    let value = String::from_utf8_lossy(&bytes).to_lowercase();
    let parts: Vec<&str> = value.split_whitespace().collect();
    let value = parts.join(" ");
    let value = value.replace('\\', "\\5c").replace(',', "\\2c");
    let value = value.replace('+', "\\2b").replace('=', "\\3d");
    format!("{}={value}", name.trim().to_lowercase())
}

fn parse_hex_byte(text: &[u8]) -> Option<(u8, &[u8])> {
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
    fn spellings_of_one_name_are_equal() {
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
            assert_eq!(normalize(one), normalize(other));
        }
    }

    #[test]
    fn different_names_are_not_equal() {
        for (one, other) in [
            ("cn=a,cn=b", "cn=a\\,cn\\=b"),
            ("cn=a+cn=b", "cn=a\\+cn\\=b"),
            ("cn=a\\5c2c", "cn=a\\2c"),
            ("cn=a", "cn=b"),
            ("cn=a,dc=x", "cn=a,dc=x,dc=y"),
            ("cn=é", "cn=\\e9"),
        ] {
            assert_ne!(normalize(one), normalize(other));
        }
        assert_eq!(normalize(""), "=");
        assert_eq!(normalize("cn=a\\"), "cn=a");
    }

    #[test]
    fn a_dn_is_recognised_by_its_form() {
        assert!(is_dn("cn=admins,ou=groups,dc=example,dc=org"));
        assert!(is_dn("2.5.4.3=admins"));
        assert!(!is_dn("admins"));
        assert!(!is_dn("R&D, Berlin = best"));
        assert!(!is_dn("a b=c"));
    }

    #[test]
    fn the_nearest_base_is_found() {
        let names = ["dc=org", "dc=example, dc=ORG", "dc=le,dc=org"].map(str::to_owned);
        assert_eq!(
            nearest_base("cn=a,dc=example,dc=org", &names),
            Some("dc=example, dc=ORG")
        );
        assert_eq!(
            nearest_base("cn=a,dc=sample,dc=org", &names),
            Some("dc=org")
        );
        assert_eq!(nearest_base("dc=com", &names), None);
    }
}
