//! Assertions about texts.

/// Asserts that a text contains all these parts.
macro_rules! assert_contains {
    ($text:expr, $($part:expr),+ $(,)?) => {{
        let text = $text.to_string();
        $({
            let part: &str = &$part;
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        })+
    }};
}

/// Asserts that a text contains none of these parts.
macro_rules! assert_lacks {
    ($text:expr, $($part:expr),+ $(,)?) => {{
        let text = $text.to_string();
        $({
            let part: &str = &$part;
            assert!(!text.contains(part), "{part:?} is in:\n{text}");
        })+
    }};
}
