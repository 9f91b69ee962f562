//! Entries of a search result.

use std::collections::HashMap;

use ldap3::asn1::{PL, StructureTag};

use crate::upstream::pager::Identified;

/// Attribute names are compared regardless of case (RFC 4512 §2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As the server writes it.
    pub dn: String,
    attributes: HashMap<String, Vec<Vec<u8>>>,
}

impl Identified for Entry {
    fn id(&self) -> &str {
        &self.dn
    }
}

impl Entry {
    /// Parses `SearchResultEntry` (RFC 4511 §4.5.2). The library's own parser panics on invalid input.
    pub(super) fn parse(tag: StructureTag) -> Option<Self> {
        let mut parts = constructed(tag)?.into_iter();
        // Only the name and the values of this entry are lost if the server writes them in another encoding.
        let dn = String::from_utf8_lossy(&primitive(parts.next()?)?).into_owned();
        let mut attributes = HashMap::new();
        for attribute in constructed(parts.next()?)? {
            let mut parts = constructed(attribute)?.into_iter();
            let name = text(parts.next()?)?.to_ascii_lowercase();
            let values = constructed(parts.next()?)?.into_iter().map(primitive);
            let values: Vec<_> = values.collect::<Option<_>>()?;
            attributes.insert(name, values);
        }
        Some(Self { dn, attributes })
    }

    #[cfg(test)]
    pub fn new(dn: &str, attributes: &[(&str, &[u8])]) -> Self {
        let mut by_name: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        for (name, value) in attributes {
            let values = by_name.entry(name.to_ascii_lowercase()).or_default();
            values.push(value.to_vec());
        }
        Self {
            dn: dn.to_owned(),
            attributes: by_name,
        }
    }

    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        Some(self.values(name).first()?.as_slice())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> + Clone {
        let values = self.values(name).iter();
        values.filter_map(|value| std::str::from_utf8(value).ok())
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    /// Whether the server returned only a range of the values (MS-ADTS §3.1.1.3.1.3.3): `member;range=0-1499`.
    pub fn is_cut(&self, name: &str) -> bool {
        let prefix = format!("{};range=", name.to_ascii_lowercase());
        self.attributes.keys().any(|key| key.starts_with(&prefix))
    }

    fn values(&self, name: &str) -> &[Vec<u8>] {
        let values = self.attributes.get(&name.to_ascii_lowercase());
        values.map_or(&[], Vec::as_slice)
    }
}

fn constructed(tag: StructureTag) -> Option<Vec<StructureTag>> {
    match tag.payload {
        PL::C(parts) => Some(parts),
        PL::P(_) => None,
    }
}

fn primitive(tag: StructureTag) -> Option<Vec<u8>> {
    match tag.payload {
        PL::P(bytes) => Some(bytes),
        PL::C(_) => None,
    }
}

fn text(tag: StructureTag) -> Option<String> {
    String::from_utf8(primitive(tag)?).ok()
}

#[cfg(test)]
mod tests {
    use ldap3::asn1::TagClass;

    use super::*;

    fn tag(payload: PL) -> StructureTag {
        StructureTag {
            class: TagClass::Universal,
            id: 4,
            payload,
        }
    }

    fn octets(text: &[u8]) -> StructureTag {
        tag(PL::P(text.to_vec()))
    }

    fn sequence(parts: Vec<StructureTag>) -> StructureTag {
        tag(PL::C(parts))
    }

    #[test]
    fn names_are_case_insensitive_and_values_may_be_binary() {
        let attribute =
            |name: &[u8], values: Vec<StructureTag>| sequence(vec![octets(name), sequence(values)]);
        let entry = Entry::parse(sequence(vec![
            octets(b"uid=ada,dc=example"),
            sequence(vec![
                attribute(b"Mail", vec![octets(b"ada@example.org"), octets(b"\xff")]),
                attribute(b"objectGUID", vec![octets(b"\xff\x00")]),
                attribute(b"member;range=0-1499", vec![octets(b"x")]),
                attribute(b"cn", vec![]),
            ]),
        ]))
        .unwrap();
        assert_eq!(entry.dn, "uid=ada,dc=example");
        assert_eq!(entry.text("mail"), Some("ada@example.org"));
        assert_eq!(entry.texts("MAIL").count(), 1);
        assert_eq!(entry.bytes("objectguid"), Some(&b"\xff\x00"[..]));
        assert!(entry.is_cut("member") && !entry.is_cut("mail"));
        assert!(!entry.has("cn") && !entry.has("member"));
    }

    #[test]
    fn an_invalid_entry_is_not_parsed() {
        let broken = [
            octets(b"x"),
            sequence(vec![]),
            sequence(vec![octets(b"dn")]),
            sequence(vec![octets(b"dn"), octets(b"x")]),
            sequence(vec![octets(b"dn"), sequence(vec![octets(b"x")])]),
            sequence(vec![
                octets(b"dn"),
                sequence(vec![sequence(vec![octets(b"cn")])]),
            ]),
        ];
        for tag in broken {
            assert_eq!(Entry::parse(tag.clone()), None, "{tag:?}");
        }
    }
}
