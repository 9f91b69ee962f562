//! Ids of accounts and groups, encoded for URL paths and as compact keys of sets.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

/// Characters that need no escape in a path segment (RFC 3986 §2.3 and §3.3).
const UNESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');

/// A text as one segment of a path; `None` if it would be empty or lead to another folder.
pub(super) fn path_segment(text: &str) -> Option<String> {
    let is_safe = !matches!(text, "" | "." | "..");
    is_safe.then(|| utf8_percent_encode(text, UNESCAPED).to_string())
}

/// An id as a compact key. GUIDs are compared regardless of case, other ids are not.
pub(super) fn id_key(id: &str) -> Uuid {
    parse_guid(id).unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
}

/// Parses a GUID in the form with hyphens.
pub(super) fn parse_guid(text: &str) -> Option<Uuid> {
    let has_hyphens = text.len() == 36;
    Uuid::try_parse(text).ok().filter(|_| has_hyphens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_one_segment_of_a_path() {
        let path = |text| path_segment(text).unwrap_or_default();
        assert_eq!(path("59e0-4.b_~"), "59e0-4.b_~");
        assert_eq!(path("f:1b3c:ada@x"), "f:1b3c:ada%40x");
        assert_eq!(path("a/../b?c#d e%"), "a%2F..%2Fb%3Fc%23d%20e%25");
        for relative in ["", ".", ".."] {
            assert_eq!(path_segment(relative), None);
        }
    }

    #[test]
    fn only_guids_are_compared_regardless_of_case() {
        let id = "87d349ed-44d7-43e1-9a83-5f2406dee5bd";
        assert_eq!(id_key(id), id_key(&id.to_uppercase()));
        assert_ne!(id_key("user-a"), id_key("user-A"));
        assert_ne!(id_key(id), id_key(&id.replace('-', "")));
    }
}
