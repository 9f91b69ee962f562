//! The example file names every key and shows the real defaults.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const EXAMPLE: &str = include_str!("../../../lapsed.example.toml");

#[derive(Clone, Copy, PartialEq)]
enum Line<'a> {
    /// `[smtp]` or `[[source]]`, and whether it is commented out.
    Header(&'a str, bool),
    /// `# key = value`, a default.
    Default(&'a str),
    /// The same followed by `# example`.
    Example(&'a str),
    /// `key = value`.
    Active(&'a str),
    Other,
}

fn lines() -> Vec<(&'static str, Line<'static>)> {
    EXAMPLE
        .lines()
        .map(|line| (line, line_kind(line)))
        .collect()
}

fn line_kind(line: &str) -> Line<'_> {
    let bare = line.strip_prefix("# ");
    let text = bare.unwrap_or(line);
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let header = text.trim_matches(['[', ']']);
    if text.starts_with('[') && header.split('.').all(is_word) {
        return Line::Header(header, bare.is_some());
    }
    match text.split_once(" = ") {
        Some((key, value)) if is_word(key) => match bare {
            None => Line::Active(key),
            Some(_) if value.contains("# example") => Line::Example(key),
            Some(_) => Line::Default(key),
        },
        _ => Line::Other,
    }
}

/// The example with some of its commented lines made active; a later line replaces an earlier one with
/// the same key.
fn example(uncomment: impl Fn(&Line, bool) -> bool) -> String {
    let mut within_commented = false;
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let mut text: Vec<String> = vec![];
    let mut section = String::new();
    for (line, kind) in lines() {
        if let Line::Header(name, commented) = kind {
            within_commented = commented;
            section = name.to_owned();
            // A repeated table has its own keys.
            place.retain(|key, _| !key.starts_with(&format!("{name}.")));
        }
        let active = if kind != Line::Other && uncomment(&kind, within_commented) {
            line.strip_prefix("# ").unwrap_or(line)
        } else {
            line
        };
        if let Line::Active(key) | Line::Default(key) | Line::Example(key) = kind
            && !active.starts_with('#')
            && let Some(earlier) = place.insert(format!("{section}.{key}"), text.len())
        {
            text[earlier].clear();
        }
        text.push(active.to_owned());
    }
    text.join("\n")
}

/// The configuration as text, to compare it, with the one secret of the example.
fn describe(text: &str) -> String {
    use secrecy::ExposeSecret;
    let config = example_config(text);
    format!("{} {config:#?}", config.store.url.expose_secret())
}

fn example_config(text: &str) -> Config {
    // Provide every secret it names; one text is valid for most of them.
    const SECRET: &str = "postgres://lapsed@db/lapsed";
    let named = |form| {
        let after = text.split(form).skip(1);
        after.filter_map(|rest| rest.split('"').next())
    };
    let folder = tempfile::tempdir().unwrap();
    for name in named("credential = \"") {
        let secret = match name {
            "gcore-token" => "7_secret",
            "devtron-token" => "header.claims.signature",
            _ => SECRET,
        };
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let mut variables: Vec<_> = named("env = \"").map(|name| (name, SECRET)).collect();
    variables.push(("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()));
    let variables = env(&variables);
    let file = (Path::new("/etc/lapsed/lapsed.toml"), text.as_bytes());
    Config::parse(
        Some(file),
        &variables,
        Secrets::Read,
        &Credentials::default(),
    )
    .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_example_is_a_valid_configuration() {
    example_config(EXAMPLE);
}

#[test]
fn the_defaults_it_shows_are_the_real_ones() {
    let shown = example(|line, commented| !commented && matches!(line, Line::Default(_)));
    assert_ne!(shown, EXAMPLE);
    // The policy of a service that is off is not kept.
    let with_service = |text: &str| {
        let text = text.replace("\nenabled = false\n", "\n");
        text.replace("\n[service]\n", "\n[service]\nenabled = true\n")
    };
    assert_eq!(
        describe(&with_service(&shown)),
        describe(&with_service(EXAMPLE))
    );
}

#[test]
fn the_defaults_of_sources_and_directories_are_the_real_ones() {
    let all = example(all_but_one);
    let without = all
        .lines()
        .filter(|line| {
            let shown = ["breaker_", "timeout", "allow_revoke"];
            !shown.iter().any(|key| line.starts_with(key))
        })
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(describe(&all), describe(&without));
}

/// All commented lines except one: Entra ID takes either a secret or a certificate.
fn all_but_one(line: &Line, is_commented: bool) -> bool {
    is_commented && *line != Line::Example("certificate")
}

#[test]
fn every_line_can_be_made_active() {
    let config = example_config(&example(|line, _| all_but_one(line, true)).replace(
        "url = \"smtp://localhost",
        "url = \"smtp://tokens@localhost",
    ));
    assert_eq!(
        (
            config.policy.accounts.len(),
            config.sources.len(),
            config.directories.len()
        ),
        (1, 6, 6)
    );
    let service = config.service.expect("it is enabled");
    assert_eq!((service.kinds.len(), service.scopes.len()), (1, 1));
    assert!(config.web.listen.is_some() && config.web.tls.is_some());
    assert!(
        config.mail_identity.installation.base_url.is_some()
            && config.policy.rules.max_ttl.is_some()
    );
}

#[test]
fn it_names_all_keys_and_no_others() {
    // Each kind of source or directory is a table with its own keys.
    let mut named: Vec<(&str, String, BTreeSet<&str>)> = vec![];
    for (line, kind) in lines() {
        match kind {
            Line::Header(name, _) => {
                if let Some((outer, inner)) = name.split_once('.') {
                    let outer = named.iter_mut().find(|(section, ..)| *section == outer);
                    outer.expect("the outer section").2.insert(inner);
                }
                named.push((name, String::new(), BTreeSet::new()));
            }
            Line::Default(key) | Line::Example(key) | Line::Active(key) => {
                let (_, kind, keys) = named.last_mut().unwrap();
                keys.insert(key);
                if key == "kind" {
                    line.trim_start_matches("# ").clone_into(kind);
                }
            }
            Line::Other => {}
        }
    }
    let sections = named.iter().map(|(section, ..)| *section);
    let sections: BTreeSet<&str> = sections.filter(|name| !name.contains('.')).collect();
    assert_eq!(sections, allowed("zzzzzz = {}", "zzzzzz"));
    let mut common = BTreeMap::new();
    for (section, kind, mut keys) in named {
        let many = matches!(section, "account" | "source" | "directory") || section.contains('.');
        let header = if many {
            format!("[[{section}]]")
        } else {
            format!("[{section}]")
        };
        let allowed = allowed(&format!("{header}\n{kind}\nzzzzzz = 1"), "zzzzzz");
        // Keys that all kinds share are only explained with the first.
        let common = common.entry(section).or_insert_with(|| keys.clone());
        keys.extend(common.intersection(&allowed));
        assert_eq!(keys, allowed, "{section} {kind}");
    }
}

/// The keys that the message about an unknown key lists.
fn allowed(text: &str, unknown: &str) -> BTreeSet<&'static str> {
    let errors = errors_of(text);
    let line = errors
        .lines()
        .find(|line| line.contains(&format!("`{unknown}`")))
        .unwrap();
    let keys = line.split_once("allowed: ").unwrap().1.to_owned();
    keys.leak().split(", ").collect()
}
