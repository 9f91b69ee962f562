//! What holds for the code as a whole: layers name only layers below them, files stay short, and
//! what the documents list is what the program has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the root with those it may name; `src/lib.rs` draws the same picture. `causes` (an
/// error in a line) and `clock` (what time it is) name nothing of ours. A people file is read as a token
/// file is, with the same formats and refusals, so `directories` names `sources`; who signs in with a key
/// must say when, so it names `clock`.
const MAY_NAME: [(&str, &str); 16] = [
    ("domain", ""),
    ("causes", ""),
    ("clock", ""),
    ("telemetry", ""),
    ("tls", ""),
    ("web", "tls"),
    ("ldap", "tls"),
    ("config", "directories domain sources"),
    ("store", "domain"),
    ("sources", "domain ldap web"),
    ("notify", "domain tls"),
    ("directories", "clock domain ldap sources web"),
    ("engine", "clock directories domain notify sources store"),
    ("http", "causes domain"),
    ("lifecycle", "causes"),
    (
        "cli",
        "causes clock config directories domain engine http lifecycle notify sources store telemetry",
    ),
];

/// The most lines of a file, tests not counted.
const LONGEST: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every source file below `folder` but those of tests, with its text up to its own tests.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry of src").path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
            let text = fs::read_to_string(&path).expect("a file of src");
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            found.push((path.clone(), code.unwrap_or_default().to_owned()));
        }
    }
}

fn code() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    assert!(found.len() > 100, "there is more code than {}", found.len());
    found
}

/// The modules of the root that a line names: `crate::store`, `use crate::{domain::Token, store}`.
fn named(line: &str) -> Vec<&str> {
    let known = |word: &&str| MAY_NAME.iter().any(|(name, _)| name == word);
    let words = |text| str::split(text, |c: char| !c.is_alphanumeric() && c != '_');
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => words(group).filter(known).collect(),
            None => words(rest).take(1).filter(known).collect::<Vec<_>>(),
        })
        .collect()
}

#[test]
fn a_layer_names_only_layers_below_it() {
    let mut broken = Vec::new();
    for (path, code) in code() {
        let inner = path.strip_prefix(root().join("src")).unwrap();
        let module = inner
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let rule = MAY_NAME.iter().find(|(name, _)| *name == module);
        let (_, allowed) =
            rule.unwrap_or_else(|| panic!("src/lib.rs has {module} and no rule has"));
        // A `use` may go over lines; comments name whatever they like.
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join(" ").replace(';', ";\n");
        for name in code.lines().flat_map(named) {
            if name != module && !allowed.split(' ').any(|it| it == name) {
                broken.push(format!("{} names {name}", inner.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = |(path, code): (PathBuf, String)| {
        let lines = code.lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines", path.display()))
    };
    let long: Vec<String> = code().into_iter().filter_map(long).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_documents_name_every_metric() {
    let (code, page) = (read("src/http/metrics.rs"), read("docs/operations.md"));
    let names = code.split('"').filter(|text| text.starts_with("lapsed_"));
    let names: BTreeSet<&str> = names.collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}{{")),
            "docs/operations.md lacks {name}"
        );
    }
}

#[test]
fn the_readme_lists_every_command() {
    let page = read("README.md");
    for command in lapsed::cli::args::command().get_subcommands() {
        let name = command.get_name();
        assert!(
            page.contains(&format!("| `lapsed {name}")),
            "README.md lacks lapsed {name}"
        );
    }
    for line in page
        .lines()
        .filter_map(|line| line.strip_prefix("| `lapsed "))
    {
        let name = line.split([' ', '`']).next().unwrap();
        assert!(
            lapsed::cli::args::command().find_subcommand(name).is_some(),
            "there is no lapsed {name}"
        );
    }
}
