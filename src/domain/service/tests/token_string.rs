//! The text of a token: what is read, what is refused, and what a secret scanner finds.

use std::collections::BTreeSet;

use proptest::prelude::*;
use regex::Regex;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use crate::domain::service::{Digest, InvalidToken, NewSecret, Presented, PublicId};

fn hex(digest: &Digest) -> String {
    let bytes = digest.as_bytes().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn new_token(head: &str) -> (PublicId, NewSecret) {
    let id = PublicId::generate();
    let secret = NewSecret::generate(head, &id);
    (id, secret)
}

fn is_read_as(
    presented: Result<Presented, InvalidToken>,
    (id, secret): &(PublicId, NewSecret),
) -> bool {
    presented.is_ok_and(|presented| {
        presented.id == *id
            && presented.digest.matches(&secret.digest)
            && presented.token.expose_secret() == secret.token.expose_secret()
    })
}

#[test]
fn a_token_is_read_in_every_form() {
    for head in [
        "lapsed",
        "lapsedk",
        "a",
        "abcdefghijklmnop",
        "0123456789abcdefs",
    ] {
        let issued = new_token(head);
        let (id, secret) = &issued;
        let (token, key) = (
            secret.token.expose_secret(),
            secret.secret_key.expose_secret(),
        );
        assert_eq!(*token, format!("{}_{key}", secret.access_key));
        assert_eq!(secret.access_key, format!("{head}_{id}"));
        for presented in [
            Presented::parse(token),
            Presented::parse(&format!("secret-token:{token}")),
            Presented::from_pair(&secret.access_key, key),
            Presented::from_id_and_secret(id.as_str(), key, ["other", head]),
        ] {
            assert!(is_read_as(presented, &issued), "{head}");
        }
        assert!(Presented::from_id_and_secret(id.as_str(), key, ["other"]).is_err());
    }
}

#[test]
fn what_is_not_a_token_is_refused() {
    let (id, secret) = new_token("lapsed");
    let token = secret.token.expose_secret();
    let (_, other) = new_token("lapsed");
    let other = other.secret_key.expose_secret();
    for text in [
        String::new(),
        "_".into(),
        "__".into(),
        "lapsed".into(),
        format!(" {token}"),
        format!("{token}\n"),
        format!("\u{feff}{token}"),
        format!("\"{token}\""),
        format!("{token}\0"),
        format!("Bearer {token}"),
        token.to_uppercase(),
        token.replace("lapsed_", "_"),
        token.replace("lapsed_", "Lapsed_"),
        token.replace("lapsed_", "abcdefghijklmnopqr_"),
        token.replace("lapsed_", "läpsed_"),
        format!("lapsed_{id}_{other}"),
        format!("lapsed_{id}_{}", "é".repeat(25)),
        "x".repeat(1_000_000),
        "_".repeat(1_000_000),
    ] {
        let shown: String = text.chars().take(80).collect();
        assert_eq!(Presented::parse(&text).err(), Some(InvalidToken), "{shown}");
    }
}

#[test]
fn every_flipped_or_cut_character_is_noticed() {
    let (_, secret) = new_token("lapsed");
    let token = secret.token.expose_secret();
    for (place, old) in token.char_indices() {
        for new in ('0'..='9')
            .chain('A'..='Z')
            .chain('a'..='z')
            .chain(['_', '-'])
        {
            let mut flipped = token.to_owned();
            flipped.replace_range(place..=place, &new.to_string());
            assert_eq!(
                Presented::parse(&flipped).is_ok(),
                new == old,
                "{place} {new}"
            );
        }
        assert!(Presented::parse(&token[..place]).is_err(), "{place}");
        let mut without = token.to_owned();
        without.remove(place);
        assert!(Presented::parse(&without).is_err(), "{place}");
    }
}

#[test]
fn swapped_characters_are_noticed() {
    let (_, secret) = new_token("lapsed");
    let token = secret.token.expose_secret();
    for place in 1..token.len() {
        let mut bytes = token.as_bytes().to_vec();
        bytes.swap(place - 1, place);
        let swapped = String::from_utf8(bytes).unwrap();
        assert_eq!(
            Presented::parse(&swapped).is_ok(),
            swapped == token,
            "{place}"
        );
    }
}

#[test]
fn a_secret_works_only_with_its_own_id() {
    let (id, secret) = new_token("lapsed");
    let (other_id, other) = new_token("lapsed");
    let digest = |token: &NewSecret| {
        Presented::parse(token.token.expose_secret())
            .unwrap()
            .digest
    };
    assert_ne!(id, other_id);
    assert!(digest(&secret).matches(&secret.digest));
    assert!(!digest(&secret).matches(&other.digest));
    assert!(!digest(&other).matches(&secret.digest));
}

#[test]
fn a_digest_and_a_token_are_not_in_debug_output() {
    let (_, secret) = new_token("lapsed");
    let presented = Presented::parse(secret.token.expose_secret()).unwrap();
    for shown in [format!("{secret:?}"), format!("{presented:?}")] {
        for hidden in [
            secret.secret_key.expose_secret().to_owned(),
            hex(&secret.digest),
            format!("{:?}", secret.digest.as_bytes()),
        ] {
            assert!(!shown.contains(&hidden), "{shown}");
        }
    }
}

/// The expression of the shipped gitleaks rule.
fn scanner() -> Regex {
    let rule = include_str!("../../../../deploy/gitleaks.toml");
    let rest = rule.split_once("regex = '''").unwrap().1;
    Regex::new(rest.split_once("'''").unwrap().0).unwrap()
}

#[test]
fn the_scanner_finds_every_token_and_exactly_it() {
    let scanner = scanner();
    let heads = [
        "lapsed",
        "lapsedk",
        "lapseds",
        "lapseda",
        "lapsedr",
        "x",
        "abcdefghijklmnop9",
    ];
    let mut ids = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for head in heads.into_iter().cycle().take(10_000) {
        let (id, secret) = new_token(head);
        let token = secret.token.expose_secret();
        for text in [
            token.to_owned(),
            format!("TOKEN={token}\n"),
            format!("curl -H 'Authorization: Bearer {token}' https://h/"),
            format!("{{\"token\":\"{token}\"}}"),
            format!("https://user:{token}@git.example.org/"),
        ] {
            let found: Vec<_> = scanner
                .find_iter(&text)
                .map(|found| found.as_str())
                .collect();
            assert_eq!(found, [token], "{text}");
        }
        assert!(ids.insert(id), "an id occurs twice");
        let key = secret.secret_key.expose_secret().to_owned();
        assert!(secrets.insert(key), "a secret occurs twice");
    }
}

#[test]
fn the_scanner_finds_no_other_identifiers() {
    let scanner = scanner();
    for _ in 0..10_000 {
        let [one, two, three] = [(); 3].map(|()| Uuid::new_v4());
        let digest = format!("{}{}", one.simple(), two.simple());
        let base64url = |uuid: Uuid| {
            let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let bytes = [uuid.into_bytes(), two.into_bytes()].concat();
            bytes
                .iter()
                .map(|byte| char::from(digits[usize::from(byte % 64)]))
                .collect::<String>()
        };
        let jwt = format!(
            "eyJhbGciOiJIUzI1NiJ9.{}.{}",
            base64url(one),
            base64url(three)
        );
        for text in [
            one.to_string(),
            digest.clone(),
            format!("sha256_{digest}"),
            format!("ghp_{}", &digest[..36]),
            format!("github_pat_{}_{}", &digest[..22], &digest[..59]),
            format!("glpat-{}", &digest[..20]),
            jwt,
        ] {
            assert!(!scanner.is_match(&text), "{text}");
            assert!(Presented::parse(&text).is_err(), "{text}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*", id in "\\PC*") {
        let _ = Presented::parse(&text);
        let _ = Presented::from_pair(&id, &text);
        let _ = Presented::from_id_and_secret(&id, &text, ["lapsed"]);
        let _ = PublicId::parse(&text);
    }

    /// A text in the form of a token has the right check once in 62^6.
    #[test]
    fn an_invented_token_is_refused(
        text in "[a-z0-9]{1,17}_lp[0-9A-Za-z]{10}_[0-9A-Za-z]{49}",
    ) {
        prop_assert!(Presented::parse(&text).is_err());
    }

    #[test]
    fn a_token_with_any_prefix_is_read(head in "[a-z0-9]{1,17}") {
        let issued = new_token(&head);
        let presented = Presented::parse(issued.1.token.expose_secret());
        prop_assert!(is_read_as(presented, &issued));
    }
}
