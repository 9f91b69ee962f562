//! No input causes a panic, and every problem names a valid place.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::config::error::{Place, Problem};

const EXAMPLE: &str = include_str!("../../../lapsed.example.toml");

/// The example with every commented-out setting active.
fn active_example() -> String {
    let line = |line: &'static str| match line.strip_prefix("# ") {
        Some(bare) if bare.starts_with('[') || bare.contains(" = ") => bare,
        _ => line,
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn check(bytes: &[u8], variables: &[(String, String)]) {
    let variables = variables.iter().cloned().collect();
    let path = Path::new("/nowhere/lapsed.toml");
    let Err(error) = Config::parse(
        Some((path, bytes)),
        &variables,
        Secrets::Read,
        &Credentials::default(),
    ) else {
        return;
    };
    let Error::Invalid(problems) = error else {
        panic!("{error}");
    };
    assert!(!problems.is_empty());
    for Problem { place, message } in problems {
        assert!(!message.is_empty());
        assert!(
            !message.chars().any(|c| c.is_control() && c != '\n'),
            "{message:?}"
        );
        let lines = bytes.split(|byte| *byte == b'\n').count();
        match place {
            Place::File {
                path: named,
                line,
                column,
            } => {
                assert_eq!(named, path);
                assert!(
                    (1..=lines).contains(&line) && column >= 1,
                    "{line}:{column}: {message}"
                );
            }
            Place::WholeFile(named) => assert_eq!(named, path),
            Place::Variable(name) => assert!(variables.contains_key(&name)),
            Place::Environment => panic!("there is a file: {message}"),
        }
    }
}

/// A text with a meaning in TOML or in a configuration.
fn snippet() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "=",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "\"",
            "'",
            "\"\"\"",
            "'''",
            "#",
            "\n",
            "\r\n",
            ".",
            ",",
            "-1",
            "99999999999999999999",
            "1e400",
            "nan",
            "-inf",
            "0x",
            "true",
            "1979-05-27",
            "\u{feff}",
            "\0",
            "[smtp]",
            "[[smtp]]",
            "[source]",
            "[[source]]\n",
            "\"a[9999999999]\" = 1\n",
            "\"a.b\" = 1\n",
            "smtp = 1\n",
            "{ file = \"x\" }",
            "{ env = 1 }",
            "{ credential = \"../x\" }",
            "[[[",
            "= [[[[[[[[",
            "\u{1b}[31m",
            "\"\\u001b\"",
            "{ file = \"\\u001b\" }",
            "🦀",
            "smtp://",
            "%ff",
            "@",
            "7d",
            "0s",
            "999999999999999999y",
            "* * * * *",
            "\\u0000",
            "\\uD800",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "[a-z0-9 :/@.*]{0,20}".prop_map(|text| format!("{text:?}")),
        "\\PC{0,10}".prop_map(|text| format!("'{}'", text.replace('\'', ""))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map("[a-z_]{1,6}|file|env|credential", inner, 0..3).prop_map(
                |items| {
                    let items: Vec<_> = items
                        .iter()
                        .map(|(key, value)| format!("{key} = {value}"))
                        .collect();
                    format!("{{ {} }}", items.join(", "))
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes, &[]);
    }

    #[test]
    fn the_example_cut_off_anywhere(cut in any::<Index>(), whole in any::<bool>()) {
        let text = if whole { EXAMPLE.to_owned() } else { active_example() };
        check(&text.as_bytes()[..cut.index(text.len())], &[]);
    }

    #[test]
    fn the_example_with_random_edits(
        edits in prop::collection::vec((any::<Index>(), 0_usize..6, snippet()), 1..5),
        whole in any::<bool>(),
    ) {
        let mut bytes = if whole { EXAMPLE.to_owned() } else { active_example() }.into_bytes();
        for (at, gone, new) in edits {
            let at = at.index(bytes.len());
            let end = (at + gone).min(bytes.len());
            bytes.splice(at..end, new.into_bytes());
        }
        check(&bytes, &[]);
    }

    #[test]
    fn the_example_with_other_values(
        changes in prop::collection::vec((any::<Index>(), value()), 1..6),
    ) {
        // TOML allows each key once, so keep the first.
        let mut seen = std::collections::BTreeSet::new();
        let mut header = String::new();
        let mut lines: Vec<String> = active_example().lines().map(str::to_owned).collect();
        lines.retain(|line| {
            if line.starts_with('[') {
                header.clone_from(line);
            }
            line.split_once(" = ").is_none_or(|(key, _)| seen.insert(format!("{header}{key}")))
        });
        let keys: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(" = ") && !lines[*at].starts_with('#')).collect();
        for (at, value) in changes {
            let line = &mut lines[*at.get(&keys)];
            let key = line.split(" = ").next().unwrap().to_owned();
            *line = format!("{key} = {value}");
        }
        check(lines.join("\n").as_bytes(), &[]);
    }

    #[test]
    fn random_tables(tables in prop::collection::vec(("\\[{0,2}[a-z]{1,4}\\]{0,2}|\\[smtp\\]|\\[\\[source\\]\\]|\\[notify\\]", "[a-z_]{1,8}|url|name|kind|steps|\"[a-z.\\[\\]0-9 -]{0,12}\"", value()), 0..8)) {
        let text: Vec<_> = tables.iter().map(|(header, key, value)| format!("{header}\n{key} = {value}\n")).collect();
        check(text.concat().as_bytes(), &[]);
    }

    #[test]
    fn random_variables(variables in prop::collection::vec((
        "LAPSED__(SMTP|NOTIFY|STORE|SOURCE|LOG|X|smtp)(__(URL|PASSWORD|ADMINS|LEVEL|FILE|[A-Z_.\\[\\]0-9é]{0,6})){0,3}",
        "\\PC{0,16}|[0-9a-z@.,: *]{0,20}",
    ), 0..6)) {
        check(EXAMPLE.as_bytes(), &variables);
    }

    #[test]
    fn random_cells_of_known_keys(section in 0_usize..42, text in "(?s).{0,24}") {
        let keys = ["smtp.url", "store.url", "notify.from", "notify.base_url", "schedule.sweep",
            "schedule.timezone", "log.level", "http.listen", "notify.admin_digest", "delivery.lease",
            "smtp.hello_name", "smtp.envelope_from", "policy.max_ttl", "mail.templates"];
        let key = keys[section % keys.len()];
        let prefix = ["", "smtp://", "smtps://", "sqlite:", "postgres://", "https://"][section % 6];
        let name = format!("LAPSED__{}", key.replace('.', "__").to_uppercase());
        check(b"", &[(name, format!("{prefix}{text}"))]);
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("a = {}1{}", open.repeat(20_000), close.repeat(20_000));
        check(text.as_bytes(), &[]);
    }
    let dotted = format!("{} = 1", vec!["a"; 5_000].join("."));
    check(dotted.as_bytes(), &[]);
}
