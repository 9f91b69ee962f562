//! Ids of accounts and groups: opaque texts, as parts of a path and as entries of a set.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

/// What is safe in a path, and means there what it says (RFC 3986 §2.3 and §3.3).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');

/// A text as one part of a path; `None` where it would be none, or a way out.
pub(super) fn segment(text: &str) -> Option<String> {
    let is_safe = !matches!(text, "" | "." | "..");
    is_safe.then(|| utf8_percent_encode(text, PLAIN).to_string())
}

/// An id in a form that takes little room. A GUID is the same in upper and lower case, other ids are not.
pub(super) fn key(id: &str) -> Uuid {
    guid(id).unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
}

/// The GUID that a text is in its usual form, with hyphens.
pub(super) fn guid(text: &str) -> Option<Uuid> {
    let is_usual = text.len() == 36;
    Uuid::try_parse(text).ok().filter(|_| is_usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_a_path_stays_one_part_of_it() {
        let path = |text| segment(text).unwrap_or_default();
        assert_eq!(path("59e0-4.b_~"), "59e0-4.b_~");
        assert_eq!(path("f:1b3c:ada@x"), "f:1b3c:ada%40x");
        assert_eq!(path("a/../b?c#d e%"), "a%2F..%2Fb%3Fc%23d%20e%25");
        for way_out in ["", ".", ".."] {
            assert_eq!(segment(way_out), None);
        }
    }

    #[test]
    fn guids_alone_are_the_same_in_any_case() {
        let id = "87d349ed-44d7-43e1-9a83-5f2406dee5bd";
        assert_eq!(key(id), key(&id.to_uppercase()));
        assert_ne!(key("user-a"), key("user-A"));
        assert_ne!(key(id), key(&id.replace('-', "")));
    }
}
