//! What scopes allow.

use proptest::prelude::*;

use crate::domain::service::Scopes;

fn scopes(text: &str) -> Scopes {
    text.parse().unwrap()
}

#[test]
fn a_pattern_covers_whole_segments() {
    for (pattern, scope, expected) in [
        ("app:read", "app:read", true),
        ("app:read", "app:write", false),
        ("app:read", "app:readonly", false),
        ("app:*", "app:read", true),
        ("app:*", "app:*", true),
        ("app:*", "app2:read", false),
        ("app:*", "ap:read", false),
        ("*:read", "app:read", true),
        ("*:read", "app:write", false),
        ("*:*", "app:read", true),
        ("app:read", "app:*", false),
        ("app:*", "*:read", false),
        ("app:read", "*:*", false),
        ("app:read", "App:read", false),
        ("app:read user:*", "user:write", true),
        ("", "app:read", true),
    ] {
        assert_eq!(scopes(pattern).allows(scope), expected, "{pattern} {scope}");
    }
}

#[test]
fn scopes_contain_what_is_not_more_than_they_allow() {
    for (outer, inner, expected) in [
        ("", "", true),
        ("", "app:*", true),
        ("app:*", "", false),
        ("*:*", "", false),
        ("app:*", "app:read app:write", true),
        ("app:*", "app:read user:read", false),
        ("app:read user:read", "user:read", true),
        ("app:read", "app:*", false),
    ] {
        assert_eq!(
            scopes(outer).contains(&scopes(inner)),
            expected,
            "{outer:?} {inner:?}"
        );
    }
}

#[test]
fn scopes_are_sorted_and_written_as_oauth_does() {
    let scopes = scopes(" user:read  app:*\nuser:read ");
    assert_eq!(scopes.to_string(), "app:* user:read");
    assert!(!scopes.is_unlimited());
}

#[test]
fn what_is_not_a_scope_is_named() {
    let long = format!("app:{}", "a".repeat(100));
    for text in [
        "app",
        "app:",
        ":read",
        "app:re ad",
        "app:r*",
        "app**:read",
        "app:read,app:write",
        "app:\u{e9}",
        "app:\"",
        "app:\0",
        "a:b:c",
        "*",
        &long,
    ] {
        let error = Scopes::new([text]).unwrap_err().to_string();
        assert!(
            error.contains("is not a scope; write resource:action"),
            "{error}"
        );
        assert!(error.len() < 200, "{error}");
    }
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_owned()), "[ab]{1,2}"]
}

fn pattern() -> impl Strategy<Value = String> {
    (segment(), segment()).prop_map(|(resource, action)| format!("{resource}:{action}"))
}

fn some_scopes() -> impl Strategy<Value = Scopes> {
    let list = prop::collection::vec(pattern(), 0..4);
    list.prop_map(|scopes| Scopes::new(scopes).unwrap())
}

proptest! {
    #[test]
    fn a_narrower_pattern_never_allows_more(
        outer in some_scopes(),
        inner in some_scopes(),
        asked in pattern(),
    ) {
        prop_assert!(outer.contains(&outer));
        if outer.contains(&inner) && inner.allows(&asked) {
            prop_assert!(outer.allows(&asked), "{outer} {inner} {asked}");
        }
    }

    #[test]
    fn one_scope_less_never_allows_more(
        wide in prop::collection::vec(pattern(), 2..5),
        asked in pattern(),
    ) {
        let narrow = Scopes::new(wide[1..].to_vec()).unwrap();
        let wide = Scopes::new(wide).unwrap();
        prop_assert!(wide.contains(&narrow));
        prop_assert!(!narrow.allows(&asked) || wide.allows(&asked));
    }

    #[test]
    fn scopes_survive_being_written(scopes in some_scopes()) {
        prop_assert_eq!(scopes.to_string().parse::<Scopes>(), Ok(scopes));
    }

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
        let _ = text.parse::<Scopes>();
        let _ = Scopes::default().allows(&text);
    }
}
